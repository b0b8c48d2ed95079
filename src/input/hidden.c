/* Settings of objectives on hidden states: checks that the model has the layer, and makes rmu's direction u, drawn by
 * the seed or read from a file. */
#include "unlearn/input_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DIRECTION = 64 << 20 };

const struct config_setting *setting_find(const struct config_objective *from, const char *key)
{
    for (size_t i = 0; i < from->n_setting; i++)
        if (!strcmp(from->setting[i].key, key)) return &from->setting[i];
    return NULL;
}

/* u_i depends on the seed and i alone. */
static void draw(uint64_t seed, size_t n, real *u)
{
    for (size_t i = 0; i < n; i++) u[i] = (real)random_uniform(seed, STREAM_DIRECTION, i);
}

static enum status parse(const char *path, const char *text, size_t size, size_t n, real *u)
{
    json_t *array = NULL;
    enum status st;
    TRY(json_parse(path, 0, text, size, &array));
    if (!json_is_array(array) || json_array_size(array) != n) {
        st = fail(ERR_INPUT, "%s: must be a JSON array of %zu numbers, the model's hidden size; it is %s %zu", path, n,
                  json_is_array(array) ? "one of" : "no array, but holds", json_array_size(array));
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(array, i);
        if (!json_is_number(x)) {
            st = fail(ERR_INPUT, "%s: element %zu is not a number", path, i + 1);
            goto done;
        }
        u[i] = (real)json_number_value(x);
    }
    if (!math_finite(n, u)) st = fail(ERR_INPUT, "%s: a number is too large", path);
done:
    json_decref(array);
    return st;
}

/* All errors in the file are reported with the place of the key in the input. */
static enum status read(const struct grid *world, const struct config_setting *s, size_t n, real *u)
{
    char *text = NULL, *why = NULL;
    size_t size;
    enum status st = share_text(world, s->text, MOST_DIRECTION, &text, &size);
    if (st == OK) st = parse(s->text, text, size, n, u);
    if (st == ERR_INPUT && (why = text_copy(fail_message()))) {
        fail_clear();
        st = fail(ERR_INPUT, "%s: direction: %s", place_text(&s->place), why);
    }
    free(text), free(why);
    return st;
}

static bool same(const char *a, const char *b) { return a && b ? !strcmp(a, b) : a == b; }

static void make_unit(size_t n, real *u)
{
    const double norm = sqrt(math_sum_squares(n, u));
    for (size_t i = 0; i < n && norm > 0; i++) u[i] = (real)((double)u[i] / norm);
}

/* Objectives share one array for each file, and one for the drawn direction; as they are, and divided by their norm.
 *                                                                                              Collective over world. */
static enum status direction(struct inputs *in, const struct grid *world, const struct config_objective *from,
                             struct objective *o)
{
    const struct config_setting *s = setting_find(from, "direction");
    const size_t n = in->shape->hidden;
    const char *path = s ? s->text : NULL;
    struct direction *d = making_directions(in), *end = d + in->n_direction;
    enum status st = OK;
    const bool unit = objective_unit(o);
    while (d < end && (!same(path, d->path) || d->unit != unit)) d++;
    if (d == end) {
        TRY_NEW(d->u, n);
        d->path = path, d->unit = unit;
        in->n_direction++;
        if (!s) draw(in->config->seed, n, d->u);
    }
    o->direction = d->u;
done:
    st = grid_agree(world, st);
    if (st == OK && s && d == end) st = grid_agree(world, read(world, s, n, d->u));
    if (st == OK && unit && d == end) make_unit(n, d->u);
    return st;
}

static enum status layer(const struct inputs *in, const struct config_objective *from, const struct objective *o)
{
    const struct config_setting *s = setting_find(from, "layer");
    const size_t blocks = in->shape->blocks;
    if (!s || (s->number >= 1 && s->number <= (double)blocks && s->number == floor(s->number))) return OK;
    return fail(ERR_INPUT, "%s: layer of %s is %g, but must be a whole number from 1 to %zu, the model's blocks",
                place_text(&s->place), objective_name(o), s->number, blocks);
}

static enum status one(struct inputs *in, const struct grid *world, const struct config_objective *from,
                       struct objective *o)
{
    enum status st = OK;
    if (!(objective_needs(o) & NEEDS_HIDDEN)) return OK;
    in->needs_hidden = true;
    TRY(layer(in, from, o));
    if (objective_needs(o) & NEEDS_DIRECTION) st = direction(in, world, from, o);
done:
    return st;
}

enum status inputs_hidden(struct inputs *in, const struct grid *world)
{
    const struct config *c = in->config;
    enum status st = OK;
    if (c->task == TASK_FINETUNE) return OK;
    if (!(in->direction = memory_new(in->n_measured + 1, sizeof *in->direction)))
        st = fail(ERR_MEMORY, "memory: cannot allocate the list of directions");
    TRY(grid_agree(world, st)); /* else the others would wait for the messages of a file */
    if (in->trains) TRY(one(in, world, &c->objective, &in->objective));
    for (size_t i = 0; i < in->n_regularizer; i++)
        TRY(one(in, world, &c->regularizer[i], &making_regularizers(in)[i].objective));
    for (size_t j = 0; j < in->n_measured; j++) TRY(one(in, world, measured_from(c, j), &making_measured(in)[j]));
done:
    return st;
}
