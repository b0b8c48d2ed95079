/* unlearn --encode: what the tokenizer makes of lines of text, for comparison with other programs. */
#include "unlearn/data.h"
#include "unlearn/task.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        st = fail(ERR_INPUT, "%s:%zu: has no key \"text\" with a string", file, line + 1);
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

enum status task_encode(const char *model_dir, const char *file)
{
    enum status st;
    struct tokenizer *t = NULL;
    char *text = NULL;
    size_t n = 0, start = 0, line = 0;
    TRY(log_open(NULL, true)); /* standard output is for the lines of the file alone */
    TRY(tokenizer_open(model_dir, &t));
    TRY(file_read(file, MOST_FILE, &text, &n));
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) start = 3; /* a byte order mark */
    TRY(lines_check(file, text + start, n - start));
    for (char *at = text + start, *end; at < text + n; at = end + 1, line++) {
        if (!(end = memchr(at, '\n', (size_t)(text + n - at)))) end = text + n;
        if (!blank(at, (size_t)(end - at))) TRY(encode_line(t, file, line, at, (size_t)(end - at)));
    }
done:
    tokenizer_free(t);
    free(text);
    return st;
}
