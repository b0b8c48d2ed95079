/* The pages of --help, at most 100 columns wide, from the tables of keys, objectives, templates, scores and files; and the
 * text of --version. */
#include "unlearn/task_priv.h"
#include <stdio.h>
#include <string.h>

enum { WIDTH = 100, NAME = 23 };                  /* columns of a page; where the texts of a list begin */
enum { DEFAULT = 34, MEANING = 47, PRESET = 52 }; /* columns of the tables of keys and presets */

/* ------------------------------------------------------------------------------------------------------ words ------ */
/* Goes on at column `at` with these words; further lines begin at column `indent`. */
static enum status wrap(struct text *out, size_t at, size_t indent, const char *words)
{
    enum status st = OK;
    const char *gap = "";
    while (*words) {
        const size_t n = strcspn(words, " "), width = strlen(gap) + n;
        if (at + width > WIDTH && at > indent) {
            TRY(text_print(out, "\n%*s", (int)indent, ""));
            at = indent, gap = "";
        }
        TRY(text_print(out, "%s%.*s", gap, (int)n, words));
        at += strlen(gap) + n, gap = " ", words += n;
        words += strspn(words, " ");
    }
    TRY(text_add(out, "\n", 1));
done:
    return st;
}

/* A name, then from column `column` on what it is; a name that is too long has a line of its own. */
static enum status item(struct text *out, size_t column, const char *name, const char *words)
{
    const bool fits = strlen(name) + 4 <= column;
    enum status st = text_print(out, "  %-*s", (int)column - 2, name);
    if (st == OK && !fits) st = text_print(out, "\n%*s", (int)column, "");
    return st == OK ? wrap(out, column, column, words) : st;
}

static enum status items(struct text *out, const char *heading, const struct entry *list)
{
    enum status st = text_print(out, "\n%s\n", heading);
    for (; list->name && st == OK; list++) st = item(out, NAME, list->name, list->text);
    return st;
}

/* ------------------------------------------------------------------------------------------------------- keys ------ */
/* Of which keys: those of this path and below it, those of this last name, or all. */
struct asked {
    struct text *out;
    const char *path, *name;
    bool any;   /* "*" in a key's path is any name */
    bool whole; /* all that can be said of a key */
    size_t found;
};

/* Whether a path is what was asked for. */
static bool is_path(const char *path, const struct asked *a, bool below)
{
    const char *asked = a->path;
    while (*path && *asked) {
        const size_t n = strcspn(path, "."), m = strcspn(asked, ".");
        if ((n != m || strncmp(path, asked, n) != 0) && !(a->any && n == 1 && *path == '*')) return false;
        path += n, asked += m;
        if (*path && *asked) path++, asked++;
    }
    return !*asked && (!*path || (below && *path == '.'));
}

static const char *last(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

static enum status print_row(struct text *out, const struct key_text *key)
{
    const bool fits = strlen(key->path) + 3 <= DEFAULT && strlen(key->fallback) + 1 <= MEANING - DEFAULT;
    struct text words = {0};
    enum status st;
    TRY(text_print(&words, "%s [%s]", key->meaning, key->value));
    if (fits) {
        TRY(text_print(out, "  %-*s%-*s", DEFAULT - 2, key->path, MEANING - DEFAULT, key->fallback));
    } else {
        TRY(text_print(out, "  %s ", key->path));
        TRY(wrap(out, strlen(key->path) + 3, DEFAULT, key->fallback));
        TRY(text_print(out, "%*s", MEANING, ""));
    }
    TRY(wrap(out, MEANING, MEANING, words.data));
done:
    text_free(&words);
    return st;
}

/* "paper: 4" for each preset that sets a key, whatever the objective. */
struct preset_of {
    const char *key;
    struct text words;
};
static enum status say_preset_of(void *to, const struct preset_text *p)
{
    struct preset_of *of = to;
    if (strcmp(p->key, of->key) != 0) return OK;
    return text_print(&of->words, "%s%s%s%s: %s", of->words.n ? "; " : "", p->preset, p->objective ? ", " : "",
                      p->objective ? p->objective : "", p->value);
}

static enum status print_presets(struct text *out, const char *key)
{
    struct preset_of of = {.key = key};
    enum status st = config_presets(say_preset_of, &of);
    if (st == OK && of.words.n) st = item(out, NAME, "  preset", of.words.data);
    text_free(&of.words);
    return st;
}

/* path: the key's, with names in the place of "*" where these were asked for. */
static enum status print_whole(struct text *out, const struct key_text *key, const char *path)
{
    enum status st;
    TRY(text_print(out, "%s\n    ", key->path));
    TRY(wrap(out, 4, 4, key->meaning));
    TRY(item(out, NAME, "  value", key->value));
    if (*key->fallback) TRY(item(out, NAME, "  default", key->fallback));
    TRY(print_presets(out, path));
    if (key->free) TRY(item(out, NAME, "  --restart", "may find another value than the run that it goes on with"));
done:
    return st;
}

static enum status say_key(void *to, const struct key_text *key)
{
    struct asked *a = to;
    const bool it = a->name ? !strcmp(last(key->path), a->name) : !a->path || is_path(key->path, a, false);
    enum status st = OK;
    if (!it && !(a->path && is_path(key->path, a, true))) return OK;
    if (a->whole && a->found == 1 && !it) TRY(text_print(a->out, "\nkeys below it:\n"));
    if (a->whole && it && a->found) TRY(text_print(a->out, "\n"));
    TRY(a->whole && it ? print_whole(a->out, key, a->any ? a->path : key->path) : print_row(a->out, key));
    a->found++;
done:
    return st;
}

static enum status page_keys(struct text *out)
{
    struct asked all = {.out = out};
    enum status st;
    TRY(text_print(out, "  %-*s%-*smeaning [what it may be]\n", DEFAULT - 2, "key (* : any name, any element)",
                   MEANING - DEFAULT, "default"));
    TRY(config_keys(say_key, &all));
    TRY(wrap(out, 0, 0, "null: as if the key were not written. by task: some tasks need it."));
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------- objectives ------ */
const char help_symbols[] =
    "nll_t = -log p_t of label t; S = sum_t nll_t of an answer; S_o, p_o, z_o, h_o the same under the reference "
    "(model.reference); z logits, h the output of a block, d its width, u a direction.";

static enum status print_objective(struct text *out, const struct objective_text *o)
{
    enum status st;
    TRY(text_print(out, "%s (%s)\n    ", o->name, o->kind));
    TRY(wrap(out, 4, 4, o->meaning));
    TRY(item(out, NAME, "  minimises", o->equation));
    for (size_t k = 0; k < o->n_parameter; k++) {
        struct text name = {0};
        TRY(text_print(&name, "  %s", o->parameter[k]));
        st = item(out, NAME, name.data, o->value[k].data);
        text_free(&name);
        TRY(st);
    }
    TRY(item(out, NAME, "  from", o->source));
done:
    return st;
}

/* Those of this name, with this parameter, or all. */
static enum status objectives(struct text *out, const char *name, const char *parameter, size_t *found)
{
    enum status st = OK;
    for (size_t i = 0; st == OK; i++) {
        struct objective_text o;
        bool it = !name && !parameter;
        st = objective_text(i, &o);
        if (!o.name) break;
        if (name) it = !strcmp(o.name, name);
        for (size_t k = 0; parameter && k < o.n_parameter; k++) it = it || !strcmp(o.parameter[k], parameter);
        if (it && st == OK && (*found)++) st = text_print(out, "\n");
        if (it && st == OK) st = print_objective(out, &o);
        objective_text_free(&o);
    }
    return st;
}

static enum status page_objectives(struct text *out)
{
    size_t found = 0;
    enum status st;
    TRY(wrap(out, 0, 0, "objective: {name: npo, beta: 0.1, regularizer: {name: kl, weight: 1.0}}"));
    TRY(wrap(out, 0, 0, help_symbols));
    TRY(wrap(out, 0, 0, "Of a parameter: its default, and what it may be."));
    TRY(text_print(out, "\n"));
    TRY(objectives(out, NULL, NULL, &found));
done:
    return st;
}

/* ----------------------------------------------------------------------------------------------------- others ------ */
static enum status say_preset(void *to, const struct preset_text *p)
{
    struct text name = {0}, words = {0};
    enum status st;
    TRY(text_print(&name, "%-15s %-7s %s", p->preset, p->objective ? p->objective : "", p->key));
    TRY(text_print(&words, "%s (%s)", p->value, p->source));
    TRY(item(to, PRESET, name.data, words.data));
done:
    text_free(&name), text_free(&words);
    return st;
}

static enum status page_presets(struct text *out)
{
    enum status st;
    TRY(wrap(out, 0, 0,
             "preset: NAME sets these defaults; keys that are written win. With the name of an objective: where that is "
             "minimised, its own parameters also where it is measured. null does not count as written; "
             "objective.regularizer: [] does."));
    TRY(text_print(out, "\n"));
    TRY(item(out, PRESET, "preset          with    key", "value (source)"));
    TRY(config_presets(say_preset, out));
done:
    return st;
}

static enum status page_scores(struct text *out)
{
    enum status st = text_print(out, "scores of evaluate.metrics, of each row of each set, with their units\n");
    for (int k = 0; k < N_SCORE && st == OK; k++) {
        struct text words = {0};
        st = text_print(&words, "%s [%s]", score_table[k].text, score_table[k].units);
        if (st == OK) st = item(out, MEANING - 11, score_table[k].name, words.data);
        text_free(&words);
    }
    return st;
}

static enum status page_outputs(struct text *out)
{
    enum status st = text_print(out, "files of the output directory (output.directory), and when they are there\n");
    for (const struct output_text *f = help_files; f->name && st == OK; f++) {
        struct text words = {0};
        st = text_print(&words, "%s [%s]", f->text, f->when);
        if (st == OK) st = item(out, MEANING - 11, f->name, words.data);
        text_free(&words);
    }
    if (st == OK) st = text_print(out, "\nEvery variable of the .h5 files: docs/OUTPUT.md.\n");
    return st;
}

static const struct topic {
    const char *name, *what;
    enum status (*page)(struct text *out);
} topics[] = {
    {"keys", "every key of the input, with its default and what it may be", page_keys},
    {"objectives", "every objective and regularizer: equation, parameters, source", page_objectives},
    {"templates", "the exact texts around questions and answers, by the name of data.template", template_describe},
    {"preset", "the defaults that preset: open_unlearning, tofu, paper set", page_presets},
    {"scores", "what evaluate.metrics may name", page_scores},
    {"outputs", "the files that a run leaves", page_outputs},
    {"INPUT.md", NULL, reference_input},
    {"OUTPUT.md", NULL, reference_output},
    {"unlearn.1", NULL, reference_manual},
};
enum { N_TOPIC = sizeof topics / sizeof *topics };

static enum status page_first(struct text *out)
{
    enum status st;
    TRY(text_print(out, "usage: unlearn [options] input.yaml [key.sub=value ...]\n"
                        "       mpirun -np N unlearn [options] input.yaml [key.sub=value ...]\n\n"));
    TRY(wrap(out, 0, 0, help_summary));
    TRY(items(out, "options", help_options));
    TRY(text_print(out, "\ntopics of --help\n"));
    TRY(item(out, NAME, "KEY, OBJECTIVE", "one key with those below it (train, optimizer.lr), or one objective (npo)"));
    for (size_t i = 0; i < N_TOPIC; i++)
        if (topics[i].what) TRY(item(out, NAME, topics[i].name, topics[i].what));
    TRY(item(out, NAME, "INPUT.md, OUTPUT.md", "these pages as the documents in docs/; unlearn.1: as the manual page"));
    TRY(items(out, "exit status", help_ends));
    TRY(text_print(out, "\n"));
    TRY(wrap(out, 0, 0, help_stops));
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------ topic ------ */
static enum status add_choice(struct text *all, const char *name)
{
    return *name == '*' ? OK : text_print(all, "%s%s", all->n ? "|" : "", name);
}

static enum status add_path(void *to, const struct key_text *key) { return add_choice(to, key->path); }
static enum status add_last(void *to, const struct key_text *key) { return add_choice(to, last(key->path)); }

static enum status add_names(struct text *all)
{
    enum status st = OK;
    for (size_t i = 0; i < N_TOPIC && st == OK; i++) st = add_choice(all, topics[i].name);
    for (size_t i = 0; st == OK; i++) {
        struct objective_text o;
        st = objective_text(i, &o);
        if (!o.name) break;
        if (st == OK) st = add_choice(all, o.name);
        objective_text_free(&o);
    }
    return st;
}

/* Adds what of these names, "a|b|c", is near to the topic, unless it is there. */
static enum status add_near(const struct text *names, const char *topic, struct text *near)
{
    static const char before[] = "did you mean ";
    struct text said = {0};
    enum status st;
    TRY(config_nearest(names->data, topic, &said));
    if (!said.n) goto done;
    said.data[said.n - 1] = 0; /* its question mark */
    if (!near->n || !strstr(near->data, said.data + strlen(before)))
        TRY(text_print(near, "%s%s", near->n ? ", " : before, said.data + strlen(before)));
done:
    text_free(&said);
    return st;
}

static enum status unknown(const char *topic)
{
    struct text all[3] = {{0}}, near = {0};
    enum status st;
    TRY(add_names(&all[0]));
    TRY(config_keys(add_path, &all[1]));
    TRY(config_keys(add_last, &all[2]));
    for (int i = 0; i < 3; i++) TRY(add_near(&all[i], topic, &near));
    st = fail(ERR_USAGE, "--help %.60s: there is no such topic, key or objective; %s%s", topic,
              near.n ? near.data : "unlearn --help lists the topics", near.n ? "?" : "");
done:
    for (int i = 0; i < 3; i++) text_free(&all[i]);
    text_free(&near);
    return st;
}

/* An objective, and keys: by their path, else by their last name, else as a parameter of objectives. */
static enum status page_of(struct text *out, const char *topic)
{
    struct asked path = {.out = out, .path = topic, .whole = true}, name = {.out = out, .name = topic, .whole = true};
    size_t found = 0;
    enum status st;
    TRY(objectives(out, topic, NULL, &found));
    TRY(config_keys(say_key, &path));
    path.any = !path.found;
    if (path.any) TRY(config_keys(say_key, &path));
    if (!found && !path.found) TRY(config_keys(say_key, &name));
    if (path.found && path.any) TRY(text_print(out, "\n"));
    if (!found && (!path.found || path.any)) TRY(objectives(out, NULL, last(topic), &found));
    if (!found && !path.found && !name.found) TRY(unknown(topic));
done:
    return st;
}

enum status task_help(const char *topic, struct text *out)
{
    if (!topic) return page_first(out);
    for (size_t i = 0; i < N_TOPIC; i++)
        if (!strcmp(topics[i].name, topic)) return topics[i].page(out);
    return page_of(out, topic);
}

enum status task_version(struct text *out)
{
    return text_print(out, "unlearn %s (%s), %s\n%s\n%s\n%s\n", UNLEARN_VERSION, UNLEARN_COMMIT,
                      sizeof(real) == 8 ? "float64" : "float32", math_library(), math_onednn(), parallel_library());
}
