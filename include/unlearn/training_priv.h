/* Private to the room training: train.h5; how rows are weighed. */
#ifndef UNLEARN_TRAINING_PRIV_H
#define UNLEARN_TRAINING_PRIV_H
#include "unlearn/training.h"

/* train.h5: row t is update t (its batch, before the update); the last row, T, has NaN for all that belongs to an
 * update. Fields, all (step): loss, loss_objective, loss_NAME of each regulariser, lr, gradient_norm,
 * gradient_norm_objective, gradient_norm_NAME, tokens, seconds, and dual_weight where there is one. */
struct train_file_info {
    const char *objective;
    size_t n_regularizer;
    const char *const *regularizer;
    bool dual; /* a regulariser's weight is a dual variable */
    size_t n_attribute;
    const struct attribute *attribute;
};
enum status train_file_create(const char *path, const struct train_file_info *info, struct file **out);

/** Weights of an update's rows, by train.combine, times the factor of their part (NULL: 1).                      Local. */
void part_weights(const struct training *t, const struct objective *o, const struct rows *r, const double *factor,
                  double *weight);

enum status window_new(struct subject *s, struct update_window **out);
void window_free(struct update_window *w);

/** The entry of regulariser k if its weight is a dual variable; NULL: it is fixed. */
const struct config_objective *dual_of(const struct inputs *in, size_t k);
double dual_weight(const struct training *t);
void dual_set(struct training *t, double weight);
/** Before and after the gradient of regulariser k in update i: sets t->factor, the weight of each part, and dual_next.
 *                                                                                          Collective over the job. */
enum status dual_begin(struct training *t, size_t i, size_t k, const struct rows *r);
void dual_end(struct training *t, size_t i, size_t k, const struct rows *r);
/** When the weights have been updated: the dual weight moves.                              Collective over the job. */
enum status dual_updated(struct training *t, size_t i);
#endif
