/* The components of a tokenizer.json as chains of steps, each of which takes pieces of text to pieces of text. */
#include "unlearn/tokenizer_priv.h"
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 16 };                  /* Sequences inside each other */
enum { GROWTH = 64, SPARE = 64 << 10 }; /* a text of n bytes may become GROWTH n + SPARE: NFKD's longest is 11 n */

static enum status wrong(const char *where, const char *key, const json_t *j, const char *needed)
{
    const char *odd = json_odd(j);
    return fail(ERR_INPUT, "%s: \"%s\" must be %s%s%.40s", where, key, needed, odd ? ", not " : "", odd ? odd : "");
}

enum status member_bool(const char *where, json_t *json, const char *key, bool *out)
{
    json_t *j = json_object_get(json, key);
    if (!j || json_is_null(j)) return OK;
    if (!json_is_boolean(j)) return wrong(where, key, j, "true or false");
    *out = json_is_true(j);
    return OK;
}

enum status member_text(const char *where, json_t *json, const char *key, const char **out, size_t *n)
{
    json_t *j = json_object_get(json, key);
    if (!j || json_is_null(j)) return OK;
    if (!json_is_string(j)) return wrong(where, key, j, "text");
    *out = json_string_value(j);
    *n = json_string_length(j);
    return OK;
}

enum status member_size(const char *where, json_t *json, const char *key, size_t *out)
{
    json_t *j = json_object_get(json, key);
    if (!j) return OK;
    if (!json_is_integer(j) || json_integer_value(j) < 0) return wrong(where, key, j, "a whole number from 0");
    *out = (size_t)json_integer_value(j);
    return OK;
}

enum status member_pattern(const char *where, json_t *json, const char *key, struct pattern **out)
{
    json_t *j = json_object_get(json, key), *text = j;
    bool literal = true;
    if (json_is_object(j) && !(text = json_object_get(j, "String"))) {
        text = json_object_get(j, "Regex");
        literal = false;
    }
    if (!json_is_string(text)) return wrong(where, key, j, "{\"String\": ...} or {\"Regex\": ...}");
    return pattern_new(where, json_string_value(text), json_string_length(text), literal, out);
}

static enum status read_at(const char *where, const char *part, const char *list, const struct kind *kinds, json_t *json,
                           int depth, struct chain *chain)
{
    enum status st = OK;
    struct text name = {0};
    json_t *each;
    size_t i;
    const char *type = json_string_value(json_object_get(json, "type"));
    if (json_is_null(json) || !json) return OK;
    if (json_odd(json)) return wrong(where, part, json, "an object or null");
    if (!type) return fail(ERR_INPUT, "%s: the %s has no \"type\"", where, part);
    if (!strcmp(type, "Sequence")) {
        json_t *all = json_object_get(json, list);
        if (!json_is_array(all)) return fail(ERR_INPUT, "%s: the %s Sequence has no list \"%s\"", where, part, list);
        if (depth == DEEPEST) return fail(ERR_INPUT, "%s: more than %d Sequences inside each other", where, DEEPEST);
        json_array_foreach(all, i, each) TRY(read_at(where, part, list, kinds, each, depth + 1, chain));
        return OK;
    }
    for (; kinds->name && strcmp(kinds->name, type); kinds++) continue;
    if (!kinds->name) return fail(ERR_INPUT, "%s: the %s \"%s\" is not supported", where, part, type);
    TRY(text_print(&name, "%s: %s %s", where, part, type));
    TRY(kinds->read(name.data, json, chain));
done:
    text_free(&name);
    return st;
}

enum status chain_read(const char *where, const char *part, const char *list, const struct kind *kinds, json_t *json,
                       struct chain *chain)
{
    return read_at(where, part, list, kinds, json, 0, chain);
}

static void step_free(struct step *s)
{
    pattern_free(s->pattern);
    text_free(&s->content);
}

enum status chain_add(struct chain *chain, const struct step *step)
{
    enum status st = memory_grow((void **)&chain->step, &chain->room, chain->n + 1, sizeof *chain->step);
    struct step own = *step;
    if (st == OK)
        chain->step[chain->n++] = own;
    else
        step_free(&own);
    return st;
}

enum status chain_run(const char *where, const struct chain *chain, struct pieces *a, struct pieces *b)
{
    enum status st = OK;
    const size_t n = a->bytes.n;
    a->most = b->most = GROWTH * n + SPARE;
    for (size_t i = 0; i < chain->n; i++) {
        struct pieces swap;
        pieces_clear(b);
        b->head = a->head;
        TRY(chain->step[i].run(&chain->step[i], a, b));
        if (b->bytes.n > b->most) {
            st = fail(ERR_INPUT, "%s: makes more than %zu bytes of a text of %zu", where, b->most, n);
            goto done;
        }
        swap = *a, *a = *b, *b = swap;
    }
done:
    return st;
}

void chain_free(struct chain *chain)
{
    for (size_t i = 0; i < chain->n; i++) step_free(&chain->step[i]);
    free(chain->step);
    *chain = (struct chain){0};
}

/* ------------------------------------------------------------------------- steps of more than one component ----- */
/* What takes the place of n characters at the start stems from the last of them, as in the package. */
static size_t head_replaced(size_t head, size_t n, size_t n_new)
{
    if (!head || n > head) return 0;
    return head - n + n_new;
}

enum status replace_in(const struct step *s, size_t n_filled, const struct pieces *in, struct pieces *out)
{
    enum status st;
    struct finder f;
    TRY(finder_open(&f, s->pattern));
    for (size_t i = 0; i < in->n && out->bytes.n <= out->most; i++) {
        size_t n, start, stop, done = 0;
        const char *p = piece_at(in, i, &n);
        bool found;
        finder_text(&f, p, n);
        for (;;) {
            TRY(finder_next(&f, &found, &start, &stop));
            if (!found || out->bytes.n > out->most) break;
            if (!i && !start)
                out->head = head_replaced(in->head, utf8_count(p, stop), utf8_count(s->content.data, s->content.n));
            TRY(text_add(&out->bytes, p + done, start - done));
            if (i < n_filled) TRY(text_add(&out->bytes, s->content.data, s->content.n));
            done = stop;
        }
        TRY(text_add(&out->bytes, p + done, n - done));
        TRY(pieces_close(out));
    }
done:
    finder_close(&f);
    return st;
}

enum status step_replace(const struct step *s, const struct pieces *in, struct pieces *out)
{
    return replace_in(s, in->n, in, out);
}

enum status replace_read(const char *where, json_t *json, struct chain *chain)
{
    enum status st;
    struct step s = {.run = step_replace};
    const char *content = NULL;
    size_t n = 0;
    TRY(member_text(where, json, "content", &content, &n));
    if (!content) return fail(ERR_INPUT, "%s: \"content\" is missing", where);
    TRY(text_add(&s.content, content, n));
    TRY(member_pattern(where, json, "pattern", &s.pattern));
    return chain_add(chain, &s);
done:
    step_free(&s);
    return st;
}

enum status step_prefix(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    for (size_t i = 0; i < in->n && out->bytes.n <= out->most; i++) {
        size_t n, k = s->content.n;
        const char *p = piece_at(in, i, &n);
        bool there = s->unless_there && n >= k && !memcmp(p, s->content.data, k);
        if (n && !there && (!s->head_only || (in->head && !i))) {
            TRY(text_add(&out->bytes, s->content.data, k));
            if (!i) out->head = head_replaced(in->head, 0, utf8_count(s->content.data, k));
        }
        TRY(text_add(&out->bytes, p, n));
        TRY(pieces_close(out));
    }
done:
    return st;
}

/* Bytes that are printable characters of Latin-1 stand for themselves; the others, 0 ... 32, 127 ... 160 and 173, follow
 * from U+0100 on. */
static bool byte_is_printable(uint32_t b) { return (b > 32 && b < 127) || (b > 160 && b < 256 && b != 173); }

uint32_t byte_character(unsigned char byte)
{
    if (byte_is_printable(byte)) return byte;
    return 256u + (byte <= 32 ? byte : byte <= 160 ? byte - 127u + 33u : 67u);
}

int character_byte(uint32_t character)
{
    uint32_t k = character - 256;
    if (character < 256) return byte_is_printable(character) ? (int)character : -1;
    return k < 33 ? (int)k : k < 67 ? (int)(k - 33 + 127) : k == 67 ? 173 : -1;
}

enum status step_bytes(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    for (size_t i = 0; i < in->n; i++) {
        size_t n;
        const char *p = piece_at(in, i, &n);
        for (size_t k = 0; k < n; k++) {
            unsigned char byte = (unsigned char)p[k];
            if (byte > ' ' && byte < 0x7f)
                TRY(text_add(&out->bytes, p + k, 1));
            else
                TRY(utf8_add(&out->bytes, byte_character(byte)));
        }
        TRY(pieces_close(out));
    }
done:
    return st;
}
