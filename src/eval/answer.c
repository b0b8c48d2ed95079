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

void text_trim(struct text *t)
{
    const char *s = text_strip(t->data, &t->n);
    if (!t->data) return;
    memmove(t->data, s, t->n);
    t->data[t->n] = 0;
}
