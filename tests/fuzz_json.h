/* For fuzz targets of JSON: mutations that keep it JSON, so that more than the parser is reached. */
#ifndef UNLEARN_TESTS_FUZZ_JSON_H
#define UNLEARN_TESTS_FUZZ_JSON_H
#include "fuzz.h"
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned seed);

/* Walks the values of a document; the one that counts `left` down to 0 gets another in its place. */
struct surgery {
    size_t left;
    json_t *other; /* owned; NULL: the value goes */
    bool done;
};

static inline size_t count_values(const json_t *j)
{
    size_t n = 1, i;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)j, key, value) n += count_values(value);
    json_array_foreach(j, i, value) n += count_values(value);
    return n;
}

static inline json_t *find_value(json_t *j, size_t *left)
{
    json_t *value, *found = NULL;
    const char *key;
    size_t i;
    if (!(*left)--) return j;
    json_object_foreach(j, key, value) if (!found) found = find_value(value, left);
    json_array_foreach(j, i, value) if (!found) found = find_value(value, left);
    return found;
}

static inline void operate(json_t *j, struct surgery *s)
{
    json_t *value;
    const char *key;
    void *next;
    size_t i;
    json_object_foreach_safe(j, next, key, value)
    {
        if (s->done) return;
        if (s->left-- == 0) {
            s->done = true;
            if (s->other)
                json_object_set(j, key, s->other);
            else
                json_object_del(j, key);
            return;
        }
        operate(value, s);
    }
    json_array_foreach(j, i, value)
    {
        if (s->done) return;
        if (s->left-- == 0) {
            s->done = true;
            if (s->other)
                json_array_set(j, i, s->other);
            else
                json_array_remove(j, i);
            return;
        }
        operate(value, s);
    }
}

/* A value that has made trouble somewhere, a copy of another value of the document, or the old one changed a little. */
static inline json_t *new_value(json_t *document, size_t at, unsigned r)
{
    static const char *const trouble[] = {"0",
                                          "1",
                                          "-1",
                                          "2",
                                          "7",
                                          "255",
                                          "65536",
                                          "2147483647",
                                          "2147483648",
                                          "4294967296",
                                          "9223372036854775807",
                                          "-9223372036854775808",
                                          "0.5",
                                          "1e-320",
                                          "1e308",
                                          "-0.0",
                                          "null",
                                          "true",
                                          "false",
                                          "[]",
                                          "{}",
                                          "\"\"",
                                          "\"#\"",
                                          "[0, 0]",
                                          "[[\"a\", \"b\"]]"};
    size_t left = r % count_values(document), here = at + 1;
    const json_t *old = find_value(document, &here);
    uint8_t text[256];
    if (r % 4 == 0) return json_deep_copy(find_value(document, &left));
    if (r % 4 == 1 && json_is_string(old) && json_string_length(old) < 128) {
        memcpy(text, json_string_value(old), json_string_length(old));
        return json_stringn((char *)text, LLVMFuzzerMutate(text, json_string_length(old), sizeof text));
    }
    if (r % 4 == 1 && json_is_integer(old))
        return json_integer((json_int_t)((uint64_t)json_integer_value(old) + r / 4 % 7 - 3));
    return json_loads(trouble[r / 4 % (sizeof trouble / sizeof *trouble)], JSON_DECODE_ANY, NULL);
}

/* bytes [n] with one value of its JSON changed or gone; the new length, 0 when it is no JSON or becomes too long. */
static inline size_t mutate_json(uint8_t *bytes, size_t n, size_t most, unsigned seed)
{
    json_t *document = json_loadb((char *)bytes, n, JSON_ALLOW_NUL, NULL);
    const size_t values = document ? count_values(document) : 0;
    struct surgery s = {0};
    size_t length = 0;
    if (values > 1) {
        s.left = seed % (values - 1);
        s.other = seed / 7 % 8 ? new_value(document, s.left, seed / 64) : NULL;
        operate(document, &s);
        length = json_dumpb(document, (char *)bytes, most, JSON_COMPACT | JSON_ENCODE_ANY);
    }
    json_decref(s.other);
    json_decref(document);
    return length <= most ? length : 0;
}
#endif
