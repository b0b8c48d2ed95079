/* eval: tokens that generation draws, against the softmax of a whole forward, in every layout.                NP: 1 2 4 */
#include "generating.h"

/* One token each after the same prompt, many times: frequencies against the softmax of a whole forward. Of N draws the
 * frequency of a token with probability p has the deviation sqrt(p (1-p) / N); five of them, and one draw. */
static void frequencies(struct scene *s, double temperature, double top_p)
{
    enum { DRAWS = 2000 };
    const size_t V = s->shape->vocabulary;
    size_t *first = calloc(DRAWS + 1, sizeof *first);
    int32_t *id = calloc(2 * DRAWS, sizeof *id);
    double *p = calloc(V, sizeof *p), *count = calloc(V, sizeof *count), sum = 0, inside = 0;
    const struct generation how = {.max_length = 3, .temperature = temperature, .top_p = top_p, .seed = 11, .slots = 50};
    struct answers a;
    struct twin t;
    bool good = true;
    twin_open(s, &t);
    t.id[0] = 3, t.id[1] = 4;
    twin_forward(s, &t, 2);
    for (size_t v = 0; v < s->layout->word_count; v++)
        p[s->layout->word_first + v] =
            exp(((double)model_logits(t.model)[s->layout->word_count + v] - model_lse(t.model)[1]) / temperature);
    comm_sum_double(s->grid->tensor, p, V);
    for (size_t v = 0; v < V; v++) sum += p[v];
    for (size_t i = 0; i < DRAWS; i++) id[2 * i] = 3, id[2 * i + 1] = 4, first[i + 1] = 2 * i + 2;
    TEST_OK(generate(s->grid, s->layout, s->weights, &how, DRAWS, first, id, &a));
    for (size_t i = 0; i < DRAWS; i++) count[a.id[a.first[i]]]++;
    for (int pass = 0; pass < 2; pass++)
        for (size_t v = 0; v < V; v++) {
            double above = 0, want;
            for (size_t k = 0; k < V; k++) above += p[k] > p[v] ? p[k] / sum : 0;
            if (!pass) inside += above < top_p ? p[v] : 0;
            want = above < top_p ? p[v] / inside : 0;
            if (pass)
                good = good &&
                       fabs(count[v] / DRAWS - want) <= 5 * sqrt(want * (1 - want) / DRAWS) + 1.0 / DRAWS * (want > 0);
        }
    assert_all(s, good);
    answers_free(&a);
    model_free(t.model);
    free(first), free(id), free(p), free(count);
}

static void draws_follow_the_softmax_and_top_p(void **state)
{
    for (int tensor = 1; tensor <= parallel_job_size(); tensor++) {
        struct scene s;
        if (parallel_job_size() % tensor || !scene_open(N_GOLDEN, tensor, &s)) continue;
        frequencies(&s, 1, 1);
        frequencies(&s, 2, 1);
        frequencies(&s, 1.5, 0.7);
        scene_close(&s);
    }
}

/* A prompt's tokens depend on the seed, on its place and on nothing else. */
static void draws_are_a_function_of_seed_prompt_and_token(void **state)
{
    struct scene s;
    if (!scene_open(N_GOLDEN, 1, &s)) fail_here();
    struct generation how = s.how;
    how.temperature = 1.5;
    struct answers first = run(&s, &how), again = run(&s, &how);
    how.seed++;
    struct answers other = run(&s, &how);
    assert_all(&s, same(&first, &again));
    assert_all(&s, !same(&first, &other));
    answers_free(&again), answers_free(&other);
    how.seed--, how.temperature = 1e-9; /* as good as greedy */
    again = run(&s, &how);
    how.temperature = 0;
    other = run(&s, &how);
    assert_all(&s, same(&again, &other));
    answers_free(&first), answers_free(&again), answers_free(&other);
    scene_close(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_softmax_and_top_p),
        cmocka_unit_test(draws_are_a_function_of_seed_prompt_and_token),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
