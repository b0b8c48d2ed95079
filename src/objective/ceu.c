/* ceu: cross-entropy unlearning (CE-U; Yang 2025, arXiv 2503.01224).
 *      L = -(1/n) sum_t sum_v q_tv log p_tv,  q_t = softmax(z_t without the label), a constant; the first `skip` labels of a
 *      row are left out, as there is nothing yet that they would continue */
#include "unlearn/objective_priv.h"
#include <math.h>

struct distribution_target target_ceu(const double *parameter)
{
    return (struct distribution_target){.own = true, .shift = INFINITY, .skip = (size_t)parameter[0]};
}
