/* data: templates - prompt, label and end of a row, its first and last token, plain text in blocks - by hand.     NP: 1 */
#include "near.h"
#include "unlearn/data.h"
#include <unistd.h>

enum { BOS = 30, EOS = 31, TURN = 32, X = LABEL_NONE };
static char directory[] = "/tmp/unlearn-test-XXXXXX", file[64];
/* A space is 0, a ... z are 1 ... 26; [s] = BOS stands before every text, [e] = EOS, of `closed` behind it, [t] = TURN. */
static struct tokenizer *letters, *closed;

static enum status make(const char *behind, struct tokenizer **out)
{
    struct text json = {0};
    enum status st;
    text_print(&json, "{\"model\": {\"merges\": [], \"vocab\": {\" \": 0, \":\": 27, \"(\": 28, \")\": 29");
    for (int c = 'a'; c <= 'z'; c++) text_print(&json, ", \"%c\": %d", c, c - 'a' + 1);
    text_print(&json, "}}, \"added_tokens\": [");
    for (int i = 0; i < 3; i++)
        text_print(&json, "%s{\"id\": %d, \"content\": \"[%c]\", \"special\": true}", i ? ", " : "", BOS + i, "set"[i]);
    text_print(&json,
               "], \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
               "\"s\"}}, {\"Sequence\": {\"id\": \"A\"}}%s], \"special_tokens\": {\"s\": {\"ids\": [30]}, \"e\": "
               "{\"ids\": [31]}}}}",
               behind);
    st = tokenizer_parse("letters", json.data, json.n, out);
    text_free(&json);
    return st;
}

static int start(void **state)
{
    if (!mkdtemp(directory)) return -1;
    snprintf(file, sizeof file, "%s/rows", directory);
    return make("", &letters) != OK || make(", {\"SpecialToken\": {\"id\": \"e\"}}", &closed) != OK;
}

static int stop(void **state)
{
    tokenizer_free(letters), tokenizer_free(closed);
    unlink(file);
    return rmdir(directory);
}

static struct data_rule rule(size_t max_length)
{
    return (struct data_rule){
        .tokenizer = letters, .max_length = max_length, .bos = BOS, .eos = EOS, .vocabulary = EOS + 2};
}

/* (QUESTION)z|ANSWER[t]: the turn's end is a token of the text. */
static const struct template CHAT = {
    .question_start = "(", .question_end = ")", .prompt_end = "z", .answer_end = "[t]", .own_tokens = true};

static struct dataset *read_rows(const struct data_rule *r, const char *content)
{
    const struct data_file f = {
        .path = file, .question = "q", .answer = "a", .text = strstr(content, "\"t\"") ? "t" : NULL, .rows = SIZE_MAX};
    struct dataset *d = NULL;
    FILE *out = fopen(file, "wb");
    assert_non_null(out);
    fputs(content, out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(dataset_read(&f, r, &d), OK);
    return d;
}

static void assert_row(const struct dataset *d, size_t row, size_t n, const int32_t *id, size_t n_label,
                       const int32_t *label, size_t end)
{
    assert_true(row < d->n_row);
    assert_int_equal(n, n_label);
    assert_int_equal(dataset_length(d, row), n);
    assert_int_equal(d->end[row], end);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(d->id[d->first[row] + i], id[i]);
        assert_int_equal(d->label[d->first[row] + i], label[i]);
    }
}
#define LIST(...)                     ((const int32_t[]){__VA_ARGS__})
#define ROW(d, row, ids, labels, end) assert_row(d, row, sizeof(ids) / 4, ids, sizeof(labels) / 4, labels, end)

static const char ONE[] = "{\"q\": \"a\", \"a\": \"bc\"}";

static void the_prompt_ends_behind_prompt_end_and_the_end_is_labelled_if_asked(void **state)
{
    struct data_rule r = rule(20);
    struct dataset *d;
    r.template = CHAT;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(28, 1, 29, 26, 2, 3, TURN), LIST(X, X, X, X, 2, 3, TURN), 1);
    dataset_free(d);
    r.end_unlabelled = true;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(28, 1, 29, 26, 2, 3, TURN), LIST(X, X, X, X, 2, 3, X), 1);
    dataset_free(d);
    r.template.own_tokens = false; /* the tokenizer's token in front, the model's behind */
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(BOS, 28, 1, 29, 26, 2, 3, TURN, EOS), LIST(X, X, X, X, X, 2, 3, X, X), 2);
    dataset_free(d);
}

static void what_the_tokenizer_puts_behind_is_end(void **state)
{
    struct data_rule r = rule(20);
    struct dataset *d;
    r.tokenizer = closed, r.end_unlabelled = true;
    r.template = CHAT, r.template.own_tokens = false;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(BOS, 28, 1, 29, 26, 2, 3, TURN, EOS), LIST(X, X, X, X, X, X, 3, X, X), 2);
    dataset_free(d);
    r.template.answer_end = NULL, r.end = ADD_ALWAYS;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(BOS, 28, 1, 29, 26, 2, 3, EOS), LIST(X, X, X, X, X, X, 3, X), 1);
    dataset_free(d);
    d = read_rows(&r, "{\"t\": \"ab\"}");
    ROW(d, 0, LIST(BOS, 1, 2, EOS), LIST(BOS, 1, 2, X), 1);
    dataset_free(d);
    r.template.blocks = true, r.max_length = 3;
    d = read_rows(&r, "{\"t\": \"abc\"}");
    ROW(d, 0, LIST(BOS, 1, 2), LIST(BOS, 1, 2), 0);
    ROW(d, 1, LIST(BOS, 3, EOS), LIST(BOS, 3, X), 1);
    dataset_free(d);
}

static void blocks_begin_with_bos_once(void **state)
{
    struct data_rule r = rule(4);
    struct dataset *d;
    r.template.blocks = true, r.front = ADD_ALWAYS, r.end = ADD_NEVER;
    d = read_rows(&r, "{\"t\": \"[s]abcd\"}");
    ROW(d, 0, LIST(BOS, 1, 2, 3), LIST(BOS, 1, 2, 3), 0);
    ROW(d, 1, LIST(BOS, 4), LIST(BOS, 4), 0);
    dataset_free(d);
}

static void a_row_is_cut_in_its_end_too(void **state)
{
    struct data_rule r = rule(6);
    struct dataset *d;
    r.template = CHAT;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(28, 1, 29, 26, 2, 3), LIST(X, X, X, X, 2, 3), 0);
    assert_int_equal(d->n_cut, 1);
    dataset_free(d);
    r.max_length = 3;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(28, 1, 29), LIST(X, X, X), 0);
    assert_int_equal(d->n_unlabelled, 1);
    dataset_free(d);
}

static void the_first_token_stands_there_once_or_never(void **state)
{
    struct data_rule r = rule(20);
    struct dataset *d;
    r.template = CHAT;
    r.front = ADD_ALWAYS;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(BOS, 28, 1, 29, 26, 2, 3, TURN), LIST(X, X, X, X, X, 2, 3, TURN), 1);
    dataset_free(d);
    r.template.question_start = "[s](";
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(BOS, 28, 1, 29, 26, 2, 3, TURN), LIST(X, X, X, X, X, 2, 3, TURN), 1);
    dataset_free(d);
    r.template.own_tokens = false; /* the tokenizer's own is another one too many */
    r.end = ADD_NEVER;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(BOS, 28, 1, 29, 26, 2, 3, TURN), LIST(X, X, X, X, X, 2, 3, TURN), 1);
    dataset_free(d);
    r.front = ADD_NEVER, r.template.question_start = "(";
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(28, 1, 29, 26, 2, 3, TURN), LIST(X, X, X, X, 2, 3, TURN), 1);
    dataset_free(d);
}

static void the_end_token_is_added_always_once_or_never(void **state)
{
    struct data_rule r = rule(20);
    struct dataset *d;
    r.template = CHAT;
    r.end = ADD_ALWAYS;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(28, 1, 29, 26, 2, 3, TURN, EOS), LIST(X, X, X, X, 2, 3, TURN, EOS), 2);
    dataset_free(d);
    r.eos = TURN;
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(28, 1, 29, 26, 2, 3, TURN), LIST(X, X, X, X, 2, 3, TURN), 1);
    dataset_free(d);
    r.end = ADD_AUTO, r.template.own_tokens = false; /* nor twice because the template's end is it */
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(BOS, 28, 1, 29, 26, 2, 3, TURN), LIST(X, X, X, X, X, 2, 3, TURN), 1);
    dataset_free(d);
    r.template.answer_end = NULL; /* but what an answer says is no end */
    d = read_rows(&r, "{\"q\": \"a\", \"a\": \"b[t]\"}");
    ROW(d, 0, LIST(BOS, 28, 1, 29, 26, 2, TURN, TURN), LIST(X, X, X, X, X, 2, TURN, TURN), 1);
    dataset_free(d);
    r.end = ADD_NEVER, r.template = (struct template){.question_start = "(", .question_end = ")"};
    d = read_rows(&r, ONE);
    ROW(d, 0, LIST(BOS, 28, 1, 29, 2, 3), LIST(X, X, X, X, 2, 3), 0);
    dataset_free(d);
}

static void white_space_at_both_ends_is_left_out_where_asked(void **state)
{
    static const char wide[] = "{\"q\": \" \\n\\u3000a \\u00a0\", \"a\": \"\\u2003\\u001cb c\\t\\u0085\"}\n"
                               "{\"q\": \" \\n \", \"a\": \" \"}";
    struct data_rule r = rule(20);
    struct dataset *d;
    r.template = CHAT;
    r.template.trim = TRIM_QUESTION | TRIM_ANSWER;
    d = read_rows(&r, wide);
    ROW(d, 0, LIST(28, 1, 29, 26, 2, 0, 3, TURN), LIST(X, X, X, X, 2, 0, 3, TURN), 1);
    ROW(d, 1, LIST(28, 29, 26, TURN), LIST(X, X, X, TURN), 1);
    dataset_free(d);
}

/* A prompt of two letters that the answer turns into one piece: as many tokens are prompt as it has alone. */
static void the_prompt_has_as_many_tokens_as_it_has_alone(void **state)
{
    static const char json[] =
        "{\"model\": {\"merges\": [[\"b\", \"c\"]], \"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"bc\": 3}}}";
    struct data_rule r = rule(20);
    struct tokenizer *joined = NULL;
    struct dataset *d;
    assert_int_equal(tokenizer_parse("joined", json, strlen(json), &joined), OK);
    r.tokenizer = joined, r.eos = -1;
    r.template = (struct template){.prompt_end = "b"};
    d = read_rows(&r, "{\"q\": \"a\", \"a\": \"ca\"}");
    ROW(d, 0, LIST(0, 3, 0), LIST(X, X, 0), 0);
    dataset_free(d);
    tokenizer_free(joined);
}

static void plain_text_goes_on_in_the_next_row(void **state)
{
    struct data_rule r = rule(4);
    struct dataset *d, *copy = NULL, *both = NULL;
    unsigned char *bytes;
    size_t n;
    r.template.blocks = true;
    d = read_rows(&r, "{\"t\": \"abcdefg\"}\n{\"t\": \"ab\"}\n{\"t\": \"\"}\n{\"t\": \"abc\"}\n");
    assert_int_equal(d->n_row, 6);
    assert_int_equal(d->n_line, 4);
    assert_int_equal(d->n_cut, 0);
    ROW(d, 0, LIST(BOS, 1, 2, 3), LIST(BOS, 1, 2, 3), 0);
    ROW(d, 1, LIST(BOS, 4, 5, 6), LIST(BOS, 4, 5, 6), 0);
    ROW(d, 2, LIST(BOS, 7, EOS), LIST(BOS, 7, EOS), 1);
    ROW(d, 3, LIST(BOS, 1, 2, EOS), LIST(BOS, 1, 2, EOS), 1);
    ROW(d, 4, LIST(BOS, EOS), LIST(BOS, EOS), 1);
    ROW(d, 5, LIST(BOS, 1, 2, 3), LIST(BOS, 1, 2, 3), 0);
    assert_int_equal(dataset_pack(d, &bytes, &n), OK);
    assert_int_equal(dataset_unpack(bytes, n, &copy), OK);
    assert_int_equal(copy->n_line, 4);
    ROW(copy, 2, LIST(BOS, 7, EOS), LIST(BOS, 7, EOS), 1);
    assert_int_equal(dataset_join(d, copy, 5, &both), OK);
    assert_int_equal(both->n_row, 7);
    ROW(both, 3, LIST(BOS, 1, 2, EOS), LIST(BOS, 1, 2, EOS), 1);
    ROW(both, 6, LIST(BOS, 1, 2, 3), LIST(BOS, 1, 2, 3), 0);
    free(bytes);
    dataset_free(both), dataset_free(copy), dataset_free(d);
}

static void blocks_count_lines_and_need_room(void **state)
{
    struct data_rule r = rule(3);
    struct data_file f = {.path = file, .text = "t", .rows = 2};
    struct dataset *d = NULL;
    r.template.blocks = true;
    dataset_free(read_rows(&r, "{\"t\": \"abcd\"}\n{\"t\": \"a\"}\n{\"t\": \"b\"}\n"));
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    assert_int_equal(d->n_line, 2); /* of the file, however many rows they are */
    assert_int_equal(d->n_row, 3);
    dataset_free(d);
    r.max_length = 1;
    assert_int_equal(dataset_read(&f, &r, &d), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "rows:1: rows of 1 tokens have no room"));
    fail_clear();
}

static void names_are_filled_with_system_date_and_tokens(void **state)
{
    struct template t;
    struct template_wish w = {.system = " s ", .date = "1 Jan 2020", .bos = "[s]", .eos = "[e]"};
    assert_int_equal(template_make("llama3", &w, &t), OK);
    assert_string_equal(
        t.question_start,
        "[s]<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 1 "
        "Jan 2020\n\ns<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n");
    assert_string_equal(t.prompt_end, "<|start_header_id|>assistant<|end_header_id|>\n\n");
    template_free(&t);
    w.system = NULL;
    assert_int_equal(template_make("llama3", &w, &t), OK);
    assert_non_null(strstr(t.question_start, "2020\n\n<|eot_id|>"));
    template_free(&t);
    w.date = NULL;
    assert_int_equal(template_make("llama3", &w, &t), OK);
    assert_string_equal(t.question_start, "[s]<|start_header_id|>user<|end_header_id|>\n\n");
    template_free(&t);
    assert_int_equal(template_make("phi3", &w, &t), OK);
    assert_string_equal(t.answer_end, "<|end|>\n[e]");
    template_free(&t);
    w.no_end = true;
    assert_int_equal(template_make("phi3", &w, &t), OK);
    assert_string_equal(t.answer_end, "<|end|>\n");
    template_free(&t);
}

static void what_a_template_does_not_have_is_refused(void **state)
{
    static const struct {
        const char *name;
        struct template_wish wish;
        const char *words;
    } wrong[] = {
        {"qa", {.system = "s"}, "has no system text; these have: llama3"},
        {"gemma", {.date = "1 Jan 2020"}, "names no date"},
        {"zephyr", {.bos = "[s]"}, "tokenizer_config.json an eos_token"},
    };
    struct template t;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(template_make(wrong[i].name, &wrong[i].wish, &t), ERR_INPUT);
        assert_non_null(strstr(fail_message(), wrong[i].words));
        fail_clear();
    }
}

/* The end alone is left out: zephyr's question ends with the token too. */
static void a_template_whose_end_is_left_out_needs_no_end_token(void **state)
{
    static const char *const name[] = {"mistral", "mistral_v1", "mistral_v3", "llama2_chat", "phi3"};
    struct template_wish w = {.bos = "[s]"};
    struct template t;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        w.no_end = false;
        assert_int_equal(template_make(name[i], &w, &t), ERR_INPUT);
        fail_clear();
        w.no_end = true;
        assert_int_equal(template_make(name[i], &w, &t), OK);
        template_free(&t);
    }
    assert_int_equal(template_make("zephyr", &w, &t), ERR_INPUT);
    fail_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_prompt_ends_behind_prompt_end_and_the_end_is_labelled_if_asked),
        cmocka_unit_test(what_the_tokenizer_puts_behind_is_end),
        cmocka_unit_test(blocks_begin_with_bos_once),
        cmocka_unit_test(a_row_is_cut_in_its_end_too),
        cmocka_unit_test(the_first_token_stands_there_once_or_never),
        cmocka_unit_test(the_end_token_is_added_always_once_or_never),
        cmocka_unit_test(white_space_at_both_ends_is_left_out_where_asked),
        cmocka_unit_test(the_prompt_has_as_many_tokens_as_it_has_alone),
        cmocka_unit_test(plain_text_goes_on_in_the_next_row),
        cmocka_unit_test(blocks_count_lines_and_need_room),
        cmocka_unit_test(names_are_filled_with_system_date_and_tokens),
        cmocka_unit_test(what_a_template_does_not_have_is_refused),
        cmocka_unit_test(a_template_whose_end_is_left_out_needs_no_end_token),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
