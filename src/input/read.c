/* inputs_read(): input file, config.json, tokenizer, data. World rank 0 reads the files and sends them to all, so that
 * all processes see the same version of a file. */
#include "unlearn/input_priv.h"
#include "unlearn/weights.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_JSON = 16 << 20 };

static enum status read_config(const char *file, int n_override, char *const *override, const struct grid *world,
                               struct inputs *in)
{
    enum status st;
    char *text = NULL;
    struct config *c = NULL;
    size_t n;
    TRY(share_text(world, file, CONFIG_MOST, &text, &n));
    st = config_parse(file, text, n, n_override, override, &c);
    in->config = c;
    TRY(grid_agree(world, st));
done:
    free(text);
    return st;
}

static enum status read_shape(const struct grid *world, const char *dir, struct inputs *in)
{
    enum status st;
    char *text = NULL, *path = NULL;
    struct shape *s = NULL;
    size_t n;
    TRY(grid_agree(world, path_join(dir, "config.json", &path)));
    TRY(share_text(world, path, MOST_JSON, &text, &n));
    st = shape_parse(path, text, n, &s);
    in->shape = s;
    TRY(grid_agree(world, st));
    if (in->config->model.init == INIT_PRETRAINED) TRY(shape_untie(dir, world, s));
done:
    free(text);
    free(path);
    return st;
}

/* Only rank 0 opens the tokenizer and makes the rule; which tokens end an answer all must know. */
static enum status open_rule(const struct grid *world, struct inputs *in, struct tokenizer **tokenizer,
                             struct data_rule *rule, struct special_token token[N_SPECIAL])
{
    enum status st = OK;
    if (world->rank == 0) st = rule_make(in->config, in->shape, tokenizer, rule, &in->ends, token);
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, &in->ends, sizeof in->ends, 0);
done:
    return st;
}

/* Checks the headers of the weights' files, before anything is allocated by the sizes of config.json. */
static enum status check_weights(struct inputs *in)
{
    const struct config *c = in->config;
    struct layout *l = NULL;
    enum status st = OK;
    if (c->model.init == INIT_RANDOM) return OK;
    TRY(layout_new(in->shape, 0, 1, &l));
    for (size_t i = 0; i < c->model.n_at; i++) TRY(weights_check(c->model.at[i].path, l));
    in->half_reference = weights_are_half(c->model.reference ? c->model.reference : c->model.path, l);
done:
    layout_free(l);
    return st;
}

/* Sets what follows from the task alone. */
static void follow(struct inputs *in)
{
    const struct config *c = in->config;
    in->trains = c->task == TASK_FINETUNE || c->task == TASK_UNLEARN;
    in->measures = c->task == TASK_GEFFECT || (c->task == TASK_UNLEARN && c->geffect.every > 0);
}

/* Reads all rows and prompts, which needs the tokenizer; evaluation or prompts keep it if they decode answers. */
static enum status read_rows(struct inputs *in, struct evaluation_inputs *e, const struct grid *world)
{
    struct tokenizer *tokenizer = NULL;
    struct prompt_inputs *prompts = NULL;
    struct data_rule rule = {0};
    struct special_token token[N_SPECIAL] = {{.id = -1}, {.id = -1}};
    enum status st;
    TRY(open_rule(world, in, &tokenizer, &rule, token));
    TRY(grid_agree(world, inputs_rows(in, world, &rule)));
    if (in->measures) TRY(inputs_risks(in, world, &rule));
    if (e) {
        struct data_rule evaluated = rule;
        TRY(inputs_evaluation_rule(in, world, e, &evaluated));
        TRY(inputs_evaluation(in, e, world, &evaluated));
    }
    if (e && e->most_prompts) e->tokenizer = tokenizer, tokenizer = NULL;
    st = inputs_prompts(in, world, &rule, &prompts);
    in->prompts = prompts;
    TRY(st);
    if (world->rank == 0) st = ends_check(in, &rule);
    if (world->rank == 0 && st == OK) st = chat_check(in, &rule, token);
    TRY(grid_agree(world, st));
    if (prompts) prompts->tokenizer = tokenizer, tokenizer = NULL;
done:
    template_free(&rule.template);
    special_free(token);
    tokenizer_free(tokenizer);
    return st;
}

enum status inputs_read(const char *file, int n_override, char *const *override, const struct grid *world,
                        const struct inputs **out)
{
    enum status st = OK;
    struct inputs *in = memory_new(1, sizeof *in);
    struct evaluation_inputs *e = NULL;
    enum phase before = phase_enter(PHASE_READ);
    *out = NULL;
    if (!in) st = fail(ERR_MEMORY, "memory: cannot allocate the inputs");
    TRY(grid_agree(world, st));
    TRY(read_config(file, n_override, override, world, in));
    TRY(grid_agree(world, world->rank == 0 ? inputs_places(in->config) : OK));
    follow(in);
    TRY(grid_agree(world, inputs_objectives(in)));
    st = inputs_scores(in, &e);
    in->evaluation = e;
    TRY(grid_agree(world, st));
    TRY(read_shape(world, in->config->model.path, in));
    TRY(grid_agree(world, inputs_hidden(in, world)));
    TRY(grid_agree(world, inputs_freeze(in)));
    TRY(read_rows(in, e, world));
    TRY(grid_agree(world, world->rank == 0 ? check_weights(in) : OK));
    comm_broadcast(world->world, &in->half_reference, sizeof in->half_reference, 0);
    *out = in, in = NULL;
done:
    inputs_free(in);
    phase_enter(before);
    return grid_agree(world, st);
}

static void risk_end(const struct risk *k) { dataset_free(k->own), free(k->row), free(k->weight), free(k->label_first); }

void inputs_decay_all(const struct inputs *in) { ((struct config *)in->config)->optimizer.decay = DECAY_ALL; }

/* This function and the one above alone may cast const away from the inputs. */
void inputs_free(const struct inputs *in)
{
    if (!in) return;
    for (size_t k = 0; k < in->n_risk; k++) risk_end(&in->risk[k]);
    if (in->paired) risk_end(in->paired);
    for (size_t j = 0; in->label && j < in->n_measured; j++) free((char *)in->label[j]);
    for (size_t i = 0; i < in->n_direction; i++) free(in->direction[i].u);
    free((void *)in->label), free((void *)in->risk), free((void *)in->measured), free((void *)in->regularizer);
    free((void *)in->frozen), free((void *)in->direction), free((void *)in->paired);
    if (in->train != in->forget) dataset_free((struct dataset *)in->train);
    dataset_free((struct dataset *)in->forget);
    dataset_free((struct dataset *)in->retain);
    dataset_free((struct dataset *)in->refusals);
    dataset_free((struct dataset *)in->pairs);
    shape_free((struct shape *)in->shape);
    evaluation_inputs_free((struct evaluation_inputs *)in->evaluation);
    prompt_inputs_free((struct prompt_inputs *)in->prompts);
    config_free((struct config *)in->config);
    free((void *)in);
}
