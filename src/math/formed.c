/* Inner products of every sequence's weight gradient with K matrices: for y = x W^T and deltas dy of sequence i
 *      e[k][i] += <dy_i^T x_i, G_k>
 * The gradient is formed, a tile of rows at a time, in cache, and multiplied with the same tile of every G before the next one
 * takes its place: 2 operations for each element and token, whatever K, where G_k x for all tokens would take 2 K.
 *
 * The rows are cut into blocks, each of whose sums a single thread makes, sequence by sequence; they are added in the
 * order of the blocks. So nothing depends on the number of threads. */
#include "unlearn/math_priv.h"
#include <omp.h>
#include <string.h>

enum { BLOCKS = 16, TILE = 1 << 16, LEAST_ROWS = 16 };

/* in is 0 where a process has no columns: of a matrix with fewer than there are tensor ranks. */
static size_t tile_rows(size_t in)
{
    const size_t rows = TILE / (in ? in : 1) / LEAST_ROWS * LEAST_ROWS;
    return rows > LEAST_ROWS ? rows : LEAST_ROWS;
}

size_t formed_tile(size_t in) { return tile_rows(in) * in; }
size_t formed_sums(size_t K, size_t n_seq) { return BLOCKS * K * n_seq; }

double formed_cost(size_t J, size_t K, double rows, double sequences)
{
    /* products of few rows are slower, and an element of a dot costs as much as some of a product */
    const double SLOWER = 1.1, DOT = 4;
    return (double)J * (SLOWER * rows + DOT * (double)K * sequences);
}

bool formed_pays(size_t J, size_t K, size_t n_seq, const size_t *first)
{
    const double rows = (double)(first[n_seq] - first[0]);
    size_t there = 0;
    for (size_t i = 0; i < n_seq; i++) there += first[i] < first[i + 1];
    return formed_cost(J, K, rows, (double)there) < (double)K * rows;
}

static double matrix_dot(size_t n, const real *x, struct matrix y)
{
    return y.full ? row_dot(n, x, y.full) : row_dot_half(n, x, y.half);
}

/* Rows at ... at+rows-1 of the gradient of sequence i, and their products with every G. */
static void one_tile(const struct formed *f, size_t at, size_t rows, size_t i, real *tile, double *sum)
{
    const size_t t = f->first[i], n = f->first[i + 1] - t;
    gemm(true, false, rows, f->in, n, 1, f->dy + t * f->ldy + at, f->ldy, f->x + t * f->in, f->in, 0, tile, f->in);
    for (size_t k = 0; k < f->K; k++) {
        double *e = sum + k * f->n_seq + i;
        for (size_t r = 0; r < rows; r++) *e += matrix_dot(f->in, tile + r * f->in, matrix_at(f->g[k], (at + r) * f->in));
    }
}

/* Sequences begin ... end-1 of a block of rows. */
static void one_block(const struct formed *f, size_t block, size_t begin, size_t end, real *tile, double *sum)
{
    const size_t first = f->out * block / BLOCKS, last = f->out * (block + 1) / BLOCKS, most = tile_rows(f->in);
    for (size_t at = first; at < last; at += most)
        for (size_t i = begin; i < end; i++)
            if (f->first[i] < f->first[i + 1]) one_tile(f, at, smaller(most, last - at), i, tile, sum);
}

void formed_dots(const struct formed *f, real *tiles, double *sums, double *e)
{
    const size_t each = f->K * f->n_seq, n = BLOCKS * f->n_seq;
    memset(sums, 0, BLOCKS * each * sizeof *sums);
#pragma omp parallel if (team_free())
    {
        const size_t thread = (size_t)omp_get_thread_num(), threads = (size_t)omp_get_num_threads();
        const size_t begin = n * thread / threads, end = n * (thread + 1) / threads;
        for (size_t b = 0; b < BLOCKS; b++) {
            const size_t from = b * f->n_seq > begin ? b * f->n_seq : begin, to = smaller((b + 1) * f->n_seq, end);
            if (from < to)
                one_block(f, b, from - b * f->n_seq, to - b * f->n_seq, tiles + thread * formed_tile(f->in),
                          sums + b * each);
        }
    }
    for (size_t b = 0; b < BLOCKS; b++)
        for (size_t q = 0; q < each; q++) e[q] += sums[b * each + q];
}
