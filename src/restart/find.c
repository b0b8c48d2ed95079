/* Going on: the newest sound checkpoint, whether it is of this run, and what it holds. */
#include "unlearn/restart_priv.h"
#include "unlearn/weights.h"
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------ finding ----- */
/* Programs before optimizer.decay let all parameters decay. Where the input that goes on does not say it either, that
 * stays so. */
static bool decays_all(const struct config *now, struct config *then)
{
    const bool older = !config_given(then, "optimizer.decay") && then->optimizer.weight_decay > 0;
    if (!older) return false;
    if (config_given(now, "optimizer.decay")) {
        then->optimizer.decay = DECAY_ALL;
        return false;
    }
    return true;
}

/* The input of the run before, text [n], against the one that goes on. older: its program knew no input rules. */
static enum status check_input(const char *path, const char *text, size_t n, bool older, const struct config *now,
                               bool *decay)
{
    struct config *then = NULL;
    struct text change = {0}, may = {0};
    enum status st;
    TRY(config_parse(path, text, n, 0, NULL, &then));
    if (older) TRY(config_as_before(then));
    *decay = decays_all(now, then);
    TRY(config_changed(now, then, setting_is_default, &change));
    if (!change.n) goto done;
    if (older && !strncmp(change.data, "geffect.objectives ", 19))
        TRY(text_print(&change,
                       " (the program that made it gave {name: %s} the parameters of objective: write them there)",
                       then->objective.name));
    TRY(config_free_keys(&may));
    st = fail(ERR_INPUT,
              "%s: cannot go on from %s: %s; restore it, or start a new run in another output.directory (a restart may "
              "change: %s)",
              now->file, path, change.data, may.data);
done:
    config_free(then);
    text_free(&change);
    text_free(&may);
    return st;
}

/* That which the checkpoint was made with. */
static enum status check_manifest(const struct restart *r, const struct config *now, bool *decay)
{
    const json_t *input = json_object_get(r->manifest, "input");
    return check_input(r->path, json_string_value(input), json_string_length(input),
                       !json_object_get(r->manifest, INPUT_RULES), now, decay);
}

/* input.yaml does not say by which rules it was read. */
enum status restart_finished(const char *dir, const struct config *now)
{
    char *path = NULL, *text = NULL;
    bool decay;
    size_t n;
    enum status st;
    TRY(path_join(dir, "input.yaml", &path));
    TRY(file_read(path, CONFIG_MOST, &text, &n));
    if (check_input(path, text, n, true, now, &decay) == OK) goto done;
    fail_clear();
    st = check_input(path, text, n, false, now, &decay);
done:
    free(path), free(text);
    return st;
}

static size_t rows_of(const json_t *manifest, const char *file)
{
    const json_t *n = json_object_get(json_object_get(manifest, "rows"), file);
    return json_integer_value(n) > 0 ? (size_t)json_integer_value(n) : 0;
}

static enum status try_one(const char *dir, size_t step, struct restart *r)
{
    struct text path = {0}, why = {0};
    bool sound;
    enum status st;
    TRY(text_print(&path, "%s/checkpoint-%zu", dir, step));
    TRY(manifest_read(path.data, step, &r->manifest, &sound, &why));
    if (!sound) {
        log_warn("%s: is damaged, the one before it is tried: %s", path.data, why.data ? why.data : "");
        goto done;
    }
    r->path = path.data, path.data = NULL;
    r->step = step;
    r->log_bytes = (size_t)json_integer_value(json_object_get(r->manifest, "log_bytes"));
    r->rows = (struct result_rows){.geffect = rows_of(r->manifest, "geffect.h5"),
                                   .evaluation = rows_of(r->manifest, "evaluation.h5"),
                                   .train = rows_of(r->manifest, "train.h5")};
done:
    text_free(&path);
    text_free(&why);
    return st;
}

/* Rank 0. */
static enum status find(const char *dir, const struct config *c, struct restart *r)
{
    size_t *step = NULL, n = 0;
    enum status st;
    TRY(checkpoints_list(dir, &step, &n));
    for (size_t i = n; i-- > 0 && !r->path;) TRY(try_one(dir, step[i], r));
    if (!r->path)
        st = fail(ERR_INPUT,
                  n ? "%s: none of its checkpoints can be used; start the run anew with --overwrite"
                    : "%s: holds no checkpoint to go on from; start the run anew with --overwrite",
                  dir);
    else
        st = check_manifest(r, c, &r->decays_all);
done:
    free(step);
    return st;
}

enum status restart_find(const char *dir, const struct config *c, const struct grid *world, struct restart **out)
{
    struct restart *r = *out = memory_new(1, sizeof *r);
    enum status st = r ? OK : fail(ERR_MEMORY, "memory: cannot allocate the restart");
    uint64_t n[3] = {0};
    TRY(grid_agree(world, st));
    st = world->rank == 0 ? find(dir, c, r) : OK;
    TRY(grid_agree(world, st));
    n[0] = r->step, n[1] = r->path ? strlen(r->path) + 1 : 0, n[2] = r->decays_all;
    comm_broadcast(world->world, n, sizeof n, 0);
    r->step = (size_t)n[0], r->decays_all = n[2];
    if (!r->path && !(r->path = memory_new((size_t)n[1], 1))) st = fail(ERR_MEMORY, "memory: cannot allocate a path");
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, r->path, (size_t)n[1], 0);
done:
    return st;
}

void restart_free(struct restart *r)
{
    if (!r) return;
    json_decref(r->manifest);
    free(r->path);
    free(r);
}

enum status restart_describe(const struct restart *r, const struct plan *p, struct text *out)
{
    json_t *now = manifest_layout(p);
    const bool same = now && json_equal(now, json_object_get(r->manifest, "layout"));
    json_decref(now);
    return text_print(out, "restart    from %s, %s", r->path,
                      !json_object_get(r->manifest, INPUT_RULES)
                          ? "which an earlier program has made: CHANGELOG.md says which numbers have changed"
                      : same ? "as it was: to the last bit"
                             : "which other processes, threads or kernels have made: to rounding");
}

/* ------------------------------------------------------------------------------------------------------ loading ----- */
/* Whether this is read by measurements and evaluations alone. */
static bool trains_without(const struct inputs *in, const char *key)
{
    if (!strcmp(key, "model.reference")) return !in->trains_reference;
    if (!strcmp(key, "data.idk")) return !in->trains_refusals;
    if (!strcmp(key, "direction")) return !in->objective.direction; /* older programs had that of measured ones there */
    return !strcmp(key, "geffect.risks") || !strcmp(key, "geffect.objectives") || !strcmp(key, "evaluate.sets");
}

/* A hash of zeros, or none: not read. */
static bool was_read(const json_t *hash)
{
    const char *text = json_string_value(hash);
    return text && text[strspn(text, "0")];
}

/* What only one of both runs measures or evaluates may be another, or not be there. */
static bool same_content(const struct inputs *in, const char *key, const json_t *now, const json_t *then)
{
    return json_equal(now, then) || (trains_without(in, key) && (!was_read(now) || !was_read(then)));
}

static enum status check_content(const struct restart *r, const struct subject *s)
{
    const json_t *then = json_object_get(r->manifest, "content");
    json_t *now = NULL, *value;
    const char *key;
    enum status st;
    TRY(manifest_content(s, &now));
    json_object_foreach(now, key, value)
    {
        if (same_content(s->in, key, value, json_object_get(then, key))) continue;
        st = fail(ERR_INPUT,
                  "%s: cannot go on from %s: the content of %s is not what it was; restore it, or start a new run in "
                  "another output.directory",
                  s->in->config->file, r->path, key);
        break;
    }
done:
    json_decref(now);
    return st;
}

enum status restart_check(const struct restart *r, const struct subject *s)
{
    return grid_agree(s->grid, s->grid->rank == 0 ? check_content(r, s) : OK);
}

static enum status load_number(const struct restart *r, const struct grid *g, const struct saved *saved)
{
    const json_t *value = g->rank == 0 ? json_object_get(json_object_get(r->manifest, "numbers"), saved->name) : NULL;
    uint64_t number = json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
    enum status st = OK;
    if (g->rank == 0 && !json_is_integer(value)) st = fail(ERR_INPUT, "%s: has no number \"%s\"", r->path, saved->name);
    TRY(grid_agree(g, st));
    comm_broadcast(g->world, &number, sizeof number, 0);
    *saved->number = number;
done:
    return st;
}

enum status restart_load(const struct restart *r, struct training *t)
{
    const struct grid *g = t->subject->grid;
    struct saved saved[MOST_SAVED];
    const size_t n = training_saved(t, saved);
    char *path = NULL;
    enum phase before = phase_enter(PHASE_READ);
    enum status st = OK;
    for (size_t i = 0; i < n; i++) {
        if (saved[i].number) {
            TRY(load_number(r, g, &saved[i]));
            continue;
        }
        TRY(grid_agree(g, state_directory(r->path, saved[i].name, &path)));
        TRY(weights_read(path, g, saved[i].state, NULL));
        free(path), path = NULL;
    }
done:
    free(path);
    phase_enter(before);
    return st;
}

/* Rank 0. */
static enum status still_sound(const char *path, size_t step)
{
    struct text why = {0};
    json_t *manifest = NULL;
    bool sound;
    enum status st;
    TRY(manifest_read(path, step, &manifest, &sound, &why));
    if (!sound) st = fail(ERR_IO, "%s: cannot be stepped back to, it is damaged: %s", path, why.data ? why.data : "");
done:
    json_decref(manifest);
    text_free(&why);
    return st;
}

enum status restart_weights(const char *dir, size_t step, struct training *t)
{
    const struct grid *g = t->subject->grid;
    const char *const name = t->subject->weights->name;
    struct text path = {0};
    char *weights = NULL;
    enum phase before = phase_enter(PHASE_READ);
    enum status st = text_print(&path, "%s/checkpoint-%zu", dir, step);
    if (st == OK) st = state_directory(path.data, name, &weights);
    if (st == OK && g->rank == 0) st = still_sound(path.data, step);
    TRY(grid_agree(g, st));
    TRY(weights_read(weights, g, t->subject->weights, NULL));
done:
    free(weights);
    text_free(&path);
    phase_enter(before);
    return st;
}
