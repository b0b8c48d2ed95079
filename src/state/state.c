/* One value per parameter, layer by layer: acquire, use, release or commit. In test mode acquire returns a copy and
 * release fills it with NaN, so that a pointer kept too long reads NaN. A state that is held as a part is gathered, layer by
 * layer, into a buffer for as long as it is acquired. Of a state in bfloat16 the matrices are read and added to where they are;
 * the few vectors are widened. */
#include "unlearn/state_priv.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* ------------------------------------------------------------------------------------------------ acquire, release ----- */
static enum status make(const char *name, const struct layout *l, bool part, bool half, struct state **out)
{
    enum status st = OK;
    struct state *s = *out = NULL;
    TRY_NEW(s, 1);
    s->name = name;
    s->layout = l;
    s->part = part;
    s->size = part ? l->sharing->at[l->n_layer] : l->size;
    if (half) s->half = memory_new(s->size, sizeof *s->half);
    if (!half) s->data = memory_new(s->size, sizeof *s->data);
    if (!s->half && !s->data)
        st = fail(ERR_MEMORY, "memory: cannot allocate %zu numbers of %zu bytes for the %s", s->size,
                  half ? sizeof *s->half : sizeof *s->data, name);
    TRY(st);
    if (half && !part) TRY_NEW(s->vector, l->vectors);
    *out = s, s = NULL;
done:
    state_free(s);
    return st;
}

enum status state_new(const char *name, const struct layout *l, struct state **out)
{
    return state_new_held(name, l, false, out);
}

enum status state_new_held(const char *name, const struct layout *l, bool half, struct state **out)
{
    return make(name, l, layout_lockstep(l) != NULL, half, out);
}

enum status state_new_within(const char *name, const struct state *of, struct state **out)
{
    enum status st = OK;
    struct state *s = *out = NULL;
    assert(of->data);
    TRY_NEW(s, 1);
    s->name = name;
    s->layout = of->layout;
    s->part = of->part;
    s->size = of->size;
    s->half = (uint16_t *)of->data;
    s->within = true;
    if (!s->part) TRY_NEW(s->vector, s->layout->vectors);
    *out = s, s = NULL;
done:
    state_free(s);
    return st;
}

enum status state_new_moment(const char *name, const struct layout *l, bool half, struct state **out)
{
    return make(name, l, l->sharing != NULL, half, out);
}

void state_free(struct state *s)
{
    if (!s) return;
    free(s->data);
    if (!s->within) free(s->half);
    free(s->vector);
    free(s->guard);
    free(s->rows);
    free(s);
}

enum status state_poison(struct state *s)
{
    enum status st = OK;
    assert(!s->guard && !s->part && !s->half);
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

struct matrix state_own(const struct state *s, size_t layer)
{
    const struct sharing *sharing = s->layout->sharing;
    size_t first, count;
    if (!s->part) return (struct matrix){s->data, s->half};
    sharing_part(s->layout, layer, &first, &count);
    return (struct matrix){s->data ? s->data + sharing->at[layer] - first : NULL,
                           s->half ? s->half + sharing->at[layer] - first : NULL};
}

/* ---- in bfloat16 */

/* What vectors of a layer hold, to or from the reals that stand for them while it is acquired. */
static void vectors_take(const struct state *s, size_t layer)
{
    const struct layout *l = s->layout;
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
        const struct param *p = &l->param[i];
        if (p->vector) storage_load(STORE_BF16, p->row_count, s->half + p->offset, s->vector + p->vector_offset);
    }
}

static void vectors_put(const struct state *s, size_t layer, bool add)
{
    const struct layout *l = s->layout;
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
        const struct param *p = &l->param[i];
        for (size_t k = 0; k < (p->vector ? p->row_count : 0); k++) {
            uint16_t *to = s->half + p->offset + k;
            const real x = s->vector[p->vector_offset + k];
            *to = add ? half_add(*to, x, half_turn) : to_half((float)x);
        }
    }
}

/* ---- of whole states too */

struct tensors state_acquire(struct state *s, size_t layer)
{
    size_t used[2], n = layers_used(s, layer, used), first, count;
    assert(layer < s->layout->n_layer);
    if (s->part) return (struct tensors){.full = part_acquire(s, layer)};
    if (s->half) vectors_take(s, layer);
    if (!s->guard) return (struct tensors){s->data, s->half, s->vector};
    assert(!s->acquired);
    s->acquired = layer + 1;
    for (size_t i = 0; i < n; i++) {
        layout_span(s->layout, used[i], &first, &count);
        math_copy(count, s->data + first, s->guard + first);
    }
    return (struct tensors){.full = s->guard};
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
    if (s->part)
        part_copy(s, layer, reals(part_acquired(s, layer)), state_own(s, layer));
    else if (s->half)
        vectors_put(s, layer, false);
    for (size_t i = 0; i < n && s->guard; i++) {
        layout_span(s->layout, used[i], &first, &count);
        math_copy(count, s->guard + first, s->data + first);
    }
    state_release(s, layer);
}

struct tensors state_add_begin(struct state *s, size_t layer)
{
    if (s->part) return (struct tensors){.full = part_add_begin(s, layer)};
    if (!s->half) return state_acquire(s, layer);
    math_fill(s->layout->vectors, 0, s->vector);
    return (struct tensors){NULL, s->half, s->vector};
}

void state_add_end(struct state *s, size_t layer)
{
    if (s->part) {
        part_add_end(s, layer);
        return;
    }
    if (s->half)
        vectors_put(s, layer, true);
    else
        state_commit(s, layer);
    whole_added(s, layer);
}
