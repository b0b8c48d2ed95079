/* The linear layer y = x W^T for few rows, or for rows that must not know of each other: every element is one dot product,
 * summed in the same order however many rows and threads there are. W is read where it stands: BLAS would first copy all of
 * it, which costs as much as a product of ten rows.
 * A tile of LANES sums, some rows times some outputs, goes along the inner dimension; then each sum's lanes are folded, by
 * halves: lane i with i + LANES/2, and so on. */
#include "unlearn/math_priv.h"

#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
enum { LANES = BYTES / sizeof(real) };
typedef real lanes __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef bits_of_real lane_mask __attribute__((vector_size(BYTES)));

/* gcc would read a vector again for each of its products. */
static inline __attribute__((always_inline)) lanes load(const real *x)
{
    lanes v = *(const lanes *)x;
#ifdef __AVX512F__
    __asm__("" : "+v"(v));
#endif
    return v;
}

/* Of two vectors that hold sums in blocks of lanes, one after the other: the lower halves of all blocks plus the upper. */
#define FOLD16(a, b)                                                                         \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) + \
     __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#define FOLD16_8(a, b)                                                                         \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) + \
     __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31))
#define FOLD16_4(a, b)                                                                         \
    (__builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) + \
     __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31))
#define FOLD16_2(a, b)                                                                          \
    (__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) + \
     __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31))
#define FOLD8(a, b) \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#define FOLD8_4(a, b) \
    (__builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13) + __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15))
#define FOLD8_2(a, b) \
    (__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15))
#define FOLD4(a, b)   (__builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7))
#define FOLD4_2(a, b) (__builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7))
#define HALVE(fold, n) \
    for (size_t i = 0; i < (n); i++) s[i] = fold(s[2 * i], s[2 * i + 1])

/* s[0] = the sums over the lanes of each of s[0 ... LANES-1] */
static inline __attribute__((always_inline)) void fold(lanes *s)
{
#if defined __AVX512F__ && defined REAL_float
    HALVE(FOLD16, 8);
    HALVE(FOLD16_8, 4);
    HALVE(FOLD16_4, 2);
    HALVE(FOLD16_2, 1);
#elif defined __AVX512F__ || defined REAL_float
    HALVE(FOLD8, 4);
    HALVE(FOLD8_4, 2);
    HALVE(FOLD8_2, 1);
#else
    HALVE(FOLD4, 2);
    HALVE(FOLD4_2, 1);
#endif
}

struct linear {
    size_t in, ldx, ldy;
    lane_mask last; /* of the last LANES of a row those that no whole vector has counted */
};

/* sum[r][o] += x[r] . w[o] over whole vectors and the rest, for outputs o = 0 ... outs-1 whose rows of W are row[o]. */
static inline __attribute__((always_inline)) void dots(size_t rows, size_t outs, const struct linear *p, const real *x,
                                                       const real *const *row, lanes *sum)
{
    const size_t in = p->in, whole = in / LANES * LANES;
    lanes a[LANES];
    for (size_t l = 0; l < whole; l += LANES) {
        for (size_t r = 0; r < rows; r++) a[r] = load(x + r * p->ldx + l);
        for (size_t o = 0; o < outs; o++) {
            const lanes b = load(row[o] + l);
            for (size_t r = 0; r < rows; r++) sum[r * outs + o] += a[r] * b;
        }
    }
    if (whole == in) return;
    for (size_t r = 0; r < rows; r++)
        a[r] = (lanes)((lane_mask) * (const lanes *)(x + r * p->ldx + in - LANES) & p->last);
    for (size_t o = 0; o < outs; o++) {
        const lanes b = *(const lanes *)(row[o] + in - LANES);
        for (size_t r = 0; r < rows; r++) sum[r * outs + o] += a[r] * b;
    }
}

/* The same of one row and one output at a time, by vectors of 32 bytes: W then comes from memory at its full rate (measured:
 * twice that of several outputs in turn, and a quarter above that of vectors of 64 bytes). */
enum { PARTS = BYTES / 32, PART = LANES / PARTS };
typedef real part __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));
static inline __attribute__((always_inline)) lanes dot(const struct linear *p, const real *x, const real *w)
{
    const size_t in = p->in, whole = in / LANES * LANES;
    part sums[PARTS] = {{0}};
    lanes sum;
    for (size_t l = 0; l < whole; l += LANES)
        for (size_t i = 0; i < PARTS; i++)
            sums[i] += *(const part *)(x + l + i * PART) * *(const part *)(w + l + i * PART);
    memcpy(&sum, sums, sizeof sum);
    if (whole < in)
        sum += (lanes)((lane_mask) * (const lanes *)(x + in - LANES) & p->last) * *(const lanes *)(w + in - LANES);
    return sum;
}

/* y [rows][outs] of one tile; only the first `wanted` outputs exist: the others read the last one again. rows is a constant
 * wherever this is inlined, so that `sum` is registers. */
static inline __attribute__((always_inline)) void tile(size_t rows, const struct linear *p, const real *x, const real *w,
                                                       size_t wanted, real *y)
{
    const size_t outs = LANES / rows;
    const real *row[LANES];
    lanes sum[LANES];
    real out[LANES];
    for (size_t o = 0; o < outs; o++) row[o] = w + smaller(o, wanted - 1) * p->in;
    for (size_t i = 0; i < LANES; i++) sum[i] = (lanes){0};
    if (rows == 1)
        for (size_t o = 0; o < outs; o++) sum[o] = dot(p, x, row[o]);
    else
        dots(rows, outs, p, x, row, sum);
    fold(sum);
    memcpy(out, sum, sizeof out);
    for (size_t r = 0; r < rows; r++) memcpy(y + r * p->ldy, out + r * outs, smaller(outs, wanted) * sizeof *y);
}

/* Outputs w ... w + n_out - 1 of all rows: the weights of a tile stay in cache meanwhile. */
static void outputs(size_t n, size_t n_out, const struct linear *p, const real *x, const real *w, real *y)
{
    enum { MOST = LANES >= 8 ? 4 : 2 };
    size_t r = 0;
    for (; r + MOST <= n; r += MOST)
        for (size_t o = 0; o < n_out; o += LANES / MOST)
            tile(MOST, p, x + r * p->ldx, w + o * p->in, n_out - o, y + r * p->ldy + o);
    for (; r + 2 <= n; r += 2)
        for (size_t o = 0; o < n_out; o += LANES / 2)
            tile(2, p, x + r * p->ldx, w + o * p->in, n_out - o, y + r * p->ldy + o);
    for (; r < n; r++) tile(1, p, x + r * p->ldx, w, n_out, y + r * p->ldy);
}

/* Rows shorter than a vector. */
static void narrow(size_t n, size_t out, size_t in, const real *x, size_t ldx, const real *w, real *y, size_t ldy)
{
    for (size_t r = 0; r < n; r++)
        for (size_t o = 0; o < out; o++) {
            real sum = 0;
            for (size_t l = 0; l < in; l++) sum += x[r * ldx + l] * w[o * in + l];
            y[r * ldy + o] = sum;
        }
}

void linear_steady(size_t n, size_t out, size_t in, const real *x, size_t ldx, const real *w, real *y, size_t ldy)
{
    const double worth = 1 << 17; /* multiplications that pay for waking a team: they read W, so each is slow */
    const bool team = (double)n * (double)out * (double)in > worth && math_threads_now() > 1;
    struct linear p = {in, ldx, ldy, {0}};
    if (in < LANES) {
        narrow(n, out, in, x, ldx, w, y, ldy);
        return;
    }
    for (size_t i = 0; i < LANES; i++) p.last[i] = i < LANES - in % LANES ? 0 : -1;
    if (!team) { /* even a team of one has its price */
        for (size_t o = 0; o < out; o += LANES) outputs(n, smaller(LANES, out - o), &p, x, w + o * in, y + o);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t o = 0; o < out; o += LANES) outputs(n, smaller(LANES, out - o), &p, x, w + o * in, y + o);
}
