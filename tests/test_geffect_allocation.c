/* geffect: a step allocates nothing, whatever it computes.                                                   NP: 1 2 */
#include "scene.h"
#include "unlearn/optim.h"

/* Room for the forget rows with the retain rows, in blocks of a pass. */
static struct pairs *pairs_made(const struct scene *s)
{
    const size_t tokens = s->g.engine.tokens, rows = s->g.retain->n_row;
    struct pairs *w;
    TEST_OK(pairs_new(&s->g.engine, &(struct pairs_limits){rows, tokens, tokens, rows}, &w, NULL));
    return w;
}

static void pair(struct scene *s, struct pairs *w)
{
    static double out[2 * 64 * 64];
    static size_t group[256];
    const struct objective o[] = {golden_objective("ga", NULL, 0), golden_objective("npo", NULL, 0)};
    struct rows du = golden_rows(&s->g, s->g.forget), dr = golden_rows(&s->g, s->g.retain);
    const size_t blocks = pairs_share(w, &s->g.engine, &dr);
    assert_true(slot_count(s->g.layout) <= 256 && du.n * dr.n <= 64 * 64);
    for (size_t b = 0; b < blocks; b++) {
        TEST_OK(pairs_keep(w, b));
        TEST_OK(pairs_add(w, 2, o, &du, 1, group, out));
    }
}

/* Everything that an update and a measurement call. */
static void step(struct scene *s, struct optim *o, struct pairs *w)
{
    static double e[SCENE_J * SCENE_K * 256 * 64], loss[SCENE_J * 64], mean[SCENE_J * 64];
    struct objective forget[] = {golden_objective("ga", NULL, 0), golden_objective("npo", NULL, 0)};
    struct objective kl = golden_objective("kl", NULL, 0);
    struct rows du = golden_rows(&s->g, s->g.forget), dr = golden_rows(&s->g, s->g.retain);
    batch_gradient(s, &forget[1], s->g.forget, s->gradient);
    batch_gradient(s, &kl, s->g.retain, s->gradient);
    TEST_OK(engine_nll(&s->g.engine, s->g.weights, &du, s->g.nll_ref));
    TEST_OK(engine_effects(&s->g.engine, 2, forget, &du, SCENE_K, SCENE_K, s->risk, e, loss, mean));
    TEST_OK(engine_effects(&s->g.engine, 1, &kl, &dr, SCENE_K, SCENE_K, s->risk, e, loss, mean));
    pair(s, w);
    optim_update(o, s->gradient, optim_norm(s->g.grid, NULL, s->gradient), s->g.weights);
}

static void a_step_allocates_nothing_after_the_first(void **state)
{
    const struct optim_settings set = {OPTIM_ADAMW, LR_LINEAR, 1e-4, 0.9, 0.999, 1e-8, 0.01, 1, 1, 4, NULL, false, 0};
    for (size_t i = 0; i < n_scene; i++) {
        struct pairs *w = pairs_made(&scenes[i]);
        struct optim *o;
        size_t before;
        TEST_OK(optim_new(&set, scenes[i].g.layout, &o));
        step(&scenes[i], o, w);
        before = memory_count();
        assert_true(before > 0);
        step(&scenes[i], o, w);
        step(&scenes[i], o, w);
        assert_int_equal(memory_count(), before);
        optim_free(o);
        pairs_free(w);
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
