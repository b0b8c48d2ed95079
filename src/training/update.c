/* The gradient of one update, of the objective on a forget batch plus the regularisers on retain rows, and the update.
 * Losses and weights are those of the global batch, for any layout of processes. */
#include "unlearn/training.h"
#include <math.h>

/* gradient = scale times the complete gradient of the batch's loss; *norm its norm; *loss the loss, not scaled. */
static enum status part_gradient(struct training *t, const struct objective *o, double scale, const struct rows *rows,
                                 struct state *gradient, double *norm, double *loss)
{
    struct subject *s = t->subject;
    enum status st;
    double sum = 0;
    rows_weights(o, rows, t->weight);
    for (size_t i = 0; i < rows->n; i++) t->weight[i] *= scale;
    TRY(subject_gradient(s, o, rows, t->weight, gradient, t->loss));
    *norm = optim_norm(s->grid, s->in->frozen, gradient);
    rows_weights(o, rows, t->weight);
    for (size_t i = 0; i < rows->n; i++) sum += t->weight[i] * t->loss[i];
    *loss = sum;
done:
    return st;
}

/* Computes, reduces and adds each regulariser's gradient separately even if no probe reads it, so that measuring does
 * not change the results. */
static enum status add_regularizer(struct training *t, size_t i, size_t k)
{
    const struct inputs *in = t->subject->in;
    const struct regularizer *reg = &in->regularizer[k];
    const size_t size = t->subject->layout->size;
    struct update *u = &t->update;
    struct rows rows;
    enum status st;
    timetable_retain(in->config, i, in->held_out, in->retain->n_row, reg->batch, t->retain_row);
    rows = subject_rows(t->subject, in->retain, reg->batch, t->retain_row);
    TRY(part_gradient(t, &reg->objective, reg->weight, &rows, t->part, &u->norm_of_part[k], &u->part[k]));
    math_add(size, t->part->data, t->gradient->data);
    if (t->regularizer != t->part) {
        if (k == 0) math_fill(size, 0, t->regularizer->data);
        math_add(size, t->part->data, t->regularizer->data);
    }
    u->loss += reg->weight * u->part[k];
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
    struct update *u = &t->update;
    enum status st;
    if (!t->made) t->started = began;
    timetable_rows(s->timetable, i, t->batch_row);
    TRY(part_gradient(t, &in->objective, 1, &rows, t->gradient, &u->norm_of_objective, &u->objective));
    u->loss = u->objective;
    u->norm = u->norm_of_objective;
    u->rate = optim_rate(&t->optim->set, i);
    u->tokens = (size_t)rows_tokens(&rows);
    for (size_t k = 0; k < in->n_regularizer; k++) TRY(add_regularizer(t, i, k));
    if (in->n_regularizer) u->norm = optim_norm(s->grid, in->frozen, t->gradient);
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

enum status training_update(struct training *t, size_t i, bool shown)
{
    struct state *weights = t->subject->weights, *step = shown ? t->step : NULL;
    const size_t size = t->subject->layout->size;
    struct update *u = &t->update;
    const double began = clock_seconds();
    if (!isfinite(u->norm) || !isfinite(u->loss)) return diverged(t, i);
    if (step) math_copy(size, weights->data, step->data);
    optim_update(t->optim, t->gradient, u->norm, weights);
    u->seconds += clock_seconds() - began;
    t->made++;
    if (step) { /* theta_t becomes theta_t+1 - theta_t */
        math_scale(size, -1, step->data);
        math_add(size, weights->data, step->data);
    }
    return OK;
}

void training_ended(struct training *t)
{
    struct update *u = &t->update;
    for (size_t k = 0; k < t->subject->in->n_regularizer; k++) u->part[k] = u->norm_of_part[k] = NAN;
    u->loss = u->objective = u->norm = u->norm_of_objective = u->rate = u->seconds = NAN;
}
