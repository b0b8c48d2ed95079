/* Messages behind the computation. Of states that are held as parts a layer is whole for as long as it is acquired: the next one
 * is gathered meanwhile, and what was added to the one before is summed. Of whole gradients the layers that the last backward has
 * ended are summed while it goes on. Everything happens in one order on all data ranks. */
#include "unlearn/state_priv.h"
#include <assert.h>

/* ----------------------------------------------------------------------------------------------------- parts ------- */
static struct sharing *sharing_of(const struct state *s) { return s->layout->sharing; }
static const struct comm *data_ranks(const struct state *s) { return sharing_of(s)->grid->data; }
static struct hold *hold_of(const struct state *s) { return &sharing_of(s)->hold[s->hold - 1]; }

/* The state's hold; there is one. */
static struct hold *hold_take(struct state *s)
{
    struct sharing *sharing = sharing_of(s);
    size_t i = 0;
    if (s->hold) return hold_of(s);
    while (i < sharing->n_hold && sharing->hold[i].taken) i++;
    assert(i < sharing->n_hold);
    sharing->hold[i].taken = true;
    s->hold = i + 1;
    return &sharing->hold[i];
}

static void hold_leave(struct state *s)
{
    struct hold *h = hold_of(s);
    if (h->whole[0].as != WHOLE_NOT || h->whole[1].as != WHOLE_NOT) return;
    h->taken = false;
    s->hold = 0;
}

static struct whole *find(struct hold *h, int as)
{
    for (int i = 0; i < 2; i++)
        if ((int)h->whole[i].as == as) return &h->whole[i];
    return NULL;
}

static real *base_of(const struct state *s, const struct whole *whole)
{
    const struct hold *h = hold_of(s);
    size_t first, count;
    layout_span(s->layout, whole->layer, &first, &count);
    return h->room[whole - h->whole] - first;
}

static bool is_block(const struct state *s, size_t layer) { return layer >= 1 && layer <= s->layout->shape->blocks; }

/* A buffer that is free and large enough, the smaller one first. */
static struct whole *free_buffer(const struct state *s, struct hold *h, size_t layer)
{
    size_t first, count;
    layout_span(s->layout, layer, &first, &count);
    if (count <= sharing_of(s)->small && h->whole[1].as == WHOLE_NOT) return &h->whole[1];
    return h->whole[0].as == WHOLE_NOT ? &h->whole[0] : NULL;
}

/* The next layer's gather is ended for nothing. */
static void drop_next(struct state *s, struct whole *next)
{
    comm_complete(data_ranks(s), next->number);
    next->as = WHOLE_NOT;
}

/* A summed layer is added to the part. */
static void add_summed(struct state *s, struct whole *summed)
{
    size_t first, count;
    comm_complete(data_ranks(s), summed->number);
    sharing_part(s->layout, summed->layer, &first, &count);
    held_add(count, 1, reals(base_of(s, summed) + first), matrix_at(state_own(s, summed->layer), first));
    summed->as = WHOLE_NOT;
}

/* A buffer for the layer; what stands in its way is ended. */
static struct whole *take(struct state *s, size_t layer)
{
    struct hold *h = hold_take(s);
    struct whole *whole = free_buffer(s, h, layer), *other;
    assert(!find(h, WHOLE_ACQUIRED));
    if (!whole && (other = find(h, WHOLE_NEXT))) drop_next(s, other);
    if (!whole && (other = find(h, WHOLE_SUMMED))) add_summed(s, other);
    if (!whole) whole = free_buffer(s, h, layer);
    assert(whole);
    whole->layer = layer;
    return whole;
}

void part_copy(const struct state *s, size_t layer, struct matrix from, struct matrix to)
{
    size_t first, count;
    sharing_part(s->layout, layer, &first, &count);
    held_copy(count, matrix_at(from, first), matrix_at(to, first));
}

static void gather_begin(struct state *s, struct whole *whole, size_t layer)
{
    size_t first, count;
    real *base;
    whole->layer = layer;
    base = base_of(s, whole);
    layout_span(s->layout, layer, &first, &count);
    part_copy(s, layer, state_own(s, layer), reals(base));
    whole->number = comm_gather_begin(data_ranks(s), base + first, count);
}

real *part_acquire(struct state *s, size_t layer)
{
    struct whole *whole = s->hold ? find(hold_of(s), WHOLE_NEXT) : NULL;
    if (!whole || whole->layer != layer) {
        whole = take(s, layer);
        gather_begin(s, whole, layer);
    }
    whole->as = WHOLE_ACQUIRED;
    comm_complete(data_ranks(s), whole->number);
    return base_of(s, whole);
}

void state_expect(struct state *s, size_t layer)
{
    struct whole *whole;
    if (!s->part || !is_block(s, layer) || find(hold_take(s), WHOLE_NEXT)) return;
    if (!(whole = free_buffer(s, hold_of(s), layer))) return;
    gather_begin(s, whole, layer);
    whole->as = WHOLE_NEXT;
}

real *part_acquired(const struct state *s, size_t layer)
{
    const struct whole *whole = find(hold_of(s), WHOLE_ACQUIRED);
    assert(whole && whole->layer == layer);
    return base_of(s, whole);
}

void part_release(struct state *s)
{
    find(hold_of(s), WHOLE_ACQUIRED)->as = WHOLE_NOT;
    hold_leave(s);
}

real *part_add_begin(struct state *s, size_t layer)
{
    struct whole *whole = take(s, layer);
    size_t first, count;
    real *base = base_of(s, whole);
    whole->as = WHOLE_ACQUIRED;
    layout_span(s->layout, layer, &first, &count);
    math_fill(count, 0, base + first);
    return base;
}

void part_add_end(struct state *s, size_t layer)
{
    const struct sharing *sharing = sharing_of(s);
    struct whole *whole = find(hold_of(s), WHOLE_ACQUIRED), *before = find(hold_of(s), WHOLE_SUMMED);
    whole->number = layer_reduce_begin(sharing->grid, s->layout, layer, reals(base_of(s, whole)), sharing->rows);
    whole->as = WHOLE_NOT; /* until the one before is not found under the same name */
    if (before) add_summed(s, before);
    whole->as = WHOLE_SUMMED;
}

void state_settle(struct state *s)
{
    struct whole *whole = s->hold ? find(hold_of(s), WHOLE_SUMMED) : NULL;
    if (!whole) return;
    add_summed(s, whole);
    hold_leave(s);
}

/* -------------------------------------------------------------------------------------------- whole gradients ------- */
void state_reduce_soon(struct state *gradient)
{
    struct sharing *sharing = sharing_of(gradient);
    if (!sharing || gradient->part || gradient->half) return;
    assert(!sharing->begun);
    sharing->soon = gradient, sharing->last = false;
}

void state_last_pass(struct state *gradient)
{
    struct sharing *sharing = sharing_of(gradient);
    if (sharing && sharing->soon == gradient) sharing->last = true;
}

/* The embedding is left to state_reduce(): where it is the head too, its gradient has two parts. So are layers beyond those that
 * may be on their way without waiting for a rank that has no rows, or has ended its own, and no longer moves messages; how many
 * may not depend on which have come, as tensor ranks sum their shared rows in one order. */
void whole_added(struct state *s, size_t layer)
{
    struct sharing *sharing = sharing_of(s);
    const struct layout *l = s->layout;
    if (!sharing || sharing->soon != s || !sharing->last || layer == 0) return;
    assert(layer < l->n_layer - sharing->begun);
    for (; l->n_layer - sharing->begun > layer && sharing->begun < COMM_QUEUE; sharing->begun++)
        layer_reduce_begin(sharing->grid, l, l->n_layer - sharing->begun - 1, reals(s->data), sharing->rows);
}
