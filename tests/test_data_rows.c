/* data: rows with labels, refusals, packing, against values written by hand.       NP: 1 */
#include "near.h"
#include "unlearn/data.h"
#include <unistd.h>

enum { EOS = 40, X = LABEL_NONE };
static char directory[] = "/tmp/unlearn-test-XXXXXX", file[64], stock[64];
/* a space is 0, a ... z are 1 ... 26, wxy is 31, and [s] = 30 stands before every text */
static struct tokenizer *letters;

static int start(void **state)
{
    struct text json = {0};
    enum status st;
    if (!mkdtemp(directory)) return -1;
    snprintf(file, sizeof file, "%s/rows", directory);
    snprintf(stock, sizeof stock, "%s/refusals", directory);
    text_print(&json, "{\"model\": {\"merges\": [], \"vocab\": {\" \": 0, \":\": 27, \"(\": 28, \")\": 29");
    for (int c = 'a'; c <= 'z'; c++) text_print(&json, ", \"%c\": %d", c, c - 'a' + 1);
    text_print(
        &json,
        "}}, \"added_tokens\": [{\"id\": 30, \"content\": \"[s]\", \"special\": true}, {\"id\": 31, \"content\": "
        "\"wxy\"}], \"post_processor\": "
        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"s\"}}, {\"Sequence\": {\"id\": "
        "\"A\"}}], \"special_tokens\": {\"s\": {\"ids\": [30]}}}}");
    st = tokenizer_parse("letters", json.data, json.n, &letters);
    text_free(&json);
    return st != OK;
}

static int stop(void **state)
{
    tokenizer_free(letters);
    unlink(file);
    unlink(stock);
    return rmdir(directory);
}

static void write_to(const char *path, const char *content)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(content, f);
    assert_int_equal(fclose(f), 0);
}

static struct data_rule rule(size_t max_length, int32_t eos)
{
    return (struct data_rule){.tokenizer = letters,
                              .template = {.question_start = "(", .question_end = ")", .answer_start = ":"},
                              .max_length = max_length,
                              .eos = eos,
                              .vocabulary = 41};
}

static struct data_file rows_of(const char *path)
{
    return (struct data_file){.path = path, .question = "q", .answer = "a", .rows = SIZE_MAX};
}

static struct dataset *read_rows(const char *content, size_t max_length, int32_t eos)
{
    struct data_rule r = rule(max_length, eos);
    struct data_file f = rows_of(file);
    struct dataset *d = NULL;
    write_to(file, content);
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    return d;
}

static void assert_row(const struct dataset *d, size_t row, size_t n, const int32_t *id, const int32_t *label)
{
    assert_true(row < d->n_row);
    assert_int_equal(dataset_length(d, row), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(d->id[d->first[row] + i], id[i]);
        assert_int_equal(d->label[d->first[row] + i], label[i]);
    }
}
#define ROW(d, row, ids, labels) assert_row(d, row, sizeof(ids) / 4, ids, labels)
#define LIST(...)                ((const int32_t[]){__VA_ARGS__})

static void the_answer_with_its_tag_and_the_end_are_labelled(void **state)
{
    struct dataset *d = read_rows("{\"q\": \"ab\", \"a\": \"cd\"}\n{\"q\": \"\", \"a\": \"\"}\n", 20, EOS);
    assert_int_equal(d->n_row, 2);
    assert_string_equal(d->path, file);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, 3, 4, EOS), LIST(X, X, X, X, X, 27, 3, 4, EOS));
    ROW(d, 1, LIST(30, 28, 29, 27, EOS), LIST(X, X, X, 27, EOS));
    assert_int_equal(dataset_labels(d, 0), 4);
    assert_int_equal(d->n_cut, 0);
    assert_int_equal(d->n_unlabelled, 0);
    dataset_free(d);
}

static void a_row_is_cut_and_the_end_is_added_only_where_it_fits(void **state)
{
    static const char row[] = "{\"q\": \"ab\", \"a\": \"cd\"}"; /* 8 tokens and the end */
    struct dataset *d = read_rows(row, 9, EOS);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, 3, 4, EOS), LIST(X, X, X, X, X, 27, 3, 4, EOS));
    assert_int_equal(d->n_cut, 0);
    dataset_free(d);
    d = read_rows(row, 8, EOS);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, 3, 4), LIST(X, X, X, X, X, 27, 3, 4));
    assert_int_equal(d->n_cut, 0);
    dataset_free(d);
    d = read_rows(row, 6, EOS);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27), LIST(X, X, X, X, X, 27));
    assert_int_equal(d->n_cut, 1);
    assert_int_equal(d->n_unlabelled, 0);
    dataset_free(d);
    d = read_rows(row, 3, EOS);
    ROW(d, 0, LIST(30, 28, 1), LIST(X, X, X));
    assert_int_equal(d->n_unlabelled, 1);
    assert_int_equal(dataset_labels(d, 0), 0);
    dataset_free(d);
    d = read_rows(row, 20, -1); /* a model without an end token */
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, 3, 4), LIST(X, X, X, X, X, 27, 3, 4));
    dataset_free(d);
}

static struct dataset *read_beyond(size_t max_length, int32_t eos)
{
    struct data_rule r = rule(max_length, eos);
    struct data_file f = rows_of(file);
    struct dataset *d = NULL;
    r.end_beyond = true, r.end = ADD_ALWAYS;
    write_to(file, "{\"q\": \"ab\", \"a\": \"cd\"}"); /* a prompt of 5 tokens, 8 in all */
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    return d;
}

static void the_end_is_labelled_where_the_answer_joins_the_prompts_last_token(void **state)
{
    struct data_rule r = rule(9, EOS);
    struct data_file f = rows_of(file);
    struct dataset *d = NULL;
    r.template = (struct template){.question_start = "", .question_end = "", .answer_start = ""};
    write_to(file, "{\"q\": \"wx\", \"a\": \"y\"}\n");
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    ROW(d, 0, LIST(30, 31, EOS), LIST(X, X, EOS));
    assert_int_equal(d->end[0], 1);
    dataset_free(d);
}

static void the_end_may_be_added_to_what_was_cut(void **state)
{
    struct dataset *d = read_beyond(8, EOS);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, 3, 4, EOS), LIST(X, X, X, X, X, 27, 3, 4, EOS));
    assert_int_equal(d->n_cut, 0);
    dataset_free(d);
    d = read_beyond(6, EOS);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, EOS), LIST(X, X, X, X, X, 27, EOS));
    assert_int_equal(d->n_cut, 1);
    dataset_free(d);
    d = read_beyond(3, EOS); /* the prompt is cut too */
    ROW(d, 0, LIST(30, 28, 1, EOS), LIST(X, X, X, EOS));
    assert_int_equal(d->n_unlabelled, 0);
    dataset_free(d);
    d = read_beyond(20, 4); /* the row ends with the end token already */
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, 3, 4), LIST(X, X, X, X, X, 27, 3, 4));
    dataset_free(d);
    d = read_beyond(6, -1);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27), LIST(X, X, X, X, X, 27));
    dataset_free(d);
}

/* With the template's own end "e" = 5, which is cut or not, and labels of the answer alone. */
static void an_end_that_was_cut_and_one_that_was_added_are_told_from_the_answer(void **state)
{
    struct data_rule r = rule(8, EOS);
    struct data_file f = rows_of(file);
    struct dataset *d = NULL;
    r.template.answer_end = "e";
    r.end_beyond = true, r.end = ADD_ALWAYS, r.end_unlabelled = true;
    write_to(file, "{\"q\": \"ab\", \"a\": \"cd\"}");
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, 3, 4, EOS), LIST(X, X, X, X, X, 27, 3, 4, X));
    assert_int_equal(d->end[0], 1);
    dataset_free(d);
    r.max_length = 6;
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, EOS), LIST(X, X, X, X, X, 27, X));
    assert_int_equal(d->end[0], 1);
    dataset_free(d);
    r.max_length = 9;
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, 3, 4, 5, EOS), LIST(X, X, X, X, X, 27, 3, 4, X, X));
    assert_int_equal(d->end[0], 2);
    dataset_free(d);
    r.eos = 5; /* the template's end is the end token */
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27, 3, 4, 5), LIST(X, X, X, X, X, 27, 3, 4, X));
    dataset_free(d);
    r.end = ADD_NEVER, r.max_length = 6;
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    ROW(d, 0, LIST(30, 28, 1, 2, 29, 27), LIST(X, X, X, X, X, 27));
    assert_int_equal(d->end[0], 0);
    dataset_free(d);
}

static void answers_under_another_key_are_rows_of_their_own(void **state)
{
    struct data_rule r = rule(20, EOS);
    struct data_file f = rows_of(file);
    struct variants v;
    f.answer = "b", f.rows = 4;
    write_to(file, "{\"q\": \"x\", \"b\": [\"c\", \"d\"]}\n{\"q\": \"x\"}\n\n{\"b\": \"c\"}\n{\"q\": \"y\", \"b\": "
                   "\"e\"}\n{\"q\": \"z\", \"b\": 7}\n");
    assert_int_equal(variants_read(&f, &r, &v), OK);
    assert_int_equal(v.n, 4);
    for (size_t i = 0; i <= 4; i++) assert_int_equal(v.first[i], ((size_t[]){0, 2, 2, 2, 3})[i]);
    assert_int_equal(v.n_lacking, 2);
    assert_int_equal(v.lacking, 2);
    ROW(v.data, 0, LIST(30, 28, 24, 29, 27, 3, EOS), LIST(X, X, X, X, 27, 3, EOS));
    ROW(v.data, 2, LIST(30, 28, 25, 29, 27, 5, EOS), LIST(X, X, X, X, 27, 5, EOS));
    variants_free(&v);
    f.rows = SIZE_MAX;
    assert_int_equal(variants_read(&f, &r, &v), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "rows:6: \"b\" is neither text nor a list"));
    assert_null(v.data);
    fail_clear();
    f.answer = "nowhere", f.rows = 3;
    assert_int_equal(variants_read(&f, &r, &v), OK);
    assert_int_equal(v.n, 3);
    assert_int_equal(v.n_lacking, 3);
    assert_null(v.data);
    variants_free(&v);
}

static void a_list_of_several_is_refused_where_one_answer_counts(void **state)
{
    struct data_rule r = rule(20, EOS);
    struct data_file f = rows_of(file);
    struct variants v;
    f.single = true;
    write_to(file, "{\"q\": \"x\", \"a\": [\"c\"]}\n{\"q\": \"x\", \"a\": [\"c\", \"d\"]}\n");
    assert_int_equal(variants_read(&f, &r, &v), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "rows:2: \"a\" is a list of 2 texts, but only one counts"));
    assert_null(v.data);
    fail_clear();
    f.rows = 1;
    assert_int_equal(variants_read(&f, &r, &v), OK);
    assert_int_equal(v.first[1], 1);
    variants_free(&v);
}

static void prompts_end_where_the_model_begins(void **state)
{
    struct data_rule r = rule(20, EOS);
    struct data_file f = rows_of(file);
    struct prompts p;
    write_to(file, "{\"q\": \"ab\", \"a\": \"cd\"}\n{\"q\": \"\", \"a\": \"e\"}\n");
    assert_int_equal(prompts_read(&f, &r, 2, &p), OK);
    assert_int_equal(p.n, 2);
    assert_int_equal(p.first[1], 5);
    assert_int_equal(p.first[2], 8);
    for (size_t i = 0; i < 8; i++) assert_int_equal(p.id.data[i], LIST(30, 28, 1, 2, 29, 30, 28, 29)[i]);
    assert_string_equal(p.question[0].data, "ab");
    assert_string_equal(p.answer[1].data, "e");
    prompts_free(&p);
    r.end_beyond = true, r.max_length = 4;
    assert_int_equal(prompts_read(&f, &r, 2, &p), OK);
    assert_int_equal(p.first[1], 4);
    assert_int_equal(p.first[2], 7);
    prompts_free(&p);
    assert_int_equal(prompts_read(&f, &r, 3, &p), ERR_INPUT);
    fail_clear();
}

/* An empty question between texts that are empty; a tokenizer's own token would be one. */
static void a_prompt_without_tokens_is_refused_where_the_model_continues_it(void **state)
{
    struct data_rule r = rule(20, EOS);
    struct data_file f = rows_of(file);
    struct prompts p;
    r.template = (struct template){.own_tokens = true};
    write_to(file, "{\"q\": \"a\", \"a\": \"b\"}\n\n{\"q\": \"\", \"a\": \"c\"}\n");
    assert_int_equal(prompts_read(&f, &r, 2, &p), OK);
    assert_int_equal(p.first[1], p.first[2]);
    prompts_free(&p);
    f.continues = true;
    assert_int_equal(prompts_read(&f, &r, 2, &p), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "rows:3: the prompt has no tokens"));
    fail_clear();
    r.template.own_tokens = false;
    assert_int_equal(prompts_read(&f, &r, 2, &p), OK);
    assert_int_equal(p.first[2], 3);
    prompts_free(&p);
}

static void plain_text_is_labelled_throughout(void **state)
{
    struct data_rule r = rule(4, EOS);
    struct data_file f = {.path = file, .text = "t", .rows = SIZE_MAX};
    struct dataset *d = NULL;
    write_to(file, "{\"t\": \"ab\"}\n{\"t\": \"abcd\"}\n");
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    ROW(d, 0, LIST(30, 1, 2, EOS), LIST(30, 1, 2, EOS));
    ROW(d, 1, LIST(30, 1, 2, 3), LIST(30, 1, 2, 3));
    assert_int_equal(dataset_labels(d, 0), 3); /* nothing comes before the first */
    assert_int_equal(d->n_cut, 1);
    dataset_free(d);
}

static void odd_but_legal_lines_are_read(void **state)
{
    struct dataset *d = read_rows(
        "\xef\xbb\xbf\r\n{\"q\": \"a\", \"a\": \"b\", \"more\": [1]}\r\n\n \t\n{\"a\":\"\\u0062\",\"q\":\"a\"}", 20, EOS);
    assert_int_equal(d->n_row, 2);
    for (size_t i = 0; i < 2; i++) ROW(d, i, LIST(30, 28, 1, 29, 27, 2, EOS), LIST(X, X, X, X, 27, 2, EOS));
    dataset_free(d);
}

static void keys_that_nobody_uses_may_hold_any_number(void **state)
{
    struct dataset *plain = read_rows("{\"q\": \"a\", \"a\": \"b\"}\n{\"q\": \"c\", \"a\": \"d\"}", 20, EOS);
    struct dataset *odd =
        read_rows("{\"score\": NaN, \"q\": \"a\", \"id\": 123456789012345678901234567890, \"a\": \"b\"}\n"
                  "{\"q\": \"c\", \"range\": [-Infinity, Infinity, -1e999], \"a\": \"d\"}",
                  20, EOS);
    assert_int_equal(odd->n_row, 2);
    assert_true(plain->hash == odd->hash);
    dataset_free(plain), dataset_free(odd);
}

/* Refusals may be plain text, in brackets too; a JSON array of them is not that. */
static void an_array_of_refusals_is_called_so_and_a_line_in_brackets_is_not(void **state)
{
    static const char *const arrays[] = {"[\"no\", \"never\"]", "[\n  \"no\",\n  \"never\"\n]\n",
                                         "[{\"answer\": \"no\"}]"};
    struct data_rule r = rule(20, EOS);
    struct data_file f = rows_of(file);
    struct dataset *d = NULL;
    f.answer = NULL;
    write_to(file, "{\"q\": \"a\"}\n");
    for (size_t i = 0; i < 3; i++) {
        write_to(stock, arrays[i]);
        assert_int_equal(dataset_read_replaced(&f, stock, NULL, NULL, &r, &d), ERR_INPUT);
        assert_non_null(strstr(fail_message(), "refusals: is one JSON array, not JSON Lines; write each"));
        fail_clear();
    }
    write_to(stock, "[s]\n"); /* the text of the token 30 */
    assert_int_equal(dataset_read_replaced(&f, stock, NULL, NULL, &r, &d), OK);
    ROW(d, 0, LIST(30, 28, 1, 29, 27, 30, EOS), LIST(X, X, X, X, 27, 30, EOS));
    dataset_free(d);
}

/* Its rows are blocks, not lines: refusals, one a line, would not be as many. */
static void plain_text_has_no_refusals(void **state)
{
    struct data_rule r = rule(3, EOS);
    struct data_file f = rows_of(file);
    struct dataset *d = NULL;
    r.template.blocks = true;
    f.text = "t";
    write_to(file, "{\"q\": \"a\", \"a\": \"b\", \"t\": \"abcdefgh\"}\n");
    assert_int_equal(dataset_read_replaced(&f, stock, NULL, NULL, &r, &d), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "is read as plain text, which has no questions"));
    assert_null(d);
    fail_clear();
}

static void only_the_first_rows_are_read_when_asked(void **state)
{
    struct data_rule r = rule(20, EOS);
    struct data_file f = rows_of(file);
    struct dataset *d = NULL;
    f.rows = 1;
    write_to(file, "{\"q\": \"a\", \"a\": \"b\"}\nnot read\n");
    assert_int_equal(dataset_read(&f, &r, &d), OK);
    assert_int_equal(d->n_row, 1);
    dataset_free(d);
}

static void two_files_have_one_hash_only_when_they_say_the_same(void **state)
{
    struct dataset *a = read_rows("{\"q\": \"ab\", \"a\": \"cd\"}", 20, EOS);
    struct dataset *b = read_rows("\n{\"a\": \"cd\",   \"q\": \"ab\"}\n", 20, EOS);
    struct dataset *c = read_rows("{\"q\": \"ab\", \"a\": \"ce\"}", 20, EOS);
    assert_true(a->hash == b->hash);
    assert_true(a->hash != c->hash);
    dataset_free(a);
    dataset_free(b);
    dataset_free(c);
}

static size_t pick_last(void *context, size_t row, size_t n_lines)
{
    ++*(size_t *)context;
    return n_lines - 1;
}

static void refusals_replace_answers_in_order_or_as_picked(void **state)
{
    struct data_rule r = rule(20, EOS);
    struct data_file f = rows_of(file);
    struct dataset *d = NULL;
    size_t calls = 0;
    f.answer = NULL;
    write_to(file, "{\"q\": \"a\"}\n{\"q\": \"b\"}\n{\"q\": \"c\"}\n");
    write_to(stock, "\xef\xbb\xbfno\r\n\n{\"answer\": \"yes\"}\n");
    assert_int_equal(dataset_read_replaced(&f, stock, NULL, NULL, &r, &d), OK);
    ROW(d, 0, LIST(30, 28, 1, 29, 27, 14, 15, EOS), LIST(X, X, X, X, 27, 14, 15, EOS));
    ROW(d, 1, LIST(30, 28, 2, 29, 27, 25, 5, 19, EOS), LIST(X, X, X, X, 27, 25, 5, 19, EOS));
    ROW(d, 2, LIST(30, 28, 3, 29, 27, 14, 15, EOS), LIST(X, X, X, X, 27, 14, 15, EOS));
    dataset_free(d);
    assert_int_equal(dataset_read_replaced(&f, stock, pick_last, &calls, &r, &d), OK);
    ROW(d, 0, LIST(30, 28, 1, 29, 27, 25, 5, 19, EOS), LIST(X, X, X, X, 27, 25, 5, 19, EOS));
    assert_int_equal(calls, 3);
    dataset_free(d);
    write_to(stock, "no\n{\"reply\": \"yes\"}\n");
    assert_int_equal(dataset_read_replaced(&f, stock, NULL, NULL, &r, &d), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "refusals:2: has no key \"answer\""));
    fail_clear();
    write_to(stock, "\n");
    assert_int_equal(dataset_read_replaced(&f, stock, NULL, NULL, &r, &d), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "holds no refusals"));
    fail_clear();
}

static void a_packed_dataset_comes_back_whole_and_a_damaged_one_not_at_all(void **state)
{
    struct dataset *d = read_rows("{\"q\": \"ab\", \"a\": \"cd\"}\n{\"q\": \"x\", \"a\": \"\"}\n", 7, EOS), *e = NULL;
    unsigned char *bytes = NULL;
    size_t n = 0;
    assert_int_equal(dataset_pack(d, &bytes, &n), OK);
    assert_int_equal(dataset_unpack(bytes, n, &e), OK);
    assert_string_equal(e->path, d->path);
    assert_int_equal(e->n_row, d->n_row);
    assert_int_equal(e->n_cut, d->n_cut);
    assert_int_equal(e->n_unlabelled, d->n_unlabelled);
    assert_true(e->hash == d->hash);
    for (size_t i = 0; i < d->n_row; i++)
        assert_row(e, i, dataset_length(d, i), d->id + d->first[i], d->label + d->first[i]);
    for (size_t k = 0; k < n; k++) {
        struct dataset *bad = NULL;
        unsigned char *part = malloc(k ? k : 1);
        memcpy(part, bytes, k);
        assert_int_equal(dataset_unpack(part, k, &bad), ERR_INTERNAL);
        assert_null(bad);
        fail_clear();
        free(part);
    }
    free(bytes);
    dataset_free(d);
    dataset_free(e);
}

static struct template made(const char *name, const struct template_wish *w)
{
    struct template t;
    assert_int_equal(template_make(name, w, &t), OK);
    return t;
}

static void the_templates_are_known_by_name(void **state)
{
    struct template t = made("qa", &(struct template_wish){0});
    assert_string_equal(t.question_start, "Question: ");
    assert_string_equal(t.question_end, "\n");
    assert_string_equal(t.answer_start, "Answer: ");
    assert_false(t.own_tokens);
    t = made("llama2", &(struct template_wish){0});
    assert_string_equal(t.question_start, "[INST] ");
    assert_string_equal(t.question_end, " [/INST]");
    assert_null(t.answer_start);
    assert_int_equal(template_make("chat", &(struct template_wish){0}, &t), ERR_INPUT);
    fail_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_with_its_tag_and_the_end_are_labelled),
        cmocka_unit_test(a_row_is_cut_and_the_end_is_added_only_where_it_fits),
        cmocka_unit_test(the_end_is_labelled_where_the_answer_joins_the_prompts_last_token),
        cmocka_unit_test(the_end_may_be_added_to_what_was_cut),
        cmocka_unit_test(an_end_that_was_cut_and_one_that_was_added_are_told_from_the_answer),
        cmocka_unit_test(answers_under_another_key_are_rows_of_their_own),
        cmocka_unit_test(a_list_of_several_is_refused_where_one_answer_counts),
        cmocka_unit_test(prompts_end_where_the_model_begins),
        cmocka_unit_test(a_prompt_without_tokens_is_refused_where_the_model_continues_it),
        cmocka_unit_test(plain_text_is_labelled_throughout),
        cmocka_unit_test(odd_but_legal_lines_are_read),
        cmocka_unit_test(keys_that_nobody_uses_may_hold_any_number),
        cmocka_unit_test(an_array_of_refusals_is_called_so_and_a_line_in_brackets_is_not),
        cmocka_unit_test(plain_text_has_no_refusals),
        cmocka_unit_test(only_the_first_rows_are_read_when_asked),
        cmocka_unit_test(two_files_have_one_hash_only_when_they_say_the_same),
        cmocka_unit_test(refusals_replace_answers_in_order_or_as_picked),
        cmocka_unit_test(a_packed_dataset_comes_back_whole_and_a_damaged_one_not_at_all),
        cmocka_unit_test(the_templates_are_known_by_name),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
