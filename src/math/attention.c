/* Causal attention inside each sequence of a packed batch, a few queries at a time: no score of a later key is formed.
 *      S = scale Q K^T     P = softmax(S over keys not after the query)     O = P V
 *      dV = P^T dO         dS = scale P (dO V^T - rowsum(dO O))             dQ = dS K       dK = dS^T Q
 * With a cap S = cap tanh(scale Q K^T / cap), and dS is multiplied by 1 - (S / cap)^2; with a window P is 0 at keys further back.
 * The backward recomputes P as exp(S - lse) for a block of queries. In the backward a task is all query heads of one
 * key-value head in one sequence; tasks write to different places, so they may run in any order.                     */
#include "attention.h"
#include <omp.h>

size_t attention_scratch(const struct attention *a, size_t longest)
{
    return (size_t)math_threads_now() * task_scratch(a, longest);
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
