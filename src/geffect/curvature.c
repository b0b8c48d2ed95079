/* Products of Hessians and directions: the gradient's derivative along a direction of the weights, by a forward, its tangents
 * and one backward of two stacked deltas (forward over reverse). No Hessian is formed. What is particular to an objective is
 * how its derivative by logits or hidden states moves:
 *      tokens, pairs    dz = c (p - onehot)         dz' = c' (p - onehot) + c p (z' - lse'),  c' along nll'
 *      distributions    dz = c (p - q), q constant  dz' = c p (z' - lse')
 *      hidden states    dh = c 2/d (h - s y)        dh' = c 2/d h'
 * Weights of tokens and sequences, constants in the gradient, move with the weights: this is the derivative of the
 * gradient that a step follows, symmetric only where the gradient is that of a function. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <math.h>

/* dlogits [1] from the coefficients room->coef and their tangents (NULL: constant). Rows without a label count where the
 * loss is one of distributions: they have no label to subtract, but their softmax moves. */
static void logits_tangent(struct engine *e, const struct batch *b, const double *tcoef)
{
    const struct layout *l = e->layout;
    struct model *m = e->model;
    const struct logits_tangents t = {model_tangent_logits(m), model_tangent_lse(m), tcoef};
    logits_backward_tangent(b->n_out, l->word_count, l->word_first, model_logits(m), model_lse(m), b->out_id,
                            e->room->coef, &t, model_dlogits(m) + b->n_out * l->word_count);
}

enum status engine_hvp(struct engine *e, const struct rows *r, const double *weight, struct state *direction,
                       struct state *product)
{
    struct engine_room *room = e->room;
    struct gradient_sink context = {.gradient = product};
    const struct sink sink = sink_gradient(&context);
    struct objective nll;
    enum status st = OK, now;
    objective_find("nll", &nll);
    assert(room->most.tangents);
    passes_cut(e, r, OUTPUTS_LABELLED);
    for (size_t p = 0; p < room->n_pass; p++) {
        struct batch b;
        pass_pack(e, r, p, OUTPUTS_LABELLED, &b);
        if ((now = pass_forward(e, 1, &nll, r, p, &b)) > st) st = now;
        pass_losses(e, 1, &nll, r, p, &b, weight, NULL, NULL);
        model_tangents(e->model, e->weights, &b, 1, &direction, room->tangent, 0, NULL);
        logits_tangent(e, &b, NULL);
        if ((now = model_backward_tangent(e->model, e->weights, &b, direction, &sink)) > st) st = now;
    }
    return grid_agree(e->grid, st);
}
