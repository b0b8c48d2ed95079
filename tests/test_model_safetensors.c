/* model: headers of safetensors files, hostile and odd ones, and checkpoint directories.                  NP: 1 */
#include "model_files.h"

#include <sys/stat.h>

static char dir[256], path[512];

/* A file of a header and `data` bytes of zeros; length is what the first eight bytes say. */
static void write_raw(const char *name, uint64_t length, const char *header, size_t n, size_t data)
{
    const size_t size = 8 + n + data;
    unsigned char *bytes = calloc(size, 1);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(bytes + 8, header, n);
    write_file(dir, name, bytes, size);
    free(bytes);
}

static void expect(const char *what, enum status st, const char *fragment)
{
    if (st != ERR_INPUT || !strstr(fail_message(), fragment) || !strstr(fail_message(), ".safetensors"))
        fail_msg("%.200s: wanted \"%s\", got \"%s\"", what, fragment, st == OK ? "accepted" : fail_message());
    fail_clear();
}

static void expect_refused(const char *header, size_t data, const char *fragment)
{
    struct safetensors *f;
    write_raw("x.safetensors", strlen(header), header, strlen(header), data);
    expect(header, safetensors_open(path, &f), fragment);
    assert_null(f);
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

static void lengths_that_do_not_fit_the_file_are_refused(void **state)
{
    static const uint64_t lengths[] = {0, 1, 1000, (uint64_t)1 << 63, UINT64_MAX, (uint64_t)2 << 56, 100000001};
    static const char header[] = "{" A "}";
    struct safetensors *f;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        write_raw("x.safetensors", lengths[i], header, sizeof header - 1, 8);
        expect("length", safetensors_open(path, &f), "the length of its header");
    }
    write_file(dir, "x.safetensors", "\x08\0\0", 3);
    expect("three bytes", safetensors_open(path, &f), "no safetensors file");
    write_file(dir, "x.safetensors", "", 0);
    expect("empty", safetensors_open(path, &f), "no safetensors file");
}

static void damaged_json_is_refused(void **state)
{
    expect_refused("[]", 0, "not a JSON object");
    expect_refused(" {" A "}", 8, "not a JSON object");
    expect_refused("\xef\xbb\xbf{" A "}", 8, "not a JSON object");
    expect_refused("{" A "", 8, "not valid JSON");
    expect_refused("{" A "}x", 8, "not valid JSON");
    expect_refused("{" A "," A "}", 8, "duplicate");
    expect_refused("{" A ",\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]}}", 8, "duplicate");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "duplicate");
    expect_refused("{\"a\xff\":1}", 8, "not valid JSON");
    expect_refused("{\"__metadata__\":{\"format\":1}," A "}", 8, "__metadata__: format is not a text");
    expect_refused("{\"__metadata__\":[]," A "}", 8, "__metadata__ is not an object");
    expect_refused("{\"__metadata__\":NaN," A "}", 8, "__metadata__ is not an object");
    expect_refused("{\"__metadata__\":{\"total\":1e999}," A "}", 8, "__metadata__: total is not a text");
    expect_refused("{\"b\":NaN," A "}", 8, "tensor b: is not described by an object");
    struct safetensors *f;
    write_raw("x.safetensors", sizeof "{" A "}", "{" A "}\0", sizeof "{" A "}", 8); /* NUL as padding */
    expect("NUL", safetensors_open(path, &f), "not valid JSON");
}

static void fields_of_wrong_type_or_range_are_refused(void **state)
{
    expect_refused("{\"a\":1}", 8, "tensor a: is not described by an object");
    expect_refused("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype \"\" is unknown");
    expect_refused("{\"a\":{\"dtype\":32,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype: is not a text");
    expect_refused("{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype \"F31\" is unknown");
    expect_refused("{\"a\":{\"dtype\":\"F32\\u0000\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype: is not a text");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "shape is not a list");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "shape is not a list");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8,
                   "shape is not a list");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "not made of whole numbers");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "not made of whole numbers");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]}}", 8,
                   "not made of whole numbers");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets are not two");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "data_offsets are not two");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "data_offsets are not two");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8.0]}}", 8, "data_offsets are not two");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "are outside");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,18446744073709551624]}}", 8,
                   "data_offsets are not two whole numbers");
}

static void sizes_that_disagree_are_refused(void **state)
{
    expect_refused("{" A "}", 7, "is the file cut?");
    expect_refused("{" A "}", 9, "1 bytes after the last tensor");
    expect_refused("{}", 9, "9 bytes after the last tensor");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
                   "has 8 bytes, its shape and dtype need 12");
    expect_refused("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "its shape and dtype need 1");
    /* 2^62 * 32 bits and 2^32 * 2^32 wrap to nothing */
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0,
                   "shape is too large");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
                   "shape is too large");
}

static void holes_and_overlaps_are_refused(void **state)
{
    expect_refused("{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8,
                   "tensor b: begins at byte 4");
    expect_refused("{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[12,16]}}", 16,
                   "tensor b: begins at byte 12");
    expect_refused("{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "begins at byte 0");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "tensor a: begins at byte 4");
}

static void a_hundred_thousand_overlapping_tensors_are_refused(void **state)
{
    struct text t = {0};
    for (int i = 0; i < 100000; i++)
        text_print(&t, "%c\"t%d\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}", i ? ',' : '{', i);
    text_print(&t, "}");
    expect_refused(t.data, 4, "begins at byte 0");
    text_free(&t);
}

static void odd_but_legal_headers_are_read(void **state)
{
    static const char header[] =
        "{\"z\":{\"shape\":[2,1],\"data_offsets\":[3,7],\"dtype\":\"BF16\"},"
        "\"__metadata__\":{\"a\":\"b\"},\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[3,3]},"
        "\"scalar\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[7,15],\"extra\":1}}     ";
    struct safetensors *f;
    const struct tensor *t;
    write_raw("x.safetensors", sizeof header - 1, header, sizeof header - 1, 15);
    if (safetensors_open(path, &f) != OK) fail_msg("%s", fail_message());
    assert_int_equal(f->n, 4);
    assert_non_null(t = safetensors_find(f, "z"));
    assert_int_equal(t->begin, 8 + sizeof header - 1 + 3);
    assert_int_equal(t->end, t->begin + 4);
    assert_int_equal(t->storage, STORE_BF16);
    assert_int_equal(t->n_dim, 2);
    assert_non_null(t = safetensors_find(f, "a"));
    assert_false(t->readable);
    assert_int_equal(safetensors_find(f, "scalar")->n_dim, 0);
    assert_null(safetensors_find(f, "b"));
    safetensors_close(f);
}

static void only_regular_files_are_opened(void **state)
{
    struct safetensors *f;
    unlink(path);
    expect("absent", safetensors_open(path, &f), "cannot be opened");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect("fifo", safetensors_open(path, &f), "not a regular file");
    unlink(path);
    assert_int_equal(symlink("/dev/zero", path), 0);
    expect("device", safetensors_open(path, &f), "not a regular file");
    unlink(path);
    assert_int_equal(symlink("x.safetensors", path), 0);
    expect("loop", safetensors_open(path, &f), "cannot be opened");
    unlink(path);
}

/* ------------------------------------------------------------------------------------------------- directories ----- */
/* A model of one matrix per role, tiny enough to write its header here: 1 block, hidden 2, 1 head, 2 columns, 3 words. */
static const char tiny[] = "{\"vocab_size\": 3, \"hidden_size\": 2, \"intermediate_size\": 2, \"num_hidden_layers\": 1,"
                           " \"num_attention_heads\": 1, \"num_key_value_heads\": 1, \"bos_token_id\": null}";

/* The header of the tiny model's tensors, but one: `change` replaces the entry of the tensor `name`, NULL leaves it out. */
static void write_model(const char *file, const struct layout *l, const char *name, const char *change,
                        size_t change_bytes)
{
    struct text t = {0};
    size_t at = 0;
    text_print(&t, "{");
    for (size_t i = 0; i < l->n_param; i++) {
        const struct param *p = &l->param[i];
        size_t n = 4 * p->rows * p->cols;
        const bool changed = name && !strcmp(p->name, name);
        if (changed && !change) continue;
        if (changed) n = change_bytes;
        text_print(&t, "%s\"%s\":{", t.n > 1 ? "," : "", p->name);
        if (changed)
            text_print(&t, "%s", change);
        else if (p->vector)
            text_print(&t, "\"dtype\":\"F32\",\"shape\":[%zu]", p->rows);
        else
            text_print(&t, "\"dtype\":\"F32\",\"shape\":[%zu,%zu]", p->rows, p->cols);
        text_print(&t, ",\"data_offsets\":[%zu,%zu]}", at, at + n);
        at += n;
    }
    text_print(&t, ",\"rotary.inv_freq\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}}", at, at + 8);
    write_raw(file, t.n, t.data, t.n, at + 8);
    text_free(&t);
}

static void tensors_that_do_not_fit_the_model_are_named_with_both_shapes(void **state)
{
    static const struct {
        const char *tensor, *entry;
        size_t bytes;
        const char *fragment;
    } bad[] = {
        {"model.norm.weight", NULL, 0, "tensor model.norm.weight of shape [2] is missing"},
        {"lm_head.weight", NULL, 0, "tensor lm_head.weight of shape [3, 2] is missing"},
        {"lm_head.weight", "\"dtype\":\"F32\",\"shape\":[2,3]", 24,
         "lm_head.weight: has shape [2, 3], config.json asks for [3, 2]"},
        {"model.norm.weight", "\"dtype\":\"F32\",\"shape\":[2,1]", 8, "has shape [2, 1], config.json asks for [2]"},
        {"model.norm.weight", "\"dtype\":\"F32\",\"shape\":[]", 4, "has shape [], config.json asks for [2]"},
        {"lm_head.weight", "\"dtype\":\"I32\",\"shape\":[3,2]", 24, "lm_head.weight: is of type I32"},
        {"lm_head.weight", "\"dtype\":\"F8_E4M3\",\"shape\":[3,2]", 6, "is of type F8_E4M3"},
    };
    struct shape *s = shape_with(tiny);
    struct layout *l;
    assert_int_equal(layout_new(s, 0, 1, &l), OK);
    write_model("model.safetensors", l, NULL, NULL, 0);
    if (weights_check(dir, l) != OK) fail_msg("%s", fail_message());
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_model("model.safetensors", l, bad[i].tensor, bad[i].entry, bad[i].bytes);
        expect(bad[i].fragment, weights_check(dir, l), bad[i].fragment);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/x.safetensors", dir);
    expect("nothing", weights_check(dir, l), "model.safetensors: cannot be opened");
    layout_free(l);
    shape_free(s);
}

/* An index that sends every tensor to `file`, but lm_head to `other` (nowhere if NULL). */
static void write_index(const struct layout *l, const char *file, const char *other)
{
    struct text t = {0};
    text_print(&t, "{\"metadata\": {}, \"weight_map\": {\"unused\": \"%s\"", file);
    for (size_t i = 0; i < l->n_param; i++) {
        const char *to = l->param[i].role == ROLE_HEAD ? other : file;
        if (to) text_print(&t, ", \"%s\": \"%s\"", l->param[i].name, to);
    }
    text_print(&t, "}}");
    write_file(dir, "model.safetensors.index.json", t.data, t.n);
    text_free(&t);
}

static void an_index_leads_only_to_files_beside_it(void **state)
{
    static const char *const outside[] = {
        "../x.safetensors",        "/dev/zero", "a/b.safetensors", "..", ".", "", "./shard.safetensors",
        "shard.safetensors\\u0000"};
    struct shape *s = shape_with(tiny);
    struct layout *l;
    assert_int_equal(layout_new(s, 0, 1, &l), OK);
    write_model("shard.safetensors", l, NULL, NULL, 0);
    write_index(l, "shard.safetensors", "shard.safetensors");
    if (weights_check(dir, l) != OK) fail_msg("%s", fail_message());
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        write_index(l, "shard.safetensors", outside[i]);
        expect(outside[i], weights_check(dir, l), "lm_head.weight: its file must be a plain name");
    }
    write_index(l, "shard.safetensors", NULL);
    expect("no entry", weights_check(dir, l), "lm_head.weight of shape [3, 2] is missing");
    write_index(l, "shard.safetensors", "absent.safetensors");
    expect("no file", weights_check(dir, l), "absent.safetensors: cannot be opened");
    write_model("shard.safetensors", l, "lm_head.weight", NULL, 0);
    write_index(l, "shard.safetensors", "shard.safetensors");
    expect("not in the file", weights_check(dir, l),
           "shard.safetensors: tensor lm_head.weight of shape [3, 2] is missing");
    write_file(dir, "model.safetensors.index.json", "{}", 2);
    expect("no map", weights_check(dir, l), "weight_map: is not an object");
    write_file(dir, "model.safetensors.index.json", "[]", 2);
    expect("a list", weights_check(dir, l), "weight_map: is not an object");
    layout_free(l);
    shape_free(s);
}

/* Empty files by the names of weights that cannot be read as they are; the first of the alphabet is named. */
static void what_stands_there_instead_of_weights_is_named_with_what_to_do(void **state)
{
    static const struct {
        const char *name[2], *fragment;
    } cases[] = {
        {{"model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"},
         ": has no model.safetensors, but model-00001-of-00002.safetensors: shards without model.safetensors.index.json"},
        {{"adapter_model.safetensors", NULL}, "adapter_model.safetensors: an adapter alone: merge it"},
        {{"weights.safetensors", NULL}, "weights.safetensors: weights under another name"},
        {{"pytorch_model.bin", "training_args.bin"}, "pytorch_model.bin: only safetensors are read: load it with"},
        {{"pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"}, "pytorch_model-00001-of-00002.bin: only"},
        {{"consolidated.00.pth", NULL}, "consolidated.00.pth: only safetensors are read"},
        {{"ggml-model-q4_0.gguf", NULL}, "ggml-model-q4_0.gguf: only safetensors are read"},
        {{"training_args.bin", "optimizer.pt"}, "/model.safetensors: cannot be opened: No such file"},
    };
    struct shape *s = shape_with(tiny);
    struct layout *l;
    char empty[256], name[512];
    assert_int_equal(layout_new(s, 0, 1, &l), OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_directory(empty);
        for (int k = 0; k < 2 && cases[i].name[k]; k++) write_file(empty, cases[i].name[k], "", 0);
        expect(cases[i].name[0], weights_check(empty, l), cases[i].fragment);
        remove_directory(empty);
    }
    scratch_directory(empty);
    snprintf(name, sizeof name, "%s/model.safetensors", empty);
    assert_int_equal(symlink("nowhere", name), 0);
    expect("a link that leads nowhere", weights_check(empty, l), "/model.safetensors: cannot be opened: No such file");
    remove_directory(empty);
    layout_free(l);
    shape_free(s);
}

static void a_git_lfs_pointer_is_called_so(void **state)
{
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 9\n";
    struct safetensors *f;
    char *text;
    size_t n;
    write_file(dir, "x.safetensors", pointer, sizeof pointer - 1);
    snprintf(path, sizeof path, "%s/x.safetensors", dir);
    expect("weights", safetensors_open(path, &f),
           "x.safetensors: is a Git LFS pointer, not the file itself: git lfs pull");
    expect("any file", file_read(path, 1000, &text, &n), "x.safetensors: is a Git LFS pointer, not the file itself");
    assert_null(text);
    assert_int_equal(file_read_any(path, 1000, &text, &n), OK);
    assert_int_equal(n, sizeof pointer - 1);
    free(text);
    write_file(dir, "x.safetensors", pointer, 20);
    expect("its beginning", safetensors_open(path, &f), "the length of its header");
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_that_do_not_fit_the_file_are_refused),
        cmocka_unit_test(damaged_json_is_refused),
        cmocka_unit_test(fields_of_wrong_type_or_range_are_refused),
        cmocka_unit_test(sizes_that_disagree_are_refused),
        cmocka_unit_test(holes_and_overlaps_are_refused),
        cmocka_unit_test(a_hundred_thousand_overlapping_tensors_are_refused),
        cmocka_unit_test(odd_but_legal_headers_are_read),
        cmocka_unit_test(only_regular_files_are_opened),
        cmocka_unit_test(tensors_that_do_not_fit_the_model_are_named_with_both_shapes),
        cmocka_unit_test(an_index_leads_only_to_files_beside_it),
        cmocka_unit_test(what_stands_there_instead_of_weights_is_named_with_what_to_do),
        cmocka_unit_test(a_git_lfs_pointer_is_called_so),
    };
    int failed;
    scratch_directory(dir);
    snprintf(path, sizeof path, "%s/x.safetensors", dir);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_directory(dir);
    return failed;
}
