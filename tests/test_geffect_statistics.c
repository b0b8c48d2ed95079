/* geffect: statistics of tokens, losses and norms of gradients without gradients.                     NP: 1 2 4 */
#include "scene.h"

/* relative to the largest value; float: sums over a few thousand products, and squares of norms */
static const double TOL = sizeof(real) == 8 ? 1e-10 : 1e-4;

static void each_scene(void (*check)(struct scene *s))
{
    for (size_t i = 0; i < n_scene; i++) check(&scenes[i]);
    if (!n_scene) skip();
}

static void near_all(const struct scene *s, const char *what, size_t n, const double *got, const double *want)
{
    const double error = relative_error(n, got, want);
    if (!(error <= TOL)) fail_msg("%s: %s differs by %.3g", s->what, what, error);
}

/* The plain twin: the whole distribution of one token, of slices gathered from all tensor ranks. */
struct plain {
    double nll, hit, z;
};

static struct plain plain_token(size_t V, const double *logit, size_t label)
{
    double max = -INFINITY, sum = 0, mean = 0, square = 0;
    size_t best = 0;
    for (size_t v = 0; v < V; v++)
        if (logit[v] > max) max = logit[v], best = v;
    for (size_t v = 0; v < V; v++) sum += exp(logit[v] - max);
    for (size_t v = 0; v < V; v++) {
        const double log_p = logit[v] - max - log(sum);
        mean += exp(log_p) * log_p;
        square += exp(log_p) * log_p * log_p;
    }
    const double log_p = logit[label] - max - log(sum);
    return (struct plain){-log_p, best == label, (log_p - mean) / sqrt(fmax(square - mean * mean, 1e-6))};
}

static void plain_row(struct scene *s, size_t row, struct plain *out)
{
    const struct layout *l = s->g.layout;
    const size_t V = s->g.shape->vocabulary;
    struct arena a;
    struct batch b;
    double *logit, *own;
    TEST_OK(arena_new(1 << 18, &a));
    batch_pack(s->g.forget, 1, &row, OUTPUTS_LABELLED, &a, &b);
    own = golden_logits(&s->g, &b);
    logit = calloc(b.n_out * V + 1, sizeof *logit);
    for (size_t k = 0; k < b.n_out; k++)
        for (size_t v = 0; v < l->word_count; v++) logit[k * V + l->word_first + v] = own[k * l->word_count + v];
    free(own);
    comm_sum_double(s->g.grid->tensor, logit, b.n_out * V);
    for (size_t k = 0; k < b.n_out; k++) out[k] = plain_token(V, logit + k * V, (size_t)b.out_id[k]);
    free(logit);
    arena_free(&a);
}

static void check_statistics(struct scene *s)
{
    const struct dataset *d = s->g.forget;
    const size_t n = s->g.label_first[d->n_row];
    struct rows all = golden_rows(&s->g, s->g.forget);
    double *x = calloc(6 * n + 1, sizeof *x);
    const struct token_statistics got = {x, x + n, x + 2 * n};
    struct plain *plain = calloc(n + 1, sizeof *plain);
    for (size_t i = 0; i < 3 * n; i++) x[i] = NAN; /* old content must not leak */
    TEST_OK(engine_statistics(&s->g.engine, &all, &got));
    for (size_t i = 0; i < d->n_row; i++) plain_row(s, i, plain + s->g.label_first[i]);
    for (size_t k = 0; k < n; k++) x[3 * n + k] = plain[k].nll, x[4 * n + k] = plain[k].hit, x[5 * n + k] = plain[k].z;
    near_all(s, "nll", n, x, x + 3 * n);
    near_all(s, "hit", n, x + n, x + 4 * n);
    near_all(s, "z", n, x + 2 * n, x + 5 * n);
    free(x), free(plain);
}

static void statistics_agree_with_the_whole_distribution(void **state) { each_scene(check_statistics); }

static void check_losses(struct scene *s)
{
    const char *name[] = {"nll", "npo", "kl"};
    for (int i = 0; i < 3; i++) {
        struct objective o = golden_objective(name[i], NULL, 0);
        struct rows all = golden_rows(&s->g, s->g.forget);
        double weight[64], want[64], got[64];
        rows_weights(&o, &all, weight);
        TEST_OK(engine_gradient(&s->g.engine, &o, &all, weight, true, s->gradient, want));
        TEST_OK(engine_losses(&s->g.engine, &o, &all, got));
        near_all(s, name[i], all.n, got, want);
    }
}

static void losses_are_those_of_the_gradient(void **state) { each_scene(check_losses); }

/* Slowly: the gradient of every row formed, squared and summed over its tensor. */
static double explicit_norm(struct scene *s, struct dataset *d, size_t row)
{
    struct objective nll = golden_objective("nll", NULL, 0);
    struct rows one = golden_rows(&s->g, d);
    double weight = 1, loss, square[512], sum = 0;
    one.n = 1, one.row = &row;
    math_fill(s->g.layout->size, 0, s->gradient->data);
    TEST_OK(engine_gradient(&s->g.engine, &nll, &one, &weight, true, s->gradient, &loss));
    TEST_OK(state_reduce(s->g.grid, s->gradient));
    state_dot(s->gradient, s->gradient, square);
    comm_sum_double(s->g.grid->tensor, square, s->g.layout->n_param);
    for (size_t i = 0; i < s->g.layout->n_param; i++) sum += sqrt(square[i]);
    return sum / (double)s->g.layout->n_param;
}

static void check_norms(struct scene *s)
{
    struct rows all = golden_rows(&s->g, s->g.forget);
    double got[64], want[64];
    TEST_OK(engine_norms(&s->g.engine, &all, got));
    for (size_t i = 0; i < all.n; i++) {
        want[i] = explicit_norm(s, s->g.forget, i);
        if (dataset_labels(all.data, i)) continue;
        assert_true(isnan(got[i])); /* nothing to differentiate: not a norm of 0 */
        got[i] = want[i];
    }
    near_all(s, "norms", all.n, got, want);
}

static void norms_are_those_of_gradients_formed_row_by_row(void **state) { each_scene(check_norms); }

/* Without its last two labels a row has the norm of a row that never had them. */
static void check_shortened(struct scene *s)
{
    struct rows all = golden_rows(&s->g, s->g.forget);
    struct dataset fewer = *s->g.forget;
    const size_t n = fewer.first[fewer.n_row];
    double got[64], want[64];
    fewer.label = malloc(n * sizeof *fewer.label);
    memcpy(fewer.label, s->g.forget->label, n * sizeof *fewer.label);
    for (size_t i = 0; i < fewer.n_row; i++)
        for (size_t t = fewer.first[i + 1], left = 2; left && t > fewer.first[i] + 1; t--)
            if (fewer.label[t - 1] != LABEL_NONE) fewer.label[t - 1] = LABEL_NONE, left--;
    all.drop = 2;
    TEST_OK(engine_norms(&s->g.engine, &all, got));
    for (size_t i = 0; i < all.n; i++) {
        want[i] = explicit_norm(s, &fewer, i);
        if (dataset_labels(&fewer, i)) continue;
        assert_true(isnan(got[i]));
        got[i] = want[i];
    }
    near_all(s, "norms without the last labels", all.n, got, want);
    free(fewer.label);
}

static void norms_may_leave_out_the_last_labels(void **state) { each_scene(check_shortened); }

/* ---- a token whose embedding is infinite: the rows that have it are not numbers, the others are what they were */
static bool row_has(const struct dataset *d, size_t row, int32_t id)
{
    for (size_t t = d->first[row]; t < d->first[row + 1]; t++)
        if (d->id[t] == id) return true;
    return false;
}

static void statistics_and_norms(struct scene *s, enum status want, double *x, double *norm)
{
    const size_t n = s->g.label_first[s->g.forget->n_row];
    const struct token_statistics out = {x, x + n, x + 2 * n};
    struct rows all = golden_rows(&s->g, s->g.forget);
    assert_int_equal(engine_statistics(&s->g.engine, &all, &out), want);
    fail_clear();
    assert_int_equal(engine_norms(&s->g.engine, &all, norm), want);
    fail_clear();
}

static void check_spoilt(struct scene *s)
{
    const struct dataset *d = s->g.forget;
    const size_t n = s->g.label_first[d->n_row];
    const struct param *p = layout_find(s->g.layout, 0, ROLE_EMBED);
    const int32_t id = d->id[d->first[0]];
    const size_t local = (size_t)id - p->piece[0].first;
    const bool here = (size_t)id >= p->piece[0].first && local < p->row_count;
    real *weight = s->g.weights->data + p->offset + (here ? local : 0) * p->col_count, old = *weight;
    double *before = calloc(6 * n + 1, sizeof *before), *after = before + 3 * n, norm[2][64];
    if (s->g.shape->tied) { /* the token's logit would be infinite everywhere */
        free(before);
        return;
    }
    statistics_and_norms(s, OK, before, norm[0]);
    if (here) *weight = INFINITY;
    statistics_and_norms(s, ERR_NUMERIC, after, norm[1]);
    *weight = old;
    for (size_t i = 0; i < d->n_row; i++) {
        const size_t at = s->g.label_first[i], m = s->g.label_first[i + 1] - at;
        const bool spoilt = row_has(d, i, id);
        if (!m) continue;
        assert_int_equal(isnan(norm[1][i]), spoilt);
        if (!spoilt) assert_near(norm[1][i], norm[0][i], TOL);
        for (size_t k = 0; k < 3 && !spoilt; k++) near_all(s, "a row beside", m, after + k * n + at, before + k * n + at);
        if (i == 0) /* its first token spoils all that follows */
            for (size_t k = 0; k < 3 * m; k++) assert_true(isnan(after[k / m * n + at + k % m]));
    }
    free(before);
}

static void a_row_that_is_not_finite_leaves_the_others_alone(void **state) { each_scene(check_spoilt); }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_agree_with_the_whole_distribution),
        cmocka_unit_test(losses_are_those_of_the_gradient),
        cmocka_unit_test(norms_are_those_of_gradients_formed_row_by_row),
        cmocka_unit_test(norms_may_leave_out_the_last_labels),
        cmocka_unit_test(a_row_that_is_not_finite_leaves_the_others_alone),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests(tests, scenes_open, scenes_close);
    parallel_end();
    return failed;
}
