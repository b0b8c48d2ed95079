/* A token from logits: the best one, or one drawn from their softmax at a temperature, cut to the most probable tokens
 * (nucleus sampling, Holtzman et al. 2020). Sums in double. */
#include "unlearn/math_priv.h"

static void row_best(size_t v, size_t first, const real *z, double best[2])
{
    const real most = row_max(v, z);
    size_t id = 0;
    while (id < v && !(z[id] == most)) id++;
    best[0] = most;
    best[1] = (double)(first + (id < v ? id : 0));
}

void logits_best(size_t n, size_t v, size_t first, const real *logits, double (*best)[2])
{
    for (size_t k = 0; k < n; k++) row_best(v, first, logits + k * v, best[k]);
}

static inline bool before(const struct candidate *x, const struct candidate *y)
{
    return x->p != y->p ? x->p > y->p : x->id < y->id;
}

/* Lets c[i] sink in a heap of n whose parents come before their children. */
static void sink(size_t n, struct candidate *c, size_t i)
{
    const struct candidate it = c[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&c[child + 1], &c[child])) child++;
        if (!before(&c[child], &it)) break;
        c[i] = c[child];
    }
    c[i] = it;
}

/* The first of the candidates at which the sum of their probabilities exceeds `share`. */
static int32_t pick(size_t n, const struct candidate *c, double share)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if ((sum += c[i].p) > share) return c[i].id;
    while (n > 1 && !(c[n - 1].p > 0)) n--; /* rounding may make share equal the sum */
    return c[n - 1].id;
}

/* Moves the fewest most probable candidates that together have `share` to the front, in order; returns their number,
 * and their sum in *sum. */
static size_t nucleus(size_t v, double least, double share, struct candidate *c, double *sum)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < v; i++) /* all candidates below `least` together have less than may be left out */
        if (c[i].p >= least) c[n++] = c[i];
    for (size_t i = n / 2; i-- > 0;) sink(n, c, i);
    for (*sum = 0; kept < n && *sum < share; kept++) {
        const struct candidate first = c[0], last = c[n - kept - 1];
        *sum += first.p;
        c[0] = last, c[n - kept - 1] = first;
        sink(n - kept - 1, c, 0);
    }
    for (size_t i = 0; i < kept; i++) { /* reverse: the heap leaves the most probable ones at the end */
        if (i >= n - 1 - i) break;
        const struct candidate x = c[i];
        c[i] = c[n - 1 - i], c[n - 1 - i] = x;
    }
    return kept;
}

enum { PIECE = 512 };

static double probabilities(size_t v, const real *z, double temperature, struct candidate *c)
{
    const double most = row_max(v, z);
    double sum = 0;
    real e[PIECE];
    for (size_t first = 0; first < v; first += PIECE) {
        const size_t n = smaller(PIECE, v - first);
#pragma omp simd
        for (size_t i = 0; i < n; i++) e[i] = real_exp((real)((z[first + i] - most) / temperature));
        for (size_t i = 0; i < n; i++) {
            c[first + i] = (struct candidate){e[i], (int32_t)(first + i)};
            sum += e[i];
        }
    }
    return sum;
}

int32_t logits_draw(size_t v, const real *z, double temperature, double top_p, double u, struct candidate *c)
{
    double sum = probabilities(v, z, temperature, c);
    size_t n = v;
    if (top_p < 1) n = nucleus(v, (1 - top_p) * sum / (double)v, top_p * sum, c, &sum);
    return pick(n, c, u * sum);
}
