/* One row of geffect.h5: risks and their gradients on their full sets, then all effects of all objectives in one stacked
 * backward, then those of the regularisers on the retain rows, then the probes. */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <string.h>

enum status set_gradient(struct subject *s, const struct objective *o, const struct rows *rows, double *weight,
                         double *loss, struct state *gradient)
{
    const struct param *p;
    enum status st;
    TRY(objective_weights(s->in, o, rows, weight));
    TRY(subject_gradient(s, o, rows, weight, gradient, loss));
    if ((p = state_not_finite(gradient)))
        st = fail(ERR_NUMERIC, "%s: the gradient of %s of %s is not finite (rank %d)", rows->data->path,
                  objective_name(o), p->name, s->grid->rank);
    st = grid_agree(s->grid, st);
done:
    return st;
}

void measurement_interruptible(struct measurement *m, bool (*ask)(void *context), void *context)
{
    m->ask = ask, m->context = context;
}

enum status measurement_go_on(const struct measurement *m)
{
    return m->ask && m->ask(m->context) ? fail(ERR_STOPPED, "the measurement was stopped") : OK;
}

/* For every forget row of this risk: the mean over its labels of 1/p, bounded so that p = 0 gives a number. */
static void inverse_confidence(struct measurement *m, const struct risk *k)
{
    for (size_t i = 0; i < k->n; i++) {
        const size_t first = k->label_first[k->row[i]], end = k->label_first[k->row[i] + 1];
        double sum = 0;
        for (size_t t = first; t < end; t++) sum += 1 / (exp(-m->risk_nll[t]) + 1e-20);
        m->inverse_confidence[k->row[i]] = end > first ? sum / (double)(end - first) : NAN;
    }
}

/* Computes the complete gradient grad R_k and the value of every risk. */
static enum status risk_gradients(struct measurement *m)
{
    struct subject *s = m->subject;
    const struct inputs *in = s->in;
    enum status st = OK;
    for (size_t i = 0; i < in->forget->n_row; i++) m->inverse_confidence[i] = NAN;
    for (size_t k = 0; k < in->n_risk; k++) {
        const struct risk *risk = &in->risk[k];
        const struct rows rows = risk_rows(risk);
        TRY(measurement_go_on(m));
        state_fill(m->risk_gradient[k], 0);
        state_reduce_soon(m->risk_gradient[k]);
        st = engine_risk(&s->engine, &rows, risk->weight, m->risk_gradient[k], m->risk_nll);
        TRY(state_reduce_after(s->grid, m->risk_gradient[k], st));
        state_gather(m->risk_gradient[k]);
        m->risk_value[k] = risk_mean(risk, m->risk_nll);
        subject_count(s, &rows, 6);
        if (risk->data == in->forget) inverse_confidence(m, risk);
    }
done:
    return st;
}

/* -------------------------------------------------------------------------------------------------- effects ------- */
/* Adds the slots of each layer or tensor: effect [J][K][slot][n] -> slab [J][K][label][n]. */
static void add_slots(struct measurement *m, size_t J, size_t n)
{
    const size_t slots = slot_count(m->subject->layout), labels = m->n_layer, K = m->subject->in->n_risk;
    memset(m->slab, 0, J * K * labels * n * sizeof *m->slab);
    for (size_t jk = 0; jk < J * K; jk++)
        for (size_t s = 0; s < slots; s++)
            for (size_t i = 0; i < n; i++)
                m->slab[(jk * labels + m->slot_layer[s]) * n + i] += m->effect[(jk * slots + s) * n + i];
}

/* Sums the effects over layers and weighted instances, for the log. */
static void add_totals(struct measurement *m)
{
    const struct inputs *in = m->subject->in;
    const size_t n = in->forget->n_row, labels = m->n_layer, K = in->n_risk;
    for (size_t jk = 0; jk < in->n_measured * K; jk++) {
        const double *weight = m->instance_weight + jk / K * n, *e = m->slab + jk * labels * n;
        double *whole = m->instance_effect + jk * n;
        m->total[jk] = 0;
        memset(whole, 0, n * sizeof *whole);
        for (size_t l = 0; l < labels; l++)
            for (size_t i = 0; i < n; i++) {
                m->total[jk] += weight[i] * e[l * n + i];
                whole[i] += e[l * n + i];
            }
    }
}

/* Names the first effect of slab [J][K][layer][n] that is not a finite number. Every rank has the same. */
static enum status check_effects(const struct measurement *m, size_t J, const char *const *objective,
                                 const struct rows *rows)
{
    const struct inputs *in = m->subject->in;
    const size_t labels = m->n_layer, K = in->n_risk, n = rows->n;
    for (size_t at = 0; at < J * K * labels * n; at++) {
        const size_t i = at % n, l = at / n % labels, k = at / n / labels % K, j = at / n / labels / K;
        if (isfinite(m->slab[at])) continue;
        return fail(ERR_NUMERIC, "%s: row %zu (from 0): the effect of %s on the risk %s is not finite in layer %s",
                    rows->data->path, rows->row[i], objective[j], in->risk[k].name, m->layer[l]);
    }
    return OK;
}

/* Effects of J objectives on one set of rows; the results follow those of the first `at` objectives. */
static enum status effects(struct measurement *m, size_t at, size_t J, const struct objective *o, const struct rows *rows)
{
    struct subject *s = m->subject;
    const size_t K = s->in->n_risk, n = rows->n;
    enum status st =
        engine_effects(&s->engine, J, o, rows, K, m->risk_gradient, m->effect + at * K * slot_count(s->layout) * n,
                       m->effect_loss + at * n, m->mean_weight + at * n);
    double passes = 2 + 2.0 * (double)K + 2.0 * (double)J;
    for (size_t j = 0; j < J; j++) passes += plan_reference(s->plan, &o[j]);
    subject_count(s, rows, passes);
    return st;
}

size_t measured_together(const struct inputs *in, size_t j)
{
    const struct objective *o = in->measured;
    size_t end = j + 1;
    while (end < in->n_measured && inputs_of(in, &o[end]) == inputs_of(in, &o[j]) &&
           objective_outputs(&o[end]) == objective_outputs(&o[j]))
        end++;
    return end;
}

/* Consecutive objectives that read the same outputs of the same rows are measured together, in the same passes. */
static enum status all_objectives(struct measurement *m)
{
    const struct inputs *in = m->subject->in;
    const struct rows forget = subject_forget(m->subject, &in->measured[0]);
    enum status st = OK;
    for (size_t j = 0, end; j < in->n_measured; j = end) {
        const struct rows rows = subject_forget(m->subject, &in->measured[j]);
        end = measured_together(in, j);
        TRY(measurement_go_on(m));
        TRY(effects(m, j, end - j, &in->measured[j], &rows));
    }
    add_slots(m, in->n_measured, in->forget->n_row);
    TRY(check_effects(m, in->n_measured, in->label, &forget));
    add_totals(m);
done:
    return st;
}

static enum status put_objectives(struct measurement *m, double batch_loss)
{
    enum status st;
    TRY(measurement_put(m, "geffect", m->slab));
    TRY(measurement_put(m, "instance_loss", m->effect_loss));
    TRY(measurement_put(m, "objective_weight", m->mean_weight));
    TRY(measurement_put(m, "inverse_confidence", m->inverse_confidence));
    TRY(measurement_put(m, "risk_value", m->risk_value));
    TRY(measurement_put(m, "loss", &batch_loss));
done:
    return st;
}

static enum status put_regularizer(struct measurement *m, const char *name)
{
    char field[64];
    enum status st;
    snprintf(field, sizeof field, "geffect_%s", name);
    TRY(measurement_put(m, field, m->slab));
    snprintf(field, sizeof field, "instance_loss_%s", name);
    TRY(measurement_put(m, field, m->effect_loss));
done:
    return st;
}

/* Effects of the regularisers on the rows of the first risk on retain. */
static enum status all_regularizers(struct measurement *m)
{
    const struct inputs *in = m->subject->in;
    const struct risk *retain = inputs_regularized(in);
    enum status st = OK;
    for (size_t i = 0; i < in->n_regularizer && retain; i++) {
        const struct objective *o = &in->regularizer[i].objective;
        const struct rows rows = subject_rows(m->subject, in->retain, retain->n, retain->row);
        const char *const name = objective_name(o);
        TRY(measurement_go_on(m));
        TRY(effects(m, 0, 1, o, &rows));
        add_slots(m, 1, rows.n);
        TRY(check_effects(m, 1, &name, &rows));
        TRY(put_regularizer(m, name));
    }
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------ row ------- */
enum status measure(struct measurement *m, size_t step, const struct update *u)
{
    enum status st;
    m->step = step;
    TRY(risk_gradients(m));
    TRY(all_objectives(m));
    for (size_t i = 0; i < n_probe; i++)
        if (m->probe[i] && probe_table[i]->objectives) probe_table[i]->objectives(m, m->probe[i]);
    TRY(put_objectives(m, u ? u->loss : NAN));
    TRY(all_regularizers(m));
    for (size_t i = 0; i < n_probe; i++)
        if (m->probe[i] && probe_table[i]->before) {
            TRY(measurement_go_on(m));
            TRY(probe_table[i]->before(m, m->probe[i], u));
        }
done:
    return st;
}

/* The row of geffect.h5 comes last: where it is, the others are. */
static enum status commit(const struct measurement *m, int64_t step)
{
    enum status st = OK;
    for (size_t i = 0; i < n_probe; i++) {
        struct file **f = m->probe[i] && probe_table[i]->file ? probe_table[i]->file(m->probe[i]) : NULL;
        if (f && *f) TRY(file_commit(*f, step));
    }
    TRY(file_commit(m->file, step));
done:
    return st;
}

/* Commits the row even if a probe fails after the update, so that the values of the others are kept. */
enum status measure_end(struct measurement *m, size_t step, const struct update *u)
{
    const struct grid *grid = m->subject->grid;
    enum status st = OK, now;
    for (size_t i = 0; i < n_probe; i++)
        if (m->probe[i] && probe_table[i]->after && (now = probe_table[i]->after(m, m->probe[i], u)) != OK)
            st = st == OK ? now : st;
    phase_enter(PHASE_OUTPUT);
    now = grid_agree(grid, m->file ? commit(m, (int64_t)step) : OK);
    phase_enter(PHASE_OTHER);
    measurement_report(m, step);
    return st == OK ? now : st;
}
