/* satimp: saturation and importance (arXiv 2505.11953).
 *      L = -(1/n) sum_t p_t^beta1 (1-p_t)^beta2 nll_t */
#include "unlearn/objective_priv.h"
#include <math.h>

double loss_satimp(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll,
                   double *weight)
{
    for (size_t t = 0; t < n; t++) dnll[t] = exp(-parameter[0] * nll[t]) * pow(-expm1(-nll[t]), parameter[1]);
    return weighted_ascent(n, nll, dnll, weight);
}
