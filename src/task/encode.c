/* unlearn --encode: what the tokenizer makes of lines of text, for comparison with other programs; or what rows of questions
 * and answers become by data.template. */
#include "unlearn/input.h"
#include "unlearn/task.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_FILE = 1 << 30 };

/* What the tokenizer says of a text knows neither file nor line. */
static enum status encode_text(const struct tokenizer *t, const char *file, size_t line, const json_t *text,
                               struct ids *out)
{
    const char *bytes = json_string_value(text);
    enum status st = tokenizer_encode(t, bytes, json_string_length(text), true, out);
    if (st == ERR_INPUT) {
        char message[512];
        snprintf(message, sizeof message, "%s", fail_message());
        fail_clear();
        return fail(st, "%s:%zu: %s", file, line + 1, message);
    }
    return st;
}

static enum status encode_line(const struct tokenizer *t, const char *file, size_t line, const char *text, size_t n)
{
    enum status st;
    json_t *row = NULL, *value, *list = json_array();
    struct ids ids = {0};
    struct text decoded = {0};
    char *printed = NULL;
    TRY(json_parse(file, line, text, n, &row));
    if (!json_is_string(value = json_object_get(row, "text"))) {
        st = fail(ERR_INPUT,
                  "%s:%zu: has no key \"text\" with a string; rows of questions and answers need a "
                  "template: data.template=NAME",
                  file, line + 1);
        goto done;
    }
    TRY(encode_text(t, file, line, value, &ids));
    TRY(tokenizer_decode(t, ids.data, ids.n, true, &decoded));
    for (size_t i = 0; i < ids.n; i++) json_array_append_new(list, json_integer(ids.data[i]));
    value = json_pack("{s:O, s:s%}", "ids", list, "decoded", decoded.n ? decoded.data : "", decoded.n);
    if (!value || !(printed = json_text(value, JSON_ENSURE_ASCII)))
        st = fail(ERR_INTERNAL, "%s:%zu: its tokens decode to text that is not UTF-8", file, line + 1);
    else
        puts(printed);
    json_decref(value);
done:
    json_decref(row);
    json_decref(list);
    free(printed);
    ids_free(&ids);
    text_free(&decoded);
    return st;
}

static bool blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!s[i] || !strchr(" \t\r", s[i])) return false; /* which would find the NUL that ends the list */
    return true;
}

static enum status encode_lines(const char *model_dir, const char *file)
{
    enum status st;
    struct tokenizer *t = NULL;
    char *text = NULL;
    size_t n = 0, start = 0, line = 0;
    TRY(tokenizer_open(model_dir, &t));
    TRY(file_read(file, MOST_FILE, &text, &n));
    start = lines_mark(text, n);
    TRY(lines_check(file, text, n));
    for (char *at = text + start, *end; at < text + n; at = end + 1, line++) {
        if (!(end = memchr(at, '\n', (size_t)(text + n - at)))) end = text + n;
        if (!blank(at, (size_t)(end - at))) TRY(encode_line(t, file, line, at, (size_t)(end - at)));
    }
done:
    tokenizer_free(t);
    free(text);
    return st;
}

/* ------------------------------------------------------------------------------------------------------- rows ------ */
/* The input, or the least that names the model. */
static enum status read_settings(const char *model, int n_override, char *const *override, struct config **out)
{
    enum status st;
    struct stat s;
    json_t *least = NULL;
    char *text = NULL;
    if (!stat(model, &s) && S_ISREG(s.st_mode)) return config_open(model, n_override, override, out);
    least = json_pack("{s:s, s:{s:s}, s:{s:s}}", "task", "generate", "model", "path", model, "generate", "prompt", "");
    if (!least || !(text = json_text(least, 0)))
        st = fail(ERR_INPUT, "%s: the name of the directory is not UTF-8", model);
    else
        st = config_parse(model, text, strlen(text), n_override, override, out);
    json_decref(least);
    free(text);
    return st;
}

/* How some tokens stand in tokenizer.json. */
static enum status pieces(const struct tokenizer *t, const int32_t *id, size_t n, json_t *row, const char *key)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        size_t length = 0;
        const char *piece = tokenizer_piece(t, id[i], &length);
        json_array_append_new(list, json_stringn(piece ? piece : "", length));
    }
    return json_object_set_new(row, key, list) ? fail(ERR_MEMORY, "memory: cannot allocate a row") : OK;
}

/* {"ids": [...], "decoded": "...", "labels": how many, "prompt": [...], "label": [...], "end": [...]} */
static enum status print_row(const struct tokenizer *t, const struct dataset *d, size_t row)
{
    const int32_t *id = d->id + d->first[row], *label = d->label + d->first[row];
    const size_t n = dataset_length(d, row), body = n - d->end[row];
    size_t prompt = 0;
    json_t *json = json_object(), *ids = json_array();
    struct text decoded = {0};
    char *printed = NULL;
    enum status st = OK;
    while (prompt < body && label[prompt] == LABEL_NONE) prompt++;
    for (size_t i = 0; i < n; i++) json_array_append_new(ids, json_integer(id[i]));
    json_object_set(json, "ids", ids);
    TRY(tokenizer_decode(t, id, n, true, &decoded));
    json_object_set_new(json, "decoded", json_stringn(decoded.n ? decoded.data : "", decoded.n));
    json_object_set_new(json, "labels", json_integer((json_int_t)dataset_labels(d, row)));
    TRY(pieces(t, id, prompt, json, "prompt"));
    TRY(pieces(t, id + prompt, body - prompt, json, "label"));
    TRY(pieces(t, id + body, n - body, json, "end"));
    if (!(printed = json_text(json, JSON_ENSURE_ASCII)))
        st = fail(ERR_MEMORY, "memory: cannot print a row");
    else
        puts(printed);
done:
    json_decref(json);
    json_decref(ids);
    text_free(&decoded);
    free(printed);
    return st;
}

static enum status encode_rows(const char *model, const char *file, int n_override, char *const *override)
{
    enum status st;
    struct config *c = NULL;
    struct shape *s = NULL;
    struct tokenizer *t = NULL;
    struct data_rule rule = {0};
    struct ends ends;
    struct dataset *d = NULL;
    struct text path = {0};
    TRY(read_settings(model, n_override, override, &c));
    TRY(text_print(&path, "%s/config.json", c->model.path));
    if (file_exists(path.data)) TRY(shape_read(c->model.path, &s));
    TRY(rule_open(c, s, &t, &rule, &ends));
    TRY(dataset_read(
        &(struct data_file){.path = file,
                            .question = c->data.forget.question,
                            .answer = c->data.forget.answer,
                            .text = rule.template.blocks && !c->data.forget.text ? "text" : c->data.forget.text,
                            .others = rule.template.blocks ? TEXT_OF_DATA : KEYS_OF_DATA,
                            .rows = SIZE_MAX},
        &rule, &d));
    for (size_t i = 0; i < d->n_row; i++) TRY(print_row(t, d, i));
done:
    dataset_free(d);
    template_free(&rule.template);
    tokenizer_free(t);
    shape_free(s);
    text_free(&path);
    config_free(c);
    return st;
}

enum status task_encode(const char *model, const char *file, int n_override, char *const *override)
{
    struct stat s;
    enum status st;
    TRY(log_open(NULL, true)); /* standard output is for the lines of the file alone */
    st = n_override || (!stat(model, &s) && S_ISREG(s.st_mode)) ? encode_rows(model, file, n_override, override)
                                                                : encode_lines(model, file);
done:
    return st;
}
