/* Models, rows and layouts for tests of the engine: the golden models where they are, and models made from a configuration
 * and a seed, which are always there. Every one is laid out alone (each process does all of it) and over the job in every
 * way. */
#ifndef UNLEARN_TESTS_SCENE_H
#define UNLEARN_TESTS_SCENE_H
#include "alone.h"
#include "golden.h"
#include "model_files.h"

enum { MOST_SCENES = 64, SCENE_J = 3, SCENE_K = 2, GOLDEN_TOKENS = 300, MADE_TOKENS = 48 };
struct scene {
    struct golden g;
    char what[96];
    size_t first; /* the first scene of the same model: where there is one, that of a process alone */
    bool made;
    struct state *risk[SCENE_K], *gradient; /* grad R_u, grad R_r; room for another */
};
static struct scene scenes[MOST_SCENES];
static size_t n_scene;

static const struct {
    const char *name, *changes;
} made_model[] = {
    {"made llama", "{\"initializer_range\": 0.3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2}"},
    {"made llama, tied, biases",
     "{\"initializer_range\": 0.3, \"tie_word_embeddings\": true, \"attention_bias\": true, \"mlp_bias\": true}"},
    {"made gpt_neox",
     "{\"initializer_range\": 0.3, \"model_type\": \"gpt_neox\", \"num_attention_heads\": 4, \"hidden_act\": \"gelu\","
     " \"rotary_pct\": 0.67, \"use_parallel_residual\": true, \"tie_word_embeddings\": false}"},
};
static const char *const golden_model[] = {"llama", "llama3", "gpt_neox"};
enum { N_MADE = sizeof made_model / sizeof *made_model, N_GOLDEN = sizeof golden_model / sizeof *golden_model };

/* Rows of random tokens, labelled from their third part on; row 2 has no label. */
static inline struct dataset *made_rows(uint64_t seed, size_t n, size_t vocabulary)
{
    struct dataset *d = calloc(1, sizeof *d);
    d->path = strdup("made");
    d->n_row = n;
    d->first = calloc(n + 1, sizeof *d->first);
    d->id = calloc(n * 32, sizeof *d->id);
    d->label = calloc(n * 32, sizeof *d->label);
    d->end = calloc(n, sizeof *d->end);
    for (size_t i = 0, t = 0; i < n; i++) {
        size_t length = 3 + random_below(seed, STREAM_TEST, i, 20);
        for (size_t k = 0; k < length; k++, t++) {
            d->id[t] = (int32_t)random_below(seed, STREAM_TEST, 1000 + t, vocabulary);
            d->label[t] = i == 2 || k <= length / 3 ? LABEL_NONE : d->id[t];
        }
        d->first[i + 1] = t;
    }
    return d;
}

/* data += h x, for one parameter or (NULL) all */
static inline void shift(struct state *s, double h, const struct state *x, const struct param *p)
{
    size_t first = p ? p->offset : 0, n = p ? p->row_count * p->col_count : s->layout->size;
    for (size_t i = first; i < first + n; i++) s->data[i] += (real)(h * (double)x->data[i]);
}

/* The batch gradient of an objective over these rows, complete; of what was there nothing is left. */
static inline void rows_gradient(struct scene *s, const struct objective *o, const struct rows *r, struct state *to)
{
    double weight[64], loss[64];
    rows_weights(o, r, weight);
    math_fill(s->g.layout->size, (real)NAN, to->data);
    TEST_OK(engine_gradient(&s->g.engine, o, r, weight, false, to, loss));
    TEST_OK(state_reduce(s->g.grid, to));
}

/* Over all rows of a set. */
static inline void batch_gradient(struct scene *s, const struct objective *o, struct dataset *d, struct state *to)
{
    const struct rows all = golden_rows(&s->g, d);
    rows_gradient(s, o, &all, to);
}

/* The reference drawn, the weights one step of descent away from it, so that no tensor is what it was. */
static inline void made_weights(struct scene *s)
{
    struct objective nll = golden_objective("nll", NULL, 0);
    struct state *step;
    weights_random(s->g.shape, 7, s->g.reference);
    math_copy(s->g.layout->size, s->g.reference->data, s->g.weights->data);
    golden_ready(&s->g, SCENE_J, SCENE_K, MADE_TOKENS, false);
    TEST_OK(state_new("step", s->g.layout, &step));
    batch_gradient(s, &nll, s->g.retain, step);
    shift(s->g.weights, -0.1, step, NULL);
    state_free(step);
}

static inline void scene_make(size_t model, struct scene *s)
{
    struct golden *g = &s->g;
    g->shape = shape_with(made_model[model].changes);
    assert_non_null(g->shape);
    g->forget = made_rows(1, 6, g->shape->vocabulary);
    g->retain = made_rows(2, 5, g->shape->vocabulary);
    TEST_OK(layout_new(g->shape, g->grid->tensor_rank, g->grid->tensor_size, &g->layout));
    TEST_OK(state_new("weights", g->layout, &g->weights));
    TEST_OK(state_new("reference", g->layout, &g->reference));
    made_weights(s);
    TEST_OK(state_poison(g->weights));
    TEST_OK(state_poison(g->reference));
}

/* One model in one layout; tensor 0: alone. */
static inline void scene_open(size_t model, int tensor, size_t begin)
{
    struct objective nll = golden_objective("nll", NULL, 0);
    struct scene *s = &scenes[n_scene];
    memset(s, 0, sizeof *s);
    s->made = model < N_MADE;
    s->first = begin;
    snprintf(s->what, sizeof s->what, "%s, %s, tensor %d of %d",
             s->made ? made_model[model].name : golden_model[model - N_MADE], tensor ? "job" : "alone", tensor,
             parallel_job_size());
    if (tensor)
        TEST_OK(grid_new(parallel_job_size() / tensor, tensor, &s->g.grid));
    else
        s->g.grid = grid_alone();
    if (s->made) {
        scene_make(model, s);
    } else if (!golden_read(golden_model[model - N_MADE], &s->g)) {
        grid_free(s->g.grid);
        return;
    } else {
        golden_ready(&s->g, SCENE_J, SCENE_K, GOLDEN_TOKENS, true);
    }
    for (int k = 0; k < SCENE_K; k++) {
        TEST_OK(state_new("risk", s->g.layout, &s->risk[k]));
        batch_gradient(s, &nll, k ? s->g.retain : s->g.forget, s->risk[k]);
        TEST_OK(state_poison(s->risk[k]));
    }
    TEST_OK(state_new("gradient", s->g.layout, &s->gradient));
    n_scene++;
}

/* Of the golden models over several processes only the layouts of the job: each process alone would do them again. */
static inline int scenes_open(void **state)
{
    const int np = parallel_job_size();
    math_threads(np == 1 ? 2 : 1); /* the most that a test sets: attention's workspace is made for them */
    for (size_t m = 0; m < N_MADE + N_GOLDEN; m++) {
        const size_t begin = n_scene;
        if (np == 1 || m < N_MADE) scene_open(m, 0, begin);
        for (int tensor = 1; tensor <= np && np > 1; tensor++)
            if (np % tensor == 0) scene_open(m, tensor, begin);
    }
    math_threads(1);
    return 0;
}

static inline int scenes_close(void **state)
{
    for (size_t i = 0; i < n_scene; i++) {
        for (int k = 0; k < SCENE_K; k++) state_free(scenes[i].risk[k]);
        state_free(scenes[i].gradient);
        golden_close(&scenes[i].g);
    }
    return 0;
}
#endif
