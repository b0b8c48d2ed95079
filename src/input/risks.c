/* The risks: over which rows of which set each is a mean. */
#include "unlearn/input_priv.h"
#include <string.h>

/* Takes n of the rows first ... end-1: the first n, or n evenly spread ones. */
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

/* A key for rows that data.forget or data.retain reads by its own key would change nothing. */
static enum status check_key(const struct config_risk *k, const char *key, const char *value, const char *usual,
                             const char *own)
{
    if (!strcmp(value, usual) || !strcmp(value, own)) return OK;
    return fail(ERR_INPUT,
                "%s: risk \"%s\": %s: %s: the rows of data.%s are read by data.%s.%s: %s; to read the file by other keys "
                "give its path in place of %s",
                place_text(&k->place), k->name, key, value, k->data, k->data, key, own, k->data);
}

static enum status check_keys(const struct config *c, const struct config_risk *k)
{
    const struct config_data *d = !strcmp(k->data, "forget") ? &c->data.forget : &c->data.retain;
    enum status st = check_key(k, "question", k->question, "question", d->question); /* the word itself is the default */
    return st == OK ? check_key(k, "answer", k->answer, "answer", d->answer) : st;
}

static enum status one_risk(struct inputs *in, const struct grid *world, const struct config_risk *from,
                            const struct data_rule *rule, struct risk *k)
{
    size_t first = 0, end, rows, labels = 0;
    enum status st = OK;
    k->name = from->name;
    if (!strcmp(from->data, "forget") || !strcmp(from->data, "retain")) TRY(check_keys(in->config, from));
    if (!strcmp(from->data, "forget")) {
        k->data = in->forget;
    } else if (!strcmp(from->data, "retain")) {
        k->data = in->retain;
        first = from->from == FROM_TRAINED ? in->held_out : 0;
    } else {
        const struct data_file f = {.path = from->data,
                                    .question = from->question,
                                    .answer = from->answer,
                                    .text = text_key(rule, NULL),
                                    .others = text_key(rule, NULL) ? NULL : "{data: FILE, question: KEY, answer: KEY}",
                                    .rows = SIZE_MAX};
        TRY(inputs_dataset(world, &f, NULL, in->config, rule, &k->own));
        TRY(inputs_lengths(in, k->own, false));
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
    if (from->rows != CONFIG_ALL && rows > end - first && config_wrote(in->config, &from->rows_place))
        log_warn("%s: risk \"%s\": rows is %zu, but there are %zu: all are used", place_text(&from->rows_place),
                 from->name, rows, end - first);
    if (in->config->geffect.estimator == ESTIMATOR_MOVING_AVERAGE && rows > in->forget->n_row)
        rows = in->forget->n_row; /* no set has more micro-batches than forget */
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

/* The first risk on this set; NULL: none. */
static const struct risk *risk_on(const struct inputs *in, const struct dataset *d)
{
    for (size_t k = 0; k < in->n_risk; k++)
        if (in->risk[k].data == d) return &in->risk[k];
    return NULL;
}

/* The rows of geffect.pairs, weighted as a risk's. */
static enum status pair_rows(struct inputs *in)
{
    const struct config *c = in->config;
    const struct place place = config_place(c, "geffect.pairs.rows");
    const struct dataset *d = c->geffect.pairs.with == PAIRS_FORGET ? in->forget : in->retain;
    const struct risk *risk = c->geffect.pairs.rows == CONFIG_AUTO ? risk_on(in, d) : NULL;
    const bool number = c->geffect.pairs.rows != CONFIG_AUTO && c->geffect.pairs.rows != CONFIG_ALL;
    const size_t n = risk ? risk->n : number ? c->geffect.pairs.rows : d->n_row;
    size_t labels = 0;
    struct risk *k = NULL;
    enum status st = OK;
    if (c->geffect.pairs.with == PAIRS_NONE) return OK;
    if (n > d->n_row)
        return fail(ERR_INPUT, "%s: geffect.pairs.rows: %zu, but %s has %zu: give at most as many, or all",
                    place_text(&place), n, d->path, d->n_row);
    TRY_NEW(k, 1);
    in->paired = k, k->name = "pairs", k->data = d;
    TRY(take_rows(k, 0, d->n_row, n, RISK_SPREAD));
    for (size_t i = 0; i < n && risk; i++) k->row[i] = risk->row[i];
    for (size_t i = 0; i < n; i++) labels += dataset_labels(d, k->row[i]);
    st = labels ? risk_weights(c, k)
                : fail(ERR_INPUT, "%s: geffect.pairs: none of its rows has a labelled token; raise data.max_length",
                       d->path);
done:
    return st;
}

/* Their effects are those on the rows of the first risk on data.retain. */
static void warn_unmeasured(const struct inputs *in)
{
    const struct place place = config_place(in->config, "geffect.risks");
    if (in->n_regularizer && !inputs_regularized(in))
        log_warn("%s: geffect.risks: none is on data.retain: effects of regularisers (%s%s) are not measured; for these "
                 "give one with data: retain",
                 place_text(&place), objective_name(&in->regularizer[0].objective), in->n_regularizer > 1 ? " ..." : "");
}

enum status inputs_risks(struct inputs *in, const struct grid *world, const struct data_rule *rule)
{
    const struct config *c = in->config;
    struct risk *list = memory_new(c->geffect.n_risk, sizeof *list);
    enum status st = list ? OK : fail(ERR_MEMORY, "memory: cannot allocate the list of risks");
    in->risk = list;
    in->n_risk = list ? c->geffect.n_risk : 0;
    st = grid_agree(world, st);
    for (size_t k = 0; k < in->n_risk && st == OK; k++)
        st = grid_agree(world, one_risk(in, world, &c->geffect.risk[k], rule, &list[k]));
    if (st == OK) warn_unmeasured(in);
    return st == OK ? grid_agree(world, pair_rows(in)) : st;
}

const struct risk *inputs_regularized(const struct inputs *in) { return risk_on(in, in->retain); }

struct rows risk_rows(const struct risk *k)
{
    return (struct rows){.data = k->data, .n = k->n, .row = k->row, .label_first = k->label_first};
}

size_t risk_labels(const struct inputs *in)
{
    size_t most = 0;
    for (size_t k = 0; k < in->n_risk; k++)
        if (most < in->risk[k].label_first[in->risk[k].data->n_row])
            most = in->risk[k].label_first[in->risk[k].data->n_row];
    return most;
}
