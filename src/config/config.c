/* The life of a configuration: text and overrides -> tree -> struct, and its end. */
#include "unlearn/config_priv.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t row_of(const char *key)
{
    size_t i = 0;
    while (i < config_rows && strcmp(config_table[i].path, key) != 0) i++;
    assert(i < config_rows && !strchr(key, '*'));
    return i;
}

struct place config_place(const struct config *c, const char *key) { return c->private->place[row_of(key)]; }
bool config_wrote(const struct config *c, const struct place *p) { return p->line || p->file != c->file; }
bool config_given(const struct config *c, const char *key) { return c->private->given[row_of(key)]; }

enum status config_usual(const struct config *c, const char *key, bool *usual)
{
    return row_usual(&config_table[row_of(key)], c, usual);
}

static enum status apply_overrides(struct config *c, int n, char *const *override, struct node *root)
{
    enum status st = OK;
    struct text all = {0};
    TRY(text_print(&all, "%s", ""));
    TRY_NEW(c->private->where, (size_t)n);
    for (int i = 0; i < n; i++) {
        struct text where = {0};
        TRY(text_print(&all, "%s%s", i ? "\n" : "", override[i]));
        st = text_print(&where, "command line: %s", override[i]);
        c->private->where[c->private->n_where++] = where.data;
        if (st == OK) st = override_apply(where.data, override[i], root);
        if (st != OK) goto done;
    }
    c->overrides = all.data, all.data = NULL;
done:
    text_free(&all);
    return st;
}

static enum status keep_text(struct config *c, const char *file, const char *text, size_t n)
{
    enum status st = OK;
    TRY_NEW(c->private, 1);
    TRY_NEW(c->private->place, config_rows);
    TRY_NEW(c->private->given, config_rows);
    TRY_NEW(c->text, n + 1);
    memcpy(c->text, text, n);
    if (!(c->file = text_copy(file))) st = fail(ERR_MEMORY, "%s: no memory to read it", file);
done:
    return st;
}

enum status config_parse(const char *file, const char *text, size_t n, int n_override, char *const *override,
                         struct config **out)
{
    enum status st = OK;
    struct node *root = NULL;
    struct config *c = *out = NULL;
    TRY_NEW(c, 1);
    TRY(keep_text(c, file, text, n));
    TRY(tree_parse(c->file, text, n, true, &root));
    if (root->kind != NODE_MAP) {
        st = fail(ERR_INPUT, "%s: an input is a mapping of keys (key: value)", place_text(&root->place));
        goto done;
    }
    TRY(apply_overrides(c, n_override, override, root));
    TRY(preset_apply(root));
    TRY(config_read(c, root));
    TRY(config_finish(c));
    *out = c;
    c = NULL;
done:
    node_free(root);
    config_free(c);
    return st;
}

enum status config_open(const char *file, int n_override, char *const *override, struct config **out)
{
    enum status st;
    char *text = NULL;
    size_t n;
    TRY(file_read(file, CONFIG_MOST, &text, &n));
    st = config_parse(file, text, n, n_override, override, out);
done:
    free(text);
    return st;
}

static void settings_free(struct config_setting *setting, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(setting[i].key);
        free(setting[i].text);
    }
    free(setting);
}

static void record_free(const struct row *section, void *record);

static void row_free(const struct row *row, void *record)
{
    if (row->at == NOWHERE) return;
    char **one = member(record, row->at);
    size_t n = row->count ? *(size_t *)member(record, row->count) : 0;
    if (row->type == SECTION)
        record_free(row, record);
    else if (row->type == TEXT || row->type == PATH || row->type == WORD)
        free(*one);
    else if (row->type == SETTINGS)
        settings_free(*(struct config_setting **)(void *)one, n);
    else if (row->type == WORDS || row->type == RECORDS || row->type == NAMED) {
        for (size_t i = 0; i < n; i++) {
            char *element = *one + i * row->size;
            if (row->type == WORDS) free((*(char ***)(void *)one)[i]);
            if (row->type == NAMED) free(*(char **)(void *)element);
            if (row->type != WORDS) record_free(row_any(row), element);
        }
        free(*one);
    }
}

static void record_free(const struct row *section, void *record)
{
    for (size_t i = 1; i < config_rows; i++)
        if (row_is_child(&config_table[i], section)) row_free(&config_table[i], record);
}

void config_free(struct config *c)
{
    if (!c) return;
    record_free(&config_table[0], c);
    for (size_t i = 0; c->private && i < c->private->n_where; i++) free(c->private->where[i]);
    if (c->private) free(c->private->where), free(c->private->place), free(c->private->given);
    free(c->private);
    free(c->file);
    free(c->text);
    free(c->overrides);
    free(c);
}
