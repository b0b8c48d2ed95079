/* eval: the numbers of a whole evaluation, by the scores of its rows.                                             NP: 1 */
#include "scored.h"

static const double LOOSE = 2e-9; /* relative: where open-unlearning's 1e-10 stands beside a divisor of at least 1/4 */

static void means_leave_rows_without_a_number_out_and_count_them(void **state)
{
    double score[ROWS * N_SCORE];
    struct evaluation_numbers v = {0};
    struct scored_set s = new_set("plain", ROWS, score, NULL);
    const struct token_values t = values();
    assert_int_equal(evaluation_numbers_new(2, &v), OK);
    assert_int_equal(scores_answer(&tofu, &t, NULL, texts, &s), OK);
    evaluation_means(&s, 1, &v);
    assert_near(v.mean[N_SCORE + SCORE_LOSS], ln(8), TOL); /* ln 4, NaN, ln 16, NaN */
    assert_near(v.left_out[N_SCORE + SCORE_LOSS], 2, 0);
    assert_near(v.mean[N_SCORE + SCORE_TOKENS], 1.5, TOL);
    assert_near(v.left_out[N_SCORE + SCORE_TOKENS], 0, 0);
    assert_true(isnan(v.mean[N_SCORE + SCORE_KL]));
    assert_near(v.left_out[N_SCORE + SCORE_KL], ROWS, 0);
    assert_near(v.risk[1], (3 * ln(4) + ln(16)) / 4, TOL); /* by tokens: 3 of row 0, 1 of row 2 */
    for (int k = 0; k < N_SCORE; k++) assert_near(v.mean[k], 0, 0);
    evaluation_numbers_free(&v);
    assert_null(v.mean);
}

static const struct eval_log nothing;
static const struct named_log no_log = {NULL, &nothing};

static void summarise(const struct score_rule *rule, size_t n, const struct scored_set *set, double *number)
{
    for (int k = 0; k < N_NUMBER; k++) number[k] = -7;
    assert_int_equal(evaluation_summarise(rule, n, set, &no_log, &no_log, number), OK);
    assert_true(isnan(number[NUMBER_QUALITY]) && isnan(number[NUMBER_KS]) && isnan(number[NUMBER_RELATIVE]));
}

/* Two rows of each set: p = 1/2 and none; p among options 1/4 and 1/2; truth ratios 1/2 and 2. */
static void utility_is_the_harmonic_mean_of_nine(void **state)
{
    static const char *name[] = {"world_facts", "retain", "forget", "real_authors"};
    double score[4][2 * N_SCORE], number[N_NUMBER];
    struct scored_set set[4];
    for (int k = 0; k < 4; k++) {
        set[k] = new_set(name[k], 2, score[k], NULL);
        score[k][SCORE_PROBABILITY] = 0.5;
        score[k][SCORE_OF_OPTIONS] = 0.25, score[k][N_SCORE + SCORE_OF_OPTIONS] = 0.5;
        score[k][SCORE_TRUTH_RATIO] = 0.5, score[k][N_SCORE + SCORE_TRUTH_RATIO] = 2;
        score[k][SCORE_ROUGE_L_RECALL] = k ? 0.5 : 0.25, score[k][N_SCORE + SCORE_ROUGE_L_RECALL] = k ? 0.5 : 0.75;
    }
    summarise(&tofu, 4, set, number);
    for (int k = 0; k < N_EVAL_SET; k++) {
        const double *three = number + NUMBER_SETS + k * N_EVAL_NUMBER;
        assert_near(three[EVAL_PROBABILITY], k == SET_REAL_AUTHORS || k == SET_WORLD_FACTS ? 0.375 : 0.5, TOL);
        assert_near(three[EVAL_ROUGE], 0.5, TOL);
        assert_near(three[EVAL_TRUTH_RATIO], k == SET_FORGET ? 0.5 : 0.25, TOL); /* min(r, 1/r); max(0, 1 - r) */
    }
    assert_near(number[NUMBER_UTILITY], 9 / (4 / 0.5 + 2 / 0.375 + 3 / 0.25), TOL);
    summarise(&open_unlearning, 4, set, number);
    assert_near(number[NUMBER_SETS + SET_FORGET * N_EVAL_NUMBER + EVAL_TRUTH_RATIO], (0.5 + 1 / (2 + 1e-10)) / 2, TOL);
    assert_near(number[NUMBER_UTILITY], 9 / (4 / 0.5 + 2 / 0.375 + 3 / 0.25), LOOSE);
    summarise(&tofu, 3, set, number); /* without real_authors */
    assert_true(isnan(number[NUMBER_UTILITY]) && isnan(number[NUMBER_SETS + SET_REAL_AUTHORS * N_EVAL_NUMBER]));
    assert_near(number[NUMBER_SETS + SET_RETAIN * N_EVAL_NUMBER], 0.5, TOL);
}

/* min_k of forget 1 and 3, of holdout 2, 4 and none: 3 of 4 pairs stand right. */
static void privleak_compares_areas_with_that_of_the_rule(void **state)
{
    double forget[2 * N_SCORE], holdout[3 * N_SCORE], number[N_NUMBER];
    struct score_rule rule = tofu;
    struct scored_set set[] = {new_set("holdout", 3, holdout, NULL), new_set("forget", 2, forget, NULL)};
    const struct eval_log log = {.has_min_k = true, .min_k_area = 0.6875};
    const struct named_log retain = {NULL, &log};
    forget[SCORE_MIN_K] = 1, forget[N_SCORE + SCORE_MIN_K] = 3;
    holdout[SCORE_MIN_K] = 2, holdout[N_SCORE + SCORE_MIN_K] = 4;
    forget[SCORE_LOSS] = 1, holdout[SCORE_LOSS] = 1;
    summarise(&rule, 2, set, number);
    assert_near(number[NUMBER_AUC_MIN_K], 0.75, TOL);
    assert_near(number[NUMBER_AUC_LOSS], 0.5, TOL); /* a tie */
    assert_true(isnan(number[NUMBER_AUC_ZLIB]));
    assert_near(number[NUMBER_PRIVLEAK], -50, LOOSE);
    rule.privleak_auc = NAN; /* of the log where that has it, else one half */
    summarise(&rule, 2, set, number);
    assert_near(number[NUMBER_PRIVLEAK], -50, LOOSE);
    assert_int_equal(evaluation_summarise(&rule, 2, set, &no_log, &retain, number), OK);
    assert_near(number[NUMBER_PRIVLEAK], 100 * (0.6875 - 0.75) / (1 - 0.6875), LOOSE);
    rule.privleak_auc = 0.75;
    assert_int_equal(evaluation_summarise(&rule, 2, set, &no_log, &retain, number), OK);
    assert_near(number[NUMBER_PRIVLEAK], 0, TOL);
    summarise(&rule, 2, set, number);
    assert_near(number[NUMBER_PRIVLEAK], 0, TOL);
    summarise(&rule, 1, set, number);
    assert_true(isnan(number[NUMBER_PRIVLEAK]) && isnan(number[NUMBER_AUC_MIN_K]));
}

/* Forget rows with c = q = ln 2, wrong answers ln 4 and ln 4: p = 1/2, r = 1/2; the other model's c = ln 4: 1/4, r = 1. */
static void differences_are_relative_to_the_other_model(void **state)
{
    double score[2 * N_SCORE], number[N_NUMBER];
    struct eval_log own = {0}, other = {0};
    struct scored_set s = new_set("forget", 2, score, NULL);
    const struct named_log a = {NULL, &own}, b = {NULL, &other};
    assert_int_equal(eval_set_new(2, 2, true, &own.set[SET_FORGET]), OK);
    assert_int_equal(eval_set_new(2, 2, false, &other.set[SET_FORGET]), OK);
    for (size_t i = 0; i < 2; i++) {
        struct eval_set *x = &own.set[SET_FORGET], *y = &other.set[SET_FORGET];
        x->nll[i] = x->paraphrased[i] = ln(2), y->nll[i] = y->paraphrased[i] = ln(4);
        for (size_t k = 0; k < 2; k++) x->perturbed[2 * i + k] = y->perturbed[2 * i + k] = ln(4);
        score[i * N_SCORE + SCORE_PROBABILITY] = score[i * N_SCORE + SCORE_TRUTH_RATIO] = 0.5;
    }
    assert_int_equal(evaluation_summarise(&tofu, 1, &s, &a, &b, number), OK);
    assert_near(number[NUMBER_RELATIVE + EVAL_PROBABILITY], 100, LOOSE);
    assert_near(number[NUMBER_RELATIVE + EVAL_TRUTH_RATIO], -50, LOOSE);
    assert_true(isnan(number[NUMBER_RELATIVE + EVAL_ROUGE]));
    assert_near(number[NUMBER_KS], 1, 0);              /* ratios 2, 2 against 1, 1 */
    assert_near(number[NUMBER_QUALITY], 2.0 / 6, TOL); /* two orders of six are as far apart */
    eval_log_free(&own), eval_log_free(&other);
}

/* p = 1/2, wrong answers 1/4 and 1/16: r = 5/16, geometric 1/4. */
static void a_log_and_its_rows_have_the_same_numbers_by_any_rule(void **state)
{
    const struct score_rule geometric = {.geometric = true}, half = {.tiny = 0.5};
    const struct score_rule *rule[] = {&tofu, &geometric, &half, &open_unlearning};
    const double ratio[] = {5.0 / 16, 0.25, 5.0 / 32, 0.125 / (0.5 + 1e-10)};
    double score[N_EVAL_SET][2 * N_SCORE];
    struct published_rows rows[N_EVAL_SET];
    struct eval_summary of_log, of_rows;
    struct eval_log log = {0};
    for (int k = 0; k < N_EVAL_SET; k++) {
        struct eval_set *s = &log.set[k];
        assert_int_equal(eval_set_new(2, 2, true, s), OK);
        s->nll[0] = s->paraphrased[0] = ln(2), s->rouge_l[0] = 0.5; /* row 1 lacks all */
        s->perturbed[0] = ln(4), s->perturbed[1] = ln(16);
        rows[k] = (struct published_rows){.n = 2, .score = score[k]};
    }
    for (int j = 0; j < 4; j++) {
        for (int k = 0; k < N_EVAL_SET; k++)
            for (size_t i = 0; i < 2; i++) score_log_row(rule[j], &log.set[k], i, score[k] + i * N_SCORE);
        eval_summarise(rule[j], NULL, &log, &of_log);
        published_numbers(rule[j], rows, &of_rows);
        for (int k = 0; k < N_EVAL_SET; k++) {
            assert_near(of_log.number[k][EVAL_TRUTH_RATIO], k == SET_FORGET ? ratio[j] : 1 - ratio[j], TOL);
            for (int n = 0; n < N_EVAL_NUMBER; n++) {
                assert_near(of_log.number[k][n], of_rows.number[k][n], TOL);
                assert_int_equal(of_log.left_out[k][n], 1);
                assert_int_equal(of_rows.left_out[k][n], 1);
            }
        }
        assert_near(of_log.model_utility, of_rows.model_utility, TOL);
    }
    eval_log_free(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_leave_rows_without_a_number_out_and_count_them),
        cmocka_unit_test(utility_is_the_harmonic_mean_of_nine),
        cmocka_unit_test(privleak_compares_areas_with_that_of_the_rule),
        cmocka_unit_test(differences_are_relative_to_the_other_model),
        cmocka_unit_test(a_log_and_its_rows_have_the_same_numbers_by_any_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
