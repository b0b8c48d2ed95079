/* shape, for its own files: the rows of the architecture table, rotary frequencies. */
#ifndef UNLEARN_SHAPE_PRIV_H
#define UNLEARN_SHAPE_PRIV_H
#include "unlearn/shape.h"

/** The row of this model type; NULL: not supported. */
const struct architecture *architecture_find(const char *model_type);
/** The model types of the table, separated by ", ". */
const char *architecture_list(char buffer[256]);

/** Sets s->rotary_dim, s->frequency and s->rotary_scale from config.json; needs s->head_dim and s->positions. Local. */
enum status rope_read(const char *where, const json_t *config, struct shape *s);
#endif
