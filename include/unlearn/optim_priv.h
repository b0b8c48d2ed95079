/* optim, for its own files: the update of what is held in either way. */
#ifndef UNLEARN_OPTIM_PRIV_H
#define UNLEARN_OPTIM_PRIV_H
#include "unlearn/optim.h"

/* Of some elements: gradient, moments (neither: plain SGD), and weights. */
struct values {
    struct matrix g, m, v;
    real *w;
};
/** One update of n elements of a parameter, of which this process's first is its element `first` here, and in the whole model
 *  number `element` is the parameter's first; `key` is that of the update. With moments in reals and a gradient in reals the
 *  numbers are those of adamw_update().                                                                          Local. */
void update_values(const struct adamw *a, double scale, const struct param *p, size_t first, size_t n,
                   const struct values *of, uint32_t key, uint64_t element);
/** <direction, what that update would do to the weights>, the same for any number of threads.                    Local. */
double predict_values(const struct adamw *a, double scale, size_t n, const struct values *of, struct matrix direction);
/** What rounds the moments of update `done` of a run at random. */
uint32_t update_key(uint64_t seed, uint64_t done);
#endif
