/* Private to the room geffect: the buffers of a pass, and how a list of rows becomes passes. */
#ifndef UNLEARN_GEFFECT_PRIV_H
#define UNLEARN_GEFFECT_PRIV_H
#include "unlearn/geffect.h"

struct engine_room {
    struct engine_limits most;
    struct arena own;   /* everything below */
    struct arena batch; /* the packed batch of the current pass */
    double *cost;       /* [rows] of a row in flops */
    int *owner;         /* [rows] data rank */
    void *split;        /* split_balanced's */
    size_t *mine, *row; /* [2 rows] this process's sequences: their items of the list, and rows of the data set */
    size_t *start;      /* [2 rows + 1] passes: sequences start[p] ... start[p+1]-1 */
    size_t n_mine, n_pass;
    size_t tokens;                     /* that it was made for; e->tokens may be fewer later */
    double *loss;                      /* [rows] of a list whose caller asks for nll alone */
    double *dnll, *coef, *share, *lse; /* [tokens] of the outputs of a pass */
    double (*best)[2];                 /* [tokens] their largest logits and whose they are */
    double *of_sequence;               /* [tokens] inner products of a pass */
    real *product;                     /* [tokens][widest_product] G x */
    const real **base;                 /* [risks] of the layer acquired */
    real *gram, *columns;    /* of engine_norms(): [2][norms][norms]; [norms][widest_whole], of one sequence alone */
    real *vector, *whole;    /* [tokens][widest_whole]: gradients of vectors; what several ranks have shares of */
    double *square, *shared; /* [parameters][rows]; [parameters] whether some rank has shares of rows */
    size_t n_product, n_columns, n_whole; /* reals of these: whoever writes there asserts that it fits */
};

struct kept {
    const struct dataset *data; /* borrowed */
    enum outputs which;
    size_t layer; /* 0: logits, else a hidden state */
    int data_size;
    unsigned char *wanted; /* [data_size][n_row] whether a data rank reads the row */
    size_t most;           /* longest list */
    double *cost;          /* [most], as the next two: of a list */
    int *owner;
    void *split;
    size_t *at; /* [n_row] first output of a row in what follows; SIZE_MAX: not kept here */
    size_t width;
    real *value; /* [outputs][width] */
    double *lse; /* [outputs] of logits */
};
/** Copies what was kept of the rows of pass p to value [n_out][width] and, of logits, lse [n_out]. It must have been kept:
 *  see kept_want().                                                                                             Local. */
void kept_give(struct engine *e, const struct dataset *d, size_t p, const struct batch *b, enum outputs which,
               size_t layer, real *value, double *lse);

/** Relative work of a row: products are linear in the length, attention is quadratic; 0: no pass needs the row. */
double row_cost(const struct layout *l, const struct dataset *d, size_t row, enum outputs which);
/** Shares the rows that carry weight among the data ranks and cuts this process's part into passes.             Local. */
void passes_cut(struct engine *e, const struct rows *r, enum outputs which);
/** Packs pass p; sequence i of b is item room->mine[room->start[p] + i] of the list.                            Local. */
void pass_pack(struct engine *e, const struct rows *r, size_t p, enum outputs which, struct batch *b);
/** Forward of pass p, under the reference first where an objective needs its values; no further than to the hidden states
 *  where no objective reads more.                                                         Collective over tensor ranks. */
enum status pass_forward(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t p,
                         const struct batch *b);
/** Losses of a pass and the derivatives of J losses, each times its instance's weight (NULL: 1), into model_dlogits
 *  or model_dhidden. loss, mean_weight [J][r->n] are written at the pass's instances; both may be NULL.
 *                                                                                         Collective over tensor ranks. */
void pass_losses(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t p,
                 const struct batch *b, const double *weight, double *loss, double *mean_weight);
#endif
