/* Every file and directory that a run is told to read, kept from what it removes or replaces in its output directory. */
#include "unlearn/task_priv.h"
#include <string.h>

static enum status spare(const struct config *c, const char *path, const char *what)
{
    return path ? directory_spares(c->output_directory, path, what) : OK;
}

static enum status spare_models(const struct config *c)
{
    enum status st = OK;
    for (size_t i = 0; i < c->model.n_at; i++)
        TRY(directory_spares_model(c->output_directory, c->model.at[i].path, "model.path"));
    if (c->model.reference) TRY(directory_spares_model(c->output_directory, c->model.reference, "model.reference"));
done:
    return st;
}

/* rmu's direction is the one setting of an objective that names a file. */
static enum status spare_direction(const struct config *c, const struct config_objective *o)
{
    const struct config_setting *s = setting_find(o, "direction");
    return spare(c, s ? s->text : NULL, "direction");
}

static enum status spare_directions(const struct config *c)
{
    enum status st = OK;
    TRY(spare_direction(c, &c->objective));
    for (size_t i = 0; i < c->n_regularizer; i++) TRY(spare_direction(c, &c->regularizer[i]));
    for (size_t i = 0; i < c->geffect.n_objective; i++) TRY(spare_direction(c, &c->geffect.objective[i]));
done:
    return st;
}

static enum status spare_data(const struct config *c)
{
    enum status st = OK;
    TRY(spare(c, c->data.forget.path, "data.forget"));
    TRY(spare(c, c->data.retain.path, "data.retain"));
    TRY(spare(c, c->data.idk, "data.idk"));
    for (size_t i = 0; i < c->geffect.n_risk; i++) {
        const char *data = c->geffect.risk[i].data;
        if (data && strcmp(data, "forget") && strcmp(data, "retain")) TRY(spare(c, data, "geffect.risks"));
    }
    for (size_t i = 0; i < c->evaluate.n_set; i++) TRY(spare(c, c->evaluate.set[i].path, "evaluate.sets"));
    TRY(spare(c, c->evaluate.retain_logs, "evaluate.retain_logs"));
    TRY(spare(c, c->generate.prompts, "generate.prompts"));
done:
    return st;
}

enum status inputs_spared(const struct options *o, const struct config *c)
{
    enum status st = OK;
    if (!o->check) TRY(spare(c, o->input, "the input file")); /* that of an earlier run reads back to the same */
    TRY(spare_models(c));
    TRY(spare_directions(c));
    TRY(spare_data(c));
done:
    return st;
}
