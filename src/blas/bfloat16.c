/* Products of operands that are rounded to bfloat16 (8 bits of precision, the range of float), summed in float. Blocks of A
 * and B are rounded into room of the calling thread, so large that rounding costs a few percent of multiplying, and small
 * enough that a head of 128,256 words needs no copy of itself. */
#include "unlearn/blas_priv.h"
#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 1024, COLUMNS = 1024, DEPTH = 2048 };

static struct {
    uint16_t *block; /* [threads][ROWS * DEPTH + COLUMNS * DEPTH] */
    int threads;
} room;

enum status bfloat16_room(void)
{
    const int most = omp_get_num_procs(), threads = omp_get_max_threads() > most ? omp_get_max_threads() : most;
    uint16_t *block;
    if (threads <= room.threads) return OK;
    if (!(block = memory_new((size_t)threads * (ROWS + COLUMNS) * DEPTH, sizeof *block)))
        return fail(ERR_MEMORY, "memory: cannot allocate %d MB of each of %d threads for products in bfloat16",
                    (ROWS + COLUMNS) * DEPTH * 2 >> 20, threads);
    free(room.block);
    room.block = block, room.threads = threads;
    return OK;
}

/* To nearest even. A NaN stays one: it comes from a multiplication, which has made it quiet. */
static inline uint16_t rounded(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u & 0x7FFFFFFF) > 0x7F800000 ? u >> 16 : (u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

static inline float widened(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* to [rows][columns], without gaps */
static void round_block(size_t rows, size_t columns, real scale, const real *from, size_t ld, uint16_t *to)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++) to[r * columns + i] = rounded((float)(scale * from[r * ld + i]));
}

/* For the case that oneDNN finds no memory. */
static void plain(bool ta, bool tb, size_t m, size_t n, size_t k, const uint16_t *a, const uint16_t *b, bool add, real *c,
                  size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            real sum = add ? c[i * ldc + j] : 0;
            for (size_t l = 0; l < k; l++)
                sum += (real)widened(a[ta ? l * m + i : i * k + l]) * (real)widened(b[tb ? j * k + l : l * n + j]);
            c[i * ldc + j] = sum;
        }
}

/* One block of A, with all columns of B. */
static void block_of_rows(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                          const real *b, size_t ldb, bool add, real *c, size_t ldc)
{
    const size_t thread = (size_t)omp_get_thread_num();
    uint16_t *a16 = room.block + thread * (ROWS + COLUMNS) * DEPTH, *b16 = a16 + (size_t)ROWS * DEPTH;
    assert(thread < (size_t)room.threads);
    round_block(ta ? k : m, ta ? m : k, alpha, a, lda, a16);
    for (size_t j = 0; j < n; j += COLUMNS) {
        const size_t columns = smaller(COLUMNS, n - j);
        round_block(tb ? columns : k, tb ? k : columns, 1, b + (tb ? j * ldb : j), ldb, b16);
        if (!onednn_bfloat16(ta, tb, m, columns, k, a16, b16, add, c + j, ldc))
            plain(ta, tb, m, columns, k, a16, b16, add, c + j, ldc);
    }
}

void bfloat16_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda, const real *b,
                   size_t ldb, real beta, real *c, size_t ldc)
{
    assert(beta == 0 || beta == 1);
    for (size_t i = 0; i < m; i += ROWS)
        for (size_t l = 0; l < k; l += DEPTH)
            block_of_rows(ta, tb, smaller(ROWS, m - i), n, smaller(DEPTH, k - l), alpha,
                          a + (ta ? l * lda + i : i * lda + l), lda, b + (tb ? l : l * ldb), ldb, l > 0 || beta != 0,
                          c + i * ldc, ldc);
}
