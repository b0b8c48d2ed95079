/* config: presets are defaults, and what is written wins.                                                        NP: 1 */
#include "near.h"
#include "unlearn/config.h"

#define BASE "model: {path: M}\ndata: {forget: F, retain: R, idk: I}\n"

static struct config *read(const char *text)
{
    struct config *c = NULL;
    struct text all = {0};
    text_print(&all, "%s%s", BASE, text);
    if (config_parse("in.yaml", all.data, all.n, 0, NULL, &c) != OK) fail_msg("%s; for:\n%s", fail_message(), text);
    text_free(&all);
    return c;
}

static double setting(const struct config_objective *o, const char *key)
{
    for (size_t i = 0; i < o->n_setting; i++)
        if (!strcmp(o->setting[i].key, key)) return o->setting[i].is_number ? o->setting[i].number : INFINITY;
    return NAN;
}

static void without_a_preset_nothing_changes(void **state)
{
    static const char *const none[] = {"", "preset: none", "preset: null", "preset: ~"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        struct config *c = read(none[i]);
        assert_int_equal(c->preset, PRESET_NONE);
        assert_true(c->optimizer.clip == 0 && c->optimizer.weight_decay == 0 && c->train.epochs == 5 && c->seed == 42);
        assert_true(c->optimizer.decay == DECAY_MATRICES && c->train.combine == COMBINE_GLOBAL &&
                    c->objective.weight == 1);
        assert_int_equal(c->n_regularizer, 0);
        config_free(c);
    }
}

static void a_preset_sets_what_is_not_written(void **state)
{
    struct config *c = read("preset: open_unlearning");
    assert_true(c->optimizer.clip == 1 && c->optimizer.weight_decay == 0.01 && c->train.epochs == 10 && c->seed == 0);
    assert_true(c->train.batch_size == 8 && c->train.accumulation == 4 && c->data.max_length == 512);
    assert_int_equal(c->train.combine, COMBINE_MICRO_BATCH);
    assert_int_equal(c->evaluate.variant, VARIANT_OPEN_UNLEARNING);
    assert_string_equal(c->objective.name, "npo"); /* the default objective, with that tool's parameter */
    assert_true(setting(&c->objective, "beta") == 0.1);
    assert_int_equal(c->n_regularizer, 1);
    assert_string_equal(c->regularizer[0].name, "gd");
    config_free(c);
    c = read("preset: tofu\nobjective: dpo");
    assert_true(c->optimizer.clip == 0 && c->train.batch_size == 16 && c->objective.weight == 0.05);
    assert_int_equal(c->n_regularizer, 0);
    config_free(c);
    c = read("preset: paper");
    assert_int_equal(c->geffect.estimator, ESTIMATOR_MOVING_AVERAGE);
    assert_true(c->train.batch_size == 4 && c->optimizer.weight_decay == 0 && setting(&c->objective, "beta") == 0.5);
    config_free(c);
}

static void what_is_written_wins_wherever_it_stands(void **state)
{
    struct config *c =
        read("objective: {name: simnpo, beta: 2, regularizer: []}\noptimizer: {clip: 3, lr: null}\npreset: "
             "open_unlearning\ntrain: {epochs: 2}\nseed: 7");
    assert_true(c->optimizer.clip == 3 && c->optimizer.lr == 1e-5 && c->optimizer.weight_decay == 0.01);
    assert_true(c->train.epochs == 2 && c->seed == 7);
    assert_true(setting(&c->objective, "beta") == 2 && setting(&c->objective, "delta") == 0 &&
                c->objective.weight == 0.125);
    assert_int_equal(c->n_regularizer, 0);
    config_free(c);
}

static void a_preset_of_an_objective_holds_for_that_objective_alone(void **state)
{
    struct config *c =
        read("preset: open_unlearning\nobjective: ga\ngeffect: {objectives: [ga, wga, {name: wga, alpha: 3}, npo]}");
    assert_int_equal(c->n_regularizer, 0);
    assert_int_equal(c->objective.n_setting, 0);
    assert_int_equal(c->geffect.n_objective, 4);
    assert_int_equal(c->geffect.objective[0].n_setting, 0);
    assert_true(setting(&c->geffect.objective[1], "alpha") == 1 && setting(&c->geffect.objective[2], "alpha") == 3);
    assert_true(setting(&c->geffect.objective[3], "beta") == 0.1);
    config_free(c);
    c = read("preset: open_unlearning\nobjective: {name: wga, alpha: 2}\ngeffect: {objectives: wga}");
    assert_true(setting(&c->geffect.objective[0], "alpha") == 2); /* a bare name takes those of `objective` */
    config_free(c);
    c = read("preset: open_unlearning\ntask: null\nobjective: npo"); /* null: not written */
    assert_true(setting(&c->objective, "beta") == 0.1 && c->n_regularizer == 1);
    config_free(c);
    c = read("preset: open_unlearning\ntask: finetune");
    assert_int_equal(c->n_regularizer, 0);
    assert_true(c->optimizer.clip == 1);
    config_free(c);
}

static void a_dual_weight_is_read_in_both_forms(void **state)
{
    struct config *c = read("objective: {name: pdu, regularizer: [{name: gd, weight: 2, dual: 0.5}, kl]}");
    assert_true(c->regularizer[0].dual.step_size == 0.5 && c->regularizer[0].dual.update == DUAL_STEP);
    assert_true(c->regularizer[1].dual.step_size == 0);
    config_free(c);
    c = read("preset: open_unlearning\nobjective: pdu");
    assert_true(c->regularizer[0].dual.step_size == 1 && c->regularizer[0].dual.warmup_epochs == 5);
    assert_true(isinf(setting(&c->objective, "positions")));
    config_free(c);
    c = read("objective: {name: pdu, regularizer: {name: gd, dual: {step_size: 2, eps: 0.25, warmup_epochs: 1.5, update: "
             "epoch}}}");
    assert_true(c->regularizer[0].dual.eps == 0.25 && c->regularizer[0].dual.warmup_epochs == 1.5);
    assert_int_equal(c->regularizer[0].dual.update, DUAL_EPOCH);
    config_free(c);
}

/* The resolved input of every preset, with every objective that it knows, reads back to the same text. */
static void what_a_preset_made_reads_back(void **state)
{
    static const char *const presets[] = {"open_unlearning", "tofu", "paper"};
    static const char *const names[] = {"ga",  "npo",    "dpo", "simnpo", "wga",  "satimp",
                                        "ceu", "undial", "rmu", "pdu",    "tnpo", "wtnpo"};
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            struct text input = {0}, once = {0}, twice = {0};
            struct config *c, *again;
            text_print(&input, "preset: %s\nobjective: %s\n", presets[i], names[k]);
            c = read(input.data);
            assert_int_equal(config_write(c, &once), OK);
            if (config_parse("out.yaml", once.data, once.n, 0, NULL, &again) != OK) fail_msg("%s", fail_message());
            assert_int_equal(config_write(again, &twice), OK);
            assert_string_equal(once.data, twice.data);
            config_free(c), config_free(again);
            text_free(&input), text_free(&once), text_free(&twice);
        }
}

static enum status add_preset(void *to, const struct preset_text *p)
{
    return text_print(to, "%s %s %s %s (%s)\n", p->preset, p->objective ? p->objective : "any", p->key, p->value,
                      p->source);
}

static void the_table_names_preset_key_value_and_source(void **state)
{
    struct text t = {0};
    assert_int_equal(config_presets(add_preset, &t), OK);
    assert_non_null(strstr(t.data, "open_unlearning npo objective.beta 0.1 (configs/trainer/NPO.yaml)\n"));
    assert_non_null(strstr(t.data, "tofu any train.batch_size 16 (config/forget.yaml)\n"));
    text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_preset_nothing_changes),
        cmocka_unit_test(a_preset_sets_what_is_not_written),
        cmocka_unit_test(what_is_written_wins_wherever_it_stands),
        cmocka_unit_test(a_preset_of_an_objective_holds_for_that_objective_alone),
        cmocka_unit_test(a_dual_weight_is_read_in_both_forms),
        cmocka_unit_test(what_a_preset_made_reads_back),
        cmocka_unit_test(the_table_names_preset_key_value_and_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
