/* Cross-entropy over a slice of the vocabulary, one row per output; sums in double.
 *      nll = lse - z_id        dnll/dz = softmax(z) - onehot(id)
 *      KL(q to p) = sum_v q_v (log q_v - log p_v), q = softmax(other)        dKL/dz = p - q                            */
#include "unlearn/math_priv.h"

/* A double in two reals: z - high is then nearly exact where z is close, and z - high - low is exact to a unit in the last
 * place of the difference, which is what exp needs of it. */
struct split {
    real high, low;
};

static struct split split(double x)
{
    real high = (real)x;
    return (struct split){high, isfinite(high) ? (real)(x - high) : 0};
}

void logits_max(size_t n, size_t v, const real *logits, double *max)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) max[k] = row_max(v, logits + k * v);
}

enum { PIECE = 1024 }; /* columns whose exponentials are kept, to be summed after */

static double row_sum_exp(size_t v, const real *z, struct split m)
{
    real e[PIECE];
    double total = 0;
    for (size_t first = 0; first < v; first += PIECE) {
        size_t here = smaller(PIECE, v - first);
#pragma omp simd
        for (size_t c = 0; c < here; c++) e[c] = real_exp(z[first + c] - m.high - m.low);
        total += row_sum(here, e);
    }
    return total;
}

void logits_sum(size_t n, size_t v, const real *logits, const double *max, double *sum)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) sum[k] = row_sum_exp(v, logits + k * v, split(max[k]));
}

static inline bool is_here(int32_t id, size_t first, size_t v)
{
    return id >= 0 && (size_t)id >= first && (size_t)id - first < v;
}

void logits_pick(size_t n, size_t v, size_t first, const real *logits, const int32_t *id, double *z)
{
    for (size_t k = 0; k < n; k++) z[k] = is_here(id[k], first, v) ? logits[k * v + (size_t)id[k] - first] : 0;
}

void logits_backward(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                     const double *coef, real *dlogits)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) {
        const real *z = logits + k * v;
        real *dz = dlogits + k * v, c = (real)coef[k];
        struct split l = split(lse[k]);
        if (id[k] < 0) {
            memset(dz, 0, v * sizeof *dz);
            continue;
        }
#pragma omp simd
        for (size_t i = 0; i < v; i++) dz[i] = c * real_exp(z[i] - l.high - l.low);
        if (is_here(id[k], first, v)) dz[(size_t)id[k] - first] -= c;
    }
}

/* q (log q - log p) = q ((y - z) + (lse of z - lse of y)), 0 where q is: y - z is exact where the two are close. */
static double row_divergence(size_t v, const real *z, double lse, const real *y, double lse_other, double coef, real *dz)
{
    struct split lz = split(lse), ly = split(lse_other);
    double total = 0, shift = lse - lse_other;
    real scale = (real)coef;
#pragma omp simd reduction(+ : total)
    for (size_t i = 0; i < v; i++) {
        real p = real_exp(z[i] - lz.high - lz.low), q = real_exp(y[i] - ly.high - ly.low);
        double ratio = (double)(y[i] - z[i]) + shift;
        total += q > 0 ? q * ratio : 0;
        dz[i] = scale * (p - q);
    }
    return total;
}

void logits_divergence(size_t n, size_t v, const real *logits, const double *lse, const real *other,
                       const double *lse_other, const double *coef, double *loss, real *dlogits)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++)
        loss[k] = row_divergence(v, logits + k * v, lse[k], other + k * v, lse_other[k], coef[k], dlogits + k * v);
}
