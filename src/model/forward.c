/* Forward of the decoder over a packed batch:
 *      x = embed(ids);  each block: x += O attention(rotate(QKV norm(x))),  x += down(act(up(norm(x))));
 *      logits = head(norm(x)) at the output rows only, which are all that the last block computes from attention's heads on.
 * With post_norm: x += norm(O attention(...x)), and so on; with both_norms: x += norm(O attention(... norm(x))).
 * The products that make heads and MLP columns are local. The two that sum over these (O and down) give partial sums,
 * each summed once over the tensor ranks, or both together where the residual is parallel. */
#include "decoder.h"
#include <assert.h>
#include <math.h>

/* y = x W^T. In a step (with a cache) no row's result may depend on the other rows. */
static void product(const struct model *m, size_t n, size_t out, size_t in, const real *x, size_t ldx, struct matrix w,
                    real *y, size_t ldy)
{
    comm_progress(m->grid->data);
    if (m->cache)
        linear_steady(n, out, in, x, ldx, w, y, ldy);
    else
        linear_forward(n, out, in, x, ldx, w, y, ldy);
}

/* m->a = norm(x), or x itself where norms come only afterwards */
static void branch_input(struct model *m, size_t n, const struct tensors *w, size_t layer, const real *x, enum role norm,
                         enum role bias, real *mean, real *r)
{
    const struct layout *l = m->layout;
    if (l->shape->post_norm)
        math_copy(n * m->d, x, m->a);
    else
        norm_forward(l->shape->norm, n, m->d, x, vector(l, w, layer, norm), vector(l, w, layer, bias), l->shape->norm_eps,
                     m->a, mean, r);
}

/* m->a = attention's input */
static void attention_input(struct model *m, size_t n, const struct tensors *w, size_t layer, struct block_kept *k)
{
    branch_input(m, n, w, layer, k->x, ROLE_NORM1, ROLE_NORM1_BIAS, k->mean1, k->r1);
}

/* m->a = the MLP's input, after attention's */
static void mlp_input(struct model *m, const struct batch *b, const struct tensors *w, size_t layer, struct block_kept *k)
{
    const struct shape *s = m->layout->shape;
    const struct seen seen = decoder_seen(m, b, layer);
    const real *x = s->parallel_residual ? seen.x : k->mid;
    if (!s->one_norm)
        branch_input(m, seen.n, w, layer, x, ROLE_NORM2, ROLE_NORM2_BIAS, k->mean2, k->r2);
    else if (decoder_narrows(m, layer))
        branch_input(m, seen.n, w, layer, x, ROLE_NORM1, ROLE_NORM1_BIAS, k->mean2, k->r2);
}

/* k->att = attention's output of this process's heads for m->a = norm(x), with all that the backward needs of it */
static void attention_heads(struct model *m, const struct batch *b, const struct tensors *w, size_t layer,
                            struct block_kept *k)
{
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    const struct attention at = model_attention(m, b, layer);
    product(m, b->n_row, m->qkv, m->d, m->a, m->d, matrix(l, w, layer, ROLE_Q), k->qkv, m->qkv);
    if (s->qkv_bias) bias_add(b->n_row, m->qkv, vector(l, w, layer, ROLE_Q_BIAS), k->qkv, m->qkv);
    if (s->qk_norm) qk_norm_forward(m, b->n_row, w, layer, k);
    model_rotate(m, b, layer, 1, 1, k->qkv);
    if (m->cache)
        step_attention(m, b, layer, k);
    else
        attention_forward(&at, k->qkv, k->att, k->lse, m->scratch);
}

/* m->part = this process's partial sum of attention, of the rows returned, for m->a = norm(x); the output's bias is added
 * after the sum. */
static struct seen attention_part(struct model *m, const struct batch *b, const struct tensors *w, size_t layer,
                                  struct block_kept *k)
{
    const struct seen seen = decoder_seen(m, b, layer);
    attention_heads(m, b, w, layer, k);
    if (decoder_narrows(m, layer)) {
        rows_gather(b->n_out, b->out_row, m->d, k->x, m->out_x);
        rows_gather(b->n_out, b->out_row, m->att, k->att, m->out_att);
    }
    product(m, seen.n, m->d, m->att, seen.att, m->att, matrix(m->layout, w, layer, ROLE_O), m->part, m->d);
    return seen;
}

/* k->up = the input of the MLP's activation for m->a = norm(x) */
static void mlp_up(struct model *m, size_t n, const struct tensors *w, size_t layer, struct block_kept *k)
{
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    enum role first = s->gated ? ROLE_GATE : ROLE_UP;
    enum role bias = s->gated ? ROLE_GATE_BIAS : ROLE_UP_BIAS;
    product(m, n, m->up, m->d, m->a, m->d, matrix(l, w, layer, first), k->up, m->up);
    if (s->mlp_bias) bias_add(n, m->up, vector(l, w, layer, bias), k->up, m->up);
}

/* out = this process's partial sum of the MLP's output for m->a = norm(x). */
static void mlp_part(struct model *m, size_t n, const struct tensors *w, size_t layer, struct block_kept *k, real *out)
{
    const struct shape *s = m->layout->shape;
    mlp_up(m, n, w, layer, k);
    activation_forward(s->activation, s->gated, n, m->f, k->up, m->act);
    product(m, n, m->d, m->f, m->act, m->f, matrix(m->layout, w, layer, ROLE_DOWN), out, m->d);
}

/* y = x + the sum over tensor ranks of part (+ bias) */
static void residual(struct model *m, size_t n, const real *x, real *part, const real *bias, real *y)
{
    sum_tensor(m, part, n * m->d);
    math_copy(n * m->d, x, y);
    math_add(n * m->d, part, y);
    if (bias) bias_add(n, m->d, bias, y, m->d);
}

/* y = x + norm(the sum over tensor ranks of m->part (+ bias)); out keeps the norm's input. */
static void residual_normed(struct model *m, size_t n, const real *x, const real *bias, enum role norm,
                            const struct tensors *w, size_t layer, real *out, real *r, real *y)
{
    const struct layout *l = m->layout;
    sum_tensor(m, m->part, n * m->d);
    math_copy(n * m->d, m->part, out);
    if (bias) bias_add(n, m->d, bias, out, m->d);
    norm_forward(l->shape->norm, n, m->d, out, vector(l, w, layer, norm), NULL, l->shape->norm_eps, y, NULL, r);
    math_add(n * m->d, x, y);
}

static void block_sequential(struct model *m, const struct batch *b, const struct tensors *w, size_t layer,
                             struct block_kept *k, real *y)
{
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    struct seen seen;
    attention_input(m, b->n_row, w, layer, k);
    seen = attention_part(m, b, w, layer, k);
    if (s->both_norms)
        residual_normed(m, seen.n, seen.x, vector(l, w, layer, ROLE_O_BIAS), ROLE_NORM1_AFTER, w, layer, k->out1,
                        k->after1, k->mid);
    else
        residual(m, seen.n, seen.x, m->part, vector(l, w, layer, ROLE_O_BIAS), k->mid);
    mlp_input(m, b, w, layer, k);
    mlp_part(m, seen.n, w, layer, k, m->part);
    if (s->both_norms)
        residual_normed(m, seen.n, k->mid, vector(l, w, layer, ROLE_DOWN_BIAS), ROLE_NORM2_AFTER, w, layer, k->out2,
                        k->after2, y);
    else
        residual(m, seen.n, k->mid, m->part, vector(l, w, layer, ROLE_DOWN_BIAS), y);
}

static void block_post_norm(struct model *m, const struct batch *b, const struct tensors *w, size_t layer,
                            struct block_kept *k, real *y)
{
    const struct layout *l = m->layout;
    struct seen seen;
    attention_input(m, b->n_row, w, layer, k);
    seen = attention_part(m, b, w, layer, k);
    residual_normed(m, seen.n, seen.x, vector(l, w, layer, ROLE_O_BIAS), ROLE_NORM1, w, layer, k->out1, k->r1, k->mid);
    mlp_input(m, b, w, layer, k);
    mlp_part(m, seen.n, w, layer, k, m->part);
    residual_normed(m, seen.n, k->mid, vector(l, w, layer, ROLE_DOWN_BIAS), ROLE_NORM2, w, layer, k->out2, k->r2, y);
}

static void block_parallel(struct model *m, const struct batch *b, const struct tensors *w, size_t layer,
                           struct block_kept *k, real *y)
{
    const struct layout *l = m->layout;
    const real *out_bias = vector(l, w, layer, ROLE_O_BIAS);
    struct seen seen;
    attention_input(m, b->n_row, w, layer, k);
    seen = attention_part(m, b, w, layer, k);
    mlp_input(m, b, w, layer, k);
    mlp_part(m, seen.n, w, layer, k, m->xhat);
    math_add(seen.n * m->d, m->xhat, m->part);
    residual(m, seen.n, seen.x, m->part, vector(l, w, layer, ROLE_DOWN_BIAS), y);
    if (out_bias) bias_add(seen.n, m->d, out_bias, y, m->d);
}

void decoder_again(struct model *m, const struct batch *b, const struct tensors *w, size_t layer)
{
    struct block_kept *k = &m->kept[layer - 1];
    if (!m->most.recompute || m->at_hand == layer) return;
    attention_input(m, b->n_row, w, layer, k);
    attention_heads(m, b, w, layer, k);
    mlp_input(m, b, w, layer, k);
    mlp_up(m, decoder_seen(m, b, layer).n, w, layer, k);
    m->at_hand = layer;
}

/* Blocks up to `last` will follow. */
static void embed(struct model *m, struct state *weights, const struct batch *b, size_t last, real *x)
{
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    const struct tensors t = state_acquire(weights, 0), *w = &t;
    if (last) state_expect(weights, 1);
    embedding_forward(b->n_row, m->d, b->id, l->word_first, l->word_count, matrix(l, w, 0, ROLE_EMBED), x);
    sum_tensor(m, x, b->n_row * m->d);
    if (s->embed_scale != 1) math_scale(b->n_row * m->d, (real)s->embed_scale, x);
    if (s->learned_positions) {
        embedding_forward(b->n_row, m->d, b->position, 0, s->positions, matrix(l, w, 0, ROLE_POSITION), m->part);
        math_add(b->n_row * m->d, m->part, x);
    }
    state_release(weights, 0);
}

/* The final norm of m->g, the output rows that the last block has computed. */
static void final_norm(struct model *m, struct state *weights, const struct batch *b)
{
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    size_t norm = s->blocks + 1;
    const struct tensors t = state_acquire(weights, norm), *w = &t;
    if (!s->blocks) rows_gather(b->n_out, b->out_row, m->d, m->x, m->g);
    norm_forward(s->norm, b->n_out, m->d, m->g, vector(l, w, norm, ROLE_NORM), vector(l, w, norm, ROLE_NORM_BIAS),
                 s->norm_eps, m->h, m->mean, m->r);
    state_release(weights, norm);
}

/* Which layer has the head's weights. */
static size_t head_keeper(const struct layout *l) { return layout_find(l, l->shape->blocks + 2, ROLE_HEAD)->layer; }

/* z [n][words] from the final norm's output h; the head's weights are acquired as w. */
static void head(const struct model *m, const struct tensors *w, size_t n, const real *h, real *z)
{
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    const size_t layer = s->blocks + 2;
    product(m, n, m->words, m->d, h, m->d, matrix(l, w, layer, ROLE_HEAD), z, m->words);
    if (s->head_bias) bias_add(n, m->words, vector(l, w, layer, ROLE_HEAD_BIAS), z, m->words);
    if (s->logit_cap > 0) logits_cap(n, m->words, s->logit_cap, z);
}

/* lse and nll from the vocabulary slices: a maximum, then sums and labels in one message. */
static enum status likelihood(struct model *m, const struct batch *b, const struct slab *s)
{
    const size_t n = s->n;
    const int32_t *id = b->out_id + s->first;
    double *lse = m->lse + s->first, *nll = m->nll + s->first;
    bool finite = true;
    logits_max(n, m->words, s->logits, m->max);
    if (m->grid->tensor_size > 1) comm_max_double(m->grid->tensor, m->max, n);
    logits_sum(n, m->words, s->logits, m->max, m->sum);
    logits_pick(n, m->words, m->layout->word_first, s->logits, id, m->sum + n);
    if (m->grid->tensor_size > 1) comm_sum_double(m->grid->tensor, m->sum, 2 * n);
    for (size_t k = 0; k < n; k++) {
        lse[k] = m->max[k] + log(m->sum[k]);
        nll[k] = id[k] < 0 ? 0 : lse[k] - m->sum[n + k];
        finite = finite && isfinite(lse[k]) && isfinite(nll[k]);
    }
    return finite ? OK : ERR_NUMERIC;
}

/* ---------------------------------------------------------------------------------------------------- slabs ------- */
size_t decoder_slabs(const struct model *m, const struct batch *b) { return (b->n_out + m->slab - 1) / m->slab; }

/* Slabs of a batch are about equally long, a multiple of what the products' kernels take at once. */
struct slab decoder_slab(const struct model *m, const struct batch *b, size_t i)
{
    enum { STEP = 16 };
    const size_t slabs = decoder_slabs(m, b), even = (b->n_out + slabs - 1) / slabs;
    const size_t most = smaller((even + STEP - 1) / STEP * STEP, m->slab);
    return (struct slab){.first = i * most, .n = smaller(most, b->n_out - i * most), .dlogits = m->dlogits};
}

real *decoder_place(const struct model *m, struct held *held, size_t n_out, const struct slab *s, size_t K, bool *there)
{
    const bool own = n_out <= held->rows || s->first + s->n + m->slab <= held->rows;
    *there = own || held->at == s->first;
    if (!own) held->at = s->first;
    return held->z + K * m->words * (own ? s->first : held->rows - m->slab);
}

const real *decoder_logits_of(struct model *m, const struct tensors *w, const struct batch *b, const struct slab *s)
{
    bool there;
    real *z = decoder_place(m, &m->logits, b->n_out, s, 1, &there);
    if (!there) head(m, w, s->n, m->h + s->first * m->d, z);
    return z;
}

/* Whether slabs that are looked at may need logits of the reference that are no longer held. */
static bool needs_aside(const struct model *m, const struct slabs *look) { return look && look->aside && m->aside_h; }

void decoder_aside_begin(struct model *m, const struct slabs *look)
{
    if (needs_aside(m, look)) m->aside_w = state_acquire(look->aside, head_keeper(m->layout));
}

void decoder_aside_end(struct model *m, const struct slabs *look)
{
    if (needs_aside(m, look)) state_release(look->aside, head_keeper(m->layout));
    m->aside_w = (struct tensors){.full = NULL};
}

real *model_aside_room(struct model *m, const struct batch *b, const struct slab *s)
{
    bool there;
    return decoder_place(m, &m->aside, b->n_out, s, 1, &there);
}

const real *model_aside_logits(struct model *m, const struct batch *b, const struct slab *s)
{
    bool there;
    real *z = decoder_place(m, &m->aside, b->n_out, s, 1, &there);
    enum phase before;
    assert(!m->most.given);
    if (there) return z;
    before = phase_enter(PHASE_FORWARD);
    assert(m->aside_w.full || m->aside_w.half);
    head(m, &m->aside_w, s->n, m->aside_h + s->first * m->d, z);
    phase_enter(before);
    return z;
}

const size_t *decoder_cut(struct model *m, const struct batch *b, const struct slab *s)
{
    for (size_t i = 0; i <= b->n_seq; i++)
        m->cut_first[i] = smaller(b->out_first[i] > s->first ? b->out_first[i] - s->first : 0, s->n);
    return m->cut_first;
}

static enum status all_slabs(struct model *m, struct state *weights, const struct batch *b, const struct slabs *look)
{
    const size_t keeper = head_keeper(m->layout);
    const struct tensors w = state_acquire(weights, keeper);
    enum status st = OK, now;
    decoder_aside_begin(m, look);
    for (size_t i = 0; i < decoder_slabs(m, b); i++) {
        struct slab s = decoder_slab(m, b, i);
        bool there;
        real *z = decoder_place(m, &m->logits, b->n_out, &s, 1, &there);
        head(m, &w, s.n, m->h + s.first * m->d, z);
        s.logits = z;
        if ((now = likelihood(m, b, &s)) > st) st = now;
        if (look) look->each(look->context, &s);
    }
    decoder_aside_end(m, look);
    state_release(weights, keeper);
    return st;
}

/* The embedding and blocks 1 ... last. */
static void trunk(struct model *m, struct state *weights, const struct batch *b, size_t last)
{
    const struct shape *s = m->layout->shape;
    assert(b->n_row <= m->most.rows && b->n_out <= m->most.outputs && b->longest <= m->most.longest);
    for (size_t j = 0; m->hidden_layer && j < m->most.objectives; j++) m->hidden_layer[j] = 0;
    model_turn(m, b);
    embed(m, weights, b, last, s->blocks ? m->kept[0].x : m->x);
    for (size_t i = 0; i < last; i++) {
        const struct tensors w = state_acquire(weights, i + 1);
        real *y = i + 1 < s->blocks ? m->kept[i + 1].x : m->g;
        if (i + 1 < last) state_expect(weights, i + 2);
        if (s->post_norm)
            block_post_norm(m, b, &w, i + 1, &m->kept[i], y);
        else if (s->parallel_residual)
            block_parallel(m, b, &w, i + 1, &m->kept[i], y);
        else
            block_sequential(m, b, &w, i + 1, &m->kept[i], y);
        m->at_hand = i + 1;
        state_release(weights, i + 1);
    }
}

void decoder_logits(struct model *m, struct state *weights, const struct batch *b)
{
    const size_t keeper = head_keeper(m->layout);
    assert(b->n_out <= m->logits.rows);
    trunk(m, weights, b, m->layout->shape->blocks);
    final_norm(m, weights, b);
    const struct tensors w = state_acquire(weights, keeper);
    head(m, &w, b->n_out, m->h, m->logits.z);
    state_release(weights, keeper);
}

enum status model_forward(struct model *m, struct state *weights, const struct batch *b, const struct slabs *look)
{
    enum phase before = phase_enter(PHASE_FORWARD);
    enum status st;
    trunk(m, weights, b, m->layout->shape->blocks);
    final_norm(m, weights, b);
    st = all_slabs(m, weights, b, look);
    phase_enter(before);
    return st;
}

enum status model_forward_hidden(struct model *m, struct state *weights, const struct batch *b, size_t layer)
{
    const size_t blocks = m->layout->shape->blocks;
    enum phase before = phase_enter(PHASE_FORWARD);
    bool finite;
    assert(layer >= 1 && layer <= blocks);
    trunk(m, weights, b, layer);
    if (layer == blocks) final_norm(m, weights, b);
    finite = layer == blocks ? math_finite(b->n_out * m->d, m->h) : math_finite(b->n_row * m->d, m->kept[layer].x);
    phase_enter(before);
    return finite ? OK : ERR_NUMERIC;
}
