/* Root-mean-square and layer norm, row by row; means in double.
 *      rms    xhat = x r,  r = 1/sqrt(mean x^2 + eps)           layer  xhat = (x - mean) r,  r = 1/sqrt(var + eps)
 *      y = xhat w + b,   g = dy w                                  offset: 1 + w for w
 *      rms    dx = r (g - xhat mean(g xhat))                    layer  dx = r (g - mean(g) - xhat mean(g xhat))       */
#include "unlearn/math_priv.h"

static double row_variance(size_t d, const real *x, real mean)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < d; c++) sum += ((double)x[c] - mean) * ((double)x[c] - mean);
    return sum / (double)d;
}

static void row_hat(size_t d, const real *restrict x, real mean, real r, real *restrict y)
{
    for (size_t c = 0; c < d; c++) y[c] = (x[c] - mean) * r;
}

static real offset_of(enum norm_kind kind) { return kind == NORM_RMS_OFFSET; }

static void row_affine(size_t d, real offset, const real *restrict w, const real *restrict b, real *restrict y)
{
    if (w && b)
        for (size_t c = 0; c < d; c++) y[c] = y[c] * (offset + w[c]) + b[c];
    else if (w)
        for (size_t c = 0; c < d; c++) y[c] *= offset + w[c];
    else if (b)
        for (size_t c = 0; c < d; c++) y[c] += b[c];
}

static void rows_norm(enum norm_kind kind, size_t from, size_t to, size_t d, const real *x, const real *w, const real *b,
                      double eps, real *y, real *mean, real *r)
{
    for (size_t i = from; i < to; i++) {
        const real *row = x + i * d;
        real centre = kind == NORM_LAYER ? (real)(row_sum(d, row) / (double)d) : 0;
        double square = kind == NORM_LAYER ? row_variance(d, row, centre) : row_dot(d, row, row) / (double)d;
        r[i] = (real)(1 / sqrt(square + eps));
        if (kind == NORM_LAYER) mean[i] = centre;
        row_hat(d, row, centre, r[i], y + i * d);
        row_affine(d, offset_of(kind), w, b, y + i * d);
    }
}

void norm_forward(enum norm_kind kind, size_t n, size_t d, const real *x, const real *w, const real *b, double eps,
                  real *y, real *mean, real *r)
{
    if (!team_pays(n * d)) {
        rows_norm(kind, 0, n, d, x, w, b, eps, y, mean, r);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) rows_norm(kind, i, i + 1, d, x, w, b, eps, y, mean, r);
}

void norm_hat(enum norm_kind kind, size_t n, size_t d, const real *x, const real *mean, const real *r, real *xhat)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) row_hat(d, x + i * d, kind == NORM_LAYER ? mean[i] : 0, r[i], xhat + i * d);
}

static void row_backward(enum norm_kind kind, size_t d, const real *restrict xhat, real r, const real *restrict w,
                         const real *restrict dy, real *restrict dx)
{
    double sum = 0, along = 0; /* sums of g and of g xhat */
    const real offset = offset_of(kind);
    real a, b;
#pragma omp simd reduction(+ : sum, along)
    for (size_t c = 0; c < d; c++) {
        double g = w ? (double)dy[c] * (offset + w[c]) : dy[c];
        sum += g;
        along += g * xhat[c];
    }
    a = kind == NORM_LAYER ? (real)(sum / (double)d) : 0;
    b = (real)(along / (double)d);
#pragma omp simd
    for (size_t c = 0; c < d; c++) dx[c] += r * ((w ? dy[c] * (offset + w[c]) : dy[c]) - a - xhat[c] * b);
}

void norm_backward(enum norm_kind kind, size_t J, size_t n, size_t d, const real *xhat, const real *r, const real *w,
                   const real *dy, real *dx)
{
#pragma omp parallel for collapse(2) schedule(static) if (J * n * d > WORTH_A_TEAM)
    for (size_t j = 0; j < J; j++)
        for (size_t i = 0; i < n; i++)
            row_backward(kind, d, xhat + i * d, r[i], w, dy + (j * n + i) * d, dx + (j * n + i) * d);
}

/* ------------------------------------------------------------------------------------------------ tangents ------- */
/* Along tx:  txhat = r (tx - xhat mean(tx xhat)), layer: - mean(tx) too;   tr = -r^2 mean(tx xhat)
 * In dx = r (g - a - xhat b) with b = mean(g xhat), g depends on w alone and a = mean(g):
 *      tdx = tr (g - a - xhat b) + r (tg - ta - txhat b - xhat tb),   tg = dy tw,   tb = mean(tg xhat + g txhat)        */
void norm_tangent(enum norm_kind kind, size_t n, size_t d, const real *xhat, const real *r, const real *tx, real *txhat,
                  real *tr)
{
    math_fill(n * d, 0, txhat);
    norm_backward(kind, 1, n, d, xhat, r, NULL, tx, txhat);
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++)
        tr[i] = (real)(-(double)r[i] * r[i] * row_dot(d, tx + i * d, xhat + i * d) / (double)d);
}

void norm_affine_tangent(enum norm_kind kind, size_t n, size_t d, const struct norm_tangents *t, const real *tb, real *ty)
{
    const real offset = offset_of(kind);
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < d; c++) {
            const size_t at = i * d + c;
            ty[at] = t->txhat[at] * (offset + t->w[c]) + t->xhat[at] * t->tw[c] + (tb ? tb[c] : 0);
        }
}

struct norm_row { /* a row and its tangents; w and tw may be NULL */
    const real *xhat, *txhat, *w, *tw, *dy;
    real r, tr, offset;
};

static inline double row_g(const struct norm_row *o, size_t c)
{
    return o->w ? (double)o->dy[c] * (o->offset + o->w[c]) : o->dy[c];
}
static inline double row_tg(const struct norm_row *o, size_t c) { return o->tw ? (double)o->dy[c] * o->tw[c] : 0; }

static void row_backward_tangent(enum norm_kind kind, size_t d, const struct norm_row *o, real *restrict tdx)
{
    double a = 0, b = 0, ta = 0, tb = 0;
    for (size_t c = 0; c < d; c++) {
        const double g = row_g(o, c), tg = row_tg(o, c);
        a += g, ta += tg;
        b += g * o->xhat[c];
        tb += tg * o->xhat[c] + g * o->txhat[c];
    }
    a = kind == NORM_LAYER ? a / (double)d : 0, ta = kind == NORM_LAYER ? ta / (double)d : 0;
    b /= (double)d, tb /= (double)d;
    for (size_t c = 0; c < d; c++)
        tdx[c] += (real)(o->tr * (row_g(o, c) - a - o->xhat[c] * b) +
                         o->r * (row_tg(o, c) - ta - o->txhat[c] * b - o->xhat[c] * tb));
}

void norm_backward_tangent(enum norm_kind kind, size_t n, size_t d, const struct norm_tangents *t, const real *dy,
                           real *tdx)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) {
        const struct norm_row row = {t->xhat + i * d, t->txhat + i * d, t->w,     t->tw,
                                     dy + i * d,      t->r[i],          t->tr[i], offset_of(kind)};
        row_backward_tangent(kind, d, &row, tdx + i * d);
    }
}

/* sum += xhat dy of four rows, one after another: sums are read and written once for all of them */
static void add_rows(size_t d, size_t ld, const real *restrict x, const real *restrict y, double *restrict sum)
{
#pragma omp simd
    for (size_t c = 0; c < d; c++) {
        double s = sum[c];
        for (size_t i = 0; i < 4; i++) s += (double)x[i * ld + c] * y[i * ld + c];
        sum[c] = s;
    }
}

enum { COLUMNS = 256 };
static void add_column_dots(size_t n, size_t d, size_t ld, const real *xhat, const real *dy, real *dw)
{
    double sum[COLUMNS] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4) add_rows(d, ld, xhat + i * ld, dy + i * ld, sum);
    for (; i < n; i++)
        for (size_t c = 0; c < d; c++) sum[c] += (double)xhat[i * ld + c] * dy[i * ld + c];
    for (size_t c = 0; c < d; c++) dw[c] += (real)sum[c];
}

void norm_backward_weight(size_t n, size_t d, const real *xhat, const real *dy, real *dw)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t c = 0; c < d; c += COLUMNS) add_column_dots(n, smaller(COLUMNS, d - c), d, xhat + c, dy + c, dw + c);
}

/* ------------------------------------------------------------------------------ rows split over processes ------- */
void norm_part_squares(size_t n, size_t d, size_t first, size_t count, const real *x, double *sum)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) sum[i] = row_dot(count, x + i * d + first, x + i * d + first);
}

void norm_part_forward(size_t n, size_t d, size_t whole, const double *sum, double eps, real *x, real *r)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) {
        r[i] = (real)(1 / sqrt(sum[i] / (double)whole + eps));
        for (size_t c = 0; c < d; c++) x[i * d + c] *= r[i];
    }
}

void norm_part_along(size_t J, size_t n, size_t d, const real *xhat, const real *dy, double *along)
{
#pragma omp parallel for collapse(2) schedule(static) if (J * n * d > WORTH_A_TEAM)
    for (size_t j = 0; j < J; j++)
        for (size_t i = 0; i < n; i++) along[j * n + i] = row_dot(d, xhat + i * d, dy + (j * n + i) * d);
}

void norm_part_backward(size_t J, size_t n, size_t d, size_t whole, size_t first, size_t count, const real *xhat,
                        const real *r, const double *along, real *dy)
{
#pragma omp parallel for collapse(2) schedule(static) if (J * n * d > WORTH_A_TEAM)
    for (size_t j = 0; j < J; j++)
        for (size_t i = 0; i < n; i++) {
            const real *hat = xhat + i * d, mean = (real)(along[j * n + i] / (double)whole);
            real *row = dy + (j * n + i) * d;
            for (size_t c = first; c < first + count; c++) row[c] -= hat[c] * mean;
            for (size_t c = 0; c < d; c++) row[c] *= r[i];
        }
}

void norm_part_inner(size_t n, size_t d, size_t first, size_t count, const real *x, const real *y, double *sum)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) sum[i] = row_dot(count, x + i * d + first, y + i * d + first);
}

void norm_part_tangent(size_t n, size_t d, size_t whole, const double *inner, const real *xhat, const real *r, real *tx,
                       real *tr)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) {
        const double mean = inner[i] / (double)whole;
        for (size_t c = i * d; c < (i + 1) * d; c++) tx[c] = (real)(r[i] * (tx[c] - xhat[c] * mean));
        tr[i] = (real)(-(double)r[i] * r[i] * mean);
    }
}

void norm_part_backward_tangent(size_t n, size_t d, size_t whole, size_t first, size_t count,
                                const struct norm_tangents *t, const double *along, const double *talong, const real *dx,
                                real *tdx)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) {
        const double mean = along[i] / (double)whole, tmean = talong[i] / (double)whole,
                     ratio = (double)t->tr[i] / t->r[i];
        for (size_t c = i * d; c < (i + 1) * d; c++) tdx[c] += (real)(ratio * dx[c]);
        for (size_t c = i * d + first; c < i * d + first + count; c++)
            tdx[c] -= (real)(t->r[i] * (t->txhat[c] * mean + t->xhat[c] * tmean));
    }
}
