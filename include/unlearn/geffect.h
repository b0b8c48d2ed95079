/* geffect: losses, gradients and effects of whole sets of sequences. An effect is
 *      e[j,k,slot,i] = <grad_slot R_k, grad_slot L_j(s_i)>
 * for objective j, risk k, tensor use (slot) and instance i. grad L_j(s_i) is never formed: for y = x W^T with risk
 * gradient G, e = sum over the rows t of s_i of delta_t . (G x_t), inside one backward over packed batches (DESIGN.md 7). */
#ifndef UNLEARN_GEFFECT_H
#define UNLEARN_GEFFECT_H
#include "unlearn/core.h"
#include "unlearn/data.h"
#include "unlearn/model.h"
#include "unlearn/objective.h"
#include "unlearn/parallel.h"

/* What all passes of a run share. */
struct engine {
    const struct grid *grid; /* borrowed, as all pointers of this block */
    const struct layout *layout;
    struct model *model;
    struct state *weights;   /* what is trained and measured */
    struct state *reference; /* frozen copy; NULL: nothing needs it, or `kept` has its values */
    struct kept **kept;      /* [n_kept] the reference's values of rows, in place of the copy */
    size_t n_kept;
    size_t tokens;            /* most tokens of one pass */
    struct engine_room *room; /* owned: every buffer that a pass needs */
};
struct engine_limits {
    size_t rows;       /* longest list of rows of any call */
    size_t objectives; /* largest J of any call */
    size_t risks;      /* largest K of any call */
    size_t norms;      /* tokens of the longest row for engine_norms(); 0: never called */
    size_t tangents;   /* largest K of engine_tokens(); 0: never called */
};
/* Rows of a data set, with the reference's nll of every label where an objective needs it. With `pair`, a row stands
 * for two sequences of the same pass, its answer and its refusal, and its loss and effects are those of the pair. */
struct rows {
    const struct dataset *data; /* borrowed */
    size_t n;
    const size_t *row;         /* [n] rows of data; borrowed */
    const double *nll_ref;     /* of every label of data, a row's at its label_first; NULL: not needed */
    const size_t *label_first; /* [data->n_row+1] */
    size_t pair;               /* row i has its refusal in row i + pair; 0: no pairs */
    size_t drop;               /* last labels of a row that a loss of tokens leaves out */
};

/** Makes e->room, unless `count_only`; *bytes (may be NULL) receives the size of its buffers.                 Local. */
enum status engine_room_new(struct engine *e, const struct engine_limits *most, bool count_only, size_t *bytes);
void engine_room_free(struct engine *e);

/** The outputs that an objective reads. */
enum outputs objective_outputs(const struct objective *o);
/** Relative work of a row: products are linear in its tokens or outputs, attention is quadratic; 0: no pass needs the row.
 *                                                                                                            Local. */
double row_cost(const struct layout *l, const struct dataset *d, size_t row, enum outputs which);
/** Layer of the reference's hidden state that the objective compares with; 0: it compares with logits or nothing. */
size_t objective_reference_layer(const struct objective *o);
/** Weights of rows in a batch by the objective's rule, summing to 1; all zero when no row has a label.           Local. */
void rows_weights(const struct objective *o, const struct rows *r, double *weight);

/** nll under `weights` of every labelled token of every listed row, written at label_first of its row; other entries stay.
 *  Complete on every process.                                                                   Collective over grid. */
enum status engine_nll(struct engine *e, struct state *weights, const struct rows *r, double *nll);

/** gradient = sum_i weight[i] grad L(s_i), or with `add` += , this process's share: state_reduce() completes it. loss [n]
 *  receives L(s_i), complete on every process.                                                  Collective over grid. */
enum status engine_gradient(struct engine *e, const struct objective *o, const struct rows *r, const double *weight,
                            bool add, struct state *gradient, double *loss);

/** The same for a risk, without `add`: its objective is nll, and its weights need not sum to 1. nll receives that of every labelled
 *  token of every listed row, as from engine_nll().                                            Collective over grid. */
enum status engine_risk(struct engine *e, const struct rows *r, const double *weight, struct state *gradient,
                        double *nll);

/** Effects of J objectives on K risks for every listed row. All objectives share one forward and one stacked backward, so
 *  they must want the same outputs (all labelled, or all positions). The way to the products is that for `among` risks, so that
 *  as many in several calls have the same effects to the last bit as in one.                   Collective over grid.
 *  \param[in]  risk  [K] complete risk gradients
 *  \param[out] e     [J][K][n_slot][n] complete on every process
 *  \param[out] loss, mean_weight  [J][n] */
enum status engine_effects(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t K,
                           size_t among, struct state *const *risk, double *e_out, double *loss, double *mean_weight);

/** Derivatives along K directions, by forward mode: of the nll of every labelled token, and of the losses of J objectives that
 *  want the same outputs. Along a risk's gradient they are the effects <grad R_k, grad nll_t> and <grad R_k, grad L_j(s_i)>,
 *  which engine_effects() has by layers.                                                       Collective over grid.
 *  \param[in]  direction [K] complete states
 *  \param[out] token  [K][labels] at label_first of each row, other entries 0; NULL: not asked for. J > 0 objectives must want
 *                     all labelled outputs then, no pairs, and not all be of hidden states, whose passes end below the logits
 *  \param[out] nll    [labels] likewise, of the tokens themselves; may be NULL where token is
 *  \param[out] along  [J][K][n] complete on every process, as the others */
enum status engine_tokens(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t K,
                          struct state *const *direction, double *token, double *nll, double *along);

enum { HVP_PRODUCTS = 16 }; /* flops of engine_hvp() for each token and parameter; a gradient has 6 */
/** product += H v: the derivative along a direction of the gradient that engine_gradient() adds, this process's share;
 *  state_reduce() completes it. Of a risk the objective is nll. The workspace must keep
 *  tangents and have room for two objectives.                                                   Collective over grid. */
enum status engine_hvp(struct engine *e, const struct objective *o, const struct rows *r, const double *weight,
                       struct state *direction, struct state *product);

/* ----------------------------------------------------------------------------- values of the reference, kept ----- */
struct kept; /* logits or a hidden state of the reference at every output of some rows */
/** Makes an empty store. Then kept_want() announces every list (of at most `most` rows) that will be read, and
 *  engine_keep() computes the values: logits and their log-sum-exp if layer is 0, else hidden state `layer`.  Local. */
enum status kept_new(const struct dataset *d, enum outputs which, size_t layer, int data_size, size_t most,
                     struct kept **out);
void kept_free(struct kept *k);
/** Announces a list whose gradient or effects will be computed: exactly these n rows in this order.           Local. */
void kept_want(struct kept *k, const struct layout *l, size_t n, const size_t *row);
void kept_want_all(struct kept *k); /* every row, for every data rank */
bool kept_is(const struct kept *k, const struct dataset *d, enum outputs which, size_t layer);
/** Bytes kept by the data rank that keeps most.                                                               Local. */
size_t kept_bytes(const struct kept *k, const struct layout *l);
/** Computes the values under `weights`.                                                         Collective over grid. */
enum status engine_keep(struct engine *e, struct kept *k, struct state *weights);

/* ------------------------------------------------------------------------------------------- without gradients ----- */
/* One value for every labelled token of every listed row, written at label_first of its row; other entries are 0. */
struct token_statistics {
    double *nll; /* -log p */
    double *hit; /* 1 where the label is the likeliest token (the lowest id of equal ones), else 0 */
    double *z;   /* (log p - mu) / sqrt(max(var, 1e-6)), mu and var those of log p under p (Min-K%++) */
};
/** Complete on every process; members may be NULL.                                              Collective over grid. */
enum status engine_statistics(struct engine *e, const struct rows *r, const struct token_statistics *out);
/** L(s_i) of every listed row, as engine_gradient gives it, by a forward alone.                 Collective over grid. */
enum status engine_losses(struct engine *e, const struct objective *o, const struct rows *r, double *loss);
/** norm [n]: the 2-norm of each tensor's gradient of row i's mean nll per labelled token (the last r->drop left out),
 *  averaged over the tensors; NAN without any. No
 *  gradient is formed: |dW|^2 = sum over t, u of (delta_t . delta_u) (x_t . x_u).              Collective over grid. */
enum status engine_norms(struct engine *e, const struct rows *r, double *norm);

/* ------------------------------------------------------------------------- effects of instances on instances ----- */
struct pairs;         /* some rows p of one side, with inputs and deltas of every use of a tensor; opaque */
struct pairs_limits { /* on a process */
    size_t rows;      /* of the whole list */
    size_t tokens, outputs, sequences; /* of a block */
};
/** Makes the buffers, or with out NULL only counts their bytes (may be NULL). Of e only layout, tokens and the grid's size are
 *  read.                                                                                                        Local. */
enum status pairs_new(const struct engine *e, const struct pairs_limits *most, struct pairs **out, size_t *bytes);
void pairs_free(struct pairs *w);
size_t pairs_token_bytes(const struct layout *l); /* kept of each token of a block, about */
/** Work on as many tokens and sequences of the instances and of the block, beside their forwards and backwards. */
double pairs_flops(const struct layout *l, size_t J, const size_t tokens[2], const size_t sequences[2]);

/** Shares the rows of `with` (borrowed from now on) among the data ranks and cuts each share into blocks. Returns the most
 *  blocks of any process: each is to be kept in turn, by all.                                  Collective over grid. */
size_t pairs_share(struct pairs *w, struct engine *e, const struct rows *with);
/** One forward and backward over the rows of a block, by their mean nll; uses and lists of the engine are overwritten.
 *                                                                                              Collective over grid. */
enum status pairs_keep(struct pairs *w, size_t block);
/** For all J objectives, which want the same outputs, every listed instance i and every row p of the block that is kept,
 *      out[j][group[slot]][i][p] += <grad_slot L_j(s_i), grad nll(s_p)>    nll(s_p): the mean over the labels of p
 *  this process's share: comm_sum_double() over the job completes it. Of a tied embedding each use of i's meets both of p's.
 *                                                                                              Collective over grid.
 *  \param[in]  group  [n_slot] below G
 *  \param[out] out    [J][G][r->n][with->n] */
enum status pairs_add(struct pairs *w, size_t J, const struct objective *o, const struct rows *r, size_t G,
                      const size_t *group, double *out);

/* A slot is one use of a tensor: one per parameter, in the layout's order; with tied embeddings the last slot is the
 * head's use of the embedding. */
size_t slot_count(const struct layout *l);
size_t slot_layer(const struct layout *l, size_t slot);              /* the layer that uses it */
const struct param *slot_param(const struct layout *l, size_t slot); /* the tensor it belongs to */
#endif
