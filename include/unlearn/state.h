/* state: which part of a model's tensors a process keeps, and one value per parameter: weights, gradients, moments. What a
 * model is stands in shape.h.
 *
 * Layers, here and in the output: 0 = embed, 1 ... L = the blocks, L+1 = norm (the final one), L+2 = lm_head.        */
#ifndef UNLEARN_STATE_H
#define UNLEARN_STATE_H
#include "unlearn/core.h"
#include "unlearn/math.h"
#include "unlearn/parallel.h"
#include "unlearn/shape.h"

/* -------------------------------------------------------------------------------- layout: who keeps which part ----- */
/* One tensor of the checkpoint, and this process's part of it: the rows that `piece` lists, see param_global_row(), and
 * columns col_first ... col_first+col_count-1. A vector is [rows][1]. */
struct param {
    char *name; /* in the safetensors file; owned */
    enum role role;
    size_t layer;
    bool vector;
    bool transposed;   /* the file has it as [cols][rows] */
    size_t rows, cols; /* global shape */
    bool goes_on;      /* part of the file's tensor that the parameter before it begins: its rows are below those */
    size_t tensor;     /* number of the file's tensor, which may hold several parameters */
    size_t tensor_first, tensor_rows; /* where in it the rows begin; all of its rows */
    size_t n_piece;                   /* runs of global rows, in local order; usually one */
    struct piece {
        size_t first, count;
    } * piece;        /* owned */
    size_t row_count; /* local rows, of all pieces together */
    size_t col_first, col_count;
    size_t own_first, own_count; /* local rows that this process counts in sums over the tensor ranks: every global row is
                                    counted by exactly one of them */
    bool shared;          /* some rows are kept by several tensor ranks and their gradients are partial sums there */
    size_t offset;        /* of its first element in a state, in elements */
    size_t vector_offset; /* of a vector: in the vectors of its layer alone */
};
struct layout {
    const struct shape *shape; /* borrowed */
    int tensor_rank, tensor_size;
    size_t n_param, n_tensor;
    struct param *param;               /* ordered by layer, then role */
    size_t n_layer;                    /* blocks + 3 */
    size_t *layer_first;               /* [n_layer+1] params of layer l: layer_first[l] ... ; tied: lm_head has none */
    size_t size;                       /* elements of a state on this process */
    size_t vectors;                    /* most elements of vectors in a layer */
    size_t elements;                   /* parameters of the whole model */
    size_t head_first, head_count;     /* query heads of this process */
    size_t kv_first, kv_count;         /* key-value heads that these query heads need */
    size_t column_first, column_count; /* MLP columns */
    size_t word_first, word_count;     /* vocabulary rows */
    struct sharing *sharing;           /* how the data ranks share states; NULL: each has all of them; owned */
};
/** tensor_size may be at most the number of heads; ERR_INPUT for a larger one names the layouts that work.    Local. */
enum status layout_new(const struct shape *s, int tensor_rank, int tensor_size, struct layout **out);
/** That of the tensor rank which holds most: key-value heads that two ranks' query heads need are held by both.       Local. */
enum status layout_largest(const struct shape *s, int tensor_size, struct layout **out);
void layout_free(struct layout *l);

/* Of every layer each data rank has a part of the elements: of gradients it completes these, and it updates them. What it
 * holds of a state follows from that: of the moments its part alone; with SHARING_ALL of every state, and then a layer is
 * whole on a process only while it is acquired. */
enum sharing_of { SHARING_MOMENTS, SHARING_ALL };
/** From now on states of this layout are shared among the data ranks of g, of which `most` layers of such states are acquired
 *  at a time; ahead: another block of each is gathered before its use, or summed behind it. Nothing happens where there is one
 *  data rank. ERR_MEMORY.                                                                                        Local. */
enum status layout_share(struct layout *l, const struct grid *g, enum sharing_of what, size_t most, bool ahead);
/** Bytes that layout_share() takes, or with one data rank state_reduce() of so many gradients; reals of a data rank's part of
 *  all layers.                                                                                                  Local. */
size_t layout_share_bytes(const struct layout *l, int data_size, size_t most, bool ahead, size_t gradients);
size_t layout_part_size(const struct layout *l, int data_rank, int data_size);
/** The part of a data rank of a layer, in elements of a state.                                                  Local. */
void layout_part(const struct layout *l, size_t layer, int data_rank, int data_size, size_t *first, size_t *count);
/** This process's part of a parameter; with `counted`, of that what it counts in sums: every element of a parameter is counted
 *  by one process of layout_sums().                                                                             Local. */
void param_part(const struct layout *l, const struct param *p, bool counted, size_t *first, size_t *count);
const struct comm *layout_sums(const struct layout *l, const struct grid *g);
/** The data ranks, where all states are shared, so that these ranks acquire the same layers in the same order; else NULL. */
const struct comm *layout_lockstep(const struct layout *l);
/** The parameter of a layer with this role; NULL when the layer has none. With tied embeddings lm_head's ROLE_HEAD is
 *  the embedding; with QK_EACH the first head's parameter is returned, and the other heads' follow it. */
const struct param *layout_find(const struct layout *l, size_t layer, enum role role);
/** Rows and columns of the tensor in a file, exchanged if the file stores it transposed; the file's rows of this part. */
size_t param_file_rows(const struct param *p);
size_t param_file_cols(const struct param *p);
size_t param_part_rows(const struct param *p);
/** Where a state has the parameters of a layer: data[*first ... *first + *count - 1].                         Local. */
void layout_span(const struct layout *l, size_t layer, size_t *first, size_t *count);
/** Name i that a file may have for the tensor, NULL behind the last: its own; without the family's prefix, as in files of the
 *  decoder alone; for the head, and for a tied embedding, those of the head.                                   Local. */
const char *param_file_name(const struct layout *l, const struct param *p, bool tied, size_t i);
/** Global row of local row i. */
size_t param_global_row(const struct param *p, size_t i);
size_t param_rows(const struct param *p, size_t n_param); /* local rows of n_param stacked tensors together */
const char *layer_name(const struct layout *l, size_t layer,
                       char buffer[32]); /* "embed", "layers.0", "norm", "lm_head" */

/* ---------------------------------------------------------------------------------- state: one value per parameter ----- */
/* Weights, gradient, moments and risk gradients are all states and are accessed layer by layer. Code never keeps a
 * pointer across a release, so that sharding states will only need other acquire and release functions. */
struct state {
    const char *name;            /* "weights", "gradient", ...; static */
    const struct layout *layout; /* borrowed */
    bool part;                   /* only this process's part is held */
    size_t size;                 /* elements held: layout->size, or those of the part */
    real *data;                  /* [size]; owned; NULL: the state is held in bfloat16 */
    uint16_t *half;              /* [size]; owned, or data of another state; NULL: it is not */
    bool within;                 /* that of another state */
    real *vector;                /* of a state in bfloat16: the vectors of the layer that is acquired; owned */
    size_t hold;                 /* of a part: 1 + the layout's hold that has layers of it whole, 0: none is */
    real *guard;                 /* test mode (state_poison): the copy that acquire returns and release poisons */
    size_t acquired;             /* test mode: 1 + the layer that is acquired, 0: none */
    real *rows;                  /* of a layout that is not shared: scratch of state_reduce(); owned */
};
enum status state_new(const char *name, const struct layout *l, struct state **out); /* zeros */
/** The same, held in bfloat16 if `half`: what is written to it is rounded. Not for weights that an update changes. */
enum status state_new_held(const char *name, const struct layout *l, bool half, struct state **out);
/** The same, in bfloat16, within the memory of a state of reals that is never alive together with it. */
enum status state_new_within(const char *name, const struct state *of, struct state **out);
enum status state_new_moment(const char *name, const struct layout *l, bool half,
                             struct state **out); /* a part, where states are shared */
void state_free(struct state *s);
enum status state_poison(struct state *s); /* from now on acquire returns a copy that release fills with NaN */
/* The tensors of a layer: base such that base + param->offset is the tensor. Of a state in bfloat16, unless it is a part, the
 * matrices are that, and the vectors stand by themselves, as reals. */
struct tensors {
    real *full;
    uint16_t *half;
    real *vector;
};
static inline struct matrix tensors_matrix(const struct tensors *t, const struct param *p)
{
    return matrix_at((struct matrix){t->full, t->half}, p->offset);
}
static inline real *tensors_vector(const struct tensors *t, const struct param *p)
{
    return t->full ? t->full + p->offset : t->vector + p->vector_offset;
}
/* Either, element by element in memory. */
static inline struct matrix tensors_values(const struct tensors *t, const struct param *p)
{
    return p->vector ? reals(tensors_vector(t, p)) : tensors_matrix(t, p);
}
/* Of a part they are collective over the data ranks, which acquire the same layers in the same order. */
struct tensors state_acquire(struct state *s, size_t layer);
void state_release(struct state *s, size_t layer); /* after reading */
void state_commit(struct state *s, size_t layer);  /* after writing, the same on all data ranks; ends the acquire */
/* This layer will be acquired soon, and nothing is written before: of a part it is gathered meanwhile, if it is a block. */
void state_expect(struct state *s, size_t layer);
/* For adding to a gradient. What each process adds between the two is summed: of a part at once or, of the last layers,
 * by state_settle(), which stands behind each backward; else by state_reduce(). */
struct tensors state_add_begin(struct state *s, size_t layer);
void state_add_end(struct state *s, size_t layer);
void state_settle(struct state *s);
/** This process's part of a layer: base such that base + the offset of an element of it is the element.         Local. */
struct matrix state_own(const struct state *s, size_t layer);
/* Elements of states, held either way, are worked on in pieces that stay in cache when they are widened. */
enum { HELD_PIECE = 1 << 13 };
static inline size_t held_pieces(size_t n) { return (n + HELD_PIECE - 1) / HELD_PIECE; }
static inline size_t held_piece(size_t n, size_t i) { return smaller(HELD_PIECE, n - i * HELD_PIECE); }
/** x itself, or what it holds, in `room` of n; NULL: there is none.                                             Local. */
real *held_reals(size_t n, struct matrix x, real *room);
/* to = from; to += factor x, rounded once; <x, y>, the same for any number of threads. */
void held_copy(size_t n, struct matrix from, struct matrix to);
void held_add(size_t n, real factor, struct matrix x, struct matrix to);
double held_dot(size_t n, struct matrix x, struct matrix y);

/** Sums that begin behind the backward. Says, before rows are added to a gradient by the engine, that these are the last before
 *  state_reduce_after(), which then follows with no other sum or gather of states between. The engine says when a process has
 *  come to its last pass over them: from then on layers that the backward has ended are summed while it goes on.    Local. */
void state_reduce_soon(struct state *gradient);
void state_last_pass(struct state *gradient);
/** Sums the partial gradients of `shared` rows over the tensor ranks, then over the data ranks: after it this process's part of
 *  each layer is complete, which is all that state_dot(), optim_norm() and optim_update() read. Where the layout's states are
 *  not shared, every process has all of it.                                                     Collective over grid. */
enum status state_reduce(const struct grid *g, struct state *gradient);
/** The same whatever became of the rows, on which all processes have agreed: what has begun is completed. Returns st if that is
 *  not OK.                                                                                      Collective over grid. */
enum status state_reduce_after(const struct grid *g, struct state *gradient, enum status st);
/** Of a complete gradient, leaves each element that is summed over processes on one of them alone, 0 on the others: then something
 *  can be added to it, and state_reduce() completes the sum.                                                     Local. */
void state_count_once(struct state *gradient);
/** Completes what is held of a state of which every process has completed its part.       Collective over the data ranks. */
void state_gather(struct state *s);
/* The same, layer by layer, behind what else is done; all up to that number are there after the end. */
size_t state_gather_begin(struct state *s, size_t layer);
void state_gather_end(struct state *s, size_t number);
/* Of all that is held; of two states the same is held. */
void state_fill(struct state *s, real value);
void state_copy(const struct state *from, struct state *to);
void state_scale(struct state *s, real factor);
void state_add(struct state *s, real factor, const struct state *x); /* s += factor x */
/** <a, b> per parameter, e [n_param]: what this process counts; sum over layout_sums() to complete.               Local. */
void state_dot(const struct state *a, const struct state *b, double *e);
/** The first tensor with a value that is not finite in this process's part, NULL: all are.                        Local. */
const struct param *state_not_finite(const struct state *s);
#endif
