/* The input's objectives and regularisers, checked against the objective table; their labels; what they need. */
#include "unlearn/input_priv.h"
#include <stdlib.h>
#include <string.h>

static enum status resolve(const struct config_objective *from, unsigned kind, struct objective *out)
{
    enum status st = OK;
    char where[512];
    snprintf(where, sizeof where, "%s", place_text(&from->place));
    if (!objective_find(from->name, out) || !(objective_needs(out) & kind))
        return objective_unknown(where, from->name, kind);
    for (size_t i = 0; i < from->n_setting && st == OK; i++) {
        const struct config_setting *s = &from->setting[i];
        snprintf(where, sizeof where, "%s", place_text(&s->place));
        if (objective_needs(out) & NEEDS_DIRECTION && !strcmp(s->key, "direction")) continue; /* see inputs_hidden() */
        bool word;
        if ((st = objective_choose(out, where, s->key, s->text, &word)) != OK || word) continue;
        if (!s->is_number && objective_has(out, s->key))
            st = fail(ERR_INPUT, "%s: %s of %s must be a number, not \"%s\"", where, s->key, from->name, s->text);
        else
            st = objective_set(out, where, s->key, s->number);
    }
    return st;
}

bool setting_is_default(const struct config_objective *from, const struct config_setting *s)
{
    struct objective usual, one;
    bool word = false;
    enum status st;
    if (!objective_find(from->name, &usual) || !objective_has(&usual, s->key)) return false;
    one = usual;
    st = objective_choose(&one, "", s->key, s->text, &word);
    if (st == OK && !word) st = s->is_number ? objective_set(&one, "", s->key, s->number) : fail(ERR_INPUT, "no number");
    if (st != OK) fail_clear();
    return st == OK && !memcmp(one.parameter, usual.parameter, sizeof one.parameter);
}

/* A batch of retain rows is cut into as many parts as that of the forget rows. */
static enum status check_batch(const struct config *c, const struct config_objective *r)
{
    if (c->train.combine == COMBINE_GLOBAL || r->batch_size == CONFIG_AUTO || !(r->batch_size % c->train.accumulation))
        return OK;
    return fail(ERR_INPUT,
                "%s: batch_size of %s is %zu, but train.combine: micro_batch cuts it into train.accumulation = %zu equal "
                "parts: give a multiple of that",
                place_text(&r->place), r->name, r->batch_size, c->train.accumulation);
}

static enum status regularizers(struct inputs *in)
{
    const struct config *c = in->config;
    size_t batch = c->train.batch_size * c->train.accumulation;
    struct regularizer *list = NULL;
    enum status st = OK;
    TRY_NEW(list, c->n_regularizer);
    in->regularizer = list;
    in->n_regularizer = c->n_regularizer;
    for (size_t i = 0; i < c->n_regularizer; i++) {
        struct regularizer *r = &list[i];
        TRY(resolve(&c->regularizer[i], IS_REGULARIZER, &r->objective));
        TRY(check_batch(c, &c->regularizer[i]));
        r->weight = c->regularizer[i].weight;
        r->batch = c->regularizer[i].batch_size == CONFIG_AUTO ? batch : c->regularizer[i].batch_size;
        for (size_t k = 0; k < i; k++)
            if (!strcmp(objective_name(&in->regularizer[k].objective), objective_name(&r->objective))) {
                st = fail(ERR_INPUT, "%s: regularizer %s stands twice", place_text(&c->regularizer[i].place),
                          c->regularizer[i].name);
                goto done;
            }
        for (size_t k = 0; k < i && c->regularizer[i].dual.step_size > 0; k++)
            if (c->regularizer[k].dual.step_size > 0) {
                st = fail(ERR_INPUT, "%s: %s and %s both have a dual weight: one may",
                          place_text(&c->regularizer[i].place), c->regularizer[k].name, c->regularizer[i].name);
                goto done;
            }
    }
done:
    return st;
}

const struct config_objective *measured_from(const struct config *c, size_t j)
{
    return c->geffect.n_objective ? &c->geffect.objective[j] : &c->objective;
}

static enum status measured(struct inputs *in)
{
    const struct config *c = in->config;
    struct objective *list = NULL;
    enum status st = OK;
    in->n_measured = c->geffect.n_objective ? c->geffect.n_objective : 1;
    TRY_NEW(list, in->n_measured);
    in->measured = list;
    for (size_t j = 0; j < in->n_measured; j++) TRY(resolve(measured_from(c, j), IS_OBJECTIVE, &list[j]));
done:
    return st;
}

/* Makes the labels of measured objectives: the name, with its settings if the name occurs twice. */
static enum status labels(struct inputs *in)
{
    const char **list = NULL;
    enum status st = OK;
    TRY_NEW(list, in->n_measured);
    in->label = list;
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
        list[j] = name.data;
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
    const unsigned reference = NEEDS_REFERENCE | NEEDS_DISTRIBUTION | NEEDS_STATES;
    unsigned needs;
    enum status st = OK;
    /* a task that uses none of these must not ask for what they need, as a reference */
    if (c->task == TASK_FINETUNE || (!in->trains && !in->measures)) {
        objective_find("nll", &in->objective);
        return OK;
    }
    TRY(resolve(&c->objective, IS_OBJECTIVE, &in->objective));
    TRY(regularizers(in));
    if (in->measures) {
        TRY(measured(in));
        TRY(labels(in));
    }
    needs = in->trains ? objective_needs(&in->objective) : 0;
    for (size_t i = 0; i < in->n_regularizer; i++) needs |= objective_needs(&in->regularizer[i].objective);
    in->trains_reference = in->trains && needs & reference;
    in->trains_refusals = in->trains && needs & (NEEDS_REPLACEMENT | NEEDS_PAIR);
    for (size_t j = 0; j < in->n_measured; j++) needs |= objective_needs(&in->measured[j]);
    in->needs_reference = needs & NEEDS_REFERENCE;
    in->needs_distribution = needs & (NEEDS_DISTRIBUTION | NEEDS_STATES);
done:
    return st;
}
