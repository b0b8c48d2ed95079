/* geffect: effects of instances on instances against gradients of single rows, in every layout.          NP: 1 2 4 */
#include "alone.h"
#include "golden.h"
#include "model_files.h"
#include "unlearn/geffect_priv.h"

/* relative to the largest of a layer; between layouts the order of sums differs alone. Float: products of sums of some hundred
 * products, which cancel where two rows have little in common. */
static const double TOL = sizeof(real) == 8 ? 1e-8 : 1e-4, TOL_LAYOUT = sizeof(real) == 8 ? 1e-10 : 1e-4;
static const char *const models[] = {"llama",    "llama3",   "mistral", "qwen2",  "phi",
                                     "gpt_neox", "stablelm", "phi3",    "gemma2", "gemma3"};
enum {
    N_MODEL = sizeof models / sizeof *models,
    GOLDEN_TOKENS = 300,
    MADE_TOKENS = 20,
    MOST_J = 3,
    I = 4,
    P = 5,
    LONGEST = 9
};

/* ------------------------------------------------------------------------------------------- models and rows ------- */
static struct dataset *made_rows(uint64_t seed, size_t n, size_t vocabulary)
{
    struct dataset *d = calloc(1, sizeof *d);
    d->path = strdup("made");
    d->n_row = n;
    d->first = calloc(n + 1, sizeof *d->first);
    d->end = calloc(n, sizeof *d->end);
    d->id = calloc(n * LONGEST, sizeof *d->id);
    d->label = calloc(n * LONGEST, sizeof *d->label);
    for (size_t i = 0, t = 0; i < n; i++) {
        const size_t length = 3 + random_below(seed, STREAM_TEST, i, LONGEST - 2);
        for (size_t k = 0; k < length; k++, t++) {
            d->id[t] = (int32_t)random_below(seed, STREAM_TEST, 1000 + t, vocabulary / 3) + 1; /* ids meet often */
            d->label[t] = i == 2 || k <= length / 3 ? LABEL_NONE : d->id[t];
        }
        d->first[i + 1] = t;
    }
    return d;
}

/* A number for each element of the model, whatever the layout. */
static void draw_weights(struct state *s, uint64_t seed)
{
    for (size_t i = 0; i < s->layout->n_param; i++) {
        const struct param *p = &s->layout->param[i];
        real *x = s->data + p->offset;
        for (size_t r = 0; r < p->row_count; r++)
            for (size_t c = 0; c < p->col_count; c++)
                *x++ =
                    (real)(0.3 * random_normal(seed, STREAM_TEST,
                                               ((uint64_t)i << 40) + (param_global_row(p, r) << 20) + p->col_first + c));
    }
}

static void made_open(const char *kind, struct golden *g)
{
    g->shape = shape_with(kind);
    assert_non_null(g->shape);
    g->forget = made_rows(1, 6, g->shape->vocabulary);
    g->retain = made_rows(2, 7, g->shape->vocabulary);
    TEST_OK(layout_new(g->shape, g->grid->tensor_rank, g->grid->tensor_size, &g->layout));
    TEST_OK(state_new("weights", g->layout, &g->weights));
    TEST_OK(state_new("reference", g->layout, &g->reference));
    draw_weights(g->weights, 7);
    draw_weights(g->reference, 8);
    golden_ready(g, MOST_J, P, MADE_TOKENS, true);
}

/* Model m of the golden ones, then of those made, over g->grid; false: the material is absent. */
static bool model_open(size_t m, struct golden *g)
{
    if (m >= N_MODEL) {
        made_open(further_kinds[m - N_MODEL], g);
        return true;
    }
    if (!golden_read(models[m], g)) return false;
    golden_ready(g, MOST_J, P, GOLDEN_TOKENS, true);
    return true;
}

/* --------------------------------------------------------------------------------------------------- results ------- */
/* out [J][layer][i][p], with blocks of at most so many tokens */
static void pairs_of(struct golden *g, size_t J, const struct objective *o, const struct rows *r, const struct rows *with,
                     size_t tokens, double *out)
{
    const struct layout *l = g->layout;
    const struct pairs_limits most = {.rows = with->n, .tokens = tokens, .outputs = tokens, .sequences = with->n};
    const size_t size = J * l->n_layer * r->n * with->n;
    size_t group[512], blocks;
    struct pairs *w;
    assert_true(slot_count(l) <= 512);
    for (size_t s = 0; s < slot_count(l); s++) group[s] = slot_layer(l, s);
    memset(out, 0, size * sizeof *out);
    TEST_OK(pairs_new(&g->engine, &most, &w, NULL));
    blocks = pairs_share(w, &g->engine, with);
    for (size_t b = 0; b < blocks; b++) {
        TEST_OK(pairs_keep(w, b));
        TEST_OK(pairs_add(w, J, o, r, l->n_layer, group, out));
    }
    comm_sum_double(g->grid->world, out, size);
    pairs_free(w);
}

static void one_gradient(struct golden *g, const struct objective *o, const struct rows *r, size_t i, struct state *to)
{
    struct rows one = *r;
    double weight = 1, loss;
    one.n = 1, one.row = r->row + i;
    math_fill(g->layout->size, 0, to->data);
    TEST_OK(engine_gradient(&g->engine, o, &one, &weight, true, to, &loss));
    TEST_OK(state_reduce(g->grid, to));
}

static void near_layers(const struct golden *g, const char *what, const char *twin, size_t J, size_t each,
                        const double *got, const double *want, double tolerance)
{
    char name[32];
    for (size_t jl = 0; jl < J * g->layout->n_layer; jl++) {
        const double error = relative_error(each, got + jl * each, want + jl * each);
        if (!(error <= tolerance))
            fail_msg("%s: objective %zu, layer %s differs from %s by %.3g", what, jl / g->layout->n_layer,
                     layer_name(g->layout, jl % g->layout->n_layer, name), twin, error);
    }
}

/* Slowly: both gradients formed, and multiplied tensor by tensor. Of a tied embedding this knows the sum of both uses. */
static void check_gradients(struct golden *g, const char *what, size_t J, const struct objective *o, const struct rows *r,
                            const struct rows *with, const double *got)
{
    const struct layout *l = g->layout;
    const struct objective nll = golden_objective("nll", NULL, 0);
    const size_t each = r->n * with->n, size = J * l->n_layer * each, last = l->n_layer - 1;
    double *want = calloc(size, sizeof *want), *mine = malloc(size * sizeof *mine),
           *dot = calloc(l->n_param, sizeof *dot);
    struct state *a, *b;
    TEST_OK(state_new("gradient", l, &a));
    TEST_OK(state_new("gradient", l, &b));
    for (size_t p = 0; p < with->n; p++) {
        one_gradient(g, &nll, with, p, b);
        for (size_t ji = 0; ji < J * r->n; ji++) {
            one_gradient(g, &o[ji / r->n], r, ji % r->n, a);
            state_dot(a, b, dot);
            comm_sum_double(g->grid->tensor, dot, l->n_param);
            for (size_t k = 0; k < l->n_param; k++)
                want[((ji / r->n * l->n_layer + l->param[k].layer) * r->n + ji % r->n) * with->n + p] += dot[k];
        }
    }
    memcpy(mine, got, size * sizeof *mine);
    for (size_t j = 0; j < J && l->shape->tied; j++)
        for (size_t k = 0; k < each; k++) {
            mine[j * l->n_layer * each + k] += mine[(j * l->n_layer + last) * each + k];
            mine[(j * l->n_layer + last) * each + k] = 0;
        }
    near_layers(g, what, "gradients formed", J, each, mine, want, TOL);
    state_free(a), state_free(b);
    free(want), free(mine), free(dot);
}

/* As effects on risks of a single row each; the sums over rows p with a risk's weights are the effects on that risk. */
static void check_effects(struct golden *g, const char *what, size_t J, const struct objective *o, const struct rows *r,
                          const struct rows *with, const double *got)
{
    const struct layout *l = g->layout;
    const struct objective nll = golden_objective("nll", NULL, 0);
    const size_t slots = slot_count(l), n = r->n, K = with->n + 1, each = n * with->n;
    double *e = calloc(J * K * slots * n, sizeof *e), *want = calloc(J * l->n_layer * each, sizeof *want),
           loss[64 * MOST_J];
    double *sum = calloc(J * l->n_layer * n, sizeof *sum), *total = calloc(J * l->n_layer * n, sizeof *total), weight[64];
    struct state *risk[P + 1];
    rows_weights(&nll, with, weight);
    for (size_t k = 0; k < K; k++) TEST_OK(state_new("gradient", l, &risk[k]));
    for (size_t p = 0; p < with->n; p++) one_gradient(g, &nll, with, p, risk[p]);
    TEST_OK(engine_gradient(&g->engine, &nll, with, weight, true, risk[with->n], loss));
    TEST_OK(state_reduce(g->grid, risk[with->n]));
    for (size_t k = 0; k < K; k += P) { /* as many risks as the engine has room for */
        const size_t some = K - k < P ? K - k : P;
        TEST_OK(engine_effects(&g->engine, J, o, r, some, some, risk + k, e, loss, loss + 32 * MOST_J));
        for (size_t j = 0; j < J; j++)
            for (size_t q = 0; q < some; q++)
                for (size_t s = 0; s < slots; s++)
                    for (size_t i = 0; i < n; i++) {
                        const double x = e[((j * some + q) * slots + s) * n + i];
                        const size_t at = (j * l->n_layer + slot_layer(l, s)) * n + i;
                        if (k + q < with->n)
                            want[at * with->n + k + q] += x;
                        else
                            total[at] += x;
                    }
    }
    for (size_t at = 0; at < J * l->n_layer * n; at++)
        for (size_t p = 0; p < with->n; p++) sum[at] += weight[p] * got[at * with->n + p];
    near_layers(g, what, "effects on single rows", J, each, got, want, TOL);
    near_layers(g, what, "the effect on their risk", J, n, sum, total, TOL);
    for (size_t k = 0; k < K; k++) state_free(risk[k]);
    free(e), free(want), free(sum), free(total);
}

/* Three objectives, one of which reads the reference; rows out of order; one has no label (made models). */
struct question {
    struct objective o[MOST_J];
    struct rows r, with;
};
static struct question question_of(struct golden *g)
{
    static const size_t i[I] = {3, 0, 2, 1}, p[P] = {4, 1, 2, 0, 3};
    struct question q = {.o = {golden_objective("ga", NULL, 0), golden_objective("npo", "beta", 0.05),
                               golden_objective("undial", NULL, 0)},
                         .r = golden_rows(g, g->forget),
                         .with = golden_rows(g, g->retain)};
    q.r.n = q.r.n < I ? q.r.n : I, q.r.row = i;
    q.with.n = q.with.n < P ? q.with.n : P, q.with.row = p;
    assert_true(q.r.n == I && q.with.n == P);
    return q;
}

/* What a process finds by itself is the measure of all layouts. */
static void check_model(size_t m)
{
    const char *kind = m < N_MODEL ? models[m] : further_kinds[m - N_MODEL];
    double *alone = NULL, *got = NULL;
    for (int tensor = 0; tensor <= parallel_job_size(); tensor++) {
        struct golden g = {.grid = NULL};
        struct question q;
        char what[256];
        size_t size, tokens;
        if (tensor && parallel_job_size() % tensor) continue;
        snprintf(what, sizeof what, "%.200s, tensor %d of %d", kind, tensor, parallel_job_size());
        if (tensor)
            TEST_OK(grid_new(parallel_job_size() / tensor, tensor, &g.grid));
        else
            g.grid = grid_alone();
        if (!model_open(m, &g)) skip();
        q = question_of(&g), tokens = g.engine.tokens;
        size = MOST_J * g.layout->n_layer * I * P;
        if (!alone) alone = calloc(size, sizeof *alone), got = calloc(size, sizeof *got);
        pairs_of(&g, MOST_J, q.o, &q.r, &q.with, tensor ? tokens : 4 * tokens, tensor ? got : alone);
        if (!tensor && (m >= N_MODEL || parallel_job_size() == 1)) {
            check_gradients(&g, what, MOST_J, q.o, &q.r, &q.with, alone);
            check_effects(&g, what, MOST_J, q.o, &q.r, &q.with, alone);
        }
        if (tensor) near_layers(&g, what, "one process", MOST_J, I * P, got, alone, TOL_LAYOUT);
        golden_close(&g);
    }
    free(alone), free(got);
}

static void pairs_of_golden_models_are_products_of_gradients(void **state)
{
    for (size_t m = 0; m < N_MODEL; m++) check_model(m);
}

static void pairs_of_made_models_are_products_of_gradients(void **state)
{
    for (size_t m = N_MODEL; m < N_MODEL + N_FURTHER; m++) check_model(m);
}

/* Otherwise the tests above would see one way alone. */
static void both_ways_are_taken(void **state)
{
    const size_t few[2] = {LONGEST, LONGEST}, many[2] = {GOLDEN_TOKENS, GOLDEN_TOKENS}, one[2] = {1, 1}, some[2] = {4, 5};
    double flops;
    assert_false(pairs_formed(24, 24, 1, few, one, &flops));
    assert_near(flops, 2.0 * LONGEST * LONGEST * (24 + 24), 0);
    assert_true(pairs_formed(24, 24, 3, many, some, &flops));
    assert_near(flops, 2.0 * 24 * 24 * (3 * GOLDEN_TOKENS + GOLDEN_TOKENS + 3 * 4 * 5), 0);
    assert_false(pairs_formed((size_t)PAIR_FORMED, 1, 1, many, some, NULL)); /* no room */
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_of_golden_models_are_products_of_gradients),
        cmocka_unit_test(pairs_of_made_models_are_products_of_gradients),
        cmocka_unit_test(both_ways_are_taken),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
