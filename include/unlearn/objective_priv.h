/* Private to the room objective: what a row of the table holds. */
#ifndef UNLEARN_OBJECTIVE_PRIV_H
#define UNLEARN_OBJECTIVE_PRIV_H
#include "unlearn/objective.h"

/* See objective_token(); n >= 1. */
typedef double token_loss(const double *parameter, size_t n, const double *nll, const double *nll_ref, double *dnll,
                          double *weight);
typedef struct distribution_target distribution_loss(const double *parameter); /* see objective_target() */
typedef struct hidden_target hidden_loss(const double *parameter);             /* see objective_hidden() */
typedef double pair_loss(const double *parameter, double win, double lose, double *dwin, double *dlose,
                         double *weight);                                /* see objective_pair() */
typedef double peak_loss(double largest, double mean, double *dlargest); /* see objective_peak() */
/* Tangents of their derivatives: see objective_token_tangent() and its like. */
typedef void token_tangent(const double *parameter, size_t n, const double *nll, const double *nll_ref,
                           const double *tnll, double *tdnll);
typedef void pair_tangent(const double *parameter, double win, double lose, double twin, double tlose, double *tdwin,
                          double *tdlose);
typedef double peak_tangent(double tlargest, double tmean);
enum { MOST_WORDS = 3 };
struct objective_row {
    const char *name;
    enum combine combine;
    unsigned needs;
    struct {
        const char *name;
        double standard, least, most;
        const char *words[MOST_WORDS]; /* a word instead of a number; its value is its index, the default the first */
    } parameter[MAX_PARAMETER];
    const char *equation;
    const char *meaning, *source;         /* for --help and docs/INPUT.md; NULL: no input names it */
    bool counts;                          /* the first parameter must be a whole number */
    enum positions positions[MOST_WORDS]; /* for each word of the parameter `positions`; without one the first */
    token_loss *token;                    /* exactly one of these five is set */
    distribution_loss *distribution;
    hidden_loss *hidden;
    pair_loss *pair;
    peak_loss *peak;
    token_tangent *token_tangent; /* beside token; NULL: the derivative is constant */
    pair_tangent *pair_tangent;   /* beside pair */
    peak_tangent *peak_tangent;   /* beside peak */
};

token_loss loss_nll, loss_ga, loss_npo, loss_wga, loss_tnpo, loss_wtnpo, loss_satimp, loss_simnpo;
distribution_loss target_kl, target_ceu, target_undial;
hidden_loss hidden_rmu, hidden_rr;
pair_loss loss_dpo;
peak_loss loss_pdu;
token_tangent tangent_npo, tangent_wga, tangent_tnpo, tangent_wtnpo, tangent_satimp, tangent_simnpo;
pair_tangent tangent_dpo;
peak_tangent tangent_pdu;

/** log sigmoid(x), finite for every finite x */
double log_sigmoid(double x);
double sigmoid(double x);
/** -(1/n) sum_t w_t nll_t, w constant: dnll [n] holds w on entry, the derivative on return; *weight = mean w. */
double weighted_ascent(size_t n, const double *nll, double *dnll, double *weight);
/** log(p^beta + p_o^beta + 1e-5) of one token, from its nll under the model and the reference */
double log_tnpo_denominator(double beta, double nll, double nll_ref);
#endif
