/* math, inside the room: an exp that vectorises, sums in double. */
#ifndef UNLEARN_MATH_PRIV_H
#define UNLEARN_MATH_PRIV_H
#include "unlearn/math.h"
#include <math.h>
#include <string.h>

/* C [m][n] = A B or, if add, C += A B, on the calling thread: A(i, l) = a[i a_row + l a_col], B [k][n] with row length
 * ldb. Reads columns of B up to n rounded up to TILE_PAD. Fastest when m is a multiple of TILE_ROWS and B lies in few
 * cache lines. */
enum { TILE_ROWS = 6, TILE_PAD = 16, TILE_PANEL = 64 };
void small_product(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_col, const real *b, size_t ldb,
                   bool add, real *c, size_t ldc);

/* ------------------------------------------------------------------------------------------- sums in double ----- */
#ifdef REAL_float
typedef int32_t bits_of_real;
#else
typedef int64_t bits_of_real;
#endif
/* Vectors of eight reals (aligned as one real) and of eight doubles; two accumulators hide the latency of additions. */
typedef real real8 __attribute__((vector_size(8 * sizeof(real)), aligned(sizeof(real)), may_alias));
typedef bits_of_real mask8 __attribute__((vector_size(8 * sizeof(real))));
typedef float float8 __attribute__((vector_size(8 * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef double double8 __attribute__((vector_size(8 * sizeof(double)), aligned(sizeof(double))));

/* Arguments are pointers because passing a vector by value depends on the processor compiled for. */
static inline double sum8(const double8 *a, const double8 *b)
{
    double8 s = *a + *b;
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

static inline double row_dot(size_t n, const real *x, const real *y)
{
    double8 even = {0}, odd = {0};
    double rest = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const real8 *a = (const real8 *)(x + i), *b = (const real8 *)(y + i);
        even += __builtin_convertvector(a[0], double8) * __builtin_convertvector(b[0], double8);
        odd += __builtin_convertvector(a[1], double8) * __builtin_convertvector(b[1], double8);
    }
    for (; i < n; i++) rest += (double)x[i] * y[i];
    return sum8(&even, &odd) + rest;
}

/* The same, y held in bfloat16. */
static inline double row_dot_half(size_t n, const real *x, const uint16_t *y)
{
    double8 even = {0}, odd = {0};
    double rest = 0;
    float wide[16];
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const real8 *a = (const real8 *)(x + i);
        const float8 *b = (const float8 *)wide;
        for (size_t k = 0; k < 16; k++) wide[k] = from_half(y[i + k]);
        even += __builtin_convertvector(a[0], double8) * __builtin_convertvector(b[0], double8);
        odd += __builtin_convertvector(a[1], double8) * __builtin_convertvector(b[1], double8);
    }
    for (; i < n; i++) rest += (double)x[i] * (double)from_half(y[i]);
    return sum8(&even, &odd) + rest;
}

static inline double row_sum(size_t n, const real *x)
{
    double8 even = {0}, odd = {0};
    double rest = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const real8 *a = (const real8 *)(x + i);
        even += __builtin_convertvector(a[0], double8);
        odd += __builtin_convertvector(a[1], double8);
    }
    for (; i < n; i++) rest += x[i];
    return sum8(&even, &odd) + rest;
}

static inline void keep_larger8(const real8 *x, real8 *y)
{
    mask8 m = *x > *y;
    *y = (real8)((m & (mask8)*x) | (~m & (mask8)*y));
}

/* The largest of x [n], without NaN; -infinity if there is none. */
static inline real row_max(size_t n, const real *x)
{
    const real least = -INFINITY;
    real8 even = {least, least, least, least, least, least, least, least}, odd = even;
    real most = least;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const real8 *a = (const real8 *)(x + i);
        keep_larger8(a, &even);
        keep_larger8(a + 1, &odd);
    }
    for (; i < n; i++) most = x[i] > most ? x[i] : most;
    keep_larger8(&odd, &even);
    for (i = 0; i < 8; i++) most = even[i] > most ? even[i] : most;
    return most;
}

/* Of the keys `first` ... end-1 that a query sees, sets the scores s of hidden ones to -infinity; if all of them are hidden,
 * the last, which is the query's own, is seen. */
static inline void hide_keys(const unsigned char *hidden, size_t first, size_t end, real *s)
{
    bool any = false;
    if (!hidden) return;
    for (size_t c = first; c < end; c++) any = any || !hidden[c];
    for (size_t c = first; c < end; c++)
        if (hidden[c] && (any || c + 1 < end)) s[c] = -INFINITY;
}

/* ------------------------------------------------------------------------------------------------------ exp ----- */
#ifdef REAL_float
/* exp(x) = 2^k exp(r), k = round(x log2(e)), |r| <= log(2)/2; exp(r) = 1 + r + r^2 q(r), q fitted for the least largest
 * relative error (3e-9). No branch and no call, so that loops over it vectorise; within one unit in the last place.
 * 2^k is applied as two factors, so subnormal results, 0 and infinity need no case of their own. NaN stays NaN. */
static inline float real_exp(float x)
{
    const float least = -110.0f, most = 90.0f,
                round_up = 12582912.0f; /* 1.5 2^23: adding it leaves round(x) in the low bits */
    float k, r, q;
    union {
        float f;
        uint32_t u;
    } bits, low, high;
    x = x < least ? least : x;
    x = x > most ? most : x;
    bits.f = x * 1.44269504089f + round_up;
    k = bits.f - round_up;
    r = x - k * 0.693359375f; /* log(2) in two parts, the first so short that k times it is exact */
    r = r + k * 2.12194440e-4f;
    q = 1.3814598366e-3f;
    q = q * r + 8.3687168981e-3f;
    q = q * r + 4.1668388051e-2f;
    q = q * r + 1.6666520632e-1f;
    q = q * r + 4.9999993448e-1f;
    q = q * r * r + r + 1.0f;
    bits.u -= 0x4B400000 - 300; /* k + 300, which is positive and can be halved; a NaN may give anything */
    low.u = ((bits.u >> 1) - 150 + 127) << 23;
    high.u = (bits.u - (bits.u >> 1) - 150 + 127) << 23;
    return q * low.f * high.f;
}
/* tanh(x) = x + x^3 q(x^2) near 0, q fitted up to x^2 = 0.4 (8e-10), and 1 - 2/(exp(2|x|) + 1) beyond, where nothing cancels.
 * Both are computed, so that loops vectorise; within two units in the last place. */
static inline float real_tanh(float x)
{
    float size = x < 0 ? -x : x, z = x * x, q = 2.272704926e-3f, beyond;
    q = q * z - 8.326402326e-3f;
    q = q * z + 2.176363371e-2f;
    q = q * z - 5.395862422e-2f;
    q = q * z + 1.333330097e-1f;
    q = q * z - 3.333333316e-1f;
    beyond = 1 - 2 / (real_exp(2 * size) + 1);
    size = z < 0.4f ? size + size * z * q : beyond;
    return x < 0 ? -size : size;
}
static inline float real_log(float x) { return logf(x); }
static inline float real_sqrt(float x) { return sqrtf(x); }
#else
static inline double real_exp(double x) { return exp(x); }
static inline double real_tanh(double x) { return tanh(x); }
static inline double real_log(double x) { return log(x); }
static inline double real_sqrt(double x) { return sqrt(x); }
#endif
#endif
