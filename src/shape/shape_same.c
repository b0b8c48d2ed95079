/* Whether two models agree, from SHAPE_MEMBERS, the list of all members of a shape. */
#include "unlearn/shape_priv.h"
#include <string.h>

struct member {
    size_t offset, size;
    enum shape_agree agree;
    bool (*same)(const struct shape *a, const struct shape *b, const struct member *m);
    const char *text;
};

static bool value(const struct shape *a, const struct shape *b, const struct member *m)
{
    return !memcmp((const char *)a + m->offset, (const char *)b + m->offset, m->size);
}

/* Came later: in the hash only where the model has it, so that hashes of earlier runs stay. */
static bool later(const struct shape *a, const struct shape *b, const struct member *m) { return value(a, b, m); }

/* Learned positions are a tensor, so their number counts; rotary positions have no limit. */
static bool learned(const struct shape *a, const struct shape *b, const struct member *m)
{
    return !(a->learned_positions || b->learned_positions) || value(a, b, m);
}

static bool frequencies(const struct shape *a, const struct shape *b, const struct member *m)
{
    const double *x = *(double *const *)((const char *)a + m->offset),
                 *y = *(double *const *)((const char *)b + m->offset);
    if (!x || !y) return !x && !y;
    for (size_t k = 0; k < a->rotary_dim / 2 && k < b->rotary_dim / 2; k++)
        if (x[k] != y[k]) return false;
    return true;
}

static bool slides(const struct shape *a, const struct shape *b, const struct member *m)
{
    for (size_t i = 0; (a->slides || b->slides) && i < a->blocks && i < b->blocks; i++)
        if (shape_slides(a, i) != shape_slides(b, i)) return false;
    return true;
}

/* Compares tensor names and storage, which families may share (llama, mistral); other members cover the rest of a
 * row. */
static bool names(const struct shape *a, const struct shape *b, const struct member *m)
{
    return a->row->tensor == b->row->tensor && a->row->fused == b->row->fused && a->row->transposed == b->row->transposed;
}

static const struct member members[] = {
#define X(agree, type, name, dimension, same, text) \
    {offsetof(struct shape, name), sizeof(((struct shape *)NULL)->name), SHAPE_##agree, same, text},
    SHAPE_MEMBERS(X)
#undef X
};

const char *shape_differs(const struct shape *a, const struct shape *b, enum shape_agree as_far_as)
{
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (members[i].agree <= as_far_as && !members[i].same(a, b, &members[i])) return members[i].text;
    return NULL;
}

bool shape_equal(const struct shape *a, const struct shape *b) { return !shape_differs(a, b, SHAPE_TENSORS); }

/* Whether a member's own bytes are in the hash. */
static bool hashed(const struct shape *s, const struct member *m)
{
    const char *byte = (const char *)s + m->offset;
    if (m->agree == SHAPE_FREE) return false;
    for (size_t i = 0; m->same == later && i < m->size; i++)
        if (byte[i]) return true;
    return m->same == value || (m->same == learned && s->learned_positions);
}

/* Hashes sizes and kinds; names of tensors are part of the weights' own hash. */
uint64_t shape_hash(const struct shape *s)
{
    const size_t n = s->rotary_dim / 2 * sizeof(double);
    uint64_t h = hash_bytes(s->frequency, n, 0);
    if (s->other_frequency) h = hash_bytes(s->other_frequency, n, h);
    if (s->slides) h = hash_bytes(s->slides, s->blocks * sizeof *s->slides, h);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (hashed(s, &members[i])) h = hash_bytes((const char *)s + members[i].offset, members[i].size, h);
    return h;
}

enum status shape_separate(struct shape *s, const char **head)
{
    *head = s->row->tensor[ROLE_HEAD];
    s->tied = false;
    if (!json_object_set_new(s->json, s->row->tied.key, json_false())) return OK;
    return fail(ERR_MEMORY, "memory: cannot allocate a value of config.json");
}
