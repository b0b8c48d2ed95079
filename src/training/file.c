/* train.h5: its fields, and the code that fills its rows. */
#include "unlearn/training_priv.h"
#include <math.h>
#include <stdlib.h>

static const struct field dual_table[] = {
    {"dual_weight",
     {"step"},
     FIELD_DOUBLE,
     "1",
     "weight of the regulariser whose weight is a dual variable, at the beginning of this update",
     "max(0, weight + step_size (loss - eps))"},
};
static const struct field project_table[] = {
    {"project_cosine",
     {"step"},
     FIELD_DOUBLE,
     "1",
     "cosine of the objective's gradient and the retain gradient before guard.project; below 0 the update is made "
     "without "
     "the part of the former along the latter",
     "<f, r> / |f| |r| over what moves; f <- f - <f, r>/|r|^2 r where <f, r> < 0 (arXiv 2503.09117)"},
};
static const struct field train_table[] = {
    {"loss",
     {"step"},
     FIELD_DOUBLE,
     "nat",
     "loss of the batch of this update: the objective and each regulariser, each times its weight",
     "weight L(S_t; theta_t) + sum over regularisers of weight times value"},
    {"loss_objective", {"step"}, FIELD_DOUBLE, "nat", "value of the objective %s", "L(S_t; theta_t)"},
    {"loss_%s",
     {"step"},
     FIELD_DOUBLE,
     "nat",
     "value of the regulariser %s, not multiplied by its weight",
     "L_reg(S_t; theta_t)"},
    {"lr", {"step"}, FIELD_DOUBLE, "1", "learning rate of this update", NULL},
    {"gradient_norm",
     {"step"},
     FIELD_DOUBLE,
     "nat",
     "2-norm of the whole gradient before clipping, without what is frozen",
     "|grad L|"},
    {"gradient_norm_objective",
     {"step"},
     FIELD_DOUBLE,
     "nat",
     "2-norm of the gradient of the objective %s alone, times its weight, as in gradient_norm",
     "|weight grad L(S_t; theta_t)|"},
    {"gradient_norm_%s",
     {"step"},
     FIELD_DOUBLE,
     "nat",
     "2-norm of the gradient of the regulariser %s times its weight, as it enters gradient_norm; NaN where there "
     "was no room for it by itself",
     "|weight grad L_reg(S_t; theta_t)|"},
    {"tokens", {"step"}, FIELD_DOUBLE, "1", "tokens of the batch, the regularisers' included", NULL},
    {"seconds", {"step"}, FIELD_DOUBLE, "s", "time that this update took, without measurements", NULL},
};

static const struct axis axis = {.name = "step",
                                 .long_name = "update, from 0; the last row is the state after the last one",
                                 .units = "1",
                                 .unlimited = true};
enum { ALWAYS, DUAL, PROJECT, N_LIST };
static const struct field_list lists[N_LIST] = {
    {train_table, sizeof train_table / sizeof *train_table, NULL},
    [DUAL] = {dual_table, 1, "objective.regularizer.*.dual"},
    [PROJECT] = {project_table, 1, "guard.project above 0"},
};
static const char title[] = "updates of a training run";

enum status training_files(file_say *say, void *to)
{
    const struct file_tables t = {.title = title, .n_axis = 1, .axis = &axis, .n_list = N_LIST, .list = lists};
    return say(to, "train.h5", "task: finetune, unlearn", &t);
}

enum status train_file_create(const char *path, const struct train_file_info *info, struct file **out)
{
    struct field_list list[N_LIST] = {lists[ALWAYS]};
    size_t n = 1;
    if (info->dual) list[n++] = lists[DUAL];
    if (info->projects) list[n++] = lists[PROJECT];
    const struct file_tables tables = {.title = title,
                                       .n_axis = 1,
                                       .axis = &axis,
                                       .n_list = n,
                                       .list = list,
                                       .objective = info->objective,
                                       .n_name = info->n_regularizer,
                                       .name = info->regularizer};
    return file_create_named(path, &tables, info->n_attribute, info->attribute, out);
}

enum status training_open(struct training *t, const char *dir, const struct opening *o)
{
    const struct inputs *in = t->subject->in;
    const char **names = NULL;
    char *path = NULL;
    struct train_file_info info = {.objective = objective_name(&in->objective),
                                   .n_regularizer = in->n_regularizer,
                                   .n_attribute = o->n_attribute,
                                   .attribute = o->attribute};
    enum status st = OK;
    info.dual = !isnan(dual_weight(t));
    info.projects = in->config->guard.project > 0;
    TRY_NEW(names, in->n_regularizer);
    for (size_t k = 0; k < in->n_regularizer; k++) names[k] = objective_name(&in->regularizer[k].objective);
    info.regularizer = names;
    TRY(path_join(dir, "train.h5", &path));
    if (o->continues) TRY(file_set_aside(path));
    TRY(train_file_create(path, &info, &t->file));
    if (o->continues) TRY(file_continue(t->file, o->step, o->rows));
done:
    free(names), free(path);
    return st;
}

static enum status put_parts(const struct training *t)
{
    const struct inputs *in = t->subject->in;
    enum status st = OK;
    for (size_t k = 0; k < in->n_regularizer; k++) {
        const char *name = objective_name(&in->regularizer[k].objective);
        char field[64];
        snprintf(field, sizeof field, "loss_%s", name);
        TRY(file_put(t->file, field, &t->update.part[k]));
        snprintf(field, sizeof field, "gradient_norm_%s", name);
        TRY(file_put(t->file, field, &t->update.norm_of_part[k]));
    }
done:
    return st;
}

enum status training_put(struct training *t, size_t i)
{
    const struct update *u = &t->update;
    const double tokens = isnan(u->loss) ? NAN : (double)u->tokens; /* the last row has no update */
    enum status st = OK;
    if (!t->file) return OK;
    TRY(file_put(t->file, "loss", &u->loss));
    TRY(file_put(t->file, "loss_objective", &u->objective));
    TRY(file_put(t->file, "gradient_norm", &u->norm));
    TRY(file_put(t->file, "gradient_norm_objective", &u->norm_of_objective));
    TRY(put_parts(t));
    TRY(file_put(t->file, "lr", &u->rate));
    TRY(file_put(t->file, "tokens", &tokens));
    TRY(file_put(t->file, "seconds", &u->seconds));
    if (!isnan(dual_weight(t))) TRY(file_put(t->file, "dual_weight", &u->dual));
    if (file_has(t->file, "project_cosine")) TRY(file_put(t->file, "project_cosine", &u->cosine));
    TRY(file_commit(t->file, (int64_t)i));
done:
    return st;
}

enum status training_sync(struct training *t) { return file_sync(t->file); }

size_t training_rows(const struct training *t, int64_t step) { return file_rows_before(t->file, step); }

enum status training_close(struct training *t)
{
    struct file *f = t->file;
    t->file = NULL;
    return file_close(f);
}
