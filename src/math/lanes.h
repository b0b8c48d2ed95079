/* Vectors of the processor's width, and sums over their lanes. Private to steady.c and cached.c. */
#ifndef UNLEARN_LANES_H
#define UNLEARN_LANES_H
#include "unlearn/math_priv.h"

#ifdef __AVX512F__
#define LANE_BYTES 64
#else
#define LANE_BYTES 32
#endif
enum { LANES = LANE_BYTES / sizeof(real) };
typedef real lanes __attribute__((vector_size(LANE_BYTES), aligned(sizeof(real)), may_alias));
typedef bits_of_real lane_mask __attribute__((vector_size(LANE_BYTES)));

/* Keeps the vector in a register: gcc would read it again for each of its products. */
static inline __attribute__((always_inline)) lanes kept(lanes v)
{
#ifdef __AVX512F__
    __asm__("" : "+v"(v));
#endif
    return v;
}
static inline __attribute__((always_inline)) lanes load(const real *x) { return kept(*(const lanes *)x); }

/* For two vectors a, b divided into blocks of n lanes: KEEPn takes the lower half of every block from a and the upper
 * half from b. SWAPn takes the other halves: a's upper half in the lower place, b's lower half in the upper. So KEEPn +
 * SWAPn adds the halves of every block, those of a in the lower half of the result and those of b in the upper. */
#define PAIR __builtin_shufflevector
#if defined __AVX512F__ && defined REAL_float
#define KEEP16(a, b) PAIR(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31)
#define SWAP16(a, b) PAIR(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
#define KEEP8(a, b)  PAIR(a, b, 0, 1, 2, 3, 20, 21, 22, 23, 8, 9, 10, 11, 28, 29, 30, 31)
#define SWAP8(a, b)  PAIR(a, b, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27)
#define KEEP4(a, b)  PAIR(a, b, 0, 1, 18, 19, 4, 5, 22, 23, 8, 9, 26, 27, 12, 13, 30, 31)
#define SWAP4(a, b)  PAIR(a, b, 2, 3, 16, 17, 6, 7, 20, 21, 10, 11, 24, 25, 14, 15, 28, 29)
#define KEEP2(a, b)  PAIR(a, b, 0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31)
#define SWAP2(a, b)  PAIR(a, b, 1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30)
#define HALVINGS(X)  X(8, KEEP16, SWAP16) X(4, KEEP8, SWAP8) X(2, KEEP4, SWAP4) X(1, KEEP2, SWAP2)
#elif defined __AVX512F__ || defined REAL_float
#define KEEP8(a, b) PAIR(a, b, 0, 1, 2, 3, 12, 13, 14, 15)
#define SWAP8(a, b) PAIR(a, b, 4, 5, 6, 7, 8, 9, 10, 11)
#define KEEP4(a, b) PAIR(a, b, 0, 1, 10, 11, 4, 5, 14, 15)
#define SWAP4(a, b) PAIR(a, b, 2, 3, 8, 9, 6, 7, 12, 13)
#define KEEP2(a, b) PAIR(a, b, 0, 9, 2, 11, 4, 13, 6, 15)
#define SWAP2(a, b) PAIR(a, b, 1, 8, 3, 10, 5, 12, 7, 14)
#define HALVINGS(X) X(4, KEEP8, SWAP8) X(2, KEEP4, SWAP4) X(1, KEEP2, SWAP2)
#else
#define KEEP4(a, b) PAIR(a, b, 0, 1, 6, 7)
#define SWAP4(a, b) PAIR(a, b, 2, 3, 4, 5)
#define KEEP2(a, b) PAIR(a, b, 0, 5, 2, 7)
#define SWAP2(a, b) PAIR(a, b, 1, 4, 3, 6)
#define HALVINGS(X) X(2, KEEP4, SWAP4) X(1, KEEP2, SWAP2)
#endif

/* Lane k of s[0] becomes the sum over the lanes of s[k], by halves: lane i with lane i + LANES/2, and so on. */
static inline __attribute__((always_inline)) void fold(lanes *s)
{
#define HALVE(n, KEEP, SWAP) \
    for (size_t i = 0; i < (n); i++) s[i] = KEEP(s[i], s[i + (n)]) + SWAP(s[i], s[i + (n)]);
    HALVINGS(HALVE)
#undef HALVE
}

static inline __attribute__((always_inline)) lanes larger(lanes a, lanes b)
{
    const lane_mask m = a > b;
    return (lanes)((m & (lane_mask)a) | (~m & (lane_mask)b));
}

/* The largest lane; ignores NaN unless all lanes are NaN. */
static inline __attribute__((always_inline)) real largest(lanes v)
{
#define HALVE(n, KEEP, SWAP) v = larger(v, SWAP(v, v));
    HALVINGS(HALVE)
#undef HALVE
    return v[0];
}

/* The sum over the lanes, in the order of fold(). */
static inline __attribute__((always_inline)) real total(lanes v)
{
#define HALVE(n, KEEP, SWAP) v += SWAP(v, v);
    HALVINGS(HALVE)
#undef HALVE
    return v[0];
}
#endif
