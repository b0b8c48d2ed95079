/* Files of questions and answers as rows of token ids with labels: encode() of the reference. The whole text of a row is
 * tokenised once; as many of its tokens are prompt as the prompt alone has; the rest and the end token are labelled. */
#include "unlearn/data_priv.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    struct template template;
} templates[] = {
    {"qa", {"Question: ", "\n", "Answer: "}},
    {"llama2", {"[INST] ", " [/INST]", ""}},
};

bool template_named(const char *name, struct template *out)
{
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
        if (!strcmp(templates[i].name, name)) {
            *out = templates[i].template;
            return true;
        }
    return false;
}

/* ----------------------------------------------------------------------------------------------- one row ---------- */
struct builder {
    const struct data_rule *rule;
    const char *path;
    size_t number; /* line */
    struct dataset *d;
    struct ids id, label, prompt; /* all rows so far; the prompt of this one */
    size_t first_room;
    struct text text;
};

/* Adds " (FILE:LINE)" to what the tokenizer says of a text: there it is not known. */
static enum status encode(struct builder *b, struct ids *out)
{
    enum status st = tokenizer_encode(b->rule->tokenizer, b->text.data, b->text.n, true, out);
    if (st == ERR_INPUT) {
        char message[512];
        size_t n = strlen(fail_message());
        if (n >= sizeof message) n = sizeof message - 1;
        memcpy(message, fail_message(), n);
        message[n] = 0;
        fail_clear();
        return fail(st, "%s:%zu: %s", b->path, b->number, message);
    }
    return st;
}

/* Closes the row whose tokens from `first` on stand in b->id: cut, end token, labels, checks. */
static enum status row_close(struct builder *b, size_t first, size_t n_prompt)
{
    enum status st = OK;
    struct dataset *d = b->d;
    const struct data_rule *r = b->rule;
    size_t n = b->id.n - first, labelled = 0;
    if (n > r->max_length) {
        b->id.n = first + r->max_length;
        d->n_cut++;
    } else if (n < r->max_length && r->eos >= 0) {
        TRY(ids_add(&b->id, r->eos));
    }
    n = b->id.n - first;
    if (!n) return fail(ERR_INPUT, "%s:%zu: the row has no tokens", b->path, b->number);
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->id.data[first + i];
        if ((size_t)id >= r->vocabulary)
            return fail(ERR_INPUT,
                        "%s:%zu: token id %d is beyond the %zu that the model knows: tokenizer.json is not its own",
                        b->path, b->number, (int)id, r->vocabulary);
        TRY(ids_add(&b->label, i < n_prompt ? LABEL_NONE : id));
        labelled += i && i >= n_prompt;
    }
    d->n_unlabelled += !labelled;
    TRY(memory_grow((void **)&d->first, &b->first_room, d->n_row + 2, sizeof *d->first));
    d->first[++d->n_row] = b->id.n;
done:
    return st;
}

static enum status row_question(struct builder *b, const char *question, size_t n_question, const char *answer,
                                size_t n_answer)
{
    enum status st;
    const struct template *t = &b->rule->template;
    size_t first = b->id.n;
    b->text.n = b->prompt.n = 0;
    TRY(text_add(&b->text, t->question_start, strlen(t->question_start)));
    TRY(text_add(&b->text, question, n_question));
    TRY(text_add(&b->text, t->question_end, strlen(t->question_end)));
    TRY(encode(b, &b->prompt));
    TRY(text_add(&b->text, t->answer_start, strlen(t->answer_start)));
    TRY(text_add(&b->text, answer, n_answer));
    TRY(encode(b, &b->id));
    TRY(row_close(b, first, b->prompt.n));
done:
    return st;
}

static enum status row_text(struct builder *b, const char *text, size_t n)
{
    enum status st;
    size_t first = b->id.n;
    b->text.n = 0;
    TRY(text_add(&b->text, text, n));
    TRY(encode(b, &b->id));
    TRY(row_close(b, first, 0));
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------ all rows ------- */
static enum status builder_open(struct builder *b, const char *path, const struct data_rule *r)
{
    enum status st = OK;
    b->rule = r;
    b->path = path;
    if (!r->max_length) return fail(ERR_INPUT, "%s: rows of at most 0 tokens are asked for", path);
    TRY_NEW(b->d, 1);
    if (!(b->d->path = text_copy(path))) TRY(fail(ERR_MEMORY, "memory: cannot copy a path"));
    TRY(memory_grow((void **)&b->d->first, &b->first_room, 1, sizeof *b->d->first));
done:
    return st;
}

/* Hands the rows over, or releases everything. */
static enum status builder_close(struct builder *b, enum status st, struct dataset **out)
{
    struct dataset *d = b->d;
    if (st == OK && !d->n_row) st = fail(ERR_INPUT, "%s: holds no rows", b->path);
    if (st == OK) {
        d->id = b->id.data, b->id.data = NULL;
        d->label = b->label.data, b->label.data = NULL;
        d->hash = hash_bytes(d->first, (d->n_row + 1) * sizeof *d->first, 0);
        d->hash = hash_bytes(d->id, d->first[d->n_row] * sizeof *d->id, d->hash);
        d->hash = hash_bytes(d->label, d->first[d->n_row] * sizeof *d->label, d->hash);
        *out = d, d = NULL;
    }
    dataset_free(d);
    ids_free(&b->id);
    ids_free(&b->label);
    ids_free(&b->prompt);
    text_free(&b->text);
    return st;
}

static enum status text_member(const char *path, size_t number, json_t *row, const char *key, json_t **out)
{
    if (!json_is_map(row)) return fail(ERR_INPUT, "%s:%zu: the line is not a JSON object", path, number);
    if (!(*out = json_object_get(row, key))) return fail(ERR_INPUT, "%s:%zu: has no key \"%s\"", path, number, key);
    if (json_odd(*out) && *json_odd(*out) == '"')
        return fail(ERR_INPUT, "%s:%zu: \"%s\" has half of a surrogate pair, which is no text: %.60s", path, number, key,
                    json_odd(*out));
    if (json_odd(*out)) return fail(ERR_INPUT, "%s:%zu: \"%s\" is %.40s, not text", path, number, key, json_odd(*out));
    if (!json_is_string(*out)) return fail(ERR_INPUT, "%s:%zu: \"%s\" is not text", path, number, key);
    return OK;
}

static enum status row_add(struct builder *b, const struct data_file *f, json_t *row, const struct text *answer)
{
    enum status st;
    json_t *question = NULL, *own = NULL;
    if (f->text && !answer) {
        TRY(text_member(b->path, b->number, row, f->text, &own));
        return row_text(b, json_string_value(own), json_string_length(own));
    }
    TRY(text_member(b->path, b->number, row, f->question, &question));
    if (answer)
        return row_question(b, json_string_value(question), json_string_length(question), answer->data, answer->n);
    TRY(text_member(b->path, b->number, row, f->answer, &own));
    return row_question(b, json_string_value(question), json_string_length(question), json_string_value(own),
                        json_string_length(own));
done:
    return st;
}

struct refusals {
    struct text *line; /* [n] owned */
    size_t n, room;
    size_t (*pick)(void *context, size_t row, size_t n_lines);
    void *context;
};

static const struct text *refusal(const struct refusals *r, size_t row)
{
    size_t i = row % r->n;
    if (r->pick) i = r->pick(r->context, row, r->n);
    return i < r->n ? &r->line[i] : NULL;
}

static enum status read_rows(const struct data_file *f, const struct data_rule *rule, const struct refusals *refusals,
                             struct dataset **out)
{
    enum status st;
    struct builder b = {0};
    struct lines l = {0};
    json_t *row = NULL;
    const char *line;
    size_t n;
    *out = NULL;
    TRY(builder_open(&b, f->path, rule));
    TRY(lines_open(f->path, &l));
    while (b.d->n_row < f->rows && lines_next(&l, &line, &n)) {
        const struct text *answer = refusals ? refusal(refusals, b.d->n_row) : NULL;
        if (refusals && !answer) TRY(fail(ERR_INTERNAL, "%s: a refusal was picked that does not exist", f->path));
        b.number = l.number;
        TRY(json_parse(f->path, l.number - 1, line, n, &row));
        TRY(row_add(&b, f, row, answer));
        json_decref(row), row = NULL;
    }
done:
    json_decref(row);
    lines_close(&l);
    return builder_close(&b, st, out);
}

enum status dataset_read(const struct data_file *f, const struct data_rule *r, struct dataset **out)
{
    return read_rows(f, r, NULL, out);
}

/* -------------------------------------------------------------------------------- answers under other keys ------- */
static json_t *value_of(json_t *row, const char *key)
{
    json_t *value = json_object_get(row, key);
    return json_is_null(value) ? NULL : value;
}

/* A text, or each text of a list. */
static enum status variants_of_row(struct builder *b, const struct data_file *f, json_t *row, struct variants *v)
{
    json_t *question = value_of(row, f->question), *key = value_of(row, f->answer), *one;
    size_t i;
    enum status st = OK;
    if (json_is_map(row) && !(question && key)) {
        if (!v->n_lacking++) v->lacking = b->number;
        return OK;
    }
    TRY(text_member(b->path, b->number, row, f->question, &question));
    if (json_is_string(key))
        return row_question(b, json_string_value(question), json_string_length(question), json_string_value(key),
                            json_string_length(key));
    if (!json_array_size(key))
        return fail(ERR_INPUT, "%s:%zu: \"%s\" is neither text nor a list of texts", b->path, b->number, f->answer);
    json_array_foreach(key, i, one)
    {
        if (!json_is_string(one))
            return fail(ERR_INPUT, "%s:%zu: \"%s\": its entry %zu is not text", b->path, b->number, f->answer, i + 1);
        TRY(row_question(b, json_string_value(question), json_string_length(question), json_string_value(one),
                         json_string_length(one)));
    }
done:
    return st;
}

enum status variants_read(const struct data_file *f, const struct data_rule *rule, struct variants *v)
{
    enum status st;
    struct builder b = {0};
    struct lines l = {0};
    json_t *row = NULL;
    const char *line;
    size_t n, room = 0;
    bool none;
    *v = (struct variants){0};
    TRY(builder_open(&b, f->path, rule));
    TRY(lines_open(f->path, &l));
    TRY(memory_grow((void **)&v->first, &room, 1, sizeof *v->first));
    v->first[0] = 0;
    while (v->n < f->rows && lines_next(&l, &line, &n)) {
        b.number = l.number;
        TRY(json_parse(f->path, l.number - 1, line, n, &row));
        TRY(variants_of_row(&b, f, row, v));
        json_decref(row), row = NULL;
        TRY(memory_grow((void **)&v->first, &room, v->n + 2, sizeof *v->first));
        v->first[++v->n] = b.d->n_row;
    }
    if (!v->n) st = fail(ERR_INPUT, "%s: holds no rows", f->path);
done:
    json_decref(row);
    lines_close(&l);
    none = st == OK && !b.d->n_row;
    if (builder_close(&b, none ? ERR_INPUT : st, &v->data) != OK && !none) variants_free(v);
    return st;
}

void variants_free(struct variants *v)
{
    dataset_free(v->data);
    free(v->first);
    *v = (struct variants){0};
}

/* ------------------------------------------------------------------------------------------------- prompts ------- */
static enum status prompt_of_row(struct builder *b, const struct data_file *f, json_t *row, struct prompts *p)
{
    enum status st;
    json_t *question = NULL, *answer = NULL;
    const struct template *t = &b->rule->template;
    const size_t before = p->id.n, i = p->n++;
    TRY(text_member(b->path, b->number, row, f->question, &question));
    TRY(text_member(b->path, b->number, row, f->answer, &answer));
    b->text.n = 0;
    TRY(text_add(&b->text, t->question_start, strlen(t->question_start)));
    TRY(text_add(&b->text, json_string_value(question), json_string_length(question)));
    TRY(text_add(&b->text, t->question_end, strlen(t->question_end)));
    TRY(encode(b, &p->id));
    for (size_t k = before; k < p->id.n; k++)
        if (p->id.data[k] < 0 || (size_t)p->id.data[k] >= b->rule->vocabulary)
            TRY(fail(ERR_INPUT, "%s:%zu: token id %d is beyond the %zu that the model knows", b->path, b->number,
                     (int)p->id.data[k], b->rule->vocabulary));
    TRY(text_add(&p->question[i], json_string_value(question), json_string_length(question)));
    TRY(text_add(&p->answer[i], json_string_value(answer), json_string_length(answer)));
    p->first[i + 1] = p->id.n;
done:
    return st;
}

enum status prompts_read(const struct data_file *f, const struct data_rule *rule, size_t n_row, struct prompts *p)
{
    enum status st = OK;
    struct builder b = {.rule = rule, .path = f->path};
    struct lines l = {0};
    json_t *row = NULL;
    const char *line;
    size_t n;
    *p = (struct prompts){0};
    TRY_NEW(p->first, n_row + 1);
    TRY_NEW(p->question, n_row);
    TRY_NEW(p->answer, n_row);
    TRY(lines_open(f->path, &l));
    while (p->n < n_row && lines_next(&l, &line, &n)) {
        b.number = l.number;
        TRY(json_parse(f->path, l.number - 1, line, n, &row));
        TRY(prompt_of_row(&b, f, row, p));
        json_decref(row), row = NULL;
    }
    if (p->n < n_row) st = fail(ERR_INPUT, "%s: has lost rows while it was read", f->path);
done:
    json_decref(row);
    lines_close(&l);
    text_free(&b.text);
    if (st != OK) prompts_free(p);
    return st;
}

void prompts_free(struct prompts *p)
{
    for (size_t i = 0; i < p->n && p->question; i++) text_free(&p->question[i]), text_free(&p->answer[i]);
    free(p->first), free(p->question), free(p->answer);
    ids_free(&p->id);
    *p = (struct prompts){0};
}

/* ------------------------------------------------------------------------------------------------ refusals ------- */
/* {"answer": ...}, or the text itself. */
static enum status refusal_read(const char *path, size_t number, const char *line, size_t n, struct refusals *r)
{
    enum status st;
    json_t *json = NULL, *answer = NULL;
    struct text *t;
    TRY(memory_grow((void **)&r->line, &r->room, r->n + 1, sizeof *r->line));
    t = &r->line[r->n++];
    if (line[0] == '{') {
        TRY(json_parse(path, number - 1, line, n, &json));
        TRY(text_member(path, number, json, "answer", &answer));
        TRY(text_add(t, json_string_value(answer), json_string_length(answer)));
    } else {
        if (utf8_valid(line, n) < n) TRY(fail(ERR_INPUT, "%s:%zu: is not valid UTF-8", path, number));
        TRY(text_add(t, line, n));
    }
done:
    json_decref(json);
    return st;
}

enum status dataset_read_replaced(const struct data_file *f, const char *path,
                                  size_t (*pick)(void *context, size_t row, size_t n_lines), void *context,
                                  const struct data_rule *rule, struct dataset **out)
{
    enum status st;
    struct refusals r = {.pick = pick, .context = context};
    struct lines l = {0};
    const char *line;
    size_t n;
    *out = NULL;
    TRY(lines_open(path, &l));
    while (lines_next(&l, &line, &n)) TRY(refusal_read(path, l.number, line, n, &r));
    if (!r.n) TRY(fail(ERR_INPUT, "%s: holds no refusals", path));
    if (!f->question) TRY(fail(ERR_INPUT, "%s: refusals need a file with questions", f->path));
    TRY(read_rows(f, rule, &r, out));
done:
    for (size_t i = 0; i < r.n; i++) text_free(&r.line[i]);
    free(r.line);
    lines_close(&l);
    return st;
}

void dataset_free(struct dataset *d)
{
    if (!d) return;
    free(d->path);
    free(d->first);
    free(d->id);
    free(d->label);
    free(d);
}

size_t dataset_length(const struct dataset *d, size_t row) { return d->first[row + 1] - d->first[row]; }

size_t dataset_labels(const struct dataset *d, size_t row)
{
    size_t n = 0;
    for (size_t i = d->first[row] + 1; i < d->first[row + 1]; i++) n += d->label[i] != LABEL_NONE;
    return n;
}
