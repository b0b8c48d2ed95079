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

/* gradient = scale * grad of the batch's loss, complete; *norm its norm; *loss = that loss, unscaled. */
static enum status part_gradient(struct run *r, const struct objective *o, double scale, const struct rows *rows,
                                 struct state *gradient, double *norm, double *loss)
{
    enum status st;
    double sum = 0;
    math_fill(r->layout->size, 0, gradient->data);
    rows_weights(o, rows, r->weight);
    for (size_t i = 0; i < rows->n; i++) r->weight[i] *= scale;
    TRY(engine_gradient(&r->engine, o, rows, r->weight, gradient, r->loss));
    TRY(state_reduce(r->grid, gradient));
    *norm = optim_norm(r->grid, r->in->frozen, gradient);
    rows_weights(o, rows, r->weight);
    for (size_t i = 0; i < rows->n; i++) sum += r->weight[i] * r->loss[i];
    *loss = sum;
    r->flops += (6 + plan_reference(r->plan, o)) * plan_products(r->layout) * rows_tokens(rows);
done:
    return st;
}

/* The parts are formed, reduced and added one by one whether or not anything looks at them: what is measured must not show
 * in the numbers. */
static enum status add_regularizer(struct run *r, size_t t, size_t i, struct update *u)
{
    const struct inputs *in = r->in;
    const struct regularizer *reg = &in->regularizer[i];
    struct rows rows;
    enum status st;
    timetable_retain(in->config, t, in->held_out, in->retain->n_row, reg->batch, r->retain_row);
    rows = run_rows(r, in->retain, reg->batch, r->retain_row);
    TRY(part_gradient(r, &reg->objective, reg->weight, &rows, r->part, &u->norm_of_part[i], &u->part[i]));
    math_add(r->layout->size, r->part->data, r->gradient->data);
    if (r->regularizer && r->regularizer != r->part) {
        if (i == 0) math_fill(r->layout->size, 0, r->regularizer->data);
        math_add(r->layout->size, r->part->data, r->regularizer->data);
    }
    u->loss += reg->weight * u->part[i];
    u->tokens += (size_t)rows_tokens(&rows);
done:
    return st;
}

enum status update_gradient(struct run *r, size_t t, struct update *u)
{
    const struct inputs *in = r->in;
    const struct dataset *train = in->config->task == TASK_FINETUNE ? in->train : inputs_of(in, &in->objective);
    struct rows rows = run_rows(r, train, r->timetable->batch, r->batch_row);
    enum status st;
    timetable_rows(r->timetable, t, r->batch_row);
    TRY(part_gradient(r, &in->objective, 1, &rows, r->gradient, &u->norm_of_objective, &u->objective));
    u->loss = u->objective;
    u->norm = u->norm_of_objective;
    u->rate = optim_rate(&r->optim->set, t);
    u->tokens = (size_t)rows_tokens(&rows);
    for (size_t i = 0; i < in->n_regularizer; i++) TRY(add_regularizer(r, t, i, u));
    if (in->n_regularizer) u->norm = optim_norm(r->grid, in->frozen, r->gradient);
done:
    return st;
}
