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

/* Both go through one forward, and where gradients are measured (`as_far_as`) through one backward. */
static enum status check_same(const struct run *r, const char *dir, enum shape_agree as_far_as)
{
    struct shape *s = NULL;
    const char *differs;
    enum status st;
    TRY(grid_agree(r->grid, shape_read(dir, &s)));
    TRY(shape_untie(dir, r->grid, s));
    if ((differs = shape_differs(s, r->in->shape, as_far_as)))
        st = fail(ERR_INPUT,
                  "%s: config.json does not describe the same model as that of %s: %s differs; give it a run of its own, "
                  "or correct what is wrong",
                  dir, r->in->config->model.path, differs);
done:
    shape_free(s);
    return grid_agree(r->grid, st);
}

/* Every later model of a trajectory must be the same function. */
static enum status check_trajectory(const struct run *r)
{
    const struct config *c = r->in->config;
    const bool gradients = r->in->measures || (r->in->evaluation && r->in->evaluation->needs & WANTS_NORMS);
    enum status st = OK;
    for (size_t i = 1; i < c->model.n_at; i++)
        TRY(check_same(r, c->model.at[i].path, gradients ? SHAPE_GRADIENT : SHAPE_FUNCTION));
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
        TRY(check_same(&r, path, SHAPE_FUNCTION));
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
    if (other) TRY(check_same(r, path, SHAPE_FUNCTION));
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
    log_close(); /* warnings come before the digest, which is the last line */
    log_info("digest: %016llx", (unsigned long long)plan_digest(in, weights, reference));
done:
    text_free(&echo);
    return st;
}
