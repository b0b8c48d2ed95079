/* Random models of every family, with a few random rows, in every layout of the job. */
#ifndef UNLEARN_TESTS_FAMILY_H
#define UNLEARN_TESTS_FAMILY_H
#include "golden.h"
#include "model_files.h"
#include "unlearn/geffect_priv.h"

enum { ROWS = 3, LONGEST = 9, TOKENS = 14, VOCABULARY = 37 }; /* two passes */
enum { SHORT_ROWS = 64, SHORT = 3 };                          /* one pass of as many sequences as there can be */
static const size_t usual_length[ROWS] = {LONGEST, 5, 6};

static const char *const built_before[] = {
    "{\"num_key_value_heads\": 2}",
    "{\"intermediate_size\": 512}", /* rows of 4 KB and more: see decoder_stride() */
    "{\"model_type\": \"qwen2\", \"tie_word_embeddings\": true}",
    "{\"model_type\": \"phi\"}",
    "{\"model_type\": \"gpt_neox\", \"hidden_size\": 48, \"rotary_pct\": 0.5}",
    "{\"model_type\": \"gpt_neox\", \"hidden_size\": 48, \"use_parallel_residual\": false}",
    "{\"model_type\": \"stablelm\", \"num_key_value_heads\": 3, \"head_dim\": 8, \"use_parallel_residual\": true}",
    "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 8}}",
};
enum { N_BEFORE = sizeof built_before / sizeof *built_before };

struct family { /* a random model and a few random rows */
    struct grid *grid;
    struct shape *shape;
    struct layout *layout;
    struct state *weights, *gradient;
    struct engine engine;
    struct dataset data;
    struct objective nll;
    struct rows rows;
    size_t row[SHORT_ROWS], first[SHORT_ROWS + 1];
    int32_t id[SHORT_ROWS * SHORT], label[SHORT_ROWS * SHORT]; /* more than ROWS * LONGEST */
    double weight[SHORT_ROWS], loss[SHORT_ROWS];
};

/* A number for each element of the model, whatever the layout. */
static inline double draw(size_t i, size_t row, size_t column)
{
    return random_normal(7, STREAM_TEST, ((uint64_t)i << 40) + (row << 20) + column);
}

static inline void for_each(const struct family *f, struct state *s, double step, size_t only, double spread, bool set)
{
    for (size_t i = 0; i < f->layout->n_param; i++) {
        const struct param *p = &f->layout->param[i];
        real *x = s->data + p->offset;
        for (size_t r = 0; r < p->row_count && (only == i || set); r++)
            for (size_t c = 0; c < p->col_count; c++, x++)
                *x = (real)((set ? 0 : (double)*x) +
                            spread * step * draw(i + (set ? 0 : 1000), param_global_row(p, r), p->col_first + c));
    }
}

/* Rows of these lengths; NULL: SHORT each. */
static inline void rows_make(struct family *f, size_t n, const size_t *length)
{
    for (size_t i = 0; i < n; i++) {
        f->row[i] = i;
        f->first[i + 1] = f->first[i] + (length ? length[i] : SHORT);
        for (size_t t = f->first[i]; t < f->first[i + 1]; t++) {
            f->id[t] = (int32_t)random_below(3, STREAM_TEST, t, VOCABULARY - 1) + 1;
            f->label[t] = t < f->first[i] + 2 ? LABEL_NONE : f->id[t];
        }
    }
    f->data = (struct dataset){.n_row = n, .first = f->first, .id = f->id, .label = f->label};
    f->rows = (struct rows){.data = &f->data, .n = n, .row = f->row};
}

/* Room for exactly these rows in passes of so many tokens. */
static inline void family_open(const char *kind, int tensor, size_t n, const size_t *length, size_t tokens,
                               struct family *f)
{
    const struct model_limits most = {.rows = tokens,
                                      .outputs = tokens,
                                      .sequences = tokens,
                                      .longest = tokens,
                                      .objectives = keeps_tangents ? 2 : 1,
                                      .slab = slab_outputs(tokens),
                                      .logits = logits_held(tokens),
                                      .tangents = 2,
                                      .keep_tangents = keeps_tangents};
    const struct engine_limits limits = {
        .rows = n, .objectives = 1, .risks = 1, .norms = length ? (size_t)LONGEST : (size_t)SHORT, .tangents = 2};
    *f = (struct family){.shape = shape_with(kind), .nll = golden_objective("nll", NULL, 0)};
    assert_non_null(f->shape);
    TEST_OK(grid_new(parallel_job_size() / tensor, tensor, &f->grid));
    TEST_OK(layout_new(f->shape, f->grid->tensor_rank, tensor, &f->layout));
    TEST_OK(state_new("weights", f->layout, &f->weights));
    TEST_OK(state_new("gradient", f->layout, &f->gradient));
    TEST_OK(state_poison(f->weights));
    for_each(f, f->weights, 1, 0, 0.3, true);
    rows_make(f, n, length);
    f->engine = (struct engine){.grid = f->grid, .layout = f->layout, .weights = f->weights, .tokens = tokens};
    TEST_OK(model_new(f->layout, f->grid, &most, &f->engine.model, NULL));
    TEST_OK(engine_room_new(&f->engine, &limits, false, NULL));
    rows_weights(&f->nll, &f->rows, f->weight);
}

static inline void family_close(struct family *f)
{
    engine_room_free(&f->engine);
    model_free(f->engine.model);
    state_free(f->weights), state_free(f->gradient);
    layout_free(f->layout);
    shape_free(f->shape);
    grid_free(f->grid);
}

/* The risk of the rows; its gradient is complete. */
static inline double risk(struct family *f)
{
    double sum = 0;
    math_fill(f->layout->size, 0, f->gradient->data);
    TEST_OK(engine_gradient(&f->engine, &f->nll, &f->rows, f->weight, true, f->gradient, f->loss));
    TEST_OK(state_reduce(f->grid, f->gradient));
    for (size_t i = 0; i < ROWS; i++) sum += f->weight[i] * f->loss[i];
    return sum;
}

static inline void everywhere(size_t n, const size_t *length, size_t tokens,
                              void (*check)(struct family *f, const char *what))
{
    for (size_t k = 0; k < N_BEFORE + N_FURTHER; k++)
        for (int tensor = 1; tensor <= parallel_job_size(); tensor++) {
            const char *kind = k < N_BEFORE ? built_before[k] : further_kinds[k - N_BEFORE];
            struct family f;
            char what[256];
            if (parallel_job_size() % tensor) continue;
            snprintf(what, sizeof what, "%s, tensor %d of %d", kind, tensor, parallel_job_size());
            family_open(kind, tensor, n, length, tokens, &f);
            check(&f, what);
            family_close(&f);
        }
}

#endif
