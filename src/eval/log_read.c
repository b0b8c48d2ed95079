/* Reads the benchmark's log: {set: {key: {row: value, ...}, ...}, ...}; see struct eval_set for the keys. */
#include "unlearn/eval_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const size_t LARGEST_FILE = (size_t)1 << 30;
enum { LONGEST_ROW = 18 }; /* digits of a row's name: below 2^63 */

struct reader {
    const char *path, *part; /* path of the file; key of the set */
    json_t *rows;            /* the set's first array: all others must have its rows; borrowed */
    const char *rows_key;
    struct eval_set *set;
};

static enum status wrong(const struct reader *r, const char *key, const char *row, const char *what)
{
    if (row) return fail(ERR_INPUT, "%s: %s: %s: row \"%.40s\" %s", r->path, r->part, key, row, what);
    return fail(ERR_INPUT, "%s: %s: %s %s", r->path, r->part, key, what);
}

bool json_is_missing(const json_t *json)
{
    const char *odd = json_odd(json);
    return json_is_null(json) || (odd && *odd != '"' && !strpbrk(odd, "0123456789"));
}

const char *json_not_number(const json_t *json)
{
    const char *odd = json_odd(json);
    if (json_is_number(json) || json_is_missing(json)) return NULL;
    return odd && *odd != '"' ? "is a number too large to be read" : "is not a number";
}

static enum status row_number(const struct reader *r, const char *key, const char *name, int64_t *out)
{
    size_t n = strlen(name);
    if (!n || n > LONGEST_ROW || strspn(name, "0123456789") < n || (n > 1 && name[0] == '0'))
        return wrong(r, key, name, "is not named by a whole number");
    *out = strtoll(name, NULL, 10);
    return OK;
}

/* Takes the rows of the set from the first array that is read. */
static enum status take_rows(struct reader *r, const char *key, json_t *values)
{
    enum status st = OK;
    struct eval_set *s = r->set;
    const char *name;
    json_t *each;
    if (!json_object_size(values)) return wrong(r, key, NULL, "has no rows");
    r->rows = values, r->rows_key = key;
    s->n = json_object_size(values);
    TRY_NEW(s->row, s->n);
    TRY_NEW(s->n_wrong_of, s->n);
    size_t i = 0;
    json_object_foreach(values, name, each) TRY(row_number(r, key, name, &s->row[i++]));
done:
    return st;
}

/* Finds the object of rows of a key and checks that its rows are the set's; NULL where the key is absent. */
static enum status find_rows(struct reader *r, json_t *part, const char *key, json_t **out)
{
    *out = json_object_get(part, key);
    if (!*out) return OK;
    if (!json_is_map(*out)) return wrong(r, key, NULL, "is not an object with a value for each row");
    if (!r->rows) return take_rows(r, key, *out);
    if (json_object_size(*out) != r->set->n)
        return fail(ERR_INPUT, "%s: %s: %s has %zu rows, %s has %zu", r->path, r->part, key, json_object_size(*out),
                    r->rows_key, r->set->n);
    return OK;
}

static enum status number(const struct reader *r, const char *key, const char *row, json_t *json, double *out)
{
    const char *fault = json_not_number(json);
    if (fault) return wrong(r, key, row, fault);
    *out = json_is_missing(json) ? NAN : json_number_value(json);
    return OK;
}

/* Reads one value for each wrong answer; the first row that has any sets their number. null: all are missing. */
static enum status numbers(const struct reader *r, const char *key, const char *row, json_t *list, double *out)
{
    enum status st = OK;
    for (size_t k = 0; k < r->set->n_wrong; k++) out[k] = NAN;
    if (json_is_missing(list)) return OK;
    if (json_array_size(list) != r->set->n_wrong)
        return fail(ERR_INPUT, "%s: %s: %s: row \"%.40s\" has %zu values, others have %zu", r->path, r->part, key, row,
                    json_array_size(list), r->set->n_wrong);
    for (size_t k = 0; k < r->set->n_wrong; k++) TRY(number(r, key, row, json_array_get(list, k), &out[k]));
done:
    return st;
}

static enum status count_wrong(struct reader *r, const char *key, json_t *values)
{
    const char *name;
    json_t *each;
    json_object_foreach(values, name, each)
    {
        if (!json_is_array(each) && !json_is_missing(each)) return wrong(r, key, name, "is not a list of numbers");
        if (json_is_array(each) && !json_array_size(each)) return wrong(r, key, name, "is an empty list");
        if (!r->set->n_wrong) r->set->n_wrong = json_array_size(each);
    }
    return OK;
}

/* A row's wrong answers end before the nulls that fill it up: one that has a number of tokens is there without a loss too. */
static void count_of_rows(struct eval_set *s, const double *x)
{
    for (size_t i = 0; i < s->n; i++) {
        size_t k = s->n_wrong;
        while (k && isnan(x[i * s->n_wrong + k - 1])) k--;
        if (k > s->n_wrong_of[i]) s->n_wrong_of[i] = k;
    }
}

static enum status read_array(struct reader *r, json_t *part, const struct log_array *a, bool needed)
{
    enum status st = OK;
    double **x = log_array_of(r->set, a);
    json_t *values, *value;
    const char *name;
    size_t i = 0, each;
    TRY(find_rows(r, part, a->key, &values));
    if (!values && needed) TRY(wrong(r, a->key, NULL, "is not there"));
    if (!values) return OK;
    if (a->wide) TRY(count_wrong(r, a->key, values));
    each = a->wide ? r->set->n_wrong : 1;
    if (!each && needed) return wrong(r, a->key, NULL, "is null in every row");
    if (!each) return OK; /* null in every row counts as absent */
    TRY_NEW(*x, r->set->n * each);
    json_object_foreach(r->rows, name, value)
    {
        if (!(value = json_object_get(values, name))) TRY(wrong(r, a->key, name, "is not there"));
        if (a->wide)
            TRY(numbers(r, a->key, name, value, *x + i * each));
        else
            TRY(number(r, a->key, name, value, *x + i));
        i++;
    }
    if (a->wide) count_of_rows(r->set, *x);
done:
    return st;
}

static enum status texts(const struct reader *r, const char *key, const char *row, json_t *list, size_t i)
{
    enum status st = OK;
    bool three = json_is_array(list) && json_array_size(list) == N_LOG_TEXT;
    for (int k = 0; k < N_LOG_TEXT; k++) {
        json_t *text = three ? json_array_get(list, (size_t)k) : NULL;
        if (!json_is_string(text)) return wrong(r, key, row, "is not a list of prompt, generated text and answer");
        TRY(text_add(&(*log_text_of(r->set, k))[i], json_string_value(text), json_string_length(text)));
    }
done:
    return st;
}

static enum status read_texts(struct reader *r, json_t *part)
{
    static const char key[] = "generated_text";
    enum status st = OK;
    json_t *values, *value;
    const char *name;
    size_t i = 0;
    TRY(find_rows(r, part, key, &values));
    if (!values) return OK;
    for (int k = 0; k < N_LOG_TEXT; k++) TRY_NEW(*log_text_of(r->set, k), r->set->n);
    json_object_foreach(r->rows, name, value) TRY(texts(r, key, name, json_object_get(values, name), i++));
done:
    return st;
}

static bool holds_nothing(struct eval_set *s)
{
    bool nothing = !s->generated;
    for (size_t k = 0; k < N_LOG_ARRAY; k++) nothing = nothing && !*log_array_of(s, &log_arrays[k]);
    return nothing;
}

static enum status read_part(struct reader *r, json_t *part, bool needed)
{
    enum status st = OK;
    if (!json_is_map(part)) return fail(ERR_INPUT, "%s: %s is not an object", r->path, r->part);
    for (size_t k = 0; k < N_LOG_ARRAY; k++) TRY(read_array(r, part, &log_arrays[k], needed && log_arrays[k].needed));
    TRY(read_texts(r, part));
    if (!r->rows) return fail(ERR_INPUT, "%s: %s has no key that is known", r->path, r->part);
    if (holds_nothing(r->set)) eval_set_free(r->set); /* null everywhere: as if the set were absent */
done:
    return st;
}

static enum status read_parts(const char *path, json_t *root, unsigned needed, struct eval_log *log)
{
    enum status st = OK;
    if (!json_is_map(root)) return fail(ERR_INPUT, "%s: is not an object of sets", path);
    for (int k = 0; k < N_EVAL_SET; k++) {
        struct reader r = {.path = path, .part = log_parts[k].key, .set = &log->set[k]};
        json_t *part = json_object_get(root, r.part);
        if (part)
            TRY(read_part(&r, part, needed >> k & 1));
        else if (needed >> k & 1)
            return fail(ERR_INPUT,
                        "%s: %s is not there: this is no eval_log_aggregated.json with the set %s, and no TOFU_EVAL.json",
                        path, r.part, log_parts[k].name);
    }
done:
    return st;
}

enum status eval_log_read(const char *path, unsigned needed, struct eval_log *out)
{
    enum status st;
    struct eval_log log = {0};
    json_t *root = NULL;
    *out = (struct eval_log){0};
    TRY(json_read(path, LARGEST_FILE, &root));
    if (is_tofu_eval(root))
        TRY(tofu_eval_read(path, root, needed, &log));
    else
        TRY(read_parts(path, root, needed, &log));
    *out = log, log = (struct eval_log){0};
done:
    json_decref(root);
    eval_log_free(&log);
    return st;
}
