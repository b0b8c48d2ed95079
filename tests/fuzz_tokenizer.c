/* fuzz: tokenizer.json, and behind a zero byte a text that what was accepted encodes and decodes. */
#include "fuzz_json.h"
#include "unlearn/data.h"
#include <string.h>

static void check(const struct tokenizer *t, const char *text, size_t n)
{
    struct ids ids = {0};
    struct text back = {0};
    if (accepted(tokenizer_encode(t, text, n, true, &ids))) {
        for (size_t i = 0; i < ids.n; i++) must(ids.data[i] >= 0 && (size_t)ids.data[i] < tokenizer_vocabulary(t));
        accepted(tokenizer_decode(t, ids.data, ids.n, true, &back));
    }
    ids_free(&ids);
    text_free(&back);
}

/* Of the JSON, and sometimes of the text, which is lost where JSON is changed. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned seed)
{
    const uint8_t *zero = n ? memchr(bytes, 0, n) : NULL;
    const size_t json = zero ? (size_t)(zero - bytes) : n;
    size_t length = 0;
    if (seed % 8 > 1) length = mutate_json(bytes, json, most, seed / 8);
    if (seed % 8 == 1 && json + 1 < most) {
        bytes[json] = 0;
        length = json + 1 + LLVMFuzzerMutate(bytes + json + 1, n > json ? n - json - 1 : 0, most - json - 1);
    }
    return length ? length : LLVMFuzzerMutate(bytes, n, most);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const char standard[] = "Hello  world, it's 2024! \xc3\xa9\xe4\xb8\xad <|end|>\n\n\tx";
    const char *json = (const char *)bytes, *zero = n ? memchr(bytes, 0, n) : NULL;
    const size_t length = zero ? (size_t)(zero - json) : n;
    struct tokenizer *t;
    log_open(NULL, true); /* no warnings on the screen, nor kept */
    if (accepted(tokenizer_parse("tokenizer.json", json, length, &t))) {
        check(t, standard, sizeof standard - 1);
        if (zero) check(t, zero + 1, n - length - 1);
    }
    tokenizer_free(t);
    log_close();
    return 0;
}
