/* Questions to the table of keys: which row, what it expects, what is near a misspelt word. */
#include "unlearn/config_priv.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

bool row_is_child(const struct row *row, const struct row *parent)
{
    size_t n = strlen(parent->path);
    if (row == parent || strncmp(row->path, parent->path, n) != 0) return false;
    if (n > 0 && row->path[n++] != '.') return false;
    return row->path[n] && !strchr(row->path + n, '.');
}

const char *row_name(const struct row *row)
{
    const char *dot = strrchr(row->path, '.');
    return dot ? dot + 1 : row->path;
}

static const struct row *row_named(const struct row *parent, const char *name)
{
    for (size_t i = 1; i < config_rows; i++)
        if (row_is_child(&config_table[i], parent) && strcmp(row_name(&config_table[i]), name) == 0)
            return &config_table[i];
    return NULL;
}

const struct row *row_child(const struct row *parent, const char *key)
{
    return strcmp(key, "*") == 0 ? NULL : row_named(parent, key);
}

const struct row *row_any(const struct row *parent) { return row_named(parent, "*"); }

bool row_nullable(const struct row *row) { return row->fallback && strcmp(row->fallback, "null") == 0; }

/* The i-th of "a|b|c" and its length; NULL behind the last. */
static const char *choice_at(const char *choices, size_t i, size_t *n)
{
    while (i-- && choices)
        if ((choices = strchr(choices, '|'))) choices++;
    *n = choices ? strcspn(choices, "|") : 0;
    return choices;
}

int choice_index(const char *choices, const char *word)
{
    size_t n;
    const char *choice;
    for (size_t i = 0; (choice = choice_at(choices, i, &n)); i++)
        if (strlen(word) == n && strncmp(choice, word, n) == 0) return (int)i;
    return -1;
}

enum status choice_write(const char *choices, unsigned index, struct text *out)
{
    size_t n;
    const char *choice = choice_at(choices, index, &n);
    return text_add(out, choice, n);
}

enum status choices_write(const char *choices, struct text *out)
{
    enum status st = OK;
    size_t n;
    const char *choice;
    for (size_t i = 0; (choice = choice_at(choices, i, &n)); i++)
        TRY(text_print(out, "%s%.*s", i ? " | " : "", (int)n, choice));
done:
    return st;
}

static enum status write_range(const struct row *row, struct text *out)
{
    enum status st = OK;
    bool above = row->flags & ABOVE, below = row->flags & BELOW;
    if (above) {
        TRY(text_print(out, " above %.15g", row->least));
        if (!below && row->most < 1e15) TRY(text_print(out, ", %.15g at most", row->most));
    } else if (isinf(row->most) || below || row->most >= 1e15)
        TRY(text_print(out, ", %.15g or more", row->least));
    else
        TRY(text_print(out, ", %.15g to %.15g", row->least, row->most));
    if (below) TRY(text_print(out, " and below %.15g", row->most));
done:
    return st;
}

enum status row_expected(const struct row *row, struct text *out)
{
    static const char *const text[] = {
        [SECTION] = "a mapping of keys",
        [RECORDS] = "a list of names or mappings",
        [NAMED] = "a mapping from names",
        [SETTINGS] = "a number or text",
        [CHOICE] = "",
        [COUNT] = "a whole number",
        [SEED] = "a whole number, 0 to 9223372036854775807",
        [NUMBER] = "a number",
        [PAIR] = "a list of two numbers",
        [SWITCH] = "true or false",
        [TEXT] = "text",
        [PATH] = "a path",
        [WORD] = "a name",
        [WORDS] = "a list of names",
    };
    enum status st = OK;
    TRY(text_print(out, "%s", row->flags & PLAIN_ONE ? "a path, or a list of them" : text[row->type]));
    if (row->type == CHOICE) TRY(choices_write(row->choices, out));
    if (row->type == SECTION && row->bare) TRY(text_print(out, " or a plain %s", row->bare));
    if (row->type == COUNT || row->type == NUMBER || row->type == PAIR) TRY(write_range(row, out));
    if (row->flags & ALSO_AUTO) TRY(text_print(out, ", or auto"));
    if (row->flags & ALSO_ALL) TRY(text_print(out, ", or all"));
    if (row_nullable(row)) TRY(text_print(out, ", or null"));
done:
    return st;
}

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

static bool same_letter(char a, char b) { return tolower((unsigned char)a) == tolower((unsigned char)b); }

/* How many letters to change, add, drop or swap with a neighbour (optimal string alignment), capitals or not; a[n] and b[m]. */
static size_t distance(const char *a, size_t n, const char *b, size_t m)
{
    enum { MOST = 40 };
    size_t row[3][MOST + 1], *before = row[0], *last = row[1], *now = row[2];
    if (n > MOST || m > MOST) return SIZE_MAX;
    for (size_t j = 0; j <= m; j++) last[j] = before[j] = j;
    for (size_t i = 1; i <= n; i++) {
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = smallest(last[j] + 1, now[j - 1] + 1, last[j - 1] + !same_letter(a[i - 1], b[j - 1]));
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]))
                now[j] = smallest(now[j], before[j - 2] + 1, SIZE_MAX);
        }
        size_t *spare = before;
        before = last, last = now, now = spare;
    }
    return last[m];
}

/* A word of 4 letters may be off by one, one of 8 by two. */
static bool is_near(size_t d, size_t length) { return d <= length / 4 || (d == 1 && length > 1); }

const char *nearest(const struct row *parent, const char *key)
{
    const char *best = NULL;
    size_t least = SIZE_MAX;
    for (size_t i = 1; i < config_rows; i++) {
        const char *name = row_name(&config_table[i]);
        if (!row_is_child(&config_table[i], parent) || strcmp(name, "*") == 0) continue;
        size_t d = distance(key, strlen(key), name, strlen(name));
        if (d < least && is_near(d, strlen(name))) best = name, least = d;
    }
    return best;
}

enum status nearest_choice(const char *choices, const char *word, struct text *out)
{
    const char *best = NULL, *choice;
    size_t least = SIZE_MAX, length = 0, n;
    for (size_t i = 0; (choice = choice_at(choices, i, &n)); i++) {
        size_t d = distance(word, strlen(word), choice, n);
        if (d < least && is_near(d, n)) best = choice, least = d, length = n;
    }
    return best ? text_print(out, "did you mean %.*s?", (int)length, best) : OK;
}

enum status config_nearest(const char *choices, const char *word, struct text *out)
{
    return nearest_choice(choices, word, out);
}

/* The one key elsewhere with this very name: "lr" at the top belongs into the optimizer. */
static const struct row *elsewhere(const char *key)
{
    for (size_t i = 1; i < config_rows; i++)
        if (!strchr(config_table[i].path, '*') && strcmp(row_name(&config_table[i]), key) == 0) return &config_table[i];
    return NULL;
}

static enum status write_names(const struct row *parent, struct text *out)
{
    enum status st = OK;
    const char *comma = "";
    for (size_t i = 1; i < config_rows; i++) {
        if (!row_is_child(&config_table[i], parent)) continue;
        TRY(text_print(out, "%s%s", comma, row_name(&config_table[i])));
        comma = ", ";
    }
done:
    return st;
}

enum status unknown_key(const struct row *parent, const struct node *node)
{
    enum status st = OK;
    struct text names = {0};
    const char *near = nearest(parent, node->key), *place = place_text(&node->key_place);
    const char *in = *parent->path ? " in " : "";
    const struct row *other = elsewhere(node->key);
    if (near) {
        st = fail(ERR_INPUT, "%s: unknown key \"%.60s\"%s%s; did you mean \"%s\"?", place, node->key, in, parent->path,
                  near);
        goto done;
    }
    if (other) {
        st = fail(ERR_INPUT, "%s: unknown key \"%.60s\"%s%s; did you mean %s?", place, node->key, in, parent->path,
                  other->path);
        goto done;
    }
    TRY(write_names(parent, &names));
    st = fail(ERR_INPUT, "%s: unknown key \"%.60s\"%s%s; the keys are %s", place, node->key, in, parent->path,
              names.data ? names.data : "none");
done:
    text_free(&names);
    return st;
}
