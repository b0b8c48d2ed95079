/* rr: retention of representations on retain rows (the other half of Li et al. 2024, arXiv 2403.03218).
 *      L = (1/T) sum over all positions t of mean_d (h_t - h_o,t)^2,  h_o under the reference weights */
#include "unlearn/objective_priv.h"

struct hidden_target hidden_rr(const double *parameter)
{
    return (struct hidden_target){.layer = (size_t)parameter[0], .scale = 1};
}
