/* task: how long the longest step took, by which a run ends in time.                                              NP: 1 */
#include "near.h"
#include "unlearn/task_priv.h"

/* Of a clock that goes on meanwhile: the bounds leave room for a minute. */
static void a_step_that_a_checkpoint_follows_counts_without_it(void **state)
{
    struct stop s = {.began = clock_seconds() - 1000};
    stop_saved(&s, 300);
    assert_true(s.longest >= 700 && s.longest < 760);
    assert_true(s.saving == 300 && clock_seconds() - s.began < 60);
    s.began = clock_seconds() - 400; /* a shorter one */
    stop_saved(&s, 200);
    assert_true(s.longest >= 700 && s.longest < 760 && s.saving == 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_that_a_checkpoint_follows_counts_without_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
