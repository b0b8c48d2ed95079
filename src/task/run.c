/* Everything a run allocates, once; its weights and reference values; its files. */
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

static enum status new_lists(struct run *r)
{
    const struct inputs *in = r->in;
    const struct plan *p = r->plan;
    size_t rows = p->engine.rows, J = p->engine.objectives, K = p->engine.risks;
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
    TRY(model_new(r->layout, r->grid, &p->model, &r->model, NULL));
    r->engine = (struct engine){.grid = r->grid,
                                .layout = r->layout,
                                .model = r->model,
                                .weights = r->weights,
                                .reference = r->reference,
                                .kept = r->kept.kept,
                                .n_kept = r->kept.n,
                                .tokens = p->tokens};
    TRY(engine_room_new(&r->engine, &p->engine, false, NULL));
done:
    return r && r->grid ? grid_agree(r->grid, st) : st;
}

void run_free(struct run *r)
{
    if (!r) return;
    file_close(r->geffect);
    file_close(r->train);
    engine_room_free(&r->engine);
    model_free(r->model);
    optim_free(r->optim);
    for (size_t k = 0; r->risk_gradient && k < r->in->n_risk; k++) state_free(r->risk_gradient[k]);
    for (size_t i = 0; r->out_layer && i < r->n_out_layer; i++) free(r->out_layer[i]);
    reference_free(&r->kept);
    gram_free(r->gram);
    fidelity_free(r->fidelity);
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
    free(r->risk_nll), free(r->inverse_confidence);
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

/* Reads DIR into s, or draws it. */
static enum status fill(struct run *r, const char *dir, struct state *s, uint64_t *hash)
{
    if (r->in->config->model.init == INIT_PRETRAINED || strcmp(dir, r->in->config->model.path))
        return weights_read(dir, r->grid, s, hash);
    weights_random(r->in->shape, r->in->config->seed, s);
    *hash = hash_bytes(&r->in->config->seed, sizeof r->in->config->seed, 1);
    return OK;
}

/* Both go through one forward, so what it computes must be the same too. */
static bool same_function(const struct shape *a, const struct shape *b)
{
    if (a->norm != b->norm || a->norm_eps != b->norm_eps || a->activation != b->activation ||
        a->parallel_residual != b->parallel_residual || a->rotary_dim != b->rotary_dim)
        return false;
    for (size_t k = 0; k < a->rotary_dim / 2; k++)
        if (a->frequency[k] != b->frequency[k]) return false;
    return true;
}

static enum status check_reference(const struct run *r, const char *dir)
{
    struct shape *s = NULL;
    enum status st = shape_read(dir, &s);
    if (st == OK && !(shape_equal(s, r->in->shape) && same_function(s, r->in->shape)))
        st = fail(ERR_INPUT, "%s: config.json does not describe the same model as that of %s", dir,
                  r->in->config->model.path);
    shape_free(s);
    return grid_agree(r->grid, st);
}

/* Where theta_o comes from, and whether that is another model than the one that is trained. */
static const char *reference_path(const struct inputs *in, bool *other)
{
    const struct config *c = in->config;
    *other = c->model.reference && strcmp(c->model.reference, c->model.path) &&
             (in->needs_reference || in->needs_distribution);
    return *other ? c->model.reference : c->model.path;
}

enum status run_hashes(const struct inputs *in, const struct plan *p, uint64_t *weights, uint64_t *reference)
{
    struct run r = {.in = in, .plan = p};
    bool other;
    const char *path = reference_path(in, &other);
    enum status st;
    TRY(grid_new(p->data, p->tensor, &r.grid));
    TRY(layout_new(in->shape, r.grid->tensor_rank, p->tensor, &r.layout));
    st = state_new("weights", r.layout, &r.weights);
    TRY(grid_agree(r.grid, st));
    TRY(fill(&r, in->config->model.path, r.weights, weights));
    *reference = *weights;
    if (other) {
        TRY(check_reference(&r, path));
        TRY(fill(&r, path, r.weights, reference));
    }
done:
    state_free(r.weights);
    layout_free(r.layout);
    grid_free(r.grid);
    return st;
}

/* Values of the reference first, with its weights in the model's own memory. */
enum status run_weights(struct run *r)
{
    bool other;
    const char *path = reference_path(r->in, &other);
    enum phase before = phase_enter(PHASE_READ);
    enum status st = OK;
    uint64_t hash;
    if (other) TRY(check_reference(r, path));
    TRY(fill(r, path, r->weights, &hash));
    if (r->reference) math_copy(r->layout->size, r->weights->data, r->reference->data);
    for (size_t i = 0; i < r->kept.n; i++) TRY(engine_keep(&r->engine, r->kept.kept[i], r->weights));
    if (r->in->needs_reference) {
        const struct inputs *in = r->in;
        struct rows rows = run_rows(r, in->pairs ? in->pairs : in->forget, in->forget->n_row, r->every_row);
        TRY(engine_nll(&r->engine, r->weights, &rows, r->nll_ref));
    }
    if (other) TRY(fill(r, r->in->config->model.path, r->weights, &hash));
done:
    phase_enter(before);
    return st;
}
