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
    TRY(text_member(b->path, b->number, row, "question", NULL, &question));
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

struct answers { /* the number of the right choice of each row; the question with its choices */
    size_t *right, room;
    struct text text;
};

static enum status read_group(void *context, struct builder *b, json_t *row, struct variants *v)
{
    struct answers *a = context;
    enum status st;
    TRY(memory_grow((void **)&a->right, &a->room, v->n + 1, sizeof *a->right));
    TRY(row_add(b, row, &a->text, &a->right[v->n]));
done:
    return st;
}

enum status choices_read(const struct data_file *f, const struct data_rule *rule, struct variants *v, size_t **right)
{
    enum status st;
    struct builder b = {0};
    struct answers a = {0};
    *v = (struct variants){0};
    *right = NULL;
    TRY(builder_open(&b, f->path, rule));
    TRY(groups_read(&b, f, v, read_group, &a));
done:
    text_free(&a.text);
    st = builder_close(&b, st, &v->data);
    if (st == OK) {
        v->data->hash = hash_bytes(a.right, v->n * sizeof *a.right, v->data->hash);
        *right = a.right;
        return OK;
    }
    variants_free(v);
    free(a.right);
    return st;
}
