/* Tangents of attention, of its output and of its backward, along directions in which q, k and v move; scores are recomputed
 * for a few queries at a time, as in attention.c. */
#include "attention.h"
#include <omp.h>

/* ---- of the forward */

/* The keys and values of one direction beside those of the task: K'^T in panels, V' in padded rows. */
struct direction {
    const real *q, *k_t, *v;
};

/* In place of the scores' derivatives ds [n] those of the softmax p [n]. */
static void softmax_tangent(size_t n, const real *restrict p, const real *restrict slope, real *restrict ds)
{
    if (slope)
        for (size_t c = 0; c < n; c++) ds[c] *= slope[c];
    const real mean = (real)row_dot(n, p, ds);
#pragma omp simd
    for (size_t c = 0; c < n; c++) ds[c] = p[c] * (ds[c] - mean);
}

static void head_tangent(const struct task *t, const struct direction *d, const real *q, const real *lse, real *out)
{
    const size_t ld = up_to(TILE_PANEL, t->length);
    real *p = t->free, *ds = p + TILE_ROWS * ld, *slope = t->a->cap > 0 ? ds + TILE_ROWS * ld : NULL;
    for (size_t query = 0; query < t->length; query += TILE_ROWS) {
        const size_t rows = smaller(TILE_ROWS, t->length - query), keys = query + rows, from = first_panel(t, query);
        const size_t n = keys - from;
        times_panels(t, rows, q + query * t->row, t->row, from, keys, t->k_t, false, p, ld);
        times_panels(t, rows, d->q + query * t->row, t->row, from, keys, t->k_t, false, ds, ld);
        times_panels(t, rows, q + query * t->row, t->row, from, keys, d->k_t, true, ds, ld);
        for (size_t i = 0; i < rows; i++) {
            const size_t at = i * ld + from;
            if (slope) cap_scores((real)t->a->cap, n, p + at, slope + at);
            hide_keys(t->hidden, first_key(t, query + i), query + i + 1, p + i * ld);
            softmax_again(first_key(t, query + i) - from, query + i + 1 - from, n, lse[(query + i) * t->a->heads_q],
                          p + at);
            softmax_tangent(n, p + at, slope ? slope + at : NULL, ds + at);
        }
        small_product(rows, t->dim, n, ds + from, ld, 1, t->v + from * t->wide, t->wide, false, out + query * t->out_row,
                      t->out_row);
        small_product(rows, t->dim, n, p + from, ld, 1, d->v + from * t->wide, t->wide, true, out + query * t->out_row,
                      t->out_row);
    }
}

void attention_tangent(const struct attention *a, size_t K, size_t n, const real *qkv, const real *lse, const real *tqkv,
                       real *tout, real *scratch)
{
    const size_t tasks = a->n_seq * a->heads_q, per_thread = task_scratch(a, longest_of(a));
#pragma omp parallel for schedule(dynamic) if (tasks > 1)
    for (size_t i = 0; i < tasks; i++) {
        const size_t seq = i / a->heads_q, h = i % a->heads_q, kv = (size_t)a->kv_of[h], at = a->first[seq];
        struct task t = task_new(a, seq, kv, qkv, scratch + (size_t)omp_get_thread_num() * per_thread);
        const size_t key = (a->heads_q + kv) * t.dim, value = key + a->heads_kv * t.dim;
        real *k_t = take(&t, up_to(TILE_PANEL, t.length) * t.dim), *v = take(&t, t.length * t.wide);
        t.v = take(&t, t.length * t.wide);
        pack_rows(&t, t.length, qkv + at * t.row + value, t.row, t.v);
        for (size_t k = 0; k < K; k++) {
            const real *row = tqkv + (k * n + at) * t.row;
            const struct direction d = {row + h * t.dim, k_t, v};
            pack_columns(&t, (real)a->scale, row + key, k_t);
            pack_rows(&t, t.length, row + value, t.row, v);
            head_tangent(&t, &d, qkv + at * t.row + h * t.dim, lse + at * a->heads_q + h,
                         tout + (k * n + at) * t.out_row + h * t.dim);
        }
    }
}

/* ---- of the backward: along tQ, tK, tV, with tO that of the output and dO held; E = P (dP - mean), dP = dO V^T, mean = rowsum(dO O):
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
static void both_tangent(size_t hidden, size_t n, size_t end, real lse, real *s, real *ts)
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
        both_tangent(first_key(t, query) - b->from, query + 1 - b->from, n, o->lse[query * t->a->heads_q], s + row,
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
static void head_backward_tangent(struct task t, struct tangents o)
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
            head_backward_tangent(t, o);
        }
    }
}
