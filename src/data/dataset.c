/* Files of questions and answers, or of plain text, as rows of token ids with labels. */
#include "unlearn/data_priv.h"
#include <stdlib.h>
#include <string.h>

enum status text_member(const char *path, size_t number, json_t *row, const char *key, const char *others, json_t **out)
{
    if (!json_is_map(row)) return fail(ERR_INPUT, "%s:%zu: the line is not a JSON object", path, number);
    if (!(*out = json_object_get(row, key))) {
        char lack[80];
        snprintf(lack, sizeof lack, "no key \"%.60s\"", key);
        return lines_lack(path, number, lack, others, row);
    }
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
    if (f->text) {
        TRY(text_member(b->path, b->number, row, f->text, f->others, &own));
        return row_text(b, json_string_value(own), json_string_length(own));
    }
    TRY(text_member(b->path, b->number, row, f->question, f->others, &question));
    if (answer)
        return row_question(b, json_string_value(question), json_string_length(question), answer->data, answer->n);
    TRY(text_member(b->path, b->number, row, f->answer, f->others, &own));
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
    for (; b.d->n_line < f->rows && lines_next(&l, &line, &n); b.d->n_line++) {
        const struct text *answer = refusals ? refusal(refusals, b.d->n_line) : NULL;
        if (refusals && !answer) TRY(fail(ERR_INTERNAL, "%s: a refusal was picked that does not exist", f->path));
        b.number = l.number;
        TRY(lines_parse(f->path, l.number, line, n, &row));
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
static enum status variants_of_row(void *file, struct builder *b, json_t *row, struct variants *v)
{
    const struct data_file *f = file;
    json_t *question = f->text ? NULL : value_of(row, f->question), *key = f->text ? NULL : value_of(row, f->answer),
           *one;
    size_t i;
    enum status st = OK;
    if (f->text) {
        TRY(text_member(b->path, b->number, row, f->text, f->others, &one));
        return row_text(b, json_string_value(one), json_string_length(one));
    }
    if (json_is_map(row) && !(question && key)) {
        if (!v->n_lacking++) v->lacking = b->number;
        return OK;
    }
    TRY(text_member(b->path, b->number, row, f->question, f->others, &question));
    if (json_is_string(key))
        return row_question(b, json_string_value(question), json_string_length(question), json_string_value(key),
                            json_string_length(key));
    if (!json_array_size(key))
        return fail(ERR_INPUT, "%s:%zu: \"%s\" is neither text nor a list of texts", b->path, b->number, f->answer);
    if (f->single && json_array_size(key) > 1)
        return fail(ERR_INPUT, "%s:%zu: \"%s\" is a list of %zu texts, but only one counts: give one", b->path, b->number,
                    f->answer, json_array_size(key));
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

enum status groups_read(struct builder *b, const struct data_file *f, struct variants *v, group_reader *read,
                        void *context)
{
    enum status st;
    struct lines l = {0};
    json_t *row = NULL;
    const char *line;
    size_t n, room = 0;
    TRY(lines_open(f->path, &l));
    TRY(memory_grow((void **)&v->first, &room, 1, sizeof *v->first));
    v->first[0] = 0;
    while (v->n < f->rows && lines_next(&l, &line, &n)) {
        b->number = l.number;
        TRY(lines_parse(f->path, l.number, line, n, &row));
        TRY(read(context, b, row, v));
        json_decref(row), row = NULL;
        TRY(memory_grow((void **)&v->first, &room, v->n + 2, sizeof *v->first));
        v->first[++v->n] = b->d->n_row;
    }
done:
    json_decref(row);
    lines_close(&l);
    return st;
}

enum status variants_read(const struct data_file *f, const struct data_rule *rule, struct variants *v)
{
    enum status st;
    struct builder b = {0};
    bool none;
    *v = (struct variants){0};
    TRY(builder_open(&b, f->path, rule));
    TRY(groups_read(&b, f, v, variants_of_row, (void *)f));
    if (!v->n) st = fail(ERR_INPUT, "%s: holds no rows", f->path);
done:
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
    const size_t before = p->id.n, i = p->n++;
    TRY(text_member(b->path, b->number, row, f->question, f->others, &question));
    TRY(text_member(b->path, b->number, row, f->answer, f->others, &answer));
    b->text.n = 0;
    TRY(template_prompt(&b->rule->template, json_string_value(question), json_string_length(question), &b->text));
    TRY(builder_encode(b, true, &p->id));
    if (b->rule->end_beyond && p->id.n - before > b->rule->max_length) p->id.n = before + b->rule->max_length;
    if (f->continues && p->id.n == before) TRY(fail(ERR_INPUT, "%s:%zu: the prompt has no tokens", b->path, b->number));
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
        TRY(lines_parse(f->path, l.number, line, n, &row));
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
        TRY(lines_parse(path, number, line, n, &json));
        TRY(text_member(path, number, json, "answer", NULL, &answer));
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
    if (f->text) /* nor is a row of it a line: a long text is several */
        return fail(
            ERR_INPUT,
            "%s: is read as plain text, which has no questions that the refusals of %s could answer; give rows of "
            "questions and answers, with neither data.template plain nor a key text",
            f->path, path);
    TRY(lines_open(path, &l));
    while (lines_next(&l, &line, &n)) TRY(refusal_read(path, l.number, line, n, &r));
    if (!r.n) TRY(fail(ERR_INPUT, "%s: holds no refusals", path));
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
    free(d->end);
    free(d);
}

size_t dataset_length(const struct dataset *d, size_t row) { return d->first[row + 1] - d->first[row]; }

size_t dataset_labels(const struct dataset *d, size_t row)
{
    size_t n = 0;
    for (size_t i = d->first[row] + 1; i < d->first[row + 1]; i++) n += d->label[i] != LABEL_NONE;
    return n;
}
