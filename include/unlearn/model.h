/* model: which part of a model's tensors a process keeps, and the decoder's forward and backward over a packed batch. What a
 * model is stands in shape.h.
 *
 * Layers, here and in the output: 0 = embed, 1 ... L = the blocks, L+1 = norm (the final one), L+2 = lm_head.        */
#ifndef UNLEARN_MODEL_H
#define UNLEARN_MODEL_H
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
    bool shared;   /* some rows are kept by several tensor ranks and their gradients are partial sums there */
    size_t offset; /* of its first element in a state, in reals */
};
struct layout {
    const struct shape *shape; /* borrowed */
    int tensor_rank, tensor_size;
    size_t n_param, n_tensor;
    struct param *param;               /* ordered by layer, then role */
    size_t n_layer;                    /* blocks + 3 */
    size_t *layer_first;               /* [n_layer+1] params of layer l: layer_first[l] ... ; tied: lm_head has none */
    size_t size;                       /* reals of a state on this process */
    size_t elements;                   /* parameters of the whole model */
    size_t head_first, head_count;     /* query heads of this process */
    size_t kv_first, kv_count;         /* key-value heads that these query heads need */
    size_t column_first, column_count; /* MLP columns */
    size_t word_first, word_count;     /* vocabulary rows */
};
/** tensor_size may be at most the number of heads; ERR_INPUT for a larger one names the layouts that work.    Local. */
enum status layout_new(const struct shape *s, int tensor_rank, int tensor_size, struct layout **out);
void layout_free(struct layout *l);
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
 *  decoder alone; for a tied embedding also the head's.                                                       Local. */
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
    real *data;                  /* [layout->size]; owned */
    real *guard;                 /* test mode (state_poison): the copy that acquire returns and release poisons */
    size_t acquired;             /* test mode: 1 + the layer that is acquired, 0: none */
    real *scratch;               /* shared rows of a layer, for state_reduce; owned */
};
enum status state_new(const char *name, const struct layout *l, struct state **out); /* zeros */
void state_free(struct state *s);
enum status state_poison(struct state *s);          /* from now on acquire returns a copy that release fills with NaN */
real *state_acquire(struct state *s, size_t layer); /* base such that base + param->offset is the tensor */
void state_release(struct state *s, size_t layer);  /* after reading */
void state_commit(struct state *s, size_t layer);   /* after writing; ends the acquire */
/** Sums the partial gradients of `shared` rows over the tensor ranks, then everything over the data ranks: after it, each
 *  process holds the whole gradient of its part.                                                Collective over grid. */
enum status state_reduce(const struct grid *g, struct state *gradient);
/** <a, b> per parameter, e [n_param]: this process's owned rows; sum over the tensor ranks to complete.           Local. */
void state_dot(const struct state *a, const struct state *b, double *e);
/** The first tensor with a value that is not finite, NULL: all are.                                              Local. */
const struct param *state_not_finite(const struct state *s);

/* ----------------------------------------------------------------------------------------------- forward, backward ----- */
struct cut { /* how stacked rows belong to objectives and sequences */
    size_t J, n, n_seq;
    const size_t *first; /* [n_seq+1] */
    size_t row;          /* of the head's use, whose rows come a slab at a time: the slab's first output */
};
/* Logits are the widest of all values, so they exist for some of the outputs at a time: a slab. Slabs are the same however
 * many of them are held, and every product is of one slab: so are the results, to the last bit. A forward makes them from the
 * first to the last; what comes after it looks from the last, which is at hand, to the first. */
enum { MODEL_SLAB = 256 }; /* outputs of a slab at most: enough for products at nearly full speed */
struct slab {
    size_t first, n;    /* outputs first ... first+n-1 */
    const real *logits; /* [n][word_count], of this process's vocabulary slice; nll and lse of these outputs are known */
    const real *tangents; /* [K][n][word_count] their derivatives along K directions; NULL: there are none */
    real *dlogits;        /* [J][n][word_count] room for the losses' derivatives */
};
struct slabs { /* who looks at each slab, or fills its dlogits */
    const void *context;
    void (*each)(const void *context, const struct slab *s);
};
/* A backward passes to a sink the inputs and deltas of every use of a tensor, from which weight gradients can be
 * formed, for J objectives with stacked deltas: dy [J][n][...], and x [n][...] of the one forward. `first` cuts the n
 * rows into the batch's sequences. Calls for a layer come between begin and end, whose `layer` is the one that holds
 * the tensors. `use` is the layer that computes with them: for the head's use of a tied embedding it is lm_head. `p` is
 * the first of n_param parameters whose rows are stacked (q, k, v; gate, up; the norms of each head): dy has their
 * columns side by side. The head's use comes once for every slab of outputs: n is the slab's, and sequences that have no row
 * there are empty; a sequence may have rows in several, and the last comes first. Its x stand one behind the other for all
 * outputs, until the end of the backward. */
struct sink {
    void *context;
    void (*begin)(void *context, size_t layer);
    void (*end)(void *context, size_t layer);
    void (*linear)(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy); /* y = x W^T; x [n][in], dy [J][n][out] */
    void (*bias)(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *dy);
    /* Norm weights: the gradient is the sum of xhat dy; xhat [n][width], dy [J][n][width]. If heads share one weight,
     * width is a multiple of its rows and n_param is 1. */
    void (*scale)(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t width,
                  const real *xhat, const real *dy);
    void (*embed)(void *context, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                  const real *dy); /* rows looked up by token or position id; dy [J][n][d] */
};
/* The sink that adds the gradient to a state; J = 1. */
struct gradient_sink {
    struct state *gradient; /* borrowed */
    real *base;             /* of the layer between begin and end */
};
struct sink sink_gradient(struct gradient_sink *g);

/* Largest batch that a model's workspace is made for. */
struct model_limits {
    size_t rows, outputs, sequences, longest; /* of one pass */
    size_t objectives;  /* J stacked in one backward; 0: forwards only, which keep nothing for a backward */
    bool recompute;     /* less of each block is kept; the rest is computed again, to the last bit, before it is read */
    size_t logits;      /* rows of logits held at a time, at least a slab's; 0: those of all outputs */
    size_t slab;        /* outputs of a slab at most; 0: MODEL_SLAB */
    bool aside;         /* also keeps results of another forward (the reference's) */
    bool given;         /* that is, the caller has them and gives them a slab at a time: no forward */
    bool hidden;        /* losses may act on hidden states */
    size_t tangents;    /* most directions of model_tangents(); needs objectives */
    bool keep_tangents; /* of every block, for a backward that reads them; else all blocks share one set */
};
struct model; /* layout, rotary tables, workspace; weights come with every call */
/** Makes the workspace, or with out NULL only counts its bytes (may be NULL).                                    Local. */
enum status model_new(const struct layout *l, const struct grid *g, const struct model_limits *most, struct model **out,
                      size_t *bytes);
void model_free(struct model *m);

/** One forward over a packed batch. Keeps what the backward needs, and the complete log-sum-exp and nll of every output;
 *  `look` (may be NULL) sees the logits of each slab, in order. ERR_NUMERIC, without a message, when a log-sum-exp is not
 *  finite: the caller knows the rows; the results are complete all the same.        Collective over the tensor ranks. */
enum status model_forward(struct model *m, struct state *weights, const struct batch *b, const struct slabs *look);
/** The same up to hidden state `layer` (see model_hidden()), which must be finite instead: no logits, no nll. */
enum status model_forward_hidden(struct model *m, struct state *weights, const struct batch *b, size_t layer);
/* Results of the last forward, borrowed until the next one. */
const double *model_nll(const struct model *m);  /* [n_out]; 0 where an output has no label */
const double *model_lse(const struct model *m);  /* [n_out] log sum_v exp logit, over the whole vocabulary */
const real *model_logits(const struct model *m); /* [n_out][word_count], of a model that holds those of all outputs */
/** Sets results of the last forward (the reference's) aside, so that another forward can follow.              Local. */
void model_set_aside(struct model *m, const struct batch *b);
double *model_aside_lse(struct model *m); /* [n_out] as model_set_aside() left it, or for the caller to fill */
/** [n][word_count] logits of that forward, whose weights these are, at the outputs of a slab; weights NULL: room for the caller
 *  to fill, in a model with `given`.                                                                          Local. */
real *model_aside_logits(struct model *m, struct state *weights, const struct batch *b, const struct slab *s);
/** x [n_out][d] = hidden state `layer` at the output rows: the output of that block, counted from 1, for the last block
 *  after the final norm. Every tensor rank has all of it.                                                     Local. */
void model_hidden(const struct model *m, const struct batch *b, size_t layer, real *x);
real *model_aside_hidden(struct model *m, const struct batch *b,
                         size_t j); /* [n_out][d] for the caller's use, one for each loss j */

/* ------------------------------------------------------------------------------------------------ token by token ----- */
struct cache; /* keys and values of this process's heads for `slots` sequences of up to `longest` tokens each */
/** Makes it, or with out NULL only counts its bytes (may be NULL).                                               Local. */
enum status cache_new(const struct layout *l, size_t slots, size_t longest, struct cache **out, size_t *bytes);
void cache_free(struct cache *c);
/** The forward of rows that continue sequences in the cache, by one token or many: sequence i is in slot item[i], and
 *  row r is at position[r] of it, directly after the tokens already cached; a sequence that begins at position 0 takes
 *  the slot over. Where b->place is given, it and not position says where. b->longest is the largest place + 1. Gives model_logits() of the output rows and nothing else: no
 *  log-likelihoods, nothing for a backward. A row's logits are bit for bit the same whatever other rows the batch has,
 *  however the sequence was cut into steps, and for any number of threads; model_forward() agrees with them up to
 *  rounding. (With more than two tensor ranks this holds if the MPI library adds in the same order for messages of any
 *  length.) Where rows of more than shape->long_from tokens turn by other frequencies, a sequence that grows beyond them must
 *  begin anew at position 0.                                                        Collective over the tensor ranks. */
void model_step(struct model *m, struct state *weights, struct cache *c, const struct batch *b);

/** [n_out][d]: where the caller writes the derivative of a loss j by hidden state `layer`, for the next backward, where it has
 *  none by the logits. */
real *model_dhidden(struct model *m, const struct batch *b, size_t j, size_t layer);
/** Derivatives of the last forward along K directions, states as the weights: of its nll, complete, nll [K][n_out] (NULL: not
 *  asked for), and of J losses, whose derivatives `losses` gives for every slab, or model_dhidden has: along [J][K][n_seq],
 *  by sequence, this process's share: their sum over the tensor ranks is whole. nll needs logits: a forward that was not
 *  stopped at a hidden state.                                                        Collective over the tensor ranks. */
void model_tangents(struct model *m, struct state *weights, const struct batch *b, size_t K,
                    struct state *const *direction, double *nll, size_t J, const struct slabs *losses, double *along);
/** Backward of J losses through the last forward. `losses` writes the dlogits of every slab for those that do not act on a
 *  hidden state (NULL: none does); logits that are no longer held are computed again. Passes every use of a tensor to
 *  the sink, except in layers above the highest one that a loss acts on.           Collective over the tensor ranks. */
enum status model_backward(struct model *m, struct state *weights, const struct batch *b, size_t J,
                           const struct slabs *losses, const struct sink *sink);
/** Forward over reverse: the tangent, along a direction, of the gradient of one loss. Follows a model_tangents() along that
 *  one direction in a workspace with keep_tangents; the loss's derivative is given as that of loss 0, as in a backward, and
 *  its tangent along the direction as that of loss 1. To the sink go, with J =
 *  1, x with the tangent of dy, and the tangent of x with dy: sink_gradient() adds H v.  Collective over the tensor ranks. */
enum status model_backward_tangent(struct model *m, struct state *weights, const struct batch *b, struct state *direction,
                                   const struct slabs *losses, const struct sink *sink);
/** x [n_out][d] = the tangent along the first of them of hidden state `layer` at the output rows, as model_hidden(). */
void model_hidden_tangent(const struct model *m, const struct batch *b, size_t layer, real *x);
const double *model_tangent_lse(const struct model *m); /* [K][n_out] of their log-sum-exp, where it gave those of nll */
#endif
