/* A token from logits: the best one, or one drawn from their softmax at a temperature, cut to the most probable tokens
 * (nucleus sampling, Holtzman et al. 2020). Probabilities and sums in double. */
#include "unlearn/math_priv.h"
#include <stdlib.h>

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

static int by_probability(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->p != y->p) return x->p > y->p ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* The first of the candidates at which the sum of their probabilities exceeds `share`. */
static int32_t pick(size_t n, const struct candidate *c, double share)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if ((sum += c[i].p) > share) return c[i].id;
    while (n > 1 && !(c[n - 1].p > 0)) n--; /* rounding: share is the sum itself */
    return c[n - 1].id;
}

/* Sorts the fewest most probable candidates that have `share` to the front; returns their number, and their sum. */
static size_t nucleus(size_t v, double least, double share, struct candidate *c, double *sum)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < v; i++) /* all that is less probable than `least` could not make up what is left out */
        if (c[i].p >= least) c[n++] = c[i];
    qsort(c, n, sizeof *c, by_probability);
    for (*sum = 0; kept < n && *sum < share; kept++) *sum += c[kept].p;
    return kept;
}

int32_t logits_draw(size_t v, const real *z, double temperature, double top_p, double u, struct candidate *c)
{
    const double most = row_max(v, z);
    double sum = 0;
    size_t n = v;
    for (size_t i = 0; i < v; i++) {
        c[i] = (struct candidate){exp((z[i] - most) / temperature), (int32_t)i};
        sum += c[i].p;
    }
    if (top_p < 1) n = nucleus(v, (1 - top_p) * sum / (double)v, top_p * sum, c, &sum);
    return pick(n, c, u * sum);
}
