/* The decoder's workspace: all buffers are allocated once, from sizes known beforehand, and none in a step. */
#include "decoder.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* What decoder_again() can compute again. */
static void take_again(struct arena *a, const struct model *m, struct block_kept *k)
{
    const struct layout *l = m->layout;
    const size_t heads[2] = {l->head_count, l->kv_count}, n = m->most.rows;
    k->qkv = arena_take(a, n * m->qkv, sizeof(real));
    k->att = arena_take(a, n * m->att, sizeof(real));
    k->lse = arena_take(a, n * l->head_count, sizeof(real));
    k->up = arena_take(a, n * m->up, sizeof(real));
    for (int i = 0; i < 2 && l->shape->qk_norm; i++) {
        k->qk_hat[i] = arena_take(a, n * heads[i] * l->shape->head_dim, sizeof(real));
        k->qk_r[i] = arena_take(a, n * heads[i], sizeof(real));
    }
}

static bool norms_after(const struct model *m) { return m->layout->shape->post_norm || m->layout->shape->both_norms; }

static void take_kept(struct arena *a, const struct model *m, struct block_kept *k)
{
    size_t n = m->most.rows;
    k->x = arena_take(a, n * m->d, sizeof(real));
    k->mid = m->layout->shape->parallel_residual ? NULL : arena_take(a, n * m->d, sizeof(real));
    k->mean1 = arena_take(a, n, sizeof(real));
    k->r1 = arena_take(a, n, sizeof(real));
    k->mean2 = arena_take(a, n, sizeof(real));
    k->r2 = arena_take(a, n, sizeof(real));
    k->out1 = norms_after(m) ? arena_take(a, n * m->d, sizeof(real)) : NULL;
    k->out2 = norms_after(m) ? arena_take(a, n * m->d, sizeof(real)) : NULL;
    k->after1 = m->layout->shape->both_norms ? arena_take(a, n, sizeof(real)) : NULL;
    k->after2 = m->layout->shape->both_norms ? arena_take(a, n, sizeof(real)) : NULL;
}

/* Of all blocks. Without a backward they use the same buffers in turn. */
static void take_blocks(struct arena *a, struct model *m)
{
    struct block_kept shared = {0}, one;
    take_again(a, m, &shared);
    for (size_t i = 0; i < m->layout->shape->blocks; i++) {
        one = shared;
        if (i == 0 || m->most.objectives) {
            take_kept(a, m, &one);
            if (i > 0 && !m->most.recompute) take_again(a, m, &one);
        } else if (m->kept)
            one = m->kept[0];
        if (m->kept) m->kept[i] = one;
    }
}

static void take_held(struct arena *a, const struct model *m, size_t rows, size_t K, struct held *out)
{
    out->rows = rows;
    out->z = arena_take(a, K * rows * m->words, sizeof(real));
}

/* Rows of logits held: what was asked for, but a slab's at least, and no more than there are. */
static size_t rows_held(const struct model *m)
{
    const size_t asked = m->most.logits ? m->most.logits : m->most.outputs;
    return smaller(asked > m->slab ? asked : m->slab, m->most.outputs);
}

static void take_aside(struct arena *a, struct model *m)
{
    const size_t n = m->most.outputs, rows = m->most.given ? m->slab : m->logits.rows;
    take_held(a, m, rows, 1, &m->aside);
    m->aside_h = !m->most.given && rows < n ? arena_take(a, n * m->d, sizeof(real)) : NULL;
    m->aside_lse = arena_take(a, n, sizeof(double));
}

static void take_outputs(struct arena *a, struct model *m)
{
    size_t n = m->most.outputs;
    m->out_x = arena_take(a, n * m->d, sizeof(real));
    m->out_att = arena_take(a, n * m->att, sizeof(real));
    m->g = arena_take(a, n * m->d, sizeof(real));
    m->mean = arena_take(a, n, sizeof(real));
    m->r = arena_take(a, n, sizeof(real));
    m->h = arena_take(a, n * m->d, sizeof(real));
    take_held(a, m, rows_held(m), 1, &m->logits);
    m->max = arena_take(a, m->slab, sizeof(double));
    m->sum = arena_take(a, 2 * m->slab, sizeof(double));
    m->lse = arena_take(a, n, sizeof(double));
    m->nll = arena_take(a, n, sizeof(double));
    if (m->most.aside) take_aside(a, m);
}

static void take_backward(struct arena *a, struct model *m)
{
    const struct shape *s = m->layout->shape;
    size_t n = m->most.rows, J = m->most.objectives;
    m->dlogits = arena_take(a, J * m->slab * m->words, sizeof(real));
    m->cut_first = arena_take(a, m->most.sequences + 1, sizeof *m->cut_first);
    m->dh = arena_take(a, J * m->most.outputs * m->d, sizeof(real));
    m->hidden_layer = m->most.hidden ? arena_take(a, J, sizeof *m->hidden_layer) : NULL;
    m->dhidden = m->most.hidden ? arena_take(a, J * m->most.outputs * m->d, sizeof(real)) : NULL;
    m->aside_hidden = m->most.hidden && m->most.aside ? arena_take(a, J * m->most.outputs * m->d, sizeof(real)) : NULL;
    m->dx = arena_take(a, J * n * m->d, sizeof(real));
    m->dn = arena_take(a, J * n * m->d, sizeof(real));
    m->dn2 = s->parallel_residual || norms_after(m) ? arena_take(a, J * n * m->d, sizeof(real)) : m->dn;
    m->dup = arena_take(a, J * n * decoder_stride(m->up), sizeof(real));
    m->dact = arena_take(a, J * n * m->f, sizeof(real));
    m->dqkv = arena_take(a, J * n * m->qkv, sizeof(real));
    m->datt = arena_take(a, J * n * m->att, sizeof(real));
}

static void take_block_tangent(struct arena *a, const struct model *m, struct block_tangent *t)
{
    const struct layout *l = m->layout;
    const size_t n = m->most.tangents * m->most.rows;
    t->x = arena_take(a, n * m->d, sizeof(real));
    t->qkv = arena_take(a, n * m->qkv, sizeof(real));
    t->att = arena_take(a, n * m->att, sizeof(real));
    t->mid = l->shape->parallel_residual ? NULL : arena_take(a, n * m->d, sizeof(real));
    t->up = arena_take(a, n * m->up, sizeof(real));
    t->out1 = norms_after(m) ? arena_take(a, n * m->d, sizeof(real)) : NULL;
    t->out2 = norms_after(m) ? arena_take(a, n * m->d, sizeof(real)) : NULL;
    for (int i = 0; i < 2 && l->shape->qk_norm; i++)
        t->raw[i] = arena_take(a, n * (i ? l->kv_count : l->head_count) * l->shape->head_dim, sizeof(real));
}

static void take_tangents(struct arena *a, struct model *m)
{
    const size_t n = m->most.tangents * m->most.rows, n_out = m->most.tangents * m->most.outputs;
    struct block_tangent none;
    m->tangent = arena_take(a, m->layout->shape->blocks, sizeof *m->tangent);
    for (size_t i = 0; i < m->layout->shape->blocks; i++)
        if (i == 0 || m->most.keep_tangents)
            take_block_tangent(a, m, m->tangent ? &m->tangent[i] : &none);
        else if (m->tangent)
            m->tangent[i] = m->tangent[0];
    m->base = arena_take(a, m->most.tangents, sizeof *m->base);
    m->tx = m->layout->shape->blocks ? NULL : arena_take(a, n * m->d, sizeof(real));
    m->ta = arena_take(a, n * m->d, sizeof(real));
    m->tpart = arena_take(a, n * m->d, sizeof(real));
    m->tpart2 = m->layout->shape->parallel_residual ? arena_take(a, n * m->d, sizeof(real)) : m->tpart;
    m->thelp = arena_take(a, m->most.rows * m->d, sizeof(real));
    m->tact = arena_take(a, n * m->f, sizeof(real));
    m->tout_x = arena_take(a, n_out * m->d, sizeof(real));
    m->tout_att = arena_take(a, n_out * m->att, sizeof(real));
    m->tg = arena_take(a, n_out * m->d, sizeof(real));
    m->th = arena_take(a, n_out * m->d, sizeof(real));
    take_held(a, m, m->most.keep_tangents ? m->logits.rows : m->slab, m->most.tangents, &m->tlogits);
    m->tlse = arena_take(a, n_out, sizeof(double));
    m->tsum = arena_take(a, 2 * m->most.tangents * m->slab, sizeof(double));
    m->along = arena_take(a, m->most.sequences, sizeof(double));
    m->tr = arena_take(a, m->most.rows, sizeof(real));
}

/* Scratch of the norm of queries and keys, for forward, backward and tangents. */
static void take_norm(struct arena *a, struct model *m)
{
    size_t n = m->most.rows, J = m->most.objectives ? m->most.objectives : 1;
    if (m->most.tangents > J) J = m->most.tangents;
    m->q1 = arena_take(a, J * n * m->att, sizeof(real));
    m->q2 = arena_take(a, J * n * m->att, sizeof(real));
    m->q_mean = arena_take(a, n * m->layout->head_count, sizeof(real));
    m->q_sum = arena_take(a, (m->most.keep_tangents && J < 3 ? 3 : J) * n, sizeof(double));
    if (!m->most.keep_tangents) return;
    m->q3 = arena_take(a, n * m->att, sizeof(real));
    m->q_tr = arena_take(a, n * m->layout->head_count, sizeof(real));
}

/* Takes all buffers from the arena; with a measuring arena it only counts their bytes. */
static void take_all(struct arena *a, struct model *m)
{
    const struct layout *l = m->layout;
    size_t n = m->most.rows, blocks = l->shape->blocks;
    const struct attention at = model_attention(m, NULL, 1);
    const size_t turns = (l->shape->other_frequency ? 2 : 1) * m->most.longest * (l->shape->rotary_dim / 2);
    m->kv_of = arena_take(a, l->head_count, sizeof *m->kv_of);
    m->cosine = arena_take(a, turns, sizeof(real));
    m->sine = arena_take(a, turns, sizeof(real));
    m->turn = l->shape->long_from ? arena_take(a, n, sizeof *m->turn) : NULL;
    m->kept = arena_take(a, blocks, sizeof *m->kept);
    take_blocks(a, m);
    m->x = blocks ? NULL : arena_take(a, n * m->d, sizeof(real));
    m->a = arena_take(a, n * m->d, sizeof(real));
    m->part = arena_take(a, n * m->d, sizeof(real));
    m->xhat = arena_take(a, n * m->d, sizeof(real));
    m->act = arena_take(a, n * m->f, sizeof(real));
    m->scratch = arena_take(a,
                            m->most.keep_tangents ? attention_tangent_scratch(&at, m->most.longest)
                                                  : attention_scratch(&at, m->most.longest),
                            sizeof(real));
    take_outputs(a, m);
    if (m->most.objectives) take_backward(a, m);
    if (l->shape->qk_norm) take_norm(a, m);
    if (m->most.tangents) take_tangents(a, m);
}

static void fill_tables(struct model *m)
{
    const struct layout *l = m->layout;
    const size_t group = l->shape->heads / l->shape->kv_heads, half = l->shape->rotary_dim / 2;
    for (size_t h = 0; h < l->head_count; h++) m->kv_of[h] = (int)((l->head_first + h) / group - l->kv_first);
    rotary_table(m->most.longest, half, l->shape->frequency, l->shape->rotary_scale, m->cosine, m->sine);
    if (l->shape->other_frequency)
        rotary_table(m->most.longest, half, l->shape->other_frequency, l->shape->other_scale,
                     m->cosine + m->most.longest * half, m->sine + m->most.longest * half);
}

enum status model_new(const struct layout *l, const struct grid *g, const struct model_limits *most, struct model **out,
                      size_t *bytes)
{
    enum status st = OK;
    struct arena count;
    struct model *m = NULL;
    if (out) *out = NULL;
    TRY_NEW(m, 1);
    m->layout = l;
    m->grid = g;
    m->most = *most;
    m->d = l->shape->hidden;
    m->f = l->column_count;
    m->up = (l->shape->gated ? 2 : 1) * l->column_count;
    m->att = l->head_count * l->shape->head_dim;
    m->qkv = (l->head_count + 2 * l->kv_count) * l->shape->head_dim;
    m->words = l->word_count;
    m->slab = smaller(m->most.slab ? m->most.slab : MODEL_SLAB, m->most.outputs);
    arena_measure(&count);
    take_all(&count, m);
    if (bytes) *bytes = count.used;
    if (out) {
        TRY(arena_new(count.used, &m->arena));
        take_all(&m->arena, m);
        fill_tables(m);
        *out = m;
        m = NULL;
    }
done:
    model_free(m);
    return st;
}

void model_free(struct model *m)
{
    if (!m) return;
    arena_free(&m->arena);
    free(m);
}

struct attention model_attention(const struct model *m, const struct batch *b, size_t layer)
{
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    return (struct attention){.n_seq = b ? b->n_seq : 0,
                              .first = b ? b->first : NULL,
                              .heads_q = l->head_count,
                              .heads_kv = l->kv_count,
                              .head_dim = s->head_dim,
                              .kv_of = m->kv_of,
                              .scale = 1.0 / sqrt(s->query_scalar > 0 ? s->query_scalar : (double)s->head_dim),
                              .cap = s->score_cap,
                              .window = s->blocks ? shape_window(s, layer - 1) : 0,
                              .hidden = b ? b->hidden : NULL};
}

bool model_sees_outputs(const struct layout *l, size_t use, const struct param *p)
{
    const size_t blocks = l->shape->blocks;
    const bool of_heads = p->role == ROLE_Q || p->role == ROLE_K || p->role == ROLE_V;
    return use > blocks || (use == blocks && blocks && !of_heads);
}

struct seen decoder_seen(const struct model *m, const struct batch *b, size_t layer)
{
    const struct block_kept *k = &m->kept[layer - 1];
    const struct block_tangent *t = m->tangent ? &m->tangent[layer - 1] : NULL;
    if (decoder_narrows(m, layer)) return (struct seen){b->n_out, m->out_x, m->out_att, m->tout_x, m->tout_att};
    return (struct seen){b->n_row, k->x, k->att, t ? t->x : NULL, t ? t->att : NULL};
}

/* Whether a row of the sequence stands so far behind that the model turns all of it by other frequencies. */
static bool is_long(const struct batch *b, size_t i, size_t long_from)
{
    for (size_t r = b->first[i]; r < b->first[i + 1]; r++)
        if ((size_t)b->position[r] >= long_from) return true;
    return false;
}

void model_turn(struct model *m, const struct batch *b)
{
    const size_t long_from = m->layout->shape->long_from;
    for (size_t i = 0; i < b->n_seq && long_from; i++) {
        const int32_t beyond = is_long(b, i, long_from) ? (int32_t)m->most.longest : 0;
        for (size_t r = b->first[i]; r < b->first[i + 1]; r++) m->turn[r] = b->position[r] + beyond;
    }
}

void model_rotate(const struct model *m, const struct batch *b, size_t layer, int direction, size_t J, real *qkv)
{
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    const bool other = s->other_frequency && !s->long_from && shape_slides(s, layer - 1);
    const size_t at = other ? m->most.longest * (s->rotary_dim / 2) : 0;
    rotary_apply(direction, J, b->n_row, m->turn ? m->turn : b->position, l->head_count + l->kv_count, s->head_dim,
                 s->rotary_dim, m->cosine + at, m->sine + at, qkv, m->qkv);
}

const double *model_nll(const struct model *m) { return m->nll; }
const double *model_lse(const struct model *m) { return m->lse; }
const double *model_tangent_lse(const struct model *m) { return m->tlse; }
double *model_aside_lse(struct model *m) { return m->aside_lse; }

const real *model_logits(const struct model *m)
{
    assert(m->logits.rows == m->most.outputs);
    return m->logits.z;
}

/* What is held of the logits changes places with what was aside, which nobody reads any more. */
void model_set_aside(struct model *m, const struct batch *b)
{
    const struct held logits = m->logits;
    assert(m->most.aside && !m->most.given);
    m->logits = m->aside, m->aside = logits;
    if (m->aside_h) math_copy(b->n_out * m->d, m->h, m->aside_h);
    for (size_t k = 0; k < b->n_out; k++) m->aside_lse[k] = m->lse[k];
}

void model_hidden(const struct model *m, const struct batch *b, size_t layer, real *x)
{
    const size_t blocks = m->layout->shape->blocks;
    assert(layer >= 1 && layer <= blocks);
    if (layer == blocks)
        math_copy(b->n_out * m->d, m->h, x);
    else
        rows_gather(b->n_out, b->out_row, m->d, m->kept[layer].x, x);
}

void model_hidden_tangent(const struct model *m, const struct batch *b, size_t layer, real *x)
{
    assert(layer >= 1 && layer <= m->layout->shape->blocks && m->most.keep_tangents);
    if (layer == m->layout->shape->blocks)
        math_copy(b->n_out * m->d, m->th, x);
    else
        rows_gather(b->n_out, b->out_row, m->d, m->tangent[layer].x, x);
}

real *model_aside_hidden(struct model *m, const struct batch *b, size_t j)
{
    assert(m->aside_hidden && j < m->most.objectives);
    return m->aside_hidden + j * b->n_out * m->d;
}

real *model_dhidden(struct model *m, const struct batch *b, size_t j, size_t layer)
{
    assert(m->dhidden && j < m->most.objectives && layer <= m->layout->shape->blocks);
    m->hidden_layer[j] = layer;
    return m->dhidden + j * b->n_out * m->d;
}
