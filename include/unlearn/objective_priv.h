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

token_loss loss_nll, loss_ga, loss_npo;

/** log sigmoid(x), finite for every finite x */
double log_sigmoid(double x);
double sigmoid(double x);
#endif
