/* Vectors and sums. Sums of products of reals are in double, in an order that does not depend on the number of
 * threads. */
#include "unlearn/math_priv.h"

static void row_add(size_t d, const real *restrict x, real *restrict y)
{
    for (size_t c = 0; c < d; c++) y[c] += x[c];
}

void math_add(size_t n, const real *x, real *y)
{
    if (!team_pays(n)) {
        row_add(n, x, y);
        return;
    }
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

void math_add_scaled(size_t n, real a, const real *x, real *y)
{
#pragma omp parallel for simd schedule(static) if (n > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

void math_fill(size_t n, real value, real *x)
{
#pragma omp parallel for simd schedule(static) if (n > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) x[i] = value;
}

void math_scale(size_t n, real a, real *x)
{
#pragma omp parallel for simd schedule(static) if (n > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) x[i] *= a;
}

void columns_take(size_t n, size_t d, const real *x, size_t ld, real *y)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t r = 0; r < n; r++) memcpy(y + r * d, x + r * ld, d * sizeof *y);
}

void columns_put(size_t n, size_t d, const real *x, real *y, size_t ld)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t r = 0; r < n; r++) memcpy(y + r * ld, x + r * d, d * sizeof *y);
}

void math_copy(size_t n, const real *x, real *y)
{
    if (!team_pays(n)) {
        for (size_t i = 0; i < n; i++) y[i] = x[i];
        return;
    }
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) y[i] = x[i];
}

void bias_add(size_t n, size_t d, const real *b, real *y, size_t ldy)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t r = 0; r < n; r++) row_add(d, b, y + r * ldy);
}

/* sum += four rows, one after another: sums are read and written once for all of them */
static void add_rows(size_t d, const real *restrict x, size_t ld, double *restrict sum)
{
#pragma omp simd
    for (size_t c = 0; c < d; c++) {
        double s = sum[c];
        for (size_t i = 0; i < 4; i++) s += x[i * ld + c];
        sum[c] = s;
    }
}

/* db [d] += sum of each column over the rows, d <= COLUMNS */
enum { COLUMNS = 256 };
static void add_column_sums(size_t n, size_t d, const real *dy, size_t ldy, real *db)
{
    double sum[COLUMNS] = {0};
    size_t r = 0;
    for (; r + 4 <= n; r += 4) add_rows(d, dy + r * ldy, ldy, sum);
    for (; r < n; r++)
        for (size_t c = 0; c < d; c++) sum[c] += dy[r * ldy + c];
    for (size_t c = 0; c < d; c++) db[c] += (real)sum[c];
}

void bias_backward(size_t n, size_t d, const real *dy, size_t ldy, real *db)
{
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t c = 0; c < d; c += COLUMNS) add_column_sums(n, smaller(COLUMNS, d - c), dy + c, ldy, db + c);
}

/* A long dot is cut into pieces of fixed length, whose sums are then added in order. */
double math_dot(size_t n, const real *x, const real *y)
{
    enum { PIECE = 1 << 14, PIECES = 256 };
    double total = 0, part[PIECES];
    for (size_t i = 0; i < n; i += (size_t)PIECE * PIECES) {
        size_t here = smaller((size_t)PIECE * PIECES, n - i), pieces = (here + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(static) if (here > WORTH_A_TEAM)
        for (size_t p = 0; p < pieces; p++) {
            size_t at = i + p * PIECE;
            part[p] = row_dot(smaller(PIECE, n - at), x + at, y + at);
        }
        for (size_t p = 0; p < pieces; p++) total += part[p];
    }
    return total;
}

double math_sum_squares(size_t n, const real *x) { return math_dot(n, x, x); }

bool math_finite(size_t n, const real *x)
{
    size_t bad = 0;
    /* x - x is 0 for a finite x and NaN otherwise */
#pragma omp parallel for simd schedule(static) reduction(+ : bad) if (n > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) bad += x[i] - x[i] != 0;
    return bad == 0;
}

/* One thread sums a whole sequence, so its sum does not depend on which thread; free threads take the next sequence. */
void dots_by_sequence(size_t n_seq, const size_t *first, size_t d, const real *x, size_t ldx, const real *y, size_t ldy,
                      double *e)
{
#pragma omp parallel for schedule(dynamic) if (n_seq > 1 && (first[n_seq] - first[0]) * d > WORTH_A_TEAM)
    for (size_t i = 0; i < n_seq; i++) {
        double sum = 0;
        for (size_t r = first[i]; r < first[i + 1]; r++) sum += row_dot(d, x + r * ldx, y + r * ldy);
        e[i] += sum;
    }
}

void dots_with_vector(size_t n_seq, const size_t *first, size_t d, const real *x, size_t ldx, const real *y, double *e)
{
    dots_by_sequence(n_seq, first, d, x, ldx, y, 0, e);
}

void rows_scale(size_t n, size_t d, const real *x, const real *w, real *y)
{
#pragma omp parallel for if (n * d > WORTH_A_TEAM) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < d; c++) y[i * d + c] = x[i * d + c] * w[c];
}

static double row_apart(size_t d, const real *x, double scale, const real *y, double coef, real *dx)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < d; c++) {
        double apart = x[c] - scale * y[c];
        sum += apart * apart;
        dx[c] = (real)(coef * apart);
    }
    return sum;
}

void rows_toward(size_t n, size_t d, const real *x, double scale, const real *y, size_t ldy, const double *coef,
                 double *loss, real *dx)
{
#pragma omp parallel for if (n * d > WORTH_A_TEAM) schedule(static)
    for (size_t k = 0; k < n; k++)
        loss[k] = row_apart(d, x + k * d, scale, y + k * ldy, 2 * coef[k] / (double)d, dx + k * d) / (double)d;
}

/* ---- updates */

/* Steps of the optimisers, element by element; factors common to all elements are computed once, in double.
 *      AdamW   m = b1 m + (1-b1) g     v = b2 v + (1-b2) g^2
 *              w = (1 - lr decay) w - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps) */
void adamw_update(const struct adamw *a, size_t n, const real *gradient, double scale, real *m, real *v, real *weight)
{
    const real b1 = (real)a->beta1, b2 = (real)a->beta2, new1 = (real)(1 - a->beta1), new2 = (real)(1 - a->beta2);
    const real s = (real)scale, eps = (real)a->eps, keep = (real)(1 - a->lr * a->decay);
    const real rate = (real)(a->lr / (1 - pow(a->beta1, (double)a->step)));
    const real second = (real)(1 / (1 - pow(a->beta2, (double)a->step)));
#pragma omp parallel for simd schedule(static) if (n > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) {
        real g = s * gradient[i], first = b1 * m[i] + new1 * g, square = b2 * v[i] + new2 * g * g;
        m[i] = first;
        v[i] = square;
        weight[i] = keep * weight[i] - rate * first / (real_sqrt(square * second) + eps);
    }
}

void sgd_update(double lr, double decay, size_t n, const real *gradient, double scale, real *weight)
{
    const real keep = (real)(1 - lr * decay), rate = (real)(lr * scale);
#pragma omp parallel for simd schedule(static) if (n > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) weight[i] = keep * weight[i] - rate * gradient[i];
}
