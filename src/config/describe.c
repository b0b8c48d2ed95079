/* The table of keys in words, for --help and the references. */
#include "unlearn/config_priv.h"
#include <string.h>

static const char *default_text(const struct row *row)
{
    const unsigned needed = row->flags & LEADS ? 0 : row->needed;
    if (needed == EVERY_TASK) return "required";
    if (needed) return "by task";
    return row->fallback ? row->fallback : "";
}

/* The meaning, and of a choice that is not built whole, what is. */
static enum status help_text(const struct row *row, struct text *out)
{
    enum status st = OK;
    out->n = 0;
    TRY(text_print(out, "%s", row->help));
    for (unsigned i = 0; i < row->built; i++) {
        TRY(text_print(out, i ? ", " : " (built: "));
        TRY(choice_write(row->choices, i, out));
    }
    if (row->built) TRY(text_add(out, ")", 1));
done:
    return st;
}

enum status config_keys(enum status (*say)(void *to, const struct key_text *key), void *to)
{
    struct text value = {0}, meaning = {0};
    enum status st = OK;
    for (size_t i = 1; i < config_rows; i++) {
        const struct row *row = &config_table[i];
        value.n = 0;
        TRY(row_expected(row, &value));
        TRY(help_text(row, &meaning));
        const struct key_text key = {.path = row->path,
                                     .value = value.data,
                                     .fallback = default_text(row),
                                     .meaning = meaning.data,
                                     .holds = row->type == SECTION || row->type == RECORDS || row->type == NAMED,
                                     .free = row->flags & FREE};
        TRY(say(to, &key));
    }
done:
    text_free(&value), text_free(&meaning);
    return st;
}
