/* fuzz: the input file, and behind a zero byte overrides, a line each. What is accepted is written so that it reads back to
 * the same, and is not changed against itself. */
#include "fuzz.h"
#include "unlearn/config.h"
#include <string.h>

enum { MOST_OVERRIDES = 8 };

static void check(const struct config *c)
{
    struct text once = {0}, twice = {0}, change = {0};
    struct config *again;
    must(c->model.n_at && c->model.path && c->output_directory && *c->output_directory);
    must(config_write(c, &once) == OK);
    must(accepted(config_parse("other.yaml", once.data, once.n, 0, NULL, &again)));
    must(config_write(again, &twice) == OK);
    must(once.n == twice.n && !memcmp(once.data, twice.data, once.n));
    must(config_changed(again, c, NULL, &change) == OK && !change.n);
    config_free(again);
    text_free(&once);
    text_free(&twice);
    text_free(&change);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const uint8_t *zero = n ? memchr(bytes, 0, n) : NULL;
    const size_t length = zero ? (size_t)(zero - bytes) : n, rest = zero ? n - length - 1 : 0;
    char *lines = malloc(rest + 1), *override[MOST_OVERRIDES], *save = NULL;
    int n_override = 0;
    struct config *c;
    enum status st;
    must(lines);
    if (rest) memcpy(lines, zero + 1, rest);
    lines[rest] = 0;
    for (char *s = strtok_r(lines, "\n", &save); s && n_override < MOST_OVERRIDES; s = strtok_r(NULL, "\n", &save))
        override[n_override++] = s;
    st = config_parse("input.yaml", (const char *)bytes, length, n_override, override, &c);
    if (st == ERR_USAGE && n_override) fail_clear(), st = ERR_INPUT, must(!c), must(fail(st, "usage") == st);
    if (accepted(st)) check(c);
    config_free(c);
    free(lines);
    return 0;
}
