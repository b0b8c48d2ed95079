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

/* dL/dx by differences, moving x along tx and w along tw at once: both stand in one array, x first. */
static double both_loss(const double *xw, const void *more)
{
    const struct norm_case *b = more;
    struct norm_case o = *b;
    double y[N * D], sum = 0;
    o.w = NULL;
    plain_norm(&o, xw, y);
    for (size_t i = 0; i < N * D; i++)
        sum += y[i] * (b->w ? xw[N * D + i % D] + (o.kind == NORM_RMS_OFFSET) : 1) * o.dy[i];
    return sum;
}

static void norm_tangent_agrees(enum norm_kind kind, real *w, real *tw)
{
    enum { ALL = N * D + D };
    real *x = random_reals(1, ALL), *tx = random_reals(6, ALL), *dy = random_reals(2, N * D), *xhat = noise(N * D);
    real mean[N], r[N], tr[N], *txhat = noise(N * D), *tdx = random_reals(3, N * D), *before = random_reals(3, N * D);
    double want[ALL], *at;
    struct norm_case o = {kind, N, w, NULL, dy};
    for (size_t c = 0; c < D; c++) x[N * D + c] = w ? w[c] : 1, tx[N * D + c] = tw ? tw[c] : 0;
    at = doubles(ALL, x);
    mixed_differences(both_loss, &o, ALL, at, tx, want);
    norm_forward(kind, N, D, x, NULL, NULL, EPS, xhat, mean, r);
    norm_tangent(kind, N, D, xhat, r, tx, txhat, tr);
    const struct norm_tangents t = {xhat, txhat, r, tr, w, tw};
    norm_backward_tangent(kind, N, D, &t, dy, tdx);
    for (size_t i = 0; i < N * D; i++) want[i] += before[i];
    assert_true(error_of(N * D, tdx, want) < TOL_MIXED);
    free(x), free(tx), free(dy), free(xhat), free(txhat), free(tdx), free(before), free(at);
}

/* What the forward and backward give at two points beside this one, a small step along tx and tw apart. */
static void norm_tangent_agrees_with_its_own_backward(enum norm_kind kind, const real *w, const real *tw)
{
    const double h = 1e-5;
    real *x = random_reals(1, N * D), *tx = random_reals(6, N * D), *dy = random_reals(2, N * D), *hat[3], *dx[2];
    real mean[N], r[3][N], tr[N], *txhat = noise(N * D), *tdx = random_reals(3, N * D);
    double want[3][N * D];
    for (int i = 0; i < 2; i++) {
        real *moved = shifted(N * D, x, i ? h : -h, tx), *moved_w = shifted(D, w, i ? h : -h, tw);
        hat[i] = noise(N * D), dx[i] = random_reals(3, N * D);
        norm_forward(kind, N, D, moved, NULL, NULL, EPS, hat[i], mean, r[i]);
        norm_backward(kind, 1, N, D, hat[i], r[i], moved_w, dy, dx[i]);
        free(moved), free(moved_w);
    }
    hat[2] = noise(N * D);
    norm_forward(kind, N, D, x, NULL, NULL, EPS, hat[2], mean, r[2]);
    norm_tangent(kind, N, D, hat[2], r[2], tx, txhat, tr);
    const struct norm_tangents t = {hat[2], txhat, r[2], tr, w, tw};
    math_fill(N * D, 0, tdx);
    norm_backward_tangent(kind, N, D, &t, dy, tdx);
    for (size_t i = 0; i < N * D; i++) {
        want[0][i] = ((double)hat[1][i] - hat[0][i]) / (2 * h);
        want[1][i] = ((double)dx[1][i] - dx[0][i]) / (2 * h);
    }
    for (size_t i = 0; i < N; i++) want[2][i] = ((double)r[1][i] - r[0][i]) / (2 * h);
    assert_true(error_of(N * D, txhat, want[0]) < TOL_DIFFERENCE);
    assert_true(error_of(N * D, tdx, want[1]) < TOL_DIFFERENCE);
    assert_true(error_of(N, tr, want[2]) < TOL_DIFFERENCE);
    for (int i = 0; i < 3; i++) free(hat[i]);
    free(x), free(tx), free(dy), free(txhat), free(tdx), free(dx[0]), free(dx[1]);
}

static void norm_tangents_agree_with_differences(void **state)
{
    real *w = random_reals(4, D), *tw = random_reals(7, D);
    for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++) {
        norm_tangent_agrees(kind, w, tw);
        norm_tangent_agrees(kind, w, NULL);
        norm_tangent_agrees(kind, NULL, NULL);
        if (sizeof(real) == 8) norm_tangent_agrees_with_its_own_backward(kind, w, tw);
    }
    free(w), free(tw);
}

/* Columns in two parts, with the norm's tangents: those of the whole, in both parts; the columns of both count once. */
static void tangents_of_a_norm_in_parts_are_those_of_the_norm(void **state)
{
    enum { CUT = 20, BOTH = 5, RIGHT = D - CUT + BOTH };
    static const size_t begin[2] = {0, CUT - BOTH}, width[2] = {CUT, RIGHT}, own[2] = {0, BOTH};
    real *x = random_reals(1, N * D), *tx = random_reals(6, N * D), *dy = random_reals(2, N * D), *y = noise(N * D), r[N];
    real tr[N], *txhat = noise(N * D), *tdx = noise(N * D), *hat[2], *that[2], *dx[2], *tdx2[2], tr2[2][N];
    double sum[2][N], along[2][N], talong[2][N], *got = calloc(N * D, sizeof *got), *want;
    math_fill(N * D, 0, tdx);
    norm_forward(NORM_RMS, N, D, x, NULL, NULL, EPS, y, NULL, r);
    norm_tangent(NORM_RMS, N, D, y, r, tx, txhat, tr);
    const struct norm_tangents whole = {y, txhat, r, tr, NULL, NULL};
    norm_backward_tangent(NORM_RMS, N, D, &whole, dy, tdx);
    for (int p = 0; p < 2; p++) {
        const size_t w = width[p];
        hat[p] = noise(N * w), that[p] = noise(N * w), dx[p] = noise(N * w), tdx2[p] = noise(N * w);
        columns_take(N, w, y + begin[p], D, hat[p]);
        columns_take(N, w, tx + begin[p], D, that[p]);
        columns_take(N, w, dy + begin[p], D, dx[p]);
        math_fill(N * w, 0, tdx2[p]);
        for (size_t i = 0; i < N; i++) /* in the columns of both, half the delta is here and half there */
            for (size_t c = 0; c < BOTH; c++) dx[p][i * w + (p ? c : CUT - BOTH + c)] /= 2;
        norm_part_inner(N, w, own[p], w - own[p], hat[p], that[p], sum[p]);
    }
    for (size_t i = 0; i < N; i++) sum[0][i] += sum[1][i];
    for (int p = 0; p < 2; p++) {
        norm_part_tangent(N, width[p], D, sum[0], hat[p], r, that[p], tr2[p]);
        norm_part_along(1, N, width[p], hat[p], dx[p], along[p]);
        norm_part_along(1, N, width[p], that[p], dx[p], talong[p]);
    }
    for (size_t i = 0; i < N; i++) along[0][i] += along[1][i], talong[0][i] += talong[1][i];
    for (int p = 0; p < 2; p++) {
        const struct norm_tangents part = {hat[p], that[p], r, tr2[p], NULL, NULL};
        const size_t w = width[p];
        norm_part_backward(1, N, w, D, own[p], w - own[p], hat[p], r, along[0], dx[p]);
        norm_part_backward_tangent(N, w, D, own[p], w - own[p], &part, along[0], talong[0], dx[p], tdx2[p]);
        for (size_t i = 0; i < N * w; i++) got[i / w * D + begin[p] + i % w] += tdx2[p][i];
        assert_true(error_of(N, tr2[p], (want = doubles(N, tr))) < 10 * TOL);
        free(want), free(hat[p]), free(that[p]), free(dx[p]), free(tdx2[p]);
    }
    want = doubles(N * D, tdx);
    assert_true(relative_error(N * D, got, want) < 10 * TOL);
    free(x), free(tx), free(dy), free(y), free(txhat), free(tdx), free(got), free(want);
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
            error[0] = worse(error[0], fabs(got - (double)dx[i * D + c]));
        }
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < RIGHT; c++)
            error[1] = worse(error[1], fabs((double)right[i * RIGHT + c] - (double)y[i * D + CUT - BOTH + c]));
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
        cmocka_unit_test(norm_tangents_agree_with_differences),
        cmocka_unit_test(tangents_of_a_norm_in_parts_are_those_of_the_norm),
        cmocka_unit_test(a_norm_in_parts_is_the_norm),
        cmocka_unit_test(norm_weight_gradients_are_adjoint_and_added),
        cmocka_unit_test(a_row_of_zeros_stays_finite),
        cmocka_unit_test(rotary_turns_pairs_and_leaves_the_rest),
        cmocka_unit_test(turning_back_is_inverse_and_adjoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
