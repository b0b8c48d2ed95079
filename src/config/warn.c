/* Keys that do nothing beside others of the input: a warning each, for the run goes on without what they ask for. Their defaults
 * are not told: the input.yaml of a run has them all. */
#include "unlearn/config_priv.h"
#include <string.h>

static void nothing(const struct config *c, const char *key, const char *why)
{
    const struct place place = config_place(c, key);
    log_warn("%s: %s does nothing: %s", place_text(&place), key, why);
}

static bool trains(const struct config *c) { return c->task == TASK_UNLEARN || c->task == TASK_FINETUNE; }

static void warn_unmeasured(const struct config *c)
{
    const struct {
        bool asked;
        const char *key;
    } list[] = {{c->geffect.fidelity, "geffect.fidelity"},
                {c->geffect.tokens != TOKENS_FALSE, "geffect.tokens"},
                {c->geffect.gram == GRAM_TRUE, "geffect.gram"},
                {c->geffect.standard_error, "geffect.standard_error"},
                {c->geffect.curvature.update || c->geffect.curvature.window, "geffect.curvature"}};
    if (c->task != TASK_UNLEARN || c->geffect.every) return;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].asked) nothing(c, list[i].key, "geffect.every is 0: nothing is measured");
}

/* No warning: the same input may be that of a task evaluate to come. */
static void say_unevaluated(const struct config *c)
{
    if (trains(c) && c->evaluate.n_set && !c->evaluate.every)
        log_info("evaluate   none of evaluate.sets in this run: evaluate.every is 0");
}

/* Keys of one value that do nothing, except where they have their default. */
static enum status warn_unusual(const struct config *c, size_t n, const char *const *key, const char *why)
{
    enum status st = OK;
    for (size_t i = 0; i < n; i++) {
        bool usual;
        TRY(config_usual(c, key[i], &usual));
        if (!usual) nothing(c, key[i], why);
    }
done:
    return st;
}

static enum status warn_optimizer(const struct config *c)
{
    static const char *const key[] = {"optimizer.betas", "optimizer.eps"};
    if (!trains(c) || c->optimizer.name != OPTIMIZER_SGD) return OK;
    return warn_unusual(c, 2, key, "optimizer.name is sgd, which has no moments");
}

/* Rows of plain text have neither a question nor an answer. */
static enum status warn_text(const struct config *c)
{
    static const char *const key[2][2] = {{"data.forget.question", "data.forget.answer"},
                                          {"data.retain.question", "data.retain.answer"}};
    static const char *const why[2] = {"data.forget.text is given", "data.retain.text is given"};
    const struct config_data *const data[2] = {&c->data.forget, &c->data.retain};
    const bool plain = c->data.template && !strcmp(c->data.template, "plain");
    enum status st = OK;
    for (size_t i = 0; i < 2 && (trains(c) || c->task == TASK_GEFFECT); i++)
        if (data[i]->path && (data[i]->text || plain))
            TRY(warn_unusual(c, 2, key[i], data[i]->text ? why[i] : "data.template is plain: a row has one text"));
done:
    return st;
}

enum status config_warn(const struct config *c)
{
    enum status st;
    warn_unmeasured(c);
    say_unevaluated(c);
    TRY(warn_optimizer(c));
    TRY(warn_text(c));
done:
    return st;
}
