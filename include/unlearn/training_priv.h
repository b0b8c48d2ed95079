/* Private to the room training: train.h5. */
#ifndef UNLEARN_TRAINING_PRIV_H
#define UNLEARN_TRAINING_PRIV_H
#include "unlearn/training.h"

/* train.h5: row t is update t (its batch, before the update); the last row, T, has NaN for all that belongs to an
 * update. Fields, all (step): loss, loss_objective, loss_NAME of each regulariser, lr, gradient_norm,
 * gradient_norm_objective, gradient_norm_NAME, tokens, seconds. */
struct train_file_info {
    const char *objective;
    size_t n_regularizer;
    const char *const *regularizer;
    size_t n_attribute;
    const struct attribute *attribute;
};
enum status train_file_create(const char *path, const struct train_file_info *info, struct file **out);
#endif
