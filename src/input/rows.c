/* The data sets of a run: forget rows, retain rows, refusals, pairs, and the set that updates draw from. */
#include "unlearn/input_priv.h"

/* Chooses a row's refusal, by the seed and the row alone. */
static size_t draw_line(void *context, size_t row, size_t n_lines)
{
    const struct config *c = context;
    return random_below(c->seed, STREAM_REPLACEMENT, row, n_lines);
}

static enum status read_one(const struct data_file *f, const char *idk, const struct config *c,
                            const struct data_rule *rule, struct dataset **out)
{
    if (!idk) return dataset_read(f, rule, out);
    return dataset_read_replaced(f, idk, c->data.idk_draw == DRAW_RANDOM ? draw_line : NULL, (void *)c, rule, out);
}

enum status inputs_dataset(const struct grid *world, const struct data_file *f, const char *idk, const struct config *c,
                           const struct data_rule *rule, struct dataset **out)
{
    enum status st = OK;
    *out = NULL;
    if (world->rank == 0) st = read_one(f, idk, c, rule, out);
    TRY(grid_agree(world, st));
    TRY(share_dataset(world, f->path, out));
done:
    return st;
}

static enum status read_data(const struct grid *world, const struct config_data *d, const char *idk,
                             const struct config *c, const struct data_rule *rule, const struct dataset **out)
{
    struct dataset *read = NULL;
    enum status st;
    const struct data_file f = {.path = d->path,
                                .question = d->question,
                                .answer = d->answer,
                                .text = text_key(rule, d->text),
                                .others = rule->template.blocks ? TEXT_OF_DATA : KEYS_OF_DATA,
                                .rows = d->rows == CONFIG_ALL ? SIZE_MAX : d->rows};
    if (!d->path) return OK;
    st = inputs_dataset(world, &f, idk, c, rule, &read);
    *out = read;
    if (read && !idk && d->rows != CONFIG_ALL && d->rows > read->n_line)
        log_warn("%s: data.%s.rows is %zu, but the file has %zu: all are used", d->path,
                 d == &c->data.forget ? "forget" : "retain", d->rows, read->n_line);
    return st;
}

/* What messages call these rows: refusals answer the questions of another file. */
static enum status rows_name(const struct inputs *in, const struct dataset *d, struct text *out)
{
    if (d != in->refusals) return text_print(out, "%s", d->path);
    return text_print(out, "%s, to the questions of %s", in->config->data.idk, d->path);
}

static void warn_rows(const struct dataset *d, const char *name, const char *key, size_t most)
{
    if (d->n_line && d->n_line < d->n_row) /* 0: of a set to evaluate, whose rows are no parts of texts */
        log_info("%s: %zu texts in %zu rows of at most %zu tokens", name, d->n_line, d->n_row, most);
    if (d->n_cut)
        log_warn("%s: %zu row%s longer than %s = %zu tokens, cut", name, d->n_cut, d->n_cut == 1 ? " is" : "s are", key,
                 most);
    if (d->n_blank)
        log_warn("%s: %zu answer%s empty (first: line %zu): nothing but its end is labelled", name, d->n_blank,
                 d->n_blank == 1 ? " is" : "s are", d->blank);
    if (d->n_unlabelled)
        log_warn("%s: %zu row%s no labelled token left: kept with weight 0", name, d->n_unlabelled,
                 d->n_unlabelled == 1 ? " has" : "s have");
}

enum status inputs_lengths(struct inputs *in, const struct dataset *d, bool evaluated)
{
    const struct config *c = in->config;
    const char *key = evaluated ? "evaluate.row_length" : "data.max_length";
    const size_t before = in->longest, learned = in->shape->learned_positions ? in->shape->positions : SIZE_MAX;
    struct text name = {0};
    enum status st;
    if (!d) return OK;
    TRY(rows_name(in, d, &name));
    warn_rows(d, name.data, key, evaluated ? c->evaluate.row_length : c->data.max_length);
    for (size_t i = 0; i < d->n_row; i++) {
        const size_t length = dataset_length(d, i);
        if (length > in->longest) in->longest = length;
        if (length > learned)
            TRY(fail(ERR_INPUT, "%s: row %zu has %zu tokens, the model has learned %zu positions; lower %s", name.data,
                     i + 1, length, learned, key));
    }
    if (in->longest > in->shape->positions && in->longest > before)
        log_warn("%s: the longest row has %zu tokens, the model was made for %zu positions", name.data, in->longest,
                 in->shape->positions);
done:
    text_free(&name);
    return st;
}

/* Fails if no row has a label that the objective uses: else a run would train on nothing without saying so. */
static enum status check_labels(const struct dataset *d, const struct objective *o)
{
    for (size_t i = 0; i < d->n_row; i++)
        if (dataset_labels(d, i) &&
            objective_mass(o, dataset_outputs(d, i, objective_outputs(o)), dataset_labels(d, i)) > 0)
            return OK;
    return fail(ERR_INPUT, "%s: none of its rows has a labelled token that %s uses; raise data.max_length", d->path,
                objective_name(o));
}

/* data.retain.held_out. By default fine-tuning trains on all retain rows, because the model must first know what it is
 * to retain. */
static size_t held_out(const struct config *c, const struct dataset *retain)
{
    if (c->data.held_out != CONFIG_AUTO) return c->data.held_out;
    if (!retain || c->task == TASK_FINETUNE) return 0;
    return retain->n_row >= 800 ? 400 : 0;
}

static bool any_needs(const struct inputs *in, unsigned needs)
{
    bool any = in->trains && objective_needs(&in->objective) & needs;
    for (size_t j = 0; j < in->n_measured; j++) any = any || objective_needs(&in->measured[j]) & needs;
    return any;
}

const struct dataset *inputs_of(const struct inputs *in, const struct objective *o)
{
    if (objective_needs(o) & NEEDS_PAIR) return in->pairs;
    return objective_needs(o) & NEEDS_REPLACEMENT ? in->refusals : in->forget;
}

/* Pairs every forget row's answer with its refusal: all answers first, then all refusals. */
static enum status make_pairs(struct inputs *in)
{
    struct dataset *pairs = NULL;
    enum status st = dataset_join(in->forget, in->refusals, 0, &pairs);
    in->pairs = pairs;
    for (size_t i = 0; st == OK && i < in->forget->n_row; i++) {
        size_t length = dataset_length(in->forget, i) + dataset_length(in->refusals, i);
        if (length > in->longest_pair) in->longest_pair = length;
    }
    return st;
}

/* The rows in which an objective must have labels; for pairs those with the answers. */
static const struct dataset *labelled(const struct inputs *in, const struct objective *o)
{
    if (in->config->task == TASK_FINETUNE) return in->train;
    return objective_needs(o) & NEEDS_PAIR ? in->forget : inputs_of(in, o);
}

enum status inputs_rows(struct inputs *in, const struct grid *world, const struct data_rule *rule)
{
    const struct config *c = in->config;
    struct dataset *train = NULL;
    enum status st;
    if (c->task == TASK_EVALUATE || c->task == TASK_GENERATE) return OK;
    TRY(read_data(world, &c->data.forget, NULL, c, rule, &in->forget));
    TRY(read_data(world, &c->data.retain, NULL, c, rule, &in->retain));
    if (any_needs(in, NEEDS_REPLACEMENT | NEEDS_PAIR))
        TRY(read_data(world, &c->data.forget, c->data.idk, c, rule, &in->refusals));
    if (any_needs(in, NEEDS_PAIR)) TRY(make_pairs(in));
    in->held_out = held_out(c, in->retain);
    if (in->retain && in->held_out >= in->retain->n_row) {
        const struct place place = config_place(c, "data.retain.held_out");
        st = fail(ERR_INPUT, "%s: data.retain.held_out is %zu, but the file has %zu rows: none is left to train on",
                  place_text(&place), in->held_out, in->retain->n_row);
        goto done;
    }
    TRY(inputs_lengths(in, in->forget, false));
    TRY(inputs_lengths(in, in->retain, false));
    TRY(inputs_lengths(in, in->refusals, false));
    if (c->task == TASK_FINETUNE) TRY(dataset_join(in->forget, in->retain, in->held_out, &train));
    in->train = train ? train : in->forget;
    if (in->trains) TRY(check_labels(labelled(in, &in->objective), &in->objective));
    for (size_t j = 0; j < in->n_measured; j++) TRY(check_labels(labelled(in, &in->measured[j]), &in->measured[j]));
    for (size_t i = 0; i < in->n_regularizer; i++) /* auto: at most as many as training rows */
        if (c->regularizer[i].batch_size == CONFIG_AUTO && in->regularizer[i].batch > in->train->n_row)
            making_regularizers(in)[i].batch = in->train->n_row;
done:
    return st;
}
