/* Post-processors of tokenizer.json: the tokens that stand before and after every text. */
#include "unlearn/tokenizer_priv.h"
#include <stdlib.h>
#include <string.h>

enum { MOST = 1024 }; /* tokens at one end of a text; there is rarely more than one */

static enum status add(const char *where, struct tokenizer *t, json_t *id, struct ids *list)
{
    json_int_t value = json_integer_value(id);
    if (list->n == MOST)
        return fail(ERR_INPUT, "%s: the post_processor adds more than %d tokens to every text", where, MOST);
    if (!json_is_integer(id) || value < 0 || value > INT32_MAX || !vocabulary_token(&t->vocabulary, (int32_t)value))
        return fail(ERR_INPUT, "%s: the post_processor adds an id that is no token", where);
    return ids_add(list, (int32_t)value);
}

/* `more` around what there is: in front of what comes before, behind what comes after. */
static enum status around(struct tokenizer *t, struct ids *before, const struct ids *after)
{
    enum status st = OK;
    struct ids old;
    for (size_t i = 0; i < t->before.n; i++) TRY(ids_add(before, t->before.data[i]));
    old = t->before, t->before = *before, *before = old;
    for (size_t i = 0; i < after->n; i++) TRY(ids_add(&t->after, after->data[i]));
done:
    return st;
}

/* "single": [{"SpecialToken": {"id": "<s>", ...}}, {"Sequence": {"id": "A", ...}}, ...] */
static enum status template_processing(const char *where, json_t *json, struct tokenizer *t)
{
    enum status st = OK;
    struct ids part[2] = {{0}, {0}};
    json_t *single = json_object_get(json, "single"), *tokens = json_object_get(json, "special_tokens"), *each, *id;
    size_t i, k, side = 0;
    json_array_foreach(single, i, each)
    {
        const char *name = json_string_value(json_object_get(json_object_get(each, "SpecialToken"), "id"));
        json_t *ids = name ? json_object_get(json_object_get(tokens, name), "ids") : NULL;
        if (json_object_get(each, "Sequence")) {
            side++;
        } else if (!json_is_array(ids)) {
            st = fail(ERR_INPUT, "%s: the post_processor's template uses a token that it does not define", where);
            goto done;
        }
        json_array_foreach(ids, k, id) TRY(add(where, t, id, &part[side > 0]));
    }
    if (side != 1) TRY(fail(ERR_INPUT, "%s: the post_processor's template does not hold the text once", where));
    TRY(around(t, &part[0], &part[1]));
done:
    ids_free(&part[0]);
    ids_free(&part[1]);
    return st;
}

/* "cls": ["<s>", 0], "sep": ["</s>", 2] */
static enum status two_ends(const char *where, json_t *json, struct tokenizer *t)
{
    enum status st;
    struct ids before = {0}, after = {0};
    TRY(add(where, t, json_array_get(json_object_get(json, "cls"), 1), &before));
    TRY(add(where, t, json_array_get(json_object_get(json, "sep"), 1), &after));
    TRY(around(t, &before, &after));
done:
    ids_free(&before);
    ids_free(&after);
    return st;
}

/* It only moves offsets, which nobody asks for here. */
static enum status byte_level(const char *where, json_t *json, struct tokenizer *t) { return OK; }

static enum status sequence(const char *where, json_t *json, struct tokenizer *t)
{
    enum status st = OK;
    json_t *all = json_object_get(json, "processors"), *each;
    size_t i;
    if (!json_is_array(all)) return fail(ERR_INPUT, "%s: the post_processor Sequence has no list \"processors\"", where);
    json_array_foreach(all, i, each)
    {
        const char *type = json_string_value(json_object_get(each, "type"));
        const size_t before = t->before.n + t->after.n;
        if (type && !strcmp(type, "Sequence"))
            TRY(fail(ERR_INPUT, "%s: a post_processor Sequence inside another is not supported", where));
        TRY(template_read(where, each, t));
        if (before && t->before.n + t->after.n > before) /* the package takes what the first has made for two texts */
            TRY(fail(ERR_INPUT, "%s: two post_processors of a Sequence add tokens, which is not supported", where));
    }
done:
    return st;
}

enum status template_read(const char *where, json_t *json, struct tokenizer *t)
{
    static const struct {
        const char *name;
        enum status (*read)(const char *where, json_t *json, struct tokenizer *t);
    } kinds[] = {
        {"TemplateProcessing", template_processing},
        {"ByteLevel", byte_level},
        {"BertProcessing", two_ends},
        {"RobertaProcessing", two_ends},
        {"Sequence", sequence},
    };
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!json || json_is_null(json)) return OK;
    if (!type) return fail(ERR_INPUT, "%s: the post_processor has no \"type\"", where);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, type)) return kinds[i].read(where, json, t);
    return fail(ERR_INPUT, "%s: the post_processor \"%s\" is not supported", where, type);
}
