/* training: what must be saved to go on as if nothing had happened.                                        NP: 1 2 */
#include "demo_run.h"
#include "unlearn/training.h"

enum { UPDATES = 5, BREAK = 3 };
static const char *const adamw[] = {"optimizer={lr: 1.0e-3, weight_decay: 0.01, warmup_steps: 2}",
                                    "train={steps: 5, batch_size: 2}",
                                    "objective.regularizer=[{name: gd}, {name: kl, weight: 0.5}]", NULL};
static const char *const sgd[] = {"optimizer={name: sgd, lr: 1.0e-2, warmup_steps: 0}", "train={steps: 5, batch_size: 3}",
                                  NULL};

static const char *const dual[] = {
    "optimizer={lr: 1.0e-3, warmup_steps: 0}", "train={steps: 5, batch_size: 1, accumulation: 2, combine: micro_batch}",
    "objective={name: pdu, regularizer: [{name: gd, dual: {step_size: 0.5, eps: 3}}]}", NULL};

static const char *const guarded[] = {"optimizer={lr: 1.0e-3, warmup_steps: 0}", "train={steps: 5, batch_size: 2}",
                                      "guard={freeze: 2, project: 0.5, retain: 100}", NULL};

/* Of a guard there is one measurement, before the second update. */
static void make_updates(struct training *t, size_t first, size_t end)
{
    static const double effect[] = {0, -2, 0, -3, 0, 0, -1};
    const struct seen seen = {.step = 1, .risk = 0.25, .effect = effect, .updates = true};
    for (size_t i = first; i < end; i++) {
        assert_int_equal(training_gradient(t, i), OK);
        if (t->guard && i == 1) training_guard(t, &seen);
        assert_int_equal(training_update(t, i, false), OK);
    }
}

static size_t bytes_of(const struct saved *s)
{
    return s->state ? s->state->layout->size * sizeof(real) : sizeof *s->number;
}
static void *place_of(const struct saved *s) { return s->state ? (void *)s->state->data : (void *)s->number; }

/* The list of a run that is broken off, its values by themselves. */
static size_t save(const char *const *more, unsigned char **value, char name[MOST_SAVED][64])
{
    struct saved list[MOST_SAVED];
    struct demo_run d;
    struct training *t;
    size_t n;
    demo_inputs(&d, more);
    demo_subject(&d);
    assert_int_equal(training_new(d.subject, &t), OK);
    make_updates(t, 0, BREAK);
    n = training_saved(t, list);
    for (size_t i = 0; i < n; i++) {
        value[i] = malloc(bytes_of(&list[i]));
        memcpy(value[i], place_of(&list[i]), bytes_of(&list[i]));
        snprintf(name[i], sizeof name[i], "%s", list[i].name);
    }
    training_free(t);
    demo_free(&d);
    return n;
}

/* Weights after all updates, of a run by itself or of one that begins where another broke off. */
static real *weights_of(const char *const *more, unsigned char *const *value, char name[MOST_SAVED][64], size_t *size)
{
    struct saved list[MOST_SAVED];
    struct demo_run d;
    struct training *t;
    real *weights;
    demo_inputs(&d, more);
    demo_subject(&d);
    assert_int_equal(training_new(d.subject, &t), OK);
    for (size_t i = 0; value && i < training_saved(t, list); i++) {
        assert_string_equal(list[i].name, name[i]);
        memcpy(place_of(&list[i]), value[i], bytes_of(&list[i]));
    }
    make_updates(t, value ? (size_t)t->optim->done : 0, UPDATES);
    *size = d.subject->layout->size;
    weights = malloc(*size * sizeof *weights);
    memcpy(weights, d.subject->weights->data, *size * sizeof *weights);
    training_free(t);
    demo_free(&d);
    return weights;
}

static void compare(const char *const *more, size_t n_saved)
{
    unsigned char *value[MOST_SAVED];
    char name[MOST_SAVED][64];
    size_t n = save(more, value, name), size, again;
    real *whole = weights_of(more, NULL, NULL, &size), *continued = weights_of(more, value, name, &again);
    assert_int_equal(n, n_saved);
    assert_int_equal(size, again);
    assert_memory_equal(whole, continued, size * sizeof *whole);
    for (size_t i = 0; i < n; i++) free(value[i]);
    free(whole), free(continued);
}

static void a_run_goes_on_from_its_list_bit_for_bit(void **state) { compare(adamw, 4); }
static void a_dual_weight_is_saved_too(void **state) { compare(dual, 5); }
/* Which layers rest, the mean of retain gradients, the risk at the start, the checkpoint to step back to. */
static void what_a_guard_remembers_is_saved(void **state) { compare(guarded, 4 + 4); }
static void sgd_has_less_to_save(void **state) { compare(sgd, 2); }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_goes_on_from_its_list_bit_for_bit),
        cmocka_unit_test(a_dual_weight_is_saved_too),
        cmocka_unit_test(what_a_guard_remembers_is_saved),
        cmocka_unit_test(sgd_has_less_to_save),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests_name("training: what is saved", tests, NULL, NULL);
    parallel_end();
    return failed;
}
