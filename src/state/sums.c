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

real *held_reals(size_t n, struct matrix x, real *room)
{
    if (!x.half) return x.full;
    held_copy(n, x, reals(room));
    return room;
}

void held_add(size_t n, real factor, struct matrix x, struct matrix to)
{
    const uint32_t turn = half_turn;
    if (x.full && to.full) {
        math_add_scaled(n, factor, x.full, to.full);
        return;
    }
#pragma omp parallel for schedule(static) if (team_pays(n))
    for (size_t i = 0; i < held_pieces(n); i++) {
        real wide[HELD_PIECE];
        const size_t some = held_piece(n, i);
        const struct matrix at = matrix_at(to, i * HELD_PIECE);
        const real *from = held_reals(some, matrix_at(x, i * HELD_PIECE), wide);
        if (at.full) math_add_scaled(some, factor, from, at.full);
#pragma omp simd
        for (size_t k = 0; k < (at.half ? some : 0); k++) at.half[k] = half_add(at.half[k], factor * from[k], turn);
    }
}

static void held_scale(size_t n, real factor, struct matrix x)
{
    real wide[HELD_PIECE];
    if (x.full) math_scale(n, factor, x.full);
    for (size_t i = 0; x.half && i < held_pieces(n); i++) {
        const struct matrix at = matrix_at(x, i * HELD_PIECE);
        held_copy(held_piece(n, i), at, reals(wide));
        math_scale(held_piece(n, i), factor, wide);
        held_copy(held_piece(n, i), reals(wide), at);
    }
}

static void held_fill(size_t n, real value, struct matrix x)
{
    const uint16_t half = to_half((float)value);
    if (x.full)
        math_fill(n, value, x.full);
    else
#pragma omp parallel for schedule(static) if (team_pays(n))
        for (size_t i = 0; i < n; i++) x.half[i] = half;
}

double held_dot(size_t n, struct matrix x, struct matrix y)
{
    enum { GROUP = 64 }; /* pieces that threads share, before their sums are added in order */
    const size_t all = held_pieces(n);
    double sum = 0, part[GROUP];
    if (x.full && y.full) return math_dot(n, x.full, y.full);
    for (size_t first = 0; first < all; first += GROUP) {
        const size_t some = smaller(GROUP, all - first);
#pragma omp parallel for schedule(static) if (team_pays(n))
        for (size_t i = 0; i < some; i++) {
            real wide[2][HELD_PIECE];
            const size_t at = (first + i) * HELD_PIECE, count = held_piece(n, first + i);
            part[i] = math_dot(count, held_reals(count, matrix_at(x, at), wide[0]),
                               held_reals(count, matrix_at(y, at), wide[1]));
        }
        for (size_t i = 0; i < some; i++) sum += part[i];
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

static struct matrix all_of(const struct state *s) { return (struct matrix){s->data, s->half}; }

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
    enum { SENT = 1 << 15 };
    real wide[SENT];
    for (size_t at = 0, some; at < n && comm_size(data) > 1; at += some) {
        some = smaller(SENT, n - at);
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
    while (left-- > 0) number = layer_reduce_begin(g, l, left, state_own(gradient, left), rows);
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
        held_fill(first - p->offset, 0, matrix_at(all_of(gradient), p->offset));
        held_fill(end - first - count, 0, matrix_at(all_of(gradient), first + count));
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
void state_fill(struct state *s, real value) { held_fill(s->size, value, all_of(s)); }

void state_scale(struct state *s, real factor) { held_scale(s->size, factor, all_of(s)); }

void state_copy(const struct state *from, struct state *to)
{
    assert(from->size == to->size);
    held_copy(from->size, all_of(from), all_of(to));
}

void state_add(struct state *s, real factor, const struct state *x)
{
    assert(s->size == x->size);
    half_turn = 0; /* not that of what was measured last: measuring does not change what is trained */
    held_add(s->size, factor, all_of(x), all_of(s));
}

void state_dot(const struct state *a, const struct state *b, double *e)
{
    const struct layout *l = a->layout;
    size_t first, count;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const struct matrix x = state_own(a, layer), y = state_own(b, layer);
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
        const struct matrix x = state_own(s, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
            param_part(l, &l->param[i], false, &first, &count);
            if (!held_finite(count, matrix_at(x, first))) return &l->param[i];
        }
    }
    return NULL;
}
