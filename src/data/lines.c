/* JSON Lines: a file as its lines. A byte order mark at the start is skipped, and so are blank lines and the carriage
 * return of a line end. */
#include "unlearn/data_priv.h"
#include <stdlib.h>
#include <string.h>

static const size_t LARGEST_FILE = (size_t)1 << 36;

enum status lines_open(const char *path, struct lines *l)
{
    *l = (struct lines){0};
    enum status st = file_read(path, LARGEST_FILE, &l->text, &l->n);
    if (st == OK && l->n >= 3 && !memcmp(l->text, "\xef\xbb\xbf", 3)) l->at = 3;
    return st;
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
