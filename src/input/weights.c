/* How the rows of a set combine into a risk, and into an objective over all forget rows.
 *      full               the weights of a batch that is the whole set
 *      moving_average     the estimate of a gradient in the published code of arXiv 2502.19301: g = g_1, then
 *                         0.6 g + 0.4 g_b over micro-batches b of four rows, in an order that the seed fixes. It is
 *                         linear in the rows' gradients, so it amounts to a choice of weights, with an effective sample
 *                         of about the last sixteen rows. */
#include "unlearn/input_priv.h"
#include <stdlib.h>

enum { MICRO_BATCH = 4 };
static const double OLD = 0.6, NEW = 0.4;

/* The order of rows, the same for an objective and a risk on the same rows. */
static void micro_order(const struct config *c, size_t n, size_t *order)
{
    if (c->train.shuffle)
        random_permutation(c->seed, STREAM_ESTIMATOR, 0, n, order);
    else
        for (size_t i = 0; i < n; i++) order[i] = i;
}

/* Turns mass [n] into weights. Each micro-batch divides by the sum of its rows' masses or, for a mean over sequences,
 * by the number of rows that have mass. A micro-batch without mass is skipped. */
static enum status moving_average(const struct config *c, size_t n, bool sequences, double *mass)
{
    size_t *order = NULL, left = 0;
    double *sum = NULL, share = 1;
    enum status st = OK;
    TRY_NEW(order, n);
    TRY_NEW(sum, n / MICRO_BATCH + 1);
    micro_order(c, n, order);
    for (size_t i = 0; i < n; i++) sum[i / MICRO_BATCH] += sequences ? mass[order[i]] > 0 : mass[order[i]];
    for (size_t b = 0; b <= n / MICRO_BATCH; b++) left += sum[b] > 0;
    /* from the last batch to the first: 0.4, 0.4 0.6, 0.4 0.6^2, ...; the first batch takes the rest */
    for (size_t i = n; i-- > 0;) {
        const size_t b = i / MICRO_BATCH;
        if (sum[b] > 0) mass[order[i]] *= (left > 1 ? NEW : 1) * share / sum[b];
        if (i % MICRO_BATCH == 0 && sum[b] > 0) share *= OLD, left--;
    }
done:
    free(order), free(sum);
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
        TRY(moving_average(c, k->n, sequences, k->weight));
    else
        for (size_t i = 0; i < k->n; i++) k->weight[i] /= sum;
done:
    return st;
}

enum status objective_weights(const struct inputs *in, const struct objective *o, const struct rows *rows, double *weight)
{
    rows_weights(o, rows, weight);
    if (in->config->geffect.estimator == ESTIMATOR_FULL) return OK;
    return moving_average(in->config, rows->n, false, weight);
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
