/* How every risk changes over a window of N updates, predicted from where it began, theta_0, and measured. The ways d and c that
 * the updates would make, to first order and with the matrices A, come with the updates: training/window.c.
 *      first order   <grad R, d>  = -sum_s lr_s <grad R, g_s>            the sum of the first-order effects
 *      corrected     <grad R, c>  = -sum_s lr_s <grad R, A_s g_s>        the later updates meet gradients that have turned
 *      second order  the same + 1/2 <d, H_R d>                           and the risk's own gradient has turned too
 *      measured      R(theta_N) - R(theta_0)
 * grad R and H_R are those of theta_0. */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <stdlib.h>

struct prediction {
    double *first, *corrected, *second, *measured; /* [K] */
    double *dot;                                   /* [n_param] */
    double *nll;                                   /* of every label of one risk's rows, reused for each risk */
    bool ended;                                    /* a window ends at this row */
};

static bool wanted(const struct inputs *in) { return window_length(in) > 0; }

static void demand(const struct inputs *in, const struct plan *p, const struct layout *l, struct demand *d)
{
    d->bytes = risk_labels(in) * sizeof(double);
    for (size_t k = 0; k < in->n_risk; k++) /* if each measured row ended a window */
        d->flops_measure +=
            (6 + HVP_PRODUCTS) * plan_products(l) * plan_tokens(in->risk[k].data, in->risk[k].n, in->risk[k].row);
}

static void end(void *self)
{
    struct prediction *w = self;
    if (!w) return;
    free(w->first), free(w->corrected), free(w->second), free(w->measured), free(w->dot), free(w->nll);
    free(w);
}

static enum status make(const struct measurement *m, void **self)
{
    const struct inputs *in = m->subject->in;
    struct prediction *w = NULL;
    enum status st = OK;
    TRY_NEW(w, 1);
    *self = w;
    TRY_NEW(w->first, in->n_risk);
    TRY_NEW(w->corrected, in->n_risk);
    TRY_NEW(w->second, in->n_risk);
    TRY_NEW(w->measured, in->n_risk);
    TRY_NEW(w->dot, m->subject->layout->n_param);
    TRY_NEW(w->nll, risk_labels(in));
done:
    return st;
}

/* This process's part of <a, b>. */
static double part_of_dot(const struct measurement *m, struct prediction *w, const struct state *a, const struct state *b)
{
    double sum = 0;
    state_dot(a, b, w->dot);
    for (size_t i = 0; i < m->subject->layout->n_param; i++) sum += w->dot[i];
    return sum;
}

/* At the weights of the window's start, which the engine has. */
static enum status one_risk(struct measurement *m, struct prediction *w, size_t k)
{
    struct subject *s = m->subject;
    const struct update_window *from = m->training->window;
    const struct risk *risk = &s->in->risk[k];
    const struct rows rows = risk_rows(risk);
    struct objective nll;
    enum status st;
    objective_find("nll", &nll);
    state_fill(from->product, 0);
    TRY(engine_risk(&s->engine, &rows, risk->weight, from->gradient, w->nll));
    TRY(engine_hvp(&s->engine, &nll, &rows, risk->weight, from->first, from->product));
    TRY(state_reduce(s->grid, from->gradient));
    TRY(state_reduce(s->grid, from->product));
    w->measured[k] = m->risk_value[k] - risk_mean(risk, w->nll);
    w->first[k] = part_of_dot(m, w, from->gradient, from->first);
    w->corrected[k] = part_of_dot(m, w, from->gradient, from->corrected);
    w->second[k] = w->corrected[k] + part_of_dot(m, w, from->first, from->product) / 2;
    subject_count(s, &rows, 6 + HVP_PRODUCTS);
done:
    return st;
}

static enum status all_risks(struct measurement *m, struct prediction *w)
{
    struct subject *s = m->subject;
    const size_t K = s->in->n_risk;
    enum status st = OK;
    s->engine.weights = m->training->window->start;
    for (size_t k = 0; k < K && st == OK; k++) st = one_risk(m, w, k);
    s->engine.weights = s->weights;
    TRY(st);
    comm_sum_double(layout_sums(s->layout, s->grid), w->first, K);
    comm_sum_double(layout_sums(s->layout, s->grid), w->corrected, K);
    comm_sum_double(layout_sums(s->layout, s->grid), w->second, K);
done:
    return st;
}

static enum status before(struct measurement *m, void *self)
{
    struct prediction *w = self;
    enum status st = OK;
    w->ended = window_ends(m->training);
    for (size_t k = 0; k < m->subject->in->n_risk; k++)
        w->first[k] = w->corrected[k] = w->second[k] = w->measured[k] = NAN;
    if (w->ended) TRY(all_risks(m, w));
    TRY(measurement_put(m, "window_first_order", w->first));
    TRY(measurement_put(m, "window_corrected", w->corrected));
    TRY(measurement_put(m, "window_second_order", w->second));
    TRY(measurement_put(m, "window_measured", w->measured));
done:
    return st;
}

static void report(const void *self, size_t risk, struct text *line)
{
    const struct prediction *w = self;
    if (w->ended)
        text_print(line, " (window %+.4g, corrected %+.4g, second order %+.4g, measured %+.4g)", w->first[risk],
                   w->corrected[risk], w->second[risk], w->measured[risk]);
}

static const struct field fields[] = {
    {"window_first_order",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "change of the risk over the window of updates that ends here: sum of the first-order effects at its start; NaN "
     "where "
     "none ends",
     "-sum_s lr_s <grad R_k(theta_0), g_s>, g_s = gradient of update s's loss at theta_0, the start of the window"},
    {"window_corrected",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "the same, corrected for how each update turns the gradients of those after it",
     "-sum_s lr_s <grad R_k(theta_0), A_s g_s>, A_s = I - sum_r>s lr_r H_r, H_r = derivative of g_r at theta_0"},
    {"window_second_order",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "the corrected sum and the risk's own curvature along the way: all terms of second order in the learning rate",
     "window_corrected + 1/2 <d, H_k(theta_0) d>, d = -sum_s lr_s g_s"},
    {"window_measured",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "change of the risk over the window as it was",
     "R_k(theta_N) - R_k(theta_0)"},
};

const struct probe window_probe = {.name = "window",
                                   .wanted = wanted,
                                   .check = window_check,
                                   .demand = demand,
                                   .fields = {fields, sizeof fields / sizeof *fields, "geffect.curvature.window above 0"},
                                   .make = make,
                                   .before = before,
                                   .report = report,
                                   .end = end};
