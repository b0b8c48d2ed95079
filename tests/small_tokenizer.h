/* Small tokenizers made in a test, and what they make of a text. */
#ifndef UNLEARN_TESTS_SMALL_TOKENIZER_H
#define UNLEARN_TESTS_SMALL_TOKENIZER_H
#include "near.h"
#include "unlearn/tokenizer.h"

#define N_OF(array) (sizeof(array) / sizeof *(array))

/* A model whose tokens are the words of `words` (separated by |) and every character of `text` and of them. Words are
 * found whole (ignore_merges), so the tokens show how text was split. */
static inline void vocabulary_add(json_t *vocab, const char *s, size_t n)
{
    json_t *key = json_stringn(s, n);
    assert_non_null(key);
    if (!json_object_get(vocab, json_string_value(key)))
        json_object_set_new(vocab, json_string_value(key), json_integer((json_int_t)json_object_size(vocab)));
    json_decref(key);
}

static inline void characters_add(json_t *vocab, const char *s)
{
    while (*s) {
        size_t n = 1;
        while (((unsigned char)s[n] & 0xc0) == 0x80) n++;
        vocabulary_add(vocab, s, n);
        s += n;
    }
}

static inline json_t *small_model(const char *words, const char *text)
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

static inline struct tokenizer *build(json_t *json)
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

static inline json_t *parse(const char *text)
{
    json_t *json = NULL;
    assert_int_equal(json_parse("component", 0, text, strlen(text), &json), OK);
    return json;
}

/* The tokens of a text, joined with spaces where there is no decoder. */
static inline void assert_tokens(const struct tokenizer *t, const char *text, const char *want)
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

static inline void run_samples(const char *part, size_t n, const struct sample *s, const char *decoder)
{
    for (size_t i = 0; i < n; i++) {
        json_t *json = json_pack("{s:o, s:o}", "model", small_model(s[i].words, s[i].text), part, parse(s[i].component));
        if (decoder) json_object_set_new(json, "decoder", parse(decoder));
        struct tokenizer *t = build(json);
        assert_tokens(t, s[i].text, s[i].tokens);
        tokenizer_free(t);
    }
}

static inline json_t *merges_model(const char *extra)
{
    json_t *m = parse(
        "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"bc\": 4, \"abc\": 5, \"aa\": 6, "
        "\"<unk>\": 7, \"<0xC3>\": 8, \"<0xA9>\": 9}, \"merges\": [\"b c\", [\"a\", \"b\"], [\"a\", \"bc\"], \"a a\"]}");
    json_t *more = parse(extra);
    json_object_update(m, more);
    json_decref(more);
    return m;
}

static inline void check_merges(const char *extra, const char *text, const char *want)
{
    struct tokenizer *t = build(json_pack("{s:o}", "model", merges_model(extra)));
    assert_tokens(t, text, want);
    tokenizer_free(t);
}
#endif
