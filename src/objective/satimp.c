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

/* w' = p^beta1 (beta2 p (1-p)^(beta2-1) - beta1 (1-p)^beta2) nll', with dp = -p nll'. At p = 1 nll' is 0 as 1-p is, and so is
 * the limit of their product where the power alone is infinite. */
void tangent_satimp(const double *parameter, size_t n, const double *nll, const double *nll_ref, const double *tnll,
                    double *tdnll)
{
    const double a = parameter[0], b = parameter[1];
    for (size_t t = 0; t < n; t++) {
        const double p = exp(-nll[t]), rest = -expm1(-nll[t]);
        const double rise = b > 0 && (rest > 0 || b >= 1) ? b * p * pow(rest, b - 1) : 0;
        tdnll[t] = exp(-a * nll[t]) * (a * pow(rest, b) - rise) * tnll[t] / (double)n;
    }
}
