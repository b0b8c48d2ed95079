/* Losses of the sequences of one pass, and their derivatives with respect to the logits. */
#include "unlearn/geffect_priv.h"
#include <math.h>

enum status pass_forward(struct engine *e, size_t J, const struct objective *o, const struct batch *b)
{
    bool distributions = false;
    enum status st = OK, now;
    for (size_t j = 0; j < J; j++) distributions = distributions || objective_needs(&o[j]) & NEEDS_DISTRIBUTION;
    if (distributions) {
        st = model_forward(e->model, e->reference, b);
        model_set_aside(e->model, b);
    }
    now = model_forward(e->model, e->weights, b);
    return st > now ? st : now;
}

/* Coefficients of the nll of every output, and the losses: objectives that see labelled tokens. */
static void token_losses(struct engine *e, const struct objective *o, const struct rows *r, size_t first,
                         const struct batch *b, const double *weight, double *loss, double *mean_weight)
{
    struct engine_room *room = e->room;
    const double *nll = model_nll(e->model);
    for (size_t i = 0; i < b->n_seq; i++) {
        size_t item = room->mine[first + i], at = b->out_first[i], n = b->out_first[i + 1] - at;
        const double *ref = r->nll_ref ? r->nll_ref + r->label_first[r->row[item]] : NULL;
        double w = weight ? weight[item] : 1, mean, l;
        l = objective_token(o, n, nll + at, ref, room->dnll, &mean);
        for (size_t t = 0; t < n; t++) room->coef[at + t] = w * room->dnll[t];
        if (loss) loss[item] = l;
        if (mean_weight) mean_weight[item] = mean;
    }
}

/* kl: every output counts alike within its sequence. */
static void divergence_losses(struct engine *e, size_t first, const struct batch *b, const double *weight, real *dlogits,
                              double *loss)
{
    struct engine_room *room = e->room;
    const struct grid *g = e->grid;
    for (size_t i = 0; i < b->n_seq; i++) {
        size_t item = room->mine[first + i], n = b->out_first[i + 1] - b->out_first[i];
        for (size_t k = b->out_first[i]; k < b->out_first[i + 1]; k++)
            room->coef[k] = (weight ? weight[item] : 1) / (double)n;
    }
    logits_divergence(b->n_out, e->layout->word_count, model_logits(e->model), model_lse(e->model),
                      model_aside_logits(e->model), model_aside_lse(e->model), room->coef, room->share, dlogits);
    if (g->tensor_size > 1) comm_sum_double(g->tensor, room->share, b->n_out);
    for (size_t i = 0; i < b->n_seq && loss; i++) {
        size_t n = b->out_first[i + 1] - b->out_first[i];
        double sum = 0;
        for (size_t k = b->out_first[i]; k < b->out_first[i + 1]; k++) sum += room->share[k];
        loss[room->mine[first + i]] = sum / (double)n;
    }
}

void pass_losses(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t p,
                 const struct batch *b, const double *weight, double *loss, double *mean_weight)
{
    const struct layout *l = e->layout;
    enum phase before = phase_enter(PHASE_LOSS);
    size_t first = e->room->start[p];
    for (size_t j = 0; j < J; j++) {
        real *dlogits = model_dlogits(e->model) + j * b->n_out * l->word_count;
        double *losses = loss ? loss + j * r->n : NULL;
        if (objective_is_divergence(&o[j])) {
            divergence_losses(e, first, b, weight, dlogits, losses);
            continue;
        }
        token_losses(e, &o[j], r, first, b, weight, losses, mean_weight ? mean_weight + j * r->n : NULL);
        logits_backward(b->n_out, l->word_count, l->word_first, model_logits(e->model), model_lse(e->model), b->out_id,
                        e->room->coef, dlogits);
    }
    phase_enter(before);
}
