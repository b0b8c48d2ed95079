/* The tree of an input -> struct config: every row of the table takes its node, or its default where there is none. */
#include "unlearn/config_priv.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static enum status read_row(struct config *c, const struct row *row, const struct node *node, void *record);

/* What stands in the node, for a message; cut where it is long, but not inside a character. */
static void found(const struct node *node, char *s, size_t room)
{
    size_t n = node->kind == NODE_SCALAR ? strlen(node->text) : 0;
    if (node->kind == NODE_LIST)
        snprintf(s, room, "a list");
    else if (node->kind == NODE_MAP)
        snprintf(s, room, "a mapping of keys");
    else if (node_is_null(node))
        snprintf(s, room, "nothing");
    else if (n <= 60)
        snprintf(s, room, "%s\"%s\"", node->style == STYLE_PLAIN ? "" : "the text ", node->text);
    else {
        for (n = 60; n > 0 && ((unsigned char)node->text[n] & 0xc0) == 0x80;) n--;
        snprintf(s, room, "\"%.*s...\"", (int)n, node->text);
    }
}

/* A row below a "*" is named from there: its place says which one is meant. */
static const char *label(const struct row *row)
{
    const char *star = NULL, *s = row->path;
    while ((s = strstr(s, "*."))) star = s += 2;
    return star ? star : row->path;
}

static enum status wrong(const struct row *row, const struct node *node, const char *hint)
{
    enum status st = OK;
    struct text expected = {0};
    char is[128];
    TRY(row_expected(row, &expected));
    found(node, is, sizeof is);
    st = fail(ERR_INPUT, "%s: %s: expected %s; found %s%s%s%s", place_text(&node->place), label(row), expected.data, is,
              *hint ? " (" : "", hint, *hint ? ")" : "");
done:
    text_free(&expected);
    return st;
}

/* ------------------------------------------------------------------------------------------------- scalars ----- */
static bool inside(const struct row *row, double v)
{
    bool low = row->flags & ABOVE ? v > row->least : v >= row->least;
    return low && (row->flags & BELOW ? v < row->most : v <= row->most);
}

/* Text in quotes is no number, but the quotes may be a slip. */
static bool is_bare(const struct node *node) { return node->kind == NODE_SCALAR && node->style == STYLE_PLAIN; }

static const char *quoted_hint(const struct node *node)
{
    return node->kind == NODE_SCALAR && node->style != STYLE_PLAIN ? "write it without quotes" : "";
}

static bool says(const struct row *row, const struct node *node, enum row_flag flag, const char *word)
{
    return node->kind == NODE_SCALAR && row->flags & flag && strcmp(node->text, word) == 0;
}

static enum status read_number(const struct row *row, const struct node *node, double *to)
{
    if (says(row, node, ALSO_AUTO, "auto")) {
        *to = NAN;
        return OK;
    }
    if (!is_bare(node)) return wrong(row, node, quoted_hint(node));
    const char *fault = number_read(node->text, to);
    if (fault) return wrong(row, node, fault);
    return inside(row, *to) ? OK : wrong(row, node, "");
}

/* An element that is null is that of the default. */
static enum status read_pair(const struct row *row, const struct node *node, double *to)
{
    enum status st = OK;
    struct node *fallback = NULL;
    const struct node *given = node->child, *usual;
    if (node->kind != NODE_LIST || node_count(node) != 2) return wrong(row, node, "");
    TRY(tree_parse(node->place.file, row->fallback, strlen(row->fallback), false, &fallback));
    usual = fallback->child;
    for (int k = 0; k < 2; k++, given = given->next, usual = usual->next)
        TRY(read_number(row, node_is_null(given) ? usual : given, &to[k]));
done:
    node_free(fallback);
    return st;
}

static enum status read_count(const struct row *row, const struct node *node, size_t *to)
{
    uint64_t value;
    if (node_is_null(node) && row_nullable(row)) {
        *to = CONFIG_NULL;
        return OK;
    }
    if (says(row, node, ALSO_AUTO, "auto")) {
        *to = CONFIG_AUTO;
        return OK;
    }
    if (says(row, node, ALSO_ALL, "all")) {
        *to = CONFIG_ALL;
        return OK;
    }
    if (!is_bare(node)) return wrong(row, node, quoted_hint(node));
    const char *fault = whole_read(node->text, &value);
    if (fault) return wrong(row, node, fault);
    *to = (size_t)value;
    return inside(row, (double)value) ? OK : wrong(row, node, (double)value > row->most ? "it is too large" : "");
}

static enum status read_seed(const struct row *row, const struct node *node, uint64_t *to)
{
    if (!is_bare(node)) return wrong(row, node, quoted_hint(node));
    const char *fault = whole_read(node->text, to);
    if (fault) return wrong(row, node, fault);
    return *to <= INT64_MAX ? OK : wrong(row, node, "it is too large");
}

/* YAML 1.1 has more words for these, YAML 1.2 has not. */
static const char *switch_hint(const char *s)
{
    static const char *const yes[] = {"true", "yes", "on", "y", "1"}, *const no[] = {"false", "no", "off", "n", "0"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (strcasecmp(s, yes[i]) == 0) return "write true";
        if (strcasecmp(s, no[i]) == 0) return "write false";
    }
    return "";
}

static enum status read_switch(const struct row *row, const struct node *node, bool *to)
{
    if (!is_bare(node)) return wrong(row, node, quoted_hint(node));
    *to = strcmp(node->text, "true") == 0;
    return *to || strcmp(node->text, "false") == 0 ? OK : wrong(row, node, switch_hint(node->text));
}

static enum status read_choice(const struct row *row, const struct node *node, unsigned *to)
{
    enum status st = OK;
    struct text hint = {0};
    int index = node->kind == NODE_SCALAR ? choice_index(row->choices, node->text) : -1;
    if (index < 0) {
        if (node->kind == NODE_SCALAR) TRY(nearest_choice(row->choices, node->text, &hint));
        st = wrong(row, node, hint.data ? hint.data : "");
        goto done;
    }
    *to = (unsigned)index;
    if (row->built && *to >= row->built)
        st = fail(ERR_INPUT, "%s: %s: %s is not built yet", place_text(&node->place), label(row), node->text);
done:
    text_free(&hint);
    return st;
}

/* What a colon and a blank, or a bracket, make of a text; on the command line the shell takes a pair of quotes for itself. */
static const char *text_hint(const struct node *node)
{
    if (node->place.line) return "a text with a colon or a bracket stands in quotes";
    return "a text with a colon or a bracket stands in quotes that the shell leaves: KEY='\"Question: ...\"'";
}

/* The line breaks that end folded and literal text are no part of a name or path. */
static enum status read_text(const struct row *row, const struct node *node, char **to)
{
    if (node->kind != NODE_SCALAR) return wrong(row, node, row->type == TEXT ? text_hint(node) : "");
    if (node_is_null(node)) return row_nullable(row) ? OK : wrong(row, node, "");
    const size_t n = strlen(node->text), breaks = row->type == TEXT ? node->breaks : 0;
    if (row->type != TEXT && n == 0) return wrong(row, node, "it must not be empty");
    for (size_t i = 0; row->type != TEXT && i < n; i++) {
        if (iscntrl((unsigned char)node->text[i])) return wrong(row, node, "no control characters");
        if (row->type == WORD && node->text[i] == ' ') return wrong(row, node, "no blanks");
    }
    if (!(*to = malloc(n + breaks + 1))) return fail(ERR_MEMORY, "%s: no memory to read it", node->place.file);
    memcpy(*to, node->text, n);
    memset(*to + n, '\n', breaks);
    (*to)[n + breaks] = 0;
    return OK;
}

static enum status read_words(const struct row *row, const struct node *node, void *record)
{
    enum status st = OK;
    struct row word = *row;
    size_t *n = member(record, row->count);
    char ***to = member(record, row->at);
    const struct node *first = node->kind == NODE_LIST ? node->child : node;
    word.type = WORD;
    if (node->kind == NODE_MAP) return wrong(row, node, "");
    TRY_NEW(*to, node->kind == NODE_LIST ? node_count(node) : 1);
    for (; first; first = node->kind == NODE_LIST ? first->next : NULL) {
        TRY(read_text(&word, first, &(*to)[*n]));
        ++*n;
    }
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------ settings ----- */
static enum status read_setting(const struct row *row, const struct node *node, struct config_setting *s)
{
    enum status st = OK;
    struct place place = node->key_place;
    if (!is_word(node->key))
        return fail(ERR_INPUT, "%s: \"%.60s\" cannot be the name of a parameter", place_text(&place), node->key);
    if (node->kind != NODE_SCALAR) return wrong(row, node, "");
    s->place = node->place;
    if (is_bare(node)) {
        double value;
        const char *fault = number_read(node->text, &value);
        if (!fault) s->number = value, s->is_number = true;
    }
    s->key = text_copy(node->key);
    s->text = text_copy(node->text);
    if (!s->key || !s->text) st = fail(ERR_MEMORY, "%s: no memory to read it", place.file);
    return st;
}

enum status settings_copy(const struct config_objective *from, struct config_objective *to)
{
    enum status st = OK;
    TRY_NEW(to->setting, from->n_setting);
    for (to->n_setting = 0; to->n_setting < from->n_setting; to->n_setting++) {
        struct config_setting *s = &to->setting[to->n_setting];
        *s = from->setting[to->n_setting];
        s->key = text_copy(s->key);
        s->text = text_copy(s->text);
        if (!s->key || !s->text) {
            to->n_setting++;
            st = fail(ERR_MEMORY, "memory: cannot copy the settings of %s", from->name);
            goto done;
        }
    }
done:
    return st;
}

/* All keys of the section that no other row names; a null one is as good as not written. */
static enum status read_settings(struct config *c, const struct row *row, const struct row *section,
                                 const struct node *node, void *record)
{
    enum status st = OK;
    struct config_setting **to = member(record, row->at);
    size_t *n = member(record, row->count);
    if (node && node->kind == NODE_SCALAR && row->flags & INHERITS) {
        struct config_objective *o = record;
        return strcmp(o->name, c->objective.name) == 0 ? settings_copy(&c->objective, o) : OK;
    }
    if (!node || node->kind != NODE_MAP) return OK;
    TRY_NEW(*to, node_count(node));
    for (const struct node *s = node->child; s; s = s->next) {
        if (row_child(section, s->key) || node_is_null(s)) continue;
        ++*n;
        TRY(read_setting(row, s, &(*to)[*n - 1]));
    }
done:
    return st;
}

/* ------------------------------------------------------------------------------------ sections and records ----- */
static enum status check_keys(const struct row *section, const struct node *node)
{
    const struct row *any = row_any(section);
    for (const struct node *key = node->child; key; key = key->next) {
        if (row_child(section, key->key)) continue;
        /* a misspelt "regularizer" must not pass for a parameter of the objective */
        if (!any || any->type != SETTINGS || nearest(section, key->key)) return unknown_key(section, key);
    }
    return OK;
}

static bool any_given(const struct node *section)
{
    bool any = false;
    for (const struct node *one = section->child; one; one = one->next) any = any || !node_is_null(one);
    return any;
}

static enum status check_needed(const struct config *c, const struct row *row, const struct node *section,
                                const struct node *node)
{
    struct place nowhere = {.file = c->file};
    const struct place *place = node ? &node->place : section ? &section->place : &nowhere;
    if (!(row->needed & 1u << c->task) || (node && !node_is_null(node))) return OK;
    if (row->flags & LEADS && !(section && section->kind == NODE_MAP && any_given(section))) return OK;
    return fail(ERR_INPUT, "%s: %s is missing: %s", place_text(place), label(row), row->needed_words);
}

static enum status read_section(struct config *c, const struct row *row, const struct node *node, void *record)
{
    enum status st = OK;
    bool is_map, is_bare_value;
    if (node && node_is_null(node)) node = NULL;
    is_map = node && node->kind == NODE_MAP;
    is_bare_value = node && node->kind == NODE_SCALAR;
    if ((node && !is_map && !is_bare_value) || (is_bare_value && !row->bare)) return wrong(row, node, "");
    if (is_map) TRY(check_keys(row, node));
    for (size_t i = 1; i < config_rows; i++) {
        const struct row *below = &config_table[i];
        const struct node *value = NULL;
        if (!row_is_child(below, row)) continue;
        if (below->type == SETTINGS) {
            TRY(read_settings(c, below, row, node, record));
            continue;
        }
        if (is_map) value = node_find(node, row_name(below));
        if (is_bare_value && strcmp(row_name(below), row->bare) == 0) value = node;
        TRY(check_needed(c, below, node, value));
        TRY(read_row(c, below, value, record));
    }
done:
    return st;
}

/* A name that holds null is not given. */
static size_t count_given(const struct row *row, const struct node *node)
{
    size_t n = 0;
    for (const struct node *one = node->child; one; one = one->next) n += row->type != NAMED || !node_is_null(one);
    return n;
}

/* A list of structs, or a mapping from names to structs; one struct may stand without the list. */
static enum status read_many(struct config *c, const struct row *row, const struct node *node, void *record)
{
    enum status st = OK;
    bool many = row->type == NAMED || node->kind == NODE_LIST;
    const struct node *first = many ? node->child : node;
    char **to = member(record, row->at);
    size_t *n = member(record, row->count), total = many ? count_given(row, node) : 1;
    if (row->type == NAMED && node->kind != NODE_MAP) return wrong(row, node, "");
    if ((double)total < row->least) return wrong(row, node, "it must not be empty");
    *to = memory_new(total, row->size);
    if (!*to) return fail(ERR_MEMORY, "%s: no memory to read it", c->file);
    for (; first; first = many ? first->next : NULL) {
        if (row->type == NAMED && node_is_null(first)) continue;
        void *one = *to + (*n)++ * row->size;
        if (row->type == NAMED) {
            if (!*first->key)
                return fail(ERR_INPUT, "%s: %s: a name must not be empty", place_text(&first->key_place), row->path);
            if (!(*(char **)one = text_copy(first->key))) return fail(ERR_MEMORY, "%s: no memory to read it", c->file);
        }
        if (node_is_null(first)) return wrong(row_any(row), first, ""); /* in a list nothing is left out */
        TRY(read_section(c, row_any(row), first, one));
    }
done:
    return st;
}

/* ---------------------------------------------------------------------------------------------------- rows ----- */
static enum status read_value(struct config *c, const struct row *row, const struct node *node, void *record)
{
    double unkept[2]; /* of a key that only its default may have: checked and forgotten */
    void *to = row->at == NOWHERE ? unkept : member(record, row->at);
    switch (row->type) {
    case SECTION:
        return read_section(c, row, node, record);
    case RECORDS:
    case NAMED:
        return read_many(c, row, node, record);
    case CHOICE:
        return read_choice(row, node, to);
    case COUNT:
        return read_count(row, node, to);
    case SEED:
        return read_seed(row, node, to);
    case NUMBER:
        return read_number(row, node, to);
    case PAIR:
        return read_pair(row, node, to);
    case SWITCH:
        return read_switch(row, node, to);
    case TEXT:
    case PATH:
    case WORD:                           /* the record keeps it, unless it is `unkept`, whose rows have numbers alone */
        return read_text(row, node, to); // NOLINT(clang-analyzer-unix.Malloc)
    case WORDS:
        return read_words(row, node, record);
    case SETTINGS:
        break; /* read with its section */
    }
    return fail(ERR_INTERNAL, "config: %s has no reader", row->path);
}

/* null says that the key is not given: its default holds, as where it is not written. */
static enum status read_row(struct config *c, const struct row *row, const struct node *node, void *record)
{
    enum status st = OK;
    struct node *fallback = NULL;
    struct place place = {.file = c->file};
    if (node) place = node->place;
    if (node && node_is_null(node)) node = NULL;
    if (row->place) *(struct place *)member(record, row->place) = place;
    if (!strchr(row->path, '*')) {
        c->private->place[row - config_table] = place;
        c->private->given[row - config_table] = node != NULL;
    }
    if (node) return read_value(c, row, node, record);
    if (!row->fallback) return row->type == SECTION ? read_section(c, row, NULL, record) : OK;
    TRY(tree_parse(c->file, row->fallback, strlen(row->fallback), false, &fallback));
    TRY(read_value(c, row, fallback, record));
done:
    node_free(fallback);
    return st;
}

enum status config_read(struct config *c, const struct node *root) { return read_section(c, &config_table[0], root, c); }
