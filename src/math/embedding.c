/* Lookup of rows and its backward: the embedding of a slice of the vocabulary, and rows picked from a batch. */
#include "unlearn/math_priv.h"

/* Whether the token is in this slice. */
static inline bool is_here(int32_t id, size_t first, size_t rows)
{
    return id >= 0 && (size_t)id >= first && (size_t)id - first < rows;
}

static void row_look_up(size_t d, int32_t id, size_t first, size_t rows, struct matrix table, real *x)
{
    if (!is_here(id, first, rows)) {
        memset(x, 0, d * sizeof *x);
        return;
    }
    table = matrix_at(table, ((size_t)id - first) * d);
    if (table.full)
        memcpy(x, table.full, d * sizeof *x);
    else
        for (size_t k = 0; k < d; k++) x[k] = from_half(table.half[k]);
}

/* Adds row r; to what is held in bfloat16 the first row of a token adds all that it has, rounded once. */
static void row_add(size_t n, size_t d, const int32_t *id, size_t r, size_t columns, const real *dx, struct matrix y)
{
    real sum[256] = {0};
    if (y.full) math_add(columns, dx + r * d, y.full);
    for (size_t k = 0; k < (y.full ? 0 : r); k++)
        if (id[k] == id[r]) return;
    for (size_t k = r; k < (y.full ? 0 : n); k++)
        if (id[k] == id[r]) math_add(columns, dx + k * d, sum);
    for (size_t k = 0; k < (y.full ? 0 : columns); k++) y.half[k] = half_add(y.half[k], sum[k], half_turn);
}

void embedding_forward(size_t n, size_t d, const int32_t *id, size_t first, size_t rows, struct matrix table, real *x)
{
    if (!team_pays(n * d)) {
        for (size_t r = 0; r < n; r++) row_look_up(d, id[r], first, rows, table, x + r * d);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < n; r++) row_look_up(d, id[r], first, rows, table, x + r * d);
}

/* Threads share the columns: each adds the rows in order, so that a repeated token has one order of sums. */
void embedding_backward(size_t n, size_t d, const int32_t *id, size_t first, size_t rows, const real *dx,
                        struct matrix dtable)
{
    const size_t columns = 256;
#pragma omp parallel for schedule(static) if (n * d > WORTH_A_TEAM)
    for (size_t c = 0; c < d; c += columns)
        for (size_t r = 0; r < n; r++)
            if (is_here(id[r], first, rows))
                row_add(n, d, id, r, smaller(columns, d - c), dx + c, matrix_at(dtable, ((size_t)id[r] - first) * d + c));
}

void rows_gather(size_t n_row, const size_t *row, size_t d, const real *x, real *y)
{
    if (!team_pays(n_row * d)) {
        for (size_t k = 0; k < n_row; k++) memcpy(y + k * d, x + row[k] * d, d * sizeof *y);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < n_row; k++) memcpy(y + k * d, x + row[k] * d, d * sizeof *y);
}

/* n columns from the last row to the first: none is overwritten before it has moved. */
static void columns_spread(size_t n, size_t J, size_t n_row, const size_t *row, size_t d, size_t n_x, real *x)
{
    for (size_t j = J; j-- > 0;)
        for (size_t r = n_x, k = n_row; r-- > 0;) {
            real *to = x + (j * n_x + r) * d;
            if (k > 0 && row[k - 1] == r)
                memmove(to, x + (j * n_row + --k) * d, n * sizeof *to);
            else
                memset(to, 0, n * sizeof *to);
        }
}

void rows_spread(size_t J, size_t n_row, const size_t *row, size_t d, size_t n_x, real *x)
{
    enum { COLUMNS = 128 };
#pragma omp parallel for schedule(static) if (J * n_x * d > WORTH_A_TEAM)
    for (size_t c = 0; c < d; c += COLUMNS) columns_spread(smaller(COLUMNS, d - c), J, n_row, row, d, n_x, x + c);
}

void rows_clear(size_t J, size_t n, size_t d, const int32_t *id, int32_t which, real *dx)
{
    for (size_t j = 0; j < J; j++)
        for (size_t r = 0; r < n; r++)
            if (id[r] == which) memset(dx + (j * n + r) * d, 0, d * sizeof *dx);
}

void rows_add(size_t n_row, const size_t *row, size_t d, const real *y, real *x)
{
#pragma omp parallel for schedule(static) if (n_row * d > WORTH_A_TEAM)
    for (size_t k = 0; k < n_row; k++)
        for (size_t c = 0; c < d; c++) x[row[k] * d + c] += y[k * d + c];
}
