/* What the guard is shown of a measurement, and what it decided: the guarded risk, its gradient, and the effect of the
 * objective trained on it in each layer. The guard itself is part of training, which it acts on. */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <stdlib.h>

struct guard_probe {
    double *effect; /* [n_layer] */
};

static bool wanted(const struct inputs *in) { return in->measures && in->trains && guard_measures(in); }

static const char *keeps(const struct inputs *in)
{
    return guard_predicts(in) ? "guard.retain with of: predicted" : NULL;
}

static void demand(const struct inputs *in, const struct plan *p, const struct layout *l, struct demand *d)
{
    d->bytes = l->n_layer * sizeof(double);
}

static void end(void *self)
{
    struct guard_probe *p = self;
    if (!p) return;
    free(p->effect);
    free(p);
}

static enum status make(const struct measurement *m, void **self)
{
    struct guard_probe *p = NULL;
    enum status st = OK;
    TRY_NEW(p, 1);
    *self = p;
    TRY_NEW(p->effect, m->subject->layout->n_layer);
done:
    return st;
}

/* The effect of the objective trained on the guarded risk, summed over the instances with their weights, layer by layer. */
static void objectives(const struct measurement *m, void *self, size_t first, size_t n_risk)
{
    const struct inputs *in = m->subject->in;
    const struct layout *l = m->subject->layout;
    const size_t n = in->forget->n_row, slots = slot_count(l), j = guard_objective(in), k = guard_risk(in);
    struct guard_probe *p = self;
    if (k < first || k >= first + n_risk) return;
    for (size_t layer = 0; layer < l->n_layer; layer++) p->effect[layer] = 0;
    for (size_t s = 0; s < slots && j < in->n_measured; s++)
        for (size_t i = 0; i < n; i++)
            p->effect[slot_layer(l, s)] +=
                m->instance_weight[j * n + i] * m->effect[((j * n_risk + k - first) * slots + s) * n + i];
}

static enum status put(struct measurement *m, const struct guarded *said)
{
    const bool ends = said->verdict != GO_ON;
    const double verdict = said->verdict, model = ends ? (double)said->model : NAN;
    enum status st;
    TRY(measurement_put(m, "guard_value", &said->value));
    TRY(measurement_put(m, "guard_limit", &said->limit));
    TRY(measurement_put(m, "guard_verdict", &verdict));
    TRY(measurement_put(m, "guard_model", &model));
    if (m->subject->in->config->guard.layers) TRY(measurement_put(m, "layer_rests", said->rests));
done:
    return st;
}

static enum status formed(struct measurement *m, void *self, const struct update *u)
{
    const struct guard_probe *p = self;
    const size_t k = guard_risk(m->subject->in);
    const struct seen seen = {.step = m->step,
                              .risk = m->risk_value[k],
                              .gradient = keeps(m->subject->in) ? m->risk_gradient[k] : NULL,
                              .effect = p->effect,
                              .updates = u != NULL};
    return put(m, training_guard(m->training, &seen));
}

static const struct field fields[] = {
    {"guard_value",
     {"step"},
     FIELD_DOUBLE,
     "nat",
     "guarded risk that the budget is compared with, as measured, or as predicted after update t+1; NaN without a budget",
     "R_k(theta_t), or R_k(theta_t) + <grad R_k(theta_t), theta_t+1 - theta_t>"},
    {"guard_limit", {"step"}, FIELD_DOUBLE, "nat", "the most that guard_value may be", NULL},
    {"guard_verdict",
     {"step"},
     FIELD_DOUBLE,
     "1",
     "what the guard decided: 0 to go on, 1 to stop the run here, 2 to step back and stop",
     NULL},
    {"guard_model",
     {"step"},
     FIELD_DOUBLE,
     "1",
     "updates of the model that the run leaves, where the guard ended it",
     NULL},
    {"layer_rests",
     {"step", "layer"},
     FIELD_DOUBLE,
     "1",
     "1 where the layer gets no update until the next measured step, of a tied embedding both embed and lm_head; NaN "
     "without guard.freeze",
     "the layers of the most negative sum over i of instance_weight[j,i] e[t,j,k,l,i], j the objective trained; a tied "
     "embedding is one layer, with the sum of both"},
};

const struct probe guard_probe = {.name = "guard",
                                  .wanted = wanted,
                                  .keeps = keeps,
                                  .demand = demand,
                                  .fields = {fields, sizeof fields / sizeof *fields, "guard.retain or guard.freeze"},
                                  .make = make,
                                  .objectives = objectives,
                                  .formed = formed,
                                  .end = end};
