/* Attention of rows that continue sequences in a cache:
 *      s = q K^T     e = exp(s - max s)     out = e V / sum e        with a cap: s = cap tanh(q K^T / cap)
 * Keys (times scale) and values of each key-value head and slot are stored transposed, in panels
 * [panel][dim][TILE_PANEL] of positions, so that vectors run along the positions for any width of heads. Up to MOST
 * queries, of heads that share keys or of consecutive rows, are computed together; the order of each query's sums
 * depends only on how many keys it sees. */
#include "lanes.h"
#include <omp.h>

enum { PANEL = TILE_PANEL, MOST = LANES >= 8 ? 4 : 2 }; /* queries at a time */

struct query {
    const real *q; /* [dim] */
    real *out;     /* [dim] */
    size_t first;  /* it sees the positions from `first` on */
    size_t keys;   /* and before `keys` */
};
struct head {
    size_t dim;
    real cap;
    real *k, *v;                 /* panels */
    const unsigned char *hidden; /* of the slot's positions, or NULL */
};

static size_t up_to(size_t unit, size_t n) { return (n + unit - 1) / unit * unit; }

size_t attention_cache(const struct attention *a, size_t slots, size_t longest)
{
    return slots * a->heads_kv * 2 * up_to(PANEL, longest) * a->head_dim;
}

/* Writes one key or value [dim] at position `at`; at a vector's first position, sets the vector's others to 0. */
static void put(size_t dim, size_t at, real scale, const real *from, real *panels)
{
    real *to = panels + at / PANEL * PANEL * dim + at % PANEL;
    if (at % LANES == 0)
        for (size_t c = 0; c < dim; c++) *(lanes *)(to + c * PANEL) = (lanes){scale * from[c]};
    else
        for (size_t c = 0; c < dim; c++) to[c * PANEL] = scale * from[c];
}

/* s[r] = q[r] K^T for `vectors` vectors of positions; both counts are constants wherever this is inlined. */
static inline __attribute__((always_inline)) void dots(size_t rows, size_t vectors, size_t dim, const struct query *q,
                                                       const real *k, real *s, size_t ld)
{
    lanes sum[MOST][4];
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < vectors; v++) sum[r][v] = (lanes){0};
    for (size_t c = 0; c < dim; c++)
        for (size_t v = 0; v < vectors; v++) {
            const lanes b = load(k + c * PANEL + v * LANES);
            for (size_t r = 0; r < rows; r++) sum[r][v] += q[r].q[c] * b;
        }
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < vectors; v++) *(lanes *)(s + r * ld + v * LANES) = sum[r][v];
}

/* s [rows][ld] = scores of keys at ... n-1, both in whole vectors */
static inline __attribute__((always_inline)) void scores(size_t rows, size_t at, size_t n, const struct head *h,
                                                         const struct query *q, real *s, size_t ld)
{
    for (; at + (size_t)4 * LANES <= n; at += (size_t)4 * LANES)
        dots(rows, 4, h->dim, q, h->k + at / PANEL * PANEL * h->dim + at % PANEL, s + at, ld);
    for (; at < n; at += LANES) dots(rows, 1, h->dim, q, h->k + at / PANEL * PANEL * h->dim + at % PANEL, s + at, ld);
}

/* Replaces s by exp(s - max s) from `hidden` to n-1, and by 0 before and up to `end`; returns their sum. */
static real exponentials(size_t hidden, size_t n, size_t end, real *s)
{
    const size_t wide = up_to(LANES, n);
    lanes most, sum = {0};
    real shift;
    for (size_t c = n; c < wide; c++) s[c] = -INFINITY;
    for (size_t c = 0; c < hidden; c++) s[c] = -INFINITY;
    most = load(s);
    for (size_t c = LANES; c < wide; c += LANES) most = larger(*(const lanes *)(s + c), most);
    shift = largest(most);
#pragma omp simd
    for (size_t c = 0; c < wide; c++) s[c] = real_exp(s[c] - shift);
    for (size_t c = 0; c < wide; c += LANES) sum += *(const lanes *)(s + c);
    for (size_t c = wide; c < end; c += LANES) *(lanes *)(s + c) = (lanes){0};
    return total(sum);
}

/* sum[r][o] += e[r] V^T over `vectors` vectors of positions */
static inline __attribute__((always_inline)) void weigh(size_t rows, size_t vectors, const size_t *row, const real *v,
                                                        const real *e, size_t ld, lanes *sum)
{
    const size_t outs = LANES / rows;
    lanes a[MOST][4];
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < vectors; i++) a[r][i] = load(e + r * ld + i * LANES);
    for (size_t o = 0; o < outs; o++)
        for (size_t i = 0; i < vectors; i++) {
            const lanes b = load(v + row[o] + i * LANES);
            for (size_t r = 0; r < rows; r++) sum[r * outs + o] += a[r][i] * b;
        }
}

/* Writes LANES / rows dimensions of out, from `first` on; where fewer exist, the spare sums read the last one again. */
static inline __attribute__((always_inline)) void values(size_t rows, size_t at, size_t n, const struct head *h,
                                                         size_t first, const struct query *q, const real *over,
                                                         const real *e, size_t ld)
{
    const size_t outs = LANES / rows, wanted = smaller(outs, h->dim - first), step = rows < 4 ? 4 : 2;
    size_t row[LANES];
    lanes sum[LANES];
    real out[LANES];
    for (size_t o = 0; o < outs; o++) row[o] = (first + smaller(o, wanted - 1)) * PANEL;
    for (size_t i = 0; i < LANES; i++) sum[i] = (lanes){0};
    for (; at + step * LANES <= n; at += step * LANES)
        weigh(rows, step, row, h->v + at / PANEL * PANEL * h->dim + at % PANEL, e + at, ld, sum);
    for (; at < n; at += LANES) weigh(rows, 1, row, h->v + at / PANEL * PANEL * h->dim + at % PANEL, e + at, ld, sum);
    fold(sum);
    memcpy(out, sum, sizeof out);
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < wanted; o++) q[r].out[first + o] = over[r] * out[r * outs + o];
}

static void cap_scores(real cap, size_t n, real *s)
{
#pragma omp simd
    for (size_t c = 0; c < n; c++) s[c] = cap * real_tanh(s[c] / cap);
}

static inline __attribute__((always_inline)) void answer(size_t rows, const struct head *h, const struct query *q,
                                                         real *s)
{
    real over[MOST];
    size_t n = 0, from = q[0].first, ld;
    for (size_t r = 0; r < rows; r++) n = q[r].keys > n ? q[r].keys : n, from = smaller(from, q[r].first);
    n = ld = up_to(LANES, n);
    from = from / PANEL * PANEL;
    scores(rows, from, n, h, q, s, ld);
    for (size_t r = 0; r < rows && h->cap > 0; r++) cap_scores(h->cap, n - from, s + r * ld + from);
    for (size_t r = 0; r < rows; r++) hide_keys(h->hidden, q[r].first, q[r].keys, s + r * ld);
    for (size_t r = 0; r < rows; r++)
        over[r] = 1 / exponentials(q[r].first - from, q[r].keys - from, n - from, s + r * ld + from);
    for (size_t c = 0; c < h->dim; c += LANES / rows) values(rows, from, n, h, c, q, over, s, ld);
}

/* n <= MOST */
static void answer_all(size_t n, const struct head *h, const struct query *q, real *s)
{
    size_t r = 0;
    if (n == MOST) {
        answer(MOST, h, q, s);
        return;
    }
    for (; r + 2 <= n; r += 2) answer(2, h, q + r, s);
    if (r < n) answer(1, h, q + r, s);
}

/* Sequence `seq` and key-value head kv: caches keys and values of its rows, then computes all queries that use them. */
static void task(const struct attention *a, const struct attention_past *past, size_t seq, size_t kv, const real *qkv,
                 real *out, real *scratch)
{
    const size_t dim = a->head_dim, width = (a->heads_q + 2 * a->heads_kv) * dim,
                 half = up_to(PANEL, past->longest) * dim;
    real *memory = past->cache + (past->slot[seq] * a->heads_kv + kv) * 2 * half;
    const struct head head = {dim, (real)a->cap, memory, memory + half,
                              past->hidden ? past->hidden + past->slot[seq] * past->longest : NULL};
    struct query q[MOST];
    size_t n = 0;
    for (size_t r = a->first[seq]; r < a->first[seq + 1]; r++) {
        const real *k = qkv + r * width + (a->heads_q + kv) * dim;
        put(dim, (size_t)past->position[r], (real)a->scale, k, head.k);
        put(dim, (size_t)past->position[r], 1, k + a->heads_kv * dim, head.v);
    }
    for (size_t r = a->first[seq]; r < a->first[seq + 1]; r++)
        for (size_t h = 0; h < a->heads_q; h++) {
            const size_t keys = (size_t)past->position[r] + 1;
            if ((size_t)a->kv_of[h] != kv) continue;
            q[n++] = (struct query){qkv + r * width + h * dim, out + (r * a->heads_q + h) * dim,
                                    a->window && keys > a->window ? keys - a->window : 0, keys};
            if (n == MOST) answer_all(n, &head, q, scratch), n = 0;
        }
    answer_all(n, &head, q, scratch);
}

void attention_cached(const struct attention *a, const struct attention_past *past, const real *qkv, real *out,
                      real *scratch)
{
    const size_t tasks = a->n_seq * a->heads_kv, per_thread = MOST * up_to(PANEL, past->longest);
    const size_t worth = (size_t)1 << 20; /* multiplications that pay for waking a team */
    size_t work = 0;
    for (size_t i = 0; i < a->n_seq; i++) {
        size_t rows = a->first[i + 1] - a->first[i];
        work += rows * ((size_t)past->position[a->first[i]] + rows) * a->heads_q * a->head_dim;
    }
    if (work <= worth || !team_free()) { /* even a parallel region of one thread costs time */
        for (size_t i = 0; i < tasks; i++) task(a, past, i / a->heads_kv, i % a->heads_kv, qkv, out, scratch);
        return;
    }
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < tasks; i++)
        task(a, past, i / a->heads_kv, i % a->heads_kv, qkv, out, scratch + (size_t)omp_get_thread_num() * per_thread);
}
