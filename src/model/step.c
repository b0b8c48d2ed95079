/* The decoder token by token: a cache of every block's keys and values, and the forward of rows that continue it. The
 * forward is that of forward.c, but its products and attention compute each row independently, so that a sequence's
 * results do not depend on the sequences beside it. */
#include "decoder.h"
#include <assert.h>
#include <stdlib.h>

struct cache {
    struct arena arena;
    size_t slots, longest;
    real **block;          /* [blocks] this process's heads of all slots */
    unsigned char *hidden; /* [slots][longest] of batches that hide keys */
};

static void take(struct arena *a, const struct layout *l, struct cache *c)
{
    const struct attention at = {.heads_kv = l->kv_count, .head_dim = l->shape->head_dim};
    c->block = arena_take(a, l->shape->blocks, sizeof *c->block);
    c->hidden = arena_take(a, c->slots * c->longest, 1);
    for (size_t i = 0; i < l->shape->blocks; i++) {
        real *block = arena_take(a, attention_cache(&at, c->slots, c->longest), sizeof(real));
        if (c->block) c->block[i] = block;
    }
}

enum status cache_new(const struct layout *l, size_t slots, size_t longest, struct cache **out, size_t *bytes)
{
    enum status st = OK;
    struct arena count;
    struct cache *c = NULL;
    if (out) *out = NULL;
    TRY_NEW(c, 1);
    c->slots = slots, c->longest = longest;
    arena_measure(&count);
    take(&count, l, c);
    if (bytes) *bytes = count.used;
    if (out) {
        TRY(arena_new(count.used, &c->arena));
        take(&c->arena, l, c);
        *out = c, c = NULL;
    }
done:
    cache_free(c);
    return st;
}

void cache_free(struct cache *c)
{
    if (!c) return;
    arena_free(&c->arena);
    free(c);
}

static const int32_t *places(const struct batch *b) { return b->place ? b->place : b->position; }

/* Notes which keys of the batch are hidden, for the queries to come. */
static void keep_hidden(struct cache *c, const struct batch *b)
{
    for (size_t i = 0; i < b->n_seq; i++)
        for (size_t r = b->first[i]; r < b->first[i + 1]; r++)
            c->hidden[b->item[i] * c->longest + (size_t)places(b)[r]] = b->hidden[r];
}

void step_attention(struct model *m, const struct batch *b, size_t layer, const struct block_kept *k)
{
    const struct attention at = model_attention(m, b, layer);
    const struct attention_past past = {.longest = m->cache->longest,
                                        .slot = b->item,
                                        .position = places(b),
                                        .hidden = b->hidden ? m->cache->hidden : NULL,
                                        .cache = m->cache->block[layer - 1]};
    attention_cached(&at, &past, k->qkv, k->att, m->scratch);
}

void model_step(struct model *m, struct state *weights, struct cache *c, const struct batch *b)
{
    assert(b->longest <= c->longest && b->n_seq <= c->slots && c->longest <= m->most.longest);
    if (b->hidden) keep_hidden(c, b);
    m->cache = c;
    decoder_logits(m, weights, b);
    m->cache = NULL;
}
