/* undial: self-distillation with adjusted logits (UNDIAL; Dong et al. 2024, arXiv 2402.10052).
 *      L = -(1/n) sum_t sum_v q_tv log p_tv,  q_t = softmax(z_o,t - beta at the label) */
#include "unlearn/objective_priv.h"

struct distribution_target target_undial(const double *parameter)
{
    return (struct distribution_target){.shift = parameter[0]};
}
