/* Derivatives of tokens and losses along directions: one forward and its tangents for every pass, no backward. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <math.h>
#include <string.h>

/* Adds the derivatives of J losses of pass p, both sequences of a pair, to along [J][K][r->n]. */
static void add(const struct engine *e, const struct rows *r, size_t p, const struct batch *b, size_t JK, double *along)
{
    const size_t *item = e->room->mine + e->room->start[p];
    for (size_t jk = 0; jk < JK; jk++)
        for (size_t i = 0; i < b->n_seq; i++) along[jk * r->n + item[i]] += e->room->along[jk * b->n_seq + i];
}

enum status engine_tokens(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t K,
                          struct state *const *direction, double *token, double *nll, double *along)
{
    struct engine_room *room = e->room;
    const enum outputs which = J ? objective_outputs(o) : OUTPUTS_LABELLED;
    const size_t labels = token ? r->label_first[r->data->n_row] : 0;
    enum status st = OK, now;
    assert(K <= room->most.tangents && J <= room->most.objectives && (!token || (which == OUTPUTS_LABELLED && !r->pair)));
    if (token) memset(token, 0, K * labels * sizeof *token);
    if (token && nll) memset(nll, 0, labels * sizeof *nll);
    memset(along, 0, J * K * r->n * sizeof *along);
    passes_cut(e, r, which);
    for (size_t p = 0; p < room->n_pass; p++) {
        struct batch b;
        const struct pass pass = {.e = e, .r = r, .p = p, .b = &b, .J = J, .o = o};
        const struct slabs losses = pass_slabs(&pass, pass_slab);
        pass_pack(e, r, p, which, &b);
        if ((now = pass_forward(&pass)) > st) st = now;
        pass_losses(&pass);
        model_tangents(e->model, e->weights, &b, K, direction, token ? room->tangent : NULL, J, &losses, room->along);
        add(e, r, p, &b, J * K, along);
        for (size_t k = 0; k < K && token; k++) pass_give(e, r, p, &b, room->tangent + k * b.n_out, token + k * labels);
        if (token && nll) pass_give(e, r, p, &b, model_nll(e->model), nll);
    }
    comm_sum_double(e->grid->world, along, J * K * r->n);
    if (token) comm_sum_double(e->grid->data, token, K * labels);
    if (token && nll) comm_sum_double(e->grid->data, nll, labels);
    return grid_agree(e->grid, st);
}
