/* math: norms, rotary, attention, activations, cross-entropy; each forward beside its backward. The only room that looks at
 * single elements of weights and activations. No messages.
 *
 * Shapes are written in memory order, rows first. n = rows (positions of a packed batch), J = deltas stacked as rows:
 * a backward takes dy [J][n][...] for ONE forward x [n][...], so row r of objective j stands at j*n + r.
 * Every function is Local and cannot fail; sizes of zero are legal and do nothing.                                   */
#ifndef UNLEARN_MATH_H
#define UNLEARN_MATH_H
#include "unlearn/blas.h"

/* -------------------------------------------------------------------------------------------------- products ----- */
/* linear_forward() where no row's result depends, bit for bit, on the other rows or on threads. Fast for few rows. */
void linear_steady(size_t n, size_t out, size_t in, const real *x, size_t ldx, struct matrix w, real *y, size_t ldy);

/* --------------------------------------------------------------------------------------------- vectors, sums ----- */
void math_add(size_t n, const real *x, real *y);                            /* y += x */
void math_add_scaled(size_t n, real a, const real *x, real *y);             /* y += a x */
void rows_scale(size_t n, size_t d, const real *x, const real *w, real *y); /* y[row] = x[row] w, elementwise */
void math_fill(size_t n, real value, real *x);
void math_scale(size_t n, real a, real *x); /* x = a x */
void math_copy(size_t n, const real *x, real *y);
/* copies rows of d columns from a matrix with row length ld to one without gaps, and back */
void columns_take(size_t n, size_t d, const real *x, size_t ld, real *y);
void columns_put(size_t n, size_t d, const real *x, real *y, size_t ld);
void bias_add(size_t n, size_t d, const real *b, real *y, size_t ldy);        /* y[row] += b */
void bias_backward(size_t n, size_t d, const real *dy, size_t ldy, real *db); /* db += sum over rows of dy */
double math_dot(size_t n, const real *x, const real *y);                      /* products of reals, summed in double */
double math_sum_squares(size_t n, const real *x);
bool math_finite(size_t n, const real *x);
/* e[i] += sum over rows r of sequence i (first[i] <= r < first[i+1]) and columns c of x[r][c] y[r][c]; sums in double */
void dots_by_sequence(size_t n_seq, const size_t *first, size_t d, const real *x, size_t ldx, const real *y, size_t ldy,
                      double *e);
/* Inner products of each sequence's gradient of W [out][in], y = x W^T, with K matrices like W: e [K][n_seq] += <dy_i^T x_i, G_k> */
struct formed {
    size_t n_seq, out, in, ldy, K;
    const size_t *first;    /* [n_seq+1] */
    const real *x, *dy;     /* [rows][in], rows of ldy */
    const struct matrix *g; /* [K] */
};
/* tiles: formed_tile(in) reals for each thread; sums: formed_sums() */
void formed_dots(const struct formed *f, real *tiles, double *sums, double *e);
size_t formed_tile(size_t in);
size_t formed_sums(size_t K, size_t n_seq);
/* What that takes for so many rows and sequences, in units of one row's product with a matrix like W. */
double formed_cost(size_t J, size_t K, double rows, double sequences);
/* Whether that is faster, for deltas of J objectives, than products of all rows with every G and dots_by_sequence(). */
bool formed_pays(size_t J, size_t K, size_t n_seq, const size_t *first);
/* dots_by_sequence() with one y [d] for all rows */
void dots_with_vector(size_t n_seq, const size_t *first, size_t d, const real *x, size_t ldx, const real *y, double *e);

/* ----------------------------------------------------------------------------------------------------- norms ----- */
enum norm_kind { NORM_RMS, NORM_RMS_OFFSET, NORM_LAYER };
/* y = xhat w (+ b); rms: xhat = x r, r = 1/sqrt(mean x^2 + eps); layer: xhat = (x - mean) r, r = 1/sqrt(var + eps);
 * rms offset: y = xhat (1 + w).
 * w, b may be NULL (1, 0). Keeps mean [n] (layer only) and r [n] for the backward. */
void norm_forward(enum norm_kind kind, size_t n, size_t d, const real *x, const real *w, const real *b, double eps,
                  real *y, real *mean, real *r);
/* recomputes xhat [n][d] from x and what the forward kept */
void norm_hat(enum norm_kind kind, size_t n, size_t d, const real *x, const real *mean, const real *r, real *xhat);
/* dx [J][n][d] += the norm's backward of dy [J][n][d]; xhat [n][d] */
void norm_backward(enum norm_kind kind, size_t J, size_t n, size_t d, const real *xhat, const real *r, const real *w,
                   const real *dy, real *dx);
/* Along a direction tx of the norm's input: txhat [n][d] and tr [n], the tangents of xhat and r. */
void norm_tangent(enum norm_kind kind, size_t n, size_t d, const real *xhat, const real *r, const real *tx, real *txhat,
                  real *tr);
/* What norm_backward() reads, and its tangents: xhat, txhat [n][d], r, tr [n], w, tw [d] or NULL (1; it does not change). */
struct norm_tangents {
    const real *xhat, *txhat, *r, *tr, *w, *tw;
};
/* ty = the tangent of y = xhat w (+ b), with that of b or NULL; w and tw are not. */
void norm_affine_tangent(enum norm_kind kind, size_t n, size_t d, const struct norm_tangents *t, const real *tb,
                         real *ty);
/* tdx [n][d] += the derivative of norm_backward(dy) along txhat, tr and tw, dy [n][d] held; that along dy is
 * norm_backward() of the tangent of dy. The same holds for the other functions x_backward_tangent below. */
void norm_backward_tangent(enum norm_kind kind, size_t n, size_t d, const struct norm_tangents *t, const real *dy,
                           real *tdx);
/* dw [d] += sum over rows of dy xhat  (one delta per row) */
void norm_backward_weight(size_t n, size_t d, const real *xhat, const real *dy, real *dw);
/* A root-mean-square norm over rows of `whole` columns of which this process has d. The caller adds the sums of all
 * processes between the two steps of each pass. Forward: sum [n] of x^2; then x becomes xhat and r [n] is kept.
 * Backward: along [J][n] = sum of dy xhat; then dy becomes r dy in all columns, minus r xhat along / whole in the
 * columns first ... first+count-1. */
void norm_part_squares(size_t n, size_t d, size_t first, size_t count, const real *x, double *sum);
void norm_part_forward(size_t n, size_t d, size_t whole, const double *sum, double eps, real *x, real *r);
void norm_part_along(size_t J, size_t n, size_t d, const real *xhat, const real *dy, double *along);
void norm_part_backward(size_t J, size_t n, size_t d, size_t whole, size_t first, size_t count, const real *xhat,
                        const real *r, const double *along, real *dy);
/* Its tangents: inner [n] = sum of x y over the process's columns first ... ; then tx becomes txhat, and tr [n] is given, from
 * the inner products of xhat and tx. Backward: tdx += the derivative of norm_part_backward(dy) along txhat and tr, from its
 * result dx, along as above, and talong [n] = sum of dy txhat. */
void norm_part_inner(size_t n, size_t d, size_t first, size_t count, const real *x, const real *y, double *inner);
void norm_part_tangent(size_t n, size_t d, size_t whole, const double *inner, const real *xhat, const real *r, real *tx,
                       real *tr);
void norm_part_backward_tangent(size_t n, size_t d, size_t whole, size_t first, size_t count,
                                const struct norm_tangents *t, const double *along, const double *talong, const real *dx,
                                real *tdx);

/* ---------------------------------------------------------------------------------------------------- rotary ----- */
/* Rotates, in place, the first `dim` entries of each of `heads` heads of size head_dim in x [n][ldx] (HF's half-split
 * pairs: entry k turns with k + dim/2) by angle position[r] * frequency[k]. cosine, sine: [positions][dim/2]. The
 * backward rotates by the opposite angle: direction = -1. J stacks rows: x [J*n][ldx]. Both tables are multiplied by
 * `scale`, and so are the entries that rotate. */
void rotary_table(size_t positions, size_t half, const double *frequency, double scale, real *cosine, real *sine);
void rotary_apply(int direction, size_t J, size_t n, const int32_t *position, size_t heads, size_t head_dim, size_t dim,
                  const real *cosine, const real *sine, real *x, size_t ldx);

/* ------------------------------------------------------------------------------------------------- attention ----- */
/* Causal attention inside each sequence of a packed batch. Row r of qkv: heads_q query heads, then heads_kv keys, then
 * heads_kv values, each head_dim wide. kv_of [heads_q]: the key-value head of each query head. */
struct attention {
    size_t n_seq;
    const size_t *first; /* [n_seq + 1] rows of the sequences; borrowed */
    size_t heads_q, heads_kv, head_dim;
    const int *kv_of;
    double scale;                /* factor of q.k, usually 1/sqrt(head_dim) */
    double cap;                  /* scores s become cap tanh(s / cap); 0: they stay */
    size_t window;               /* a query sees that many keys, itself the last; 0: all */
    const unsigned char *hidden; /* [n] 1: as a key the row is seen by no query, its own included; a query that sees no
                                    other key sees its own; NULL: none is hidden; borrowed */
};
size_t attention_scratch(const struct attention *a, size_t longest); /* reals of scratch, for the threads set */
/* out [n][heads_q*head_dim]; lse [n][heads_q] is kept for the backward (log of the softmax's denominator) */
void attention_forward(const struct attention *a, const real *qkv, real *out, real *lse, real *scratch);
/* The forward of rows that continue sequences in a cache, by one position or many: row r of the batch stands at
 * position[r] of its sequence, and consecutive rows of a sequence at consecutive positions. Their keys and values are
 * written to the cache first; then each query sees all positions up to its own. Results equal those of
 * attention_forward() for the whole sequence up to rounding; they do not depend, bit for bit, on how the sequence is
 * cut, on other sequences or on threads. */
struct attention_past {
    size_t longest;              /* positions that a slot has room for */
    const size_t *slot;          /* [n_seq] slot of each sequence in the cache, all different */
    const int32_t *position;     /* [n]; 0 begins a new sequence in the slot */
    real *cache;                 /* attention_cache() reals for one layer; need not be initialised */
    const unsigned char *hidden; /* [slots][longest] as in struct attention, whose own is not read; NULL: none */
};
size_t attention_cache(const struct attention *a, size_t slots, size_t longest); /* reals, for any a->n_seq */
void attention_cached(const struct attention *a, const struct attention_past *past, const real *qkv, real *out,
                      real *scratch); /* scratch: of attention_scratch(a, longest) */
/* dqkv [J][n][(heads_q+2 heads_kv)*head_dim] = the backward of dout [J][n][heads_q*head_dim]; overwrites dqkv. No T x T
 * array of scores is ever stored: they are recomputed for a block of queries at a time. */
void attention_backward(const struct attention *a, size_t J, size_t n, const real *qkv, const real *out, const real *lse,
                        const real *dout, real *dqkv, real *scratch);
/* tdqkv += the derivative of attention_backward(dout), J = 1, along tqkv and tout, the tangents of qkv and of the output. */
struct attention_tangents {
    const real *qkv, *tqkv, *out, *tout;
};
void attention_backward_tangent(const struct attention *a, const struct attention_tangents *x, const real *lse,
                                const real *dout, real *tdqkv, real *scratch);
size_t attention_tangent_scratch(const struct attention *a, size_t longest); /* reals of scratch, for the threads set */

/* Derivatives of `out` along K directions: tout [K][n][heads_q*head_dim] from tqkv [K][n][...], those of qkv.
 *      tS = scale (tQ K^T + Q tK^T)     tP = P (tS - rowsum(P tS))     tO = tP V + P tV */
void attention_tangent(const struct attention *a, size_t K, size_t n, const real *qkv, const real *lse, const real *tqkv,
                       real *tout, real *scratch);

/* ----------------------------------------------------------------------------------------------- activations ----- */
enum activation { ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_RELU, N_ACTIVATION };
/* gated: up [n][2f] = gate columns then up columns, y = act(gate) * up; plain: up [n][f], y = act(up) */
void activation_forward(enum activation act, bool gated, size_t n, size_t f, const real *up, real *y);
/* dup [J][n][2f or f], rows ldup apart, from dy [J][n][f]; and y again, to the bit, which costs nothing there */
void activation_backward(enum activation act, bool gated, size_t J, size_t n, size_t f, const real *up, const real *dy,
                         real *y, real *dup, size_t ldup);
/* Derivatives of y along K directions: ty [K][n][f] from tup [K][n][2f or f], those of up */
void activation_tangent(enum activation act, bool gated, size_t K, size_t n, size_t f, const real *up, const real *tup,
                        real *ty);

/* tdup [n][2f or f], rows ldup apart, += the derivative of activation_backward(dy) along tup [n][2f or f] */
void activation_backward_tangent(enum activation act, bool gated, size_t n, size_t f, const real *up, const real *tup,
                                 const real *dy, real *tdup, size_t ldup);

/* -------------------------------------------------------------------------------- embedding and cross-entropy ----- */
/* x[r] = table[id[r] - first] where first <= id[r] < first + rows, else 0 */
void embedding_forward(size_t n, size_t d, const int32_t *id, size_t first, size_t rows, struct matrix table, real *x);
/* dx[j*n + r] = 0 for the rows whose id is `which` */
void rows_clear(size_t J, size_t n, size_t d, const int32_t *id, int32_t which, real *dx);
/* dtable[id[r] - first] += dx[r], rows in order */
void embedding_backward(size_t n, size_t d, const int32_t *id, size_t first, size_t rows, const real *dx,
                        struct matrix dtable);
/* y[k] = x[row[k]] and its backward in place: x[j*n_x + row[k]] = x[j*n_row + k], other rows 0; `row` ascends */
void rows_gather(size_t n_row, const size_t *row, size_t d, const real *x, real *y);
void rows_spread(size_t J, size_t n_row, const size_t *row, size_t d, size_t n_x, real *x);
void rows_add(size_t n_row, const size_t *row, size_t d, const real *y, real *x); /* x[row[k]] += y[k]; rows differ */

/* A slice of the vocabulary: logits [n][v], columns first ... first+v-1 of the whole. The three partial results of all
 * slices combine by max, sum, sum: lse = max + log(sum exp(z - max)); nll = lse - z[id]. */
void logits_max(size_t n, size_t v, const real *logits, double *max);                    /* v = 0: -inf */
void logits_sum(size_t n, size_t v, const real *logits, const double *max, double *sum); /* of exp(z - max) */
void logits_pick(size_t n, size_t v, size_t first, const real *logits, const int32_t *id, double *z); /* 0 elsewhere */
void logits_total(size_t n, size_t v, const real *logits, double *sum); /* of the logits themselves */
/* dlogits[k] = coef[k] (onehot(id[k]) - 1/vocabulary): the backward of coef . (logit at id - mean logit). */
void logits_peak_backward(size_t n, size_t v, size_t first, const int32_t *id, const double *coef, double vocabulary,
                          real *dlogits);
/* best[k] = {the largest logit, its id}, the lowest id among equal logits; {-inf, first} if there is no number. */
void logits_best(size_t n, size_t v, size_t first, const real *logits, double (*best)[2]);
/* In place, z [n][v] = cap tanh(z / cap); its backward, in place in dz [J][n][v], from the capped z. */
void logits_cap(size_t n, size_t v, double cap, real *z);
void logits_cap_backward(size_t J, size_t n, size_t v, double cap, const real *z, real *dz);
/* tdz [n][v] += the derivative of logits_cap_backward(dz) along tz, the tangent of the capped z; dz as before that call. */
void logits_cap_backward_tangent(size_t n, size_t v, double cap, const real *z, const real *tz, const real *dz,
                                 real *tdz);
/* Draws a token from softmax(z / temperature), z [v] over the whole vocabulary, by u in [0, 1): the first token, in
 * order of ids, at which the cumulative probability exceeds u. With top_p < 1 it draws, in order of probability, from
 * the fewest most probable tokens that together have at least top_p (lower ids first among equal ones). 0 < top_p <= 1;
 * temperature > 0; scratch [v]. */
struct candidate {
    double p;
    int32_t id;
};
int32_t logits_draw(size_t v, const real *z, double temperature, double top_p, double u, struct candidate *scratch);
/* dlogits[k] = coef[k] (softmax(logits[k]) - onehot(id[k])): the backward of coef . nll; id < 0: no label, row = 0.
 * dlogits may be logits itself. */
void logits_backward(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                     const double *coef, real *dlogits);
/* tdlogits = the tangent of logits_backward() along those of the logits, their lse (whole) and of coef; coef NULL: it stays. */
struct logits_tangents {
    const real *logits;
    const double *lse, *coef;
};
void logits_backward_tangent(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                             const double *coef, const struct logits_tangents *t, real *tdlogits);
/* Of a distribution q = exp(logits - lse) that has nothing at the label: mean = this slice's share of sum_v q tlogits, the
 * tangent of lse; then, from the whole mean, tdlogits -= coef times the tangent of q. */
void logits_mean_without(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                         const real *tlogits, double *mean);
void logits_tangent_without(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                            const double *coef, const real *tlogits, const double *mean, real *tdlogits);
/* logits_max and logits_sum with the label's logit lowered by `shift`; INFINITY: without the label's logit. */
void logits_max_lowered(size_t n, size_t v, size_t first, const real *logits, const int32_t *id, double shift,
                        double *max);
void logits_sum_lowered(size_t n, size_t v, size_t first, const real *logits, const int32_t *id, double shift,
                        const double *max, double *sum);
/* A constant target distribution q = softmax(other), where the label's logit in other is lowered by `lowered`. */
struct logits_target {
    const real *other; /* [n][v]; may be the logits themselves */
    const double *lse; /* [n] log-sum-exp of other, label lowered, over the whole vocabulary */
    double lowered;    /* 0: label not lowered; INFINITY: q is 0 at the label */
    bool divergence;
};
/* loss[k] = this slice's share of the cross-entropy -sum_v q log p, or of the Kullback-Leibler divergence
 * sum_v q (log q - log p); dlogits[k] = coef[k] (p - q), the same for both. dlogits is neither of the inputs. */
void logits_toward(size_t n, size_t v, size_t first, const real *logits, const double *lse, const int32_t *id,
                   const struct logits_target *t, const double *coef, double *loss, real *dlogits);
/* mean [K][n] = this slice's share of sum_v p t, p = exp(logits - lse): the derivative of lse along directions in which the
 * logits have the derivatives t [K][n][v]. */
void logits_mean(size_t K, size_t n, size_t v, const real *logits, const double *lse, const real *t, double *mean);
/* sum[k] = this slice's share of sum_v p (log p - about[k])^power, power 1 or 2; about NULL: 0. Power 1 gives the mean
 * of log p under p, power 2 with about = mean its variance; mean of squares minus squared mean would lose digits. */
void logits_moment(size_t n, size_t v, const real *logits, const double *lse, const double *about, int power,
                   double *sum);
/* loss[k] = mean over d columns of (x - scale y)^2, and dx[k] = coef[k] times its derivative by x[k]; ldy 0: one y [d]
 * for all rows. dx may be x. Differences and sums are in double. */
void rows_toward(size_t n, size_t d, const real *x, double scale, const real *y, size_t ldy, const double *coef,
                 double *loss, real *dx);

/* ---------------------------------------------------------------- norms of gradients that are not formed (ghosts) ----- */
/* |dy^T x|^2 of a linear layer, x [n][in], dy [n][out] in rows of ldy; gram [2][n][n] and columns [n][out] are scratch. */
double ghost_linear(size_t n, size_t in, const real *x, size_t out, const real *dy, size_t ldy, real *gram,
                    real *columns);
/* The same for the gradient that embedding_backward() would add to its table; sum [d] is scratch. */
double ghost_embedding(size_t n, size_t d, const int32_t *id, size_t first, size_t rows, const real *dx, real *sum);
/* Inner product of that gradient and dy^T x, the two uses of a tied embedding; x [m][d]; dy [m] in rows of ldy has the columns of
 * the n ids, 0 for those that are not here; gram [m][n] is scratch. */
double ghost_cross(size_t n, size_t d, const real *dx, size_t m, const real *x, const real *dy, size_t ldy, real *gram);

/* ------------------------------------------------------------------------------------------ updates, storage ----- */
/* One AdamW step, bias-corrected, decoupled decay (Loshchilov & Hutter 2019): step counts from 1. All arrays [n]. */
struct adamw {
    double lr, beta1, beta2, eps, decay;
    uint64_t step;
};
void adamw_update(const struct adamw *a, size_t n, const real *gradient, double scale, real *m, real *v, real *weight);
void sgd_update(double lr, double decay, size_t n, const real *gradient, double scale, real *weight);

enum storage { STORE_F32, STORE_BF16, STORE_F16, STORE_F64, N_STORAGE };
size_t storage_size(enum storage s); /* bytes of an element */
void storage_load(enum storage s, size_t n, const void *from, real *to);
void storage_save(enum storage s, size_t n, const real *from, void *to); /* round to nearest even */
#endif
