/* fuzz: config.json. What is accepted must be a model that can be laid out: every element counted by one process. */
#include "fuzz_json.h"
#include "unlearn/state.h"
#include <math.h>

static void check_layouts(const struct shape *s, int size)
{
    size_t owned = 0, elements = 0;
    for (int rank = 0; rank < size; rank++) {
        struct layout *l;
        must(layout_new(s, rank, size, &l) == OK);
        for (size_t i = 0; i < l->n_param; i++) {
            const struct param *p = &l->param[i];
            must(p->row_count <= p->rows && p->col_first + p->col_count <= p->cols);
            must(p->own_first + p->own_count <= p->row_count);
            owned += p->own_count * p->col_count;
        }
        elements = l->elements;
        layout_free(l);
    }
    must(owned == elements);
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned seed)
{
    const size_t length = seed % 8 ? mutate_json(bytes, n, most, seed / 8) : 0;
    return length ? length : LLVMFuzzerMutate(bytes, n, most);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct shape *s;
    if (accepted(shape_parse("config.json", (const char *)bytes, n, &s))) {
        must(s->heads && s->kv_heads && s->heads % s->kv_heads == 0 && s->head_dim && s->rotary_dim <= s->head_dim);
        must(s->pad < (int32_t)s->vocabulary && s->n_eos <= MAX_EOS && shape_equal(s, s));
        must(isfinite(s->rotary_scale) && isfinite(s->embed_scale));
        for (size_t k = 0; k < s->rotary_dim / 2; k++)
            must(isfinite(s->frequency[k]) && (!s->other_frequency || isfinite(s->other_frequency[k])));
        must(isfinite(s->other_scale) && s->score_cap >= 0 && s->logit_cap >= 0 && s->query_scalar >= 0);
        must(s->blocks == 0 || shape_window(s, s->blocks - 1) <= s->window);
        for (int size = 1; size <= 4 && (size_t)size <= s->heads && s->blocks * s->heads < 1000; size++)
            check_layouts(s, size);
    }
    shape_free(s);
    return 0;
}
