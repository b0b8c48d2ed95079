/* Rotary frequencies: position t turns pair k of a head by the angle t f[k], f[k] = theta^(-2k/dim), k < dim/2 (Su et al.
 * 2021), optionally scaled for longer texts: linear divides f by a factor; llama3 divides only low frequencies by it,
 * leaves high ones and interpolates between; yarn interpolates by the number of turns of a pair over the original
 * length (Peng et al. 2023), and also scales the entries that rotate; longrope divides each f by a factor of its own, of
 * one list up to the original length and of another for longer rows, and scales too. All in double.                  */
#include "unlearn/shape_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double THETA_LEAST = 1e-3, THETA_MOST = 1e15, FACTOR_LEAST = 1e-6, FACTOR_MOST = 1e6;
static const size_t POSITIONS_MOST = (size_t)1 << 31;

struct rope {
    const char *type;
    double theta, fraction, factor, low, high, scale;
    bool whole_ramp;                /* yarn: the ends of its ramp are rounded outwards to whole pairs */
    size_t original;                /* positions that the model was first trained on */
    const json_t *shorter, *longer; /* longrope: the factors of each pair, for rows up to `original` tokens and beyond */
};

static bool is_empty(const json_t *object) { return json_is_object(object) && !json_object_size(object); }

/* Parameters for each kind of layer. In a family whose layers all rotate alike the keys beside them count, as in
 * transformers. Where its configuration knows kinds of layers and has no such keys, the entry of its only kind does. */
static void by_layer(const char *where, const char *name, const struct architecture *row, const json_t **scaling)
{
    const json_t *full = json_object_get(*scaling, "full_attention"), *member;
    const char *key;
    if (row->window == WINDOW_ASKED && json_is_map(full) && json_object_size(*scaling) == 1) {
        *scaling = full;
        return;
    }
    json_object_foreach((json_t *)*scaling, key, member)
    {
        if (!json_is_map(member)) continue;
        log_warn("%s: %s: %s: is not read: the layers of this family rotate alike, by the keys beside it", where, name,
                 key);
        break;
    }
}

/* Of two numbers for the same thing the one in the object of scaling parameters counts. */
static void warn_other(const char *where, const json_t *config, const json_t *scaling, const char *outer,
                       const char *inner)
{
    const json_t *a = key_find(config, outer), *b = key_find(scaling, inner);
    if (json_is_number(a) && json_is_number(b) && json_number_value(a) != json_number_value(b))
        log_warn("%s: %s is %g, but %g among the parameters of the rotation, which is used", where, outer,
                 json_number_value(a), json_number_value(b));
}

/* Finds the object of scaling parameters, in either style; NULL: none. An empty one is as absent, as in transformers. */
static enum status scaling_find(const char *where, const json_t *config, const struct architecture *row,
                                const json_t **out)
{
    const json_t *scaling = key_find(config, "rope_scaling"), *parameters = key_find(config, "rope_parameters");
    const bool old = scaling && !is_empty(scaling);
    const char *name = old || !parameters ? "rope_scaling" : "rope_parameters";
    *out = old || !parameters ? scaling : parameters;
    if (!*out) return OK;
    if (!json_is_map(*out)) return key_wrong(where, name, *out, "an object");
    if (old && parameters && !is_empty(parameters) && !json_equal(scaling, parameters))
        log_warn("%s: rope_scaling and rope_parameters differ: rope_scaling is used", where);
    by_layer(where, name, row, out);
    return OK;
}

static enum status need(const char *where, const struct rope *r, const json_t *scaling, const char *key, double *out)
{
    if (!key_find(scaling, key))
        return fail(ERR_INPUT, "%s: %s: is missing; rotary scaling \"%s\" needs it", where, key, r->type);
    return key_number(where, scaling, key, FACTOR_LEAST, FACTOR_MOST, out);
}

/* The number of positions beside the parameters counts before the one among them. Where each kind of block has parameters
 * of its own, only those count, and max_position_embeddings where they have none, as in transformers. */
static enum status original_read(const char *where, const json_t *config, const json_t *scaling, const struct shape *s,
                                 struct rope *r)
{
    enum status st = OK;
    const char *at = "original_max_position_embeddings";
    const bool beside = !s->row->local_theta_key;
    const json_t *own = key_find(config, at), *other = key_find(scaling, at);
    if (beside && json_is_integer(own) && json_is_integer(other) && !json_equal(own, other))
        log_warn("%s: %s is %lld, which is used, but %lld among the parameters of the rotation", where, at,
                 (long long)json_integer_value(own), (long long)json_integer_value(other));
    TRY(key_size(where, scaling, at, 1, POSITIONS_MOST, &r->original));
    if (beside) TRY(key_size(where, config, at, 1, POSITIONS_MOST, &r->original));
    if (!beside && json_is_integer(own) && json_integer_value(own) != (json_int_t)r->original)
        log_warn("%s: %s is %lld, but %zu is used: %s reads it among the parameters of the rotation", where, at,
                 (long long)json_integer_value(own), r->original, s->model_type);
done:
    return st;
}

static double yarn_scale(double factor, double by) { return factor <= 1 ? 1 : 0.1 * by * log(factor) + 1; }

/* Reads yarn's numbers; one that is null or 0 counts as absent. truncate: null is false, as in transformers. */
static enum status yarn_read(const char *where, const json_t *config, const json_t *scaling, const struct shape *s,
                             struct rope *r)
{
    enum status st = OK;
    double scale = 0, all = 0;
    r->high = 32, r->low = 1;
    r->whole_ramp = true;
    TRY(key_number(where, scaling, "mscale", 0, FACTOR_MOST, &scale));
    TRY(key_number(where, scaling, "mscale_all_dim", 0, FACTOR_MOST, &all));
    r->scale =
        scale > 0 && all > 0 ? yarn_scale(r->factor, scale) / yarn_scale(r->factor, all) : yarn_scale(r->factor, 1);
    TRY(key_number(where, scaling, "attention_factor", FACTOR_LEAST, FACTOR_MOST, &r->scale));
    TRY(key_number(where, scaling, "beta_fast", 0, FACTOR_MOST, &r->high));
    TRY(key_number(where, scaling, "beta_slow", 0, FACTOR_MOST, &r->low));
    if (r->high == 0) r->high = 32;
    if (r->low == 0) r->low = 1;
    TRY(key_flag(where, scaling, "truncate", &r->whole_ramp));
    if (json_is_null(json_object_get(scaling, "truncate"))) r->whole_ramp = false;
    TRY(original_read(where, config, scaling, s, r));
    if (!(r->theta > 1)) st = fail(ERR_INPUT, "%s: rope_theta: %g is not above 1; yarn needs it", where, r->theta);
done:
    return st;
}

/* One list of longrope's factors. */
static enum status factors_read(const char *where, const json_t *scaling, const char *key, const json_t **out)
{
    const json_t *factor;
    size_t k;
    if (!(*out = key_find(scaling, key)))
        return fail(ERR_INPUT, "%s: %s: is missing; rotary scaling \"longrope\" needs it", where, key);
    if (!json_is_array(*out)) return key_wrong(where, key, *out, "a list of numbers");
    json_array_foreach(*out, k, factor) if (!json_is_number(factor) || !(json_number_value(factor) >= FACTOR_LEAST) ||
                                            json_number_value(factor) > FACTOR_MOST) return key_wrong(where, key, factor,
                                                                                                      "a number above 0");
    return OK;
}

/* Reads longrope's numbers. The length that decides between the lists stands beside rope_scaling, not in it, in families
 * that have a default for it. */
static enum status long_read(const char *where, const json_t *config, const json_t *scaling, struct shape *s,
                             struct rope *r)
{
    enum status st = OK;
    double factor;
    if (s->row->original) r->original = s->row->original;
    TRY(original_read(where, config, s->row->original ? config : scaling, s, r));
    if (r->original < 2) return fail(ERR_INPUT, "%s: original_max_position_embeddings: longrope needs 2 or more", where);
    factor = (double)s->positions / (double)r->original;
    TRY(key_number(where, scaling, "factor", FACTOR_LEAST, FACTOR_MOST, &factor));
    r->scale = factor <= 1 ? 1 : sqrt(1 + log(factor) / log((double)r->original));
    TRY(key_number(where, scaling, "attention_factor", FACTOR_LEAST, FACTOR_MOST, &r->scale));
    TRY(factors_read(where, scaling, "short_factor", &r->shorter));
    TRY(factors_read(where, scaling, "long_factor", &r->longer));
    s->long_from = r->original;
done:
    return st;
}

static enum status llama3_read(const char *where, const json_t *config, const json_t *scaling, const struct shape *s,
                               struct rope *r)
{
    enum status st = OK;
    TRY(need(where, r, scaling, "low_freq_factor", &r->low));
    TRY(need(where, r, scaling, "high_freq_factor", &r->high));
    if (!(r->high > r->low))
        return fail(ERR_INPUT, "%s: high_freq_factor: %g is not above low_freq_factor %g", where, r->high, r->low);
    TRY(original_read(where, config, scaling, s, r));
done:
    return st;
}

static enum status scaling_read(const char *where, const json_t *config, const json_t *scaling, struct shape *s,
                                struct rope *r)
{
    enum status st = OK;
    const char *older;
    if (!scaling) return OK;
    TRY(key_text(where, scaling, "type", &r->type));
    older = r->type;
    TRY(key_text(where, scaling, "rope_type", &r->type));
    if (key_find(scaling, "type") && strcmp(older, r->type) != 0)
        log_warn("%s: type is %.40s, but rope_type %.40s, which is used", where, older, r->type);
    TRY(key_number(where, scaling, "rope_theta", THETA_LEAST, THETA_MOST, &r->theta));
    TRY(key_number(where, scaling, "partial_rotary_factor", 0, 1, &r->fraction));
    if (s->row->original && (!strcmp(r->type, "su") || !strcmp(r->type, "yarn"))) r->type = "longrope"; /* older names */
    if (!strcmp(r->type, "default")) return OK;
    if (!strcmp(r->type, "longrope") && !s->row->local_theta_key) return long_read(where, config, scaling, s, r);
    if (s->row->original)
        return fail(ERR_INPUT, "%s: rotary scaling \"%.40s\" does not go with %s; default and longrope do", where,
                    r->type, s->model_type);
    if (strcmp(r->type, "linear") != 0 && strcmp(r->type, "llama3") != 0 && strcmp(r->type, "yarn") != 0)
        return fail(ERR_INPUT,
                    "%s: rotary scaling \"%.40s\" is not built; default, linear, llama3, yarn and longrope are", where,
                    r->type);
    TRY(need(where, r, scaling, "factor", &r->factor));
    if (!strcmp(r->type, "yarn")) TRY(yarn_read(where, config, scaling, s, r));
    if (!strcmp(r->type, "llama3")) TRY(llama3_read(where, config, scaling, s, r));
done:
    return st;
}

/* The index, as a real number, of the pair that makes `turns` turns over the original length. */
static double pair_of_turns(const struct rope *r, size_t dim, double turns)
{
    return (double)dim * log((double)r->original / (turns * 2 * M_PI)) / (2 * log(r->theta));
}

/* Pairs below `low` keep their frequency, pairs above `high` have it divided by the factor. */
static double yarn(const struct rope *r, size_t dim, size_t k, double f)
{
    double low = pair_of_turns(r, dim, r->high), high = pair_of_turns(r, dim, r->low), slowed;
    if (r->whole_ramp) low = floor(low), high = ceil(high);
    low = fmax(low, 0), high = fmin(high, (double)dim - 1);
    if (low == high) high += 0.001;
    slowed = fmin(fmax(((double)k - low) / (high - low), 0), 1);
    return f / r->factor * slowed + f * (1 - slowed);
}

/* factors: longrope's list. */
static double frequency(const struct rope *r, const json_t *factors, size_t dim, size_t k)
{
    double f = 1.0 / pow(r->theta, (double)(2 * k) / (double)dim), turns, smooth;
    if (factors) return f / json_number_value(json_array_get(factors, k));
    if (!strcmp(r->type, "default")) return f;
    if (!strcmp(r->type, "linear")) return f / r->factor;
    if (!strcmp(r->type, "yarn")) return yarn(r, dim, k, f);
    turns = (double)r->original / (2 * M_PI / f); /* that this pair makes over the original length */
    if (turns < r->low) return f / r->factor;
    if (turns > r->high) return f;
    smooth = (turns - r->low) / (r->high - r->low);
    return (1 - smooth) * f / r->factor + smooth * f;
}

static enum status frequencies(const char *where, const struct rope *r, const json_t *factors, const struct shape *s,
                               double **out)
{
    enum status st = OK;
    const size_t n = s->rotary_dim / 2;
    if (factors && json_array_size(factors) != n)
        return fail(ERR_INPUT, "%s: %s: has %zu factors for the %zu pairs that rotate", where,
                    factors == r->shorter ? "short_factor" : "long_factor", json_array_size(factors), n);
    TRY_NEW(*out, n);
    for (size_t k = 0; k < n; k++) (*out)[k] = frequency(r, factors, s->rotary_dim, k);
done:
    return st;
}

/* ------------------------------------------------------------------------------------------- two kinds of blocks ----- */
/* What rope_parameters says of one type of layer, and rope_scaling over it; owned by the caller. */
static enum status of_type(const char *where, const json_t *config, const char *type, const char *over, json_t **out)
{
    const json_t *all = key_find(config, "rope_parameters"), *one, *scaling = over ? key_find(config, over) : NULL;
    enum status st = OK;
    *out = json_object();
    if (all && !json_is_map(all)) return key_wrong(where, "rope_parameters", all, "an object");
    if ((one = all ? key_find(all, type) : NULL) && !json_is_map(one)) return key_wrong(where, type, one, "an object");
    if (scaling && !json_is_map(scaling)) return key_wrong(where, over, scaling, "an object");
    if (!*out || (one && json_object_update(*out, (json_t *)one)) ||
        (scaling && json_object_update(*out, (json_t *)scaling)))
        st = fail(ERR_MEMORY, "memory: cannot allocate the rotary parameters of %s", type);
    return st;
}

/* Frequencies of blocks that see all keys, and others of blocks with a window, each with their own base and scaling. */
static enum status read_both(const char *where, const json_t *config, struct shape *s, struct rope r)
{
    enum status st = OK;
    struct rope local = r;
    json_t *full = NULL, *sliding = NULL;
    local.theta = s->row->local_theta;
    TRY(key_number(where, config, s->row->local_theta_key, THETA_LEAST, THETA_MOST, &local.theta));
    TRY(of_type(where, config, "full_attention", "rope_scaling", &full));
    TRY(of_type(where, config, "sliding_attention", NULL, &sliding));
    warn_other(where, config, full, s->row->theta_key, "rope_theta");
    warn_other(where, config, sliding, s->row->local_theta_key, "rope_theta");
    TRY(scaling_read(where, config, full, s, &r));
    TRY(scaling_read(where, config, sliding, s, &local));
    if (r.fraction != 1 || local.fraction != 1) {
        st = fail(ERR_INPUT, "%s: partial_rotary_factor: does not go with %s", where, s->model_type);
        goto done;
    }
    s->rotary_scale = r.scale, s->other_scale = local.scale;
    TRY(frequencies(where, &r, NULL, s, &s->frequency));
    TRY(frequencies(where, &local, NULL, s, &s->other_frequency));
done:
    json_decref(full), json_decref(sliding);
    return st;
}

static enum status read_one(const char *where, const json_t *config, struct shape *s, struct rope r)
{
    enum status st = OK;
    const json_t *scaling = NULL;
    TRY(scaling_find(where, config, s->row, &scaling));
    warn_other(where, config, scaling, s->row->theta_key, "rope_theta");
    warn_other(where, config, scaling, s->row->fraction_key ? s->row->fraction_key : "partial_rotary_factor",
               "partial_rotary_factor");
    TRY(scaling_read(where, config, scaling, s, &r));
    if (!s->row->fraction_key && r.fraction != 1)
        return fail(ERR_INPUT, "%s: partial_rotary_factor: %g does not go with %s", where, r.fraction, s->model_type);
    s->rotary_dim = (size_t)((double)s->head_dim * r.fraction);
    s->rotary_scale = r.scale;
    TRY(frequencies(where, &r, r.shorter, s, &s->frequency));
    if (!s->long_from) return OK;
    s->other_scale = r.scale;
    TRY(frequencies(where, &r, r.longer, s, &s->other_frequency));
done:
    return st;
}

enum status rope_read(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    const struct architecture *row = s->row;
    struct rope r = {.type = "default",
                     .theta = row->theta > 0 ? row->theta : 10000,
                     .fraction = 1,
                     .scale = 1,
                     .original = s->positions};

    s->rotary_scale = 1;
    if (s->learned_positions) return OK;
    if (!row->fraction_key) TRY(key_number(where, config, "partial_rotary_factor", 0, 1, &r.fraction));
    if (row->fraction_key) {
        r.fraction = row->fraction;
        TRY(key_number(where, config, row->fraction_key, 0, 1, &r.fraction));
    }
    TRY(key_number(where, config, row->theta_key, THETA_LEAST, THETA_MOST, &r.theta));
    s->rotary_dim = s->head_dim;
    TRY(row->local_theta_key ? read_both(where, config, s, r) : read_one(where, config, s, r));
    if (s->rotary_dim % 2 || !s->rotary_dim)
        return fail(ERR_INPUT, "%s: %zu of the %zu entries of a head would rotate; an even number can", where,
                    s->rotary_dim, s->head_dim);
done:
    return st;
}
