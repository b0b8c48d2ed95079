/* Which rows an update uses: epochs are permutations of the rows, laid end to end and cut into global batches. The rows
 * follow from the input alone, not from the layout of processes. */
#include "unlearn/plan.h"
#include <math.h>
#include <stdlib.h>

static const double MOST_UPDATES = 1e15; /* is exact in a double, and its product with rows cannot overflow */

enum status timetable_new(const struct config *c, size_t rows, struct timetable *s)
{
    enum status st = OK;
    size_t batch = c->train.batch_size * c->train.accumulation;
    *s = (struct timetable){.rows = rows, .shuffle = c->train.shuffle, .seed = c->seed};
    s->batch = rows < batch ? rows : batch;
    if (c->task != TASK_FINETUNE && c->task != TASK_UNLEARN) return OK;
    if (c->train.steps == CONFIG_NULL && c->train.epochs * (double)rows / (double)s->batch > MOST_UPDATES) {
        const struct place place = config_place(c, "train.epochs");
        return fail(ERR_INPUT, "%s: train.epochs: %g epochs are more than %g updates", place_text(&place),
                    c->train.epochs, MOST_UPDATES);
    }
    s->updates = c->train.steps != CONFIG_NULL ? c->train.steps
                                               : (size_t)floor(c->train.epochs * (double)rows / (double)s->batch + 1e-9);
    s->warmup = c->optimizer.warmup_steps == CONFIG_AUTO ? rows / s->batch : c->optimizer.warmup_steps;
    TRY_NEW(s->order, rows);
done:
    return st;
}

void timetable_warn(const struct config *c, const struct timetable *s)
{
    if (!s->updates || s->updates > s->warmup || c->optimizer.lr == 0) return;
    log_warn("optimizer.warmup_steps%s: the learning rate rises over %zu update%s, and the run has %zu: it comes to %.3g "
             "of optimizer.lr at most%s; give fewer optimizer.warmup_steps, or more updates",
             c->optimizer.warmup_steps == CONFIG_AUTO ? " (auto: one epoch)" : "", s->warmup, s->warmup == 1 ? "" : "s",
             s->updates, (double)(s->updates - 1) / (double)s->warmup, s->updates == 1 ? ", so no weight changes" : "");
}

void timetable_free(struct timetable *s) { free(s->order); }

void timetable_rows(struct timetable *s, size_t t, size_t *row)
{
    for (size_t i = 0; i < s->batch; i++) {
        size_t place = t * s->batch + i, epoch = place / s->rows;
        if (s->shuffle && s->epoch != epoch + 1) {
            random_permutation(s->seed, STREAM_ORDER, epoch, s->rows, s->order);
            s->epoch = epoch + 1;
        }
        row[i] = s->shuffle ? s->order[place % s->rows] : place % s->rows;
    }
}

void timetable_retain(const struct config *c, size_t t, size_t first, size_t n_rows, size_t n, size_t *row)
{
    size_t trained = n_rows - first;
    for (size_t i = 0; i < n; i++) {
        uint64_t place = (uint64_t)t * n + i;
        row[i] = first + (c->train.pair_retain == DRAW_IN_ORDER ? place % trained
                                                                : random_below(c->seed, STREAM_RETAIN, place, trained));
    }
}

bool timetable_measured(const struct config *c, const struct timetable *s, size_t t)
{
    if (c->task == TASK_GEFFECT) return true;
    return c->geffect.every > 0 && (t % c->geffect.every == 0 || t == s->updates);
}

size_t timetable_measurements(const struct config *c, const struct timetable *s)
{
    const size_t every = c->geffect.every;
    return every > 0 ? s->updates / every + 1 + (s->updates % every > 0) : 0;
}

bool timetable_evaluated(const struct config *c, size_t t) { return c->evaluate.every > 0 && t % c->evaluate.every == 0; }

size_t timetable_evaluations(const struct config *c, const struct timetable *s)
{
    const size_t every = c->evaluate.every;
    return every > 0 ? s->updates / every + (s->updates % every > 0) : 0;
}
