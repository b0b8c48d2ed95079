/* What an update was expected to do to every risk, and what it did:
 *      optimiser-aware   <grad R, theta_t+1 - theta_t>           the update as the optimiser made it
 *      plain             -lr <grad R, gradient of the batch>     as a step of SGD at the same rate would have made it
 *      actual            R(theta_t+1) - R(theta_t) */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>

enum status fidelity_new(struct run *r)
{
    size_t K = r->in->n_risk;
    struct fidelity *f = NULL;
    enum status st = OK;
    TRY_NEW(f, 1);
    TRY_NEW(f->predicted, K);
    TRY_NEW(f->plain, K);
    TRY_NEW(f->actual, K);
    TRY_NEW(f->dot, r->layout->n_param);
    r->fidelity = f, f = NULL;
done:
    fidelity_free(f);
    return st;
}

void fidelity_free(struct fidelity *f)
{
    if (!f) return;
    free(f->predicted), free(f->plain), free(f->actual), free(f->dot);
    free(f);
}

/* This process's share of <a, b> over the parameters that an update may change. */
static double moving_dot(const struct run *r, const struct state *a, const struct state *b)
{
    const bool *frozen = r->in->frozen;
    double sum = 0;
    state_dot(a, b, r->fidelity->dot);
    for (size_t i = 0; i < r->layout->n_param; i++)
        if (!frozen || !frozen[i]) sum += r->fidelity->dot[i];
    return sum;
}

/* The risk at the weights as they are, by forwards alone. */
static enum status risk_now(struct run *r, const struct risk *k, double *value)
{
    const struct rows rows = risk_rows(k);
    enum status st = engine_nll(&r->engine, r->weights, &rows, r->risk_nll);
    *value = risk_mean(k, r->risk_nll);
    r->flops += 2 * plan_products(r->layout) * rows_tokens(&rows);
    return st;
}

enum status fidelity_measure(struct run *r, const struct update *u)
{
    struct fidelity *f = r->fidelity;
    size_t K = r->in->n_risk;
    enum status st = OK;
    for (size_t k = 0; k < K; k++) f->predicted[k] = f->plain[k] = f->actual[k] = NAN;
    if (!u) return OK;
    for (size_t k = 0; k < K; k++) {
        f->predicted[k] = moving_dot(r, r->risk_gradient[k], r->step);
        f->plain[k] = -u->rate * optim_scale(&r->optim->set, u->norm) * moving_dot(r, r->risk_gradient[k], r->gradient);
    }
    comm_sum_double(r->grid->tensor, f->predicted, K);
    comm_sum_double(r->grid->tensor, f->plain, K);
    for (size_t k = 0; k < K; k++) {
        double after;
        TRY(risk_now(r, &r->in->risk[k], &after));
        f->actual[k] = after - r->risk_value[k];
    }
done:
    return st;
}
