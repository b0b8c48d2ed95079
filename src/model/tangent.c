/* Derivatives of the decoder's forward along K directions of its weights (forward-mode differentiation): block by block in
 * the order of the forward, from what it has kept. For y = x W^T and direction G:  y' = x' W^T + x G^T. Where a Jacobian
 * is symmetric - that of xhat, of a cap - the backward's kernel is the tangent's. K directions are stacked as rows. */
#include "decoder.h"
#include <assert.h>
#include <string.h>

struct pass {
    struct model *m;
    const struct batch *b;
    size_t K, layer, J;
    size_t last; /* of the blocks that are passed through */
    const struct slabs *losses;
    struct state *weights, *const *direction;
    struct tensors w; /* the layer acquired; the directions' are at m->base */
    double *along;    /* [J][K][n_seq] */
};

static void acquire(struct pass *p, size_t layer)
{
    p->w = state_acquire(p->weights, layer);
    for (size_t k = 0; k < p->K; k++) p->m->base[k] = state_acquire(p->direction[k], layer);
    if (p->layer >= p->last) return;
    state_expect(p->weights, p->layer + 1);
    for (size_t k = 0; k < p->K; k++) state_expect(p->direction[k], p->layer + 1);
}

static void release(struct pass *p, size_t layer)
{
    for (size_t k = 0; k < p->K; k++) state_release(p->direction[k], layer);
    state_release(p->weights, layer);
}

/* ty [K][n][out] from tx [K][n][in] and x [n][in] */
static void linear(const struct pass *p, size_t n, size_t out, size_t in, enum role role, const real *x, const real *tx,
                   real *ty)
{
    const struct layout *l = p->m->layout;
    comm_progress(p->m->grid->data);
    linear_forward(p->K * n, out, in, tx, in, matrix(l, &p->w, p->layer, role), ty, out);
    for (size_t k = 0; k < p->K; k++)
        linear_add(n, out, in, x, in, matrix(l, &p->m->base[k], p->layer, role), ty + k * n * out, out);
}

/* Adds the directions' biases; nothing where there are none. */
static void bias(const struct pass *p, size_t n, size_t d, enum role role, real *ty)
{
    const struct param *b = layout_find(p->m->layout, p->layer, role);
    for (size_t k = 0; k < p->K && b; k++) bias_add(n, d, tensors_vector(&p->m->base[k], b), ty + k * n * d, d);
}

/* ty [K][n][d] of y = norm(x) from tx; N_ROLE: no bias */
static void norm(const struct pass *p, size_t n, enum role weight, enum role of_bias, const real *x, const real *mean,
                 const real *r, const real *tx, real *ty)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    const enum norm_kind kind = l->shape->norm;
    const size_t size = n * m->d;
    norm_hat(kind, n, m->d, x, mean, r, m->xhat);
    for (size_t k = 0; k < p->K; k++) {
        const struct norm_tangents t = {.xhat = m->xhat,
                                        .txhat = m->thelp,
                                        .w = vector(l, &p->w, p->layer, weight),
                                        .tw = vector(l, &m->base[k], p->layer, weight)};
        const real *tb = of_bias == N_ROLE ? NULL : vector(l, &m->base[k], p->layer, of_bias);
        norm_tangent(kind, n, m->d, m->xhat, r, tx + k * size, m->thelp, m->tr);
        norm_affine_tangent(kind, n, m->d, &t, tb, ty + k * size);
    }
}

/* Recomputes m->a = norm(x), and its derivatives m->ta. */
static void norm_both(const struct pass *p, size_t n, enum role weight, enum role of_bias, const real *x, real *mean,
                      real *r, const real *tx)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    norm_forward(l->shape->norm, n, m->d, x, vector(l, &p->w, p->layer, weight), vector(l, &p->w, p->layer, of_bias),
                 l->shape->norm_eps, m->a, mean, r);
    norm(p, n, weight, of_bias, x, mean, r, tx, m->ta);
}

/* Of each direction, the rows of the outputs. */
static void gather(const struct pass *p, size_t width, const real *tx, real *ty)
{
    const struct batch *b = p->b;
    for (size_t k = 0; k < p->K; k++)
        rows_gather(b->n_out, b->out_row, width, tx + k * b->n_row * width, ty + k * b->n_out * width);
}

/* m->tpart = this process's partial sum, of the rows returned, from m->a and m->ta */
static struct seen attention_part(const struct pass *p, const struct block_kept *k, const struct block_tangent *t)
{
    struct model *m = p->m;
    const struct shape *s = m->layout->shape;
    const struct attention at = model_attention(m, p->b, p->layer);
    const struct seen seen = decoder_seen(m, p->b, p->layer);
    const size_t n = p->b->n_row;
    linear(p, n, m->qkv, m->d, ROLE_Q, m->a, m->ta, t->qkv);
    if (s->qkv_bias) bias(p, n, m->qkv, ROLE_Q_BIAS, t->qkv);
    if (s->qk_norm) qk_norm_tangent(m, n, p->K, &p->w, p->layer, k, t);
    model_rotate(m, p->b, p->layer, 1, p->K, t->qkv);
    attention_tangent(&at, p->K, n, k->qkv, k->lse, t->qkv, t->att, m->scratch);
    if (decoder_narrows(m, p->layer)) gather(p, m->d, t->x, m->tout_x), gather(p, m->att, t->att, m->tout_att);
    linear(p, seen.n, m->d, m->att, ROLE_O, seen.att, seen.tatt, m->tpart);
    return seen;
}

static void mlp_part(const struct pass *p, size_t n, const struct block_kept *k, const struct block_tangent *t, real *out)
{
    struct model *m = p->m;
    const struct shape *s = m->layout->shape;
    linear(p, n, m->up, m->d, s->gated ? ROLE_GATE : ROLE_UP, m->a, m->ta, t->up);
    if (s->mlp_bias) bias(p, n, m->up, s->gated ? ROLE_GATE_BIAS : ROLE_UP_BIAS, t->up);
    activation_forward(s->activation, s->gated, n, m->f, k->up, m->act);
    activation_tangent(s->activation, s->gated, p->K, n, m->f, k->up, t->up, m->tact);
    linear(p, n, m->d, m->f, ROLE_DOWN, m->act, m->tact, out);
}

/* ty = tx + the sum over tensor ranks of m->tpart (+ the bias's) */
static void residual(const struct pass *p, size_t n, const real *tx, enum role of_bias, real *ty)
{
    struct model *m = p->m;
    const size_t size = p->K * n * m->d;
    sum_tensor(m, m->tpart, size);
    bias(p, n, m->d, of_bias, m->tpart);
    if (ty != tx) math_copy(size, tx, ty);
    math_add(size, m->tpart, ty);
}

/* The same where that first goes through a norm, whose input was `out`. */
static void residual_normed(const struct pass *p, size_t n, const real *tx, enum role of_bias, enum role weight,
                            const real *out, const real *r, real *tout, real *ty)
{
    struct model *m = p->m;
    const size_t size = p->K * n * m->d;
    sum_tensor(m, m->tpart, size);
    bias(p, n, m->d, of_bias, m->tpart);
    math_copy(size, m->tpart, tout);
    norm(p, n, weight, N_ROLE, out, NULL, r, tout, m->tpart);
    if (ty != tx) math_copy(size, tx, ty);
    math_add(size, m->tpart, ty);
}

static void block_sequential(const struct pass *p, struct block_kept *k, const struct block_tangent *t, real *ty)
{
    const bool both = p->m->layout->shape->both_norms;
    struct seen seen;
    norm_both(p, p->b->n_row, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, k->mean1, k->r1, t->x);
    seen = attention_part(p, k, t);
    if (both)
        residual_normed(p, seen.n, seen.tx, ROLE_O_BIAS, ROLE_NORM1_AFTER, k->out1, k->after1, t->out1, t->mid);
    else
        residual(p, seen.n, seen.tx, ROLE_O_BIAS, t->mid);
    norm_both(p, seen.n, ROLE_NORM2, ROLE_NORM2_BIAS, k->mid, k->mean2, k->r2, t->mid);
    mlp_part(p, seen.n, k, t, p->m->tpart);
    if (both)
        residual_normed(p, seen.n, t->mid, ROLE_DOWN_BIAS, ROLE_NORM2_AFTER, k->out2, k->after2, t->out2, ty);
    else
        residual(p, seen.n, t->mid, ROLE_DOWN_BIAS, ty);
}

static void block_post_norm(const struct pass *p, struct block_kept *k, const struct block_tangent *t, real *ty)
{
    struct model *m = p->m;
    const size_t size = p->b->n_row * m->d;
    struct seen seen;
    math_copy(size, k->x, m->a);
    math_copy(p->K * size, t->x, m->ta);
    seen = attention_part(p, k, t);
    residual_normed(p, seen.n, seen.tx, ROLE_O_BIAS, ROLE_NORM1, k->out1, k->r1, t->out1, t->mid);
    math_copy(seen.n * m->d, k->mid, m->a);
    math_copy(p->K * seen.n * m->d, t->mid, m->ta);
    mlp_part(p, seen.n, k, t, m->tpart);
    residual_normed(p, seen.n, t->mid, ROLE_DOWN_BIAS, ROLE_NORM2, k->out2, k->r2, t->out2, ty);
}

static void block_parallel(const struct pass *p, struct block_kept *k, const struct block_tangent *t, real *ty)
{
    struct model *m = p->m;
    const bool one = m->layout->shape->one_norm;
    struct seen seen;
    norm_both(p, p->b->n_row, ROLE_NORM1, ROLE_NORM1_BIAS, k->x, k->mean1, k->r1, t->x);
    seen = attention_part(p, k, t);
    if (!one || decoder_narrows(m, p->layer))
        norm_both(p, seen.n, one ? ROLE_NORM1 : ROLE_NORM2, one ? ROLE_NORM1_BIAS : ROLE_NORM2_BIAS, seen.x, k->mean2,
                  k->r2, seen.tx);
    mlp_part(p, seen.n, k, t, m->tpart2);
    math_add(p->K * seen.n * m->d, m->tpart2, m->tpart);
    residual(p, seen.n, seen.tx, ROLE_DOWN_BIAS, ty);
    bias(p, seen.n, m->d, ROLE_O_BIAS, ty);
}

static void embed(struct pass *p, real *tx)
{
    struct model *m = p->m;
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    const struct batch *b = p->b;
    const size_t size = b->n_row * m->d;
    acquire(p, 0);
    for (size_t k = 0; k < p->K; k++)
        embedding_forward(b->n_row, m->d, b->id, l->word_first, l->word_count, matrix(l, &m->base[k], 0, ROLE_EMBED),
                          tx + k * size);
    sum_tensor(m, tx, p->K * size);
    rows_clear(p->K, b->n_row, m->d, b->id, s->pad, tx); /* its row is not trained by this use of the tensor */
    if (s->embed_scale != 1) math_scale(p->K * size, (real)s->embed_scale, tx);
    for (size_t k = 0; k < p->K && s->learned_positions; k++) {
        embedding_forward(b->n_row, m->d, b->position, 0, s->positions, matrix(l, &m->base[k], 0, ROLE_POSITION),
                          m->part);
        math_add(size, m->part, tx + k * size);
    }
    release(p, 0);
}

/* ------------------------------------------------------------------------------------------------- the losses ------ */
/* along += derivative by the outputs' values [n][width] times the tangents t [K][n][width], for loss j */
static void add_along(const struct pass *p, size_t j, size_t n, const size_t *first, size_t width, const real *derivative,
                      const real *t)
{
    const struct batch *b = p->b;
    double *sum = p->m->along;
    for (size_t k = 0; k < p->K; k++) {
        double *to = p->along + (j * p->K + k) * b->n_seq;
        memset(sum, 0, b->n_seq * sizeof *sum);
        dots_by_sequence(b->n_seq, first, width, derivative, width, t + k * n * width, width, sum);
        for (size_t i = 0; i < b->n_seq; i++) to[i] += sum[i];
    }
}

/* Losses that act on the hidden state whose derivatives at the output rows are th; every tensor rank has all of it. */
static void along_hidden(const struct pass *p, size_t layer, const real *th)
{
    struct model *m = p->m;
    const size_t each = p->b->n_out * m->d;
    for (size_t j = 0; j < p->J && m->hidden_layer && m->grid->tensor_rank == 0; j++)
        if (m->hidden_layer[j] == layer) add_along(p, j, p->b->n_out, p->b->out_first, m->d, m->dhidden + j * each, th);
}

/* The final norm of m->tg, the output rows that the last block has computed. */
static void final_norm(struct pass *p)
{
    struct model *m = p->m;
    p->layer = m->layout->shape->blocks + 1;
    if (!m->layout->shape->blocks) gather(p, m->d, m->tx, m->tg);
    acquire(p, p->layer);
    norm(p, p->b->n_out, ROLE_NORM, ROLE_NORM_BIAS, m->g, m->mean, m->r, m->tg, m->th);
    release(p, p->layer);
}

const real *decoder_tangents_of(struct model *m, size_t K, const struct tensors *w, const struct batch *b,
                                const struct slab *s, bool again)
{
    const struct shape *shape = m->layout->shape;
    const struct pass p = {.m = m, .b = b, .K = K, .layer = shape->blocks + 2, .w = *w};
    const size_t at = s->first * m->d, size = s->n * m->d;
    bool there;
    real *t = decoder_place(m, &m->tlogits, b->n_out, s, K, &there);
    if (again && there) return t;
    for (size_t k = 0; k < K; k++) math_copy(size, m->th + k * b->n_out * m->d + at, m->tpart + k * size);
    linear(&p, s->n, m->words, m->d, ROLE_HEAD, m->h + at, m->tpart, t);
    bias(&p, s->n, m->words, ROLE_HEAD_BIAS, t);
    if (shape->logit_cap > 0) logits_cap_backward(K, s->n, m->words, shape->logit_cap, s->logits, t);
    return t;
}

/* nll' = sum_v p_v z'_v - z'_label, from the vocabulary slices in one message. */
static void likelihood(const struct pass *p, const struct slab *s, double *nll)
{
    struct model *m = p->m;
    const size_t n = s->n, N = p->K * n;
    const int32_t *id = p->b->out_id + s->first;
    logits_mean(p->K, n, m->words, s->logits, m->lse + s->first, s->tangents, m->tsum);
    for (size_t k = 0; k < p->K; k++)
        logits_pick(n, m->words, m->layout->word_first, s->tangents + k * n * m->words, id, m->tsum + N + k * n);
    if (m->grid->tensor_size > 1) comm_sum_double(m->grid->tensor, m->tsum, 2 * N);
    for (size_t i = 0; i < N; i++) {
        const size_t to = i / n * p->b->n_out + s->first + i % n;
        m->tlse[to] = m->tsum[i];
        nll[to] = id[i % n] < 0 ? 0 : m->tsum[i] - m->tsum[N + i];
    }
}

/* The losses that act on logits. */
static void along_logits(const struct pass *p, const struct slab *s)
{
    struct model *m = p->m;
    const size_t *first = decoder_cut(m, p->b, s);
    if (!p->J) return;
    p->losses->each(p->losses->context, s);
    for (size_t j = 0; j < p->J; j++)
        if (!m->hidden_layer || !m->hidden_layer[j])
            add_along(p, j, s->n, first, m->words, s->dlogits + j * s->n * m->words, s->tangents);
}

static void head(struct pass *p, double *nll)
{
    struct model *m = p->m;
    const size_t keeper = layout_find(m->layout, m->layout->shape->blocks + 2, ROLE_HEAD)->layer;
    acquire(p, keeper);
    decoder_aside_begin(m, p->losses);
    for (size_t i = decoder_slabs(m, p->b); i-- > 0;) {
        struct slab s = decoder_slab(m, p->b, i);
        s.logits = decoder_logits_of(m, &p->w, p->b, &s);
        s.tangents = decoder_tangents_of(m, p->K, &p->w, p->b, &s, false);
        along_logits(p, &s);
        if (nll) likelihood(p, &s, nll);
    }
    decoder_aside_end(m, p->losses);
    release(p, keeper);
}

/* Above the blocks. */
static void top(struct pass *p, double *nll)
{
    struct model *m = p->m;
    const size_t blocks = m->layout->shape->blocks;
    final_norm(p);
    along_hidden(p, blocks, m->th);
    if (decoder_highest(m, p->J) <= blocks) return;
    head(p, nll);
}

void model_tangents(struct model *m, struct state *weights, const struct batch *b, size_t K,
                    struct state *const *direction, double *nll, size_t J, const struct slabs *losses, double *along)
{
    struct pass p = {
        .m = m, .b = b, .K = K, .J = J, .losses = losses, .weights = weights, .direction = direction, .along = along};
    const struct shape *s = m->layout->shape;
    const size_t from = decoder_highest(m, J), last = p.last = smaller(from, s->blocks);
    enum phase before = phase_enter(PHASE_FORWARD);
    assert(K <= m->most.tangents && m->most.objectives && (!nll || from > s->blocks));
    memset(along, 0, J * K * b->n_seq * sizeof *along);
    embed(&p, s->blocks ? m->tangent[0].x : m->tx);
    for (size_t i = 0; i < last; i++) {
        const struct block_tangent *t = &m->tangent[i];
        real *ty = i + 1 < s->blocks ? m->tangent[i + 1].x : m->tg;
        p.layer = i + 1;
        acquire(&p, p.layer);
        decoder_again(m, b, &p.w, p.layer);
        if (s->post_norm)
            block_post_norm(&p, &m->kept[i], t, ty);
        else if (s->parallel_residual)
            block_parallel(&p, &m->kept[i], t, ty);
        else
            block_sequential(&p, &m->kept[i], t, ty);
        release(&p, p.layer);
        if (i + 1 == s->blocks) continue;
        gather(&p, m->d, ty, m->tg);
        along_hidden(&p, i + 1, m->tg);
    }
    if (from >= s->blocks) top(&p, nll);
    phase_enter(before);
}
