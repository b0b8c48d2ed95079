/* evaluation.h5: its fields, and the code that fills its rows. */
#include "unlearn/evaluation_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct field evaluation_table[] = {
    {"evaluation",
     {"step", "set", "row", "metric"},
     FIELD_DOUBLE,
     "1",
     "score of one row of a set; NaN where it has none; units and meaning by the attribute `metrics`",
     "shared definitions of TOFU and of the membership attacks: see the attribute `metrics`"},
    {"mean", {"step", "set", "metric"}, FIELD_DOUBLE, "1", "mean of a score over the rows that have one", NULL},
    {"left_out", {"step", "set", "metric"}, FIELD_DOUBLE, "1", "rows of the set that have no finite score", NULL},
    {"risk",
     {"step", "set"},
     FIELD_DOUBLE,
     "nat",
     "risk: mean negative log-likelihood of the labelled tokens of a set",
     "R(theta_t) = mean over the labelled tokens of -log p(token | before; theta_t)"},
    {"summary",
     {"step", "number"},
     FIELD_DOUBLE,
     "1",
     "number of the whole evaluation; NaN where what it needs was not measured",
     NULL},
    {"rows", {"set"}, FIELD_DOUBLE, "1", "rows of the set that were evaluated", NULL},
};

enum { SET = 1, ROW, METRIC, NUMBER, N_AXIS };
static const struct axis axes[N_AXIS] = {
    {.name = "step", .long_name = "updates done: row t is the state before update t+1", .units = "1", .unlimited = true},
    [SET] = {.name = "set", .long_name = "set of questions"},
    [ROW] = {.name = "row", .long_name = "row of the set's file, from 0", .units = "1"},
    [METRIC] = {.name = "metric", .long_name = "score of a row"},
    [NUMBER] = {.name = "number", .long_name = "number of the whole evaluation"},
};
static const struct field_list list = {evaluation_table, sizeof evaluation_table / sizeof *evaluation_table, NULL};
static const char title[] = "evaluation of a language model: did it forget, did it keep";

enum status evaluation_files(file_say *say, void *to)
{
    const struct file_tables t = {.title = title, .n_axis = N_AXIS, .axis = axes, .n_list = 1, .list = &list};
    return say(to, "evaluation.h5", "task: evaluate, or evaluate.every above 0", &t);
}

enum status evaluation_file_create(const char *path, const struct evaluation_file_info *info, struct file **out)
{
    struct axis axis[N_AXIS];
    const struct file_tables t = {.title = title, .n_axis = N_AXIS, .axis = axis, .n_list = 1, .list = &list};
    memcpy(axis, axes, sizeof axes);
    axis[SET].n = info->n_set, axis[SET].label = info->set;
    axis[ROW].n = info->n_row, axis[ROW].value = info->row;
    axis[METRIC].n = info->n_metric, axis[METRIC].label = info->metric;
    axis[NUMBER].n = info->n_number, axis[NUMBER].label = info->number;
    return file_create_named(path, &t, info->n_attribute, info->attribute, out);
}

static enum status meanings(const struct evaluation_inputs *e, struct text *out)
{
    enum status st = OK;
    for (int k = 0; k < N_SCORE && st == OK; k++)
        if (e->wanted[k])
            st = text_print(out, "%s [%s]: %s\n", score_table[k].name, score_table[k].units, score_table[k].text);
    return st;
}

static size_t longest_set(const struct evaluation_inputs *e)
{
    size_t n = 0;
    for (size_t k = 0; k < e->n; k++)
        if (e->set[k].n > n) n = e->set[k].n;
    return n;
}

static enum status put_rows(struct evaluation *v)
{
    const struct evaluation_inputs *e = v->in;
    double *n = NULL;
    enum status st = OK;
    TRY_NEW(n, e->n);
    for (size_t k = 0; k < e->n; k++) n[k] = (double)e->set[k].n;
    TRY(file_put(v->file, "rows", n));
done:
    free(n);
    return st;
}

enum status evaluation_open(struct evaluation *v, const char *dir, const struct opening *o)
{
    const struct evaluation_inputs *e = v->in;
    const struct suite *b = suite_of(v->subject->in->config);
    struct evaluation_file_info info = {
        .n_set = e->n, .n_row = longest_set(e), .n_number = b->n_number, .number = b->number_name};
    const char **set = NULL, *metric[N_SCORE];
    struct attribute *all = NULL;
    struct text text = {0};
    char *path = NULL;
    int64_t *row = NULL;
    enum status st = OK;
    TRY_NEW(set, e->n);
    TRY_NEW(row, info.n_row);
    TRY_NEW(all, o->n_attribute + 1);
    for (size_t k = 0; k < e->n; k++) set[k] = e->set[k].name;
    for (size_t i = 0; i < info.n_row; i++) row[i] = (int64_t)i;
    for (int k = 0; k < N_SCORE; k++)
        if (e->wanted[k]) metric[info.n_metric++] = score_table[k].name;
    TRY(meanings(e, &text));
    memcpy(all, o->attribute, o->n_attribute * sizeof *all);
    all[o->n_attribute] = (struct attribute){"metrics", text.data};
    info.set = set, info.metric = metric, info.row = row, info.attribute = all, info.n_attribute = o->n_attribute + 1;
    TRY(path_join(dir, "evaluation.h5", &path));
    if (o->continues) TRY(file_set_aside(path));
    TRY(evaluation_file_create(path, &info, &v->file));
    TRY(put_rows(v));
    if (o->continues) TRY(file_continue(v->file, o->step, o->rows));
done:
    free(set), free(row), free(all), free(path);
    text_free(&text);
    return st;
}

/* Copies the wanted scores: from [set][N_SCORE] to [set][wanted]. */
static void take_wanted(const struct evaluation_inputs *e, const double *from, double *to)
{
    for (size_t k = 0; k < e->n; k++)
        for (int j = 0; j < N_SCORE; j++)
            if (e->wanted[j]) *to++ = from[k * N_SCORE + (size_t)j];
}

static void take_rows(const struct evaluation *v, size_t n_row, double *to)
{
    const struct evaluation_inputs *e = v->in;
    for (size_t k = 0; k < e->n; k++)
        for (size_t i = 0; i < n_row; i++)
            for (int j = 0; j < N_SCORE; j++)
                if (e->wanted[j]) *to++ = i < e->set[k].n ? *score_of(&v->set[k], i, (enum score)j) : NAN;
}

enum status evaluation_put(struct evaluation *v, size_t step)
{
    const struct evaluation_inputs *e = v->in;
    const size_t n_row = longest_set(e);
    double *slab = NULL;
    enum status st = OK;
    TRY_NEW(slab, e->n * n_row * N_SCORE);
    take_rows(v, n_row, slab);
    TRY(file_put(v->file, "evaluation", slab));
    take_wanted(e, v->numbers.mean, slab);
    TRY(file_put(v->file, "mean", slab));
    take_wanted(e, v->numbers.left_out, slab);
    TRY(file_put(v->file, "left_out", slab));
    TRY(file_put(v->file, "risk", v->numbers.risk));
    TRY(file_put(v->file, "summary", v->numbers.number));
    TRY(file_commit(v->file, (int64_t)step));
done:
    free(slab);
    return st;
}

enum status evaluation_sync(struct evaluation *v) { return file_sync(v->file); }

size_t evaluation_rows(const struct evaluation *v, int64_t step) { return file_rows_before(v->file, step); }

enum status evaluation_close(struct evaluation *v)
{
    struct file *f = v->file;
    v->file = NULL;
    return file_close(f);
}
