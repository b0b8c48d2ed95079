/* eval: the benchmark's log, read and written, and what it sums up.                                              NP: 1 */
#include "near.h"
#include "unlearn/eval.h"
#include <unistd.h>

static const double TOL = 1e-14;      /* means of a few exponentials */
static const double PUBLISHED = 1e-9; /* relative; of the published logs, by the reference in NumPy and SciPy */
static const struct score_rule tofu;  /* its definitions */
static char path[64];
static double ln(double x) { return log(x); } /* `log` is the log below */

static int start(void **state)
{
    strcpy(path, "/tmp/unlearn-log-XXXXXX");
    close(mkstemp(path));
    return log_open(NULL, true) != OK;
}

static int stop(void **state)
{
    log_close();
    return unlink(path);
}

static void put(const char *text, size_t n)
{
    FILE *f = fopen(path, "w");
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
}

static enum status read_text(const char *text, unsigned needed, struct eval_log *log)
{
    put(text, strlen(text));
    fail_clear();
    return eval_log_read(path, needed, log);
}

/* Two rows and two wrong answers in every set: c = ln 2, ln 4; w = ln 4, ln 4 and ln 8, ln 2; q = c. */
static void fill(struct eval_log *log)
{
    static const double rouge[N_EVAL_SET] = {0.5, 0.25, 1, 0.125};
    for (int k = 0; k < N_EVAL_SET; k++) {
        struct eval_set *s = &log->set[k];
        assert_int_equal(eval_set_new(2, 2, true, s), OK);
        s->row[0] = 7, s->row[1] = 3;
        for (size_t i = 0; i < 2; i++) {
            s->nll[i] = s->paraphrased[i] = i ? ln(4) : ln(2);
            s->rouge1[i] = s->rouge_l[i] = rouge[k];
            s->n_token[i] = s->n_token_paraphrased[i] = 3 + (double)i;
            for (size_t j = 0; j < 2; j++) {
                s->perturbed[2 * i + j] = !i ? ln(4) : j ? ln(2) : ln(8);
                s->n_token_perturbed[2 * i + j] = 5 + (double)(2 * i + j);
            }
            text_print(&s->prompt[i], "Question %zu", i);
            text_print(&s->generated[i], "set %d: \"\xc3\xa9\xf0\x9f\x98\x80\n", k);
            text_add(&s->generated[i], "\0x", 2);
        }
    }
}

static void assert_numbers(const struct eval_summary *s, int set, double probability, double rouge, double truth)
{
    assert_near(s->number[set][EVAL_PROBABILITY], probability, TOL);
    assert_near(s->number[set][EVAL_ROUGE], rouge, TOL);
    assert_near(s->number[set][EVAL_TRUTH_RATIO], truth, TOL);
    for (int j = 0; j < N_EVAL_NUMBER; j++) assert_int_equal(s->left_out[set][j], 0);
}

/* Row 0: e^-c = 1/2, e^-w = 1/4 and 1/4: share 1/2, r = 1/2. Row 1: 1/4, 1/8 and 1/2: share 2/7, r = 5/4. */
static void numbers_are_what_their_equations_say(void **state)
{
    struct eval_log log = {0};
    struct eval_summary s;
    double share = (1.0 / 2 + 2.0 / 7) / 2, nine[] = {0.375, 0.5, 0.25, share, 0.25, 0.25, share, 1, 0.25};
    size_t warnings = log_warnings();
    fill(&log);
    eval_summarise(&tofu, "model", &log, &s);
    assert_numbers(&s, SET_RETAIN, 0.375, 0.5, 0.25);
    assert_numbers(&s, SET_REAL_AUTHORS, share, 0.25, 0.25);
    assert_numbers(&s, SET_WORLD_FACTS, share, 1, 0.25);
    assert_numbers(&s, SET_FORGET, 0.375, 0.125, (0.5 + 0.8) / 2);
    assert_near(s.model_utility, harmonic_mean(9, nine), TOL);
    assert_int_equal(log_warnings(), warnings);
    eval_log_free(&log);
}

static bool same_bits(const double *x, const double *y, size_t n) { return !memcmp(x, y, n * sizeof *x); }

static void what_is_written_is_read_bit_for_bit(void **state)
{
    struct eval_log log = {0}, again;
    struct text text = {0};
    fill(&log);
    for (int k = 0; k < N_EVAL_SET; k++) log.set[k].nll[1] = 0.1 + 0.2; /* needs 17 digits */
    assert_int_equal(eval_log_write(&log, &text), OK);
    put(text.data, text.n);
    assert_int_equal(eval_log_read(path, (1u << N_EVAL_SET) - 1, &again), OK);
    for (int k = 0; k < N_EVAL_SET; k++) {
        const struct eval_set *a = &log.set[k], *b = &again.set[k];
        assert_int_equal(b->n, 2);
        assert_int_equal(b->n_wrong, 2);
        assert_memory_equal(a->row, b->row, sizeof *a->row * 2);
        assert_true(same_bits(a->nll, b->nll, 2) && same_bits(a->paraphrased, b->paraphrased, 2));
        assert_true(same_bits(a->perturbed, b->perturbed, 4) && same_bits(a->n_token, b->n_token, 2));
        assert_true(same_bits(a->n_token_paraphrased, b->n_token_paraphrased, 2));
        assert_true(same_bits(a->n_token_perturbed, b->n_token_perturbed, 4));
        assert_true(same_bits(a->rouge1, b->rouge1, 2) && same_bits(a->rouge_l, b->rouge_l, 2));
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(a->generated[i].n, b->generated[i].n);
            assert_memory_equal(a->generated[i].data, b->generated[i].data, a->generated[i].n);
            assert_string_equal(a->prompt[i].data, b->prompt[i].data);
            assert_int_equal(b->answer[i].n, 0);
        }
    }
    text_free(&text);
    eval_log_free(&log), eval_log_free(&again);
}

static json_t *written(const struct eval_log *log)
{
    struct text text = {0};
    json_t *json;
    assert_int_equal(eval_log_write(log, &text), OK);
    assert_int_equal(json_parse("written", 0, text.data, text.n, &json), OK);
    text_free(&text);
    return json;
}

static double cell(json_t *root, const char *set, const char *key, const char *row)
{
    return json_number_value(json_object_get(json_object_get(json_object_get(root, set), key), row));
}

static void what_follows_from_the_arrays_is_written_beside_them(void **state)
{
    static const char facts[] = "eval_real_world_wo_options.json", forget[] = "eval_log_forget.json";
    struct eval_log log = {0};
    json_t *json;
    fill(&log);
    json = written(&log);
    assert_near(cell(json, forget, "gt_loss", "3"), 4 * ln(4), TOL);
    assert_near(cell(json, forget, "paraphrased_loss", "7"), 3 * ln(2), TOL);
    assert_near(cell(json, forget, "truth_ratio", "7"), 0.5, TOL);
    assert_near(cell(json, facts, "normalized_gt_loss", "3"), -ln(2.0 / 7), TOL);
    assert_null(json_object_get(json_object_get(json, forget), "normalized_gt_loss"));
    assert_true(json_is_integer(json_object_get(json_object_get(json_object_get(json, forget), "num_token_gt"), "7")));
    json_decref(json);
    eval_log_free(&log);
}

static void missing_values_are_null_when_written_and_absent_arrays_are_left_out(void **state)
{
    struct eval_log log = {0};
    json_t *json, *part;
    assert_int_equal(eval_set_new(2, 0, false, &log.set[SET_FORGET]), OK);
    log.set[SET_FORGET].nll[0] = 1, log.set[SET_FORGET].nll[1] = INFINITY;
    json = written(&log);
    assert_int_equal(json_object_size(json), 1);
    part = json_object_get(json, "eval_log_forget.json");
    assert_null(json_object_get(part, "rougeL_recall"));
    assert_null(json_object_get(part, "generated_text"));
    assert_null(json_object_get(part, "average_perturb_loss"));
    assert_null(json_object_get(part, "truth_ratio"));
    assert_true(json_is_null(json_object_get(json_object_get(part, "avg_gt_loss"), "1")));
    assert_true(json_is_null(json_object_get(json_object_get(part, "gt_loss"), "0")));
    json_decref(json);
    eval_log_free(&log);
}

static void a_text_that_is_not_utf8_is_not_written(void **state)
{
    struct eval_log log = {0};
    struct text text = {0};
    fill(&log);
    text_add(&log.set[SET_FORGET].answer[1], "\xe2\x84", 2);
    fail_clear();
    assert_int_equal(eval_log_write(&log, &text), ERR_INTERNAL);
    assert_non_null(strstr(fail_message(), "not UTF-8"));
    text_free(&text);
    eval_log_free(&log);
}

#define FORGET(content) "{\"eval_log_forget.json\": {" content "}}"
#define GT              "\"avg_gt_loss\": {\"0\": 1.5, \"1\": 2}"
#define PARAPHRASED     "\"avg_paraphrased_loss\": {\"1\": 3, \"0\": 4.5}"
#define WRONG(list)     FORGET(GT ", " PARAPHRASED ", \"average_perturb_loss\": " list)

static void rows_are_matched_by_their_names(void **state)
{
    struct eval_log log;
    const struct eval_set *s = &log.set[SET_FORGET];
    assert_int_equal(read_text(WRONG("{\"1\": [1, 2], \"0\": [3, 4]}"), 1u << SET_FORGET, &log), OK);
    assert_near(s->nll[0], 1.5, 0);
    assert_near(s->paraphrased[0], 4.5, 0);
    assert_near(s->perturbed[0], 3, 0);
    assert_near(s->nll[1], 2, 0);
    assert_near(s->paraphrased[1], 3, 0);
    assert_near(s->perturbed[3], 2, 0);
    assert_true(s->row[0] == 0 && s->row[1] == 1);
    assert_null(s->rouge_l);
    assert_int_equal(log.set[SET_RETAIN].n, 0);
    eval_log_free(&log);
}

static void numbers_that_json_does_not_have_are_missing_values(void **state)
{
    struct eval_log log;
    const struct eval_set *s = &log.set[SET_FORGET];
    assert_int_equal(
        read_text(FORGET("\"avg_gt_loss\": {\"0\": NaN, \"1\":-Infinity, \"2\": Infinity,\"3\":null, \"4\": 5}, "
                         "\"generated_text\": {\"0\": [\"NaN \\\\\", \"\\\"Infinity\", \"-\"], \"1\": "
                         "[\"\", \"\", \"\"], \"2\": [\"\", \"\", \"\"], \"3\": [\"\", \"\", \"\"], "
                         "\"4\": [\"\", \"\", \"NaN\"]}, \"average_perturb_loss\": {\"0\": null, \"1\": "
                         "[NaN, 2], \"2\": [1, 2], \"3\": [1, 2], \"4\": [1, 2]}"),
                  0, &log),
        OK);
    for (size_t i = 0; i < 4; i++) assert_true(isnan(s->nll[i]));
    assert_near(s->nll[4], 5, 0);
    assert_string_equal(s->prompt[0].data, "NaN \\");
    assert_string_equal(s->generated[0].data, "\"Infinity");
    assert_string_equal(s->answer[4].data, "NaN");
    assert_true(isnan(s->perturbed[0]) && isnan(s->perturbed[1]) && isnan(s->perturbed[2]));
    assert_near(s->perturbed[3], 2, 0);
    eval_log_free(&log);
}

#define THREE(wrong)                                                                                                     \
    FORGET("\"avg_gt_loss\": {\"0\": 1, \"1\": 1, \"2\": 1}, \"avg_paraphrased_loss\": {\"0\": 1, \"1\": 1, \"2\": 1}, " \
           "\"average_perturb_loss\": {\"0\": [2, 4], \"1\": [3, null], \"2\": [null, null]}" wrong)

/* Lists are filled up to the longest; what has tokens and no loss diverged, and is there. */
static void a_row_has_the_wrong_answers_before_the_nulls_at_the_end(void **state)
{
    static const char *const tokens[] = {
        "", ", \"num_token_perturb\": {\"0\": [5, 6], \"1\": [7, null], \"2\": [null, null]}",
        ", \"num_token_perturb\": {\"0\": [5, 6], \"1\": [7, 8], \"2\": [null, null]}"};
    for (int k = 0; k < 3; k++) {
        struct eval_log log;
        struct eval_summary s;
        char text[1024];
        json_t *json;
        snprintf(text, sizeof text, THREE("%s"), tokens[k]);
        assert_int_equal(read_text(text, 1u << SET_FORGET, &log), OK);
        eval_summarise(&tofu, NULL, &log, &s);
        assert_int_equal(s.left_out[SET_FORGET][EVAL_TRUTH_RATIO], k == 2 ? 2 : 1);
        json = written(&log);
        assert_near(cell(json, "eval_log_forget.json", "truth_ratio", "0"), exp(1 - 3), TOL);
        assert_near(cell(json, "eval_log_forget.json", "truth_ratio", "1"), k == 2 ? 0 : exp(1 - 3), TOL); /* 0: null */
        json_decref(json);
        eval_log_free(&log);
    }
}

static void a_set_of_nulls_alone_is_absent(void **state)
{
    struct eval_log log;
    struct text text = {0};
    const char *json = "{\"eval_log.json\": {\"average_perturb_loss\": {\"0\": null}}, \"eval_log_forget.json\": "
                       "{\"average_perturb_loss\": {\"0\": null}, \"num_token_gt\": {\"0\": 3}}}";
    assert_int_equal(read_text(json, 0, &log), OK);
    assert_int_equal(log.set[SET_RETAIN].n, 0);
    assert_int_equal(log.set[SET_FORGET].n, 1);
    assert_int_equal(eval_log_write(&log, &text), OK);
    eval_log_free(&log);
    assert_int_equal(read_text(text.data, 0, &log), OK); /* what is written is read */
    assert_int_equal(log.set[SET_FORGET].n, 1);
    eval_log_free(&log);
    text_free(&text);
}

/* A sum is a loss times a count: -0.0 is no 0 there, however odd it is as a count. */
static void a_count_keeps_its_sign(void **state)
{
    struct eval_log log;
    struct text text = {0};
    assert_int_equal(read_text(FORGET("\"avg_gt_loss\": {\"0\": 1.5}, \"num_token_gt\": {\"0\": -0.0}"), 0, &log), OK);
    assert_int_equal(eval_log_write(&log, &text), OK);
    eval_log_free(&log);
    assert_int_equal(read_text(text.data, 0, &log), OK);
    assert_true(signbit(log.set[SET_FORGET].n_token[0]));
    eval_log_free(&log);
    text_free(&text);
}

static void damaged_logs_are_refused_with_what_is_wrong(void **state)
{
    static const struct {
        const char *json, *message; /* a part of the message */
    } cases[] = {
        {"", ":1:"},
        {"[]", ": is not an object of sets"},
        {"{}", "eval_log_forget.json is not there"},
        {"{\"avg_gt_loss\": {\"0\": 1}}", "eval_log_forget.json is not there"},
        {"{\"eval_log_forget.json\": 3}", "eval_log_forget.json is not an object"},
        {FORGET(""), "avg_gt_loss is not there"},
        {FORGET("\"avg_gt_loss\": [1, 2]"), "avg_gt_loss is not an object with a value for each row"},
        {FORGET("\"avg_gt_loss\": {}"), "avg_gt_loss has no rows"},
        {FORGET("\"avg_gt_loss\": {\"x\": 1}"), "row \"x\" is not named by a whole number"},
        {FORGET("\"avg_gt_loss\": {\"-1\": 1}"), "row \"-1\" is not named"},
        {FORGET("\"avg_gt_loss\": {\"01\": 1}"), "row \"01\" is not named"},
        {FORGET("\"avg_gt_loss\": {\"\": 1}"), "row \"\" is not named"},
        {FORGET("\"avg_gt_loss\": {\"99999999999999999999\": 1}"), "is not named"},
        {FORGET("\"avg_gt_loss\": {\"0\": \"1\"}"), "avg_gt_loss: row \"0\" is not a number"},
        {FORGET("\"avg_gt_loss\": {\"0\": true}"), "avg_gt_loss: row \"0\" is not a number"},
        {FORGET("\"avg_gt_loss\": {\"0\": 1e999}"), "row \"0\" is a number too large"},
        {FORGET("\"avg_gt_loss\": {\"0\": \"\\ud800\"}"), "row \"0\" is not a number"},
        {FORGET("\"avg_gt_loss\": {\"0\": \"\\udead\"}"), "row \"0\" is not a number"},
        {FORGET("\"avg_gt_loss\": NaN"), "avg_gt_loss is not an object"},
        {"{\"eval_log_forget.json\": NaN}", "eval_log_forget.json is not an object"},
        {FORGET("\"avg_gt_loss\": {\"0\": NaNs}"), "not valid JSON"},
        {FORGET("\"avg_gt_loss\": {\"0\": 1, \"0\": 2}"), "duplicate"},
        {FORGET(GT), "avg_paraphrased_loss is not there"},
        {FORGET(GT ", \"avg_paraphrased_loss\": {\"0\": 1}"), "avg_paraphrased_loss has 1 rows, avg_gt_loss has 2"},
        {FORGET(GT ", \"avg_paraphrased_loss\": {\"0\": 1, \"2\": 1}"), "avg_paraphrased_loss: row \"1\" is not there"},
        {FORGET(GT ", " PARAPHRASED), "average_perturb_loss is not there"},
        {WRONG("{\"0\": null, \"1\": NaN}"), "average_perturb_loss is null in every row"},
        {WRONG("{\"0\": 1, \"1\": [2]}"), "average_perturb_loss: row \"0\" is not a list of numbers"},
        {WRONG("{\"0\": [], \"1\": [2]}"), "row \"0\" is an empty list"},
        {WRONG("{\"0\": [1, 2], \"1\": [2]}"), "row \"1\" has 1 values, others have 2"},
        {WRONG("{\"0\": [1, 2], \"1\": [2, {}]}"), "average_perturb_loss: row \"1\" is not a number"},
        {WRONG("{\"0\": [1], \"1\": [2]}, \"num_token_perturb\": {\"0\": [1], \"1\": [2, 3]}"),
         "num_token_perturb: row \"1\" has 2 values, others have 1"},
        {WRONG("{\"0\": [1], \"1\": [2]}, \"generated_text\": {\"0\": [\"a\", \"b\", \"c\"], \"1\": \"b\"}"),
         "generated_text: row \"1\" is not a list"},
        {WRONG("{\"0\": [1], \"1\": [2]}, \"generated_text\": {\"0\": [\"a\", \"b\", 3], \"1\": []}"),
         "generated_text: row \"0\" is not a list"},
        {"{\"eval_log_forget.json\": {", ":1:"},
    };
    struct eval_log log;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum status st = read_text(cases[i].json, 1u << SET_FORGET, &log);
        if (st != ERR_INPUT || !strstr(fail_message(), cases[i].message) || strncmp(fail_message(), path, strlen(path)))
            fail_msg("%s: status %d, %s", cases[i].json, (int)st, fail_message());
        assert_int_equal(log.set[SET_FORGET].n, 0);
    }
    assert_int_equal(read_text(FORGET("\"other\": 3"), 0, &log), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "no key that is known"));
    assert_int_equal(eval_log_read("/tmp", 0, &log), ERR_INPUT);
}

/* However far every sixth byte of a good log is changed: read or refused, never a crash. */
static void no_damage_of_one_byte_crashes(void **state)
{
    struct eval_log log = {0}, again;
    struct text text = {0};
    fill(&log);
    assert_int_equal(eval_log_write(&log, &text), OK);
    for (size_t i = 0; i < text.n; i += 6) {
        char kept = text.data[i];
        text.data[i] = "\"}{[],:0-N\\x"[i / 6 % 12];
        put(text.data, text.n);
        fail_clear();
        if (eval_log_read(path, 0, &again) == OK) eval_log_free(&again);
        text.data[i] = kept;
    }
    text_free(&text);
    eval_log_free(&log);
}

static void rows_without_a_value_are_left_out_counted_and_said(void **state)
{
    struct eval_log log = {0};
    struct eval_summary s;
    size_t warnings = log_warnings();
    double p, d;
    fill(&log);
    log.set[SET_RETAIN].nll[0] = NAN;
    log.set[SET_FORGET].perturbed[3] = INFINITY; /* of row 1 */
    log.set[SET_WORLD_FACTS].rouge_l[0] = log.set[SET_WORLD_FACTS].rouge_l[1] = NAN;
    eval_summarise(&tofu, "model", &log, &s);
    assert_int_equal(log_warnings(), warnings + 3);
    assert_near(s.number[SET_RETAIN][EVAL_PROBABILITY], 0.25, TOL);
    assert_int_equal(s.left_out[SET_RETAIN][EVAL_PROBABILITY], 1);
    assert_int_equal(s.left_out[SET_RETAIN][EVAL_TRUTH_RATIO], 0);
    assert_near(s.number[SET_FORGET][EVAL_TRUTH_RATIO], 0.5, TOL);
    assert_int_equal(s.left_out[SET_FORGET][EVAL_TRUTH_RATIO], 1);
    assert_true(isnan(s.number[SET_WORLD_FACTS][EVAL_ROUGE]) && isnan(s.model_utility));
    assert_int_equal(s.left_out[SET_WORLD_FACTS][EVAL_ROUGE], 2);
    assert_int_equal(eval_forget_quality(&tofu, "model", &log, "retain", &log, &p, &d), OK);
    assert_near(p, 1, 0);
    assert_int_equal(log_warnings(), warnings + 5);
    eval_log_free(&log);
}

static void what_was_not_measured_is_nan_and_said_once(void **state)
{
    struct eval_log log = {0}, none = {0};
    struct eval_summary s;
    size_t warnings = log_warnings();
    double p = 0, d = 0;
    fill(&log);
    for (int k = 0; k < N_EVAL_SET; k++) free(log.set[k].rouge_l), log.set[k].rouge_l = NULL;
    eval_summarise(&tofu, "model", &log, &s);
    assert_int_equal(log_warnings(), warnings + 1);
    for (int k = 0; k < N_EVAL_SET; k++) {
        assert_true(isnan(s.number[k][EVAL_ROUGE]));
        assert_false(isnan(s.number[k][EVAL_TRUTH_RATIO]));
    }
    assert_true(isnan(s.model_utility));
    eval_summarise(&tofu, "nothing", &none, &s);
    assert_int_equal(log_warnings(), warnings + 2);
    assert_true(isnan(s.model_utility) && isnan(s.number[SET_FORGET][EVAL_PROBABILITY]));
    assert_int_equal(eval_forget_quality(&tofu, "model", &log, "retain", &none, &p, &d), OK);
    assert_int_equal(log_warnings(), warnings + 3);
    assert_true(isnan(p) && isnan(d));
    eval_log_free(&log);
}

/* Thousands of nats per token: e^-c is 0, but the shares and ratios are those of the differences. */
static void a_destroyed_model_has_numbers(void **state)
{
    struct eval_log log = {0};
    struct eval_summary s;
    size_t warnings = log_warnings();
    fill(&log);
    for (int k = 0; k < N_EVAL_SET; k++)
        for (size_t i = 0; i < 4; i++) {
            struct eval_set *e = &log.set[k];
            e->perturbed[i] += 4000;
            if (i < 2) e->nll[i] += 4000, e->paraphrased[i] += 4000;
        }
    eval_summarise(&tofu, "model", &log, &s);
    assert_near(s.number[SET_RETAIN][EVAL_PROBABILITY], 0, 0);
    assert_near(s.number[SET_REAL_AUTHORS][EVAL_PROBABILITY], (1.0 / 2 + 2.0 / 7) / 2, 1e-12);
    assert_near(s.number[SET_FORGET][EVAL_TRUTH_RATIO], 0.65, 1e-12);
    assert_near(s.model_utility, 0, 0);
    assert_int_equal(log_warnings(), warnings);
    eval_log_free(&log);
}

/* evaluation.py --logs of the reference */
static void published_logs_have_the_published_utility_and_quality(void **state)
{
    struct eval_log full, retain;
    struct eval_summary s;
    double p, d;
    const char *file = shared_path("golden/tofu_eval/lr2e-05_phi_full_wd0.01/eval_log_aggregated.json");
    if (!file) skip();
    assert_int_equal(eval_log_read(file, (1u << N_EVAL_SET) - 1, &full), OK);
    assert_int_equal(full.set[SET_FORGET].n, 300);
    assert_int_equal(full.set[SET_FORGET].n_wrong, 5);
    assert_int_equal(full.set[SET_WORLD_FACTS].n, 117);
    assert_int_equal(full.set[SET_WORLD_FACTS].n_wrong, 3);
    file = shared_path("golden/tofu_eval/lr2e-05_phi_retain90_wd0.01/eval_log_aggregated.json");
    assert_int_equal(eval_log_read(file, (1u << N_EVAL_SET) - 1, &retain), OK);
    eval_summarise(&tofu, "full", &full, &s);
    assert_int_equal(eval_forget_quality(&tofu, "full", &full, "retain90", &retain, &p, &d), OK);
    assert_near(s.model_utility / 0.5033530268058475, 1, PUBLISHED);
    assert_near(s.number[SET_FORGET][EVAL_TRUTH_RATIO] / 0.5005549107985194, 1, PUBLISHED);
    assert_near(p / 2.1942743021891237e-16, 1, PUBLISHED);
    assert_near(d / 0.3466666666666667, 1, PUBLISHED);
    eval_log_free(&full), eval_log_free(&retain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_what_their_equations_say),
        cmocka_unit_test(what_is_written_is_read_bit_for_bit),
        cmocka_unit_test(what_follows_from_the_arrays_is_written_beside_them),
        cmocka_unit_test(missing_values_are_null_when_written_and_absent_arrays_are_left_out),
        cmocka_unit_test(a_text_that_is_not_utf8_is_not_written),
        cmocka_unit_test(rows_are_matched_by_their_names),
        cmocka_unit_test(numbers_that_json_does_not_have_are_missing_values),
        cmocka_unit_test(a_row_has_the_wrong_answers_before_the_nulls_at_the_end),
        cmocka_unit_test(a_set_of_nulls_alone_is_absent),
        cmocka_unit_test(a_count_keeps_its_sign),
        cmocka_unit_test(damaged_logs_are_refused_with_what_is_wrong),
        cmocka_unit_test(no_damage_of_one_byte_crashes),
        cmocka_unit_test(rows_without_a_value_are_left_out_counted_and_said),
        cmocka_unit_test(what_was_not_measured_is_nan_and_said_once),
        cmocka_unit_test(a_destroyed_model_has_numbers),
        cmocka_unit_test(published_logs_have_the_published_utility_and_quality),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
