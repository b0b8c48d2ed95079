/* Rotary frequencies: position t turns pair k of a head by the angle t f[k], f[k] = theta^(-2k/dim), k < dim/2 (Su et al.
 * 2021), optionally scaled for longer texts: linear divides by a factor; llama3 divides long waves by it, leaves short ones
 * and mixes between. Always in double.                                                                               */
#include "unlearn/model_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double THETA_LEAST = 1e-3, THETA_MOST = 1e15, FACTOR_LEAST = 1e-6, FACTOR_MOST = 1e6;
static const size_t POSITIONS_MOST = (size_t)1 << 31;

struct rope {
    const char *type;
    double theta, fraction, factor, low, high;
    size_t original; /* positions that the model was first trained on */
};

/* The object of scaling parameters of either style; NULL: none. */
static enum status scaling_find(const char *where, const json_t *config, const json_t **out)
{
    const char *name = key_find(config, "rope_scaling") ? "rope_scaling" : "rope_parameters";
    const json_t *scaling = *out = key_find(config, name), *member;
    const char *key;
    if (!scaling) return OK;
    if (!json_is_object(scaling)) return fail(ERR_INPUT, "%s: %s: is not an object", where, name);
    json_object_foreach((json_t *)scaling, key, member) if (json_is_object(member)) return fail(
        ERR_INPUT, "%s: %s: %s: frequencies that differ by layer are not built", where, name, key);
    return OK;
}

static enum status need(const char *where, const struct rope *r, const json_t *scaling, const char *key, double *out)
{
    if (!key_find(scaling, key))
        return fail(ERR_INPUT, "%s: %s: is missing; rotary scaling \"%s\" needs it", where, key, r->type);
    return key_number(where, scaling, key, FACTOR_LEAST, FACTOR_MOST, out);
}

static enum status scaling_read(const char *where, const json_t *config, const json_t *scaling, struct rope *r)
{
    enum status st = OK;
    const char *at = "original_max_position_embeddings";
    if (!scaling) return OK;
    TRY(key_text(where, scaling, "type", &r->type));
    TRY(key_text(where, scaling, "rope_type", &r->type));
    TRY(key_number(where, scaling, "rope_theta", THETA_LEAST, THETA_MOST, &r->theta));
    TRY(key_number(where, scaling, "partial_rotary_factor", 0, 1, &r->fraction));
    if (!strcmp(r->type, "default")) return OK;
    if (strcmp(r->type, "linear") != 0 && strcmp(r->type, "llama3") != 0)
        return fail(ERR_INPUT, "%s: rotary scaling \"%s\" is not built; default, linear and llama3 are", where, r->type);
    TRY(need(where, r, scaling, "factor", &r->factor));
    if (!strcmp(r->type, "linear")) return OK;
    TRY(need(where, r, scaling, "low_freq_factor", &r->low));
    TRY(need(where, r, scaling, "high_freq_factor", &r->high));
    if (!(r->high > r->low))
        return fail(ERR_INPUT, "%s: high_freq_factor: %g is not above low_freq_factor %g", where, r->high, r->low);
    TRY(key_size(where, scaling, at, 1, POSITIONS_MOST, &r->original));
    TRY(key_size(where, config, at, 1, POSITIONS_MOST, &r->original));
done:
    return st;
}

static double frequency(const struct rope *r, size_t dim, size_t k)
{
    double f = 1.0 / pow(r->theta, (double)(2 * k) / (double)dim), turns, smooth;
    if (!strcmp(r->type, "default")) return f;
    if (!strcmp(r->type, "linear")) return f / r->factor;
    turns = (double)r->original / (2 * M_PI / f); /* of this pair over the original length */
    if (turns < r->low) return f / r->factor;
    if (turns > r->high) return f;
    smooth = (turns - r->low) / (r->high - r->low);
    return (1 - smooth) * f / r->factor + smooth * f;
}

enum status rope_read(const char *where, const json_t *config, struct shape *s)
{
    enum status st = OK;
    const struct architecture *row = s->row;
    const json_t *scaling = NULL;
    struct rope r = {.type = "default", .theta = 10000, .fraction = 1, .original = s->positions};

    if (row->fraction_key) {
        r.fraction = row->fraction;
        TRY(key_number(where, config, row->fraction_key, 0, 1, &r.fraction));
    }
    TRY(key_number(where, config, row->theta_key, THETA_LEAST, THETA_MOST, &r.theta));
    TRY(scaling_find(where, config, &scaling));
    TRY(scaling_read(where, config, scaling, &r));
    if (!row->fraction_key && r.fraction != 1)
        return fail(ERR_INPUT, "%s: partial_rotary_factor: %g does not go with %s", where, r.fraction, s->model_type);
    s->rotary_dim = (size_t)((double)s->head_dim * r.fraction);
    if (s->rotary_dim % 2 || !s->rotary_dim)
        return fail(ERR_INPUT, "%s: %zu of the %zu entries of a head would rotate; an even number can", where,
                    s->rotary_dim, s->head_dim);
    TRY_NEW(s->frequency, s->rotary_dim / 2);
    for (size_t k = 0; k < s->rotary_dim / 2; k++) s->frequency[k] = frequency(&r, s->rotary_dim, k);
done:
    return st;
}
