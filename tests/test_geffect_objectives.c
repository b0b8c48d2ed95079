/* geffect: what every objective and regulariser must satisfy (DESIGN.md 1, Identities).                    NP: 1 2 4 */
#include "identities.h"

/* What dpo and po read, beside each scene. */
static struct more {
    struct dataset *idk, *pairs; /* refusals, and answers followed by refusals */
    size_t *label_first;
    double *nll_ref;
} more[MOST_SCENES];
static real direction[256];

static const struct setting {
    const char *name, *key;
    double value;
} every[] = {
    {"ga", NULL, 0},        {"wga", "alpha", 1.5},   {"npo", "beta", 0.05}, {"tnpo", "beta", 2},  {"wtnpo", "beta", 2},
    {"satimp", "beta1", 2}, {"simnpo", "beta", 0.5}, {"po", NULL, 0},       {"dpo", "beta", 0.1}, {"rmu", "layer", 1},
    {"rmu", "layer", 2},    {"ceu", NULL, 0},        {"undial", "beta", 3}, {"gd", NULL, 0},      {"kl", NULL, 0},
    {"rr", "layer", 1},     {"rr", "layer", 2},
};
enum { N_EVERY = sizeof every / sizeof *every };

static struct objective made_of(const struct setting *x)
{
    struct objective o = golden_objective(x->name, x->key, x->value);
    o.direction = objective_needs(&o) & NEEDS_DIRECTION ? direction : NULL;
    return o;
}

static struct rows pair_rows(size_t i)
{
    const size_t n = scenes[i].g.forget->n_row;
    return (struct rows){.data = more[i].pairs,
                         .n = n,
                         .row = scenes[i].g.every,
                         .nll_ref = more[i].nll_ref,
                         .label_first = more[i].label_first,
                         .pair = n};
}

/* The rows that an objective reads, all of them. */
static struct rows rows_for(size_t i, const struct objective *o)
{
    struct golden *g = &scenes[i].g;
    if (objective_needs(o) & NEEDS_PAIR) return pair_rows(i);
    return golden_rows(g, objective_needs(o) & IS_REGULARIZER      ? g->retain
                          : objective_needs(o) & NEEDS_REPLACEMENT ? more[i].idk
                                                                   : g->forget);
}

static int open_all(void **state)
{
    scenes_open(state);
    for (size_t k = 0; k < sizeof direction / sizeof *direction; k++)
        direction[k] = (real)random_uniform(5, STREAM_DIRECTION, k);
    for (size_t i = 0; i < n_scene; i++) {
        struct golden *g = &scenes[i].g;
        struct more *m = &more[i];
        if (scenes[i].made) g->idk = made_rows(3, g->forget->n_row, g->shape->vocabulary);
        m->idk = g->idk;
        TEST_OK(dataset_join(g->forget, m->idk, 0, &m->pairs));
        m->label_first = calloc(m->pairs->n_row + 1, sizeof *m->label_first);
        for (size_t k = 0; k < m->pairs->n_row; k++)
            m->label_first[k + 1] = m->label_first[k] + dataset_labels(m->pairs, k);
        m->nll_ref = calloc(m->label_first[m->pairs->n_row], sizeof *m->nll_ref);
        const struct rows all = pair_rows(i);
        TEST_OK(engine_nll(&g->engine, g->reference, &all, m->nll_ref));
    }
    return 0;
}

static int close_all(void **state)
{
    for (size_t i = 0; i < n_scene; i++) dataset_free(more[i].pairs), free(more[i].label_first), free(more[i].nll_ref);
    return scenes_close(state);
}

/* ------------------------------------------------------------------------------- objectives that fall together ----- */
/* On every scene: b's losses and effects are `factor` times a's. */
static void assert_multiple(const struct objective *a, const struct objective *b, double factor)
{
    const struct objective both[] = {*a, *b};
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        const struct rows r = rows_for(i, a);
        const size_t each = SCENE_K * slot_count(s->g.layout) * r.n;
        effects_of(s, 2, both, &r);
        for (size_t k = 0; k < each; k++) e[k] *= factor;
        for (size_t k = 0; k < r.n; k++) loss[k] *= factor;
        assert_equal(s, "effects", each, e + each, e, TOL);
        assert_equal(s, "losses", r.n, loss + r.n, loss, 1e-12);
    }
}

static struct objective two(const char *name, double beta, double alpha)
{
    struct objective o = golden_objective(name, "beta", beta);
    TEST_OK(objective_set(&o, "test", "alpha", alpha));
    return o;
}

static void wga_with_alpha_0_is_ga(void **state)
{
    const struct objective ga = golden_objective("ga", NULL, 0), wga = golden_objective("wga", "alpha", 0);
    assert_multiple(&ga, &wga, 1);
}

static void wtnpo_with_alpha_0_is_tnpo(void **state)
{
    const struct objective tnpo = golden_objective("tnpo", "beta", 2), wtnpo = two("wtnpo", 2, 0);
    assert_multiple(&tnpo, &wtnpo, 1);
}

static void tnpo_with_beta_0_is_2_over_2_00001_times_ga(void **state)
{
    const struct objective ga = golden_objective("ga", NULL, 0), tnpo = golden_objective("tnpo", "beta", 0);
    assert_multiple(&ga, &tnpo, 2 / (2 + 1e-5));
}

static void wtnpo_with_beta_0_is_2_over_2_00001_times_wga(void **state)
{
    const struct objective wga = golden_objective("wga", "alpha", 1.5), wtnpo = two("wtnpo", 0, 1.5);
    assert_multiple(&wga, &wtnpo, 2 / (2 + 1e-5));
}

/* ------------------------------------------------------------------------------------------- at the reference ----- */
/* Likelihoods under the weights themselves, in place of the reference's; the caller frees them. */
static double *own_likelihoods(struct scene *s, struct rows *r)
{
    double *nll = calloc(r->label_first[r->data->n_row], sizeof *nll);
    TEST_OK(engine_nll(&s->g.engine, s->g.weights, r, nll));
    r->nll_ref = nll;
    return nll;
}

static void tnpo_at_the_reference_has_weight_2p_over_2p_plus_1e_5(void **state)
{
    const double beta = 2;
    const struct objective tnpo = golden_objective("tnpo", "beta", beta);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        struct rows r = golden_rows(&s->g, s->g.forget);
        double *nll = own_likelihoods(s, &r);
        effects_of(s, 1, &tnpo, &r);
        for (size_t k = 0; k < r.n; k++) {
            const size_t first = r.label_first[k], n = r.label_first[k + 1] - first;
            double sum = 0;
            for (size_t t = 0; t < n; t++) {
                const double p = exp(-beta * nll[first + t]);
                sum += 2 * p / (2 * p + 1e-5);
            }
            if (n)
                assert_near(mean_weight[k], sum / (double)n, 1e-13);
            else
                assert_true(isnan(mean_weight[k]));
        }
        free(nll);
    }
}

static void dpo_at_the_reference_has_weight_1_and_value_2_log_2_over_beta(void **state)
{
    const struct objective dpo = golden_objective("dpo", "beta", 0.1);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        struct rows r = pair_rows(i);
        double *nll = own_likelihoods(s, &r);
        effects_of(s, 1, &dpo, &r);
        assert_at_reference(&r);
        free(nll);
    }
}

static void rr_has_no_effect_and_no_loss_at_the_reference(void **state)
{
    for (size_t i = 0; i < n_scene; i++)
        for (size_t layer = 1; layer <= scenes[i].g.shape->blocks; layer++) {
            struct scene *s = &scenes[i];
            const struct objective rr = golden_objective("rr", "layer", (double)layer);
            struct state *reference = s->g.engine.reference;
            s->g.engine.reference = s->g.weights;
            struct rows r = effects(s, 1, &rr, s->g.retain);
            s->g.engine.reference = reference;
            for (size_t k = 0; k < SCENE_K * slot_count(s->g.layout) * r.n; k++)
                if (e[k] != 0) fail_msg("%s: layer %zu, effect %zu is %g", s->what, layer, k, e[k]);
            for (size_t k = 0; k < r.n; k++)
                if (loss[k] != 0) fail_msg("%s: layer %zu, loss %zu is %g", s->what, layer, k, loss[k]);
        }
}

/* ---------------------------------------------------------------------------------------------- hidden states ----- */
/* Of results [K][slot][n]: exactly nothing above the block, something in it. */
static void assert_ends_at(const struct scene *s, size_t layer, const struct rows *r, const double *effect)
{
    const struct layout *l = s->g.layout;
    const size_t last = layer == s->g.shape->blocks ? layer + 1 : layer; /* then after the final norm */
    double within = 0;
    for (size_t k = 0; k < SCENE_K; k++)
        for (size_t slot = 0; slot < slot_count(l); slot++)
            for (size_t i = 0; i < r->n; i++) {
                const double x = effect[(k * slot_count(l) + slot) * r->n + i];
                if (slot_layer(l, slot) > last && x != 0)
                    fail_msg("%s: layer %zu, slot %zu: %g", s->what, layer, slot, x);
                if (slot_layer(l, slot) == last) within = fmax(within, fabs(x));
            }
    assert_true(within > 0);
}

static void rmu_at_a_layer_has_exactly_no_effect_above_its_block(void **state)
{
    const struct objective ga = golden_objective("ga", NULL, 0);
    for (size_t i = 0; i < n_scene; i++)
        for (size_t layer = 1; layer <= scenes[i].g.shape->blocks; layer++) {
            struct scene *s = &scenes[i];
            const struct layout *l = s->g.layout;
            const struct objective rmu = made_of(&(struct setting){"rmu", "layer", (double)layer}), both[] = {ga, rmu};
            const struct rows r = rows_for(i, &rmu);
            effects_of(s, 1, &rmu, &r); /* alone: its passes end there */
            assert_ends_at(s, layer, &r, e);
            effects_of(s, 2, both, &r); /* with one whose passes go on */
            assert_ends_at(s, layer, &r, e + SCENE_K * slot_count(l) * r.n);
            rows_gradient(s, &rmu, &r, s->gradient);
            for (size_t p = 0; p < l->n_param; p++)
                for (size_t k = 0; k < l->param[p].row_count * l->param[p].col_count; k++)
                    if (l->param[p].layer > layer + (layer == s->g.shape->blocks))
                        assert_true(s->gradient->data[l->param[p].offset + k] == 0);
        }
}

static void ceu_of_a_row_whose_labels_are_all_skipped_is_nothing(void **state)
{
    const struct objective ceu = golden_objective("ceu", "skip", 1000);
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        double weight[64];
        const struct rows r = effects(s, 1, &ceu, s->g.forget);
        rows_weights(&ceu, &r, weight);
        for (size_t k = 0; k < SCENE_K * slot_count(s->g.layout) * r.n; k++) assert_true(e[k] == 0);
        for (size_t k = 0; k < r.n; k++) assert_true(loss[k] == 0 && weight[k] == 0);
    }
}

static struct objective at_all_positions(const char *name)
{
    struct objective o = made_of(&(struct setting){name, NULL, 0});
    bool done;
    TEST_OK(objective_choose(&o, "test", "positions", "all", &done));
    assert_true(done);
    return o;
}

/* Row 2 of the rows to forget is one whose answer was cut away. */
static void a_row_without_a_label_counts_for_those_alone_that_combine_by_position(void **state)
{
    static const char *const name[] = {"undial", "rmu", "pdu", "kl", "rr"};
    for (size_t i = 0; i < n_scene; i++)
        for (size_t j = 0; j < sizeof name / sizeof *name && scenes[i].made; j++) {
            struct scene *s = &scenes[i];
            const struct objective o = at_all_positions(name[j]);
            const struct rows r = effects(s, 1, &o, s->g.forget);
            const size_t n = slot_count(s->g.layout) * SCENE_K;
            const bool counts = objective_combine(&o) == BY_POSITION;
            double weight[64], of_row = 0, of_others = 0;
            rows_weights(&o, &r, weight);
            for (size_t k = 0; k < n; k++) of_row += fabs(e[k * r.n + 2]), of_others += fabs(e[k * r.n + 1]);
            assert_true(of_others > 0 && loss[1] != 0 && weight[1] > 0);
            if ((of_row > 0) != counts || (loss[2] != 0) != counts || (weight[2] > 0) != counts)
                fail_msg("%s: %s: weight %g, loss %g, effects %g", s->what, name[j], weight[2], loss[2], of_row);
        }
}

/* ------------------------------------------------------------------------------------------------ sums, lines ----- */
static void groups_ranks_instances_and_layers_sum_to_the_total(void **state)
{
    for (size_t i = 0; i < n_scene; i++)
        for (size_t j = 0; j < N_EVERY; j++) {
            struct scene *s = &scenes[i];
            const struct layout *l = s->g.layout;
            const struct objective o = made_of(&every[j]);
            const struct rows r = rows_for(i, &o);
            const size_t blocks = s->g.shape->blocks;
            if (!s->made && j % 5) continue; /* the golden ones are slow */
            effects_of(s, 1, &o, &r);
            rows_gradient(s, &o, &r, s->gradient);
            for (size_t k = 0; k < SCENE_K; k++) {
                double weight[64], whole[256], group[5] = {0}, of_layers[64] = {0};
                rows_weights(&o, &r, weight);
                for (size_t slot = 0; slot < slot_count(l); slot++)
                    for (size_t n = 0; n < r.n; n++)
                        of_layers[slot_layer(l, slot)] += weight[n] * e[(k * slot_count(l) + slot) * r.n + n];
                for (size_t layer = 0; layer < l->n_layer; layer++)
                    group[layer == 0 ? 0 : layer > blocks ? 4 : 1 + 3 * (layer - 1) / blocks] += of_layers[layer];
                dots(s, s->risk[k], s->gradient, 1, whole);
                const double got[] = {total(of_layers, l->n_layer), total(group, 5)}, want = total(whole, l->n_param);
                /* relative to the largest part: what is added may cancel */
                double most = fabs(want);
                for (size_t layer = 0; layer < l->n_layer; layer++) most = fmax(most, fabs(of_layers[layer]));
                for (int which = 0; which < 2; which++)
                    if (!(fabs(got[which] - want) <= TOL * most))
                        fail_msg("%s: %s: %.12g, but the total is %.12g", s->what, every[j].name, got[which], want);
            }
        }
}

static void effects_are_complete_on_every_process(void **state)
{
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        const struct objective o[] = {golden_objective("npo", NULL, 0), golden_objective("undial", NULL, 0)};
        const struct rows r = rows_for(i, o);
        const size_t n = 2 * SCENE_K * slot_count(s->g.layout) * r.n;
        effects_of(s, 2, o, &r);
        double *most = malloc(n * sizeof *most);
        memcpy(most, e, n * sizeof *most);
        comm_max_double(s->g.grid->world, most, n);
        for (size_t k = 0; k < n; k++) assert_true(most[k] == e[k]);
        free(most);
    }
}

/* e of objective + weight times regulariser, as they are trained, is the sum of both e. */
static void effects_are_linear_in_the_objective(void **state)
{
    const struct setting reg[] = {{"gd", NULL, 0}, {"kl", NULL, 0}, {"rr", "layer", 1}};
    const double lambda = 2.5;
    for (size_t i = 0; i < n_scene; i++)
        for (int j = 0; j < 3; j++) {
            struct scene *s = &scenes[i];
            const struct objective npo = golden_objective("npo", "beta", 0.05), with = made_of(&reg[j]);
            const struct rows r = rows_for(i, &npo), q = rows_for(i, &with);
            double weight[64], none[64], want[256], got[256], second_part[256];
            math_fill(s->g.layout->size, 0, s->gradient->data);
            rows_weights(&npo, &r, weight);
            TEST_OK(engine_gradient(&s->g.engine, &npo, &r, weight, true, s->gradient, none));
            rows_weights(&with, &q, weight);
            for (size_t k = 0; k < q.n; k++) weight[k] *= lambda;
            TEST_OK(engine_gradient(&s->g.engine, &with, &q, weight, true, s->gradient, none));
            TEST_OK(state_reduce(s->g.grid, s->gradient));
            for (size_t k = 0; k < SCENE_K; k++) {
                effects_of(s, 1, &npo, &r);
                by_parameter(s, &npo, &r, k, want);
                effects_of(s, 1, &with, &q);
                by_parameter(s, &with, &q, k, second_part);
                for (size_t p = 0; p < s->g.layout->n_param; p++) want[p] += lambda * second_part[p];
                dots(s, s->risk[k], s->gradient, 1, got);
                assert_equal(s, every[j].name, s->g.layout->n_param, got, want, TOL);
            }
        }
}

/* ------------------------------------------------------------------------------------------ finite differences ----- */
/* On one and two processes: that the layout does not matter is another test's. */
static void the_risk_changes_along_every_objective_as_the_effect_says(void **state)
{
    if (sizeof(real) != 8) skip();
    for (size_t i = 0; i < n_scene; i++) {
        if (!scenes[i].made || scenes[i].g.grid->size != parallel_job_size() || parallel_job_size() > 2) continue;
        for (size_t j = 0; j < N_EVERY; j++) {
            const struct objective o = made_of(&every[j]);
            const struct rows r = rows_for(i, &o);
            follow(&scenes[i], &o, &r);
        }
    }
}

/* (R(theta - h grad L) - R(theta)) / (-h) -> e: a tenth of h, a tenth of the error. */
static void the_change_of_the_risk_nears_the_effect_as_the_step_shrinks(void **state)
{
    if (sizeof(real) != 8) skip();
    for (size_t j = 0; j < N_EVERY; j++) {
        struct scene *s = &scenes[0];
        const struct objective o = made_of(&every[j]);
        const struct rows r = rows_for(0, &o);
        double norm[256], parts[256], error[2], h, before = risk_value(s, 0), effect;
        effects_of(s, 1, &o, &r);
        by_parameter(s, &o, &r, 0, parts);
        effect = total(parts, s->g.layout->n_param);
        rows_gradient(s, &o, &r, s->gradient);
        dots(s, s->gradient, s->gradient, 1, norm);
        h = 1e-4 / sqrt(total(norm, s->g.layout->n_param));
        for (int k = 0; k < 2; k++, h /= 10) {
            real *kept = malloc(s->g.layout->size * sizeof *kept);
            memcpy(kept, s->g.weights->data, s->g.layout->size * sizeof *kept);
            shift(s->g.weights, -h, s->gradient, NULL);
            error[k] = (risk_value(s, 0) - before) / -h - effect;
            memcpy(s->g.weights->data, kept, s->g.layout->size * sizeof *kept);
            free(kept);
        }
        if (!(fabs(error[1] - error[0] / 10) <= 0.05 * fabs(error[0]) + 1e-8 * fabs(effect)))
            fail_msg("%s: errors %g and %g of an effect of %g", every[j].name, error[0], error[1], effect);
    }
}

/* ---------------------------------------------------------------------------------------------- second derivatives ----- */
/* want = d/dh of the objective's gradient at weights + h v, by differences of the fourth order. */
static void gradient_differences(struct scene *s, const struct objective *o, const struct rows *r, const struct state *v,
                                 double h, double *want)
{
    static const double at[] = {-2, -1, 1, 2}, factor[] = {1.0 / 12, -2.0 / 3, 2.0 / 3, -1.0 / 12};
    const size_t n = s->g.layout->size;
    real *kept = malloc(n * sizeof *kept);
    memcpy(kept, s->g.weights->data, n * sizeof *kept);
    memset(want, 0, n * sizeof *want);
    for (int i = 0; i < 4; i++) {
        shift(s->g.weights, at[i] * h, v, NULL);
        rows_gradient(s, o, r, s->gradient);
        for (size_t k = 0; k < n; k++) want[k] += factor[i] / h * (double)s->gradient->data[k];
        memcpy(s->g.weights->data, kept, n * sizeof *kept);
    }
    free(kept);
}

static void product_agrees(struct scene *s, const char *name, const struct objective *o, const struct rows *r,
                           struct state *v)
{
    const size_t n = s->g.layout->size;
    double weight[64], *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    gradient_differences(s, o, r, v, 1e-4, want);
    rows_weights(o, r, weight);
    math_fill(n, 0, s->gradient->data);
    TEST_OK(engine_hvp(&s->g.engine, o, r, weight, v, s->gradient));
    TEST_OK(state_reduce(s->g.grid, s->gradient));
    for (size_t k = 0; k < n; k++) got[k] = (double)s->gradient->data[k];
    assert_equal(s, name, n, got, want, 1e-8);
    free(want), free(got);
}

/* Weights of tokens and rows move with the model here, unlike in effects: it is the gradient that is differenced. */
static void gradients_of_all_objectives_move_as_their_products_say(void **state)
{
    static const struct setting further[] = {{"pdu", NULL, 0}, {"satimp", "beta2", 0.5}, {"ceu", "skip", 0}};
    if (sizeof(real) != 8) skip();
    for (size_t i = 0; i < n_scene; i++) {
        struct scene *s = &scenes[i];
        struct state *v;
        if (!s->made) continue;
        TEST_OK(state_new("direction", s->g.layout, &v));
        shift(v, 0.05, s->g.weights, NULL);
        shift(v, 0.3, s->risk[0], NULL);
        shift(v, -0.2, s->risk[1], NULL);
        for (size_t j = 0; j < N_EVERY + 3; j++) {
            const struct setting *x = j < N_EVERY ? &every[j] : &further[j - N_EVERY];
            const struct objective o = made_of(x);
            const struct rows r = rows_for(i, &o);
            product_agrees(s, x->name, &o, &r, v);
        }
        state_free(v);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wga_with_alpha_0_is_ga),
        cmocka_unit_test(wtnpo_with_alpha_0_is_tnpo),
        cmocka_unit_test(tnpo_with_beta_0_is_2_over_2_00001_times_ga),
        cmocka_unit_test(wtnpo_with_beta_0_is_2_over_2_00001_times_wga),
        cmocka_unit_test(tnpo_at_the_reference_has_weight_2p_over_2p_plus_1e_5),
        cmocka_unit_test(dpo_at_the_reference_has_weight_1_and_value_2_log_2_over_beta),
        cmocka_unit_test(rr_has_no_effect_and_no_loss_at_the_reference),
        cmocka_unit_test(rmu_at_a_layer_has_exactly_no_effect_above_its_block),
        cmocka_unit_test(ceu_of_a_row_whose_labels_are_all_skipped_is_nothing),
        cmocka_unit_test(a_row_without_a_label_counts_for_those_alone_that_combine_by_position),
        cmocka_unit_test(groups_ranks_instances_and_layers_sum_to_the_total),
        cmocka_unit_test(effects_are_complete_on_every_process),
        cmocka_unit_test(effects_are_linear_in_the_objective),
        cmocka_unit_test(the_risk_changes_along_every_objective_as_the_effect_says),
        cmocka_unit_test(the_change_of_the_risk_nears_the_effect_as_the_step_shrinks),
        cmocka_unit_test(gradients_of_all_objectives_move_as_their_products_say),
    };
    keeps_tangents = true;
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests(tests, open_all, close_all);
    parallel_end();
    return failed;
}
