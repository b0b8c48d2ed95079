/* config: what a restart may find changed.                                                                    NP: 1 */
#include "near.h"
#include "unlearn/config.h"

#define DATA "model: {path: m}\ndata: {forget: f, retain: r}\n"
#define BASE DATA "objective: {name: npo, beta: 0.9, regularizer: gd}\n"

static struct config *read(const char *base, const char *more)
{
    char text[1024];
    struct config *c;
    snprintf(text, sizeof text, "%s%s", base, more);
    if (config_parse("in.yaml", text, strlen(text), 0, NULL, &c) != OK) fail_msg("%s", fail_message());
    return c;
}

/* then: what the run before was given, behind base; now: what the one that goes on is given */
static void compare(const char *base, const char *then, const char *now, setting_default *is_default, const char *said)
{
    struct config *a = read(base, then), *b = read(base, now);
    struct text t = {0};
    assert_int_equal(config_changed(b, a, is_default, &t), OK);
    assert_string_equal(t.data ? t.data : "", said);
    text_free(&t);
    config_free(a), config_free(b);
}

static void check(const char *then, const char *now, const char *said) { compare(BASE, then, now, NULL, said); }

static void what_may_change_is_not_named(void **state)
{
    check("", "", "");
    check("", "train: {steps: 7, batch_size: 4}", "");
    check("", "parallel: {data: 2, tensor: 3}\ncheckpoint: {every: 5}\ngeffect: {every: 2}", "");
    check("output: {directory: a}", "output: {directory: b}", "");
    check("", "evaluate: {retain_logs: L}", "");
    check("evaluate: {retain_logs: L, benchmark: muse}", "evaluate: {benchmark: muse}", "");
    check("seed: 42", "", ""); /* the default */
}

static void what_must_stay_is_named_with_both_values(void **state)
{
    check("", "seed: 7", "seed is not what it was: now 7, then 42");
    check("train: {batch_size: 8}", "", "train.batch_size is not what it was: now 4, then 8");
    check("optimizer: {betas: [0.8, 0.9]}", "", "optimizer.betas is not what it was: now [0.9, 0.999], then [0.8, 0.9]");
    check("", "geffect: {resolution: tensor}", "geffect.resolution is not what it was: now tensor, then layer");
    check("", "geffect: {objectives: [npo, ga]}", "geffect.objectives is not what it was");
    check("guard: {project: 1}", "guard: {project: 0.5}", "guard.project is not what it was: now 0.5, then 1");
    check("guard: {retain: 0.5}", "guard: {retain: {budget: 0.5, do: step_back}}",
          "guard.retain.do is not what it was: now step_back, then stop");
    check("", "geffect: {risks: {all: {data: forget}}}", "geffect.risks is not what it was");
}

static void keys_of_a_risk_that_repeat_those_of_the_data_say_nothing(void **state)
{
    const char *data = "model: {path: m}\nobjective: ga\ndata: {forget: F, retain: {path: R, question: q, answer: a}}\n";
    compare(data, "geffect: {risks: {kept: {data: retain, answer: a, question: q}}}",
            "geffect: {risks: {kept: {data: retain}}}", NULL, "");
    compare(data, "geffect: {risks: {kept: {data: R2, answer: a}}}", "geffect: {risks: {kept: {data: R2}}}", NULL,
            "geffect.risks is not what it was");
}

/* When it is measured decides nothing, unless a guard acts on it. */
static void a_guard_holds_the_steps_that_are_measured(void **state)
{
    static const char *const guard[] = {"guard: {retain: 0.5}\n", "guard: {freeze: 2}\n"};
    char then[256], now[256];
    for (size_t i = 0; i < 2; i++) {
        snprintf(then, sizeof then, "%sgeffect: {every: 2}", guard[i]);
        snprintf(now, sizeof now, "%sgeffect: {every: 3}\ncheckpoint: {every: 6}\ntrain: {steps: 9}", guard[i]);
        check(then, now, "geffect.every is not what it was: now 3, then 2");
    }
    check("guard: {project: 1}\ngeffect: {every: 2}", "guard: {project: 1}\ngeffect: {every: 3}", "");
    check("geffect: {every: 2, curvature: {window: 4}}", "geffect: {every: 0, curvature: {window: 4}}",
          "geffect.every is not what it was: now 0, then 2"); /* a window's states are in a checkpoint, or are not */
}

static void a_parameter_of_the_objective_is_named(void **state)
{
    static const char then[] = "objective: {name: npo, beta: 0.9, regularizer: gd}";
    compare(DATA, then, "objective: {name: npo, beta: 0.5, regularizer: gd}", NULL,
            "objective.beta is not what it was: now 0.5, then 0.9");
    compare(DATA, then, "objective: {name: npo, regularizer: gd}", NULL,
            "objective.beta is not what it was: now its default, then 0.9");
}

/* What the table of objectives would say of npo. */
static bool half_beta(const struct config_objective *of, const struct config_setting *s)
{
    return !strcmp(of->name, "npo") && !strcmp(s->key, "beta") && s->number == 0.5;
}

static void check_objectives(const char *then, const char *now, const char *said)
{
    compare(DATA, then, now, half_beta, said);
}

static void parameters_that_mean_the_same_are_the_same(void **state)
{
    check_objectives("objective: {name: npo, beta: 0.7}", "objective: {name: npo, beta: 7.0e-1}", "");
    check_objectives("objective: npo", "objective: {name: npo, beta: 0.50}", "");
    check_objectives("objective: {name: npo, beta: 0.5}", "objective: npo", "");
    check_objectives("objective: npo", "objective: {name: npo, beta: 0.6}",
                     "objective.beta is not what it was: now 0.6, then its default");
    check_objectives("objective: {name: x, p: 1, q: 2}", "objective: {name: x, q: 2, p: 1}", "");
    check_objectives("objective: {name: x, positions: all}", "objective: {name: x, positions: labelled}",
                     "objective.positions is not what it was: now labelled, then all");
    check_objectives("objective: {name: x, regularizer: {name: y, p: 1, q: all}}",
                     "objective: {name: x, regularizer: [{q: all, p: 1.0, name: y}]}", "");
    check_objectives("objective: {name: x, regularizer: {name: y, p: 1}}",
                     "objective: {name: x, regularizer: {name: y, p: 2}}", "objective.regularizer is not what it was");
    check_objectives("geffect: {objectives: [ga, npo]}", "geffect: {objectives: [ga, {name: npo, beta: 0.5}]}", "");
}

/* A bare name has the parameters of the objective that is trained, a mapping its own or the defaults. */
static void a_default_that_is_written_is_not_what_the_objective_has(void **state)
{
    static const char trained[] = "objective: {name: npo, beta: 0.9}\ngeffect: {objectives: [npo]}",
                      empty[] = "objective: {name: npo, beta: 0.9}\ngeffect: {objectives: [{name: npo}]}",
                      usual[] = "objective: {name: npo, beta: 0.9}\ngeffect: {objectives: [{name: npo, beta: 0.5}]}";
    check_objectives(trained, empty, "geffect.objectives is not what it was");
    check_objectives(trained, usual, "geffect.objectives is not what it was");
    check_objectives(empty, usual, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_may_change_is_not_named),
        cmocka_unit_test(what_must_stay_is_named_with_both_values),
        cmocka_unit_test(keys_of_a_risk_that_repeat_those_of_the_data_say_nothing),
        cmocka_unit_test(a_guard_holds_the_steps_that_are_measured),
        cmocka_unit_test(a_parameter_of_the_objective_is_named),
        cmocka_unit_test(parameters_that_mean_the_same_are_the_same),
        cmocka_unit_test(a_default_that_is_written_is_not_what_the_objective_has),
    };
    return cmocka_run_group_tests_name("config: changes", tests, NULL, NULL);
}
