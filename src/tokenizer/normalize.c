/* Normalisers of tokenizer.json: what is done to text before it is split. */
#include "unlearn/tokenizer_priv.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static enum status prepend_read(const char *where, json_t *json, struct chain *chain)
{
    enum status st;
    struct step s = {.run = step_prefix};
    const char *prepend = NULL;
    size_t n = 0;
    if ((st = member_text(where, json, "prepend", &prepend, &n)) != OK) return st;
    if (!prepend) return fail(ERR_INPUT, "%s: \"prepend\" is missing", where);
    if ((st = text_add(&s.content, prepend, n)) != OK) return st;
    return chain_add(chain, &s);
}

static void head_lose(struct pieces *p, size_t n) { p->head -= n < p->head ? n : p->head; }

static enum status strip_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    for (size_t i = 0; i < in->n; i++) {
        size_t n, from = 0, to = 0;
        const char *p = piece_at(in, i, &n);
        while (s->left && from < n) {
            size_t at = from;
            if (!utf8_is_space(utf8_next(p, &at))) break;
            from = at;
        }
        to = from;
        for (size_t at = from; at < n;)
            if (!utf8_is_space(utf8_next(p, &at)) || !s->right) to = at;
        if (!i) head_lose(out, utf8_count(p, from));
        TRY(text_add(&out->bytes, p + from, to - from));
        TRY(pieces_close(out));
    }
done:
    return st;
}

static enum status strip_read(const char *where, json_t *json, struct chain *chain)
{
    enum status st;
    struct step s = {.run = strip_run, .left = true, .right = true};
    TRY(member_bool(where, json, "strip_left", &s.left));
    TRY(member_bool(where, json, "strip_right", &s.right));
    TRY(chain_add(chain, &s));
done:
    return st;
}

static bool is_ascii(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] >= 0x80) return false;
    return true;
}

/* Characters whose decompositions the package, with older tables, does not know. None of them takes part in the order or
 * composition of its neighbours. */
static bool is_kept(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } kept[] = {{0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xab69, 0xab69},   {0x10781, 0x10785}, {0x10787, 0x107b0},
                {0x107b2, 0x107ba}, {0x11938, 0x11938}, {0x1e030, 0x1e06d}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9}};
    for (size_t i = 0; c >= kept[0].first && i < sizeof kept / sizeof *kept; i++)
        if (c >= kept[i].first && c <= kept[i].last) return true;
    return false;
}

static enum status form_add_text(int form, const char *p, size_t n, struct text *out)
{
    enum status st;
    utf8proc_uint8_t *mapped = NULL;
    utf8proc_ssize_t k;
    if (is_ascii(p, n)) return text_add(out, p, n);
    k = utf8proc_map((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, &mapped, (utf8proc_option_t)form);
    if (k < 0) return fail(ERR_INPUT, "the text cannot be normalised: %s", utf8proc_errmsg(k));
    st = text_add(out, (char *)mapped, (size_t)k);
    free(mapped);
    return st;
}

static enum status form_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    for (size_t i = 0; i < in->n; i++) {
        size_t n, at = 0, done = 0;
        const char *p = piece_at(in, i, &n);
        while (at < n) {
            size_t from = at;
            if (!is_kept(utf8_next(p, &at))) continue;
            TRY(form_add_text(s->form, p + done, from - done, &out->bytes));
            TRY(text_add(&out->bytes, p + from, at - from));
            done = at;
        }
        TRY(form_add_text(s->form, p + done, n - done, &out->bytes));
        TRY(pieces_close(out));
    }
done:
    return st;
}

static enum status form_add(struct chain *chain, int form)
{
    return chain_add(chain, &(struct step){.run = form_run, .form = form | UTF8PROC_STABLE});
}
static enum status nfc_read(const char *where, json_t *json, struct chain *chain)
{
    return form_add(chain, UTF8PROC_COMPOSE);
}
static enum status nfd_read(const char *where, json_t *json, struct chain *chain)
{
    return form_add(chain, UTF8PROC_DECOMPOSE);
}
static enum status nfkc_read(const char *where, json_t *json, struct chain *chain)
{
    return form_add(chain, UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
}
static enum status nfkd_read(const char *where, json_t *json, struct chain *chain)
{
    return form_add(chain, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
}

/* Each character alone, as the package does: a final sigma stays an ordinary one. U+0130 is the only one that becomes
 * two. */
static enum status lower_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    for (size_t i = 0; i < in->n; i++) {
        size_t n, at = 0;
        const char *p = piece_at(in, i, &n);
        while (at < n) {
            uint32_t c = utf8_next(p, &at);
            TRY(utf8_add(&out->bytes, c == 0x130 ? 'i' : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c)));
            if (c == 0x130) TRY(utf8_add(&out->bytes, 0x307));
        }
        TRY(pieces_close(out));
    }
done:
    return st;
}

static enum status lower_read(const char *where, json_t *json, struct chain *chain)
{
    return chain_add(chain, &(struct step){.run = lower_run});
}

static enum status accents_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st = OK;
    for (size_t i = 0; i < in->n; i++) {
        size_t n, at = 0;
        const char *p = piece_at(in, i, &n);
        while (at < n) {
            size_t from = at;
            utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)utf8_next(p, &at));
            if (c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME) {
                if (!i && !out->bytes.n) head_lose(out, 1);
                continue;
            }
            TRY(text_add(&out->bytes, p + from, at - from));
        }
        TRY(pieces_close(out));
    }
done:
    return st;
}

static enum status accents_read(const char *where, json_t *json, struct chain *chain)
{
    return chain_add(chain, &(struct step){.run = accents_run});
}

static enum status bytes_read(const char *where, json_t *json, struct chain *chain)
{
    return chain_add(chain, &(struct step){.run = step_bytes});
}

const struct kind kinds_of_normalizer[] = {
    {"Prepend", prepend_read},
    {"Replace", replace_read},
    {"Strip", strip_read},
    {"NFC", nfc_read},
    {"NFD", nfd_read},
    {"NFKC", nfkc_read},
    {"NFKD", nfkd_read},
    {"Lowercase", lower_read},
    {"ByteLevel", bytes_read},
    {"StripAccents", accents_read},
    {NULL, NULL},
};
