/* optim: AdamW and SGD over a state, learning-rate schedules, gradient norm. Moments may be held in bfloat16; the weights that
 * are updated are reals. */
#ifndef UNLEARN_OPTIM_H
#define UNLEARN_OPTIM_H
#include "unlearn/core.h"
#include "unlearn/parallel.h"
#include "unlearn/state.h"

enum optim_kind { OPTIM_ADAMW, OPTIM_SGD };
enum optim_schedule { LR_CONSTANT, LR_LINEAR, LR_COSINE };
struct optim_settings {
    enum optim_kind kind;
    enum optim_schedule schedule;
    double lr, beta1, beta2, eps, weight_decay;
    double clip;          /* largest norm of the whole gradient; 0: none */
    size_t warmup, steps; /* updates of the run */
    const bool *frozen;   /* [n_param] parameters that are not updated; borrowed; NULL: none */
    bool half;            /* both moments are held in bfloat16, rounded at random: see values.c */
    uint64_t seed;        /* of that */
};
struct optim {
    struct optim_settings set;
    struct state *m, *v; /* owned; NULL for sgd */
    bool *decays;        /* [n_param] owned; NULL: all parameters decay */
    uint64_t done;       /* updates made */
};
enum status optim_new(const struct optim_settings *set, const struct layout *l, struct optim **out);
void optim_free(struct optim *o);
/** From now on matrices alone decay: no norm, no bias; and of the layers from `unreached` on, which get no gradient from any
 *  loss (0: all layers do), none.                                                                               Local. */
enum status optim_decay_matrices(struct optim *o, const struct layout *l, size_t unreached);
/** lr of update t = 0 ... steps-1: lr t/warmup while t < warmup (0 first, as Hugging Face does), then constant, or linear
 *  to 0 at t = steps, or half a cosine to 0.                                                                    Local. */
double optim_rate(const struct optim_settings *set, size_t t);
/** 2-norm of the gradient of all parameters that are not frozen (NULL: none is), every element counted once.
 *                                                                                         Collective over layout_sums(). */
double optim_norm(const struct grid *g, const bool *frozen, const struct state *gradient);
/** Factor by which clipping scales a gradient of this norm.                                                   Local. */
double optim_scale(const struct optim_settings *set, double norm);
/** One update of the weights from a complete gradient of norm `norm`, at the rate of update o->done; of this
 *  process's part of every layer, then the weights are gathered. A frozen parameter does not decay either.
 *                                                                                       Collective over the data ranks. */
void optim_update(struct optim *o, struct state *gradient, double norm, struct state *weights);
/** The change to first order that this update will make, but without making it: dot [n_param] = <direction, weights after -
 *  weights before> of each parameter, what this process counts: sum over layout_sums() to complete.              Local. */
void optim_predict(const struct optim *o, const struct state *gradient, double norm, const struct state *weights,
                   const struct state *direction, double *dot);
#endif
