/* Questions with several choices, one of them right: a row for each choice, which ends with its letter. */
#include "unlearn/data_priv.h"
#include <stdlib.h>
#include <string.h>

enum { FEWEST = 2, MOST = 26 };

/* The question without white space at its ends, and the choices behind their letters. */
static enum status write_question(const json_t *question, json_t *choices, struct text *out)
{
    size_t n = json_string_length(question), i;
    const char *s = text_strip(json_string_value(question), &n);
    json_t *one;
    enum status st = OK;
    out->n = 0;
    TRY(text_add(out, s, n));
    json_array_foreach(choices, i, one)
    {
        TRY(text_print(out, "\n%c. ", 'A' + (char)i));
        TRY(text_add(out, json_string_value(one), json_string_length(one)));
    }
done:
    return st;
}

static enum status row_add(struct builder *b, json_t *row, struct text *text, size_t *right)
{
    json_t *question = NULL, *choices, *answer, *one;
    size_t i, n;
    enum status st;
    TRY(text_member(b->path, b->number, row, "question", &question));
    choices = json_object_get(row, "choices"), answer = json_object_get(row, "answer"), n = json_array_size(choices);
    if (n < FEWEST || n > MOST)
        return fail(ERR_INPUT, "%s:%zu: \"choices\" is not a list of %d to %d texts", b->path, b->number, FEWEST, MOST);
    json_array_foreach(choices, i, one) if (!json_is_string(one)) return fail(
        ERR_INPUT, "%s:%zu: \"choices\": its entry %zu is not text", b->path, b->number, i + 1);
    if (!json_is_integer(answer) || json_integer_value(answer) < 0 || (size_t)json_integer_value(answer) >= n)
        return fail(ERR_INPUT, "%s:%zu: \"answer\" is not the number of a choice, 0 to %zu", b->path, b->number, n - 1);
    *right = (size_t)json_integer_value(answer);
    TRY(write_question(question, choices, text));
    for (i = 0; i < n; i++) TRY(row_question(b, text->data, text->n, (const char[]){(char)('A' + (char)i)}, 1));
done:
    return st;
}

enum status choices_read(const struct data_file *f, const struct data_rule *rule, struct variants *v, size_t **right)
{
    enum status st;
    struct builder b = {0};
    struct lines l = {0};
    struct text text = {0};
    json_t *row = NULL;
    const char *line;
    size_t n, room = 0, room_right = 0;
    *v = (struct variants){0};
    *right = NULL;
    TRY(builder_open(&b, f->path, rule));
    TRY(lines_open(f->path, &l));
    TRY(memory_grow((void **)&v->first, &room, 1, sizeof *v->first));
    v->first[0] = 0;
    while (v->n < f->rows && lines_next(&l, &line, &n)) {
        b.number = l.number;
        TRY(json_parse(f->path, l.number - 1, line, n, &row));
        TRY(memory_grow((void **)right, &room_right, v->n + 1, sizeof **right));
        TRY(row_add(&b, row, &text, &(*right)[v->n]));
        json_decref(row), row = NULL;
        TRY(memory_grow((void **)&v->first, &room, v->n + 2, sizeof *v->first));
        v->first[++v->n] = b.d->n_row;
    }
done:
    json_decref(row);
    lines_close(&l);
    text_free(&text);
    st = builder_close(&b, st, &v->data);
    if (st == OK) v->data->hash = hash_bytes(*right, v->n * sizeof **right, v->data->hash);
    if (st != OK) {
        variants_free(v);
        free(*right), *right = NULL;
    }
    return st;
}
