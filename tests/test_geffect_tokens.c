/* geffect: derivatives of tokens by forward mode, for every family in every layout.                      NP: 1 2 4
 * Against central differences, and against the backward. */
#include "family.h"

static const double TOL_DIFFERENCE = 1e-7, TOL_DUAL = sizeof(real) == 8 ? 1e-12 : 1e-4;
enum { LABELS = LONGEST + 5 + 6 };

/* Where each row's labels begin. */
static void number_labels(struct family *f, size_t first[ROWS + 1])
{
    for (size_t i = 0; i < ROWS; i++) first[i + 1] = first[i] + dataset_labels(&f->data, i);
    f->rows.label_first = first;
}

/* Of every token along a random direction of all tensors. */
static void check_differences(struct family *f, const char *what)
{
    const double h = 5e-7;
    size_t first[ROWS + 1] = {0};
    double token[LABELS], nll[LABELS], up[LABELS], down[LABELS], none[1];
    struct state *v;
    TEST_OK(state_new("direction", f->layout, &v));
    for (size_t i = 0; i < f->layout->n_param; i++) for_each(f, v, 1, i, 1, false);
    number_labels(f, first);
    TEST_OK(engine_tokens(&f->engine, 0, NULL, &f->rows, 1, &v, token, nll, none));
    for (size_t i = 0; i < f->layout->n_param; i++) for_each(f, f->weights, h, i, 1, false);
    TEST_OK(engine_nll(&f->engine, f->weights, &f->rows, up));
    for (size_t i = 0; i < f->layout->n_param; i++) for_each(f, f->weights, -2 * h, i, 1, false);
    TEST_OK(engine_nll(&f->engine, f->weights, &f->rows, down));
    for (size_t t = 0; t < first[ROWS]; t++) {
        const double difference = (up[t] - down[t]) / (2 * h);
        if (!(fabs(difference - token[t]) <= TOL_DIFFERENCE * fmax(1, fabs(token[t]))))
            fail_msg("%s: token %zu: differences %.12g, tangent %.12g", what, t, difference, token[t]);
        assert_true(fabs(up[t] - nll[t]) < 1e-2 && nll[t] > 0);
    }
    state_free(v);
}

/* Along each tensor alone, beside one along all: the weighted tokens and the loss give the inner product with the gradient. */
static void check_gradient(struct family *f, const char *what)
{
    const size_t n = f->layout->n_param;
    size_t first[ROWS + 1] = {0};
    double token[2 * LABELS], along[2 * ROWS], *e = calloc(n, sizeof *e), all = 0;
    struct state *v[2];
    TEST_OK(state_new("direction", f->layout, &v[0]));
    TEST_OK(state_new("direction", f->layout, &v[1]));
    number_labels(f, first);
    risk(f);
    for (size_t i = 0; i < n; i++) for_each(f, v[1], 1, i, 1, false);
    state_dot(f->gradient, v[1], e);
    comm_sum_double(f->grid->tensor, e, n);
    for (size_t i = 0; i < n; i++) all += e[i];
    for (size_t i = 0; i < n; i++) {
        const double want[2] = {e[i], all};
        math_fill(f->layout->size, 0, v[0]->data);
        for_each(f, v[0], 1, i, 1, false);
        TEST_OK(engine_tokens(&f->engine, 1, &f->nll, &f->rows, 2, v, token, NULL, along));
        for (size_t k = 0; k < 2; k++) {
            double tokens = 0, losses = 0, size = 1e-3;
            for (size_t r = 0; r < ROWS; r++) {
                const size_t labels = first[r + 1] - first[r];
                losses += f->weight[r] * along[k * ROWS + r];
                size += fabs(f->weight[r] * along[k * ROWS + r]);
                for (size_t t = first[r]; t < first[r + 1]; t++)
                    tokens += f->weight[r] / (double)labels * token[k * first[ROWS] + t];
            }
            if (!(fabs(tokens - want[k]) <= TOL_DUAL * size && fabs(losses - want[k]) <= TOL_DUAL * size))
                fail_msg("%s: %s: tokens %.15g, losses %.15g, gradient %.15g", what, k ? "all" : f->layout->param[i].name,
                         tokens, losses, want[k]);
        }
    }
    free(e);
    state_free(v[0]), state_free(v[1]);
}

static void tokens_are_what_central_differences_say(void **state)
{
    if (sizeof(real) != 8) skip();
    everywhere(ROWS, usual_length, TOKENS, check_differences);
}

static void tokens_and_losses_have_the_gradients_inner_products(void **state)
{
    everywhere(ROWS, usual_length, TOKENS, check_gradient);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_what_central_differences_say),
        cmocka_unit_test(tokens_and_losses_have_the_gradients_inner_products),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
