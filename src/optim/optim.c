/* AdamW (Loshchilov & Hutter 2019; defaults and decay as torch.optim.AdamW) and SGD, of the part of a state
 * that a process has. Which
 * parameters decay is as transformers' Trainer has it: neither norms nor biases, which are the vectors of every family; nor what no loss reaches, which has no gradient in PyTorch, not even a zero. */
#include "unlearn/optim.h"
#include <math.h>
#include <stdlib.h>

enum status optim_new(const struct optim_settings *set, const struct layout *l, struct optim **out)
{
    enum status st = OK;
    struct optim *o = *out = NULL;
    TRY_NEW(o, 1);
    o->set = *set;
    if (set->kind == OPTIM_ADAMW) {
        TRY(state_new_moment("first moment", l, &o->m));
        TRY(state_new_moment("second moment", l, &o->v));
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

double optim_norm(const struct grid *g, const bool *frozen, const struct state *gradient)
{
    const struct layout *l = gradient->layout;
    double sum = 0;
    size_t first, count;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const real *x = state_own(gradient, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
            if (frozen && frozen[i]) continue;
            param_part(l, &l->param[i], true, &first, &count);
            sum += math_sum_squares(count, x + first);
        }
    }
    comm_sum_double(layout_sums(l, g), &sum, 1);
    return sqrt(sum);
}

double optim_scale(const struct optim_settings *set, double norm)
{
    return set->clip > 0 && norm > set->clip ? set->clip / norm : 1;
}

/* m and v NULL: plain SGD */
static void update_param(const struct optim *o, const struct adamw *a, double scale, size_t i, size_t n, const real *g,
                         real *m, real *v, real *w)
{
    struct adamw own = *a;
    if (o->decays && !o->decays[i]) own.decay = 0;
    if (m)
        adamw_update(&own, n, g, scale, m, v, w);
    else
        sgd_update(own.lr, own.decay, n, g, scale, w);
}

static void update_layer(const struct optim *o, const struct adamw *a, double scale, size_t layer, struct state *gradient,
                         struct state *weights)
{
    const struct layout *l = weights->layout;
    real *w = state_own(weights, layer), *g = state_own(gradient, layer);
    real *m = o->m ? state_own(o->m, layer) : NULL, *v = o->v ? state_own(o->v, layer) : NULL;
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
        size_t at, n;
        if (o->set.frozen && o->set.frozen[i]) continue;
        param_part(l, &l->param[i], false, &at, &n);
        update_param(o, a, scale, i, n, g + at, m ? m + at : NULL, v ? v + at : NULL, w + at);
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

size_t optim_scratch(const struct layout *l)
{
    size_t most = 0;
    for (size_t i = 0; i < l->n_param; i++) {
        const size_t n = l->param[i].row_count * l->param[i].col_count;
        if (most < n) most = n;
    }
    return 3 * most;
}

/* The update is made in the scratch, by the code that makes it in earnest. */
void optim_predict(const struct optim *o, const struct state *gradient, double norm, const struct state *weights,
                   const struct state *direction, real *scratch, double *dot)
{
    const struct layout *l = weights->layout;
    const struct adamw a = next_update(o);
    for (size_t i = 0; i < l->n_param; i++) {
        const size_t layer = l->param[i].layer;
        const real *from = state_own(weights, layer);
        real *w = scratch, *m = NULL, *v = NULL;
        size_t at, n;
        dot[i] = 0;
        param_part(l, &l->param[i], true, &at, &n); /* every element moves by itself */
        if ((o->set.frozen && o->set.frozen[i]) || !n) continue;
        math_copy(n, from + at, w);
        if (o->m) m = w + n, math_copy(n, state_own(o->m, layer) + at, m);
        if (o->v) v = w + 2 * n, math_copy(n, state_own(o->v, layer) + at, v);
        update_param(o, &a, optim_scale(&o->set, norm), i, n, state_own(gradient, layer) + at, m, v, w);
        math_add_scaled(n, -1, from + at, w);
        dot[i] = math_dot(n, state_own(direction, layer) + at, w);
    }
}

void optim_update(struct optim *o, struct state *gradient, double norm, struct state *weights)
{
    enum phase before = phase_enter(PHASE_OPTIMISER);
    const double scale = optim_scale(&o->set, norm);
    const struct adamw a = next_update(o);
    size_t sent = 0;
    for (size_t layer = 0; layer < weights->layout->n_layer; layer++) {
        update_layer(o, &a, scale, layer, gradient, weights);
        sent = state_gather_begin(weights, layer);
    }
    o->done++;
    state_gather_end(weights, sent);
    phase_enter(before);
}
