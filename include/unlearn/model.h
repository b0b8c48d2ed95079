/* model: the decoder's forward and backward over a packed batch, from weights as state.h keeps them.                  */
#ifndef UNLEARN_MODEL_H
#define UNLEARN_MODEL_H
#include "unlearn/state.h"

/* ----------------------------------------------------------------------------------------------- forward, backward ----- */
struct cut { /* how stacked rows belong to objectives and sequences */
    size_t J, n, n_seq;
    const size_t *first; /* [n_seq+1] */
    size_t row;          /* of the head's use, whose rows come a slab at a time: the slab's first output */
    size_t ldy;          /* of a linear's or bias's use: reals from one row of dy to the next */
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
    struct state *aside; /* weights of the forward that was set aside, if `each` asks for its logits; else NULL */
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
    bool strided; /* linear and bias read dy by the cut's ldy; else its rows stand one behind the other */
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
/* Whether a use of a matrix comes with the rows of the outputs, not with all: above the blocks, and of the last block from
 * attention's heads on, whose other rows nobody reads. */
bool model_sees_outputs(const struct layout *l, size_t use, const struct param *p);
/* The sink that adds the gradient to a state, or makes it that; J = 1. Then what a tensor held is not read: the first product
 * is written over it, which is cheaper than zeros that are added to. */
struct gradient_sink {
    struct state *gradient; /* borrowed */
    bool *fresh;            /* [parameters] nothing of the gradient is in it yet; borrowed, NULL: to add is all it does */
    struct tensors base;    /* of the layer between begin and end */
};
/* Before the first backward, and behind the last: what no use has reached is 0. */
void gradient_sink_begin(struct gradient_sink *g, bool add);
void gradient_sink_end(struct gradient_sink *g);
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
/** [n][word_count] logits of that forward at the outputs of a slab, for one who looks at it; or room for the caller to fill, where
 *  there was none.                                                                                            Local. */
const real *model_aside_logits(struct model *m, const struct batch *b, const struct slab *s);
real *model_aside_room(struct model *m, const struct batch *b, const struct slab *s);
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
