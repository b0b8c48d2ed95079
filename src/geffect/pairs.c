/* Effects of instances on instances, without their gradients. A block of rows p, as many as fit, goes through the model first, and
 * inputs and deltas of every use of a tensor are kept; then the instances i pass by, and pair_products.c multiplies.
 * Deltas of rows of a tensor that several tensor ranks keep are partial sums: those of the block are summed when they are
 * kept, those of the instances stay as they are, so that the ranks' products sum to the whole. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------- memory ------- */
static bool is_table(const struct param *p) { return p->role == ROLE_EMBED || p->role == ROLE_POSITION; }

/* Whether the parameter has its input in common with the one before it, whose rows stand above its own. */
static bool follows(const struct layout *l, const struct param *p)
{
    return p->role == ROLE_K || p->role == ROLE_V || (p->role == ROLE_UP && l->shape->gated);
}

static void take_uses(struct arena *a, const struct layout *l, struct pairs *w)
{
    for (size_t slot = 0; slot < slot_count(l); slot++) {
        const struct param *p = slot_param(l, slot);
        const bool table = slot < l->n_param && is_table(p), top = slot_layer(l, slot) > l->shape->blocks;
        const size_t n = p->vector ? w->most.sequences : top ? w->most.outputs : w->most.tokens;
        struct pair_use *u = &w->use[slot];
        u->in = p->vector || table || follows(l, p) ? 0 : p->col_count;
        u->out = table ? p->col_count : p->row_count;
        u->x = arena_take(a, n * u->in, sizeof *u->x);
        u->dy = arena_take(a, n * u->out, sizeof *u->dy);
    }
}

/* Rows of the widest parameter that tensor ranks may share. */
static size_t widest_shared(const struct engine *e)
{
    const struct shape *s = e->layout->shape;
    const size_t kv = s->kv_heads * s->head_dim;
    if (e->grid->tensor_size == 1) return 0;
    return kv > s->head_dim ? kv : s->head_dim;
}

static void take_all(struct arena *a, const struct engine *e, struct pairs *w)
{
    const struct pairs_limits *most = &w->most;
    take_uses(a, e->layout, w);
    w->mine = arena_take(a, most->rows, sizeof *w->mine);
    w->start = arena_take(a, most->rows + 1, sizeof *w->start);
    w->place = arena_take(a, most->sequences, sizeof *w->place);
    w->row = arena_take(a, most->sequences, sizeof *w->row);
    for (int k = 0; k < 2; k++) {
        w->first[k] = arena_take(a, most->sequences + 1, sizeof *w->first[k]);
        w->id[k] = arena_take(a, most->tokens, sizeof *w->id[k]);
        w->formed[k] = arena_take(a, PAIR_FORMED, sizeof *w->formed[k]);
    }
    w->cut = arena_take(a, e->tokens + 1, sizeof *w->cut);
    w->tile = arena_take(a, (size_t)2 * PAIR_TILE * PAIR_TILE, sizeof *w->tile);
    w->vector = arena_take(a, PAIR_VECTORS * widest_whole(e->layout), sizeof *w->vector);
    w->whole = arena_take(a, e->tokens * widest_shared(e), sizeof *w->whole);
    w->shared = arena_take(a, e->layout->n_param, sizeof *w->shared);
}

enum status pairs_new(const struct engine *e, const struct pairs_limits *most, struct pairs **out, size_t *bytes)
{
    enum status st = OK;
    struct arena count;
    struct pairs *w = NULL;
    TRY_NEW(w, 1);
    TRY_NEW(w->use, slot_count(e->layout));
    w->most = *most;
    arena_measure(&count);
    take_all(&count, e, w);
    if (bytes) *bytes = count.used;
    if (!out) goto done;
    TRY(arena_new(count.used, &w->own));
    take_all(&w->own, e, w);
    w->engine = *e, w->grid = e->grid;
    *out = w, w = NULL;
done:
    pairs_free(w);
    return st;
}

void pairs_free(struct pairs *w)
{
    if (!w) return;
    arena_free(&w->own);
    free(w->use);
    free(w);
}

/* The same on all tensor ranks, however unevenly these share the model. */
size_t pairs_token_bytes(const struct layout *l)
{
    size_t reals = 0;
    for (size_t slot = 0; slot < slot_count(l); slot++) {
        const struct param *p = slot_param(l, slot);
        if (p->vector) continue;
        reals += slot < l->n_param && is_table(p) ? p->cols : p->rows + (follows(l, p) ? 0 : p->cols);
    }
    return reals / (size_t)l->tensor_size * sizeof(real);
}

/* ------------------------------------------------------------------------------------------------- the block ------- */
struct pair_use *pair_use(const struct pairs *w, size_t use, const struct param *p)
{
    const struct layout *l = w->engine.layout;
    return &w->use[use == p->layer ? (size_t)(p - l->param) : l->n_param];
}

const size_t *pair_first(const struct pairs *w, size_t use, const struct param *p)
{
    return w->first[model_sees_outputs(w->engine.layout, use, p)];
}

/* Rows kept so far, of the kind that this use works on. */
static size_t kept_rows(const struct pairs *w, size_t use, const struct param *p)
{
    return pair_first(w, use, p)[w->n_seq];
}

static void linear(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy)
{
    struct pairs *w = context;
    const size_t n = kept_rows(w, use, p) + c->row, in = p->col_count, out = param_rows(p, n_param);
    enum phase before = phase_enter(PHASE_PRODUCTS);
    assert(c->J == 1 && n + c->n <= (use > w->engine.layout->shape->blocks ? w->most.outputs : w->most.tokens));
    math_copy(c->n * in, x, pair_use(w, use, p)->x + n * in);
    for (size_t i = 0, at = 0; i < n_param; at += p[i++].row_count) {
        const real *d = dy + at;
        size_t ld = out;
        if (w->shared[&p[i] - w->engine.layout->param] > 0)
            d = shared_sum(&w->engine, &p[i], c->n, dy + at, out, w->whole), ld = p[i].rows;
        columns_take(c->n, p[i].row_count, d, ld, pair_use(w, use, &p[i])->dy + n * p[i].row_count);
    }
    phase_enter(before);
}

void pair_vector(const struct cut *c, size_t q, size_t rows, size_t width, const real *xhat, const real *dy, real *v)
{
    const size_t at = c->first[q], n = c->first[q + 1] - at;
    math_fill(rows, 0, v);
    if (xhat)
        norm_backward_weight(n * (width / rows), rows, xhat + at * width, dy + at * width, v);
    else
        bias_backward(n, rows, dy + at * rows, rows, v);
}

/* Sums the gradients v [n_seq][row_count] of a shared vector over the tensor ranks. */
static void sum_vectors(const struct pairs *w, const struct param *p, size_t n_seq, real *v)
{
    const real *all;
    if (!(w->shared[p - w->engine.layout->param] > 0)) return;
    all = shared_sum(&w->engine, p, n_seq, v, p->row_count, w->whole);
    columns_take(n_seq, p->row_count, all, p->rows, v);
}

/* Adds, because of a head's bias each slab has a part. */
static void vectors(struct pairs *w, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t rows,
                    size_t width, const real *xhat, const real *dy)
{
    enum phase before = phase_enter(PHASE_PRODUCTS);
    for (size_t q = 0; q < c->n_seq && rows; q++) {
        pair_vector(c, q, rows, width, xhat, dy, w->vector);
        for (size_t i = 0, at = 0; i < n_param; at += p[i++].row_count)
            math_add(p[i].row_count, w->vector + at, pair_use(w, use, &p[i])->dy + (w->n_seq + q) * p[i].row_count);
    }
    for (size_t i = 0; i < n_param; i++)
        sum_vectors(w, &p[i], c->n_seq, pair_use(w, use, &p[i])->dy + w->n_seq * p[i].row_count);
    phase_enter(before);
}

static void bias(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *dy)
{
    const size_t rows = param_rows(p, n_param);
    vectors(context, use, p, n_param, c, rows, rows, NULL, dy);
}

static void scale(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t width,
                  const real *xhat, const real *dy)
{
    vectors(context, use, p, n_param, c, n_param == 1 ? p->row_count : width, width, xhat, dy);
}

static void embed(void *context, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                  const real *dy)
{
    struct pairs *w = context;
    const size_t n = kept_rows(w, use, p), d = p->col_count;
    enum phase before = phase_enter(PHASE_PRODUCTS);
    math_copy(c->n * d, dy, pair_use(w, use, p)->dy + n * d);
    memcpy(w->id[p->role == ROLE_POSITION] + n, id, c->n * sizeof *id);
    phase_enter(before);
}

static void no_layer(void *context, size_t layer) {}

/* --------------------------------------------------------------------------------------------- rows and blocks ------- */
/* Tokens of a block such that all blocks of a process are about equally long. */
static size_t block_tokens(const struct pairs *w, const struct dataset *d, size_t n, const size_t *row)
{
    size_t sum = 0, longest = 0, blocks, even;
    for (size_t i = 0; i < n; i++) {
        const size_t length = dataset_length(d, row[i]);
        sum += length;
        if (length > longest) longest = length;
    }
    blocks = (sum + w->most.tokens - 1) / w->most.tokens;
    even = blocks ? sum / blocks + longest : w->most.tokens;
    return even < w->most.tokens ? even : w->most.tokens;
}

size_t pairs_share(struct pairs *w, struct engine *e, const struct rows *with)
{
    struct engine_room *room = e->room;
    uint64_t blocks;
    assert(with->n <= w->most.rows);
    w->engine = *e, w->grid = e->grid, w->with = with;
    w->alone = *e->grid, w->alone.data_size = 1, w->alone.data_rank = 0;
    w->engine.grid = &w->alone;
    shared_find(&w->engine, w->shared);
    passes_cut(e, with, OUTPUTS_LABELLED);
    w->n_mine = room->n_mine;
    memcpy(w->mine, room->mine, w->n_mine * sizeof *w->mine);
    w->n_block = batch_cut(with->data, w->n_mine, room->row, block_tokens(w, with->data, w->n_mine, room->row), w->start);
    blocks = w->n_block;
    comm_max_u64(w->grid->data, &blocks, 1);
    return (size_t)blocks;
}

/* Behind the rows kept so far, those of pass p. */
static enum status keep_pass(struct pairs *w, const struct rows *r, size_t p, size_t first)
{
    const struct sink sink = {
        .context = w, .begin = no_layer, .end = no_layer, .linear = linear, .bias = bias, .scale = scale, .embed = embed};
    struct engine *e = &w->engine;
    const size_t *item = e->room->mine + e->room->start[p];
    struct objective nll;
    struct batch b;
    const struct pass pass = {.e = e, .r = r, .p = p, .b = &b, .J = 1, .o = &nll};
    enum status st;
    objective_find("nll", &nll);
    pass_pack(e, r, p, OUTPUTS_LABELLED, &b);
    st = pass_backward(&pass, &sink);
    for (size_t i = 0; i < b.n_seq; i++, w->n_seq++) {
        const size_t at = w->n_seq;
        w->place[at] = w->mine[first + item[i]];
        w->first[0][at + 1] = w->first[0][at] + b.first[i + 1] - b.first[i];
        w->first[1][at + 1] = w->first[1][at] + b.out_first[i + 1] - b.out_first[i];
    }
    return st;
}

static void clear_vectors(struct pairs *w)
{
    const struct layout *l = w->engine.layout;
    for (size_t slot = 0; slot < slot_count(l); slot++)
        if (slot_param(l, slot)->vector) math_fill(w->most.sequences * w->use[slot].out, 0, w->use[slot].dy);
}

enum status pairs_keep(struct pairs *w, size_t block)
{
    const size_t first = block < w->n_block ? w->start[block] : 0;
    struct rows r = *w->with;
    enum status st = OK, now;
    w->n_seq = w->first[0][0] = w->first[1][0] = 0;
    r.n = block < w->n_block ? w->start[block + 1] - first : 0, r.row = w->row;
    assert(r.n <= w->most.sequences);
    for (size_t i = 0; i < r.n; i++) w->row[i] = w->with->row[w->mine[first + i]];
    passes_cut(&w->engine, &r, OUTPUTS_LABELLED);
    clear_vectors(w);
    for (size_t p = 0; p < w->engine.room->n_pass; p++)
        if ((now = keep_pass(w, &r, p, first)) > st) st = now;
    return grid_agree(w->grid, st);
}
