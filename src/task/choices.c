/* The input's objectives, regularisers and risks, checked against the objective table and the data. */
#include "unlearn/task_priv.h"
#include <stdlib.h>
#include <string.h>

static enum status resolve(const struct config_objective *from, unsigned kind, const char *what, struct objective *out)
{
    enum status st = OK;
    char where[512];
    snprintf(where, sizeof where, "%s", place_text(&from->place));
    if (!objective_find(from->name, out) || !(objective_needs(out) & kind))
        return fail(ERR_INPUT, "%s: there is no %s \"%s\" (unlearn --help lists them)", where, what, from->name);
    for (size_t i = 0; i < from->n_setting && st == OK; i++) {
        const struct config_setting *s = &from->setting[i];
        snprintf(where, sizeof where, "%s", place_text(&s->place));
        if (objective_needs(out) & NEEDS_DIRECTION && !strcmp(s->key, "direction")) continue; /* inputs_hidden() */
        if (!s->is_number)
            st = fail(ERR_INPUT, "%s: %s of %s must be a number, not \"%s\"", where, s->key, from->name, s->text);
        else
            st = objective_set(out, where, s->key, s->number);
    }
    return st;
}

static enum status regularizers(struct inputs *in)
{
    const struct config *c = in->config;
    size_t batch = c->train.batch_size * c->train.accumulation;
    enum status st = OK;
    TRY_NEW(in->regularizer, c->n_regularizer);
    in->n_regularizer = c->n_regularizer;
    for (size_t i = 0; i < c->n_regularizer; i++) {
        struct regularizer *r = &in->regularizer[i];
        TRY(resolve(&c->regularizer[i], IS_REGULARIZER, "regularizer", &r->objective));
        r->weight = c->regularizer[i].weight;
        r->batch = c->regularizer[i].batch_size == CONFIG_AUTO ? batch : c->regularizer[i].batch_size;
        for (size_t k = 0; k < i; k++)
            if (!strcmp(objective_name(&in->regularizer[k].objective), objective_name(&r->objective))) {
                st = fail(ERR_INPUT, "%s: regularizer %s stands twice", place_text(&c->regularizer[i].place),
                          c->regularizer[i].name);
                goto done;
            }
    }
done:
    return st;
}

const struct config_objective *measured_from(const struct config *c, size_t j)
{
    const struct config_objective *o = c->geffect.n_objective ? &c->geffect.objective[j] : &c->objective;
    return !o->n_setting && c->objective.name && !strcmp(o->name, c->objective.name) ? &c->objective : o;
}

static enum status measured(struct inputs *in)
{
    const struct config *c = in->config;
    enum status st = OK;
    in->n_measured = c->geffect.n_objective ? c->geffect.n_objective : 1;
    TRY_NEW(in->measured, in->n_measured);
    for (size_t j = 0; j < in->n_measured; j++)
        TRY(resolve(measured_from(c, j), IS_OBJECTIVE, "objective", &in->measured[j]));
done:
    return st;
}

/* The name, and with its settings where it repeats. */
static enum status labels(struct inputs *in)
{
    enum status st = OK;
    TRY_NEW(in->label, in->n_measured);
    for (size_t j = 0; j < in->n_measured; j++) {
        struct text name = {0}, full = {0};
        const struct config_setting *direction;
        bool repeats = false;
        for (size_t k = 0; k < in->n_measured; k++)
            repeats = repeats || (k != j && in->measured[k].row == in->measured[j].row);
        TRY(objective_label(&in->measured[j], true, &full));
        if (repeats && (direction = setting_find(measured_from(in->config, j), "direction"))) {
            full.n--; /* the closing bracket */
            TRY(text_print(&full, ",direction=%s)", direction->text));
        }
        TRY(text_print(&name, "%s", repeats ? full.data : objective_name(&in->measured[j])));
        text_free(&full);
        in->label[j] = name.data;
        for (size_t k = 0; k < j; k++)
            if (!strcmp(in->label[k], in->label[j])) {
                st = fail(ERR_INPUT, "%s: geffect.objectives: %s stands twice with the same settings",
                          place_text(&measured_from(in->config, j)->place), in->label[j]);
                goto done;
            }
    }
done:
    return st;
}

enum status inputs_objectives(struct inputs *in)
{
    const struct config *c = in->config;
    unsigned needs;
    enum status st = OK;
    if (c->task == TASK_FINETUNE || c->task == TASK_EVALUATE) {
        objective_find("nll", &in->objective);
        return OK;
    }
    TRY(resolve(&c->objective, IS_OBJECTIVE, "objective", &in->objective));
    TRY(regularizers(in));
    if (in->measures) {
        TRY(measured(in));
        TRY(labels(in));
    }
    needs = in->trains ? objective_needs(&in->objective) : 0;
    for (size_t j = 0; j < in->n_measured; j++) needs |= objective_needs(&in->measured[j]);
    for (size_t i = 0; i < in->n_regularizer; i++) needs |= objective_needs(&in->regularizer[i].objective);
    in->needs_reference = needs & NEEDS_REFERENCE;
    in->needs_distribution = needs & (NEEDS_DISTRIBUTION | NEEDS_STATES);
done:
    return st;
}

/* n of the rows first ... end-1, the first ones or evenly spread ones. */
static enum status take_rows(struct risk *k, size_t first, size_t end, size_t n, enum risk_draw draw)
{
    enum status st = OK;
    size_t all = end - first;
    k->n = n < all ? n : all;
    TRY_NEW(k->row, k->n);
    for (size_t i = 0; i < k->n; i++)
        k->row[i] = first + (draw == RISK_SPREAD ? (size_t)((unsigned __int128)i * all / k->n) : i);
done:
    return st;
}

static enum status one_risk(struct inputs *in, const struct grid *world, const struct config_risk *from,
                            const struct data_rule *rule, struct risk *k)
{
    size_t first = 0, end, rows, labels = 0;
    enum status st = OK;
    k->name = from->name;
    if (!strcmp(from->data, "forget")) {
        k->data = in->forget;
    } else if (!strcmp(from->data, "retain")) {
        k->data = in->retain;
        first = from->from == FROM_TRAINED ? in->held_out : 0;
    } else {
        const struct data_file f = {
            .path = from->data, .question = from->question, .answer = from->answer, .rows = SIZE_MAX};
        TRY(inputs_dataset(world, &f, NULL, in->config, rule, &k->own));
        TRY(inputs_lengths(in, k->own));
        k->data = k->own;
    }
    end = k->data == in->retain && from->from == FROM_HELD_OUT ? in->held_out : k->data->n_row;
    if (k->data != in->retain && from->from == FROM_HELD_OUT) {
        st = fail(ERR_INPUT, "%s: risk \"%s\": from: held_out: only rows of data.retain are held out",
                  place_text(&from->place), from->name);
        goto done;
    }
    if (first >= end) {
        st = fail(ERR_INPUT, "%s: risk \"%s\" has no rows: nothing is held out", place_text(&from->place), from->name);
        goto done;
    }
    rows = from->rows == CONFIG_ALL ? SIZE_MAX : from->rows;
    if (in->config->geffect.estimator == ESTIMATOR_MOVING_AVERAGE && rows > in->forget->n_row)
        rows = in->forget->n_row; /* micro-batches of all sets run side by side */
    TRY(take_rows(k, first, end, rows, from->draw));
    for (size_t i = 0; i < k->n; i++) labels += dataset_labels(k->data, k->row[i]);
    if (labels)
        st = risk_weights(in->config, k);
    else
        st = fail(ERR_INPUT, "%s: risk \"%s\": none of its rows has a labelled token; raise data.max_length",
                  k->data->path, from->name);
done:
    return st;
}

enum status inputs_risks(struct inputs *in, const struct grid *world, const struct data_rule *rule)
{
    const struct config *c = in->config;
    enum status st = OK;
    TRY_NEW(in->risk, c->geffect.n_risk);
    in->n_risk = c->geffect.n_risk;
done:
    st = grid_agree(world, st);
    for (size_t k = 0; k < in->n_risk && st == OK; k++)
        st = grid_agree(world, one_risk(in, world, &c->geffect.risk[k], rule, &in->risk[k]));
    return st;
}
