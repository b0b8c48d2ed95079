/* How the rows of a set combine into a risk, and into an objective over all forget rows.
 *      full               the batch weights of reference.py over the whole set
 *      moving_average     as the published code of arXiv 2502.19301 estimates a gradient: g = g_1, then 0.6 g + 0.4 g_b over
 *                         micro-batches b of four rows, in an order that the seed fixes. It is linear in the rows' gradients,
 *                         so it is a choice of weights; its effective sample is the last sixteen rows or so. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MICRO_BATCH = 4 };
static const double OLD = 0.6, NEW = 0.4;

/* Rows of `labels` with a label, in the order of the micro-batches; the objective and the risk on the same rows share it. */
static size_t micro_order(const struct config *c, size_t n, const struct dataset *labels, const size_t *row,
                          size_t *order)
{
    size_t count = 0;
    if (c->train.shuffle)
        random_permutation(c->seed, STREAM_ESTIMATOR, 0, n, order);
    else
        for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = 0; i < n; i++)
        if (dataset_labels(labels, row[order[i]])) order[count++] = order[i];
    return count;
}

/* mass [n] -> weights; each micro-batch divides by its rows' masses or, for a mean over sequences, by their number. */
static enum status moving_average(const struct config *c, size_t n, const struct dataset *labels, const size_t *row,
                                  bool sequences, double *mass)
{
    size_t *order = NULL, count, batches;
    double *weight = NULL;
    enum status st = OK;
    TRY_NEW(order, n);
    TRY_NEW(weight, n);
    count = micro_order(c, n, labels, row, order);
    batches = (count + MICRO_BATCH - 1) / MICRO_BATCH;
    for (size_t b = 0; b < batches; b++) {
        size_t first = b * MICRO_BATCH, end = first + MICRO_BATCH < count ? first + MICRO_BATCH : count;
        double sum = 0, share = (b ? NEW : 1) * pow(OLD, (double)(batches - 1 - b));
        for (size_t i = first; i < end; i++) sum += sequences ? 1 : mass[order[i]];
        for (size_t i = first; i < end && sum > 0; i++) weight[order[i]] = share * mass[order[i]] / sum;
    }
    memcpy(mass, weight, n * sizeof *mass);
done:
    free(order), free(weight);
    return st;
}

enum status risk_weights(const struct config *c, struct risk *k)
{
    bool sequences = c->geffect.normalisation == NORM_SEQUENCE_SUM;
    double sum = 0;
    enum status st = OK;
    TRY_NEW(k->weight, k->n);
    TRY_NEW(k->label_first, k->data->n_row + 1);
    for (size_t i = 0; i < k->data->n_row; i++) k->label_first[i + 1] = k->label_first[i] + dataset_labels(k->data, i);
    for (size_t i = 0; i < k->n; i++) {
        k->weight[i] = (double)dataset_labels(k->data, k->row[i]);
        sum += sequences ? k->weight[i] > 0 : k->weight[i];
    }
    if (c->geffect.estimator == ESTIMATOR_MOVING_AVERAGE)
        TRY(moving_average(c, k->n, k->data, k->row, sequences, k->weight));
    else
        for (size_t i = 0; i < k->n; i++) k->weight[i] /= sum;
done:
    return st;
}

enum status objective_weights(const struct inputs *in, const struct objective *o, const struct rows *rows, double *weight)
{
    /* refusals stand for the answers of the same rows; pairs begin with them */
    const struct dataset *labels = rows->data == in->refusals ? in->forget : rows->data;
    rows_weights(o, rows, weight);
    if (in->config->geffect.estimator == ESTIMATOR_FULL) return OK;
    return moving_average(in->config, rows->n, labels, rows->row, false, weight);
}

double risk_mean(const struct risk *k, const double *nll)
{
    double risk = 0;
    for (size_t i = 0; i < k->n; i++) {
        const size_t first = k->label_first[k->row[i]], end = k->label_first[k->row[i] + 1];
        double sum = 0;
        for (size_t t = first; t < end; t++) sum += nll[t];
        if (end > first) risk += k->weight[i] * sum / (double)(end - first);
    }
    return risk;
}
