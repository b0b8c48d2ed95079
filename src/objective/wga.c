/* wga: gradient ascent weighted by confidence (arXiv 2502.19301, Eq. 2): a forgotten token has weight near 0.
 *      L = -(1/n) sum_t p_t^alpha nll_t */
#include "unlearn/objective_priv.h"
#include <math.h>

double loss_wga(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll, double *weight)
{
    for (size_t t = 0; t < n; t++) dnll[t] = exp(-parameter[0] * nll[t]);
    return weighted_ascent(n, nll, dnll, weight);
}

void tangent_wga(const double *parameter, size_t n, const double *nll, const double *nll_ref, const double *tnll,
                 double *tdnll)
{
    for (size_t t = 0; t < n; t++) tdnll[t] = parameter[0] * exp(-parameter[0] * nll[t]) * tnll[t] / (double)n;
}
