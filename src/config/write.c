/* struct config -> YAML: every key of the table with its value and its meaning, so that the text reads back to the same. */
#include "unlearn/config_priv.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct writer {
    struct text *out;
    size_t indent;
    bool dash;                   /* the next line begins a list element */
    bool compares;               /* parameters by name, numbers by value, no defaults */
    setting_default *is_default; /* NULL: none is known */
};

static enum status write_count(size_t value, struct text *out)
{
    if (value == CONFIG_AUTO) return text_print(out, "auto");
    if (value == CONFIG_ALL) return text_print(out, "all");
    if (value == CONFIG_NULL) return text_print(out, "null");
    return text_print(out, "%zu", value);
}

static enum status write_words(char *const *word, size_t n, struct text *out)
{
    enum status st = OK;
    TRY(text_add(out, "[", 1));
    for (size_t i = 0; i < n; i++) {
        if (i > 0) TRY(text_add(out, ", ", 2));
        TRY(string_write(word[i], out));
    }
    TRY(text_add(out, "]", 1));
done:
    return st;
}

static enum status write_pair(const double *value, struct text *out)
{
    enum status st = OK;
    TRY(text_add(out, "[", 1));
    TRY(number_write(value[0], out));
    TRY(text_add(out, ", ", 2));
    TRY(number_write(value[1], out));
    TRY(text_add(out, "]", 1));
done:
    return st;
}

static enum status write_value(const struct row *row, const void *record, struct text *out)
{
    if (row->at == NOWHERE) return text_print(out, "%s", row->fallback);
    const void *from = member(record, row->at);
    switch (row->type) {
    case CHOICE:
        return choice_write(row->choices, *(const unsigned *)from, out);
    case COUNT:
        return write_count(*(const size_t *)from, out);
    case SEED:
        return text_print(out, "%llu", (unsigned long long)*(const uint64_t *)from);
    case NUMBER: /* not a number: auto */
        return isnan(*(const double *)from) ? text_print(out, "auto") : number_write(*(const double *)from, out);
    case PAIR:
        return write_pair(from, out);
    case SWITCH:
        return text_print(out, *(const bool *)from ? "true" : "false");
    case WORDS:
        return write_words(*(char *const *const *)from, *(const size_t *)member(record, row->count), out);
    default:
        return string_write(*(char *const *)from, out);
    }
}

static enum status begin_line(struct writer *w, const char *key)
{
    enum status st = OK;
    size_t dash = w->dash ? 2 : 0;
    TRY(text_print(w->out, "%*s%s", (int)(w->indent - dash), "", dash ? "- " : ""));
    w->dash = false;
    TRY(string_write(key, w->out));
    TRY(text_add(w->out, ":", 1));
done:
    return st;
}

static enum status end_line(struct writer *w, const struct row *row)
{
    enum status st = OK;
    TRY(text_add(w->out, "  # ", 4));
    if (row->type == CHOICE) {
        TRY(choices_write(row->choices, w->out));
        TRY(text_add(w->out, "; ", 2));
    }
    TRY(text_print(w->out, "%s\n", row->help));
done:
    return st;
}

static enum status write_setting(struct writer *w, const struct row *row, const struct config_setting *s)
{
    enum status st = OK;
    TRY(begin_line(w, s->key));
    TRY(text_add(w->out, " ", 1));
    if (!s->is_number)
        TRY(string_write(s->text, w->out));
    else
        TRY(w->compares ? number_write(s->number, w->out) : text_print(w->out, "%s", s->text));
    TRY(end_line(w, row));
done:
    return st;
}

/* The setting whose key comes next behind that of `last`; NULL: none. */
static const struct config_setting *next_setting(const struct config_objective *o, const struct config_setting *last)
{
    const struct config_setting *next = NULL;
    for (size_t i = 0; i < o->n_setting; i++) {
        const struct config_setting *s = &o->setting[i];
        if ((!last || strcmp(s->key, last->key) > 0) && (!next || strcmp(s->key, next->key) < 0)) next = s;
    }
    return next;
}

static enum status write_compared(struct writer *w, const struct row *row, const struct config_objective *o)
{
    enum status st = OK;
    for (const struct config_setting *s = next_setting(o, NULL); s; s = next_setting(o, s))
        if (!w->is_default || !w->is_default(o, s)) TRY(write_setting(w, row, s));
done:
    return st;
}

static enum status write_settings(struct writer *w, const struct row *row, const void *record)
{
    enum status st = OK;
    const struct config_setting *s = *(struct config_setting *const *)member(record, row->at);
    if (w->compares) return write_compared(w, row, record); /* `objective` itself is compared elsewhere */
    for (size_t n = *(const size_t *)member(record, row->count); n > 0; n--, s++) TRY(write_setting(w, row, s));
done:
    return st;
}

static enum status write_section(struct writer *w, const struct row *section, const void *record);

enum status row_usual(const struct row *row, const void *record, bool *usual)
{
    struct text value = {0};
    enum status st;
    TRY(write_value(row, record, &value));
    *usual = strcmp(value.data, row->fallback) == 0;
done:
    text_free(&value);
    return st;
}

/* Whether a record holds nothing but the key that a plain value stands for. */
static enum status says_no_more(const struct row *section, const void *record, bool *plain)
{
    enum status st = OK;
    *plain = true;
    for (size_t i = 1; i < config_rows && *plain; i++) {
        const struct row *row = &config_table[i];
        if (row_is_child(row, section) && strcmp(row_name(row), section->bare) != 0) TRY(row_usual(row, record, plain));
    }
done:
    return st;
}

/* "path: DIR  # ..." in place of a list of one. */
static enum status write_plain(struct writer *w, const struct row *row, const void *record)
{
    const struct row *section = row_any(row);
    enum status st = OK;
    TRY(begin_line(w, row_name(row)));
    TRY(text_add(w->out, " ", 1));
    TRY(write_value(row_child(section, section->bare), record, w->out));
    TRY(end_line(w, row));
done:
    return st;
}

static enum status write_many(struct writer *w, const struct row *row, const void *record)
{
    enum status st = OK;
    const char *one = *(char *const *)member(record, row->at);
    size_t n = *(const size_t *)member(record, row->count);
    bool plain = row->flags & PLAIN_ONE && n == 1;
    if (plain) TRY(says_no_more(row_any(row), one, &plain));
    if (plain) return write_plain(w, row, one);
    TRY(begin_line(w, row_name(row)));
    if (n == 0) TRY(text_print(w->out, row->type == NAMED ? " {}" : " []"));
    TRY(end_line(w, row));
    w->indent += 2;
    for (; n > 0; n--, one += row->size) {
        w->dash = row->type == RECORDS;
        if (row->type == NAMED) {
            TRY(begin_line(w, *(char *const *)(const void *)one));
            TRY(text_add(w->out, "\n", 1));
        }
        w->indent += 2;
        TRY(write_section(w, row_any(row), one));
        w->indent -= 2;
    }
    w->indent -= 2;
done:
    return st;
}

static enum status write_row(struct writer *w, const struct row *row, const void *record)
{
    enum status st = OK;
    if (row->type == SETTINGS) return write_settings(w, row, record);
    if (row->type == NAMED || row->type == RECORDS) return write_many(w, row, record);
    TRY(begin_line(w, row_name(row)));
    if (row->type != SECTION) {
        TRY(text_add(w->out, " ", 1));
        TRY(write_value(row, record, w->out));
    } else if (row->at == NOWHERE)
        TRY(text_add(w->out, " {}", 3));
    TRY(end_line(w, row));
    if (row->type != SECTION) goto done;
    w->indent += 2;
    TRY(write_section(w, row, record));
    w->indent -= 2;
done:
    return st;
}

static enum status write_section(struct writer *w, const struct row *section, const void *record)
{
    enum status st = OK;
    for (size_t i = 1; i < config_rows; i++)
        if (row_is_child(&config_table[i], section)) TRY(write_row(w, &config_table[i], record));
done:
    return st;
}

enum status config_write(const struct config *c, struct text *out)
{
    struct writer w = {.out = out};
    return write_section(&w, &config_table[0], c);
}

enum status row_write(const struct row *row, const struct config *c, setting_default *is_default, struct text *out)
{
    struct writer w = {.out = out, .compares = true, .is_default = is_default};
    enum status st = text_add(out, "", 0); /* settings may have nothing to say */
    return st == OK ? write_row(&w, row, c) : st;
}
