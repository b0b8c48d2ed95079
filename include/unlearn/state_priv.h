/* state, for its own files: who keeps which heads, and what the data ranks share. */
#ifndef UNLEARN_STATE_PRIV_H
#define UNLEARN_STATE_PRIV_H
#include "unlearn/state.h"

/** Whether key-value head h is kept by more than one of the tensor ranks.                                         Local. */
bool layout_kv_shared(const struct shape *s, int tensor_size, size_t h);
/** Whether the rows of p are those of key-value heads, head after head.                                       Local. */
bool param_by_kv_heads(const struct layout *l, const struct param *p);

struct sharing {
    enum sharing_of of;
    const struct grid *grid; /* borrowed */
    size_t *at; /* [n_layer+1] where this process's part of a layer begins in a state that is held as parts */
    real *rows; /* [layout_shared_rows()] for layer_reduce() */
    size_t n_buffer;
    real **buffer; /* [n_buffer][the largest layer] */
    bool *taken;   /* [n_buffer] */
};
void sharing_free(struct sharing *s);
/** layout_part() of this process, where states are shared. */
void sharing_part(const struct layout *l, size_t layer, size_t *first, size_t *count);
/** The number of a buffer that is free; there is one. */
size_t sharing_take(struct sharing *s);
/** Reals of the rows of a block that several tensor ranks keep; of all ranks together. */
size_t layout_shared_rows(const struct layout *l);
/** Sums a layer's partial gradients at base: those of its shared rows over the tensor ranks, with `rows` as scratch, then this
 *  process's part of it over the data ranks.                                                     Collective over grid. */
void layer_reduce(const struct grid *g, const struct layout *l, size_t layer, struct matrix base, real *rows);

/** state_own() of any state. */
struct matrix state_held(const struct state *s, size_t layer);
/* Elements of states, held either way: to = from; to += x. */
void held_copy(size_t n, struct matrix from, struct matrix to);
void held_add(size_t n, const real *x, struct matrix to);
#endif
