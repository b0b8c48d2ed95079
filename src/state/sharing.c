/* States shared among the data ranks: whose part of a layer is which, and buffers for layers that are whole for a time. */
#include "unlearn/state_priv.h"
#include <assert.h>
#include <stdlib.h>

enum { UNIT = 64 / sizeof(real) }; /* where parts of layers begin in a state that is held as a part */

void layout_part(const struct layout *l, size_t layer, int data_rank, int data_size, size_t *first, size_t *count)
{
    size_t begin, n;
    layout_span(l, layer, &begin, &n);
    part_range(n, data_size, data_rank, first, count);
    *first += begin;
}

void sharing_part(const struct layout *l, size_t layer, size_t *first, size_t *count)
{
    layout_part(l, layer, l->sharing->grid->data_rank, l->sharing->grid->data_size, first, count);
}

size_t layout_part_size(const struct layout *l, int data_rank, int data_size)
{
    size_t first, count, size = 0;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        layout_part(l, layer, data_rank, data_size, &first, &count);
        size += (count + UNIT - 1) / UNIT * UNIT;
    }
    return size;
}

static size_t longest(const struct layout *l, size_t first_layer, size_t end)
{
    size_t first, count, most = 0;
    for (size_t layer = first_layer; layer < end; layer++) {
        layout_span(l, layer, &first, &count);
        if (most < count) most = count;
    }
    return most;
}

/* Reals of the two buffers; the second is for what is on its way behind the computation. */
static void hold_size(const struct layout *l, bool ahead, size_t size[2])
{
    size[0] = longest(l, 0, l->n_layer);
    size[1] = ahead ? longest(l, 1, l->shape->blocks + 2) : 0;
}

size_t layout_share_bytes(const struct layout *l, int data_size, size_t most, bool ahead, size_t gradients)
{
    size_t size[2];
    hold_size(l, ahead, size);
    return (data_size > 1 ? most * (size[0] + size[1]) + layout_shared_rows(l) : gradients * layout_shared_rows(l)) *
           sizeof(real);
}

enum status layout_share(struct layout *l, const struct grid *g, enum sharing_of what, size_t most, bool ahead)
{
    enum status st = OK;
    struct sharing *s;
    size_t size[2];
    if (g->data_size == 1) return OK;
    TRY_NEW(l->sharing, 1);
    s = l->sharing;
    s->of = what, s->grid = g, s->n_hold = most;
    TRY_NEW(s->at, l->n_layer + 1);
    TRY_NEW(s->hold, most);
    hold_size(l, ahead, size);
    s->small = size[1];
    for (size_t i = 0; i < 2 * most; i++) TRY_NEW(s->hold[i / 2].room[i % 2], size[i % 2]);
    TRY_NEW(s->rows, layout_shared_rows(l));
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        size_t first, count;
        sharing_part(l, layer, &first, &count);
        s->at[layer + 1] = s->at[layer] + (count + UNIT - 1) / UNIT * UNIT;
    }
done:
    return st;
}

void sharing_free(struct sharing *s)
{
    if (!s) return;
    for (size_t i = 0; s->hold && i < 2 * s->n_hold; i++) free(s->hold[i / 2].room[i % 2]);
    free(s->hold), free(s->at), free(s->rows);
    free(s);
}

static void narrow(size_t *first, size_t *count, size_t from, size_t n)
{
    const size_t end = *first + *count < from + n ? *first + *count : from + n;
    if (*first < from) *first = from;
    *count = end > *first ? end - *first : 0;
}

void param_part(const struct layout *l, const struct param *p, bool counted, size_t *first, size_t *count)
{
    size_t from, n;
    *first = p->offset + (counted ? p->own_first * p->col_count : 0);
    *count = (counted ? p->own_count : p->row_count) * p->col_count;
    if (!l->sharing) return;
    sharing_part(l, p->layer, &from, &n);
    narrow(first, count, from, n);
}

const struct comm *layout_lockstep(const struct layout *l)
{
    return l->sharing && l->sharing->of == SHARING_ALL ? l->sharing->grid->data : NULL;
}

const struct comm *layout_sums(const struct layout *l, const struct grid *g) { return l->sharing ? g->world : g->tensor; }
