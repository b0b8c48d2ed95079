/* Causal attention inside each sequence of a packed batch, a few queries at a time: no score of a later key is formed.
 *      S = scale Q K^T     P = softmax(S over keys not after the query)     O = P V
 *      dV = P^T dO         dS = scale P (dO V^T - rowsum(dO O))             dQ = dS K       dK = dS^T Q
 * With a cap S = cap tanh(scale Q K^T / cap), and dS is multiplied by 1 - (S / cap)^2; with a window P is 0 at keys further back.
 * The backward recomputes P as exp(S - lse) for a block of queries. In the backward a task is all query heads of one
 * key-value head in one sequence; tasks write to different places, so they may run in any order.                     */
#include "unlearn/math_priv.h"
#include <omp.h>

enum { BLOCK = 10 * TILE_ROWS }; /* queries of a block of the backward */

/* One key-value head of one sequence. `row` and `out_row` are the steps from one position to the next. In scratch, K^T
 * (times scale) and V^T lie in panels [panel][dim][TILE_PANEL] of keys, K and V in rows padded to `wide`. */
struct task {
    const struct attention *a;
    size_t length, row, out_row, dim, wide;
    const unsigned char *hidden;    /* [length], or NULL */
    real *k, *v, *k_t, *v_t, *free; /* free: the scratch that is left */
};

static size_t up_to(size_t unit, size_t n) { return (n + unit - 1) / unit * unit; }

static size_t task_scratch(const struct attention *a, size_t longest)
{
    size_t keys = up_to(TILE_PANEL, longest), wide = up_to(TILE_PAD, a->head_dim);
    return 2 * keys * a->head_dim + 2 * keys * wide + 2 * (keys + wide) * BLOCK + (a->cap > 0 ? keys * BLOCK : 0);
}

size_t attention_scratch(const struct attention *a, size_t longest)
{
    return (size_t)math_threads_now() * task_scratch(a, longest);
}

static size_t longest_of(const struct attention *a)
{
    size_t most = 0;
    for (size_t i = 0; i < a->n_seq; i++)
        if (a->first[i + 1] - a->first[i] > most) most = a->first[i + 1] - a->first[i];
    return most;
}

static real *take(struct task *t, size_t n)
{
    real *p = t->free;
    t->free += n;
    return p;
}

/* Copies from [n][dim] to [n][wide]; the rest of each row is 0. */
static void pack_rows(const struct task *t, size_t n, const real *from, size_t ld, real *to)
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
static void pack_columns(const struct task *t, real scale, const real *from, real *to)
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

static struct task task_new(const struct attention *a, size_t seq, size_t kv, const real *qkv, real *scratch)
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
static size_t first_key(const struct task *t, size_t query)
{
    return t->a->window && query >= t->a->window ? query + 1 - t->a->window : 0;
}

/* The same, rounded down to a panel: scores of this query and of later ones are computed from here on. */
static size_t first_panel(const struct task *t, size_t query) { return first_key(t, query) / TILE_PANEL * TILE_PANEL; }

/* y [n][from ... keys, padded] = or, if add, += x [n][dim] times panels; rows of y are ld apart */
static void times_panels(const struct task *t, size_t n, const real *x, size_t ldx, size_t from, size_t keys,
                         const real *panels, bool add, real *y, size_t ld)
{
    for (size_t first = from; first < keys; first += TILE_PANEL)
        small_product(n, smaller(TILE_PANEL, up_to(TILE_PAD, keys - first)), t->dim, x, ldx, 1, panels + first * t->dim,
                      TILE_PANEL, add, y + first, ld);
}

/* Sets scores from n up to a multiple of TILE_PAD to -infinity, whose exp is 0, so that loops have no remainder. */
static size_t hide_after(size_t n, real *s)
{
    size_t wide = up_to(TILE_PAD, n);
    real *last = s + wide - TILE_PAD;
    for (size_t c = 0; c < TILE_PAD; c++) last[c] = wide - TILE_PAD + c < n ? last[c] : -INFINITY;
    return wide;
}

static void hide_before(size_t n, real *s)
{
    for (size_t c = 0; c < n; c++) s[c] = -INFINITY;
}

/* Caps scores; slope [n], where it is asked for, is the derivative. */
static void cap_scores(real cap, size_t n, real *restrict s, real *restrict slope)
{
#pragma omp simd
    for (size_t c = 0; c < n; c++) s[c] = cap * real_tanh(s[c] / cap);
    if (!slope) return;
#pragma omp simd
    for (size_t c = 0; c < n; c++) slope[c] = 1 - s[c] / cap * (s[c] / cap);
}

/* ---- forward */

/* Replaces s[0 ... n-1] by the softmax of all but the first `hidden`, then writes 0 up to `end`; returns the log of the
 * softmax's denominator. */
static real softmax(size_t hidden, size_t n, size_t end, real *s)
{
    size_t wide = hide_after(n, s);
    hide_before(hidden, s);
    real most = row_max(wide, s), sum, over;
#pragma omp simd
    for (size_t c = 0; c < wide; c++) s[c] = real_exp(s[c] - most);
    sum = (real)row_sum(wide, s);
    over = 1 / sum;
#pragma omp simd
    for (size_t c = 0; c < wide; c++) s[c] *= over;
    for (size_t c = wide; c < end; c++) s[c] = 0;
    return most + real_log(sum);
}

static void head_forward(const struct task *t, const real *q, real *out, real *lse)
{
    const size_t ld = up_to(TILE_PANEL, t->length);
    for (size_t query = 0; query < t->length; query += TILE_ROWS) {
        const size_t rows = smaller(TILE_ROWS, t->length - query), keys = query + rows, from = first_panel(t, query);
        real *s = t->free + from;
        times_panels(t, rows, q + query * t->row, t->row, from, keys, t->k_t, false, t->free, ld);
        for (size_t i = 0; i < rows; i++) {
            if (t->a->cap > 0) cap_scores((real)t->a->cap, keys - from, s + i * ld, NULL);
            hide_keys(t->hidden, first_key(t, query + i), query + i + 1, t->free + i * ld);
            lse[(query + i) * t->a->heads_q] =
                softmax(first_key(t, query + i) - from, query + i + 1 - from, keys - from, s + i * ld);
        }
        small_product(rows, t->dim, keys - from, s, ld, 1, t->v + from * t->wide, t->wide, false,
                      out + query * t->out_row, t->out_row);
    }
}

void attention_forward(const struct attention *a, const real *qkv, real *out, real *lse, real *scratch)
{
    size_t tasks = a->n_seq * a->heads_q, per_thread = task_scratch(a, longest_of(a));
#pragma omp parallel for schedule(dynamic) if (tasks > 1)
    for (size_t i = 0; i < tasks; i++) {
        size_t seq = i / a->heads_q, h = i % a->heads_q, kv = (size_t)a->kv_of[h], at = a->first[seq];
        struct task t = task_new(a, seq, kv, qkv, scratch + (size_t)omp_get_thread_num() * per_thread);
        const real *row = qkv + at * t.row;
        t.v = take(&t, t.length * t.wide);
        pack_rows(&t, t.length, row + (a->heads_q + a->heads_kv + kv) * t.dim, t.row, t.v);
        head_forward(&t, row + h * t.dim, out + at * t.out_row + h * t.dim, lse + at * a->heads_q + h);
    }
}

/* ---- backward */

/* Recomputes the softmax as exp(s - lse); 0 before `hidden`, and from n, behind the query, up to `end`. */
static void softmax_again(size_t hidden, size_t n, size_t end, real lse, real *s)
{
    size_t wide = hide_after(n, s);
    hide_before(hidden, s);
#pragma omp simd
    for (size_t c = 0; c < wide; c++) s[c] = real_exp(s[c] - lse);
    for (size_t c = wide; c < end; c++) s[c] = 0;
}

/* ds = scale p (dp - mean), in place of dp, times the slope of a cap if there is one */
static void softmax_backward(size_t n, const real *restrict p, real mean, real scale, const real *restrict slope,
                             real *restrict dp)
{
#pragma omp simd
    for (size_t c = 0; c < n; c++) dp[c] = scale * p[c] * (dp[c] - mean);
    if (!slope) return;
#pragma omp simd
    for (size_t c = 0; c < n; c++) dp[c] *= slope[c];
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
static void add_transposed(const struct task *t, const struct block *b, const real *s, const real *x, real *d)
{
    small_product(b->first - b->from, t->dim, b->rows, s + b->from, 1, b->ld, x, t->wide, true, d + b->from * t->row,
                  t->row);
    for (size_t i = 0; i < b->rows; i += TILE_ROWS) {
        size_t key = b->first + i;
        small_product(smaller(TILE_ROWS, b->rows - i), t->dim, b->rows - i, s + i * b->ld + key, 1, b->ld,
                      x + i * t->wide, t->wide, b->add, d + key * t->row, t->row);
    }
}

static void block_softmax(const struct task *t, const struct block *b, const real *q, const real *lse)
{
    for (size_t i = 0; i < b->rows; i += TILE_ROWS) {
        const size_t rows = smaller(TILE_ROWS, b->rows - i), keys = b->first + i + rows, n = keys - b->from;
        times_panels(t, rows, q + (b->first + i) * t->row, t->row, b->from, keys, t->k_t, false, b->p + i * b->ld, b->ld);
        for (size_t k = i; k < i + rows; k++) {
            const size_t query = b->first + k, at = k * b->ld + b->from;
            if (b->slope) cap_scores((real)t->a->cap, n, b->p + at, b->slope + at);
            hide_keys(t->hidden, first_key(t, query), query + 1, b->p + k * b->ld);
            softmax_again(first_key(t, query) - b->from, query + 1 - b->from, n, lse[query * t->a->heads_q], b->p + at);
        }
    }
}

/* Writes dq of one delta and adds to dk and dv. All pointers are to the head's column in the sequence's first row. */
static void block_backward(const struct task *t, const struct block *b, const real *q, const real *out, const real *dout,
                           real *dq, real *dk, real *dv)
{
    const real scale = (real)t->a->scale;
    for (size_t i = 0; i < b->rows; i += TILE_ROWS) {
        size_t rows = smaller(TILE_ROWS, b->rows - i), query = b->first + i, keys = query + rows;
        real *ds = b->ds + i * b->ld + b->from;
        times_panels(t, rows, dout + query * t->out_row, t->out_row, b->from, keys, t->v_t, false, ds - b->from, b->ld);
        for (size_t k = 0; k < rows; k++) {
            const size_t at = (query + k) * t->out_row, row = (i + k) * b->ld + b->from;
            real mean = (real)row_dot(t->dim, dout + at, out + at);
            softmax_backward(keys - b->from, b->p + row, mean, scale, b->slope ? b->slope + row : NULL, ds + k * b->ld);
        }
        small_product(rows, t->dim, keys - b->from, ds, b->ld, 1, t->k + b->from * t->wide, t->wide, false,
                      dq + query * t->row, t->row);
    }
    pack_rows(t, b->rows, dout + b->first * t->out_row, t->out_row, b->packed);
    add_transposed(t, b, b->p, b->packed, dv);
    pack_rows(t, b->rows, q + b->first * t->row, t->row, b->packed);
    add_transposed(t, b, b->ds, b->packed, dk);
}

/* The J deltas are d_out reals apart in dout, and d_qkv reals in dq, dk and dv. */
static void head_backward(struct task t, bool add, size_t J, size_t d_out, size_t d_qkv, const real *q, const real *out,
                          const real *lse, const real *dout, real *dq, real *dk, real *dv)
{
    struct block b = {.ld = up_to(TILE_PANEL, t.length), .add = add};
    b.p = take(&t, BLOCK * b.ld);
    b.ds = take(&t, BLOCK * b.ld);
    b.packed = take(&t, BLOCK * t.wide);
    if (t.a->cap > 0) b.slope = take(&t, BLOCK * b.ld);
    for (b.first = 0; b.first < t.length; b.first += BLOCK) {
        b.rows = smaller(BLOCK, t.length - b.first);
        b.from = first_panel(&t, b.first);
        block_softmax(&t, &b, q, lse);
        for (size_t j = 0; j < J; j++)
            block_backward(&t, &b, q, out, dout + j * d_out, dq + j * d_qkv, dk + j * d_qkv, dv + j * d_qkv);
    }
}

static void zero_rows(size_t n, size_t d, real *x, size_t ldx)
{
    for (size_t r = 0; r < n; r++) memset(x + r * ldx, 0, d * sizeof *x);
}

void attention_backward(const struct attention *a, size_t J, size_t n, const real *qkv, const real *out, const real *lse,
                        const real *dout, real *dqkv, real *scratch)
{
    size_t tasks = a->n_seq * a->heads_kv, per_thread = task_scratch(a, longest_of(a));
#pragma omp parallel for schedule(dynamic) if (tasks > 1)
    for (size_t i = 0; i < tasks; i++) {
        size_t seq = i / a->heads_kv, kv = i % a->heads_kv, at = a->first[seq];
        struct task t = task_new(a, seq, kv, qkv, scratch + (size_t)omp_get_thread_num() * per_thread);
        size_t k_at = (a->heads_q + kv) * t.dim, v_at = k_at + a->heads_kv * t.dim, row = at * t.row;
        t.k = take(&t, t.length * t.wide);
        t.v_t = take(&t, up_to(TILE_PANEL, t.length) * t.dim);
        pack_rows(&t, t.length, qkv + row + k_at, t.row, t.k);
        pack_columns(&t, 1, qkv + row + v_at, t.v_t);
        bool add = false;
        for (size_t h = 0; h < a->heads_q; h++) {
            size_t first = at * t.out_row + h * t.dim;
            if ((size_t)a->kv_of[h] != kv) continue;
            head_backward(t, add, J, n * t.out_row, n * t.row, qkv + row + h * t.dim, out + first,
                          lse + at * a->heads_q + h, dout + first, dqkv + row + h * t.dim, dqkv + row + k_at,
                          dqkv + row + v_at);
            add = true;
        }
        for (size_t j = 0; j < J && !add; j++) { /* no query head uses these keys */
            zero_rows(t.length, t.dim, dqkv + j * n * t.row + row + k_at, t.row);
            zero_rows(t.length, t.dim, dqkv + j * n * t.row + row + v_at, t.row);
        }
    }
}

/* ---- tangent of the backward
 * Along tQ, tK, tV, with tO that of the output and dO held; E = P (dP - mean), dP = dO V^T, mean = rowsum(dO O):
 *      tS = scale (tQ K^T + Q tK^T) slope                   tP = P (tS - rowsum(P tS))
 *      tE = tP (dP - mean) + P (dO tV^T - rowsum(dO tO))    tdS = scale (tslope E + slope tE)
 *      tdQ = tdS K + dS tK      tdK = tdS^T Q + dS^T tQ      tdV = tP^T dO                                             */
struct tangents { /* of a task and one of its heads; pointers are to the head's column in the sequence's first row */
    const real *q, *tq, *out, *tout, *lse, *dout;
    real *tdq, *tdk, *tdv;
    real *tk, *tk_t, *tv_t;  /* of keys and values, packed as the task's */
    real *tp, *tds, *tslope; /* of a block, as its p, ds, slope */
};

static size_t tangent_scratch(const struct attention *a, size_t longest)
{
    const size_t keys = up_to(TILE_PANEL, longest), wide = up_to(TILE_PAD, a->head_dim);
    return 4 * keys * a->head_dim + 2 * keys * wide + (6 * keys + wide) * BLOCK;
}

size_t attention_tangent_scratch(const struct attention *a, size_t longest)
{
    return (size_t)math_threads_now() * tangent_scratch(a, longest);
}

/* From a query's scores s [n], already capped, and their tangents: s becomes P and ts becomes tP. */
static void softmax_tangent(size_t hidden, size_t n, size_t end, real lse, real *s, real *ts)
{
    const size_t wide = up_to(TILE_PAD, n);
    softmax_again(hidden, n, end, lse, s);
    const real mean = (real)row_dot(wide, s, ts);
#pragma omp simd
    for (size_t c = 0; c < wide; c++) ts[c] = s[c] * (ts[c] - mean);
    for (size_t c = wide; c < end; c++) ts[c] = 0;
}

/* Through the cap s = cap tanh(x / cap): tx becomes ts, and tslope follows from the capped s. */
static void cap_tangent(real cap, size_t n, const real *restrict s, const real *restrict slope, real *restrict ts,
                        real *restrict tslope)
{
#pragma omp simd
    for (size_t c = 0; c < n; c++) {
        ts[c] *= slope[c];
        tslope[c] = -2 * (s[c] / cap) * (ts[c] / cap);
    }
}

/* ds and tds of a query from dp and tdp, in place. */
static void scores_tangent(size_t n, real scale, real mean, real tmean, const real *restrict p, const real *restrict tp,
                           const real *restrict slope, const real *restrict tslope, real *restrict ds, real *restrict tds)
{
#pragma omp simd
    for (size_t c = 0; c < n; c++) {
        const real e = p[c] * (ds[c] - mean), te = tp[c] * (ds[c] - mean) + p[c] * (tds[c] - tmean);
        ds[c] = scale * e;
        tds[c] = scale * te;
    }
    if (!slope) return;
#pragma omp simd
    for (size_t c = 0; c < n; c++) {
        tds[c] = tds[c] * slope[c] + ds[c] * tslope[c];
        ds[c] *= slope[c];
    }
}

/* P and tP, and with a cap slope and tslope, of the queries of a group that begins at row i of the block. */
static void group_softmax(const struct task *t, const struct block *b, const struct tangents *o, size_t i)
{
    const size_t rows = smaller(TILE_ROWS, b->rows - i), first = b->first + i, keys = first + rows, n = keys - b->from;
    real *s = b->p + i * b->ld, *ts = o->tp + i * b->ld;
    times_panels(t, rows, o->q + first * t->row, t->row, b->from, keys, t->k_t, false, s, b->ld);
    times_panels(t, rows, o->tq + first * t->row, t->row, b->from, keys, t->k_t, false, ts, b->ld);
    times_panels(t, rows, o->q + first * t->row, t->row, b->from, keys, o->tk_t, true, ts, b->ld);
    for (size_t k = 0; k < rows; k++) {
        const size_t query = first + k, row = k * b->ld + b->from, at = i * b->ld + row;
        if (b->slope) {
            cap_scores((real)t->a->cap, n, s + row, b->slope + at);
            cap_tangent((real)t->a->cap, n, s + row, b->slope + at, ts + row, o->tslope + at);
        }
        hide_keys(t->hidden, first_key(t, query), query + 1, s + k * b->ld);
        softmax_tangent(first_key(t, query) - b->from, query + 1 - b->from, n, o->lse[query * t->a->heads_q], s + row,
                        ts + row);
    }
}

/* dS and tdS of the same queries, and their tdQ. */
static void group_deltas(const struct task *t, const struct block *b, const struct tangents *o, size_t i)
{
    const size_t rows = smaller(TILE_ROWS, b->rows - i), first = b->first + i, keys = first + rows, n = keys - b->from;
    real *ds = b->ds + i * b->ld, *tds = o->tds + i * b->ld, *tdq = o->tdq + first * t->row;
    times_panels(t, rows, o->dout + first * t->out_row, t->out_row, b->from, keys, t->v_t, false, ds, b->ld);
    times_panels(t, rows, o->dout + first * t->out_row, t->out_row, b->from, keys, o->tv_t, false, tds, b->ld);
    for (size_t k = 0; k < rows; k++) {
        const size_t at = (first + k) * t->out_row, row = (i + k) * b->ld + b->from;
        scores_tangent(n, (real)t->a->scale, (real)row_dot(t->dim, o->dout + at, o->out + at),
                       (real)row_dot(t->dim, o->dout + at, o->tout + at), b->p + row, o->tp + row,
                       b->slope ? b->slope + row : NULL, o->tslope ? o->tslope + row : NULL, b->ds + row, o->tds + row);
    }
    small_product(rows, t->dim, n, tds + b->from, b->ld, 1, t->k + b->from * t->wide, t->wide, true, tdq, t->row);
    small_product(rows, t->dim, n, ds + b->from, b->ld, 1, o->tk + b->from * t->wide, t->wide, true, tdq, t->row);
}

/* Takes its scratch from what the task has left, anew for each head. */
static void head_tangent(struct task t, struct tangents o)
{
    struct block b = {.ld = up_to(TILE_PANEL, t.length), .add = true};
    b.p = take(&t, BLOCK * b.ld), o.tp = take(&t, BLOCK * b.ld);
    b.ds = take(&t, BLOCK * b.ld), o.tds = take(&t, BLOCK * b.ld);
    b.packed = take(&t, BLOCK * t.wide);
    if (t.a->cap > 0) b.slope = take(&t, BLOCK * b.ld), o.tslope = take(&t, BLOCK * b.ld);
    for (b.first = 0; b.first < t.length; b.first += BLOCK) {
        b.rows = smaller(BLOCK, t.length - b.first);
        b.from = first_panel(&t, b.first);
        for (size_t i = 0; i < b.rows; i += TILE_ROWS) {
            group_softmax(&t, &b, &o, i);
            group_deltas(&t, &b, &o, i);
        }
        pack_rows(&t, b.rows, o.dout + b.first * t.out_row, t.out_row, b.packed);
        add_transposed(&t, &b, o.tp, b.packed, o.tdv);
        pack_rows(&t, b.rows, o.q + b.first * t.row, t.row, b.packed);
        add_transposed(&t, &b, o.tds, b.packed, o.tdk);
        pack_rows(&t, b.rows, o.tq + b.first * t.row, t.row, b.packed);
        add_transposed(&t, &b, b.ds, b.packed, o.tdk);
    }
}

void attention_backward_tangent(const struct attention *a, const struct attention_tangents *x, const real *lse,
                                const real *dout, real *tdqkv, real *scratch)
{
    const size_t tasks = a->n_seq * a->heads_kv, per_thread = tangent_scratch(a, longest_of(a));
#pragma omp parallel for schedule(dynamic) if (tasks > 1)
    for (size_t i = 0; i < tasks; i++) {
        const size_t seq = i / a->heads_kv, kv = i % a->heads_kv, at = a->first[seq];
        struct task t = task_new(a, seq, kv, x->qkv, scratch + (size_t)omp_get_thread_num() * per_thread);
        const size_t panels = up_to(TILE_PANEL, t.length) * t.dim, row = at * t.row;
        const size_t k_at = row + (a->heads_q + kv) * t.dim, v_at = k_at + a->heads_kv * t.dim;
        struct tangents o = {.tdk = tdqkv + k_at, .tdv = tdqkv + v_at};
        t.k = take(&t, t.length * t.wide), o.tk = take(&t, t.length * t.wide);
        t.v_t = take(&t, panels), o.tk_t = take(&t, panels), o.tv_t = take(&t, panels);
        pack_rows(&t, t.length, x->qkv + k_at, t.row, t.k);
        pack_rows(&t, t.length, x->tqkv + k_at, t.row, o.tk);
        pack_columns(&t, 1, x->qkv + v_at, t.v_t);
        pack_columns(&t, (real)a->scale, x->tqkv + k_at, o.tk_t);
        pack_columns(&t, 1, x->tqkv + v_at, o.tv_t);
        for (size_t h = 0; h < a->heads_q; h++) {
            const size_t q = row + h * t.dim, out = at * t.out_row + h * t.dim;
            if ((size_t)a->kv_of[h] != kv) continue;
            o.q = x->qkv + q, o.tq = x->tqkv + q, o.tdq = tdqkv + q;
            o.out = x->out + out, o.tout = x->tout + out, o.dout = dout + out, o.lse = lse + at * a->heads_q + h;
            head_tangent(t, o);
        }
    }
}
