/* Patterns of a tokenizer.json. They are written for Oniguruma in its Ruby dialect; PCRE2 reads most of it alike. What
 * differs is rewritten (white space and word characters are other sets, \h is a hexadecimal digit, a{2}+ repeats a{2}) or
 * refused by name. */
#define PCRE2_CODE_UNIT_WIDTH 8
#define _GNU_SOURCE
#include "unicode.h"
#include "unlearn/tokenizer_priv.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct pattern {
    char *where;   /* owned: for messages while matching */
    char *literal; /* owned, or NULL for a regular expression */
    size_t n;      /* of the literal */
    pcre2_code *code;
};

/* Members of a class in PCRE2's notation, and what is not in them. */
#define SPACE "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE                                                                                       \
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x84\\x86-\\x9f\\xa1-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{d7ff}\\x{e000}-\\x{10ffff}"
#define WORD \
    PATTERN_WORD "\\xb2\\xb3\\xb9\\xbc-\\xbe" /* these six of Latin-1 count in Oniguruma, but not inside brackets */
#define HEX "0-9a-fA-F"

static enum status refuse(const char *where, const char *text, const char *what)
{
    return fail(ERR_INPUT, "%s: the pattern \"%s\" uses %s, which is not supported", where, text, what);
}

/* A class by its letter; inside brackets only the members are written. */
static enum status class_add(const char *where, const char *text, char letter, bool inside, struct text *out)
{
    static const struct {
        char letter;
        const char *members;
    } classes[] = {{'s', SPACE}, {'S', NOT_SPACE}, {'w', WORD}, {'h', HEX}};
    static const struct {
        char letter;
        const char *members;
    } complements[] = {{'W', WORD}, {'H', HEX}};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (classes[i].letter == letter)
            return inside ? text_print(out, "%s", letter == 'w' ? PATTERN_WORD : classes[i].members)
                          : text_print(out, "[%s]", classes[i].members);
    for (size_t i = 0; i < sizeof complements / sizeof *complements; i++)
        if (complements[i].letter == letter)
            return inside ? refuse(where, text, "\\W or \\H inside brackets")
                          : text_print(out, "[^%s]", complements[i].members);
    return text_print(out, "\\%c", letter);
}

/* [:name:] inside brackets; *i moves to its last character. */
static enum status posix_add(const char *where, const char *s, size_t *i, struct text *out)
{
    static const struct {
        const char *name, *members;
    } classes[] = {
        {"[:alpha:]", "\\p{Alphabetic}"}, {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
        {"[:punct:]", "\\p{P}\\p{S}"},    {"[:upper:]", "\\p{Uppercase}"},
        {"[:lower:]", "\\p{Lowercase}"},  {"[:space:]", SPACE},
        {"[:digit:]", "\\p{Nd}"},         {"[:xdigit:]", HEX},
        {"[:word:]", PATTERN_WORD},
    };
    for (size_t k = 0; k < sizeof classes / sizeof *classes; k++)
        if (!strncmp(s + *i, classes[k].name, strlen(classes[k].name))) {
            *i += strlen(classes[k].name) - 1;
            return text_print(out, "%s", classes[k].members);
        }
    return refuse(where, s, "an unknown [:class:]");
}

/* \p{Name} at s[*i]: names of scripts mean the script itself in Ruby, and its extensions too in PCRE2. */
static enum status property_add(const char *where, const char *s, size_t *i, bool inside, struct text *out)
{
    static const struct {
        const char *name, *members;
    } grown[] = {{"L", "\\p{L}" PATTERN_NEW_LETTERS},
                 {"N", "\\p{N}" PATTERN_NEW_NUMBERS},
                 {"Han", "\\p{sc:Han}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"}};
    static const char *const properties[] = {"Alphabetic", "Uppercase", "Lowercase", "White_Space", "Any", "Emoji"};
    const char *name = s + *i + 3, *end = strchr(name, '}');
    size_t n = end ? (size_t)(end - name) : 0;
    bool inverse = name[0] == '^';
    char letter = s[*i + 1];
    if (!end || s[*i + 2] != '{') return refuse(where, s, "\\p without {name}");
    if (inverse) {
        name++, n--;
        letter = letter == 'p' ? 'P' : 'p';
    }
    *i = (size_t)(end - s);
    for (size_t k = 0; k < sizeof grown / sizeof *grown; k++)
        if (strlen(grown[k].name) == n && !memcmp(grown[k].name, name, n)) {
            if (!inside) return text_print(out, letter == 'p' ? "[%s]" : "[^%s]", grown[k].members);
            if (letter == 'p') return text_print(out, "%s", grown[k].members);
        }
    if (n < 3) return text_print(out, "\\%c{%.*s}", letter, (int)n, name);
    for (size_t k = 0; k < sizeof properties / sizeof *properties; k++)
        if (strlen(properties[k]) == n && !strncasecmp(properties[k], name, n))
            return text_print(out, "\\%c{%s}", letter, properties[k]);
    return text_print(out, "\\%c{sc:%.*s}", letter, (int)n, name);
}

/* A backslash and what follows, at s[*i]. */
static enum status escape_add(const char *where, const char *s, size_t *i, bool inside, struct text *out)
{
    char letter = s[*i + 1];
    if (letter == 'p' || letter == 'P') return property_add(where, s, i, inside, out);
    ++*i;
    if (!inside && letter == 'b')
        return text_print(out, "(?:(?<=[%s])(?![%s])|(?<![%s])(?=[%s]))", WORD, WORD, WORD, WORD);
    if (!inside && letter == 'B')
        return text_print(out, "(?:(?<=[%s])(?=[%s])|(?<![%s])(?![%s]))", WORD, WORD, WORD, WORD);
    return class_add(where, s, letter, inside, out);
}

/* Groups that are open: where each begins in the translation, and how many more it has to close. */
enum { MOST_GROUPS = 100 };
struct groups {
    size_t start[MOST_GROUPS];
    int more[MOST_GROUPS], n;
    size_t atom; /* where what a quantifier would repeat begins */
};

/* How many characters behind the letter s[0] of an escape belong to it: \x41, \x{e9}, \012, \k<name>, \cA; of a letter beyond
 * ASCII its further bytes. */
static size_t escape_rest(const char *s)
{
    const char *end = s[1] == '{' && *s == 'x' ? strchr(s, '}') : s[1] == '<' && strchr("kg", *s) ? strchr(s, '>') : NULL;
    size_t n = 0;
    if (end) return (size_t)(end - s);
    if (*s == 'x') return (n = strspn(s + 1, "0123456789abcdefABCDEF")) < 2 ? n : 2;
    if (*s >= '0' && *s <= '9') return (n = strspn(s + 1, "0123456789")) < 2 ? n : 2;
    if (*s == 'c') return s[1] != 0;
    while ((s[n + 1] & 0xc0) == 0x80) n++;
    return n;
}

/* (?i) holds to the end of its group. In Ruby all of it is one alternative then, a(?i)b|c is a(?i:b|c); in PCRE2 it is not.
 * (?m) lets the dot match line ends in Ruby and means something else in PCRE2. */
static enum status group_open(const char *where, const char *s, size_t *i, struct groups *g, struct text *out)
{
    const size_t options = s[*i + 1] == '?' ? strspn(s + *i + 2, "imx-") : 0;
    if (memchr(s + *i + 2, 'm', options)) return refuse(where, s, "(?m)");
    if (options && s[*i + 2 + options] == ')') {
        const char *from = s + *i;
        *i += 2 + options;
        g->more[g->n]++;
        return text_print(out, "%.*s:", (int)options + 2, from);
    }
    if (g->n + 1 == MOST_GROUPS) return refuse(where, s, "as many groups inside each other");
    g->start[++g->n] = out->n;
    g->more[g->n] = 0;
    return text_add(out, "(", 1);
}

static enum status group_close(struct groups *g, bool end, struct text *out)
{
    enum status st = OK;
    for (; g->more[g->n]; g->more[g->n]--) TRY(text_add(out, ")", 1));
    if (end) goto done;
    g->atom = g->start[g->n];
    if (g->n) g->n--;
    TRY(text_add(out, ")", 1));
done:
    return st;
}

/* The length of {n}, {n,}, {,n} or {n,m}; 0: it is none. */
static size_t interval(const char *s)
{
    static const char digits[] = "0123456789";
    const size_t low = strspn(s + 1, digits), comma = s[1 + low] == ',';
    const size_t high = comma ? strspn(s + 2 + low, digits) : 0, n = 1 + low + comma + high;
    return low + high && s[n] == '}' ? n + 1 : 0;
}

/* Behind an interval a further quantifier repeats the whole in Ruby, and {n}? is nothing or n of them; in PCRE2 a plus makes it
 * possessive, {n}? is {n}, and {,n} are letters. */
static enum status interval_add(const char *s, size_t n, const struct groups *g, struct text *out)
{
    const bool fixed = !memchr(s, ',', n),
               again = (s[n] && strchr("+*", s[n])) || (s[n] == '?' && fixed) || (s[n] == '{' && interval(s + n));
    enum status st = OK;
    TRY(text_print(out, s[1] == ',' ? "{0%.*s" : "{%.*s", (int)n - 1, s + 1));
    if (!again) goto done;
    TRY(text_add(out, "(?:", 3));
    memmove(out->data + g->atom + 3, out->data + g->atom, out->n - 3 - g->atom);
    memcpy(out->data + g->atom, "(?:", 3);
    TRY(text_add(out, ")", 1));
done:
    return st;
}

static enum status class_open(const char *where, const char *s, size_t *i, struct text *out)
{
    bool inverse = s[*i + 1] == '^';
    *i += inverse;
    if (s[*i + 1] == ']') return refuse(where, s, "an empty class");
    return text_print(out, inverse ? "[^" : "[");
}

/* A class inside another adds its members to those of the outer one, so its brackets are left out. */
static enum status class_nest(const char *where, const char *s, size_t i)
{
    if (s[i + 1] == '^') return refuse(where, s, "an inverse class inside a class");
    return s[i + 1] == ']' ? refuse(where, s, "an empty class") : OK;
}

/* One character outside of brackets, or what belongs together with it. */
static enum status plain_add(const char *where, const char *s, size_t *i, struct groups *g, struct text *out)
{
    const size_t n = s[*i] == '{' ? interval(s + *i) : 0;
    if (s[*i] == '(') return group_open(where, s, i, g, out);
    if (s[*i] == ')') return group_close(g, false, out);
    if (n) {
        *i += n - 1;
        return interval_add(s + *i + 1 - n, n, g, out);
    }
    if (!strchr("*+?", s[*i]) && ((unsigned char)s[*i] & 0xc0) != 0x80) g->atom = out->n;
    return text_add(out, s + *i, 1);
}

static enum status translate(const char *where, const char *s, size_t n, struct text *out)
{
    struct groups groups = {.n = 0};
    enum status st = OK;
    int depth = 0; /* of open classes */
    for (size_t i = 0, more; i < n; i++) {
        if (!depth && (s[i] == '\\' || s[i] == '[')) groups.atom = out->n;
        if (s[i] == '\\' && i + 1 < n) {
            if ((unsigned char)s[i + 1] < 0x80)
                TRY(escape_add(where, s, &i, depth > 0, out));
            else
                TRY(text_add(out, s + i++, 2));
            if (depth) continue;
            more = escape_rest(s + i);
            TRY(text_add(out, s + i + 1, more));
            i += more;
        } else if (depth && s[i] == '[' && s[i + 1] == ':') {
            TRY(posix_add(where, s, &i, out));
        } else if (s[i] == '[') {
            TRY(depth++ ? class_nest(where, s, i) : class_open(where, s, &i, out));
        } else if (depth > 1 && s[i] == ']') {
            depth--;
        } else if (depth) {
            if (s[i] == '&' && s[i + 1] == '&') return refuse(where, s, "an intersection of classes");
            if (s[i] == ']') depth--;
            TRY(text_add(out, s + i, 1));
        } else
            TRY(plain_add(where, s, &i, &groups, out));
    }
    TRY(group_close(&groups, true, out));
done:
    return st;
}

static enum status compile(const char *where, const char *text, size_t n, pcre2_code **code)
{
    enum status st;
    struct text t = {0};
    unsigned char message[256], version[64] = ""; /* older ones know fewer properties: INSTALL */
    int error;
    size_t at;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return fail(ERR_MEMORY, "memory: cannot compile a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    if (strlen(text) != n) {
        st = fail(ERR_INPUT, "%s: a pattern contains a NUL byte", where);
        goto done;
    }
    TRY(translate(where, text, n, &t));
    *code = pcre2_compile((PCRE2_SPTR)(t.data ? t.data : ""), t.n,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK, &error,
                          &at, context);
    if (!*code) {
        pcre2_get_error_message(error, message, sizeof message);
        pcre2_config(PCRE2_CONFIG_VERSION, version);
        st = fail(ERR_INPUT, "%s: the pattern \"%s\" is not a regular expression of PCRE2 %s: %s", where, text,
                  (char *)version, (char *)message);
        goto done;
    }
    pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE); /* where there is no JIT the interpreter does the same */
done:
    pcre2_compile_context_free(context);
    text_free(&t);
    return st;
}

enum status pattern_new(const char *where, const char *text, size_t n, bool literal, struct pattern **out)
{
    enum status st = OK;
    struct pattern *p = *out = NULL;
    TRY_NEW(p, 1);
    if (!(p->where = text_copy(where))) TRY(fail(ERR_MEMORY, "memory: cannot copy a name"));
    if (literal) {
        if (!n) TRY(fail(ERR_INPUT, "%s: the pattern is empty", where));
        TRY_NEW(p->literal, n);
        memcpy(p->literal, text, n);
        p->n = n;
    } else {
        TRY(compile(where, text, n, &p->code));
    }
    *out = p, p = NULL;
done:
    pattern_free(p);
    return st;
}

void pattern_free(struct pattern *p)
{
    if (!p) return;
    free(p->where);
    free(p->literal);
    pcre2_code_free(p->code);
    free(p);
}

enum status finder_open(struct finder *f, const struct pattern *p)
{
    *f = (struct finder){.pattern = p};
    if (p->code && !(f->match = pcre2_match_data_create(1, NULL)))
        return fail(ERR_MEMORY, "memory: cannot allocate a match");
    return OK;
}

void finder_close(struct finder *f) { pcre2_match_data_free(f->match); }

void finder_text(struct finder *f, const char *text, size_t n)
{
    f->text = text;
    f->n = n;
    f->at = 0;
    f->last = SIZE_MAX;
}

/* Matches from f->at on; *found. */
static enum status regex_next(struct finder *f, bool *found)
{
    const struct pattern *p = f->pattern;
    PCRE2_SPTR s = (PCRE2_SPTR)f->text;
    unsigned char message[256];
    int r = pcre2_match(p->code, s, f->n, f->at, PCRE2_NO_UTF_CHECK, f->match, NULL);
    if (r == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack in the heap */
        r = pcre2_match(p->code, s, f->n, f->at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, f->match, NULL);
    *found = r >= 0;
    if (r >= 0 || r == PCRE2_ERROR_NOMATCH) return OK;
    pcre2_get_error_message(r, message, sizeof message);
    return fail(ERR_INPUT, "%s: a pattern gives up on a text of %zu bytes: %s", p->where, f->n, (char *)message);
}

enum status finder_next(struct finder *f, bool *found, size_t *start, size_t *stop)
{
    const struct pattern *p = f->pattern;
    enum status st = OK;
    *found = false;
    if (p->literal) {
        const char *hit = f->n - f->at < p->n ? NULL : memmem(f->text + f->at, f->n - f->at, p->literal, p->n);
        if (!(*found = hit)) return OK;
        *start = (size_t)(hit - f->text);
        f->at = *stop = *start + p->n;
        return OK;
    }
    while (f->at <= f->n) {
        TRY(regex_next(f, found));
        if (!*found) break;
        *start = pcre2_get_ovector_pointer(f->match)[0];
        *stop = pcre2_get_ovector_pointer(f->match)[1];
        f->at = *stop;
        if (*stop > *start || *start != f->last) { /* an empty match right behind a match does not count */
            f->last = *stop;
            break;
        }
        *found = false;
        if (f->at == f->n) break;
        utf8_next(f->text, &f->at);
    }
done:
    return st;
}
