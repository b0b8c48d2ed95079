/* What open-unlearning's evaluation does to rows and texts, where evaluate.variant asks for it.
 *      Rows are cut at evaluate.row_length, then the end token is appended; those of chat templates are not cut.
 *      Its attention mask is "not the padding token", and where a tokenizer names none, its end token is the padding: then
 *      end tokens inside a row, as chat templates have, are not seen as keys.
 *      ROUGE compares decoded ids: the labels without the prompt's text, tidied; zlib compresses the decoded labels. */
#include "unlearn/input_priv.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_JSON = 16 << 20 };

/* The padding token, or the end token where the tokenizer has none. A named one that is no token never occurs in a row. */
static enum status hidden_token(const char *dir, const struct data_rule *r, size_t *hide)
{
    struct text name = {0};
    int32_t id;
    enum status st;
    TRY(special_padding(dir, &name));
    if (!name.n)
        *hide = (size_t)(r->eos + 1);
    else
        *hide = tokenizer_token(r->tokenizer, name.data, name.n, &id) ? (size_t)id + 1 : 0;
done:
    text_free(&name);
    return st;
}

/* Whether the template holds special tokens, as that of a chat does. */
static enum status is_chat(const struct data_rule *r, bool *chat)
{
    struct text prompt = {0}, all = {0}, plain = {0};
    struct ids id = {0};
    enum status st;
    *chat = r->template.own_tokens;
    TRY(template_prompt(&r->template, "", 0, &prompt));
    TRY(tokenizer_encode(r->tokenizer, prompt.n ? prompt.data : "", prompt.n, false, &id));
    for (size_t i = 0; i < id.n && !*chat; i++) {
        all.n = plain.n = 0;
        TRY(tokenizer_decode(r->tokenizer, &id.data[i], 1, false, &all));
        TRY(tokenizer_decode(r->tokenizer, &id.data[i], 1, true, &plain));
        *chat = all.n && !plain.n;
    }
done:
    text_free(&prompt), text_free(&all), text_free(&plain);
    ids_free(&id);
    return st;
}

/* Whether tokenizer.decode() tidies texts that it is not asked to tidy. */
static enum status tidies(const char *dir, bool *tidy)
{
    char *path = NULL;
    json_t *json = NULL;
    enum status st;
    *tidy = false;
    TRY(path_join(dir, "tokenizer_config.json", &path));
    if (!file_exists(path)) goto done;
    TRY(json_read(path, MOST_JSON, &json));
    TRY(key_flag(path, json, "clean_up_tokenization_spaces", tidy));
done:
    json_decref(json);
    free(path);
    return st;
}

enum status inputs_evaluation_rule(const struct inputs *in, const struct grid *world, struct evaluation_inputs *e,
                                   struct data_rule *rule)
{
    const struct config *c = in->config;
    uint64_t hide = 0;
    bool chat = false;
    enum status st = OK;
    rule->max_length = c->evaluate.row_length;
    if (c->evaluate.variant != VARIANT_OPEN_UNLEARNING) return OK;
    rule->end_beyond = true;
    if (rule->end == ADD_AUTO) rule->end = ADD_ALWAYS;
    if (world->rank == 0) {
        st = hidden_token(c->model.path, rule, &rule->hide);
        if (st == OK) st = is_chat(rule, &chat);
        if (st == OK) st = tidies(c->model.path, &e->tidies);
        if (chat) rule->max_length = SIZE_MAX;
        hide = rule->hide;
    }
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, &hide, sizeof hide, 0);
    e->hide = rule->hide = (size_t)hide;
done:
    return st;
}

/* ----------------------------------------------------------------------------------------------------- texts ------- */
/* Takes every occurrence of `what` out of t. */
static void text_without(struct text *t, const struct text *what)
{
    size_t to = 0;
    if (!what->n) return;
    for (size_t i = 0; i < t->n;) {
        if (i + what->n <= t->n && !memcmp(t->data + i, what->data, what->n))
            i += what->n;
        else
            t->data[to++] = t->data[i++];
    }
    t->n = to;
}

enum status inputs_evaluation_labels(const struct evaluation_inputs *e, const struct tokenizer *t,
                                     struct evaluated_set *s)
{
    const struct dataset *d = s->of[OF_ANSWER].data;
    enum status st = OK;
    TRY_NEW(s->label, s->n);
    for (size_t i = 0; i < s->n; i++) {
        size_t at = d->first[i], end = d->first[i + 1];
        while (at < end && d->label[at] == LABEL_NONE) at++;
        while (end > at && d->label[end - 1] == LABEL_NONE) end--;
        TRY(answer_text(t, d->id + at, end - at, &s->label[i]));
        if (e->tidies) text_tidy(&s->label[i]);
    }
done:
    return st;
}

/* What was asked in row i, and what was expected. */
static enum status texts_of(const struct tokenizer *t, struct evaluated_set *s, size_t i)
{
    const struct dataset *d = s->of[OF_ANSWER].data;
    struct prompts *p = &s->prompts;
    struct text *asked = &p->question[i], *expected = &p->answer[i];
    const size_t first = d->first[i], n = dataset_length(d, i);
    enum status st;
    asked->n = expected->n = 0;
    TRY(tokenizer_decode(t, p->id.data + p->first[i], p->first[i + 1] - p->first[i], true, asked));
    TRY(answer_text(t, d->id + first, n, expected));
    text_tidy(asked), text_tidy(expected);
    text_without(expected, asked);
    text_trim(expected);
done:
    return st;
}

enum status inputs_evaluation_texts(const struct inputs *in, const struct evaluation_inputs *e, const struct tokenizer *t,
                                    struct evaluated_set *s)
{
    enum status st = OK;
    if (in->config->evaluate.variant != VARIANT_OPEN_UNLEARNING) return OK;
    TRY(inputs_evaluation_labels(e, t, s));
    for (size_t i = 0; i < s->n; i++) TRY(texts_of(t, s, i));
done:
    return st;
}
