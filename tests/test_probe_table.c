/* probe: the table of what is measured beside the effects.                                                    NP: 1 */
#include "demo_run.h"

static void names_and_fields_are_unlike(void **state)
{
    for (size_t i = 0; i < n_probe; i++)
        for (size_t j = 0; j < i; j++) {
            const struct field_list *a = &probe_table[i]->fields, *b = &probe_table[j]->fields;
            assert_string_not_equal(probe_table[i]->name, probe_table[j]->name);
            for (size_t k = 0; k < a->n; k++)
                for (size_t l = 0; l < b->n; l++) assert_string_not_equal(a->field[k].name, b->field[l].name);
        }
}

/* What a probe shows of itself: names in the digest, and whether it reads the risks' gradients beside an update's, so that they
 * cannot be held one at a time. */
static void check(const char *const *more, const char *names, bool keeps)
{
    const char *turns[MOST_OVERRIDES] = {"parallel.risks=in_turn"};
    struct text t = {0};
    struct demo_run d;
    for (int n = 0; more[n]; n++) turns[n + 1] = more[n];
    demo_inputs(&d, more);
    assert_int_equal(probes_named(d.in, &t), OK);
    assert_string_equal(t.data, names);
    assert_int_equal(probes_check(d.in), OK);
    text_free(&t);
    demo_free(&d);
    demo_inputs(&d, turns);
    assert_int_equal(probes_check(d.in), keeps ? ERR_INPUT : OK);
    if (keeps)
        assert_non_null(strstr(fail_message(), "parallel.risks: in_turn holds the gradient of one risk at a time"));
    fail_clear();
    demo_free(&d);
}

static void a_probe_is_there_when_it_is_asked_for(void **state)
{
    static const char
        *const none[] = {NULL},
               *const gram[] = {"geffect.gram=true", NULL}, *const error[] = {"geffect.standard_error=true", NULL},
               *const fidelity[] = {"geffect.fidelity=true", NULL},
               *const alone[] = {"geffect.fidelity=true", "geffect.gram=false", NULL},
               *const pairs[] = {"geffect.pairs=forget", NULL}, *const none_of_it[] = {"geffect.pairs=false", NULL},
               *const rest[] = {"guard.freeze=1", NULL}, *const budget[] = {"guard.retain=1", NULL},
               *const predicted[] = {"guard.retain={budget: 1, of: predicted}", NULL},
               *const project[] = {"guard.project=1", NULL}, *const curvature[] = {"geffect.curvature=true", NULL},
               *const never[] = {"geffect={every: 0, gram: true, standard_error: true, curvature: true}", NULL};
    check(none, " 0", false);
    check(gram, " gram", true);
    check(error, " standard_error", false);
    check(fidelity, " gram fidelity", true);
    check(alone, " fidelity", true);
    check(pairs, " pairs", false);
    check(none_of_it, " 0", false);
    check(rest, " guard", false);
    check(budget, " guard", false);
    check(predicted, " guard", true);
    check(project, " 0", false); /* acts on gradients, not on measurements */
    check(curvature, " curvature", true);
    check(never, " 0", false);
}

static void a_name_that_a_probe_needs_is_refused(void **state)
{
    static const char *const taken[] = {"geffect.gram=true", "geffect.risks={update: {data: forget}}", NULL};
    struct demo_run d;
    demo_inputs(&d, taken);
    assert_int_equal(probes_check(d.in), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "\"update\" is the name of another gradient"));
    fail_clear();
    demo_free(&d);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_fields_are_unlike),
        cmocka_unit_test(a_probe_is_there_when_it_is_asked_for),
        cmocka_unit_test(a_name_that_a_probe_needs_is_refused),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests_name("probe: table", tests, NULL, NULL);
    parallel_end();
    return failed;
}
