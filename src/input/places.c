/* What the paths of an input name, before anything there is read: what a shell would have replaced, and what often stands in
 * the place of a model's directory. Each is told with the key that named it, and with what makes what is needed. */
#include "unlearn/input_priv.h"
#include "unlearn/weights.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct named { /* a path of the input */
    const char *key, *path;
    struct place place;
};

static bool exists(const char *path)
{
    struct stat s;
    return !stat(path, &s);
}

static bool is_directory(const char *path)
{
    struct stat s;
    return !stat(path, &s) && S_ISDIR(s.st_mode);
}

/* "~", "~/...", or "$NAME" or "${NAME}" anywhere. */
static bool for_a_shell(const char *path)
{
    if (*path == '~' && (!path[1] || path[1] == '/')) return true;
    for (const char *s = path; (s = strchr(s, '$')); s++)
        if (isalpha((unsigned char)s[1]) || s[1] == '_' || s[1] == '{') return true;
    return false;
}

static enum status check_path(const struct named *n)
{
    if (!n->path || !for_a_shell(n->path) || exists(n->path)) return OK;
    return fail(ERR_INPUT,
                "%s: %s: \"%s\": ~ and $NAME are replaced by a shell, not in an input file: write the whole path, or "
                "%s=\"$HOME/...\" on the command line",
                place_text(&n->place), n->key, n->path, n->key);
}

/* ---------------------------------------------------------------------------------------------------- models ------- */
/* OWNER/NAME, which is no path of a directory that is there. */
static bool hub_name(const char *path)
{
    static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const size_t owner = strspn(path, characters), name = path[owner] == '/' ? strspn(path + owner + 1, characters) : 0;
    return *path != '.' && owner && name && !path[owner + 1 + name];
}

static bool holds(const char *dir, const char *name)
{
    char *path = NULL;
    const bool there = path_join(dir, name, &path) == OK && file_exists(path);
    free(path);
    return there;
}

/* Puts the key before what the room of the weights says. */
static enum status check_weights(const struct named *n)
{
    enum status st = weights_present(n->path);
    char *why;
    if (st != ERR_INPUT || !(why = text_copy(fail_message()))) return st;
    fail_clear();
    st = fail(ERR_INPUT, "%s: %s: %s", place_text(&n->place), n->key, why);
    free(why);
    return st;
}

static enum status check_model(const struct named *n, bool weights, bool tokenizer)
{
    const char *at = place_text(&n->place), *dir = n->path, *name = dir + strcspn(dir, "/");
    if (check_path(n) != OK) return ERR_INPUT;
    if (!exists(dir) && hub_name(dir))
        return fail(ERR_INPUT,
                    "%s: %s: there is no directory %s; if it is the name of a model on a hub, fetch that and name its "
                    "directory: hf download %s --local-dir models%s",
                    at, n->key, dir, dir, name);
    if (exists(dir) && !is_directory(dir))
        return fail(ERR_INPUT,
                    "%s: %s: %s is a file: give the directory with config.json, tokenizer.json and the weights", at,
                    n->key, dir);
    if (holds(dir, "adapter_config.json") && !holds(dir, "model.safetensors") &&
        !holds(dir, "model.safetensors.index.json"))
        return fail(
            ERR_INPUT,
            "%s: %s: %s is an adapter (LoRA), not a model: merge it into its model: python -c 'from peft import "
            "AutoPeftModelForCausalLM as P; P.from_pretrained(\"%s\").merge_and_unload().save_pretrained(\"merged\")' "
            "and copy the model's tokenizer.json there",
            at, n->key, dir, dir);
    if (tokenizer && !holds(dir, "tokenizer.json") && (holds(dir, "tokenizer.model") || holds(dir, "vocab.json")))
        return fail(ERR_INPUT,
                    "%s: %s: %s has %s, but no tokenizer.json: python -c 'from transformers import AutoTokenizer as T; "
                    "T.from_pretrained(\"%s\").save_pretrained(\"%s\")' makes it",
                    at, n->key, dir, holds(dir, "tokenizer.model") ? "tokenizer.model" : "vocab.json", dir, dir);
    return weights && is_directory(dir) ? check_weights(n) : OK;
}

static enum status check_models(const struct config *c)
{
    const bool weights = c->model.init == INIT_PRETRAINED;
    const struct named reference = {"model.reference", c->model.reference, config_place(c, "model.reference")};
    enum status st = OK;
    for (size_t i = 0; i < c->model.n_at; i++)
        TRY(check_model(&(struct named){"model.path", c->model.at[i].path, c->model.at[i].place}, weights, i == 0));
    if (reference.path) TRY(check_model(&reference, weights || strcmp(reference.path, c->model.path) != 0, false));
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------ data ------- */
static enum status check_direction(const struct config_objective *o)
{
    const struct config_setting *s = setting_find(o, "direction");
    return s ? check_path(&(struct named){"direction", s->text, s->place}) : OK;
}

static enum status check_directions(const struct config *c)
{
    enum status st = OK;
    TRY(check_direction(&c->objective));
    for (size_t j = 0; j < c->geffect.n_objective; j++) TRY(check_direction(&c->geffect.objective[j]));
done:
    return st;
}

static enum status check_data(const struct config *c)
{
    const struct named fixed[] = {
        {"output.directory", c->output_directory, config_place(c, "output.directory")},
        {"data.forget", c->data.forget.path, c->data.forget.place},
        {"data.retain", c->data.retain.path, c->data.retain.place},
        {"data.idk", c->data.idk, c->data.idk_place},
        {"evaluate.retain_logs", c->evaluate.retain_logs, config_place(c, "evaluate.retain_logs")},
        {"generate.prompts", c->generate.prompts, config_place(c, "generate.prompts")},
    };
    enum status st = OK;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) TRY(check_path(&fixed[i]));
    for (size_t k = 0; k < c->geffect.n_risk; k++)
        TRY(check_path(&(struct named){"geffect.risks", c->geffect.risk[k].data, c->geffect.risk[k].place}));
    for (size_t i = 0; i < c->evaluate.n_set; i++)
        TRY(check_path(&(struct named){"evaluate.sets", c->evaluate.set[i].path, c->evaluate.set[i].place}));
    TRY(check_directions(c));
done:
    return st;
}

enum status inputs_places(const struct config *c)
{
    enum status st;
    TRY(check_models(c));
    TRY(check_data(c));
done:
    return st;
}
