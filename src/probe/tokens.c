/* Effects of single tokens, by forward mode: d[k,t] = <grad R_k, grad nll_t> for every labelled token t of the forget rows, all
 * risks in one pass. An objective L(nll_1, ..., nll_n) has the effect sum_t dL/dnll_t d[k,t] on a row, so these numbers hold
 * the effects of ga, wga, npo, tnpo, wtnpo, simnpo, satimp for any of their parameters.
 * The same pass gives every objective's effect on every row a second time, as it multiplies the losses' derivatives by the
 * outputs' tangents: how far that is from the sum over layers, which the backward made, is the duality error. */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool wanted(const struct inputs *in) { return in->measures && in->config->geffect.tokens != TOKENS_FALSE; }

static bool of_refusals(const struct inputs *in) { return in->config->geffect.tokens == TOKENS_REFUSALS; }

/* Which rows the tokens are of. */
static const struct dataset *data_of(const struct inputs *in) { return of_refusals(in) ? in->refusals : in->forget; }

static size_t count_labels(const struct dataset *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_row; i++) n += dataset_labels(d, i);
    return n;
}

static enum status check(const struct inputs *in)
{
    const struct place place = config_place(in->config, "geffect.tokens");
    if (!data_of(in))
        return fail(ERR_INPUT,
                    "%s: geffect.tokens: no objective reads refusals; measure po (geffect.objectives), or ask for true",
                    place_text(&place));
    if (!count_labels(data_of(in)))
        return fail(ERR_INPUT, "%s: geffect.tokens: no row of %s has a labelled token", place_text(&place),
                    data_of(in)->path);
    return OK;
}

/* Whether the pass of these objectives, next to each other from j on, gives the tokens as well: one for losses of hidden states
 * alone ends below the logits. */
static bool has_tokens(const struct inputs *in, size_t j)
{
    bool logits = false;
    for (size_t i = j; i < measured_together(in, j); i++) logits |= objective_kind(&in->measured[i]) != LOSS_OF_HIDDEN;
    return logits && objective_outputs(&in->measured[j]) == OUTPUTS_LABELLED &&
           inputs_of(in, &in->measured[j]) == data_of(in);
}

static bool any_has_tokens(const struct inputs *in)
{
    for (size_t j = 0; j < in->n_measured; j = measured_together(in, j))
        if (has_tokens(in, j)) return true;
    return false;
}

static void demand(const struct inputs *in, const struct plan *p, const struct layout *l, struct demand *d)
{
    const size_t at_once = plan_at_once(p, in->n_risk);
    const double passes = 2 * (double)in->n_risk / (double)at_once + 4 * (double)in->n_risk;
    const double work = passes * plan_products(l) * plan_tokens(in->forget, in->forget->n_row, NULL);
    d->tangents = at_once;
    d->bytes = (count_labels(data_of(in)) * (in->n_risk + 3) + in->n_measured * in->n_risk * (in->forget->n_row + 1) +
                in->n_measured * at_once * in->forget->n_row) *
               sizeof(double);
    for (size_t j = 0; j < in->n_measured; j = measured_together(in, j)) d->flops_measure += work;
    if (!any_has_tokens(in)) d->flops_measure += work;
}

static void end(void *self)
{
    struct tokens *t = self;
    if (!t) return;
    file_close(t->file);
    free(t->label_first), free(t->effect), free(t->nll), free(t->group), free(t->along), free(t->error);
    free(t);
}

static enum status make(const struct measurement *m, void **self)
{
    const struct inputs *in = m->subject->in;
    const size_t JK = in->n_measured * in->n_risk;
    struct tokens *t = NULL;
    enum status st = OK;
    TRY_NEW(t, 1);
    *self = t;
    t->data = data_of(in);
    t->n = count_labels(t->data);
    t->n_objective = in->n_measured, t->n_risk = in->n_risk;
    TRY_NEW(t->label_first, t->data->n_row + 1);
    for (size_t i = 0; i < t->data->n_row; i++) t->label_first[i + 1] = t->label_first[i] + dataset_labels(t->data, i);
    TRY_NEW(t->effect, in->n_risk * t->n);
    TRY_NEW(t->nll, t->n);
    TRY_NEW(t->along, JK * in->forget->n_row);
    TRY_NEW(t->group, in->n_measured * m->at_once * in->forget->n_row);
    TRY_NEW(t->error, JK);
done:
    return st;
}

/* ---------------------------------------------------------------------------------------------------- measuring ----- */
static struct rows rows_of(struct subject *s, const struct tokens *t, const struct dataset *d)
{
    struct rows rows = subject_rows(s, d, d->n_row, s->every_row);
    if (!rows.label_first) rows.label_first = t->label_first; /* else they are of the same rows, or of pairs of them */
    return rows;
}

/* sum_i w |a - b| / sum_i w |a| over the rows of one objective and risk, a and b its effects by backward and forward. */
static double difference(size_t n, const double *weight, const double *a, const double *b)
{
    double apart = 0, size = 0;
    for (size_t i = 0; i < n; i++) apart += weight[i] * fabs(a[i] - b[i]), size += weight[i] * fabs(a[i]);
    return size > 0 ? apart / size : apart;
}

/* The first token effect that is not a finite number; every rank has the same. */
static enum status check_finite(const struct inputs *in, const struct tokens *t)
{
    for (size_t k = 0; k < t->n_risk; k++)
        for (size_t i = 0; i < t->data->n_row; i++)
            for (size_t at = t->label_first[i]; at < t->label_first[i + 1]; at++)
                if (!isfinite(t->effect[k * t->n + at]))
                    return fail(ERR_NUMERIC,
                                "%s: row %zu (from 0): the effect of its labelled token %zu on the risk %s is not finite",
                                t->data->path, i, at - t->label_first[i], in->risk[k].name);
    return OK;
}

/* Objectives j ... end-1, which share their passes, along the gradients of risks first ... first+n-1. */
static enum status one_group(struct measurement *m, struct tokens *t, size_t j, size_t end, size_t first, size_t n)
{
    struct subject *s = m->subject;
    const struct inputs *in = s->in;
    const bool tokens = has_tokens(in, j);
    struct rows rows = rows_of(s, t, inputs_of(in, &in->measured[j]));
    double passes = 2 + 4 * (double)n;
    enum status st;
    rows.n = in->forget->n_row; /* a pair is one row */
    TRY(engine_tokens(&s->engine, end - j, &in->measured[j], &rows, n, m->risk_gradient,
                      tokens ? t->effect + first * t->n : NULL, tokens ? t->nll : NULL, t->group));
    for (size_t i = j; i < end; i++) {
        passes += plan_reference(s->plan, &in->measured[i]);
        memcpy(t->along + (i * t->n_risk + first) * rows.n, t->group + (i - j) * n * rows.n,
               n * rows.n * sizeof *t->along);
    }
    subject_count(s, &rows, passes);
done:
    return st;
}

static enum status risks(struct measurement *m, void *self, size_t first, size_t n)
{
    struct tokens *t = self;
    const struct inputs *in = m->subject->in;
    enum status st = OK;
    if (!any_has_tokens(in)) {
        const struct rows rows = rows_of(m->subject, t, t->data);
        TRY(engine_tokens(&m->subject->engine, 0, NULL, &rows, n, m->risk_gradient, t->effect + first * t->n, t->nll,
                          t->group));
        subject_count(m->subject, &rows, 2 + 4 * (double)n);
    }
    for (size_t j = 0, end; j < in->n_measured; j = end)
        TRY(one_group(m, t, j, end = measured_together(in, j), first, n));
done:
    return st;
}

static enum status before(struct measurement *m, void *self)
{
    struct tokens *t = self;
    const struct inputs *in = m->subject->in;
    const size_t n = in->forget->n_row, K = t->n_risk;
    enum status st = OK;
    for (size_t jk = 0; jk < in->n_measured * K; jk++)
        t->error[jk] = difference(n, m->instance_weight + jk / K * n, m->instance_effect + jk * n, t->along + jk * n);
    TRY(check_finite(in, t));
    TRY(measurement_put(m, "duality_error", t->error));
    TRY(grid_agree(m->subject->grid, t->file ? tokens_put(t) : OK));
done:
    return st;
}

/* The largest of the objectives. */
static void report(const void *self, size_t risk, struct text *line)
{
    const struct tokens *t = self;
    double most = 0;
    for (size_t j = 0; j < t->n_objective; j++) most = fmax(most, t->error[j * t->n_risk + risk]);
    text_print(line, " (duality %.2g)", most);
}

static struct file **file(void *self) { return &((struct tokens *)self)->file; }

static const struct field fields[] = {
    {"duality_error",
     {"step", "objective", "risk"},
     FIELD_DOUBLE,
     "1",
     "how far the effects by forward mode, over tokens, are from those by reverse mode, over layers: rounding",
     "sum_i w_i |sum_l e[t,j,k,l,i] - f_i| / sum_i w_i |sum_l e[t,j,k,l,i]|, w = instance_weight, f_i = derivative of "
     "L_j(s_i) "
     "along grad R_k"},
};

const struct probe tokens_probe = {.name = "tokens",
                                   .wanted = wanted,
                                   .check = check,
                                   .demand = demand,
                                   .fields = {fields, sizeof fields / sizeof *fields, "geffect.tokens"},
                                   .make = make,
                                   .risks = risks,
                                   .before = before,
                                   .open = tokens_open,
                                   .file = file,
                                   .files = tokens_files,
                                   .report = report,
                                   .end = end};
