/* math: matrix products and their backwards, vectors and sums.       NP: 1 */
#include "math_cases.h"
#include "unlearn/math_priv.h"

/* C = alpha op(A) op(B) + beta C in double */
static void plain_product(bool ta, bool tb, size_t m, size_t n, size_t k, double alpha, const real *a, size_t lda,
                          const real *b, size_t ldb, double beta, double *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t l = 0; l < k; l++)
                sum += (double)(ta ? a[l * lda + i] : a[i * lda + l]) * (tb ? b[j * ldb + l] : b[l * ldb + j]);
            c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
}

static void products_split_below_any_limit_are_the_same(void **state)
{
    enum { M = 13, N = 11, K = 17, LD = 19 };
    real *a = random_reals(1, LD * LD), *b = random_reals(2, LD * LD), *c0 = random_reals(3, LD * LD);
    for (size_t most = 1; most <= 20; most += 3)
        for (int op = 0; op < 4; op++)
            for (int beta = 0; beta < 2; beta++) {
                real *c = random_reals(3, LD * LD);
                double *want = doubles(LD * LD, c0);
                gemm_within(most, op & 1, op & 2, M, N, K, (real)0.5, a, LD, b, LD, (real)beta, c, LD);
                plain_product(op & 1, op & 2, M, N, K, 0.5, a, LD, b, LD, beta, want, LD);
                assert_true(error_of(LD * LD, c, want) < TOL);
                free(c);
                free(want);
            }
    free(a);
    free(b);
    free(c0);
}

static void linear_layers_agree_with_plain_sums(void **state)
{
    enum { N = 7, OUT = 5, IN = 9, LDX = 12, LDY = 6 };
    real *x = random_reals(1, N * LDX), *w = random_reals(2, OUT * IN), *y = noise(N * LDY),
         *dy = random_reals(3, N * LDY);
    real *dx = noise(N * LDX), *dw = random_reals(4, OUT * IN);
    double *want = doubles(N * LDX, x), *want_w = doubles(OUT * IN, dw);
    linear_forward(N, OUT, IN, x, LDX, reals(w), y, LDY);
    plain_product(false, true, N, OUT, IN, 1, x, LDX, w, IN, 0, want, LDY);
    for (size_t r = 0; r < N; r++) {
        assert_true(error_of(OUT, y + r * LDY, want + r * LDY) < 10 * TOL);
        assert_true(isnan(y[r * LDY + OUT])); /* what lies between the rows is not touched */
    }
    linear_backward_input(N, OUT, IN, dy, LDY, reals(w), 0, dx, LDX);
    linear_backward_input(N, OUT, IN, dy, LDY, reals(w), 1, dx, LDX);
    plain_product(false, false, N, IN, OUT, 2, dy, LDY, w, IN, 0, want, LDX);
    for (size_t r = 0; r < N; r++) assert_true(error_of(IN, dx + r * LDX, want + r * LDX) < 10 * TOL);
    linear_backward_weight(N, OUT, IN, dy, LDY, x, LDX, 1, reals(dw));
    plain_product(true, false, OUT, IN, N, 1, dy, LDY, x, LDX, 1, want_w, IN);
    assert_true(error_of(OUT * IN, dw, want_w) < TOL);
    free(x), free(w), free(y), free(dy), free(dx), free(dw), free(want), free(want_w);
}

static void one_row_is_a_row_of_many(void **state)
{
    enum { OUT = 50, IN = 70 };
    real *x = random_reals(1, 2 * IN), *w = random_reals(2, OUT * IN), *both = noise(2 * OUT), *one = noise(OUT);
    double *want = doubles(OUT, both);
    linear_forward(2, OUT, IN, x, IN, reals(w), both, OUT);
    linear_forward(1, OUT, IN, x + IN, IN, reals(w), one, OUT);
    for (size_t i = 0; i < OUT; i++) want[i] = both[OUT + i];
    assert_true(error_of(OUT, one, want) < TOL);
    free(x), free(w), free(both), free(one), free(want);
}

static void steady_rows_agree_with_plain_sums_and_do_not_know_of_each_other(void **state)
{
    static const size_t out[] = {1, 5, 16, 33, 300}, in[] = {0, 1, 3, 8, 16, 17, 24, 172, 513};
    enum { N = 11, LDX = 520, LDY = 310 };
    real *x = random_reals(1, N * LDX), *w = random_reals(2, 300 * 513);
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        for (size_t j = 0; j < sizeof in / sizeof *in; j++) {
            real *y = random_reals(3, N * LDY), *some = random_reals(3, N * LDY);
            double *want = doubles(N * LDY, y);
            plain_product(false, true, N, out[i], in[j], 1, x, LDX, w, in[j], 0, want, LDY);
            linear_steady(N, out[i], in[j], x, LDX, reals(w), y, LDY);
            assert_true(error_of(N * LDY, y, want) < TOL);
            for (size_t n = 0, at = 0; at < N; at += n) { /* 1, 2, 3 ... rows at a time, on another number of threads */
                n = n + 1 > N - at ? N - at : n + 1;
                math_threads(1 + (int)n % 2);
                linear_steady(n, out[i], in[j], x + at * LDX, LDX, reals(w), some + at * LDY, LDY);
            }
            math_threads(1);
            assert_memory_equal(y, some, N * LDY * sizeof *y);
            free(y), free(some), free(want);
        }
    free(x), free(w);
}

static uint16_t *halves(size_t n, real *x) /* and x what they hold */
{
    uint16_t *h = malloc((n + 1) * sizeof *h);
    for (size_t i = 0; i < n; i++) h[i] = to_half((float)x[i]), x[i] = (real)from_half(h[i]);
    return h;
}

static void weights_in_bfloat16_are_read_as_what_they_hold(void **state)
{
    static const size_t in[] = {0, 1, 3, 8, 16, 17, 24, 172, 513};
    enum { N = 11, OUT = 300, LDX = 520, LDY = 310 };
    real *x = random_reals(1, N * LDX), *w = random_reals(2, OUT * 513);
    uint16_t *h = halves(OUT * 513, w);
    for (size_t j = 0; j < sizeof in / sizeof *in; j++) {
        real *y = random_reals(3, N * LDY), *some = random_reals(3, N * LDY);
        double *want = doubles(N * LDY, y);
        plain_product(false, true, N, OUT, in[j], 1, x, LDX, w, in[j], 0, want, LDY);
        linear_steady(N, OUT, in[j], x, LDX, (struct matrix){NULL, h}, y, LDY);
        assert_true(error_of(N * LDY, y, want) < TOL);
        for (size_t at = 0; at < N; at++)
            linear_steady(1, OUT, in[j], x + at * LDX, LDX, (struct matrix){NULL, h}, some + at * LDY, LDY);
        assert_memory_equal(y, some, N * LDY * sizeof *y);
        free(y), free(some), free(want);
    }
    free(x), free(w), free(h);
}

static void linear_backwards_are_adjoints_of_the_forward(void **state)
{
    enum { N = 33, OUT = 20, IN = 41 };
    real *x = random_reals(1, N * IN), *w = random_reals(2, OUT * IN), *dy = random_reals(3, N * OUT);
    real *y = noise(N * OUT), *dx = noise(N * IN), *dw = noise(OUT * IN);
    double value;
    math_fill(OUT * IN, 0, dw);
    linear_forward(N, OUT, IN, x, IN, reals(w), y, OUT);
    linear_backward_input(N, OUT, IN, dy, OUT, reals(w), 0, dx, IN);
    linear_backward_weight(N, OUT, IN, dy, OUT, x, IN, 1, reals(dw));
    value = inner(N * OUT, y, dy);
    assert_near(inner(N * IN, x, dx), value, 10 * TOL);
    assert_near(inner(OUT * IN, w, dw), value, 10 * TOL);
    free(x), free(w), free(y), free(dy), free(dx), free(dw);
}

static void empty_dimensions_are_legal(void **state)
{
    real x[6] = {1, 1, 1, 1, 1, 1}, y[6] = {NAN, NAN, NAN, NAN, NAN, NAN};
    linear_forward(2, 3, 0, x, 0, reals(x), y, 3);
    for (int i = 0; i < 6; i++) assert_near(y[i], 0, 0);
    linear_backward_input(2, 0, 3, x, 0, reals(x), 1, x, 3); /* no outputs: dx stays */
    linear_backward_weight(0, 2, 3, NULL, 2, NULL, 3, 1, reals(x));
    linear_forward(0, 3, 2, NULL, 2, reals(x), NULL, 3);
    linear_forward(3, 0, 2, x, 2, reals(NULL), NULL, 0);
    bias_add(0, 3, x, NULL, 3);
    bias_backward(0, 3, NULL, 3, x);
    for (int i = 0; i < 6; i++) assert_near(x[i], 1, 0);
    assert_near(math_dot(0, NULL, NULL), 0, 0);
    assert_true(math_finite(0, NULL));
}

static void biases_are_added_to_rows_and_gathered_from_columns(void **state)
{
    enum { N = 9, D = 300, LD = 307 };
    real *b = random_reals(1, D), *y = random_reals(2, N * LD), *y0 = random_reals(2, N * LD), *db = random_reals(3, D);
    double *want = doubles(D, db);
    bias_add(N, D, b, y, LD);
    for (size_t r = 0; r < N; r++)
        for (size_t c = 0; c < LD; c++) assert_near(y[r * LD + c], y0[r * LD + c] + (c < D ? b[c] : 0), TOL);
    bias_backward(N, D, y, LD, db);
    for (size_t r = 0; r < N; r++)
        for (size_t c = 0; c < D; c++) want[c] += y[r * LD + c];
    assert_true(error_of(D, db, want) < TOL);
    free(b), free(y), free(y0), free(db), free(want);
}

/* (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: a product in float loses the last term, 6e-8; sums in double round at 1e-16 */
static void dots_keep_every_bit_of_the_products_of_floats(void **state)
{
    enum { N = 1 << 17 };
    const double u = ldexp(1, -12), square = 1 + 2 * u + u * u;
    for (size_t n = 0; n <= N; n = n < 70 ? n + 1 : n * 2 + 1) {
        real *x = noise(n);
        math_fill(n, (real)(1 + u), x);
        assert_near(math_dot(n, x, x), (double)n * square, 1e-13);
        assert_near(math_sum_squares(n, x), (double)n * square, 1e-13);
        free(x);
    }
}

/* Tiles of C may meet other kernels of the library at their edges, which round otherwise. */
static void products_do_not_depend_on_the_threads(void **state)
{
    enum { ROWS = 131, OUT = 157, IN = 93 };
    static real x[ROWS * IN], w[OUT * IN], dy[ROWS * OUT], y[2][ROWS * OUT], dx[2][ROWS * IN], dw[2][OUT * IN];
    for (size_t i = 0; i < ROWS * IN; i++) x[i] = (real)random_normal(1, STREAM_TEST, i);
    for (size_t i = 0; i < OUT * IN; i++) w[i] = (real)random_normal(2, STREAM_TEST, i);
    for (size_t i = 0; i < ROWS * OUT; i++) dy[i] = (real)random_normal(3, STREAM_TEST, i);
    for (int threads = 1; threads <= 6; threads++) {
        int k = threads > 1;
        math_threads(threads);
        math_fill(OUT * IN, 1, dw[k]);
        linear_forward(ROWS, OUT, IN, x, IN, reals(w), y[k], OUT);
        linear_backward_input(ROWS, OUT, IN, dy, OUT, reals(w), 0, dx[k], IN);
        linear_backward_weight(ROWS, OUT, IN, dy, OUT, x, IN, 1, reals(dw[k]));
        if (!k) continue;
        for (size_t i = 0; i < ROWS * OUT; i++) assert_near(y[1][i], y[0][i], 10 * TOL);
        for (size_t i = 0; i < ROWS * IN; i++) assert_near(dx[1][i], dx[0][i], 10 * TOL);
        for (size_t i = 0; i < OUT * IN; i++) assert_near(dw[1][i], dw[0][i], 10 * TOL);
    }
    math_threads(1);
}

static void a_dot_does_not_depend_on_the_threads(void **state)
{
    enum { N = 5000001 };
    real *x = random_reals(1, N), *y = random_reals(2, N);
    double one, two;
    math_threads(1);
    one = math_dot(N, x, y);
    math_threads(2);
    assert_int_equal(math_threads_now(), 2);
    two = math_dot(N, x, y);
    math_threads(1);
    assert_near(two, one, 0);
    assert_near(one, inner(N, x, y), 1e-10);
    free(x), free(y);
}

static void dots_of_sequences_are_added_to_what_is_there(void **state)
{
    enum { SEQ = 4, ROWS = 60, D = 37, LDX = 40, LDY = 50 };
    const size_t first[SEQ + 1] = {2, 3, 3, 40, 60};
    real *x = random_reals(1, ROWS * LDX), *y = random_reals(2, ROWS * LDY);
    double e[SEQ] = {1, 2, 3, 4}, v[SEQ] = {0}, one[SEQ] = {1, 2, 3, 4};
    for (int threads = 1; threads <= 2; threads++) {
        math_threads(threads);
        memcpy(e, (double[]){1, 2, 3, 4}, sizeof e);
        dots_by_sequence(SEQ, first, D, x, LDX, y, LDY, e);
        if (threads == 1) memcpy(one, e, sizeof e);
        assert_memory_equal(e, one, sizeof e);
    }
    math_threads(1);
    dots_with_vector(SEQ, first, D, x, LDX, y, v);
    for (size_t i = 0; i < SEQ; i++) {
        double want = (double)i + 1, want_v = 0;
        for (size_t r = first[i]; r < first[i + 1]; r++) {
            want += inner(D, x + r * LDX, y + r * LDY);
            want_v += inner(D, x + r * LDX, y);
        }
        assert_near(e[i], want, 1e-12);
        assert_near(v[i], want_v, 1e-12);
    }
    free(x), free(y);
}

/* Of shapes with remainders and sequences of any length; added to what is there; the same for any number of threads. */
static void products_with_formed_gradients_are_those_with_plain_ones(void **state)
{
    enum { S = 5, K = 3, ROWS = 40, MOST = 90 };
    const size_t first[S + 1] = {0, 13, 13, 14, 33, ROWS},
                           shape[][2] = {{1, 1}, {7, 5}, {7, 0}, {61, 83}, {MOST, 33}, {33, MOST}};
    for (size_t k = 0; k < sizeof shape / sizeof *shape; k++) {
        const size_t out = shape[k][0], in = shape[k][1], ld = out + 3;
        real *x = random_reals(1, ROWS * in), *dy = random_reals(2, ROWS * ld), *g[K],
             *tiles = noise(3 * formed_tile(in));
        double *sums = calloc(formed_sums(K, S), sizeof *sums), e[2][K * S], want[K * S];
        for (int q = 0; q < K; q++) g[q] = random_reals(3 + (uint64_t)q, out * in);
        uint16_t *half = halves(out * in, g[2]);
        for (int threads = 1; threads <= 3; threads += 2) {
            const struct matrix of[K] = {reals(g[0]), reals(g[1]), {NULL, half}};
            const struct formed f = {S, out, in, ld, K, first, x, dy, of};
            for (int q = 0; q < K * S; q++) e[threads / 2][q] = want[q] = q;
            math_threads(threads);
            formed_dots(&f, tiles, sums, e[threads / 2]);
        }
        math_threads(1);
        for (size_t q = 0; q < K * S; q++)
            for (size_t t = first[q % S]; t < first[q % S + 1]; t++)
                for (size_t o = 0; o < out; o++)
                    for (size_t i = 0; i < in; i++)
                        want[q] += (double)dy[t * ld + o] * (double)x[t * in + i] * (double)g[q / S][o * in + i];
        for (int q = 0; q < K * S; q++) assert_near(e[0][q], want[q], sizeof(real) == 8 ? 1e-12 : 3e-4);
        assert_memory_equal(e[0], e[1], sizeof *e);
        for (int q = 0; q < K; q++) free(g[q]);
        free(half), free(x), free(dy), free(tiles), free(sums);
    }
}

static void one_bad_number_anywhere_is_found(void **state)
{
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t n = 1; n < 100; n += 7)
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < 3; k++) {
                real *x = random_reals(1, n);
                assert_true(math_finite(n, x));
                x[i] = (real)bad[k];
                assert_false(math_finite(n, x));
                free(x);
            }
}

static void plain_vector_operations_do_what_they_say(void **state)
{
    enum { N = 70001 }; /* more than a team is woken for */
    real *x = random_reals(1, N), *y = noise(N);
    for (int threads = 1; threads <= 2; threads++) {
        math_threads(threads);
        math_fill(N, 2, y);
        math_add(N, x, y);
        for (size_t i = 0; i < N; i++) assert_near(y[i], (real)2 + x[i], 0);
        math_copy(N, x, y);
        assert_memory_equal(x, y, N * sizeof *x);
    }
    math_threads(1);
    free(x), free(y);
}

static void the_library_has_a_name_and_a_speed(void **state)
{
    assert_true(strlen(math_library()) > 3);
    assert_true(strlen(math_kernels()) > 3);
    for (int threads = 1; threads <= 2; threads++) {
        math_threads(threads);
        assert_true(math_gemm_rate(512) > 1e8);
        assert_true(math_peak_rate() > 1e8);
        assert_int_equal(math_threads_now(), threads);
        math_warning(); /* may or may not be; it leaves the threads as they were */
        assert_int_equal(math_threads_now(), threads);
    }
    math_threads(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_split_below_any_limit_are_the_same),
        cmocka_unit_test(linear_layers_agree_with_plain_sums),
        cmocka_unit_test(one_row_is_a_row_of_many),
        cmocka_unit_test(steady_rows_agree_with_plain_sums_and_do_not_know_of_each_other),
        cmocka_unit_test(weights_in_bfloat16_are_read_as_what_they_hold),
        cmocka_unit_test(linear_backwards_are_adjoints_of_the_forward),
        cmocka_unit_test(empty_dimensions_are_legal),
        cmocka_unit_test(biases_are_added_to_rows_and_gathered_from_columns),
        cmocka_unit_test(dots_keep_every_bit_of_the_products_of_floats),
        cmocka_unit_test(products_do_not_depend_on_the_threads),
        cmocka_unit_test(a_dot_does_not_depend_on_the_threads),
        cmocka_unit_test(dots_of_sequences_are_added_to_what_is_there),
        cmocka_unit_test(products_with_formed_gradients_are_those_with_plain_ones),
        cmocka_unit_test(one_bad_number_anywhere_is_found),
        cmocka_unit_test(plain_vector_operations_do_what_they_say),
        cmocka_unit_test(the_library_has_a_name_and_a_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
