/* blas: products by the BLAS library or oneDNN: kernels, threads, the linear layer's three products, what rates they reach. The
 * only room that calls these. Every function is Local; those that can fail return a status. Sizes of zero are legal.  */
#ifndef UNLEARN_BLAS_H
#define UNLEARN_BLAS_H
#include "unlearn/core.h"
#include <string.h>

/* ----------------------------------------------------------------------------------- the library's kernels ----- */
/** The first call of main(), before MPI and before any thread. If OpenBLAS does not know this processor and uses
 *  kernels with narrower vectors than it has, restarts the program once with OPENBLAS_CORETYPE set to what the
 *  processor supports; a value set by the user is left alone. The new kernels are used only if test products agree with
 *  plain loops. Processes on equal nodes decide alike.
 *  \return OK, whichever kernels are used; ERR_INTERNAL: products are wrong, and a second restart failed */
enum status math_start(char **argv);
const char *math_kernels(void); /* kernels in use, who chose them, what the processor has: one line, static */
/* If products are much slower than the processor allows: how slow, and what to do; else NULL. Measured once, by math_warm_up() or,
 * without it, here: one core, 0.05 s. */
const char *math_warning(void);
/* Before memory is planned: one product, for which the library takes the buffers that it will keep, and what math_warning() needs. */
void math_warm_up(void);

/* --------------------------------------------------------------------------------------------------- threads ----- */
void math_threads(int n); /* one OpenMP team of n threads, which also shares the products; n >= 1 */
int math_threads_now(void);
/* "oneDNN 2.6.3 AVX-512", or that the program has none; static */
const char *math_onednn(void);
const char *math_library(void); /* "OpenBLAS 0.3.21 ... Haswell", static */

/* Fewer elements than these are done by one thread: waking a team costs some microseconds. */
#ifndef WORTH_A_TEAM
#define WORTH_A_TEAM ((size_t)1 << 15)
#endif
/* Whether there are several threads to share work; false inside a parallel region. */
bool team_free(void);
/* Whether n elements are worth waking the team. Code that mostly has few elements asks before it opens a parallel
 * region, because even a region of one thread costs a system call. */
static inline bool team_pays(size_t n) { return n > WORTH_A_TEAM && team_free(); }

/* --------------------------------------------------------------------------------------------- whose products ----- */
enum multiplier {
    BY_BLAS,     /* the BLAS library's: always there */
    BY_ONEDNN,   /* oneDNN's, of floats */
    BY_BFLOAT16, /* oneDNN's: operands are rounded to bfloat16, sums are of floats */
    N_MULTIPLIER
};
/** NULL where this program on this processor can have such products; else why not, one clause. The first call tries products
 *  at sizes of every kind against plain loops, for some milliseconds. Not inside a parallel region. */
const char *math_products_lack(enum multiplier p);
/** From now on gemm() and the linear layer use these, which must not be lacking. Not inside a parallel region.
 *  \return OK; ERR_MEMORY: no room for rounded operands and sums (12 MB a thread) */
enum status math_products(enum multiplier p);
enum multiplier math_products_now(void);
/** Flop/s of the linear layer's three products for so many rows, outputs and inputs, with the threads set, by each of the
 *  libraries of p; measured in turns, for some tens of milliseconds. 0 where nothing could be measured. */
void math_products_rates(size_t rows, size_t out, size_t in, size_t n, const enum multiplier *p, double *rate);

/* -------------------------------------------------------------------------------------------------- products ----- */
/* A matrix of weights, or of a gradient: of reals, or (full NULL) held in bfloat16, which only products BY_BFLOAT16 take. */
struct matrix {
    real *full;
    uint16_t *half;
};
static inline struct matrix reals(const real *x) { return (struct matrix){.full = (real *)x}; }
static inline struct matrix matrix_at(struct matrix a, size_t offset)
{
    return (struct matrix){a.full ? a.full + offset : NULL, a.half ? a.half + offset : NULL};
}
/* To nearest even. A NaN stays one, made quiet. */
static inline uint16_t to_half(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u & 0x7FFFFFFF) > 0x7F800000 ? u >> 16 | 0x40 : (u + 0x7FFF + (u >> 16 & 1)) >> 16);
}
static inline float from_half(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
/* Up with the probability of what lies below bfloat16's bits, so that the mean of many is right (stochastic rounding: Gupta et al.
 * 2015, arXiv 1502.02551). */
static inline uint16_t to_half_at_random(float x, uint32_t random)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u & 0x7F800000) == 0x7F800000 ? u >> 16 | !!(u & 0x7FFFFF) << 6 : (u + (random >> 16)) >> 16);
}
/* Of the pass whose gradient is added: set before it, so that equal passes are not rounded alike. */
extern uint32_t half_turn;
/* h + x, rounded at random: to nearest, a sum of 8 bits would stand still as soon as what is added is below half of its last one.
 * The random number is made of the sum and the turn: neither threads nor what else is added change it. */
static inline uint16_t half_add(uint16_t h, real x, uint32_t turn)
{
    const float sum = (float)((real)from_half(h) + x);
    uint32_t u;
    memcpy(&u, &sum, sizeof u);
    u = (u ^ turn * 0x9E3779B9u) * 0x85EBCA6Bu; /* finalizer of MurmurHash3 */
    u = (u ^ u >> 13) * 0xC2B2AE35u;
    return to_half_at_random(sum, u ^ u >> 16);
}
static inline real matrix_get(struct matrix a, size_t i) { return a.full ? a.full[i] : (real)from_half(a.half[i]); }
static inline void matrix_set(struct matrix a, size_t i, real x)
{
    if (a.full)
        a.full[i] = x;
    else
        a.half[i] = to_half((float)x);
}

/* y = x W^T, W [out][in] as checkpoints store it; ld* are row lengths in memory (>= the columns used). */
void linear_forward(size_t n, size_t out, size_t in, const real *x, size_t ldx, struct matrix w, real *y, size_t ldy);
/* y += x W^T */
void linear_add(size_t n, size_t out, size_t in, const real *x, size_t ldx, struct matrix w, real *y, size_t ldy);
/* dx = beta dx + dy W */
void linear_backward_input(size_t n, size_t out, size_t in, const real *dy, size_t ldy, struct matrix w, real beta,
                           real *dx, size_t ldx);
/* dw = beta dw + dy^T x, where beta 0 does not read dw. To what is held in bfloat16 it adds, rounded at random once for every
 * call and 2,048 rows. */
void linear_backward_weight(size_t n, size_t out, size_t in, const real *dy, size_t ldy, const real *x, size_t ldx,
                            real beta, struct matrix dw);
double math_peak_rate(void);     /* flop/s of multiply-adds in registers, measured now with the threads set */
double math_gemm_rate(size_t n); /* flop/s of n x n x n products, best of 5 or of 2 s, measured with the threads set */

/* C [m][n] = alpha op(A) op(B) + beta C, op = transpose where ta, tb; beta = 0 does not read C. No dimension passed to
 * BLAS exceeds `most` (BLAS counts in int). */
void gemm_within(size_t most, bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                 const real *b, size_t ldb, real beta, real *c, size_t ldc);
void gemm(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda, const real *b,
          size_t ldb, real beta, real *c, size_t ldc);
#endif
