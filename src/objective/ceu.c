/* ceu: cross-entropy unlearning (CE-U; Yang 2025, arXiv 2503.01224).
 *      L = -(1/n) sum_t sum_v q_tv log p_tv,  q_t = softmax(z_t without the label), a constant
 * The first `skip` labels of a row are left out: they have no answer before them to continue. */
#include "unlearn/objective_priv.h"
#include <math.h>

struct distribution_target target_ceu(const double *parameter)
{
    return (struct distribution_target){.own = true, .shift = INFINITY, .skip = (size_t)parameter[0]};
}
