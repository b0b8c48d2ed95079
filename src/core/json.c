/* Strict JSON, and what other programs write and read beside it: NaN, Infinity, -Infinity, whole numbers beyond 64 bits, reals
 * beyond the largest double, and texts with half of a surrogate pair, which no UTF-8 can hold. Under a key that nobody uses they
 * do no harm, so they are kept; but as no type that any reader takes: an object whose only key cannot stand in an honest file,
 * and whose value is how it was written. */
#include "unlearn/core.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MARK "\\u0001"
static const char mark[] = "\001",
                  word_characters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-.";
static const size_t FLAGS = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;

/* jansson 2.14 leaves characters out of a text for which it gets no memory, and says nothing: so it is asked afterwards. */
static bool lacked_memory;

static void *allocate(size_t n)
{
    void *p = malloc(n);
    lacked_memory |= !p && n > 0;
    return p;
}

static json_t *load(const char *text, size_t n, json_error_t *e)
{
    json_t *json;
    json_set_alloc_funcs(allocate, free);
    json = json_loadb(text, n, FLAGS, e);
    if (!lacked_memory) return json;
    json_decref(json);
    return NULL;
}

const char *json_odd(const json_t *j)
{
    return json_object_size(j) == 1 ? json_string_value(json_object_get(j, mark)) : NULL;
}

bool json_is_map(const json_t *j) { return json_is_object(j) && !json_odd(j); }

/* ---------------------------------------------------------------------------------------------- out of JSON ------ */
static size_t string_length(const char *s, size_t n)
{
    size_t i = 1;
    for (; i < n && s[i] != '"' && s[i] != '\n'; i++)
        if (s[i] == '\\' && i + 1 < n) i++;
    return i < n ? i + 1 : n;
}

static size_t word_length(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && s[i] && strchr(word_characters, s[i])) i++;
    return i;
}

/* A number by JSON's grammar; *whole: without fraction and exponent. */
static bool is_number(const char *s, bool *whole)
{
    s += *s == '-';
    if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9')) return false;
    s += strspn(s, "0123456789");
    *whole = !*s;
    if (*s == '.') {
        if (!strspn(s + 1, "0123456789")) return false;
        s += 1 + strspn(s + 1, "0123456789");
    }
    if (*s == 'e' || *s == 'E') {
        s += s[1] == '+' || s[1] == '-' ? 2 : 1;
        if (!strspn(s, "0123456789")) return false;
        s += strspn(s, "0123456789");
    }
    return !*s;
}

/* The parser takes 64 bits and finite doubles, nothing else. */
static bool is_odd(const char *word)
{
    bool whole = false;
    if (!strcmp(word, "NaN") || !strcmp(word, "Infinity") || !strcmp(word, "-Infinity")) return true;
    if (!is_number(word, &whole)) return false;
    errno = 0;
    if (whole) return strtoll(word, NULL, 10), errno == ERANGE;
    return isinf(strtod(word, NULL));
}

/* The code unit of the escape \uXXXX at s; 0 where there is none (n bytes are left). */
static unsigned unit_at(const char *s, size_t n)
{
    char digits[5] = "";
    if (n < 6 || s[0] != '\\' || s[1] != 'u') return 0;
    memcpy(digits, s + 2, 4);
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? (unsigned)strtoul(digits, NULL, 16) : 0;
}

static bool is_high(unsigned unit) { return unit >= 0xd800 && unit < 0xdc00; }
static bool is_low(unsigned unit) { return unit >= 0xdc00 && unit < 0xe000; }

/* The length of what stands at s within a string: a pair of surrogates, an escape, or one byte; *half: of a pair. */
static size_t element_length(const char *s, size_t n, bool *half)
{
    const unsigned unit = unit_at(s, n), next = unit ? unit_at(s + 6, n - 6) : 0;
    *half = false;
    if (is_high(unit) && is_low(next)) return 12;
    *half = is_high(unit) || is_low(unit);
    return unit ? 6 : *s == '\\' && n > 1 ? 2 : 1;
}

static bool has_half(const char *s, size_t n)
{
    bool half = false;
    for (size_t i = 0; i < n && !half;) i += element_length(s + i, n - i, &half);
    return half;
}

/* A string [n] with half of a pair, marked. A key cannot be an object: there the character for what is unknown stands in. */
static enum status add_half(const char *s, size_t n, bool key, struct text *out)
{
    enum status st = OK;
    bool half;
    if (!key) TRY(text_print(out, "{\"" MARK "\":\""));
    for (size_t i = 0, length; i < n; i += length) {
        length = element_length(s + i, n - i, &half);
        if (key)
            TRY(text_add(out, half ? "\\ufffd" : s + i, half ? 6 : length));
        else
            for (size_t k = i; k < i + length; k++) TRY(text_print(out, strchr("\"\\", s[k]) ? "\\%c" : "%c", s[k]));
    }
    if (!key) TRY(text_print(out, "\"}"));
done:
    return st;
}

static bool is_key(const char *behind, size_t n)
{
    size_t i = 0;
    while (i < n && strchr(" \t\r\n", behind[i])) i++;
    return i < n && behind[i] == ':';
}

/* in [n] with everything odd marked, until at least `stop` bytes are written; *at: how far it was read. */
static enum status mark_odd(const char *in, size_t n, size_t stop, struct text *out, size_t *at)
{
    enum status st = OK;
    struct text word = {0};
    size_t length, i = 0;
    for (; i < n && out->n < stop; i += length) {
        if (in[i] == '"') {
            length = string_length(in + i, n - i);
            if (has_half(in + i, length)) {
                TRY(add_half(in + i, length, is_key(in + i + length, n - i - length), out));
                continue;
            }
        } else if ((length = word_length(in + i, n - i))) {
            word.n = 0;
            TRY(text_add(&word, in + i, length));
            if (is_odd(word.data)) {
                TRY(text_print(out, "{\"" MARK "\":\"%s\"}", word.data));
                continue;
            }
        } else {
            length = 1;
        }
        TRY(text_add(out, in + i, length));
    }
    *at = i;
done:
    text_free(&word);
    return st;
}

/* ------------------------------------------------------------------------------------------------- reading ------- */
static enum status refuse(const char *where, size_t line, const json_error_t *e, int column)
{
    if (lacked_memory) return fail(ERR_MEMORY, "%s: no memory to read it", where);
    return fail(ERR_INPUT, "%s:%zu:%d: not valid JSON: %s", where, line + (size_t)(e->line > 0 ? e->line : 1),
                column > 0 ? column : 1, e->text);
}

/* Characters of the line that byte `at` ends. */
static int column_of(const char *text, size_t at)
{
    int column = 0;
    for (; at && text[at - 1] != '\n'; at--) column += ((unsigned char)text[at - 1] & 0xc0) != 0x80;
    return column;
}

/* What was not JSON may be with its odd numbers marked; an error then is placed where it stands in the file. */
static enum status parse_odd(const char *where, size_t line, const char *text, size_t n, json_error_t *e, json_t **out)
{
    enum status st;
    struct text marked = {0}, again = {0};
    size_t at;
    TRY(mark_odd(text, n, SIZE_MAX, &marked, &at));
    if (marked.n == n && (!n || !memcmp(marked.data, text, n))) {
        st = refuse(where, line, e, e->column);
    } else if (!(*out = load(marked.data, marked.n, e))) {
        TRY(mark_odd(text, n, e->position > 0 ? (size_t)e->position : 0, &again, &at));
        st = refuse(where, line, e, column_of(text, at));
    }
done:
    text_free(&marked);
    text_free(&again);
    return st;
}

enum status json_parse(const char *where, size_t line, const char *text, size_t n, json_t **out)
{
    json_error_t e;
    *out = NULL;
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        return fail(ERR_INPUT, "%s:%zu:1: begins with a byte order mark; save it without one", where, line + 1);
    if ((*out = load(text, n, &e))) return OK;
    return parse_odd(where, line, text, n, &e, out);
}

enum status json_read(const char *path, size_t most, json_t **out)
{
    enum status st;
    char *text = NULL;
    size_t n;
    *out = NULL;
    TRY(file_read(path, most, &text, &n));
    TRY(json_parse(path, 0, text, n, out));
done:
    free(text);
    return st;
}

struct printed {
    struct text text;
    bool failed; /* told once; jansson may not pass it on */
};

static int add_printed(const char *bytes, size_t n, void *to)
{
    struct printed *p = to;
    if (!p->failed) p->failed = text_add(&p->text, bytes, n) != OK;
    return p->failed ? -1 : 0;
}

char *json_text(const json_t *json, size_t flags)
{
    struct printed p = {0};
    if (!json_dump_callback(json, add_printed, &p, flags) && !p.failed && !lacked_memory) return p.text.data;
    text_free(&p.text);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------- writing ------- */
/* A marked string [n], written as a string within one, as it was. Returns its length. */
static size_t unescape(char *s, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\' && i + 1 < n && strchr("\"\\", s[i + 1])) i++;
        s[to++] = s[i];
    }
    return to;
}

/* The bytes of `s` that are marked, and what was written there; 0: none. */
static size_t marked_length(char *s, char **word, size_t *n)
{
    char *p = s + 1 + strspn(s + 1, " \n");
    bool odd;
    if (*s != '{' || strncmp(p, "\"" MARK "\":", 9)) return 0;
    p += 9 + strspn(p + 9, " ");
    if (*p != '"') return 0;
    if (!strncmp(p, "\"\\\"", 3)) {
        const size_t length = string_length(p, strlen(p));
        *word = p + 1;
        p += length + strspn(p + length, " \n");
        if (*p != '}') return 0;
        *n = unescape(*word, length - 2);
        return (size_t)(p + 1 - s);
    }
    p++;
    *word = p, *n = word_length(p, strlen(p));
    p += *n;
    if (*p != '"') return 0;
    *p = 0, odd = is_odd(*word), *p++ = '"';
    p += strspn(p, " \n");
    return odd && *p == '}' ? (size_t)(p + 1 - s) : 0;
}

void json_unmark(char *text)
{
    char *to = text;
    size_t left = strlen(text);
    while (left) {
        char *word;
        size_t n, length = *text == '{' ? marked_length(text, &word, &n) : 0;
        if (!length) word = text, n = length = *text == '"' ? string_length(text, left) : 1;
        memmove(to, word, n);
        to += n, text += length, left -= length;
    }
    *to = 0;
}
