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

static const struct config_setting *setting_of(const struct config_objective *o, const char *key)
{
    for (size_t i = 0; i < o->n_setting; i++)
        if (!strcmp(o->setting[i].key, key)) return &o->setting[i];
    return NULL;
}

/* Two settings of one key of one objective; NULL: not written. */
static bool same_setting(const struct config_objective *o, const struct config_setting *a, const struct config_setting *b,
                         setting_default *is_default)
{
    if (a && is_default && is_default(o, a)) a = NULL;
    if (b && is_default && is_default(o, b)) b = NULL;
    if (!a || !b) return a == b;
    return a->is_number && b->is_number ? a->number == b->number : !strcmp(a->text, b->text);
}

/* The first parameter of the objective that differs, looked for among those of `in`. */
static enum status changed_setting(const struct config_objective *in, const struct config_objective *now,
                                   const struct config_objective *then, setting_default *is_default, struct text *out)
{
    for (size_t i = 0; i < in->n_setting; i++) {
        const char *key = in->setting[i].key;
        const struct config_setting *a = setting_of(now, key), *b = setting_of(then, key);
        if (!same_setting(in, a, b, is_default))
            return text_print(out, "objective.%s is not what it was: now %s, then %s", key, a ? a->text : "its default",
                              b ? b->text : "its default");
    }
    return OK;
}

/* When it is measured decides nothing but where a guard acts on what was, and whether there is a window to be saved. */
static bool is_free(const struct row *row, const struct config *c)
{
    const bool guarded = !isnan(c->guard.budget) || c->guard.layers, window = c->geffect.curvature.window > 0;
    return row->flags & FREE && !((guarded || window) && !strcmp(row->path, "geffect.every"));
}

static enum status changed(const struct row *row, const struct config *now, const struct config *then,
                           setting_default *is_default, struct text *out)
{
    struct text a = {0}, b = {0};
    enum status st;
    TRY(row_write(row, now, is_default, &a));
    TRY(row_write(row, then, is_default, &b));
    if (is_free(row, then) || !strcmp(a.data, b.data)) goto done;
    TRY(text_print(out, "%s is not what it was", row->path));
    if (one_line(&a) && one_line(&b)) TRY(text_print(out, ": now %s, then %s", value_of(&a), value_of(&b)));
done:
    text_free(&a);
    text_free(&b);
    return st;
}

/* Rows below a "*" are written with the row that holds them; SETTINGS that are below none are those of `objective`. */
enum status config_changed(const struct config *now, const struct config *then, setting_default *is_default,
                           struct text *out)
{
    enum status st = OK;
    for (size_t i = 1; i < config_rows && !out->n && st == OK; i++) {
        const struct row *row = &config_table[i];
        const bool inside = strstr(row->path, ".*.") || (strstr(row->path, ".*") && row->type != SETTINGS);
        if (row->type == SETTINGS && !inside) {
            st = changed_setting(&now->objective, &now->objective, &then->objective, is_default, out);
            if (st == OK && !out->n)
                st = changed_setting(&then->objective, &now->objective, &then->objective, is_default, out);
        } else if (row->type != SECTION && !inside)
            st = changed(row, now, then, is_default, out);
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
