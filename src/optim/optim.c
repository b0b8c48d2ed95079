/* AdamW (Loshchilov & Hutter 2019; defaults and decay as torch.optim.AdamW) and SGD, of the part of a state
 * that a process has. Which
 * parameters decay is as transformers' Trainer has it: neither norms nor biases, which are the vectors of every family; nor what no loss reaches, which has no gradient in PyTorch, not even a zero. */
#include "unlearn/optim_priv.h"
#include <math.h>
#include <stdlib.h>

enum status optim_new(const struct optim_settings *set, const struct layout *l, struct optim **out)
{
    enum status st = OK;
    struct optim *o = *out = NULL;
    TRY_NEW(o, 1);
    o->set = *set;
    if (set->kind == OPTIM_ADAMW) {
        TRY(state_new_moment("first moment", l, set->half, &o->m));
        TRY(state_new_moment("second moment", l, set->half, &o->v));
    }
    *out = o, o = NULL;
done:
    optim_free(o);
    return st;
}

void optim_free(struct optim *o)
{
    if (!o) return;
    state_free(o->m);
    state_free(o->v);
    free(o->decays);
    free(o);
}

enum status optim_decay_matrices(struct optim *o, const struct layout *l, size_t unreached)
{
    enum status st = OK;
    TRY_NEW(o->decays, l->n_param);
    for (size_t i = 0; i < l->n_param; i++)
        o->decays[i] = !l->param[i].vector && !(unreached && l->param[i].layer >= unreached);
done:
    return st;
}

double optim_rate(const struct optim_settings *set, size_t t)
{
    double left;
    if (t < set->warmup) return set->lr * (double)t / (double)set->warmup;
    if (set->schedule == LR_CONSTANT || set->steps <= set->warmup) return set->lr;
    left = (double)(set->steps - t) / (double)(set->steps - set->warmup);
    return set->schedule == LR_LINEAR ? set->lr * left : set->lr * 0.5 * (1 - cos(3.14159265358979323846 * left));
}

static double squares(size_t n, struct matrix x) { return x.full ? math_sum_squares(n, x.full) : held_dot(n, x, x); }

double optim_norm(const struct grid *g, const bool *frozen, const struct state *gradient)
{
    const struct layout *l = gradient->layout;
    double sum = 0;
    size_t first, count;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const struct matrix x = state_own(gradient, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
            if (frozen && frozen[i]) continue;
            param_part(l, &l->param[i], true, &first, &count);
            sum += squares(count, matrix_at(x, first));
        }
    }
    comm_sum_double(layout_sums(l, g), &sum, 1);
    return sqrt(sum);
}

double optim_scale(const struct optim_settings *set, double norm)
{
    return set->clip > 0 && norm > set->clip ? set->clip / norm : 1;
}

/* The update of this parameter. */
static struct adamw update_of(const struct optim *o, const struct adamw *a, size_t i)
{
    struct adamw own = *a;
    if (o->decays && !o->decays[i]) own.decay = 0;
    return own;
}

static struct matrix moment_at(const struct state *moment, size_t layer, size_t at)
{
    return moment ? matrix_at(state_own(moment, layer), at) : reals(NULL);
}

static struct values values_of(const struct optim *o, const struct state *gradient, const struct state *weights,
                               size_t layer, size_t at)
{
    return (struct values){matrix_at(state_own(gradient, layer), at), moment_at(o->m, layer, at),
                           moment_at(o->v, layer, at), state_own(weights, layer).full + at};
}

/* element: the number in the whole model of the layer's first, then of the next one's. */
static void update_layer(const struct optim *o, const struct adamw *a, double scale, size_t layer, uint64_t *element,
                         const struct state *gradient, const struct state *weights)
{
    const struct layout *l = weights->layout;
    const uint32_t key = update_key(o->set.seed, o->done);
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
        const struct param *p = &l->param[i];
        const struct adamw own = update_of(o, a, i);
        struct values of;
        size_t at, n;
        param_part(l, p, false, &at, &n);
        of = values_of(o, gradient, weights, layer, at);
        if (!o->set.frozen || !o->set.frozen[i]) update_values(&own, scale, p, at - p->offset, n, &of, key, *element);
        *element += (uint64_t)p->rows * p->cols;
    }
}

/* What the next update is, of a parameter that all of it concerns. */
static struct adamw next_update(const struct optim *o)
{
    const struct optim_settings *s = &o->set;
    return (struct adamw){.lr = optim_rate(s, o->done),
                          .beta1 = s->beta1,
                          .beta2 = s->beta2,
                          .eps = s->eps,
                          .decay = s->weight_decay,
                          .step = o->done + 1};
}

void optim_predict(const struct optim *o, const struct state *gradient, double norm, const struct state *weights,
                   const struct state *direction, double *dot)
{
    const struct layout *l = weights->layout;
    const struct adamw a = next_update(o);
    for (size_t i = 0; i < l->n_param; i++) {
        const size_t layer = l->param[i].layer;
        const struct adamw own = update_of(o, &a, i);
        struct values of;
        size_t at, n;
        dot[i] = 0;
        param_part(l, &l->param[i], true, &at, &n); /* every element moves by itself */
        if ((o->set.frozen && o->set.frozen[i]) || !n) continue;
        of = values_of(o, gradient, weights, layer, at);
        dot[i] = predict_values(&own, optim_scale(&o->set, norm), n, &of, matrix_at(state_own(direction, layer), at));
    }
}

void optim_update(struct optim *o, struct state *gradient, double norm, struct state *weights)
{
    enum phase before = phase_enter(PHASE_OPTIMISER);
    const double scale = optim_scale(&o->set, norm);
    const struct adamw a = next_update(o);
    const struct layout *l = weights->layout;
    uint64_t element = 0;
    size_t sent = 0;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        update_layer(o, &a, scale, layer, &element, gradient, weights);
        sent = state_gather_begin(weights, layer);
    }
    o->done++;
    state_gather_end(weights, sent);
    phase_enter(before);
}
