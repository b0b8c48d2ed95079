/* rmu: misdirection of representations (Li et al. 2024, arXiv 2403.03218; arXiv 2502.19301, Eq. 8).
 *      L = (1/n) sum over the outputs t before a label of mean_d (h_t - c u)^2,  u uniform in [0,1)^d, fixed by the seed */
#include "unlearn/objective_priv.h"

struct hidden_target hidden_rmu(const double *parameter)
{
    return (struct hidden_target){.layer = (size_t)parameter[0], .scale = parameter[1]};
}
