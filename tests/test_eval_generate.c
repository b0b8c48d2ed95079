/* eval: generation against repeated forwards of the whole sequence, in every layout.                        NP: 1 2 4 */
#include "generating.h"

/* Whether no logit beats that of id by more than rounding. */
static bool is_best(size_t V, const double *z, int32_t id)
{
    const double close = sizeof(real) == 8 ? 1e-10 : 1e-3;
    for (size_t v = 0; v < V; v++)
        if (z[v] > z[id] + close) return false;
    return true;
}

static void greedy_is_what_forwards_say(struct scene *s)
{
    const size_t V = s->shape->vocabulary;
    struct answers a = run(s, &s->how);
    double *z = calloc(LONGEST * V, sizeof *z);
    struct twin t;
    bool good = a.n == PROMPTS;
    twin_open(s, &t);
    for (size_t i = 0; i < PROMPTS && good; i++) {
        const size_t n = s->first[i + 1] - s->first[i], count = a.first[i + 1] - a.first[i];
        good = count == s->how.max_length - n && a.stop[i] == STOP_LENGTH;
        memcpy(t.id, s->id + s->first[i], n * sizeof *t.id);
        memcpy(t.id + n, a.id + a.first[i], count * sizeof *t.id);
        twin_forward(s, &t, n + count);
        twin_logits(s, &t, n + count, z);
        for (size_t k = 0; k < count; k++) {
            if (s->shape->long_from) twin_forward(s, &t, n + k); /* the length of a row decides how it turns */
            if (s->shape->long_from) twin_logits(s, &t, n + k, z);
            good = good && is_best(V, z + (n + k - 1) * V, t.id[n + k]);
        }
    }
    model_free(t.model);
    free(z);
    assert_all(s, good);
    answers_free(&a);
}

static void greedy_decoding_is_what_whole_forwards_say(void **state) { everywhere(greedy_is_what_forwards_say); }

static void hidden_forward(struct scene *s, struct twin *t, size_t n, double *z)
{
    twin_set(t, n);
    t->batch.hidden = t->hidden;
    TEST_OK(model_forward(t->model, s->weights, &t->batch, NULL));
    twin_logits(s, t, n, z);
}

static size_t
    n_longer; /* answers with hidden tokens in the prompt, in which the visible ones become as many as turn otherwise */

/* Tokens of the prompt hidden as keys, and others at the places that are left; the answer has the same token, seen. */
static bool hidden_as_forwards_say(struct scene *s, struct twin *t, const struct answers *a, size_t i, double *z)
{
    const size_t V = s->shape->vocabulary, n = s->first[i + 1] - s->first[i], count = a->first[i + 1] - a->first[i];
    bool good = true;
    int32_t visible = 0;
    memcpy(t->id, s->id + s->first[i], n * sizeof *t->id);
    memcpy(t->id + n, a->id + a->first[i], count * sizeof *t->id);
    for (size_t k = 0; k < n + count; k++) {
        t->hidden[k] = k < n && (size_t)t->id[k] + 1 == s->how.hide;
        t->position[k] = t->hidden[k] ? 1 : visible++;
    }
    hidden_forward(s, t, n + count, z);
    for (size_t k = 0; k < count; k++) {
        if (s->shape->long_from) hidden_forward(s, t, n + k, z); /* the visible length decides how a row turns */
        good = good && is_best(V, z + (n + k - 1) * V, t->id[n + k]);
    }
    n_longer += s->shape->long_from && (size_t)visible < n + count && (size_t)visible > s->shape->long_from + 1 &&
                (size_t)visible - count <= s->shape->long_from;
    return good;
}

/* A hidden token at the end of a long row, where it stands at position 1, does not make the row a short one: with another
 * token behind it, the logits are the same. */
static bool long_rows_stay_long(struct scene *s, struct twin *t, double *z)
{
    const size_t V = s->shape->vocabulary, n = s->shape->long_from + 3;
    double *longer = calloc((n + 1) * V, sizeof *longer), worst = 0;
    for (size_t k = 0; k <= n; k++) {
        t->id[k] = 1 + (int32_t)k % 30;
        t->hidden[k] = k == n - 1;
        t->position[k] = k < n - 1 ? (int32_t)k : k == n - 1 ? 1 : (int32_t)n - 1;
    }
    hidden_forward(s, t, n, z);
    hidden_forward(s, t, n + 1, longer);
    for (size_t k = 0; k < n * V; k++) worst = worse(worst, fabs(z[k] - longer[k]));
    free(longer);
    return worst < (sizeof(real) == 8 ? 1e-10 : 1e-4);
}

static size_t n_changed; /* answers that differ from those that see all of their prompt */

static void hidden_is_what_forwards_say(struct scene *s)
{
    double *z = calloc(LONGEST * s->shape->vocabulary, sizeof *z);
    struct answers all = run(s, &s->how), a;
    struct twin t;
    bool good = true;
    for (size_t i = 2; i < 5; i++) s->id[s->first[i]] = s->id[s->first[i + 1] - 1] = s->id[s->first[2] + 2];
    s->how.hide = (size_t)s->id[s->first[2] + 2] + 1;
    a = run(s, &s->how);
    twin_open(s, &t);
    for (size_t i = 0; i < PROMPTS; i++) good = hidden_as_forwards_say(s, &t, &a, i, z) && good;
    if (s->shape->long_from && s->shape->long_from + 4 <= s->how.max_length) good = long_rows_stay_long(s, &t, z) && good;
    n_changed += !same(&a, &all);
    model_free(t.model);
    free(z);
    assert_all(s, good);
    answers_free(&a), answers_free(&all);
}

static void hidden_tokens_of_a_prompt_are_seen_by_none_and_not_counted(void **state)
{
    n_changed = n_longer = 0;
    everywhere(hidden_is_what_forwards_say);
    assert_true(n_changed > 0);
    assert_true(n_longer > 0);
}

/* ---------------------------------------------------------------------------------------- slots, ranks, threads ----- */
static void slots_do_not_matter(struct scene *s)
{
    static const double temperature[] = {0, 0.9};
    for (int k = 0; k < 2; k++) {
        struct generation how = s->how;
        how.temperature = temperature[k];
        struct answers first = run(s, &how);
        for (size_t slots = 1; slots <= 16; slots *= 3) { /* on 2 threads, then on 3 that share the slots */
            real *guard = s->weights->guard;
            how.slots = slots;
            math_threads(2 + (slots > 1));
            if (slots > 1) s->weights->guard = NULL; /* which has one reader */
            struct answers other = run(s, &how);
            s->weights->guard = guard;
            math_threads(1);
            assert_all(s, same(&first, &other));
            answers_free(&other);
        }
        if (s->grid->tensor_size == 1) {
            struct grid *one = grid_alone();
            struct answers other;
            TEST_OK(generate(one, s->layout, s->weights, &how, PROMPTS, s->first, s->id, &other));
            assert_all(s, same(&first, &other));
            answers_free(&other);
            grid_free(one);
        }
        answers_free(&first);
    }
}

static void slots_threads_and_data_ranks_do_not_change_an_id(void **state) { everywhere(slots_do_not_matter); }

/* Weights in bfloat16 have one room for the vectors of a layer, which readers at different layers would take from each other. */
static void halves_on_threads(struct scene *s)
{
    struct state *full = s->weights, *half = NULL;
    struct generation how = s->how;
    how.slots = PROMPTS, how.temperature = 0.9;
    TEST_OK(state_new_held("weights", s->layout, true, &half));
    state_copy(full, half);
    s->weights = half;
    struct answers first = run(s, &how);
    for (int again = 0; again < 5; again++) {
        math_threads(4);
        struct answers other = run(s, &how);
        math_threads(1);
        assert_all(s, same(&first, &other));
        answers_free(&other);
    }
    answers_free(&first);
    s->weights = full;
    state_free(half);
}

static void threads_do_not_change_an_id_of_weights_in_bfloat16(void **state)
{
    if (math_products_lack(BY_BFLOAT16)) {
        print_message("skipped: %s\n", math_products_lack(BY_BFLOAT16));
        return;
    }
    TEST_OK(math_products(BY_BFLOAT16));
    everywhere(halves_on_threads);
    TEST_OK(math_products(BY_BLAS));
}

/* Whether these are the logits of the last of n ids in a forward of the whole. */
static bool is_of_whole_forward(struct scene *s, size_t n, const real *z)
{
    const double close = sizeof(real) == 8 ? 1e-10 : 1e-3;
    const size_t words = s->layout->word_count;
    struct twin t;
    bool same_logits = true;
    twin_open(s, &t);
    for (size_t i = 0; i < n; i++) t.id[i] = 1 + (int32_t)i % 30;
    twin_forward(s, &t, n);
    for (size_t v = 0; v < words; v++)
        same_logits = same_logits && fabs(z[v] - model_logits(t.model)[(n - 1) * words + v]) <= close;
    model_free(t.model);
    return same_logits;
}

/* Logits of a step do not depend on how the sequence was cut, nor on what stands beside it. The length from which on all of
 * a sequence turns otherwise is no place for a cut. */
static void steps_may_be_cut(struct scene *s)
{
    enum { N = 11, BESIDE = 4 };
    const struct layout *l = s->layout;
    const struct model_limits most = {.rows = 3 * N, .outputs = 2, .sequences = 2, .longest = N};
    const size_t some = s->shape->long_from ? s->shape->long_from : N,
                 n = s->how.max_length < some ? s->how.max_length : some;
    real *want = calloc(l->word_count, sizeof *want);
    struct model *m;
    struct cache *c;
    bool good = true;
    TEST_OK(model_new(l, s->grid, &most, &m, NULL));
    TEST_OK(cache_new(l, 2, N, &c, NULL));
    for (size_t cut = 0; cut < n; cut++)
        for (size_t part = 0; part < 2; part++) { /* rows 0 ... cut-1, then the rest beside another sequence */
            size_t from = part ? cut : 0, to = part ? n : cut, rows = to - from, item[2] = {cut % 2, 1 - cut % 2};
            size_t first[3] = {0, rows, rows + BESIDE}, out[2] = {rows - 1, rows + BESIDE - 1};
            int32_t id[3 * N], position[3 * N];
            struct batch b = {.n_seq = 1 + part,
                              .n_row = first[1 + part],
                              .n_out = 1 + part,
                              .longest = n,
                              .first = first,
                              .id = id,
                              .position = position,
                              .out_row = out,
                              .item = item};
            if (!rows) continue;
            for (size_t t = 0; t < b.n_row; t++) {
                position[t] = (int32_t)(t < rows ? from + t : t - rows);
                id[t] = 1 + (int32_t)(t < rows ? from + t : 2 * t) % 30;
            }
            model_step(m, s->weights, c, &b);
            if (!cut) memcpy(want, model_logits(m), l->word_count * sizeof *want);
            if (part) good = good && !memcmp(want, model_logits(m), l->word_count * sizeof *want);
        }
    assert_all(s, good);
    good = is_of_whole_forward(s, n, want);
    assert_all(s, good);
    model_free(m);
    cache_free(c);
    free(want);
}

static void logits_of_a_row_do_not_depend_on_the_rows_beside_it(void **state) { everywhere(steps_may_be_cut); }

/* ------------------------------------------------------------------------------------------------ where it ends ----- */
static void ends(struct scene *s)
{
    struct answers all = run(s, &s->how);
    int32_t eos[2] = {-7, 0};
    struct generation how = s->how;
    bool good = true;
    how.eos = eos, how.n_eos = 2;
    eos[1] = all.id[all.first[2] + 3]; /* prompt 2 ends before it, the others wherever they say it */
    struct answers some = run(s, &how);
    for (size_t i = 0; i < PROMPTS; i++) {
        size_t n = all.first[i + 1] - all.first[i], want = 0, got = some.first[i + 1] - some.first[i];
        while (want < n && all.id[all.first[i] + want] != eos[1]) want++;
        good = good && got == want && some.stop[i] == (want < n ? STOP_EOS : STOP_LENGTH) &&
               !memcmp(some.id + some.first[i], all.id + all.first[i], got * sizeof *all.id);
    }
    good = good && all.first[3] == all.first[4] && all.stop[3] == STOP_LENGTH; /* its prompt has max_length ids */
    good = good && all.first[7] == all.first[6] + 1;                           /* one less */
    answers_free(&some);
    how.max_length = s->how.max_length - 2;
    some = run(s, &how);
    good = good && some.first[4] == some.first[3] && some.first[7] == some.first[6];
    for (size_t i = 0; i < PROMPTS; i++) good = good && some.first[i + 1] - some.first[i] <= how.max_length;
    assert_all(s, good);
    answers_free(&some);
    answers_free(&all);
}

static void answers_end_at_eos_and_at_max_length(void **state) { everywhere(ends); }

static void what_cannot_be_continued_is_refused(void **state)
{
    static const struct {
        const char *change, *message;
        size_t longest, first;
    } cases[] = {
        {"{}", "prompt 1 has no tokens", 10, 0},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 24, \"n_layer\": 2, \"n_head\": 6, \"n_positions\": 11, \"n_inner\": "
         "17}",
         "has learned 11 positions", 12, 1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct shape *shape = shape_with(cases[c].change);
        struct grid *g;
        struct layout *l;
        struct state *w;
        struct answers a;
        const struct generation how = {.max_length = cases[c].longest, .top_p = 1, .slots = 2};
        const size_t first[] = {0, cases[c].first};
        const int32_t id[] = {3};
        TEST_OK(grid_new(parallel_job_size(), 1, &g));
        TEST_OK(layout_new(shape, 0, 1, &l));
        TEST_OK(state_new("weights", l, &w));
        assert_int_equal(generate(g, l, w, &how, 1, first, id, &a), ERR_INPUT);
        assert_non_null(strstr(fail_message(), cases[c].message));
        fail_clear();
        math_fill(l->size, NAN, w->data);
        const struct generation short_one = {.max_length = 3, .top_p = 1, .slots = 2};
        assert_int_equal(generate(g, l, w, &short_one, 1, (const size_t[]){0, 1}, id, &a), ERR_NUMERIC);
        assert_non_null(strstr(fail_message(), "prompt 1: the logits are not finite"));
        assert_true(a.n == 0 && !a.id);
        fail_clear();
        TEST_OK(generate(g, l, w, &short_one, 0, (const size_t[]){0}, NULL, &a)); /* no prompt at all */
        assert_true(a.n == 0 && a.first[0] == 0);
        answers_free(&a);
        state_free(w), layout_free(l), grid_free(g), shape_free(shape);
    }
}

static void the_loop_allocates_nothing(void **state)
{
    struct scene s;
    size_t count[2];
    if (!scene_open(N_GOLDEN, 1, &s)) fail_here();
    for (int i = 0; i < 2; i++) {
        struct generation how = s.how;
        how.slots = 2, how.max_length = i ? LONGEST : 3;
        size_t before = memory_count();
        struct answers a = run(&s, &how);
        count[i] = memory_count() - before;
        assert_true(generate_bytes(s.grid, s.layout, false, &how) > 0);
        answers_free(&a);
    }
    assert_int_equal(count[0], count[1]);
    scene_close(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_decoding_is_what_whole_forwards_say),
        cmocka_unit_test(hidden_tokens_of_a_prompt_are_seen_by_none_and_not_counted),
        cmocka_unit_test(slots_threads_and_data_ranks_do_not_change_an_id),
        cmocka_unit_test(threads_do_not_change_an_id_of_weights_in_bfloat16),
        cmocka_unit_test(logits_of_a_row_do_not_depend_on_the_rows_beside_it),
        cmocka_unit_test(answers_end_at_eos_and_at_max_length),
        cmocka_unit_test(what_cannot_be_continued_is_refused),
        cmocka_unit_test(the_loop_allocates_nothing),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
