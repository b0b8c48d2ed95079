/* What training holds: states, lists, the optimiser; and which of these a checkpoint must save. */
#include "unlearn/training_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------------- plan ------- */
/* Length of the longest list of rows in an update. */
static size_t most_rows(const struct inputs *in, const struct timetable *s)
{
    size_t rows = s->batch;
    for (size_t i = 0; i < in->n_regularizer; i++)
        if (rows < in->regularizer[i].batch) rows = in->regularizer[i].batch;
    return rows;
}

static double work(const struct inputs *in, const struct timetable *s, const struct plan *p, double N)
{
    const double per_row = in->train ? plan_tokens(in->train, in->train->n_row, NULL) / (double)in->train->n_row : 0;
    const double per_retain =
        in->retain ? plan_tokens(in->retain, in->retain->n_row, NULL) / (double)in->retain->n_row : 0;
    double flops = 6 * N * per_row * (double)s->batch;
    for (size_t i = 0; i < in->n_regularizer; i++)
        flops +=
            (6 + plan_reference(p, &in->regularizer[i].objective)) * N * per_retain * (double)in->regularizer[i].batch;
    return flops;
}

/* A gradient of the engine: cleared, reduced, its norm taken. */
static void demand_gradient(const struct inputs *in, const struct plan *p, const struct objective *o, bool retained,
                            size_t n, struct demand *d)
{
    const struct dataset *data = retained ? in->retain : in->config->task == TASK_FINETUNE ? in->train : inputs_of(in, o);
    demand_call(d, &(struct call){.of = OF_UPDATE,
                                  .rows = retained ? ROWS_RETAINED : ROWS_OF_UPDATE,
                                  .data = data,
                                  .n = n,
                                  .pair = data == in->pairs && in->pairs ? in->forget->n_row : 0,
                                  .outputs = objective_outputs(o),
                                  .objectives = 1,
                                  .gradient = true,
                                  .forwards = plan_reference(p, o) / 2});
    demand_sweeps(d, OF_UPDATE, 1, retained ? 0 : 1);
}

/* The calls of an update, and the passes over states: the gradient of a regulariser by itself is cleared, added, and read for
 * its norm; AdamW reads four and writes three, SGD reads two and writes one. */
static void demand_update(const struct inputs *in, const struct timetable *s, const struct plan *p, struct demand *d)
{
    demand_gradient(in, p, &in->objective, false, s->batch, d);
    for (size_t i = 0; i < in->n_regularizer; i++) {
        demand_gradient(in, p, &in->regularizer[i].objective, true, in->regularizer[i].batch, d);
        if (p->apart) demand_sweeps(d, OF_UPDATE, 5, 1);
    }
    demand_sweeps(d, OF_UPDATE, 0, (in->n_regularizer ? 1 : 0) + (in->config->optimizer.name == OPTIMIZER_ADAMW ? 7 : 3));
    demand_gather(d, OF_UPDATE); /* the weights */
}

static void demand(const struct inputs *in, const struct timetable *s, const struct plan *p, const struct layout *l,
                   struct demand *d)
{
    const bool adamw = in->config->optimizer.name == OPTIMIZER_ADAMW;
    const bool half = in->config->optimizer.storage == PRECISION_BFLOAT16;
    d->flops_update = work(in, s, p, plan_products(l));
    if (!in->trains) return;
    demand_update(in, s, p, d);
    d->rows = most_rows(in, s);
    d->objectives = 1;
    demand_held(d, (struct held){"gradient", 1, AT_GRADIENT, AT_UPDATE, .half = half, .fixed = true});
    if (p->apart && in->n_regularizer)
        demand_held(d, (struct held){"regulariser", 1, AT_GRADIENT, AT_GRADIENT, .half = half, .fixed = true});
    if (adamw) demand_moments(d, 2, half);
    d->bytes = d->rows * (2 * sizeof(size_t) + 3 * sizeof(double));
    guard_demand(in, s, l, d);
    demand_rest(d, OF_UPDATE, d->flops_update - work(in, s, p, plan_products(l))); /* a guard's */
    if (!window_length(in)) return;
    d->objectives = 2, d->tangents = 1, d->keep_tangents = true;
    demand_states(d, "window", 5, AT_EFFECTS, N_MOMENT);
    demand_rest(d, OF_UPDATE, d->flops_update * (6.0 + HVP_PRODUCTS) / 6);
    d->flops_update *= 1 + (6.0 + HVP_PRODUCTS) / 6;
}
const struct part training_part = {demand, guard_print};

/* ------------------------------------------------------------------------------------------------------ new ------- */
static size_t higher(size_t layer, const struct objective *o)
{
    const size_t own = objective_kind(o) == LOSS_OF_HIDDEN ? objective_hidden(o).layer : SIZE_MAX;
    return own > layer ? own : layer;
}

/* The first layer above all hidden states that losses act on; 0 where a loss acts on logits, as that of the gradient does which
 * guard.project needs. */
static size_t unreached(const struct inputs *in)
{
    const size_t blocks = in->shape->blocks;
    size_t top = in->config->guard.project > 0 ? SIZE_MAX : higher(0, &in->objective);
    for (size_t k = 0; k < in->n_regularizer; k++) top = higher(top, &in->regularizer[k].objective);
    if (top > blocks) return 0;
    return top == blocks ? blocks + 2 : top + 1; /* the last hidden state is behind the final norm */
}

static struct optim_settings settings(const struct inputs *in, const struct timetable *s)
{
    const struct config *c = in->config;
    return (struct optim_settings){.kind = c->optimizer.name == OPTIMIZER_SGD ? OPTIM_SGD : OPTIM_ADAMW,
                                   .schedule = c->optimizer.schedule == SCHEDULE_CONSTANT ? LR_CONSTANT
                                               : c->optimizer.schedule == SCHEDULE_LINEAR ? LR_LINEAR
                                                                                          : LR_COSINE,
                                   .lr = c->optimizer.lr,
                                   .beta1 = c->optimizer.beta1,
                                   .beta2 = c->optimizer.beta2,
                                   .eps = c->optimizer.eps,
                                   .weight_decay = c->optimizer.weight_decay,
                                   .clip = c->optimizer.clip,
                                   .warmup = s->warmup,
                                   .steps = s->updates,
                                   .frozen = in->frozen,
                                   .half = c->optimizer.storage == PRECISION_BFLOAT16,
                                   .seed = c->seed};
}

static enum status new_states(struct training *t)
{
    struct subject *s = t->subject;
    const struct inputs *in = s->in;
    const struct layout *l = s->layout;
    const struct optim_settings set = settings(in, t->subject->timetable);
    enum status st;
    TRY(subject_state(s, "gradient", 0, &t->gradient));
    TRY(subject_state(s, "regulariser", 0, &t->part));
    TRY(subject_state(s, "regularisers", 0, &t->regularizers));
    TRY(subject_state(s, "step", 0, &t->step));
    if (window_length(in)) TRY(window_new(t->subject, &t->window));
    TRY(optim_new(&set, l, &t->optim));
    if (in->config->optimizer.decay == DECAY_MATRICES) TRY(optim_decay_matrices(t->optim, l, unreached(in)));
done:
    return st;
}

enum status training_new(struct subject *s, struct training **out)
{
    const struct inputs *in = s->in;
    const size_t rows = most_rows(in, s->timetable);
    struct training *t = *out = NULL;
    enum status st = OK;
    TRY_NEW(t, 1);
    t->subject = s;
    TRY(new_states(t));
    TRY_NEW(t->batch_row, rows);
    TRY_NEW(t->retain_row, rows);
    TRY_NEW(t->weight, rows);
    TRY_NEW(t->loss, rows);
    TRY_NEW(t->factor, rows);
    dual_set(t, NAN);
    for (size_t k = 0; k < in->n_regularizer; k++)
        if (dual_of(in, k)) dual_set(t, in->regularizer[k].weight);
    TRY_NEW(t->update.part, in->n_regularizer);
    TRY_NEW(t->update.norm_of_part, in->n_regularizer);
    TRY(guard_new(t));
    *out = t, t = NULL;
done:
    training_free(t);
    return grid_agree(s->grid, st);
}

void training_free(struct training *t)
{
    if (!t) return;
    file_close(t->file);
    guard_free(t->guard);
    optim_free(t->optim);
    window_free(t->window);
    free(t->batch_row), free(t->retain_row), free(t->weight), free(t->loss), free(t->factor);
    free(t->update.part), free(t->update.norm_of_part);
    free(t);
}

/* ---------------------------------------------------------------------------------------------------- saved ------- */
size_t training_saved(struct training *t, struct saved saved[MOST_SAVED])
{
    struct update_window *w = t->window;
    const struct saved all[] = {
        {"weights", t->subject->weights, NULL},
        {"first moment", t->optim->m, NULL},
        {"second moment", t->optim->v, NULL},
        {"updates made", NULL, &t->optim->done},
        {"dual weight", NULL, isnan(dual_weight(t)) ? NULL : &t->dual},
        {"window start", w ? w->start : NULL, NULL},
        {"window way", w ? w->first : NULL, NULL},
        {"window corrected way", w ? w->corrected : NULL, NULL},
        {"window begun", NULL, w ? &w->begun : NULL},
    };
    size_t n = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) /* plain SGD has no moments */
        if (all[i].state || all[i].number) saved[n++] = all[i];
    return n + guard_saved(t, saved + n);
}
