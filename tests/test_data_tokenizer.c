/* tokenizer: components, each in a small one made here.       NP: 1 */
#include "small_tokenizer.h"

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
        /* as the tokenizers package splits them */
        {REGEX("\\\\p{N}{1,3}+"), "1234567", "1234567", "1234567"},
        {REGEX("[0-9]{,3}x"), "12|345x", "12345x", "12 345x"},
        {REGEX("a{2}?b"), "b| |aab", "b aab", "b   aab"},
        {REGEX("a{1,2}?"), "a|a|a", "aaa", "a a a"},
        {REGEX("a{1,1}?b"), "ab| b", "ab b", "ab  b"},
        {REGEX("a{2}{2}"), "aaaa|a", "aaaaa", "aaaa a"},
        {REGEX("a{3}*b"), "aaab", "aaab", "aaab"},
        {REGEX("a{,}b"), "a{,}b|b", "a{,}bb", "a{,}b b"},
        {REGEX("(?:ab){1,2}+"), "ababab|c", "abababc", "ababab c"},
        {REGEX("([ab]){2}+c"), "d|ababc", "dababc", "d ababc"},
        {REGEX("\xc3\xa9{1,2}+x"), "\xc3\xa9\xc3\xa9\xc3\xa9x|x", "\xc3\xa9\xc3\xa9\xc3\xa9xx",
         "\xc3\xa9\xc3\xa9\xc3\xa9x x"},
        {REGEX("[{]{1,2}+x"), "x|{{{x", "x{{{x", "x {{{x"},
        {REGEX("[\\\\w]+"), "a|\xc2\xb2\xc2\xbc|_", "a\xc2\xb2\xc2\xbc_", "a \xc2\xb2\xc2\xbc _"},
        {REGEX("[^\\\\w\\\\s]+"), "\xc2\xb2!|a", "\xc2\xb2!a", "\xc2\xb2! a"},
        {REGEX("a(?i)b|c"), "aB| C c |ab", "aB C c ab", "aB  C c  ab"},
        {REGEX("(x(?i)ab|c)d"), "xABd| Cd cd", "xABd Cd cd", "xABd  Cd cd"},
        {REGEX("(?i)ab|c"), "AB| |C", "AB C", "AB   C"},
        {REGEX("\\\\x41{2}+"), "AAAA|A", "AAAAA", "AAAA A"},
        {REGEX("\\\\x{41}{1,2}+B"), "AAAB|B", "AAABB", "AAAB B"},
        {REGEX("\\\\101{2}+"), "AAAA|A", "AAAAA", "AAAA A"},
        {REGEX("\\\\\xc3\xa9{1,2}+x"), "\xc3\xa9\xc3\xa9\xc3\xa9x|x", "\xc3\xa9\xc3\xa9\xc3\xa9xx",
         "\xc3\xa9\xc3\xa9\xc3\xa9x x"},
        {REGEX("(?<n>a)\\\\k<n>{1,2}+b"), "aaaab|b", "aaaabb", "aaaab b"},
        {REGEX("[\\\\x41-C]{1,2}+d"), "ABCd|d", "ABCdd", "ABCd d"},
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
        cmocka_unit_test(any_text_survives_bytes_and_back),
        cmocka_unit_test(broken_bytes_decode_to_replacement_characters),
        cmocka_unit_test(a_long_word_is_merged_as_a_short_one_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
