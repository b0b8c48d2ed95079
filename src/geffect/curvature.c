/* Products of Hessians and directions: the gradient's derivative along a direction of the weights, by a forward, its tangents
 * and one backward of two stacked deltas (forward over reverse). No Hessian is formed.
 * Weights of tokens and sequences, constants in the gradient, move with the model's: this is the derivative of the gradient
 * that a step follows, and symmetric only where that gradient is that of a function. */
#include "unlearn/geffect_priv.h"
#include <assert.h>

enum status engine_hvp(struct engine *e, const struct objective *o, const struct rows *r, const double *weight,
                       struct state *direction, struct state *product)
{
    struct gradient_sink context = {.gradient = product};
    const struct sink sink = sink_gradient(&context);
    const enum outputs which = objective_outputs(o);
    enum status st = OK, now;
    assert(e->room->most.tangents);
    passes_cut(e, r, which);
    for (size_t p = 0; p < e->room->n_pass; p++) {
        struct batch b;
        const struct pass pass = {.e = e, .r = r, .p = p, .b = &b, .J = 1, .o = o, .weight = weight};
        if (p + 1 == e->room->n_pass) state_last_pass(product);
        pass_pack(e, r, p, which, &b);
        if ((now = pass_backward_tangent(&pass, direction, &sink)) > st) st = now;
        state_settle(product);
    }
    return grid_agree(e->grid, st);
}
