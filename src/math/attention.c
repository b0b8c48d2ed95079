/* Causal attention inside each sequence of a packed batch, a block of queries at a time.
 *      S = scale Q K^T     P = softmax(S over keys not after the query)     O = P V
 *      dV = P^T dO         dS = scale P (dO V^T - rowsum(dO O))             dQ = dS K       dK = dS^T Q
 * The backward forms P again as exp(S - lse). The query heads of one key-value head of one sequence are one task: tasks
 * write to places of their own, so they need no order.                                                                */
#include "unlearn/math_priv.h"
#include <omp.h>

enum { QUERIES = 64, PAD = 16 }; /* rows of a block; rows of scores are padded so that no loop has a remainder */

/* Where one query head of one sequence stands; `row` steps from one position to the next */
struct head {
    size_t length, row, out_row, lse_row, dim;
    real scale;
    const real *q, *k, *v;
};

static size_t padded(size_t n) { return (n + PAD - 1) / PAD * PAD; }
static size_t task_scratch(size_t longest) { return 2 * QUERIES * padded(longest); }

size_t attention_scratch(const struct attention *a, size_t longest)
{
    return (size_t)math_threads_now() * task_scratch(longest);
}

static size_t longest_of(const struct attention *a)
{
    size_t most = 0;
    for (size_t i = 0; i < a->n_seq; i++)
        if (a->first[i + 1] - a->first[i] > most) most = a->first[i + 1] - a->first[i];
    return most;
}

static struct head head_of(const struct attention *a, size_t seq, size_t h, const real *qkv)
{
    struct head o = {.length = a->first[seq + 1] - a->first[seq],
                     .row = (a->heads_q + 2 * a->heads_kv) * a->head_dim,
                     .out_row = a->heads_q * a->head_dim,
                     .lse_row = a->heads_q,
                     .dim = a->head_dim,
                     .scale = (real)a->scale};
    const real *row = qkv + a->first[seq] * o.row;
    o.q = row + h * a->head_dim;
    o.k = row + (a->heads_q + (size_t)a->kv_of[h]) * a->head_dim;
    o.v = o.k + a->heads_kv * a->head_dim;
    return o;
}

static void scores(const struct head *h, size_t query, size_t rows, size_t keys, real *s)
{
    gemm(false, true, rows, keys, h->dim, h->scale, h->q + query * h->row, h->row, h->k, h->row, 0, s, padded(keys));
}

/* s[0 ... n-1] = softmax of itself, 0 up to `end`; returns the log of its denominator */
static real softmax(size_t n, size_t end, real *s)
{
    size_t wide = padded(n);
    real most = -INFINITY, over;
    double sum = 0;
    for (size_t c = n; c < wide; c++) s[c] = -INFINITY;
#pragma omp simd reduction(max : most)
    for (size_t c = 0; c < wide; c++) most = s[c] > most ? s[c] : most;
#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < wide; c++) {
        s[c] = real_exp(s[c] - most);
        sum += s[c];
    }
    over = (real)(1 / sum);
#pragma omp simd
    for (size_t c = 0; c < wide; c++) s[c] *= over;
    for (size_t c = wide; c < end; c++) s[c] = 0;
    return most + (real)log(sum);
}

static void head_forward(const struct head *h, real *out, real *lse, real *s)
{
    for (size_t query = 0; query < h->length; query += QUERIES) {
        size_t rows = smaller(QUERIES, h->length - query), keys = query + rows, wide = padded(keys);
        scores(h, query, rows, keys, s);
        for (size_t i = 0; i < rows; i++) lse[(query + i) * h->lse_row] = softmax(query + i + 1, wide, s + i * wide);
        gemm(false, false, rows, h->dim, keys, 1, s, wide, h->v, h->row, 0, out + query * h->out_row, h->out_row);
    }
}

void attention_forward(const struct attention *a, const real *qkv, real *out, real *lse, real *scratch)
{
    size_t tasks = a->n_seq * a->heads_q, per_thread = task_scratch(longest_of(a));
    int blas = blas_serial_begin();
#pragma omp parallel for schedule(dynamic) if (tasks > 1)
    for (size_t t = 0; t < tasks; t++) {
        size_t seq = t / a->heads_q, q = t % a->heads_q, at = a->first[seq];
        struct head h = head_of(a, seq, q, qkv);
        head_forward(&h, out + at * h.out_row + q * h.dim, lse + at * h.lse_row + q,
                     scratch + (size_t)omp_get_thread_num() * per_thread);
    }
    blas_serial_end(blas);
}

/* ---- backward */

/* s = exp(s - lse), 0 after the query: the softmax again */
static void softmax_again(size_t n, size_t end, real lse, real *s)
{
    size_t wide = padded(n);
    for (size_t c = n; c < wide; c++) s[c] = -INFINITY;
#pragma omp simd
    for (size_t c = 0; c < wide; c++) s[c] = real_exp(s[c] - lse);
    for (size_t c = wide; c < end; c++) s[c] = 0;
}

/* ds = scale p (dp - mean), in place of dp */
static void softmax_backward(size_t n, const real *restrict p, real mean, real scale, real *restrict dp)
{
#pragma omp simd
    for (size_t c = 0; c < n; c++) dp[c] = scale * p[c] * (dp[c] - mean);
}

/* One delta of one block of queries, whose softmax is p: dq is written, dk and dv are added to. The rows of dq, dk, dv
 * stand as those of h; out and dout belong to the first query of the block. */
static void block_backward(const struct head *h, size_t query, size_t rows, const real *p, const real *out,
                           const real *dout, real *dp, real *dq, real *dk, real *dv)
{
    size_t keys = query + rows, wide = padded(keys);
    gemm(true, false, keys, h->dim, rows, 1, p, wide, dout, h->out_row, 1, dv, h->row);
    gemm(false, true, rows, keys, h->dim, 1, dout, h->out_row, h->v, h->row, 0, dp, wide);
    for (size_t i = 0; i < rows; i++) {
        real mean = (real)row_dot(h->dim, dout + i * h->out_row, out + i * h->out_row);
        softmax_backward(keys, p + i * wide, mean, h->scale, dp + i * wide);
    }
    gemm(false, false, rows, h->dim, keys, 1, dp, wide, h->k, h->row, 0, dq + query * h->row, h->row);
    gemm(true, false, keys, h->dim, rows, 1, dp, wide, h->q + query * h->row, h->row, 1, dk, h->row);
}

/* out, dout, lse, dq, dk, dv: at the head's column of the sequence's first row; deltas are d_out and d_qkv reals apart */
static void head_backward(const struct head *h, size_t J, size_t d_out, size_t d_qkv, const real *out, const real *lse,
                          const real *dout, real *dq, real *dk, real *dv, real *p)
{
    real *dp = p + QUERIES * padded(h->length);
    for (size_t query = 0; query < h->length; query += QUERIES) {
        size_t rows = smaller(QUERIES, h->length - query), wide = padded(query + rows), at = query * h->out_row;
        scores(h, query, rows, query + rows, p);
        for (size_t i = 0; i < rows; i++) softmax_again(query + i + 1, wide, lse[(query + i) * h->lse_row], p + i * wide);
        for (size_t j = 0; j < J; j++)
            block_backward(h, query, rows, p, out + at, dout + j * d_out + at, dp, dq + j * d_qkv, dk + j * d_qkv,
                           dv + j * d_qkv);
    }
}

static void zero_rows(size_t n, size_t d, real *x, size_t ldx)
{
    for (size_t r = 0; r < n; r++) memset(x + r * ldx, 0, d * sizeof *x);
}

void attention_backward(const struct attention *a, size_t J, size_t n, const real *qkv, const real *out, const real *lse,
                        const real *dout, real *dqkv, real *scratch)
{
    size_t tasks = a->n_seq * a->heads_kv, per_thread = task_scratch(longest_of(a)), dim = a->head_dim;
    size_t ld = (a->heads_q + 2 * a->heads_kv) * dim, ld_out = a->heads_q * dim;
    int blas = blas_serial_begin();
#pragma omp parallel for schedule(dynamic) if (tasks > 1)
    for (size_t t = 0; t < tasks; t++) {
        size_t seq = t / a->heads_kv, kv = t % a->heads_kv, at = a->first[seq], length = a->first[seq + 1] - at;
        real *row = dqkv + at * ld, *dk = row + (a->heads_q + kv) * dim, *dv = dk + a->heads_kv * dim;
        for (size_t j = 0; j < J; j++) {
            zero_rows(length, dim, dk + j * n * ld, ld);
            zero_rows(length, dim, dv + j * n * ld, ld);
        }
        for (size_t q = 0; q < a->heads_q; q++) {
            struct head h = head_of(a, seq, q, qkv);
            size_t first = at * ld_out + q * dim;
            if (a->kv_of[q] != (int)kv) continue;
            head_backward(&h, J, n * ld_out, n * ld, out + first, lse + at * a->heads_q + q, dout + first, row + q * dim,
                          dk, dv, scratch + (size_t)omp_get_thread_num() * per_thread);
        }
    }
    blas_serial_end(blas);
}
