/* One row of geffect.h5: risks and their gradients on their full sets, then all effects of all objectives in one stacked
 * backward, then those of the regularisers on the retain rows. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <string.h>

enum status rows_gradient(struct run *r, const struct objective *o, const struct rows *rows, struct state *gradient,
                          double *loss)
{
    enum status st;
    TRY(objective_weights(r->in, o, rows, r->weight));
    math_fill(r->layout->size, 0, gradient->data);
    TRY(engine_gradient(&r->engine, o, rows, r->weight, gradient, r->loss));
    TRY(state_reduce(r->grid, gradient));
    *loss = 0;
    for (size_t i = 0; i < rows->n; i++) *loss += r->weight[i] * r->loss[i];
    r->flops += (6 + plan_reference(r->plan, o)) * plan_products(r->layout) * rows_tokens(rows);
done:
    return st;
}

/* Of every forget row that this risk reads: the mean over its labels of 1/p, bounded so that p = 0 gives a number. */
static void inverse_confidence(struct run *r, const struct risk *k)
{
    for (size_t i = 0; i < k->n; i++) {
        const size_t first = k->label_first[k->row[i]], end = k->label_first[k->row[i] + 1];
        double sum = 0;
        for (size_t t = first; t < end; t++) sum += 1 / (exp(-r->risk_nll[t]) + 1e-20);
        r->inverse_confidence[k->row[i]] = end > first ? sum / (double)(end - first) : NAN;
    }
}

/* grad R_k of every risk, complete, and its value. */
static enum status risk_gradients(struct run *r)
{
    const struct inputs *in = r->in;
    enum status st = OK;
    for (size_t i = 0; i < in->forget->n_row; i++) r->inverse_confidence[i] = NAN;
    for (size_t k = 0; k < in->n_risk; k++) {
        const struct risk *risk = &in->risk[k];
        const struct rows rows = risk_rows(risk);
        math_fill(r->layout->size, 0, r->risk_gradient[k]->data);
        TRY(engine_risk(&r->engine, &rows, risk->weight, r->risk_gradient[k], r->risk_nll));
        TRY(state_reduce(r->grid, r->risk_gradient[k]));
        r->risk_value[k] = risk_mean(risk, r->risk_nll);
        r->flops += 6 * plan_products(r->layout) * rows_tokens(&rows);
        if (risk->data == in->forget) inverse_confidence(r, risk);
    }
done:
    return st;
}

/* [J][K][slot][n] -> [J][K][label][n] */
static void add_slots(struct run *r, size_t J, size_t n)
{
    size_t slots = slot_count(r->layout), labels = r->n_out_layer, K = r->in->n_risk;
    memset(r->slab, 0, J * K * labels * n * sizeof *r->slab);
    for (size_t jk = 0; jk < J * K; jk++)
        for (size_t s = 0; s < slots; s++)
            for (size_t i = 0; i < n; i++)
                r->slab[(jk * labels + r->slot_out[s]) * n + i] += r->effect[(jk * slots + s) * n + i];
}

/* Summed over layers and weighted instances, for the log. */
static void add_totals(struct run *r)
{
    const size_t n = r->in->forget->n_row, labels = r->n_out_layer, K = r->in->n_risk;
    for (size_t jk = 0; jk < r->in->n_measured * K; jk++) {
        const double *weight = r->instance_weight + jk / K * n, *e = r->slab + jk * labels * n;
        r->total[jk] = 0;
        for (size_t l = 0; l < labels; l++)
            for (size_t i = 0; i < n; i++) r->total[jk] += weight[i] * e[l * n + i];
    }
}

/* J objectives of one set; results stand behind those of the first `at` ones. */
static enum status effects(struct run *r, size_t at, size_t J, const struct objective *o, const struct rows *rows)
{
    size_t K = r->in->n_risk, n = rows->n;
    enum status st =
        engine_effects(&r->engine, J, o, rows, K, r->risk_gradient, r->effect + at * K * slot_count(r->layout) * n,
                       r->effect_loss + at * n, r->mean_weight + at * n);
    double passes = 2 + 2.0 * (double)K + 2.0 * (double)J;
    for (size_t j = 0; j < J; j++) passes += plan_reference(r->plan, &o[j]);
    r->flops += passes * plan_products(r->layout) * rows_tokens(rows);
    return st;
}

/* Neighbours that read the same rows share their passes. */
static enum status all_objectives(struct run *r)
{
    const struct inputs *in = r->in;
    enum status st = OK;
    for (size_t j = 0, end; j < in->n_measured; j = end) {
        const struct rows rows = run_forget(r, &in->measured[j]);
        for (end = j + 1; end < in->n_measured && inputs_of(in, &in->measured[end]) == rows.data;) end++;
        TRY(effects(r, j, end - j, &in->measured[j], &rows));
    }
    add_slots(r, in->n_measured, in->forget->n_row);
    add_totals(r);
done:
    return st;
}

static enum status put_objectives(struct run *r, double batch_loss)
{
    enum status st = OK;
    if (!r->geffect) return OK;
    TRY(file_put(r->geffect, "geffect", r->slab));
    TRY(file_put(r->geffect, "instance_loss", r->effect_loss));
    TRY(file_put(r->geffect, "objective_weight", r->mean_weight));
    TRY(file_put(r->geffect, "inverse_confidence", r->inverse_confidence));
    TRY(file_put(r->geffect, "risk_value", r->risk_value));
    TRY(file_put(r->geffect, "loss", &batch_loss));
done:
    return st;
}

const struct risk *regularized_rows(const struct inputs *in)
{
    for (size_t k = 0; k < in->n_risk; k++)
        if (in->risk[k].data == in->retain) return &in->risk[k];
    return NULL;
}

static enum status put_regularizer(struct run *r, const char *name)
{
    char field[64];
    enum status st = OK;
    if (!r->geffect) return OK;
    snprintf(field, sizeof field, "geffect_%s", name);
    TRY(file_put(r->geffect, field, r->slab));
    snprintf(field, sizeof field, "instance_loss_%s", name);
    TRY(file_put(r->geffect, field, r->effect_loss));
done:
    return st;
}

/* Effects of the regularisers on the rows of the first risk on retain. */
static enum status all_regularizers(struct run *r)
{
    const struct inputs *in = r->in;
    const struct risk *retain = regularized_rows(in);
    enum status st = OK;
    for (size_t i = 0; i < in->n_regularizer && retain; i++) {
        const struct rows rows = run_rows(r, in->retain, retain->n, retain->row);
        TRY(effects(r, 0, 1, &in->regularizer[i].objective, &rows));
        add_slots(r, 1, rows.n);
        phase_enter(PHASE_OUTPUT);
        TRY(grid_agree(r->grid, put_regularizer(r, objective_name(&in->regularizer[i].objective))));
        phase_enter(PHASE_OTHER);
    }
done:
    return st;
}

static enum status put_spread(struct run *r)
{
    return r->geffect ? file_put(r->geffect, "standard_error", r->spread->value) : OK;
}

enum status measure(struct run *r, const struct update *u)
{
    enum status st;
    TRY(risk_gradients(r));
    if (r->gram) TRY(gram_measure(r, u));
    TRY(all_objectives(r));
    phase_enter(PHASE_OUTPUT);
    TRY(grid_agree(r->grid, put_objectives(r, u ? u->loss : NAN)));
    phase_enter(PHASE_OTHER);
    TRY(all_regularizers(r));
    if (r->spread) {
        TRY(spread_measure(r));
        TRY(grid_agree(r->grid, put_spread(r)));
    }
done:
    return st;
}

static enum status put_change(struct run *r, size_t t)
{
    enum status st = OK;
    if (!r->geffect) return OK;
    if (r->gram) TRY(file_put(r->geffect, "gram", r->gram->value));
    if (r->fidelity) {
        TRY(file_put(r->geffect, "predicted_change", r->fidelity->predicted));
        TRY(file_put(r->geffect, "predicted_change_plain", r->fidelity->plain));
        TRY(file_put(r->geffect, "actual_change", r->fidelity->actual));
    }
    TRY(file_commit(r->geffect, (int64_t)t));
done:
    return st;
}

enum status measure_end(struct run *r, size_t t, const struct update *u)
{
    enum status st = OK, put;
    if (u && r->step) { /* theta_t becomes theta_t+1 - theta_t */
        math_scale(r->layout->size, -1, r->step->data);
        math_add(r->layout->size, r->weights->data, r->step->data);
    }
    if (u && r->gram) gram_update(r);
    if (r->fidelity) st = fidelity_measure(r, u); /* the row is kept also when the risks are not finite any more */
    phase_enter(PHASE_OUTPUT);
    put = grid_agree(r->grid, put_change(r, t));
    phase_enter(PHASE_OTHER);
    report_measured(r, t, u);
    return st == OK ? put : st;
}
