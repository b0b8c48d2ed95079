/* math: exp and the activations, forward and backward.               NP: 1 */
#include "math_cases.h"
#include "unlearn/math_priv.h"

enum { N = 3, F = 300, J = 3 }; /* F: more than one piece of a row */

static double plain_value(enum activation act, double x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU:
        return 0.5 * x * erfc(-x / sqrt(2));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    default:
        return x > 0 ? x : 0;
    }
}

struct activation_case {
    enum activation act;
    bool gated;
    size_t n;
    const real *dy;
};

static void plain_activation(const struct activation_case *o, const double *up, double *y)
{
    for (size_t r = 0; r < o->n; r++)
        for (size_t c = 0; c < F; c++)
            y[r * F + c] = o->gated ? plain_value(o->act, up[r * 2 * F + c]) * up[r * 2 * F + F + c]
                                    : plain_value(o->act, up[r * F + c]);
}

static double activation_loss(const double *up, const void *more)
{
    const struct activation_case *o = more;
    double y[N * F];
    plain_activation(o, up, y);
    return weighted_sum(o->n * F, y, o->dy);
}

static void activation_agrees(enum activation act, bool gated)
{
    const size_t width = gated ? 2 * F : F;
    real *up = random_reals(1, N * width), *y = noise(N * F), *again = noise(N * F), *apart = noise(J * N * (width + 3)),
         *dy = random_reals(2, J * N * F), *dup = noise(J * N * width), *tup = random_reals(3, 2 * N * width),
         *ty = noise(2 * N * F);
    double want[N * F], slope[N * 2 * F], *at;
    struct activation_case o = {act, gated, N, NULL};
    for (size_t i = 0; i < N * width; i++) up[i] *= 3;
    at = doubles(N * width, up);
    activation_forward(act, gated, N, F, up, y);
    plain_activation(&o, at, want);
    assert_true(error_of(N * F, y, want) < TOL);
    activation_backward(act, gated, J, N, F, up, dy, again, apart, width + 3);
    columns_take((size_t)J * N, width, apart, width + 3, dup);
    assert_memory_equal(again, y, N * F * sizeof *y);
    activation_tangent(act, gated, 2, N, F, up, tup, ty);
    for (size_t j = 0; j < J; j++) {
        o.dy = dy + j * N * F;
        differences(activation_loss, &o, N * width, at, slope);
        assert_true(error_of(N * width, dup + j * N * width, slope) < TOL_DIFFERENCE);
        for (size_t k = 0; k < 2; k++)
            assert_adjoint(N * F, o.dy, ty + k * N * F, N * width, dup + j * N * width, tup + k * N * width);
    }
    free(up), free(y), free(again), free(apart), free(dy), free(dup), free(at), free(tup), free(ty);
}

static void activations_agree_with_twins_and_differences(void **state)
{
    for (int act = 0; act < N_ACTIVATION; act++) {
        activation_agrees(act, false);
        activation_agrees(act, true);
    }
}

/* The tangent is added to what is there; beside the twin in double, the program's own backward at two points. */
static void tangent_agrees(enum activation act, bool gated)
{
    const size_t width = gated ? 2 * F : F, n = N * width;
    const double h = 1e-5;
    real *up = random_reals(1, n), *tup = random_reals(6, n), *dy = random_reals(2, N * F), *tdup = random_reals(3, n);
    real *before = random_reals(3, n), *side[2] = {noise(n), noise(n)}, *y = noise(N * F),
         *apart = noise(N * (width + 3));
    double *at, *want = malloc(n * sizeof *want), *own = malloc(n * sizeof *own);
    struct activation_case o = {act, gated, N, dy};
    for (size_t i = 0; i < n; i++) up[i] *= 3;
    at = doubles(n, up);
    mixed_differences(activation_loss, &o, n, at, tup, want);
    for (int i = 0; i < 2; i++) {
        real *moved = shifted(n, up, i ? h : -h, tup);
        activation_backward(act, gated, 1, N, F, moved, dy, y, side[i], width);
        free(moved);
    }
    for (size_t i = 0; i < n; i++) {
        want[i] += before[i];
        own[i] = before[i] + ((double)side[1][i] - side[0][i]) / (2 * h);
    }
    columns_put(N, width, tdup, apart, width + 3);
    activation_backward_tangent(act, gated, N, F, up, tup, dy, apart, width + 3);
    columns_take(N, width, apart, width + 3, tdup);
    assert_true(error_of(n, tdup, want) < TOL_MIXED);
    if (sizeof(real) == 8) assert_true(error_of(n, tdup, own) < TOL_DIFFERENCE);
    free(up), free(tup), free(dy), free(tdup), free(before), free(side[0]), free(side[1]), free(y), free(apart), free(at),
        free(want), free(own);
}

static void tangents_of_backwards_agree_with_differences(void **state)
{
    for (int act = 0; act < N_ACTIVATION; act++) {
        if (act == ACT_RELU) continue; /* mixed differences see its corner */
        tangent_agrees(act, false);
        tangent_agrees(act, true);
    }
}

/* relu has no second derivative: what is left is the product of the gate's slope and the other half's tangent. */
static void the_tangent_of_relu_is_that_of_its_factors(void **state)
{
    const real up[4] = {2, -3, 5, 7}, tup[4] = {11, 13, 17, 19}, dy[2] = {23, 29};
    real gated[4] = {0}, plain[4] = {0};
    activation_backward_tangent(ACT_RELU, true, 1, 2, up, tup, dy, gated, 4);
    assert_near(gated[0], 23 * 17, 0);
    assert_near(gated[1], 0, 0);
    assert_near(gated[2], 23 * 11, 0);
    assert_near(gated[3], 0, 0);
    activation_backward_tangent(ACT_RELU, false, 1, 2, up, tup, dy, plain, 2);
    assert_near(plain[0], 0, 0);
}

/* Absolute, in units of max(1, |x|): a real holds x itself no better than that. */
static void activations_hold_their_precision_from_far_left_to_far_right(void **state)
{
    const double tolerance = sizeof(real) == 4 ? 2e-7 : 1e-15;
    real one = 1, y, again, dup;
    for (int act = 0; act < N_ACTIVATION; act++)
        for (int i = -20000; i <= 20000; i++) {
            real x = (real)(i * 0.001 * (1 + abs(i) / 2000));
            double want = plain_value(act, x);
            activation_forward(act, false, 1, 1, &x, &y);
            assert_near(y / fmax(1, fabs((double)x)), want / fmax(1, fabs((double)x)), tolerance);
            activation_backward(act, false, 1, 1, 1, &x, &one, &again, &dup, 1);
            assert_true(again == y);
            assert_true(isfinite(dup));
        }
}

static void activations_of_extremes_are_their_limits(void **state)
{
    for (int act = 0; act < N_ACTIVATION; act++) {
        real x[3] = {-1000, 1000, 0}, y[3], dy[3] = {1, 1, 1}, dup[3];
        activation_forward(act, false, 1, 3, x, y);
        activation_backward(act, false, 1, 1, 3, x, dy, y, dup, 3);
        assert_near(y[0], 0, 0);
        assert_near(y[1], 1000, 0);
        assert_near(y[2], 0, 0);
        assert_near(dup[0], 0, 0);
        assert_near(dup[1], 1, 0);
        assert_near(dup[2], act == ACT_RELU ? 0 : 0.5, 0);
        x[0] = (real)NAN;
        activation_forward(act, false, 1, 1, x, y);
        assert_true(act == ACT_RELU || isnan(y[0]));
    }
}

/* Errors in units in the last place of the result, over all that float can hold */
static void exp_is_within_two_units_in_the_last_place(void **state)
{
    double worst = 0;
    const double unit = sizeof(real) == 4 ? ldexp(1, -23) : ldexp(1, -52);
    for (int i = -87000; i <= 88000; i++) {
        real x = (real)(i * 0.001 + 0.000317);
        double want = exp((double)x), e = fabs((double)real_exp(x) - want) / (unit * want);
        worst = worse(worst, e);
    }
    for (int i = -3000; i <= 3000; i++) { /* around 0 */
        real x = (real)ldexp(i, -20);
        double want = exp((double)x), e = fabs((double)real_exp(x) - want) / (unit * want);
        worst = worse(worst, e);
    }
    assert_true(worst < 2);
}

static void exp_of_extremes_is_zero_infinity_or_not_a_number(void **state)
{
    assert_near(real_exp(0), 1, 0);
    assert_near(real_exp(-1000), 0, 0);
    assert_near(real_exp(-INFINITY), 0, 0);
    assert_near(real_exp(1000), INFINITY, 0);
    assert_near(real_exp(INFINITY), INFINITY, 0);
    assert_true(isnan(real_exp(NAN)));
#ifdef REAL_float
    assert_near(real_exp(-104.5f), 0, 0);
    assert_near(real_exp(88.73f), INFINITY, 0); /* the largest float is exp(88.7228) */
    assert_true(isfinite(real_exp(88.72f)));
    for (float x = -103.0f; x < -87.0f; x += 0.01f) /* subnormal: to half of the least one, and two units */
        assert_true(fabs(real_exp(x) - exp((double)x)) <= ldexp(1, -149) + 3e-7 * exp((double)x));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_agree_with_twins_and_differences),
        cmocka_unit_test(tangents_of_backwards_agree_with_differences),
        cmocka_unit_test(the_tangent_of_relu_is_that_of_its_factors),
        cmocka_unit_test(activations_hold_their_precision_from_far_left_to_far_right),
        cmocka_unit_test(activations_of_extremes_are_their_limits),
        cmocka_unit_test(exp_is_within_two_units_in_the_last_place),
        cmocka_unit_test(exp_of_extremes_is_zero_infinity_or_not_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
