/* The sink that forms weight gradients: gradient += sum over rows of delta x^T and its like. */
#include "unlearn/model.h"
#include <assert.h>

static void begin(void *context, size_t layer)
{
    struct gradient_sink *g = context;
    g->base = state_add_begin(g->gradient, layer);
}

static void end(void *context, size_t layer)
{
    struct gradient_sink *g = context;
    state_add_end(g->gradient, layer);
}

static void linear(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy)
{
    struct gradient_sink *g = context;
    size_t out = param_rows(p, n_param), in = p->col_count;
    linear_backward_weight(c->n, out, in, dy, out, x, in, tensors_matrix(&g->base, p));
}

static void bias(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *dy)
{
    struct gradient_sink *g = context;
    size_t out = param_rows(p, n_param);
    bias_backward(c->n, out, dy, out, tensors_vector(&g->base, p));
}

static void scale(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t width,
                  const real *xhat, const real *dy)
{
    struct gradient_sink *g = context;
    size_t rows = param_rows(p, n_param);
    norm_backward_weight(c->n * (width / rows), rows, xhat, dy, tensors_vector(&g->base, p));
}

static void embed(void *context, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                  const real *dy)
{
    struct gradient_sink *g = context;
    embedding_backward(c->n, p->col_count, id, p->piece[0].first, p->row_count, dy, tensors_matrix(&g->base, p));
}

struct sink sink_gradient(struct gradient_sink *g)
{
    return (struct sink){
        .context = g, .begin = begin, .end = end, .linear = linear, .bias = bias, .scale = scale, .embed = embed};
}
