/* Private to the room geffect: the buffers of a pass, and how a list of rows becomes passes. */
#ifndef UNLEARN_GEFFECT_PRIV_H
#define UNLEARN_GEFFECT_PRIV_H
#include "unlearn/geffect.h"

struct engine_room {
    struct engine_limits most;
    struct arena own;   /* everything below */
    struct arena batch; /* the packed batch of the current pass */
    double *cost;       /* [rows] relative work of a row, see row_cost() */
    int *owner;         /* [rows] data rank that takes the row */
    void *split;        /* scratch of split_balanced() */
    size_t *mine, *row; /* [2 rows] of each sequence of this process: its place in the list; its row of the data set */
    size_t *start;      /* [2 rows + 1] passes: sequences start[p] ... start[p+1]-1 */
    size_t n_mine, n_pass;
    size_t tokens;           /* most tokens of a pass that fit; e->tokens may be smaller later */
    double *loss;            /* [rows] losses that engine_risk() does not return */
    double *coef, *share;    /* [objectives][tokens] of every output of a pass: see pass_coef(); its part of the loss */
    double *dnll, *lse;      /* [tokens] one value per output of a slab, or of a sequence */
    int32_t *id;             /* [tokens] a token id per output of a slab, in place of the batch's */
    double (*best)[2];       /* [tokens] largest logit of each output of a slab, and its token id */
    double *of_sequence;     /* [tokens] one inner product per sequence of a pass */
    real *product;           /* G x of all tokens, or of the head at a slab's outputs */
    struct matrix *tensor;   /* [risks] a parameter of each, for formed_dots(), as are */
    real *tiles;             /* [threads][the largest tile] */
    double *sums, *formed;   /* [formed_sums()]; [risks][tokens] an inner product for each sequence of a pass */
    double *tangent, *along; /* [tangents][tokens]; [objectives][tangents][tokens] of the sequences of a pass */
    double *tcoef;           /* [tokens] tangents of coef; where there are any */
    struct tensors *base;    /* [risks] risk gradients in the layer acquired */
    bool *fresh;             /* [parameters] of the gradient_sink */
    real *gram, *columns;    /* one sequence in engine_norms(): [2][norms][norms]; [norms][widest_whole] */
    real *vector, *whole;    /* [tokens][widest_block]: gradients of vectors; sums over the tensor ranks */
    real *head_dy;           /* [norms][words] the head's deltas of one sequence */
    real *head_bias;         /* [words] its bias's gradient by one sequence */
    real *meet;              /* [tokens][norms] see struct norms */
    double *square, *shared; /* [parameters][rows] squared norms; [parameters] 1: some ranks share rows */
    size_t n_product, n_columns, n_whole; /* sizes in reals; code that writes there asserts that it fits */
};

struct kept {
    const struct dataset *data; /* borrowed */
    enum outputs which;
    size_t layer; /* 0: logits, else a hidden state */
    int data_size;
    unsigned char *wanted; /* [data_size][n_row] whether a data rank reads the row */
    size_t most;           /* rows of the longest list */
    double *cost;          /* [most] scratch for one list, as the next two */
    int *owner;
    void *split;
    size_t *at; /* [n_row] index of a row's first output in value and lse; SIZE_MAX: not kept here */
    size_t width;
    real *value; /* [outputs][width] */
    double *lse; /* [outputs] log-sum-exp of the logits */
};
struct pass { /* one of those that a list of rows is cut into, and J objectives at its rows */
    struct engine *e;
    const struct rows *r;
    size_t p;
    const struct batch *b;
    size_t J;
    const struct objective *o;  /* [J] */
    const double *weight;       /* of each row of the list; NULL: 1 */
    double *loss, *mean_weight; /* [J][r->n] written at the pass's rows; may be NULL */
};
/* Place in the list of sequence i of the pass. */
static inline size_t pass_item(const struct pass *p, size_t i) { return p->e->room->mine[p->e->room->start[p->p] + i]; }

/** Copies the kept values of some outputs of a pass to value [s->n][width] and, for logits, lse [s->n]. kept_want() must have
 *  announced its rows.                                                                                        Local. */
void kept_give(const struct pass *p, enum outputs which, size_t layer, const struct slab *s, real *value, double *lse);

/* A rank may be the only one to keep its rows of a tensor while others share theirs. All ranks take part in the sums, so
 * each must know which tensors are shared anywhere: */
/** shared [n_param]: 1 for those, else 0.                                                 Collective over tensor ranks. */
void shared_find(const struct engine *e, double *shared);
/** Sums the partial sums of all tensor ranks: x [n][ld], whose first columns are this process's rows of p (NULL: it has
 *  none), becomes all [n][p->rows]. Returns where this process's rows begin in it.         Collective over tensor ranks. */
const real *shared_sum(const struct engine *e, const struct param *p, size_t n, const real *x, size_t ld, real *all);

/** Columns of the widest tensor that tensor ranks may share, or of the widest group of vectors side by side; of the blocks
 *  alone, without the head's. */
size_t widest_whole(const struct layout *l);
size_t widest_block(const struct layout *l);
/** Shares the rows that some pass needs among the data ranks and cuts this process's part into passes.        Local. */
void passes_cut(struct engine *e, const struct rows *r, enum outputs which);
/** Adds passes without rows to those of the room until all data ranks have as many, where they must keep step. */
void passes_level(struct engine *e);
/** Packs pass p; sequence i of b is item room->mine[room->start[p] + i] of the list.                            Local. */
void pass_pack(struct engine *e, const struct rows *r, size_t p, enum outputs which, struct batch *b);
/** Forward of a pass, up to the logits (layer 0), whose slabs `look` (may be NULL) sees, or a hidden state. ERR_NUMERIC names
 *  the first row whose values are not finite; those of the others are complete all the same.
 *                                                                                         Collective over tensor ranks. */
enum status pass_values(const struct pass *p, struct state *weights, size_t layer, const struct slabs *look);
/** Forward of a pass, first under the reference where an objective needs its values. It stops at the highest hidden
 *  state that is read where no objective reads logits.                                 Collective over tensor ranks. */
enum status pass_forward(const struct pass *p);
/** After it: what follows from likelihoods and hidden states alone: coefficients of all losses, and the losses themselves but
 *  for those that compare logits.                                                                              Local. */
void pass_losses(const struct pass *p);
/** After that, for each slab: its dlogits, of losses times their rows' weights. context: a struct pass.
 *                                                                                         Collective over tensor ranks. */
void pass_slab(const void *context, const struct slab *s);
/** That, or what calls it, as one who looks at the slabs of a pass. */
struct slabs pass_slabs(const struct pass *p, void (*each)(const void *context, const struct slab *s));
/** Forward, losses and backward.                                                         Collective over tensor ranks. */
enum status pass_backward(const struct pass *p, const struct sink *sink);
/** Forward and the loss of one objective.                                                Collective over tensor ranks. */
enum status pass_measure(const struct pass *p);
/** Forward, its tangents along a direction, and the backward with tangents, of the loss of one objective.
 *                                                                                         Collective over tensor ranks. */
enum status pass_backward_tangent(const struct pass *p, struct state *direction, const struct sink *sink);
/** [n_out] derivative of loss j by the nll of every output, or its coefficient in a mean over them. */
double *pass_coef(const struct pass *p, size_t j);
/** S - S_o of sequence i: how far its summed nll has risen above the reference's. */
double pass_risen(const struct pass *p, size_t i);
/** Copies value [n_out] of the labelled outputs of pass p to label_first of their rows.                           Local. */
void pass_give(const struct engine *e, const struct rows *r, size_t p, const struct batch *b, const double *value,
               double *to);

/* ----------------------------------------------------------------------------------------------------- pairs ----- */
enum {
    PAIR_TILE = 512,       /* rows of a pass, and of a block, whose products are formed together: they fit a cache */
    PAIR_FORMED = 1 << 20, /* reals for the gradients of rows by some of a matrix's rows, of each side */
    PAIR_VECTORS = 16      /* sequences whose gradients of vectors are formed together */
};
struct pair_use {   /* what a block keeps of one use of a parameter */
    size_t in, out; /* columns of x, of dy; in 0: of the same use as the parameter before it, or nothing is kept of x */
    real *x, *dy; /* matrix: [rows][in], [rows][out]; table: dy [rows][out]; vector: its gradients dy [sequences][out] */
};
struct pairs {
    struct pairs_limits most;
    struct arena own;
    struct engine engine; /* whose grid is `alone` */
    struct grid alone;    /* this process's tensor ranks as if there were no other data ranks */
    const struct grid *grid;
    const struct rows *with;
    struct pair_use *use; /* [n_slot]; owned */
    /* the rows of `with` that this process has, in blocks */
    size_t n_mine, n_block;
    size_t *mine, *start; /* [rows] place in `with`; [rows + 1] */
    /* the block kept */
    size_t n_seq;
    size_t *place, *row; /* [sequences] place in `with`, row of the data set */
    size_t *first[2];    /* [sequences + 1] rows of each sequence, among all rows and among outputs */
    int32_t *id[2];      /* [tokens] token ids, positions */
    /* scratch */
    size_t *cut;     /* [tokens of a pass + 1] */
    real *tile;      /* [2][PAIR_TILE][PAIR_TILE] */
    real *formed[2]; /* [PAIR_FORMED] */
    real *vector;    /* [PAIR_VECTORS][widest vectors side by side] */
    real *whole;     /* [tokens of a pass][widest shared rows] */
    double *shared;  /* [n_param] */
};
/** Where a block has the use of p in layer `use`. */
struct pair_use *pair_use(const struct pairs *w, size_t use, const struct param *p);
const size_t *pair_first(const struct pairs *w, size_t use,
                         const struct param *p); /* where its rows of each sequence begin */
/** Whether the gradients of single rows, of which a matrix [out][in] has as many as these, are formed; else the products of
 *  their tokens are. *flops (may be NULL): of the cheaper way. */
bool pairs_formed(size_t in, size_t out, size_t J, const size_t rows[2], const size_t sequences[2], double *flops);
/** v [rows]: gradient of a vector, or of vectors side by side, by sequence q of the cut, from deltas of one loss; xhat NULL:
 *  of a bias. `width` is a multiple of `rows` where heads share a norm's weight.                                    Local. */
void pair_vector(const struct cut *c, size_t q, size_t rows, size_t width, const real *xhat, const real *dy, real *v);
#endif
