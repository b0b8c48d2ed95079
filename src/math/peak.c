/* What the processor can do at most: multiply-adds of its widest vectors in registers, on all threads at once. Which vectors
 * those are is asked of the processor when the program runs, not of the compiler's options. */
#include "unlearn/math_priv.h"
#include <omp.h>

/* Independent chains: as many as multiply-adds are under way at once, with two registers to spare. */
#if defined __x86_64__
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
enum { N_CHAIN = 12 };
#else
#define CHAINS(X) \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19)
enum { N_CHAIN = 20 };
#endif

/* n times x = x/2 + 1/2 in each chain, which stays at 1 in every lane. Every value is read anew, so that the compiler knows none of
 * them and cannot tell that the chains are alike. */
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

/* Seconds of n turns; of the calling thread alone, or of the whole team. */
static double once(struct widest w, size_t n, bool team)
{
    const double start = clock_seconds();
#pragma omp parallel if (team)
    {
        volatile real given = (real)0.5;
        given = w.loop(n, &given); /* volatile: or the loop would be for nothing */
    }
    return clock_seconds() - start;
}

double math_peak_rate(void)
{
    enum { TIMES = 6 };
    const double LONG = 3e-3,
                 MOST = 0.2; /* seconds: of a loop beside which waking a team is nothing; of all: slow is valgrind */
    const struct widest w = widest();
    double seconds, least = INFINITY, spent = 0;
    size_t n = 1 << 12;
    while (once(w, n, false) < LONG) n *= 2; /* alone: a team would wait for whatever else runs */
    for (int i = 0; i < TIMES && spent < MOST; i++, spent += seconds) least = fmin(least, seconds = once(w, n, true));
    return 2.0 * N_CHAIN * (double)(w.bytes / sizeof(real)) * (double)n * math_threads_now() / least;
}
