/* One value per parameter, layer by layer: acquire, use, release or commit. In test mode acquire returns a copy and
 * release fills it with NaN, so that a pointer kept too long reads NaN.                                             */
#include "unlearn/state_priv.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* ------------------------------------------------------------------------------------------------ acquire, release ----- */
enum status state_new(const char *name, const struct layout *l, struct state **out)
{
    enum status st = OK;
    struct state *s = *out = NULL;
    TRY_NEW(s, 1);
    s->name = name;
    s->layout = l;
    if (!(s->data = memory_new(l->size, sizeof *s->data)))
        st = fail(ERR_MEMORY, "memory: cannot allocate %zu numbers of %zu bytes for the %s", l->size, sizeof *s->data,
                  name);
    if (st == OK) *out = s, s = NULL;
done:
    state_free(s);
    return st;
}

void state_free(struct state *s)
{
    if (!s) return;
    free(s->data);
    free(s->guard);
    free(s->scratch);
    free(s);
}

enum status state_poison(struct state *s)
{
    enum status st = OK;
    assert(!s->guard);
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

real *state_acquire(struct state *s, size_t layer)
{
    size_t used[2], n = layers_used(s, layer, used), first, count;
    assert(layer < s->layout->n_layer);
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
    if (!s->guard) return;
    for (size_t i = 0; i < n; i++) {
        layout_span(s->layout, used[i], &first, &count);
        math_copy(count, s->guard + first, s->data + first);
    }
    state_release(s, layer);
}

/* --------------------------------------------------------------------------------------------------- reduce, dot ----- */
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

/* The first reduction allocates the buffer, which fits all blocks. */
static enum status scratch_make(const struct grid *g, struct state *s, size_t n)
{
    enum status st = OK;
    if (s->scratch) return OK;
    TRY_NEW(s->scratch, n);
done:
    return grid_agree(g, st);
}

enum status state_reduce(const struct grid *g, struct state *gradient)
{
    const struct layout *l = gradient->layout;
    const size_t n = shared_of_layer(l, 1, NULL, NULL, false);
    enum status st = OK;
    assert(!gradient->acquired);
    if (n) {
        TRY(scratch_make(g, gradient, n));
        for (size_t layer = 1; layer <= l->shape->blocks; layer++) {
            math_fill(n, 0, gradient->scratch);
            shared_of_layer(l, layer, gradient->data, gradient->scratch, false);
            comm_sum_real(g->tensor, gradient->scratch, n);
            shared_of_layer(l, layer, gradient->data, gradient->scratch, true);
        }
    }
    comm_sum_real(g->data, gradient->data, l->size);
done:
    return st;
}

void state_dot(const struct state *a, const struct state *b, double *e)
{
    for (size_t i = 0; i < a->layout->n_param; i++) {
        const struct param *p = &a->layout->param[i];
        const size_t first = p->offset + p->own_first * p->col_count;
        e[i] = math_dot(p->own_count * p->col_count, a->data + first, b->data + first);
    }
}

const struct param *state_not_finite(const struct state *s)
{
    const struct layout *l = s->layout;
    if (math_finite(l->size, s->data)) return NULL;
    for (size_t i = 0; i < l->n_param; i++) {
        const struct param *p = &l->param[i];
        if (!math_finite(p->row_count * p->col_count, s->data + p->offset)) return p;
    }
    return NULL;
}
