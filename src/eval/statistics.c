/* Small statistics of the field: the area under a curve, the harmonic mean, and scores of a row by its tokens. */
#include "unlearn/eval_priv.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <zlib.h>

/* Mann and Whitney: the share of pairs (negative, positive) in the right order, ties one half. */
enum status auc(size_t n, const double *negative, size_t m, const double *positive, double *area)
{
    enum status st = OK;
    double *a = NULL, *b = NULL, pairs = 0;
    bool missing = !n || !m;
    for (size_t i = 0; i < n; i++) missing |= isnan(negative[i]);
    for (size_t i = 0; i < m; i++) missing |= isnan(positive[i]);
    *area = NAN;
    if (missing) return OK;
    TRY(sorted_copy(n, negative, &a));
    TRY(sorted_copy(m, positive, &b));
    for (size_t i = 0, below = 0, up_to = 0; i < m; i++) {
        while (below < n && a[below] < b[i]) below++;
        while (up_to < n && a[up_to] <= b[i]) up_to++;
        pairs += ((double)below + (double)up_to) / 2;
    }
    *area = pairs / ((double)n * (double)m);
done:
    free(a);
    free(b);
    return st;
}

double harmonic_mean(size_t n, const double *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(x[i] >= 0)) return NAN;
        sum += 1 / x[i]; /* 0 gives infinity, and that the mean 0 */
    }
    return (double)n / sum;
}

enum status zlib_bytes(const char *text, size_t n, size_t *bytes)
{
    enum status st = OK;
    uLongf size = compressBound((uLong)n);
    Bytef *packed = NULL;
    int code;
    TRY_NEW(packed, size);
    code = compress2(packed, &size, (const Bytef *)text, (uLong)n, 6);
    if (code != Z_OK) TRY(fail(ERR_MEMORY, "memory: zlib cannot compress %zu bytes (%d)", n, code));
    *bytes = size;
done:
    free(packed);
    return st;
}

double extraction_strength(size_t n, const double *hit)
{
    size_t k = n;
    while (k && hit[k - 1] > 0) k--;
    return n ? 1 - (double)k / (double)n : NAN;
}

enum status min_k(size_t n, const double *x, double share, double *score)
{
    enum status st = OK;
    double *sorted = NULL, sum = 0;
    size_t low;
    assert(share > 0 && share <= 1);
    *score = NAN;
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i])) return OK;
    if (!n) return OK;
    TRY(sorted_copy(n, x, &sorted));
    low = (size_t)(share * (double)n);
    if (!low) low = 1;
    for (size_t i = 0; i < low; i++) sum += sorted[i];
    *score = -sum / (double)low;
done:
    free(sorted);
    return st;
}
