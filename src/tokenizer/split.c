/* Pre-tokenisers of tokenizer.json: how text is cut into the words that byte pairs are merged in. All are splits at a
 * pattern, with a replacement, a prefix or the alphabet of bytes before or after. */
#include "unicode.h"
#include "unlearn/tokenizer_priv.h"
#include <string.h>

/* GPT-2's words */
static const char GPT2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/* The package's own list of punctuation, which is older than PCRE2's */
static const char PUNCTUATION[] =
    "(?!["
    "\\x{61d}\\x{9fd}\\x{a76}\\x{c77}\\x{c84}\\x{1b7d}-\\x{1b7e}\\x{2e43}-\\x{2e4f}\\x{2e52}-\\x{2e5d}"
    "\\x{10ead}\\x{10f55}-\\x{10f59}\\x{10f86}-\\x{10f89}\\x{1144b}-\\x{1144f}\\x{1145a}-\\x{1145b}"
    "\\x{1145d}\\x{11660}-\\x{1166c}\\x{116b9}\\x{1183b}\\x{11944}-\\x{11946}\\x{119e2}"
    "\\x{11a3f}-\\x{11a46}\\x{11a9a}-\\x{11a9c}\\x{11a9e}-\\x{11aa2}\\x{11c41}-\\x{11c45}"
    "\\x{11c70}-\\x{11c71}\\x{11ef7}-\\x{11ef8}\\x{11fff}\\x{12ff1}-\\x{12ff2}\\x{16e97}-\\x{16e9a}"
    "\\x{16fe2}\\x{1e95e}-\\x{1e95f}"
    "])[!-/:-@\\[-`{-~\\p{P}\\x{166d}\\x{111c9}]";

/* ------------------------------------------------------------------------------------------------ splitting ----- */
struct cut { /* one text being split */
    const struct step *step;
    const char *text;
    struct pieces *out;
    size_t start, stop; /* the piece that is not given out yet */
    bool open, was_match, head;
};

static enum status cut_flush(struct cut *c)
{
    enum status st = OK;
    if (c->open && c->stop > c->start) {
        if (!c->out->n) c->out->head = c->head && !c->start;
        TRY(text_add(&c->out->bytes, c->text + c->start, c->stop - c->start));
        TRY(pieces_close(c->out));
    }
done:
    return st;
}

/* The next stretch of the text, which is a match or lies between two. */
static enum status cut_add(struct cut *c, size_t start, size_t stop, bool match)
{
    enum status st = OK;
    bool joins = false;
    match ^= c->step->invert;
    switch (c->step->behaviour) {
    case CONTIGUOUS:
        joins = match == c->was_match;
        break;
    case MERGED_WITH_PREVIOUS:
        joins = match && !c->was_match;
        break;
    case MERGED_WITH_NEXT:
        joins = !match && c->was_match;
        break;
    case ISOLATED:
    case REMOVED:
        break;
    }
    if (!c->open || !joins) {
        TRY(cut_flush(c));
        c->start = start;
    }
    c->stop = stop;
    c->open = !(match && c->step->behaviour == REMOVED);
    c->was_match = match;
done:
    return st;
}

static enum status split_text(struct cut *c, struct finder *f, size_t n)
{
    enum status st;
    size_t start, stop, done = 0;
    bool found;
    finder_text(f, c->text, n);
    for (;;) {
        TRY(finder_next(f, &found, &start, &stop));
        if (!found) break;
        if (start > done) TRY(cut_add(c, done, start, false));
        TRY(cut_add(c, start, stop, true));
        done = stop;
    }
    if (done < n) TRY(cut_add(c, done, n, false));
    TRY(cut_flush(c));
done:
    return st;
}

static enum status split_run(const struct step *s, const struct pieces *in, struct pieces *out)
{
    enum status st;
    struct finder f;
    out->head = 0;
    TRY(finder_open(&f, s->pattern));
    for (size_t i = 0; i < in->n; i++) {
        size_t n;
        struct cut c = {.step = s, .out = out, .head = in->head && !i};
        c.text = piece_at(in, i, &n);
        TRY(split_text(&c, &f, n));
    }
done:
    finder_close(&f);
    return st;
}

static enum status split_add(const char *where, const char *text, size_t n, bool literal, enum behaviour behaviour,
                             bool invert, struct chain *chain)
{
    struct step s = {.run = split_run, .behaviour = behaviour, .invert = invert};
    enum status st = pattern_new(where, text, n, literal, &s.pattern);
    return st == OK ? chain_add(chain, &s) : st;
}

static enum status regex_add(const char *where, const char *regex, enum behaviour behaviour, bool invert,
                             struct chain *chain)
{
    return split_add(where, regex, strlen(regex), false, behaviour, invert, chain);
}

static enum status prefix_add(const char *text, size_t n, bool head_only, struct chain *chain)
{
    struct step s = {.run = step_prefix, .unless_there = true, .head_only = head_only};
    enum status st = text_add(&s.content, text, n);
    return st == OK ? chain_add(chain, &s) : st;
}

/* ----------------------------------------------------------------------------------------------- components ----- */
static enum status behaviour_read(const char *where, json_t *json, enum behaviour *out)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = NULL;
    size_t n = 0;
    enum status st = member_text(where, json, "behavior", &name, &n);
    if (st != OK || !name) return st;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], name)) {
            *out = (enum behaviour)i;
            return OK;
        }
    return fail(ERR_INPUT, "%s: the behavior \"%s\" is not supported", where, name);
}

static enum status split_read(const char *where, json_t *json, struct chain *chain)
{
    enum status st;
    struct step s = {.run = split_run, .behaviour = ISOLATED};
    TRY(behaviour_read(where, json, &s.behaviour));
    TRY(member_bool(where, json, "invert", &s.invert));
    TRY(member_pattern(where, json, "pattern", &s.pattern));
    TRY(chain_add(chain, &s));
done:
    return st;
}

static enum status byte_level_read(const char *where, json_t *json, struct chain *chain)
{
    enum status st;
    bool prefix = true, regex = true;
    TRY(member_bool(where, json, "add_prefix_space", &prefix));
    TRY(member_bool(where, json, "use_regex", &regex));
    if (prefix) TRY(prefix_add(" ", 1, false, chain));
    if (regex) TRY(regex_add(where, GPT2, ISOLATED, false, chain));
    TRY(chain_add(chain, &(struct step){.run = step_bytes}));
done:
    return st;
}

static enum status digits_read(const char *where, json_t *json, struct chain *chain)
{
    bool individual = false;
    enum status st = member_bool(where, json, "individual_digits", &individual);
    return st == OK ? regex_add(where, "\\p{N}", individual ? ISOLATED : CONTIGUOUS, false, chain) : st;
}

static enum status punctuation_read(const char *where, json_t *json, struct chain *chain)
{
    enum behaviour behaviour = ISOLATED;
    enum status st = behaviour_read(where, json, &behaviour);
    return st == OK ? regex_add(where, PUNCTUATION, behaviour, false, chain) : st;
}

static enum status whitespace_read(const char *where, json_t *json, struct chain *chain)
{
    return regex_add(where, "[" PATTERN_RUST_WORD "]+|[^\\s" PATTERN_RUST_WORD "]+", REMOVED, true, chain);
}

static enum status whitespace_split_read(const char *where, json_t *json, struct chain *chain)
{
    return regex_add(where, "\\s", REMOVED, false, chain);
}

static enum status one_character(const char *where, json_t *json, const char *key, const char **out, size_t *n)
{
    size_t at = 0;
    enum status st = member_text(where, json, key, out, n);
    if (st != OK) return st;
    if (*out && *n) utf8_next(*out, &at);
    return at && at == *n ? OK : fail(ERR_INPUT, "%s: \"%s\" must be one character", where, key);
}

static enum status delimiter_read(const char *where, json_t *json, struct chain *chain)
{
    const char *text = NULL;
    size_t n = 0;
    enum status st = one_character(where, json, "delimiter", &text, &n);
    return st == OK ? split_add(where, text, n, true, REMOVED, false, chain) : st;
}

static enum status metaspace_read(const char *where, json_t *json, struct chain *chain)
{
    enum status st;
    struct step space = {.run = step_replace};
    const char *text = "\xe2\x96\x81", *scheme = NULL;
    size_t n = 3, ignored;
    bool split = true, old = true;
    TRY(one_character(where, json, "replacement", &text, &n));
    TRY(member_bool(where, json, "split", &split));
    TRY(member_bool(where, json, "add_prefix_space", &old));
    TRY(member_text(where, json, "prepend_scheme", &scheme, &ignored));
    if (!scheme) scheme = old ? "always" : "never";
    if (strcmp(scheme, "always") && strcmp(scheme, "first") && strcmp(scheme, "never"))
        return fail(ERR_INPUT, "%s: the prepend_scheme \"%s\" is not supported", where, scheme);
    TRY(text_add(&space.content, text, n));
    if ((st = pattern_new(where, " ", 1, true, &space.pattern)) != OK) {
        text_free(&space.content);
        return st;
    }
    TRY(chain_add(chain, &space));
    if (strcmp(scheme, "never")) TRY(prefix_add(text, n, !strcmp(scheme, "first"), chain));
    if (split) TRY(split_add(where, text, n, true, MERGED_WITH_NEXT, false, chain));
done:
    return st;
}

const struct kind kinds_of_splitter[] = {
    {"ByteLevel", byte_level_read},         {"Split", split_read},           {"Digits", digits_read},
    {"Punctuation", punctuation_read},      {"Whitespace", whitespace_read}, {"WhitespaceSplit", whitespace_split_read},
    {"CharDelimiterSplit", delimiter_read}, {"Metaspace", metaspace_read},   {NULL, NULL},
};
