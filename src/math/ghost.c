/* Squared norms of weight gradients that are never formed. For y = x W^T and deltas dy the gradient is dy^T x, so
 *      |dW|^2 = sum over rows t, u of (dy_t . dy_u) (x_t . x_u)
 * and likewise for a table whose rows were looked up. Products are of reals and summed in double. */
#include "unlearn/math_priv.h"

double ghost_linear(size_t n, size_t in, const real *x, size_t out, const real *dy, size_t ldy, real *gram, real *columns)
{
    columns_take(n, out, dy, ldy, columns);
    linear_forward(n, n, in, x, in, reals(x), gram, n);
    linear_forward(n, n, out, columns, out, reals(columns), gram + n * n, n);
    return math_dot(n * n, gram, gram + n * n);
}

/* Adds the rows of equal ids before it squares. */
double ghost_embedding(size_t n, size_t d, const int32_t *id, size_t first, size_t rows, const real *dx, real *sum)
{
    double total = 0;
    for (size_t t = 0; t < n; t++) {
        bool seen = id[t] < 0 || (size_t)id[t] < first || (size_t)id[t] - first >= rows;
        for (size_t u = 0; u < t && !seen; u++) seen = id[u] == id[t];
        if (seen) continue;
        math_copy(d, dx + t * d, sum);
        for (size_t u = t + 1; u < n; u++)
            if (id[u] == id[t]) math_add(d, dx + u * d, sum);
        total += math_sum_squares(d, sum);
    }
    return total;
}

double ghost_cross(size_t n, size_t d, const real *dx, size_t m, const real *x, const real *dy, size_t ldy, real *gram)
{
    double total = 0;
    linear_forward(m, n, d, x, d, reals(dx), gram, n);
    for (size_t u = 0; u < n; u++)
        for (size_t t = 0; t < m; t++) total += (double)gram[t * n + u] * (double)dy[t * ldy + u];
    return total;
}
