/* npo: negative preference optimisation (Zhang et al. 2024, arXiv 2404.05868; arXiv 2502.19301, Eqs. 3-4).
 *      L = -(2/beta) log sigmoid(beta (S - S_o)),  S = sum_t nll_t;  dL/dnll_t = -w,  w = 2 sigmoid(-beta (S - S_o)) */
#include "unlearn/objective_priv.h"

double loss_npo(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll, double *weight)
{
    double beta = parameter[0], margin = 0;
    for (size_t t = 0; t < n; t++) margin += nll[t] - nll_ref[t];
    *weight = 2.0 * sigmoid(-beta * margin);
    for (size_t t = 0; t < n; t++) dnll[t] = -*weight;
    return -2.0 / beta * log_sigmoid(beta * margin);
}

void tangent_npo(const double *parameter, size_t n, const double *nll, const double *nll_ref, const double *tnll,
                 double *tdnll)
{
    double beta = parameter[0], margin = 0, tmargin = 0;
    for (size_t t = 0; t < n; t++) margin += nll[t] - nll_ref[t], tmargin += tnll[t];
    for (size_t t = 0; t < n; t++) tdnll[t] = 2 * beta * sigmoid(beta * margin) * sigmoid(-beta * margin) * tmargin;
}
