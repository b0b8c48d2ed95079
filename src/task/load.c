/* The weights of a run: read or drawn, the reference's values first with its weights in the model's own memory; and the later
 * models of a trajectory, one after the other in the same place. */
#include "unlearn/task_priv.h"
#include <string.h>

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

static enum status check_same(const struct run *r, const char *dir)
{
    struct shape *s = NULL;
    enum status st = shape_read(dir, &s);
    if (st == OK && !(shape_equal(s, r->in->shape) && same_function(s, r->in->shape)))
        st = fail(ERR_INPUT, "%s: config.json does not describe the same model as that of %s", dir,
                  r->in->config->model.path);
    shape_free(s);
    return grid_agree(r->grid, st);
}

/* Every later model of a trajectory must be the same function. */
static enum status check_trajectory(const struct run *r)
{
    const struct config *c = r->in->config;
    enum status st = OK;
    for (size_t i = 1; i < c->model.n_at; i++) TRY(check_same(r, c->model.at[i].path));
done:
    return st;
}

/* Where theta_o comes from, and whether that is another model than the one that is trained. */
static const char *reference_path(const struct inputs *in, bool *other)
{
    const struct config *c = in->config;
    *other =
        c->model.reference && strcmp(c->model.reference, c->model.path) &&
        (in->needs_reference || in->needs_distribution || (in->evaluation && in->evaluation->needs & WANTS_REFERENCE));
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
    TRY(check_trajectory(&r));
    TRY(fill(&r, in->config->model.path, r.weights, weights));
    *reference = *weights;
    if (in->config->model.at[0].step) {
        const uint64_t step = in->config->model.at[0].step;
        *weights = hash_bytes(&step, sizeof step, *weights);
    }
    if (other) {
        TRY(check_same(&r, path));
        TRY(fill(&r, path, r.weights, reference));
    }
    for (size_t i = 1; i < in->config->model.n_at; i++) {
        uint64_t next[2] = {0, in->config->model.at[i].step};
        TRY(fill(&r, in->config->model.at[i].path, r.weights, &next[0]));
        *weights = hash_bytes(next, sizeof next, *weights);
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
    TRY(check_trajectory(r));
    if (other) TRY(check_same(r, path));
    TRY(fill(r, path, r->weights, &hash));
    if (r->reference) math_copy(r->layout->size, r->weights->data, r->reference->data);
    for (size_t i = 0; i < r->kept.n; i++) TRY(engine_keep(&r->engine, r->kept.kept[i], r->weights));
    if (r->in->needs_reference) {
        const struct inputs *in = r->in;
        struct rows rows = run_rows(r, in->pairs ? in->pairs : in->forget, in->forget->n_row, r->every_row);
        TRY(engine_nll(&r->engine, r->weights, &rows, r->nll_ref));
    }
    TRY(evaluation_reference(r));
    if (other) TRY(fill(r, r->in->config->model.path, r->weights, &hash));
done:
    phase_enter(before);
    return st;
}

enum status run_next_model(struct run *r, size_t i)
{
    enum phase before = phase_enter(PHASE_READ);
    uint64_t hash;
    enum status st = fill(r, r->in->config->model.at[i].path, r->weights, &hash);
    phase_enter(before);
    return st;
}

enum status plan_check(const struct inputs *in, const struct plan *p, const struct text *plan)
{
    struct text echo = {0};
    uint64_t weights, reference;
    enum status st;
    TRY(config_write(in->config, &echo));
    if (plan_memory(in, p) != OK) {
        log_warn("%s", fail_message());
        fail_clear();
    }
    TRY(run_hashes(in, p, &weights, &reference));
    log_info("%s\n%s", echo.data, plan->data);
    report_kernels();
    report_prediction(p);
    log_close(); /* warnings come before the digest, which is the last line */
    log_info("digest: %016llx", (unsigned long long)plan_digest(in, weights, reference));
done:
    text_free(&echo);
    return st;
}
