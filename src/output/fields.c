/* Files from tables in which one row stands for a field of each regulariser. */
#include "unlearn/output.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tables with their regulariser rows written out; the texts made for them are kept until the file exists. */
struct expanded {
    struct field *field;
    size_t n, n_text;
    char **text;
};

static void expanded_free(struct expanded *e)
{
    for (size_t i = 0; e->text && i < e->n_text; i++) free(e->text[i]);
    free(e->text);
    free(e->field);
}

static enum status fill_in(struct expanded *e, const char *pattern, const char *name, const char **out)
{
    const char *hole = strstr(pattern, "%s");
    struct text t = {0};
    enum status st = OK;
    if (!hole) return OK;
    TRY(text_add(&t, pattern, (size_t)(hole - pattern)));
    TRY(text_print(&t, "%s%s", name, hole + 2));
    *out = e->text[e->n_text++] = t.data;
    return OK;
done:
    text_free(&t);
    return st;
}

static enum status make_room(struct expanded *e, size_t n_field, size_t n_text)
{
    struct field *field = realloc(e->field, n_field * sizeof *field);
    char **text = field ? realloc(e->text, n_text * sizeof *text) : NULL;
    if (field) e->field = field;
    if (text) e->text = text;
    return text ? OK : fail(ERR_MEMORY, "memory: cannot allocate the table of a file's fields");
}

/* Behind the rows that e has already. */
static enum status expand(const struct field *table, size_t n, const char *objective, size_t n_name,
                          const char *const *name, struct expanded *e)
{
    enum status st = OK;
    TRY(make_room(e, e->n + n * (n_name + 1), e->n_text + 2 * n * (n_name + 1)));
    for (size_t i = 0; i < n; i++) {
        bool each = strstr(table[i].name, "%s") != NULL;
        for (size_t k = 0; k < (each ? n_name : 1); k++) {
            struct field *f = &e->field[e->n++];
            *f = table[i];
            TRY(fill_in(e, table[i].name, each ? name[k] : objective, &f->name));
            TRY(fill_in(e, table[i].long_name, each ? name[k] : objective, &f->long_name));
        }
    }
done:
    return st;
}

/* The title is the first attribute. */
static enum status with_title(const char *title, size_t n, const struct attribute *attribute, struct attribute **out)
{
    struct attribute *all = NULL;
    enum status st = OK;
    TRY_NEW(all, n + 1);
    all[0] = (struct attribute){"title", title};
    for (size_t i = 0; i < n; i++) all[i + 1] = attribute[i];
done:
    *out = all;
    return st;
}

enum status file_create_named(const char *path, const struct file_tables *t, size_t n_attribute,
                              const struct attribute *attribute, struct file **out)
{
    enum status st = OK;
    struct expanded e = {0};
    struct axis *used = NULL;
    struct attribute *all = NULL;
    size_t n_axis = 0;
    *out = NULL;
    TRY_NEW(used, t->n_axis);
    for (size_t i = 0; i < t->n_axis; i++)
        if (t->axis[i].n || t->axis[i].unlimited) used[n_axis++] = t->axis[i];
    for (size_t i = 0; i < t->n_list; i++)
        TRY(expand(t->list[i].field, t->list[i].n, t->objective, t->n_name, t->name, &e));
    TRY(with_title(t->title, n_attribute, attribute, &all));
    TRY(file_create(path, n_axis, used, e.n, e.field, n_attribute + 1, all, out));
done:
    free(used), free(all);
    expanded_free(&e);
    return st;
}
