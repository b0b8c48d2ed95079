/* geffect: reference values kept instead of a second model.       NP: 1 2 4 */
#include "golden.h"

/* undial is no regulariser, but its target is read from rows in the same way */
static const char *const kind[] = {"kl", "rr", "undial"};
enum { N_KIND = sizeof kind / sizeof *kind, MOST = 64 };
static const double TOLERANCE = sizeof(real) == 8 ? 1e-12 : 1e-5;

struct result {
    double *e, loss[MOST], norm;
};

/* Effects on the retain rows and the gradient of a batch that draws one of them twice. */
static struct result results(struct golden *g, const struct objective *o, const size_t *drawn, size_t n_drawn)
{
    size_t m = g->retain->n_row;
    struct result r = {.e = calloc(slot_count(g->layout) * m, sizeof(double))};
    struct rows all = golden_rows(g, g->retain), batch = {.data = g->retain, .n = n_drawn, .row = drawn};
    struct state *gradient;
    double weight[MOST], loss[MOST];
    struct objective nll = golden_objective("nll", NULL, 0);
    TEST_OK(state_new("gradient", g->layout, &gradient));
    rows_weights(&nll, &all, weight);
    TEST_OK(engine_gradient(&g->engine, &nll, &all, weight, true, gradient, loss));
    TEST_OK(state_reduce(g->grid, gradient));
    TEST_OK(engine_effects(&g->engine, 1, o, &all, 1, 1, &gradient, r.e, r.loss, weight));
    rows_weights(o, &batch, weight);
    math_fill(g->layout->size, 0, gradient->data);
    TEST_OK(engine_gradient(&g->engine, o, &batch, weight, true, gradient, loss));
    TEST_OK(state_reduce(g->grid, gradient));
    r.norm = sqrt(math_sum_squares(g->layout->size, gradient->data));
    state_free(gradient);
    return r;
}

static void check(struct golden *g, const struct objective *o)
{
    const size_t drawn[] = {3, 1, 3, 0};
    enum { N = sizeof drawn / sizeof *drawn };
    struct kept *kept;
    struct result copy = results(g, o, drawn, N), rows;
    TEST_OK(kept_new(g->retain, objective_outputs(o), objective_reference_layer(o), g->grid->data_size, MOST, &kept));
    kept_want(kept, g->layout, g->retain->n_row, g->every);
    kept_want(kept, g->layout, N, drawn);
    TEST_OK(engine_keep(&g->engine, kept, g->reference));
    g->engine.reference = NULL, g->engine.kept = &kept, g->engine.n_kept = 1;
    rows = results(g, o, drawn, N);
    g->engine.reference = g->reference, g->engine.n_kept = 0;
    double most = 0;
    size_t n = slot_count(g->layout) * g->retain->n_row;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs(copy.e[i]));
    assert_true(most > 0);
    for (size_t i = 0; i < n; i++) assert_true(fabs(rows.e[i] - copy.e[i]) <= TOLERANCE * most);
    for (size_t i = 0; i < g->retain->n_row; i++)
        assert_true(fabs(rows.loss[i] - copy.loss[i]) <= TOLERANCE * fabs(copy.loss[i]));
    assert_true(fabs(rows.norm - copy.norm) <= TOLERANCE * copy.norm);
    free(copy.e), free(rows.e);
    kept_free(kept);
}

static void kept_values_give_what_a_copy_of_the_reference_gives(void **state)
{
    for (int tensor = 1; tensor <= parallel_job_size(); tensor *= 2)
        for (size_t i = 0; i < N_KIND; i++) {
            struct golden g;
            struct objective o = golden_objective(kind[i], NULL, 0);
            if (!golden_open("llama", tensor, 1, 1, 300, false, &g)) skip();
            check(&g, &o);
            golden_close(&g);
        }
}

static void bytes_are_those_of_the_data_rank_that_keeps_most(void **state)
{
    struct golden g;
    struct kept *one, *two;
    const size_t row[] = {0, 1};
    size_t length;
    if (!golden_open("llama", 1, 1, 1, 300, false, &g)) skip();
    TEST_OK(kept_new(g.retain, OUTPUTS_ALL, 0, 1, MOST, &one));
    TEST_OK(kept_new(g.retain, OUTPUTS_ALL, 2, 2, MOST, &two));
    kept_want(one, g.layout, 2, row);
    kept_want(two, g.layout, 2, row);
    length = dataset_length(g.retain, 0) + dataset_length(g.retain, 1);
    assert_int_equal(kept_bytes(one, g.layout), length * (g.layout->word_count * sizeof(real) + sizeof(double)));
    length = dataset_length(g.retain, 0) > dataset_length(g.retain, 1) ? dataset_length(g.retain, 0)
                                                                       : dataset_length(g.retain, 1);
    assert_int_equal(kept_bytes(two, g.layout), length * g.shape->hidden * sizeof(real));
    kept_free(one), kept_free(two);
    golden_close(&g);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_values_give_what_a_copy_of_the_reference_gives),
        cmocka_unit_test(bytes_are_those_of_the_data_rank_that_keeps_most),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
