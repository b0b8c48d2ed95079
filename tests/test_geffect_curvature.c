/* geffect: products of Hessians and directions, for every family in every layout.                          NP: 1 2 4
 * Against differences of the fourth order of the gradients that the program itself computes. */
#include "family.h"

/* Differences of the fourth order with h = 1e-4 leave h^4 = 1e-16 of large fifth derivatives and 1e-16/h of rounding. */
static const double TOL_DIFFERENCE = 1e-8, TOL_SYMMETRY = sizeof(real) == 8 ? 1e-12 : 2e-4;

static struct state *state(const struct family *f, const char *name)
{
    struct state *s;
    TEST_OK(state_new(name, f->layout, &s));
    return s;
}

/* Hv of the risk, complete. */
static void product(struct family *f, struct state *v, struct state *hv)
{
    math_fill(f->layout->size, 0, hv->data);
    TEST_OK(engine_hvp(&f->engine, &f->nll, &f->rows, f->weight, v, hv));
    TEST_OK(state_reduce(f->grid, hv));
}

static double dot(struct family *f, const struct state *a, const struct state *b)
{
    double *e = calloc(f->layout->n_param, sizeof *e), sum = 0;
    state_dot(a, b, e);
    for (size_t i = 0; i < f->layout->n_param; i++) sum += e[i];
    free(e);
    comm_sum_double(f->grid->tensor, &sum, 1);
    return sum;
}

static void move(struct family *f, struct state *s, double step)
{
    for (size_t i = 0; i < f->layout->n_param; i++) for_each(f, s, step, i, 1, false);
}

/* want = derivative of the gradient along the direction that move() takes. */
static void gradient_differences(struct family *f, double *want)
{
    static const double at[] = {-2, -1, 1, 2}, factor[] = {1.0 / 12, -2.0 / 3, 2.0 / 3, -1.0 / 12};
    const double h = 1e-4;
    struct state *before = state(f, "before");
    math_copy(f->layout->size, f->weights->data, before->data);
    memset(want, 0, f->layout->size * sizeof *want);
    for (int i = 0; i < 4; i++) {
        move(f, f->weights, at[i] * h);
        risk(f);
        for (size_t k = 0; k < f->layout->size; k++) want[k] += factor[i] / h * f->gradient->data[k];
        math_copy(f->layout->size, before->data, f->weights->data);
    }
    state_free(before);
}

static void check_differences(struct family *f, const char *what)
{
    struct state *v = state(f, "direction"), *hv = state(f, "product");
    double *want = malloc(f->layout->size * sizeof *want), most = 0;
    TEST_OK(state_poison(v));
    move(f, v, 1);
    gradient_differences(f, want);
    product(f, v, hv);
    for (size_t k = 0; k < f->layout->size; k++) most = fmax(most, fabs(want[k]));
    comm_max_double(f->grid->world, &most, 1);
    assert_true(most > 1e-3);
    for (size_t i = 0; i < f->layout->n_param; i++) {
        const struct param *p = &f->layout->param[i];
        double worst = 0;
        for (size_t k = p->offset; k < p->offset + p->row_count * p->col_count; k++)
            worst = fmax(worst, isfinite(hv->data[k]) ? fabs(hv->data[k] - want[k]) : INFINITY);
        if (!(worst <= TOL_DIFFERENCE * most))
            fail_msg("%s: %s: off by %.3g of %.3g, relative %.3g", what, p->name, worst, most, worst / most);
    }
    free(want);
    state_free(v), state_free(hv);
}

/* <u, Hv> = <v, Hu>, also for directions of one tensor each. */
static void check_symmetry(struct family *f, const char *what)
{
    struct state *u = state(f, "u"), *v = state(f, "v"), *hu = state(f, "Hu"), *hv = state(f, "Hv");
    const size_t n = f->layout->n_param;
    double uhv, vhu, size;
    move(f, v, 1);
    for (size_t i = 0; i < n; i += 3) {
        math_fill(f->layout->size, 0, u->data);
        for_each(f, u, 1, i, 1, false);
        product(f, u, hu);
        product(f, v, hv);
        uhv = dot(f, u, hv), vhu = dot(f, v, hu);
        size = sqrt(dot(f, hv, hv) * dot(f, u, u));
        if (!(fabs(uhv - vhu) <= TOL_SYMMETRY * size))
            fail_msg("%s: %s: <u, Hv> %.15g, <v, Hu> %.15g", what, f->layout->param[i].name, uhv, vhu);
    }
    state_free(u), state_free(v), state_free(hu), state_free(hv);
}

static void products_are_what_differences_of_gradients_say(void **state)
{
    if (sizeof(real) != 8) skip();
    everywhere(ROWS, usual_length, TOKENS, check_differences);
}

static void products_are_symmetric(void **state) { everywhere(ROWS, usual_length, TOKENS, check_symmetry); }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_what_differences_of_gradients_say),
        cmocka_unit_test(products_are_symmetric),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    keeps_tangents = true;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
