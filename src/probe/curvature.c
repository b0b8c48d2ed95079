/* How each risk bends along an update: the term after the first in the risk's change,
 *      second order     1/2 <u, H u>      u = theta_t+1 - theta_t, H the Hessian of the risk at theta_t
 * by products of H and u (engine_hvp()), without a Hessian. The update is known when it has been made, so theta_t is kept. */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <stdlib.h>

struct curvature {
    struct state *start;                /* theta_t; the subject's, as is the next */
    struct state *product;              /* H u */
    double *second, *change, *by_layer; /* [K] x2, [K][n_layer] */
    double *dot;                        /* [n_param] */
    size_t n_layer;
    bool updated; /* there was an update to report */
};

static bool wanted(const struct inputs *in)
{
    return in->measures && (in->config->geffect.curvature.update || in->config->geffect.curvature.window);
}

static const char *keeps(const struct inputs *in) { return "geffect.curvature"; }

static void demand(const struct inputs *in, const struct plan *p, const struct layout *l, struct demand *d)
{
    const size_t labels = l->n_tensor + l->n_layer;
    demand_states(d, "start", 1, AT_FORMED, AT_UPDATED);
    demand_states(d, "curvature", 1, AT_UPDATED, AT_UPDATED);
    demand_states(d, "step", 1, AT_UPDATE, AT_UPDATED);
    d->objectives = 2, d->tangents = 1, d->keep_tangents = true;
    d->bytes = in->n_risk * labels * sizeof(double);
    for (size_t k = 0; k < in->n_risk; k++)
        d->flops_measure +=
            HVP_PRODUCTS * plan_products(l) * plan_tokens(in->risk[k].data, in->risk[k].n, in->risk[k].row);
}

static void end(void *self)
{
    struct curvature *c = self;
    if (!c) return;
    free(c->second), free(c->change), free(c->by_layer), free(c->dot);
    free(c);
}

static enum status make(const struct measurement *m, void **self)
{
    const struct layout *l = m->subject->layout;
    const size_t K = m->subject->in->n_risk;
    struct curvature *c = NULL;
    enum status st = OK;
    TRY_NEW(c, 1);
    *self = c;
    c->n_layer = m->n_layer;
    TRY_NEW(c->second, K);
    TRY_NEW(c->change, K);
    TRY_NEW(c->by_layer, K * m->n_layer);
    TRY_NEW(c->dot, l->n_param);
    TRY(subject_state(m->subject, "start", 0, &c->start));
    TRY(subject_state(m->subject, "curvature", 0, &c->product));
done:
    return st;
}

/* No update is to be expected where u is NULL: the last row of a run. */
static enum status formed(struct measurement *m, void *self, const struct update *u)
{
    struct curvature *c = self;
    if (u) state_copy(m->subject->weights, c->start);
    return OK;
}

/* by_layer [n_layer] = 1/2 <step, product> of each layer or tensor, this process's part. */
static void add_layers(const struct measurement *m, const struct curvature *c, double *by_layer)
{
    const struct layout *l = m->subject->layout;
    const bool tensors = m->subject->in->config->geffect.resolution == RESOLUTION_TENSOR;
    state_dot(m->training->step, c->product, c->dot);
    for (size_t i = 0; i < c->n_layer; i++) by_layer[i] = 0;
    for (size_t i = 0; i < l->n_param; i++) by_layer[tensors ? l->param[i].tensor : l->param[i].layer] += c->dot[i] / 2;
}

/* This process's part of the change to first order: what is frozen has not moved. */
static double first_order(const struct measurement *m, const struct curvature *c, size_t k)
{
    double sum = 0;
    state_dot(m->risk_gradient[k], m->training->step, c->dot);
    for (size_t i = 0; i < m->subject->layout->n_param; i++) sum += c->dot[i];
    return sum;
}

static enum status one_risk(struct measurement *m, struct curvature *c, size_t k)
{
    struct subject *s = m->subject;
    const struct risk *risk = &s->in->risk[k];
    const struct rows rows = risk_rows(risk);
    struct objective nll;
    enum status st;
    objective_find("nll", &nll);
    state_fill(c->product, 0);
    s->engine.weights = c->start;
    state_reduce_soon(c->product);
    st = engine_hvp(&s->engine, &nll, &rows, risk->weight, m->training->step, c->product);
    s->engine.weights = s->weights;
    TRY(state_reduce_after(s->grid, c->product, st));
    add_layers(m, c, c->by_layer + k * c->n_layer);
    c->change[k] = first_order(m, c, k);
    subject_count(s, &rows, HVP_PRODUCTS);
done:
    return st;
}

static enum status all_risks(struct measurement *m, struct curvature *c)
{
    const struct comm *sums = layout_sums(m->subject->layout, m->subject->grid);
    const struct inputs *in = m->subject->in;
    enum status st = OK;
    for (size_t k = 0; k < in->n_risk; k++) TRY(one_risk(m, c, k));
    comm_sum_double(sums, c->by_layer, in->n_risk * c->n_layer);
    comm_sum_double(sums, c->change, in->n_risk);
    for (size_t k = 0; k < in->n_risk; k++) {
        c->second[k] = 0;
        for (size_t i = 0; i < c->n_layer; i++) c->second[k] += c->by_layer[k * c->n_layer + i];
        c->change[k] += c->second[k];
        if (!isfinite(c->second[k]))
            return fail(ERR_NUMERIC, "%s: the curvature of the risk %s along the update is not finite",
                        in->risk[k].data->path, in->risk[k].name);
    }
done:
    return st;
}

static enum status after(struct measurement *m, void *self, const struct update *u)
{
    struct curvature *c = self;
    const size_t K = m->subject->in->n_risk;
    enum status st = OK, put;
    c->updated = u != NULL;
    for (size_t k = 0; k < K; k++) c->second[k] = c->change[k] = NAN;
    for (size_t i = 0; i < K * c->n_layer; i++) c->by_layer[i] = NAN;
    if (u) st = all_risks(m, c);
    put = measurement_put(m, "second_order", c->second);
    if (put == OK) put = measurement_put(m, "second_order_by_layer", c->by_layer);
    if (put == OK) put = measurement_put(m, "predicted_change_second", c->change);
    return st == OK ? put : st;
}

static void report(const void *self, size_t risk, struct text *line)
{
    const struct curvature *c = self;
    if (c->updated) text_print(line, " (second order %+.4g)", c->second[risk]);
}

static const struct field fields[] = {
    {"second_order",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "second-order term of the risk's change by update t+1",
     "1/2 <u, H_k(theta_t) u>, u = theta_t+1 - theta_t, H_k the Hessian of R_k"},
    {"second_order_by_layer",
     {"step", "risk", "layer"},
     FIELD_DOUBLE,
     "nat",
     "the part of it in one layer: the update there times what its whole curvature gives there; a tied embedding counts "
     "in "
     "embed",
     "1/2 <u_l, (H_k u)_l>"},
    {"predicted_change_second",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "change of the risk by update t+1 to second order, along the update as it was made",
     "<grad R_k(theta_t), u> + 1/2 <u, H_k(theta_t) u>"},
};

const struct probe curvature_probe = {.name = "curvature",
                                      .wanted = wanted,
                                      .keeps = keeps,
                                      .demand = demand,
                                      .fields = {fields, sizeof fields / sizeof *fields, "geffect.curvature"},
                                      .make = make,
                                      .formed = formed,
                                      .after = after,
                                      .report = report,
                                      .end = end};
