/* JSON Lines: a file as its lines, not as one array. A byte order mark at the start is skipped, and so are blank lines and the carriage
 * return of a line end. */
#include "unlearn/data_priv.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

/* Files that begin otherwise than any text. */
static enum status check_magic(const char *path, const char *text, size_t n)
{
    static const struct {
        const char *magic, *what;
    } kind[] = {{"\x1f\x8b", "is compressed by gzip: gunzip it"},
                {"BZh", "is compressed by bzip2: bunzip2 it"},
                {"\xfd"
                 "7zXZ",
                 "is compressed by xz: unxz it"},
                {"\x28\xb5\x2f\xfd", "is compressed by zstd: unzstd it"},
                {"PK\x03\x04", "is a zip archive: unzip it"},
                {"\xff\xfe", "is not UTF-8 but UTF-16: iconv -f utf16 -t utf8 FILE writes it so"},
                {"\xfe\xff", "is not UTF-8 but UTF-16: iconv -f utf16 -t utf8 FILE writes it so"},
                {"PAR1", "is Parquet, not JSON Lines: in Python pandas.read_parquet(FILE).to_json(OTHER, "
                         "orient=\"records\", lines=True)"}};
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++)
        if (n >= strlen(kind[i].magic) && !memcmp(text, kind[i].magic, strlen(kind[i].magic)))
            return fail(ERR_INPUT, "%s: %s", path, kind[i].what);
    if (n >= 2 && !text[0] != !text[1]) /* the first character is ASCII, and no mark tells the order of its bytes */
        return fail(ERR_INPUT, "%s: is not UTF-8 but UTF-16: iconv -f utf16%s -t utf8 FILE writes it so", path,
                    text[0] ? "le" : "be");
    return OK;
}

size_t lines_mark(const char *text, size_t n) { return n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0; }

enum status lines_check(const char *path, const char *text, size_t n)
{
    const size_t mark = lines_mark(text, n);
    enum status st = check_magic(path, text, n);
    if (st != OK) return st;
    if (!is_array(text + mark, n - mark)) return OK;
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
    if (st == OK) l->at = lines_mark(l->text, l->n);
    return st == OK ? lines_check(path, l->text, l->n) : st;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcasecmp(s + n - m, end);
}

/* What a line that is no JSON may be instead; NULL: nothing that is known. */
static const char *other_form(const char *path, const char *line, size_t n)
{
    const size_t first = blank(line, n);
    while (n > first && blank(line + n - 1, 1)) n--;
    if (first == n) return NULL;
    if (ends_with(path, ".csv") || ends_with(path, ".tsv"))
        return "rows are JSON Lines, not CSV: in Python pandas.read_csv(FILE).to_json(OTHER, orient=\"records\", "
               "lines=True)";
    if (utf8_valid(line, n) < n)
        return "the file is not valid UTF-8: if it is Latin-1, iconv -f latin1 -t utf8 FILE writes it so";
    if (memchr(line, 0, n)) return "the line has NUL bytes: the file is damaged, or it is not UTF-8";
    if (line[first] == '{' && n > first + 1 && line[first + 1] == '\'') return "keys and texts stand in double quotes";
    if (strchr("{[,:", line[n - 1])) return "a row stands on one line: jq -c . FILE writes it so";
    if (line[first] != '{') return "each line must be an object, {\"question\": ..., \"answer\": ...}";
    return NULL;
}

enum status lines_parse(const char *path, size_t number, const char *line, size_t n, json_t **out)
{
    const enum status st = json_parse(path, number - 1, line, n, out);
    const char *form = st == ERR_INPUT ? other_form(path, line, n) : NULL;
    char message[1024];
    if (!form) return st;
    snprintf(message, sizeof message, "%s", fail_message());
    fail_clear();
    return fail(st, "%s; %s", message, form);
}

enum status lines_lack(const char *path, size_t number, const char *lack, const char *others, const json_t *row)
{
    struct text keys = {0};
    const char *key;
    json_t *value;
    enum status st = OK;
    if (json_is_array(json_object_get(row, "messages")) || json_is_array(json_object_get(row, "conversations")))
        return fail(
            ERR_INPUT,
            "%s:%zu: has %s: it is in chat form; a row has one question and its answer: jq -c '{question: (.messages[] | "
            "select(.role == \"user\") | .content), answer: (.messages[] | select(.role == \"assistant\") | .content)}'",
            path, number, lack);
    json_object_foreach((json_t *)(uintptr_t)row, key, value) if (keys.n < 120)
        TRY(text_print(&keys, "%s\"%.40s\"", keys.n ? ", " : "", key));
    st = fail(ERR_INPUT, "%s:%zu: has %s; it has %s (%s%s)", path, number, lack, keys.n ? keys.data : "none",
              others ? others : "no setting names others here: rename the key",
              others ? " names other keys" : " in the file");
done:
    text_free(&keys);
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
