/* ga: gradient ascent on the answer's likelihood (arXiv 2502.19301, Eq. 1; token mean as its code has it).
 *      L = -(1/n) sum_t nll_t */
#include "unlearn/objective_priv.h"
#include <math.h>

double loss_ga(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll, double *weight)
{
    double sum = 0;
    for (size_t t = 0; t < n; t++) sum += nll[t], dnll[t] = -1.0 / (double)n;
    *weight = NAN;
    return -sum / (double)n;
}
