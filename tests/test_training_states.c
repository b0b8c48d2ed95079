/* training: states that share memory, and what is given up for it.                                          NP: 1 2 */
#include "demo_run.h"
#include "unlearn/training.h"
#include <math.h>

enum { UPDATES = 3 };
#define COMMON                                                                                            \
    "parallel={tokens: 1024, shard: none}", /* or less room sums in another order */                      \
        "optimizer={lr: 1.0e-3, weight_decay: 0.01, warmup_steps: 0}", "train={steps: 3, batch_size: 4}", \
        "objective.regularizer=[{name: gd, weight: 0.5}, {name: kl}]"

struct made {
    real *weights;
    size_t size;
    double part[2], whole, sum;
};

static struct made run_within(const char *const *more, size_t room)
{
    struct demo_run d;
    struct training *t;
    struct made made;
    demo_inputs(&d, more);
    demo_subject_within(&d, room);
    assert_int_equal(training_new(d.subject, &t), OK);
    for (size_t i = 0; i < UPDATES; i++) {
        assert_int_equal(training_gradient(t, i), OK);
        assert_int_equal(training_update(t, i, false), OK);
    }
    made.part[0] = t->update.norm_of_part[0], made.part[1] = t->update.norm_of_part[1];
    made.whole = t->update.norm;
    made.sum = t->regularizers ? optim_norm(d.subject->grid, NULL, t->regularizers) : NAN;
    made.size = d.subject->layout->size;
    made.weights = malloc(made.size * sizeof *made.weights);
    memcpy(made.weights, d.subject->weights->data, made.size * sizeof *made.weights);
    training_free(t);
    demo_free(&d);
    return made;
}

/* Room for less changes it by rounding alone; what a probe reads, not at all: the gradient of the regularisers is there for gram. */
static void a_probe_changes_no_update_and_less_room_hardly(void **state)
{
    static const char *const plain[] = {COMMON, NULL}, *const shown[] = {COMMON, "geffect.gram=true", NULL};
    const struct made wide = run_within(plain, SIZE_MAX), narrow = run_within(plain, 0), gram = run_within(shown, 0);
    double apart = 0;
    for (size_t i = 0; i < wide.size; i++)
        apart += fabs((double)wide.weights[i] - (double)narrow.weights[i]) / (double)wide.size;
    assert_true(apart < UPDATES * 1e-3 * (sizeof(real) == 4 ? 1e-3 : 1e-9)); /* of three steps */
    assert_memory_equal(wide.weights, gram.weights, wide.size * sizeof *wide.weights);
    assert_true(wide.part[0] > 0 && wide.part[1] > 0);
    assert_true(isnan(narrow.part[0]) && isnan(narrow.part[1])); /* what is measured is given up last, but it is */
    assert_near(wide.whole, narrow.whole, sizeof(real) == 4 ? 1e-4 * wide.whole : 1e-10 * wide.whole);
    assert_true(isnan(wide.sum) && isnan(narrow.sum));
    assert_true(gram.sum > fabs(wide.part[0] - wide.part[1]) && gram.sum < wide.part[0] + wide.part[1]);
    free(wide.weights), free(narrow.weights), free(gram.weights);
}

static bool together(const struct home *a, const struct home *b) { return a->from <= b->to && b->from <= a->to; }

/* Of inputs that hold much. */
static void what_is_alive_together_has_memory_of_its_own(void **state)
{
    static const char *const plain[] = {NULL}, *const spread[] = {"geffect.standard_error=true",
                                                                  "geffect.objectives=[npo, ga, wga]", NULL};
    static const char *const much[] = {"geffect={fidelity: true, gram: true, standard_error: true, curvature: true}",
                                       "guard.project=0.5", "objective.regularizer=[{name: gd}, {name: rr}]", NULL};
    static const char *const turns[] = {"parallel.risks=in_turn", "geffect.standard_error=true", NULL};
    static const struct {
        const char *const *more;
        size_t memories; /* that are enough, counted by hand: at the moment named */
    } cases[] = {
        {plain, 2},  /* effects: two risks; gradient: it and a part */
        {spread, 3}, /* probes: three objectives */
        {much, 8},   /* updated: two risks, gradient, regularisers, gram's objective, step, start, curvature */
        {turns, 2},  /* gradient: it and a part */
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct demo_run d;
        struct home *home;
        size_t n, memories;
        demo_inputs(&d, cases[c].more);
        demo_subject_within(&d, SIZE_MAX);
        assert_int_equal(plan_homes(d.in, &d.plan, &n, &home, &memories), OK);
        assert_int_equal(memories, cases[c].memories);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                struct state *a, *b;
                assert_int_equal(subject_state(d.subject, home[i].name, home[i].which, &a), OK);
                assert_int_equal(subject_state(d.subject, home[j].name, home[j].which, &b), OK);
                assert_true(a && b && (a == b) == (home[i].at == home[j].at));
                if (i != j && together(&home[i], &home[j])) assert_ptr_not_equal(a, b);
            }
        free(home);
        demo_free(&d);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_probe_changes_no_update_and_less_room_hardly),
        cmocka_unit_test(what_is_alive_together_has_memory_of_its_own),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests_name("training: states", tests, NULL, NULL);
    parallel_end();
    return failed;
}
