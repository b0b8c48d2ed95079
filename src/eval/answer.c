/* The text of an answer, and how Hugging Face's tools tidy it. */
#include "unlearn/eval.h"
#include <string.h>

enum status answer_text(const struct tokenizer *t, const int32_t *id, size_t n, struct text *out)
{
    struct ids known = {0};
    enum status st = tokenizer_decode(t, id, n, true, out);
    if (st != ERR_INPUT) return st;
    for (size_t i = 0; i < n && st != ERR_MEMORY; i++) {
        fail_clear();
        out->n = 0;
        if ((st = tokenizer_decode(t, &id[i], 1, true, out)) == OK) st = ids_add(&known, id[i]);
    }
    fail_clear();
    out->n = 0;
    st = tokenizer_decode(t, known.data, known.n, true, out);
    ids_free(&known);
    return st;
}

void text_tidy(struct text *t)
{
    static const char *const tight[][2] = {{" .", "."},     {" ?", "?"},     {" !", "!"},   {" ,", ","},
                                           {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"},
                                           {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t k = 0; k < sizeof tight / sizeof *tight;
         k++) { /* one after the other: a later one sees the earlier's work */
        const size_t n = strlen(tight[k][0]), m = strlen(tight[k][1]);
        size_t to = 0;
        for (size_t i = 0; i < t->n;) {
            const bool found = i + n <= t->n && !memcmp(t->data + i, tight[k][0], n);
            if (found)
                memcpy(t->data + to, tight[k][1], m);
            else
                t->data[to] = t->data[i];
            to += found ? m : 1, i += found ? n : 1;
        }
        t->n = to;
    }
    if (t->data) t->data[t->n] = 0;
}

/* Bytes of the white space that s [n] begins with (first) or ends with; 0: none. */
static size_t space(const char *s, size_t n, bool first)
{
    static const char *const wide[] = {"\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\xa8",
                                       "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
    const unsigned char one = n ? (unsigned char)s[first ? 0 : n - 1] : 'x';
    const char *three = n < 3 ? NULL : first ? s : s + n - 3;
    if (one == ' ' || (one >= '\t' && one <= '\r') || (one >= 0x1c && one <= 0x1f)) return 1;
    for (size_t k = 0; k < sizeof wide / sizeof *wide; k++) {
        const size_t m = strlen(wide[k]);
        if (m <= n && !memcmp(first ? s : s + n - m, wide[k], m)) return m;
    }
    return three && !memcmp(three, "\xe2\x80", 2) && (unsigned char)three[2] >= 0x80 && (unsigned char)three[2] <= 0x8a
               ? 3
               : 0;
}

void text_trim(struct text *t)
{
    size_t from = 0, n;
    while ((n = space(t->data, t->n, false))) t->n -= n;
    while ((n = space(t->data + from, t->n - from, true))) from += n;
    if (!t->data) return;
    memmove(t->data, t->data + from, t->n -= from);
    t->data[t->n] = 0;
}
