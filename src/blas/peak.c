/* The processor's peak rate: multiply-adds of its widest vectors in registers, on all threads at once. The program asks
 * the processor which vectors it has, and does not rely on the compiler's options. */
#include "unlearn/blas.h"
#include <math.h>
#include <omp.h>

/* Independent chains: enough to keep all multiply-add units busy, and two registers remain free. */
#if defined __x86_64__
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
enum { N_CHAIN = 12 };
#else
#define CHAINS(X) \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19)
enum { N_CHAIN = 20 };
#endif

/* Each chain computes x = x/2 + 1/2 n times; x stays 1 in every lane. Every start value is read from a volatile, so
 * that the compiler cannot see that all chains are the same. */
#define START(i) vector x##i = zero + 2 * *given;
#define STEP(i)  x##i = x##i * half + half;
#define SUM(i)   +x##i
#define LOOP(name, bytes, ...)                                                             \
    __VA_ARGS__ static __attribute__((noinline)) real name(size_t n, volatile real *given) \
    {                                                                                      \
        typedef real vector __attribute__((vector_size(bytes)));                           \
        const vector zero = {0}, half = zero + *given;                                     \
        vector sum;                                                                        \
        CHAINS(START)                                                                      \
        for (size_t i = 0; i < n; i++) {                                                   \
            CHAINS(STEP)                                                                   \
        }                                                                                  \
        sum = zero CHAINS(SUM);                                                            \
        return sum[0];                                                                     \
    }

LOOP(loop16, 16, )
#if defined __x86_64__
LOOP(loop32_avx, 32, __attribute__((target("avx"))))
LOOP(loop32, 32, __attribute__((target("avx2,fma"))))
LOOP(loop64, 64, __attribute__((target("avx512f"))))
#endif

struct widest {
    real (*loop)(size_t n, volatile real *given);
    size_t bytes;
};

static struct widest widest(void)
{
#if defined __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return (struct widest){loop64, 64};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return (struct widest){loop32, 32};
    if (__builtin_cpu_supports("avx")) return (struct widest){loop32_avx, 32};
#endif
    return (struct widest){loop16, 16};
}

/* Seconds for n steps of the loop, on the calling thread alone or on every thread of the team. */
static double once(struct widest w, size_t n, bool team)
{
    const double start = clock_seconds();
#pragma omp parallel if (team)
    {
        volatile real given = (real)0.5;
        given = w.loop(n, &given); /* volatile: else the compiler would drop the loop */
    }
    return clock_seconds() - start;
}

double math_peak_rate(void)
{
    enum { TIMES = 6 };
    const double LONG = 3e-3,
                 MOST = 0.2; /* seconds: one loop, so long that waking a team costs nothing; all loops, for valgrind */
    const struct widest w = widest();
    const double lanes = (double)w.bytes / sizeof(real);
    double seconds, least = INFINITY, spent = 0;
    size_t n = 1 << 12;
    while (once(w, n, false) < LONG) n *= 2; /* one thread: a team would wait for other programs' threads */
    for (int i = 0; i < TIMES && spent < MOST; i++) {
        spent += seconds = once(w, n, true);
        least = fmin(least, seconds);
    }
    return 2.0 * N_CHAIN * lanes * (double)n * math_threads_now() / least;
}
