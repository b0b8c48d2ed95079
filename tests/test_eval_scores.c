/* eval: scores of rows by their tokens.                                                                           NP: 1 */
#include "scored.h"

static void every_score_has_a_name_and_a_text(void **state)
{
    for (int k = 0; k < N_SCORE; k++) {
        assert_true(score_table[k].name && score_table[k].units && strlen(score_table[k].text) > 5 &&
                    score_table[k].needs);
        for (int j = 0; j < k; j++) assert_string_not_equal(score_table[k].name, score_table[j].name);
    }
    for (int k = 0; k < N_NUMBER; k++) assert_true(number_name[k] && *number_name[k]);
}

static void an_answer_has_the_scores_of_its_tokens(void **state)
{
    double score[ROWS * N_SCORE], bytes_of_a;
    const double reference[ROWS] = {ln(2), 0, ln(2), 0};
    struct scored_set s = new_set("plain", ROWS, score, NULL);
    const struct token_values t = values();
    size_t bytes;
    assert_int_equal(scores_answer(&tofu, &t, reference, texts, &s), OK);
    assert_int_equal(zlib_bytes("a", 1, &bytes), OK);
    bytes_of_a = (double)bytes;
    assert_score(&s, 0, SCORE_TOKENS, 3);
    assert_score(&s, 0, SCORE_LOSS, ln(4));
    assert_score(&s, 0, SCORE_PROBABILITY, 0.25);
    assert_score(&s, 0, SCORE_MEMORIZATION, 2.0 / 3);
    assert_score(&s, 0, SCORE_EXTRACTION, 1.0 / 3); /* two to reveal */
    assert_score(&s, 0, SCORE_MIN_K, ln(8));        /* floor(0.6) = 0, so one token */
    assert_score(&s, 0, SCORE_MIN_K_PLUS, 3);
    assert_score(&s, 0, SCORE_REFERENCE, ln(2));
    assert_score(&s, 0, SCORE_ZLIB, ln(4) / bytes_of_a);
    assert_score(&s, 0, SCORE_PARAPHRASED_LOSS, NAN);
    assert_score(&s, 0, SCORE_KL, NAN);
}

static void a_row_without_labels_has_no_number_but_its_count(void **state)
{
    double score[ROWS * N_SCORE];
    struct scored_set s = new_set("plain", ROWS, score, NULL);
    const struct token_values t = values();
    assert_int_equal(scores_answer(&tofu, &t, NULL, texts, &s), OK);
    for (int k = 0; k < N_SCORE; k++) assert_score(&s, 1, (enum score)k, k == SCORE_TOKENS ? 0 : NAN);
    assert_int_equal(scores_answer(&open_unlearning, &t, NULL, texts, &s), OK);
    for (int k = 0; k < N_SCORE; k++) assert_score(&s, 1, (enum score)k, k == SCORE_TOKENS ? 0 : NAN);
}

static void a_likelihood_that_is_not_finite_gives_no_loss(void **state)
{
    double score[ROWS * N_SCORE];
    struct scored_set s = new_set("plain", ROWS, score, NULL);
    const struct token_values t = values();
    assert_int_equal(scores_answer(&tofu, &t, NULL, texts, &s), OK);
    assert_score(&s, 3, SCORE_TOKENS, 2);
    assert_score(&s, 3, SCORE_LOSS, NAN);
    assert_score(&s, 3, SCORE_PROBABILITY, NAN);
    assert_score(&s, 3, SCORE_ZLIB, NAN);
    assert_score(&s, 3, SCORE_MEMORIZATION, 1);
}

static void what_was_not_measured_stays_nan(void **state)
{
    double score[ROWS * N_SCORE];
    struct scored_set s = new_set("plain", ROWS, score, NULL);
    struct token_values t = values();
    t.hit = t.z = NULL;
    assert_int_equal(scores_answer(&tofu, &t, NULL, texts, &s), OK);
    assert_score(&s, 0, SCORE_LOSS, ln(4));
    assert_score(&s, 0, SCORE_MEMORIZATION, NAN);
    assert_score(&s, 0, SCORE_EXTRACTION, NAN);
    assert_score(&s, 0, SCORE_MIN_K_PLUS, NAN);
    assert_score(&s, 0, SCORE_REFERENCE, NAN);
}

/* Without the last token row 0 is 1, 0: nothing is extracted, 1/2 of 2 tokens; row 2 has no token left. */
static void the_end_token_is_left_out_where_the_rule_says_so(void **state)
{
    double score[ROWS * N_SCORE];
    struct score_rule rule = {.min_k = 0.2, .without_end = true};
    struct scored_set s = new_set("plain", ROWS, score, NULL);
    const struct token_values t = values();
    assert_int_equal(scores_answer(&rule, &t, NULL, texts, &s), OK);
    assert_score(&s, 0, SCORE_TOKENS, 3); /* the loss is of all */
    assert_score(&s, 0, SCORE_LOSS, ln(4));
    assert_score(&s, 0, SCORE_MEMORIZATION, 0.5);
    assert_score(&s, 0, SCORE_EXTRACTION, 0);
    assert_score(&s, 0, SCORE_MIN_K, ln(4));
    assert_score(&s, 0, SCORE_MIN_K_PLUS, 3);
    assert_score(&s, 2, SCORE_LOSS, ln(16));
    assert_score(&s, 2, SCORE_MEMORIZATION, NAN);
    assert_score(&s, 2, SCORE_EXTRACTION, NAN);
    assert_score(&s, 2, SCORE_MIN_K, NAN);
    rule.one_extracted = true;
    assert_int_equal(scores_answer(&rule, &t, NULL, texts, &s), OK);
    assert_score(&s, 0, SCORE_EXTRACTION, 0.5);
    assert_score(&s, 2, SCORE_EXTRACTION, NAN);
}

static void nothing_extracted_is_0_or_1_over_n(void **state)
{
    double score[ROWS * N_SCORE];
    const double two_of_three[6] = {0, 1, 1, 0, 0, 0};
    struct score_rule rule = tofu;
    struct scored_set s = new_set("plain", ROWS, score, NULL);
    struct token_values t = values();
    t.hit = two_of_three;
    for (int one = 0; one < 2; one++) {
        rule.one_extracted = one;
        assert_int_equal(scores_answer(&rule, &t, NULL, texts, &s), OK);
        assert_score(&s, 0, SCORE_EXTRACTION, 2.0 / 3); /* something is */
        assert_score(&s, 2, SCORE_EXTRACTION, one);
        assert_score(&s, 3, SCORE_EXTRACTION, one / 2.0);
    }
}

static void min_k_of_one_token_is_that_token(void **state)
{
    double score[ROWS * N_SCORE];
    const double share[] = {0.01, 0.2, 1};
    struct scored_set s = new_set("plain", ROWS, score, NULL);
    const struct token_values t = values();
    for (int k = 0; k < 3; k++) {
        const struct score_rule rule = {.min_k = share[k]};
        assert_int_equal(scores_answer(&rule, &t, NULL, texts, &s), OK);
        assert_score(&s, 2, SCORE_MIN_K, ln(16));
        assert_score(&s, 2, SCORE_MIN_K_PLUS, 2);
        assert_score(&s, 0, SCORE_MIN_K, k < 2 ? ln(8) : ln(4));
    }
}

/* Rows 0, 2 and 3 have answers 0, 1 and 2, row 1 none. */
static const size_t some_first[ROWS + 1] = {0, 1, 1, 2, 3};
static const size_t three_labels[4] = {0, 2, 3, 3};

static void a_paraphrase_stands_for_itself_and_an_answer_for_a_missing_key(void **state)
{
    double score[ROWS * N_SCORE];
    const double own[] = {ln(2), ln(8), ln(32)};
    struct eval_set log;
    assert_int_equal(eval_set_new(ROWS, 0, false, &log), OK);
    struct scored_set s = new_set("forget", ROWS, score, &log);
    const struct token_values t = values(), p = {.label_first = three_labels, .nll = own};
    assert_int_equal(scores_answer(&tofu, &t, NULL, texts, &s), OK);
    scores_paraphrased(NULL, NULL, &s);
    assert_score(&s, 0, SCORE_PARAPHRASED_LOSS, ln(4));
    assert_near(log.n_token_paraphrased[0], 3, 0);
    scores_paraphrased(&p, some_first, &s);
    assert_score(&s, 0, SCORE_PARAPHRASED_LOSS, ln(4));
    assert_score(&s, 1, SCORE_PARAPHRASED_LOSS, NAN); /* of a set that has paraphrases: no answer for it */
    assert_score(&s, 2, SCORE_PARAPHRASED_LOSS, ln(32));
    assert_score(&s, 3, SCORE_PARAPHRASED_LOSS, NAN); /* cut before its labels */
    assert_near(log.n_token_paraphrased[0], 2, 0);
    assert_true(isnan(log.n_token_paraphrased[1]) && isnan(log.n_token_paraphrased[3]));
    assert_near(log.paraphrased[2], ln(32), TOL);
    assert_near(log.nll[2], ln(16), TOL);
    assert_near(log.n_token[1], 0, 0);
    eval_set_free(&log);
}

/* p = 1/2 of answer and paraphrase, wrong answers of 1/4 and 1/16: means 5/32 and, geometric, 1/8. */
static void wrong_answers_are_averaged_as_the_rule_says(void **state)
{
    double score[N_SCORE], wrong[] = {ln(4), ln(16)};
    struct score_rule rule = tofu;
    struct scored_set s = new_set("forget", 1, score, NULL);
    score[SCORE_LOSS] = score[SCORE_PARAPHRASED_LOSS] = ln(2);
    score_wrong_answers(&rule, 2, wrong, score);
    assert_score(&s, 0, SCORE_PERTURBED_LOSS, ln(8));
    assert_score(&s, 0, SCORE_TRUTH_RATIO, 5.0 / 16);
    assert_score(&s, 0, SCORE_QUALITY_RATIO, 4);
    assert_score(&s, 0, SCORE_OF_OPTIONS, 8.0 / 13);
    rule.geometric = true;
    score_wrong_answers(&rule, 2, wrong, score);
    assert_score(&s, 0, SCORE_TRUTH_RATIO, 0.25);
    assert_score(&s, 0, SCORE_QUALITY_RATIO, 4);
    assert_score(&s, 0, SCORE_OF_OPTIONS, 8.0 / 13); /* a share of all, whatever the mean */
    score_wrong_answers(&open_unlearning, 2, wrong, score);
    assert_near(score[SCORE_TRUTH_RATIO], 0.125 / (0.5 + 1e-10), TOL);
    assert_near(score[SCORE_OF_OPTIONS], 0.5 / (0.8125 + 1e-10), TOL);
}

/* At 90 nats e^-90 = 8e-40 is far below 1e-10, at 900 it is 0: quotients are those of the differences all the same. */
static void ratios_of_tiny_probabilities_are_taken_in_the_log_domain(void **state)
{
    const double depth[] = {90, 900};
    for (int k = 0; k < 2; k++) {
        double score[N_SCORE], wrong[] = {depth[k] + ln(4), depth[k] + ln(16)};
        struct scored_set s = new_set("forget", 1, score, NULL);
        score[SCORE_LOSS] = score[SCORE_PARAPHRASED_LOSS] = depth[k] + ln(2);
        score_wrong_answers(&tofu, 2, wrong, score);
        assert_near(*score_of(&s, 0, SCORE_TRUTH_RATIO), 5.0 / 16, 1e-12); /* 1e3 times the rounding of a difference */
        assert_near(*score_of(&s, 0, SCORE_OF_OPTIONS), 8.0 / 13, 1e-12);
        assert_near(*score_of(&s, 0, SCORE_QUALITY_RATIO), 4, 1e-12);
        score_wrong_answers(&open_unlearning, 2, wrong, score); /* published code takes 1e-10 for the divisor */
        assert_near(score[SCORE_TRUTH_RATIO] / 1e10, exp(-ln(8) - depth[k]), TOL);
        assert_near(score[SCORE_OF_OPTIONS] / 1e10, exp(-ln(2) - depth[k]), TOL);
    }
}

static void wrong_answers_of_a_row_are_those_it_has(void **state)
{
    double score[ROWS * N_SCORE];
    static const size_t first[ROWS + 1] = {0, 2, 2, 3, 5};        /* row 1 has none */
    static const size_t labels[6] = {0, 1, 2, 4, 5, 5};           /* the last answer of row 3 was cut */
    const double wrong[] = {ln(4), ln(16), ln(2), ln(8), ln(32)}; /* row 2: one of two tokens */
    const struct token_values t = values(), w = {.label_first = labels, .nll = wrong};
    struct eval_set log;
    assert_int_equal(eval_set_new(ROWS, 2, false, &log), OK);
    struct scored_set s = new_set("forget", ROWS, score, &log);
    assert_int_equal(scores_answer(&tofu, &t, NULL, texts, &s), OK);
    scores_paraphrased(NULL, NULL, &s);
    assert_int_equal(scores_perturbed(&tofu, &w, first, &s), OK);
    assert_score(&s, 0, SCORE_PERTURBED_LOSS, ln(8));
    assert_score(&s, 0, SCORE_TRUTH_RATIO, 5.0 / 8);
    assert_score(&s, 1, SCORE_PERTURBED_LOSS, NAN);
    assert_score(&s, 1, SCORE_TRUTH_RATIO, NAN);
    assert_score(&s, 2, SCORE_PERTURBED_LOSS, ln(4));
    assert_score(&s, 2, SCORE_OF_OPTIONS, 0.2);
    assert_score(&s, 3, SCORE_PERTURBED_LOSS, NAN);
    assert_near(log.perturbed[0], ln(4), TOL);
    assert_near(log.n_token_perturbed[4], 2, 0);
    assert_true(isnan(log.perturbed[2]) && isnan(log.perturbed[5]) && isnan(log.n_token_perturbed[5]));
    assert_near(log.n_token_perturbed[7], 0, 0);
    for (size_t i = 0; i < ROWS; i++) { /* the log, whose lists are filled up, says the same */
        static const enum score same[] = {SCORE_PERTURBED_LOSS, SCORE_TRUTH_RATIO, SCORE_QUALITY_RATIO, SCORE_OF_OPTIONS};
        double of_log[N_SCORE];
        score_log_row(&tofu, &log, i, of_log);
        for (int k = 0; k < 4; k++) assert_score(&s, i, same[k], of_log[same[k]]);
    }
    eval_set_free(&log);
    assert_int_equal(eval_set_new(ROWS, 1, false, &log), OK); /* a log of fewer wrong answers holds the first */
    assert_int_equal(scores_perturbed(&tofu, &w, first, &s), OK);
    assert_near(log.perturbed[0], ln(4), TOL);
    assert_true(isnan(log.perturbed[1]));
    assert_score(&s, 0, SCORE_PERTURBED_LOSS, ln(8));
    eval_set_free(&log);
}

static void extraction_from_other_questions_has_the_same_rule(void **state)
{
    double score[ROWS * N_SCORE];
    static const size_t labels[4] = {0, 3, 4, 4};
    struct scored_set s = new_set("forget", ROWS, score, NULL);
    const struct token_values t = values(), q = {.label_first = labels, .nll = t.nll, .hit = t.hit};
    scores_question(&tofu, &q, some_first, &s);
    assert_score(&s, 0, SCORE_PARAPHRASED_EXTRACTION, 1.0 / 3);
    assert_score(&s, 1, SCORE_PARAPHRASED_EXTRACTION, NAN);
    assert_score(&s, 2, SCORE_PARAPHRASED_EXTRACTION, 0);
    assert_score(&s, 3, SCORE_PARAPHRASED_EXTRACTION, NAN);
    scores_question(&open_unlearning, &q, some_first, &s);
    assert_score(&s, 0, SCORE_PARAPHRASED_EXTRACTION, 0.5);
    assert_score(&s, 2, SCORE_PARAPHRASED_EXTRACTION, NAN);
}

static void lists_stand_as_they_are_where_they_are_finite(void **state)
{
    double score[3 * N_SCORE];
    const double list[] = {0.5, INFINITY, NAN};
    struct scored_set s = new_set("plain", 3, score, NULL);
    scores_list(SCORE_KL, list, &s);
    assert_score(&s, 0, SCORE_KL, 0.5);
    assert_score(&s, 1, SCORE_KL, NAN);
    assert_score(&s, 2, SCORE_KL, NAN);
}

static void means_of_answers_are_of_their_tokens(void **state)
{
    double mean[ROWS];
    const struct token_values t = values();
    token_means(&t, ROWS, mean);
    assert_near(mean[0], ln(4), TOL);
    assert_true(isnan(mean[1]) && isinf(mean[3]));
    assert_near(mean[2], ln(16), TOL);
}

static void a_generated_answer_is_scored_and_logged(void **state)
{
    double score[2 * N_SCORE];
    struct text question = {0}, answer = {0}, said = {0};
    struct eval_set log;
    assert_int_equal(eval_set_new(2, 0, true, &log), OK);
    struct scored_set s = new_set("forget", 2, score, &log);
    text_print(&question, "who"), text_print(&answer, "red blue green black"), text_print(&said, "blue red");
    const struct generated_row row = {
        .question = &question, .answer = &answer, .text = &said, .n_token = 5, .ended = true};
    assert_int_equal(score_generated(&row, 1, &s), OK);
    assert_score(&s, 1, SCORE_ROUGE_1_RECALL, 0.5);
    assert_score(&s, 1, SCORE_ROUGE_L_RECALL, 0.25);
    assert_score(&s, 1, SCORE_ROUGE_L_F1, 1.0 / 3);
    assert_score(&s, 1, SCORE_GENERATED, 5);
    assert_score(&s, 1, SCORE_ENDED, 1);
    assert_score(&s, 0, SCORE_GENERATED, NAN);
    assert_near(log.rouge1[1], 0.5, 0);
    assert_near(log.rouge_l[1], 0.25, 0);
    assert_true(isnan(log.rouge1[0]) && log.generated[1].n == 8 && log.prompt[1].n == 3 && log.answer[1].n == 20);
    scores_clear(&s);
    assert_true(isnan(log.rouge1[1]) && isnan(log.rouge_l[1]) && log.generated[1].n == 0);
    text_free(&question), text_free(&answer), text_free(&said);
    eval_set_free(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_score_has_a_name_and_a_text),
        cmocka_unit_test(an_answer_has_the_scores_of_its_tokens),
        cmocka_unit_test(a_row_without_labels_has_no_number_but_its_count),
        cmocka_unit_test(a_likelihood_that_is_not_finite_gives_no_loss),
        cmocka_unit_test(what_was_not_measured_stays_nan),
        cmocka_unit_test(the_end_token_is_left_out_where_the_rule_says_so),
        cmocka_unit_test(nothing_extracted_is_0_or_1_over_n),
        cmocka_unit_test(min_k_of_one_token_is_that_token),
        cmocka_unit_test(a_paraphrase_stands_for_itself_and_an_answer_for_a_missing_key),
        cmocka_unit_test(wrong_answers_are_averaged_as_the_rule_says),
        cmocka_unit_test(ratios_of_tiny_probabilities_are_taken_in_the_log_domain),
        cmocka_unit_test(wrong_answers_of_a_row_are_those_it_has),
        cmocka_unit_test(extraction_from_other_questions_has_the_same_rule),
        cmocka_unit_test(lists_stand_as_they_are_where_they_are_finite),
        cmocka_unit_test(means_of_answers_are_of_their_tokens),
        cmocka_unit_test(a_generated_answer_is_scored_and_logged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
