/* math: embedding, rows picked, cross-entropy and divergence.        NP: 1 */
#include "math_cases.h"

/* ---- embedding */
static void an_embedding_of_slices_adds_up_to_the_whole(void **state)
{
    enum { N = 9, D = 300, V = 20, CUT = 7 };
    const int32_t id[N] = {0, 6, 7, 19, 7, 7, 3, 25, -1}; /* the last two are nobody's */
    real *table = random_reals(1, V * D), *low = noise(N * D), *high = noise(N * D), *dx = random_reals(2, N * D);
    real *dtable = random_reals(3, V * D), *before = random_reals(3, V * D);
    double *want = doubles(V * D, before), off = 0, all = 0;
    embedding_forward(N, D, id, 0, CUT, reals(table), low);
    embedding_forward(N, D, id, CUT, V - CUT, reals(table + CUT * D), high);
    for (size_t i = 0; i < N * D; i++) {
        int32_t t = id[i / D];
        assert_near(low[i] + high[i], t >= 0 && t < V ? table[(size_t)t * D + i % D] : 0, 0);
    }
    embedding_backward(N, D, id, 0, CUT, dx, reals(dtable));
    embedding_backward(N, D, id, CUT, V - CUT, dx, reals(dtable + CUT * D));
    for (size_t i = 0; i < N * D; i++)
        if (id[i / D] >= 0 && id[i / D] < V) want[(size_t)id[i / D] * D + i % D] += dx[i];
    assert_true(error_of(V * D, dtable, want) < TOL);
    uint16_t half[V * D];
    for (size_t i = 0; i < V * D; i++) half[i] = to_half((float)table[i]);
    embedding_forward(N, D, id, 0, V, (struct matrix){NULL, half}, low);
    for (size_t i = 0; i < N * D; i++)
        assert_near(low[i], id[i / D] >= 0 && id[i / D] < V ? (double)from_half(half[(size_t)id[i / D] * D + i % D]) : 0,
                    0);
    for (size_t i = 0; i < V * D; i++) half[i] = 0, want[i] -= (double)before[i];
    embedding_backward(N, D, id, 0, V, dx, (struct matrix){NULL, half});
    for (size_t i = 0; i < V * D; i++) assert_true(fabs((double)from_half(half[i]) - want[i]) < 0.04);
    for (half_turn = 1; half_turn < 4000; half_turn++)
        embedding_backward(N, D, id, 0, V, dx, (struct matrix){NULL, half});
    for (size_t i = 0; i < V * D; i++) {
        off += (double)from_half(half[i]) - 4000 * want[i], all += 4000 * fabs(want[i]);
        assert_true(fabs((double)from_half(half[i]) - 4000 * want[i]) < 0.3 * 4000 * fabs(want[i]) + 0.1);
    }
    assert_true(fabs(off) < 0.03 * all); /* to nearest, each would stand still at 256 to 512 times want */
    free(table), free(low), free(high), free(dx), free(dtable), free(before), free(want);
}

/* Of picked rows, written one behind the other for each j, spread in place over J * rows; and gathered from x. */
static void spread_and_gather(size_t rows, size_t picked, const size_t *row, size_t d, size_t J)
{
    real *x = random_reals(1, rows * d), *dy = random_reals(2, J * picked * d), *y = noise(picked * d);
    real *dx = noise(J * rows * d);
    math_copy(J * picked * d, dy, dx);
    rows_gather(picked, row, d, x, y);
    rows_spread(J, picked, row, d, rows, dx);
    for (size_t k = 0; k < picked; k++) assert_memory_equal(y + k * d, x + row[k] * d, d * sizeof *y);
    for (size_t j = 0; j < J; j++)
        for (size_t r = 0, k = 0; r < rows; r++) {
            const bool here = k < picked && row[k] == r;
            for (size_t c = 0; c < d; c++)
                assert_true(dx[(j * rows + r) * d + c] == (here ? dy[(j * picked + k) * d + c] : 0));
            k += here;
        }
    free(x), free(dy), free(y), free(dx);
}

static void rows_spread_where_they_were_gathered_from(void **state)
{
    enum { MANY = 900 };
    size_t all[MANY], odd[MANY / 2];
    for (size_t i = 0; i < MANY; i++) all[i] = i, odd[i / 2] = i;
    spread_and_gather(8, 3, (const size_t[]){0, 3, 7}, 5, 3);
    spread_and_gather(8, 2, (const size_t[]){6, 7}, 300, 2);
    spread_and_gather(8, 0, NULL, 5, 2);
    spread_and_gather(8, 8, all, 5, 2);
    spread_and_gather(MANY, MANY / 2, odd, 130, 2); /* worth a team */
}

/* ---- cross-entropy: a vocabulary in two slices, as two processes would hold it */
enum { N = 4, V = 103, CUT = 40 };
static const int32_t label[N] = {0, 39, 40, 102};

static double plain_lse(const double *z)
{
    double most = -INFINITY, sum = 0;
    for (size_t c = 0; c < V; c++) most = fmax(most, z[c]);
    for (size_t c = 0; c < V; c++) sum += exp(z[c] - most);
    return most + log(sum);
}

static real *slice(const real *z, size_t from, size_t v)
{
    real *part = noise(N * v);
    for (size_t k = 0; k < N; k++) math_copy(v, z + k * V + from, part + k * v);
    return part;
}

/* lse and nll of all rows from two slices, combined by max, sum, sum */
static void combine(const real *low, const real *high, const int32_t *id, double *lse, double *nll)
{
    double max[2][N], sum[2][N], z[2][N];
    logits_max(N, CUT, low, max[0]);
    logits_max(N, V - CUT, high, max[1]);
    for (size_t k = 0; k < N; k++) max[0][k] = fmax(max[0][k], max[1][k]);
    logits_sum(N, CUT, low, max[0], sum[0]);
    logits_sum(N, V - CUT, high, max[0], sum[1]);
    logits_pick(N, CUT, 0, low, id, z[0]);
    logits_pick(N, V - CUT, CUT, high, id, z[1]);
    for (size_t k = 0; k < N; k++) {
        lse[k] = max[0][k] + log(sum[0][k] + sum[1][k]);
        nll[k] = lse[k] - z[0][k] - z[1][k];
    }
}

static double nll_loss(const double *z, const void *more)
{
    const double *coef = more;
    double loss = 0;
    for (size_t k = 0; k < N; k++) loss += coef[k] * (plain_lse(z + k * V) - z[k * V + (size_t)label[k]]);
    return loss;
}

static void cross_entropy_of_two_slices_agrees_with_differences(void **state)
{
    const double coef[N] = {1, -0.5, 2, 0};
    real *z = random_reals(1, N * V), *low, *high;
    double lse[N], nll[N], slope[N * V], *at;
    for (size_t i = 0; i < N * V; i++) z[i] *= 4;
    low = slice(z, 0, CUT), high = slice(z, CUT, V - CUT), at = doubles(N * V, z);
    combine(low, high, label, lse, nll);
    for (size_t k = 0; k < N; k++) assert_near(nll[k], plain_lse(at + k * V) - at[k * V + (size_t)label[k]], TOL / 10);
    differences(nll_loss, coef, N * V, at, slope);
    logits_backward(N, CUT, 0, low, lse, label, coef, low); /* in place */
    logits_backward(N, V - CUT, CUT, high, lse, label, coef, high);
    for (size_t k = 0; k < N; k++) {
        for (size_t c = 0; c < CUT; c++) assert_near(low[k * CUT + c], slope[k * V + c], TOL_DIFFERENCE);
        for (size_t c = CUT; c < V; c++) assert_near(high[k * (V - CUT) + c - CUT], slope[k * V + c], TOL_DIFFERENCE);
    }
    free(z), free(low), free(high), free(at);
}

static void rows_without_label_have_no_gradient(void **state)
{
    const int32_t id[N] = {-1, -100, 5, -1};
    const double coef[N] = {1, 1, 1, 1};
    double lse[N], picked[N] = {NAN, NAN, NAN, NAN};
    real *z = random_reals(1, N * V), *dz = noise(N * V);
    for (size_t k = 0; k < N; k++) lse[k] = 5;
    logits_pick(N, V, 0, z, id, picked);
    logits_backward(N, V, 0, z, lse, id, coef, dz);
    for (size_t k = 0; k < N; k++) {
        assert_near(picked[k], k == 2 ? z[2 * V + 5] : 0, 0);
        for (size_t c = 0; c < V; c++) assert_true(k == 2 ? dz[k * V + c] != 0 : dz[k * V + c] == 0);
    }
    free(z), free(dz);
}

static void an_empty_slice_has_no_share(void **state)
{
    double max[2] = {1, 1}, sum[2] = {1, 1}, z[2] = {1, 1}, loss[2] = {1, 1}, one[2] = {1, 1};
    logits_max(2, 0, NULL, max);
    assert_true(max[0] == -INFINITY && max[1] == -INFINITY);
    logits_sum(2, 0, NULL, one, sum);
    logits_pick(2, 0, 7, NULL, (int32_t[]){7, 0}, z);
    logits_backward(2, 0, 7, NULL, one, (int32_t[]){7, 0}, one, NULL);
    logits_toward(2, 0, 7, NULL, one, (int32_t[]){7, 0}, &(struct logits_target){NULL, one, 1, false}, one, loss, NULL);
    for (int k = 0; k < 2; k++) assert_true(sum[k] == 0 && z[k] == 0 && loss[k] == 0);
}

/* 90 nats from the truth: what a destroyed model reaches */
static void nothing_overflows_at_ninety_nats(void **state)
{
    real z[V], dz[V], at[V];
    double max, sum, lse, loss, coef = 1;
    const int32_t id = 3;
    math_fill(V, -200, z);
    z[7] = 60;
    logits_max(1, V, z, &max);
    logits_sum(1, V, z, &max, &sum);
    lse = max + log(sum);
    assert_near(lse, 60, 1e-15);
    logits_backward(1, V, 0, z, &lse, &id, &coef, dz);
    assert_near(dz[3], -1, 0);
    assert_near(dz[7], 1, 1e-7);
    logits_toward(1, V, 0, z, &lse, &id, &(struct logits_target){z, &lse, 0, true}, &coef, &loss, dz);
    assert_near(loss, 0, 0);
    z[3] = -INFINITY; /* a token taken out of the target */
    math_copy(V, dz, at);
    logits_toward(1, V, 0, at, &(double){log(V)}, &id, &(struct logits_target){z, &lse, 0, true}, &coef, &loss, dz);
    assert_true(isfinite(loss) && math_finite(V, dz));
}

struct divergence_case {
    const double *other, *coef;
};

static double divergence_loss(const double *z, const void *more)
{
    const struct divergence_case *o = more;
    double loss = 0;
    for (size_t k = 0; k < N; k++) {
        double lp = plain_lse(z + k * V), lq = plain_lse(o->other + k * V), kl = 0;
        for (size_t c = 0; c < V; c++) {
            double log_q = o->other[k * V + c] - lq;
            kl += exp(log_q) * (log_q - (z[k * V + c] - lp));
        }
        loss += o->coef[k] * kl;
    }
    return loss;
}

static void divergence_agrees_with_differences(void **state)
{
    const double coef[N] = {1, -0.5, 2, 0};
    const int32_t none[N] = {-1, -1, -1, -1};
    real *z = random_reals(1, N * V), *y = random_reals(2, N * V), *dz = noise(N * V);
    double lse[N], other[N], loss[N] = {NAN}, total = 0, slope[N * V], *at = doubles(N * V, z), *at_y = doubles(N * V, y);
    struct divergence_case o = {at_y, coef};
    for (size_t k = 0; k < N; k++) lse[k] = plain_lse(at + k * V), other[k] = plain_lse(at_y + k * V);
    logits_toward(N, V, 0, z, lse, none, &(struct logits_target){y, other, 0, true}, coef, loss, dz);
    for (size_t k = 0; k < N; k++) total += coef[k] * loss[k];
    assert_near(total, divergence_loss(at, &o), TOL);
    differences(divergence_loss, &o, N * V, at, slope);
    for (size_t i = 0; i < N * V; i++) assert_near(dz[i], slope[i], TOL_DIFFERENCE);
    logits_toward(N, V, 0, y, other, none, &(struct logits_target){y, other, 0, true}, coef, loss, dz);
    for (size_t k = 0; k < N; k++) assert_near(loss[k], 0, 0); /* of a distribution from itself: exactly none */
    for (size_t i = 0; i < N * V; i++) assert_near(dz[i], 0, 0);
    free(z), free(y), free(dz), free(at), free(at_y);
}

/* ---- mean and variance of log p, of two slices */
static void moments_of_two_slices_are_those_of_the_whole(void **state)
{
    real *z = random_reals(6, N * V), *low, *high;
    double lse[N], sum[2][N], mean[N], want_mean[N] = {0}, want[N] = {0}, *at;
    for (size_t c = 0; c < V; c++) z[V + c] *= 20, z[2 * V + c] *= (real)1e-3; /* nearly sure; nearly flat */
    for (size_t c = 0; c < V; c += 2) z[3 * V + c] = -INFINITY;
    at = doubles(N * V, z), low = slice(z, 0, CUT), high = slice(z, CUT, V - CUT);
    for (size_t k = 0; k < N; k++) lse[k] = plain_lse(at + k * V);
    for (size_t k = 0; k < N; k++)
        for (size_t c = 0; c < V; c++)
            if (isfinite(at[k * V + c])) want_mean[k] += exp(at[k * V + c] - lse[k]) * (at[k * V + c] - lse[k]);
    for (size_t k = 0; k < N; k++)
        for (size_t c = 0; c < V; c++)
            if (isfinite(at[k * V + c]))
                want[k] += exp(at[k * V + c] - lse[k]) * pow(at[k * V + c] - lse[k] - want_mean[k], 2);
    for (int power = 1; power <= 2; power++) {
        logits_moment(N, CUT, low, lse, power == 2 ? mean : NULL, power, sum[0]);
        logits_moment(N, V - CUT, high, lse, power == 2 ? mean : NULL, power, sum[1]);
        for (size_t k = 0; k < N; k++) {
            const double got = sum[0][k] + sum[1][k], wanted = power == 1 ? want_mean[k] : want[k];
            assert_true(fabs(got - wanted) <= 30 * TOL * fabs(wanted) + 1e-300);
            if (power == 1) mean[k] = got;
        }
    }
    free(z), free(low), free(high), free(at);
}

/* sum_v p t of two slices, for two directions. */
static void means_of_two_slices_are_those_of_the_whole(void **state)
{
    real *z = random_reals(6, N * V), *t = random_reals(8, 2 * N * V), *part[2][3];
    double lse[N], sum[2][2 * N], *at, *along = doubles(2 * N * V, t);
    for (size_t c = 0; c < V; c++) z[V + c] *= 20, z[2 * V + c] *= (real)1e-3; /* nearly sure; nearly flat */
    at = doubles(N * V, z);
    for (size_t k = 0; k < N; k++) lse[k] = plain_lse(at + k * V);
    for (int s = 0; s < 2; s++) {
        const size_t first = s ? CUT : 0, n = s ? V - CUT : CUT;
        real *both = malloc(2 * N * n * sizeof *both);
        for (int i = 0; i < 3; i++) part[s][i] = slice(i ? t + (size_t)(i - 1) * N * V : z, first, n);
        for (size_t k = 0; k < 2; k++) memcpy(both + k * N * n, part[s][1 + k], N * n * sizeof *both);
        logits_mean(2, N, n, part[s][0], lse, both, sum[s]);
        free(both);
        for (int i = 0; i < 3; i++) free(part[s][i]);
    }
    for (size_t k = 0; k < 2 * N; k++) {
        double want = 0;
        for (size_t c = 0; c < V; c++) want += exp(at[k % N * V + c] - lse[k % N]) * along[k * V + c];
        assert_true(fabs(sum[0][k] + sum[1][k] - want) <= 10 * TOL);
    }
    free(z), free(t), free(at), free(along);
}

/* The backward of (largest - mean), in two slices, against central differences. */
static void a_peak_over_slices_agrees_with_differences(void **state)
{
    enum { WORDS = 20, SLICE = 8 };
    const double h = 1e-3, coef = 0.7, tol = sizeof(real) == 8 ? 1e-10 : 1e-3;
    real z[WORDS], dz[WORDS];
    const int32_t id = 13;
    double total[2], mean;
    for (size_t i = 0; i < WORDS; i++) z[i] = (real)(i % 5) - (real)(i % 3);
    z[id] = 9;
    logits_total(1, SLICE, z, &total[0]);
    logits_total(1, WORDS - SLICE, z + SLICE, &total[1]);
    logits_peak_backward(1, SLICE, 0, &id, &coef, WORDS, dz);
    logits_peak_backward(1, WORDS - SLICE, SLICE, &id, &coef, WORDS, dz + SLICE);
    for (size_t i = 0; i < WORDS; i++) {
        double value[2];
        for (int k = 0; k < 2; k++) {
            real moved[WORDS];
            memcpy(moved, z, sizeof z);
            moved[i] = (real)((double)z[i] + (k ? h : -h));
            logits_total(1, WORDS, moved, &mean);
            value[k] = coef * ((double)moved[id] - mean / WORDS);
        }
        assert_near((double)dz[i], (value[1] - value[0]) / (2 * h), tol);
    }
    logits_total(1, WORDS, z, &mean);
    assert_near(total[0] + total[1], mean, 1e-12);
}

static void threads_do_not_change_a_bit(void **state)
{
    enum { ROWS = 64, WIDE = 1000 };
    real *z = random_reals(1, ROWS * WIDE), *dz[2] = {noise(ROWS * WIDE), noise(ROWS * WIDE)};
    double max[2][ROWS], sum[2][ROWS], coef[ROWS];
    int32_t id[ROWS];
    for (size_t k = 0; k < ROWS; k++) id[k] = (int32_t)k, coef[k] = 1;
    for (int i = 0; i < 2; i++) {
        math_threads(i + 1);
        logits_max(ROWS, WIDE, z, max[i]);
        logits_sum(ROWS, WIDE, z, max[i], sum[i]);
        logits_backward(ROWS, WIDE, 0, z, sum[i], id, coef, dz[i]);
    }
    math_threads(1);
    assert_memory_equal(max[0], max[1], sizeof max[0]);
    assert_memory_equal(sum[0], sum[1], sizeof sum[0]);
    assert_memory_equal(dz[0], dz[1], ROWS * WIDE * sizeof(real));
    free(z), free(dz[0]), free(dz[1]);
}

static void the_best_token_is_the_lowest_of_equal_ones(void **state)
{
    enum { WORDS = 50 };
    real z[3 * WORDS];
    double best[3][2];
    for (size_t i = 0; i < WORDS; i++) z[i] = (real)(i % 7), z[WORDS + i] = -3, z[2 * WORDS + i] = (real)NAN;
    logits_best(3, WORDS, 100, z, best);
    assert_true(best[0][0] == 6 && best[0][1] == 106);
    assert_true(best[1][0] == -3 && best[1][1] == 100);
    assert_true(best[2][0] == -INFINITY);
}

/* Sweeping u evenly over [0, 1) must give every token its share. */
static void draws_have_the_probabilities_of_the_softmax(void **state)
{
    enum { WORDS = 40, DRAWS = 100000 };
    static const double temperature[] = {0.3, 1, 2.5}, top_p[] = {1, 0.8, 0.05};
    real *z = random_reals(1, WORDS);
    struct candidate *scratch = malloc(WORDS * sizeof *scratch);
    for (int c = 0; c < 9; c++) {
        const double T = temperature[c / 3], share = top_p[c % 3];
        double p[WORDS], count[WORDS] = {0}, sum = 0, inside = 0;
        bool kept[WORDS];
        for (size_t i = 0; i < WORDS; i++) sum += p[i] = exp(z[i] / T);
        for (size_t i = 0; i < WORDS; i++) { /* kept: what is more probable does not have the share yet */
            double above = 0;
            for (size_t k = 0; k < WORDS; k++) above += p[k] > p[i] ? p[k] / sum : 0;
            kept[i] = above < share;
            inside += kept[i] ? p[i] : 0;
        }
        for (size_t n = 0; n < DRAWS; n++) count[logits_draw(WORDS, z, T, share, (double)n / DRAWS, scratch)]++;
        for (size_t i = 0; i < WORDS; i++)
            assert_true(fabs(count[i] / DRAWS - (kept[i] ? p[i] / inside : 0)) <= 2.0 / DRAWS);
    }
    free(z), free(scratch);
}

static void a_draw_at_any_end_is_a_token_that_can_be(void **state)
{
    const real z[] = {-2000, 0, 0, -2000}, one[] = {5};
    struct candidate scratch[4];
    const double last = 1 - 0x1p-53;
    assert_int_equal(logits_draw(4, z, 1, 1, 0, scratch), 1);
    assert_int_equal(logits_draw(4, z, 1, 1, last, scratch), 2);
    assert_int_equal(logits_draw(4, z, 1, 0.5, last, scratch), 1); /* of equal ones the lower */
    assert_int_equal(logits_draw(4, z, 1, 1e-9, last, scratch), 1);
    assert_int_equal(logits_draw(1, one, 1e-300, 1, 0.5, scratch), 0);
}

/* From far below the cap to far above: both sides of tanh, in value and slope. */
static void capped_logits_are_cap_tanh_and_their_backward_its_slope(void **state)
{
    enum { ROWS = 3, WORDS = 997, J = 2 };
    const double cap = 3;
    real *z = noise(ROWS * WORDS), *dz = random_reals(2, J * ROWS * WORDS), *before = random_reals(2, J * ROWS * WORDS);
    for (size_t i = 0; i < ROWS * WORDS; i++)
        z[i] = (real)(pow(10, -6 + 8.0 * (double)i / (ROWS * WORDS)) * (i % 2 ? 1 : -1));
    real *at = noise(ROWS * WORDS);
    math_copy(ROWS * WORDS, z, at);
    logits_cap(ROWS, WORDS, cap, z);
    logits_cap_backward(J, ROWS, WORDS, cap, z, dz);
    for (size_t i = 0; i < ROWS * WORDS; i++) {
        const double t = tanh(at[i] / cap), slope = 1 - t * t;
        if (!(fabs(z[i] - cap * t) <= TOL * fabs(cap * t))) fail_msg("cap of %g: %.9g", (double)at[i], (double)z[i]);
        for (size_t j = 0; j < J; j++)
            assert_near(dz[j * ROWS * WORDS + i], before[j * ROWS * WORDS + i] * slope, 2 * TOL);
    }
    z[0] = (real)NAN;
    logits_cap(1, 1, cap, z);
    assert_true(isnan(z[0]));
    free(z), free(dz), free(before), free(at);
}

/* Two slices of a vocabulary, coefficients that move too, capped logits: differences of the two backwards, one after the
 * other as in the model. The sums over the slices are added by hand. */
struct capped_case {
    double cap;
    const double *coef, *tcoef;
    const int32_t *id;
};
enum { TROWS = 4, TWORDS = 40, TCUT = 15 };

static void capped_slope(const struct capped_case *o, double h, const double *u, const real *tu, double *du)
{
    for (size_t k = 0; k < TROWS; k++) {
        double z[TWORDS], sum = 0;
        for (size_t i = 0; i < TWORDS; i++) {
            z[i] = o->cap * tanh((u[k * TWORDS + i] + h * tu[k * TWORDS + i]) / o->cap);
            sum += exp(z[i]);
        }
        for (size_t i = 0; i < TWORDS; i++)
            du[k * TWORDS + i] = o->id[k] < 0
                                     ? 0
                                     : (o->coef[k] + h * o->tcoef[k]) * (exp(z[i]) / sum - ((size_t)o->id[k] == i)) *
                                           (1 - z[i] / o->cap * (z[i] / o->cap));
    }
}

static void tangents_of_cross_entropy_and_cap_agree_with_differences(void **state)
{
    const int32_t id[TROWS] = {3, 20, -1, 39};
    const double coef[TROWS] = {1, -2, 3, 0.5}, tcoef[TROWS] = {0.7, 1, 1, -3}, h = 1e-4, cap = 2;
    const struct capped_case o = {cap, coef, tcoef, id};
    real *u = random_reals(1, TROWS * TWORDS), *tu = random_reals(2, TROWS * TWORDS);
    double *at = doubles(TROWS * TWORDS, u), up[TROWS * TWORDS], down[TROWS * TWORDS], got[TROWS * TWORDS];
    double max[2][TROWS], sum[2][TROWS], lse[TROWS], tlse[2][TROWS];
    real *z[2], *tz[2];
    for (int p = 0; p < 2; p++) {
        const size_t first = p ? TCUT : 0, v = p ? TWORDS - TCUT : TCUT;
        z[p] = noise(TROWS * v), tz[p] = noise(TROWS * v);
        columns_take(TROWS, v, u + first, TWORDS, z[p]);
        columns_take(TROWS, v, tu + first, TWORDS, tz[p]);
        logits_cap(TROWS, v, cap, z[p]);
        logits_cap_backward(1, TROWS, v, cap, z[p], tz[p]); /* diagonal: it is its own tangent */
        logits_max(TROWS, v, z[p], max[p]);
    }
    for (size_t k = 0; k < TROWS; k++) max[0][k] = fmax(max[0][k], max[1][k]);
    for (int p = 0; p < 2; p++) logits_sum(TROWS, p ? TWORDS - TCUT : TCUT, z[p], max[0], sum[p]);
    for (size_t k = 0; k < TROWS; k++) lse[k] = max[0][k] + log(sum[0][k] + sum[1][k]);
    for (int p = 0; p < 2; p++) logits_mean(1, TROWS, p ? TWORDS - TCUT : TCUT, z[p], lse, tz[p], tlse[p]);
    for (size_t k = 0; k < TROWS; k++) tlse[0][k] += tlse[1][k];
    for (int p = 0; p < 2; p++) {
        const size_t first = p ? TCUT : 0, v = p ? TWORDS - TCUT : TCUT;
        real *dz = noise(TROWS * v), *tdz = noise(TROWS * v);
        const struct logits_tangents t = {tz[p], tlse[0], tcoef};
        logits_backward(TROWS, v, first, z[p], lse, id, coef, dz);
        logits_backward_tangent(TROWS, v, first, z[p], lse, id, coef, &t, tdz);
        logits_cap_backward(1, TROWS, v, cap, z[p], tdz);
        logits_cap_backward_tangent(TROWS, v, cap, z[p], tz[p], dz, tdz);
        for (size_t i = 0; i < TROWS * v; i++) got[i / v * TWORDS + first + i % v] = tdz[i];
        free(dz), free(tdz);
    }
    capped_slope(&o, h, at, tu, up);
    capped_slope(&o, -h, at, tu, down);
    for (size_t i = 0; i < TROWS * TWORDS; i++) up[i] = (up[i] - down[i]) / (2 * h);
    assert_true(relative_error(TROWS * TWORDS, got, up) < (sizeof(real) == 8 ? 1e-7 : 1e-5));
    for (int p = 0; p < 2; p++) free(z[p]), free(tz[p]);
    free(u), free(tu), free(at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_embedding_of_slices_adds_up_to_the_whole),
        cmocka_unit_test(rows_spread_where_they_were_gathered_from),
        cmocka_unit_test(cross_entropy_of_two_slices_agrees_with_differences),
        cmocka_unit_test(rows_without_label_have_no_gradient),
        cmocka_unit_test(an_empty_slice_has_no_share),
        cmocka_unit_test(nothing_overflows_at_ninety_nats),
        cmocka_unit_test(divergence_agrees_with_differences),
        cmocka_unit_test(moments_of_two_slices_are_those_of_the_whole),
        cmocka_unit_test(means_of_two_slices_are_those_of_the_whole),
        cmocka_unit_test(a_peak_over_slices_agrees_with_differences),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(the_best_token_is_the_lowest_of_equal_ones),
        cmocka_unit_test(draws_have_the_probabilities_of_the_softmax),
        cmocka_unit_test(capped_logits_are_cap_tanh_and_their_backward_its_slope),
        cmocka_unit_test(tangents_of_cross_entropy_and_cap_agree_with_differences),
        cmocka_unit_test(a_draw_at_any_end_is_a_token_that_can_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
