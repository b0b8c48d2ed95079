/* restart: a manifest of a checkpoint that is not whole is as good as none; one of another kind is an error.
 *                                                                                                  NP: 1 */
#include "model_files.h"
#include "signed.h"
#include "unlearn/restart_priv.h"
#include <sys/stat.h>

enum { STEP = 4 };
static const char sound_text[] =
    "{\"format\": 2, \"step\": 4, \"log_bytes\": 100, \"input\": \"model: {path: M}\", \"states\": [\"weights\"], "
    "\"numbers\": {\"update\": 4}, \"files\": {}, \"content\": {\"model.path\": \"0123456789abcdef\"}}";

/* manifest.json with these members instead (a JSON object; a null one goes), read. */
static enum status read_with(const char *changes, bool *sound, struct text *why)
{
    json_t *manifest = json_loads(sound_text, 0, NULL), *other = json_loads(changes, 0, NULL), *value, *got = NULL;
    const uint16_t one = 1;
    const char *key;
    char *text, directory[256];
    enum status st;
    assert_non_null(other);
    json_object_set_new(manifest, "precision", json_string(sizeof(real) == 8 ? "float64" : "float32"));
    json_object_set_new(manifest, "byte_order", json_string(*(const unsigned char *)&one ? "little" : "big"));
    json_object_foreach(other, key, value)
    {
        if (json_is_null(value))
            json_object_del(manifest, key);
        else
            json_object_set(manifest, key, value);
    }
    scratch_directory(directory);
    text = signed_text(manifest);
    write_file(directory, "manifest.json", text, strlen(text));
    fail_clear();
    why->n = 0;
    st = manifest_read(directory, STEP, &got, sound, why);
    if (st == OK) assert_int_equal(*sound, got != NULL);
    remove_directory(directory);
    json_decref(manifest), json_decref(other), json_decref(got);
    free(text);
    return st;
}

static void a_whole_manifest_is_sound(void **state)
{
    struct text why = {0};
    bool sound;
    assert_int_equal(read_with("{}", &sound, &why), OK);
    assert_true(sound);
    text_free(&why);
}

static void what_is_missing_or_of_another_type_makes_it_unsound(void **state)
{
    static const char *const cases[][2] = {
        {"{\"format\": null}", "format"},
        {"{\"format\": 1e308}", "format"},
        {"{\"format\": \"1\"}", "format"},
        {"{\"precision\": null}", "precision"},
        {"{\"precision\": 32}", "precision"},
        {"{\"byte_order\": null}", "byte_order"},
        {"{\"step\": null}", "step"},
        {"{\"step\": 4.0}", "step"},
        {"{\"step\": 5}", "another step"},
        {"{\"step\": -4}", "step"},
        {"{\"log_bytes\": -1}", "log_bytes"},
        {"{\"log_bytes\": null}", "log_bytes"},
        {"{\"input\": null}", "input"},
        {"{\"input\": 7}", "input"},
        {"{\"states\": {}}", "states"},
        {"{\"numbers\": []}", "numbers"},
        {"{\"files\": []}", "files"},
        {"{\"content\": null}", "content"},
        {"{\"files\": {\"../x/y\": {}}}", "../x/y"},
        {"{\"files\": {\"/dev/zero\": {}}}", "/dev/zero"},
        {"{\"files\": {\"weights/x\": {\"bytes\": 0, \"parts\": []}}}", "weights/x"},
        {"{\"files\": {\"weights/x\": {\"bytes\": 0, \"parts\": {}}}}", "no sound"},
        {"{\"files\": {\"weights/x\": {\"bytes\": 0}}}", "no sound"},
        {"{\"files\": {\"weights/x\": {\"bytes\": 2, \"parts\": [[3, \"\"], [-1, \"\"]]}}}", "no sound"},
        {"{\"files\": {\"weights/x\": {\"bytes\": 0, \"parts\": [[9223372036854775807, \"\"], [9223372036854775807, "
         "\"\"], [2, "
         "\"\"]]}}}",
         "no sound"},
        {"{\"files\": {\"weights/x\": {\"bytes\": 2, \"parts\": [[1, \"\"]]}}}", "no sound"},
    };
    struct text why = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool sound;
        const enum status st = read_with(cases[i][0], &sound, &why);
        if (st != OK || sound || !why.n || !strstr(why.data, cases[i][1]))
            fail_msg("%s: status %d, %s, why \"%s\"", cases[i][0], (int)st, sound ? "sound" : "unsound",
                     why.n ? why.data : "");
    }
    text_free(&why);
}

static void what_is_no_object_is_unsound(void **state)
{
    static const char *const cases[] = {"\"input\"", "7", "null", "[]", "true"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text why = {0};
        json_t *got = NULL;
        char directory[256];
        bool sound = true;
        scratch_directory(directory);
        write_file(directory, "manifest.json", cases[i], strlen(cases[i]));
        assert_int_equal(manifest_read(directory, STEP, &got, &sound, &why), OK);
        assert_true(!sound && !got && why.n);
        text_free(&why);
        remove_directory(directory);
    }
}

static void another_kind_is_an_error(void **state)
{
    static const char *const cases[][2] = {{"{\"format\": 3}", "format 3"},
                                           {"{\"format\": 0}", "format 0"},
                                           {"{\"format\": -1}", "format -1"},
                                           {"{\"precision\": \"float16\"}", "float16"},
                                           {"{\"byte_order\": \"none\"}", "byte order"}};
    struct text why = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool sound;
        const enum status st = read_with(cases[i][0], &sound, &why);
        if (st != ERR_INPUT || !strstr(fail_message(), cases[i][1]))
            fail_msg("%s: status %d: %s", cases[i][0], (int)st, fail_message());
    }
    fail_clear();
    text_free(&why);
}

/* Of a file in parts, one of them empty, and of one as format 1 has it; then each with a byte, a hash or a length changed. */
static void files_are_what_their_parts_say(void **state)
{
    static const char content[] = "0123456789";
    char directory[256], path[512];
    struct text why = {0};
    json_t *parts = json_pack("[[I, o], [i, o], [I, o]]", (json_int_t)3, hash_json(hash_bytes(content, 3, 0)), 0,
                              hash_json(0), (json_int_t)7, hash_json(hash_bytes(content + 3, 7, 0)));
    json_t *entry = json_pack("{s:i, s:O}", "bytes", 10, "parts", parts);
    json_t *old = json_pack("{s:i, s:o}", "bytes", 10, "xxh3", hash_json(hash_bytes(content, 10, 0)));
    scratch_directory(directory);
    snprintf(path, sizeof path, "%s/weights", directory);
    assert_int_equal(mkdir(path, 0777), 0);
    write_file(path, "x", content, 10);
    assert_true(file_sound(directory, "weights/x", entry, &why));
    assert_true(file_sound(directory, "weights/x", old, &why));
    write_file(path, "y", "0123456780", 10);
    assert_false(file_sound(directory, "weights/y", entry, &why));
    assert_non_null(strstr(why.data, "from byte 3 on"));
    assert_false(file_sound(directory, "weights/y", old, &why));
    write_file(path, "z", content, 9);
    assert_false(file_sound(directory, "weights/z", entry, &why));
    assert_non_null(strstr(why.data, "has 9 bytes"));
    json_array_set_new(json_array_get(parts, 0), 1, hash_json(1));
    assert_false(file_sound(directory, "weights/x", entry, &why));
    assert_non_null(strstr(why.data, "from byte 0 on"));
    json_array_set_new(json_array_get(parts, 0), 0, json_integer(4)); /* no longer adds up */
    assert_false(file_sound(directory, "weights/x", entry, &why));
    json_decref(parts), json_decref(entry), json_decref(old);
    text_free(&why);
    remove_directory(path);
    remove_directory(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_manifest_is_sound),
        cmocka_unit_test(what_is_no_object_is_unsound),
        cmocka_unit_test(files_are_what_their_parts_say),
        cmocka_unit_test(what_is_missing_or_of_another_type_makes_it_unsound),
        cmocka_unit_test(another_kind_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
