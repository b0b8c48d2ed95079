/* The weights of a subject, read or drawn. The reference comes first: its weights are read into the model's own memory
 * and its values computed. The later models of a trajectory follow one after the other in the same memory. */
#include "unlearn/subject.h"
#include "unlearn/weights.h"
#include <string.h>

/* Reads the weights of dir into s, or draws them if model.init is random. */
static enum status fill(const struct subject *r, const char *dir, struct state *s, uint64_t *hash)
{
    if (r->in->config->model.init == INIT_PRETRAINED || strcmp(dir, r->in->config->model.path))
        return weights_read(dir, r->grid, s, hash);
    weights_random(r->in->shape, r->in->config->seed, s);
    *hash = hash_bytes(&r->in->config->seed, sizeof r->in->config->seed, 1);
    return OK;
}

/* s, the model of dir, is not that of the run: as config.json says, or though it says the same of both, where the weights of one
 * hold a head of their own.                                                                                          Local. */
static enum status refuse(const struct subject *r, const char *dir, const struct shape *s, enum shape_agree as_far_as)
{
    const char *model = r->in->config->model.path;
    struct shape *a = NULL, *b = NULL;
    enum status st;
    TRY(shape_read(dir, &a));
    TRY(shape_read(model, &b));
    if (shape_differs(a, b, as_far_as))
        st = fail(ERR_INPUT,
                  "%s: config.json does not describe the same model as that of %s: %s differs; give it a run of its own, "
                  "or correct what is wrong",
                  dir, model, shape_differs(s, r->in->shape, as_far_as));
    else
        st = fail(
            ERR_INPUT,
            "%s: is not the same model as %s: both config.json tie the head, but the weights of %s hold one of their "
            "own; give it a run of its own, or correct what is wrong",
            dir, model, s->tied ? model : dir);
done:
    shape_free(a), shape_free(b);
    return st;
}

/* Checks that the model of dir can go through the same forward and, for SHAPE_GRADIENT, the same backward. */
static enum status check_same(const struct subject *r, const char *dir, enum shape_agree as_far_as)
{
    struct shape *s = NULL;
    enum status st;
    TRY(grid_agree(r->grid, shape_read(dir, &s)));
    TRY(shape_untie(dir, r->grid, s));
    if (shape_differs(s, r->in->shape, as_far_as)) st = refuse(r, dir, s, as_far_as);
done:
    shape_free(s);
    return grid_agree(r->grid, st);
}

/* Checks that every later model of a trajectory has the same architecture. */
static enum status check_trajectory(const struct subject *r)
{
    const struct config *c = r->in->config;
    const bool gradients = r->in->measures || (r->in->evaluation && r->in->evaluation->needs & WANTS_NORMS);
    enum status st = OK;
    for (size_t i = 1; i < c->model.n_at; i++)
        TRY(check_same(r, c->model.at[i].path, gradients ? SHAPE_GRADIENT : SHAPE_FUNCTION));
done:
    return st;
}

bool subject_reads_reference(const struct inputs *in)
{
    return in->needs_reference || in->needs_distribution || (in->evaluation && in->evaluation->needs & WANTS_REFERENCE);
}

/* The directory of the reference theta_o; *other: whether that is another model than the trained one. */
static const char *reference_path(const struct inputs *in, bool *other)
{
    const struct config *c = in->config;
    *other = c->model.reference && strcmp(c->model.reference, c->model.path) && subject_reads_reference(in);
    return *other ? c->model.reference : c->model.path;
}

enum status subject_hashes(const struct inputs *in, const struct plan *p, uint64_t *weights, uint64_t *reference)
{
    struct subject r = {.in = in, .plan = p};
    bool other;
    const char *path = reference_path(in, &other);
    enum status st;
    TRY(grid_new(p->data, p->tensor, &r.grid));
    TRY(layout_new(in->shape, r.grid->tensor_rank, p->tensor, &r.layout));
    st = layout_share(r.layout, r.grid, p->sharing, 1, false);
    if (st == OK) st = state_new_held("weights", r.layout, plan_half(in, plan_held(p, "weights")), &r.weights);
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

/* Called before subject_weights(), so that the reference's weights need no memory of their own. */
enum status subject_reference(struct subject *s)
{
    const struct inputs *in = s->in;
    bool other;
    const char *path = reference_path(in, &other);
    enum phase before = phase_enter(PHASE_READ);
    enum status st = OK;
    TRY(check_trajectory(s));
    if (other) TRY(check_same(s, path, SHAPE_FUNCTION));
    TRY(fill(s, path, s->weights, &s->hash_reference));
    s->hash_weights = s->hash_reference;
    if (s->reference) state_copy(s->weights, s->reference);
    for (size_t i = 0; i < s->kept.n; i++) TRY(engine_keep(&s->engine, s->kept.kept[i], s->weights));
    if (in->needs_reference) {
        const struct rows rows = subject_rows(s, in->pairs ? in->pairs : in->forget, in->forget->n_row, s->every_row);
        TRY(engine_nll(&s->engine, s->weights, &rows, s->nll_ref));
    }
done:
    phase_enter(before);
    return st;
}

enum status subject_weights(struct subject *s)
{
    bool other;
    enum phase before = phase_enter(PHASE_READ);
    enum status st = OK;
    reference_path(s->in, &other); /* if it is the same model, its weights are there already */
    if (other) st = fill(s, s->in->config->model.path, s->weights, &s->hash_weights);
    phase_enter(before);
    return st;
}

enum status subject_next(struct subject *s, size_t i)
{
    enum phase before = phase_enter(PHASE_READ);
    uint64_t hash;
    enum status st = fill(s, s->in->config->model.at[i].path, s->weights, &hash);
    phase_enter(before);
    return st;
}
