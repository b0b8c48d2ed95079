/* The files of a run as tables: geffect.h5 and train.h5. A new number to be stored is a row here. */
#include "unlearn/output.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A field with "%s" in its name stands once per regulariser, whose name fills the "%s" of name and long_name. Otherwise a
 * "%s" in long_name is the name of the objective. */
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
     "L(S_t; theta_t) + sum over regularisers of weight times value"},
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

static const struct field gram_table[] = {
    {"gram",
     {"step", "layer", "gradient", "gradient_other"},
     FIELD_DOUBLE,
     "nat2",
     "inner product of two gradients, or of a gradient and the update, in one layer; a tied embedding counts in embed",
     "<grad_l L(D_u; theta_t), grad_l L(S_t; theta_t)> and so on: objective = the objective trained (task geffect: the "
     "first one measured) over the whole forget set; batch = all of update t+1 before clipping; regularizer = its "
     "regularisers' part; each risk; update = theta_t+1 - theta_t. With the update on one side the unit is nat, on both "
     "1"},
};

static const struct field spread_table[] = {
    {"standard_error",
     {"step", "objective", "risk"},
     FIELD_DOUBLE,
     "nat2",
     "standard error, over the rows of the risk, of the effect summed over layers and weighted instances",
     "sqrt(n/(n-1) sum_i d_i^2), d_i = w_i (x_i - e) for token_mean, w_i x_i - e/n for sequence_sum; "
     "x_i = <grad nll(s_i), grad L_j(D_u)>, w_i = weight of row i in R_k, e = sum_i w_i x_i"},
};

static const struct field change_table[] = {
    {"predicted_change",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "optimiser-aware effect: first-order change of the risk by update t+1 as the optimiser made it",
     "<grad R_k(theta_t), theta_t+1 - theta_t>"},
    {"predicted_change_plain",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "first-order change of the risk if update t+1 were a step of plain SGD at the same rate",
     "-lr <grad R_k(theta_t), grad L(S_t; theta_t) after clipping>, over what is not frozen"},
    {"actual_change",
     {"step", "risk"},
     FIELD_DOUBLE,
     "nat",
     "change of the risk by update t+1",
     "R_k(theta_t+1) - R_k(theta_t)"},
};

static const struct field train_table[] = {
    {"loss",
     {"step"},
     FIELD_DOUBLE,
     "nat",
     "loss of the batch of this update: the objective plus each regulariser times its weight",
     "L(S_t; theta_t) + sum over regularisers of weight times value"},
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
     "2-norm of the gradient of the objective %s alone, as in gradient_norm",
     "|grad L(S_t; theta_t)|"},
    {"gradient_norm_%s",
     {"step"},
     FIELD_DOUBLE,
     "nat",
     "2-norm of the gradient of the regulariser %s times its weight, as it enters gradient_norm",
     "|weight grad L_reg(S_t; theta_t)|"},
    {"tokens", {"step"}, FIELD_DOUBLE, "1", "tokens of the batch, the regularisers' included", NULL},
    {"seconds", {"step"}, FIELD_DOUBLE, "s", "time that this update took, without measurements", NULL},
};

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

/* A table with its regulariser rows written out; the texts made for them are kept until the file exists. */
struct expanded {
    struct field *field;
    size_t n, n_text;
    char **text;
};

static void expanded_free(struct expanded *e)
{
    for (size_t i = 0; e->text && i < e->n_text; i++) free(e->text[i]);
    free(e->text);
    free(e->field);
}

static enum status fill_in(struct expanded *e, const char *pattern, const char *name, const char **out)
{
    const char *hole = strstr(pattern, "%s");
    struct text t = {0};
    enum status st = OK;
    if (!hole) return OK;
    TRY(text_add(&t, pattern, (size_t)(hole - pattern)));
    TRY(text_print(&t, "%s%s", name, hole + 2));
    *out = e->text[e->n_text++] = t.data;
    return OK;
done:
    text_free(&t);
    return st;
}

static enum status make_room(struct expanded *e, size_t n_field, size_t n_text)
{
    struct field *field = realloc(e->field, n_field * sizeof *field);
    char **text = field ? realloc(e->text, n_text * sizeof *text) : NULL;
    if (field) e->field = field;
    if (text) e->text = text;
    return text ? OK : fail(ERR_MEMORY, "memory: cannot allocate the table of a file's fields");
}

/* Behind the rows that e has already. */
static enum status expand(const struct field *table, size_t n, const char *objective, size_t n_name,
                          const char *const *name, struct expanded *e)
{
    enum status st = OK;
    TRY(make_room(e, e->n + n * (n_name + 1), e->n_text + 2 * n * (n_name + 1)));
    for (size_t i = 0; i < n; i++) {
        bool each = strstr(table[i].name, "%s") != NULL;
        for (size_t k = 0; k < (each ? n_name : 1); k++) {
            struct field *f = &e->field[e->n++];
            *f = table[i];
            TRY(fill_in(e, table[i].name, each ? name[k] : objective, &f->name));
            TRY(fill_in(e, table[i].long_name, each ? name[k] : objective, &f->long_name));
        }
    }
done:
    return st;
}

#define EXPAND(table, objective, info, e) \
    expand(table, sizeof table / sizeof *table, objective, (info)->n_regularizer, (info)->regularizer, e)

static enum status create(const char *path, const char *title, size_t n_axis, const struct axis *axis,
                          const struct expanded *e, size_t n_attribute, const struct attribute *attribute,
                          struct file **out)
{
    enum status st = OK;
    struct attribute *all = NULL;
    TRY_NEW(all, n_attribute + 1);
    all[0] = (struct attribute){"title", title};
    for (size_t i = 0; i < n_attribute; i++) all[i + 1] = attribute[i];
    TRY(file_create(path, n_axis, axis, e->n, e->field, n_attribute + 1, all, out));
done:
    free(all);
    return st;
}

enum status geffect_file_create(const char *path, const struct geffect_file_info *info, struct file **out)
{
    enum status st = OK;
    struct expanded e = {0};
    const struct axis axis[] = {
        {.name = "step",
         .long_name = "updates done: row t is the state before update t+1",
         .units = "1",
         .unlimited = true},
        {.name = "objective", .long_name = "unlearning objective", .n = info->n_objective, .label = info->objective},
        {.name = "risk", .long_name = "risk that is measured", .n = info->n_risk, .label = info->risk},
        {.name = "layer", .long_name = "layer or parameter of the model", .n = info->n_layer, .label = info->layer},
        {.name = "instance",
         .long_name = "row of the forget file, from 0",
         .units = "1",
         .n = info->n_instance,
         .value = info->instance},
        {.name = "retain_instance",
         .long_name = "row of the retain file, from 0",
         .units = "1",
         .n = info->n_retain_instance,
         .value = info->retain_instance},
        {.name = "gradient",
         .long_name = "gradient, or the update, on one side of an inner product",
         .n = info->n_gradient,
         .label = info->gradient},
        {.name = "gradient_other",
         .long_name = "gradient, or the update, on the other side",
         .n = info->n_gradient,
         .label = info->gradient},
    };
    struct axis used[sizeof axis / sizeof *axis];
    size_t n_axis = 0;
    *out = NULL;
    for (size_t i = 0; i < sizeof axis / sizeof *axis; i++) /* retain_instance and gradient may have nothing on them */
        if (axis[i].n || axis[i].unlimited) used[n_axis++] = axis[i];
    TRY(EXPAND(geffect_table, NULL, info, &e));
    if (info->n_gradient) TRY(EXPAND(gram_table, NULL, info, &e));
    if (info->standard_error) TRY(EXPAND(spread_table, NULL, info, &e));
    if (info->fidelity) TRY(EXPAND(change_table, NULL, info, &e));
    TRY(create(path, "G-effects of LLM unlearning", n_axis, used, &e, info->n_attribute, info->attribute, out));
done:
    expanded_free(&e);
    return st;
}

enum status train_file_create(const char *path, const struct train_file_info *info, struct file **out)
{
    enum status st = OK;
    struct expanded e = {0};
    const struct axis axis = {.name = "step",
                              .long_name = "update, from 0; the last row is the state after the last one",
                              .units = "1",
                              .unlimited = true};
    *out = NULL;
    TRY(EXPAND(train_table, info->objective, info, &e));
    TRY(create(path, "updates of a training run", 1, &axis, &e, info->n_attribute, info->attribute, out));
done:
    expanded_free(&e);
    return st;
}

enum status evaluation_file_create(const char *path, const struct evaluation_file_info *info, struct file **out)
{
    enum status st = OK;
    struct expanded e = {0};
    const struct axis axis[] = {
        {.name = "step",
         .long_name = "updates done: row t is the state before update t+1",
         .units = "1",
         .unlimited = true},
        {.name = "set", .long_name = "set of questions", .n = info->n_set, .label = info->set},
        {.name = "row", .long_name = "row of the set's file, from 0", .units = "1", .n = info->n_row, .value = info->row},
        {.name = "metric", .long_name = "score of a row", .n = info->n_metric, .label = info->metric},
        {.name = "number", .long_name = "number of the whole evaluation", .n = info->n_number, .label = info->number},
    };
    *out = NULL;
    TRY(expand(evaluation_table, sizeof evaluation_table / sizeof *evaluation_table, "", 0, NULL, &e));
    TRY(create(path, "evaluation of a language model: did it forget, did it keep", sizeof axis / sizeof *axis, axis, &e,
               info->n_attribute, info->attribute, out));
done:
    expanded_free(&e);
    return st;
}
