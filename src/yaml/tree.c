/* A YAML document as a tree of nodes with places, from libyaml's events. libyaml itself takes duplicate keys, endless
 * aliases, unlimited depth and stops silently before a second document: all of that is refused here.               */
#include "unlearn/yaml.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MOST_LEVELS = 32, MOST_KEYS = 1000 };
#define CORE_TAG "tag:yaml.org,2002:"

struct builder {
    yaml_parser_t parser;
    const char *where, *text; /* borrowed */
    size_t n;
    bool positions;
    struct node *root;              /* owned */
    struct node *open[MOST_LEVELS]; /* the containers that are being filled */
    size_t level, documents;
    struct node *key; /* owned: read, and its value not yet */
};

const char *place_text(const struct place *p)
{
    static char text[1024];
    const char *file = p->file ? p->file : "input";
    if (p->line > 0)
        snprintf(text, sizeof text, "%.900s:%zu:%zu", file, p->line, p->column);
    else
        snprintf(text, sizeof text, "%.900s", file);
    return text;
}

void node_free(struct node *node)
{
    while (node) {
        struct node *next = node->next;
        node_free(node->child);
        free(node->key);
        free(node->text);
        free(node);
        node = next;
    }
}

enum status node_new(enum node_kind kind, const struct place *place, struct node **out)
{
    enum status st = OK;
    TRY_NEW(*out, 1);
    (*out)->kind = kind;
    (*out)->place = (*out)->key_place = *place;
done:
    return st;
}

void node_append(struct node *parent, struct node *child)
{
    if (parent->last)
        parent->last->next = child;
    else
        parent->child = child;
    parent->last = child;
}

struct node *node_find(const struct node *map, const char *key)
{
    struct node *node = map ? map->child : NULL;
    while (node && !(node->key && strcmp(node->key, key) == 0)) node = node->next;
    return node;
}

bool node_is_null(const struct node *node)
{
    static const char *const null[] = {"", "~", "null", "Null", "NULL"};
    if (node->kind != NODE_SCALAR || node->style != STYLE_PLAIN) return false;
    for (size_t i = 0; i < sizeof null / sizeof *null; i++)
        if (strcmp(node->text, null[i]) == 0) return true;
    return false;
}

size_t node_count(const struct node *parent)
{
    size_t n = 0;
    for (const struct node *node = parent->child; node; node = node->next) n++;
    return n;
}

static struct place place_at(const struct builder *b, size_t line, size_t column)
{
    struct place place = {.file = b->where};
    if (b->positions) place.line = line, place.column = column;
    return place;
}

static struct place place_of(const struct builder *b, yaml_mark_t mark)
{
    return place_at(b, mark.line + 1, mark.column + 1);
}

/* libyaml's reader tells only the byte: lines and characters are counted again. */
static struct place place_of_byte(const struct builder *b, size_t offset)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < offset && i < b->n; i++)
        if (b->text[i] == '\n')
            line++, column = 1;
        else if (((unsigned char)b->text[i] & 0xc0) != 0x80)
            column++;
    return place_at(b, line, column);
}

/* Line `line`, from 0, without blanks and comment at its end; *n: its bytes. NULL: there is none. */
static const char *line_at(const struct builder *b, size_t line, size_t *n)
{
    const char *s = b->text, *end = b->text + b->n, *stop, *hash;
    while (line-- && (s = memchr(s, '\n', (size_t)(end - s)))) s++;
    if (!s) return NULL;
    if (!(stop = memchr(s, '\n', (size_t)(end - s)))) stop = end;
    for (hash = s; hash < stop && !(*hash == '#' && (hash == s || hash[-1] == ' ')); hash++) continue;
    while (hash > s && strchr(" \r", hash[-1])) hash--;
    *n = (size_t)(hash - s);
    return s;
}

static bool tab_begins(const struct builder *b, size_t line)
{
    size_t n;
    const char *s = line_at(b, line, &n), *end = b->text + b->n;
    while (s && s < end && *s == ' ') s++;
    return s && s < end && *s == '\t';
}

/* Whether a colon that ends a key stands in s [n]. */
static bool has_colon(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] == ':' && (i + 1 == n || s[i + 1] == ' ')) return true;
    return false;
}

/* Line `line`, from 0, should be "key: value" and is not. OK: it is not to be found, since YAML knows other ends of lines too. */
static enum status no_colon(const struct builder *b, size_t line)
{
    size_t n = 0, first = 0;
    const char *s = line_at(b, line, &n);
    while (first < n && s[first] == ' ') first++;
    if (first == n) return OK;
    const struct place place = place_at(b, line + 1, first + 1);
    return fail(ERR_INPUT, "%s: a colon is missing in \"%.*s\": behind a key stand a colon and a blank",
                place_text(&place), (int)(n - first < 60 ? n - first : 60), s + first);
}

/* What libyaml tells of a colon that it misses, or has not expected, is about the next line as often as not. OK: nothing better
 * is known. */
static enum status colon_error(const struct builder *b)
{
    const yaml_parser_t *p = &b->parser;
    const struct place place = place_of(b, p->problem_mark);
    size_t line = p->problem_mark.line, n = 0, before = 0;
    const char *s = line_at(b, line, &n), *above = NULL;
    if (!b->positions || !s || !p->problem) return OK;
    if (strstr(p->problem, "could not find expected ':'")) return no_colon(b, p->context_mark.line);
    if (!strstr(p->problem, "mapping values are not allowed")) return OK;
    if (has_colon(s, p->problem_mark.column < n ? p->problem_mark.column : n))
        return fail(ERR_INPUT,
                    "%s: a second colon in one line: a text that holds \": \" stands in quotes, a key below another on a "
                    "line of its own",
                    place_text(&place));
    while (line && !before) above = line_at(b, --line, &before);
    if (before && !has_colon(above, before)) return no_colon(b, line);
    return fail(ERR_INPUT, "%s: this line is indented deeper than its neighbours, but the line above has a value already",
                place_text(&place));
}

static enum status syntax_error(const struct builder *b)
{
    const yaml_parser_t *p = &b->parser;
    const char *problem = p->problem ? p->problem : "no more is known";
    struct place place;
    if (p->error == YAML_MEMORY_ERROR) return fail(ERR_MEMORY, "%s: no memory to read it", b->where);
    if (p->error == YAML_READER_ERROR) {
        place = place_of_byte(b, p->problem_offset);
        return fail(ERR_INPUT, "%s: not UTF-8 text: %s (byte value 0x%02x)", place_text(&place), problem,
                    (unsigned)p->problem_value);
    }
    place = place_of(b, p->problem_mark);
    if (strstr(problem, "<document start>"))
        return fail(ERR_INPUT, "%s: the input ended before this; one document is read", place_text(&place));
    if (tab_begins(b, p->problem_mark.line))
        return fail(ERR_INPUT, "%s: a tab begins this line: indent with spaces", place_text(&place));
    if (colon_error(b) != OK) return ERR_INPUT;
    if (!p->context || !b->positions) return fail(ERR_INPUT, "%s: not readable as YAML: %s", place_text(&place), problem);
    return fail(ERR_INPUT, "%s: not readable as YAML: %s, %s that begins in line %zu", place_text(&place), problem,
                p->context, p->context_mark.line + 1);
}

/* Tags of YAML's core schema say nothing that the table of keys does not know better, but for "this is text". */
static enum status check_tag(const struct builder *b, const char *tag, yaml_mark_t mark, enum node_kind kind,
                             bool *is_text)
{
    static const struct {
        const char *name;
        enum node_kind kind;
    } core[] = {{"str", NODE_SCALAR},  {"int", NODE_SCALAR}, {"float", NODE_SCALAR}, {"bool", NODE_SCALAR},
                {"null", NODE_SCALAR}, {"map", NODE_MAP},    {"seq", NODE_LIST}};
    struct place place = place_of(b, mark);
    if (!tag) return OK;
    if (strncmp(tag, CORE_TAG, strlen(CORE_TAG)) == 0)
        for (size_t i = 0; i < sizeof core / sizeof *core; i++)
            if (core[i].kind == kind && strcmp(tag + strlen(CORE_TAG), core[i].name) == 0) {
                *is_text = i == 0;
                return OK;
            }
    return fail(ERR_INPUT, "%s: the tag %.60s is not read here: write the value without it", place_text(&place), tag);
}

static enum status scalar_node(const struct builder *b, const yaml_event_t *e, struct node **out)
{
    enum status st = OK;
    bool is_text = false;
    struct place place = place_of(b, e->start_mark);
    const char *value = (const char *)e->data.scalar.value;
    TRY(check_tag(b, (const char *)e->data.scalar.tag, e->start_mark, NODE_SCALAR, &is_text));
    if (strlen(value) != e->data.scalar.length) {
        st = fail(ERR_INPUT, "%s: a NUL character cannot stand here", place_text(&place));
        goto done;
    }
    TRY(node_new(NODE_SCALAR, &place, out));
    yaml_scalar_style_t style = e->data.scalar.style;
    if (style == YAML_LITERAL_SCALAR_STYLE || style == YAML_FOLDED_SCALAR_STYLE)
        (*out)->style = STYLE_BLOCK;
    else if (style != YAML_PLAIN_SCALAR_STYLE || is_text)
        (*out)->style = STYLE_QUOTED;
    if (!((*out)->text = text_copy(value))) {
        st = fail(ERR_MEMORY, "%s: no memory to read it", b->where);
        goto done;
    }
    for (size_t n = strlen(value); (*out)->style == STYLE_BLOCK && n && value[n - 1] == '\n'; n--)
        (*out)->text[n - 1] = 0, (*out)->breaks++;
done:
    return st;
}

static enum status take_key(struct builder *b, struct node *map, struct node *key)
{
    struct place place = key->place;
    if (key->kind != NODE_SCALAR) return fail(ERR_INPUT, "%s: a key must be a word", place_text(&place));
    size_t n = 0;
    for (const struct node *other = map->child; other; other = other->next, n++)
        if (strcmp(other->key, key->text) == 0)
            return fail(ERR_INPUT, "%s: the key \"%.60s\" stands here for the second time (first in line %zu)",
                        place_text(&place), key->text, other->key_place.line);
    if (n >= MOST_KEYS) return fail(ERR_INPUT, "%s: more than %d keys in one mapping", place_text(&place), MOST_KEYS);
    b->key = key;
    return OK;
}

/* Takes the node over whatever happens; is_key tells that it became a key. */
static enum status attach(struct builder *b, struct node *node, bool *is_key)
{
    enum status st = OK;
    struct node *parent = b->level ? b->open[b->level - 1] : NULL;
    *is_key = parent && parent->kind == NODE_MAP && !b->key;
    if (*is_key) {
        if ((st = take_key(b, parent, node)) != OK) node_free(node);
        return st;
    }
    if (!parent) {
        b->root = node;
        return OK;
    }
    if (b->key) {
        node->key = b->key->text;
        node->key_place = b->key->place;
        b->key->text = NULL;
        node_free(b->key);
        b->key = NULL;
    }
    node_append(parent, node);
    return OK;
}

static enum status open_container(struct builder *b, const yaml_event_t *e, enum node_kind kind)
{
    enum status st = OK;
    bool is_text, is_key;
    struct node *node = NULL;
    struct place place = place_of(b, e->start_mark);
    const yaml_char_t *tag = kind == NODE_MAP ? e->data.mapping_start.tag : e->data.sequence_start.tag;
    TRY(check_tag(b, (const char *)tag, e->start_mark, kind, &is_text));
    if (b->level == MOST_LEVELS) {
        st = fail(ERR_INPUT, "%s: nested deeper than %d levels", place_text(&place), MOST_LEVELS);
        goto done;
    }
    TRY(node_new(kind, &place, &node));
    TRY(attach(b, node, &is_key)); /* a container as a key is refused there */
    b->open[b->level++] = node;
done:
    return st;
}

static const yaml_char_t *anchor_of(const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return e->data.alias.anchor;
    case YAML_SCALAR_EVENT:
        return e->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT:
        return e->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT:
        return e->data.mapping_start.anchor;
    default:
        return NULL;
    }
}

static enum status take_event(struct builder *b, const yaml_event_t *e)
{
    enum status st = OK;
    struct node *node = NULL;
    struct place place = place_of(b, e->start_mark);
    bool is_key;
    if (anchor_of(e))
        return fail(ERR_INPUT, "%s: anchors and aliases are not read here: write the value out", place_text(&place));
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->documents++) return fail(ERR_INPUT, "%s: a second document begins here; one is read", place_text(&place));
        return OK;
    case YAML_SCALAR_EVENT:
        if ((st = scalar_node(b, e, &node)) == OK) return attach(b, node, &is_key);
        node_free(node);
        return st;
    case YAML_MAPPING_START_EVENT:
        return open_container(b, e, NODE_MAP);
    case YAML_SEQUENCE_START_EVENT:
        return open_container(b, e, NODE_LIST);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        b->level--;
        return OK;
    default:
        return OK;
    }
}

static enum status read_events(struct builder *b)
{
    enum status st = OK;
    yaml_event_t e;
    bool more = true;
    while (more) {
        if (!yaml_parser_parse(&b->parser, &e)) return syntax_error(b);
        more = e.type != YAML_STREAM_END_EVENT;
        st = take_event(b, &e);
        yaml_event_delete(&e);
        if (st != OK) return st;
    }
    return st;
}

static enum status skip_byte_order_mark(struct builder *b)
{
    if (b->n > CONFIG_MOST)
        return fail(ERR_INPUT, "%s: %zu bytes are no input file; at most %d are read", b->where, b->n, CONFIG_MOST);
    if (b->n >= 3 && memcmp(b->text, "\xef\xbb\xbf", 3) == 0) b->text += 3, b->n -= 3;
    return OK;
}

enum status tree_parse(const char *where, const char *text, size_t n, bool positions, struct node **out)
{
    enum status st = OK;
    struct builder b = {.where = where, .text = text, .n = n, .positions = positions};
    struct place start = {.file = where};
    char *joined = NULL;
    *out = NULL;
    if (!yaml_parser_initialize(&b.parser)) return fail(ERR_MEMORY, "%s: no memory to read it", where);
    TRY(skip_byte_order_mark(&b));
    TRY(surrogates_join(b.text, b.n, &joined));
    if (joined) b.text = joined, b.n = strlen(joined);
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)b.text, b.n);
    TRY(read_events(&b));
    if (!b.root) {
        if (positions) {
            st = fail(ERR_INPUT, "%s: the file is empty", where);
            goto done;
        }
        TRY(node_new(NODE_SCALAR, &start, &b.root));
        if (!(b.root->text = text_copy(""))) {
            st = fail(ERR_MEMORY, "%s: no memory to read it", where);
            goto done;
        }
    }
    *out = b.root;
    b.root = NULL;
done:
    yaml_parser_delete(&b.parser);
    node_free(b.key);
    node_free(b.root);
    free(joined);
    return st;
}
