/* The Gram matrix: inner products, layer by layer, of the whole gradients that a step has and the update that it makes.
 * Norms, cosines, and totals of effects follow from it:
 *      gram[objective, risk] = sum over instances of weight times effect (a tied embedding counts in embed alone here)
 *      gram[risk, update]    = the risk's change to first order */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OBJECTIVE, BATCH, REGULARIZER }; /* the first ones; risks and the update follow, also without a regulariser */

static size_t first_risk(const struct inputs *in) { return in->n_regularizer ? REGULARIZER + 1 : REGULARIZER; }
size_t gram_size(const struct inputs *in) { return first_risk(in) + in->n_risk + 1; }

enum status gram_check(const struct inputs *in)
{
    static const char *const taken[] = {"objective", "batch", "regularizer", "update"};
    for (size_t k = 0; k < in->n_risk && in->gram; k++)
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

enum status gram_new(struct run *r)
{
    const struct inputs *in = r->in;
    struct gram *g = NULL;
    size_t n = gram_size(in), risk = first_risk(in);
    enum status st = OK;
    TRY_NEW(g, 1);
    g->n = n;
    TRY_NEW(g->label, n);
    TRY_NEW(g->vector, n);
    TRY_NEW(g->value, r->n_out_layer * n * n);
    TRY_NEW(g->row, r->n_out_layer * n);
    TRY_NEW(g->dot, r->layout->n_param);
    TRY(state_new("objective's gradient", r->layout, &g->objective));
    g->label[OBJECTIVE] = "objective", g->label[BATCH] = "batch", g->label[n - 1] = "update";
    if (in->n_regularizer) g->label[REGULARIZER] = "regularizer";
    for (size_t k = 0; k < in->n_risk; k++) g->label[risk + k] = in->risk[k].name;
    g->vector[OBJECTIVE] = g->objective;
    for (size_t k = 0; k < in->n_risk; k++) g->vector[risk + k] = r->risk_gradient[k];
    r->gram = g, g = NULL;
done:
    gram_free(g);
    return st;
}

void gram_free(struct gram *g)
{
    if (!g) return;
    state_free(g->objective);
    free(g->label), free(g->vector), free(g->value), free(g->row), free(g->dot);
    free(g);
}

/* Inner products of vector i with all before it and itself. */
static void add_row(struct run *r, size_t i)
{
    const struct layout *l = r->layout;
    struct gram *g = r->gram;
    const size_t n = g->n;
    bool tensors = r->in->config->geffect.resolution == RESOLUTION_TENSOR;
    memset(g->row, 0, r->n_out_layer * n * sizeof *g->row);
    for (size_t j = 0; j <= i; j++) {
        if (!g->vector[j]) continue;
        state_dot(g->vector[i], g->vector[j], g->dot);
        for (size_t p = 0; p < l->n_param; p++) g->row[(tensors ? p : l->param[p].layer) * n + j] += g->dot[p];
    }
    comm_sum_double(r->grid->tensor, g->row, r->n_out_layer * n);
    for (size_t out = 0; out < r->n_out_layer; out++)
        for (size_t j = 0; j <= i; j++)
            if (g->vector[j]) g->value[(out * n + i) * n + j] = g->value[(out * n + j) * n + i] = g->row[out * n + j];
}

enum status gram_measure(struct run *r, const struct update *u)
{
    const struct inputs *in = r->in;
    const struct objective *o = in->trains ? &in->objective : &in->measured[0];
    const struct rows rows = run_forget(r, o);
    struct gram *g = r->gram;
    double loss;
    enum status st;
    TRY(rows_gradient(r, o, &rows, g->objective, &loss));
    g->vector[BATCH] = u ? r->gradient : NULL;
    if (in->n_regularizer) g->vector[REGULARIZER] = u ? r->regularizer : NULL;
    g->vector[g->n - 1] = u ? r->step : NULL;
    for (size_t i = 0; i < r->n_out_layer * g->n * g->n; i++) g->value[i] = NAN;
    for (size_t i = 0; i + 1 < g->n; i++)
        if (g->vector[i]) add_row(r, i);
done:
    return st;
}

void gram_update(struct run *r) { add_row(r, r->gram->n - 1); }
