/* The story of a run: read, plan, allocate; then for every update batch, forward, loss, backward, reduce, G-effect, update,
 * write; at the end the model. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum status put_update(struct run *r, size_t t, const struct update *u)
{
    const struct inputs *in = r->in;
    double tokens = isnan(u->loss) ? NAN : (double)u->tokens; /* the last row has no update */
    enum status st = OK;
    if (!r->train) return OK;
    TRY(file_put(r->train, "loss", &u->loss));
    TRY(file_put(r->train, "loss_objective", &u->objective));
    TRY(file_put(r->train, "gradient_norm", &u->norm));
    TRY(file_put(r->train, "gradient_norm_objective", &u->norm_of_objective));
    for (size_t i = 0; i < in->n_regularizer; i++) {
        char field[64];
        snprintf(field, sizeof field, "loss_%s", objective_name(&in->regularizer[i].objective));
        TRY(file_put(r->train, field, &u->part[i]));
        snprintf(field, sizeof field, "gradient_norm_%s", objective_name(&in->regularizer[i].objective));
        TRY(file_put(r->train, field, &u->norm_of_part[i]));
    }
    TRY(file_put(r->train, "lr", &u->rate));
    TRY(file_put(r->train, "tokens", &tokens));
    TRY(file_put(r->train, "seconds", &u->seconds));
    TRY(file_commit(r->train, (int64_t)t));
done:
    return st;
}

/* Update t = 0 ... T-1 from the batch gradient that stands in r->gradient. */
static enum status apply_update(struct run *r, size_t t, bool measured, const struct update *u)
{
    if (!isfinite(u->norm) || !isfinite(u->loss))
        return fail(ERR_NUMERIC, "update %zu: loss %g, gradient norm %g: the run has diverged; lower optimizer.lr", t,
                    u->loss, u->norm);
    if (measured && r->step) math_copy(r->layout->size, r->weights->data, r->step->data);
    optim_update(r->optim, r->gradient, u->norm, r->weights);
    return OK;
}

static enum status diverged(size_t t)
{
    fail_clear();
    return fail(ERR_NUMERIC, "update %zu: a log-likelihood is not finite: the run has diverged; lower optimizer.lr", t);
}

/* A measurement, and which model it is of where a value is not finite. Nothing diverged before the first update. */
static enum status measure_at(struct run *r, size_t step, const char *model, const struct update *u)
{
    enum status st = measure(r, u);
    if (st != ERR_NUMERIC) return st;
    if (model) {
        fail_clear();
        return fail(ERR_NUMERIC,
                    "%s: step %zu: a log-likelihood is not finite: are these the weights of its config.json?", model,
                    step);
    }
    return step ? diverged(step) : st;
}

/* The row of a measured step is complete when its update is made; where that fails, with nothing of the update. */
static enum status update_and_measure(struct run *r, size_t t, bool measured, struct update *u)
{
    enum status st = OK, end = OK;
    double began;
    if (measured) TRY(measure_at(r, t, NULL, u));
    began = clock_seconds();
    st = grid_agree(r->grid, apply_update(r, t, measured, u));
    u->seconds += clock_seconds() - began;
    if (measured) end = measure_end(r, t, st == OK ? u : NULL);
    if (st == OK && (st = end) == ERR_NUMERIC) st = diverged(t + 1);
done:
    return st;
}

static enum status one_update(struct run *r, size_t t, struct update *u)
{
    double began = clock_seconds();
    bool measured = r->in->measures && timetable_measured(r->in->config, r->timetable, t);
    enum status st;
    if ((st = update_gradient(r, t, u)) == ERR_NUMERIC && t > 0) st = diverged(t);
    TRY(st);
    u->seconds = clock_seconds() - began;
    TRY(update_and_measure(r, t, measured, u));
    TRY(grid_agree(r->grid, put_update(r, t, u)));
    report_update(r, t, u);
done:
    return st;
}

/* What is there, measured or evaluated without an update; of a trajectory one model after the other. */
static enum status measure_models(struct run *r)
{
    const struct config *c = r->in->config;
    enum status st = OK;
    for (size_t i = 0; i < c->model.n_at; i++) {
        if (i) TRY(run_next_model(r, i));
        if (r->in->measures) {
            TRY(measure_at(r, c->model.at[i].step, c->model.at[i].path, NULL));
            TRY(measure_end(r, c->model.at[i].step, NULL));
        }
        TRY(evaluate(r, c->model.at[i].step, i + 1 == c->model.n_at));
    }
done:
    return st;
}

enum status unlearn(struct run *r)
{
    const struct inputs *in = r->in;
    size_t T = r->timetable->updates;
    double part[8], norm[8];
    struct update u = {.part = part, .norm_of_part = norm};
    const struct update end = {NAN, NAN, part, NAN, NAN, norm, NAN, NAN, 0};
    enum status st = OK;
    r->started = clock_seconds();
    if (!in->trains) return measure_models(r);
    for (size_t t = 0; t < T; t++) {
        if (timetable_evaluated(in->config, t)) TRY(evaluate(r, t, false));
        TRY(one_update(r, t, &u));
    }
    if (in->measures) {
        TRY(measure_at(r, T, NULL, NULL));
        TRY(measure_end(r, T, NULL));
    }
    for (size_t i = 0; i < in->n_regularizer; i++) part[i] = norm[i] = NAN;
    TRY(grid_agree(r->grid, put_update(r, T, &end)));
    TRY(evaluate(r, T, true));
done:
    return st;
}
