/* The story of a run: for every update batch, forward, loss, backward, reduce, G-effect, update, write. */
#include "unlearn/task_priv.h"

/* Something is not finite after t updates, as the message that all ranks have tells. `model`: whose values these are;
 * NULL for those that are being trained, which cannot have diverged before the first update. */
static enum status not_finite(const struct run *r, size_t t, const char *model)
{
    struct text what = {0};
    enum status st = text_print(&what, "%s", fail_message());
    if (st != OK) goto done;
    fail_clear();
    if (!model && t > 0)
        st = fail(ERR_NUMERIC, "update %zu: %s: the run has diverged; lower optimizer.lr", t, what.data);
    else
        st = fail(ERR_NUMERIC, "%s: step %zu: %s: are these the weights of its config.json?",
                  model ? model : r->in->config->model.path, t, what.data);
done:
    text_free(&what);
    return st;
}

/* The state after `step` updates, when the rows before it are safe. */
static enum status save(struct run *r, size_t step)
{
    const double began = clock_seconds();
    const int64_t before = (int64_t)step;
    const struct result_rows rows = {
        .geffect = r->measurement ? measurement_rows(r->measurement, before) : 0,
        .evaluation = r->evaluation ? evaluation_rows(r->evaluation, before) : 0,
        .train = training_rows(r->training, before),
    };
    enum status st;
    TRY(run_sync(r));
    TRY(restart_save(r->training, step, r->log_bytes, &rows));
    training_checkpointed(r->training, step);
    r->saved = true;
    stop_saved(&r->stop, clock_seconds() - began);
    log_info("checkpoint-%zu saved in %.2f s", step, clock_seconds() - began);
done:
    return st;
}

/* A run stops here, with a checkpoint. */
static enum status stop_at(struct run *r, size_t t)
{
    const char *cause = stop_text(r->stop.cause);
    enum status st;
    if (!r->saved) TRY(save(r, t));
    st = fail(ERR_STOPPED, "%s: by %s, after %zu of %zu updates; go on with --restart", r->in->config->output_directory,
              cause, t, r->subject->timetable->updates);
    log_info("stopped by %s after %zu updates", cause, t);
done:
    return st;
}

/* A measurement, and which model it is of where a value is not finite. */
static enum status measure_at(struct run *r, size_t step, const char *model)
{
    enum status st = measure(r->measurement, step);
    if (st == ERR_STOPPED) { /* the row is not complete: a restart measures it again */
        fail_clear();
        return stop_at(r, step);
    }
    return st == ERR_NUMERIC ? not_finite(r, step, model) : st;
}

/* What concerns the gradient of the update that follows, if one does. */
static enum status formed_at(struct run *r, size_t step, const char *model, const struct update *u)
{
    const enum status st = measure_formed(r->measurement, u);
    return st == ERR_NUMERIC ? not_finite(r, step, model) : st;
}

/* A row without an update. */
static enum status measure_alone(struct run *r, size_t step, const char *model)
{
    enum status st;
    TRY(measure_at(r, step, model));
    TRY(formed_at(r, step, model, NULL));
    TRY(measure_end(r->measurement, step, NULL));
done:
    return st;
}

static bool measured_at(const struct run *r, size_t t)
{
    return r->measurement && timetable_measured(r->in->config, r->subject->timetable, t);
}

static bool ended(const struct run *r) { return training_guarded(r->training).verdict != GO_ON; }

/* An evaluation that is due at step t. The last row is that of the model that the run leaves: where a guard may end the run
 * at this step, the evaluation waits until it has not. */
static enum status evaluate_at(struct run *r, size_t t, bool decided)
{
    const bool waits = measured_at(r, t) && guard_measures(r->in);
    if (!r->evaluation || !timetable_evaluated(r->in->config, t) || waits != decided) return OK;
    return evaluate(r->evaluation, t, false);
}

/* The row of a measured step is complete when its update is made; where that fails, or a guard ends the run, with nothing
 * of the update. The gradient of the update is formed behind the measurement, which has its memory till then. */
static enum status update_and_measure(struct run *r, size_t t)
{
    const struct subject *s = r->subject;
    const bool measured = measured_at(r, t);
    const struct update *u = &r->training->update;
    enum status st = OK, end = OK;
    if (measured) TRY(measure_at(r, t, NULL));
    if ((st = training_gradient(r->training, t)) == ERR_NUMERIC) st = not_finite(r, t, NULL);
    if (measured) end = formed_at(r, t, NULL, st == OK ? u : NULL);
    if (measured && st != OK) end = measure_end(r->measurement, t, NULL);
    TRY(st == OK ? end : st);
    if (ended(r)) return measure_end(r->measurement, t, NULL);
    TRY(evaluate_at(r, t, true));
    TRY(training_window(r->training, t));
    st = grid_agree(s->grid, training_update(r->training, t, measured));
    if (measured) end = measure_end(r->measurement, t, st == OK ? u : NULL);
    if (st == OK && (st = end) == ERR_NUMERIC) st = not_finite(r, t + 1, NULL);
done:
    return st;
}

static enum status one_update(struct run *r, size_t t)
{
    enum status st;
    TRY(update_and_measure(r, t));
    if (ended(r)) goto done;
    r->saved = false; /* the weights have moved */
    TRY(grid_agree(r->subject->grid, training_put(r->training, t)));
    training_report(r->training, t);
done:
    return st;
}

/* What is there, measured or evaluated without an update; of a trajectory one model after the other. */
static enum status measure_models(struct run *r)
{
    const struct config *c = r->in->config;
    enum status st = OK;
    for (size_t i = 0; i < c->model.n_at; i++) {
        const size_t step = c->model.at[i].step;
        if (i) TRY(subject_next(r->subject, i));
        if (r->measurement) TRY(measure_alone(r, step, c->model.at[i].path));
        if (r->evaluation) TRY(evaluate(r->evaluation, step, i + 1 == c->model.n_at));
    }
done:
    return st;
}

static bool saved_after(const struct run *r, size_t step)
{
    const size_t every = r->in->config->checkpoint.every;
    return every > 0 && (step % every == 0 || step == r->subject->timetable->updates);
}

/* *made: updates that were made, all of them unless a guard has ended the run. */
static enum status all_updates(struct run *r, size_t *made)
{
    enum status st = OK;
    r->log_bytes = log_bytes();
    r->saved = r->restart != NULL;
    stop_begins(&r->stop);
    for (size_t t = *made; t < r->subject->timetable->updates; t++) {
        if (stop_asked(&r->stop, true) != STOP_NOT) {
            st = stop_at(r, t);
            goto done;
        }
        TRY(evaluate_at(r, t, false));
        TRY(one_update(r, t));
        if (ended(r)) goto done;
        *made = t + 1;
        r->log_bytes = log_bytes();
        if (saved_after(r, t + 1)) TRY(save(r, t + 1));
        r->log_bytes = log_bytes();
    }
done:
    return st;
}

/* What a guard that has ended the run leaves: the state of now, as a checkpoint too where there are any, or that of an
 * earlier checkpoint, from which a longer run would go on. */
static enum status leave(struct run *r, size_t made)
{
    const struct guarded said = training_guarded(r->training);
    const size_t pinned = training_pinned(r->training);
    const struct config *c = r->in->config;
    enum status st = OK;
    if (said.verdict == STOP_RUN && c->checkpoint.every && made < r->subject->timetable->updates && !r->saved)
        TRY(save(r, made));
    if (said.verdict != STEP_BACK) goto done;
    TRY(pinned == SIZE_MAX ? subject_next(r->subject, 0) : restart_weights(c->output_directory, pinned, r->training));
    if (r->subject->grid->rank == 0) checkpoints_drop(c->output_directory, said.model);
done:
    return st;
}

/* Whether this process has made updates: a run that goes on behind the last one would stop there again and again. */
static bool updated(const struct run *r, size_t T) { return T > (r->restart ? r->restart->step : 0); }

enum status unlearn(struct run *r)
{
    enum status st = OK;
    size_t T = r->restart ? r->restart->step : 0;
    if (!r->training) return measure_models(r);
    TRY(all_updates(r, &T));
    if (updated(r, T) && !ended(r) && stop_asked(&r->stop, true) != STOP_NOT) {
        st = stop_at(r, T); /* what is left may take as long as many updates */
        goto done;
    }
    if (r->measurement && !ended(r)) TRY(measure_alone(r, T, NULL));
    if (ended(r)) TRY(leave(r, T));
    training_ended(r->training);
    TRY(grid_agree(r->subject->grid, training_put(r->training, T)));
    if (r->evaluation) TRY(evaluate(r->evaluation, T, true));
done:
    return st;
}
