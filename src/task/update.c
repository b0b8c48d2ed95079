/* The gradient of one update: the objective on a forget batch plus the regularisers on retain rows. Losses and weights are
 * taken over the global batch, whatever the layout. */
#include "unlearn/task_priv.h"

double rows_tokens(const struct rows *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        sum += (double)dataset_length(r->data, r->row[i]);
        if (r->pair) sum += (double)dataset_length(r->data, r->row[i] + r->pair);
    }
    return sum;
}

/* gradient += scale * grad of the batch's loss; *loss = that loss, unscaled. */
static enum status add_part(struct run *r, const struct objective *o, double scale, const struct rows *rows, double *loss)
{
    enum status st;
    double sum = 0;
    rows_weights(o, rows, r->weight);
    for (size_t i = 0; i < rows->n; i++) r->weight[i] *= scale;
    TRY(engine_gradient(&r->engine, o, rows, r->weight, r->gradient, r->loss));
    rows_weights(o, rows, r->weight);
    for (size_t i = 0; i < rows->n; i++) sum += r->weight[i] * r->loss[i];
    *loss = sum;
    r->flops += (objective_needs(o) & NEEDS_DISTRIBUTION ? 8 : 6) * plan_products(r->layout) * rows_tokens(rows);
done:
    return st;
}

enum status update_gradient(struct run *r, size_t t, struct update *u)
{
    const struct inputs *in = r->in;
    const struct dataset *train = in->config->task == TASK_FINETUNE ? in->train : inputs_of(in, &in->objective);
    struct rows rows = run_rows(r, train, r->timetable->batch, r->batch_row);
    enum status st;
    math_fill(r->layout->size, 0, r->gradient->data);
    timetable_rows(r->timetable, t, r->batch_row);
    TRY(add_part(r, &in->objective, 1, &rows, &u->objective));
    u->loss = u->objective;
    u->tokens = (size_t)rows_tokens(&rows);
    for (size_t i = 0; i < in->n_regularizer; i++) {
        const struct regularizer *reg = &in->regularizer[i];
        timetable_retain(in->config, t, in->held_out, in->retain->n_row, reg->batch, r->retain_row);
        rows = run_rows(r, in->retain, reg->batch, r->retain_row);
        TRY(add_part(r, &reg->objective, reg->weight, &rows, &u->part[i]));
        u->loss += reg->weight * u->part[i];
        u->tokens += (size_t)rows_tokens(&rows);
    }
    TRY(state_reduce(r->grid, r->gradient));
done:
    return st;
}
