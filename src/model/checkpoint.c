/* A checkpoint directory: one safetensors file, or several with an index that says which tensor is where. Finds every
 * parameter of a layout in it and compares shapes; tensors that the model does not use are left alone.               */
#include "unlearn/model_priv.h"
#include <stdlib.h>
#include <string.h>

enum { INDEX_BYTES = 32 << 20 };
static const char single[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

static const char *shape_text(size_t n, const size_t *dim, char buffer[128])
{
    size_t at = (size_t)snprintf(buffer, 128, "[");
    for (size_t i = 0; i < n && at < 128; i++)
        at += (size_t)snprintf(buffer + at, 128 - at, "%s%zu", i ? ", " : "", dim[i]);
    if (at < 127) snprintf(buffer + at, 128 - at, "]");
    return buffer;
}

static enum status check_tensor(const char *path, const struct param *p, const struct tensor *t)
{
    const size_t want[] = {param_file_rows(p), param_file_cols(p)}, n = p->vector ? 1 : 2;
    char a[128], b[128];
    if (!t)
        return fail(ERR_INPUT, "%s: tensor %s of shape %s is missing; config.json asks for it", path, p->name,
                    shape_text(n, want, a));
    if (t->n_dim != n || memcmp(t->dim, want, n * sizeof *want) != 0)
        return fail(ERR_INPUT, "%s: tensor %s: has shape %s, config.json asks for %s", path, p->name,
                    shape_text(t->n_dim, t->dim, a), shape_text(n, want, b));
    if (!t->readable)
        return fail(ERR_INPUT, "%s: tensor %s: is of type %s; F32, BF16, F16 and F64 can be read", path, p->name,
                    t->type);
    return OK;
}

/* What older files call it: without the prefix. */
static const char *old_name(const struct layout *l, const struct param *p)
{
    const char *prefix = l->shape->row->prefix;
    const size_t n = prefix ? strlen(prefix) : 0;
    return n && !strncmp(p->name, prefix, n) ? p->name + n : p->name;
}

static const struct tensor *find(const struct safetensors *f, const struct layout *l, const struct param *p)
{
    const struct tensor *t = safetensors_find(f, p->name);
    return t ? t : safetensors_find(f, old_name(l, p));
}

/* ---------------------------------------------------------------------------------------------------- the index ----- */
/* Only names of files in the directory itself: an index must not lead to any other place. */
static bool plain_name(const json_t *j)
{
    const char *s = json_string_value(j);
    return s && *s && *s != '.' && strlen(s) == json_string_length(j) && !strchr(s, '/') && !strchr(s, '\\');
}

static enum status open_file(struct checkpoint *c, const char *dir, const char *name, size_t *which)
{
    enum status st = OK;
    char *path = NULL;
    TRY(path_join(dir, name, &path));
    for (*which = 0; *which < c->n_file; ++*which)
        if (!strcmp(c->file[*which]->path, path)) goto done;
    TRY(safetensors_open(path, &c->file[*which]));
    c->n_file++;
done:
    free(path);
    return st;
}

static enum status find_in_index(struct checkpoint *c, const char *dir, const char *path, const json_t *map,
                                 const struct layout *l)
{
    enum status st = OK;
    for (size_t i = 0; i < l->n_param; i++) {
        const struct param *p = &l->param[i];
        const json_t *name = json_object_get(map, p->name);
        if (!name) name = json_object_get(map, old_name(l, p));
        if (!name) TRY(check_tensor(path, p, NULL));
        if (!plain_name(name)) {
            st = fail(ERR_INPUT, "%s: tensor %s: its file must be a plain name, in the same directory", path, p->name);
            goto done;
        }
        TRY(open_file(c, dir, json_string_value(name), &c->file_of[i]));
        c->at[i] = find(c->file[c->file_of[i]], l, p);
        TRY(check_tensor(c->file[c->file_of[i]]->path, p, c->at[i]));
    }
done:
    return st;
}

static enum status open_index(struct checkpoint *c, const char *dir, const char *path, const struct layout *l)
{
    enum status st = OK;
    json_t *index = NULL, *map;
    TRY(json_read(path, INDEX_BYTES, &index));
    map = json_object_get(index, "weight_map");
    if (!json_is_map(map)) {
        st = fail(ERR_INPUT, "%s: weight_map: is not an object", path);
        goto done;
    }
    TRY(find_in_index(c, dir, path, map, l));
done:
    json_decref(index);
    return st;
}

/* ------------------------------------------------------------------------------------------------ the directory ----- */
static enum status open_single(struct checkpoint *c, const char *path, const struct layout *l)
{
    enum status st = OK;
    TRY(safetensors_open(path, &c->file[0]));
    c->n_file = 1;
    for (size_t i = 0; i < l->n_param; i++) {
        c->at[i] = find(c->file[0], l, &l->param[i]);
        TRY(check_tensor(path, &l->param[i], c->at[i]));
    }
done:
    return st;
}

enum status checkpoint_open(const char *dir, const struct layout *l, struct checkpoint **out)
{
    enum status st = OK;
    struct checkpoint *c = *out = NULL;
    char *one = NULL, *many = NULL;
    TRY(path_join(dir, single, &one));
    TRY(path_join(dir, index_name, &many));
    TRY_NEW(c, 1);
    TRY_NEW(c->file, l->n_param);
    TRY_NEW(c->at, l->n_param);
    TRY_NEW(c->file_of, l->n_param);
    if (!file_exists(one) && file_exists(many))
        TRY(open_index(c, dir, many, l));
    else
        TRY(open_single(c, one, l));
    *out = c, c = NULL;
done:
    free(one);
    free(many);
    checkpoint_close(c);
    return st;
}

void checkpoint_close(struct checkpoint *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n_file; i++) safetensors_close(c->file[i]);
    free(c->file);
    free(c->at);
    free(c->file_of);
    free(c);
}

enum status weights_check(const char *dir, const struct layout *l)
{
    struct checkpoint *c;
    enum status st = checkpoint_open(dir, l, &c);
    checkpoint_close(c);
    return st;
}
