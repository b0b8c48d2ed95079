/* An input as text, and what it was read to. */
#ifndef CONFIG_TEXT_H
#define CONFIG_TEXT_H
#include "near.h"
#include "unlearn/config.h"

#define BASE "model: {path: M}\ndata: {forget: F, retain: R}\n"

static inline struct config *read_with(const char *file, const char *text, int n_override, char *const *override)
{
    struct config *c = NULL;
    fail_clear();
    if (config_parse(file, text, strlen(text), n_override, override, &c) != OK)
        fail_msg("%s; for:\n%s", fail_message(), text);
    return c;
}
static inline struct config *read_text(const char *text) { return read_with("in.yaml", text, 0, NULL); }

static inline struct config *override_with(const char *text, const char *a, const char *b)
{
    char *const override[] = {(char *)(uintptr_t)a, (char *)(uintptr_t)b};
    return read_with("in.yaml", text, b ? 2 : 1, override);
}

static inline char *written(const struct config *c)
{
    struct text t = {0};
    assert_int_equal(config_write(c, &t), OK);
    return t.data;
}

static inline void assert_data(const struct config_data *d, const char *path, size_t rows)
{
    assert_string_equal(d->path, path);
    assert_string_equal(d->question, "question");
    assert_string_equal(d->answer, "answer");
    assert_null(d->text);
    assert_int_equal(d->rows, rows);
}

static inline void assert_risk(const struct config_risk *r, const char *name, const char *data, size_t rows)
{
    assert_string_equal(r->name, name);
    assert_string_equal(r->data, data);
    assert_int_equal(r->rows, rows);
    assert_int_equal(r->from, FROM_ALL);
    assert_int_equal(r->draw, RISK_SPREAD);
}
#endif
