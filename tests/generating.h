/* What tests of generation need: a scene of a model and prompts, and a slow twin, which reads each sequence whole. */
#ifndef UNLEARN_TESTS_GENERATING_H
#define UNLEARN_TESTS_GENERATING_H
#include "alone.h"
#include "golden.h"
#include "model_files.h"
#include "unlearn/eval.h"

enum { LONGEST = 26, PROMPTS = 9 };
static const char *const golden_models[] = {"llama",    "llama3",   "mistral", "qwen2",  "phi",
                                            "gpt_neox", "stablelm", "phi3",    "gemma2", "gemma3"};
enum { N_GOLDEN = sizeof golden_models / sizeof *golden_models, N_MADE = N_FURTHER + 1 };

struct scene { /* a model and prompts of many lengths */
    struct grid *grid;
    struct shape *shape;
    struct layout *layout;
    struct state *weights;
    char what[256];
    size_t first[PROMPTS + 1];
    int32_t id[PROMPTS * LONGEST];
    struct generation how;
};

/* A number for each element of the model, whatever the layout: logits far from each other. */
static inline void weights_make(struct scene *s)
{
    for (size_t i = 0; i < s->layout->n_param; i++) {
        const struct param *p = &s->layout->param[i];
        real *x = s->weights->data + p->offset;
        for (size_t r = 0; r < p->row_count; r++)
            for (size_t c = 0; c < p->col_count; c++)
                *x++ =
                    (real)(0.3 * random_normal(7, STREAM_TEST,
                                               ((uint64_t)i << 40) + (param_global_row(p, r) << 20) + p->col_first + c));
    }
}

/* Lengths 1, 2, 5, ... and two that leave no room, or all but none. */
static inline void prompts_make(struct scene *s)
{
    static const size_t length[PROMPTS] = {1, 2, 5, 9, 3, 4, 8, 1, 6};
    size_t at = 0;
    for (size_t i = 0; i < PROMPTS; i++) {
        size_t n = i == 3 ? s->how.max_length : i == 6 ? s->how.max_length - 1 : length[i];
        if (n > LONGEST) n = LONGEST;
        for (size_t t = 0; t < n; t++)
            s->id[at + t] = (int32_t)random_below(3, STREAM_TEST, 100 * i + t, s->shape->vocabulary - 1) + 1;
        s->first[i + 1] = at += n;
    }
}

/* kind: a golden model, or a change of small_llama; false: not there */
static inline bool scene_open(size_t kind, int tensor, struct scene *s)
{
    char path[5100];
    const bool golden = kind < N_GOLDEN;
    const char *root = shared_path("golden/models");
    memset(s, 0, sizeof *s);
    if (golden && !root) return false;
    if (golden) {
        snprintf(path, sizeof path, "%s/%s/model", root, golden_models[kind]);
        TEST_OK(shape_read(path, &s->shape));
    } else
        s->shape = shape_with(kind == N_GOLDEN ? "{}" : further_kinds[kind - N_GOLDEN - 1]);
    assert_non_null(s->shape);
    snprintf(s->what, sizeof s->what, "%s, tensor %d of %d", s->shape->model_type, tensor, parallel_job_size());
    TEST_OK(grid_new(parallel_job_size() / tensor, tensor, &s->grid));
    TEST_OK(layout_new(s->shape, s->grid->tensor_rank, tensor, &s->layout));
    TEST_OK(state_new("weights", s->layout, &s->weights));
    if (golden)
        TEST_OK(weights_read(path, s->grid, s->weights, NULL));
    else
        weights_make(s);
    TEST_OK(state_poison(s->weights));
    s->how = (struct generation){.max_length = LONGEST, .top_p = 1, .seed = 5, .slots = 4};
    if (s->shape->learned_positions && s->shape->positions < LONGEST) s->how.max_length = s->shape->positions;
    prompts_make(s);
    return true;
}

static inline void scene_close(struct scene *s)
{
    state_free(s->weights);
    layout_free(s->layout);
    shape_free(s->shape);
    grid_free(s->grid);
}

static inline void everywhere(void (*check)(struct scene *s))
{
    size_t seen = 0;
    for (size_t k = 0; k < N_GOLDEN + N_MADE; k++)
        for (int tensor = 1; tensor <= parallel_job_size(); tensor++) {
            struct scene s;
            if (parallel_job_size() % tensor || !scene_open(k, tensor, &s)) continue;
            check(&s);
            scene_close(&s);
            seen += k < N_GOLDEN;
        }
    if (!seen) print_message("skipped: the golden models are not there\n");
}

static inline struct answers run(struct scene *s, const struct generation *how)
{
    struct answers a;
    TEST_OK(generate(s->grid, s->layout, s->weights, how, PROMPTS, s->first, s->id, &a));
    return a;
}

static inline bool same(const struct answers *a, const struct answers *b)
{
    return a->n == b->n && !memcmp(a->first, b->first, (a->n + 1) * sizeof *a->first) &&
           !memcmp(a->id, b->id, a->first[a->n] * sizeof *a->id) && !memcmp(a->stop, b->stop, a->n * sizeof *a->stop);
}

#define assert_all(s, good)                                                 \
    do {                                                                    \
        if (!all_agree((s)->grid, good)) fail_msg("%s: " #good, (s)->what); \
    } while (0)

/* ------------------------------------------------------------- the slow twin: forwards of training, of whole sequences ----- */
struct twin {
    struct model *model;
    struct batch batch;
    size_t first[2], out_first[2], out_row[LONGEST], item;
    int32_t id[LONGEST], position[LONGEST], out_id[LONGEST];
    unsigned char hidden[LONGEST];
};

static inline void twin_open(struct scene *s, struct twin *t)
{
    const struct model_limits most = {.rows = LONGEST, .outputs = LONGEST, .sequences = 1, .longest = LONGEST};
    memset(t, 0, sizeof *t);
    for (size_t i = 0; i < LONGEST; i++) t->position[i] = (int32_t)i, t->out_row[i] = i, t->out_id[i] = -1;
    TEST_OK(model_new(s->layout, s->grid, &most, &t->model, NULL));
}

static inline void twin_set(struct twin *t, size_t n)
{
    t->first[1] = t->out_first[1] = n;
    t->batch = (struct batch){.n_seq = 1,
                              .n_row = n,
                              .n_out = n,
                              .longest = n,
                              .first = t->first,
                              .id = t->id,
                              .position = t->position,
                              .out_first = t->out_first,
                              .out_row = t->out_row,
                              .out_id = t->out_id,
                              .item = &t->item};
}

/* All n tokens of t->id, each with an output: no token sees a later one. */
static inline void twin_forward(struct scene *s, struct twin *t, size_t n)
{
    twin_set(t, n);
    TEST_OK(model_forward(t->model, s->weights, &t->batch, NULL));
}

/* z [n][vocabulary] of the last forward, whole */
static inline void twin_logits(struct scene *s, struct twin *t, size_t n, double *z)
{
    const struct layout *l = s->layout;
    const size_t V = s->shape->vocabulary;
    memset(z, 0, n * V * sizeof *z);
    for (size_t k = 0; k < n; k++)
        for (size_t v = 0; v < l->word_count; v++)
            z[k * V + l->word_first + v] = (double)model_logits(t->model)[k * l->word_count + v];
    comm_sum_double(s->grid->tensor, z, n * V);
}
#endif
