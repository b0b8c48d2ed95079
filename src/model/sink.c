/* The sink that forms weight gradients: gradient += sum over rows of delta x^T and its like. */
#include "unlearn/model.h"
#include <assert.h>

/* Whether nothing of the gradient is in it yet; behind this something is. */
static bool take(struct gradient_sink *g, const struct param *p)
{
    bool *fresh = g->fresh ? g->fresh + (p - g->gradient->layout->param) : NULL;
    if (!fresh || !*fresh) return false;
    *fresh = false;
    return true;
}

/* From here on they can be added to. */
static void add_to(struct gradient_sink *g, const struct param *p, size_t n_param)
{
    for (size_t i = 0; i < n_param; i++)
        if (take(g, p + i)) math_fill(p[i].row_count * p[i].col_count, 0, tensors_values(&g->base, p + i).full);
}

static void clear_layer(struct gradient_sink *g, size_t layer)
{
    const struct layout *l = g->gradient->layout;
    add_to(g, &l->param[l->layer_first[layer]], l->layer_first[layer + 1] - l->layer_first[layer]);
}

/* Layers from this one on, which no use will reach any more. */
static void clear_from(struct gradient_sink *g, size_t layer)
{
    const struct layout *l = g->gradient->layout;
    for (; g->fresh && layer < l->n_layer; layer++) {
        bool left = false;
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) left |= g->fresh[i];
        if (!left) continue;
        g->base = state_acquire(g->gradient, layer);
        clear_layer(g, layer);
        state_commit(g->gradient, layer);
    }
}

/* A backward comes from above, but to the tied embedding first as the head. Behind it layers are summed, also those that it did
 * not reach. */
static void begin(void *context, size_t layer)
{
    struct gradient_sink *g = context;
    if (layer) clear_from(g, layer + 1);
    g->base = state_add_begin(g->gradient, layer);
}

static void end(void *context, size_t layer)
{
    struct gradient_sink *g = context;
    clear_layer(g, layer);
    state_add_end(g->gradient, layer);
}

static void linear(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy)
{
    struct gradient_sink *g = context;
    const size_t out = param_rows(p, n_param), in = p->col_count;
    const bool first = take(g, p);
    for (size_t i = 1; i < n_param; i++) {
        const bool also = take(g, p + i);
        assert(also == first);
    }
    linear_backward_weight(c->n, out, in, dy, c->ldy, x, in, !first, tensors_matrix(&g->base, p));
}

static void bias(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *dy)
{
    struct gradient_sink *g = context;
    size_t out = param_rows(p, n_param);
    add_to(g, p, n_param);
    bias_backward(c->n, out, dy, c->ldy, tensors_vector(&g->base, p));
}

static void scale(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t width,
                  const real *xhat, const real *dy)
{
    struct gradient_sink *g = context;
    size_t rows = param_rows(p, n_param);
    add_to(g, p, n_param);
    norm_backward_weight(c->n * (width / rows), rows, xhat, dy, tensors_vector(&g->base, p));
}

static void embed(void *context, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                  const real *dy)
{
    struct gradient_sink *g = context;
    add_to(g, p, 1);
    embedding_backward(c->n, p->col_count, id, p->piece[0].first, p->row_count, dy, tensors_matrix(&g->base, p));
}

struct sink sink_gradient(struct gradient_sink *g)
{
    return (struct sink){.context = g,
                         .strided = true,
                         .begin = begin,
                         .end = end,
                         .linear = linear,
                         .bias = bias,
                         .scale = scale,
                         .embed = embed};
}

/* What is held in parts, or rounded with every sum, is added to zeros: of these a layer is no place that stays. */
void gradient_sink_begin(struct gradient_sink *g, bool add)
{
    struct state *s = g->gradient;
    const struct layout *l = s->layout;
    if (add || s->part || s->half) {
        if (!add) state_fill(s, 0);
        g->fresh = NULL;
        return;
    }
    for (size_t i = 0; i < l->n_param; i++) {
        const struct param *p = &l->param[i];
        const size_t filled = p->offset + p->row_count * p->col_count, next = i + 1 < l->n_param ? p[1].offset : l->size;
        math_fill(next - filled, 0, s->data + filled); /* between layers, which are aligned */
        g->fresh[i] = true;
    }
}

void gradient_sink_end(struct gradient_sink *g) { clear_from(g, 0); }
