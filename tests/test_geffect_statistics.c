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
    double *logit;
    TEST_OK(arena_new(1 << 18, &a));
    batch_pack(s->g.forget, 1, &row, OUTPUTS_LABELLED, &a, &b);
    TEST_OK(model_forward(s->g.model, s->g.weights, &b));
    logit = calloc(b.n_out * V + 1, sizeof *logit);
    for (size_t k = 0; k < b.n_out; k++)
        for (size_t v = 0; v < l->word_count; v++)
            logit[k * V + l->word_first + v] = (double)model_logits(s->g.model)[k * l->word_count + v];
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
        TEST_OK(engine_gradient(&s->g.engine, &o, &all, weight, s->gradient, want));
        TEST_OK(engine_losses(&s->g.engine, &o, &all, got));
        near_all(s, name[i], all.n, got, want);
    }
}

static void losses_are_those_of_the_gradient(void **state) { each_scene(check_losses); }

/* Slowly: the gradient of every row formed, squared and summed over its tensor. */
static double explicit_norm(struct scene *s, size_t row)
{
    struct objective nll = golden_objective("nll", NULL, 0);
    struct rows one = golden_rows(&s->g, s->g.forget);
    double weight = 1, loss, square[512], sum = 0;
    one.n = 1, one.row = &row;
    math_fill(s->g.layout->size, 0, s->gradient->data);
    TEST_OK(engine_gradient(&s->g.engine, &nll, &one, &weight, s->gradient, &loss));
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
        want[i] = explicit_norm(s, i);
        if (dataset_labels(all.data, i)) continue;
        assert_true(isnan(got[i])); /* nothing to differentiate: not a norm of 0 */
        got[i] = want[i];
    }
    near_all(s, "norms", all.n, got, want);
}

static void norms_are_those_of_gradients_formed_row_by_row(void **state) { each_scene(check_norms); }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_agree_with_the_whole_distribution),
        cmocka_unit_test(losses_are_those_of_the_gradient),
        cmocka_unit_test(norms_are_those_of_gradients_formed_row_by_row),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests(tests, scenes_open, scenes_close);
    parallel_end();
    return failed;
}
