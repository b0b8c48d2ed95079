/* A checkpoint's tensors -> each process's part of a state. The first data rank of every tensor rank reads what its part
 * needs, in large reads; the others receive it. A tensor split by columns is read whole, row by row; one that is stored
 * transposed, the rows of the file that are columns here.                                                            */
#include "unlearn/weights_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct reader {
    struct checkpoint *checkpoint;
    unsigned char *buffer;
    size_t room;
    real *line; /* a row of a transposed tensor */
    real *wide; /* what the buffer has, on its way to weights in bfloat16 */
    int fd;     /* of file `open`; one at a time: there may be hundreds */
    size_t open;
};

static enum status reader_new(size_t buffer, const char *dir, const struct layout *l, bool half, struct reader *r)
{
    enum status st = OK;
    size_t longest = 0;
    *r = (struct reader){.fd = -1, .room = half ? buffer / 3 : buffer}; /* what is read, and twice as many bytes wide */
    TRY(checkpoint_open(dir, l, &r->checkpoint));
    for (size_t i = 0; i < l->n_param; i++) {
        const size_t row = param_file_cols(&l->param[i]) * storage_size(r->checkpoint->at[i]->storage);
        if (row > r->room) r->room = row;
        if (l->param[i].transposed && l->param[i].rows > longest) longest = l->param[i].rows;
    }
    TRY_NEW(r->buffer, r->room);
    TRY_NEW(r->line, longest);
    if (half) TRY_NEW(r->wide, r->room / storage_size(STORE_BF16));
done:
    return st;
}

static void reader_free(struct reader *r)
{
    if (r->fd >= 0) close(r->fd);
    free(r->buffer);
    free(r->line);
    free(r->wide);
    checkpoint_close(r->checkpoint);
}

static enum status use_file(struct reader *r, size_t which)
{
    uint64_t size;
    if (r->fd >= 0 && r->open == which) return OK;
    if (r->fd >= 0) close(r->fd);
    r->open = which;
    return safetensors_file(r->checkpoint->file[which]->path, &r->fd, &size);
}

/* x: n numbers, `width` of each row of the file from row and column on. */
static enum status check_finite(const char *path, const struct param *p, size_t row, size_t column, size_t width,
                                size_t n, const real *x)
{
    const size_t cols = param_file_cols(p);
    size_t i = 0, at;
    if (math_finite(n, x)) return OK;
    while (isfinite((double)x[i])) i++;
    at = (row + i / width) * cols + column + i % width;
    return fail(ERR_INPUT, "%s: tensor %s: element %zu (row %zu, column %zu) is %g; the weights must be finite", path,
                p->name, at, at / cols, at % cols, (double)x[i]);
}

/* Rows first ... first+n-1 of tensor i, this process's columns, to x [n][col_count]. */
static enum status read_rows(struct reader *r, const struct param *p, size_t i, size_t first, size_t n, struct matrix x)
{
    enum status st = OK;
    const struct tensor *t = r->checkpoint->at[i];
    const char *path = r->checkpoint->file[r->checkpoint->file_of[i]]->path;
    const size_t element = storage_size(t->storage), row = p->cols * element, most = r->room / row;
    for (size_t done_rows = 0, some; done_rows < n; done_rows += some) {
        const struct matrix at = matrix_at(x, done_rows * p->col_count);
        real *to = at.full ? at.full : r->wide;
        some = n - done_rows < most ? n - done_rows : most;
        TRY(safetensors_pread(path, r->fd, t->begin + (p->tensor_first + first + done_rows) * row, some * row,
                              r->buffer));
        if (p->col_count == p->cols)
            storage_load(t->storage, some * p->cols, r->buffer, to);
        else
            for (size_t k = 0; k < some; k++)
                storage_load(t->storage, p->col_count, r->buffer + k * row + p->col_first * element,
                             to + k * p->col_count);
        TRY(check_finite(path, p, p->tensor_first + first + done_rows, p->col_first, p->col_count, some * p->col_count,
                         to));
        if (at.half) storage_save(STORE_BF16, some * p->col_count, to, at.half);
    }
done:
    return st;
}

/* A row of the file is a column here. */
static enum status read_transposed(struct reader *r, const struct param *p, size_t i, struct matrix x)
{
    enum status st = OK;
    const struct tensor *t = r->checkpoint->at[i];
    const char *path = r->checkpoint->file[r->checkpoint->file_of[i]]->path;
    const size_t element = storage_size(t->storage), row = p->rows * element, most = r->room / row;
    for (size_t c = 0; c < p->col_count; c++) {
        const unsigned char *from = r->buffer + c % most * row;
        size_t at = 0;
        if (!(c % most))
            TRY(safetensors_pread(path, r->fd, t->begin + (p->col_first + c) * row,
                                  (p->col_count - c < most ? p->col_count - c : most) * row, r->buffer));
        for (size_t k = 0; k < p->n_piece; k++) {
            const size_t first = p->piece[k].first, count = p->piece[k].count;
            storage_load(t->storage, count, from + first * element, r->line);
            TRY(check_finite(path, p, p->col_first + c, first, count, count, r->line));
            for (size_t n = 0; n < count; n++) matrix_set(x, (at + n) * p->col_count + c, r->line[n]);
            at += count;
        }
    }
done:
    return st;
}

static enum status read_param(struct reader *r, const struct param *p, size_t i, struct matrix x)
{
    enum status st = OK;
    TRY(use_file(r, r->checkpoint->file_of[i]));
    if (p->transposed) return read_transposed(r, p, i, x);
    for (size_t k = 0; k < p->n_piece; k++) {
        TRY(read_rows(r, p, i, p->piece[k].first, p->piece[k].count, x));
        x = matrix_at(x, p->piece[k].count * p->col_count);
    }
done:
    return st;
}

/* One layer: the first data rank reads, and sends it to the others. */
static enum status read_layer(struct reader *r, const struct grid *g, struct state *weights, size_t layer)
{
    const struct layout *l = weights->layout;
    size_t first, count;
    const struct tensors t = state_acquire(weights, layer);
    enum status st = OK;
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1] && st == OK && !g->data_rank; i++)
        st = read_param(r, &l->param[i], i, tensors_values(&t, &l->param[i]));
    layout_span(l, layer, &first, &count);
    if (t.full) comm_broadcast(g->data, t.full + first, count * sizeof *t.full, 0);
    state_commit(weights, layer);
    if (t.half) comm_broadcast(g->data, t.half + first, count * sizeof *t.half, 0);
    return grid_agree(g, st);
}

static enum status read_all(size_t buffer, const char *dir, const struct grid *g, struct state *weights)
{
    const struct layout *l = weights->layout;
    struct reader r = {.fd = -1};
    enum status st = g->data_rank ? OK : reader_new(buffer, dir, l, weights->half, &r);
    TRY(grid_agree(g, st));
    for (size_t layer = 0; layer < l->n_layer; layer++) TRY(read_layer(&r, g, weights, layer));
done:
    reader_free(&r);
    return st;
}

/* ---------------------------------------------------------------------------------------------------------- hash ----- */
static uint64_t mix(uint64_t x) /* the finaliser of SplitMix64 (Steele, Lea & Flood 2014) */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The sum, over the elements counted here, of a hash of (tensor, place, value): the same however they are shared out. */
static uint64_t hash_param(const struct param *p, struct matrix x)
{
    const uint64_t name = hash_bytes(p->name, strlen(p->name), 0);
    uint64_t sum = 0, bits;
    for (size_t i = p->own_first; i < p->own_first + p->own_count; i++) {
        const uint64_t row = (p->tensor_first + param_global_row(p, i)) * p->cols + p->col_first;
        for (size_t c = 0; c < p->col_count; c++) {
            const double value = (double)matrix_get(x, i * p->col_count + c);
            memcpy(&bits, &value, sizeof bits);
            sum += mix(mix(name + row + c) ^ bits);
        }
    }
    return sum;
}

static uint64_t hash_all(const struct grid *g, struct state *weights)
{
    const struct layout *l = weights->layout;
    uint64_t sum = 0;
    double half[2];
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const struct tensors t = state_acquire(weights, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++)
            sum += hash_param(&l->param[i], tensors_values(&t, &l->param[i]));
        state_release(weights, layer);
    }
    half[0] = (double)(sum >> 32), half[1] = (double)(sum & 0xffffffffu); /* sums of halves are exact in double */
    comm_sum_double(g->tensor, half, 2);
    return ((uint64_t)half[0] << 32) + (uint64_t)half[1];
}

enum status weights_read_by(size_t buffer, const char *dir, const struct grid *g, struct state *weights, uint64_t *hash)
{
    enum status st;
    TRY(read_all(buffer, dir, g, weights));
    if (hash) *hash = hash_all(g, weights);
done:
    return st;
}

enum status weights_read(const char *dir, const struct grid *g, struct state *weights, uint64_t *hash)
{
    return weights_read_by(WEIGHTS_READ_BYTES, dir, g, weights, hash);
}
