/* pdu: flat predictions, the objective of primal-dual unlearning (Entesari et al. 2025, arXiv 2506.05314), where the weight of
 * what is retained is a dual variable: objective.regularizer.dual.
 *      L = (1/n) sum over the outputs t of (max_v z_tv - mean_v z_tv)^2 */
#include "unlearn/objective_priv.h"

double loss_pdu(double largest, double mean, double *dlargest)
{
    *dlargest = 2 * (largest - mean);
    return (largest - mean) * (largest - mean);
}

double tangent_pdu(double tlargest, double tmean) { return 2 * (tlargest - tmean); }
