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
    TRY(subject_gradient(s, o, rows, weight, false, gradient, loss));
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

/* Computes the complete gradient grad R_k and the value of risks first ... first+n-1. */
static enum status risk_gradients(struct measurement *m, size_t first, size_t n)
{
    struct subject *s = m->subject;
    enum status st = OK;
    for (size_t k = first; k < first + n; k++) {
        const struct risk *risk = &s->in->risk[k];
        const struct rows rows = risk_rows(risk);
        struct state *gradient = m->risk_gradient[k - first];
        TRY(measurement_go_on(m));
        state_reduce_soon(gradient);
        st = engine_risk(&s->engine, &rows, risk->weight, gradient, m->risk_nll);
        TRY(state_reduce_after(s->grid, gradient, st));
        state_gather(gradient);
        m->risk_value[k] = risk_mean(risk, m->risk_nll);
        subject_count(s, &rows, 6);
        if (risk->data == s->in->forget) inverse_confidence(m, risk);
    }
done:
    return st;
}

/* -------------------------------------------------------------------------------------------------- effects ------- */
/* Adds the slots of each layer or tensor: effect [J][n_risk][slot][n] -> slab [J][K][label][n], at risks first ... */
static void add_slots(const struct measurement *m, size_t J, size_t first, size_t n_risk, size_t n, double *slab)
{
    const size_t slots = slot_count(m->subject->layout), labels = m->n_layer, K = m->subject->in->n_risk;
    for (size_t jk = 0; jk < J * n_risk; jk++) {
        double *to = slab + (jk / n_risk * K + first + jk % n_risk) * labels * n;
        memset(to, 0, labels * n * sizeof *to);
        for (size_t s = 0; s < slots; s++)
            for (size_t i = 0; i < n; i++) to[m->slot_layer[s] * n + i] += m->effect[(jk * slots + s) * n + i];
    }
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
                                 const struct rows *rows, const double *slab)
{
    const struct inputs *in = m->subject->in;
    const size_t labels = m->n_layer, K = in->n_risk, n = rows->n;
    for (size_t at = 0; at < J * K * labels * n; at++) {
        const size_t i = at % n, l = at / n % labels, k = at / n / labels % K, j = at / n / labels / K;
        if (isfinite(slab[at])) continue;
        return fail(ERR_NUMERIC, "%s: row %zu (from 0): the effect of %s on the risk %s is not finite in layer %s",
                    rows->data->path, rows->row[i], objective[j], in->risk[k].name, m->layer[l]);
    }
    return OK;
}

/* Effects of J objectives on one set of rows, on n_risk risks whose gradients are held. */
static enum status effects(struct measurement *m, size_t J, const struct objective *o, const struct rows *rows,
                           size_t n_risk, double *effect, double *loss, double *mean_weight)
{
    struct subject *s = m->subject;
    enum status st =
        engine_effects(&s->engine, J, o, rows, n_risk, s->in->n_risk, m->risk_gradient, effect, loss, mean_weight);
    double passes = 2 + 2.0 * (double)n_risk + 2.0 * (double)J;
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
static enum status all_objectives(struct measurement *m, size_t first, size_t n_risk)
{
    const struct inputs *in = m->subject->in;
    const size_t slots = slot_count(m->subject->layout);
    enum status st = OK;
    for (size_t j = 0, end; j < in->n_measured; j = end) {
        const struct rows rows = subject_forget(m->subject, &in->measured[j]);
        end = measured_together(in, j);
        TRY(measurement_go_on(m));
        TRY(effects(m, end - j, &in->measured[j], &rows, n_risk, m->effect + j * n_risk * slots * rows.n,
                    m->effect_loss + j * rows.n, m->mean_weight + j * rows.n));
    }
    add_slots(m, in->n_measured, first, n_risk, in->forget->n_row, m->slab);
    for (size_t i = 0; i < n_probe; i++)
        if (m->probe[i] && probe_table[i]->objectives) probe_table[i]->objectives(m, m->probe[i], first, n_risk);
done:
    return st;
}

/* The rows of the first risk on retain, on which the effects of regularisers are measured. */
static struct rows retain_rows(const struct measurement *m)
{
    const struct risk *retain = inputs_regularized(m->subject->in);
    return subject_rows(m->subject, m->subject->in->retain, retain->n, retain->row);
}

static double *retain_slab(const struct measurement *m, size_t i, size_t n)
{
    return m->retain_slab + i * m->subject->in->n_risk * m->n_layer * n;
}

static enum status all_regularizers(struct measurement *m, size_t first, size_t n_risk)
{
    const struct inputs *in = m->subject->in;
    enum status st = OK;
    for (size_t i = 0; i < in->n_regularizer && inputs_regularized(in); i++) {
        const struct rows rows = retain_rows(m);
        TRY(measurement_go_on(m));
        TRY(effects(m, 1, &in->regularizer[i].objective, &rows, n_risk, m->effect, m->retain_loss + i * rows.n,
                    m->mean_weight + in->n_measured * in->forget->n_row));
        add_slots(m, 1, first, n_risk, rows.n, retain_slab(m, i, rows.n));
    }
done:
    return st;
}

/* All that needs the gradients of these risks, which are held together. */
static enum status some_risks(struct measurement *m, size_t first, size_t n)
{
    enum status st;
    TRY(risk_gradients(m, first, n));
    TRY(all_objectives(m, first, n));
    TRY(all_regularizers(m, first, n));
    for (size_t i = 0; i < n_probe; i++)
        if (m->probe[i] && probe_table[i]->risks) {
            TRY(measurement_go_on(m));
            TRY(probe_table[i]->risks(m, m->probe[i], first, n));
        }
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------ put ------- */
static enum status put_objectives(struct measurement *m)
{
    const struct inputs *in = m->subject->in;
    const struct rows forget = subject_forget(m->subject, &in->measured[0]);
    enum status st;
    TRY(check_effects(m, in->n_measured, in->label, &forget, m->slab));
    add_totals(m);
    TRY(measurement_put(m, "geffect", m->slab));
    TRY(measurement_put(m, "instance_loss", m->effect_loss));
    TRY(measurement_put(m, "objective_weight", m->mean_weight));
    TRY(measurement_put(m, "inverse_confidence", m->inverse_confidence));
    TRY(measurement_put(m, "risk_value", m->risk_value));
done:
    return st;
}

static enum status put_regularizer(struct measurement *m, size_t i)
{
    const char *const name = objective_name(&m->subject->in->regularizer[i].objective);
    const struct rows rows = retain_rows(m);
    const double *slab = retain_slab(m, i, rows.n);
    char field[64];
    enum status st;
    TRY(check_effects(m, 1, &name, &rows, slab));
    snprintf(field, sizeof field, "geffect_%s", name);
    TRY(measurement_put(m, field, slab));
    snprintf(field, sizeof field, "instance_loss_%s", name);
    TRY(measurement_put(m, field, m->retain_loss + i * rows.n));
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------ row ------- */
enum status measure(struct measurement *m, size_t step)
{
    const struct inputs *in = m->subject->in;
    enum status st = OK;
    m->step = step;
    for (size_t i = 0; i < in->forget->n_row; i++) m->inverse_confidence[i] = NAN;
    for (size_t k = 0; k < in->n_risk; k += m->at_once) TRY(some_risks(m, k, m->at_once));
    TRY(put_objectives(m));
    for (size_t i = 0; i < in->n_regularizer && inputs_regularized(in); i++) TRY(put_regularizer(m, i));
    for (size_t i = 0; i < n_probe; i++)
        if (m->probe[i] && probe_table[i]->before) {
            TRY(measurement_go_on(m));
            TRY(probe_table[i]->before(m, m->probe[i]));
        }
done:
    return st;
}

enum status measure_formed(struct measurement *m, const struct update *u)
{
    const double loss = u ? u->loss : NAN;
    enum status st;
    TRY(measurement_put(m, "loss", &loss));
    for (size_t i = 0; i < n_probe; i++)
        if (m->probe[i] && probe_table[i]->formed) TRY(probe_table[i]->formed(m, m->probe[i], u));
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
