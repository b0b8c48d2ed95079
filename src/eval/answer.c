/* The text of an answer. */
#include "unlearn/eval.h"

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
