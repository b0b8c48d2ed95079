/* kl: stay near the reference's predictions on retain rows (arXiv 2502.19301, Sec. 4).
 *      L = (1/T) sum over all positions t of KL(softmax(z_o,t) || softmax(z_t)) */
#include "unlearn/objective_priv.h"

struct distribution_target target_kl(const double *parameter) { return (struct distribution_target){.divergence = true}; }
