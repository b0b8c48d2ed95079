/* Tangents, along a direction of the weights, of the losses' derivatives by the logits or a hidden state: what
 * model_backward_tangent() starts from. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <math.h>

/* --------------------------------------------------------------- of coefficients that come from likelihoods ------- */
static void token_tangents(const struct pass *p)
{
    struct engine_room *room = p->e->room;
    const struct batch *b = p->b;
    const double *nll = model_nll(p->e->model), *tnll = room->tangent;
    for (size_t i = 0; i < b->n_seq; i++) {
        const size_t item = pass_item(p, i), at = b->out_first[i], end = b->out_first[i + 1];
        const double *ref = p->r->nll_ref ? p->r->nll_ref + p->r->label_first[p->r->row[item]] : NULL;
        const double w = p->weight ? p->weight[item] : 1;
        size_t n = end - at;
        for (; n && end - at - n < p->r->drop; n--) room->tcoef[at + n - 1] = 0;
        objective_token_tangent(p->o, n, nll + at, ref, tnll + at, room->tcoef + at);
        for (size_t t = 0; t < n; t++) room->tcoef[at + t] *= w;
    }
}

static double sum_of(const struct pass *p, size_t i, const double *x)
{
    double sum = 0;
    for (size_t k = p->b->out_first[i]; k < p->b->out_first[i + 1]; k++) sum += x[k];
    return sum;
}

static void pair_tangents(const struct pass *p)
{
    struct engine_room *room = p->e->room;
    const size_t *first = p->b->out_first;
    for (size_t i = 0; i < p->b->n_seq; i += 2) {
        const double w = p->weight ? p->weight[pass_item(p, i)] : 1;
        double twin, tlose;
        objective_pair_tangent(p->o, pass_risen(p, i + 1), pass_risen(p, i), sum_of(p, i + 1, room->tangent),
                               sum_of(p, i, room->tangent), &twin, &tlose);
        for (size_t k = first[i]; k < first[i + 1]; k++) room->tcoef[k] = w * tlose;
        for (size_t k = first[i + 1]; k < first[i + 2]; k++) room->tcoef[k] = w * twin;
    }
}

/* The derivative is linear in the hidden state: that of a target 0 at its tangent. */
static void hidden_tangents(const struct pass *p)
{
    const size_t d = p->e->layout->shape->hidden, layer = objective_hidden(p->o).layer;
    struct model *m = p->e->model;
    real *x = model_dhidden(m, p->b, 1, layer);
    model_hidden_tangent(m, p->b, layer, x);
    rows_toward(p->b->n_out, d, x, 0, x, d, pass_coef(p, 0), p->e->room->tcoef, x);
}

/* ------------------------------------------------------------------------------------------- of a slab ------- */
/* Of logits_backward(): tcoef [n] of the slab, NULL: the coefficients stay; id as the labels. */
static void to_logits(const struct pass *p, const struct slab *s, const int32_t *id, const double *tcoef, real *tdlogits)
{
    const struct model *m = p->e->model;
    const struct layout *l = p->e->layout;
    const struct logits_tangents t = {s->tangents, model_tangent_lse(m) + s->first, tcoef};
    logits_backward_tangent(s->n, l->word_count, l->word_first, s->logits, model_lse(m) + s->first, id,
                            pass_coef(p, 0) + s->first, &t, tdlogits);
}

/* The model's softmax moves at every output, labelled or not; so does a target that is its own, whose lse room->lse still has:
 * it is one without the label. */
static void distribution_slab(const struct pass *p, const struct slab *s, real *tdlogits)
{
    const struct distribution_target q = objective_target(p->o);
    const struct layout *l = p->e->layout;
    const int32_t *label = p->b->out_id + s->first;
    struct engine_room *room = p->e->room;
    double *mean = room->dnll;
    for (size_t k = 0; k < s->n; k++) room->id[k] = 0;
    to_logits(p, s, room->id, NULL, tdlogits);
    if (!q.own) return;
    assert(isinf(q.shift));
    logits_mean_without(s->n, l->word_count, l->word_first, s->logits, room->lse, label, s->tangents, mean);
    if (p->e->grid->tensor_size > 1) comm_sum_double(p->e->grid->tensor, mean, s->n);
    logits_tangent_without(s->n, l->word_count, l->word_first, s->logits, room->lse, label, pass_coef(p, 0) + s->first,
                           s->tangents, mean, tdlogits);
}

/* room->best has the peaks of the slab; a slice has the tangent of the largest logit where it has that. */
static void peak_slab(const struct pass *p, const struct slab *s, real *tdlogits)
{
    const struct layout *l = p->e->layout;
    struct engine_room *room = p->e->room;
    const double vocabulary = (double)l->shape->vocabulary, *coef = pass_coef(p, 0) + s->first;
    double *largest = room->dnll, *total = room->lse;
    for (size_t k = 0; k < s->n; k++) room->id[k] = (int32_t)room->best[k][1];
    logits_pick(s->n, l->word_count, l->word_first, s->tangents, room->id, largest);
    logits_total(s->n, l->word_count, s->tangents, total);
    if (p->e->grid->tensor_size > 1) {
        comm_sum_double(p->e->grid->tensor, largest, s->n);
        comm_sum_double(p->e->grid->tensor, total, s->n);
    }
    for (size_t k = 0; k < s->n; k++)
        largest[k] = coef[k] * objective_peak_tangent(p->o, largest[k], total[k] / vocabulary);
    logits_peak_backward(s->n, l->word_count, l->word_first, room->id, largest, vocabulary, tdlogits);
}

/* The derivatives of the loss, as loss 0, and their tangents, as loss 1. */
static void both(const void *context, const struct slab *s)
{
    const struct pass *p = context;
    const enum loss_kind kind = objective_kind(p->o);
    real *tdlogits = s->dlogits + s->n * p->e->layout->word_count;
    enum phase before;
    pass_slab(context, s);
    before = phase_enter(PHASE_LOSS);
    if (kind == LOSS_OF_TOKENS || kind == LOSS_OF_PAIRS)
        to_logits(p, s, p->b->out_id + s->first, p->e->room->tcoef + s->first, tdlogits);
    if (kind == LOSS_OF_DISTRIBUTIONS) distribution_slab(p, s, tdlogits);
    if (kind == LOSS_OF_PEAKS) peak_slab(p, s, tdlogits);
    phase_enter(before);
}

enum status pass_backward_tangent(const struct pass *p, struct state *direction, const struct sink *sink)
{
    const struct slabs losses = pass_slabs(p, both);
    const enum loss_kind kind = objective_kind(p->o);
    const bool hidden = kind == LOSS_OF_HIDDEN;
    struct engine *e = p->e;
    enum status st = pass_forward(p), now;
    enum phase before;
    assert(p->J == 1);
    pass_losses(p);
    model_tangents(e->model, e->weights, p->b, 1, &direction, hidden ? NULL : e->room->tangent, hidden, NULL,
                   e->room->along);
    before = phase_enter(PHASE_LOSS);
    if (kind == LOSS_OF_TOKENS) token_tangents(p);
    if (kind == LOSS_OF_PAIRS) pair_tangents(p);
    if (hidden) hidden_tangents(p);
    phase_enter(before);
    now = model_backward_tangent(e->model, e->weights, p->b, direction, &losses, sink);
    return st > now ? st : now;
}
