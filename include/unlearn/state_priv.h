/* state, for its own files: who keeps which heads, and what the data ranks share. */
#ifndef UNLEARN_STATE_PRIV_H
#define UNLEARN_STATE_PRIV_H
#include "unlearn/state.h"

/** Whether key-value head h is kept by more than one of the tensor ranks.                                         Local. */
bool layout_kv_shared(const struct shape *s, int tensor_size, size_t h);
/** Whether the rows of p are those of key-value heads, head after head.                                       Local. */
bool param_by_kv_heads(const struct layout *l, const struct param *p);

/* What a state that is held as a part has of whole layers at a time: the one that is acquired, and in the other buffer either
 * the next one, which is being gathered, or the one before, which is being summed. */
struct hold {
    real *room[2]; /* of the largest layer; of as many reals as sharing->small */
    bool taken;    /* a state has it */
    struct whole {
        enum { WHOLE_NOT, WHOLE_ACQUIRED, WHOLE_NEXT, WHOLE_SUMMED } as;
        size_t layer, number; /* of the gather or the sum */
    } whole[2];
};
struct sharing {
    enum sharing_of of;
    const struct grid *grid; /* borrowed */
    size_t *at;   /* [n_layer+1] where this process's part of a layer begins in a state that is held as parts */
    real *rows;   /* [layout_shared_rows()] for layer_reduce_begin() */
    size_t small; /* reals of the second buffer: the largest of blocks and final norm, or 0 */
    size_t n_hold;
    struct hold *hold; /* [n_hold] */
    /* Of whole states: the gradient whose sums begin in its last pass, whether that is on, how many layers, from the last one
     * down, have begun. */
    const struct state *soon;
    bool last;
    size_t begun;
};
void sharing_free(struct sharing *s);
/** layout_part() of this process, where states are shared. */
void sharing_part(const struct layout *l, size_t layer, size_t *first, size_t *count);

/* A layer of a state that is held as a part, whole in a buffer. Collective over the data ranks, in one order. */
real *part_acquire(struct state *s, size_t layer);
real *part_add_begin(struct state *s, size_t layer);
void part_add_end(struct state *s, size_t layer);
real *part_acquired(const struct state *s, size_t layer); /* its base */
void part_release(struct state *s);
/** Between the buffer at base and the part: both have it at the same offsets. */
void part_copy(const struct state *s, size_t layer, struct matrix from, struct matrix to);
/** The backward has ended this layer of a whole gradient: if that was for the last time, sums begin. */
void whole_added(struct state *s, size_t layer);

/** Reals of the rows of a block that several tensor ranks keep; of all ranks together. */
size_t layout_shared_rows(const struct layout *l);
/** Sums a layer's partial gradients at base: those of its shared rows over the tensor ranks, with `rows` as scratch, at once;
 *  then begins to sum this process's part of it over the data ranks, and returns the number; of what is held in bfloat16 all is
 *  summed at once.                                                                               Collective over grid. */
size_t layer_reduce_begin(const struct grid *g, const struct layout *l, size_t layer, struct matrix base, real *rows);

#endif
