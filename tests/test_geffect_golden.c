/* geffect: likelihoods, gradients, losses and effects against the float64 reference.                    NP: 1 2 4 */
#include "golden.h"

/* relative, as DESIGN.md asks: what float rounding leaves of sums over a few thousand products */
static const double TOL = sizeof(real) == 8 ? 1e-8 : 2e-5;
static const char *const models[] = {"llama",    "llama3",   "mistral", "qwen2",  "phi",
                                     "gpt_neox", "stablelm", "phi3",    "gemma2", "gemma3"};
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
    got = golden_logits(g, &b), mine = calloc(n, sizeof *mine);
    for (size_t k = 0; k < b.n_out; k++)
        for (size_t v = 0; v < l->word_count; v++) mine[k * l->word_count + v] = want[k * V + l->word_first + v];
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
        TEST_OK(engine_gradient(&g->engine, &nll, &all, weight, true, gradient, loss));
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
        TEST_OK(engine_gradient(&g->engine, &nll, &all, weight, true, risk[k], loss));
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
        double *want, *got = calloc(n * l->n_tensor, sizeof *got);
        snprintf(name, sizeof name, "objective/%s/geffect_%s", objective, k ? "retain" : "unlearn");
        want = h5_double(g->expected, name, NULL);
        for (size_t s = 0; s < slots; s++)
            for (size_t i = 0; i < n; i++)
                got[i * l->n_tensor + slot_param(l, s)->tensor] += e[((size_t)k * slots + s) * n + i];
        double *ordered = calloc(n * l->n_tensor, sizeof *ordered); /* expected order: /tensors */
        hid_t d = H5Dopen2(g->expected, "tensors", H5P_DEFAULT), type = H5Dget_type(d);
        char *tensors[512];
        H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensors);
        for (size_t t = 0; t < l->n_tensor; t++) {
            size_t p = 0;
            while (p < l->n_param && strcmp(reference_name(&l->param[p]), tensors[t])) p++;
            assert_true(p < l->n_param);
            for (size_t i = 0; i < n; i++) ordered[i * l->n_tensor + t] = got[i * l->n_tensor + l->param[p].tensor];
        }
        assert_close(what, name, n * l->n_tensor, ordered, want);
        for (size_t t = 0; t < l->n_tensor; t++) H5free_memory(tensors[t]);
        H5Tclose(type), H5Dclose(d);
        free(want), free(got), free(ordered);
    }
}

/* Results of one objective of one call against objective/NAME: losses, weights in the batch, the batch's loss, effects. */
static void compare(struct golden *g, const char *what, const struct objective *o, const struct rows *r, const double *e,
                    const double *loss)
{
    const char *const kind[] = {"sequence_loss", "weight", "loss"}, *objective = objective_name(o);
    double weight[64], sum = 0;
    rows_weights(o, r, weight);
    for (size_t i = 0; i < r->n; i++) sum += weight[i] * loss[i];
    for (int k = 0; k < 3; k++) {
        char name[64];
        size_t n;
        snprintf(name, sizeof name, "objective/%s/%s", objective, kind[k]);
        double *want = h5_double(g->expected, name, &n);
        assert_int_equal(n, k < 2 ? r->n : 1);
        assert_close(what, name, n, k == 0 ? loss : k == 1 ? weight : &sum, want);
        free(want);
    }
    compare_effects(g, what, objective, e, r->n);
}

/* The weight of one token as DESIGN.md has it, from its probability now and before. */
static double token_weight(const struct objective *o, double p, double before)
{
    const char *name = objective_name(o);
    const double *x = o->parameter;
    if (!strcmp(name, "wga")) return pow(p, x[0]);
    if (!strcmp(name, "satimp")) return pow(p, x[0]) * pow(1 - p, x[1]);
    if (!strcmp(name, "tnpo")) return 2 * pow(p, x[0]) / (pow(p, x[0]) + pow(before, x[0]) + 1e-5);
    if (!strcmp(name, "wtnpo")) return 2 * pow(p, x[0] + x[1]) / (pow(p, x[0]) + pow(before, x[0]) + 1e-5);
    return NAN;
}

/* The mean of them, or the sequence's own: 2 sigmoid(-beta m), m = S - S_o (npo) or mean nll - delta (simnpo). */
static double sequence_weight(const struct objective *o, size_t n, const double *nll, const double *before)
{
    const bool npo = !strcmp(objective_name(o), "npo"), simnpo = !strcmp(objective_name(o), "simnpo");
    double sum = 0, margin = simnpo ? -o->parameter[1] : 0;
    for (size_t t = 0; t < n; t++) {
        sum += token_weight(o, exp(-nll[t]), exp(-before[t])) / (double)n;
        margin += npo ? nll[t] - before[t] : nll[t] / (double)n;
    }
    return npo || simnpo ? 2 / (1 + exp(o->parameter[0] * margin)) : sum;
}

/* mean_weight [n] from the likelihoods of the reference file. */
static void compare_weights(struct golden *g, const char *what, const struct objective *o, const double *mean_weight)
{
    double want[64], got[64];
    for (size_t i = 0; i < g->forget->n_row; i++) {
        char name[64];
        size_t n;
        snprintf(name, sizeof name, "nll/forget/%zu", i);
        double *nll = h5_double(g->expected, name, &n);
        want[i] = sequence_weight(o, n, nll, g->nll_ref + g->label_first[i]);
        got[i] = mean_weight[i];
        if (isnan(want[i]) != isnan(got[i])) fail_msg("%s: weight %zu of %s is %g", what, i, objective_name(o), got[i]);
        if (isnan(want[i])) want[i] = got[i] = 0;
        free(nll);
    }
    assert_close(what, objective_name(o), g->forget->n_row, got, want);
}

static struct objective two(const char *name, const char *key, double value, const char *other, double more)
{
    struct objective o = golden_objective(name, key, value);
    TEST_OK(objective_set(&o, "test", other, more));
    return o;
}

static void one_alone(struct golden *g, const char *what, const struct objective *o, struct dataset *d,
                      struct state *const *risk)
{
    struct rows all = golden_rows(g, d);
    double *e = calloc(2 * slot_count(g->layout) * 64, sizeof *e), loss[64], weight[64];
    TEST_OK(engine_effects(&g->engine, 1, o, &all, 2, 2, risk, e, loss, weight));
    compare(g, what, o, &all, e, loss);
    for (size_t i = 0; i < all.n; i++) assert_true(isnan(weight[i]));
    free(e);
}

/* Of the objectives together, with the settings of make_cases.sh; alone those whose passes differ then: rmu's end at its
 * layer, undial's need the reference, ceu's do not. */
static void check_effects(struct golden *g, const char *what)
{
    struct objective forget[] = {golden_objective("rmu", NULL, 0),      golden_objective("ceu", NULL, 0),
                                 golden_objective("undial", "beta", 3), golden_objective("ga", NULL, 0),
                                 golden_objective("npo", "beta", 0.05), golden_objective("wga", "alpha", 1),
                                 golden_objective("tnpo", "beta", 2),   two("wtnpo", "beta", 2, "alpha", 0.5),
                                 golden_objective("satimp", NULL, 0),   golden_objective("simnpo", "beta", 1)};
    struct objective kl = golden_objective("kl", NULL, 0), po = golden_objective("po", NULL, 0);
    enum { J = sizeof forget / sizeof *forget, ALONE = 3 };
    size_t each = 2 * slot_count(g->layout) * g->forget->n_row, n = g->forget->n_row;
    double *e = calloc(J * each, sizeof *e), loss[J * 64], weight[J * 64];
    struct rows du = golden_rows(g, g->forget);
    struct state *risk[2];
    real *u = golden_direction(g);
    forget[0].direction = u;
    risk_gradients(g, risk);
    TEST_OK(engine_effects(&g->engine, J, forget, &du, 2, 2, risk, e, loss, weight));
    for (size_t j = 0; j < J; j++) {
        compare(g, what, &forget[j], &du, e + j * each, loss + j * n);
        compare_weights(g, what, &forget[j], weight + j * n);
    }
    for (size_t j = 0; j < ALONE; j++) one_alone(g, what, &forget[j], g->forget, risk);
    one_alone(g, what, &po, g->idk, risk);
    one_alone(g, what, &kl, g->retain, risk);
    state_free(risk[0]), state_free(risk[1]);
    free(e), free(u);
}

static void likelihoods_agree_with_the_reference(void **state) { everywhere(check_nll, 1, 0, false); }
static void logits_agree_with_the_reference(void **state) { everywhere(check_logits, 1, 0, false); }
static void risk_gradients_agree_with_the_reference(void **state) { everywhere(check_gradient, 1, 0, false); }
static void effects_losses_and_weights_agree_and_no_parameter_is_used_after_its_release(void **state)
{
    everywhere(check_effects, 10, 2, true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(likelihoods_agree_with_the_reference),
        cmocka_unit_test(logits_agree_with_the_reference),
        cmocka_unit_test(risk_gradients_agree_with_the_reference),
        cmocka_unit_test(effects_losses_and_weights_agree_and_no_parameter_is_used_after_its_release),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
