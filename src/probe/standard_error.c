/* The standard error of every effect over the rows of its risk. Exchanging the roles of the two gradients,
 *      e_jk = <grad R_k, grad L_j(D_u)> = sum over rows i of weight_i x_ij,    x_ij = <grad nll(s_i), grad L_j(D_u)>
 * so one backward over the risk's rows, with the objectives' gradients in the place of risk gradients, gives all x_ij.
 * They tell how far the total would move with another sample of n labelled rows: sqrt(n/(n-1) sum_i d_i^2) with
 *      d_i = weight_i (x_ij - e_jk)       a mean over tokens is a ratio of two sums over rows (Cochran, Sampling Techniques,
 *                                         3rd ed., section 6.3)
 *      d_i = weight_i x_ij - e_jk/n       a mean over sequences is the mean of n terms */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <stdlib.h>

struct spread {
    size_t at_once;                             /* objectives whose gradients are held at a time: all J, or one */
    struct state **gradient;                    /* [at_once] grad L_j(D_u), the subject's */
    double *value;                              /* [J][K] */
    double *weight, *loss;                      /* [forget rows] */
    double *effect, *effect_loss, *mean_weight; /* [at_once][slot][rows of a risk], [rows of a risk] x2 */
    double *x;                                  /* [rows of a risk] */
};

static bool wanted(const struct inputs *in) { return in->measures && in->config->geffect.standard_error; }

static size_t most_rows(const struct inputs *in)
{
    size_t most = 0;
    for (size_t k = 0; k < in->n_risk; k++)
        if (most < in->risk[k].n) most = in->risk[k].n;
    return most;
}

static void demand(const struct inputs *in, const struct plan *p, const struct layout *l, struct demand *d)
{
    const double J = (double)in->n_measured, N = plan_products(l), passes = J / (double)plan_at_once(p, in->n_measured);
    d->directions = plan_at_once(p, in->n_measured);
    demand_held(d, (struct held){"objectives", d->directions, AT_PROBES, AT_PROBES, .half = true});
    d->bytes = most_rows(in) * (in->n_measured * slot_count(l) + 3) * sizeof(double);
    d->flops_measure = 6 * J * N * plan_tokens(in->forget, in->forget->n_row, NULL);
    for (size_t k = 0; k < in->n_risk; k++)
        d->flops_measure += (4 * passes + 2 * J) * N * plan_tokens(in->risk[k].data, in->risk[k].n, in->risk[k].row);
}

static void end(void *self)
{
    struct spread *s = self;
    if (!s) return;
    free(s->gradient), free(s->value), free(s->weight), free(s->loss);
    free(s->effect), free(s->effect_loss), free(s->mean_weight), free(s->x);
    free(s);
}

static enum status make(const struct measurement *m, void **self)
{
    const struct inputs *in = m->subject->in;
    const size_t rows = most_rows(in), J = in->n_measured;
    struct spread *s = NULL;
    enum status st = OK;
    TRY_NEW(s, 1);
    *self = s;
    TRY_NEW(s->value, J * in->n_risk);
    TRY_NEW(s->weight, in->forget->n_row);
    TRY_NEW(s->loss, in->forget->n_row);
    TRY_NEW(s->effect, J * slot_count(m->subject->layout) * rows);
    TRY_NEW(s->effect_loss, rows);
    TRY_NEW(s->mean_weight, rows);
    TRY_NEW(s->x, rows);
    s->at_once = plan_at_once(m->subject->plan, J);
    TRY_NEW(s->gradient, s->at_once);
    for (size_t j = 0; j < s->at_once; j++) TRY(subject_state(m->subject, "objectives", j, &s->gradient[j]));
done:
    return st;
}

/* The standard error from x [n] of rows with weights w [n], some of which may be 0. */
static double standard_error(size_t n, const double *w, const double *x, bool sequences)
{
    double e = 0, squares = 0, count = 0;
    for (size_t i = 0; i < n; i++) e += w[i] * x[i], count += w[i] > 0;
    for (size_t i = 0; i < n; i++) {
        double d = sequences ? w[i] * x[i] - e / count : w[i] * (x[i] - e);
        if (w[i] > 0) squares += d * d;
    }
    return count > 1 ? sqrt(count / (count - 1) * squares) : NAN;
}

static enum status check_rows(const struct inputs *in, size_t j, size_t k, const double *x)
{
    for (size_t i = 0; i < in->risk[k].n; i++)
        if (!isfinite(x[i]))
            return fail(ERR_NUMERIC, "%s: row %zu (from 0): the effect of %s on the risk %s is not finite",
                        in->risk[k].data->path, in->risk[k].row[i], in->label[j], in->risk[k].name);
    return OK;
}

/* Of objectives first ... first+n-1, whose gradients are held. */
static enum status one_risk(struct subject *s, struct spread *p, size_t first, size_t J, size_t k)
{
    const struct inputs *in = s->in;
    const struct risk *risk = &in->risk[k];
    const struct rows rows = risk_rows(risk);
    const size_t slots = slot_count(s->layout), n = risk->n;
    const bool sequences = in->config->geffect.normalisation == NORM_SEQUENCE_SUM;
    struct objective nll;
    enum status st;
    objective_find("nll", &nll);
    TRY(engine_effects(&s->engine, 1, &nll, &rows, J, in->n_measured, p->gradient, p->effect, p->effect_loss,
                       p->mean_weight));
    for (size_t j = 0; j < J; j++) {
        for (size_t i = 0; i < n; i++) {
            p->x[i] = 0;
            for (size_t slot = 0; slot < slots; slot++) p->x[i] += p->effect[(j * slots + slot) * n + i];
        }
        TRY(check_rows(in, first + j, k, p->x));
        p->value[(first + j) * in->n_risk + k] = standard_error(n, risk->weight, p->x, sequences);
    }
    subject_count(s, &rows, 4 + 2 * (double)J);
done:
    return st;
}

static enum status some_objectives(struct subject *s, struct spread *p, size_t first, size_t n)
{
    enum status st = OK;
    for (size_t j = 0; j < n; j++) {
        const struct objective *o = &s->in->measured[first + j];
        const struct rows rows = subject_forget(s, o);
        TRY(set_gradient(s, o, &rows, p->weight, p->loss, p->gradient[j]));
        state_gather(p->gradient[j]);
    }
    for (size_t k = 0; k < s->in->n_risk; k++) TRY(one_risk(s, p, first, n, k));
done:
    return st;
}

static enum status before(struct measurement *m, void *self)
{
    struct spread *p = self;
    const size_t J = m->subject->in->n_measured;
    enum status st = OK;
    for (size_t j = 0; j < J; j += p->at_once) TRY(some_objectives(m->subject, p, j, p->at_once));
    TRY(measurement_put(m, "standard_error", p->value));
done:
    return st;
}

static const struct field fields[] = {
    {"standard_error",
     {"step", "objective", "risk"},
     FIELD_DOUBLE,
     "nat2",
     "standard error, over the rows of the risk, of the effect summed over layers and weighted instances",
     "sqrt(n/(n-1) sum_i d_i^2), d_i = w_i (x_i - e) for token_mean, w_i x_i - e/n for sequence_sum; "
     "x_i = <grad nll(s_i), grad L_j(D_u)>, w_i = weight of row i in R_k, e = sum_i w_i x_i"},
};

const struct probe standard_error_probe = {.name = "standard_error",
                                           .wanted = wanted,
                                           .demand = demand,
                                           .fields = {fields, sizeof fields / sizeof *fields, "geffect.standard_error"},
                                           .make = make,
                                           .before = before,
                                           .end = end};
