/* The Gram matrix: inner products, layer by layer, among the whole gradients of a step and its update. Norms, cosines,
 * and totals of effects follow from it:
 *      gram[objective, risk] = sum over instances of weight times effect (here a tied embedding counts in embed only)
 *      gram[risk, update]    = the risk's change to first order */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct gram {
    size_t n, n_layer;       /* n gradients, the last of which is the update */
    const char **label;      /* [n] borrowed names */
    struct state **vector;   /* [n] borrowed; NULL: this step does not have it */
    struct state *objective; /* grad L(D_u), the subject's */
    double *value;           /* [n_layer][n][n] */
    double *row;             /* [n_layer][n] */
    double *dot;             /* [n_param] */
    double *weight, *loss;   /* [forget rows] */
};
enum { OBJECTIVE, BATCH, REGULARIZER }; /* the first indices; without a regulariser the risks begin at 2 */

static size_t first_risk(const struct inputs *in) { return in->n_regularizer ? REGULARIZER + 1 : REGULARIZER; }
static size_t size(const struct inputs *in) { return first_risk(in) + in->n_risk + 1; }

/* auto: together with fidelity, since gram splits its prediction into parts. */
static bool wanted(const struct inputs *in)
{
    const enum gram_key key = in->config->geffect.gram;
    return in->measures && (key == GRAM_TRUE || (key == GRAM_AUTO && in->config->geffect.fidelity));
}

static enum status check(const struct inputs *in)
{
    static const char *const taken[] = {"objective", "batch", "regularizer", "update"};
    for (size_t k = 0; k < in->n_risk; k++)
        for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
            if (!strcmp(in->risk[k].name, taken[i])) {
                const struct place place = config_place(in->config, "geffect.risks");
                return fail(ERR_INPUT,
                            "%s: geffect.risks: \"%s\" is the name of another gradient in the Gram matrix: choose "
                            "another name, or geffect.gram: false",
                            place_text(&place), taken[i]);
            }
    return OK;
}

static const char *keeps(const struct inputs *in)
{
    return in->config->geffect.gram == GRAM_TRUE ? "geffect.gram" : "geffect.fidelity";
}

static void demand(const struct inputs *in, const struct plan *p, const struct layout *l, struct demand *d)
{
    const size_t labels = l->n_tensor + l->n_layer, n = size(in), R = in->n_regularizer;
    demand_held(d, (struct held){"objective", 1, AT_FORMED, AT_UPDATED, .half = true});
    if (in->trains) {
        demand_states(d, "gradient", 1, AT_GRADIENT, AT_UPDATED);
        if (R) demand_states(d, "regulariser", 1, AT_GRADIENT, R == 1 ? AT_UPDATED : AT_GRADIENT);
        if (R > 1) demand_states(d, "regularisers", 1, AT_GRADIENT, AT_UPDATED);
        demand_states(d, "step", 1, AT_UPDATE, AT_UPDATED);
    }
    d->bytes = labels * n * (n + 1) * sizeof(double);
    d->flops_measure = 6 * plan_products(l) * plan_tokens(in->forget, in->forget->n_row, NULL);
}

static void end(void *self)
{
    struct gram *g = self;
    if (!g) return;
    free(g->label), free(g->vector), free(g->value), free(g->row), free(g->dot), free(g->weight), free(g->loss);
    free(g);
}

static enum status make(const struct measurement *m, void **self)
{
    const struct inputs *in = m->subject->in;
    const size_t n = size(in), risk = first_risk(in);
    struct gram *g = NULL;
    enum status st = OK;
    TRY_NEW(g, 1);
    *self = g;
    g->n = n, g->n_layer = m->n_layer;
    TRY_NEW(g->label, n);
    TRY_NEW(g->vector, n);
    TRY_NEW(g->value, g->n_layer * n * n);
    TRY_NEW(g->row, g->n_layer * n);
    TRY_NEW(g->dot, m->subject->layout->n_param);
    TRY_NEW(g->weight, in->forget->n_row);
    TRY_NEW(g->loss, in->forget->n_row);
    TRY(subject_state(m->subject, "objective", 0, &g->objective));
    g->label[OBJECTIVE] = "objective", g->label[BATCH] = "batch", g->label[n - 1] = "update";
    if (in->n_regularizer) g->label[REGULARIZER] = "regularizer";
    for (size_t k = 0; k < in->n_risk; k++) g->label[risk + k] = in->risk[k].name;
    g->vector[OBJECTIVE] = g->objective;
    for (size_t k = 0; k < in->n_risk; k++) g->vector[risk + k] = m->risk_gradient[k];
done:
    return st;
}

static const struct axis own_axis[] = {
    {.name = "gradient", .long_name = "gradient, or the update, on one side of an inner product"},
    {.name = "gradient_other", .long_name = "gradient, or the update, on the other side"},
};

static size_t axes(const void *self, struct axis axis[MOST_AXES])
{
    const struct gram *g = self;
    for (int k = 0; k < 2; k++) {
        axis[k] = own_axis[k];
        axis[k].n = g->n, axis[k].label = g->label;
    }
    return 2;
}

/* Adds the inner products of vector i with all vectors before it and with itself. */
static void add_row(const struct measurement *m, struct gram *g, size_t i)
{
    const struct layout *l = m->subject->layout;
    const size_t n = g->n;
    const bool tensors = m->subject->in->config->geffect.resolution == RESOLUTION_TENSOR;
    memset(g->row, 0, g->n_layer * n * sizeof *g->row);
    for (size_t j = 0; j <= i; j++) {
        if (!g->vector[j]) continue;
        state_dot(g->vector[i], g->vector[j], g->dot);
        for (size_t p = 0; p < l->n_param; p++)
            g->row[(tensors ? l->param[p].tensor : l->param[p].layer) * n + j] += g->dot[p];
    }
    comm_sum_double(layout_sums(l, m->subject->grid), g->row, g->n_layer * n);
    for (size_t out = 0; out < g->n_layer; out++)
        for (size_t j = 0; j <= i; j++)
            if (g->vector[j]) g->value[(out * n + i) * n + j] = g->value[(out * n + j) * n + i] = g->row[out * n + j];
}

/* Computes all inner products that do not involve the update. */
static enum status formed(struct measurement *m, void *self, const struct update *u)
{
    const struct inputs *in = m->subject->in;
    const struct objective *o = in->trains ? &in->objective : &in->measured[0];
    const struct rows rows = subject_forget(m->subject, o);
    struct gram *g = self;
    enum status st;
    TRY(set_gradient(m->subject, o, &rows, g->weight, g->loss, g->objective));
    g->vector[BATCH] = u ? m->training->gradient : NULL;
    if (in->n_regularizer)
        g->vector[REGULARIZER] = !u ? NULL : in->n_regularizer > 1 ? m->training->regularizers : m->training->part;
    g->vector[g->n - 1] = u ? m->training->step : NULL;
    for (size_t i = 0; i < g->n_layer * g->n * g->n; i++) g->value[i] = NAN;
    for (size_t i = 0; i + 1 < g->n; i++)
        if (g->vector[i]) add_row(m, g, i);
done:
    return st;
}

static enum status after(struct measurement *m, void *self, const struct update *u)
{
    struct gram *g = self;
    if (u && u->cosine < 0)
        g->vector[BATCH] = NULL; /* guard.project has changed it: it is not what the other entries are of */
    if (u) add_row(m, g, g->n - 1);
    return measurement_put(m, "gram", g->value);
}

static const struct field fields[] = {
    {"gram",
     {"step", "layer", "gradient", "gradient_other"},
     FIELD_DOUBLE,
     "nat2",
     "inner product of two gradients, or of a gradient and the update, in one layer; a tied embedding counts in embed",
     "<grad_l L(D_u; theta_t), grad_l L(S_t; theta_t)> and so on: objective = the objective trained (task geffect: the "
     "first one measured) over the whole forget set; batch = all of update t+1 before clipping (NaN with the update "
     "where guard.project has changed it); regularizer = its "
     "regularisers' part; each risk; update = theta_t+1 - theta_t. With the update on one side the unit is nat, on both "
     "1"},
};

const struct probe gram_probe = {.name = "gram",
                                 .wanted = wanted,
                                 .keeps = keeps,
                                 .check = check,
                                 .demand = demand,
                                 .fields = {fields, sizeof fields / sizeof *fields, "geffect.gram"},
                                 .own_axis = own_axis,
                                 .n_own_axis = sizeof own_axis / sizeof *own_axis,
                                 .axes = axes,
                                 .make = make,
                                 .formed = formed,
                                 .after = after,
                                 .end = end};
