/* manifest.json of a checkpoint: what it holds, with the size and the hash of every file, and what run it is of. */
#include "unlearn/restart_priv.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_MANIFEST = 64 << 20 };
static const char MANIFEST[] = "manifest.json", ITSELF[] = "xxh3";

static const char *precision(void) { return sizeof(real) == 8 ? "float64" : "float32"; }

static const char *byte_order(void)
{
    const uint16_t one = 1;
    return *(const unsigned char *)&one ? "little" : "big";
}

enum status state_directory(const char *dir, const char *name, char **path)
{
    enum status st = path_join(dir, name, path);
    for (char *s = st == OK ? *path + strlen(*path) - strlen(name) : NULL; s && *s; s++)
        if (*s == ' ') *s = '_';
    return st;
}

/* ------------------------------------------------------------------------------------------------------ hashes ----- */
static uint64_t hash_sets(const struct inputs *in)
{
    const struct evaluation_inputs *e = in->evaluation;
    uint64_t h = 0;
    for (size_t i = 0; e && i < e->n; i++)
        for (int k = 0; k < N_VARIANT_OF; k++)
            if (e->set[i].of[k].data) h = hash_bytes(&e->set[i].of[k].data->hash, sizeof h, h);
    if (e && e->most_prompts && ends_differ(in)) h = hash_bytes(in->ends.id, in->ends.n * sizeof *in->ends.id, h);
    return h;
}

static uint64_t hash_risks(const struct inputs *in)
{
    uint64_t h = 0;
    for (size_t k = 0; k < in->n_risk; k++) h = hash_bytes(&in->risk[k].data->hash, sizeof h, h);
    return h;
}

static uint64_t hash_direction(const struct inputs *in, const struct objective *o, uint64_t h)
{
    return o->direction ? hash_bytes(o->direction, in->shape->hidden * sizeof *o->direction, h) : h;
}

static uint64_t hash_directions(const struct inputs *in)
{
    uint64_t h = 0;
    for (size_t j = 0; j < in->n_measured; j++) h = hash_direction(in, &in->measured[j], h);
    return h;
}

enum status manifest_content(const struct subject *s, json_t **out)
{
    const struct inputs *in = s->in;
    const struct {
        const char *key;
        uint64_t hash;
    } content[] = {
        {"model.path", s->hash_weights},
        {"model.path (config.json)", shape_hash(in->shape)},
        {"model.reference", subject_reads_reference(in) ? s->hash_reference : 0},
        {"data.forget", in->forget ? in->forget->hash : 0},
        {"data.retain", in->retain ? in->retain->hash : 0},
        {"data.idk", in->refusals ? in->refusals->hash : 0},
        {"geffect.risks", hash_risks(in)},
        {"direction", hash_direction(in, &in->objective, 0)}, /* of the one that is trained */
        {"geffect.objectives", hash_directions(in)},          /* their directions */
        {"evaluate.sets", hash_sets(in)},
    };
    int failed = !(*out = json_object());
    for (size_t i = 0; i < sizeof content / sizeof *content && !failed; i++)
        failed = json_object_set_new(*out, content[i].key, hash_json(content[i].hash));
    if (!failed) return OK;
    json_decref(*out), *out = NULL;
    return fail(ERR_MEMORY, "memory: cannot allocate the list of what was read");
}

/* The hash of the manifest itself, of all but this one member: compact, keys in order, as any JSON library can write it. */
static enum status hash_manifest(json_t *manifest, json_t **out)
{
    json_t *own = json_incref(json_object_get(manifest, ITSELF));
    char *text;
    if (own) json_object_del(manifest, ITSELF);
    text = json_text(manifest, JSON_COMPACT | JSON_SORT_KEYS);
    if (own) json_object_set_new(manifest, ITSELF, own);
    *out = text ? hash_json(hash_bytes(text, strlen(text), 0)) : NULL;
    free(text);
    return *out ? OK : fail(ERR_MEMORY, "memory: cannot allocate the text of a manifest");
}

/* ------------------------------------------------------------------------------------------------------ writing ----- */
/* What was saved: names of the states' directories and their files; numbers. */
static enum status add_saved(json_t *manifest, const char *dir, struct training *t,
                             const struct written written[MOST_SAVED])
{
    struct saved saved[MOST_SAVED];
    const size_t n = training_saved(t, saved);
    json_t *states = json_array(), *numbers = json_object(), *files = json_object();
    char *path = NULL;
    int failed = 0;
    enum status st = OK;
    for (size_t i = 0; i < n; i++) {
        if (!saved[i].state) {
            failed |= json_object_set_new(numbers, saved[i].name, json_integer((json_int_t)*saved[i].number));
            continue;
        }
        failed |= json_array_append_new(states, json_string(saved[i].name));
        TRY(state_directory("", saved[i].name, &path));
        TRY(files_add(files, dir, path + 1, &written[i])); /* without the slash */
        free(path), path = NULL;
    }
done:
    failed |= json_object_set_new(manifest, "states", states);
    failed |= json_object_set_new(manifest, "numbers", numbers);
    failed |= json_object_set_new(manifest, "files", files);
    free(path);
    return failed && st == OK ? fail(ERR_MEMORY, "%s: no memory for its manifest", dir) : st;
}

/* What last bits depend on. What is as in programs that had no choice is not named: the BLAS library's products, no state but the
 * moments shared, all risks held together, and each regulariser's gradient apart. */
json_t *manifest_layout(const struct plan *p)
{
    return json_pack("{s:i, s:i, s:i, s:I, s:s, s:s*, s:s*, s:s*, s:s*}", "data", p->data, "tensor", p->tensor, "threads",
                     p->threads, "tokens", (json_int_t)p->tokens, "library", math_library(), "products",
                     math_products_now() == BY_BLAS ? NULL : math_onednn(), "shard", plan_shares_all(p) ? "full" : NULL,
                     "risks", p->in_turn ? "in_turn" : NULL, "regularizers", p->apart ? NULL : "together");
}

bool restart_way(const struct restart *r, const struct grid *world, struct way *way)
{
    const json_t *l = world->rank ? NULL : json_object_get(r->manifest, "layout");
    const json_int_t data = json_integer_value(json_object_get(l, "data")),
                     tensor = json_integer_value(json_object_get(l, "tensor")),
                     tokens = json_integer_value(json_object_get(l, "tokens"));
    *way = (struct way){.apart = !json_object_get(l, "regularizers"),
                        .in_turn = json_object_get(l, "risks") != NULL,
                        .shard = json_object_get(l, "shard") ? SHARD_FULL : SHARD_NONE};
    if (data > 0 && tensor > 0 && data <= world->size && data * tensor == world->size && tokens > 0)
        way->data = (int)data, way->tensor = (int)tensor, way->tokens = (size_t)tokens;
    comm_broadcast(world->world, way, sizeof *way, 0);
    return way->tokens > 0;
}

const char *restart_products(const struct restart *r)
{
    return json_string_value(json_object_get(json_object_get(r->manifest, "layout"), "products"));
}

static json_t *head(const struct training *t, const struct text *input, size_t step, size_t log_bytes)
{
    return json_pack("{s:i, s:i, s:s, s:I, s:s, s:s, s:I, s:o, s:s%}", "format", FORMAT, INPUT_RULES, RULES, "program",
                     UNLEARN_VERSION " (" UNLEARN_COMMIT ")", "step", (json_int_t)step, "precision", precision(),
                     "byte_order", byte_order(), "log_bytes", (json_int_t)log_bytes, "layout",
                     manifest_layout(t->subject->plan), "input", input->data, input->n);
}

/* Takes the value over. */
static enum status put(json_t *manifest, const char *key, json_t *value)
{
    return json_object_set_new(manifest, key, value) ? fail(ERR_MEMORY, "memory: cannot allocate a manifest") : OK;
}

enum status manifest_write(const char *dir, struct training *t, size_t step, size_t log_bytes,
                           const struct result_rows *rows, const struct written written[MOST_SAVED])
{
    json_t *manifest = NULL, *content = NULL, *itself = NULL;
    struct text input = {0};
    char *path = NULL, *text = NULL;
    enum status st;
    TRY(config_write(t->subject->in->config, &input));
    if (!(manifest = head(t, &input, step, log_bytes))) {
        st = fail(ERR_MEMORY, "%s: no memory for its manifest", dir);
        goto done;
    }
    TRY(add_saved(manifest, dir, t, written));
    TRY(manifest_content(t->subject, &content));
    TRY(put(manifest, "content", content));
    TRY(put(manifest, "rows",
            json_pack("{s:I, s:I, s:I}", "geffect.h5", (json_int_t)rows->geffect, "evaluation.h5",
                      (json_int_t)rows->evaluation, "train.h5", (json_int_t)rows->train)));
    TRY(hash_manifest(manifest, &itself));
    TRY(put(manifest, ITSELF, itself));
    TRY(path_join(dir, MANIFEST, &path));
    if (!(text = json_text(manifest, JSON_INDENT(1)))) {
        st = fail(ERR_MEMORY, "%s: no memory for its text", path);
        goto done;
    }
    TRY(output_write_text(path, text, strlen(text)));
done:
    json_decref(manifest);
    text_free(&input);
    free(path), free(text);
    return st;
}

/* ------------------------------------------------------------------------------------------------------ reading ----- */
static bool all_there(const char *path, const json_t *manifest, size_t step, struct text *why)
{
    static const struct {
        const char *key;
        json_type type;
    } needed[] = {{"format", JSON_INTEGER}, {"precision", JSON_STRING},  {"byte_order", JSON_STRING},
                  {"step", JSON_INTEGER},   {"log_bytes", JSON_INTEGER}, {"input", JSON_STRING},
                  {"states", JSON_ARRAY},   {"numbers", JSON_OBJECT},    {"files", JSON_OBJECT},
                  {"content", JSON_OBJECT}};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        const json_t *value = json_object_get(manifest, needed[i].key);
        if (value && json_typeof(value) == needed[i].type && json_integer_value(value) >= 0) continue; /* 0: no integer */
        text_print(why, "%s: has no sound \"%s\"", path, needed[i].key);
        return false;
    }
    if ((uint64_t)json_integer_value(json_object_get(manifest, "step")) == step) return true;
    text_print(why, "%s: is of another step", path);
    return false;
}

static enum status unchanged(const char *path, json_t *manifest, bool *same, struct text *why)
{
    json_t *itself = NULL;
    enum status st;
    *same = false;
    if (!json_is_object(manifest)) return text_print(why, "%s: is not a JSON object", path);
    TRY(hash_manifest(manifest, &itself));
    if (!(*same = json_equal(itself, json_object_get(manifest, ITSELF))))
        st = text_print(why, "%s: its content is not what was written (checksum)", path);
done:
    json_decref(itself);
    return st;
}

/* Nothing is guessed of what this program cannot know. */
static enum status check_kind(const char *path, const json_t *manifest)
{
    const json_t *format = json_object_get(manifest, "format");
    const char *real_type = json_string_value(json_object_get(manifest, "precision"));
    const char *order = json_string_value(json_object_get(manifest, "byte_order"));
    if (json_is_integer(format) && json_integer_value(format) != FORMAT &&
        json_integer_value(format) != FORMAT_OF_ONE_PART)
        return fail(ERR_INPUT, "%s: has format %lld, this program knows %d: go on with the program that wrote it", path,
                    (long long)json_integer_value(format), FORMAT);
    if (real_type && strcmp(real_type, precision()))
        return fail(ERR_INPUT, "%s: is of %s, this program computes in %s: go on with %s", path, real_type, precision(),
                    sizeof(real) == 8 ? "unlearn" : "unlearn-double");
    if (order && strcmp(order, byte_order()))
        return fail(ERR_INPUT, "%s: was written on a machine of the other byte order", path);
    return OK;
}

enum status manifest_read(const char *dir, size_t step, json_t **out, bool *sound, struct text *why)
{
    char *path = NULL;
    const char *name;
    json_t *manifest = NULL, *entry;
    enum status st;
    *sound = false;
    TRY(path_join(dir, MANIFEST, &path));
    if ((st = json_read(path, MOST_MANIFEST, &manifest)) == ERR_INPUT) {
        text_print(why, "%s", fail_message());
        fail_clear();
        st = OK;
        goto done;
    }
    TRY(st);
    TRY(unchanged(path, manifest, sound, why));
    if (!*sound) goto done;
    TRY(check_kind(path, manifest));
    *sound = all_there(path, manifest, step, why);
    json_object_foreach(json_object_get(manifest, "files"), name, entry) if (*sound) *sound =
        file_sound(dir, name, entry, why);
    if (*sound) *out = json_incref(manifest);
done:
    json_decref(manifest);
    free(path);
    return st;
}
