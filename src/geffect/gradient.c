/* Likelihoods and gradients of a list of rows: risks, batches, regularisers. */
#include "unlearn/geffect_priv.h"
#include <math.h>
#include <string.h>

static enum status worse(enum status a, enum status b) { return a > b ? a : b; }

void pass_give(const struct engine *e, const struct rows *r, size_t p, const struct batch *b, const double *value,
               double *to)
{
    const struct engine_room *room = e->room;
    for (size_t i = 0; i < b->n_seq; i++) {
        const size_t row = room->row[room->start[p] + i], at = b->out_first[i];
        memcpy(to + r->label_first[row], value + at, (b->out_first[i + 1] - at) * sizeof *to);
    }
}

enum status engine_nll(struct engine *e, struct state *weights, const struct rows *r, double *nll)
{
    struct engine_room *room = e->room;
    enum status st = OK;
    memset(nll, 0, r->label_first[r->data->n_row] * sizeof *nll);
    passes_cut(e, r, OUTPUTS_LABELLED);
    for (size_t p = 0; p < room->n_pass; p++) {
        struct batch b;
        const struct pass pass = {.e = e, .r = r, .p = p, .b = &b};
        pass_pack(e, r, p, OUTPUTS_LABELLED, &b);
        st = worse(st, pass_values(&pass, weights, 0, NULL));
        pass_give(e, r, p, &b, model_nll(e->model), nll);
    }
    comm_sum_double(e->grid->data, nll, r->label_first[r->data->n_row]);
    return grid_agree(e->grid, st);
}

/* nll may be NULL. */
static enum status form_gradient(struct engine *e, const struct objective *o, const struct rows *r, const double *weight,
                                 bool add, struct state *gradient, double *loss, double *nll)
{
    struct gradient_sink context = {.gradient = gradient, .fresh = e->room->fresh};
    const struct sink sink = sink_gradient(&context);
    const enum outputs which = objective_outputs(o);
    enum status st = OK;
    memset(loss, 0, r->n * sizeof *loss);
    gradient_sink_begin(&context, add);
    passes_cut(e, r, which);
    for (size_t p = 0; p < e->room->n_pass; p++) {
        struct batch b;
        const struct pass pass = {.e = e, .r = r, .p = p, .b = &b, .J = 1, .o = o, .weight = weight, .loss = loss};
        if (p + 1 == e->room->n_pass) state_last_pass(gradient);
        pass_pack(e, r, p, which, &b);
        st = worse(st, pass_backward(&pass, &sink));
        state_settle(gradient);
        if (nll) pass_give(e, r, p, &b, model_nll(e->model), nll);
    }
    gradient_sink_end(&context);
    comm_sum_double(e->grid->data, loss, r->n);
    return grid_agree(e->grid, st);
}

enum status engine_gradient(struct engine *e, const struct objective *o, const struct rows *r, const double *weight,
                            bool add, struct state *gradient, double *loss)
{
    return form_gradient(e, o, r, weight, add, gradient, loss, NULL);
}

enum status engine_risk(struct engine *e, const struct rows *r, const double *weight, struct state *gradient, double *nll)
{
    struct objective o;
    size_t labels = r->label_first[r->data->n_row];
    enum status st;
    objective_find("nll", &o);
    memset(nll, 0, labels * sizeof *nll);
    st = form_gradient(e, &o, r, weight, false, gradient, e->room->loss, nll);
    comm_sum_double(e->grid->data, nll, labels);
    return st;
}
