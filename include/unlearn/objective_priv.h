/* Private to the room objective: what a row of the table holds. */
#ifndef UNLEARN_OBJECTIVE_PRIV_H
#define UNLEARN_OBJECTIVE_PRIV_H
#include "unlearn/objective.h"

/* See objective_token(); n >= 1. */
typedef double token_loss(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll,
                          double *weight);
struct objective_row {
    const char *name;
    enum combine combine;
    unsigned needs;
    struct {
        const char *name;
        double standard, least, most;
    } parameter[MAX_PARAMETER];
    token_loss *loss; /* NULL: a divergence from the reference's distribution */
    const char *equation;
};

token_loss loss_nll, loss_ga, loss_npo, loss_wga, loss_tnpo, loss_wtnpo, loss_satimp, loss_simnpo;

/** log sigmoid(x), finite for every finite x */
double log_sigmoid(double x);
double sigmoid(double x);
/** -(1/n) sum_t w_t nll_t of constant weights: dnll [n] holds w on entry, its derivative after; *weight = mean w. */
double weighted_ascent(size_t n, const double *nll, double *dnll, double *weight);
/** log(p^beta + p_o^beta + 1e-5) of one token, from its nll under the model and the reference */
double log_tnpo_denominator(double beta, double nll, double nll_ref);
#endif
