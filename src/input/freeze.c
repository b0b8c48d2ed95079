/* train.freeze: layers, ranges of layers, tensors and patterns of names -> the parameters that are not updated. */
#include "unlearn/input_priv.h"
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In transformers the head has a name of its own, even if its tensor is the embedding's. */
static const char *tensor_name(const struct layout *l, size_t slot)
{
    return slot < l->n_param ? l->param[slot].name : "lm_head.weight";
}

/* Whether the entry is a range such as "layers.2-5". */
static bool is_range(const char *entry, size_t *first, size_t *last)
{
    int end = 0;
    return sscanf(entry, "layers.%9zu-%9zu%n", first, last, &end) == 2 && !entry[end];
}

static bool names(const char *entry, const char *layer, const char *tensor)
{
    size_t n = strlen(entry);
    if (entry[n - 1] == '.') return !strncmp(entry, tensor, n);
    return !fnmatch(entry, layer, 0) || !fnmatch(entry, tensor, 0);
}

static enum status unknown(const struct config *c, const struct layout *l, const char *entry)
{
    const struct place place = config_place(c, "train.freeze");
    return fail(ERR_INPUT,
                "%s: train.freeze: nothing of the model is called \"%.100s\"; the layers are embed, layers.0-%zu, norm "
                "and lm_head, and a tensor's name is for example %s",
                place_text(&place), entry, l->shape->blocks - 1, l->param[l->layer_first[1]].name);
}

/* Goes through slots, the uses of tensors: a tied embedding is frozen if either of its uses is named. */
static enum status freeze(const struct config *c, const struct layout *l, const char *entry, bool *frozen)
{
    size_t first = 0, last = 0;
    bool range = is_range(entry, &first, &last), any = false;
    if (range && (first > last || last >= l->shape->blocks)) return unknown(c, l, entry);
    for (size_t s = 0; s < slot_count(l); s++) {
        char buffer[32];
        size_t layer = slot_layer(l, s);
        bool hit = range ? layer >= first + 1 && layer <= last + 1
                         : names(entry, layer_name(l, layer, buffer), tensor_name(l, s));
        if (hit) frozen[slot_param(l, s) - l->param] = any = true;
    }
    return any ? OK : unknown(c, l, entry);
}

enum status inputs_freeze(struct inputs *in)
{
    const struct config *c = in->config;
    const struct place place = config_place(c, "train.freeze");
    struct layout *l = NULL;
    bool all = true, *frozen = NULL;
    enum status st = OK;
    if (!c->train.n_freeze) return OK;
    TRY(layout_new(in->shape, 0, 1, &l));
    TRY_NEW(frozen, l->n_param);
    in->frozen = frozen;
    for (size_t i = 0; i < c->train.n_freeze; i++) TRY(freeze(c, l, c->train.freeze[i], frozen));
    for (size_t i = 0; i < l->n_param; i++) all = all && frozen[i];
    if (all)
        st = fail(ERR_INPUT, "%s: train.freeze: names every parameter of the model: nothing is left to train",
                  place_text(&place));
done:
    layout_free(l);
    return st;
}
