/* "objective.beta=0.1" from the command line: put into the tree before anything is read from it, so that it is checked like
 * the file. A value replaces all that stood under its key; what is missing on the way is added.                      */
#include "unlearn/config_priv.h"
#include <stdlib.h>
#include <string.h>

static void move_node(struct node *from, struct node *to)
{
    to->kind = from->kind, to->style = from->style, to->place = from->place;
    to->text = from->text, to->breaks = from->breaks, to->child = from->child, to->last = from->last;
    from->text = NULL, from->breaks = 0, from->child = from->last = NULL;
}

/* node becomes what value was; key and place in the parent stay */
static void replace(struct node *node, struct node *value)
{
    node_free(node->child);
    free(node->text);
    node->key_place = value->place;
    move_node(value, node);
}

static enum status add_child(struct node *map, const char *key, enum node_kind kind, const struct place *place,
                             struct node **out)
{
    enum status st = OK;
    struct node *node = NULL;
    TRY(node_new(kind, place, &node));
    if (!(node->key = text_copy(key))) {
        st = fail(ERR_MEMORY, "%s: no memory to read it", place->file);
        goto done;
    }
    node_append(map, node);
    *out = node;
    node = NULL;
done:
    node_free(node);
    return st;
}

/* A plain value that stands for a key ("objective: npo") becomes a mapping with that key. */
static enum status spell_out(struct node *node, const char *bare)
{
    enum status st = OK;
    struct node *value = NULL;
    struct node plain = {0};
    move_node(node, &plain);
    node->kind = NODE_MAP;
    if ((st = add_child(node, bare, NODE_SCALAR, &plain.place, &value)) == OK) move_node(&plain, value);
    free(plain.text);
    return st;
}

/* Nothing stands there: what the default says, or an empty mapping. What the default holds has the input's place, line 0. */
static enum status fill(struct node *node, const struct row *row, const struct place *place, const char *file)
{
    enum status st = OK;
    struct node *value = NULL;
    const char *fallback = row && row->fallback && !row_nullable(row) ? row->fallback : "{}";
    TRY(tree_parse(file, fallback, strlen(fallback), false, &value));
    value->place = *place;
    replace(node, value);
done:
    node_free(value);
    return st;
}

/* Makes *node a mapping that the next key can be looked up in; *row follows where a list of one is entered. */
static enum status enter(struct node **node, const struct row **row, const struct place *place, const char *file)
{
    enum status st = OK;
    if (node_is_null(*node)) TRY(fill(*node, *row, place, file));
    if (*row && (*row)->type == RECORDS) {
        *row = row_any(*row);
        if ((*node)->kind == NODE_LIST && node_count(*node) == 0) TRY(fill(*node, *row, place, file));
        if ((*node)->kind == NODE_LIST && node_count(*node) == 1) *node = (*node)->child;
    }
    if ((*node)->kind == NODE_SCALAR && *row && (*row)->bare) TRY(spell_out(*node, (*row)->bare));
    if ((*node)->kind != NODE_MAP)
        st = fail(ERR_INPUT, "%s: %s holds %s: give it a whole new value", place_text(place),
                  *row ? (*row)->path : "the key", (*node)->kind == NODE_LIST ? "a list" : "a value without keys");
done:
    return st;
}

/* The row of a key below row, where the table knows one. */
static const struct row *row_below(const struct row *row, const char *key)
{
    if (!row) return NULL;
    return row->type == NAMED ? row_any(row) : row_child(row, key);
}

static enum status apply_path(char *path, struct node *value, const struct place *place, struct node *root)
{
    enum status st = OK;
    struct node *node = root;
    const struct row *row = &config_table[0];
    for (char *key = path, *dot; key; key = dot) {
        struct node *child;
        if ((dot = strchr(key, '.'))) *dot++ = 0;
        TRY(enter(&node, &row, place, root->place.file));
        row = row_below(row, key);
        if (!(child = node_find(node, key))) {
            TRY(add_child(node, key, NODE_SCALAR, place, &child));
            if (!(child->text = text_copy(""))) {
                st = fail(ERR_MEMORY, "%s: no memory to read it", place->file);
                goto done;
            }
        }
        node = child;
    }
    replace(node, value);
done:
    return st;
}

/* libyaml refuses other bytes in a value; keys do not come to it. */
static enum status check_encoding(const char *where, const char *text)
{
    json_t *string = json_string(text);
    json_decref(string);
    return string ? OK : fail(ERR_INPUT, "%s: not UTF-8 text", where);
}

enum status override_apply(const char *where, const char *text, struct node *root)
{
    enum status st = OK;
    struct place place = {.file = where};
    struct node *value = NULL;
    char *path = NULL;
    const char *equals = strchr(text, '='), *gap = strstr(text, "..");
    if (!equals || equals == text || *text == '.' || equals[-1] == '.' || (gap && gap < equals))
        return fail(ERR_USAGE, "%s: expected key.sub=value", where);
    TRY(check_encoding(where, text));
    if (!(path = text_copy(text))) return fail(ERR_MEMORY, "%s: no memory to read it", where);
    path[equals - text] = 0;
    TRY(tree_parse(where, equals + 1, strlen(equals + 1), false, &value));
    TRY(apply_path(path, value, &place, root));
done:
    node_free(value);
    free(path);
    return st;
}

enum status entry_default(const char *where, struct node *entry, const char *key, const char *value)
{
    enum status st = OK;
    struct place place = {.file = where};
    struct node *parsed = NULL, *child = NULL;
    TRY(tree_parse(where, value, strlen(value), false, &parsed));
    if (entry->kind == NODE_SCALAR) TRY(spell_out(entry, "name"));
    if (!(child = node_find(entry, key))) TRY(add_child(entry, key, NODE_SCALAR, &place, &child));
    replace(child, parsed);
done:
    node_free(parsed);
    return st;
}
