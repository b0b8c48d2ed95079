/* geffect: gradients and effects of every family against central differences, in every layout.             NP: 1 2 4 */
#include "golden.h"
#include "model_files.h"
#include "unlearn/geffect_priv.h"

/* relative: differences of step 1e-5 in double leave 1e-10 of truncation and as much of rounding; float has only rounding,
 * in sums of some hundred products */
static const double TOL_DIFFERENCE = 1e-7, TOL_SUM = sizeof(real) == 8 ? 1e-12 : 1e-4;
enum { ROWS = 3, LONGEST = 9, TOKENS = 14, VOCABULARY = 37 }; /* two passes */
enum { SHORT_ROWS = 64, SHORT = 3 };                          /* one pass of as many sequences as there can be */
static const size_t usual_length[ROWS] = {LONGEST, 5, 6};

static const char *const built_before[] = {
    "{\"num_key_value_heads\": 2}",
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
static double draw(size_t i, size_t row, size_t column)
{
    return random_normal(7, STREAM_TEST, ((uint64_t)i << 40) + (row << 20) + column);
}

static void for_each(const struct family *f, struct state *s, double step, size_t only, double spread, bool set)
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
static void rows_make(struct family *f, size_t n, const size_t *length)
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
static void family_open(const char *kind, int tensor, size_t n, const size_t *length, size_t tokens, struct family *f)
{
    const struct model_limits most = {tokens, tokens, tokens, tokens, 1, false, false};
    const struct engine_limits limits = {
        .rows = n, .objectives = 1, .risks = 1, .norms = length ? (size_t)LONGEST : (size_t)SHORT};
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

static void family_close(struct family *f)
{
    engine_room_free(&f->engine);
    model_free(f->engine.model);
    state_free(f->weights), state_free(f->gradient);
    layout_free(f->layout);
    shape_free(f->shape);
    grid_free(f->grid);
}

/* The risk of the rows; its gradient is complete. */
static double risk(struct family *f)
{
    double sum = 0;
    math_fill(f->layout->size, 0, f->gradient->data);
    TEST_OK(engine_gradient(&f->engine, &f->nll, &f->rows, f->weight, f->gradient, f->loss));
    TEST_OK(state_reduce(f->grid, f->gradient));
    for (size_t i = 0; i < ROWS; i++) sum += f->weight[i] * f->loss[i];
    return sum;
}

/* For every tensor: (R(w + h v) - R(w - h v)) / 2h along a random direction v is <grad R, v>. */
static void check_differences(struct family *f, const char *what)
{
    const double h = 1e-5;
    struct state *v;
    double *e = calloc(f->layout->n_param, sizeof *e);
    TEST_OK(state_new("direction", f->layout, &v));
    for (size_t i = 0; i < f->layout->n_param; i++) for_each(f, v, 1, i, 1, false);
    risk(f);
    state_dot(f->gradient, v, e);
    comm_sum_double(f->grid->tensor, e, f->layout->n_param);
    for (size_t i = 0; i < f->layout->n_param; i++) {
        double up, down;
        for_each(f, f->weights, h, i, 1, false);
        up = risk(f);
        for_each(f, f->weights, -2 * h, i, 1, false);
        down = risk(f);
        for_each(f, f->weights, h, i, 1, false);
        if (!(fabs((up - down) / (2 * h) - e[i]) <= TOL_DIFFERENCE * fmax(1, fabs(e[i]))))
            fail_msg("%s: %s: differences %.12g, gradient %.12g", what, f->layout->param[i].name, (up - down) / (2 * h),
                     e[i]);
    }
    free(e);
    state_free(v);
}

/* The weighted effects of the rows on the risk add up to |grad R|^2, tensor by tensor. */
static void check_effects(struct family *f, const char *what)
{
    const size_t slots = slot_count(f->layout), n = f->layout->n_param;
    double *e = calloc(slots * ROWS, sizeof *e), *sum = calloc(n, sizeof *sum), *square = calloc(n, sizeof *square);
    double loss[ROWS], mean_weight[ROWS];
    risk(f);
    state_dot(f->gradient, f->gradient, square);
    comm_sum_double(f->grid->tensor, square, n);
    TEST_OK(engine_effects(&f->engine, 1, &f->nll, &f->rows, 1, &f->gradient, e, loss, mean_weight));
    for (size_t s = 0; s < slots; s++)
        for (size_t i = 0; i < ROWS; i++)
            sum[slot_param(f->layout, s) - f->layout->param] += f->weight[i] * e[s * ROWS + i];
    for (size_t i = 0; i < n; i++)
        if (!(fabs(sum[i] - square[i]) <= TOL_SUM * fmax(square[i], 1e-3)))
            fail_msg("%s: %s: effects add up to %.12g, |gradient|^2 is %.12g", what, f->layout->param[i].name, sum[i],
                     square[i]);
    free(e), free(sum), free(square);
}

/* The norms of single rows are those of their gradients, formed. */
static void check_norms(struct family *f, const char *what)
{
    const size_t n = f->layout->n_param;
    double norm[SHORT_ROWS], *square = calloc(n, sizeof *square);
    TEST_OK(engine_norms(&f->engine, &f->rows, norm));
    for (size_t i = 0; i < f->rows.n; i++) {
        const struct rows one = {.data = f->rows.data, .n = 1, .row = &f->rows.row[i]};
        double weight = 1, loss, mean = 0;
        math_fill(f->layout->size, 0, f->gradient->data);
        TEST_OK(engine_gradient(&f->engine, &f->nll, &one, &weight, f->gradient, &loss));
        TEST_OK(state_reduce(f->grid, f->gradient));
        state_dot(f->gradient, f->gradient, square);
        comm_sum_double(f->grid->tensor, square, n);
        for (size_t k = n - 1; k > 0; k--) /* the parts of one tensor of the file are one */
            if (f->layout->param[k].goes_on) square[k - 1] += square[k], square[k] = 0;
        for (size_t k = 0; k < n; k++) mean += sqrt(square[k]) / (double)f->layout->n_tensor;
        if (!(fabs(norm[i] - mean) <= TOL_SUM * fmax(mean, 1e-3)))
            fail_msg("%s: row %zu: norm %.12g, of the gradient %.12g", what, i, norm[i], mean);
    }
    free(square);
}

static void everywhere(size_t n, const size_t *length, size_t tokens, void (*check)(struct family *f, const char *what))
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

static void gradients_are_what_central_differences_say(void **state)
{
    if (sizeof(real) != 8) skip();
    everywhere(ROWS, usual_length, TOKENS, check_differences);
}

static void effects_of_all_rows_add_up_to_the_square_of_the_risk_gradient(void **state)
{
    everywhere(ROWS, usual_length, TOKENS, check_effects);
}

static void norms_of_rows_are_those_of_their_gradients(void **state)
{
    everywhere(ROWS, usual_length, TOKENS, check_norms);
}

/* Sequences times rows of a vector: more than the longest sequence times the widest product. */
static void norms_of_many_short_rows_are_those_of_their_gradients(void **state)
{
    everywhere(SHORT_ROWS, NULL, (size_t)SHORT_ROWS * SHORT, check_norms);
}

/* Of the keys of a row of t tokens a window of w leaves 2 w t - w^2 of t^2, as they count in a row's cost. */
static void a_window_makes_a_row_cheaper_by_the_keys_it_hides(void **state)
{
    static const char format[] = "{\"model_type\": \"gemma2\", \"head_dim\": 6, \"sliding_window\": %s}";
    static const char *const window[] = {"3", "9", "4096", "null"};
    static const double keys[] = {2 * 3 * 9 - 3 * 3 + 81, 2 * 81, 2 * 81, 2 * 81}; /* of both blocks, 9 tokens */
    for (size_t i = 0; i < sizeof window / sizeof *window; i++) {
        char kind[128];
        struct family f;
        snprintf(kind, sizeof kind, format, window[i]);
        family_open(kind, 1, ROWS, usual_length, TOKENS, &f);
        assert_near(row_cost(f.layout, &f.data, 0, OUTPUTS_ALL), 9.0 * (double)f.layout->elements + 2 * 36 * keys[i],
                    1e-15);
        family_close(&f);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_what_central_differences_say),
        cmocka_unit_test(effects_of_all_rows_add_up_to_the_square_of_the_risk_gradient),
        cmocka_unit_test(norms_of_rows_are_those_of_their_gradients),
        cmocka_unit_test(norms_of_many_short_rows_are_those_of_their_gradients),
        cmocka_unit_test(a_window_makes_a_row_cheaper_by_the_keys_it_hides),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
