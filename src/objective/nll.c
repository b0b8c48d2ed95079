/* nll: mean negative log-likelihood of the answer. The risk; fine-tuning; the regulariser gd on retain rows.
 *      L = (1/n) sum_t nll_t */
#include "unlearn/objective_priv.h"
#include <math.h>

double loss_nll(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll, double *weight)
{
    double sum = 0;
    for (size_t t = 0; t < n; t++) sum += nll[t], dnll[t] = 1.0 / (double)n;
    *weight = NAN;
    return sum / (double)n;
}
