/* data: questions with several choices, and texts alone, as rows of an evaluation.                              NP: 1 */
#include "near.h"
#include "unlearn/data.h"
#include <unistd.h>

static char path[64];
static struct tokenizer *bytes; /* the id of a character of ASCII is its byte; [s] = 128 stands before every text */

static int start(void **state)
{
    struct text json = {0};
    enum status st;
    strcpy(path, "/tmp/unlearn-choices-XXXXXX");
    close(mkstemp(path));
    text_print(&json, "{\"model\": {\"merges\": [], \"vocab\": {");
    for (int c = 0; c < 128; c++) text_print(&json, "%s\"\\u%04x\": %d", c ? ", " : "", c ? c : 0x100, c);
    text_print(
        &json,
        "}}, \"added_tokens\": [{\"id\": 128, \"content\": \"[s]\", \"special\": true}], \"post_processor\": "
        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"s\"}}, {\"Sequence\": {\"id\": "
        "\"A\"}}], \"special_tokens\": {\"s\": {\"ids\": [128]}}}}");
    st = tokenizer_parse("bytes", json.data, json.n, &bytes);
    text_free(&json);
    return st != OK;
}

static int stop(void **state)
{
    tokenizer_free(bytes);
    return unlink(path);
}

static void put(const char *content)
{
    FILE *f = fopen(path, "w");
    fputs(content, f);
    assert_int_equal(fclose(f), 0);
    fail_clear();
}

static const struct template asked = {.question_start = "Of x.\n\n", .question_end = "\nAnswer:", .answer_start = " "};

static enum status read_choices(const char *content, bool bare, struct variants *v, size_t **right)
{
    const struct data_file f = {.path = path, .rows = SIZE_MAX};
    const enum adding around = bare ? ADD_NEVER : ADD_AUTO;
    const struct data_rule r = {.tokenizer = bytes,
                                .template = asked,
                                .max_length = 500,
                                .eos = -1,
                                .vocabulary = 200,
                                .front = around,
                                .end = around};
    put(content);
    return choices_read(&f, &r, v, right);
}

/* The ids of a row are the bytes of this text, behind [s] or not; all but the last `labelled` are prompt. */
static void assert_text(const struct dataset *d, size_t row, bool bare, const char *text, size_t labelled)
{
    const size_t at = d->first[row], n = dataset_length(d, row), extra = bare ? 0 : 1;
    assert_int_equal(n, strlen(text) + extra);
    if (!bare) assert_int_equal(d->id[at], 128);
    for (size_t i = 0; i < strlen(text); i++) assert_int_equal(d->id[at + extra + i], text[i]);
    for (size_t i = 0; i < n; i++) assert_int_equal(d->label[at + i] == LABEL_NONE, i + labelled < n);
}

static void each_choice_is_a_row_that_ends_with_its_letter(void **state)
{
    static const char rows[] = "{\"question\": \" Why?\\n\", \"choices\": [\"yes\", \"no\"], \"answer\": 1}\n"
                               "{\"question\": \"?\", \"choices\": [\"a\", \"\", \"c\"], \"answer\": 0}\n";
    for (int bare = 0; bare < 2; bare++) {
        struct variants v;
        size_t *right;
        assert_int_equal(read_choices(rows, bare, &v, &right), OK);
        assert_int_equal(v.n, 2);
        for (size_t i = 0; i < 3; i++) assert_int_equal(v.first[i], ((size_t[]){0, 2, 5})[i]);
        assert_true(right[0] == 1 && right[1] == 0);
        assert_text(v.data, 0, bare, "Of x.\n\nWhy?\nA. yes\nB. no\nAnswer: A", 2);
        assert_text(v.data, 1, bare, "Of x.\n\nWhy?\nA. yes\nB. no\nAnswer: B", 2);
        assert_text(v.data, 4, bare, "Of x.\n\n?\nA. a\nB. \nC. c\nAnswer: C", 2);
        variants_free(&v), free(right);
    }
}

static void another_right_choice_is_another_data_set(void **state)
{
    struct variants v, w;
    size_t *a, *b;
    assert_int_equal(read_choices("{\"question\": \"?\", \"choices\": [\"a\", \"b\"], \"answer\": 0}", true, &v, &a), OK);
    assert_int_equal(read_choices("{\"question\": \"?\", \"choices\": [\"a\", \"b\"], \"answer\": 1}", true, &w, &b), OK);
    assert_true(v.data->hash != w.data->hash);
    variants_free(&v), variants_free(&w), free(a), free(b);
}

static void damaged_questions_are_refused_with_their_line(void **state)
{
    static const char good[] = "{\"question\": \"?\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n\n";
    static const char *const bad[][2] = {
        {"{\"choices\": [\"a\", \"b\"], \"answer\": 0}", "has no key \"question\""},
        {"{\"question\": 3, \"choices\": [\"a\", \"b\"], \"answer\": 0}", "\"question\" is not text"},
        {"{\"question\": \"?\", \"answer\": 0}", "\"choices\" is not a list of 2 to 26"},
        {"{\"question\": \"?\", \"choices\": [\"a\"], \"answer\": 0}", "\"choices\" is not a list"},
        {"{\"question\": \"?\", \"choices\": {\"a\": \"b\"}, \"answer\": 0}", "\"choices\" is not a list"},
        {"{\"question\": \"?\", \"choices\": [\"a\", null], \"answer\": 0}", "its entry 2 is not text"},
        {"{\"question\": \"?\", \"choices\": [\"a\", \"b\"]}", "\"answer\" is not the number of a choice, 0 to 1"},
        {"{\"question\": \"?\", \"choices\": [\"a\", \"b\"], \"answer\": 2}", "\"answer\" is not the number"},
        {"{\"question\": \"?\", \"choices\": [\"a\", \"b\"], \"answer\": -1}", "\"answer\" is not the number"},
        {"{\"question\": \"?\", \"choices\": [\"a\", \"b\"], \"answer\": 0.0}", "\"answer\" is not the number"},
        {"[1]", "is not a JSON object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct variants v;
        size_t *right;
        char text[512];
        snprintf(text, sizeof text, "%s%s\n", good, bad[i][0]);
        if (read_choices(text, true, &v, &right) != ERR_INPUT || !strstr(fail_message(), bad[i][1]) ||
            !strstr(fail_message(), ":3: "))
            fail_msg("%s: %s", bad[i][0], fail_message());
        assert_true(!v.data && !v.first && !right);
    }
}

static void a_text_alone_is_the_answer_of_its_row(void **state)
{
    const struct data_file f = {.path = path, .text = "text", .rows = 2};
    const struct data_rule r = {.tokenizer = bytes, .template = asked, .max_length = 4, .eos = -1, .vocabulary = 200};
    struct variants v;
    put("{\"text\": \"ab\"}\n{\"text\": \"abcdef\"}\n{\"text\": \"x\"}\n");
    assert_int_equal(variants_read(&f, &r, &v), OK);
    assert_int_equal(v.n, 2);
    for (size_t i = 0; i < 3; i++) assert_int_equal(v.first[i], i);
    assert_text(v.data, 0, false, "ab", 3);
    assert_text(v.data, 1, false, "abc", 4);
    assert_int_equal(v.data->n_cut, 1);
    variants_free(&v);
    put("{\"text\": \"ab\"}\n{\"t\": 1}\n");
    assert_int_equal(variants_read(&f, &r, &v), ERR_INPUT);
    assert_non_null(strstr(fail_message(), ":2: has no key \"text\""));
    fail_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_choice_is_a_row_that_ends_with_its_letter),
        cmocka_unit_test(another_right_choice_is_another_data_set),
        cmocka_unit_test(damaged_questions_are_refused_with_their_line),
        cmocka_unit_test(a_text_alone_is_the_answer_of_its_row),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
