/* Products of operands that are rounded to bfloat16 (8 bits of precision, the range of float), summed in float. Blocks of A
 * and B are rounded into room of the calling thread, so large that rounding costs a few percent of multiplying, and small
 * enough that a head of 128,256 words needs no copy of itself. */
#include "unlearn/blas_priv.h"
#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 1024, COLUMNS = 1024, DEPTH = 2048 };

uint32_t half_turn;

struct room { /* of a thread */
    uint16_t a[ROWS * DEPTH], b[COLUMNS * DEPTH];
    real sum[ROWS * COLUMNS];
};
static struct room *room;
static int room_threads;

enum status bfloat16_room(void)
{
    const int most = omp_get_num_procs(), threads = omp_get_max_threads() > most ? omp_get_max_threads() : most;
    struct room *more;
    if (threads <= room_threads) return OK;
    if (!(more = memory_new((size_t)threads, sizeof *more)))
        return fail(ERR_MEMORY, "memory: cannot allocate %zu MB of each of %d threads for products in bfloat16",
                    sizeof *more >> 20, threads);
    free(room);
    room = more, room_threads = threads;
    return OK;
}

/* to [rows][columns], without gaps */
static void round_block(size_t rows, size_t columns, real scale, const real *from, size_t ld, uint16_t *to)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++) to[r * columns + i] = to_half((float)(scale * from[r * ld + i]));
}

/* to [rows] of ld, in place of it or added to it */
static void put_block(size_t rows, size_t columns, const real *from, bool add, uint16_t *to, size_t ld)
{
    const uint32_t turn = half_turn;
    for (size_t r = 0; r < rows; r++) {
        uint16_t *x = to + r * ld;
        const real *y = from + r * columns;
#pragma omp simd
        for (size_t i = 0; i < columns; i++) x[i] = add ? half_add(x[i], y[i], turn) : to_half((float)y[i]);
    }
}

/* For the case that oneDNN finds no memory. */
static void plain(bool ta, bool tb, size_t m, size_t n, size_t k, const uint16_t *a, const uint16_t *b, size_t ldb,
                  bool add, real *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            real sum = add ? c[i * ldc + j] : 0;
            for (size_t l = 0; l < k; l++)
                sum +=
                    (real)from_half(a[ta ? l * m + i : i * k + l]) * (real)from_half(b[tb ? j * ldb + l : l * ldb + j]);
            c[i * ldc + j] = sum;
        }
}

/* op(A) of room, [m][k], and up to COLUMNS columns of B */
static void one_block(bool ta, bool tb, size_t m, size_t n, size_t k, struct room *r, struct matrix b, size_t ldb,
                      bool add, struct matrix c, size_t ldc)
{
    const uint16_t *b16 = b.half ? b.half : r->b;
    const size_t ld16 = b.half ? ldb : tb ? k : n, ld = c.half ? n : ldc;
    const bool onto = add && !c.half;
    real *to = c.half ? r->sum : c.full;
    if (!b.half) round_block(tb ? n : k, tb ? k : n, 1, b.full, ldb, r->b);
    if (!onednn_bfloat16(ta, tb, m, n, k, r->a, b16, ld16, onto, to, ld))
        plain(ta, tb, m, n, k, r->a, b16, ld16, onto, to, ld);
    if (c.half) put_block(m, n, r->sum, add, c.half, ldc);
}

void bfloat16_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda, struct matrix b,
                   size_t ldb, real beta, struct matrix c, size_t ldc)
{
    struct room *r = room + omp_get_thread_num();
    assert((beta == 0 || beta == 1) && omp_get_thread_num() < room_threads);
    for (size_t i = 0; i < m; i += ROWS)
        for (size_t l = 0; l < k; l += DEPTH) {
            const size_t rows = smaller(ROWS, m - i), depth = smaller(DEPTH, k - l);
            round_block(ta ? depth : rows, ta ? rows : depth, alpha, a + (ta ? l * lda + i : i * lda + l), lda, r->a);
            for (size_t j = 0; j < n; j += COLUMNS)
                one_block(ta, tb, rows, smaller(COLUMNS, n - j), depth, r, matrix_at(b, tb ? j * ldb + l : l * ldb + j),
                          ldb, l > 0 || beta != 0, matrix_at(c, i * ldc + j), ldc);
        }
}
