/* simnpo: NPO without a reference, by mean likelihood (arXiv 2410.07163).
 *      L = -(2/beta) log sigmoid(beta (m - delta)),  m = (1/n) sum_t nll_t;  dL/dnll_t = -w/n,  w = 2 sigmoid(-beta (m - delta)) */
#include "unlearn/objective_priv.h"
#include <math.h>

double loss_simnpo(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll,
                   double *weight)
{
    double beta = parameter[0], mean = 0, margin;
    for (size_t t = 0; t < n; t++) mean += nll[t] / (double)n;
    margin = beta * (mean - parameter[1]);
    *weight = 2 * sigmoid(-margin);
    for (size_t t = 0; t < n; t++) dnll[t] = -*weight / (double)n;
    return -2 / beta * log_sigmoid(margin);
}

void tangent_simnpo(const double *parameter, size_t n, const double *nll, const double *nll_ref, const double *tnll,
                    double *tdnll)
{
    double beta = parameter[0], mean = 0, tmean = 0, margin;
    for (size_t t = 0; t < n; t++) mean += nll[t] / (double)n, tmean += tnll[t] / (double)n;
    margin = beta * (mean - parameter[1]);
    for (size_t t = 0; t < n; t++) tdnll[t] = 2 * beta * sigmoid(margin) * sigmoid(-margin) * tmean / (double)n;
}
