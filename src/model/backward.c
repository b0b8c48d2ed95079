/* Backward of the decoder, block by block in reverse, for J deltas stacked as rows. It computes only activation
 * gradients and passes every use of a tensor to a sink, which forms weight gradients (sink_gradient) or inner
 * products. */
#include "decoder.h"
#include <assert.h>

struct pass { /* what every step of one backward needs */
    struct model *m;
    const struct batch *b;
    struct cut cut; /* of the batch's rows, or of its outputs above the blocks */
    const struct sink *sink;
    real *w; /* the layer acquired */
    size_t layer;
};

static void give_linear(const struct pass *p, enum role role, size_t n_param, const real *x, const real *dy)
{
    p->sink->linear(p->sink->context, p->layer, layout_find(p->m->layout, p->layer, role), n_param, &p->cut, x, dy);
}

static void give_bias(const struct pass *p, enum role role, size_t n_param, const real *dy)
{
    const struct param *param = layout_find(p->m->layout, p->layer, role);
    if (param) p->sink->bias(p->sink->context, p->layer, param, n_param, &p->cut, dy);
}

/* Passes the norm's parameters to the sink, then dx += the norm's backward of dn. */
static void norm_step(const struct pass *p, enum role weight, enum role bias, const real *x, const real *mean,
                      const real *r, const real *dn, real *dx)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    enum norm_kind kind = l->shape->norm;
    norm_hat(kind, p->cut.n, m->d, x, mean, r, m->xhat);
    p->sink->scale(p->sink->context, p->layer, layout_find(l, p->layer, weight), 1, &p->cut, m->d, m->xhat, dn);
    give_bias(p, bias, 1, dn);
    norm_backward(kind, p->cut.J, p->cut.n, m->d, m->xhat, r, tensor(l, p->w, p->layer, weight), dn, dx);
}

/* Recomputes m->a = norm(x), which is cheaper than keeping it. */
static void norm_again(const struct pass *p, enum role weight, enum role bias, const real *x, real *mean, real *r)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    norm_forward(l->shape->norm, p->cut.n, m->d, x, tensor(l, p->w, p->layer, weight), tensor(l, p->w, p->layer, bias),
                 l->shape->norm_eps, m->a, mean, r);
}

/* From dy at the MLP's output to dn at its input, still a partial sum of this tensor rank; m->a holds the input. */
static void mlp_step(const struct pass *p, const struct block_kept *k, const real *dy, real *dn)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    size_t n = p->cut.n, N = p->cut.J * n;
    enum role up = s->gated ? ROLE_GATE : ROLE_UP;
    activation_forward(s->activation, s->gated, n, m->f, k->up, m->act);
    give_linear(p, ROLE_DOWN, 1, m->act, dy);
    give_bias(p, ROLE_DOWN_BIAS, 1, dy);
    linear_backward_input(N, m->d, m->f, dy, m->d, tensor(l, p->w, p->layer, ROLE_DOWN), 0, m->dact, m->f);
    activation_backward(s->activation, s->gated, p->cut.J, n, m->f, k->up, m->dact, m->dup);
    give_linear(p, up, s->gated ? 2 : 1, m->a, m->dup);
    give_bias(p, s->gated ? ROLE_GATE_BIAS : ROLE_UP_BIAS, s->gated ? 2 : 1, m->dup);
    linear_backward_input(N, m->up, m->d, m->dup, m->up, tensor(l, p->w, p->layer, up), 0, dn, m->d);
}

/* The same for attention. */
static void attention_step(const struct pass *p, const struct block_kept *k, const real *dy, real *dn)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    const struct attention at = model_attention(m, p->b, p->layer);
    size_t n = p->cut.n, J = p->cut.J, parts = layout_find(l, p->layer, ROLE_K) ? 3 : 1; /* 1: a fused tensor */
    give_linear(p, ROLE_O, 1, k->att, dy);
    give_bias(p, ROLE_O_BIAS, 1, dy);
    linear_backward_input(J * n, m->d, m->att, dy, m->d, tensor(l, p->w, p->layer, ROLE_O), 0, m->datt, m->att);
    attention_backward(&at, J, n, k->qkv, k->att, k->lse, m->datt, m->dqkv, m->scratch);
    model_rotate(m, p->b, p->layer, -1, J, m->dqkv);
    if (s->qk_norm) qk_norm_backward(m, &p->cut, p->sink, p->w, p->layer, k);
    give_linear(p, ROLE_Q, parts, m->a, m->dqkv);
    give_bias(p, ROLE_Q_BIAS, parts, m->dqkv);
    linear_backward_input(J * n, m->qkv, m->d, m->dqkv, m->qkv, tensor(l, p->w, p->layer, ROLE_Q), 0, dn, m->d);
}

/* From dx behind a norm after attention or MLP, whose input was `out`, to the derivative by that; dx itself without one. */
static const real *through_after(const struct pass *p, enum role norm, const real *out, const real *r)
{
    struct model *m = p->m;
    if (!m->layout->shape->both_norms) return m->dx;
    math_fill(p->cut.J * p->cut.n * m->d, 0, m->dn2);
    norm_step(p, norm, N_ROLE, out, NULL, r, m->dx, m->dn2);
    return m->dn2;
}

static void block_sequential(const struct pass *p, struct block_kept *k)
{
    struct model *m = p->m;
    const size_t size = p->cut.J * p->cut.n * m->d;
    const real *dy = through_after(p, ROLE_NORM2_AFTER, k->out2, k->after2);
    norm_again(p, ROLE_NORM2, ROLE_NORM2_BIAS, k->mid, k->mean2, k->r2);
    mlp_step(p, k, dy, m->dn);
    sum_tensor(m, m->dn, size);
    norm_step(p, ROLE_NORM2, ROLE_NORM2_BIAS, k->mid, k->mean2, k->r2, m->dn, m->dx);
    dy = through_after(p, ROLE_NORM1_AFTER, k->out1, k->after1);
    norm_again(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, k->mean1, k->r1);
    attention_step(p, k, dy, m->dn);
    sum_tensor(m, m->dn, size);
    norm_step(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, k->mean1, k->r1, m->dn, m->dx);
}

/* Attention and MLP side by side: both read dx before either changes it. */
static void block_parallel(const struct pass *p, struct block_kept *k)
{
    struct model *m = p->m;
    size_t size = p->cut.J * p->cut.n * m->d;
    bool one = m->layout->shape->one_norm;
    norm_again(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, k->mean1, k->r1);
    attention_step(p, k, m->dx, m->dn);
    if (!one) norm_again(p, ROLE_NORM2, ROLE_NORM2_BIAS, k->x, k->mean2, k->r2);
    mlp_step(p, k, m->dx, m->dn2);
    if (one) math_add(size, m->dn2, m->dn);
    sum_tensor(m, m->dn, size);
    if (!one) {
        sum_tensor(m, m->dn2, size);
        norm_step(p, ROLE_NORM2, ROLE_NORM2_BIAS, k->x, k->mean2, k->r2, m->dn2, m->dx);
    }
    norm_step(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, k->mean1, k->r1, m->dn, m->dx);
}

/* Norms after attention and MLP: dx goes unchanged along the residual, and through the norm into the branch. */
static void block_post_norm(const struct pass *p, struct block_kept *k)
{
    struct model *m = p->m;
    size_t n = p->cut.n, size = p->cut.J * n * m->d;
    math_fill(size, 0, m->dn2);
    norm_step(p, ROLE_NORM2, ROLE_NORM2_BIAS, k->out2, NULL, k->r2, m->dx, m->dn2);
    math_copy(n * m->d, k->mid, m->a);
    mlp_step(p, k, m->dn2, m->dn);
    sum_tensor(m, m->dn, size);
    math_add(size, m->dn, m->dx);
    math_fill(size, 0, m->dn2);
    norm_step(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->out1, NULL, k->r1, m->dx, m->dn2);
    math_copy(n * m->d, k->x, m->a);
    attention_step(p, k, m->dn2, m->dn);
    sum_tensor(m, m->dn, size);
    math_add(size, m->dn, m->dx);
}

/* Clears dlogits of the losses that act on hidden states. */
static void clear_unused(const struct pass *p)
{
    struct model *m = p->m;
    size_t each = p->b->n_out * m->words;
    for (size_t j = 0; j < p->cut.J && m->hidden_layer; j++)
        if (m->hidden_layer[j]) math_fill(each, 0, m->dlogits + j * each);
}

/* From dlogits to dh, the derivative by the final norm's output. */
static void head(struct pass *p, struct state *weights)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    size_t N = p->cut.J * p->b->n_out, keeper;
    p->layer = s->blocks + 2;
    keeper = layout_find(l, p->layer, ROLE_HEAD)->layer;
    p->w = state_acquire(weights, keeper);
    p->sink->begin(p->sink->context, keeper);
    if (s->logit_cap > 0) logits_cap_backward(p->cut.J, p->b->n_out, m->words, s->logit_cap, m->logits, m->dlogits);
    give_linear(p, ROLE_HEAD, 1, m->h, m->dlogits);
    give_bias(p, ROLE_HEAD_BIAS, 1, m->dlogits);
    linear_backward_input(N, m->words, m->d, m->dlogits, m->words, tensor(l, p->w, p->layer, ROLE_HEAD), 0, m->dh, m->d);
    p->sink->end(p->sink->context, keeper);
    state_release(weights, keeper);
    sum_tensor(m, m->dh, N * m->d);
}

/* From dh at the final norm's output to dx at its input. */
static void final_norm(struct pass *p, struct state *weights)
{
    struct model *m = p->m;
    const struct batch *b = p->b;
    p->layer = m->layout->shape->blocks + 1;
    p->w = state_acquire(weights, p->layer);
    p->sink->begin(p->sink->context, p->layer);
    math_fill(p->cut.J * b->n_out * m->d, 0, m->dn);
    norm_step(p, ROLE_NORM, ROLE_NORM_BIAS, m->g, m->mean, m->r, m->dh, m->dn);
    p->sink->end(p->sink->context, p->layer);
    state_release(weights, p->layer);
    rows_scatter(p->cut.J, b->n_out, b->out_row, m->d, b->n_row, m->dn, m->dx);
}

/* Adds the losses' derivatives by hidden state `layer`: for the last block to dh, else to the output rows of dx. */
static void add_seeds(const struct pass *p, size_t layer)
{
    struct model *m = p->m;
    const struct batch *b = p->b;
    const bool last = layer == m->layout->shape->blocks;
    for (size_t j = 0; j < p->cut.J && m->hidden_layer; j++) {
        const real *seed = m->dhidden + j * b->n_out * m->d;
        if (m->hidden_layer[j] != layer) continue;
        if (last)
            math_add(b->n_out * m->d, seed, m->dh + j * b->n_out * m->d);
        else
            rows_add(b->n_out, b->out_row, m->d, seed, m->dx + j * b->n_row * m->d);
    }
}

size_t decoder_highest(const struct model *m, size_t J)
{
    size_t layer = J ? 0 : m->layout->shape->blocks + 1;
    for (size_t j = 0; j < J; j++) {
        if (!m->hidden_layer || !m->hidden_layer[j]) return m->layout->shape->blocks + 1;
        if (m->hidden_layer[j] > layer) layer = m->hidden_layer[j];
    }
    return layer;
}

/* From the losses to dx at the output of block `from`, at most of the last block. */
static void top(struct pass *p, struct state *weights, size_t from)
{
    struct model *m = p->m;
    const struct cut rows = p->cut;
    const size_t blocks = m->layout->shape->blocks, n = rows.J * p->b->n_out * m->d;
    if (from < blocks) {
        math_fill(rows.J * rows.n * m->d, 0, m->dx);
        return;
    }
    p->cut = (struct cut){.J = rows.J, .n = p->b->n_out, .n_seq = p->b->n_seq, .first = p->b->out_first};
    if (from > blocks) {
        clear_unused(p);
        head(p, weights);
    } else {
        math_fill(n, 0, m->dh);
    }
    add_seeds(p, blocks);
    final_norm(p, weights);
    p->cut = rows;
}

enum status model_backward(struct model *m, struct state *weights, const struct batch *b, size_t J,
                           const struct sink *sink)
{
    struct pass p = {.m = m, .b = b, .sink = sink, .cut = {.J = J, .n = b->n_row, .n_seq = b->n_seq, .first = b->first}};
    const struct layout *l = m->layout;
    const size_t blocks = l->shape->blocks, from = decoder_highest(m, J);
    enum phase before = phase_enter(PHASE_BACKWARD);
    assert(J >= 1 && J <= m->most.objectives);
    top(&p, weights, from);
    for (p.layer = from < blocks ? from : blocks; p.layer > 0; p.layer--) {
        if (p.layer < blocks) add_seeds(&p, p.layer);
        p.w = state_acquire(weights, p.layer);
        sink->begin(sink->context, p.layer);
        if (l->shape->post_norm)
            block_post_norm(&p, &m->kept[p.layer - 1]);
        else if (l->shape->parallel_residual)
            block_parallel(&p, &m->kept[p.layer - 1]);
        else
            block_sequential(&p, &m->kept[p.layer - 1]);
        sink->end(sink->context, p.layer);
        state_release(weights, p.layer);
    }
    sink->begin(sink->context, 0);
    if (l->shape->learned_positions)
        sink->embed(sink->context, 0, layout_find(l, 0, ROLE_POSITION), &p.cut, b->position, m->dx);
    if (l->shape->embed_scale != 1) math_scale(J * b->n_row * m->d, (real)l->shape->embed_scale, m->dx);
    rows_clear(J, b->n_row, m->d, b->id, l->shape->pad, m->dx);
    sink->embed(sink->context, 0, layout_find(l, 0, ROLE_EMBED), &p.cut, b->id, m->dx);
    sink->end(sink->context, 0);
    phase_enter(before);
    return OK;
}
