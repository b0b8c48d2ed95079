/* The golden models of the shared material, for C tests: expected.h5 as plain arrays, and a model laid out over a grid. */
#ifndef UNLEARN_TESTS_GOLDEN_H
#define UNLEARN_TESTS_GOLDEN_H
#include "near.h"

#include "unlearn/data.h"
#include "unlearn/geffect.h"
#include "unlearn/parallel.h"
#include "unlearn/weights.h"
#include <hdf5.h>

#define TEST_OK(call)                                                \
    do {                                                             \
        if ((call) != OK) fail_msg("%s: %s", #call, fail_message()); \
    } while (0)

static inline size_t h5_size(hid_t file, const char *name)
{
    hid_t d = H5Dopen2(file, name, H5P_DEFAULT), s = H5Dget_space(d);
    size_t n = (size_t)H5Sget_simple_extent_npoints(s);
    H5Sclose(s), H5Dclose(d);
    return n;
}

static inline void *h5_read(hid_t file, const char *name, hid_t type, size_t *n)
{
    hid_t d = H5Dopen2(file, name, H5P_DEFAULT);
    void *x = calloc(h5_size(file, name), H5Tget_size(type));
    H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, x);
    if (n) *n = h5_size(file, name);
    H5Dclose(d);
    return x;
}

static inline double *h5_double(hid_t file, const char *name, size_t *n)
{
    return h5_read(file, name, H5T_NATIVE_DOUBLE, n);
}

/* tokens/SET/i of expected.h5 as a data set */
static inline struct dataset *h5_dataset(hid_t file, const char *set)
{
    struct dataset *d = calloc(1, sizeof *d);
    char name[128];
    d->path = strdup(set);
    d->first = calloc(1024, sizeof *d->first);
    d->end = calloc(1024, sizeof *d->end);
    d->id = calloc(1 << 16, sizeof *d->id);
    d->label = calloc(1 << 16, sizeof *d->label);
    for (;; d->n_row++) {
        size_t n;
        int32_t *x;
        snprintf(name, sizeof name, "tokens/%s/%zu", set, d->n_row);
        if (H5Lexists(file, name, H5P_DEFAULT) <= 0) break;
        snprintf(name, sizeof name, "tokens/%s/%zu/ids", set, d->n_row);
        x = h5_read(file, name, H5T_NATIVE_INT32, &n);
        memcpy(d->id + d->first[d->n_row], x, n * sizeof *x);
        free(x);
        snprintf(name, sizeof name, "tokens/%s/%zu/labels", set, d->n_row);
        x = h5_read(file, name, H5T_NATIVE_INT32, &n);
        memcpy(d->label + d->first[d->n_row], x, n * sizeof *x);
        free(x);
        d->first[d->n_row + 1] = d->first[d->n_row] + n;
    }
    return d;
}

struct golden { /* one golden model, its weights and its reference's, ready for passes */
    struct grid *grid;
    struct shape *shape;
    struct layout *layout;
    struct state *weights, *reference;
    struct model *model;
    struct engine engine;
    struct dataset *forget, *retain, *idk;
    size_t *every, *label_first;
    double *nll_ref;
    hid_t expected; /* 0: made by hand */
};

static inline struct rows golden_rows(struct golden *g, struct dataset *d)
{
    bool forget = d == g->forget;
    return (struct rows){.data = d,
                         .n = d->n_row,
                         .row = g->every,
                         .nll_ref = forget ? g->nll_ref : NULL,
                         .label_first = forget ? g->label_first : NULL};
}

static bool keeps_tangents; /* a test sets it: room for a backward with tangents */
/* Outputs of a slab, so few that sequences have rows in several; rows of logits held: some slabs are kept, others share the rest of
 * the room. */
static inline size_t slab_outputs(size_t tokens) { return 3 + tokens / 20; }
static inline size_t logits_held(size_t tokens) { return 2 * slab_outputs(tokens) + 1; }

/* Workspace and reference values of a model whose grid, shape, layout, states and rows stand. */
static inline void golden_ready(struct golden *g, size_t J, size_t K, size_t tokens, bool poison)
{
    const struct model_limits most = {.rows = tokens,
                                      .outputs = tokens,
                                      .sequences = tokens,
                                      .longest = tokens,
                                      .objectives = J,
                                      .slab = slab_outputs(tokens),
                                      .logits = logits_held(tokens),
                                      .aside = true,
                                      .hidden = true,
                                      .tangents = K,
                                      .keep_tangents = keeps_tangents};
    const struct engine_limits rows = {.rows = 64, .objectives = J, .risks = K, .norms = tokens, .tangents = K};
    if (poison) {
        TEST_OK(state_poison(g->weights));
        TEST_OK(state_poison(g->reference));
    }
    TEST_OK(model_new(g->layout, g->grid, &most, &g->model, NULL));
    g->engine = (struct engine){.grid = g->grid,
                                .layout = g->layout,
                                .model = g->model,
                                .weights = g->weights,
                                .reference = g->reference,
                                .tokens = tokens};
    TEST_OK(engine_room_new(&g->engine, &rows, false, NULL));
    g->every = calloc(64, sizeof *g->every);
    g->label_first = calloc(65, sizeof *g->label_first);
    for (size_t i = 0; i < 64; i++) g->every[i] = i;
    for (size_t i = 0; i < g->forget->n_row; i++)
        g->label_first[i + 1] = g->label_first[i] + dataset_labels(g->forget, i);
    g->nll_ref = calloc(g->label_first[g->forget->n_row], sizeof *g->nll_ref);
    struct rows all = golden_rows(g, g->forget);
    TEST_OK(engine_nll(&g->engine, g->reference, &all, g->nll_ref));
}

struct golden_logits {
    size_t words;
    double *to; /* [n_out][words] */
};

static inline void golden_look(const void *context, const struct slab *s)
{
    const struct golden_logits *g = context;
    for (size_t k = 0; k < s->n * g->words; k++) g->to[s->first * g->words + k] = (double)s->logits[k];
}

/* The logits [n_out][word_count] of a batch; the caller frees them. */
static inline double *golden_logits(struct golden *g, const struct batch *b)
{
    const size_t words = g->layout->word_count;
    const struct golden_logits context = {words, calloc(b->n_out * words + 1, sizeof(double))};
    const struct slabs look = {&context, golden_look, NULL};
    TEST_OK(model_forward(g->model, g->weights, b, &look));
    return context.to;
}

/* Reads a model laid out over g->grid; false: the material is absent. */
static inline bool golden_read(const char *name, struct golden *g)
{
    char dir[5000], path[5100];
    const char *root = shared_path("golden/models");
    if (!root) return false;
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    snprintf(path, sizeof path, "%s/expected.h5", dir);
    g->expected = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(g->expected >= 0);
    g->forget = h5_dataset(g->expected, "forget");
    g->retain = h5_dataset(g->expected, "retain");
    g->idk = h5_dataset(g->expected, "idk");
    snprintf(path, sizeof path, "%s/model", dir);
    TEST_OK(shape_read(path, &g->shape));
    TEST_OK(layout_new(g->shape, g->grid->tensor_rank, g->grid->tensor_size, &g->layout));
    TEST_OK(state_new("weights", g->layout, &g->weights));
    TEST_OK(state_new("reference", g->layout, &g->reference));
    TEST_OK(weights_read(path, g->grid, g->weights, NULL));
    snprintf(path, sizeof path, "%s/reference", dir);
    TEST_OK(weights_read(path, g->grid, g->reference, NULL));
    return true;
}

/* false: the material is absent. J objectives, K risks, passes of `tokens`; tensor must divide the number of processes. */
static inline bool golden_open(const char *name, int tensor, size_t J, size_t K, size_t tokens, bool poison,
                               struct golden *g)
{
    memset(g, 0, sizeof *g);
    TEST_OK(grid_new(parallel_job_size() / tensor, tensor, &g->grid));
    if (!golden_read(name, g)) {
        grid_free(g->grid);
        return false;
    }
    golden_ready(g, J, K, tokens, poison);
    return true;
}

static inline void golden_close(struct golden *g)
{
    engine_room_free(&g->engine);
    model_free(g->model);
    state_free(g->weights), state_free(g->reference);
    layout_free(g->layout);
    shape_free(g->shape);
    dataset_free(g->forget), dataset_free(g->retain), dataset_free(g->idk);
    free(g->every), free(g->label_first), free(g->nll_ref);
    if (g->expected > 0) H5Fclose(g->expected);
    grid_free(g->grid);
}

static inline struct objective golden_objective(const char *name, const char *key, double value)
{
    struct objective o;
    assert_true(objective_find(name, &o));
    if (key) TEST_OK(objective_set(&o, "test", key, value));
    return o;
}

/* rmu's u; the caller frees it. */
static inline real *golden_direction(const struct golden *g)
{
    size_t n;
    double *u = h5_double(g->expected, "rmu_direction", &n);
    real *x = calloc(n, sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (real)u[i];
    free(u);
    return x;
}

/* This process's part of one global tensor. */
static inline void golden_slice(const struct param *p, const double *global, double *local)
{
    for (size_t piece = 0, row = 0; piece < p->n_piece; piece++)
        for (size_t i = 0; i < p->piece[piece].count; i++, row++)
            memcpy(local + row * p->col_count,
                   global + (p->tensor_first + p->piece[piece].first + i) * p->cols + p->col_first,
                   p->col_count * sizeof *local);
}
#endif
