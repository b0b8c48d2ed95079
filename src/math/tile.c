/* Products of the small matrices of attention, where a call of BLAS costs as much as the arithmetic, and half of the
 * square of scores is not needed. A tile of the result stays in registers; each step of the inner dimension adds an
 * outer product. */
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
    const real *a;
    bool add;
};

/* rows and vectors are constants wherever this is inlined, so that `sum` stays in registers. */
static inline __attribute__((always_inline)) void tile(size_t rows, size_t vectors, const struct product *p,
                                                       const real *restrict a, const real *restrict b, real *c,
                                                       size_t ldc)
{
    const size_t inner = p->inner, a_row = p->a_row, a_col = p->a_col, ldb = p->ldb;
    lanes sum[ROWS][VECTORS];
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < vectors; v++) sum[r][v] = p->add ? *(const lanes *)(c + r * ldc + v * LANES) : (lanes){0};
    for (size_t l = 0; l < inner; l++)
        for (size_t r = 0; r < rows; r++)
            for (size_t v = 0; v < vectors; v++)
                sum[r][v] += a[r * a_row + l * a_col] * *(const lanes *)(b + l * ldb + v * LANES);
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < vectors; v++) *(lanes *)(c + r * ldc + v * LANES) = sum[r][v];
}

/* All rows of one strip of columns */
static inline __attribute__((always_inline)) void strip(size_t m, size_t vectors, const struct product *p, const real *b,
                                                        real *c, size_t ldc)
{
    size_t r = 0;
    for (; r + ROWS <= m; r += ROWS) tile(ROWS, vectors, p, p->a + r * p->a_row, b, c + r * ldc, ldc);
    for (; r + 2 <= m; r += 2) tile(2, vectors, p, p->a + r * p->a_row, b, c + r * ldc, ldc);
    for (; r < m; r++) tile(1, vectors, p, p->a + r * p->a_row, b, c + r * ldc, ldc);
}

static void whole_vectors(size_t m, size_t vectors, const struct product *p, const real *b, real *c, size_t ldc)
{
    switch (vectors) {
    case 1:
        strip(m, 1, p, b, c, ldc);
        break;
#if VECTORS == 4
    case 2:
        strip(m, 2, p, b, c, ldc);
        break;
    case 3:
        strip(m, 3, p, b, c, ldc);
        break;
#endif
    default:
        strip(m, VECTORS, p, b, c, ldc);
    }
}

/* Columns that do not fill whole vectors: computed in padded rows and copied, ROWS rows at a time. */
static void part_of_vectors(size_t m, size_t width, const struct product *whole, const real *b, real *c)
{
    enum { WIDE = VECTORS * LANES };
    real rows[ROWS * WIDE] = {0};
    struct product p = *whole;
    for (size_t r = 0; r < m; r += ROWS, p.a += ROWS * p.a_row) {
        size_t n = smaller(ROWS, m - r);
        for (size_t i = 0; i < n && p.add; i++) memcpy(rows + i * WIDE, c + (r + i) * p.ldc, width * sizeof *c);
        whole_vectors(n, (width + LANES - 1) / LANES, &p, b, rows, WIDE);
        for (size_t i = 0; i < n; i++) memcpy(c + (r + i) * p.ldc, rows + i * WIDE, width * sizeof *c);
    }
}

void small_product(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_col, const real *b, size_t ldb,
                   bool add, real *c, size_t ldc)
{
    const struct product p = {k, a_row, a_col, ldb, ldc, a, add};
    const size_t wide = (size_t)VECTORS * LANES;
    for (size_t column = 0; column < n; column += wide) {
        size_t width = smaller(wide, n - column);
        if (width % LANES == 0)
            whole_vectors(m, width / LANES, &p, b + column, c + column, ldc);
        else
            part_of_vectors(m, width, &p, b + column, c + column);
    }
}
