/* eval: generation against repeated forwards of the whole sequence, in every layout.                        NP: 1 2 4 */
#include "alone.h"
#include "golden.h"
#include "model_files.h"
#include "unlearn/eval.h"

enum { LONGEST = 26, PROMPTS = 9 };
static const char *const golden_models[] = {"llama",    "llama3",   "mistral", "qwen2",  "phi",
                                            "gpt_neox", "stablelm", "phi3",    "gemma2", "gemma3"};
enum { N_GOLDEN = sizeof golden_models / sizeof *golden_models, N_MADE = N_FURTHER + 1 };

struct scene { /* a model and prompts of many lengths */
    struct grid *grid;
    struct shape *shape;
    struct layout *layout;
    struct state *weights;
    char what[256];
    size_t first[PROMPTS + 1];
    int32_t id[PROMPTS * LONGEST];
    struct generation how;
};

/* A number for each element of the model, whatever the layout: logits far from each other. */
static void weights_make(struct scene *s)
{
    for (size_t i = 0; i < s->layout->n_param; i++) {
        const struct param *p = &s->layout->param[i];
        real *x = s->weights->data + p->offset;
        for (size_t r = 0; r < p->row_count; r++)
            for (size_t c = 0; c < p->col_count; c++)
                *x++ =
                    (real)(0.3 * random_normal(7, STREAM_TEST,
                                               ((uint64_t)i << 40) + (param_global_row(p, r) << 20) + p->col_first + c));
    }
}

/* Lengths 1, 2, 5, ... and two that leave no room, or all but none. */
static void prompts_make(struct scene *s)
{
    static const size_t length[PROMPTS] = {1, 2, 5, 9, 3, 4, 8, 1, 6};
    size_t at = 0;
    for (size_t i = 0; i < PROMPTS; i++) {
        size_t n = i == 3 ? s->how.max_length : i == 6 ? s->how.max_length - 1 : length[i];
        if (n > LONGEST) n = LONGEST;
        for (size_t t = 0; t < n; t++)
            s->id[at + t] = (int32_t)random_below(3, STREAM_TEST, 100 * i + t, s->shape->vocabulary - 1) + 1;
        s->first[i + 1] = at += n;
    }
}

/* kind: a golden model, or a change of small_llama; false: not there */
static bool scene_open(size_t kind, int tensor, struct scene *s)
{
    char path[5100];
    const bool golden = kind < N_GOLDEN;
    const char *root = shared_path("golden/models");
    memset(s, 0, sizeof *s);
    if (golden && !root) return false;
    if (golden) {
        snprintf(path, sizeof path, "%s/%s/model", root, golden_models[kind]);
        TEST_OK(shape_read(path, &s->shape));
    } else
        s->shape = shape_with(kind == N_GOLDEN ? "{}" : further_kinds[kind - N_GOLDEN - 1]);
    assert_non_null(s->shape);
    snprintf(s->what, sizeof s->what, "%s, tensor %d of %d", s->shape->model_type, tensor, parallel_job_size());
    TEST_OK(grid_new(parallel_job_size() / tensor, tensor, &s->grid));
    TEST_OK(layout_new(s->shape, s->grid->tensor_rank, tensor, &s->layout));
    TEST_OK(state_new("weights", s->layout, &s->weights));
    if (golden)
        TEST_OK(weights_read(path, s->grid, s->weights, NULL));
    else
        weights_make(s);
    TEST_OK(state_poison(s->weights));
    s->how = (struct generation){.max_length = LONGEST, .top_p = 1, .seed = 5, .slots = 4};
    if (s->shape->learned_positions && s->shape->positions < LONGEST) s->how.max_length = s->shape->positions;
    prompts_make(s);
    return true;
}

static void scene_close(struct scene *s)
{
    state_free(s->weights);
    layout_free(s->layout);
    shape_free(s->shape);
    grid_free(s->grid);
}

static void everywhere(void (*check)(struct scene *s))
{
    size_t seen = 0;
    for (size_t k = 0; k < N_GOLDEN + N_MADE; k++)
        for (int tensor = 1; tensor <= parallel_job_size(); tensor++) {
            struct scene s;
            if (parallel_job_size() % tensor || !scene_open(k, tensor, &s)) continue;
            check(&s);
            scene_close(&s);
            seen += k < N_GOLDEN;
        }
    if (!seen) print_message("skipped: the golden models are not there\n");
}

static struct answers run(struct scene *s, const struct generation *how)
{
    struct answers a;
    TEST_OK(generate(s->grid, s->layout, s->weights, how, PROMPTS, s->first, s->id, &a));
    return a;
}

static bool same(const struct answers *a, const struct answers *b)
{
    return a->n == b->n && !memcmp(a->first, b->first, (a->n + 1) * sizeof *a->first) &&
           !memcmp(a->id, b->id, a->first[a->n] * sizeof *a->id) && !memcmp(a->stop, b->stop, a->n * sizeof *a->stop);
}

#define assert_all(s, good)                                                 \
    do {                                                                    \
        if (!all_agree((s)->grid, good)) fail_msg("%s: " #good, (s)->what); \
    } while (0)

/* ------------------------------------------------------------- the slow twin: forwards of training, of whole sequences ----- */
struct twin {
    struct model *model;
    struct batch batch;
    size_t first[2], out_first[2], out_row[LONGEST], item;
    int32_t id[LONGEST], position[LONGEST], out_id[LONGEST];
    unsigned char hidden[LONGEST];
};

static void twin_open(struct scene *s, struct twin *t)
{
    const struct model_limits most = {.rows = LONGEST, .outputs = LONGEST, .sequences = 1, .longest = LONGEST};
    memset(t, 0, sizeof *t);
    for (size_t i = 0; i < LONGEST; i++) t->position[i] = (int32_t)i, t->out_row[i] = i, t->out_id[i] = -1;
    TEST_OK(model_new(s->layout, s->grid, &most, &t->model, NULL));
}

static void twin_set(struct twin *t, size_t n)
{
    t->first[1] = t->out_first[1] = n;
    t->batch = (struct batch){.n_seq = 1,
                              .n_row = n,
                              .n_out = n,
                              .longest = n,
                              .first = t->first,
                              .id = t->id,
                              .position = t->position,
                              .out_first = t->out_first,
                              .out_row = t->out_row,
                              .out_id = t->out_id,
                              .item = &t->item};
}

/* All n tokens of t->id, each with an output: no token sees a later one. */
static void twin_forward(struct scene *s, struct twin *t, size_t n)
{
    twin_set(t, n);
    TEST_OK(model_forward(t->model, s->weights, &t->batch, NULL));
}

/* z [n][vocabulary] of the last forward, whole */
static void twin_logits(struct scene *s, struct twin *t, size_t n, double *z)
{
    const struct layout *l = s->layout;
    const size_t V = s->shape->vocabulary;
    memset(z, 0, n * V * sizeof *z);
    for (size_t k = 0; k < n; k++)
        for (size_t v = 0; v < l->word_count; v++)
            z[k * V + l->word_first + v] = (double)model_logits(t->model)[k * l->word_count + v];
    comm_sum_double(s->grid->tensor, z, n * V);
}

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

/* ---------------------------------------------------------------------------------------------------- sampling ----- */
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
        cmocka_unit_test(greedy_decoding_is_what_whole_forwards_say),
        cmocka_unit_test(hidden_tokens_of_a_prompt_are_seen_by_none_and_not_counted),
        cmocka_unit_test(slots_threads_and_data_ranks_do_not_change_an_id),
        cmocka_unit_test(threads_do_not_change_an_id_of_weights_in_bfloat16),
        cmocka_unit_test(logits_of_a_row_do_not_depend_on_the_rows_beside_it),
        cmocka_unit_test(answers_end_at_eos_and_at_max_length),
        cmocka_unit_test(what_cannot_be_continued_is_refused),
        cmocka_unit_test(the_loop_allocates_nothing),
        cmocka_unit_test(draws_follow_the_softmax_and_top_p),
        cmocka_unit_test(draws_are_a_function_of_seed_prompt_and_token),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    math_threads(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
