/* One value per parameter, layer by layer: acquire, use, release or commit. In test mode acquire returns a copy and
 * release fills it with NaN, so that a pointer kept too long reads NaN. A state that is held as a part is gathered, layer by
 * layer, into a buffer for as long as it is acquired. */
#include "unlearn/state_priv.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* ------------------------------------------------------------------------------------------------ acquire, release ----- */
static enum status make(const char *name, const struct layout *l, bool part, struct state **out)
{
    enum status st = OK;
    struct state *s = *out = NULL;
    TRY_NEW(s, 1);
    s->name = name;
    s->layout = l;
    s->part = part;
    s->size = part ? l->sharing->at[l->n_layer] : l->size;
    if (!(s->data = memory_new(s->size, sizeof *s->data)))
        st = fail(ERR_MEMORY, "memory: cannot allocate %zu numbers of %zu bytes for the %s", s->size, sizeof *s->data,
                  name);
    if (st == OK) *out = s, s = NULL;
done:
    state_free(s);
    return st;
}

enum status state_new(const char *name, const struct layout *l, struct state **out)
{
    return make(name, l, l->sharing && l->sharing->of == SHARING_ALL, out);
}

enum status state_new_moment(const char *name, const struct layout *l, struct state **out)
{
    return make(name, l, l->sharing != NULL, out);
}

void state_free(struct state *s)
{
    if (!s) return;
    free(s->data);
    free(s->guard);
    free(s->rows);
    free(s);
}

enum status state_poison(struct state *s)
{
    enum status st = OK;
    assert(!s->guard && !s->part);
    TRY_NEW(s->guard, s->layout->size);
    math_fill(s->layout->size, NAN, s->guard);
done:
    return st;
}

/* The layers whose parameters a layer uses: its own, and for a tied lm_head the embedding's too. */
static size_t layers_used(const struct state *s, size_t layer, size_t used[2])
{
    used[0] = layer;
    used[1] = 0;
    return s->layout->shape->tied && layer == s->layout->n_layer - 1 ? 2 : 1;
}

/* ---- of a part */

real *state_own(const struct state *s, size_t layer)
{
    const struct sharing *sharing = s->layout->sharing;
    size_t first, count;
    if (!s->part) return s->data;
    sharing_part(s->layout, layer, &first, &count);
    return s->data + sharing->at[layer] - first;
}

/* ---- of whole states too */

real *state_acquire(struct state *s, size_t layer)
{
    size_t used[2], n = layers_used(s, layer, used), first, count;
    assert(layer < s->layout->n_layer);
    if (s->part) return part_acquire(s, layer);
    if (!s->guard) return s->data;
    assert(!s->acquired);
    s->acquired = layer + 1;
    for (size_t i = 0; i < n; i++) {
        layout_span(s->layout, used[i], &first, &count);
        math_copy(count, s->data + first, s->guard + first);
    }
    return s->guard;
}

void state_release(struct state *s, size_t layer)
{
    size_t used[2], n = layers_used(s, layer, used), first, count;
    if (s->part) part_release(s);
    if (!s->guard) return;
    assert(s->acquired == layer + 1);
    s->acquired = 0;
    for (size_t i = 0; i < n; i++) {
        layout_span(s->layout, used[i], &first, &count);
        math_fill(count, NAN, s->guard + first);
    }
}

void state_commit(struct state *s, size_t layer)
{
    size_t used[2], n = layers_used(s, layer, used), first, count;
    if (s->part) part_copy(s, layer, part_acquired(s, layer), state_own(s, layer));
    for (size_t i = 0; i < n && s->guard; i++) {
        layout_span(s->layout, used[i], &first, &count);
        math_copy(count, s->guard + first, s->data + first);
    }
    state_release(s, layer);
}

real *state_add_begin(struct state *s, size_t layer)
{
    return s->part ? part_add_begin(s, layer) : state_acquire(s, layer);
}

void state_add_end(struct state *s, size_t layer)
{
    if (s->part) {
        part_add_end(s, layer);
        return;
    }
    state_commit(s, layer);
    whole_added(s, layer);
}
