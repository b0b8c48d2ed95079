/* data: components of a tokenizer, each in a small one made here.       NP: 1 */
#include "near.h"
#include "unlearn/data.h"

/* A model whose tokens are the words of `words` (separated by |) and every character of `text` and of them. Words are
 * found whole (ignore_merges), so the tokens show how text was split. */
static void vocabulary_add(json_t *vocab, const char *s, size_t n)
{
    json_t *key = json_stringn(s, n);
    assert_non_null(key);
    if (!json_object_get(vocab, json_string_value(key)))
        json_object_set_new(vocab, json_string_value(key), json_integer((json_int_t)json_object_size(vocab)));
    json_decref(key);
}

static void characters_add(json_t *vocab, const char *s)
{
    while (*s) {
        size_t n = 1;
        while (((unsigned char)s[n] & 0xc0) == 0x80) n++;
        vocabulary_add(vocab, s, n);
        s += n;
    }
}

static json_t *small_model(const char *words, const char *text)
{
    json_t *vocab = json_object();
    for (const char *s = words, *end; *s; s = *end ? end + 1 : end) {
        end = strchr(s, '|');
        if (!end) end = s + strlen(s);
        vocabulary_add(vocab, s, (size_t)(end - s));
    }
    characters_add(vocab, words);
    characters_add(vocab, text);
    return json_pack("{s:s, s:o, s:[], s:b}", "type", "BPE", "vocab", vocab, "merges", "ignore_merges", 1);
}

static struct tokenizer *build(json_t *json)
{
    char *text = json_dumps(json, 0);
    struct tokenizer *t = NULL;
    enum status st = tokenizer_parse("small", text, strlen(text), &t);
    if (st != OK) print_error("%s\n", fail_message());
    assert_int_equal(st, OK);
    free(text);
    json_decref(json);
    return t;
}

static json_t *parse(const char *text)
{
    json_t *json = NULL;
    assert_int_equal(json_parse("component", 0, text, strlen(text), &json), OK);
    return json;
}

/* The tokens of a text, joined with spaces where there is no decoder. */
static void assert_tokens(const struct tokenizer *t, const char *text, const char *want)
{
    struct ids ids = {0};
    struct text got = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), true, &ids), OK);
    assert_int_equal(tokenizer_decode(t, ids.data, ids.n, false, &got), OK);
    assert_string_equal(got.data ? got.data : "", want);
    ids_free(&ids);
    text_free(&got);
}

struct sample {
    const char *component, *words, *text, *tokens;
};

static void run_samples(const char *part, size_t n, const struct sample *s, const char *decoder)
{
    for (size_t i = 0; i < n; i++) {
        json_t *json = json_pack("{s:o, s:o}", "model", small_model(s[i].words, s[i].text), part, parse(s[i].component));
        if (decoder) json_object_set_new(json, "decoder", parse(decoder));
        struct tokenizer *t = build(json);
        assert_tokens(t, s[i].text, s[i].tokens);
        tokenizer_free(t);
    }
}
#define N_OF(array) (sizeof(array) / sizeof *(array))

/* The example of the package's own documentation, all behaviours. */
static void delimiters_are_isolated_removed_or_merged(void **state)
{
#define SPLIT(behaviour, invert) \
    "{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"" behaviour "\", \"invert\": " invert "}"
    static const char words[] = "the|final|countdown|-|--|the-|final-|-final|-countdown|-the-",
                      text[] = "the-final--countdown";
    const struct sample samples[] = {
        {SPLIT("Isolated", "false"), words, text, "the - final - - countdown"},
        {SPLIT("Removed", "false"), words, text, "the final countdown"},
        {SPLIT("Removed", "true"), words, text, "- - -"},
        {SPLIT("MergedWithPrevious", "false"), words, text, "the- final- - countdown"},
        {SPLIT("MergedWithNext", "false"), words, text, "the -final - -countdown"},
        {SPLIT("Contiguous", "false"), words, text, "the - final -- countdown"},
        {SPLIT("Contiguous", "true"), words, text, "the - final -- countdown"},
    };
    run_samples("pre_tokenizer", N_OF(samples), samples, NULL);
}

static void patterns_mean_what_they_mean_in_oniguruma(void **state)
{
#define REGEX(pattern) \
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" pattern "\"}, \"behavior\": \"Isolated\", \"invert\": false}"
    const struct sample samples[] = {
        {REGEX("\\\\s+"), "a|b|\xe1\xa0\x8e|\xc2\x85", "a\xc2\x85\x62\xe1\xa0\x8e", "a \xc2\x85 b \xe1\xa0\x8e"},
        {REGEX("\\\\w+"), "a\xc2\xb2|!|\xe2\x93\x90", "!a\xc2\xb2!\xe2\x93\x90", "! a\xc2\xb2 ! \xe2\x93\x90"},
        {REGEX("[^\\\\S\\\\n]+"), "a|  |\n", "a  \n", "a    \n"},
        {REGEX("\\\\h+"), "fe|x", "fex", "fe x"},
        {REGEX("[[:punct:]]+"), "a|+-", "a+-", "a +-"},
        {REGEX("\\\\p{Han}+"), "\xe6\xbc\xa2|\xe3\x80\x81", "\xe6\xbc\xa2\xe3\x80\x81", "\xe6\xbc\xa2 \xe3\x80\x81"},
        {REGEX("\\\\p{^L}"), "ab|1", "ab1", "ab 1"},
        {REGEX("(?i:'s|'ll)"), "I|'LL|go", "I'LLgo", "I 'LL go"},
        {REGEX(" ?[^(\\\\s|[.,])]+"), " ab|(|,", " ab(,", " ab ( ,"},
        {REGEX("^b"), "a\n|b", "a\nb", "a\n b"},
    };
    run_samples("pre_tokenizer", N_OF(samples), samples, NULL);
}

static void ready_made_splitters_split_as_the_package_does(void **state)
{
    const struct sample samples[] = {
        {"{\"type\": \"Digits\", \"individual_digits\": true}", "a|12|b", "a12b", "a 1 2 b"},
        {"{\"type\": \"Digits\", \"individual_digits\": false}", "a|12|b", "a12b", "a 12 b"},
        {"{\"type\": \"Punctuation\"}", "Hey|friend|!|?", "Hey!?friend", "Hey ! ? friend"},
        {"{\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}", "Hey|!?", "Hey!?", "Hey !?"},
        {"{\"type\": \"Whitespace\"}", "Hey|!?|you", "Hey  !? you", "Hey !? you"},
        {"{\"type\": \"WhitespaceSplit\"}", "Hey!?|you", "Hey!?\t\nyou ", "Hey!? you"},
        {"{\"type\": \"CharDelimiterSplit\", \"delimiter\": \"_\"}", "Hey|you", "Hey__you", "Hey you"},
        {"{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"always\"}", "_Hey|_|_you", "Hey  you",
         "_Hey _ _you"},
        {"{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"never\", \"split\": false}", "Hey_you",
         "Hey you", "Hey_you"},
        {"{\"type\": \"Metaspace\", \"replacement\": \"_\", \"add_prefix_space\": false}", "Hey|_you", "Hey you",
         "Hey _you"},
        {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": \"Digits\"}]}",
         "a|12|b", "a12 b", "a 12 b"},
        {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true}", "\xc4\xa0you|'ll|\xc4\xa0go|\xc4\xa0\xc4\xa0",
         "you'll   go", "\xc4\xa0you 'll \xc4\xa0\xc4\xa0 \xc4\xa0go"},
    };
    run_samples("pre_tokenizer", N_OF(samples), samples, NULL);
}

static void normalisers_change_text_before_it_is_split(void **state)
{
    static const char fuse[] = "{\"type\": \"Fuse\"}";
    const struct sample samples[] = {
        {"{\"type\": \"Prepend\", \"prepend\": \"_\"}", "_", "ab", "_ab"},
        {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"ll\"}, \"content\": \"L\"}", "L", "hello lll", "heLo Ll"},
        {"{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"content\": \" \"}", " ", "a \t\n b", "a b"},
        {"{\"type\": \"Strip\"}", "a",
         " \xc2\xa0"
         "a b\n",
         "a b"},
        {"{\"type\": \"Strip\", \"strip_left\": false}", "a", " a ", " a"},
        {"{\"type\": \"NFC\"}", "\xc3\xa9", "e\xcc\x81", "\xc3\xa9"},
        {"{\"type\": \"NFD\"}", "e\xcc\x81", "\xc3\xa9", "e\xcc\x81"},
        {"{\"type\": \"NFKC\"}", "fi", "\xef\xac\x81", "fi"},
        {"{\"type\": \"NFKC\"}", "", "\xe3\x8b\xbf", "\xe3\x8b\xbf"}, /* younger than the package's table */
        {"{\"type\": \"NFKD\"}",
         "e\xcc\x81"
         "1",
         "\xc3\xa9\xc2\xb9",
         "e\xcc\x81"
         "1"},
        {"{\"type\": \"Lowercase\"}", "i\xcc\x87\xcf\x83", "\xc4\xb0\xce\xa3", "i\xcc\x87\xcf\x83"},
        {"{\"type\": \"StripAccents\"}", "e", "e\xcc\x81", "e"},
        {"{\"type\": \"ByteLevel\"}", "\xc4\xa0", " a",
         "\xc4\xa0"
         "a"},
        {"{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFD\"}, {\"type\": \"StripAccents\"}]}", "e",
         "\xc3\xa9", "e"},
    };
    run_samples("normalizer", N_OF(samples), samples, fuse);
}

static void decoders_join_the_tokens(void **state)
{
    const struct sample samples[] = {
        {"{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"always\"}", "_", "_a_b", "a b"},
        {"{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"never\"}", "_", "_a_b", " a b"},
        {"{\"type\": \"BPEDecoder\", \"suffix\": \"_\"}", "_", "a_b_", "a b"},
        {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \"_\", "
         "\"start\": 2, \"stop\": 1}]}",
         "_", "___a__", "_a_"},
        {"{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"[ab]\"}, \"content\": \"x\"}", "x", "abc", "xxc"},
        {"{\"type\": \"ByteLevel\"}", "\xc4\xa0\xc3\x83",
         "a\xc4\xa0"
         "b\xc3\x83",
         "a b\xef\xbf\xbd"},
    };
    run_samples("decoder", N_OF(samples), samples, NULL);
}

/* ------------------------------------------------------------------------------------------- the model itself ---- */
static json_t *merges_model(const char *extra)
{
    json_t *m = parse(
        "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"bc\": 4, \"abc\": 5, \"aa\": 6, "
        "\"<unk>\": 7, \"<0xC3>\": 8, \"<0xA9>\": 9}, \"merges\": [\"b c\", [\"a\", \"b\"], [\"a\", \"bc\"], \"a a\"]}");
    json_t *more = parse(extra);
    json_object_update(m, more);
    json_decref(more);
    return m;
}

static void check_merges(const char *extra, const char *text, const char *want)
{
    struct tokenizer *t = build(json_pack("{s:o}", "model", merges_model(extra)));
    assert_tokens(t, text, want);
    tokenizer_free(t);
}

static void pairs_of_the_lowest_rank_merge_first_and_of_equal_rank_the_leftmost(void **state)
{
    check_merges("{}", "abc", "abc"); /* b c before a b */
    check_merges("{}", "abab", "ab ab");
    check_merges("{}", "aaaaa", "aa aa a");
    check_merges("{}", "aabc", "a abc");
    check_merges("{}", "", "");
}

static void unknown_characters_are_fused_or_not_or_fall_back_to_bytes(void **state)
{
    check_merges("{\"unk_token\": \"<unk>\", \"fuse_unk\": false}", "a??b", "a <unk> <unk> b");
    check_merges("{\"unk_token\": \"<unk>\", \"fuse_unk\": true}", "a??b?", "a <unk> b <unk>");
    check_merges("{\"unk_token\": \"<unk>\", \"byte_fallback\": true}", "a\xc3\xa9?b", "a <0xC3> <0xA9> <unk> b");
}

static void a_character_without_any_token_is_an_error_and_not_dropped(void **state)
{
    struct tokenizer *t = build(json_pack("{s:o}", "model", merges_model("{}")));
    struct ids ids = {0};
    assert_int_equal(tokenizer_encode(t, "ab?", 3, false, &ids), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "U+003F"));
    fail_clear();
    assert_int_equal(tokenizer_encode(t, "a\xff", 2, false, &ids), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "UTF-8"));
    fail_clear();
    ids_free(&ids);
    tokenizer_free(t);
}

static void prefixes_within_and_suffixes_at_the_end_of_words_are_part_of_tokens(void **state)
{
    json_t *m =
        parse("{\"type\": \"BPE\", \"continuing_subword_prefix\": \"##\", \"end_of_word_suffix\": \"!\", \"merges\": "
              "[[\"a\", \"##b\"], [\"ab\", \"##c!\"]], \"vocab\": {\"a\": 0, \"##b\": 1, \"ab\": 2, \"##c!\": 3, "
              "\"abc!\": 4, \"##a\": 5, \"##b!\": 6, \"a!\": 7}}");
    struct tokenizer *t = build(json_pack("{s:o}", "model", m));
    assert_tokens(t, "abc", "abc!");
    assert_tokens(t, "aab", "a ##a ##b!");
    assert_tokens(t, "a", "a!");
    tokenizer_free(t);
}

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

/* -------------------------------------------------------------------------------------------------- round trip --- */
static json_t *byte_model(void)
{
    json_t *vocab = json_object();
    int next = 256;
    for (int b = 0; b < 256; b++) { /* GPT-2's alphabet, written from its definition */
        bool same = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        int c = same ? b : next++;
        char s[3] = {(char)(c < 128 ? c : 0xc0 | c >> 6), (char)(c < 128 ? 0 : 0x80 | (c & 63)), 0};
        json_object_set_new(vocab, s, json_integer(b));
    }
    return json_pack("{s:s, s:o, s:[]}", "type", "BPE", "vocab", vocab, "merges");
}

static void any_text_survives_bytes_and_back(void **state)
{
    struct tokenizer *t = build(json_pack("{s:o, s:o, s:o}", "model", byte_model(), "pre_tokenizer",
                                          parse("{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"), "decoder",
                                          parse("{\"type\": \"ByteLevel\"}")));
    uint64_t count = 0;
    for (int round = 0; round < 300; round++) {
        char s[512];
        size_t n = 0;
        struct ids ids = {0};
        struct text text = {0};
        while (n < 400 && random_below(7, STREAM_TEST, count++, 60)) {
            uint32_t most = (const uint32_t[]){0x80, 0x800, 0xd800, 0x110000}[random_below(7, STREAM_TEST, count++, 4)];
            uint32_t c = (uint32_t)random_below(7, STREAM_TEST, count++, most);
            if (c >= 0xd800 && c < 0xe000) c = ' ';
            if (c < 0x80) {
                s[n++] = (char)c;
                continue;
            }
            int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
            s[n++] = (char)((const int[]){0, 0xc0, 0xe0, 0xf0}[more] | (int)(c >> 6 * more));
            while (more--) s[n++] = (char)(0x80 | (c >> 6 * more & 63));
        }
        assert_int_equal(tokenizer_encode(t, s, n, true, &ids), OK);
        assert_int_equal(ids.n, n); /* no merges: the ids are the bytes */
        for (size_t i = 0; i < n; i++) assert_int_equal(ids.data[i], (unsigned char)s[i]);
        assert_int_equal(tokenizer_decode(t, ids.data, ids.n, true, &text), OK);
        assert_int_equal(text.n, n);
        if (n) assert_memory_equal(text.data, s, n);
        ids_free(&ids);
        text_free(&text);
    }
    tokenizer_free(t);
}

static void broken_bytes_decode_to_replacement_characters(void **state)
{
    struct tokenizer *t =
        build(json_pack("{s:o, s:o}", "model", byte_model(), "decoder", parse("{\"type\": \"ByteLevel\"}")));
    const int32_t id[] = {'a', 0xe2, 0x82, 'b', 0xff, 0xf0, 0x80, 0xc3};
    struct text text = {0};
    assert_int_equal(tokenizer_decode(t, id, N_OF(id), true, &text), OK);
    assert_string_equal(text.data, "a\xef\xbf\xbd"
                                   "b\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    text_free(&text);
    tokenizer_free(t);
}

static void a_long_word_is_merged_as_a_short_one_is(void **state)
{
    struct tokenizer *t = build(json_pack("{s:o}", "model", merges_model("{}")));
    size_t n = 300000;
    char *s = malloc(n);
    struct ids ids = {0};
    for (size_t i = 0; i < n; i++) s[i] = "aabc"[i % 4];
    assert_int_equal(tokenizer_encode(t, s, n, true, &ids), OK);
    assert_int_equal(ids.n, n / 2);
    for (size_t i = 0; i < ids.n; i++) assert_int_equal(ids.data[i], i % 2 ? 5 : 0);
    ids_free(&ids);
    free(s);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delimiters_are_isolated_removed_or_merged),
        cmocka_unit_test(patterns_mean_what_they_mean_in_oniguruma),
        cmocka_unit_test(ready_made_splitters_split_as_the_package_does),
        cmocka_unit_test(normalisers_change_text_before_it_is_split),
        cmocka_unit_test(decoders_join_the_tokens),
        cmocka_unit_test(pairs_of_the_lowest_rank_merge_first_and_of_equal_rank_the_leftmost),
        cmocka_unit_test(unknown_characters_are_fused_or_not_or_fall_back_to_bytes),
        cmocka_unit_test(a_character_without_any_token_is_an_error_and_not_dropped),
        cmocka_unit_test(prefixes_within_and_suffixes_at_the_end_of_words_are_part_of_tokens),
        cmocka_unit_test(added_tokens_are_found_longest_first_with_the_space_they_take),
        cmocka_unit_test(normalised_tokens_are_found_in_normalised_text_only),
        cmocka_unit_test(an_added_token_decodes_to_what_normalisation_makes_of_it),
        cmocka_unit_test(a_token_that_looks_like_a_special_one_after_normalisation_is_left_out),
        cmocka_unit_test(a_token_added_twice_is_as_its_last_entry_but_stays_special),
        cmocka_unit_test(a_token_of_which_nothing_is_left_or_that_is_empty_is_not_looked_for),
        cmocka_unit_test(of_a_merge_that_stands_there_twice_the_last_counts),
        cmocka_unit_test(an_unknown_token_that_is_none_matters_only_where_it_is_needed),
        cmocka_unit_test(options_that_are_null_are_as_absent_ones),
        cmocka_unit_test(numbers_that_json_does_not_have_matter_only_where_they_are_used),
        cmocka_unit_test(a_metaspace_of_scheme_first_marks_the_start_of_the_text_only),
        cmocka_unit_test(a_start_that_normalisation_takes_away_gets_no_mark),
        cmocka_unit_test(the_post_processor_adds_tokens_at_both_ends),
        cmocka_unit_test(any_text_survives_bytes_and_back),
        cmocka_unit_test(broken_bytes_decode_to_replacement_characters),
        cmocka_unit_test(a_long_word_is_merged_as_a_short_one_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
