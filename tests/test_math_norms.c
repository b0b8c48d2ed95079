/* math: norms and rotary positions, forward and backward.            NP: 1 */
#include "math_cases.h"

enum { N = 5, D = 37, J = 3 };
static const double EPS = 1e-5;

struct norm_case {
    enum norm_kind kind;
    size_t n;
    const real *w, *b, *dy;
};

static void plain_norm(const struct norm_case *o, const double *x, double *y)
{
    for (size_t i = 0; i < o->n; i++) {
        const double *row = x + i * D;
        double mean = 0, square = 0;
        for (size_t c = 0; c < D; c++) mean += row[c] / D;
        if (o->kind != NORM_LAYER) mean = 0;
        for (size_t c = 0; c < D; c++) square += (row[c] - mean) * (row[c] - mean) / D;
        for (size_t c = 0; c < D; c++)
            y[i * D + c] = (row[c] - mean) / sqrt(square + EPS) * (o->w ? o->w[c] + (o->kind == NORM_RMS_OFFSET) : 1) +
                           (o->b ? o->b[c] : 0);
    }
}

static double norm_loss(const double *x, const void *more)
{
    const struct norm_case *o = more;
    double y[N * D];
    plain_norm(o, x, y);
    return weighted_sum(o->n * D, y, o->dy);
}

static void norm_agrees_with_its_twin(enum norm_kind kind, const real *w, const real *b, double offset)
{
    real *x = random_reals(1, N * D), *dy = random_reals(2, J * N * D), *y = noise(N * D), *xhat = noise(N * D);
    real mean[N], r[N], *dx = random_reals(3, J * N * D), *dx0 = random_reals(3, J * N * D);
    double want[N * D], slope[N * D], *at;
    struct norm_case o = {kind, N, w, b, NULL};
    for (size_t i = 0; i < N * D; i++) x[i] = (real)(x[i] + offset);
    at = doubles(N * D, x);
    plain_norm(&o, at, want);
    norm_forward(kind, N, D, x, w, b, EPS, y, mean, r);
    assert_true(error_of(N * D, y, want) < TOL * (1 + fabs(offset)));
    norm_hat(kind, N, D, x, mean, r, xhat);
    norm_backward(kind, J, N, D, xhat, r, w, dy, dx);
    for (size_t j = 0; j < J; j++) {
        o.dy = dy + j * N * D;
        differences(norm_loss, &o, N * D, at, slope);
        for (size_t i = 0; i < N * D; i++) slope[i] += dx0[j * N * D + i]; /* dx is added to */
        assert_true(error_of(N * D, dx + j * N * D, slope) < TOL_DIFFERENCE * (1 + fabs(offset)));
    }
    free(x), free(dy), free(y), free(xhat), free(dx), free(dx0), free(at);
}

static void norms_agree_with_twins_and_differences(void **state)
{
    real *w = random_reals(4, D), *b = random_reals(5, D);
    for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++)
        for (int offset = 0; offset <= 5; offset += 5) {
            norm_agrees_with_its_twin(kind, w, b, offset);
            norm_agrees_with_its_twin(kind, w, NULL, offset);
            norm_agrees_with_its_twin(kind, NULL, b, offset);
            norm_agrees_with_its_twin(kind, NULL, NULL, offset);
        }
    free(w), free(b);
}

/* Columns in two parts, the second with columns that the first has too: the norm of the whole. */
static void a_norm_in_parts_is_the_norm(void **state)
{
    enum { CUT = 20, BOTH = 5, LEFT = CUT, RIGHT = D - CUT + BOTH };
    real *x = random_reals(1, N * D), *dy = random_reals(2, J * N * D), *y = noise(N * D), r[N], *dx = noise(J * N * D);
    real *left = noise(N * LEFT), *right = noise(N * RIGHT), *dleft = noise(J * N * LEFT), *dright = noise(J * N * RIGHT);
    double sum[2][N], along[2][J * N], error[2] = {0};
    norm_forward(NORM_RMS, N, D, x, NULL, NULL, EPS, y, NULL, r);
    math_fill(J * N * D, 0, dx);
    norm_backward(NORM_RMS, J, N, D, y, r, NULL, dy, dx);
    columns_take(N, LEFT, x, D, left);
    columns_take(N, RIGHT, x + CUT - BOTH, D, right);
    norm_part_squares(N, LEFT, 0, LEFT, left, sum[0]);
    norm_part_squares(N, RIGHT, BOTH, RIGHT - BOTH, right, sum[1]);
    for (size_t i = 0; i < N; i++) sum[0][i] += sum[1][i];
    norm_part_forward(N, LEFT, D, sum[0], EPS, left, r);
    norm_part_forward(N, RIGHT, D, sum[0], EPS, right, r);
    columns_take(J * N, LEFT, dy, D, dleft);
    columns_take(J * N, RIGHT, dy + CUT - BOTH, D, dright);
    for (size_t i = 0; i < J * N; i++) /* in the columns of both, half the delta is here and half there */
        for (size_t c = 0; c < BOTH; c++) dright[i * RIGHT + c] /= 2, dleft[i * LEFT + CUT - BOTH + c] /= 2;
    norm_part_along(J, N, LEFT, left, dleft, along[0]);
    norm_part_along(J, N, RIGHT, right, dright, along[1]);
    for (size_t i = 0; i < J * N; i++) along[0][i] += along[1][i];
    norm_part_backward(J, N, LEFT, D, 0, LEFT, left, r, along[0], dleft);
    norm_part_backward(J, N, RIGHT, D, BOTH, RIGHT - BOTH, right, r, along[0], dright);
    for (size_t i = 0; i < J * N; i++)
        for (size_t c = 0; c < D; c++) {
            double got = c < LEFT ? (double)dleft[i * LEFT + c] : 0;
            if (c >= CUT - BOTH) got += (double)dright[i * RIGHT + c - CUT + BOTH];
            error[0] = fmax(error[0], fabs(got - (double)dx[i * D + c]));
        }
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < RIGHT; c++)
            error[1] = fmax(error[1], fabs((double)right[i * RIGHT + c] - (double)y[i * D + CUT - BOTH + c]));
    assert_true(error[0] < 10 * TOL && error[1] < 10 * TOL);
    free(x), free(dy), free(y), free(dx), free(left), free(right), free(dleft), free(dright);
}

/* y is linear in w: <dw, w> = <dy, y> without b */
static void norm_weight_gradients_are_adjoint_and_added(void **state)
{
    enum { ROWS = 600, WIDE = 300 };
    real *x = random_reals(1, ROWS * WIDE), *w = random_reals(2, WIDE), *dy = random_reals(3, ROWS * WIDE);
    real *y = noise(ROWS * WIDE), *xhat = noise(ROWS * WIDE), *r = noise(ROWS), dw[2][WIDE];
    for (int threads = 1; threads <= 2; threads++) {
        math_threads(threads);
        norm_forward(NORM_RMS, ROWS, WIDE, x, w, NULL, EPS, y, NULL, r);
        norm_hat(NORM_RMS, ROWS, WIDE, x, NULL, r, xhat);
        math_fill(WIDE, 1, dw[threads - 1]);
        norm_backward_weight(ROWS, WIDE, xhat, dy, dw[threads - 1]);
    }
    math_threads(1);
    assert_memory_equal(dw[0], dw[1], sizeof dw[0]);
    for (size_t c = 0; c < WIDE; c++) {
        double want = 1;
        for (size_t i = 0; i < ROWS; i++) want += (double)dy[i * WIDE + c] * xhat[i * WIDE + c];
        assert_near(dw[0][c], want, TOL);
        dw[0][c] -= 1;
    }
    assert_near(inner(WIDE, dw[0], w), inner(ROWS * WIDE, dy, y), 10 * TOL);
    free(x), free(w), free(dy), free(y), free(xhat), free(r);
}

static void a_row_of_zeros_stays_finite(void **state)
{
    real x[D] = {0}, y[D], xhat[D], mean[1], r[1], dx[D] = {0}, dy[D];
    math_fill(D, 1, dy);
    for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++) {
        norm_forward(kind, 1, D, x, NULL, NULL, EPS, y, mean, r);
        norm_hat(kind, 1, D, x, mean, r, xhat);
        norm_backward(kind, 1, 1, D, xhat, r, NULL, dy, dx);
        assert_near(r[0], 1 / sqrt(EPS), 1e-6);
        assert_true(math_finite(D, y) && math_finite(D, dx));
    }
}

/* ---- rotary */
enum { ROWS = 6, HEADS = 3, HEAD = 10, LD = 35, POSITIONS = 9 };
static const int32_t position[ROWS] = {0, 1, 2, 0, 8, 3};

static void plain_rotary(int direction, size_t half, const double *frequency, const real *x, double *y)
{
    for (size_t i = 0; i < ROWS * LD; i++) y[i] = x[i];
    for (size_t r = 0; r < ROWS; r++)
        for (size_t h = 0; h < HEADS; h++)
            for (size_t k = 0; k < half; k++) {
                double angle = direction * position[r] * frequency[k], c = cos(angle), s = sin(angle);
                size_t a = r * LD + h * HEAD + k, b = a + half;
                y[a] = x[a] * c - x[b] * s;
                y[b] = x[b] * c + x[a] * s;
            }
}

static void rotary_turns_pairs_and_leaves_the_rest(void **state)
{
    const double frequency[5] = {1, 0.5, 0.25, 0.1, 0.01};
    for (size_t half = 0; half <= 5; half++)
        for (int direction = -1; direction <= 1; direction += 2) {
            real cosine[POSITIONS * 5], sine[POSITIONS * 5], *x = random_reals(1, 2 * ROWS * LD),
                                                             *y = noise(2 * ROWS * LD);
            double want[ROWS * LD];
            math_copy(2 * ROWS * LD, x, y);
            rotary_table(POSITIONS, half, frequency, 1, cosine, sine);
            rotary_apply(direction, 2, ROWS, position, HEADS, HEAD, 2 * half, cosine, sine, y, LD);
            for (size_t j = 0; j < 2; j++) {
                plain_rotary(direction, half, frequency, x + j * ROWS * LD, want);
                assert_true(error_of(ROWS * LD, y + j * ROWS * LD, want) < TOL);
            }
            free(x), free(y);
        }
}

static void turning_back_is_inverse_and_adjoint(void **state)
{
    const double frequency[4] = {1, 0.3, 0.03, 0.003};
    real cosine[POSITIONS * 4], sine[POSITIONS * 4], *x = random_reals(1, ROWS * LD), *y = random_reals(2, ROWS * LD);
    real *turned = noise(ROWS * LD), *back = noise(ROWS * LD);
    double *want = doubles(ROWS * LD, x);
    rotary_table(POSITIONS, 4, frequency, 1, cosine, sine);
    math_copy(ROWS * LD, x, turned);
    rotary_apply(1, 1, ROWS, position, HEADS, HEAD, 8, cosine, sine, turned, LD);
    math_copy(ROWS * LD, y, back);
    rotary_apply(-1, 1, ROWS, position, HEADS, HEAD, 8, cosine, sine, back, LD);
    assert_near(inner(ROWS * LD, turned, y), inner(ROWS * LD, x, back), 10 * TOL);
    rotary_apply(-1, 1, ROWS, position, HEADS, HEAD, 8, cosine, sine, turned, LD);
    assert_true(error_of(ROWS * LD, turned, want) < TOL);
    free(x), free(y), free(turned), free(back), free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_agree_with_twins_and_differences),
        cmocka_unit_test(a_norm_in_parts_is_the_norm),
        cmocka_unit_test(norm_weight_gradients_are_adjoint_and_added),
        cmocka_unit_test(a_row_of_zeros_stays_finite),
        cmocka_unit_test(rotary_turns_pairs_and_leaves_the_rest),
        cmocka_unit_test(turning_back_is_inverse_and_adjoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
