/* Rules between keys, and defaults that depend on other keys or on the input's name. */
#include "unlearn/config_priv.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANY_LENGTH = 10000000 }; /* the most that evaluate.row_length may be */

static enum status no_memory(const struct config *c) { return fail(ERR_MEMORY, "%s: no memory to read it", c->file); }

/* outputs/ and the input's name without directory and ending */
static enum status finish_output(struct config *c)
{
    enum status st = OK;
    struct text path = {0};
    const char *slash = strrchr(c->file, '/'), *name = slash ? slash + 1 : c->file, *dot = strrchr(name, '.');
    size_t n = dot && dot > name ? (size_t)(dot - name) : strlen(name);
    if (c->output_directory) return OK;
    TRY(text_print(&path, "outputs/%.*s", (int)n, name));
    c->output_directory = path.data;
    path.data = NULL;
done:
    text_free(&path);
    return st;
}

/* A name or parts; a part that is not given is empty. */
static enum status finish_template(struct config *c)
{
    char **part[] = {&c->data.question_start, &c->data.question_end, &c->data.prompt_end, &c->data.answer_start,
                     &c->data.answer_end};
    bool any = false;
    struct place place = config_place(c, "data.template");
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) any = any || *part[i];
    if (!any && !c->data.template)
        return fail(ERR_INPUT, "%s: data.template: give its name (qa, llama3 ...: see --help templates) or its parts",
                    place_text(&place));
    if (any && c->data.template)
        return fail(ERR_INPUT, "%s: data.template: give its name or its parts, not both", place_text(&place));
    if (any && (c->data.system || c->data.date)) {
        place = config_place(c, c->data.system ? "data.template.system" : "data.template.date");
        return fail(ERR_INPUT, "%s: data.template.%s: belongs to a template with a name; write it into question_start",
                    place_text(&place), c->data.system ? "system" : "date");
    }
    for (size_t i = 0; any && i < sizeof part / sizeof *part; i++)
        if (!*part[i] && !(*part[i] = text_copy(""))) return no_memory(c);
    return OK;
}

static bool needs_refusals(const struct config_objective *o)
{
    static const char *const name[] = {"po", "idk", "dpo"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        if (strcmp(o->name, name[i]) == 0) return true;
    return false;
}

static enum status check_refusals(const struct config *c)
{
    const struct config_objective *who = needs_refusals(&c->objective) ? &c->objective : NULL;
    for (size_t i = 0; i < c->geffect.n_objective && !who; i++)
        if (needs_refusals(&c->geffect.objective[i])) who = &c->geffect.objective[i];
    if (!who || c->data.idk || (c->task != TASK_UNLEARN && c->task != TASK_GEFFECT)) return OK;
    return fail(ERR_INPUT, "%s: data.idk is missing: objective %s needs a file of refusals", place_text(&who->place),
                who->name);
}

/* What is not said is the variant's. */
static void finish_variant(struct config *c)
{
    const bool open_unlearning = c->evaluate.variant == VARIANT_OPEN_UNLEARNING;
    const bool tofu = c->evaluate.benchmark == BENCHMARK_TOFU;
    if (c->evaluate.end_token == END_AUTO) c->evaluate.end_token = open_unlearning ? END_OUT : END_IN;
    if (c->evaluate.none_extracted == EXTRACTED_AUTO)
        c->evaluate.none_extracted = open_unlearning ? EXTRACTED_ONE : EXTRACTED_ZERO;
    if (c->evaluate.truth_ratio == RATIO_AUTO)
        c->evaluate.truth_ratio = open_unlearning ? RATIO_GEOMETRIC : RATIO_ARITHMETIC;
    if (c->evaluate.length == LENGTH_AUTO) c->evaluate.length = open_unlearning ? LENGTH_NEW : LENGTH_TOTAL;
    if (c->evaluate.min_k == 0)
        c->evaluate.min_k = open_unlearning || c->evaluate.benchmark == BENCHMARK_MUSE ? 0.4 : 0.2;
    if (c->evaluate.rows == CONFIG_AUTO) c->evaluate.rows = open_unlearning || !tofu ? CONFIG_ALL : 300;
    if (c->evaluate.row_length == CONFIG_AUTO && tofu)
        c->evaluate.row_length = open_unlearning && !config_given(c, "data.max_length") ? 512 : c->data.max_length;
    if (c->evaluate.row_length == CONFIG_AUTO) c->evaluate.row_length = ANY_LENGTH;
    /* without a log nothing else can be meant, and a resolved input is what it was */
    if (isnan(c->evaluate.privleak_auc) && !c->evaluate.retain_logs) c->evaluate.privleak_auc = 0.5;
}

/* MUSE's files are known by name; those of WMDP name a subject, those of TOFU may have any name. */
static enum status check_names(const struct config *c)
{
    static const char muse[] = "verbmem_forget|knowmem_forget|knowmem_retain|knowmem_forget_icl|knowmem_retain_icl|"
                               "privleak_forget|privleak_holdout";
    struct text list = {0}, near = {0};
    enum status st = OK;
    for (size_t i = 0; i < c->evaluate.n_set && c->evaluate.benchmark == BENCHMARK_MUSE && st == OK; i++) {
        const struct config_set *s = &c->evaluate.set[i];
        if (choice_index(muse, s->name) >= 0) continue;
        TRY(choices_write(muse, &list));
        TRY(nearest_choice(muse, s->name, &near));
        st = fail(ERR_INPUT, "%s: evaluate.sets: MUSE has no set \"%s\"%s%s%s; it has %s", place_text(&s->place), s->name,
                  near.n ? " (" : "", near.n ? near.data : "", near.n ? ")" : "", list.data);
    }
done:
    text_free(&list), text_free(&near);
    return st;
}

static enum status check_sets(const struct config *c)
{
    const struct place place = config_place(c, c->task == TASK_EVALUATE ? "evaluate.sets" : "evaluate.every");
    const bool trains = c->task == TASK_UNLEARN || c->task == TASK_FINETUNE;
    if (c->evaluate.n_set || (c->task != TASK_EVALUATE && !(trains && c->evaluate.every))) return OK;
    if (!trains) return fail(ERR_INPUT, "%s: evaluate.sets is missing: the files to evaluate on", place_text(&place));
    return fail(ERR_INPUT, "%s: evaluate.sets is missing: evaluate.every needs the files to evaluate on",
                place_text(&place));
}

/* A change of the risk itself says nothing of an estimate of its gradient from the last few rows. */
static enum status check_measurement(const struct config *c)
{
    const bool curvature = c->geffect.curvature.update || c->geffect.curvature.window;
    const char *of_update = c->geffect.fidelity ? "fidelity" : curvature ? "curvature" : NULL;
    struct place place = config_place(c, "geffect.estimator");
    if (c->task != TASK_GEFFECT && (c->task != TASK_UNLEARN || c->geffect.every == 0)) return OK;
    if (c->geffect.estimator != ESTIMATOR_FULL && (of_update || c->geffect.standard_error))
        return fail(ERR_INPUT, "%s: geffect.estimator: geffect.%s needs full", place_text(&place),
                    of_update ? of_update : "standard_error");
    if (c->task == TASK_GEFFECT && of_update) {
        place = config_place(c, c->geffect.fidelity ? "geffect.fidelity" : "geffect.curvature");
        return fail(ERR_INPUT, "%s: geffect.%s: task geffect makes no update whose effect could be compared",
                    place_text(&place), of_update);
    }
    return OK;
}

/* What is asked for is never left out in silence: with pairs a measurement may take many times as long. */
static enum status finish_pairs(struct config *c)
{
    const struct place place =
        config_place(c, c->geffect.pairs.with == PAIRS_NONE ? "geffect.pairs.rows" : "geffect.pairs.with");
    if (c->geffect.pairs.with == PAIRS_TRUE) c->geffect.pairs.with = PAIRS_RETAIN;
    if (c->geffect.pairs.with == PAIRS_NONE && c->geffect.pairs.rows != CONFIG_AUTO)
        return fail(ERR_INPUT, "%s: geffect.pairs.rows: of which file? Give also geffect.pairs.with: retain or forget",
                    place_text(&place));
    if (c->geffect.pairs.with == PAIRS_NONE || c->task == TASK_GEFFECT || (c->task == TASK_UNLEARN && c->geffect.every))
        return OK;
    return fail(ERR_INPUT, "%s: geffect.pairs: nothing is measured: %s, or leave geffect.pairs out", place_text(&place),
                c->task == TASK_UNLEARN ? "give geffect.every of 1 or more" : "choose task unlearn or geffect");
}

static enum status finish_models(struct config *c)
{
    for (size_t i = 0; i < c->model.n_at; i++) {
        const struct config_model *m = &c->model.at[i];
        if ((i || m->step) && ((c->task != TASK_GEFFECT && c->task != TASK_EVALUATE) || c->model.init == INIT_RANDOM))
            return fail(
                ERR_INPUT,
                "%s: model.path: models at steps are a trajectory, which task geffect or evaluate measures as it is",
                place_text(&m->place));
        if (i && m->step <= m[-1].step)
            return fail(ERR_INPUT,
                        "%s: model.path: step %zu does not come after %zu: give each model the updates that "
                        "had been made, in order",
                        place_text(&m->place), m->step, m[-1].step);
    }
    c->model.path = c->model.at[0].path;
    return OK;
}

static enum status check_prompts(const struct config *c)
{
    const struct place place =
        config_place(c, c->task == TASK_GENERATE && !c->generate.prompt ? "task" : "generate.prompt");
    if (c->generate.prompts && c->generate.prompt)
        return fail(ERR_INPUT, "%s: generate.prompt: give one text or generate.prompts, a file, not both",
                    place_text(&place));
    if (c->task != TASK_GENERATE || c->generate.prompts || c->generate.prompt) return OK;
    return fail(ERR_INPUT, "%s: generate.prompts is missing: task generate needs a file of prompts, or generate.prompt",
                place_text(&place));
}

/* Where a product in bfloat16 would not be made. */
static enum status check_precision(const struct config *c)
{
    struct place place = config_place(c, "precision");
    if (c->precision != PRECISION_BFLOAT16 && c->optimizer.storage == PRECISION_BFLOAT16) {
        place = config_place(c, "optimizer.storage");
        return fail(ERR_INPUT, "%s: optimizer.storage: bfloat16 needs precision: bfloat16: give it too",
                    place_text(&place));
    }
    if (c->precision != PRECISION_BFLOAT16) return OK;
    if (c->parallel.products == PRODUCTS_OF_BLAS)
        return fail(ERR_INPUT, "%s: precision: the BLAS library has no products in bfloat16: leave out parallel.products",
                    place_text(&place));
    return OK;
}

/* ------------------------------------------------------------------------------------ risks on the data's rows ------- */
static bool of_data(const struct config_risk *r) { return !strcmp(r->data, "forget") || !strcmp(r->data, "retain"); }

static enum status replace(char **text, const char *by)
{
    char *copy = text_copy(by);
    if (!copy) return fail(ERR_MEMORY, "memory: cannot copy a key");
    free(*text), *text = copy;
    return OK;
}

/* Keys that repeat those by which data.forget or data.retain is read say what the defaults say. */
static enum status finish_risks(struct config *c)
{
    enum status st = OK;
    for (size_t k = 0; k < c->geffect.n_risk; k++) {
        struct config_risk *r = &c->geffect.risk[k];
        const struct config_data *d = !strcmp(r->data, "forget") ? &c->data.forget : &c->data.retain;
        if (!of_data(r)) continue;
        if (d->question && !strcmp(r->question, d->question)) TRY(replace(&r->question, "question"));
        if (d->answer && !strcmp(r->answer, d->answer)) TRY(replace(&r->answer, "answer"));
    }
done:
    return st;
}

enum status config_as_before(struct config *c)
{
    enum status st = OK;
    for (size_t j = 0; j < c->geffect.n_objective; j++) {
        struct config_objective *o = &c->geffect.objective[j];
        if (o->n_setting || !c->objective.name || strcmp(o->name, c->objective.name)) continue;
        free(o->setting), o->setting = NULL;
        TRY(settings_copy(&c->objective, o));
    }
    for (size_t k = 0; k < c->geffect.n_risk; k++) {
        struct config_risk *r = &c->geffect.risk[k];
        if (!of_data(r)) continue;
        TRY(replace(&r->question, "question"));
        TRY(replace(&r->answer, "answer"));
    }
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------- all ------- */
enum status config_finish(struct config *c)
{
    enum status st = OK;
    TRY(finish_models(c));
    TRY(finish_risks(c));
    TRY(finish_output(c));
    TRY(finish_template(c));
    if (c->task == TASK_FINETUNE && !c->data.forget.path && !c->data.retain.path) {
        st = fail(ERR_INPUT, "%s: data is missing: task finetune needs data.forget or data.retain", c->file);
        goto done;
    }
    TRY(check_refusals(c));
    TRY(check_measurement(c));
    TRY(finish_pairs(c));
    if (!isnan(c->guard.budget) && c->guard.act == ACT_AUTO) c->guard.act = ACT_STOP;
    finish_variant(c);
    TRY(check_sets(c));
    TRY(check_names(c));
    TRY(check_prompts(c));
    TRY(check_precision(c));
done:
    return st;
}
