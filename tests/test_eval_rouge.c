/* eval: likeness of texts, and the stems of their words.                                                          NP: 1 */
#include "near.h"
#include "unlearn/eval_priv.h"

static const double TOL = 1e-15; /* quotients of small whole numbers */

static void assert_stem(const char *word, const char *stem)
{
    char w[64];
    snprintf(w, sizeof w, "%s", word);
    w[porter_stem(w, strlen(w))] = 0;
    assert_string_equal(w, stem);
}

/* Examples of Porter's paper, step by step, as far as later steps leave them; the whole is compared in scores.py. */
static void stems_are_those_of_the_paper(void **state)
{
    static const char *const pair[][2] = {
        {"caresses", "caress"},    {"ponies", "poni"},        {"cats", "cat"},           {"feed", "feed"},
        {"agreed", "agre"},        {"plastered", "plaster"},  {"bled", "bled"},          {"motoring", "motor"},
        {"sing", "sing"},          {"conflated", "conflat"},  {"sized", "size"},         {"hopping", "hop"},
        {"falling", "fall"},       {"hissing", "hiss"},       {"fizzed", "fizz"},        {"failing", "fail"},
        {"filing", "file"},        {"happy", "happi"},        {"relational", "relat"},   {"conditional", "condit"},
        {"digitizer", "digit"},    {"radicalli", "radic"},    {"analogousli", "analog"}, {"formaliti", "formal"},
        {"triplicate", "triplic"}, {"hopefulness", "hope"},   {"electrical", "electr"},  {"revival", "reviv"},
        {"adoption", "adopt"},     {"replacement", "replac"}, {"controll", "control"},   {"roll", "roll"},
        {"probate", "probat"},     {"rate", "rate"},          {"cease", "ceas"},         {"generalizations", "gener"},
    };
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) assert_stem(pair[i][0], pair[i][1]);
}

static void nltk_deviates_from_the_paper(void **state)
{
    static const char *const pair[][2] = {
        {"skies", "sky"},
        {"dying", "die"},
        {"news", "news"},
        {"innings", "inning"},
        {"proceed", "proceed"},
        {"dies", "die"},
        {"flies", "fli"},
        {"died", "die"},
        {"spied", "spi"},
        {"enjoy", "enjoy"},
        {"fly", "fli"},
        {"possibly", "possibl"},
        {"theologi", "theolog"},
        {"geologi", "geolog"},
        {"hopefulli", "hope"},
        {"ating", "ate"},
        {"by", "by"},
        {"1990s", "1990"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) assert_stem(pair[i][0], pair[i][1]);
}

static void score(const char *reference, const char *candidate, struct rouge *one, struct rouge *l)
{
    *one = *l = (struct rouge){NAN, NAN, NAN};
    assert_int_equal(rouge_score(reference, strlen(reference), candidate, strlen(candidate), one, l), OK);
}

static void assert_rouge(const struct rouge *r, double precision, double recall)
{
    double sum = precision + recall;
    assert_near(r->precision, precision, TOL);
    assert_near(r->recall, recall, TOL);
    assert_near(r->f1, sum > 0 ? 2 * precision * recall / sum : 0, TOL);
}

/* rouge-score with use_stemmer=False: "cats" is no "cat" there, "running" no "runs". */
static void words_may_be_compared_as_they_are(void **state)
{
    static const char reference[] = "The cats were running fast", candidate[] = "the cat runs fast";
    struct rouge one, l;
    assert_int_equal(rouge_score_of(false, reference, sizeof reference - 1, candidate, sizeof candidate - 1, &one, &l),
                     OK);
    assert_rouge(&one, 2.0 / 4, 2.0 / 5);
    assert_rouge(&l, 2.0 / 4, 2.0 / 5);
    score(reference, candidate, &one, &l);
    assert_rouge(&l, 4.0 / 4, 4.0 / 5);
}

static void words_in_common_count_as_often_as_both_have_them(void **state)
{
    struct rouge one, l;
    score("the cat sat on the mat", "the the the cat", &one, &l); /* the, the, cat of 4 and 6; the .. cat */
    assert_rouge(&one, 3.0 / 4, 3.0 / 6);
    assert_rouge(&l, 2.0 / 4, 2.0 / 6);
    score("a b c d", "d c b a", &one, &l);
    assert_rouge(&one, 1, 1);
    assert_rouge(&l, 1.0 / 4, 1.0 / 4);
}

static void a_text_is_wholly_like_itself_and_not_at_all_like_nothing(void **state)
{
    static const char *const nothing[] = {"", "  \n", "...!?", "\xc3\xa9\xe4\xbd\xa0"};
    struct rouge one, l;
    score("Basil was born in Kuwait, in 1956.", "Basil was born in Kuwait, in 1956.", &one, &l);
    assert_rouge(&one, 1, 1), assert_rouge(&l, 1, 1);
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        score("Basil was born", nothing[i], &one, &l);
        assert_rouge(&one, 0, 0), assert_rouge(&l, 0, 0);
        score(nothing[i], "Basil was born", &one, &l);
        assert_rouge(&one, 0, 0), assert_rouge(&l, 0, 0);
        score(nothing[i], nothing[i], &one, &l);
        assert_rouge(&one, 0, 0), assert_rouge(&l, 0, 0);
    }
}

static void case_punctuation_and_endings_do_not_count(void **state)
{
    struct rouge one, l;
    score("He WRITES (mostly) stories!", "he-writing--mostly,story", &one, &l);
    assert_rouge(&one, 1, 1), assert_rouge(&l, 1, 1);
    score("runs", "running", &one, &l);
    assert_rouge(&one, 1, 1);
    score("was", "wa", &one, &l); /* words of three letters have no stem */
    assert_rouge(&one, 0, 0);
}

/* As str.lower() of Python, of which only [a-z0-9] counts. */
static void two_characters_beyond_ascii_hold_a_letter(void **state)
{
    struct rouge one, l;
    score("273 \xe2\x84\xaa", "273k 273 k", &one, &l); /* the Kelvin sign */
    assert_rouge(&one, 2.0 / 3, 1);
    score("\xc4\xb0stanbul", "i stanbul", &one, &l); /* I with a dot above: i, a combining dot */
    assert_rouge(&l, 1, 1);
    score("x\xc4\xb0\xc4\xb0y", "xi i y", &one, &l);
    assert_rouge(&l, 1, 1);
    score("caf\xc3\xa9s", "caf s", &one, &l);
    assert_rouge(&l, 1, 1);
}

static void bytes_that_are_no_text_part_words(void **state)
{
    static const char nul[] = "one\0two", broken[] = "one\xe2\x84two\xc4";
    struct rouge r;
    assert_int_equal(rouge_score("one two", 7, nul, sizeof nul - 1, &r, NULL), OK);
    assert_rouge(&r, 1, 1);
    assert_int_equal(rouge_score("one two", 7, broken, sizeof broken - 1, NULL, &r), OK);
    assert_rouge(&r, 1, 1);
}

/* Slow twin: the longest common subsequence by the whole table, of words that are one letter. */
static size_t twin(const char *a, size_t n, const char *b, size_t m)
{
    static size_t table[65][65];
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            size_t up = table[i - 1][j], left = table[i][j - 1];
            table[i][j] = a[2 * i - 2] == b[2 * j - 2] ? table[i - 1][j - 1] + 1 : up > left ? up : left;
        }
    return table[n][m];
}

static void subsequences_are_as_long_as_the_whole_table_says(void **state)
{
    char a[129] = {0}, b[129] = {0};
    for (uint64_t seed = 0; seed < 500; seed++) {
        size_t n = 1 + random_below(seed, STREAM_TEST, 0, 64), m = 1 + random_below(seed, STREAM_TEST, 1, 64);
        struct rouge one, l;
        for (size_t i = 0; i < 2 * n; i++) a[i] = i % 2 ? ' ' : (char)('a' + random_below(seed, STREAM_TEST, 2 + i, 4));
        for (size_t i = 0; i < 2 * m; i++) b[i] = i % 2 ? ' ' : (char)('a' + random_below(seed, STREAM_TEST, 500 + i, 4));
        a[2 * n] = b[2 * m] = 0;
        score(a, b, &one, &l);
        assert_near(l.recall * (double)n, twin(a, n, b, m), 1e-12);
        assert_near(l.precision * (double)m, twin(a, n, b, m), 1e-12);
        assert_true(one.recall >= l.recall);
    }
}

/* 6000 words against the same ones with every third lost: a table would take 190 MB. */
static void texts_of_thousands_of_words_are_no_trouble(void **state)
{
    struct text a = {0}, b = {0};
    struct rouge one, l;
    size_t before = memory_peak();
    for (int i = 0; i < 6000; i++) {
        text_print(&a, "w%d ", i);
        if (i % 3) text_print(&b, "w%d ", i);
    }
    score(a.data, b.data, &one, &l);
    assert_rouge(&one, 1, 2.0 / 3);
    assert_rouge(&l, 1, 2.0 / 3);
    assert_true(memory_peak() < before + ((size_t)32 << 20));
    text_free(&a), text_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stems_are_those_of_the_paper),
        cmocka_unit_test(nltk_deviates_from_the_paper),
        cmocka_unit_test(words_may_be_compared_as_they_are),
        cmocka_unit_test(words_in_common_count_as_often_as_both_have_them),
        cmocka_unit_test(a_text_is_wholly_like_itself_and_not_at_all_like_nothing),
        cmocka_unit_test(case_punctuation_and_endings_do_not_count),
        cmocka_unit_test(two_characters_beyond_ascii_hold_a_letter),
        cmocka_unit_test(bytes_that_are_no_text_part_words),
        cmocka_unit_test(subsequences_are_as_long_as_the_whole_table_says),
        cmocka_unit_test(texts_of_thousands_of_words_are_no_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
