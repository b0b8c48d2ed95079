/* dpo: direct preference optimisation, a stock refusal preferred to the answer (Rafailov et al. 2023, arXiv 2305.18290;
 * scaled like npo).
 *      L = -(2/beta) log sigmoid(beta (r_lose - r_win)),  r = S - S_o of the answer (lose) and of the refusal (win)
 *      dL/dr_win = w = -dL/dr_lose,  w = 2 sigmoid(-beta (r_lose - r_win)) */
#include "unlearn/objective_priv.h"

double loss_dpo(const double *parameter, double win, double lose, double *dwin, double *dlose, double *weight)
{
    double beta = parameter[0], margin = beta * (lose - win);
    *weight = 2 * sigmoid(-margin);
    *dwin = *weight, *dlose = -*weight;
    return -2 / beta * log_sigmoid(margin);
}

void tangent_dpo(const double *parameter, double win, double lose, double twin, double tlose, double *tdwin,
                 double *tdlose)
{
    const double beta = parameter[0], margin = beta * (lose - win);
    *tdwin = -2 * sigmoid(margin) * sigmoid(-margin) * beta * (tlose - twin), *tdlose = -*tdwin;
}
