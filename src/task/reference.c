/* Documents from the tables of the program: docs/INPUT.md and docs/OUTPUT.md (Markdown), unlearn.1 (man). `make references`
 * renews the first two, and a test fails where they are not what the program prints. */
#include "unlearn/task_priv.h"
#include <stdbool.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------- Markdown ------ */
static bool is_letter(char c) { return c && !strchr(" .,;:()[]{}<>*_`\\/+-=|\"'", c); }

/* Text whose characters mean themselves; a _ within a word needs no mark for that. */
static enum status plain(struct text *out, const char *s)
{
    enum status st = OK;
    for (const char *c = s; *c; c++) {
        const bool within = *c == '_' && c > s && is_letter(c[-1]) && is_letter(c[1]);
        if (strchr("*_<>[]`\\", *c) && !within) TRY(text_add(out, "\\", 1));
        TRY(text_add(out, c, 1));
    }
done:
    return st;
}

static enum status code(struct text *out, const char *s)
{
    return strchr(s, '`') ? text_print(out, "`` %s ``", s) : *s ? text_print(out, "`%s`", s) : OK;
}

/* "- `name` = `default`: meaning. *value*"; a key of the top level that holds others, or stands behind these, has a heading. */
static enum status say_key(void *to, const struct key_text *key)
{
    struct text *out = to;
    enum status st;
    if (!strchr(key->path, '.') && (key->holds || strstr(out->data, "\n## ")))
        TRY(text_print(out, "\n## %s\n\n", key->path));
    TRY(text_print(out, "- "));
    TRY(code(out, key->path));
    if (*key->fallback) {
        const bool words = !strcmp(key->fallback, "required") || !strcmp(key->fallback, "by task");
        TRY(text_print(out, words ? ", " : " = "));
        TRY(words ? plain(out, key->fallback) : code(out, key->fallback));
    }
    TRY(text_print(out, ": "));
    TRY(plain(out, key->meaning));
    TRY(text_print(out, ". *"));
    TRY(plain(out, key->value));
    TRY(text_print(out, "*%s\n", key->free ? ", free" : ""));
done:
    return st;
}

static enum status write_objectives(struct text *out)
{
    enum status st = OK;
    for (size_t i = 0; st == OK; i++) {
        struct objective_text o;
        st = objective_text(i, &o);
        if (!o.name) break;
        if (st == OK) st = text_print(out, "- `%s` (%s): ", o.name, o.kind);
        if (st == OK) st = plain(out, o.meaning);
        if (st == OK) st = text_print(out, ".\n  Minimises ");
        if (st == OK) st = code(out, o.equation);
        for (size_t k = 0; k < o.n_parameter && st == OK; k++)
            st = text_print(out, "%s `%s` (`%s`)", k ? "," : ". Parameters:", o.parameter[k], o.value[k].data);
        if (st == OK) st = text_print(out, ".\n  From %s.\n", o.source);
        objective_text_free(&o);
    }
    return st;
}

enum status reference_input(struct text *out)
{
    enum status st;
    TRY(text_print(
        out,
        "# Keys of the input file\n\n"
        "This page is made by `make references` from the tables that the program reads its input by; do not edit it.\n"
        "The same on a terminal: `unlearn --help keys`, `unlearn --help train`, `unlearn --help npo`.\n\n"
        "The input is YAML or JSON; a key that is not listed here is an error. Each line: `key` = `default`, the "
        "meaning, and\n"
        "what the value may be. `*` is any name or any element of a list. *required*: there is no default; *by task*: "
        "some\n"
        "tasks need it; `null` is as if the key were not written. A mapping *or a plain NAME* may be written as the "
        "value of\n"
        "that one key alone. *free*: a restart may find another value than the run that it goes on with.\n"
        "On the command line: `key=value`, behind the input file.\n\n"));
    TRY(config_keys(say_key, out));
    TRY(text_print(out,
                   "\n## Objectives and regularizers\n\n`objective: {name: npo, beta: 0.1, regularizer: {name: kl, "
                   "weight: 1.0}}`; names for `objective`, `objective.regularizer` and\n`geffect.objectives`. In the "
                   "equations: "));
    TRY(plain(out, help_symbols));
    TRY(text_print(out, "\nOf a parameter: its default, and what it may be.\n\n"));
    TRY(write_objectives(out));
    TRY(text_print(out, "\n## Scores of evaluate.metrics\n\n"));
    for (int k = 0; k < N_SCORE; k++) {
        TRY(text_print(out, "- `%s` [%s]: ", score_table[k].name, score_table[k].units));
        TRY(plain(out, score_table[k].text));
        TRY(text_print(out, "\n"));
    }
    TRY(text_print(
        out, "\nTexts of `data.template`: [TEMPLATES.md](TEMPLATES.md) and `unlearn --help templates`. What presets "
             "set: [TRAINING.md](TRAINING.md)\nand `unlearn --help preset`.\n"));
done:
    return st;
}

/* --------------------------------------------------------------------------------------------------- outputs ------ */
static const char *type_text(enum field_type type)
{
    return type == FIELD_DOUBLE ? "float64" : type == FIELD_INT64 ? "int64" : "text";
}

static enum status write_axis(struct text *out, const struct axis *a)
{
    enum status st;
    TRY(text_print(out, "- `%s` (%s): ", a->name, a->units ? "int64" : "text"));
    TRY(plain(out, a->long_name));
    TRY(text_print(out, "%s\n", a->unlimited ? "; grows with the run" : ""));
done:
    return st;
}

/* "%s" is a regulariser's name, or in a text alone the objective's. */
static enum status with_name(struct text *out, const char *pattern, const char *name, bool is_code)
{
    const char *hole = strstr(pattern, "%s");
    struct text whole = {0};
    enum status st;
    TRY(hole ? text_print(&whole, "%.*s%s%s", (int)(hole - pattern), pattern, name, hole + 2)
             : text_print(&whole, "%s", pattern));
    TRY(is_code ? code(out, whole.data) : plain(out, whole.data));
done:
    text_free(&whole);
    return st;
}

static enum status write_field(struct text *out, const struct field *f, const char *when)
{
    const bool each = strstr(f->name, "%s");
    const char *name = each ? "NAME" : "trained";
    enum status st;
    TRY(text_print(out, "- "));
    TRY(with_name(out, f->name, name, true));
    TRY(text_print(out, " ("));
    for (int i = 0; i < FIELD_AXES && f->axis[i]; i++) TRY(text_print(out, "%s%s", i ? ", " : "", f->axis[i]));
    TRY(text_print(out, ") %s", type_text(f->type)));
    if (f->units) TRY(text_print(out, " [%s]", f->units));
    TRY(text_print(out, ": "));
    TRY(with_name(out, f->long_name, name, false));
    if (each) TRY(text_print(out, ". *For each regulariser NAME.*"));
    if (when) TRY(text_print(out, ". *With `%s`.*", when));
    TRY(text_print(out, "\n"));
    if (f->equation) TRY(text_print(out, "  `%s`\n", f->equation));
done:
    return st;
}

static enum status say_file(void *to, const char *name, const char *when, const struct file_tables *t)
{
    struct text *out = to;
    enum status st;
    TRY(text_print(out, "\n## %s\n\n%s. There with: %s.\n\nCoordinates:\n\n", name, t->title, when));
    for (size_t i = 0; i < t->n_axis; i++) TRY(write_axis(out, &t->axis[i]));
    TRY(text_print(out, "\nVariables:\n\n"));
    for (size_t i = 0; i < t->n_list; i++)
        for (size_t k = 0; k < t->list[i].n; k++) TRY(write_field(out, &t->list[i].field[k], t->list[i].when));
done:
    return st;
}

static enum status write_numbers(struct text *out)
{
    static const char *const name[] = {[BENCHMARK_TOFU] = "tofu", [BENCHMARK_MUSE] = "muse", [BENCHMARK_WMDP] = "wmdp"};
    enum status st = OK;
    for (size_t b = 0; b < sizeof name / sizeof *name; b++) {
        TRY(text_print(out, "\n- %s: ", name[b]));
        TRY(evaluation_numbers((enum benchmark)b, out));
    }
    TRY(text_print(out, "\n"));
done:
    return st;
}

/* Names along the axes, which are made when a run begins. */
static const char labels[] =
    "\n## Names along the axes\n\n"
    "- `objective`: the objective; where it repeats, with its parameters: `wga(alpha=0.5)`\n"
    "- `risk`: the names under geffect.risks, by default `unlearn` and `retain`\n"
    "- `layer`: `embed`, `layers.0` ..., `norm`, `lm_head`; with geffect.resolution: tensor the names of the parameters\n"
    "- `gradient`, `gradient_other`: `objective`, `batch`, `regularizer`, each risk, `update`\n"
    "- `group`: `embed`, `shallow`, `middle`, `deep`, `lm`\n"
    "- `set`: the names under evaluate.sets\n"
    "- `metric`: the scores asked for, [INPUT.md](INPUT.md#scores-of-evaluatemetrics)\n";

enum status reference_output(struct text *out)
{
    enum status st;
    TRY(text_print(
        out, "# What a run leaves\n\nThis page is made by `make references` from the tables that the program writes "
             "its files by; do not edit it.\nThe list of files on a terminal: `unlearn --help outputs`.\n\n"
             "In the output directory (`output.directory`, by default outputs/ and the input's name):\n\n"));
    for (const struct output_text *f = help_files; f->name; f++)
        TRY(text_print(out, "- `%s`: %s. *With: %s.*\n", f->name, f->text, f->when));
    TRY(text_print(
        out,
        "\nThe .h5 files are HDF5 as netCDF-4 has it: every variable has named coordinates and the attributes\n"
        "`units` (texts have none), `long_name` and, where there is one, `equation`; `xarray.open_dataset(FILE)` opens "
        "them, also while the run writes. All\n"
        "variables are in the root group. Numbers that do not exist are NaN. A row belongs to a `step`; a row that a\n"
        "killed run did not complete has step -1. Attributes of a file: `title`, `history`, `version` and `git_commit` "
        "of\n"
        "the program, `input` (its text), `overrides` (the command line's key=value, one a line, which go before the "
        "text; "
        "or none), `model`,\n`layout`, `host`, `libraries`, `precision`, `normalisation`,\n"
        "`estimator` and `trained` (the label of the objective trained; none where it was not measured); of "
        "evaluation.h5 also\n"
        "`metrics`. Where no risk is on `data.retain`, geffect.h5 has no effects of regularisers. Units: nat is the "
        "natural unit of information; nat2 its\n"
        "square, a product of two gradients of nats by parameters without a unit.\n"));
    TRY(text_print(out, "%s", labels));
    TRY(measurement_files(say_file, out));
    TRY(training_files(say_file, out));
    TRY(evaluation_files(say_file, out));
    TRY(text_print(out, "\nThe axis `number` has, by evaluate.benchmark:\n"));
    TRY(write_numbers(out));
done:
    return st;
}

/* ----------------------------------------------------------------------------------------------- manual page ------ */
/* Text whose characters mean themselves to troff. */
static enum status roff(struct text *out, const char *s)
{
    enum status st = OK;
    if (*s == '.' || *s == '\'') TRY(text_print(out, "\\&"));
    for (; *s; s++) {
        if (*s == '\\')
            st = text_print(out, "\\e");
        else
            st = *s == '-' ? text_print(out, "\\-") : text_add(out, s, 1);
        TRY(st);
    }
done:
    return st;
}

static enum status line(struct text *out, const char *before, const char *s)
{
    enum status st;
    TRY(text_print(out, "%s", before));
    TRY(roff(out, s));
    TRY(text_print(out, "\n"));
done:
    return st;
}

static enum status tagged(struct text *out, const char *tag, const char *s)
{
    enum status st;
    TRY(text_print(out, ".TP\n"));
    TRY(line(out, ".B ", tag));
    TRY(line(out, "", s));
done:
    return st;
}

static enum status section(struct text *out, const char *heading, const struct entry *list)
{
    enum status st = text_print(out, ".SH %s\n", heading);
    for (; list->name && st == OK; list++) st = tagged(out, list->name, list->text);
    return st;
}

static enum status man_key(void *to, const struct key_text *key)
{
    struct text words = {0};
    enum status st;
    TRY(text_print(&words, "%s: %s", key->meaning, key->value));
    if (*key->fallback) TRY(text_print(&words, "; default: %s", key->fallback));
    TRY(tagged(to, key->path, words.data));
done:
    text_free(&words);
    return st;
}

static enum status man_objectives(struct text *out)
{
    enum status st = OK;
    for (size_t i = 0; st == OK; i++) {
        struct text words = {0};
        struct objective_text o;
        st = objective_text(i, &o);
        if (!o.name) break;
        if (st == OK) st = text_print(&words, "%s: %s: %s", o.kind, o.meaning, o.equation);
        for (size_t k = 0; k < o.n_parameter && st == OK; k++)
            st = text_print(&words, "; %s: %s", o.parameter[k], o.value[k].data);
        if (st == OK) st = text_print(&words, "; from %s", o.source);
        if (st == OK) st = tagged(out, o.name, words.data);
        objective_text_free(&o), text_free(&words);
    }
    return st;
}

enum status reference_manual(struct text *out)
{
    enum status st;
    TRY(text_print(out,
                   ".TH UNLEARN 1 \"\" \"unlearn %s\"\n.SH NAME\nunlearn \\- unlearning of language models, with "
                   "gradient effects\n.SH SYNOPSIS\n.B mpirun \\-np\n.I N\n.B unlearn\n.RI [ options ]\n"
                   ".I input.yaml\n.RI [ key.sub=value \" ...]\"\n.SH DESCRIPTION\n",
                   UNLEARN_VERSION));
    TRY(line(out, "", help_summary));
    TRY(text_print(out, ".PP\n"));
    TRY(line(out, "", help_errors));
    TRY(section(out, "OPTIONS", help_options));
    TRY(section(out, "EXIT STATUS", help_ends));
    TRY(text_print(out, ".SH SIGNALS\n"));
    TRY(line(out, "", help_stops));
    TRY(section(out, "ENVIRONMENT", help_environment));
    TRY(text_print(out, ".SH INPUT\nYAML or JSON. * is any name or any element of a list; null is as if the key were not "
                        "written.\n"));
    TRY(config_keys(man_key, out));
    TRY(text_print(out, ".SH OBJECTIVES\n"));
    TRY(line(out, "", help_symbols));
    TRY(man_objectives(out));
    TRY(text_print(out, ".SH FILES\nIn the output directory:\n"));
    for (const struct output_text *f = help_files; f->name; f++) TRY(tagged(out, f->name, f->text));
    TRY(text_print(out, ".SH SEE ALSO\n.BR mpirun (1)\n"));
done:
    return st;
}
