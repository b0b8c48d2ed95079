/* Everything a run allocates, once. */
#include "unlearn/task_priv.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum status new_states(struct run *r)
{
    const struct inputs *in = r->in;
    enum status st = OK;
    TRY(state_new("weights", r->layout, &r->weights));
    if (r->plan->copies) TRY(state_new("reference", r->layout, &r->reference));
    if (in->needs_distribution && !r->plan->copies)
        TRY(reference_list(in, r->timetable, r->layout, r->plan->data, &r->kept));
    if (in->measures) {
        TRY_NEW(r->risk_gradient, in->n_risk);
        for (size_t k = 0; k < in->n_risk; k++) TRY(state_new("risk gradient", r->layout, &r->risk_gradient[k]));
    }
    if (in->trains) {
        const struct config *c = in->config;
        const struct optim_settings set = {.kind = c->optimizer.name == OPTIMIZER_SGD ? OPTIM_SGD : OPTIM_ADAMW,
                                           .schedule = c->optimizer.schedule == SCHEDULE_CONSTANT ? LR_CONSTANT
                                                       : c->optimizer.schedule == SCHEDULE_LINEAR ? LR_LINEAR
                                                                                                  : LR_COSINE,
                                           .lr = c->optimizer.lr,
                                           .beta1 = c->optimizer.beta1,
                                           .beta2 = c->optimizer.beta2,
                                           .eps = c->optimizer.eps,
                                           .weight_decay = c->optimizer.weight_decay,
                                           .clip = c->optimizer.clip,
                                           .warmup = r->timetable->warmup,
                                           .steps = r->timetable->updates,
                                           .frozen = in->frozen};
        TRY(state_new("gradient", r->layout, &r->gradient));
        if (in->n_regularizer) TRY(state_new("regularizer's gradient", r->layout, &r->part));
        if (in->n_regularizer > 1 && in->gram)
            TRY(state_new("regularizers' gradient", r->layout, &r->regularizer));
        else
            r->regularizer = r->part;
        if (in->gram || in->fidelity) TRY(state_new("measured step", r->layout, &r->step));
        TRY(optim_new(&set, r->layout, &r->optim));
    }
done:
    return st;
}

/* The labels of the files' `layer` axis, and where each tensor use is added. */
static enum status new_labels(struct run *r)
{
    const struct layout *l = r->layout;
    bool tensors = r->in->config->geffect.resolution == RESOLUTION_TENSOR;
    size_t slots = slot_count(l);
    enum status st = OK;
    r->n_out_layer = tensors ? l->n_param : l->n_layer;
    TRY_NEW(r->out_layer, r->n_out_layer);
    TRY_NEW(r->slot_out, slots);
    for (size_t i = 0; i < r->n_out_layer; i++) {
        char buffer[32];
        r->out_layer[i] = text_copy(tensors ? l->param[i].name : layer_name(l, i, buffer));
        if (!r->out_layer[i]) {
            st = fail(ERR_MEMORY, "memory: cannot allocate the labels of layers");
            goto done;
        }
    }
    for (size_t s = 0; s < slots; s++)
        r->slot_out[s] = tensors ? (size_t)(slot_param(l, s) - l->param) : slot_layer(l, s);
done:
    return st;
}

/* What the totals of effects weigh the forget rows with. */
static enum status new_weights(struct run *r)
{
    const struct inputs *in = r->in;
    enum status st = OK;
    TRY_NEW(r->instance_weight, in->n_measured * in->forget->n_row);
    TRY_NEW(r->total, in->n_measured * in->n_risk);
    for (size_t j = 0; j < in->n_measured; j++) {
        const struct rows rows = run_forget(r, &in->measured[j]);
        TRY(objective_weights(in, &in->measured[j], &rows, r->instance_weight + j * rows.n));
    }
done:
    return st;
}

static enum status new_lists(struct run *r)
{
    const struct inputs *in = r->in;
    const struct plan *p = r->plan;
    size_t rows = p->rows, J = p->engine.objectives, K = p->engine.risks;
    enum status st = OK;
    TRY_NEW(r->every_row, in->train ? in->train->n_row : 0);
    for (size_t i = 0; in->train && i < in->train->n_row; i++) r->every_row[i] = i;
    TRY_NEW(r->batch_row, rows);
    TRY_NEW(r->retain_row, rows);
    TRY_NEW(r->weight, rows);
    TRY_NEW(r->loss, rows);
    TRY_NEW(r->risk_value, in->n_risk);
    if (in->measures) {
        TRY_NEW(r->risk_nll, risk_labels(in));
        TRY_NEW(r->inverse_confidence, in->forget->n_row);
        TRY(new_weights(r));
        TRY_NEW(r->effect, J * K * slot_count(r->layout) * rows);
        TRY_NEW(r->effect_loss, J * rows);
        TRY_NEW(r->mean_weight, J * rows);
        TRY_NEW(r->slab, J * K * r->n_out_layer * rows);
    }
    if (in->needs_reference) {
        const struct dataset *d = in->pairs ? in->pairs : in->forget; /* pairs begin with the forget rows */
        TRY_NEW(r->label_first, d->n_row + 1);
        for (size_t i = 0; i < d->n_row; i++) r->label_first[i + 1] = r->label_first[i] + dataset_labels(d, i);
        TRY_NEW(r->nll_ref, r->label_first[d->n_row]);
    }
done:
    return st;
}

enum status run_new(const struct inputs *in, const struct plan *p, struct timetable *s, const struct grid *world,
                    struct run **out)
{
    enum status st = OK;
    struct run *r = *out = memory_new(1, sizeof *r);
    if (!r) st = fail(ERR_MEMORY, "memory: cannot allocate the run");
    TRY(grid_agree(world, st));
    r->in = in, r->plan = p, r->timetable = s;
    TRY(grid_new(p->data, p->tensor, &r->grid));
    TRY(layout_new(in->shape, r->grid->tensor_rank, p->tensor, &r->layout));
    TRY(new_states(r));
    TRY(new_labels(r));
    TRY(new_lists(r));
    if (in->gram) TRY(gram_new(r));
    if (in->fidelity) TRY(fidelity_new(r));
    TRY(evaluation_new(r));
    if (in->measures && in->config->geffect.standard_error) TRY(spread_new(r));
    TRY(model_new(r->layout, r->grid, &p->model, &r->model, NULL));
    r->engine = (struct engine){.grid = r->grid,
                                .layout = r->layout,
                                .model = r->model,
                                .weights = r->weights,
                                .reference = r->reference,
                                .kept = r->kept.kept,
                                .n_kept = r->kept.n,
                                .tokens = plan_most_tokens(p)};
    TRY(engine_room_new(&r->engine, &p->engine, false, NULL));
    r->engine.tokens = p->tokens;
done:
    return r && r->grid ? grid_agree(r->grid, st) : st;
}

void run_free(struct run *r)
{
    if (!r) return;
    file_close(r->geffect);
    file_close(r->train);
    evaluation_free(r);
    engine_room_free(&r->engine);
    model_free(r->model);
    optim_free(r->optim);
    for (size_t k = 0; r->risk_gradient && k < r->in->n_risk; k++) state_free(r->risk_gradient[k]);
    for (size_t i = 0; r->out_layer && i < r->n_out_layer; i++) free(r->out_layer[i]);
    reference_free(&r->kept);
    gram_free(r->gram);
    fidelity_free(r->fidelity);
    spread_free(r->spread);
    if (r->regularizer != r->part) state_free(r->regularizer);
    state_free(r->part);
    state_free(r->step);
    state_free(r->gradient);
    state_free(r->reference);
    state_free(r->weights);
    layout_free(r->layout);
    grid_free(r->grid);
    free(r->risk_gradient), free(r->out_layer), free(r->slot_out), free(r->nll_ref), free(r->label_first);
    free(r->every_row), free(r->batch_row), free(r->retain_row), free(r->weight), free(r->loss), free(r->risk_value);
    free(r->risk_nll), free(r->inverse_confidence), free(r->instance_weight), free(r->total);
    free(r->effect), free(r->effect_loss), free(r->mean_weight), free(r->slab);
    directory_free(r->directory);
    free(r);
}

struct rows run_rows(const struct run *r, const struct dataset *d, size_t n, const size_t *row)
{
    const struct inputs *in = r->in;
    const bool pairs = in->pairs && d == in->pairs, known = pairs || d == in->forget;
    return (struct rows){.data = d,
                         .n = n,
                         .row = row,
                         .nll_ref = known ? r->nll_ref : NULL,
                         .label_first = known ? r->label_first : NULL,
                         .pair = pairs ? in->forget->n_row : 0};
}

struct rows run_forget(const struct run *r, const struct objective *o)
{
    return run_rows(r, inputs_of(r->in, o), r->in->forget->n_row, r->every_row);
}

struct rows risk_rows(const struct risk *k)
{
    return (struct rows){.data = k->data, .n = k->n, .row = k->row, .label_first = k->label_first};
}

size_t risk_labels(const struct inputs *in)
{
    size_t most = 0;
    for (size_t k = 0; k < in->n_risk; k++)
        if (most < in->risk[k].label_first[in->risk[k].data->n_row])
            most = in->risk[k].label_first[in->risk[k].data->n_row];
    return most;
}
