/* How every risk was predicted to change by an update, and how it changed:
 *      optimiser-aware   <grad R, theta_t+1 - theta_t>           the update as the optimiser made it
 *      plain             -lr <grad R, gradient of the batch>     as a step of SGD at the same rate would have made it
 *      actual            R(theta_t+1) - R(theta_t) */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <stdlib.h>

struct fidelity {
    double *predicted, *plain, *actual; /* [K] */
    double *dot;                        /* [n_param] */
    double *nll;                        /* of every label of one risk's rows, reused for each risk */
    bool updated;                       /* there was an update to report */
};

static bool wanted(const struct inputs *in) { return in->measures && in->config->geffect.fidelity; }

static const char *keeps(const struct inputs *in) { return "geffect.fidelity"; }

static void demand(const struct inputs *in, const struct plan *p, const struct layout *l, struct demand *d)
{
    demand_states(d, "gradient", 1, AT_GRADIENT, AT_UPDATED);
    demand_states(d, "step", 1, AT_UPDATE, AT_UPDATED);
    d->bytes = risk_labels(in) * sizeof(double);
    for (size_t k = 0; k < in->n_risk; k++)
        d->flops_measure += 2 * plan_products(l) * plan_tokens(in->risk[k].data, in->risk[k].n, in->risk[k].row);
}

static void end(void *self)
{
    struct fidelity *f = self;
    if (!f) return;
    free(f->predicted), free(f->plain), free(f->actual), free(f->dot), free(f->nll);
    free(f);
}

static enum status make(const struct measurement *m, void **self)
{
    const struct inputs *in = m->subject->in;
    struct fidelity *f = NULL;
    enum status st = OK;
    TRY_NEW(f, 1);
    *self = f;
    TRY_NEW(f->predicted, in->n_risk);
    TRY_NEW(f->plain, in->n_risk);
    TRY_NEW(f->actual, in->n_risk);
    TRY_NEW(f->dot, m->subject->layout->n_param);
    TRY_NEW(f->nll, risk_labels(in));
done:
    return st;
}

/* This process's part of <a, b> over the parameters that are not frozen. */
static double moving_dot(const struct training *t, const struct state *a, const struct state *b, double *dot)
{
    const bool *frozen = t->optim->set.frozen;
    double sum = 0;
    state_dot(a, b, dot);
    for (size_t i = 0; i < a->layout->n_param; i++)
        if (!frozen || !frozen[i]) sum += dot[i];
    return sum;
}

static void predict(const struct measurement *m, struct fidelity *f, const struct update *u)
{
    const struct subject *s = m->subject;
    const struct training *t = m->training;
    const size_t K = s->in->n_risk;
    for (size_t k = 0; k < K; k++) {
        const double batch = moving_dot(t, m->risk_gradient[k], t->gradient, f->dot);
        f->predicted[k] = moving_dot(t, m->risk_gradient[k], t->step, f->dot);
        f->plain[k] = -u->rate * optim_scale(&t->optim->set, u->norm) * batch;
    }
    comm_sum_double(layout_sums(s->layout, s->grid), f->predicted, K);
    comm_sum_double(layout_sums(s->layout, s->grid), f->plain, K);
}

/* The risk at the present weights, by forwards only. */
static enum status risk_now(struct subject *s, const struct risk *k, double *nll, double *value)
{
    const struct rows rows = risk_rows(k);
    enum status st = engine_nll(&s->engine, s->weights, &rows, nll);
    *value = risk_mean(k, nll);
    subject_count(s, &rows, 2);
    return st;
}

static enum status compare(struct measurement *m, struct fidelity *f, const struct update *u)
{
    struct subject *s = m->subject;
    enum status st = OK;
    predict(m, f, u);
    for (size_t k = 0; k < s->in->n_risk; k++) {
        double now;
        TRY(risk_now(s, &s->in->risk[k], f->nll, &now));
        f->actual[k] = now - m->risk_value[k];
    }
done:
    return st;
}

/* Puts the fields into the row even if the risks are no longer finite. */
static enum status after(struct measurement *m, void *self, const struct update *u)
{
    struct fidelity *f = self;
    enum status st = OK, put;
    f->updated = u != NULL;
    for (size_t k = 0; k < m->subject->in->n_risk; k++) f->predicted[k] = f->plain[k] = f->actual[k] = NAN;
    if (u) st = compare(m, f, u);
    put = measurement_put(m, "predicted_change", f->predicted);
    if (put == OK) put = measurement_put(m, "predicted_change_plain", f->plain);
    if (put == OK) put = measurement_put(m, "actual_change", f->actual);
    return st == OK ? put : st;
}

static void report(const void *self, size_t risk, struct text *line)
{
    const struct fidelity *f = self;
    if (f->updated) text_print(line, " (predicted %+.4g, actual %+.4g)", f->predicted[risk], f->actual[risk]);
}

static const struct field fields[] = {
    {"predicted_change",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "optimiser-aware effect: first-order change of the risk by update t+1 as the optimiser made it",
     "<grad R_k(theta_t), theta_t+1 - theta_t>"},
    {"predicted_change_plain",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "first-order change of the risk if update t+1 were a step of plain SGD at the same rate",
     "-lr <grad R_k(theta_t), grad L(S_t; theta_t) after clipping>, over what is not frozen"},
    {"actual_change",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "change of the risk by update t+1",
     "R_k(theta_t+1) - R_k(theta_t)"},
};

const struct probe fidelity_probe = {.name = "fidelity",
                                     .wanted = wanted,
                                     .keeps = keeps,
                                     .demand = demand,
                                     .fields = {fields, sizeof fields / sizeof *fields, "geffect.fidelity"},
                                     .make = make,
                                     .after = after,
                                     .report = report,
                                     .end = end};
