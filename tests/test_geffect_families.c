/* geffect: gradients and effects of every family against central differences, in every layout.             NP: 1 2 4 */
#include "family.h"

/* relative: differences of step 1e-5 in double leave 1e-10 of truncation and as much of rounding; float has only rounding,
 * in sums of some hundred products */
static const double TOL_DIFFERENCE = 1e-7, TOL_SUM = sizeof(real) == 8 ? 1e-12 : 1e-4;
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
    TEST_OK(engine_effects(&f->engine, 1, &f->nll, &f->rows, 1, 1, &f->gradient, e, loss, mean_weight));
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
        TEST_OK(engine_gradient(&f->engine, &f->nll, &one, &weight, true, f->gradient, &loss));
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

/* In the place of what was there, or added to zeros, on processes with rows and without. */
static void check_places(struct family *f, const char *what)
{
    struct state *other;
    TEST_OK(state_new("other", f->layout, &other));
    TEST_OK(state_poison(other));
    math_fill(f->layout->size, (real)NAN, other->data);
    risk(f);
    TEST_OK(engine_gradient(&f->engine, &f->nll, &f->rows, f->weight, false, other, f->loss));
    TEST_OK(state_reduce(f->grid, other));
    for (size_t i = 0; i < f->layout->size; i++) {
        const double is = (double)other->data[i], want = (double)f->gradient->data[i];
        if (!(fabs(is - want) <= TOL_SUM * fmax(1, fabs(want))))
            fail_msg("%s: element %zu: %.12g in place of %.12g", what, i, is, want);
    }
    state_free(other);
}

static void gradients_take_the_place_of_what_was_there(void **state)
{
    everywhere(ROWS, usual_length, TOKENS, check_places);
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

/* Weights times tokens; of a gated model of two blocks. */
static double products_of(const struct family *f, double tokens, double outputs)
{
    const struct shape *s = f->shape;
    const double qkv = (double)(s->hidden * (s->heads + 2 * s->kv_heads) * s->head_dim);
    const double behind = (double)(s->hidden * (s->heads * s->head_dim + 3 * s->intermediate));
    return tokens * (2 * qkv + behind) + outputs * (behind + (double)(s->hidden * s->vocabulary));
}

/* Prompts are not multiplied with the head, nor with what comes behind attention's heads of the last block. */
static void prompts_cost_less_than_labels(void **state)
{
    struct family f;
    family_open("{}", 1, ROWS, usual_length, TOKENS, &f);
    assert_near(row_cost(f.layout, &f.data, 0, OUTPUTS_LABELLED),
                products_of(&f, 9, 7) + 2 * 81 * (double)(2 * f.shape->heads * f.shape->head_dim), 1e-15);
    family_close(&f);
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
        assert_near(row_cost(f.layout, &f.data, 0, OUTPUTS_ALL), products_of(&f, 9, 9) + 2 * 36 * keys[i], 1e-15);
        family_close(&f);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_take_the_place_of_what_was_there),
        cmocka_unit_test(gradients_are_what_central_differences_say),
        cmocka_unit_test(effects_of_all_rows_add_up_to_the_square_of_the_risk_gradient),
        cmocka_unit_test(norms_of_rows_are_those_of_their_gradients),
        cmocka_unit_test(norms_of_many_short_rows_are_those_of_their_gradients),
        cmocka_unit_test(prompts_cost_less_than_labels),
        cmocka_unit_test(a_window_makes_a_row_cheaper_by_the_keys_it_hides),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
