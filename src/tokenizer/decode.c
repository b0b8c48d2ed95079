/* Token ids back to text: the tokens' texts through the decoders of tokenizer.json, then joined. */
#include "unlearn/tokenizer_priv.h"
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------- the decoders ----- */
/* Characters of the alphabet of bytes back to bytes, all tokens as one; a token with any other character is taken as
 * it is. */
static enum status bytes_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    struct text raw = {0};
    for (size_t i = 0; i < in->n; i++) {
        size_t n, at = 0, before = raw.n;
        const char *p = piece_at(in, i, &n);
        while (at < n) {
            int byte = character_byte(utf8_next(p, &at));
            if (byte < 0) {
                raw.n = before;
                TRY(text_add(&raw, p, n));
                break;
            }
            TRY(text_add(&raw, &(char){(char)byte}, 1));
        }
    }
    TRY(utf8_repair(&out->bytes, raw.data, raw.n));
    TRY(pieces_close(out));
done:
    text_free(&raw);
    return st;
}

static enum status bytes_read(const char *where, json_t *json, struct chain *chain)
{
    return chain_add(chain, &(struct step){.run = bytes_run});
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The byte that a token like <0x0A> stands for, or -1. */
static int fallback_byte(const char *p, size_t n)
{
    int high, low;
    if (n != 6 || memcmp(p, "<0x", 3) || p[5] != '>') return -1;
    high = hex_digit(p[3]), low = hex_digit(p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A run of byte tokens is the text that the bytes spell, or a replacement character for each of them. */
static enum status fallback_flush(struct text *run, struct pieces *out)
{
    enum status st = OK;
    if (!run->n) return OK;
    if (utf8_valid(run->data, run->n) == run->n) {
        TRY(text_add(&out->bytes, run->data, run->n));
        TRY(pieces_close(out));
    } else {
        for (size_t i = 0; i < run->n; i++) {
            TRY(utf8_add(&out->bytes, 0xfffd));
            TRY(pieces_close(out));
        }
    }
    run->n = 0;
done:
    return st;
}

static enum status fallback_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    struct text run = {0};
    for (size_t i = 0; i < in->n; i++) {
        size_t n;
        const char *p = piece_at(in, i, &n);
        int byte = fallback_byte(p, n);
        if (byte >= 0) {
            TRY(text_add(&run, &(char){(char)byte}, 1));
            continue;
        }
        TRY(fallback_flush(&run, out));
        TRY(text_add(&out->bytes, p, n));
        TRY(pieces_close(out));
    }
    TRY(fallback_flush(&run, out));
done:
    text_free(&run);
    return st;
}

static enum status fallback_read(const char *where, json_t *json, struct chain *chain)
{
    return chain_add(chain, &(struct step){.run = fallback_run});
}

static enum status fuse_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st;
    TRY(text_add(&out->bytes, in->bytes.data, in->bytes.n));
    TRY(pieces_close(out));
done:
    return st;
}

static enum status fuse_read(const char *where, json_t *json, struct chain *chain)
{
    return chain_add(chain, &(struct step){.run = fuse_run});
}

static enum status strip_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    size_t k = s->content.n;
    for (size_t i = 0; i < in->n; i++) {
        size_t n;
        const char *p = piece_at(in, i, &n);
        for (size_t cut = 0; cut < s->start && n >= k && !memcmp(p, s->content.data, k); cut++) p += k, n -= k;
        for (size_t cut = 0; cut < s->stop && n >= k && !memcmp(p + n - k, s->content.data, k); cut++) n -= k;
        TRY(text_add(&out->bytes, p, n));
        TRY(pieces_close(out));
    }
done:
    return st;
}

static enum status strip_read(const char *where, json_t *json, struct chain *chain)
{
    enum status st;
    struct step s = {.run = strip_run};
    const char *content = NULL;
    size_t n = 0, at = 0;
    if ((st = member_text(where, json, "content", &content, &n)) != OK) return st;
    if (content && n) utf8_next(content, &at);
    if (!at || at != n) return fail(ERR_INPUT, "%s: \"content\" must be one character", where);
    if ((st = member_size(where, json, "start", &s.start)) != OK) return st;
    if ((st = member_size(where, json, "stop", &s.stop)) != OK) return st;
    if ((st = text_add(&s.content, content, n)) != OK) return st;
    return chain_add(chain, &s);
}

/* The mark of a space is a space; in the first token it is nothing where encoding has put it there. */
static enum status metaspace_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    for (size_t i = 0; i < in->n; i++) {
        size_t n, at = 0;
        const char *p = piece_at(in, i, &n);
        while (at < n) {
            size_t from = at;
            if (utf8_next(p, &at) != s->character)
                TRY(text_add(&out->bytes, p + from, at - from));
            else if (i || !s->head_only)
                TRY(text_add(&out->bytes, " ", 1));
        }
        TRY(pieces_close(out));
    }
done:
    return st;
}

static enum status metaspace_read(const char *where, json_t *json, struct chain *chain)
{
    enum status st;
    struct step s = {.run = metaspace_run};
    const char *text = "\xe2\x96\x81", *scheme = NULL;
    size_t n = 3, at = 0, ignored;
    bool old = true;
    if ((st = member_text(where, json, "replacement", &text, &n)) != OK) return st;
    if (n) s.character = utf8_next(text, &at);
    if (!at || at != n) return fail(ERR_INPUT, "%s: \"replacement\" must be one character", where);
    if ((st = member_bool(where, json, "add_prefix_space", &old)) != OK) return st;
    if ((st = member_text(where, json, "prepend_scheme", &scheme, &ignored)) != OK) return st;
    s.head_only = scheme ? strcmp(scheme, "never") != 0 : old;
    return chain_add(chain, &s);
}

/* The mark at the end of a word is a space, and nothing at the end of the text. */
static enum status suffix_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    return replace_in(s, in->n ? in->n - 1 : 0, in, out);
}

static enum status suffix_read(const char *where, json_t *json, struct chain *chain)
{
    enum status st;
    struct step s = {.run = suffix_run};
    const char *text = "</w>";
    size_t n = 4;
    if ((st = member_text(where, json, "suffix", &text, &n)) != OK) return st;
    if ((st = pattern_new(where, text, n, true, &s.pattern)) != OK) return st;
    if ((st = text_add(&s.content, " ", 1)) != OK) {
        pattern_free(s.pattern);
        return st;
    }
    return chain_add(chain, &s);
}

const struct kind kinds_of_decoder[] = {
    {"ByteLevel", bytes_read}, {"ByteFallback", fallback_read}, {"Fuse", fuse_read},         {"Strip", strip_read},
    {"Replace", replace_read}, {"Metaspace", metaspace_read},   {"BPEDecoder", suffix_read}, {NULL, NULL},
};

/* ---------------------------------------------------------------------------------------------------- decode ----- */
static enum status decode_pieces(const struct tokenizer *t, struct pieces *a, struct pieces *b, struct text *out)
{
    enum status st;
    TRY(chain_run(t->where, &t->decoder, a, b));
    for (size_t i = 0; i < a->n; i++) {
        size_t n;
        const char *p = piece_at(a, i, &n);
        if (t->joined && i) TRY(text_add(out, " ", 1));
        TRY(text_add(out, p, n));
    }
done:
    return st;
}

/* What is left out is told by the text, as in the package: a special token that normalisation changes stays. */
static const char *shown_text(const struct tokenizer *t, const struct token *token, size_t *n, bool *special)
{
    const char *text = token->text;
    const struct token *same = token;
    *n = token->n;
    if (token->shown) {
        text = piece_at(&t->shown, token->shown - 1, n);
        same = vocabulary_find(&t->vocabulary, text, *n);
    }
    *special = same && same->special;
    return text;
}

enum status tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, bool skip_special, struct text *out)
{
    enum status st = OK;
    struct pieces a = {0}, b = {0};
    for (size_t i = 0; i < n; i++) {
        const struct token *token = vocabulary_token(&t->vocabulary, id[i]);
        const char *text;
        size_t length;
        bool special;
        if (!token) {
            st = fail(ERR_INPUT, "%s: has no token %d", t->where, (int)id[i]);
            goto done;
        }
        text = shown_text(t, token, &length, &special);
        if (skip_special && special) continue;
        TRY(text_add(&a.bytes, text, length));
        TRY(pieces_close(&a));
    }
    TRY(decode_pieces(t, &a, &b, out));
done:
    pieces_free(&a);
    pieces_free(&b);
    return st;
}
