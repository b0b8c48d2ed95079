/* How the rows of an update are weighed: as one batch, or in parts as Trainer accumulates gradients, each a batch with a mean
 * of its own; and the weight of a regulariser that follows its loss. */
#include "unlearn/training_priv.h"
#include <assert.h>
#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------------- parts ------- */
/* Rows of a part, but for a last one that may be shorter. n rows are those of the forget batch, or of a regulariser. */
static size_t part_size(const struct training *t, size_t n)
{
    const struct config *c = t->subject->in->config;
    if (c->train.combine == COMBINE_GLOBAL) return n;
    assert(c->train.batch_size > 0 && c->train.accumulation > 0);
    if (n == t->subject->timetable->batch) return c->train.batch_size;
    return n > c->train.accumulation ? n / c->train.accumulation : 1;
}

static size_t part_count(const struct training *t, size_t n)
{
    const size_t size = part_size(t, n);
    return size ? (n + size - 1) / size : 0;
}

static struct rows part_rows(const struct training *t, const struct rows *all, size_t part)
{
    const size_t size = part_size(t, all->n), first = part * size;
    struct rows rows = *all;
    rows.row = all->row + first;
    rows.n = all->n - first < size ? all->n - first : size;
    return rows;
}

/* See objective_crossed(): the mean number of outputs times the mean of its inverse. */
static double crossed(const struct objective *o, const struct rows *r)
{
    double outputs = 0, inverse = 0, n = 0;
    for (size_t i = 0; i < r->n; i++) {
        const double of_row = (double)dataset_outputs(r->data, r->row[i], objective_outputs(o));
        if (of_row > 0) outputs += of_row, inverse += 1 / of_row, n++;
    }
    return n > 0 ? outputs * inverse / (n * n) : 1;
}

/* The weights of one part's rows in its own mean. Returns whether some row has one. */
static bool own_weights(const struct objective *o, const struct rows *r, double *weight)
{
    const double factor = objective_crossed(o) ? crossed(o, r) : 1;
    bool any = false;
    rows_weights(o, r, weight);
    for (size_t i = 0; i < r->n; i++) weight[i] *= factor, any = any || weight[i] > 0;
    return any;
}

void part_weights(const struct training *t, const struct objective *o, const struct rows *r, const double *factor,
                  double *weight)
{
    const size_t parts = part_count(t, r->n), size = part_size(t, r->n);
    size_t counted = 0;
    for (size_t p = 0; p < parts; p++) {
        const struct rows own = part_rows(t, r, p);
        counted += own_weights(o, &own, weight + p * size);
    }
    for (size_t i = 0; i < r->n; i++) {
        if (counted > 1) weight[i] /= (double)counted;
        if (factor) weight[i] *= factor[i / size];
    }
}

/* ----------------------------------------------------------------------------------------------------- dual ------- */
const struct config_objective *dual_of(const struct inputs *in, size_t k)
{
    const struct config_objective *r = &in->config->regularizer[k];
    return r->dual.step_size > 0 ? r : NULL;
}

double dual_weight(const struct training *t)
{
    double weight;
    memcpy(&weight, &t->dual, sizeof weight);
    return weight;
}

void dual_set(struct training *t, double weight) { memcpy(&t->dual, &weight, sizeof weight); }

static double moved(const struct config_objective *r, double weight, double loss)
{
    return fmax(0, weight + r->dual.step_size * (loss - r->dual.eps));
}

static size_t epochs_before(const struct training *t, size_t update)
{
    const struct timetable *s = t->subject->timetable;
    return update * s->batch / s->rows;
}

/* The mean loss of a part from the losses of all rows; *weight is scratch. */
static double part_loss(const struct training *t, const struct objective *o, const struct rows *r, size_t part,
                        const double *loss, double *weight)
{
    const struct rows own = part_rows(t, r, part);
    double sum = 0;
    own_weights(o, &own, weight);
    for (size_t i = 0; i < own.n; i++) sum += weight[i] * loss[part * part_size(t, r->n) + i];
    return sum;
}

/* The weight of every part, each moved by the loss of the one before; what the last one leaves is the next update's. */
static void walk(struct training *t, size_t k, const struct rows *r, const double *loss)
{
    const struct inputs *in = t->subject->in;
    double weight = dual_weight(t);
    for (size_t p = 0; p < part_count(t, r->n); p++) {
        t->factor[p] = weight;
        weight = moved(&in->config->regularizer[k], weight,
                       part_loss(t, &in->regularizer[k].objective, r, p, loss, t->weight));
    }
    t->dual_next = weight;
}

static bool moves(const struct training *t, size_t i, const struct config_objective *r)
{
    return r->dual.update == DUAL_STEP && (double)epochs_before(t, i) >= r->dual.warmup_epochs;
}

/* The losses must be known before the gradient where a part's weight depends on the loss of another. */
enum status dual_begin(struct training *t, size_t i, size_t k, const struct rows *r)
{
    const struct inputs *in = t->subject->in;
    const size_t parts = part_count(t, r->n);
    enum status st = OK;
    for (size_t p = 0; p < parts; p++) t->factor[p] = dual_weight(t);
    t->dual_next = dual_weight(t);
    if (parts == 1 || !moves(t, i, &in->config->regularizer[k])) return OK;
    TRY(engine_losses(&t->subject->engine, &in->regularizer[k].objective, r, t->loss));
    subject_count(t->subject, r, 2);
    walk(t, k, r, t->loss);
done:
    return st;
}

void dual_end(struct training *t, size_t i, size_t k, const struct rows *r)
{
    if (part_count(t, r->n) == 1 && moves(t, i, &t->subject->in->config->regularizer[k])) walk(t, k, r, t->loss);
}

/* The mean of the losses of the parts of all updates of the epoch that ends with update i, at the weights of now. */
static enum status epoch_loss(struct training *t, size_t i, size_t k, double *mean)
{
    const struct inputs *in = t->subject->in;
    const struct objective *o = &in->regularizer[k].objective;
    const size_t n = in->regularizer[k].batch;
    size_t parts = 0;
    enum status st = OK;
    *mean = 0;
    for (size_t j = i + 1; j-- > 0 && epochs_before(t, j) == epochs_before(t, i);) {
        struct rows rows;
        timetable_retain(in->config, j, in->held_out, in->retain->n_row, n, t->retain_row);
        rows = subject_rows(t->subject, in->retain, n, t->retain_row);
        TRY(engine_losses(&t->subject->engine, o, &rows, t->loss));
        subject_count(t->subject, &rows, 2);
        for (size_t p = 0; p < part_count(t, n); p++, parts++) *mean += part_loss(t, o, &rows, p, t->loss, t->weight);
    }
    *mean /= (double)parts;
done:
    return st;
}

enum status dual_updated(struct training *t, size_t i)
{
    const struct inputs *in = t->subject->in;
    double loss;
    enum status st = OK;
    for (size_t k = 0; k < in->n_regularizer; k++) {
        const struct config_objective *r = dual_of(in, k);
        const bool ends = epochs_before(t, i + 1) > epochs_before(t, i);
        if (!r) continue;
        dual_set(t, t->dual_next);
        if (r->dual.update != DUAL_EPOCH || !ends || (double)epochs_before(t, i + 1) < r->dual.warmup_epochs) continue;
        TRY(epoch_loss(t, i, k, &loss));
        dual_set(t, moved(r, dual_weight(t), loss));
    }
done:
    return st;
}
