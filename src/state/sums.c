/* Sums of gradients over processes, and arithmetic of states. */
#include "unlearn/state_priv.h"
#include <assert.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------- held either way ----- */
void held_copy(size_t n, struct matrix from, struct matrix to)
{
    if (from.full && to.full)
        math_copy(n, from.full, to.full);
    else if (from.full)
        storage_save(STORE_BF16, n, from.full, to.half);
    else if (to.full)
        storage_load(STORE_BF16, n, from.half, to.full);
    else
        memcpy(to.half, from.half, n * sizeof *to.half);
}

void held_add(size_t n, const real *x, struct matrix to)
{
    if (to.full)
        math_add(n, x, to.full);
    else
        for (size_t i = 0; i < n; i++) to.half[i] = to_half((float)((real)from_half(to.half[i]) + x[i]));
}

enum { PIECE = 1 << 15 }; /* elements that are widened at a time, so that they stay in cache */

static double held_dot(size_t n, struct matrix x, struct matrix y)
{
    real wide[2][PIECE];
    double sum = 0;
    if (x.full && y.full) return math_dot(n, x.full, y.full);
    for (size_t at = 0, some; at < n; at += some) {
        some = smaller(PIECE, n - at);
        held_copy(some, matrix_at(x, at), reals(wide[0]));
        held_copy(some, matrix_at(y, at), reals(wide[1]));
        sum += math_dot(some, wide[0], wide[1]);
    }
    return sum;
}

static bool held_finite(size_t n, struct matrix x)
{
    if (x.full) return math_finite(n, x.full);
    for (size_t i = 0; i < n; i++)
        if ((x.half[i] & 0x7F80) == 0x7F80) return false;
    return true;
}

/* ------------------------------------------------------------------------------------------------------- reduce ----- */
/* Copies the rows of key-value heads that several ranks keep from the state (here) to a buffer, or back. The buffer has
 * the shared heads of all ranks; returns its size. */
static size_t shared_heads(const struct layout *l, const struct param *p, struct matrix here, real *buffer, bool back)
{
    const size_t block = l->shape->head_dim * p->col_count;
    size_t n = 0;
    for (size_t h = 0; h < l->shape->kv_heads; h++) {
        if (!layout_kv_shared(l->shape, l->tensor_size, h)) continue;
        if (h >= l->kv_first && h < l->kv_first + l->kv_count && buffer) {
            const struct matrix mine = matrix_at(here, p->offset + (h - l->kv_first) * block);
            if (back)
                held_copy(block, reals(buffer + n), mine);
            else
                held_copy(block, mine, reals(buffer + n));
        }
        n += block;
    }
    return n;
}

/* The same for a tensor that is either shared as a whole on all ranks or not at all. */
static size_t shared_whole(const struct param *p, struct matrix here, real *buffer, bool back)
{
    const size_t n = p->row_count * p->col_count;
    if (!p->shared) return 0;
    if (buffer && back)
        held_copy(n, reals(buffer), matrix_at(here, p->offset));
    else if (buffer)
        held_copy(n, matrix_at(here, p->offset), reals(buffer));
    return p->rows * p->cols;
}

/* Copies all shared rows of one layer to the buffer or back; returns the buffer's size. */
static size_t shared_of_layer(const struct layout *l, size_t layer, struct matrix here, real *buffer, bool back)
{
    size_t n = 0;
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
        const struct param *p = &l->param[i];
        real *to = buffer ? buffer + n : NULL;
        n += param_by_kv_heads(l, p) ? shared_heads(l, p, here, to, back) : shared_whole(p, here, to, back);
    }
    return n;
}

size_t layout_shared_rows(const struct layout *l) { return shared_of_layer(l, 1, reals(NULL), NULL, false); }

/* Sums over the data ranks what is held in bfloat16: all of it is complete then, rounded once. */
static void reduce_half(const struct comm *data, uint16_t *x, size_t n)
{
    real wide[PIECE];
    for (size_t at = 0, some; at < n && comm_size(data) > 1; at += some) {
        some = smaller(PIECE, n - at);
        storage_load(STORE_BF16, some, x + at, wide);
        comm_reduce_parts(data, wide, some);
        comm_gather_parts(data, wide, some);
        storage_save(STORE_BF16, some, wide, x + at);
    }
}

size_t layer_reduce_begin(const struct grid *g, const struct layout *l, size_t layer, struct matrix base, real *rows)
{
    const size_t n = layer >= 1 && layer <= l->shape->blocks ? layout_shared_rows(l) : 0;
    size_t first, count;
    if (n) {
        math_fill(n, 0, rows);
        shared_of_layer(l, layer, base, rows, false);
        comm_sum_real(g->tensor, rows, n);
        shared_of_layer(l, layer, base, rows, true);
    }
    layout_span(l, layer, &first, &count);
    if (base.full) return comm_reduce_begin(g->data, base.full + first, count);
    reduce_half(g->data, base.half + first, count);
    return 0;
}

static size_t gather_begin(const struct comm *data, struct state *s, size_t layer)
{
    size_t first, count;
    layout_span(s->layout, layer, &first, &count);
    return comm_gather_begin(data, s->data + first, count);
}

static void gather(const struct comm *data, struct state *s)
{
    size_t number = 0;
    for (size_t layer = 0; layer < s->layout->n_layer; layer++) number = gather_begin(data, s, layer);
    comm_complete(data, number);
}

/* Of a layout that is not shared the first reduction allocates the rows. */
static enum status rows_make(const struct grid *g, struct state *s, real **rows)
{
    enum status st = OK;
    const size_t n = layout_shared_rows(s->layout);
    *rows = s->layout->sharing ? s->layout->sharing->rows : s->rows;
    if (*rows || !n) return OK;
    TRY_NEW(s->rows, n);
    *rows = s->rows;
done:
    return grid_agree(g, st);
}

enum status state_reduce(const struct grid *g, struct state *gradient)
{
    const struct layout *l = gradient->layout;
    struct sharing *sharing = l->sharing;
    size_t left = l->n_layer, number = 0;
    real *rows;
    enum status st = OK;
    assert(!gradient->acquired);
    if (gradient->part) { /* each layer is summed when something was added to it */
        state_settle(gradient);
        return OK;
    }
    TRY(rows_make(g, gradient, &rows));
    assert(!sharing || !sharing->begun || sharing->soon == gradient);
    if (sharing) left -= sharing->begun, sharing->begun = 0, sharing->soon = NULL, sharing->last = false;
    while (left-- > 0) number = layer_reduce_begin(g, l, left, state_held(gradient, left), rows);
    comm_complete(g->data, number);
    if (!sharing && gradient->data) gather(g->data, gradient);
done:
    return st;
}

void state_count_once(struct state *gradient)
{
    const struct layout *l = gradient->layout;
    if (gradient->part) return; /* what is added to a layer is summed by itself */
    for (size_t i = 0; i < l->n_param; i++) {
        const struct param *p = &l->param[i];
        const size_t end = p->offset + p->row_count * p->col_count;
        size_t first, count;
        /* what tensor ranks keep together but do not sum is complete on each */
        param_part(l, p, p->shared, &first, &count);
        if (!count) first = end;
        math_fill(first - p->offset, 0, gradient->data + p->offset);
        math_fill(end - first - count, 0, gradient->data + first + count);
    }
}

enum status state_reduce_after(const struct grid *g, struct state *gradient, enum status st)
{
    const enum status reduced = state_reduce(g, gradient);
    return st != OK ? st : reduced;
}

/* What is held in bfloat16 was completed by its reduction. */
static bool gathers(const struct state *s) { return s->layout->sharing && !s->part && s->data; }

void state_gather(struct state *s)
{
    assert(!s->layout->sharing || !s->layout->sharing->begun);
    if (gathers(s)) gather(s->layout->sharing->grid->data, s);
}

size_t state_gather_begin(struct state *s, size_t layer)
{
    return gathers(s) ? gather_begin(s->layout->sharing->grid->data, s, layer) : 0;
}

void state_gather_end(struct state *s, size_t number)
{
    if (gathers(s)) comm_complete(s->layout->sharing->grid->data, number);
}

/* ---------------------------------------------------------------------------------------------------- arithmetic ----- */
void state_fill(struct state *s, real value)
{
    if (s->data)
        math_fill(s->size, value, s->data);
    else
        for (size_t i = 0; i < s->size; i++) s->half[i] = to_half((float)value);
}

void state_scale(struct state *s, real factor)
{
    assert(s->data);
    math_scale(s->size, factor, s->data);
}

void state_copy(const struct state *from, struct state *to)
{
    assert(from->size == to->size);
    held_copy(from->size, (struct matrix){from->data, from->half}, (struct matrix){to->data, to->half});
}

void state_add(struct state *s, real factor, const struct state *x)
{
    assert(s->size == x->size && s->data && x->data);
    if (factor == 1)
        math_add(s->size, x->data, s->data);
    else
        math_add_scaled(s->size, factor, x->data, s->data);
}

void state_dot(const struct state *a, const struct state *b, double *e)
{
    const struct layout *l = a->layout;
    size_t first, count;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const struct matrix x = state_held(a, layer), y = state_held(b, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
            param_part(l, &l->param[i], true, &first, &count);
            e[i] = held_dot(count, matrix_at(x, first), matrix_at(y, first));
        }
    }
}

const struct param *state_not_finite(const struct state *s)
{
    const struct layout *l = s->layout;
    size_t first, count;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const struct matrix x = state_held(s, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
            param_part(l, &l->param[i], false, &first, &count);
            if (!held_finite(count, matrix_at(x, first))) return &l->param[i];
        }
    }
    return NULL;
}
