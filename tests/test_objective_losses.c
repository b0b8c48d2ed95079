/* objective: losses and derivatives of one sequence.                                                             NP: 1 */
#include "near.h"
#include "unlearn/objective.h"
#include <float.h>

enum { N = 5 };
static const double nll[N] = {0.1, 2.5, 0.7, 4.2, 1e-3}, before[N] = {0.3, 1.9, 0.9, 3.0, 0.2};

static struct objective named(const char *name)
{
    struct objective o;
    assert_true(objective_find(name, &o));
    return o;
}

static double loss(const struct objective *o, size_t n, const double *x, const double *reference)
{
    double slope[128], weight;
    return objective_token(o, n, x, reference, slope, &weight);
}

/* No gradient flows through weights, but none of these has any that is not the derivative itself. */
static void derivatives_are_central_differences(void **state)
{
    const char *const names[] = {"ga", "npo", "simnpo", "gd", "nll"};
    const double h = 1e-5;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct objective o = named(names[k]);
        double slope[N], weight, x[N];
        objective_token(&o, N, nll, before, slope, &weight);
        for (size_t t = 0; t < N; t++) {
            double more, less;
            memcpy(x, nll, sizeof x);
            x[t] = nll[t] + h, more = loss(&o, N, x, before);
            x[t] = nll[t] - h, less = loss(&o, N, x, before);
            assert_near(slope[t], (more - less) / (2 * h), 1e-9);
        }
    }
}

/* Along a direction of the likelihoods; weights move too. */
static void tangents_are_central_differences_of_the_derivatives(void **state)
{
    const char *const names[] = {"ga", "npo", "wga", "tnpo", "wtnpo", "satimp", "simnpo", "gd"};
    const double h = 1e-5, along[N] = {0.3, -1, 2, 0.5, -0.02};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct objective o = named(names[k]);
        double got[N], side[2][N], weight, x[N];
        objective_token_tangent(&o, N, nll, before, along, got);
        for (int i = 0; i < 2; i++) {
            for (size_t t = 0; t < N; t++) x[t] = nll[t] + (i ? h : -h) * along[t];
            objective_token(&o, N, x, before, side[i], &weight);
        }
        for (size_t t = 0; t < N; t++) assert_near(got[t], (side[1][t] - side[0][t]) / (2 * h), 1e-8);
    }
    struct objective dpo = named("dpo");
    double twin, tlose, up[2], down[2], weight;
    objective_pair_tangent(&dpo, 1.5, -0.7, 0.4, 1.1, &twin, &tlose);
    objective_pair(&dpo, 1.5 + h * 0.4, -0.7 + h * 1.1, &up[0], &up[1], &weight);
    objective_pair(&dpo, 1.5 - h * 0.4, -0.7 - h * 1.1, &down[0], &down[1], &weight);
    assert_near(twin, (up[0] - down[0]) / (2 * h), 1e-9);
    assert_near(tlose, (up[1] - down[1]) / (2 * h), 1e-9);
}

/* Where a token is certain, its likelihood does not move, and neither do its derivatives. */
static void tangents_of_satimp_are_0_where_a_token_is_certain(void **state)
{
    static const double beta2[] = {0, 0.5, 1, 2};
    for (size_t k = 0; k < sizeof beta2 / sizeof *beta2; k++) {
        struct objective o = named("satimp");
        const double sure[2] = {0, 0.7}, along[2] = {0, 1};
        double got[2];
        assert_int_equal(objective_set(&o, "test", "beta2", beta2[k]), OK);
        objective_token_tangent(&o, 2, sure, NULL, along, got);
        assert_near(got[0], 0, 0);
        assert_true(isfinite(got[1]) && got[1] != 0);
    }
}

static void losses_are_what_their_equations_say(void **state)
{
    struct objective ga = named("ga"), gd = named("gd"), npo = named("npo");
    double sum = 0, margin = 0, slope[N], weight, value;
    for (size_t t = 0; t < N; t++) sum += nll[t], margin += nll[t] - before[t];
    assert_near(loss(&ga, N, nll, NULL), -sum / N, 1e-15);
    assert_near(loss(&gd, N, nll, NULL), sum / N, 1e-15);
    value = objective_token(&npo, N, nll, before, slope, &weight);
    assert_near(value, 2 / 0.5 * log(1 + exp(-0.5 * margin)), 1e-14);
    assert_near(weight, 2 * exp(-0.5 * margin) / (1 + exp(-0.5 * margin)), 1e-14);
    for (size_t t = 0; t < N; t++) assert_near(slope[t], -weight, 0);
}

static void npo_at_the_reference_is_ga_of_the_sum(void **state)
{
    struct objective npo = named("npo");
    double slope[N], weight;
    assert_near(objective_token(&npo, N, nll, nll, slope, &weight), 4 * log(2), 1e-15);
    assert_near(weight, 1, 0);
}

/* b's loss and derivative are `factor` times a's */
static void assert_multiple(const struct objective *a, const struct objective *b, double factor)
{
    double da[N], db[N], weight, la = objective_token(a, N, nll, before, da, &weight);
    assert_near(objective_token(b, N, nll, before, db, &weight), factor * la, 1e-14);
    for (size_t t = 0; t < N; t++) assert_near(db[t], factor * da[t], 1e-14);
}

static struct objective with(const char *name, const char *key, double value)
{
    struct objective o = named(name);
    assert_int_equal(objective_set(&o, "test", key, value), OK);
    return o;
}

static void weighted_objectives_fall_together_where_their_exponents_vanish(void **state)
{
    struct objective ga = named("ga"), wga = with("wga", "alpha", 1.5), flat = with("wga", "alpha", 0);
    struct objective tnpo = with("tnpo", "beta", 4), tnpo0 = with("tnpo", "beta", 0);
    struct objective wtnpo = with("wtnpo", "alpha", 0), wtnpo0 = with("wtnpo", "beta", 0);
    assert_multiple(&ga, &flat, 1);
    assert_multiple(&tnpo, &wtnpo, 1);
    assert_multiple(&ga, &tnpo0, 2 / (2 + 1e-5));
    assert_multiple(&wga, &wtnpo0, 2 / (2 + 1e-5)); /* wtnpo's own alpha is 1.5 */
}

/* The value with the weights of nll held fixed: what the derivative belongs to. */
static void derivatives_of_weighted_objectives_hold_the_weights(void **state)
{
    const char *const names[] = {"wga", "tnpo", "wtnpo", "satimp"};
    for (size_t k = 0; k < 4; k++) {
        struct objective o = named(names[k]);
        double slope[N], weight, sum = 0, weights = 0, l = objective_token(&o, N, nll, before, slope, &weight);
        for (size_t t = 0; t < N; t++) sum += slope[t] * nll[t], weights -= slope[t];
        assert_near(l, sum, 1e-15);
        assert_near(weight, weights, 1e-15);
    }
}

static void weights_are_what_their_equations_say(void **state)
{
    struct objective o[] = {named("wga"), named("tnpo"), named("wtnpo"), named("satimp")};
    for (size_t t = 0; t < N; t++) {
        double p = exp(-nll[t]), q = exp(-before[t]), floor = pow(p, 4) + pow(q, 4) + 1e-5;
        double want[] = {pow(p, 5), 2 * pow(p, 4) / floor, 2 * pow(p, 5.5) / floor, pow(p, 5) * (1 - p)};
        for (size_t k = 0; k < 4; k++) {
            double slope[N], weight;
            objective_token(&o[k], N, nll, before, slope, &weight);
            assert_near(-slope[t] * N, want[k], 1e-13);
        }
    }
}

static void objectives_without_a_weight_say_nan(void **state)
{
    const char *const names[] = {"ga", "gd", "nll"};
    double slope[N], weight;
    for (int k = 0; k < 3; k++) {
        struct objective o = named(names[k]);
        weight = 0;
        objective_token(&o, N, nll, NULL, slope, &weight);
        assert_true(isnan(weight));
    }
}

/* DESIGN.md: a destroyed model reaches 90 nats per token; 100 of them, against a reference that knows them or the other
 * way round, must stay finite; so must p = 0 in floats (nll 1e5). */
static void a_destroyed_model_has_finite_losses_and_weights(void **state)
{
    static const double level[] = {0, 90, 1e5};
    const char *const others[] = {"ga", "wga", "tnpo", "wtnpo", "satimp", "simnpo"};
    struct objective npo = named("npo");
    double x[100], reference[100], slope[100], weight, value;
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            double margin = 100 * (level[a] - level[b]);
            for (int t = 0; t < 100; t++) x[t] = level[a], reference[t] = level[b];
            value = objective_token(&npo, 100, x, reference, slope, &weight);
            assert_true(isfinite(value) && isfinite(weight) && weight >= 0 && weight <= 2);
            for (int t = 0; t < 100; t++) assert_true(isfinite(slope[t]));
            if (margin < 0) { /* -(2/beta) log sigmoid of a large negative: 2 |margin| */
                assert_near(value, -2 * margin, 1e-12);
                assert_near(weight, 2, 1e-15);
            }
            if (margin > 0) assert_true(value >= 0 && value < 1e-300 && weight < 1e-300);
            for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
                struct objective o = named(others[k]);
                assert_true(isfinite(objective_token(&o, 100, x, reference, slope, &weight)));
                for (int t = 0; t < 100; t++) assert_true(isfinite(slope[t]));
                assert_true(isnan(weight) == !strcmp(others[k], "ga") && !(weight < 0 || weight > 2));
            }
        }
}

static void dpo_is_what_its_equation_says(void **state)
{
    const struct objective dpo = with("dpo", "beta", 0.3);
    const double win = 0.7, lose = 2.1, h = 1e-5; /* S - S_o of the refusal and of the answer */
    double dwin, dlose, other, weight, none;
    assert_near(objective_pair(&dpo, win, lose, &dwin, &dlose, &weight), 2 / 0.3 * log(1 + exp(-0.3 * (lose - win))),
                1e-14);
    assert_near(weight, 2 / (1 + exp(0.3 * (lose - win))), 1e-14);
    double more = objective_pair(&dpo, win + h, lose, &other, &none, &none);
    assert_near(dwin, (more - objective_pair(&dpo, win - h, lose, &other, &none, &none)) / (2 * h), 1e-9);
    more = objective_pair(&dpo, win, lose + h, &other, &none, &none);
    assert_near(dlose, (more - objective_pair(&dpo, win, lose - h, &other, &none, &none)) / (2 * h), 1e-9);
    assert_near(objective_pair(&dpo, 1.3, 1.3, &dwin, &dlose, &weight), 2 / 0.3 * log(2), 1e-14);
    assert_near(weight, 1, 0);
}

static void dpo_of_a_destroyed_model_is_finite(void **state)
{
    const struct objective dpo = with("dpo", "beta", 0.1);
    const double level[] = {-1e7, -9000, 0, 9000, 1e7};
    double dwin, dlose, weight;
    for (int a = 0; a < 5; a++)
        for (int b = 0; b < 5; b++) {
            assert_true(isfinite(objective_pair(&dpo, level[a], level[b], &dwin, &dlose, &weight)));
            assert_true(weight >= 0 && weight <= 2 && dwin == weight && dlose == -weight);
        }
}

static void a_small_beta_weighs_every_sequence_alike(void **state)
{
    struct objective npo = named("npo");
    double slope[N], weight;
    assert_int_equal(objective_set(&npo, "test", "beta", 1e-9), OK);
    assert_true(isfinite(objective_token(&npo, N, nll, before, slope, &weight)));
    assert_near(weight, 1, 1e-8);
}

static void no_label_is_no_loss(void **state)
{
    const char *const names[] = {"ga", "npo", "gd", "nll"};
    for (int k = 0; k < 4; k++) {
        struct objective o = named(names[k]);
        double weight = 0;
        assert_true(objective_token(&o, 0, NULL, NULL, NULL, &weight) == 0);
        assert_true(isnan(weight));
    }
}

static void sequences_weigh_by_labels_by_positions_or_alike(void **state)
{
    struct objective ga = named("ga"), npo = named("npo"), kl = named("kl");
    assert_near(objective_mass(&ga, 20, 7), 7, 0);
    assert_near(objective_mass(&npo, 20, 7), 1, 0);
    assert_near(objective_mass(&kl, 20, 7), 20, 0);
    assert_near(objective_mass(&ga, 20, 0), 0, 0);
    assert_near(objective_mass(&npo, 20, 0), 0, 0);
    assert_near(objective_mass(&kl, 20, 0), 20, 0);
    struct objective ceu = named("ceu"), dpo = named("dpo"), rr = named("rr"), rmu = named("rmu"), po = named("po");
    assert_near(objective_mass(&ceu, 20, 7), 6, 0); /* the first label is skipped */
    assert_near(objective_mass(&ceu, 20, 1), 0, 0);
    assert_near(objective_mass(&ceu, 20, 0), 0, 0);
    assert_near(objective_mass(&dpo, 20, 7), 1, 0);
    assert_near(objective_mass(&rr, 20, 7), 20, 0);
    assert_near(objective_mass(&rmu, 20, 7), 7, 0);
    assert_near(objective_mass(&po, 20, 7), 7, 0);
}

static struct objective chosen(const char *name, const char *key, const char *word)
{
    struct objective o = named(name);
    bool done = false;
    assert_int_equal(objective_choose(&o, "test", key, word, &done), OK);
    assert_true(done);
    return o;
}

static void a_word_chooses_positions_and_how_rows_combine(void **state)
{
    struct objective undial = named("undial"), rmu = named("rmu"), kl = named("kl"), rr = named("rr"), pdu = named("pdu");
    assert_int_equal(objective_positions(&undial), AT_BEFORE);
    assert_int_equal(objective_positions(&rmu), AT_BEFORE);
    assert_int_equal(objective_positions(&kl), AT_ALL);
    assert_int_equal(objective_positions(&rr), AT_ALL);
    assert_int_equal(objective_positions(&pdu), AT_LABELS);
    assert_false(objective_crossed(&rmu) || objective_unit(&rmu));
    undial = chosen("undial", "positions", "all"), kl = chosen("kl", "positions", "labelled");
    assert_int_equal(objective_positions(&undial), AT_NEXT);
    assert_int_equal(objective_positions(&kl), AT_BEFORE);
    rmu = chosen("rmu", "positions", "labelled"), rr = chosen("rr", "positions", "before");
    assert_int_equal(objective_positions(&rmu), AT_LABELS);
    assert_int_equal(objective_positions(&rr), AT_BEFORE);
    rmu = chosen("rmu", "combine", "rows"), rr = chosen("rr", "combine", "crossed");
    assert_near(objective_mass(&rmu, 9, 9), 1, 0);
    assert_near(objective_mass(&rmu, 0, 0), 0, 0);
    assert_near(objective_mass(&rr, 9, 9), 9, 0);
    assert_true(objective_crossed(&rr));
    rmu = chosen("rmu", "unit", "true");
    assert_true(objective_unit(&rmu));
}

static void a_word_that_is_none_is_answered_with_those_that_there_are(void **state)
{
    struct objective o = named("rmu");
    struct text label = {0};
    bool done;
    assert_int_equal(objective_choose(&o, "in.yaml:3:5", "positions", "labeled", &done), ERR_INPUT);
    assert_non_null(
        strstr(fail_message(), "in.yaml:3:5: positions of rmu is \"labeled\", but must be before, labelled or all"));
    fail_clear();
    assert_int_equal(objective_choose(&o, "test", "layer", "1", &done), OK);
    assert_false(done); /* a number */
    o = chosen("rmu", "positions", "all");
    assert_int_equal(objective_label(&o, true, &label), OK);
    assert_string_equal(label.data, "rmu(layer=1,c=2,positions=all)");
    text_free(&label);
}

static void pdu_is_the_square_of_how_far_the_largest_logit_stands_out(void **state)
{
    struct objective pdu = named("pdu");
    double d, other;
    assert_int_equal(objective_kind(&pdu), LOSS_OF_PEAKS);
    assert_near(objective_peak(&pdu, 5, 2, &d), 9, 0);
    assert_near(d, 6, 0);
    assert_near((objective_peak(&pdu, 5 + 1e-6, 2, &other) - objective_peak(&pdu, 5 - 1e-6, 2, &other)) / 2e-6, 6, 1e-9);
}

static void labels_name_parameters_that_differ_or_all(void **state)
{
    struct objective npo = named("npo"), ga = named("ga");
    struct text label = {0}, all = {0}, changed = {0}, plain = {0};
    assert_int_equal(objective_label(&npo, false, &label), OK);
    assert_string_equal(label.data, "npo");
    assert_int_equal(objective_label(&npo, true, &all), OK);
    assert_string_equal(all.data, "npo(beta=0.5)");
    assert_int_equal(objective_set(&npo, "test", "beta", 0.1), OK);
    assert_int_equal(objective_label(&npo, false, &changed), OK);
    assert_string_equal(changed.data, "npo(beta=0.1)");
    assert_int_equal(objective_label(&ga, true, &plain), OK);
    assert_string_equal(plain.data, "ga");
    text_free(&label), text_free(&all), text_free(&changed), text_free(&plain);
}

static void two_settings_never_share_a_label(void **state)
{
    struct objective one = named("npo"), two = named("npo");
    struct text a = {0}, b = {0};
    assert_int_equal(objective_set(&one, "test", "beta", 0.12345678), OK);
    assert_int_equal(objective_set(&two, "test", "beta", 0.12345679), OK);
    assert_int_equal(objective_label(&one, true, &a), OK);
    assert_int_equal(objective_label(&two, true, &b), OK);
    assert_string_not_equal(a.data, b.data);
    text_free(&a), text_free(&b);
}

static void refuse(const char *name, const char *key, double value, const char *words)
{
    struct objective o = named(name);
    assert_int_equal(objective_set(&o, "in.yaml:3:5", key, value), ERR_INPUT);
    if (strncmp(fail_message(), "in.yaml:3:5: ", 13) || !strstr(fail_message(), words))
        fail_msg("%s: not \"%s\"", fail_message(), words);
    fail_clear();
}

static void parameters_out_of_range_are_refused_by_name(void **state)
{
    refuse("npo", "beta", 0, "beta of npo");
    refuse("npo", "beta", -1, "beta of npo");
    refuse("npo", "beta", NAN, "beta of npo");
    refuse("npo", "beta", INFINITY, "beta of npo");
}

static void unknown_parameters_are_answered_with_those_that_there_are(void **state)
{
    refuse("npo", "alpha", 1, "its parameters: beta");
    refuse("ga", "beta", 1, "its parameters: none");
}

static void there_is_no_objective_of_another_name(void **state)
{
    struct objective o;
    assert_false(objective_find("", &o));
    assert_false(objective_find("NPO", &o));
    assert_false(objective_find("npo ", &o));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives_are_central_differences),
        cmocka_unit_test(tangents_are_central_differences_of_the_derivatives),
        cmocka_unit_test(tangents_of_satimp_are_0_where_a_token_is_certain),
        cmocka_unit_test(losses_are_what_their_equations_say),
        cmocka_unit_test(npo_at_the_reference_is_ga_of_the_sum),
        cmocka_unit_test(weighted_objectives_fall_together_where_their_exponents_vanish),
        cmocka_unit_test(derivatives_of_weighted_objectives_hold_the_weights),
        cmocka_unit_test(weights_are_what_their_equations_say),
        cmocka_unit_test(objectives_without_a_weight_say_nan),
        cmocka_unit_test(a_destroyed_model_has_finite_losses_and_weights),
        cmocka_unit_test(dpo_is_what_its_equation_says),
        cmocka_unit_test(dpo_of_a_destroyed_model_is_finite),
        cmocka_unit_test(a_small_beta_weighs_every_sequence_alike),
        cmocka_unit_test(no_label_is_no_loss),
        cmocka_unit_test(sequences_weigh_by_labels_by_positions_or_alike),
        cmocka_unit_test(a_word_chooses_positions_and_how_rows_combine),
        cmocka_unit_test(a_word_that_is_none_is_answered_with_those_that_there_are),
        cmocka_unit_test(pdu_is_the_square_of_how_far_the_largest_logit_stands_out),
        cmocka_unit_test(labels_name_parameters_that_differ_or_all),
        cmocka_unit_test(two_settings_never_share_a_label),
        cmocka_unit_test(parameters_out_of_range_are_refused_by_name),
        cmocka_unit_test(unknown_parameters_are_answered_with_those_that_there_are),
        cmocka_unit_test(there_is_no_objective_of_another_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
