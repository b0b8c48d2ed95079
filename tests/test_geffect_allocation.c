/* geffect: a step allocates nothing, whatever it computes.                                                   NP: 1 2 */
#include "scene.h"
#include "unlearn/optim.h"

/* Everything that an update and a measurement call. */
static void step(struct scene *s, struct optim *o)
{
    static double e[SCENE_J * SCENE_K * 256 * 64], loss[SCENE_J * 64], mean[SCENE_J * 64];
    struct objective forget[] = {golden_objective("ga", NULL, 0), golden_objective("npo", NULL, 0)};
    struct objective kl = golden_objective("kl", NULL, 0);
    struct rows du = golden_rows(&s->g, s->g.forget), dr = golden_rows(&s->g, s->g.retain);
    batch_gradient(s, &forget[1], s->g.forget, s->gradient);
    batch_gradient(s, &kl, s->g.retain, s->gradient);
    TEST_OK(engine_nll(&s->g.engine, s->g.weights, &du, s->g.nll_ref));
    TEST_OK(engine_effects(&s->g.engine, 2, forget, &du, SCENE_K, s->risk, e, loss, mean));
    TEST_OK(engine_effects(&s->g.engine, 1, &kl, &dr, SCENE_K, s->risk, e, loss, mean));
    optim_update(o, s->gradient, optim_norm(s->g.grid, NULL, s->gradient), s->g.weights);
}

static void a_step_allocates_nothing_after_the_first(void **state)
{
    const struct optim_settings set = {OPTIM_ADAMW, LR_LINEAR, 1e-4, 0.9, 0.999, 1e-8, 0.01, 1, 1, 4, NULL};
    for (size_t i = 0; i < n_scene; i++) {
        struct optim *o;
        size_t before;
        TEST_OK(optim_new(&set, scenes[i].g.layout, &o));
        step(&scenes[i], o);
        before = memory_count();
        assert_true(before > 0);
        step(&scenes[i], o);
        step(&scenes[i], o);
        assert_int_equal(memory_count(), before);
        optim_free(o);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_step_allocates_nothing_after_the_first)};
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests(tests, scenes_open, scenes_close);
    parallel_end();
    return failed;
}
