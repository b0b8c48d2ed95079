/* The tokens of a tokenizer.json: those of the model and those added to it, by id and by text. */
#include "unlearn/tokenizer_priv.h"
#include <stdlib.h>
#include <string.h>

static size_t total(json_t *vocab, json_t *added, size_t *bytes)
{
    const char *key;
    json_t *j;
    size_t i, n = json_object_size(vocab) + json_array_size(added);
    *bytes = 0;
    // cppcheck-suppress uninitvar ; jansson's macro sets it
    json_object_foreach(vocab, key, j) *bytes += strlen(key) + 1;
    json_array_foreach(added, i, j) *bytes += json_string_length(json_object_get(j, "content")) + 1;
    return n;
}

static enum status id_read(const char *where, const char *text, json_t *j, int32_t *id)
{
    json_int_t value = json_integer_value(j);
    if (!json_is_integer(j) || value < 0 || value >= INT32_MAX)
        return fail(ERR_INPUT, "%s: the id of token \"%s\" must be a whole number from 0 to 2147483646", where, text);
    *id = (int32_t)value;
    return OK;
}

static void token_add(struct vocabulary *v, size_t *used, const char *text, size_t n, struct token token)
{
    char *copy = v->text + *used;
    memcpy(copy, text, n);
    *used += n + 1;
    token.text = copy;
    token.n = (uint32_t)n;
    v->token[v->n++] = token;
}

/* ----------------------------------------------------------------------------------------------------- index ----- */
static struct token *find(const struct vocabulary *v, const char *text, size_t n, uint32_t *free_slot)
{
    uint32_t i = (uint32_t)hash_bytes(text, n, 0) & v->mask;
    for (; v->slot[i]; i = (i + 1) & v->mask) {
        struct token *t = &v->token[v->slot[i] - 1];
        if (t->n == n && !memcmp(t->text, text, n)) return t;
    }
    *free_slot = i;
    return NULL;
}

const struct token *vocabulary_find(const struct vocabulary *v, const char *text, size_t n)
{
    uint32_t slot;
    return find(v, text, n, &slot);
}

struct token *vocabulary_change(struct vocabulary *v, const char *text, size_t n)
{
    uint32_t slot;
    return find(v, text, n, &slot);
}

/* Enters the last token; its text must be new. */
static void index_last(struct vocabulary *v)
{
    uint32_t slot;
    const struct token *t = &v->token[v->n - 1];
    if (!find(v, t->text, t->n, &slot)) v->slot[slot] = (uint32_t)v->n;
}

static int by_id(const void *a, const void *b)
{
    int32_t x = ((const struct token *)a)->id, y = ((const struct token *)b)->id;
    return (x > y) - (x < y);
}

const struct token *vocabulary_token(const struct vocabulary *v, int32_t id)
{
    struct token key = {.id = id};
    if (id >= 0 && (size_t)id < v->n && v->token[id].id == id) return &v->token[id];
    return bsearch(&key, v->token, v->n, sizeof key, by_id);
}

/* Sorts by id, refuses an id that two tokens have, and indexes anew. */
static enum status order(const char *where, struct vocabulary *v)
{
    size_t n = v->n;
    qsort(v->token, n, sizeof *v->token, by_id);
    for (size_t i = 1; i < n; i++)
        if (v->token[i].id == v->token[i - 1].id)
            return fail(ERR_INPUT, "%s: the tokens \"%s\" and \"%s\" have the same id %d", where, v->token[i - 1].text,
                        v->token[i].text, (int)v->token[i].id);
    memset(v->slot, 0, (v->mask + 1) * sizeof *v->slot);
    for (v->n = 0; v->n < n;) {
        v->n++;
        index_last(v);
    }
    return OK;
}

/* --------------------------------------------------------------------------------------------------- reading ----- */
struct following { /* the ids that the `tokenizers` package gives to added tokens, one after the other */
    int32_t next;
    size_t n_gap; /* tokens whose file has a larger id; the first of them, and its two ids */
    const char *text;
    int32_t said, given;
};

/* The package does not read ids. A gap in them is closed as there; any other difference is a mistake in the file. */
static enum status check_id(const char *where, const char *text, const struct token *known, int32_t *id,
                            struct following *f)
{
    const int32_t given = known ? known->id : f->next;
    if (*id == given) return OK;
    if (known || *id < given)
        return fail(ERR_INPUT, "%s: the added token \"%s\" has id %d, but %d follows from the vocabulary", where, text,
                    (int)*id, (int)given);
    if (!f->n_gap++) f->text = text, f->said = *id, f->given = given;
    *id = given;
    return OK;
}

/* An added token that the model has too is the model's; of those that stand there twice the last counts, but what was
 * special once stays so: the package reads them one after the other. The first new one has the model's size for an id, and so
 * on from there. */
static enum status added_read(const char *where, size_t entry, json_t *j, size_t model_size, struct following *f,
                              struct vocabulary *v, size_t *used)
{
    enum status st;
    const char *text = NULL;
    size_t n = 0;
    bool special = false;
    int32_t id = -1;
    uint32_t slot;
    struct token *known;
    TRY(member_text(where, j, "content", &text, &n));
    if (!text) return fail(ERR_INPUT, "%s: an added token has no \"content\"", where);
    if (!n) return log_warn("%s: an added token with an empty \"content\" is left out", where), OK;
    TRY(id_read(where, text, json_object_get(j, "id"), &id));
    TRY(member_bool(where, j, "special", &special));
    known = find(v, text, n, &slot);
    TRY(check_id(where, text, known, &id, f));
    if (known && known->added) log_warn("%s: the token \"%s\" is added twice: its last entry counts", where, text);
    if (!known) {
        token_add(v, used, text, n, (struct token){.id = id});
        index_last(v);
        known = &v->token[v->n - 1];
    }
    known->special = special || known->special;
    known->added = true;
    known->entry = (uint32_t)entry;
    if ((size_t)id >= model_size && id >= f->next) f->next = id + 1;
done:
    return st;
}

static enum status model_tokens(const char *where, json_t *vocab, struct vocabulary *v, size_t *used)
{
    enum status st = OK;
    const char *key;
    json_t *j;
    json_object_foreach(vocab, key, j)
    {
        int32_t id = -1;
        TRY(id_read(where, key, j, &id));
        token_add(v, used, key, strlen(key), (struct token){.id = id, .model = true});
        index_last(v);
    }
done:
    return st;
}

static void warn_ids(const char *where, const struct following *f)
{
    if (!f->n_gap) return;
    log_warn("%s: there is a gap in the ids of its added tokens: \"%s\" has %d, but %d follows from the vocabulary; "
             "%zu token%s get the ids that follow, as by the tokenizers package",
             where, f->text, (int)f->said, (int)f->given, f->n_gap, f->n_gap == 1 ? "" : "s");
}

enum status vocabulary_read(const char *where, json_t *vocab, json_t *added, struct vocabulary *v)
{
    enum status st;
    size_t i, bytes, used = 0, n, slots = 16;
    struct following following = {.next = (int32_t)json_object_size(vocab)};
    json_t *j;
    if (!json_is_map(vocab) || !json_object_size(vocab))
        return fail(ERR_INPUT, "%s: the model has no object \"vocab\"", where);
    if (added && !json_is_array(added) && !json_is_null(added))
        return fail(ERR_INPUT, "%s: \"added_tokens\" is not a list", where);
    n = total(vocab, added, &bytes);
    if (n > INT32_MAX / 4) return fail(ERR_INPUT, "%s: has %zu tokens, which is too many", where, n);
    while (slots < 2 * n) slots *= 2;
    TRY_NEW(v->token, n);
    TRY_NEW(v->text, bytes);
    TRY_NEW(v->slot, slots);
    v->mask = (uint32_t)slots - 1;
    TRY(model_tokens(where, vocab, v, &used));
    json_array_foreach(added, i, j) TRY(added_read(where, i, j, json_object_size(vocab), &following, v, &used));
    warn_ids(where, &following);
    TRY(order(where, v));
done:
    return st;
}

void vocabulary_free(struct vocabulary *v)
{
    free(v->token);
    free(v->text);
    free(v->slot);
    *v = (struct vocabulary){0};
}
