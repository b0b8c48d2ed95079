/* eval: Kolmogorov-Smirnov, areas, means, and scores of a row.                                                    NP: 1 */
#include "near.h"
#include "unlearn/eval_priv.h"
#include <float.h>

static const double TOL = 1e-14;    /* absolute below 1: sums of a few doubles */
static const double SCIPY = 1e-9;   /* relative; values quoted from scipy 1.17 */
static const double DIGITS = 1e-12; /* relative, of tiny p: products of some hundred quotients */

#define assert_relative(got, want, tolerance) assert_near((got) / (want), 1, tolerance)

static double p_of(size_t n, const double *x, size_t m, const double *y, double *d)
{
    double own, p;
    assert_int_equal(ks_two_sample(n, x, m, y, d ? d : &own, &p), OK);
    return p;
}

/* x = 0, 1, ..., n-1 times step + shift */
static double *steps(size_t n, double step, double shift)
{
    double *x = calloc(n + 1, sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = step * (double)i + shift;
    return x;
}

/* Slow twin: all orders of n values of one kind and m of the other, each as likely. */
static double twin(size_t n, size_t m, double d)
{
    double all = 0, beyond = 0;
    for (unsigned order = 0; order < 1u << (n + m); order++) {
        size_t i = 0, j = 0;
        double most = 0;
        if ((size_t)__builtin_popcount(order) != n) continue;
        for (size_t k = 0; k < n + m; k++) {
            if (order >> k & 1)
                i++;
            else
                j++;
            most = fmax(most, fabs((double)i / (double)n - (double)j / (double)m));
        }
        all++, beyond += most > d - 1e-9;
    }
    return beyond / all;
}

static void p_is_the_share_of_orders_that_are_as_far_apart(void **state)
{
    for (size_t n = 1; n <= 8; n++)
        for (size_t m = 1; m <= 8; m++)
            for (uint64_t seed = 0; seed < 4; seed++) {
                double x[8], y[8], d, p;
                for (size_t i = 0; i < 8; i++) x[i] = random_uniform(seed + n, STREAM_TEST, i);
                for (size_t i = 0; i < 8; i++) y[i] = 0.3 * (double)seed + random_uniform(seed + m, STREAM_TEST, 100 + i);
                p = p_of(n, x, m, y, &d);
                assert_near(p, twin(n, m, d), TOL);
            }
}

/* Samples apart: two orders of all, p = 2/C(n+m, n). The published tables' floor, 1.06e-239, is n = m = 400. */
static void samples_that_do_not_overlap_have_the_least_p(void **state)
{
    static const size_t size[][2] = {{1, 1}, {2, 3}, {200, 200}, {400, 400}, {400, 300}, {399, 400}, {40, 1000}};
    for (size_t k = 0; k < sizeof size / sizeof *size; k++) {
        size_t n = size[k][0], m = size[k][1];
        double *x = steps(n, 1, 0), *y = steps(m, 1, 1e6), d, p = p_of(n, x, m, y, &d), least = 2;
        for (size_t i = 1; i <= n; i++) least *= (double)i / (double)(m + i);
        assert_near(d, 1, 0);
        assert_relative(p, fmin(1, least), DIGITS);
        free(x), free(y);
    }
    double *x = steps(400, 1, 0), *y = steps(400, 1, 1e6);
    assert_relative(p_of(400, x, 400, y, NULL), 1.06e-239, 0.01);
    free(x), free(y);
}

/* Slow twin for n = m: the share of paths that have been h off the diagonal, square by square; all p of n = 50. */
static void equal_sizes_have_the_p_of_the_walk(void **state)
{
    enum { N = 50 };
    static double Q[N + 1][N + 1];
    for (size_t h = 1; h <= N; h++) {
        double *x = steps(N, 1, 0), *y = steps(N, 1, (double)h - 0.5), d, p = p_of(N, x, N, y, &d);
        for (size_t i = 0; i <= N; i++)
            for (size_t j = 0; j <= N; j++) {
                double from = (i ? (double)i * Q[i - 1][j] : 0) + (j ? (double)j * Q[i][j - 1] : 0);
                Q[i][j] = i >= j + h || j >= i + h ? 1 : i + j ? from / (double)(i + j) : 0;
            }
        assert_relative(d, (double)h / N, TOL);
        assert_relative(p, Q[N][N], DIGITS);
        free(x), free(y);
    }
}

static void it_does_not_matter_which_sample_comes_first_nor_on_what_scale(void **state)
{
    double x[37], y[25], ex[37], ey[25], d, d2;
    for (size_t i = 0; i < 37; i++) x[i] = random_normal(1, STREAM_TEST, i), ex[i] = exp(x[i]);
    for (size_t i = 0; i < 25; i++) y[i] = random_normal(2, STREAM_TEST, i) + 0.5, ey[i] = exp(y[i]);
    double p = p_of(37, x, 25, y, &d);
    assert_near(p_of(25, y, 37, x, &d2), p, TOL);
    assert_near(d2, d, TOL);
    assert_near(p_of(37, ex, 25, ey, &d2), p, 0);
    assert_near(d2, d, 0);
}

static void ties_step_together(void **state)
{
    const double x[] = {1, 1, 2, 2, 3}, y[] = {1, 1, 1, 2, 2, 3, 3, 3}, same[] = {2, 2, 2};
    double d;
    p_of(5, x, 8, y, &d);
    assert_near(d, 0.8 - 5.0 / 8, TOL); /* at 2: four of five, five of eight */
    assert_near(p_of(3, same, 2, same, &d), 1, 0);
    assert_near(d, 0, 0);
    assert_near(p_of(5, x, 5, x, &d), 1, 0);
}

static void samples_without_values_or_with_nan_have_no_p(void **state)
{
    const double x[] = {1, NAN, 3}, y[] = {1, 2};
    double d, p = 0;
    assert_true(isnan(p_of(3, x, 2, y, &d)) && isnan(d));
    assert_true(isnan(p_of(2, y, 3, x, &d)) && isnan(d));
    assert_true(isnan(p_of(0, y, 2, y, &d)) && isnan(d));
    assert_true(isnan(p_of(2, y, 0, y, &d)) && isnan(d));
    assert_int_equal(ks_two_sample(2, (const double[]){-INFINITY, INFINITY}, 2, y, &d, &p), OK);
    assert_near(d, 0.5, 0);
}

/* scipy.stats.ks_2samp(x, y) */
static void p_is_scipys(void **state)
{
    double *x = steps(12000, 1.0 / 12000, 0), *y = steps(9000, 1.0 / 9000, 0.02), d;
    assert_relative(p_of(12000, x, 9000, y, &d), 0.031142009121679193, SCIPY);
    assert_relative(d, 0.020083333333333342, SCIPY);
    free(x), free(y);
    x = steps(10001, 1, 0);
    assert_relative(p_of(10001, x, 1, (const double[]){300.5}, &d), 0.06019398060193981, SCIPY);
    free(x);
    x = steps(300, 1, 0), y = steps(200, 1.7, 0);
    assert_relative(p_of(300, x, 200, y, &d), 0.05956426587666751, SCIPY);
    assert_relative(d, 0.12, SCIPY);
    free(x), free(y);
}

static double tail(size_t n, double d)
{
    double p = -1;
    assert_int_equal(kolmogorov_tail(n, d, &p), OK);
    return p;
}

/* n = 1: max(F, 1-F) of a uniform F. n = 2: from Pr(D_2 < d) = 2 (2d - 1/2)^2 up to d = 1/2, 1 - 2 (1-d)^2 beyond. */
static void one_and_two_values_have_closed_laws(void **state)
{
    for (double d = 0.02; d < 1; d += 0.01) {
        double two = d <= 0.25 ? 1 : d <= 0.5 ? 1 - 2 * (2 * d - 0.5) * (2 * d - 0.5) : 2 * (1 - d) * (1 - d);
        assert_near(tail(1, d), d <= 0.5 ? 1 : 2 * (1 - d), TOL);
        assert_near(tail(2, d), two, TOL);
    }
}

/* scipy.stats.kstwo.sf(d, n): a value of each method */
static void the_law_of_one_sample_is_scipys(void **state)
{
    assert_relative(tail(10, 0.3), 0.27053557479999946, SCIPY);
    assert_relative(tail(140, 0.15), 0.0032495604415101703, SCIPY);
    assert_relative(tail(500, 0.04), 0.3902508696049749, SCIPY);
    assert_relative(tail(500, 0.1), 8.342293067263533e-05, SCIPY);
    assert_relative(tail(200000, 0.002), 0.39995085369038097, SCIPY);
}

static void the_law_falls_from_1_to_0_without_a_break_between_its_methods(void **state)
{
    static const size_t size[] = {2, 5, 10, 100, 140, 141, 1000, 20000};
    for (size_t k = 0; k < sizeof size / sizeof *size; k++) {
        double root = sqrt((double)size[k]), before = 1;
        for (double z = 0; z < 3; z += 0.01) {
            double p = tail(size[k], z / root);
            assert_true(p >= 0 && p <= before + 1e-6); /* the expansion is good to 1e-6 or so at n = 141 */
            assert_true(before - p < 0.03);            /* steepest: 4/sqrt(2) a unit of z, at n = 2 */
            before = p;
        }
        assert_near(tail(size[k], 1), 0, 0);
        assert_near(tail(size[k], -0.1), 1, 0);
    }
}

static void the_area_is_the_share_of_pairs_in_order(void **state)
{
    double low[23], high[31], area, pairs = 0;
    for (size_t i = 0; i < 23; i++) low[i] = floor(6 * random_uniform(3, STREAM_TEST, i));
    for (size_t i = 0; i < 31; i++) high[i] = floor(1 + 6 * random_uniform(4, STREAM_TEST, i));
    for (size_t i = 0; i < 23; i++)
        for (size_t j = 0; j < 31; j++) pairs += low[i] < high[j] ? 1 : low[i] == high[j] ? 0.5 : 0;
    assert_int_equal(auc(23, low, 31, high, &area), OK);
    assert_near(area, pairs / (23 * 31), TOL);
    assert_int_equal(auc(31, high, 23, low, &area), OK);
    assert_near(area, 1 - pairs / (23 * 31), TOL);
    assert_int_equal(auc(0, low, 31, high, &area), OK);
    assert_true(isnan(area));
    high[3] = NAN;
    assert_int_equal(auc(23, low, 31, high, &area), OK);
    assert_true(isnan(area));
}

static void harmonic_means_are_what_they_say(void **state)
{
    assert_near(harmonic_mean(3, (const double[]){1, 2, 4}), 12.0 / 7, TOL);
    assert_near(harmonic_mean(1, (const double[]){0.3}), 0.3, TOL);
    assert_near(harmonic_mean(2, (const double[]){0.5, 0}), 0, 0);
    assert_true(isnan(harmonic_mean(2, (const double[]){0, NAN})));
    assert_true(isnan(harmonic_mean(2, (const double[]){1, -1})));
    assert_true(isnan(harmonic_mean(0, NULL)));
}

/* len(zlib.compress(text)) of Python */
static void compressed_texts_have_the_bytes_of_python(void **state)
{
    char *text = calloc(100001, 1);
    size_t n;
    memset(text, 'a', 100000);
    assert_int_equal(zlib_bytes("", 0, &n), OK);
    assert_int_equal(n, 8); /* header 2, an empty block 2, checksum 4 */
    assert_int_equal(zlib_bytes(text, 100000, &n), OK);
    assert_int_equal(n, 121);
    free(text);
}

static void extraction_counts_the_tokens_after_the_last_miss(void **state)
{
    assert_near(extraction_strength(4, (const double[]){1, 0, 1, 1}), 0.5, 0);
    assert_near(extraction_strength(4, (const double[]){1, 1, 1, 1}), 1, 0);
    assert_near(extraction_strength(4, (const double[]){1, 1, 1, 0}), 0, 0);
    assert_near(extraction_strength(4, (const double[]){1, 1, NAN, 1}), 0.25, 0); /* what is not known is no hit */
    assert_true(isnan(extraction_strength(0, NULL)));
}

static void min_k_is_the_mean_of_the_least_likely_tokens(void **state)
{
    const double x[] = {-1, -8, -2, -4, -16}, bad[] = {-1, NAN};
    double s;
    assert_int_equal(min_k(5, x, 0.4, &s), OK);
    assert_near(s, 12, 0);
    assert_int_equal(min_k(5, x, 0.59, &s), OK); /* floor(2.95) */
    assert_near(s, 12, 0);
    assert_int_equal(min_k(5, x, 0.1, &s), OK); /* one at least */
    assert_near(s, 16, 0);
    assert_int_equal(min_k(5, x, 1, &s), OK);
    assert_near(s, 31.0 / 5, TOL);
    assert_int_equal(min_k(0, x, 0.4, &s), OK);
    assert_true(isnan(s));
    assert_int_equal(min_k(2, bad, 0.4, &s), OK);
    assert_true(isnan(s));
    assert_near(x[0], -1, 0); /* the caller's order stays */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(p_is_the_share_of_orders_that_are_as_far_apart),
        cmocka_unit_test(samples_that_do_not_overlap_have_the_least_p),
        cmocka_unit_test(equal_sizes_have_the_p_of_the_walk),
        cmocka_unit_test(it_does_not_matter_which_sample_comes_first_nor_on_what_scale),
        cmocka_unit_test(ties_step_together),
        cmocka_unit_test(samples_without_values_or_with_nan_have_no_p),
        cmocka_unit_test(p_is_scipys),
        cmocka_unit_test(one_and_two_values_have_closed_laws),
        cmocka_unit_test(the_law_of_one_sample_is_scipys),
        cmocka_unit_test(the_law_falls_from_1_to_0_without_a_break_between_its_methods),
        cmocka_unit_test(the_area_is_the_share_of_pairs_in_order),
        cmocka_unit_test(harmonic_means_are_what_they_say),
        cmocka_unit_test(compressed_texts_have_the_bytes_of_python),
        cmocka_unit_test(extraction_counts_the_tokens_after_the_last_miss),
        cmocka_unit_test(min_k_is_the_mean_of_the_least_likely_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
