/* The standard error of every effect over the rows of its risk. By turns of the two gradients
 *      e_jk = <grad R_k, grad L_j(D_u)> = sum over rows i of weight_i x_ij,    x_ij = <grad nll(s_i), grad L_j(D_u)>
 * so the rows x_ij of the risk's set, one backward with the objectives' gradients as directions, say how far the total would
 * move with another sample of n labelled rows: sqrt(n/(n-1) sum_i d_i^2) with
 *      d_i = weight_i (x_ij - e_jk)       a mean over tokens is a ratio of two sums over rows (Cochran, Sampling Techniques,
 *                                         3rd ed., section 6.3)
 *      d_i = weight_i x_ij - e_jk/n       a mean over sequences is the mean of n terms */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>

enum status spread_new(struct run *r)
{
    const struct inputs *in = r->in;
    struct spread *s = NULL;
    enum status st = OK;
    TRY_NEW(s, 1);
    TRY_NEW(s->value, in->n_measured * in->n_risk);
    TRY_NEW(s->gradient, in->n_measured);
    for (s->n = 0; s->n < in->n_measured; s->n++) TRY(state_new("objective's gradient", r->layout, &s->gradient[s->n]));
    r->spread = s, s = NULL;
done:
    spread_free(s);
    return st;
}

void spread_free(struct spread *s)
{
    if (!s) return;
    for (size_t j = 0; s->gradient && j < s->n; j++) state_free(s->gradient[j]);
    free(s->gradient), free(s->value);
    free(s);
}

/* x [n] of rows with weights w, some of them 0 */
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

static enum status one_risk(struct run *r, size_t k)
{
    const struct risk *risk = &r->in->risk[k];
    const struct rows rows = risk_rows(risk);
    const size_t slots = slot_count(r->layout), J = r->in->n_measured, n = risk->n;
    const bool sequences = r->in->config->geffect.normalisation == NORM_SEQUENCE_SUM;
    struct objective nll;
    enum status st;
    objective_find("nll", &nll);
    TRY(engine_effects(&r->engine, 1, &nll, &rows, J, r->spread->gradient, r->effect, r->effect_loss, r->mean_weight));
    for (size_t j = 0; j < J; j++) {
        for (size_t i = 0; i < n; i++) {
            r->weight[i] = 0;
            for (size_t s = 0; s < slots; s++) r->weight[i] += r->effect[(j * slots + s) * n + i];
        }
        r->spread->value[j * r->in->n_risk + k] = standard_error(n, risk->weight, r->weight, sequences);
    }
    r->flops += (4 + 2 * (double)J) * plan_products(r->layout) * rows_tokens(&rows);
done:
    return st;
}

enum status spread_measure(struct run *r)
{
    const struct inputs *in = r->in;
    enum status st = OK;
    for (size_t j = 0; j < in->n_measured; j++) {
        const struct rows rows = run_forget(r, &in->measured[j]);
        double loss;
        TRY(rows_gradient(r, &in->measured[j], &rows, r->spread->gradient[j], &loss));
    }
    for (size_t k = 0; k < in->n_risk; k++) TRY(one_risk(r, k));
done:
    return st;
}
