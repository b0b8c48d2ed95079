/* geffect.h5: the fields of the effects, together with those of the probes. */
#include "unlearn/probe_priv.h"
#include <stdlib.h>
#include <string.h>

static const struct field geffect_table[] = {
    {"geffect",
     {"step", "objective", "risk", "layer", "instance"},
     FIELD_DOUBLE,
     "nat2",
     "G-effect: inner product of the risk's gradient and the gradient of the objective on one instance, in one layer",
     "e[t,j,k,l,i] = <grad_l R_k(theta_t), grad_l L_j(s_i; theta_t)> (arXiv 2502.19301, definition 1, per instance)"},
    {"instance_weight",
     {"objective", "instance"},
     FIELD_DOUBLE,
     "1",
     "weight of an instance in the objective over the whole forget set; sums to 1",
     "L_j(D_u) = sum_i instance_weight[j,i] L_j(s_i)"},
    {"instance_loss",
     {"step", "objective", "instance"},
     FIELD_DOUBLE,
     "nat",
     "value of the objective on one instance, not weighted",
     "L_j(s_i; theta_t)"},
    {"objective_weight",
     {"step", "objective", "instance"},
     FIELD_DOUBLE,
     "1",
     "mean token weight of an instance, or its sequence weight; NaN where the objective has none",
     "mean_t w[j,i,t], as in wga: p^alpha (arXiv 2502.19301, equations 2, 4, 6)"},
    {"inverse_confidence",
     {"step", "instance"},
     FIELD_DOUBLE,
     "1",
     "mean over the labelled tokens of the answer of 1/p, at most 1e20; NaN where no risk reads the row",
     "mean_t 1/(p[i,t] + 1e-20) (arXiv 2502.19301, equation 1)"},
    {"risk_value",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "risk: negative log-likelihood, by the attribute normalisation as a mean over labelled tokens or of the sums of "
     "sequences; with the attribute estimator moving_average that average of micro-batches",
     "R_k(theta_t) = mean over the labelled tokens of D_k of -log p(token | before; theta_t)"},
    {"loss",
     {"step"},
     FIELD_DOUBLE,
     "nat",
     "loss of the batch that the next update uses; NaN after the last one",
     "weight L(S_t; theta_t) + sum over regularisers of weight times value"},
    {"geffect_%s",
     {"step", "risk", "layer", "retain_instance"},
     FIELD_DOUBLE,
     "nat2",
     "G-effect of the regulariser %s on one retain instance, not multiplied by its weight",
     "e[t,k,l,i] = <grad_l R_k(theta_t), grad_l L_reg(s_i; theta_t)>"},
    {"instance_weight_%s",
     {"retain_instance"},
     FIELD_DOUBLE,
     "1",
     "weight of a retain instance in the regulariser %s; sums to 1",
     "L_reg(D) = sum_i w[i] L_reg(s_i)"},
    {"instance_loss_%s",
     {"step", "retain_instance"},
     FIELD_DOUBLE,
     "nat",
     "value of the regulariser %s on one retain instance, not weighted",
     "L_reg(s_i; theta_t)"},
};

enum { OBJECTIVE = 1, RISK, LAYER, INSTANCE, RETAIN_INSTANCE, N_OWN };
static const struct axis own_axes[N_OWN] = {
    {.name = "step", .long_name = "updates done: row t is the state before update t+1", .units = "1", .unlimited = true},
    [OBJECTIVE] = {.name = "objective", .long_name = "unlearning objective"},
    [RISK] = {.name = "risk", .long_name = "risk that is measured"},
    [LAYER] = {.name = "layer", .long_name = "layer or parameter of the model"},
    [INSTANCE] = {.name = "instance",
                  .long_name = "row of the forget file, from 0; of template plain: row made of its texts",
                  .units = "1"},
    [RETAIN_INSTANCE] = {.name = "retain_instance",
                         .long_name = "row of the retain file, from 0; of template plain: row made of its texts",
                         .units = "1"},
};
static const char title[] = "G-effects of LLM unlearning";

/* The axis retain_instance has no values without regularisers. */
static void fill_axes(const struct geffect_file_info *info, struct axis axis[N_OWN])
{
    memcpy(axis, own_axes, sizeof own_axes);
    axis[OBJECTIVE].n = info->n_objective, axis[OBJECTIVE].label = info->objective;
    axis[RISK].n = info->n_risk, axis[RISK].label = info->risk;
    axis[LAYER].n = info->n_layer, axis[LAYER].label = info->layer;
    axis[INSTANCE].n = info->n_instance, axis[INSTANCE].value = info->instance;
    axis[RETAIN_INSTANCE].n = info->n_retain_instance, axis[RETAIN_INSTANCE].value = info->retain_instance;
}

enum status geffect_file_create(const char *path, const struct geffect_file_info *info, struct file **out)
{
    struct file_tables t = {.title = title,
                            .n_axis = N_OWN + info->n_axis,
                            .n_list = 1 + info->n_list,
                            .n_name = info->n_regularizer,
                            .name = info->regularizer};
    struct axis *axis = NULL;
    struct field_list *list = NULL;
    enum status st = OK;
    *out = NULL;
    TRY_NEW(axis, t.n_axis);
    TRY_NEW(list, t.n_list);
    fill_axes(info, axis);
    for (size_t i = 0; i < info->n_axis; i++) axis[N_OWN + i] = info->axis[i];
    list[0] = (struct field_list){geffect_table, sizeof geffect_table / sizeof *geffect_table, NULL};
    for (size_t i = 0; i < info->n_list; i++) list[1 + i] = info->list[i];
    t.axis = axis, t.list = list;
    TRY(file_create_named(path, &t, info->n_attribute, info->attribute, out));
done:
    free(axis), free(list);
    return st;
}

enum status measurement_files(file_say *say, void *to)
{
    struct axis axis[N_OWN + MOST_PROBES * MOST_AXES];
    struct field_list list[1 + MOST_PROBES] = {{geffect_table, sizeof geffect_table / sizeof *geffect_table, NULL}};
    struct file_tables t = {.title = title, .n_axis = N_OWN, .axis = axis, .n_list = 1, .list = list};
    enum status st;
    memcpy(axis, own_axes, sizeof own_axes);
    for (size_t i = 0; i < n_probe; i++) {
        list[t.n_list++] = probe_table[i]->fields;
        for (size_t k = 0; k < probe_table[i]->n_own_axis; k++) axis[t.n_axis++] = probe_table[i]->own_axis[k];
    }
    TRY(say(to, "geffect.h5", "task: unlearn with geffect.every above 0, or task: geffect", &t));
    for (size_t i = 0; i < n_probe; i++)
        if (probe_table[i]->files) TRY(probe_table[i]->files(say, to));
done:
    return st;
}

/* Writes the instance weights, which do not change with the step. */
static enum status put_weights(struct measurement *m)
{
    const struct inputs *in = m->subject->in;
    const struct risk *retain = inputs_regularized(in);
    enum status st = OK;
    TRY(file_put(m->file, "instance_weight", m->instance_weight));
    for (size_t i = 0; i < in->n_regularizer && retain; i++) {
        const struct objective *o = &in->regularizer[i].objective;
        const struct rows rows = subject_rows(m->subject, in->retain, retain->n, retain->row);
        char field[64];
        TRY(objective_weights(in, o, &rows, m->slab));
        snprintf(field, sizeof field, "instance_weight_%s", objective_name(o));
        TRY(file_put(m->file, field, m->slab));
    }
done:
    return st;
}

/* The names and rows of the axes, in lists that measurement_open() frees. */
struct names {
    const char **risk, **regularizer;
    int64_t *instance, *retain_instance;
};

static enum status name_axes(const struct inputs *in, struct names *n, struct geffect_file_info *info)
{
    const struct risk *retain = in->n_regularizer ? inputs_regularized(in) : NULL;
    enum status st = OK;
    info->n_regularizer = retain ? in->n_regularizer : 0;
    info->n_retain_instance = retain ? retain->n : 0;
    TRY_NEW(n->risk, in->n_risk);
    TRY_NEW(n->regularizer, in->n_regularizer);
    TRY_NEW(n->instance, in->forget->n_row);
    TRY_NEW(n->retain_instance, info->n_retain_instance);
    for (size_t k = 0; k < in->n_risk; k++) n->risk[k] = in->risk[k].name;
    for (size_t i = 0; i < in->n_regularizer; i++) n->regularizer[i] = objective_name(&in->regularizer[i].objective);
    for (size_t i = 0; i < in->forget->n_row; i++) n->instance[i] = (int64_t)i;
    for (size_t i = 0; retain && i < retain->n; i++) n->retain_instance[i] = (int64_t)retain->row[i];
    info->risk = n->risk, info->regularizer = n->regularizer;
    info->instance = n->instance, info->retain_instance = n->retain_instance;
done:
    return st;
}

enum status measurement_open(struct measurement *m, const char *dir, const struct opening *o)
{
    const struct inputs *in = m->subject->in;
    struct axis axis[MOST_PROBES * MOST_AXES];
    struct field_list list[MOST_PROBES];
    struct names names = {0};
    char *path = NULL;
    struct geffect_file_info info = {.n_objective = in->n_measured,
                                     .objective = in->label,
                                     .n_risk = in->n_risk,
                                     .n_layer = m->n_layer,
                                     .layer = (const char *const *)m->layer,
                                     .n_instance = in->forget->n_row,
                                     .axis = axis,
                                     .list = list,
                                     .n_attribute = o->n_attribute,
                                     .attribute = o->attribute};
    enum status st;
    TRY(name_axes(in, &names, &info));
    for (size_t i = 0; i < n_probe; i++) {
        const struct probe *p = probe_table[i];
        if (!m->probe[i]) continue;
        list[info.n_list++] = p->fields;
        if (p->axes) info.n_axis += p->axes(m->probe[i], axis + info.n_axis);
    }
    TRY(path_join(dir, "geffect.h5", &path));
    if (o->continues) TRY(file_set_aside(path));
    TRY(geffect_file_create(path, &info, &m->file));
    TRY(put_weights(m));
    if (o->continues) TRY(file_continue(m->file, o->step, o->rows));
    for (size_t i = 0; i < n_probe; i++)
        if (m->probe[i] && probe_table[i]->open) TRY(probe_table[i]->open(m, m->probe[i], dir, o));
done:
    free(path);
    free(names.risk), free(names.regularizer), free(names.instance), free(names.retain_instance);
    return st;
}

/* The file of probe i, if it has one of its own. */
static struct file **own_file(const struct measurement *m, size_t i)
{
    return m->probe[i] && probe_table[i]->file ? probe_table[i]->file(m->probe[i]) : NULL;
}

enum status measurement_sync(struct measurement *m)
{
    enum status st = file_sync(m->file);
    for (size_t i = 0; i < n_probe && st == OK; i++) {
        struct file **f = own_file(m, i);
        if (f) st = file_sync(*f);
    }
    return st;
}

size_t measurement_rows(const struct measurement *m, int64_t step) { return file_rows_before(m->file, step); }

static enum status close_file(struct file **f)
{
    struct file *file = *f;
    *f = NULL;
    return file_close(file);
}

enum status measurement_close(struct measurement *m)
{
    enum status st = close_file(&m->file), now;
    for (size_t i = 0; i < n_probe; i++) {
        struct file **f = own_file(m, i);
        if (f && (now = close_file(f)) != OK && st == OK) st = now;
    }
    return st;
}

enum status measurement_put(struct measurement *m, const char *field, const double *slab)
{
    enum phase before = phase_enter(PHASE_OUTPUT);
    enum status st = grid_agree(m->subject->grid, m->file ? file_put(m->file, field, slab) : OK);
    phase_enter(before);
    return st;
}
