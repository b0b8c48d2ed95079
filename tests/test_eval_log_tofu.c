/* eval: TOFU_EVAL.json, as open-unlearning and the program itself write it, read as a log.                      NP: 1 */
#include "near.h"
#include "unlearn/eval.h"
#include <unistd.h>

static const double TOL = 1e-14;
static const double GOLDEN = 1e-9; /* relative; both sides compute in double from the same rows */
static char path[64];
static double log_of(double x) { return log(x); } /* `log` is a log below */

static int start(void **state)
{
    strcpy(path, "/tmp/unlearn-tofu-XXXXXX");
    close(mkstemp(path));
    return log_open(NULL, true) != OK;
}

static int stop(void **state)
{
    log_close();
    return unlink(path);
}

static enum status read_text(const char *text, unsigned needed, struct eval_log *log)
{
    FILE *f = fopen(path, "w");
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
    fail_clear();
    return eval_log_read(path, needed, log);
}

#define FORGET   (1u << SET_FORGET)
#define ROWS(r)  "{\"agg_value\": 1, \"value_by_index\": {" r "}}"
#define RATIO(r) "{\"forget_truth_ratio\": " ROWS(r) "}"
#define TWO      "\"0\": {\"score\": 0.5}, \"1\": {\"score\": 2}"
#define PARAPHRASED \
    "\"forget_Q_A_PARA_Prob\": " ROWS("\"1\": {\"avg_loss\": 3, \"prob\": 0.1}, \"0\": {\"avg_loss\": 4.5}")
#define WRONG(list) "{" PARAPHRASED ", \"forget_Q_A_PERT_Prob\": " ROWS(list) "}"
#define WRONG_TWO   "\"0\": {\"avg_loss\": [1, 2]}, \"1\": {\"avg_loss\": [3, NaN]}"
#define ATTACKED(x) "{\"forget_truth_ratio\": " ROWS(TWO) ", \"mia_min_k\": " x "}"

static void losses_are_matched_by_the_names_of_their_rows(void **state)
{
    struct eval_log log;
    const struct eval_set *s = &log.set[SET_FORGET];
    assert_int_equal(read_text(WRONG(WRONG_TWO), FORGET, &log), OK);
    assert_int_equal(s->n, 2);
    assert_int_equal(s->n_wrong, 2);
    for (size_t i = 0; i < 2; i++) {
        const double q = s->row[i] ? 3 : 4.5, first = s->row[i] ? 3 : 1;
        assert_near(s->paraphrased[i], q, 0);
        assert_near(s->perturbed[2 * i], first, 0);
        assert_true(s->row[i] ? isnan(s->perturbed[2 * i + 1]) : s->perturbed[2 * i + 1] == 2);
    }
    assert_true(!s->ratio && !s->nll && !log.has_min_k && !log.set[SET_RETAIN].n);
    eval_log_free(&log);
}

/* e^-q = 1/2; of two wrong answers 1/4 and 1/8, of one 1/16, of none, of one that diverged. */
static void a_row_has_the_wrong_answers_of_its_own_list(void **state)
{
    static const struct score_rule rule;
    static const size_t count[] = {2, 1, 0, 0, 2};
    struct eval_log log;
    const struct eval_set *s = &log.set[SET_FORGET];
    struct eval_summary sum;
    char json[1024];
    double p, d;
    snprintf(
        json, sizeof json,
        "{\"forget_Q_A_PARA_Prob\": {\"value_by_index\": {\"0\": {\"avg_loss\": %.17g}, \"1\": {\"avg_loss\": %.17g}, "
        "\"2\": {\"avg_loss\": 1}, \"3\": {\"avg_loss\": 1}, \"4\": {\"avg_loss\": 1}}}, "
        "\"forget_Q_A_PERT_Prob\": {\"value_by_index\": {\"0\": {\"avg_loss\": [%.17g, %.17g]}, \"1\": {\"avg_loss\": "
        "[%.17g]}, \"2\": {\"avg_loss\": []}, \"3\": {\"avg_loss\": null}, \"4\": {\"avg_loss\": [1, null]}}}}",
        log_of(2), log_of(2), log_of(4), log_of(8), log_of(16));
    assert_int_equal(read_text(json, FORGET, &log), OK);
    assert_int_equal(s->n_wrong, 2);
    for (size_t i = 0; i < 5; i++) assert_int_equal(s->n_wrong_of[i], count[i]);
    eval_summarise(&rule, NULL, &log, &sum);
    assert_near(sum.number[SET_FORGET][EVAL_TRUTH_RATIO], (3.0 / 8 + 1.0 / 8) / 2, TOL);
    assert_int_equal(sum.left_out[SET_FORGET][EVAL_TRUTH_RATIO], 3);
    assert_int_equal(eval_forget_quality(&rule, NULL, &log, NULL, &log, &p, &d), OK);
    assert_near(p, 1, TOL);
    eval_log_free(&log);
}

static void answers_of_authors_stand_in_for_their_paraphrases(void **state)
{
    struct eval_log log;
    const char *json = "{\"ra_Q_A_Prob\": " ROWS("\"0\": {\"avg_loss\": 1.5}") ", \"ra_Q_A_PERT_Prob\": " ROWS(
        "\"0\": {\"avg_loss\": [2, 2.5, 3]}") ", \"ra_Q_A_ROUGE\": " ROWS("\"0\": {\"rougeL_recall\": 0.25, \"input\": "
                                                                          "\"?\"}") "}";
    assert_int_equal(read_text(json, 1u << SET_REAL_AUTHORS, &log), OK);
    assert_near(log.set[SET_REAL_AUTHORS].paraphrased[0], 1.5, 0);
    assert_near(log.set[SET_REAL_AUTHORS].perturbed[2], 3, 0);
    assert_near(log.set[SET_REAL_AUTHORS].rouge_l[0], 0.25, 0);
    eval_log_free(&log);
}

/* A log without the losses: its ratios are the sample; with them they are not used. */
static void ratios_take_the_place_of_absent_losses(void **state)
{
    const struct score_rule rule = {.tiny = 1e-10, .geometric = true}, tofu = {0};
    struct eval_log a, b, c;
    double p, d;
    assert_int_equal(read_text(RATIO(TWO), FORGET, &a), OK);
    assert_near(a.set[SET_FORGET].ratio[0], 0.5, 0);
    assert_int_equal(
        read_text(RATIO("\"0\": {\"score\": 0.6}, \"1\": {\"score\": 0.7}, \"2\": {\"score\": null}"), FORGET, &b), OK);
    assert_int_equal(eval_forget_quality(&rule, "a", &a, "b", &b, &p, &d), OK);
    assert_near(d, 0.5, TOL);
    assert_near(p, 1, TOL);
    assert_int_equal(eval_forget_quality(&tofu, "a", &a, "b", &b, &p, &d), OK);
    assert_near(d, 0.5, TOL);
    assert_int_equal(
        read_text(
            "{" PARAPHRASED ", \"forget_Q_A_PERT_Prob\": " ROWS(
                "\"0\": {\"avg_loss\": [1]}, \"1\": {\"avg_loss\": [3]}") ", \"forget_truth_ratio\": " ROWS(TWO) "}",
            FORGET, &c),
        OK);
    assert_null(c.set[SET_FORGET].ratio);
    assert_int_equal(eval_forget_quality(&rule, "b", &b, "c", &c, &p, &d), OK);
    assert_near(d, 1, TOL); /* e^3.5 and 1, behind both of b */
    eval_log_free(&a), eval_log_free(&b), eval_log_free(&c);
}

#define WRONG_ONE "\"forget_Q_A_PERT_Prob\": " ROWS("\"0\": {\"avg_loss\": [1]}, \"1\": {\"avg_loss\": [3]}")
#define ANSWERS   "\"forget_Q_A_Prob\": " ROWS("\"0\": {\"avg_loss\": 0.5}, \"1\": {\"avg_loss\": 2}")

/* A set without paraphrases has ratios e^(0.5-1) and e^(2-3) by its answers; in a log without these, those that it names. */
static void answers_stand_in_for_paraphrases_and_ratios_for_both(void **state)
{
    static const char *const json[] = {"{" WRONG_ONE ", " ANSWERS ", \"forget_truth_ratio\": " ROWS(TWO) "}",
                                       "{" WRONG_ONE ", \"forget_truth_ratio\": " ROWS(TWO) "}"};
    const double want[] = {(exp(-0.5) + exp(-1)) / 2, 0.5};
    static const struct score_rule rule;
    for (int k = 0; k < 2; k++) {
        struct eval_log log;
        struct eval_summary s;
        double p, d;
        assert_int_equal(read_text(json[k], FORGET, &log), OK);
        assert_true(!log.set[SET_FORGET].ratio == !k);
        eval_summarise(&rule, NULL, &log, &s);
        assert_near(s.number[SET_FORGET][EVAL_TRUTH_RATIO], want[k], TOL);
        assert_int_equal(eval_forget_quality(&rule, NULL, &log, NULL, &log, &p, &d), OK);
        assert_near(p, 1, TOL);
        eval_log_free(&log);
    }
}

static void the_area_of_min_k_is_read(void **state)
{
    struct eval_log log;
    assert_int_equal(read_text(ATTACKED("{\"agg_value\": 0.75, \"auc\": 0.25}"), FORGET, &log), OK);
    assert_true(log.has_min_k && log.min_k_area == 0.75);
    eval_log_free(&log);
    assert_int_equal(read_text(ATTACKED("{\"agg_value\": null}"), FORGET, &log), OK);
    assert_false(log.has_min_k);
    eval_log_free(&log);
    assert_int_equal(read_text("{\"mia_min_k\": {\"agg_value\": 1}}", 0, &log), OK);
    assert_true(log.has_min_k && log.min_k_area == 1 && !log.set[SET_FORGET].n);
    eval_log_free(&log);
}

static void damaged_logs_are_refused_with_what_is_wrong(void **state)
{
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"{\"mia_min_k\": {\"agg_value\": 0.5}}", "neither forget_truth_ratio nor the losses"},
        {"{" PARAPHRASED "}", "neither forget_truth_ratio nor the losses"},
        {"{\"forget_truth_ratio\": {\"agg_value\": 0.5}}", "forget_truth_ratio: has no value_by_index"},
        {"{\"forget_truth_ratio\": 3}", "forget_truth_ratio: has no value_by_index"},
        {"{\"forget_truth_ratio\": {\"value_by_index\": [1]}}", "has no value_by_index"},
        {RATIO(""), "forget_truth_ratio: has no rows"},
        {RATIO("\"x\": {\"score\": 1}"), "row \"x\" is not named by a whole number"},
        {RATIO("\"01\": {\"score\": 1}"), "row \"01\" is not named"},
        {RATIO("\"99999999999999999999\": {\"score\": 1}"), "is not named"},
        {RATIO("\"0\": {\"score\": \"1\"}"), "row \"0\": score is not a number"},
        {RATIO("\"0\": {\"score\": [1]}"), "row \"0\": score is not a number"},
        {RATIO("\"0\": {\"score\": 1e999}"), "row \"0\": score is a number too large"},
        {RATIO("\"0\": {\"score\": \"\\ud800\"}"), "row \"0\": score is not a number"},
        {RATIO("\"0\": {\"score\": \"\\udead\"}"), "row \"0\": score is not a number"},
        {RATIO("\"0\": 3"), "row \"0\": score is not there"},
        {RATIO("\"0\": {\"score\": 1}, \"0\": {\"score\": 2}"), "duplicate"},
        {WRONG("\"0\": {\"avg_loss\": [1]}"), "forget_Q_A_PERT_Prob has 1 rows, forget_Q_A_PARA_Prob has 2"},
        {WRONG("\"0\": {\"avg_loss\": [1]}, \"2\": {\"avg_loss\": [1]}"), "row \"1\": avg_loss is not there"},
        {WRONG("\"0\": {\"avg_loss\": [1, 2]}, \"1\": {\"avg_loss\": 2}"), "is not a list of numbers"},
        {WRONG("\"0\": {\"avg_loss\": [1]}, \"1\": {\"avg_loss\": [{}]}"), "avg_loss is not a number"},
        {WRONG("\"0\": {\"avg_loss\": null}, \"1\": {\"avg_loss\": []}"), "neither forget_truth_ratio nor the losses"},
        {ATTACKED("3"), "mia_min_k: is not an object"},
        {ATTACKED("{\"agg_value\": \"0.5\"}"), "mia_min_k: agg_value is not an area"},
        {ATTACKED("{\"agg_value\": 1.5}"), "mia_min_k: agg_value is not an area"},
        {"{\"forget_truth_ratio\": {", ":1:"},
    };
    struct eval_log log;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum status st = read_text(cases[i].json, FORGET, &log);
        if (st != ERR_INPUT || !strstr(fail_message(), cases[i].message) || strncmp(fail_message(), path, strlen(path)))
            fail_msg("%s: status %d, %s", cases[i].json, (int)st, fail_message());
        assert_true(!log.set[SET_FORGET].n && !log.has_min_k);
    }
}

/* The whole summary of the tool's own log of a model, from its rows. */
static void a_log_of_open_unlearning_gives_its_own_numbers(void **state)
{
    const struct score_rule rule = {.min_k = 0.4, .tiny = 1e-10, .without_end = true, .geometric = true};
    struct eval_log mid, retained;
    struct eval_summary s;
    double p, d;
    const char *file = shared_path("golden/open_unlearning/expected/mid/TOFU_EVAL.json");
    if (!file) skip();
    assert_int_equal(eval_log_read(file, (1u << N_EVAL_SET) - 1, &mid), OK);
    file = shared_path("golden/open_unlearning/expected/retained/TOFU_EVAL.json");
    assert_int_equal(eval_log_read(file, (1u << N_EVAL_SET) - 1, &retained), OK);
    assert_near(retained.min_k_area, 0.6975, TOL);
    eval_summarise(&rule, "mid", &mid, &s);
    assert_near(s.model_utility / 0.4159976327570922, 1, 1e-7); /* its probabilities are float32 */
    assert_near(s.number[SET_FORGET][EVAL_TRUTH_RATIO] / 0.6716143482900092, 1, 1e-7);
    assert_int_equal(eval_forget_quality(&rule, "mid", &mid, "retained", &retained, &p, &d), OK);
    assert_near(p / 0.2656871402817289, 1, GOLDEN);
    eval_log_free(&mid), eval_log_free(&retained);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_matched_by_the_names_of_their_rows),
        cmocka_unit_test(a_row_has_the_wrong_answers_of_its_own_list),
        cmocka_unit_test(answers_of_authors_stand_in_for_their_paraphrases),
        cmocka_unit_test(ratios_take_the_place_of_absent_losses),
        cmocka_unit_test(answers_stand_in_for_paraphrases_and_ratios_for_both),
        cmocka_unit_test(the_area_of_min_k_is_read),
        cmocka_unit_test(damaged_logs_are_refused_with_what_is_wrong),
        cmocka_unit_test(a_log_of_open_unlearning_gives_its_own_numbers),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
