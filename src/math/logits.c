/* Cross-entropy over a slice of the vocabulary, one row per output; sums in double.
 *      nll = lse - z_id        dnll/dz = softmax(z) - onehot(id)
 * and against a target q = softmax(other), where `other` is lowered by `shift` at the label (INFINITY removes it):
 *      -sum_v q_v log p_v, for a divergence plus sum_v q_v log q_v             derivative p - q                      */
#include "unlearn/math_priv.h"

/* A double as the sum of two reals: z - high is nearly exact where z is close, so z - high - low is accurate to a unit
 * in the last place of the difference, as exp needs. */
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

void logits_cap(size_t n, size_t v, double cap, real *z)
{
    const real c = (real)cap;
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) {
        real *row = z + k * v;
#pragma omp simd
        for (size_t i = 0; i < v; i++) row[i] = c * real_tanh(row[i] / c);
    }
}

void logits_cap_backward(size_t J, size_t n, size_t v, double cap, const real *z, real *dz)
{
    const real c = (real)cap;
#pragma omp parallel for schedule(static) if (J * n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < J * n; k++) {
        const real *row = z + k % n * v;
        real *d = dz + k * v;
#pragma omp simd
        for (size_t i = 0; i < v; i++) d[i] *= 1 - row[i] / c * (row[i] / c);
    }
}

enum { PIECE = 1024 }; /* columns whose exponentials are stored before they are summed */

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

/* The column of a label in this slice; v if it is in another. */
static inline size_t label_at(int32_t id, size_t first, size_t v)
{
    return id >= 0 && (size_t)id >= first && (size_t)id - first < v ? (size_t)id - first : v;
}

static double lowered_max(size_t v, const real *z, size_t at, double shift)
{
    if (at >= v) return row_max(v, z);
    return fmax(fmax(row_max(at, z), row_max(v - at - 1, z + at + 1)), z[at] - shift);
}

void logits_max_lowered(size_t n, size_t v, size_t first, const real *logits, const int32_t *id, double shift,
                        double *max)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) max[k] = lowered_max(v, logits + k * v, label_at(id[k], first, v), shift);
}

static double lowered_sum(size_t v, const real *z, size_t at, double shift, double max)
{
    struct split m = split(max);
    if (at >= v) return row_sum_exp(v, z, m);
    return row_sum_exp(at, z, m) + row_sum_exp(v - at - 1, z + at + 1, m) + exp(z[at] - shift - max);
}

void logits_sum_lowered(size_t n, size_t v, size_t first, const real *logits, const int32_t *id, double shift,
                        const double *max, double *sum)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) sum[k] = lowered_sum(v, logits + k * v, label_at(id[k], first, v), shift, max[k]);
}

void logits_pick(size_t n, size_t v, size_t first, const real *logits, const int32_t *id, double *z)
{
    for (size_t k = 0; k < n; k++) {
        size_t at = label_at(id[k], first, v);
        z[k] = at < v ? logits[k * v + at] : 0;
    }
}

void logits_backward(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                     const double *coef, real *dlogits)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) {
        const real *z = logits + k * v;
        real *dz = dlogits + k * v, c = (real)coef[k];
        struct split l = split(lse[k]);
        size_t at = label_at(id[k], first, v);
        if (id[k] < 0) {
            memset(dz, 0, v * sizeof *dz);
            continue;
        }
#pragma omp simd
        for (size_t i = 0; i < v; i++) dz[i] = c * real_exp(z[i] - l.high - l.low);
        if (at < v) dz[at] -= c;
    }
}

void logits_total(size_t n, size_t v, const real *logits, double *sum)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) {
        double total = 0;
        for (size_t i = 0; i < v; i++) total += (double)logits[k * v + i];
        sum[k] = total;
    }
}

void logits_peak_backward(size_t n, size_t v, size_t first, const int32_t *id, const double *coef, double vocabulary,
                          real *dlogits)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) {
        const real each = (real)(-coef[k] / vocabulary);
        const size_t at = label_at(id[k], first, v);
        for (size_t i = 0; i < v; i++) dlogits[k * v + i] = each;
        if (at < v) dlogits[k * v + at] += (real)coef[k];
    }
}

struct row { /* one output: its logits z, the target's logits y */
    const real *z, *y;
    double lse, lse_other, coef;
    bool divergence;
    real *dz;
};

/* Loss and derivative of columns a ... end-1. The divergence is q (log q - log p) = q ((y - z) + (lse of z - lse of
 * y)), 0 where q is 0; this form is accurate because y - z is exact where the two are close. */
static double row_toward(const struct row *r, size_t a, size_t end)
{
    const struct split lz = split(r->lse), ly = split(r->lse_other);
    const real *z = r->z, *y = r->y, scale = (real)r->coef, entropy = r->divergence;
    const double shift = r->divergence ? r->lse - r->lse_other : r->lse;
    real *dz = r->dz;
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (size_t i = a; i < end; i++) {
        real p = real_exp(z[i] - lz.high - lz.low), q = real_exp(y[i] - ly.high - ly.low);
        double ratio = (double)(entropy * y[i] - z[i]) + shift;
        total += q > 0 ? q * ratio : 0;
        dz[i] = scale * (p - q);
    }
    return total;
}

/* The same for the label's column, in double because its logit may be far above the others. */
static double label_toward(const struct row *r, size_t at, double lowered)
{
    double log_p = r->z[at] - r->lse, log_q = r->y[at] - lowered - r->lse_other, q = exp(log_q);
    r->dz[at] = (real)(r->coef * (exp(log_p) - q));
    return q > 0 ? q * ((r->divergence ? log_q : 0) - log_p) : 0;
}

void logits_toward(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                   const struct logits_target *t, const double *coef, double *loss, real *dlogits)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) {
        const struct row r = {logits + k * v, t->other + k * v, lse[k],         t->lse[k],
                              coef[k],        t->divergence,    dlogits + k * v};
        size_t at = t->lowered != 0 ? label_at(id[k], first, v) : v;
        loss[k] = row_toward(&r, 0, at);
        if (at < v) loss[k] += label_toward(&r, at, t->lowered) + row_toward(&r, at + 1, v);
    }
}

/* Sum of p (log p - about)^power, power 1 or 2; a term is 0 where p is 0. */
static double row_moment(size_t v, const real *z, double lse, double about, int power)
{
    const struct split l = split(lse);
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (size_t i = 0; i < v; i++) {
        real log_p = z[i] - l.high - l.low, p = real_exp(log_p);
        double x = (double)log_p - about;
        total += p > 0 ? (double)p * (power == 1 ? x : x * x) : 0;
    }
    return total;
}

void logits_moment(size_t n, size_t v, const real *logits, const double *lse, const double *about, int power, double *sum)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) sum[k] = row_moment(v, logits + k * v, lse[k], about ? about[k] : 0, power);
}

static double row_mean(size_t v, const real *z, double lse, const real *t)
{
    const struct split m = split(lse);
    real e[PIECE];
    double total = 0;
    for (size_t first = 0; first < v; first += PIECE) {
        const size_t here = smaller(PIECE, v - first);
#pragma omp simd
        for (size_t c = 0; c < here; c++) e[c] = real_exp(z[first + c] - m.high - m.low);
        total += row_dot(here, e, t + first);
    }
    return total;
}

void logits_mean(size_t K, size_t n, size_t v, const real *logits, const double *lse, const real *t, double *mean)
{
#pragma omp parallel for schedule(static) if (K * n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < K * n; k++) mean[k] = row_mean(v, logits + k % n * v, lse[k % n], t + k * v);
}

/* ------------------------------------------------------------------------------------------------ tangents ------- */
void logits_backward_tangent(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                             const double *coef, const struct logits_tangents *t, real *tdlogits)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) {
        const real *z = logits + k * v, *tz = t->logits + k * v;
        const real c = (real)coef[k], tc = t->coef ? (real)t->coef[k] : 0, mean = (real)t->lse[k];
        const struct split l = split(lse[k]);
        const size_t at = label_at(id[k], first, v);
        real *dz = tdlogits + k * v;
        if (id[k] < 0) {
            memset(dz, 0, v * sizeof *dz);
            continue;
        }
#pragma omp simd
        for (size_t i = 0; i < v; i++) dz[i] = real_exp(z[i] - l.high - l.low) * (c * (tz[i] - mean) + tc);
        if (at < v) dz[at] -= tc;
    }
}

/* Sum of q tz of columns a ... end-1; q = exp(z - lse). */
static double part_mean(size_t a, size_t end, const real *z, double lse, const real *tz)
{
    return a < end ? row_mean(end - a, z + a, lse, tz + a) : 0;
}

void logits_mean_without(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                         const real *tlogits, double *mean)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) {
        const real *z = logits + k * v, *tz = tlogits + k * v;
        const size_t at = label_at(id[k], first, v);
        mean[k] = part_mean(0, at, z, lse[k], tz) + part_mean(at + 1, v, z, lse[k], tz);
    }
}

void logits_tangent_without(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                            const double *coef, const real *tlogits, const double *mean, real *tdlogits)
{
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++) {
        const real *z = logits + k * v, *tz = tlogits + k * v, c = (real)coef[k], m = (real)mean[k];
        const struct split l = split(lse[k]);
        const size_t at = label_at(id[k], first, v);
        real *dz = tdlogits + k * v, label = at < v ? dz[at] : 0;
#pragma omp simd
        for (size_t i = 0; i < v; i++) dz[i] -= c * real_exp(z[i] - l.high - l.low) * (tz[i] - m);
        if (at < v) dz[at] = label;
    }
}

void logits_cap_backward_tangent(size_t n, size_t v, double cap, const real *z, const real *tz, const real *dz, real *tdz)
{
    const real c = (real)cap;
#pragma omp parallel for schedule(static) if (n * v > WORTH_A_TEAM)
    for (size_t k = 0; k < n; k++)
#pragma omp simd
        for (size_t i = k * v; i < (k + 1) * v; i++) tdz[i] -= dz[i] * 2 * (z[i] / c) * (tz[i] / c);
}
