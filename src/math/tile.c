/* Products of the small matrices of attention, where a call of BLAS costs as much as its arithmetic and half of the square
 * is not wanted. A tile of the result is held in registers, and each step of the inner dimension adds an outer product. */
#include "unlearn/math_priv.h"

#ifdef __AVX512F__ /* 32 registers: 24 sums, 4 vectors of B */
#define BYTES   64
#define VECTORS 4
#else /* 16 registers: 12 sums, 2 vectors of B */
#define BYTES   32
#define VECTORS 2
#endif
enum { ROWS = TILE_ROWS, LANES = BYTES / sizeof(real) };
typedef real lanes __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));

struct product {
    size_t inner, a_row, a_col, ldb, ldc;
    const real *a, *b;
    real *c;
    bool add;
};

/* The last vector of a row has only `last` columns of C; B is padded. */
static inline lanes read_part(size_t last, const real *x)
{
    lanes y = {0};
    memcpy(&y, x, last * sizeof *x);
    return y;
}

/* rows and vectors are constants wherever this is inlined, so that `sum` is registers. */
static inline __attribute__((always_inline)) void tile(size_t rows, size_t vectors, size_t last, const struct product *p,
                                                       const real *restrict a, const real *restrict b, real *c)
{
    const size_t inner = p->inner, a_row = p->a_row, a_col = p->a_col, ldb = p->ldb, end = vectors - 1;
    lanes sum[ROWS][VECTORS] = {{{0}}};
    for (size_t r = 0; p->add && r < rows; r++) {
        for (size_t v = 0; v < end; v++) sum[r][v] = *(const lanes *)(c + r * p->ldc + v * LANES);
        sum[r][end] = read_part(last, c + r * p->ldc + end * LANES);
    }
    for (size_t l = 0; l < inner; l++)
        for (size_t r = 0; r < rows; r++)
            for (size_t v = 0; v < vectors; v++)
                sum[r][v] += a[r * a_row + l * a_col] * *(const lanes *)(b + l * ldb + v * LANES);
    for (size_t r = 0; r < rows; r++) {
        for (size_t v = 0; v < end; v++) *(lanes *)(c + r * p->ldc + v * LANES) = sum[r][v];
        memcpy(c + r * p->ldc + end * LANES, &sum[r][end], last * sizeof *c);
    }
}

/* All rows of one strip of columns */
static inline __attribute__((always_inline)) void strip(size_t m, size_t vectors, size_t last, const struct product *p,
                                                        size_t column)
{
    const real *b = p->b + column;
    real *c = p->c + column;
    size_t r = 0;
    for (; r + ROWS <= m; r += ROWS) tile(ROWS, vectors, last, p, p->a + r * p->a_row, b, c + r * p->ldc);
    for (; r + 2 <= m; r += 2) tile(2, vectors, last, p, p->a + r * p->a_row, b, c + r * p->ldc);
    for (; r < m; r++) tile(1, vectors, last, p, p->a + r * p->a_row, b, c + r * p->ldc);
}

void small_product(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_col, const real *b, size_t ldb,
                   bool add, real *c, size_t ldc)
{
    const struct product p = {k, a_row, a_col, ldb, ldc, a, b, c, add};
    for (size_t column = 0; column < n; column += VECTORS * LANES) {
        size_t width = smaller(VECTORS * LANES, n - column), vectors = (width + LANES - 1) / LANES;
        size_t last = width - (vectors - 1) * LANES;
        switch (vectors) {
        case 1:
            strip(m, 1, last, &p, column);
            break;
#if VECTORS == 4
        case 2:
            strip(m, 2, last, &p, column);
            break;
        case 3:
            strip(m, 3, last, &p, column);
            break;
#endif
        default:
            strip(m, VECTORS, last, &p, column);
        }
    }
}
