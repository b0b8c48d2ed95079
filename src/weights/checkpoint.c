/* A checkpoint directory: one safetensors file, or several with an index that says which tensor is where. Finds every
 * parameter of a layout in it and compares shapes; tensors that the model does not use are left alone.               */
#include "unlearn/weights_priv.h"
#include <dirent.h>
#include <fnmatch.h>
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

static const struct tensor *find(const struct safetensors *f, const struct layout *l, const struct param *p, bool tied)
{
    const struct tensor *t = NULL;
    const char *name;
    for (size_t i = 0; !t && (name = param_file_name(l, p, tied, i)); i++) t = safetensors_find(f, name);
    return t;
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

/* What was found of parameter i, NULL for nothing, must be there and fit. */
static enum status settle(struct checkpoint *c, const char *path, const struct layout *l, size_t i,
                          const struct tensor *t, bool headless)
{
    c->at[i] = t;
    return !t && headless && l->param[i].role == ROLE_HEAD ? OK : check_tensor(path, &l->param[i], t);
}

static enum status find_in_index(struct checkpoint *c, const char *dir, const char *path, const json_t *map,
                                 const struct layout *l, bool headless)
{
    enum status st = OK;
    for (size_t i = 0; i < l->n_param; i++) {
        const struct param *p = &l->param[i];
        const json_t *name = NULL;
        const char *key = NULL;
        for (size_t k = 0; !name && (key = param_file_name(l, p, headless || l->shape->tied, k)); k++)
            name = json_object_get(map, key);
        if (!name) {
            TRY(settle(c, path, l, i, NULL, headless));
            continue;
        }
        if (!plain_name(name)) {
            st = fail(ERR_INPUT, "%s: tensor %s: its file must be a plain name, in the same directory", path, p->name);
            goto done;
        }
        TRY(open_file(c, dir, json_string_value(name), &c->file_of[i]));
        TRY(settle(c, c->file[c->file_of[i]]->path, l, i, safetensors_find(c->file[c->file_of[i]], key), headless));
    }
done:
    return st;
}

static enum status open_index(struct checkpoint *c, const char *dir, const char *path, const struct layout *l,
                              bool headless)
{
    enum status st = OK;
    json_t *index = NULL, *map;
    TRY(json_read(path, INDEX_BYTES, &index));
    map = json_object_get(index, "weight_map");
    if (!json_is_map(map)) {
        st = fail(ERR_INPUT, "%s: weight_map: is not an object", path);
        goto done;
    }
    TRY(find_in_index(c, dir, path, map, l, headless));
done:
    json_decref(index);
    return st;
}

/* ------------------------------------------------------------------------------------------------ the directory ----- */
static enum status open_single(struct checkpoint *c, const char *path, const struct layout *l, bool headless)
{
    enum status st = OK;
    TRY(safetensors_open(path, &c->file[0]));
    c->n_file = 1;
    for (size_t i = 0; i < l->n_param; i++)
        TRY(settle(c, path, l, i, find(c->file[0], l, &l->param[i], headless || l->shape->tied), headless));
done:
    return st;
}

/* What may stand there instead of what can be read, and what it is and what to do; NULL: to be converted. */
static const struct {
    const char *pattern, *advice;
} instead[] = {
    {"*-*-of-*.safetensors",
     "shards without model.safetensors.index.json, which says where each tensor is: get it from where "
     "they come from"},
    {"adapter_model.safetensors", "an adapter alone: merge it into its model (peft: merge_and_unload()) and save that"},
    {"*.safetensors", "weights under another name: call them model.safetensors where they are the whole model"},
    {"pytorch_model*.bin", NULL},
    {"consolidated*.pth", NULL},
    {"*.gguf", NULL},
    {"tf_model.h5", NULL},
    {"flax_model*.msgpack", NULL},
};

/* The first name of the directory, by the alphabet, that fits the pattern; "" where none does. */
static void first_name(DIR *d, const char *pattern, char name[256])
{
    struct dirent *e;
    *name = 0;
    rewinddir(d);
    while ((e = readdir(d)))
        if (!fnmatch(pattern, e->d_name, FNM_PERIOD) && (!*name || strcmp(e->d_name, name) < 0))
            snprintf(name, 256, "%s", e->d_name);
}

/* Neither model.safetensors nor an index is there, unless as a link that leads nowhere: whether something else is. */
static enum status check_instead(const char *dir)
{
    static const char convert[] = "only safetensors are read: load it with transformers (AutoModelForCausalLM."
                                  "from_pretrained) and save it again (save_pretrained)";
    enum status st = OK;
    char name[256];
    DIR *d = opendir(dir);
    for (size_t i = 0; d && i < sizeof instead / sizeof *instead && st == OK; i++) {
        first_name(d, instead[i].pattern, name);
        if (!*name || !strcmp(name, single)) continue;
        if (strstr(name, ".bin"))
            st = fail(ERR_INPUT,
                      "%s: has no %s, but %s: %s: python -c 'from transformers import AutoModelForCausalLM as M; "
                      "M.from_pretrained(\"%s\").save_pretrained(\"%s\")'",
                      dir, single, name, convert, dir, dir);
        else
            st = fail(ERR_INPUT, "%s: has no %s, but %s: %s", dir, single, name,
                      instead[i].advice ? instead[i].advice : convert);
    }
    if (d) closedir(d);
    return st;
}

static enum status open_directory(const char *dir, const struct layout *l, bool headless, struct checkpoint **out)
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
    if (!file_exists(one) && file_exists(many)) {
        TRY(open_index(c, dir, many, l, headless));
    } else {
        if (!file_exists(one)) TRY(check_instead(dir));
        TRY(open_single(c, one, l, headless));
    }
    *out = c, c = NULL;
done:
    free(one);
    free(many);
    checkpoint_close(c);
    return st;
}

enum status checkpoint_open(const char *dir, const struct layout *l, struct checkpoint **out)
{
    return open_directory(dir, l, false, out);
}

enum status checkpoint_open_headless(const char *dir, const struct layout *l, struct checkpoint **out)
{
    return open_directory(dir, l, true, out);
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

enum status weights_present(const char *dir)
{
    char *one = NULL, *many = NULL;
    enum status st;
    TRY(path_join(dir, single, &one));
    TRY(path_join(dir, index_name, &many));
    if (!file_exists(one) && !file_exists(many)) TRY(check_instead(dir));
done:
    free(one);
    free(many);
    return st;
}

/* Tensors that files hold by custom and no model uses: buffers, which are computed anew. */
static bool by_custom(const char *name)
{
    static const char *const end[] = {".inv_freq", ".attn.bias", ".masked_bias", ".attention.bias"};
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof end / sizeof *end; i++)
        if (n >= strlen(end[i]) && !strcmp(name + n - strlen(end[i]), end[i])) return true;
    return false;
}

/* Whether a file may have a head that is the embedding under this name. */
static bool is_tied_head(const struct layout *l, const char *name)
{
    const struct param *embed = layout_find(l, 0, ROLE_EMBED);
    const char *one;
    for (size_t i = 2; l->shape->tied && (one = param_file_name(l, embed, true, i)); i++) /* behind its own two */
        if (!strcmp(name, one)) return true;
    return false;
}

/* Says of one file what it has beyond config.json. */
static enum status warn_unused(const struct checkpoint *c, const struct layout *l, size_t file)
{
    const struct safetensors *f = c->file[file];
    const char *first = NULL;
    bool *used = NULL;
    size_t n = 0;
    enum status st = OK;
    TRY_NEW(used, f->n);
    for (size_t i = 0; i < l->n_param; i++)
        if (c->at[i] && c->file_of[i] == file) used[c->at[i] - f->tensor] = true;
    for (size_t i = 0; i < f->n; i++)
        if (!used[i] && !by_custom(f->tensor[i].name) && !is_tied_head(l, f->tensor[i].name) && !n++)
            first = f->tensor[i].name;
    if (n)
        log_warn("%s: has %zu tensor%s that the model of config.json does not use, %s for one", f->path, n,
                 n == 1 ? "" : "s", first);
done:
    free(used);
    return st;
}

bool weights_are_half(const char *dir, const struct layout *l)
{
    struct checkpoint *c;
    bool half = checkpoint_open(dir, l, &c) == OK;
    for (size_t i = 0; half && i < l->n_param; i++) half = !c->at[i] || c->at[i]->storage == STORE_BF16;
    checkpoint_close(c);
    fail_clear();
    return half;
}

enum status weights_check(const char *dir, const struct layout *l)
{
    struct checkpoint *c;
    enum status st = checkpoint_open(dir, l, &c);
    for (size_t i = 0; st == OK && i < c->n_file; i++) st = warn_unused(c, l, i);
    checkpoint_close(c);
    return st;
}
