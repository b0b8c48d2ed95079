/* tokens.h5: which tokens they are, once; their effects and likelihoods, a row for every measured step. */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct field table[] = {
    {"token_effect",
     {"step", "risk", "token"},
     FIELD_DOUBLE,
     "nat2",
     "inner product of the risk's gradient and the gradient of one token's negative log-likelihood",
     "d[t,k,i] = <grad R_k(theta_t), grad nll_i(theta_t)>; the effect of L(nll_1, ..., nll_n) on its row is sum_i "
     "dL/dnll_i d[t,k,i]"},
    {"token_nll",
     {"step", "token"},
     FIELD_DOUBLE,
     "nat",
     "negative log-likelihood of the token",
     "-log p(token | before; theta_t)"},
    {"token_nll_reference",
     {"token"},
     FIELD_DOUBLE,
     "nat",
     "the same under the reference; NaN where no objective needs it, and of refusals",
     "-log p(token | before; theta_o)"},
    {"instance",
     {"token"},
     FIELD_INT64,
     "1",
     "row of the forget file, from 0; of template plain: row made of its texts",
     NULL},
    {"position", {"token"}, FIELD_INT64, "1", "place in the row's token ids, from 0", NULL},
    {"token_id", {"token"}, FIELD_INT64, "1", "id in the model's vocabulary", NULL},
    {"token_text",
     {"token"},
     FIELD_TEXT,
     NULL,
     "what the token adds to the text; U+FFFD where that is part of a character",
     NULL},
};

/* ------------------------------------------------------------------------------------------------------ texts ------ */
enum { CONTEXT = 4 }; /* tokens before: more than a character is ever split into, but one */
static const char REPLACEMENT[] = "\xef\xbf\xbd";

/* Without characters at the end that are not complete yet. */
static size_t complete(const struct text *t)
{
    size_t n = t->n;
    while (n >= 3 && !memcmp(t->data + n - 3, REPLACEMENT, 3)) n -= 3;
    return n;
}

/* What id [at] adds to the text of those before it. NUL bytes, which no reader of text in HDF5 can have, become U+2400. */
static enum status added_text(const struct tokenizer *tokenizer, const int32_t *id, size_t at, char **out)
{
    const size_t from = at > CONTEXT ? at - CONTEXT : 0;
    struct text before = {0}, with = {0}, own = {0};
    size_t begin = 0;
    enum status st = OK;
    if (at > from) TRY(tokenizer_decode(tokenizer, id + from, at - from, false, &before));
    TRY(tokenizer_decode(tokenizer, id + from, at - from + 1, false, &with));
    begin = complete(&before);
    if (begin > with.n || (before.data && memcmp(before.data, with.data, begin) != 0))
        begin = with.n; /* it changed what was there */
    TRY(text_print(&own, "%s", ""));
    for (size_t i = begin; i < with.n; i++)
        TRY(with.data[i] ? text_add(&own, with.data + i, 1) : text_print(&own, "\xe2\x90\x80"));
    *out = own.data, own.data = NULL;
done:
    text_free(&before), text_free(&with), text_free(&own);
    return st;
}

/* ------------------------------------------------------------------------------------------------------- file ------ */
struct columns { /* [n] each, of the labelled tokens */
    int64_t *token, *instance, *position, *id;
    double *reference;
    char **text; /* owned */
};

static void columns_free(struct columns *c, size_t n)
{
    for (size_t i = 0; c->text && i < n; i++) free(c->text[i]);
    free(c->token), free(c->instance), free(c->position), free(c->id), free(c->reference), free(c->text);
}

/* The labelled tokens of row i: the first token of a row is never predicted. */
static enum status fill_row(const struct tokens *t, const struct tokenizer *tokenizer, size_t i, struct columns *c)
{
    const struct dataset *d = t->data;
    size_t at = t->label_first[i];
    enum status st = OK;
    for (size_t k = d->first[i] + 1; k < d->first[i + 1]; k++) {
        if (d->label[k] == LABEL_NONE) continue;
        c->instance[at] = (int64_t)i, c->position[at] = (int64_t)(k - d->first[i]), c->id[at] = d->id[k];
        TRY(added_text(tokenizer, d->id + d->first[i], k - d->first[i], &c->text[at]));
        at++;
    }
done:
    return st;
}

static enum status columns_new(const struct measurement *m, const struct tokens *t, struct columns *c)
{
    const struct subject *s = m->subject;
    const bool known = s->nll_ref && t->data == s->in->forget; /* the first labels are theirs, pairs or not */
    struct tokenizer *tokenizer = NULL;
    enum status st = OK;
    TRY_NEW(c->token, t->n);
    TRY_NEW(c->instance, t->n);
    TRY_NEW(c->position, t->n);
    TRY_NEW(c->id, t->n);
    TRY_NEW(c->reference, t->n);
    TRY_NEW(c->text, t->n);
    for (size_t i = 0; i < t->n; i++) c->token[i] = (int64_t)i, c->reference[i] = known ? s->nll_ref[i] : NAN;
    TRY(tokenizer_open(s->in->config->model.path, &tokenizer));
    for (size_t i = 0; i < t->data->n_row; i++) TRY(fill_row(t, tokenizer, i, c));
done:
    tokenizer_free(tokenizer);
    return st;
}

enum { RISK = 1, TOKEN, N_AXIS };
static const struct axis axes[N_AXIS] = {
    {.name = "step", .long_name = "updates done: row t is the state before update t+1", .units = "1", .unlimited = true},
    [RISK] = {.name = "risk", .long_name = "risk that is measured"},
    [TOKEN] = {.name = "token", .long_name = "labelled token of the forget rows, row by row, in order", .units = "1"},
};
static const struct field_list list = {table, sizeof table / sizeof *table, NULL};
static const char title[] = "effects of tokens";

enum status tokens_files(file_say *say, void *to)
{
    const struct file_tables t = {.title = title, .n_axis = N_AXIS, .axis = axes, .n_list = 1, .list = &list};
    return say(to, "tokens.h5", "geffect.tokens", &t);
}

static enum status create(const struct measurement *m, const struct tokens *t, const char *path, const struct opening *o,
                          const struct columns *c, struct file **out)
{
    const struct inputs *in = m->subject->in;
    struct axis axis[N_AXIS];
    const struct file_tables tables = {.title = title, .n_axis = N_AXIS, .axis = axis, .n_list = 1, .list = &list};
    const char **risk = NULL;
    enum status st = OK;
    TRY_NEW(risk, in->n_risk);
    for (size_t k = 0; k < in->n_risk; k++) risk[k] = in->risk[k].name;
    memcpy(axis, axes, sizeof axes);
    axis[RISK].n = in->n_risk, axis[RISK].label = risk;
    axis[TOKEN].n = t->n, axis[TOKEN].value = c->token;
    TRY(file_create_named(path, &tables, o->n_attribute, o->attribute, out));
done:
    free(risk);
    return st;
}

enum status tokens_open(const struct measurement *m, void *self, const char *dir, const struct opening *o)
{
    struct tokens *t = self;
    struct columns c = {0};
    char *path = NULL;
    enum status st;
    TRY(columns_new(m, t, &c));
    TRY(path_join(dir, "tokens.h5", &path));
    if (o->continues) TRY(file_set_aside(path));
    TRY(create(m, t, path, o, &c, &t->file));
    TRY(file_put_int64(t->file, "instance", c.instance));
    TRY(file_put_int64(t->file, "position", c.position));
    TRY(file_put_int64(t->file, "token_id", c.id));
    TRY(file_put(t->file, "token_nll_reference", c.reference));
    TRY(file_put_text(t->file, "token_text", (const char *const *)c.text));
    if (o->continues) TRY(file_continue(t->file, o->step, o->rows));
done:
    columns_free(&c, t->n);
    free(path);
    return st;
}

enum status tokens_put(struct tokens *t)
{
    enum status st;
    TRY(file_put(t->file, "token_effect", t->effect));
    TRY(file_put(t->file, "token_nll", t->nll));
done:
    return st;
}
