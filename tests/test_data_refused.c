/* data: files that are refused with a message, whatever is in them.       NP: 1 */
#include "near.h"
#include "unlearn/data.h"
#include <unistd.h>

#define MODEL     "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}"
#define MERGES(m) "{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": " m "}}"
#define VOCAB(v)  "{\"model\": {\"vocab\": " v ", \"merges\": []}}"
#define PART(p)   "{" MODEL ", " p "}"
#define SPLIT(p)  PART("\"pre_tokenizer\": {\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": " p "}")
#define REGEX(p)  SPLIT("{\"Regex\": \"" p "\"}")

static void broken_tokenizers_are_refused_by_name(void **state)
{
    static const struct {
        const char *json, *message; /* a part of the message */
    } cases[] = {
        {"", "not valid JSON"},
        {"[]", "no object \"model\""},
        {"{\"model\": 3}", "no object \"model\""},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", "\"Unigram\" is not supported"},
        {"{\"model\": {\"type\": 3}}", "\"type\" must be text"},
        {"{\"model\": {\"type\": \"BPE\"}}", "\"vocab\""},
        {VOCAB("[]"), "\"vocab\""},
        {VOCAB("{}"), "\"vocab\""},
        {VOCAB("{\"a\": -1}"), "the id of token \"a\""},
        {VOCAB("{\"a\": 1.0}"), "the id of token \"a\""},
        {VOCAB("{\"a\": \"1\"}"), "the id of token \"a\""},
        {VOCAB("{\"a\": 4294967296}"), "the id of token \"a\""},
        {VOCAB("{\"a\": 0, \"b\": 0}"), "the same id 0"},
        {VOCAB("{\"a\": 0, \"a\": 1}"), "duplicate"},
        {"{\"model\": {\"vocab\": {\"a\": 0}}}", "\"merges\""},
        {MERGES("{}"), "\"merges\""},
        {MERGES("[\"ab\"]"), "merge 1 is not"},
        {MERGES("[\"a b c\"]"), "merge 1 is not"},
        {MERGES("[[\"a\"]]"), "merge 1 is not"},
        {MERGES("[[\"a\", 2]]"), "merge 1 is not"},
        {MERGES("[7]"), "merge 1 is not"},
        {MERGES("[\"a x\"]"), "\"x\" is not in the vocabulary"},
        {MERGES("[\"a b\", \"b a\"]"), "merge 2: the result \"ba\""},
        {"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"dropout\": 0.1}}", "dropout"},
        {"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"byte_fallback\": 1}}", "\"byte_fallback\" must be true"},
        {PART("\"added_tokens\": {}"), "\"added_tokens\" is not a list"},
        {PART("\"added_tokens\": [{\"id\": 3}]"), "no \"content\""},
        {PART("\"added_tokens\": [3]"), "no \"content\""},
        {PART("\"added_tokens\": [{\"id\": 3, \"content\": null}]"), "no \"content\""},
        {PART("\"added_tokens\": [{\"id\": -3, \"content\": \"x\"}]"), "the id of token \"x\""},
        {PART("\"added_tokens\": [{\"id\": 2, \"content\": \"x\"}]"), "3 follows from the vocabulary"},
        {PART("\"added_tokens\": [{\"id\": 3, \"content\": \"a\"}]"), "0 follows from the vocabulary"},
        {PART("\"added_tokens\": [{\"id\": 3, \"content\": \"x\"}, {\"id\": 4, \"content\": \"x\"}]"), "has id 4, but 3"},
        {PART("\"added_tokens\": [{\"id\": 3, \"content\": \"x\", \"lstrip\": 0}]"), "\"lstrip\" must be true"},
        {PART("\"normalizer\": {\"type\": \"Precompiled\"}"), "normalizer \"Precompiled\" is not supported"},
        {PART("\"normalizer\": {}"), "normalizer has no \"type\""},
        {PART("\"normalizer\": {\"type\": \"Sequence\"}"), "no list \"normalizers\""},
        {PART("\"normalizer\": {\"type\": \"Prepend\"}"), "\"prepend\" is missing"},
        {PART("\"normalizer\": {\"type\": \"Replace\", \"content\": \"x\"}"), "\"pattern\" must be"},
        {PART("\"normalizer\": {\"type\": \"Replace\", \"content\": \"x\", \"pattern\": {\"String\": \"\"}}"), "empty"},
        {PART("\"pre_tokenizer\": {\"type\": \"UnicodeScripts\"}"), "\"UnicodeScripts\" is not supported"},
        {PART("\"pre_tokenizer\": {\"type\": \"Split\", \"behavior\": \"Magic\", \"pattern\": \"a\"}"), "\"Magic\""},
        {PART("\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"ab\"}"), "one character"},
        {PART("\"pre_tokenizer\": {\"type\": \"Metaspace\", \"prepend_scheme\": \"last\"}"), "\"last\""},
        {PART("\"decoder\": {\"type\": \"WordPiece\"}"), "decoder \"WordPiece\" is not supported"},
        {PART("\"decoder\": {\"type\": \"Strip\", \"content\": \"\"}"), "one character"},
        {PART("\"decoder\": {\"type\": \"Strip\", \"content\": \"a\", \"start\": -1}"), "\"start\""},
        {PART("\"post_processor\": {\"type\": \"Other\"}"), "post_processor \"Other\" is not supported"},
        {PART("\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": []}"), "does not hold the text once"},
        {PART("\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}, "
              "{\"Sequence\": {}}]}"),
         "does not define"},
        {PART("\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}, "
              "{\"Sequence\": {}}], \"special_tokens\": {\"x\": {\"ids\": [77]}}}"),
         "no token"},
        {PART("\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"BertProcessing\", \"cls\": "
              "[\"a\", 0], "
              "\"sep\": [\"b\", 1]}, {\"type\": \"ByteLevel\"}, {\"type\": \"BertProcessing\", \"cls\": [\"a\", 0], "
              "\"sep\": "
              "[\"b\", 1]}]}"),
         "two post_processors"},
        {PART("\"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"a\", 0]}"), "no token"},
        {REGEX("("), "not a regular expression"},
        {REGEX("\\\\p{Nonsense}"), "not a regular expression of PCRE2 10."},
        {REGEX("[a&&b]"), "an intersection"},
        {REGEX("[a[^bc]]"), "an inverse class inside a class"},
        {REGEX("[a[]]"), "an empty class"},
        {REGEX("[[:cntrl:]]"), "an unknown [:class:]"},
        {REGEX("[a[b]"), "not a regular expression"},
        {REGEX("[]a]"), "an empty class"},
        {REGEX("(?m:.)"), "(?m)"},
        {REGEX("[\\\\W]"), "inside brackets"},
        {REGEX("a\\\\"), "not a regular expression"},
        {SPLIT("3"), "\"pattern\" must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *t = NULL;
        enum status st = tokenizer_parse("T", cases[i].json, strlen(cases[i].json), &t);
        if (st != ERR_INPUT || strncmp(fail_message(), "T:", 2) || !strstr(fail_message(), cases[i].message))
            print_error("%s: \"%s\", expected \"%s\"\n", cases[i].json, fail_message(), cases[i].message);
        assert_int_equal(st, ERR_INPUT);
        assert_memory_equal(fail_message(), "T:", 2);
        assert_non_null(strstr(fail_message(), cases[i].message));
        assert_null(t);
        fail_clear();
    }
}

static void sequences_inside_each_other_end_somewhere(void **state)
{
    struct text json = {0};
    struct tokenizer *t = NULL;
    text_print(&json, "{" MODEL ", \"pre_tokenizer\": ");
    for (int i = 0; i < 500; i++) text_print(&json, "{\"type\": \"Sequence\", \"pretokenizers\": [");
    for (int i = 0; i < 500; i++) text_print(&json, "]}");
    text_print(&json, "}");
    assert_int_equal(tokenizer_parse("T", json.data, json.n, &t), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "inside each other"));
    fail_clear();
    text_free(&json);
}

/* Any prefix of a good file, and the file with one byte changed, is read or refused; neither is a crash. */
static void damaged_tokenizers_are_read_or_refused(void **state)
{
    static const char good[] =
        PART("\"added_tokens\": [{\"id\": 3, \"content\": \"<s>\", \"special\": true}], \"normalizer\": {\"type\": "
             "\"Replace\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"content\": \"_\"}, \"decoder\": {\"type\": \"Fuse\"}, "
             "\"pre_tokenizer\": {\"type\": \"Metaspace\"}");
    char *copy = malloc(sizeof good);
    for (size_t i = 0; i < 3 * sizeof good; i++) {
        struct tokenizer *t = NULL;
        size_t n = i < sizeof good - 1 ? i : sizeof good - 1;
        struct ids ids = {0};
        memcpy(copy, good, sizeof good);
        if (i >= sizeof good)
            copy[random_below(1, STREAM_TEST, 2 * i, n)] = (char)random_below(1, STREAM_TEST, 2 * i + 1, 256);
        if (tokenizer_parse("T", copy, n, &t) == OK) (void)!tokenizer_encode(t, "ab <s>b", 7, true, &ids);
        fail_clear();
        ids_free(&ids);
        tokenizer_free(t);
    }
    free(copy);
}

/* ------------------------------------------------------------------------------------------------ JSON Lines ----- */
static char directory[] = "/tmp/unlearn-test-XXXXXX", file[64];

static int make_directory(void **state)
{
    if (!mkdtemp(directory)) return -1;
    snprintf(file, sizeof file, "%s/rows", directory);
    return 0;
}

static int remove_directory(void **state)
{
    unlink(file);
    return rmdir(directory);
}

static void write_file(const char *content, size_t n)
{
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static struct tokenizer *letters(void)
{
    struct text json = {0};
    struct tokenizer *t = NULL;
    text_print(&json, "{\"model\": {\"merges\": [], \"vocab\": {\" \": 0");
    for (int c = 'a'; c <= 'z'; c++) text_print(&json, ", \"%c\": %d", c, c - 'a' + 1);
    text_print(&json, "}}}");
    assert_int_equal(tokenizer_parse("letters", json.data, json.n, &t), OK);
    text_free(&json);
    return t;
}

#define ROW "{\"question\": \"q\", \"answer\": \"a\"}\n"
static void broken_rows_are_refused_with_file_and_line(void **state)
{
#define BYTES(s) s, sizeof s - 1
    static const struct {
        const char *content;
        size_t n;
        const char *message;
    } cases[] = {
        {BYTES(""), "holds no rows"},
        {BYTES("\n\r\n  \n"), "holds no rows"},
        {BYTES("[" ROW "]"), ": is one JSON array, not JSON Lines"},
        {BYTES("\xef\xbb\xbf\n [\n" ROW ", {\"question\": \"]\", \"answer\": \"\\\"]\"}\n ]\n\n"), ": is one JSON array"},
        {BYTES("[]"), ": is one JSON array"},
        {BYTES("[1]\n[2]\n"), ":1: the line is not a JSON object"},
        {BYTES("[" ROW), ":1:"},
        {BYTES("NaN\n"), ":1: the line is not a JSON object"},
        {BYTES(ROW "{\"question\": NaN, \"answer\": \"a\"}\n"), ":2: \"question\" is NaN, not text"},
        {BYTES(ROW "{\"question\": \"q\", \"answer\": 18446744073709551616}\n"),
         ":2: \"answer\" is 18446744073709551616"},
        {BYTES("\xef\xbb\xbf"), "holds no rows"},
        {BYTES(ROW "{\"question\": \"q\""), ":2:"},
        {BYTES(ROW "\n\n[1]\n"), ":4: the line is not a JSON object"},
        {BYTES(ROW "{\"question\": \"q\"}\n"), ":2: has no key \"answer\""},
        {BYTES(ROW "{\"question\": \"q\", \"answer\": [\"a\"]}\n"), ":2: \"answer\" is not text"},
        {BYTES(ROW "{\"question\": null, \"answer\": \"a\"}\n"), ":2: \"question\" is not text"},
        {BYTES("{\"question\": \"q\", \"question\": \"q\", \"answer\": \"a\"}\n"), ":1:"},
        {BYTES(ROW ROW "{\"question\": \"q\", \"answer\": \"a\"} {}\n"), ":3:"},
        {BYTES(ROW "\xef\xbb\xbf" ROW), ":2:"},
        {BYTES("{\"question\": \"\xff\", \"answer\": \"a\"}\n"), "; the file is not valid UTF-8: if it is Latin-1"},
        {BYTES(ROW "{\"question\": \"\xff\n"), "; the file is not valid UTF-8: if it is Latin-1"},
        {BYTES("{\"question\": \"\xed\xa0\x80\", \"answer\": \"a\"}\n"), ":1:"},
        {BYTES("{\"question\": \"\\ud800\", \"answer\": \"a\"}\n"), ":1:"},
        {BYTES("{\"question\": \"a\tb\", \"answer\": \"a\"}\n"), ":1:"},
        {BYTES(ROW "\0"), ":2:"},
        {BYTES(ROW "\0\0\0\n"), "; the line has NUL bytes: "},
        {BYTES(ROW "{\"question\": \"q\", \"answer\": \"a\"}\0\n"), "; the line has NUL bytes: "},
        {BYTES("\xff\xfe{\0\n\0"), ": is not UTF-8 but UTF-16: iconv -f utf16 -t utf8 FILE"},
        {BYTES("\xfe\xff\0{\0\n"), ": is not UTF-8 but UTF-16: iconv -f utf16 -t utf8 FILE"},
        {BYTES("{\0\"\0\n\0"), ": is not UTF-8 but UTF-16: iconv -f utf16le "},
        {BYTES("\0{\0\"\0\n"), ": is not UTF-8 but UTF-16: iconv -f utf16be "},
        {BYTES(ROW "{\"question\": \"q\", \"answer\": \"?\"}\n"),
         ":2: the tokenizer has no token for the character U+003F"},
        {BYTES(ROW "{\"question\": \"q\", \"answer\": \"z\"}\n"),
         ":2: tokenizer.json gives the text a token of id 26, which is beyond the 26"},
    };
    struct tokenizer *t = letters();
    const struct data_file f = {.path = file, .question = "question", .answer = "answer", .rows = SIZE_MAX};
    const struct data_rule r = {.tokenizer = t, .max_length = 10, .eos = 0, .vocabulary = 26};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset *d = NULL;
        enum status st;
        write_file(cases[i].content, cases[i].n);
        st = dataset_read(&f, &r, &d);
        if (st != ERR_INPUT || !strstr(fail_message(), cases[i].message))
            print_error("case %zu: \"%s\", expected \"%s\"\n", i, fail_message(), cases[i].message);
        assert_int_equal(st, ERR_INPUT);
        assert_memory_equal(fail_message(), file, strlen(file));
        assert_non_null(strstr(fail_message(), cases[i].message));
        assert_null(d);
        fail_clear();
    }
    tokenizer_free(t);
}

static void a_row_nested_a_hundred_thousand_deep_is_refused(void **state)
{
    struct tokenizer *t = letters();
    const struct data_file f = {.path = file, .question = "question", .answer = "answer", .rows = SIZE_MAX};
    const struct data_rule r = {.tokenizer = t, .max_length = 10, .eos = 0, .vocabulary = 27};
    struct dataset *d = NULL;
    char *deep = malloc(100000);
    memset(deep, '[', 100000);
    write_file(deep, 100000);
    assert_int_equal(dataset_read(&f, &r, &d), ERR_INPUT);
    fail_clear();
    free(deep);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_tokenizers_are_refused_by_name),
        cmocka_unit_test(sequences_inside_each_other_end_somewhere),
        cmocka_unit_test(damaged_tokenizers_are_read_or_refused),
        cmocka_unit_test(broken_rows_are_refused_with_file_and_line),
        cmocka_unit_test(a_row_nested_a_hundred_thousand_deep_is_refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
