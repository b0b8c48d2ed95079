/* The decoder token by token: a cache of every block's keys and values, and the forward of rows that continue it. The
 * forward is that of forward.c, but its products and attention compute each row independently, so that a sequence's
 * results do not depend on the sequences beside it. */
#include "decoder.h"
#include <assert.h>
#include <stdlib.h>

struct cache {
    struct arena arena;
    size_t slots, longest;
    real **block; /* [blocks] this process's heads of all slots */
};

static void take(struct arena *a, const struct layout *l, struct cache *c)
{
    const struct attention at = {.heads_kv = l->kv_count, .head_dim = l->shape->head_dim};
    c->block = arena_take(a, l->shape->blocks, sizeof *c->block);
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

void step_attention(struct model *m, const struct batch *b, size_t layer, const struct block_kept *k)
{
    const struct attention at = model_attention(m, b, layer);
    const struct attention_past past = {m->cache->longest, b->item, b->position, m->cache->block[layer - 1]};
    attention_cached(&at, &past, k->qkv, k->att, m->scratch);
}

void model_step(struct model *m, struct state *weights, struct cache *c, const struct batch *b)
{
    assert(b->longest <= c->longest && b->n_seq <= c->slots && c->longest <= m->most.longest);
    m->cache = c;
    decoder_logits(m, weights, b);
    m->cache = NULL;
}
