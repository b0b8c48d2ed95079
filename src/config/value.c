/* Scalars, strictly: what YAML leaves to the reader. A number is [+-] digits [. digits] [e [+-] digits], finite, without
 * a leading zero; a whole number may be written 1e3 where that is exact.                                            */
#include "unlearn/config_priv.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static size_t digits(const char *s) { return strspn(s, "0123456789"); }

/* Not a number: perhaps one of the usual mistakes. */
static const char *number_fault(const char *s)
{
    static const char *const endless[] = {".inf", "inf", "infinity", ".nan", "nan"};
    const char *sign = s + (*s == '+' || *s == '-');
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++)
        if (strcasecmp(sign, endless[i]) == 0) return "it must be finite";
    if (!isdigit((unsigned char)*sign)) return "";
    if (strspn(sign, "0123456789,") == strlen(sign))
        return "the decimal sign is a point, and nothing separates thousands";
    if (strspn(sign, "0123456789_") == strlen(sign)) return "nothing separates thousands";
    return "";
}

const char *number_read(const char *s, double *value)
{
    const char *p = s + (*s == '+' || *s == '-');
    size_t whole = digits(p), part = 0;
    bool zero = whole > 1 && *p == '0';
    p += whole;
    if (*p == '.') p += 1 + (part = digits(p + 1));
    if (whole + part == 0) return number_fault(s);
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '+' || p[1] == '-');
        size_t exponent = digits(p);
        if (exponent == 0) return "digits are missing after the e";
        p += exponent;
    }
    if (*p) return number_fault(s);
    if (zero) return "a leading zero could mean base 8";
    errno = 0;
    *value = strtod(s, NULL);
    if (errno == ERANGE || !isfinite(*value)) return "its size is beyond what a double holds";
    return NULL;
}

const char *whole_read(const char *s, uint64_t *value)
{
    double v = 0;
    const char *fault = number_read(s, &v);
    if (fault) return fault;
    if (v != floor(v)) return "it must be whole";
    if (v < 0) return "it must not be negative";
    if (s[digits(s)]) { /* with a sign, point or exponent: exact below 2^53 only */
        if (v > 9007199254740992.0) return "it is too large";
        *value = (uint64_t)v;
        return NULL;
    }
    errno = 0;
    *value = strtoull(s, NULL, 10);
    return errno ? "it is too large" : NULL;
}

/* The shortest of 15 to 17 digits that reads back, with a point where there is an exponent: other YAML readers take 1e-05
 * for text. */
enum status number_write(double value, struct text *out)
{
    char s[40];
    for (int n = 15; n <= 17; n++) {
        snprintf(s, sizeof s, "%.*g", n, value);
        if (strtod(s, NULL) == value) break;
    }
    char *e = strchr(s, 'e');
    if (!e || strchr(s, '.')) return text_print(out, "%s", s);
    return text_print(out, "%.*s.0%s", (int)(e - s), s, e);
}

bool is_word(const char *s)
{
    if (!isalpha((unsigned char)*s) && *s != '_') return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_') return false;
    return true;
}

static bool is_plain(const char *s)
{
    static const char *const taken[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (strcasecmp(s, taken[i]) == 0) return false;
    if (!isalpha((unsigned char)*s) && *s != '/' && *s != '_') return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("_-./+", *s)) return false;
    return true;
}

/* The character that begins at s, and its bytes; a byte that is no UTF-8 counts as a character of its own. */
static uint32_t character(const unsigned char *s, size_t *bytes)
{
    static const unsigned char lead[] = {0, 0, 0x1f, 0x0f, 0x07};
    size_t n = *s < 0x80 ? 1 : *s >= 0xf0 ? 4 : *s >= 0xe0 ? 3 : *s >= 0xc0 ? 2 : 1;
    uint32_t c = n == 1 ? *s : *s & lead[n];
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            *bytes = 1;
            return *s;
        }
        c = c << 6 | (s[i] & 0x3f);
    }
    *bytes = n;
    return c;
}

/* Inside quotes YAML folds line breaks and refuses control characters: those are written as escapes. */
static bool needs_escape(uint32_t c, size_t bytes)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x80 && bytes == 1) || c == 0x2028 || c == 0x2029 ||
           c == 0xfeff || c == 0xfffe || c == 0xffff;
}

enum status string_write(const char *s, struct text *out)
{
    enum status st = OK;
    size_t bytes;
    if (!s) return text_print(out, "null");
    if (is_plain(s)) return text_print(out, "%s", s);
    TRY(text_add(out, "\"", 1));
    for (; *s; s += bytes) {
        uint32_t c = character((const unsigned char *)s, &bytes);
        if (c == '"' || c == '\\')
            TRY(text_print(out, "\\%c", (char)c));
        else if (needs_escape(c, bytes))
            TRY(text_print(out, c < 0x100 ? "\\x%02x" : "\\u%04x", c));
        else
            TRY(text_add(out, s, bytes));
    }
    TRY(text_add(out, "\"", 1));
done:
    return st;
}
