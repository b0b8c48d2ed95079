/* Byte pair encoding of one word: its characters are tokens, and of all neighbours that may be merged the pair of the
 * lowest rank is, the leftmost first, until none may. A heap holds the candidates, so a word of n characters costs
 * n log n. */
#include "unlearn/tokenizer_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct symbol {
    int32_t id; /* -1: merged into its left neighbour */
    int32_t previous, next;
};
struct candidate {
    uint64_t key; /* rank << 32 | position of the left symbol */
    int32_t id;   /* of both together */
};
struct bpe_work {
    struct symbol *symbol;
    struct candidate *heap;
    struct text text; /* a character with prefix and suffix */
    size_t n, n_heap, symbol_room, heap_room;
};

enum status bpe_work_new(struct bpe_work **out)
{
    enum status st = OK;
    TRY_NEW(*out, 1);
done:
    return st;
}

void bpe_work_free(struct bpe_work *w)
{
    if (!w) return;
    free(w->symbol);
    free(w->heap);
    text_free(&w->text);
    free(w);
}

/* ---------------------------------------------------------------------------------------------------- pairs ------ */
static uint64_t pair_hash(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return key ^ key >> 32;
}

static struct pair *pair_find(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)left << 32 | (uint32_t)right, i = pair_hash(key) & b->mask;
    while (b->pair[i].key != key && b->pair[i].key != UINT64_MAX) i = (i + 1) & b->mask;
    return &b->pair[i];
}

/* ------------------------------------------------------------------------------------------------- the heap ------ */
static void heap_push(struct bpe_work *w, struct candidate c)
{
    size_t i = w->n_heap++;
    for (; i && w->heap[(i - 1) / 2].key > c.key; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static struct candidate heap_pop(struct bpe_work *w)
{
    struct candidate top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < w->n_heap) {
        if (child + 1 < w->n_heap && w->heap[child + 1].key < w->heap[child].key) child++;
        if (w->heap[child].key >= last.key) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static void offer(const struct bpe *b, struct bpe_work *w, int32_t left, int32_t right)
{
    const struct pair *p;
    if (left < 0 || right < 0) return;
    p = pair_find(b, w->symbol[left].id, w->symbol[right].id);
    if (p->key != UINT64_MAX) heap_push(w, (struct candidate){(uint64_t)p->rank << 32 | (uint32_t)left, p->id});
}

/* One candidate for each neighbouring pair at first; a merge takes one out and puts at most two in: fewer than 2n. */
static enum status merge(const struct bpe *b, struct bpe_work *w)
{
    struct symbol *s = w->symbol;
    enum status st = memory_grow((void **)&w->heap, &w->heap_room, 2 * w->n, sizeof *w->heap);
    if (st != OK) return st;
    w->n_heap = 0;
    for (size_t i = 1; i < w->n; i++) offer(b, w, (int32_t)i - 1, (int32_t)i);
    while (w->n_heap) {
        struct candidate c = heap_pop(w);
        int32_t left = (int32_t)(uint32_t)c.key, right;
        const struct pair *p;
        if (s[left].id < 0 || (right = s[left].next) < 0) continue;
        p = pair_find(b, s[left].id, s[right].id); /* the neighbours may have changed since; the result decides, as in */
        if (p->key == UINT64_MAX || p->id != c.id) continue; /* the package: another pair of the same result counts */
        s[left].id = c.id;
        s[left].next = s[right].next;
        s[right].id = -1;
        if (s[left].next >= 0) s[s[left].next].previous = left;
        offer(b, w, s[left].previous, left);
        offer(b, w, left, s[left].next);
    }
    return OK;
}

/* ----------------------------------------------------------------------------------------------- characters ------ */
static void symbol_add(struct bpe_work *w, int32_t id)
{
    int32_t i = (int32_t)w->n++;
    w->symbol[i] = (struct symbol){id, i - 1, -1};
    if (i) w->symbol[i - 1].next = i;
}

static int32_t model_id(const struct bpe *b, const char *text, size_t n)
{
    const struct token *t = vocabulary_find(b->vocabulary, text, n);
    return t && t->model ? t->id : -1;
}

/* Byte tokens for a character that has none; false: not all of its bytes have one. */
static bool fall_back(const struct bpe *b, struct bpe_work *w, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b->byte_id[(unsigned char)s[i]] < 0) return false;
    for (size_t i = 0; i < n; i++) symbol_add(w, b->byte_id[(unsigned char)s[i]]);
    return true;
}

static enum status no_token(uint32_t character)
{
    return fail(ERR_INPUT, "the tokenizer has no token for the character U+%04X and no unk_token in its vocabulary",
                (unsigned)character);
}

/* The characters of a word as symbols. Unknown ones wait, so that a run of them can become one. */
static enum status spell(const struct bpe *b, struct bpe_work *w, const char *word, size_t n)
{
    enum status st = OK;
    bool waiting = false, plain = !b->prefix.n && !b->suffix.n;
    for (size_t at = 0; at < n;) {
        size_t from = at, k;
        uint32_t c = utf8_next(word, &at);
        const char *s = word + from;
        int32_t id;
        k = at - from;
        if (!plain) {
            w->text.n = 0;
            if (from) TRY(text_add(&w->text, b->prefix.data, b->prefix.n));
            TRY(text_add(&w->text, s, k));
            if (at == n) TRY(text_add(&w->text, b->suffix.data, b->suffix.n));
            s = w->text.data, k = w->text.n;
        }
        id = plain && c < LOW ? b->low[c] : model_id(b, s, k);
        if (id < 0 && b->byte_fallback && fall_back(b, w, s, k)) continue;
        if (id < 0 && b->unknown < 0 && !b->leaves_out) return no_token(c);
        if (id < 0 && b->unknown < 0) continue; /* left out, as by the tokenizers package */
        if (waiting && (id >= 0 || !b->fuse_unknown)) symbol_add(w, b->unknown);
        waiting = id < 0;
        if (id >= 0) symbol_add(w, id);
    }
    if (waiting) symbol_add(w, b->unknown);
done:
    return st;
}

enum status bpe_word(const struct bpe *b, struct bpe_work *w, const char *word, size_t n, struct ids *out)
{
    enum status st = OK;
    size_t most = n * (1 + b->prefix.n) + b->suffix.n + 1;
    int32_t whole = b->ignore_merges ? model_id(b, word, n) : -1;
    if (whole >= 0) return ids_add(out, whole);
    if (most > INT32_MAX) return fail(ERR_INPUT, "a word of %zu bytes is too long to be tokenised", n);
    TRY(memory_grow((void **)&w->symbol, &w->symbol_room, most, sizeof *w->symbol));
    w->n = 0;
    TRY(spell(b, w, word, n));
    if (w->n > 1) TRY(merge(b, w));
    for (size_t i = 0; i < w->n; i++)
        if (w->symbol[i].id >= 0) TRY(ids_add(out, w->symbol[i].id));
done:
    return st;
}

/* --------------------------------------------------------------------------------------------------- reading ----- */
/* The two parts of a merge, "a b" or ["a", "b"]. */
static bool merge_parts(json_t *j, const char **left, size_t *n_left, const char **right, size_t *n_right)
{
    if (json_is_array(j)) {
        json_t *a = json_array_get(j, 0), *b = json_array_get(j, 1);
        if (json_array_size(j) != 2 || !json_is_string(a) || !json_is_string(b)) return false;
        *left = json_string_value(a), *n_left = json_string_length(a);
        *right = json_string_value(b), *n_right = json_string_length(b);
        return true;
    }
    if (!json_is_string(j)) return false;
    *left = json_string_value(j);
    if (!(*right = memchr(*left, ' ', json_string_length(j)))) return false;
    *n_left = (size_t)((*right)++ - *left);
    *n_right = json_string_length(j) - *n_left - 1;
    return !memchr(*right, ' ', *n_right);
}

static enum status merge_read(const char *where, json_t *j, size_t rank, struct bpe *b, struct text *both)
{
    enum status st;
    const char *left, *right;
    size_t n_left, n_right;
    int32_t l, r, id;
    struct pair *p;
    if (!merge_parts(j, &left, &n_left, &right, &n_right))
        return fail(ERR_INPUT, "%s: merge %zu is not \"a b\" or [\"a\", \"b\"]", where, rank + 1);
    l = model_id(b, left, n_left), r = model_id(b, right, n_right);
    if (l < 0 || r < 0)
        return fail(ERR_INPUT, "%s: merge %zu: \"%s\" is not in the vocabulary", where, rank + 1, l < 0 ? left : right);
    if (n_right < b->prefix.n)
        return fail(ERR_INPUT, "%s: merge %zu: a part is shorter than the prefix", where, rank + 1);
    both->n = 0;
    TRY(text_add(both, left, n_left));
    TRY(text_add(both, right + b->prefix.n, n_right - b->prefix.n));
    if ((id = model_id(b, both->data, both->n)) < 0)
        return fail(ERR_INPUT, "%s: merge %zu: the result \"%s\" is not in the vocabulary", where, rank + 1, both->data);
    p = pair_find(b, l, r);
    if (p->key != UINT64_MAX && !b->n_repeated++) b->repeated = rank;
    *p = (struct pair){(uint64_t)l << 32 | (uint32_t)r, (uint32_t)rank, id};
done:
    return st;
}

static enum status merges_read(const char *where, json_t *merges, struct bpe *b)
{
    enum status st = OK;
    struct text both = {0};
    json_t *j;
    size_t i, room = 4, rank = 0, n = json_array_size(merges);
    if (!json_is_array(merges)) return fail(ERR_INPUT, "%s: the model has no list \"merges\"", where);
    while (room < 2 * n) room *= 2;
    TRY_NEW(b->pair, room);
    memset(b->pair, 0xff, room * sizeof *b->pair);
    b->mask = room - 1;
    json_array_foreach(merges, i, j)
    {
        if (json_is_string(j) && !strncmp(json_string_value(j), "#version", 8)) continue;
        TRY(merge_read(where, j, rank++, b, &both));
    }
    if (b->n_repeated)
        log_warn("%s: %zu merge%s an earlier one, merge %zu is the first: the last counts", where, b->n_repeated,
                 b->n_repeated == 1 ? " repeats" : "s repeat", b->repeated + 1);
done:
    text_free(&both);
    return st;
}

static enum status options_read(const char *where, json_t *model, struct bpe *b)
{
    enum status st;
    const char *unknown = NULL, *prefix = NULL, *suffix = NULL;
    size_t n = 0;
    json_t *dropout = json_object_get(model, "dropout");
    if (json_is_number(dropout) ? json_number_value(dropout) != 0 : dropout && !json_is_null(dropout))
        return fail(ERR_INPUT, "%s: the model's \"dropout\" is not supported; set it to null", where);
    TRY(member_bool(where, model, "fuse_unk", &b->fuse_unknown));
    TRY(member_bool(where, model, "byte_fallback", &b->byte_fallback));
    TRY(member_bool(where, model, "ignore_merges", &b->ignore_merges));
    TRY(member_text(where, model, "continuing_subword_prefix", &prefix, &n));
    if (prefix) TRY(text_add(&b->prefix, prefix, n));
    TRY(member_text(where, model, "end_of_word_suffix", &suffix, &n));
    if (suffix) TRY(text_add(&b->suffix, suffix, n));
    TRY(member_text(where, model, "unk_token", &unknown, &n));
    b->unknown = unknown ? model_id(b, unknown, n) : -1;
    if (unknown && b->unknown < 0)
        log_warn("%s: the unk_token \"%s\" is not in the vocabulary: text that needs it is an error", where, unknown);
done:
    return st;
}

enum status bpe_read(const char *where, json_t *model, const struct vocabulary *v, struct bpe *b)
{
    enum status st;
    struct text character = {0};
    b->vocabulary = v;
    TRY(options_read(where, model, b));
    TRY_NEW(b->low, LOW);
    for (uint32_t c = 0; c < LOW; c++) {
        character.n = 0;
        TRY(utf8_add(&character, c));
        b->low[c] = model_id(b, character.data, character.n);
    }
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        b->byte_id[i] = model_id(b, name, 6);
    }
    TRY(merges_read(where, json_object_get(model, "merges"), b));
done:
    text_free(&character);
    return st;
}

void bpe_byte_level(const char *where, json_t *model, struct bpe *b)
{
    const json_t *unknown = json_object_get(model, "unk_token");
    size_t lacking = 0;
    if (unknown && !json_is_null(unknown)) return;
    b->leaves_out = true;
    for (int i = 0; i < 256; i++) lacking += b->low[byte_character((unsigned char)i)] < 0;
    if (lacking)
        log_warn("%s: has no token for %zu of the 256 bytes, and no unk_token: they are left out of a text, as by the "
                 "tokenizers package",
                 where, lacking);
}

void bpe_free(struct bpe *b)
{
    free(b->pair);
    free(b->low);
    text_free(&b->prefix);
    text_free(&b->suffix);
    *b = (struct bpe){0};
}
