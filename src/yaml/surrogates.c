/* JSON writes a character beyond 16 bits as two escapes, \ud83d\ude00, where YAML wants one, \U0001f600. Only in what is
 * JSON as a whole: there every backslash stands in double quotes, and begins an escape.                             */
#include "unlearn/yaml.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ESCAPE = 6 }; /* \uxxxx */

/* Whether an escape of the 1024 codes from `first` on stands at s. */
static bool is_half(const char *s, size_t n, unsigned first, unsigned *code)
{
    char digits[5] = {0}, *end;
    if (n < ESCAPE || s[0] != '\\' || s[1] != 'u') return false;
    memcpy(digits, s + 2, 4);
    if (strspn(digits, "0123456789abcdefABCDEF") < 4) return false;
    *code = (unsigned)strtoul(digits, &end, 16) - first;
    return *code < 0x400;
}

static bool is_pair(const char *s, size_t n, unsigned *character)
{
    unsigned high, low;
    if (!is_half(s, n, 0xd800, &high) || !is_half(s + ESCAPE, n - ESCAPE, 0xdc00, &low)) return false;
    *character = 0x10000 + (high << 10 | low);
    return true;
}

static bool has_pair(const char *text, size_t n)
{
    unsigned character;
    for (size_t i = 0; i < n; i++)
        if (is_pair(text + i, n - i, &character)) return true;
    return false;
}

static bool is_json(const char *text, size_t n)
{
    json_t *json = json_loadb(text, n, JSON_DECODE_ANY, NULL);
    json_decref(json);
    return json != NULL;
}

enum status surrogates_join(const char *text, size_t n, char **out)
{
    char *to = *out = NULL;
    unsigned character;
    if (!has_pair(text, n) || !is_json(text, n)) return OK;
    if (!(to = *out = malloc(n + 1))) return fail(ERR_MEMORY, "memory: cannot copy an input of %zu bytes", n);
    for (size_t i = 0; i < n;) {
        if (is_pair(text + i, n - i, &character)) {
            to += sprintf(to, "\\U%08x", character); /* shorter than the pair */
            i += (size_t)2 * ESCAPE;
            continue;
        }
        if (text[i] == '\\') *to++ = text[i++]; /* what it escapes begins nothing */
        *to++ = text[i++];
    }
    *to = 0;
    return OK;
}
