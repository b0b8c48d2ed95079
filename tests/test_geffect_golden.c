/* geffect: likelihoods, gradients, losses and effects against the float64 reference.                    NP: 1 2 3 4 */
#include "golden.h"

/* relative, as DESIGN.md asks: what float rounding leaves of sums over a few thousand products */
static const double TOL = sizeof(real) == 8 ? 1e-8 : 2e-5;
static const char *const models[] = {"llama", "llama3", "mistral", "qwen2", "phi", "gpt_neox", "stablelm"};
enum { TOKENS = 300 }; /* several passes: the longest row has 200 */

/* Runs a check for every model and every tensor degree that divides the job. */
static void everywhere(void (*check)(struct golden *g, const char *what), size_t J, size_t K, bool poison)
{
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (int tensor = 1; tensor <= parallel_job_size(); tensor++) {
            struct golden g;
            char what[64];
            if (parallel_job_size() % tensor) continue;
            snprintf(what, sizeof what, "%s, tensor %d of %d", models[m], tensor, parallel_job_size());
            if (!golden_open(models[m], tensor, J, K, TOKENS, poison, &g)) skip();
            check(&g, what);
            golden_close(&g);
        }
}

#define assert_close(what, name, n, got, want)                                        \
    do {                                                                              \
        double error_ = relative_error(n, got, want);                                 \
        if (!(error_ <= TOL)) fail_msg("%s: %s differs by %.3g", what, name, error_); \
    } while (0)

/* gpt_neox: the files say embed_out, transformers' own parameters lm_head. */
static const char *reference_name(const struct param *p)
{
    return strcmp(p->name, "embed_out.weight") ? p->name : "lm_head.weight";
}

static void check_nll(struct golden *g, const char *what)
{
    struct rows all = golden_rows(g, g->forget);
    double *nll = calloc(g->label_first[g->forget->n_row], sizeof *nll);
    TEST_OK(engine_nll(&g->engine, g->weights, &all, nll));
    for (size_t i = 0; i < g->forget->n_row; i++) {
        char name[64];
        size_t n;
        snprintf(name, sizeof name, "nll/forget/%zu", i);
        double *want = h5_double(g->expected, name, &n);
        assert_int_equal(n, g->label_first[i + 1] - g->label_first[i]);
        assert_close(what, name, n, nll + g->label_first[i], want);
        free(want);
    }
    free(nll);
}

static void check_logits(struct golden *g, const char *what)
{
    const struct layout *l = g->layout;
    size_t n, V = g->shape->vocabulary, row = 0;
    double *want = h5_double(g->expected, "logits/forget/0", &n), *got, *mine;
    struct arena a;
    struct batch b;
    TEST_OK(arena_new(1 << 16, &a));
    batch_pack(g->forget, 1, &row, OUTPUTS_ALL, &a, &b);
    assert_int_equal(n, b.n_out * V);
    TEST_OK(model_forward(g->model, g->weights, &b));
    got = calloc(n, sizeof *got), mine = calloc(n, sizeof *mine);
    for (size_t k = 0; k < b.n_out; k++)
        for (size_t v = 0; v < l->word_count; v++) {
            got[k * l->word_count + v] = (double)model_logits(g->model)[k * l->word_count + v];
            mine[k * l->word_count + v] = want[k * V + l->word_first + v];
        }
    assert_close(what, "logits", b.n_out * l->word_count, got, mine);
    free(want), free(got), free(mine);
    arena_free(&a);
}

static void check_gradient(struct golden *g, const char *what)
{
    struct objective nll = golden_objective("nll", NULL, 0);
    double weight[64], loss[64];
    for (int k = 0; k < 2; k++) {
        const char *risk = k ? "retain" : "unlearn";
        struct rows all = golden_rows(g, k ? g->retain : g->forget);
        struct state *gradient;
        TEST_OK(state_new("gradient", g->layout, &gradient));
        rows_weights(&nll, &all, weight);
        TEST_OK(engine_gradient(&g->engine, &nll, &all, weight, gradient, loss));
        TEST_OK(state_reduce(g->grid, gradient));
        for (size_t i = 0; i < g->layout->n_param; i++) {
            const struct param *p = &g->layout->param[i];
            char name[256];
            size_t n = p->row_count * p->col_count;
            snprintf(name, sizeof name, "gradient/%s/%s", risk, reference_name(p));
            double *want = h5_double(g->expected, name, NULL), *mine = calloc(n, sizeof *mine),
                   *got = calloc(n, sizeof *got);
            golden_slice(p, want, mine);
            for (size_t j = 0; j < n; j++) got[j] = (double)gradient->data[p->offset + j];
            assert_close(what, name, n, got, mine);
            free(want), free(mine), free(got);
        }
        state_free(gradient);
    }
}

static void risk_gradients(struct golden *g, struct state **risk)
{
    struct objective nll = golden_objective("nll", NULL, 0);
    double weight[64], loss[64];
    for (int k = 0; k < 2; k++) {
        struct rows all = golden_rows(g, k ? g->retain : g->forget);
        TEST_OK(state_new("risk", g->layout, &risk[k]));
        rows_weights(&nll, &all, weight);
        TEST_OK(engine_gradient(&g->engine, &nll, &all, weight, risk[k], loss));
        TEST_OK(state_reduce(g->grid, risk[k]));
        TEST_OK(state_poison(risk[k]));
    }
}

/* e [K][slot][n] of one objective against objective/NAME/geffect_*; slots of a tied tensor add up. */
static void compare_effects(struct golden *g, const char *what, const char *objective, const double *e, size_t n)
{
    const struct layout *l = g->layout;
    size_t slots = slot_count(l);
    for (int k = 0; k < 2; k++) {
        char name[128];
        double *want, *got = calloc(n * l->n_param, sizeof *got);
        snprintf(name, sizeof name, "objective/%s/geffect_%s", objective, k ? "retain" : "unlearn");
        want = h5_double(g->expected, name, NULL);
        for (size_t s = 0; s < slots; s++)
            for (size_t i = 0; i < n; i++)
                got[i * l->n_param + (size_t)(slot_param(l, s) - l->param)] += e[((size_t)k * slots + s) * n + i];
        double *ordered = calloc(n * l->n_param, sizeof *ordered); /* expected order: /tensors */
        hid_t d = H5Dopen2(g->expected, "tensors", H5P_DEFAULT), type = H5Dget_type(d);
        char *tensors[512];
        H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensors);
        for (size_t t = 0; t < l->n_param; t++) {
            size_t p = 0;
            while (p < l->n_param && strcmp(reference_name(&l->param[p]), tensors[t])) p++;
            assert_true(p < l->n_param);
            for (size_t i = 0; i < n; i++) ordered[i * l->n_param + t] = got[i * l->n_param + p];
        }
        assert_close(what, name, n * l->n_param, ordered, want);
        for (size_t t = 0; t < l->n_param; t++) H5free_memory(tensors[t]);
        H5Tclose(type), H5Dclose(d);
        free(want), free(got), free(ordered);
    }
}

static void check_weights(struct golden *g, const char *what, const char *objective, const struct objective *o)
{
    char name[64];
    double got[64], *want;
    struct rows all = golden_rows(g, g->forget);
    snprintf(name, sizeof name, "objective/%s/weight", objective);
    want = h5_double(g->expected, name, NULL);
    rows_weights(o, &all, got);
    assert_close(what, name, all.n, got, want);
    free(want);
}

/* Of the objectives together, with the settings of make_cases.sh, and of rmu alone, whose passes end at its layer. */
static void check_effects(struct golden *g, const char *what)
{
    struct objective forget[] = {golden_objective("ga", NULL, 0),       golden_objective("npo", "beta", 0.05),
                                 golden_objective("wga", "alpha", 1),   golden_objective("tnpo", "beta", 2),
                                 golden_objective("wtnpo", "beta", 2),  golden_objective("satimp", NULL, 0),
                                 golden_objective("simnpo", "beta", 1), golden_objective("rmu", NULL, 0),
                                 golden_objective("ceu", NULL, 0),      golden_objective("undial", "beta", 3)};
    struct objective kl = golden_objective("kl", NULL, 0), po = golden_objective("po", NULL, 0);
    size_t slots = slot_count(g->layout), n = g->forget->n_row, m = g->retain->n_row;
    enum { J = sizeof forget / sizeof *forget };
    double *e = calloc(J * 2 * slots * 64, sizeof *e), loss[J * 64], weight[J * 64];
    struct rows du = golden_rows(g, g->forget), dr = golden_rows(g, g->retain), dk = golden_rows(g, g->idk);
    struct state *risk[2];
    real *u = golden_direction(g);
    forget[7].direction = u;
    TEST_OK(objective_set(&forget[4], "test", "alpha", 0.5));
    risk_gradients(g, risk);
    TEST_OK(engine_effects(&g->engine, J, forget, &du, 2, risk, e, loss, weight));
    const char *names[] = {"ga", "npo", "wga", "tnpo", "wtnpo", "satimp", "simnpo", "rmu", "ceu", "undial"};
    for (size_t j = 0; j < J; j++) {
        char name[64];
        compare_effects(g, what, names[j], e + j * 2 * slots * n, n);
        snprintf(name, sizeof name, "objective/%s/sequence_loss", names[j]);
        double *want = h5_double(g->expected, name, NULL);
        assert_close(what, name, n, loss + j * n, want);
        free(want);
        check_weights(g, what, names[j], &forget[j]);
    }
    TEST_OK(engine_effects(&g->engine, 1, &forget[7], &du, 2, risk, e, loss, weight));
    compare_effects(g, what, "rmu", e, n);
    TEST_OK(engine_effects(&g->engine, 1, &po, &dk, 2, risk, e, loss, weight));
    compare_effects(g, what, "po", e, n);
    TEST_OK(engine_effects(&g->engine, 1, &kl, &dr, 2, risk, e, loss, weight));
    compare_effects(g, what, "kl", e, m);
    double *want = h5_double(g->expected, "objective/kl/sequence_loss", NULL);
    assert_close(what, "kl loss", m, loss, want);
    free(want);
    state_free(risk[0]), state_free(risk[1]);
    free(e), free(u);
}

static void likelihoods_agree_with_the_reference(void **state) { everywhere(check_nll, 1, 0, false); }
static void logits_agree_with_the_reference(void **state) { everywhere(check_logits, 1, 0, false); }
static void risk_gradients_agree_with_the_reference(void **state) { everywhere(check_gradient, 1, 0, false); }
static void effects_and_losses_agree_and_no_weight_is_used_after_its_release(void **state)
{
    everywhere(check_effects, 10, 2, true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(likelihoods_agree_with_the_reference),
        cmocka_unit_test(logits_agree_with_the_reference),
        cmocka_unit_test(risk_gradients_agree_with_the_reference),
        cmocka_unit_test(effects_and_losses_agree_and_no_weight_is_used_after_its_release),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
