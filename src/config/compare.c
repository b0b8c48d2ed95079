/* What a restart may find changed: two configurations key by key, as they are written. */
#include "unlearn/config_priv.h"
#include <math.h>
#include <string.h>

static bool one_line(const struct text *t) { return t->n && strchr(t->data, '\n') == t->data + t->n - 1; }

/* "key: value  # help" -> "value" */
static const char *value_of(struct text *t)
{
    char *colon = strchr(t->data, ':'), *value = colon ? colon + 1 : t->data, *help = strstr(value, "  # ");
    if (help) *help = 0;
    return value + (*value == ' ');
}

static const char *setting_text(const struct row *row, const struct config *c, const char *key)
{
    const struct config_setting *s = *(struct config_setting *const *)member(c, row->at);
    for (size_t i = 0; i < *(const size_t *)member(c, row->count); i++)
        if (!strcmp(s[i].key, key)) return s[i].text;
    return "its default";
}

/* The first parameter of an objective that differs, looked for among those of `in`. */
static enum status changed_setting(const struct row *row, const struct config *in, const struct config *now,
                                   const struct config *then, struct text *out)
{
    const struct config_setting *s = *(struct config_setting *const *)member(in, row->at);
    for (size_t i = 0; i < *(const size_t *)member(in, row->count); i++) {
        const char *a = setting_text(row, now, s[i].key), *b = setting_text(row, then, s[i].key);
        if (strcmp(a, b))
            return text_print(out, "%.*s%s is not what it was: now %s, then %s", (int)strlen(row->path) - 1, row->path,
                              s[i].key, a, b);
    }
    return OK;
}

/* When it is measured decides nothing but where a guard acts on what was, and whether there is a window to be saved. */
static bool is_free(const struct row *row, const struct config *c)
{
    const bool guarded = !isnan(c->guard.budget) || c->guard.layers, window = c->geffect.curvature.window > 0;
    return row->flags & FREE && !((guarded || window) && !strcmp(row->path, "geffect.every"));
}

static enum status changed(const struct row *row, const struct config *now, const struct config *then, struct text *out)
{
    struct text a = {0}, b = {0};
    enum status st;
    TRY(row_write(row, now, &a));
    TRY(row_write(row, then, &b));
    if (is_free(row, then) || !strcmp(a.data, b.data)) goto done;
    TRY(text_print(out, "%s is not what it was", row->path));
    if (one_line(&a) && one_line(&b)) TRY(text_print(out, ": now %s, then %s", value_of(&a), value_of(&b)));
done:
    text_free(&a);
    text_free(&b);
    return st;
}

/* Rows below a "*" are written with the row that holds them. */
enum status config_changed(const struct config *now, const struct config *then, struct text *out)
{
    enum status st = OK;
    for (size_t i = 1; i < config_rows && !out->n && st == OK; i++) {
        const struct row *row = &config_table[i];
        const bool inside = strstr(row->path, ".*.") || (strstr(row->path, ".*") && row->type != SETTINGS);
        if (row->type == SETTINGS && !inside) {
            st = changed_setting(row, now, now, then, out);
            if (st == OK && !out->n) st = changed_setting(row, then, now, then, out);
        } else if (row->type != SECTION && !inside)
            st = changed(row, now, then, out);
    }
    return st;
}

enum status config_free_keys(struct text *out)
{
    enum status st = OK;
    for (size_t i = 1; i < config_rows && st == OK; i++)
        if (config_table[i].flags & FREE) st = text_print(out, "%s%s", out->n ? ", " : "", config_table[i].path);
    return st;
}
