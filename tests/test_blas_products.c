/* blas: products by each of the libraries, in float and with operands rounded to bfloat16.        NP: 1 */
#include "math_cases.h"
#include "unlearn/blas_priv.h"

/* Rounded operands are taken into the twin, so that sums alone differ. */
static const double U = 0x1p-8; /* the most by which bfloat16's 8 bits round an operand, relative */

static double narrowed(double x)
{
    int e;
    const double f = frexp(x, &e); /* 0.5 <= |f| < 1: 8 bits of it stay; to nearest even as rint() does */
    return ldexp(rint(ldexp(f, 8)), e - 8);
}

struct size {
    size_t m, n, k;
};

/* c += op(A) op(B) in double; bound: the same of absolute values */
static void twin(bool ta, bool tb, struct size s, const double *a, size_t lda, const double *b, size_t ldb, double *c,
                 double *bound, size_t ldc)
{
    for (size_t i = 0; i < s.m; i++)
        for (size_t j = 0; j < s.n; j++) {
            double sum = 0, all = 0;
            for (size_t l = 0; l < s.k; l++) {
                const double xy = a[ta ? l * lda + i : i * lda + l] * b[tb ? j * ldb + l : l * ldb + j];
                sum += xy, all += fabs(xy);
            }
            c[i * ldc + j] += sum, bound[i * ldc + j] = all;
        }
}

static double *operand(bool narrow, double scale, size_t n, const real *x)
{
    double *y = doubles(n, x);
    for (size_t i = 0; i < n; i++) y[i] = narrow ? narrowed(scale * y[i]) : scale * y[i];
    return y;
}

/* Within sums' rounding of the product of the operands as they are rounded, within theirs of the exact one; gaps stay. */
static void compare(struct size s, const real *c, const real *c0, const double *want, const double *exact,
                    const double *bound, size_t ldc)
{
    assert_true(error_of(s.m * ldc, c, want) < TOL);
    for (size_t i = 0; i < s.m; i++) {
        for (size_t at = i * ldc; at < i * ldc + s.n; at++)
            assert_true(fabs((double)c[at] - exact[at]) <= (2 * U + U * U + TOL) * bound[at] + TOL);
        assert_memory_equal(c + i * ldc + s.n, c0 + i * ldc + s.n, 2 * sizeof *c);
    }
}

/* Products in place of C or added to it, with gaps between rows, on one thread and on three. */
static void agrees(enum multiplier p, bool ta, bool tb, bool add, struct size s)
{
    const size_t lda = (ta ? s.m : s.k) + 3, ldb = (tb ? s.k : s.n) + 5, ldc = s.n + 2, size = s.m * ldc;
    const size_t size_a = (ta ? s.k : s.m) * lda, size_b = (tb ? s.n : s.k) * ldb;
    real *a = random_reals(1, size_a), *b = random_reals(2, size_b), *c0 = random_reals(3, size);
    double *want = doubles(size, c0), *exact = doubles(size, c0), *bound = calloc(size + 1, sizeof *bound);
    for (int narrow = 0; narrow <= (p == BY_BFLOAT16); narrow++) {
        double *x = operand(narrow, 0.5, size_a, a), *y = operand(narrow, 1, size_b, b), *to = narrow ? want : exact;
        for (size_t i = 0; i < s.m; i++)
            for (size_t j = 0; j < s.n && !add; j++) to[i * ldc + j] = 0;
        twin(ta, tb, s, x, lda, y, ldb, to, bound, ldc);
        free(x), free(y);
    }
    for (int threads = 1; threads <= 3; threads += 2) {
        real *c = random_reals(3, size);
        for (size_t i = 0; i < s.m; i++)
            for (size_t j = 0; j < s.n && !add; j++) c[i * ldc + j] = (real)NAN;
        math_threads(threads);
        gemm(ta, tb, s.m, s.n, s.k, (real)0.5, a, lda, b, ldb, add, c, ldc);
        assert_int_equal(math_threads_now(), threads); /* a product that is worth one thread puts them back */
        compare(s, c, c0, p == BY_BFLOAT16 ? want : exact, exact, bound, ldc);
        free(c);
    }
    free(a), free(b), free(c0), free(want), free(exact), free(bound);
}

/* Sizes with remainders of every kind; one row, one column, one term; beyond the blocks that bfloat16 is rounded in. */
static const struct size sizes[] = {
    {1, 1, 1},       {1, 61, 83},   {33, 1, 7},   {5, 7, 1},     {7, 5, 3},    {16, 16, 16}, {67, 83, 61}, {48, 64, 256},
    {131, 149, 113}, {1100, 3, 40}, {3, 1030, 9}, {2, 37, 2050}, {1, 1025, 5}, {0, 3, 2},    {3, 0, 2},    {2, 3, 0}};

static void all_forms(enum multiplier p)
{
    if (math_products_lack(p)) {
        print_message("skipped: %s\n", math_products_lack(p));
        skip();
    }
    math_threads(3); /* before the room for rounded operands is taken */
    assert_int_equal(math_products(p), OK);
    assert_int_equal(math_products_now(), p);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int form = 0; form < 8; form++) agrees(p, form & 1, form & 2, form & 4, sizes[i]);
    math_threads(1);
    assert_int_equal(math_products(BY_BLAS), OK);
}

static void products_of_the_blas_agree_with_sums(void **state) { all_forms(BY_BLAS); }
static void products_of_onednn_agree_with_sums(void **state) { all_forms(BY_ONEDNN); }
static void products_in_bfloat16_are_those_of_rounded_operands(void **state) { all_forms(BY_BFLOAT16); }

/* The linear layer's products with weights, and to a gradient, that are held in bfloat16. */
static void one_held(struct size s, int threads)
{
    const size_t out = s.n, in = s.k, n = s.m;
    real *x = random_reals(1, n * in), *w = random_reals(2, out * in), *dy = random_reals(3, n * out);
    real *y[2] = {random_reals(4, n * out), random_reals(4, n * out)}, *dx[2] = {noise(n * in), noise(n * in)},
         *dw = noise(out * in);
    uint16_t *half = malloc((out * in + 1) * sizeof *half), *sum = malloc((out * in + 1) * sizeof *sum);
    for (size_t i = 0; i < out * in; i++)
        sum[i] = half[i] = to_half((float)w[i]), w[i] = (real)from_half(half[i]), dw[i] = 0;
    const struct matrix of[2] = {reals(w), {NULL, half}};
    math_threads(threads);
    for (int k = 0; k < 2; k++) {
        linear_forward(n, out, in, x, in, of[k], y[k], out);
        linear_backward_input(n, out, in, dy, out, of[k], 0, dx[k], in);
        linear_add(n, out, in, dx[k], in, of[k], y[k], out);
    }
    double *const same[2] = {doubles(n * out, y[0]), doubles(n * in, dx[0])};
    assert_true(error_of(n * out, y[1], same[0]) < TOL && error_of(n * in, dx[1], same[1]) < TOL);
    free(same[0]), free(same[1]);
    linear_backward_weight(n, out, in, dy, out, x, in, 1, reals(dw));
    linear_backward_weight(n, out, in, dy, out, x, in, 1, (struct matrix){NULL, sum});
    for (size_t i = 0; i < out * in; i++) {
        const double want = (double)w[i] + (double)dw[i];
        assert_true(fabs((double)from_half(sum[i]) - want) <=
                    2 * U * fabs(want) * 1.01 + TOL * (fabs((double)w[i]) + (double)n));
    }
    free(x), free(w), free(dy), free(y[0]), free(y[1]), free(dx[0]), free(dx[1]), free(dw), free(half), free(sum);
}

static void what_is_held_in_bfloat16_is_multiplied_as_it_is(void **state)
{
    if (math_products_lack(BY_BFLOAT16)) {
        print_message("skipped: %s\n", math_products_lack(BY_BFLOAT16));
        skip();
    }
    math_threads(3);
    assert_int_equal(math_products(BY_BFLOAT16), OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int threads = 1; threads <= 3; threads += 2) one_held(sizes[i], threads);
    math_threads(1);
    assert_int_equal(math_products(BY_BLAS), OK);
}

/* At other addresses: on one thread, inside a team of the caller's, and divided among three. Not so on one and on three: some
 * kernels add in another order at the edges of what they are given (OpenBLAS: Haswell, Zen). */
static void a_product_again_has_the_same_bits(void **state)
{
    enum { M = 97, N = 133, K = 301 };
    for (int p = 0; p < N_MULTIPLIER; p++) {
        real *a = random_reals(1, M * K), *b = random_reals(2, N * K), *c = noise(M * N), *divided = noise(M * N),
             *moved[3][3];
        if (math_products_lack((enum multiplier)p)) continue;
        assert_int_equal(math_products((enum multiplier)p), OK);
        math_threads(1);
        linear_forward(M, N, K, a, K, reals(b), c, N);
        math_threads(3);
        linear_forward(M, N, K, a, K, reals(b), divided, N);
        for (size_t t = 0; t < 3; t++) { /* by 4, 8, 12 bytes */
            moved[t][0] = malloc((M * K + 4) * sizeof *a), moved[t][1] = malloc((N * K + 4) * sizeof *b);
            moved[t][2] = noise(M * N + 4);
            memcpy(moved[t][0] + t + 1, a, M * K * sizeof *a), memcpy(moved[t][1] + t + 1, b, N * K * sizeof *b);
        }
#pragma omp parallel for num_threads(3) schedule(static, 1)
        for (size_t t = 0; t < 3; t++)
            linear_forward(M, N, K, moved[t][0] + t + 1, K, reals(moved[t][1] + t + 1), moved[t][2] + t + 1, N);
        for (size_t t = 0; t < 3; t++) {
            assert_memory_equal(moved[t][2] + t + 1, c, M * N * sizeof *c);
            linear_forward(M, N, K, moved[t][0] + t + 1, K, reals(moved[t][1] + t + 1), moved[t][2] + t + 1, N);
            assert_memory_equal(moved[t][2] + t + 1, divided, M * N * sizeof *c);
            for (size_t i = 0; i < 3; i++) free(moved[t][i]);
        }
        free(a), free(b), free(c), free(divided);
    }
    math_threads(1);
    assert_int_equal(math_products(BY_BLAS), OK);
}

static void what_is_not_finite_stays_so(void **state)
{
    enum { N = 20, K = 40 };
    const float bad[] = {NAN, INFINITY, -INFINITY, -NAN};
    const uint32_t largest = 0x7FFFFFFF; /* a NaN which rounding would carry over to zero */
    for (int p = 0; p < N_MULTIPLIER; p++) {
        real x[K], w[N * K], y[2 * N];
        if (math_products_lack((enum multiplier)p)) continue;
        assert_int_equal(math_products((enum multiplier)p), OK);
        for (size_t i = 0; i < N * K; i++) w[i] = 1;
        for (size_t i = 0; i <= sizeof bad / sizeof *bad; i++) {
            float value;
            memcpy(&value, &largest, sizeof value);
            if (i < sizeof bad / sizeof *bad) value = bad[i];
            for (size_t l = 0; l < K; l++) x[l] = 1;
            x[3] = (real)value;
            linear_forward(1, N, K, x, K, reals(w), y, N);
            for (size_t j = 0; j < N; j++) assert_true(isnan(value) ? isnan(y[j]) : (float)y[j] == value);
        }
    }
    assert_int_equal(math_products(BY_BLAS), OK);
}

static void rates_are_measured_and_leave_things_as_they_were(void **state)
{
    const enum multiplier p[] = {BY_BLAS, math_products_lack(BY_BFLOAT16) ? BY_BLAS : BY_BFLOAT16};
    double rate[2] = {0, 0};
    math_products_rates(40, 64, 48, 2, p, rate);
    assert_true(rate[0] > 0 && rate[1] > 0 && isfinite(rate[0]) && isfinite(rate[1]));
    assert_int_equal(math_products_now(), BY_BLAS);
    assert_null(math_products_lack(BY_BLAS));
    if (sizeof(real) == 8) assert_non_null(strstr(math_products_lack(BY_ONEDNN), "float64"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_the_blas_agree_with_sums),
        cmocka_unit_test(products_of_onednn_agree_with_sums),
        cmocka_unit_test(products_in_bfloat16_are_those_of_rounded_operands),
        cmocka_unit_test(what_is_held_in_bfloat16_is_multiplied_as_it_is),
        cmocka_unit_test(a_product_again_has_the_same_bits),
        cmocka_unit_test(what_is_not_finite_stays_so),
        cmocka_unit_test(rates_are_measured_and_leave_things_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
