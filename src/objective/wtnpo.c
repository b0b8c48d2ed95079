/* wtnpo: tnpo times wga's confidence (arXiv 2502.19301; its code).
 *      L = -(1/n) sum_t w_t nll_t,  w = 2 p^(beta+alpha) / (p^beta + p_o^beta + 1e-5) */
#include "unlearn/objective_priv.h"
#include <math.h>

double loss_wtnpo(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll,
                  double *weight)
{
    double beta = parameter[0], alpha = parameter[1];
    for (size_t t = 0; t < n; t++)
        dnll[t] = 2 * exp(-(beta + alpha) * nll[t] - log_tnpo_denominator(beta, nll[t], nll_ref[t]));
    return weighted_ascent(n, nll, dnll, weight);
}

void tangent_wtnpo(const double *parameter, size_t n, const double *nll, const double *nll_ref, const double *tnll,
                   double *tdnll)
{
    const double beta = parameter[0], alpha = parameter[1];
    for (size_t t = 0; t < n; t++) {
        const double denominator = log_tnpo_denominator(beta, nll[t], nll_ref[t]);
        const double w = 2 * exp(-(beta + alpha) * nll[t] - denominator), share = exp(-beta * nll[t] - denominator);
        tdnll[t] = w * (beta + alpha - beta * share) * tnll[t] / (double)n;
    }
}
