/* tokenizer: added tokens, and what is read with a line in the log.       NP: 1 */
#include "small_tokenizer.h"

/* ---------------------------------------------------------------------------------------------- added tokens ----- */
static struct tokenizer *with_added(const char *added, const char *normalizer, const char *post)
{
    json_t *json = json_pack("{s:o, s:o}", "model", small_model("x", "abcdefghijklmnopqrstuvwxyz <>_"), "added_tokens",
                             parse(added));
    if (normalizer) json_object_set_new(json, "normalizer", parse(normalizer));
    if (post) json_object_set_new(json, "post_processor", parse(post));
    return build(json);
}

static void added_tokens_are_found_longest_first_with_the_space_they_take(void **state)
{
    struct tokenizer *t = with_added("[{\"id\": 30, \"content\": \"<s>\", \"special\": true}, {\"id\": 31, \"content\": "
                                     "\"<s>x\", \"normalized\": false}, "
                                     "{\"id\": 32, \"content\": \"<m>\", \"lstrip\": true, \"rstrip\": true}, "
                                     "{\"id\": 33, \"content\": \"tok\", \"single_word\": true}]",
                                     NULL, NULL);
    struct ids ids = {0};
    struct text text = {0};
    assert_int_equal(tokenizer_vocabulary(t), 34);
    assert_tokens(t, "a<s>b", "a <s> b");
    assert_tokens(t, "<s>xx", "<s>x x");
    assert_tokens(t, "a  <m> \n<m>  b", "a <m> <m> b");
    assert_tokens(t, "tok<tok>", "tok < tok >");
    assert_tokens(t, "tokx tok", "t o k x   tok");
    assert_int_equal(tokenizer_encode(t, "a<s>", 4, false, &ids), OK); /* matched without the post-processor too */
    assert_int_equal(ids.n, 2);
    assert_int_equal(tokenizer_decode(t, ids.data, ids.n, true, &text), OK);
    assert_string_equal(text.data, "a");
    assert_int_equal(tokenizer_decode(t, (const int32_t[]){34}, 1, true, &text), ERR_INPUT);
    assert_int_equal(tokenizer_decode(t, (const int32_t[]){-1}, 1, true, &text), ERR_INPUT);
    fail_clear();
    ids_free(&ids);
    text_free(&text);
    tokenizer_free(t);
}

static void normalised_tokens_are_found_in_normalised_text_only(void **state)
{
    struct tokenizer *t = with_added("[{\"id\": 30, \"content\": \"Abc\", \"normalized\": true}, "
                                     "{\"id\": 31, \"content\": \"Def\", \"normalized\": false}]",
                                     "{\"type\": \"Lowercase\"}", NULL);
    assert_tokens(t, "ABC abc", "abc   abc");
    assert_tokens(t, "DEF Def", "d e f   Def");
    tokenizer_free(t);
}

/* Ids, and the text of both ways to decode them; the values are those of the package, version 0.23.3. */
struct decoded {
    const char *text;
    int32_t id[5];
    size_t n;
    const char *all, *without_special;
};

static void run_decoded(const struct tokenizer *t, size_t n, const struct decoded *d)
{
    for (size_t i = 0; i < n; i++) {
        struct ids ids = {0};
        struct text text[2] = {{0}};
        assert_int_equal(tokenizer_encode(t, d[i].text, strlen(d[i].text), true, &ids), OK);
        assert_int_equal(ids.n, d[i].n);
        assert_memory_equal(ids.data, d[i].id, ids.n * sizeof *ids.data);
        for (int k = 0; k < 2; k++) assert_int_equal(tokenizer_decode(t, ids.data, ids.n, k, &text[k]), OK);
        assert_string_equal(text[0].n ? text[0].data : "", d[i].all);
        assert_string_equal(text[1].n ? text[1].data : "", d[i].without_special);
        ids_free(&ids);
        text_free(&text[0]), text_free(&text[1]);
    }
}

/* The letters a ... z are 0 ... 25, then " <>_ABT" and the mark of a space, 33. */
static struct tokenizer *decoding(const char *added, const char *normalizer, const char *decoder)
{
    json_t *vocab = json_object(), *model;
    characters_add(vocab, "abcdefghijklmnopqrstuvwxyz <>_ABT\xe2\x96\x81");
    model = json_pack("{s:s, s:o, s:[]}", "type", "BPE", "vocab", vocab, "merges");
    return build(json_pack("{s:o, s:o, s:o, s:o}", "model", model, "added_tokens", parse(added), "normalizer",
                           parse(normalizer), "decoder", parse(decoder)));
}

static const char lowercase[] = "{\"type\": \"Lowercase\"}", just_fuse[] = "{\"type\": \"Fuse\"}";

static void an_added_token_decodes_to_what_normalisation_makes_of_it(void **state)
{
    struct tokenizer *t =
        decoding("[{\"id\": 34, \"content\": \"TOK\"}, {\"id\": 35, \"content\": \"<MASK>\", \"special\": "
                 "true, \"normalized\": true}, {\"id\": 36, \"content\": \"<End>\", \"special\": true}]",
                 lowercase, just_fuse);
    /* what is special is told by the text: normalised, <mask> is not */
    run_decoded(t, 3,
                (const struct decoded[]){{"tokaTok", {34, 0, 34}, 3, "tokatok", "tokatok"},
                                         {"<Mask>a", {35, 0}, 2, "<mask>a", "<mask>a"},
                                         {"<End>a", {36, 0}, 2, "<End>a", "a"}});
    tokenizer_free(t);
    t = decoding(
        "[{\"id\": 34, \"content\": \"<M>\"}]",
        "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xe2\x96\x81\"}, {\"type\": "
        "\"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}]}",
        "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": "
        "\"\xe2\x96\x81\"}, \"content\": \" \"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", "
        "\"start\": 1, \"stop\": 0}]}");
    run_decoded(t, 1, (const struct decoded[]){{"b <M>", {33, 1, 34}, 3, "b <M>", "b <M>"}});
    tokenizer_free(t);
}

/* A text that another token has as its own, special one. */
static void a_token_that_looks_like_a_special_one_after_normalisation_is_left_out(void **state)
{
    struct tokenizer *t =
        decoding("[{\"id\": 34, \"content\": \"TOK\"}, {\"id\": 35, \"content\": \"tok\", \"special\": true}, "
                 "{\"id\": 30, \"content\": \"A\", \"special\": true, \"normalized\": true}]",
                 lowercase, just_fuse);
    const int32_t id[] = {34, 1, 35, 30};
    struct text text[2] = {{0}};
    for (int k = 0; k < 2; k++) assert_int_equal(tokenizer_decode(t, id, 4, k, &text[k]), OK);
    assert_string_equal(text[0].data, "tokbtoka");
    assert_string_equal(text[1].data, "ba");
    text_free(&text[0]), text_free(&text[1]);
    tokenizer_free(t);
}

/* ------------------------------------------------------------------------- read with a line in the log ----------- */
static void a_token_added_twice_is_as_its_last_entry_but_stays_special(void **state)
{
    static const char *const second[] = {"\"rstrip\": true, \"normalized\": false", "\"rstrip\": true",
                                         "\"rstrip\": true, \"normalized\": false, \"special\": true"};
    static const struct decoded want[][2] = {
        {{"aTOK b", {0, 34, 1}, 3, "aTOKb", "ab"}, {"atok", {0, 19, 14, 10}, 4, "atok", "atok"}},
        {{"aTOK b", {0, 34, 1}, 3, "atokb", "atokb"}, {"atok", {0, 34}, 2, "atok", "atok"}},
        {{"aTOK b", {0, 34, 1}, 3, "aTOKb", "ab"}, {"atok", {0, 19, 14, 10}, 4, "atok", "atok"}},
    };
    for (size_t i = 0; i < 3; i++) {
        struct text added = {0};
        const size_t before = log_warnings();
        struct tokenizer *t;
        text_print(&added,
                   "[{\"id\": 34, \"content\": \"TOK\", \"lstrip\": true, \"special\": true}, {\"id\": 34, "
                   "\"content\": \"TOK\", %s}]",
                   second[i]);
        t = decoding(added.data, lowercase, just_fuse);
        assert_int_equal(log_warnings(), before + 1);
        run_decoded(t, 2, want[i]);
        tokenizer_free(t);
        text_free(&added);
    }
}

static void a_token_of_which_nothing_is_left_or_that_is_empty_is_not_looked_for(void **state)
{
    const size_t before = log_warnings();
    struct tokenizer *t = decoding(
        "[{\"id\": 34, \"content\": \"\"}, {\"id\": 34, \"content\": \"TOK\"}, {\"id\": 35, \"content\": \"<M>\"}]",
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \"TOK\"}, \"content\": \"\"}", just_fuse);
    struct text text = {0};
    assert_int_equal(log_warnings(), before + 2);
    run_decoded(t, 2,
                (const struct decoded[]){{"aTOKb", {0, 1}, 2, "ab", "ab"}, {"<M>TOKa", {35, 0}, 2, "<M>a", "<M>a"}});
    assert_int_equal(tokenizer_decode(t, ((const int32_t[]){34, 0}), 2, false, &text), OK);
    assert_string_equal(text.data, "a");
    text_free(&text);
    tokenizer_free(t);
}

static void of_a_merge_that_stands_there_twice_the_last_counts(void **state)
{
    const size_t before = log_warnings();
    struct tokenizer *t = build(
        json_pack("{s:o}", "model",
                  parse("{\"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"bc\": 4}, \"merges\": [\"a b\", \"b "
                        "c\", \"a b\"]}")));
    assert_int_equal(log_warnings(), before + 1);
    assert_tokens(t, "abc", "a bc");
    assert_tokens(t, "ab", "ab");
    tokenizer_free(t);
}

static void an_unknown_token_that_is_none_matters_only_where_it_is_needed(void **state)
{
    const size_t before = log_warnings();
    struct tokenizer *t = build(json_pack("{s:o}", "model", merges_model("{\"unk_token\": \"<none>\"}")));
    struct ids ids = {0};
    assert_int_equal(log_warnings(), before + 1);
    assert_tokens(t, "abc", "abc");
    assert_int_equal(tokenizer_encode(t, "a?", 2, false, &ids), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "U+003F and no unk_token in its vocabulary"));
    fail_clear();
    ids_free(&ids);
    tokenizer_free(t);
}

/* Expected: tokenizers 0.21 to 0.23 give 3, 4, 5. */
static void a_gap_in_the_ids_of_added_tokens_is_closed(void **state)
{
    const size_t before = log_warnings();
    struct tokenizer *t = build(json_pack(
        "{s:o, s:o}", "model", parse("{\"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2}, \"merges\": []}"), "added_tokens",
        parse("[{\"id\": 3, \"content\": \"<x>\"}, {\"id\": 7, \"content\": \"<y>\"}, {\"id\": 9, \"content\": "
              "\"<z>\"}]")));
    static const int32_t expected[] = {0, 5, 4, 3};
    struct ids ids = {0};
    assert_int_equal(log_warnings(), before + 1);
    assert_int_equal(tokenizer_encode(t, "a<z><y><x>", 10, false, &ids), OK);
    assert_int_equal(ids.n, 4);
    for (int i = 0; i < 4; i++) assert_int_equal(ids.data[i], expected[i]);
    assert_int_equal(tokenizer_vocabulary(t), 6);
    ids_free(&ids);
    tokenizer_free(t);
}

/* Expected: the tokenizers package; what is left out lets its neighbours merge. */
static void a_byte_without_a_token_is_left_out_where_nothing_stands_for_the_unknown(void **state)
{
    static const char model[] = "{\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]%s}";
    for (int unknown = 0; unknown < 2; unknown++) {
        const size_t before = log_warnings();
        struct text text = {0};
        struct tokenizer *t;
        struct ids ids = {0};
        text_print(&text, model, unknown ? ", \"unk_token\": \"?\"" : "");
        t = build(json_pack("{s:o, s:o}", "model", parse(text.data), "pre_tokenizer",
                            parse("{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}")));
        assert_int_equal(log_warnings(), before + 1);
        assert_int_equal(tokenizer_encode(t,
                                          "a\xc3\xa9"
                                          "b?",
                                          5, false, &ids),
                         unknown ? ERR_INPUT : OK);
        if (!unknown) assert_true(ids.n == 1 && ids.data[0] == 2);
        fail_clear();
        ids_free(&ids), text_free(&text);
        tokenizer_free(t);
    }
}

/* null, as the package writes what is not set, is what is not there. */
static void options_that_are_null_are_as_absent_ones(void **state)
{
    check_merges("{\"fuse_unk\": null, \"byte_fallback\": null, \"ignore_merges\": null, \"unk_token\": \"<unk>\"}",
                 "a??b", "a <unk> <unk> b");
}

static void numbers_that_json_does_not_have_matter_only_where_they_are_used(void **state)
{
    static const char good[] = "{\"note\": NaN, \"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"cache\": 1e999}, "
                               "\"size\": 340282366920938463463374607431768211456}";
    static const char *const bad[][2] = {
        {"{\"model\": NaN}", "no object \"model\""},
        {"{\"model\": {\"vocab\": NaN, \"merges\": []}}", "\"vocab\""},
        {"{\"model\": {\"vocab\": {\"a\": 18446744073709551616}, \"merges\": []}}", "the id of token \"a\""},
        {"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": NaN}}", "\"merges\""},
        {"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"fuse_unk\": NaN}}",
         "\"fuse_unk\" must be true or false, not NaN"},
        {"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"unk_token\": NaN}}",
         "\"unk_token\" must be text, not NaN"},
        {"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"dropout\": Infinity}}", "dropout"},
        {"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}, \"decoder\": NaN}",
         "\"decoder\" must be an object or null, not NaN"},
    };
    struct tokenizer *t = NULL;
    if (tokenizer_parse("T", good, sizeof good - 1, &t) != OK) fail_msg("%s", fail_message());
    assert_tokens(t, "aa", "a a");
    tokenizer_free(t);
    for (size_t i = 0; i < N_OF(bad); i++) {
        if (tokenizer_parse("T", bad[i][0], strlen(bad[i][0]), &t) != ERR_INPUT || !strstr(fail_message(), bad[i][1]))
            fail_msg("%s: %s", bad[i][0], fail_message());
        fail_clear();
    }
}

static void a_metaspace_of_scheme_first_marks_the_start_of_the_text_only(void **state)
{
    json_t *json = json_pack("{s:o, s:o, s:o}", "model", small_model("_a|_b", "ab <>_"), "added_tokens",
                             parse("[{\"id\": 9, \"content\": \"<>\"}]"), "pre_tokenizer",
                             parse("{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\"}"));
    struct tokenizer *t = build(json);
    assert_tokens(t, "a<>b", "_a <> b");
    assert_tokens(t, "<>a b", "<> a _b");
    tokenizer_free(t);
}

/* Where normalisation takes the first character away, the text does not start there any more: values of the package. */
static void a_start_that_normalisation_takes_away_gets_no_mark(void **state)
{
#define REPLACE(p, c) "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"" p "\"}, \"content\": \"" c "\"}"
#define BOTH(a, b)    "{\"type\": \"Sequence\", \"normalizers\": [" a ", " b "]}"
#define PREPEND       "{\"type\": \"Prepend\", \"prepend\": \"x\"}"
#define STRIP         "{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}"
    static const char *const samples[][3] = {
        {REPLACE("[A-Z]+", "x"), "Ab", "_ x b"},
        {REPLACE("[A-Z]+", "x"), "ABb", "x b"},
        {REPLACE("[A-Z]+", "xy"), "Ab", "_ x y b"},
        {REPLACE("[A-Z]+", ""), "Ab", "b"},
        {REPLACE("[A-Z]+", ""), "bA", "_ b"},
        {REPLACE("^", "x"), "AB", "_ x A B"},
        {BOTH(PREPEND, REPLACE("x", "")), "ab", "_ a b"},
        {BOTH(PREPEND, REPLACE("xa", "c")), "ab", "_ c b"},
        {BOTH(PREPEND, REPLACE("xab", "c")), "ab", "c"},
        {BOTH(STRIP, REPLACE("A", "x")), " Ab", "x b"},
        {BOTH(STRIP, REPLACE("A", "x")), "Ab", "_ x b"},
        {BOTH(REPLACE("A", ""), PREPEND), "Ab", "x b"},
        {"{\"type\": \"StripAccents\"}",
         "\xcc\x81"
         "ab",
         "a b"},
        {"{\"type\": \"StripAccents\"}", "ab", "_ a b"},
    };
    for (size_t i = 0; i < N_OF(samples); i++) {
        struct tokenizer *t = build(json_pack(
            "{s:o, s:o, s:o}", "model", small_model("_", "abcxyAB"), "normalizer", parse(samples[i][0]), "pre_tokenizer",
            parse("{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\"}")));
        assert_tokens(t, samples[i][1], samples[i][2]);
        tokenizer_free(t);
    }
}

static void the_post_processor_adds_tokens_at_both_ends(void **state)
{
    static const char added[] =
        "[{\"id\": 30, \"content\": \"[s]\", \"special\": true}, {\"id\": 31, \"content\": \"[e]\", \"special\": true}]";
    static const char template[] =
        "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, {\"type\": \"TemplateProcessing\", "
        "\"single\": [{\"SpecialToken\": {\"id\": \"S\"}}, {\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": "
        "\"E\"}}], \"special_tokens\": {\"S\": {\"ids\": [30, 30]}, \"E\": {\"ids\": [31]}}}]}";
    static const char ends[] = "{\"type\": \"RobertaProcessing\", \"cls\": [\"[s]\", 30], \"sep\": [\"[e]\", 31]}";
    struct tokenizer *t = with_added(added, NULL, template);
    struct ids ids = {0};
    assert_tokens(t, "a", "[s] [s] a [e]");
    assert_int_equal(tokenizer_encode(t, "a", 1, false, &ids), OK);
    assert_int_equal(ids.n, 1);
    ids_free(&ids);
    tokenizer_free(t);
    t = with_added(added, NULL, ends);
    assert_tokens(t, "", "[s] [e]");
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(added_tokens_are_found_longest_first_with_the_space_they_take),
        cmocka_unit_test(normalised_tokens_are_found_in_normalised_text_only),
        cmocka_unit_test(an_added_token_decodes_to_what_normalisation_makes_of_it),
        cmocka_unit_test(a_token_that_looks_like_a_special_one_after_normalisation_is_left_out),
        cmocka_unit_test(a_token_added_twice_is_as_its_last_entry_but_stays_special),
        cmocka_unit_test(a_token_of_which_nothing_is_left_or_that_is_empty_is_not_looked_for),
        cmocka_unit_test(of_a_merge_that_stands_there_twice_the_last_counts),
        cmocka_unit_test(a_gap_in_the_ids_of_added_tokens_is_closed),
        cmocka_unit_test(a_byte_without_a_token_is_left_out_where_nothing_stands_for_the_unknown),
        cmocka_unit_test(an_unknown_token_that_is_none_matters_only_where_it_is_needed),
        cmocka_unit_test(options_that_are_null_are_as_absent_ones),
        cmocka_unit_test(numbers_that_json_does_not_have_matter_only_where_they_are_used),
        cmocka_unit_test(a_metaspace_of_scheme_first_marks_the_start_of_the_text_only),
        cmocka_unit_test(a_start_that_normalisation_takes_away_gets_no_mark),
        cmocka_unit_test(the_post_processor_adds_tokens_at_both_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
