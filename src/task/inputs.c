/* Reading: input file, config.json, tokenizer, data. World rank 0 touches the files, everybody receives what it read, so
 * that no process can see another version of a file. */
#include "unlearn/task_priv.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_JSON = 16 << 20, MOST_INPUT = 1 << 20 };

enum status inputs_text(const struct grid *world, const char *path, size_t most, char **text, size_t *n)
{
    enum status st = OK;
    uint64_t size = 0;
    *text = NULL;
    if (world->rank == 0) st = file_read(path, most, text, n), size = *n;
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, &size, sizeof size, 0);
    *n = (size_t)size;
    if (world->rank && !(*text = calloc(*n + 1, 1))) st = fail(ERR_MEMORY, "%s: no memory for its %zu bytes", path, *n);
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, *text, *n, 0);
done:
    return st;
}

static enum status read_config(const struct options *o, const struct grid *world, struct inputs *in)
{
    enum status st;
    char *text = NULL;
    size_t n;
    TRY(inputs_text(world, o->input, MOST_INPUT, &text, &n));
    st = config_parse(o->input, text, n, o->n_override, o->override, &in->config);
    TRY(grid_agree(world, st));
done:
    free(text);
    return st;
}

static enum status read_shape(const struct grid *world, const char *dir, struct shape **out)
{
    enum status st;
    char *text = NULL, *path = NULL;
    size_t n;
    TRY(grid_agree(world, path_join(dir, "config.json", &path)));
    TRY(inputs_text(world, path, MOST_JSON, &text, &n));
    st = shape_parse(path, text, n, out);
    TRY(grid_agree(world, st));
done:
    free(text);
    free(path);
    return st;
}

/* A row's refusal: a function of the seed and the row. */
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
    unsigned char *bytes = NULL;
    uint64_t size = 0;
    size_t n = 0;
    *out = NULL;
    if (world->rank == 0) {
        st = read_one(f, idk, c, rule, out);
        if (st == OK) st = dataset_pack(*out, &bytes, &n);
        size = n;
    }
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, &size, sizeof size, 0);
    if (world->rank && !(bytes = malloc(size))) st = fail(ERR_MEMORY, "%s: no memory for its rows", f->path);
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, bytes, size, 0);
    if (world->rank) st = dataset_unpack(bytes, size, out);
    TRY(grid_agree(world, st));
done:
    free(bytes);
    return st;
}

static enum status read_data(const struct grid *world, const struct config_data *d, const char *idk,
                             const struct config *c, const struct data_rule *rule, struct dataset **out)
{
    const struct data_file f = {.path = d->path,
                                .question = d->question,
                                .answer = d->answer,
                                .text = d->text,
                                .rows = d->rows == CONFIG_ALL ? SIZE_MAX : d->rows};
    return d->path ? inputs_dataset(world, &f, idk, c, rule, out) : OK;
}

/* Only rank 0 needs the tokenizer; the rule's numbers are the same everywhere. */
static enum status open_rule(const struct grid *world, const struct inputs *in, struct tokenizer **tokenizer,
                             struct data_rule *rule)
{
    const struct config *c = in->config;
    enum status st = OK;
    size_t words;
    *rule = (struct data_rule){.max_length = c->data.max_length,
                               .eos = in->shape->n_eos ? in->shape->eos[0] : -1,
                               .vocabulary = in->shape->vocabulary};
    if (!c->data.template)
        rule->template = (struct template){c->data.question_start, c->data.question_end, c->data.answer_start};
    else if (!template_named(c->data.template, &rule->template))
        st = fail(ERR_INPUT, "%s: data.template: there is no template \"%s\"; use qa, llama2 or the three parts",
                  place_text(&c->data.template_place), c->data.template);
    if (st == OK && world->rank == 0) {
        st = tokenizer_open(c->model.path, tokenizer);
        if (st == OK && (words = tokenizer_vocabulary(*tokenizer)) > in->shape->vocabulary)
            st = fail(ERR_INPUT, "%s/tokenizer.json: has ids up to %zu, but the embedding of config.json has %zu rows",
                      c->model.path, words - 1, in->shape->vocabulary);
    }
    rule->tokenizer = *tokenizer;
    return grid_agree(world, st);
}

static void warn_rows(const struct inputs *in, const struct dataset *d)
{
    if (!d) return;
    if (d->n_cut)
        log_warn("%s: %zu row%s longer than data.max_length = %zu tokens, cut", d->path, d->n_cut,
                 d->n_cut == 1 ? " is" : "s are", in->config->data.max_length);
    if (d->n_unlabelled)
        log_warn("%s: %zu row%s no labelled token left: kept with weight 0", d->path, d->n_unlabelled,
                 d->n_unlabelled == 1 ? " has" : "s have");
}

enum status inputs_lengths(struct inputs *in, const struct dataset *d)
{
    size_t before = in->longest;
    warn_rows(in, d);
    for (size_t i = 0; d && i < d->n_row; i++) {
        size_t length = dataset_length(d, i);
        if (length > in->longest) in->longest = length;
        if (in->shape->window && length > in->shape->window)
            return fail(ERR_INPUT,
                        "%s: row %zu has %zu tokens, more than the model's sliding window of %zu, which is not built; "
                        "lower data.max_length",
                        d->path, i + 1, length, in->shape->window);
        if (in->shape->learned_positions && length > in->shape->positions)
            return fail(ERR_INPUT,
                        "%s: row %zu has %zu tokens, the model has learned %zu positions; lower data.max_length", d->path,
                        i + 1, length, in->shape->positions);
    }
    if (in->longest > in->shape->positions && in->longest > before)
        log_warn("%s: the longest row has %zu tokens, the model was made for %zu positions", d->path, in->longest,
                 in->shape->positions);
    return OK;
}

/* Nothing could be learnt, and nothing would be said. */
static enum status check_labels(const struct dataset *d, const struct objective *o)
{
    for (size_t i = 0; i < d->n_row; i++)
        if (dataset_labels(d, i) && objective_mass(o, dataset_length(d, i), dataset_labels(d, i)) > 0) return OK;
    return fail(ERR_INPUT, "%s: none of its rows has a labelled token that %s uses; raise data.max_length", d->path,
                objective_name(o));
}

/* held_out: auto. Fine-tuning teaches all rows unless told otherwise: what is to be retained must be known first. */
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

/* Each forget row with its answer and with its refusal. */
static enum status make_pairs(struct inputs *in)
{
    enum status st = dataset_join(in->forget, in->refusals, 0, &in->pairs);
    for (size_t i = 0; st == OK && i < in->forget->n_row; i++) {
        size_t length = dataset_length(in->forget, i) + dataset_length(in->refusals, i);
        if (length > in->longest_pair) in->longest_pair = length;
    }
    return st;
}

/* What the rows of an objective must have labels in: a pair counts by its answer. */
static const struct dataset *labelled(const struct inputs *in, const struct objective *o)
{
    if (in->config->task == TASK_FINETUNE) return in->train;
    return objective_needs(o) & NEEDS_PAIR ? in->forget : inputs_of(in, o);
}

static enum status read_sets(struct inputs *in, const struct grid *world, const struct data_rule *rule)
{
    const struct config *c = in->config;
    enum status st;
    if (c->task == TASK_EVALUATE || c->task == TASK_GENERATE) return OK;
    TRY(read_data(world, &c->data.forget, NULL, c, rule, &in->forget));
    TRY(read_data(world, &c->data.retain, NULL, c, rule, &in->retain));
    if (any_needs(in, NEEDS_REPLACEMENT | NEEDS_PAIR))
        TRY(read_data(world, &c->data.forget, c->data.idk, c, rule, &in->refusals));
    if (any_needs(in, NEEDS_PAIR)) TRY(make_pairs(in));
    in->held_out = held_out(c, in->retain);
    if (in->retain && in->held_out >= in->retain->n_row) {
        st = fail(ERR_INPUT, "%s: data.retain.held_out is %zu, but the file has %zu rows: none is left to train on",
                  c->file, in->held_out, in->retain->n_row);
        goto done;
    }
    TRY(inputs_lengths(in, in->forget));
    TRY(inputs_lengths(in, in->retain));
    TRY(inputs_lengths(in, in->refusals));
    if (c->task == TASK_FINETUNE)
        TRY(dataset_join(in->forget, in->retain, in->held_out, &in->train));
    else
        in->train = in->forget;
    if (in->trains) TRY(check_labels(labelled(in, &in->objective), &in->objective));
    for (size_t j = 0; j < in->n_measured; j++) TRY(check_labels(labelled(in, &in->measured[j]), &in->measured[j]));
    for (size_t i = 0; i < in->n_regularizer; i++) /* auto: as many as forget rows */
        if (c->regularizer[i].batch_size == CONFIG_AUTO && in->regularizer[i].batch > in->train->n_row)
            in->regularizer[i].batch = in->train->n_row;
done:
    return st;
}

enum status inputs_read(const struct options *o, const struct grid *world, struct inputs **out)
{
    enum status st = OK;
    struct inputs *in = memory_new(1, sizeof *in);
    struct tokenizer *tokenizer = NULL;
    struct data_rule rule;
    enum phase before = phase_enter(PHASE_READ);
    *out = NULL;
    if (!in) st = fail(ERR_MEMORY, "memory: cannot allocate the inputs");
    TRY(grid_agree(world, st));
    TRY(read_config(o, world, in));
    in->trains = in->config->task == TASK_FINETUNE || in->config->task == TASK_UNLEARN;
    in->measures =
        in->config->task == TASK_GEFFECT || (in->config->task == TASK_UNLEARN && in->config->geffect.every > 0);
    in->fidelity = in->measures && in->config->geffect.fidelity;
    in->gram = in->measures && (in->config->geffect.gram == GRAM_TRUE ||
                                (in->config->geffect.gram == GRAM_AUTO && in->config->geffect.fidelity));
    TRY(grid_agree(world, inputs_objectives(in)));
    TRY(grid_agree(world, inputs_scores(in)));
    TRY(read_shape(world, in->config->model.path, &in->shape));
    if (in->config->model.init == INIT_PRETRAINED) TRY(shape_untie(in->config->model.path, world, in->shape));
    TRY(grid_agree(world, inputs_hidden(in, world)));
    TRY(grid_agree(world, inputs_freeze(in)));
    TRY(open_rule(world, in, &tokenizer, &rule));
    TRY(grid_agree(world, read_sets(in, world, &rule)));
    if (in->measures) TRY(inputs_risks(in, world, &rule));
    TRY(inputs_evaluation(in, world, &rule));
    if (in->evaluation && in->evaluation->most_prompts) in->evaluation->tokenizer = tokenizer, tokenizer = NULL;
    TRY(inputs_prompts(in, world, &rule));
    if (in->prompts) in->prompts->tokenizer = tokenizer, tokenizer = NULL;
    *out = in, in = NULL;
done:
    tokenizer_free(tokenizer);
    inputs_free(in);
    phase_enter(before);
    return grid_agree(world, st);
}

void inputs_free(struct inputs *in)
{
    if (!in) return;
    for (size_t k = 0; k < in->n_risk; k++) {
        dataset_free(in->risk[k].own);
        free(in->risk[k].row), free(in->risk[k].weight), free(in->risk[k].label_first);
    }
    for (size_t j = 0; in->label && j < in->n_measured; j++) free(in->label[j]);
    free(in->label);
    free(in->risk);
    free(in->measured);
    free(in->regularizer);
    free(in->frozen);
    if (in->train != in->forget) dataset_free(in->train);
    dataset_free(in->forget);
    dataset_free(in->retain);
    dataset_free(in->refusals);
    dataset_free(in->pairs);
    for (size_t i = 0; i < in->n_direction; i++) free(in->direction[i].u);
    free(in->direction);
    shape_free(in->shape);
    inputs_evaluation_free(in);
    inputs_prompts_free(in);
    config_free(in->config);
    free(in);
}
