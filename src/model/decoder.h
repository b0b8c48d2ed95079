/* The decoder's workspace: what one forward keeps for its backward, and the scratch of both. All rows are packed batch
 * rows; widths are this process's share. Private to the room's files. */
#ifndef UNLEARN_DECODER_H
#define UNLEARN_DECODER_H
#include "unlearn/model.h"

struct block_kept {        /* what a forward keeps of one block, each [rows] */
    real *x;               /* [d] input of the block */
    real *mid;             /* [d] after attention; parallel residual: unused */
    real *mean1, *r1;      /* statistics of the first norm */
    real *mean2, *r2;      /* statistics of the second norm */
    real *out1, *out2;     /* [d] output of attention and MLP; where a norm comes after them */
    real *after1, *after2; /* statistics of those norms; for both_norms */
    /* computed again by decoder_again() where most.recompute, and then in the same buffers for all blocks */
    real *qkv;       /* [heads + 2 kv heads][head_dim] after bias, norm and rotation */
    real *qk_hat[2]; /* normalised queries [heads][head_dim], keys [kv heads][head_dim] */
    real *qk_r[2];   /* [heads] and [kv heads]; one over all heads: [1] */
    real *att, *lse; /* [heads][head_dim] attention's output; [heads] */
    real *up;        /* [gated ? 2f : f] input of the activation */
};
/* Derivatives of what block_kept has, along K directions: [K][rows][...]. */
struct block_tangent {
    real *x, *qkv, *att, *mid, *up;
    real *raw[2];      /* queries [heads][head_dim] and keys [kv heads][head_dim] before their norm; where there is one */
    real *out1, *out2; /* where a norm comes after them */
};
struct
    held {   /* logits of outputs: of all, or of as many as there is room for and behind them of one slab after another */
    real *z; /* [rows][words]; tangents, slab by slab: [K][rows of the slab][words] */
    size_t rows; /* at least a slab's */
    size_t at;   /* first output of the slab behind them */
};
struct model {
    const struct layout *layout; /* borrowed */
    const struct grid *grid;     /* borrowed */
    struct model_limits most;
    struct arena arena;
    size_t d, f, qkv, att, up, words; /* widths of this process: hidden, columns, q+k+v, heads*head_dim, columns of up */
    int *kv_of;                       /* [heads] */
    real *cosine, *sine;              /* [longest][rotary_dim/2], below it the same of the other frequencies */
    int32_t *turn;                    /* [rows] which row of those turns a row; NULL: its position */
    struct cache *cache;              /* borrowed during a step; else NULL */
    struct block_kept *kept;          /* [blocks]; without a backward all share one set of buffers */
    size_t at_hand;                   /* the block whose values the shared buffers have */
    real *out_x, *out_att;            /* [outputs][d], [outputs][att] of the last block: see decoder_seen() */
    real *x, *g, *mean, *r, *h;       /* without blocks [rows][d]; at outputs: final norm's input, statistics, output */
    size_t slab;                      /* most outputs of one */
    struct held logits, aside, tlogits;
    real *aside_h;                  /* [outputs][d] as h; where not all of aside's logits may be held */
    struct tensors aside_w;         /* and then the head's weights, acquired while somebody looks at slabs */
    size_t *cut_first;              /* [sequences+1] rows of the sequences in a slab */
    double *lse, *nll, *aside_lse;  /* [outputs] */
    double *max, *sum;              /* [slab], [2][slab] */
    real *a, *part, *act, *scratch; /* forward: [rows][d] x2, [rows][f]; attention's scratch */
    real *dlogits;                  /* [J][slab][words] */
    real *aside_hidden, *dhidden;   /* [J][outputs][d]; NULL: no loss acts on hidden states */
    size_t *hidden_layer;           /* [J] the hidden state that a loss acts on, 0: the logits */
    real *dx, *dn, *dn2, *dh;       /* [J][rows][d] x3; [J][outputs][d] */
    real *dup, *dact, *dqkv, *datt; /* [J][rows][...]; rows of dup up to decoder_stride(up) apart */
    real *xhat;                     /* [rows][d] */
    real *q1, *q2, *q_mean;         /* norm of queries and keys: [J][rows][att] x2, [rows][heads] */
    double *q_sum;                  /* [J or 3][rows] */
    struct block_tangent *tangent;  /* [blocks]; one set of buffers for all, or kept */
    struct tensors *base;           /* [K] directions in the layer acquired */
    real *tx, *ta, *tpart, *tpart2, *tact,
        *thelp;                  /* [K][rows][d], tact [f]: as x, a, part, xhat, act; thelp [rows][d] of xhat */
    real *tout_x, *tout_att;     /* [K][outputs][...] as out_x, out_att */
    real *tg, *th;               /* [K][outputs][d] as g, h */
    double *tlse, *tsum, *along; /* [K][outputs]; [2 K][slab]; [sequences] */
    real *tr, *q3, *q_tr; /* [rows] tangents of r; of a backward: [rows][att] and [rows][heads] as qk_hat and qk_r */
};

/* Norm of queries and keys between bias and rotation, in place in k->qkv; its backward, in place in m->dqkv, also
 * passes the parameters to the sink; with tangents t of the block and a direction's tensors tw (else NULL) it takes a delta
 * and its tangent, see backward.c. Each tensor rank has whole heads, so only a norm over all heads sends messages.
 *                                                                                  Collective over the tensor ranks. */
void qk_norm_forward(struct model *m, size_t n, const struct tensors *w, size_t layer, struct block_kept *k);
void qk_norm_backward(struct model *m, const struct cut *c, const struct sink *sink, const struct tensors *w,
                      size_t layer, const struct block_kept *k, const struct block_tangent *t, const struct tensors *tw);

/* The derivatives of that forward along K directions at m->base, from those of the rows of q, k, v in t, in place.
 *                                                                                  Collective over the tensor ranks. */
void qk_norm_tangent(struct model *m, size_t n, size_t K, const struct tensors *w, size_t layer,
                     const struct block_kept *k, const struct block_tangent *t);

/* What of a block is computed from attention's heads on: all rows, or of the last block, whose others nobody reads, the outputs. */
struct seen {
    size_t n;
    const real *x, *att;   /* of these rows: the block's input and attention's output */
    const real *tx, *tatt; /* their tangents along K directions [K][n][...] */
};
static inline bool decoder_narrows(const struct model *m, size_t layer) { return layer == m->layout->shape->blocks; }
struct seen decoder_seen(const struct model *m, const struct batch *b, size_t layer);

/* Reals from one row of deltas to the next, for products that read columns: lines of rows at a distance of 4 KB have the same
 * places in a cache, so they get one more. */
static inline size_t decoder_stride(size_t width)
{
    return width && width * sizeof(real) % 4096 == 0 ? width + 64 / sizeof(real) : width;
}

/* The highest hidden state that one of J losses acts on, or blocks + 1 if one acts on the logits, or there is none. */
size_t decoder_highest(const struct model *m, size_t J);
/* Makes the values of kept[layer - 1] that blocks share those of this block, whose weights are acquired as w. Changes m->a
 * and scratch.                                                                         Collective over the tensor ranks. */
void decoder_again(struct model *m, const struct batch *b, const struct tensors *w, size_t layer);
/* The forward up to the logits of the output rows, all of which are held. */
void decoder_logits(struct model *m, struct state *weights, const struct batch *b);
size_t decoder_slabs(const struct model *m, const struct batch *b);
struct slab decoder_slab(const struct model *m, const struct batch *b, size_t i);
/* Where `held` has the slab, K times its rows; *there: it is there already. */
real *decoder_place(const struct model *m, struct held *held, size_t n_out, const struct slab *s, size_t K, bool *there);
/* The logits of a slab, computed again if they are no longer held; the head's weights are acquired as w. */
const real *decoder_logits_of(struct model *m, const struct tensors *w, const struct batch *b, const struct slab *s);
/* Their tangents along K directions, acquired at m->base; again: as model_tangents() left them, if they are still held. */
const real *decoder_tangents_of(struct model *m, size_t K, const struct tensors *w, const struct batch *b,
                                const struct slab *s, bool again);
/* Around all slabs of a batch, however many: acquire and release the head's weights set aside, where logits are made of them. */
void decoder_aside_begin(struct model *m, const struct slabs *look);
void decoder_aside_end(struct model *m, const struct slabs *look);
/* m->cut_first for a slab: where its rows of each sequence begin. */
const size_t *decoder_cut(struct model *m, const struct batch *b, const struct slab *s);
/* Attention in one layer for the rows of a step. */
void step_attention(struct model *m, const struct batch *b, size_t layer, const struct block_kept *k);
struct attention model_attention(const struct model *m, const struct batch *b, size_t layer);
/* Sets m->turn for the batch. */
void model_turn(struct model *m, const struct batch *b);
/* Rotates the queries and keys of J stacked q, k, v, in place; direction -1: back. */
void model_rotate(const struct model *m, const struct batch *b, size_t layer, int direction, size_t J, real *qkv);
/* The tensor with this role in the layer acquired as t; of vectors NULL when the layer has none. */
static inline struct matrix matrix(const struct layout *l, const struct tensors *t, size_t layer, enum role role)
{
    return tensors_matrix(t, layout_find(l, layer, role));
}
static inline real *vector(const struct layout *l, const struct tensors *t, size_t layer, enum role role)
{
    const struct param *p = layout_find(l, layer, role);
    return p ? tensors_vector(t, p) : NULL;
}
/* Sums n partial sums over the tensor ranks, in one message. */
static inline void sum_tensor(const struct model *m, real *x, size_t n)
{
    if (m->grid->tensor_size > 1) comm_sum_real(m->grid->tensor, x, n);
}
#endif
