/* What attention and its tangents share: keys and values of a task packed in panels, scores of a few queries, products with them.
 * Private to attention.c and attention_tangent.c. */
#ifndef UNLEARN_ATTENTION_H
#define UNLEARN_ATTENTION_H
#include "unlearn/math_priv.h"

enum { BLOCK = 10 * TILE_ROWS }; /* queries of a block of the backward */

/* One key-value head of one sequence. `row` and `out_row` are the steps from one position to the next. In scratch, K^T
 * (times scale) and V^T lie in panels [panel][dim][TILE_PANEL] of keys, K and V in rows padded to `wide`. */
struct task {
    const struct attention *a;
    size_t length, row, out_row, dim, wide;
    const unsigned char *hidden;    /* [length], or NULL */
    real *k, *v, *k_t, *v_t, *free; /* free: the scratch that is left */
};

static inline size_t up_to(size_t unit, size_t n) { return (n + unit - 1) / unit * unit; }

static inline size_t task_scratch(const struct attention *a, size_t longest)
{
    size_t keys = up_to(TILE_PANEL, longest), wide = up_to(TILE_PAD, a->head_dim);
    return 2 * keys * a->head_dim + 2 * keys * wide + 2 * (keys + wide) * BLOCK + (a->cap > 0 ? keys * BLOCK : 0);
}

static inline size_t longest_of(const struct attention *a)
{
    size_t most = 0;
    for (size_t i = 0; i < a->n_seq; i++)
        if (a->first[i + 1] - a->first[i] > most) most = a->first[i + 1] - a->first[i];
    return most;
}

static inline real *take(struct task *t, size_t n)
{
    real *p = t->free;
    t->free += n;
    return p;
}

/* Copies from [n][dim] to [n][wide]; the rest of each row is 0. */
static inline void pack_rows(const struct task *t, size_t n, const real *from, size_t ld, real *to)
{
    for (size_t r = 0; r < n; r++) {
        memcpy(to + r * t->wide, from + r * ld, t->dim * sizeof *to);
        if (t->wide > t->dim) memset(to + r * t->wide + t->dim, 0, (t->wide - t->dim) * sizeof *to);
    }
}

typedef real real4 __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias));

/* Transposes a 4 x 4 block, times scale, by pairing rows twice. */
static inline void turn4(real scale, const real *from, size_t ld, real *to)
{
    real4 a = scale * *(const real4 *)from, b = scale * *(const real4 *)(from + ld);
    real4 c = scale * *(const real4 *)(from + 2 * ld), d = scale * *(const real4 *)(from + 3 * ld);
    real4 ac = __builtin_shufflevector(a, c, 0, 4, 1, 5), bd = __builtin_shufflevector(b, d, 0, 4, 1, 5);
    real4 ac2 = __builtin_shufflevector(a, c, 2, 6, 3, 7), bd2 = __builtin_shufflevector(b, d, 2, 6, 3, 7);
    *(real4 *)to = __builtin_shufflevector(ac, bd, 0, 4, 1, 5);
    *(real4 *)(to + TILE_PANEL) = __builtin_shufflevector(ac, bd, 2, 6, 3, 7);
    *(real4 *)(to + (size_t)2 * TILE_PANEL) = __builtin_shufflevector(ac2, bd2, 0, 4, 1, 5);
    *(real4 *)(to + (size_t)3 * TILE_PANEL) = __builtin_shufflevector(ac2, bd2, 2, 6, 3, 7);
}

/* Writes scale times the transpose of `from` in panels; keys beyond the last are 0. */
static inline void pack_columns(const struct task *t, real scale, const real *from, real *to)
{
    for (size_t first = 0; first < up_to(TILE_PANEL, t->length); first += 4) {
        real *panel = to + first / TILE_PANEL * TILE_PANEL * t->dim + first % TILE_PANEL;
        const real *row = from + first * t->row;
        size_t c = 0;
        for (; first + 4 <= t->length && c + 4 <= t->dim; c += 4) turn4(scale, row + c, t->row, panel + c * TILE_PANEL);
        for (; c < t->dim; c++)
            for (size_t r = 0; r < 4; r++)
                panel[c * TILE_PANEL + r] = first + r < t->length ? scale * row[r * t->row + c] : 0;
    }
}

static inline struct task task_new(const struct attention *a, size_t seq, size_t kv, const real *qkv, real *scratch)
{
    struct task t = {.a = a,
                     .length = a->first[seq + 1] - a->first[seq],
                     .row = (a->heads_q + 2 * a->heads_kv) * a->head_dim,
                     .out_row = a->heads_q * a->head_dim,
                     .dim = a->head_dim,
                     .wide = up_to(TILE_PAD, a->head_dim),
                     .hidden = a->hidden ? a->hidden + a->first[seq] : NULL,
                     .free = scratch};
    const real *k = qkv + a->first[seq] * t.row + (a->heads_q + kv) * t.dim;
    t.k_t = take(&t, up_to(TILE_PANEL, t.length) * t.dim);
    pack_columns(&t, (real)a->scale, k, t.k_t);
    return t;
}

/* The first key that a query sees. */
static inline size_t first_key(const struct task *t, size_t query)
{
    return t->a->window && query >= t->a->window ? query + 1 - t->a->window : 0;
}

/* The same, rounded down to a panel: scores of this query and of later ones are computed from here on. */
static inline size_t first_panel(const struct task *t, size_t query)
{
    return first_key(t, query) / TILE_PANEL * TILE_PANEL;
}

/* y [n][from ... keys, padded] = x [n][dim] times panels, or += where `add`; rows of y are ld apart */
static inline void times_panels(const struct task *t, size_t n, const real *x, size_t ldx, size_t from, size_t keys,
                                const real *panels, bool add, real *y, size_t ld)
{
    for (size_t first = from; first < keys; first += TILE_PANEL)
        small_product(n, smaller(TILE_PANEL, up_to(TILE_PAD, keys - first)), t->dim, x, ldx, 1, panels + first * t->dim,
                      TILE_PANEL, add, y + first, ld);
}

/* Sets scores from n up to a multiple of TILE_PAD to -infinity, whose exp is 0, so that loops have no remainder. */
static inline size_t hide_after(size_t n, real *s)
{
    size_t wide = up_to(TILE_PAD, n);
    real *last = s + wide - TILE_PAD;
    for (size_t c = 0; c < TILE_PAD; c++) last[c] = wide - TILE_PAD + c < n ? last[c] : -INFINITY;
    return wide;
}

static inline void hide_before(size_t n, real *s)
{
    for (size_t c = 0; c < n; c++) s[c] = -INFINITY;
}

/* Caps scores; slope [n], where it is asked for, is the derivative. */
static inline void cap_scores(real cap, size_t n, real *restrict s, real *restrict slope)
{
#pragma omp simd
    for (size_t c = 0; c < n; c++) s[c] = cap * real_tanh(s[c] / cap);
    if (!slope) return;
#pragma omp simd
    for (size_t c = 0; c < n; c++) slope[c] = 1 - s[c] / cap * (s[c] / cap);
}

/* Recomputes the softmax as exp(s - lse); 0 before `hidden`, and from n, behind the query, up to `end`. */
static inline void softmax_again(size_t hidden, size_t n, size_t end, real lse, real *s)
{
    size_t wide = hide_after(n, s);
    hide_before(hidden, s);
#pragma omp simd
    for (size_t c = 0; c < wide; c++) s[c] = real_exp(s[c] - lse);
    for (size_t c = wide; c < end; c++) s[c] = 0;
}

/* A block of queries of one head: its first query, the first key of its scores, its rows and its softmax p, row length ld; in
 * p, keys behind a query are 0 up to the end of that query's group of TILE_ROWS. */
struct block {
    size_t first, from, rows, ld;
    real *p, *ds, *slope, *packed; /* slope: of capped scores; NULL: there is no cap */
    bool add;                      /* add to dk and dv: the head is not the first of its key-value head */
};

/* d [keys][dim] += s^T x, x [rows][wide] packed. Only queries of the same or later groups see the keys of a group, so
 * for keys of this block the first head overwrites d instead of adding to it. */
static inline void add_transposed(const struct task *t, const struct block *b, const real *s, const real *x, real *d)
{
    small_product(b->first - b->from, t->dim, b->rows, s + b->from, 1, b->ld, x, t->wide, true, d + b->from * t->row,
                  t->row);
    for (size_t i = 0; i < b->rows; i += TILE_ROWS) {
        size_t key = b->first + i;
        small_product(smaller(TILE_ROWS, b->rows - i), t->dim, b->rows - i, s + i * b->ld + key, 1, b->ld,
                      x + i * t->wide, t->wide, b->add, d + key * t->row, t->row);
    }
}
#endif
