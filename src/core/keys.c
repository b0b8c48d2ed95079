/* Members of a JSON object, checked for type and range before anything is computed from them. */
#include "unlearn/core.h"
#include <math.h>
#include <string.h>

const json_t *key_find(const json_t *object, const char *key)
{
    const json_t *j = json_object_get(object, key);
    return json_is_null(j) ? NULL : j;
}

enum status key_wrong(const char *where, const char *key, const json_t *j, const char *needed)
{
    if (json_odd(j))
        return fail(ERR_INPUT, "%s: %s: %.40s cannot be used; it must be %s", where, key, json_odd(j), needed);
    return fail(ERR_INPUT, "%s: %s: is not %s", where, key, needed);
}

enum status key_size(const char *where, const json_t *object, const char *key, size_t least, size_t most, size_t *out)
{
    const json_t *j = key_find(object, key);
    json_int_t i;
    if (!j) return OK;
    if (!json_is_integer(j)) return key_wrong(where, key, j, "a whole number");
    i = json_integer_value(j);
    if (i < 0 || (uint64_t)i < least || (uint64_t)i > most)
        return fail(ERR_INPUT, "%s: %s: %lld is outside the range %zu ... %zu", where, key, (long long)i, least, most);
    *out = (size_t)i;
    return OK;
}

enum status key_number(const char *where, const json_t *object, const char *key, double least, double most, double *out)
{
    const json_t *j = key_find(object, key);
    double x;
    if (!j) return OK;
    if (!json_is_number(j)) return key_wrong(where, key, j, "a number");
    x = json_number_value(j);
    if (!(x >= least && x <= most))
        return fail(ERR_INPUT, "%s: %s: %.9g is outside the range %.3g ... %.3g", where, key, x, least, most);
    *out = x;
    return OK;
}

enum status key_flag(const char *where, const json_t *object, const char *key, bool *out)
{
    const json_t *j = key_find(object, key);
    if (!j) return OK;
    if (json_odd(j)) return key_wrong(where, key, j, "true or false");
    if (!json_is_boolean(j)) return fail(ERR_INPUT, "%s: %s: is neither true nor false", where, key);
    *out = json_is_true(j);
    return OK;
}

enum status key_text(const char *where, const json_t *object, const char *key, const char **out)
{
    const json_t *j = key_find(object, key);
    if (!j) return OK;
    if (!json_is_string(j) || strlen(json_string_value(j)) != json_string_length(j))
        return key_wrong(where, key, j, "a text");
    *out = json_string_value(j);
    return OK;
}
