/* guard.freeze: after each measurement the layers whose effect on the guarded risk is worst rest until the next one. The
 * effect e = <grad R, grad L> changes the risk by -lr e, so the worst is the most negative; where it is not negative
 * nothing is spoilt, and nothing rests. */
#include "unlearn/training_priv.h"
#include <math.h>

static bool wanted(const struct config *c) { return c->guard.layers > 0; }

/* A tied embedding is one matrix with two entries, each with the effect of one of its uses: embed and lm_head, the last one.
 * They rest together, as one layer, by the sum of their effects; embed stands for both. */
static size_t choices(const struct layout *l) { return l->n_layer - l->shape->tied; }

/* The entry that rests with a layer; the layer itself where there is none. */
static size_t beside(const struct layout *l, size_t layer) { return l->shape->tied && !layer ? l->n_layer - 1 : layer; }

static double effect_of(const struct layout *l, const struct seen *seen, size_t layer)
{
    const size_t other = beside(l, layer);
    return other == layer ? seen->effect[layer] : seen->effect[layer] + seen->effect[other];
}

/* Whether train.freeze has left a layer some parameter of its own, such as the bias of a tied head. */
static bool any_moves(const struct inputs *in, const struct layout *l, size_t layer)
{
    bool any = false;
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) any = any || !in->frozen || !in->frozen[i];
    return any;
}

static bool moves(const struct inputs *in, const struct layout *l, size_t layer)
{
    return any_moves(in, l, layer) || any_moves(in, l, beside(l, layer));
}

/* How many layers could rest without any parameter being left to move is the most that may not be asked for. */
static size_t movable(const struct inputs *in, const struct layout *l)
{
    size_t n = 0;
    for (size_t k = 0; k < choices(l); k++) n += moves(in, l, k);
    return n;
}

static enum status check_layers(const struct inputs *in)
{
    const struct place place = config_place(in->config, "guard.freeze.layers");
    struct layout *l = NULL;
    size_t n;
    enum status st = OK;
    TRY(layout_new(in->shape, 0, 1, &l));
    n = movable(in, l);
    if ((l->n_layer + 63) / 64 > GUARD_WORDS)
        st = fail(ERR_INPUT, "%s: guard.freeze: the model has %zu layers, more than %d: leave it out", place_text(&place),
                  l->n_layer, 64 * GUARD_WORDS);
    else if (in->config->guard.layers >= n)
        st = fail(ERR_INPUT,
                  "%s: guard.freeze.layers: %zu may rest, of %zu that have parameters to move: nothing would be left to "
                  "train; give fewer",
                  place_text(&place), in->config->guard.layers, n);
done:
    layout_free(l);
    return st;
}

static enum status check(const struct inputs *in)
{
    struct place place = config_place(in->config, "geffect.resolution");
    if (in->config->geffect.resolution != RESOLUTION_LAYER)
        return fail(ERR_INPUT, "%s: geffect.resolution: guard.freeze needs layer", place_text(&place));
    place = config_place(in->config, "geffect.objectives");
    if (guard_objective(in) == in->n_measured)
        return fail(ERR_INPUT,
                    "%s: geffect.objectives: guard.freeze needs the effect of the objective that is trained, %s with its "
                    "parameters: add it",
                    place_text(&place), objective_name(&in->objective));
    return check_layers(in);
}

static void demand(const struct inputs *in, const struct timetable *s, const struct layout *l, struct demand *d)
{
    if (in->n_regularizer) demand_states(d, "regulariser", 1, AT_GRADIENT, AT_GRADIENT);
    d->bytes += ((1 + in->n_regularizer) * l->n_param + l->n_layer) * sizeof(double);
}

static enum status say(const struct inputs *in, struct text *out)
{
    return text_print(out, "between measurements at most %zu layers rest, whose effect on %s is worst",
                      in->config->guard.layers, in->risk[guard_risk(in)].name);
}

static enum status make(struct training *t)
{
    enum status st = OK;
    t->guard->n_word = (t->subject->layout->n_layer + 63) / 64;
    TRY_NEW(t->guard->square, (1 + t->subject->in->n_regularizer) * t->subject->layout->n_param);
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------- norms ----- */
/* Which layers rest may change when the gradients have their norms: the squares of each parameter give them again. */
static enum status objective(struct training *t, size_t i)
{
    guard_dot(t, t->gradient, t->gradient, t->guard->square);
    return OK;
}

static void regularizer(struct training *t, size_t k)
{
    guard_dot(t, t->part, t->part, t->guard->square + (1 + k) * t->subject->layout->n_param);
}

static void rectify(struct training *t)
{
    const size_t n = t->subject->layout->n_param;
    t->update.norm_of_objective = sqrt(guard_moving(t, t->guard->square));
    for (size_t k = 0; k < t->subject->in->n_regularizer; k++)
        t->update.norm_of_part[k] = sqrt(guard_moving(t, t->guard->square + (1 + k) * n));
}

/* ---------------------------------------------------------------------------------------------------- decision ----- */
static bool rests(const struct guard *g, size_t layer) { return g->resting[layer / 64] >> layer % 64 & 1; }

/* The layer of the most negative effect among those that do not rest; n_layer: there is none. Of a layer without a
 * parameter that could move nothing is gained. */
static size_t worst(const struct training *t, const struct seen *seen)
{
    const struct layout *l = t->subject->layout;
    size_t found = l->n_layer;
    for (size_t k = 0; k < choices(l); k++) {
        const double effect = effect_of(l, seen, k);
        if (rests(t->guard, k) || !(effect < 0) || !moves(t->subject->in, l, k)) continue;
        if (found == l->n_layer || effect < effect_of(l, seen, found)) found = k;
    }
    return found;
}

static void rest(struct guard *g, size_t layer) { g->resting[layer / 64] |= (uint64_t)1 << layer % 64; }

static void report(const struct training *t, const struct seen *seen)
{
    const struct layout *l = t->subject->layout;
    struct text line = {0};
    char name[32];
    if (t->subject->grid->rank || !seen->updates) return;
    for (size_t k = 0; k < choices(l); k++)
        if (rests(t->guard, k))
            text_print(&line, " %s%s (%.4g)", layer_name(l, k, name), beside(l, k) == k ? "" : " with lm_head",
                       effect_of(l, seen, k));
    log_info("guard: step %zu: until the next measurement no updates of%s", seen->step,
             line.n ? line.data : " nothing: all get them");
    text_free(&line);
}

static void measured(struct training *t, const struct seen *seen)
{
    const struct layout *l = t->subject->layout;
    struct guard *g = t->guard;
    for (size_t i = 0; i < g->n_word; i++) g->resting[i] = 0;
    for (size_t i = 0; i < t->subject->in->config->guard.layers; i++) {
        const size_t layer = worst(t, seen);
        if (layer == l->n_layer) break;
        rest(g, layer), rest(g, beside(l, layer));
    }
    comm_broadcast(t->subject->grid->world, g->resting, sizeof g->resting, 0);
    guard_begin(t);
    report(t, seen);
}

static size_t saved(struct guard *g, struct saved *saved)
{
    static const char *const name[GUARD_WORDS] = {
        "resting layers",          "resting layers from 64",  "resting layers from 128", "resting layers from 192",
        "resting layers from 256", "resting layers from 320", "resting layers from 384", "resting layers from 448"};
    for (size_t i = 0; i < g->n_word; i++) saved[i] = (struct saved){name[i], NULL, &g->resting[i]};
    return g->n_word;
}

const struct action freeze_action = {.key = "guard.freeze.layers",
                                     .wanted = wanted,
                                     .check = check,
                                     .demand = demand,
                                     .say = say,
                                     .make = make,
                                     .objective = objective,
                                     .regularizer = regularizer,
                                     .measured = measured,
                                     .rectify = rectify,
                                     .saved = saved};
