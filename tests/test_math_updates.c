/* math: optimiser steps; numbers as files store them.                NP: 1 */
#include "math_cases.h"

/* ---- updates */
enum { N = 1003 };

static void adamw_follows_its_definition_for_many_steps(void **state)
{
    struct adamw a = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.01};
    real *m = noise(N), *v = noise(N), *w = random_reals(1, N);
    double tm[N] = {0}, tv[N] = {0}, *tw = doubles(N, w);
    math_fill(N, 0, m), math_fill(N, 0, v);
    for (a.step = 1; a.step <= 20; a.step++) {
        real *g = random_reals((uint32_t)a.step + 10, N);
        adamw_update(&a, N, g, 0.25, m, v, w);
        for (size_t i = 0; i < N; i++) {
            double s = 0.25 * g[i];
            tm[i] = 0.9 * tm[i] + (1 - 0.9) * s;
            tv[i] = 0.999 * tv[i] + (1 - 0.999) * s * s;
            tw[i] *= 1 - a.lr * a.decay;
            tw[i] -= a.lr * (tm[i] / (1 - pow(0.9, (double)a.step))) /
                     (sqrt(tv[i] / (1 - pow(0.999, (double)a.step))) + a.eps);
        }
        free(g);
    }
    assert_true(error_of(N, m, tm) < TOL);
    assert_true(error_of(N, v, tv) < TOL);
    assert_true(error_of(N, w, tw) < TOL);
    free(m), free(v), free(w), free(tw);
}

static void the_first_step_of_adamw_has_length_lr(void **state)
{
    const struct adamw a = {.lr = 0.5, .beta1 = 0.9, .beta2 = 0.999, .eps = 0, .decay = 0, .step = 1};
    real g[3] = {-3, (real)1e-3, 700}, m[3] = {0}, v[3] = {0}, w[3] = {1, 1, 1};
    adamw_update(&a, 3, g, 1, m, v, w);
    assert_near(w[0], 1.5, 2 * TOL);
    assert_near(w[1], 0.5, 2 * TOL);
    assert_near(w[2], 0.5, 2 * TOL);
}

static void a_gradient_of_zero_moves_nothing(void **state)
{
    const struct adamw a = {.lr = 0.5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0, .step = 1};
    real g[1] = {0}, m[1] = {0}, v[1] = {0}, w[1] = {3};
    adamw_update(&a, 1, g, 1, m, v, w);
    assert_near(w[0], 3, 0);
}

static void sgd_goes_down_the_gradient_after_decay(void **state)
{
    real g[2] = {1, -2}, w[2] = {10, 20};
    sgd_update(0.5, 0.5, 2, g, 0.25, w);
    assert_near(w[0], 10 * 0.75 - 0.125, 0);
    assert_near(w[1], 20 * 0.75 + 0.25, 0);
}

/* ---- storage */
static double half_value(unsigned h)
{
    unsigned exponent = h >> 10 & 31, fraction = h & 1023;
    double x = exponent == 0   ? ldexp(fraction, -24)
               : exponent < 31 ? ldexp(1024 + fraction, (int)exponent - 25)
               : fraction == 0 ? INFINITY
                               : NAN;
    return h & 0x8000 ? -x : x;
}

static double brain_value(unsigned h)
{
    unsigned exponent = h >> 7 & 255, fraction = h & 127;
    double x = exponent == 0    ? ldexp(fraction, -133)
               : exponent < 255 ? ldexp(128 + fraction, (int)exponent - 134)
               : fraction == 0  ? INFINITY
                                : NAN;
    return h & 0x8000 ? -x : x;
}

static const struct narrow {
    enum storage type;
    double (*value)(unsigned);
    unsigned infinity;
} narrow[] = {{STORE_F16, half_value, 0x7C00}, {STORE_BF16, brain_value, 0x7F80}};

static void every_pattern_of_sixteen_bits_survives(void **state)
{
    for (size_t t = 0; t < 2; t++)
        for (unsigned h = 0; h < 65536; h++) {
            uint16_t from = (uint16_t)h, to = 0;
            double want = narrow[t].value(h);
            real x;
            storage_load(narrow[t].type, 1, &from, &x);
            storage_save(narrow[t].type, 1, &x, &to);
            if (isnan(want)) {
                assert_true(isnan(x) && isnan(narrow[t].value(to)));
                continue;
            }
            assert_near(x, want, 0);
            assert_int_equal(signbit(x) != 0, h >> 15);
            assert_int_equal(to, from);
        }
}

static unsigned saved(enum storage type, double x)
{
    uint16_t h = 0;
    storage_save(type, 1, &(real){(real)x}, &h);
    return h;
}

/* Between two neighbours: below the middle down, above it up, at it to the even one; also into infinity, whose place is
 * where the next number would stand. */
static void values_between_neighbours_round_to_nearest_even(void **state)
{
    for (size_t t = 0; t < 2; t++)
        for (unsigned h = 0; h < narrow[t].infinity; h++) {
            double low = narrow[t].value(h), step = low - (h ? narrow[t].value(h - 1) : 0);
            double high = h + 1 < narrow[t].infinity ? narrow[t].value(h + 1) : low + step, middle = (low + high) / 2;
            double next = (real)nextafterf((float)middle, INFINITY), before = (real)nextafterf((float)middle, 0);
            if (t == 1 && h < 128) continue; /* bfloat16's subnormals: below */
            if (sizeof(real) == 8) next = nextafter(middle, INFINITY), before = nextafter(middle, 0);
            assert_int_equal(saved(narrow[t].type, middle), h & 1 ? h + 1 : h);
            assert_int_equal(saved(narrow[t].type, next), h + 1);
            assert_int_equal(saved(narrow[t].type, before), h);
            assert_int_equal(saved(narrow[t].type, -next), (h + 1) | 0x8000);
        }
}

static void extremes_become_zero_or_infinity(void **state)
{
    assert_int_equal(saved(STORE_F16, 65519.99), 0x7BFF);
    assert_int_equal(saved(STORE_F16, 65520), 0x7C00);
    assert_int_equal(saved(STORE_F16, -1e30), 0xFC00);
    assert_int_equal(saved(STORE_F16, ldexp(1, -25)), 0);
    assert_int_equal(saved(STORE_F16, ldexp(1.0001, -25)), 1);
    assert_int_equal(saved(STORE_BF16, ldexp(1, -133)), 1);
    assert_int_equal(saved(STORE_BF16, ldexp(1, -134)), 0);
    assert_int_equal(saved(STORE_BF16, ldexp(1.5, -134)), 1);
    assert_int_equal(saved(STORE_BF16, 3.4e38), 0x7F80);
    assert_int_equal(saved(STORE_BF16, -INFINITY), 0xFF80);
    if (sizeof(real) == 4) return;
    assert_int_equal(saved(STORE_BF16, 1e300), 0x7F80);
    assert_int_equal(saved(STORE_BF16, 1e-300), 0);
    assert_int_equal(saved(STORE_F16, 1e-300), 0);
    assert_int_equal(saved(STORE_F16, 1 + ldexp(1, -11) + ldexp(1, -40)), 0x3C01); /* one rounding, not two */
    assert_int_equal(saved(STORE_F16, 1 + ldexp(3, -11) - ldexp(1, -40)), 0x3C01);
}

static void wide_types_keep_their_bits_at_any_address(void **state)
{
    unsigned char bytes[8 * 5 + 3];
    const double x[5] = {1.5, -0.0, INFINITY, ldexp(1, -126), 3.25};
    real back[5];
    for (int type = 0; type < N_STORAGE; type++)
        for (size_t shift = 0; shift < 4; shift++) {
            real from[5];
            for (int i = 0; i < 5; i++) from[i] = (real)x[i];
            storage_save(type, 5, from, bytes + shift);
            storage_load(type, 5, bytes + shift, back);
            if (type == STORE_F16) from[3] = 0;
            assert_memory_equal(from, back, sizeof from);
        }
    assert_int_equal(storage_size(STORE_F32), 4);
    assert_int_equal(storage_size(STORE_BF16), 2);
    assert_int_equal(storage_size(STORE_F16), 2);
    assert_int_equal(storage_size(STORE_F64), 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_follows_its_definition_for_many_steps),
        cmocka_unit_test(the_first_step_of_adamw_has_length_lr),
        cmocka_unit_test(a_gradient_of_zero_moves_nothing),
        cmocka_unit_test(sgd_goes_down_the_gradient_after_decay),
        cmocka_unit_test(every_pattern_of_sixteen_bits_survives),
        cmocka_unit_test(values_between_neighbours_round_to_nearest_even),
        cmocka_unit_test(extremes_become_zero_or_infinity),
        cmocka_unit_test(wide_types_keep_their_bits_at_any_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
