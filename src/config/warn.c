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

static void warn_optimizer(const struct config *c)
{
    static const char why[] = "optimizer.name is sgd, which has no moments";
    if (!trains(c) || c->optimizer.name != OPTIMIZER_SGD) return;
    if (c->optimizer.beta1 != 0.9 || c->optimizer.beta2 != 0.999) nothing(c, "optimizer.betas", why);
    if (c->optimizer.eps != 1e-8) nothing(c, "optimizer.eps", why);
}

/* Rows of plain text have neither a question nor an answer. */
static void warn_text(const struct config *c)
{
    const bool plain = c->data.template && !strcmp(c->data.template, "plain");
    const struct {
        const struct config_data *d;
        const char *question, *answer, *why;
    } file[] = {{&c->data.forget, "data.forget.question", "data.forget.answer", "data.forget.text is given"},
                {&c->data.retain, "data.retain.question", "data.retain.answer", "data.retain.text is given"}};
    if (!trains(c) && c->task != TASK_GEFFECT) return;
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        const struct config_data *d = file[i].d;
        const char *why = d->text ? file[i].why : "data.template is plain: a row has one text";
        if (!d->path || !(d->text || plain)) continue;
        if (strcmp(d->question, "question")) nothing(c, file[i].question, why);
        if (strcmp(d->answer, "answer")) nothing(c, file[i].answer, why);
    }
}

void config_warn(const struct config *c)
{
    warn_unmeasured(c);
    say_unevaluated(c);
    warn_optimizer(c);
    warn_text(c);
}
