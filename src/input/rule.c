/* The rule by which questions, answers and texts become tokens: data.template, and the model's own special tokens. */
#include "unlearn/input_priv.h"
#include <stdlib.h>
#include <string.h>

const char *text_key(const struct data_rule *rule, const char *asked)
{
    return asked || !rule->template.blocks ? asked : "text";
}

/* ------------------------------------------------------------------------------------------------- the template ----- */
static enum status check_name(const struct config *c)
{
    struct text names = {0}, choices = {0}, hint = {0};
    const struct place *place = &c->data.template_place;
    enum status st = OK;
    for (size_t i = 0; template_name_at(i); i++) {
        if (!strcmp(template_name_at(i), c->data.template)) goto done;
        TRY(text_print(&choices, "%s%s", i ? "|" : "", template_name_at(i)));
    }
    TRY(template_names(&names));
    TRY(config_nearest(choices.data, c->data.template, &hint));
    st = fail(ERR_INPUT, "%s: data.template: there is no template \"%.60s\"%s%s%s; use one of %s, or your own parts",
              place_text(place), c->data.template, hint.n ? " (" : "", hint.n ? hint.data : "", hint.n ? ")" : "",
              names.data);
done:
    text_free(&names), text_free(&choices), text_free(&hint);
    return st;
}

/* Puts the place of the key in front of what the template says. */
static enum status placed(const struct config *c, enum status st)
{
    const struct place place = config_place(c, c->data.date     ? "data.template.date"
                                               : c->data.system ? "data.template.system"
                                                                : "data.template");
    char message[512];
    if (st != ERR_INPUT) return st;
    snprintf(message, sizeof message, "%s", fail_message());
    fail_clear();
    return fail(st, "%s: data.template: %s", place_text(&place), message);
}

static enum status make_template(const struct config *c, const struct special_token *token, struct template *t)
{
    const struct template_wish wish = {.system = c->data.system,
                                       .date = c->data.date,
                                       .bos = c->data.bos == WHEN_NEVER ? NULL : token[SPECIAL_BOS].text,
                                       .eos = token[SPECIAL_EOS].text,
                                       .no_end = c->data.eos == WHEN_NEVER};
    enum status st = OK;
    if (!c->data.template) {
        *t = (struct template){.question_start = c->data.question_start,
                               .question_end = c->data.question_end,
                               .prompt_end = c->data.prompt_end,
                               .answer_start = c->data.answer_start,
                               .answer_end = c->data.answer_end};
    } else {
        TRY(check_name(c));
        TRY(placed(c, template_make(c->data.template, &wish, t)));
    }
    if (c->data.trim != WHEN_AUTO) t->trim = c->data.trim == WHEN_ALWAYS ? TRIM_QUESTION | TRIM_ANSWER : 0;
done:
    return st;
}

/* ----------------------------------------------------------------------------------------------------- the rule ----- */
static enum status check_asked(const struct config *c, enum when asked, const char *key, const char *token, int32_t id)
{
    const struct place place = config_place(c, key);
    if (asked != WHEN_ALWAYS || id >= 0) return OK;
    return fail(ERR_INPUT,
                "%s: %s: always, but the model has none: give tokenizer_config.json a %s that is a token of "
                "tokenizer.json",
                place_text(&place), key, token);
}

static enum adding adding(enum when asked)
{
    return asked == WHEN_AUTO ? ADD_AUTO : asked == WHEN_ALWAYS ? ADD_ALWAYS : ADD_NEVER;
}

/* Models of text alone come with the added tokens of their relatives: an image's of gemma3, those of a code model that fills in. */
static enum status check_ids(const char *dir, const struct tokenizer *t, size_t rows)
{
    const size_t all = tokenizer_vocabulary(t), words = tokenizer_without_added(t);
    if (words > rows)
        return fail(ERR_INPUT, "%s/tokenizer.json: has ids up to %zu, but the embedding of config.json has %zu rows", dir,
                    words - 1, rows);
    if (all > rows)
        log_warn("%s/tokenizer.json: has added tokens with ids up to %zu, but the embedding of config.json has %zu rows: "
                 "a text "
                 "with one of them is refused",
                 dir, all - 1, rows);
    return OK;
}

enum status rule_make(const struct config *c, const struct shape *s, struct tokenizer **tokenizer, struct data_rule *rule,
                      struct ends *ends, struct special_token token[N_SPECIAL])
{
    enum status st;
    *rule = (struct data_rule){.max_length = c->data.max_length, .vocabulary = s ? s->vocabulary : SIZE_MAX};
    TRY(tokenizer_open(c->model.path, tokenizer));
    if (s) TRY(check_ids(c->model.path, *tokenizer, s->vocabulary));
    rule->tokenizer = *tokenizer;
    TRY(special_read(c->model.path, *tokenizer, token));
    TRY(ends_read(c->model.path, s, &token[SPECIAL_EOS], ends));
    rule->bos = token[SPECIAL_BOS].id >= 0 || !s ? token[SPECIAL_BOS].id : s->bos;
    rule->eos = ends->row;
    rule->front = adding(c->data.bos), rule->end = adding(c->data.eos);
    rule->end_unlabelled = c->data.end_token == COUNTED_OUT;
    TRY(check_asked(c, c->data.bos, "data.template.bos", "bos_token", rule->bos));
    TRY(check_asked(c, c->data.eos, "data.template.eos", "eos_token", rule->eos));
    TRY(make_template(c, token, &rule->template));
    ends->labelled =
        !rule->end_unlabelled && (rule->end != ADD_NEVER || (rule->template.answer_end && *rule->template.answer_end));
done:
    return st;
}

enum status rule_open(const struct config *c, const struct shape *s, struct tokenizer **tokenizer, struct data_rule *rule,
                      struct ends *ends)
{
    struct special_token token[N_SPECIAL] = {{.id = -1}, {.id = -1}};
    const enum status st = rule_make(c, s, tokenizer, rule, ends, token);
    special_free(token);
    return st;
}
