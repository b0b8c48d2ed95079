/* tnpo: token-wise NPO (arXiv 2502.19301, Eq. 6; the 1e-5 is its code's).
 *      L = -(1/n) sum_t w_t nll_t,  w = 2 p^beta / (p^beta + p_o^beta + 1e-5), formed from logarithms: p may underflow */
#include "unlearn/objective_priv.h"
#include <math.h>

double log_tnpo_denominator(double beta, double nll, double nll_ref)
{
    double a = -beta * nll, b = -beta * nll_ref, c = log(1e-5), most = fmax(fmax(a, b), c);
    return most + log(exp(a - most) + exp(b - most) + exp(c - most));
}

double loss_tnpo(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll,
                 double *weight)
{
    for (size_t t = 0; t < n; t++)
        dnll[t] = 2 * exp(-parameter[0] * nll[t] - log_tnpo_denominator(parameter[0], nll[t], nll_ref[t]));
    return weighted_ascent(n, nll, dnll, weight);
}

/* w' = -beta w (1 - w/2) nll' */
void tangent_tnpo(const double *parameter, size_t n, const double *nll, const double *nll_ref, const double *tnll,
                  double *tdnll)
{
    const double beta = parameter[0];
    for (size_t t = 0; t < n; t++) {
        const double share = exp(-beta * nll[t] - log_tnpo_denominator(beta, nll[t], nll_ref[t]));
        tdnll[t] = 2 * share * beta * (1 - share) * tnll[t] / (double)n;
    }
}
