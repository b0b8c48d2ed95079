/* The gradient of one update, of the objective on a forget batch plus the regularisers on retain rows, and the update.
 * Losses and weights are those of the global batch, for any layout of processes. */
#include "unlearn/training_priv.h"
#include <math.h>

static double weighted(const struct training *t, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += t->weight[i] * t->loss[i];
    return sum;
}

/* gradient = the complete gradient of a loss of the batch, each part of it times its t->factor, or that is added; *loss the loss
 * without and *scaled with the factors. */
static enum status loss_gradient(struct training *t, const struct objective *o, const struct rows *rows, bool add,
                                 struct state *gradient, double *loss, double *scaled)
{
    enum status st;
    part_weights(t, o, rows, t->factor, t->weight);
    TRY(subject_gradient(t->subject, o, rows, t->weight, add, gradient, t->loss));
    *scaled = weighted(t, rows->n);
    part_weights(t, o, rows, NULL, t->weight);
    *loss = weighted(t, rows->n);
done:
    return st;
}

static void same_factor(struct training *t, size_t n, double factor)
{
    for (size_t i = 0; i < n; i++) t->factor[i] = factor;
}

/* The gradient of each regulariser is formed by itself and added, even if no probe reads it, so that measuring does not change
 * the results. Where the memory would not do it goes straight into that of the batch: the same to rounding. */
static enum status add_regularizer(struct training *t, size_t i, size_t k)
{
    const struct inputs *in = t->subject->in;
    const struct regularizer *reg = &in->regularizer[k];
    struct update *u = &t->update;
    struct rows rows;
    double scaled;
    enum status st;
    timetable_retain(in->config, i, in->held_out, in->retain->n_row, reg->batch, t->retain_row);
    rows = subject_rows(t->subject, in->retain, reg->batch, t->retain_row);
    if (dual_of(in, k))
        TRY(dual_begin(t, i, k, &rows));
    else
        same_factor(t, reg->batch, reg->weight);
    TRY(loss_gradient(t, &reg->objective, &rows, !t->part, t->part ? t->part : t->gradient, &u->part[k], &scaled));
    if (dual_of(in, k)) dual_end(t, i, k, &rows);
    u->norm_of_part[k] = t->part ? optim_norm(t->subject->grid, guard_still(t), t->part) : NAN;
    guard_regularizer_formed(t, k);
    if (t->part) state_add(t->gradient, 1, t->part);
    if (t->regularizers && k == 0) state_fill(t->regularizers, 0);
    if (t->regularizers) state_add(t->regularizers, 1, t->part);
    u->loss += dual_of(in, k) ? scaled : reg->weight * u->part[k];
    u->tokens += (size_t)rows_tokens(&rows);
done:
    return st;
}

enum status training_gradient(struct training *t, size_t i)
{
    struct subject *s = t->subject;
    const struct inputs *in = s->in;
    const struct dataset *train = in->config->task == TASK_FINETUNE ? in->train : inputs_of(in, &in->objective);
    const struct rows rows = subject_rows(s, train, s->timetable->batch, t->batch_row);
    const double began = clock_seconds();
    const double factor = in->config->task == TASK_FINETUNE ? 1 : in->config->objective.weight;
    struct update *u = &t->update;
    double scaled;
    enum status st;
    if (!t->made) t->started = began;
    guard_begin(t);
    timetable_rows(s->timetable, i, t->batch_row);
    same_factor(t, rows.n, factor);
    TRY(loss_gradient(t, &in->objective, &rows, false, t->gradient, &u->objective, &scaled));
    u->norm_of_objective = optim_norm(s->grid, guard_still(t), t->gradient);
    u->loss = factor * u->objective;
    u->dual = dual_weight(t);
    u->norm = u->norm_of_objective;
    u->rate = optim_rate(&t->optim->set, i);
    u->tokens = (size_t)rows_tokens(&rows);
    TRY(guard_objective_formed(t, i));
    for (size_t k = 0; k < in->n_regularizer; k++) TRY(add_regularizer(t, i, k));
    if (in->n_regularizer) u->norm = optim_norm(s->grid, guard_still(t), t->gradient);
    u->seconds = clock_seconds() - began;
done:
    return st;
}

/* What is known of a gradient that is not finite: its first such tensor, on whatever tensor rank that is.
 *                                                                                              Collective over the job. */
static enum status diverged(const struct training *t, size_t i)
{
    const struct layout *l = t->subject->layout;
    const struct param *p = state_not_finite(t->gradient);
    const struct update *u = &t->update;
    double after = p ? (double)(l->n_param - (size_t)(p - l->param)) : 0; /* it and those after it */
    comm_max_double(t->subject->grid->world, &after, 1);
    if (after == 0)
        return fail(ERR_NUMERIC, "update %zu: loss %g, gradient norm %g: the run has diverged; lower optimizer.lr", i,
                    u->loss, u->norm);
    return fail(ERR_NUMERIC,
                "update %zu: loss %g, gradient norm %g (not finite: %s): the run has diverged; lower optimizer.lr", i,
                u->loss, u->norm, l->param[l->n_param - (size_t)after].name);
}

/* The dual weight has looked at the weights of after update i, and found what is not finite.                      Local. */
static enum status diverged_after(size_t i)
{
    struct text what = {0};
    enum status st;
    TRY(text_print(&what, "%s", fail_message()));
    fail_clear();
    st = fail(ERR_NUMERIC, "update %zu: %s: the run has diverged; lower optimizer.lr", i + 1, what.data);
done:
    text_free(&what);
    return st;
}

enum status training_update(struct training *t, size_t i, bool shown)
{
    struct state *weights = t->subject->weights, *step = shown ? t->step : NULL;
    struct update *u = &t->update;
    const double began = clock_seconds();
    enum status st = OK;
    guard_rectify(t);
    if (!isfinite(u->norm) || !isfinite(u->loss)) return diverged(t, i);
    if (step) state_copy(weights, step);
    optim_update(t->optim, t->gradient, u->norm, weights);
    if ((st = dual_updated(t, i)) == ERR_NUMERIC) st = diverged_after(i);
    TRY(st);
    guard_updated(t);
    u->seconds += clock_seconds() - began;
    t->made++;
    if (step) { /* theta_t becomes theta_t+1 - theta_t */
        state_scale(step, -1);
        state_add(step, 1, weights);
    }
done:
    return st;
}

void training_ended(struct training *t)
{
    struct update *u = &t->update;
    for (size_t k = 0; k < t->subject->in->n_regularizer; k++) u->part[k] = u->norm_of_part[k] = NAN;
    u->loss = u->objective = u->norm = u->norm_of_objective = u->rate = u->seconds = u->dual = u->cosine = NAN;
}
