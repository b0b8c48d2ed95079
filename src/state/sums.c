/* Sums of gradients over processes, and arithmetic of states. */
#include "unlearn/state_priv.h"
#include <assert.h>

/* ------------------------------------------------------------------------------------------------------- reduce ----- */
/* Copies the rows of key-value heads that several ranks keep from the state (here) to a buffer, or back. The buffer has
 * the shared heads of all ranks; returns its size. */
static size_t shared_heads(const struct layout *l, const struct param *p, real *here, real *buffer, bool back)
{
    const size_t block = l->shape->head_dim * p->col_count;
    size_t n = 0;
    for (size_t h = 0; h < l->shape->kv_heads; h++) {
        if (!layout_kv_shared(l->shape, l->tensor_size, h)) continue;
        if (h >= l->kv_first && h < l->kv_first + l->kv_count && buffer) {
            real *mine = here + p->offset + (h - l->kv_first) * block;
            if (back)
                math_copy(block, buffer + n, mine);
            else
                math_copy(block, mine, buffer + n);
        }
        n += block;
    }
    return n;
}

/* The same for a tensor that is either shared as a whole on all ranks or not at all. */
static size_t shared_whole(const struct param *p, real *here, real *buffer, bool back)
{
    const size_t n = p->row_count * p->col_count;
    if (!p->shared) return 0;
    if (buffer && back)
        math_copy(n, buffer, here + p->offset);
    else if (buffer)
        math_copy(n, here + p->offset, buffer);
    return p->rows * p->cols;
}

/* Copies all shared rows of one layer to the buffer or back; returns the buffer's size. */
static size_t shared_of_layer(const struct layout *l, size_t layer, real *here, real *buffer, bool back)
{
    size_t n = 0;
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
        const struct param *p = &l->param[i];
        real *to = buffer ? buffer + n : NULL;
        n += param_by_kv_heads(l, p) ? shared_heads(l, p, here, to, back) : shared_whole(p, here, to, back);
    }
    return n;
}

size_t layout_shared_rows(const struct layout *l) { return shared_of_layer(l, 1, NULL, NULL, false); }

size_t layer_reduce_begin(const struct grid *g, const struct layout *l, size_t layer, real *base, real *rows)
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
    return comm_reduce_begin(g->data, base + first, count);
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
    while (left-- > 0) number = layer_reduce_begin(g, l, left, gradient->data, rows);
    comm_complete(g->data, number);
    if (!sharing) gather(g->data, gradient);
done:
    return st;
}

enum status state_reduce_after(const struct grid *g, struct state *gradient, enum status st)
{
    const enum status reduced = state_reduce(g, gradient);
    return st != OK ? st : reduced;
}

static bool gathers(const struct state *s) { return s->layout->sharing && !s->part; }

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
void state_fill(struct state *s, real value) { math_fill(s->size, value, s->data); }
void state_scale(struct state *s, real factor) { math_scale(s->size, factor, s->data); }

void state_copy(const struct state *from, struct state *to)
{
    assert(from->size == to->size);
    math_copy(from->size, from->data, to->data);
}

void state_add(struct state *s, real factor, const struct state *x)
{
    assert(s->size == x->size);
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
        const real *x = state_own(a, layer), *y = state_own(b, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
            param_part(l, &l->param[i], true, &first, &count);
            e[i] = math_dot(count, x + first, y + first);
        }
    }
}

const struct param *state_not_finite(const struct state *s)
{
    const struct layout *l = s->layout;
    size_t first, count;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const real *x = state_own(s, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
            param_part(l, &l->param[i], false, &first, &count);
            if (!math_finite(count, x + first)) return &l->param[i];
        }
    }
    return NULL;
}
