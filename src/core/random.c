/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, as easy as 1, 2, 3;
 * SC11). Key = seed, counter = (counter, stream, epoch). */
#include "unlearn/core.h"
#include <Random123/philox.h>
#include <math.h>

static uint64_t bits(uint64_t seed, uint32_t stream, uint32_t epoch, uint64_t counter)
{
    philox4x32_ctr_t c = {{(uint32_t)counter, (uint32_t)(counter >> 32), stream, epoch}};
    philox4x32_key_t k = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    philox4x32_ctr_t r = philox4x32(c, k);
    return (uint64_t)r.v[1] << 32 | r.v[0];
}

static double unit(uint64_t b) { return (double)(b >> 11) * 0x1p-53; }

/* High half of b*n: uniform up to n/2^64. */
static size_t below(uint64_t b, size_t n) { return (size_t)(((unsigned __int128)b * n) >> 64); }

uint64_t random_bits(uint64_t seed, uint32_t stream, uint64_t counter) { return bits(seed, stream, 0, counter); }

double random_uniform(uint64_t seed, uint32_t stream, uint64_t counter) { return unit(bits(seed, stream, 0, counter)); }

double random_normal(uint64_t seed, uint32_t stream, uint64_t counter)
{
    double u = 1.0 - unit(bits(seed, stream, 1, counter)); /* in (0, 1] */
    double angle = 2.0 * 3.14159265358979323846 * unit(bits(seed, stream, 2, counter));
    return sqrt(-2.0 * log(u)) * cos(angle);
}

size_t random_below(uint64_t seed, uint32_t stream, uint64_t counter, size_t n)
{
    return below(bits(seed, stream, 0, counter), n);
}

void random_permutation(uint64_t seed, uint32_t stream, uint64_t epoch, size_t n, size_t *order)
{
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = n; i > 1; i--) {
        size_t j = below(bits(seed, stream, (uint32_t)epoch + 3, i), i), t = order[j];
        order[j] = order[i - 1];
        order[i - 1] = t;
    }
}
