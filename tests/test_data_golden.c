/* data: tokens of the shared test material.       NP: 1 */
#include "near.h"
#include "unlearn/data.h"
#include <hdf5.h>

/* The JSON of the file's attribute "settings". */
static json_t *settings_of(hid_t file)
{
    hid_t attribute = H5Aopen(file, "settings", H5P_DEFAULT), type = H5Aget_type(attribute);
    char *text = NULL;
    json_t *json = NULL;
    assert_true(H5Tis_variable_str(type) > 0);
    assert_true(H5Aread(attribute, type, &text) >= 0);
    assert_int_equal(json_parse("settings", 0, text, strlen(text), &json), OK);
    H5free_memory(text);
    H5Tclose(type);
    H5Aclose(attribute);
    return json;
}

/* tokens/PART/ROW/WHAT */
static struct ids numbers_of(hid_t file, const char *part, size_t row, const char *what)
{
    char name[128];
    hid_t set, space;
    struct ids list = {0};
    snprintf(name, sizeof name, "tokens/%s/%zu/%s", part, row, what);
    set = H5Dopen2(file, name, H5P_DEFAULT);
    assert_true(set >= 0);
    space = H5Dget_space(set);
    list.n = (size_t)H5Sget_simple_extent_npoints(space);
    list.data = malloc((list.n + 1) * sizeof *list.data);
    assert_true(H5Dread(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, list.data) >= 0);
    H5Sclose(space);
    H5Dclose(set);
    return list;
}

static size_t rows_of(hid_t file, const char *part)
{
    char name[128];
    H5G_info_t info;
    snprintf(name, sizeof name, "tokens/%s", part);
    assert_true(H5Gget_info_by_name(file, name, &info, H5P_DEFAULT) >= 0);
    return (size_t)info.nlinks;
}

static void compare(hid_t file, const char *part, const struct dataset *d)
{
    assert_int_equal(d->n_row, rows_of(file, part));
    for (size_t i = 0; i < d->n_row; i++) {
        struct ids id = numbers_of(file, part, i, "ids"), label = numbers_of(file, part, i, "labels");
        assert_int_equal(id.n, dataset_length(d, i));
        assert_memory_equal(id.data, d->id + d->first[i], id.n * sizeof *id.data);
        assert_memory_equal(label.data, d->label + d->first[i], id.n * sizeof *id.data);
        ids_free(&id);
        ids_free(&label);
    }
}

static void check_model(const char *name)
{
    char path[640], refusals[640], directory[512];
    const char *root = getenv("SHARED");
    struct tokenizer *tokenizer = NULL;
    struct dataset *d = NULL;
    json_t *settings, *config;
    hid_t file;
    struct data_rule rule = {0};
    struct data_file f = {.path = path, .question = "question", .answer = "answer", .rows = SIZE_MAX};
    snprintf(directory, sizeof directory, "%s/golden/models/%s", root ? root : "../shared", name);
    snprintf(path, sizeof path, "%s/expected.h5", directory);
    assert_true((file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT)) >= 0);
    settings = settings_of(file);
    snprintf(path, sizeof path, "%s/model/config.json", directory);
    assert_int_equal(json_read(path, 1 << 20, &config), OK);
    snprintf(path, sizeof path, "%s/model", directory);
    assert_int_equal(tokenizer_open(path, &tokenizer), OK);
    assert_int_equal(template_make(json_string_value(json_object_get(settings, "template")), &(struct template_wish){0},
                                   &rule.template),
                     OK);
    rule.tokenizer = tokenizer;
    rule.max_length = (size_t)json_integer_value(json_object_get(settings, "max_length"));
    rule.eos = (int32_t)json_integer_value(json_object_get(config, "eos_token_id"));
    rule.vocabulary = (size_t)json_integer_value(json_object_get(config, "vocab_size"));
    assert_true(tokenizer_vocabulary(tokenizer) <= rule.vocabulary);
    for (int part = 0; part < 2; part++) {
        snprintf(path, sizeof path, "%s/%s.jsonl", directory, part ? "retain" : "forget");
        assert_int_equal(dataset_read(&f, &rule, &d), OK);
        compare(file, part ? "retain" : "forget", d);
        dataset_free(d);
    }
    snprintf(path, sizeof path, "%s/forget.jsonl", directory);
    snprintf(refusals, sizeof refusals, "%s/idk.jsonl", directory);
    assert_int_equal(dataset_read_replaced(&f, refusals, NULL, NULL, &rule, &d), OK);
    compare(file, "idk", d);
    dataset_free(d);
    tokenizer_free(tokenizer);
    json_decref(settings);
    json_decref(config);
    H5Fclose(file);
}

static void datasets_of_the_golden_models_have_the_reference_tokens_and_labels(void **state)
{
    const char *const names[] = {"gpt_neox", "llama",    "llama3", "mistral", "phi",
                                 "qwen2",    "stablelm", "phi3",   "gemma2",  "gemma3"};
    if (!shared_path("golden/models/llama/expected.h5")) skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_model(names[i]);
}

static void assert_ids(const struct ids *got, json_t *want)
{
    assert_int_equal(got->n, json_array_size(want));
    for (size_t i = 0; i < got->n; i++) assert_int_equal(got->data[i], json_integer_value(json_array_get(want, i)));
}

static void assert_text(const struct text *got, json_t *want)
{
    assert_int_equal(got->n, json_string_length(want));
    if (got->n) assert_memory_equal(got->data, json_string_value(want), got->n);
}

static void check_row(const struct tokenizer *t, json_t *row)
{
    json_t *text = json_object_get(row, "text");
    struct ids ids = {0}, bare = {0};
    struct text decoded = {0}, special = {0};
    assert_int_equal(tokenizer_encode(t, json_string_value(text), json_string_length(text), true, &ids), OK);
    assert_ids(&ids, json_object_get(row, "ids"));
    assert_int_equal(tokenizer_encode(t, json_string_value(text), json_string_length(text), false, &bare), OK);
    assert_ids(&bare, json_object_get(row, "ids_no_special"));
    assert_int_equal(tokenizer_decode(t, ids.data, ids.n, true, &decoded), OK);
    assert_text(&decoded, json_object_get(row, "decoded"));
    assert_int_equal(tokenizer_decode(t, ids.data, ids.n, false, &special), OK);
    assert_text(&special, json_object_get(row, "decoded_keep_special"));
    ids_free(&ids);
    ids_free(&bare);
    text_free(&decoded);
    text_free(&special);
}

static void check_tokenizer(const char *name)
{
    char part[256], path[4096], *text = NULL, *line;
    struct tokenizer *t = NULL;
    size_t n, rows = 0;
    snprintf(part, sizeof part, "golden/tokenizers/%s/golden.jsonl", name);
    if (!shared_path(part)) skip();
    snprintf(path, sizeof path, "%s", shared_path(part));
    assert_int_equal(file_read(path, 1 << 28, &text, &n), OK);
    *strrchr(path, '/') = 0;
    assert_int_equal(tokenizer_open(path, &t), OK);
    for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), rows++) {
        json_t *row = NULL;
        assert_int_equal(json_parse(path, rows, line, strlen(line), &row), OK);
        check_row(t, row);
        json_decref(row);
    }
    assert_int_equal(rows, 320);
    tokenizer_free(t);
    free(text);
}

static void gpt_2_style_byte_pairs_are_exact(void **state) { check_tokenizer("phi-2"); }
static void added_runs_of_spaces_and_nfc_are_exact(void **state) { check_tokenizer("gpt-neox-20b"); }
static void sentencepiece_style_byte_pairs_are_exact(void **state) { check_tokenizer("mistral-7b-v0.1"); }

static void prompts_of_the_stories_model_have_the_expected_tokens(void **state)
{
    char path[4096];
    struct tokenizer *t = NULL;
    json_t *expected, *each;
    size_t i;
    if (!shared_path("models/stories260K/expected.json")) skip();
    snprintf(path, sizeof path, "%s", shared_path("models/stories260K/expected.json"));
    assert_int_equal(json_read(path, 1 << 28, &expected), OK);
    *strrchr(path, '/') = 0;
    assert_int_equal(tokenizer_open(path, &t), OK);
    assert_int_equal(tokenizer_vocabulary(t), 512);
    assert_true(json_array_size(json_object_get(expected, "greedy")) > 0);
    json_array_foreach(json_object_get(expected, "greedy"), i, each)
    {
        json_t *prompt = json_object_get(each, "prompt");
        struct ids ids = {0};
        assert_int_equal(tokenizer_encode(t, json_string_value(prompt), json_string_length(prompt), true, &ids), OK);
        assert_ids(&ids, json_object_get(each, "prompt_ids"));
        ids_free(&ids);
    }
    tokenizer_free(t);
    json_decref(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datasets_of_the_golden_models_have_the_reference_tokens_and_labels),
        cmocka_unit_test(gpt_2_style_byte_pairs_are_exact),
        cmocka_unit_test(added_runs_of_spaces_and_nfc_are_exact),
        cmocka_unit_test(sentencepiece_style_byte_pairs_are_exact),
        cmocka_unit_test(prompts_of_the_stories_model_have_the_expected_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
