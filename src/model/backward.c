/* Backward of the decoder, block by block in reverse, for J deltas stacked as rows. It computes only activation
 * gradients and passes every use of a tensor to a sink, which forms weight gradients (sink_gradient) or inner
 * products.
 *
 * Forward over reverse: along a direction of the weights the backward of a delta has a tangent. Two deltas are stacked then, the
 * delta and its tangent. What is linear in deltas goes as ever for both; what depends on activations or weights adds, to
 * the second, the derivative with the first held. For dx = dy W and direction G:  dx' = dy' W + dy G;  the weight's
 * gradient dy^T x has the tangent dy'^T x + dy^T x'. */
#include "decoder.h"
#include <assert.h>

struct pass { /* what every step of one backward needs */
    struct model *m;
    const struct batch *b;
    struct cut cut; /* of the batch's rows, or of its outputs above the blocks */
    const struct slabs *losses;
    const struct sink *sink;
    struct state *weights, *direction; /* direction NULL: there are no tangents */
    struct tensors w, g;               /* the layer acquired, of both */
    size_t layer;
};

/* Behind the layer that is acquired the block that follows is gathered; the final norm is too small for that. */
static void expect(const struct pass *p, size_t layer)
{
    const size_t blocks = p->m->layout->shape->blocks, next = p->layer > blocks ? blocks : layer - 1;
    if (next < 1 || layer == blocks + 1) return;
    state_expect(p->weights, next);
    if (p->direction) state_expect(p->direction, next);
}

static void acquire(struct pass *p, size_t layer)
{
    p->w = state_acquire(p->weights, layer);
    if (p->direction) p->g = state_acquire(p->direction, layer);
    expect(p, layer);
    p->sink->begin(p->sink->context, layer);
}

static void release(struct pass *p, size_t layer)
{
    p->sink->end(p->sink->context, layer);
    if (p->direction) state_release(p->direction, layer);
    state_release(p->weights, layer);
}

/* How one of two stacked deltas is cut. */
static struct cut single(const struct cut *stacked)
{
    struct cut c = *stacked;
    c.J = 1;
    return c;
}

static struct cut cut_of(const struct pass *p, size_t ldy)
{
    struct cut c = p->cut;
    c.ldy = ldy;
    return c;
}

/* tx: tangent of x, read only where there are tangents, as in all that follows */
static void give_linear(const struct pass *p, enum role role, size_t n_param, const real *x, const real *tx,
                        const real *dy, size_t ldy)
{
    const struct param *param = layout_find(p->m->layout, p->layer, role);
    const struct cut c = cut_of(p, ldy), one = single(&c);
    comm_progress(p->m->grid->data);
    if (!p->direction) {
        p->sink->linear(p->sink->context, p->layer, param, n_param, &c, x, dy);
        return;
    }
    p->sink->linear(p->sink->context, p->layer, param, n_param, &one, x, dy + one.n * ldy);
    p->sink->linear(p->sink->context, p->layer, param, n_param, &one, tx, dy);
}

static void give_bias(const struct pass *p, enum role role, size_t n_param, const real *dy, size_t ldy)
{
    const struct param *param = layout_find(p->m->layout, p->layer, role);
    const struct cut c = cut_of(p, ldy), one = single(&c);
    if (param && !p->direction)
        p->sink->bias(p->sink->context, p->layer, param, n_param, &c, dy);
    else if (param)
        p->sink->bias(p->sink->context, p->layer, param, n_param, &one, dy + one.n * ldy);
}

static void give_embed(const struct pass *p, enum role role, const int32_t *id)
{
    const struct cut one = single(&p->cut);
    const size_t at = p->direction ? one.n * p->m->d : 0;
    p->sink->embed(p->sink->context, 0, layout_find(p->m->layout, 0, role), p->direction ? &one : &p->cut, id,
                   p->m->dx + at);
}

/* dx = dy W */
static void linear_step(const struct pass *p, size_t out, size_t in, enum role role, const real *dy, size_t ldy, real *dx)
{
    const struct layout *l = p->m->layout;
    const size_t n = p->cut.n;
    comm_progress(p->m->grid->data);
    linear_backward_input(p->cut.J * n, out, in, dy, ldy, matrix(l, &p->w, p->layer, role), 0, dx, in);
    if (p->direction) linear_backward_input(n, out, in, dy, ldy, matrix(l, &p->g, p->layer, role), 1, dx + n * in, in);
}

/* A norm's weights to the sink, and what its tangents add to dx[1]; m->xhat holds xhat. */
static void norm_step_tangent(const struct pass *p, enum role weight, const real *r, const real *tx, const real *dn,
                              real *dx)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    const struct param *param = layout_find(l, p->layer, weight);
    const struct cut one = single(&p->cut);
    const size_t size = one.n * m->d;
    const struct norm_tangents t = {
        m->xhat, m->thelp, r, m->tr, tensors_vector(&p->w, param), tensors_vector(&p->g, param)};
    norm_tangent(l->shape->norm, one.n, m->d, m->xhat, r, tx, m->thelp, m->tr);
    p->sink->scale(p->sink->context, p->layer, param, 1, &one, m->d, m->xhat, dn + size);
    p->sink->scale(p->sink->context, p->layer, param, 1, &one, m->d, m->thelp, dn);
    norm_backward_tangent(l->shape->norm, one.n, m->d, &t, dn, dx + size);
}

/* Passes the norm's parameters to the sink, then dx += the norm's backward of dn. */
static void norm_step(const struct pass *p, enum role weight, enum role bias, const real *x, const real *tx,
                      const real *mean, const real *r, const real *dn, real *dx)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    enum norm_kind kind = l->shape->norm;
    norm_hat(kind, p->cut.n, m->d, x, mean, r, m->xhat);
    if (p->direction)
        norm_step_tangent(p, weight, r, tx, dn, dx);
    else
        p->sink->scale(p->sink->context, p->layer, layout_find(l, p->layer, weight), 1, &p->cut, m->d, m->xhat, dn);
    give_bias(p, bias, 1, dn, m->d);
    norm_backward(kind, p->cut.J, p->cut.n, m->d, m->xhat, r, vector(l, &p->w, p->layer, weight), dn, dx);
}

/* Recomputes m->a = norm(x) and its tangent m->ta, which is cheaper than keeping them. */
static void norm_again(const struct pass *p, enum role weight, enum role bias, const real *x, const real *tx, real *mean,
                       real *r)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    const enum norm_kind kind = l->shape->norm;
    const size_t n = p->cut.n;
    norm_forward(kind, n, m->d, x, vector(l, &p->w, p->layer, weight), vector(l, &p->w, p->layer, bias),
                 l->shape->norm_eps, m->a, mean, r);
    if (!p->direction) return;
    const struct norm_tangents t = {.xhat = m->xhat,
                                    .txhat = m->thelp,
                                    .w = vector(l, &p->w, p->layer, weight),
                                    .tw = vector(l, &p->g, p->layer, weight)};
    norm_hat(kind, n, m->d, x, mean, r, m->xhat);
    norm_tangent(kind, n, m->d, m->xhat, r, tx, m->thelp, m->tr);
    norm_affine_tangent(kind, n, m->d, &t, vector(l, &p->g, p->layer, bias), m->ta);
}

/* m->a = x, without a norm */
static void take_input(const struct pass *p, const real *x, const real *tx)
{
    struct model *m = p->m;
    math_copy(p->cut.n * m->d, x, m->a);
    if (p->direction) math_copy(p->cut.n * m->d, tx, m->ta);
}

/* Whether the rows are still those of the outputs: above the last block, and in it down to attention's heads. */
static bool narrow(const struct pass *p) { return p->cut.first != p->b->first; }

/* [J][outputs][width] to [J][rows][width], in place */
static void spread(const struct pass *p, size_t width, real *dx)
{
    rows_spread(p->cut.J, p->b->n_out, p->b->out_row, width, p->b->n_row, dx);
}

/* From here on the rows are all of the batch's. */
static void widen(struct pass *p)
{
    const struct batch *b = p->b;
    if (!narrow(p)) return;
    spread(p, p->m->d, p->m->dx);
    p->cut = (struct cut){.J = p->cut.J, .n = b->n_row, .n_seq = b->n_seq, .first = b->first};
}

/* From dy at the MLP's output to dn at its input, still a partial sum of this tensor rank; m->a holds the input. */
static void mlp_step(const struct pass *p, const struct block_kept *k, const struct block_tangent *t, const real *dy,
                     real *dn)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    const size_t n = p->cut.n, ldup = p->sink->strided ? decoder_stride(m->up) : m->up;
    enum role up = s->gated ? ROLE_GATE : ROLE_UP;
    linear_step(p, m->d, m->f, ROLE_DOWN, dy, m->d, m->dact);
    activation_backward(s->activation, s->gated, p->cut.J, n, m->f, k->up, m->dact, m->act, m->dup, ldup);
    if (p->direction) {
        activation_tangent(s->activation, s->gated, 1, n, m->f, k->up, t->up, m->tact);
        activation_backward_tangent(s->activation, s->gated, n, m->f, k->up, t->up, m->dact, m->dup + n * ldup, ldup);
    }
    give_linear(p, ROLE_DOWN, 1, m->act, m->tact, dy, m->d);
    give_bias(p, ROLE_DOWN_BIAS, 1, dy, m->d);
    give_linear(p, up, s->gated ? 2 : 1, m->a, m->ta, m->dup, ldup);
    give_bias(p, s->gated ? ROLE_GATE_BIAS : ROLE_UP_BIAS, s->gated ? 2 : 1, m->dup, ldup);
    linear_step(p, m->up, m->d, up, m->dup, ldup, dn);
}

/* From dy at attention's output to m->datt at its heads, of all rows */
static void output_step(const struct pass *p, const real *dy)
{
    struct model *m = p->m;
    const struct seen seen = decoder_seen(m, p->b, p->layer);
    give_linear(p, ROLE_O, 1, seen.att, seen.tatt, dy, m->d);
    give_bias(p, ROLE_O_BIAS, 1, dy, m->d);
    linear_step(p, m->d, m->att, ROLE_O, dy, m->d, m->datt);
    if (narrow(p)) spread(p, m->att, m->datt);
}

/* From there to dn at attention's input, as mlp_step() */
static void heads_step(const struct pass *p, const struct block_kept *k, const struct block_tangent *t, real *dn)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    const struct attention at = model_attention(m, p->b, p->layer);
    size_t n = p->cut.n, J = p->cut.J, parts = layout_find(l, p->layer, ROLE_K) ? 3 : 1; /* 1: a fused tensor */
    attention_backward(&at, J, n, k->qkv, k->att, k->lse, m->datt, m->dqkv, m->scratch);
    if (p->direction) {
        const struct attention_tangents x = {k->qkv, t->qkv, k->att, t->att};
        attention_backward_tangent(&at, &x, k->lse, m->datt, m->dqkv + n * m->qkv, m->scratch);
    }
    model_rotate(m, p->b, p->layer, -1, J, m->dqkv);
    if (s->qk_norm) qk_norm_backward(m, &p->cut, p->sink, &p->w, p->layer, k, p->direction ? t : NULL, &p->g);
    give_linear(p, ROLE_Q, parts, m->a, m->ta, m->dqkv, m->qkv);
    give_bias(p, ROLE_Q_BIAS, parts, m->dqkv, m->qkv);
    linear_step(p, m->qkv, m->d, ROLE_Q, m->dqkv, m->qkv, dn);
}

/* Values of dx and dn. */
static size_t values(const struct pass *p) { return p->cut.J * p->cut.n * p->m->d; }

/* From dx behind a norm after attention or MLP, whose input was `out`, to the derivative by that; dx itself without one. */
static const real *through_after(const struct pass *p, enum role norm, const real *out, const real *tout, const real *r)
{
    struct model *m = p->m;
    if (!m->layout->shape->both_norms) return m->dx;
    math_fill(values(p), 0, m->dn2);
    norm_step(p, norm, N_ROLE, out, tout, NULL, r, m->dx, m->dn2);
    return m->dn2;
}

static void block_sequential(struct pass *p, struct block_kept *k, const struct block_tangent *t)
{
    struct model *m = p->m;
    const real *dy = through_after(p, ROLE_NORM2_AFTER, k->out2, t->out2, k->after2);
    norm_again(p, ROLE_NORM2, ROLE_NORM2_BIAS, k->mid, t->mid, k->mean2, k->r2);
    mlp_step(p, k, t, dy, m->dn);
    sum_tensor(m, m->dn, values(p));
    norm_step(p, ROLE_NORM2, ROLE_NORM2_BIAS, k->mid, t->mid, k->mean2, k->r2, m->dn, m->dx);
    output_step(p, through_after(p, ROLE_NORM1_AFTER, k->out1, t->out1, k->after1));
    widen(p);
    norm_again(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, t->x, k->mean1, k->r1);
    heads_step(p, k, t, m->dn);
    sum_tensor(m, m->dn, values(p));
    norm_step(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, t->x, k->mean1, k->r1, m->dn, m->dx);
}

/* Attention and MLP side by side: both read dx before either changes it. */
static void block_parallel(struct pass *p, struct block_kept *k, const struct block_tangent *t)
{
    struct model *m = p->m;
    const struct seen seen = decoder_seen(m, p->b, p->layer);
    const bool one = m->layout->shape->one_norm,
               again = !one || narrow(p); /* attention's input is another than the MLP's */
    output_step(p, m->dx);
    norm_again(p, one ? ROLE_NORM1 : ROLE_NORM2, one ? ROLE_NORM1_BIAS : ROLE_NORM2_BIAS, seen.x, seen.tx, k->mean2,
               k->r2);
    mlp_step(p, k, t, m->dx, m->dn2);
    if (!one) {
        sum_tensor(m, m->dn2, values(p));
        norm_step(p, ROLE_NORM2, ROLE_NORM2_BIAS, seen.x, seen.tx, k->mean2, k->r2, m->dn2, m->dx);
    } else if (narrow(p))
        spread(p, m->d, m->dn2);
    widen(p);
    if (again) norm_again(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, t->x, k->mean1, k->r1);
    heads_step(p, k, t, m->dn);
    if (one) math_add(values(p), m->dn2, m->dn);
    sum_tensor(m, m->dn, values(p));
    norm_step(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, t->x, k->mean1, k->r1, m->dn, m->dx);
}

/* Norms after attention and MLP: dx goes unchanged along the residual, and through the norm into the branch. */
static void block_post_norm(struct pass *p, struct block_kept *k, const struct block_tangent *t)
{
    struct model *m = p->m;
    math_fill(values(p), 0, m->dn2);
    norm_step(p, ROLE_NORM2, ROLE_NORM2_BIAS, k->out2, t->out2, NULL, k->r2, m->dx, m->dn2);
    take_input(p, k->mid, t->mid);
    mlp_step(p, k, t, m->dn2, m->dn);
    sum_tensor(m, m->dn, values(p));
    math_add(values(p), m->dn, m->dx);
    math_fill(values(p), 0, m->dn2);
    norm_step(p, ROLE_NORM1, ROLE_NORM1_BIAS, k->out1, t->out1, NULL, k->r1, m->dx, m->dn2);
    output_step(p, m->dn2);
    widen(p);
    take_input(p, k->x, t->x);
    heads_step(p, k, t, m->dn);
    sum_tensor(m, m->dn, values(p));
    math_add(values(p), m->dn, m->dx);
}

/* The losses' derivatives by the logits of a slab; 0 for those that act on hidden states. */
static void take_losses(const struct pass *p, struct slab *s)
{
    struct model *m = p->m;
    const size_t each = s->n * m->words;
    s->logits = decoder_logits_of(m, &p->w, p->b, s);
    if (p->direction) s->tangents = decoder_tangents_of(m, 1, &p->w, p->b, s, true);
    p->losses->each(p->losses->context, s);
    for (size_t j = 0; j < p->cut.J && m->hidden_layer; j++)
        if (m->hidden_layer[j]) math_fill(each, 0, s->dlogits + j * each);
}

/* Through the cap of the logits, in place in dlogits; the first of two deltas last, because its tangent reads it before. */
static void uncap(const struct pass *p, const struct slab *s)
{
    const size_t words = p->m->words, size = s->n * words;
    const double cap = p->m->layout->shape->logit_cap;
    if (p->direction) {
        logits_cap_backward(1, s->n, words, cap, s->logits, s->dlogits + size);
        logits_cap_backward_tangent(s->n, words, cap, s->logits, s->tangents, s->dlogits, s->dlogits + size);
    }
    logits_cap_backward(p->direction ? 1 : p->cut.J, s->n, words, cap, s->logits, s->dlogits);
}

/* From the losses to dh, the derivative by the final norm's output, at the outputs of a slab. */
static void head_slab(struct pass *p, struct slab *s)
{
    struct model *m = p->m;
    const size_t at = s->first * m->d, n = s->n * m->d;
    take_losses(p, s);
    p->cut.n = s->n, p->cut.row = s->first, p->cut.first = decoder_cut(m, p->b, s);
    if (m->layout->shape->logit_cap > 0) uncap(p, s);
    give_linear(p, ROLE_HEAD, 1, m->h + at, p->direction ? m->th + at : NULL, s->dlogits, m->words);
    give_bias(p, ROLE_HEAD_BIAS, 1, s->dlogits, m->words);
    linear_step(p, m->words, m->d, ROLE_HEAD, s->dlogits, m->words, m->dn);
    for (size_t j = 0; j < p->cut.J; j++) math_copy(n, m->dn + j * n, m->dh + j * p->b->n_out * m->d + at);
}

static void head(struct pass *p)
{
    struct model *m = p->m;
    const struct cut outputs = p->cut;
    size_t keeper;
    p->layer = m->layout->shape->blocks + 2;
    keeper = layout_find(m->layout, p->layer, ROLE_HEAD)->layer;
    acquire(p, keeper);
    decoder_aside_begin(m, p->losses);
    if (p->direction) m->base[0] = p->g;
    for (size_t i = decoder_slabs(m, p->b); i-- > 0;) {
        struct slab s = decoder_slab(m, p->b, i);
        head_slab(p, &s);
    }
    decoder_aside_end(m, p->losses);
    release(p, keeper);
    p->cut = outputs;
    sum_tensor(m, m->dh, outputs.J * outputs.n * m->d);
}

/* From dh at the final norm's output to dx at its input, both of the outputs. */
static void final_norm(struct pass *p)
{
    struct model *m = p->m;
    p->layer = m->layout->shape->blocks + 1;
    acquire(p, p->layer);
    math_fill(values(p), 0, m->dx);
    norm_step(p, ROLE_NORM, ROLE_NORM_BIAS, m->g, m->tg, m->mean, m->r, m->dh, m->dx);
    release(p, p->layer);
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

/* From the losses to dx at the output of block `from`, at most of the last block, whose rows are the outputs'. */
static void top(struct pass *p, size_t from)
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
        assert(p->losses);
        head(p);
    } else {
        math_fill(n, 0, m->dh);
    }
    add_seeds(p, blocks);
    final_norm(p);
}

static void block(struct pass *p)
{
    static const struct block_tangent none;
    struct model *m = p->m;
    const struct shape *s = m->layout->shape;
    struct block_kept *k = &m->kept[p->layer - 1];
    const struct block_tangent *t = p->direction ? &m->tangent[p->layer - 1] : &none;
    acquire(p, p->layer);
    decoder_again(m, p->b, &p->w, p->layer);
    if (s->post_norm)
        block_post_norm(p, k, t);
    else if (s->parallel_residual)
        block_parallel(p, k, t);
    else
        block_sequential(p, k, t);
    release(p, p->layer);
}

static void embed(struct pass *p)
{
    struct model *m = p->m;
    const struct shape *s = m->layout->shape;
    const struct batch *b = p->b;
    p->sink->begin(p->sink->context, 0);
    if (s->learned_positions) give_embed(p, ROLE_POSITION, b->position);
    if (s->embed_scale != 1) math_scale(p->cut.J * b->n_row * m->d, (real)s->embed_scale, m->dx);
    rows_clear(p->cut.J, b->n_row, m->d, b->id, s->pad, m->dx);
    give_embed(p, ROLE_EMBED, b->id);
    p->sink->end(p->sink->context, 0);
}

static void backward(struct pass *p)
{
    const size_t blocks = p->m->layout->shape->blocks, from = decoder_highest(p->m, p->cut.J);
    enum phase before = phase_enter(PHASE_BACKWARD);
    assert(p->cut.J >= 1 && p->cut.J <= p->m->most.objectives);
    top(p, from);
    for (p->layer = from < blocks ? from : blocks; p->layer > 0; p->layer--) {
        if (p->layer < blocks) add_seeds(p, p->layer);
        block(p);
    }
    widen(p); /* of a model without blocks */
    embed(p);
    phase_enter(before);
}

enum status model_backward(struct model *m, struct state *weights, const struct batch *b, size_t J,
                           const struct slabs *losses, const struct sink *sink)
{
    struct pass p = {.m = m,
                     .b = b,
                     .losses = losses,
                     .sink = sink,
                     .weights = weights,
                     .cut = {.J = J, .n = b->n_row, .n_seq = b->n_seq, .first = b->first}};
    backward(&p);
    return OK;
}

enum status model_backward_tangent(struct model *m, struct state *weights, const struct batch *b, struct state *direction,
                                   const struct slabs *losses, const struct sink *sink)
{
    struct pass p = {.m = m,
                     .b = b,
                     .losses = losses,
                     .sink = sink,
                     .weights = weights,
                     .direction = direction,
                     .cut = {.J = 2, .n = b->n_row, .n_seq = b->n_seq, .first = b->first}};
    assert(m->most.keep_tangents);
    backward(&p);
    return OK;
}
