/* JSON Lines: a file as its lines, not as one array. A byte order mark at the start is skipped, and so are blank lines and the carriage
 * return of a line end. */
#include "unlearn/data_priv.h"
#include <stdlib.h>
#include <string.h>

static const size_t LARGEST_FILE = (size_t)1 << 36;

static size_t blank(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && (s[i] == ' ' || s[i] == '\t' || s[i] == '\r' || s[i] == '\n')) i++;
    return i;
}

/* Whether the first bracket closes at the end of the text, and not before. What follows it must be able to begin a row: a
 * text in brackets may be a plain line. */
static bool is_array(const char *s, size_t n)
{
    size_t i = blank(s, n), first, depth = 0;
    bool quoted = false;
    if (i == n || s[i] != '[') return false;
    first = i + 1 + blank(s + i + 1, n - i - 1);
    if (first == n || !s[first] || !strchr("{[\"]", s[first])) return false;
    for (; i < n; i++) {
        if (s[i] == '\\' && quoted)
            i++;
        else if (s[i] == '"')
            quoted = !quoted;
        else if (!quoted && (s[i] == '[' || s[i] == '{'))
            depth++;
        else if (!quoted && (s[i] == ']' || s[i] == '}') && !--depth)
            return i + 1 + blank(s + i + 1, n - i - 1) == n;
    }
    return false;
}

enum status lines_check(const char *path, const char *text, size_t n)
{
    if (!is_array(text, n)) return OK;
    return fail(
        ERR_INPUT,
        "%s: is one JSON array, not JSON Lines; write each of its elements on a line of its own, without the brackets "
        "and the commas between: jq -c '.[]' does it",
        path);
}

enum status lines_open(const char *path, struct lines *l)
{
    *l = (struct lines){0};
    enum status st = file_read(path, LARGEST_FILE, &l->text, &l->n);
    if (st == OK && l->n >= 3 && !memcmp(l->text, "\xef\xbb\xbf", 3)) l->at = 3;
    return st == OK ? lines_check(path, l->text + l->at, l->n - l->at) : st;
}

bool lines_next(struct lines *l, const char **line, size_t *n)
{
    while (l->at < l->n) {
        const char *start = l->text + l->at, *end = memchr(start, '\n', l->n - l->at);
        size_t length = end ? (size_t)(end - start) : l->n - l->at;
        l->at += length + 1;
        l->number++;
        while (length && start[length - 1] == '\r') length--;
        if (strspn(start, " \t\r\n") < length) {
            *line = start, *n = length;
            return true;
        }
    }
    return false;
}

void lines_close(struct lines *l)
{
    free(l->text);
    *l = (struct lines){0};
}
