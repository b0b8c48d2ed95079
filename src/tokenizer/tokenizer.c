/* tokenizer.json as Hugging Face's `tokenizers` reads it: added tokens are taken out of the text, what lies between is
 * normalised and split into words, each word is encoded by byte pairs, and the post-processor adds tokens at both ends.
 * Truncation and padding that a file may ask for are not part of this: the length of a row is data.max_length. */
#include "unlearn/tokenizer_priv.h"
#include <stdlib.h>
#include <string.h>

enum { LARGEST_FILE = 1 << 30 };

/* ---------------------------------------------------------------------------------------------- added tokens ----- */
/* The text of a token, normalised like the text that it is looked for in, is what it decodes to. */
static enum status show(struct tokenizer *t, struct token *token, const char *text, size_t n)
{
    enum status st = OK;
    if (n == token->n && !memcmp(text, token->text, n)) return OK;
    TRY(text_add(&t->shown.bytes, text, n));
    TRY(pieces_close(&t->shown));
    token->shown = (uint32_t)t->shown.n;
done:
    return st;
}

static enum status matcher_add(struct tokenizer *t, struct token *token, const struct added_token *a, bool last)
{
    enum status st = OK;
    struct pieces text = {0}, other = {0};
    if (!a->normalized) return last ? added_new(t->where, &t->raw, token->text, token->n, a) : OK;
    TRY(text_add(&text.bytes, token->text, token->n));
    TRY(pieces_close(&text));
    TRY(chain_run(t->where, &t->normalizer, &text, &other));
    TRY(show(t, token, text.bytes.data, text.bytes.n));
    if (!text.bytes.n)
        log_warn("%s: nothing is left of the added token \"%s\" after normalisation: it is not looked for", t->where,
                 token->text);
    else if (last)
        TRY(added_new(t->where, &t->normal, text.bytes.data, text.bytes.n, a));
done:
    pieces_free(&text);
    pieces_free(&other);
    return st;
}

/* Special tokens first: of tokens that are written alike the first counts. */
static enum status matchers_read(const char *where, json_t *added, struct tokenizer *t)
{
    enum status st = OK;
    json_t *j;
    size_t i;
    for (int special = 1; special >= 0; special--) json_array_foreach(added, i, j)
        {
            json_t *content = json_object_get(j, "content");
            const char *text = json_string_value(content);
            size_t n = json_string_length(content);
            struct token *token = n ? vocabulary_change(&t->vocabulary, text, n) : NULL;
            struct added_token a = {.normalized = !json_is_true(json_object_get(j, "special"))};
            if (!token || token->special != special) continue;
            a.id = token->id;
            TRY(member_bool(where, j, "normalized", &a.normalized));
            TRY(member_bool(where, j, "single_word", &a.single_word));
            TRY(member_bool(where, j, "lstrip", &a.left));
            TRY(member_bool(where, j, "rstrip", &a.right));
            TRY(matcher_add(t, token, &a, token->entry == i));
        }
done:
    return st;
}

/* --------------------------------------------------------------------------------------------------- reading ----- */
static bool spells_bytes(const struct chain *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->step[i].run == step_bytes) return true;
    return false;
}

static enum status read_all(json_t *json, struct tokenizer *t)
{
    enum status st;
    const char *where = t->where, *type = "BPE";
    json_t *model = json_object_get(json, "model"), *added = json_object_get(json, "added_tokens");
    json_t *decoder = json_object_get(json, "decoder");
    size_t n;
    if (!json_is_map(model)) return fail(ERR_INPUT, "%s: is no tokenizer: it has no object \"model\"", where);
    TRY(member_text(where, model, "type", &type, &n));
    if (strcmp(type, "BPE")) return fail(ERR_INPUT, "%s: the model \"%s\" is not supported; BPE is", where, type);
    TRY(vocabulary_read(where, json_object_get(model, "vocab"), added, &t->vocabulary));
    TRY(bpe_read(where, model, &t->vocabulary, &t->bpe));
    TRY(chain_read(where, "normalizer", "normalizers", kinds_of_normalizer, json_object_get(json, "normalizer"),
                   &t->normalizer));
    TRY(chain_read(where, "pre_tokenizer", "pretokenizers", kinds_of_splitter, json_object_get(json, "pre_tokenizer"),
                   &t->splitter));
    TRY(chain_read(where, "decoder", "decoders", kinds_of_decoder, decoder, &t->decoder));
    if (spells_bytes(&t->normalizer) || spells_bytes(&t->splitter)) bpe_byte_level(where, model, &t->bpe);
    t->joined = !decoder || json_is_null(decoder);
    TRY(matchers_read(where, added, t));
    TRY(template_read(where, json_object_get(json, "post_processor"), t));
done:
    return st;
}

enum status tokenizer_parse(const char *where, const char *json, size_t n, struct tokenizer **out)
{
    enum status st;
    json_t *j = NULL;
    struct tokenizer *t = *out = NULL;
    TRY(json_parse(where, 0, json, n, &j));
    TRY_NEW(t, 1);
    if (!(t->where = text_copy(where))) TRY(fail(ERR_MEMORY, "memory: cannot copy a name"));
    TRY(read_all(j, t));
    *out = t, t = NULL;
done:
    json_decref(j);
    tokenizer_free(t);
    return st;
}

enum status tokenizer_open(const char *dir, struct tokenizer **out)
{
    enum status st;
    char *path = NULL, *text = NULL;
    size_t n;
    *out = NULL;
    TRY(path_join(dir, "tokenizer.json", &path));
    TRY(file_read(path, LARGEST_FILE, &text, &n));
    TRY(tokenizer_parse(path, text, n, out));
done:
    free(path);
    free(text);
    return st;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t) return;
    free(t->where);
    vocabulary_free(&t->vocabulary);
    bpe_free(&t->bpe);
    added_free(&t->raw);
    added_free(&t->normal);
    chain_free(&t->normalizer);
    chain_free(&t->splitter);
    chain_free(&t->decoder);
    pieces_free(&t->shown);
    ids_free(&t->before);
    ids_free(&t->after);
    free(t);
}

size_t tokenizer_vocabulary(const struct tokenizer *t) { return (size_t)t->vocabulary.token[t->vocabulary.n - 1].id + 1; }

size_t tokenizer_without_added(const struct tokenizer *t)
{
    size_t n = t->vocabulary.n;
    while (n && t->vocabulary.token[n - 1].added) n--;
    return n ? (size_t)t->vocabulary.token[n - 1].id + 1 : 0;
}

bool tokenizer_token(const struct tokenizer *t, const char *text, size_t n, int32_t *id)
{
    const struct token *token = vocabulary_find(&t->vocabulary, text, n);
    if (token) *id = token->id;
    return token;
}

const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *n)
{
    const struct token *token = vocabulary_token(&t->vocabulary, id);
    if (!token) return NULL;
    *n = token->n;
    return token->text;
}

const struct ids *tokenizer_before(const struct tokenizer *t) { return &t->before; }

const struct ids *tokenizer_after(const struct tokenizer *t) { return &t->after; }

/* ---------------------------------------------------------------------------------------------------- encode ----- */
struct encoder { /* buffers of one call */
    const struct tokenizer *t;
    struct pieces a, b, c;
    struct bpe_work *work;
    struct ids *out;
};

/* Normalised text without added tokens. */
static enum status encode_plain(struct encoder *e, const char *s, size_t n, bool head)
{
    enum status st = OK;
    if (!n) return OK;
    pieces_clear(&e->a);
    TRY(text_add(&e->a.bytes, s, n));
    TRY(pieces_close(&e->a));
    e->a.head = head;
    TRY(chain_run(e->t->where, &e->t->splitter, &e->a, &e->b));
    for (size_t i = 0; i < e->a.n; i++) {
        size_t length;
        const char *word = piece_at(&e->a, i, &length);
        if (length) TRY(bpe_word(&e->t->bpe, e->work, word, length, e->out));
    }
done:
    return st;
}

/* Text as it is, without the added tokens that are matched in it as it is. */
static enum status encode_between(struct encoder *e, const char *s, size_t n, bool head)
{
    enum status st = OK;
    struct added_cursor cursor = {0};
    size_t start, stop;
    int32_t id;
    if (!n) return OK;
    pieces_clear(&e->c);
    TRY(text_add(&e->c.bytes, s, n));
    TRY(pieces_close(&e->c));
    e->c.head = head;
    TRY(chain_run(e->t->where, &e->t->normalizer, &e->c, &e->b));
    s = e->c.bytes.data, n = e->c.bytes.n, head = e->c.head;
    while (added_next(&e->t->normal, s, n, &cursor, &start, &stop, &id)) {
        if (cursor.done < start) TRY(encode_plain(e, s + cursor.done, start - cursor.done, head && !cursor.done));
        TRY(ids_add(e->out, id));
        cursor.done = stop;
    }
    if (cursor.done < n) TRY(encode_plain(e, s + cursor.done, n - cursor.done, head && !cursor.done));
done:
    return st;
}

static enum status encode_text(struct encoder *e, const char *s, size_t n)
{
    enum status st = OK;
    struct added_cursor cursor = {0};
    size_t start, stop;
    int32_t id;
    while (added_next(&e->t->raw, s, n, &cursor, &start, &stop, &id)) {
        if (cursor.done < start) TRY(encode_between(e, s + cursor.done, start - cursor.done, !cursor.done));
        TRY(ids_add(e->out, id));
        cursor.done = stop;
    }
    if (cursor.done < n) TRY(encode_between(e, s + cursor.done, n - cursor.done, !cursor.done));
done:
    return st;
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool special, struct ids *out)
{
    enum status st;
    struct encoder e = {.t = t, .out = out};
    size_t valid = utf8_valid(text, n);
    if (valid < n) return fail(ERR_INPUT, "the text is not valid UTF-8 at byte %zu", valid);
    TRY(bpe_work_new(&e.work));
    for (size_t i = 0; special && i < t->before.n; i++) TRY(ids_add(out, t->before.data[i]));
    TRY(encode_text(&e, text, n));
    for (size_t i = 0; special && i < t->after.n; i++) TRY(ids_add(out, t->after.data[i]));
done:
    pieces_free(&e.a);
    pieces_free(&e.b);
    pieces_free(&e.c);
    bpe_work_free(e.work);
    return st;
}
