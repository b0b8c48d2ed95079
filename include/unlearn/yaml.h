/* yaml: a text of YAML, or of JSON, becomes a tree of nodes that know where they stand. The only room that calls libyaml. */
#ifndef UNLEARN_YAML_H
#define UNLEARN_YAML_H
#include "unlearn/core.h"

#define CONFIG_MOST 1048576 /* bytes of an input file */

struct place {        /* where a value was written; line 0: nowhere (a default) */
    const char *file; /* borrowed from the config; "command line: key=value" (and line 0) for an override */
    size_t line, column;
};

/** "FILE:LINE:COLUMN" of a place, or the file alone; static, overwritten by the next call. */
const char *place_text(const struct place *p);

enum node_kind { NODE_SCALAR, NODE_MAP, NODE_LIST };
enum node_style { STYLE_PLAIN, STYLE_QUOTED, STYLE_BLOCK }; /* only plain scalars can be numbers, true, false, null */

struct node {
    enum node_kind kind;
    enum node_style style;
    char *key, *text; /* owned: its key where it stands in a mapping; the value of a scalar */
    size_t breaks;    /* line breaks that end folded or literal text, and are not in `text` */
    struct place key_place, place;
    struct node *child, *next; /* owned: the first of its own, and the one after it in its parent */
    struct node *last;         /* borrowed: the last of its own */
};
/** One YAML document of `n` bytes (JSON is YAML's flow style). Refused: duplicate keys, anchors, aliases, foreign tags,
 *  NUL, more than 32 levels, more than one document. `where` names the text in messages and is borrowed by the places;
 *  positions false: places carry no line (a command line has none), and an empty text is null.                  Local. */
enum status tree_parse(const char *where, const char *text, size_t n, bool positions, struct node **out);
/** A copy of `text` with the pairs of escapes that stand for one character joined, where it is JSON and has any; else *out
 *  is NULL.                                                                                                      Local. */
enum status surrogates_join(const char *text, size_t n, char **out);
enum status node_new(enum node_kind kind, const struct place *place, struct node **out);
void node_free(struct node *node); /* and all that follow it; NULL is fine */
void node_append(struct node *parent, struct node *child);
struct node *node_find(const struct node *map, const char *key); /* NULL where there is none, or map is NULL */
bool node_is_null(const struct node *node);
size_t node_count(const struct node *parent);
#endif
