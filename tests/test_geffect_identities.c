/* geffect: what effects must satisfy whatever the model (DESIGN.md 1, Identities).                        NP: 1 2 4 */
#include "identities.h"

static void ga_effect_on_what_is_unlearned_is_minus_the_squared_risk_gradient(void **state)
{
    struct objective ga = golden_objective("ga", NULL, 0);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        struct rows r = effects(s, 1, &ga, s->g.forget);
        check_dots(s, "e_u of ga", &ga, &r, 0, s->risk[0], -1);
        check_dots(s, "e_r of ga", &ga, &r, 1, s->risk[0], -1);
    }
}

static void gd_effect_on_what_is_retained_is_the_squared_risk_gradient(void **state)
{
    struct objective gd = golden_objective("gd", NULL, 0);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        struct rows r = effects(s, 1, &gd, s->g.retain);
        check_dots(s, "e_u of gd", &gd, &r, 0, s->risk[1], 1);
        check_dots(s, "e_r of gd", &gd, &r, 1, s->risk[1], 1);
    }
}

static void weighted_effects_of_instances_are_the_product_with_the_batch_gradient(void **state)
{
    struct objective npo = golden_objective("npo", "beta", 0.05), kl = golden_objective("kl", NULL, 0);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        for (int regularizer = 0; regularizer < 2; regularizer++) {
            const struct objective *o = regularizer ? &kl : &npo;
            struct dataset *d = regularizer ? s->g.retain : s->g.forget;
            struct rows r = effects(s, 1, o, d);
            batch_gradient(s, o, d, s->gradient);
            check_dots(s, "e_u", o, &r, 0, s->gradient, 1);
            check_dots(s, "e_r", o, &r, 1, s->gradient, 1);
        }
    }
}

/* Also of a tied tensor, whose two slots must add up to it. */
static void an_instance_has_the_product_with_its_own_gradient(void **state)
{
    struct objective npo = golden_objective("npo", "beta", 0.05);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        const struct layout *l = s->g.layout;
        struct rows r = effects(s, 1, &npo, s->g.forget);
        double one[64] = {0}, none[64], got[256] = {0}, want[256];
        size_t row = 3;
        if (!s->made) continue;
        one[row] = 1;
        math_fill(l->size, 0, s->gradient->data);
        TEST_OK(engine_gradient(&s->g.engine, &npo, &r, one, true, s->gradient, none));
        TEST_OK(state_reduce(s->g.grid, s->gradient));
        for (size_t slot = 0; slot < slot_count(l); slot++) got[slot_param(l, slot) - l->param] += e[slot * r.n + row];
        dots(s, s->risk[0], s->gradient, 1, want);
        assert_equal(s, "e_u of one row", l->n_param, got, want, TOL);
    }
}

static void kl_has_no_effect_and_no_loss_at_the_reference(void **state)
{
    struct objective kl = golden_objective("kl", NULL, 0);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        real *reference = s->g.reference->data;
        s->g.reference->data = s->g.weights->data; /* another state all the same: both are acquired at once */
        struct rows r = effects(s, 1, &kl, s->g.retain);
        s->g.reference->data = reference;
        for (size_t k = 0; k < SCENE_K * slot_count(s->g.layout) * r.n; k++)
            if (e[k] != 0) fail_msg("%s: effect %zu is %g", s->what, k, e[k]);
        for (size_t k = 0; k < r.n; k++)
            if (loss[k] != 0) fail_msg("%s: loss %zu is %g", s->what, k, loss[k]);
    }
}

static void npo_at_the_reference_has_weight_1_and_value_2_log_2_over_beta(void **state)
{
    struct objective npo = golden_objective("npo", "beta", 0.1);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        struct rows r = golden_rows(&s->g, s->g.forget);
        size_t n_label = r.label_first[r.n];
        double *nll = calloc(n_label, sizeof *nll);
        TEST_OK(engine_nll(&s->g.engine, s->g.weights, &r, nll));
        r.nll_ref = nll;
        TEST_OK(engine_effects(&s->g.engine, 1, &npo, &r, SCENE_K, SCENE_K, s->risk, e, loss, mean_weight));
        assert_at_reference(&r);
        free(nll);
    }
}

static void a_row_without_labels_has_no_loss_and_no_effect(void **state)
{
    struct objective o[] = {golden_objective("ga", NULL, 0), golden_objective("npo", NULL, 0)};
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        if (!s->made) continue;
        struct rows r = effects(s, 2, o, s->g.forget);
        assert_int_equal(dataset_labels(r.data, 2), 0);
        for (size_t k = 0; k < 2 * SCENE_K * slot_count(s->g.layout); k++) assert_true(e[k * r.n + 2] == 0);
        assert_true(loss[2] == 0 && loss[r.n + 2] == 0);
    }
}

static void stacked_objectives_have_the_effects_of_each_alone(void **state)
{
    struct objective o[SCENE_J] = {golden_objective("ga", NULL, 0), golden_objective("npo", "beta", 0.05),
                                   golden_objective("npo", "beta", 1)};
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        struct rows r = effects(s, SCENE_J, o, s->g.forget);
        size_t each = SCENE_K * slot_count(s->g.layout) * r.n;
        double *stacked = malloc(SCENE_J * each * sizeof *stacked), losses[SCENE_J * 64];
        memcpy(stacked, e, SCENE_J * each * sizeof *stacked);
        memcpy(losses, loss, sizeof losses);
        for (size_t j = 0; j < SCENE_J; j++) {
            effects(s, 1, &o[j], s->g.forget);
            assert_equal(s, "effects", each, stacked + j * each, e, TOL);
            assert_equal(s, "losses", r.n, losses + j * r.n, loss, 0);
        }
        free(stacked);
    }
}

/* Effects of npo and kl, one after the other, in `to`; returns how many. */
static size_t both(struct scene *s, double *to)
{
    struct objective npo = golden_objective("npo", "beta", 0.05), kl = golden_objective("kl", NULL, 0);
    size_t n = SCENE_K * slot_count(s->g.layout) * s->g.forget->n_row;
    size_t m = SCENE_K * slot_count(s->g.layout) * s->g.retain->n_row;
    effects(s, 1, &npo, s->g.forget);
    memcpy(to, e, n * sizeof *to);
    effects(s, 1, &kl, s->g.retain);
    memcpy(to + n, e, m * sizeof *to);
    return n + m;
}

static double first[2 * SCENE_K * 256 * 64], second[2 * SCENE_K * 256 * 64];

static void effects_do_not_depend_on_the_layout(void **state)
{
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        size_t n = both(&scenes[s->first], first);
        both(s, second);
        assert_equal(s, "effects", n, second, first, TOL);
    }
}

static void effects_do_not_depend_on_the_size_of_a_pass(void **state)
{
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        size_t n = both(s, first), most = s->g.engine.tokens, longest = 0;
        for (size_t k = 0; k < s->g.forget->n_row; k++)
            if (dataset_length(s->g.forget, k) > longest) longest = dataset_length(s->g.forget, k);
        for (size_t k = 0; k < s->g.retain->n_row; k++)
            if (dataset_length(s->g.retain, k) > longest) longest = dataset_length(s->g.retain, k);
        s->g.engine.tokens = longest;
        both(s, second);
        s->g.engine.tokens = most;
        assert_equal(s, "effects", n, second, first, TOL);
    }
}

static void effects_do_not_depend_on_the_threads(void **state)
{
    for (size_t i = 0; i < n_scene && parallel_job_size() == 1; i++) {
        struct scene *s = &scenes[i];
        size_t n = both(s, first);
        math_threads(2);
        both(s, second);
        math_threads(1);
        assert_equal(s, "effects", n, second, first, TOL);
    }
}

static void effects_follow_their_rows_in_any_order(void **state)
{
    struct objective npo = golden_objective("npo", "beta", 0.05);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        size_t n = s->g.forget->n_row, lines = SCENE_K * slot_count(s->g.layout), back[64];
        struct rows r = effects(s, 1, &npo, s->g.forget);
        memcpy(first, e, lines * n * sizeof *first);
        for (size_t k = 0; k < n; k++) back[k] = n - 1 - k;
        r.row = back;
        TEST_OK(engine_effects(&s->g.engine, 1, &npo, &r, SCENE_K, SCENE_K, s->risk, e, loss, mean_weight));
        for (size_t line = 0; line < lines; line++)
            for (size_t k = 0; k < n; k++) second[line * n + k] = e[line * n + back[k]];
        assert_equal(s, "effects", lines * n, second, first, TOL);
    }
}

static void a_row_listed_twice_counts_twice(void **state)
{
    struct objective nll = golden_objective("nll", NULL, 0);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        const size_t twice[] = {1, 0, 1};
        const double weight[] = {0.5, 0.25, 0.5}, same[] = {0.25, 1};
        double got[256], want[256], sum[64];
        struct rows r = golden_rows(&s->g, s->g.forget);
        if (!s->made) continue;
        r.n = 3, r.row = twice;
        math_fill(s->g.layout->size, 0, s->gradient->data);
        TEST_OK(engine_gradient(&s->g.engine, &nll, &r, weight, true, s->gradient, sum));
        TEST_OK(state_reduce(s->g.grid, s->gradient));
        dots(s, s->risk[0], s->gradient, 1, got);
        r.n = 2, r.row = s->g.every;
        math_fill(s->g.layout->size, 0, s->gradient->data);
        TEST_OK(engine_gradient(&s->g.engine, &nll, &r, same, true, s->gradient, sum));
        TEST_OK(state_reduce(s->g.grid, s->gradient));
        dots(s, s->risk[0], s->gradient, 1, want);
        assert_equal(s, "gradient", s->g.layout->n_param, got, want, TOL);
    }
}

/* ------------------------------------------------------------------------------------------ finite differences ----- */
/* The golden models are slow: one process is enough for them. */
static bool differences(const struct scene *s) { return parallel_job_size() == 1 || (s->made && s->g.grid->size > 1); }

static void the_risk_changes_along_the_objective_as_the_effect_says(void **state)
{
    struct objective npo = golden_objective("npo", "beta", 0.05), kl = golden_objective("kl", NULL, 0);
    if (sizeof(real) != 8) skip();
    for (size_t i = 0; i < n_scene; i++) {
        const struct rows forget = golden_rows(&scenes[i].g, scenes[i].g.forget);
        const struct rows retain = golden_rows(&scenes[i].g, scenes[i].g.retain);
        if (!differences(&scenes[i])) continue;
        follow(&scenes[i], &npo, &forget);
        follow(&scenes[i], &kl, &retain);
    }
}

/* Local row of a global one, or the number of rows where it is not here. */
static size_t local_row(const struct param *p, size_t global)
{
    size_t at = 0;
    for (size_t k = 0; k < p->n_piece; at += p->piece[k++].count)
        if (global >= p->piece[k].first && global < p->piece[k].first + p->piece[k].count)
            return at + global - p->piece[k].first;
    return p->row_count;
}

/* One element of the risk's gradient and its central difference, on every process. */
static void element(struct scene *s, const struct param *p, size_t row, size_t column, double *got, double *want)
{
    const double h = 1e-4;
    size_t i = local_row(p, row);
    bool here = i < p->row_count && column >= p->col_first && column < p->col_first + p->col_count;
    size_t at = here ? p->offset + i * p->col_count + column - p->col_first : 0;
    bool own = here && i >= p->own_first && i < p->own_first + p->own_count;
    double kept = here ? (double)s->g.weights->data[at] : 0, more;
    *got = own ? (double)s->risk[1]->data[at] : 0;
    if (s->g.grid->tensor_size > 1) comm_sum_double(s->g.grid->tensor, got, 1);
    if (here) s->g.weights->data[at] = (real)(kept + h);
    more = risk_value(s, 1);
    if (here) s->g.weights->data[at] = (real)(kept - h);
    *want = (more - risk_value(s, 1)) / (2 * h);
    if (here) s->g.weights->data[at] = (real)kept;
}

static void every_tensor_of_the_gradient_passes_central_differences(void **state)
{
    if (sizeof(real) != 8) skip();
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        const size_t each = s->made ? 4 : 1;
        if (!differences(s)) continue;
        for (size_t p = 0; p < s->g.layout->n_param; p++) {
            const struct param *q = &s->g.layout->param[p];
            double got[4], want[4];
            for (size_t k = 0; k < each; k++) {
                size_t row = random_below(p, STREAM_TEST, 2 * k, q->rows);
                if (q->role == ROLE_EMBED) row = (size_t)s->g.retain->id[k]; /* one that occurs */
                element(s, q, row, random_below(p, STREAM_TEST, 2 * k + 1, q->cols), &got[k], &want[k]);
                assert_near(got[k], want[k], 1e-6);
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------------------ failures ----- */
/* NaN in the weights of one process: all must leave with one status and message, none may wait. */
static void weights_that_are_not_finite_on_one_process_stop_all(void **state)
{
    struct objective nll = golden_objective("nll", NULL, 0), kl = golden_objective("kl", NULL, 0);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        struct rows r = golden_rows(&s->g, s->g.forget), m = golden_rows(&s->g, s->g.retain);
        double weight[64], *nlls = calloc(r.label_first[r.n], sizeof *nlls);
        real *at = &s->g.weights->data[layout_find(s->g.layout, 1, ROLE_O)->offset], kept = *at;
        enum status st[3];
        if (s->g.grid->rank == s->g.grid->size - 1) *at = (real)NAN;
        rows_weights(&nll, &r, weight);
        st[0] = engine_nll(&s->g.engine, s->g.weights, &r, nlls);
        fail_clear();
        st[1] = engine_gradient(&s->g.engine, &nll, &r, weight, true, s->gradient, loss);
        fail_clear();
        st[2] = engine_effects(&s->g.engine, 1, &kl, &m, SCENE_K, SCENE_K, s->risk, e, loss, mean_weight);
        assert_true(strstr(fail_message(), "not finite") != NULL);
        fail_clear();
        *at = kept;
        for (int k = 0; k < 3; k++) assert_int_equal(st[k], ERR_NUMERIC);
        free(nlls);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ga_effect_on_what_is_unlearned_is_minus_the_squared_risk_gradient),
        cmocka_unit_test(gd_effect_on_what_is_retained_is_the_squared_risk_gradient),
        cmocka_unit_test(weighted_effects_of_instances_are_the_product_with_the_batch_gradient),
        cmocka_unit_test(an_instance_has_the_product_with_its_own_gradient),
        cmocka_unit_test(kl_has_no_effect_and_no_loss_at_the_reference),
        cmocka_unit_test(npo_at_the_reference_has_weight_1_and_value_2_log_2_over_beta),
        cmocka_unit_test(a_row_without_labels_has_no_loss_and_no_effect),
        cmocka_unit_test(stacked_objectives_have_the_effects_of_each_alone),
        cmocka_unit_test(effects_do_not_depend_on_the_layout),
        cmocka_unit_test(effects_do_not_depend_on_the_size_of_a_pass),
        cmocka_unit_test(effects_do_not_depend_on_the_threads),
        cmocka_unit_test(effects_follow_their_rows_in_any_order),
        cmocka_unit_test(a_row_listed_twice_counts_twice),
        cmocka_unit_test(the_risk_changes_along_the_objective_as_the_effect_says),
        cmocka_unit_test(every_tensor_of_the_gradient_passes_central_differences),
        cmocka_unit_test(weights_that_are_not_finite_on_one_process_stop_all),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests(tests, scenes_open, scenes_close);
    parallel_end();
    return failed;
}
