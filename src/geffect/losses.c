/* Losses of the sequences of one pass, and their derivatives with respect to the logits or a hidden state. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <math.h>

/* The highest hidden state that is read, or 0 where some objective reads logits. */
static size_t top_layer(size_t J, const struct objective *o)
{
    size_t top = 0;
    for (size_t j = 0; j < J; j++) {
        if (objective_kind(&o[j]) != LOSS_OF_HIDDEN) return 0;
        if (objective_hidden(&o[j]).layer > top) top = objective_hidden(&o[j]).layer;
    }
    return top;
}

size_t objective_reference_layer(const struct objective *o)
{
    return objective_needs(o) & NEEDS_STATES ? objective_hidden(o).layer : 0;
}

/* reference_values() from kept values, without a forward of the reference. */
static void kept_values(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t p,
                        const struct batch *b)
{
    struct model *m = e->model;
    for (size_t j = 0; j < J; j++) {
        if (objective_needs(&o[j]) & NEEDS_DISTRIBUTION)
            kept_give(e, r->data, p, b, objective_outputs(&o[j]), 0, model_aside_logits(m), model_aside_lse(m));
        if (objective_needs(&o[j]) & NEEDS_STATES)
            kept_give(e, r->data, p, b, objective_outputs(&o[j]), objective_reference_layer(&o[j]),
                      model_aside_hidden(m, b, j), NULL);
    }
}

/* Puts the reference's values for this pass aside in the model: logits and their log-sum-exp, and the hidden state at
 * the output rows for every objective that compares with one. */
static enum status reference_values(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t p,
                                    const struct batch *b)
{
    unsigned needs = 0;
    enum status st;
    for (size_t j = 0; j < J; j++) needs |= objective_needs(&o[j]);
    if (!(needs & (NEEDS_DISTRIBUTION | NEEDS_STATES))) return OK;
    if (!e->reference) {
        kept_values(e, J, o, r, p, b);
        return OK;
    }
    st = pass_values(e, e->reference, r->data, p, b, needs & NEEDS_DISTRIBUTION ? 0 : top_layer(J, o));
    if (needs & NEEDS_DISTRIBUTION) model_set_aside(e->model, b);
    for (size_t j = 0; j < J; j++)
        if (objective_needs(&o[j]) & NEEDS_STATES)
            model_hidden(e->model, b, objective_hidden(&o[j]).layer, model_aside_hidden(e->model, b, j));
    return st;
}

enum status pass_forward(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t p,
                         const struct batch *b)
{
    enum status st = reference_values(e, J, o, r, p, b), now = pass_values(e, e->weights, r->data, p, b, top_layer(J, o));
    return st > now ? st : now;
}

struct pass { /* what the losses of one objective need; loss and mean_weight [list], may be NULL */
    struct engine *e;
    const struct objective *o;
    const struct rows *r;
    size_t j, first; /* sequence i of b is item room->mine[first + i] */
    const struct batch *b;
    const double *weight;
    double *loss, *mean_weight;
};

static void put(const struct pass *p, size_t item, double loss, double mean_weight)
{
    if (p->loss) p->loss[item] = loss;
    if (p->mean_weight) p->mean_weight[item] = mean_weight;
}

/* dlogits from room->coef, the derivative of the loss by the nll of every output. */
static void to_logits(const struct pass *p, real *dlogits)
{
    struct model *m = p->e->model;
    const struct layout *l = p->e->layout;
    logits_backward(p->b->n_out, l->word_count, l->word_first, model_logits(m), model_lse(m), p->b->out_id,
                    p->e->room->coef, dlogits);
}

static void token_losses(const struct pass *p, real *dlogits)
{
    struct engine_room *room = p->e->room;
    const struct batch *b = p->b;
    const double *nll = model_nll(p->e->model);
    for (size_t i = 0; i < b->n_seq; i++) {
        size_t item = room->mine[p->first + i], at = b->out_first[i], n = b->out_first[i + 1] - at;
        const double *ref = p->r->nll_ref ? p->r->nll_ref + p->r->label_first[p->r->row[item]] : NULL;
        double w = p->weight ? p->weight[item] : 1, mean, loss;
        for (; n && b->out_first[i + 1] - at - n < p->r->drop; n--) room->coef[at + n - 1] = 0;
        loss = objective_token(p->o, n, nll + at, ref, room->dnll, &mean);
        for (size_t t = 0; t < n; t++) room->coef[at + t] = w * room->dnll[t];
        put(p, item, loss, mean);
    }
    to_logits(p, dlogits);
}

/* S - S_o of sequence i: how far its summed nll has risen above the reference's. */
static double risen(const struct pass *p, size_t i)
{
    const size_t row = p->e->room->row[p->first + i], at = p->b->out_first[i], n = p->b->out_first[i + 1] - at;
    const double *nll = model_nll(p->e->model) + at, *ref = p->r->nll_ref + p->r->label_first[row];
    double sum = 0;
    for (size_t t = 0; t < n; t++) sum += nll[t] - ref[t];
    return sum;
}

/* Sequences 2i and 2i+1 are one item: the answer, then the refusal. */
static void pair_losses(const struct pass *p, real *dlogits)
{
    struct engine_room *room = p->e->room;
    const size_t *first = p->b->out_first;
    assert(p->r->pair && p->r->nll_ref);
    for (size_t i = 0; i < p->b->n_seq; i += 2) {
        size_t item = room->mine[p->first + i];
        double w = p->weight ? p->weight[item] : 1, dwin, dlose, mean;
        double loss = objective_pair(p->o, risen(p, i + 1), risen(p, i), &dwin, &dlose, &mean);
        for (size_t k = first[i]; k < first[i + 1]; k++) room->coef[k] = w * dlose;
        for (size_t k = first[i + 1]; k < first[i + 2]; k++) room->coef[k] = w * dwin;
        put(p, item, loss, mean);
    }
    to_logits(p, dlogits);
}

/* Number of outputs of sequence i without its first `skip`. */
static size_t outputs_used(const struct batch *b, size_t i, size_t skip)
{
    size_t n = b->out_first[i + 1] - b->out_first[i];
    return n > skip ? n - skip : 0;
}

/* room->coef for a loss that is the mean over a sequence's outputs without the first `skip`. */
static void mean_coefficients(const struct pass *p, size_t skip)
{
    struct engine_room *room = p->e->room;
    for (size_t i = 0; i < p->b->n_seq; i++) {
        const size_t n = outputs_used(p->b, i, skip), end = p->b->out_first[i + 1];
        const double w = p->weight ? p->weight[room->mine[p->first + i]] : 1;
        for (size_t k = p->b->out_first[i]; k < end; k++) room->coef[k] = k + n < end ? 0 : w / (double)n;
    }
}

/* The loss of every sequence: that mean over its outputs, whose losses are in room->share. */
static void mean_losses(const struct pass *p, size_t skip)
{
    struct engine_room *room = p->e->room;
    for (size_t i = 0; i < p->b->n_seq; i++) {
        const size_t n = outputs_used(p->b, i, skip), end = p->b->out_first[i + 1];
        double sum = 0;
        for (size_t k = end - n; k < end; k++) sum += room->share[k];
        put(p, room->mine[p->first + i], n ? sum / (double)n : 0, NAN);
    }
}

/* Log-sum-exp, over the whole vocabulary, of logits lowered at the label. It is summed anew: subtracting the label's
 * probability from 1 would lose all digits where that is near 1. */
static const double *lowered_lse(const struct pass *p, const real *logits, const int32_t *id, double lowered)
{
    struct engine_room *room = p->e->room;
    const struct layout *l = p->e->layout;
    const struct grid *g = p->e->grid;
    const size_t n = p->b->n_out;
    double *max = room->dnll;
    logits_max_lowered(n, l->word_count, l->word_first, logits, id, lowered, max);
    if (g->tensor_size > 1) comm_max_double(g->tensor, max, n);
    logits_sum_lowered(n, l->word_count, l->word_first, logits, id, lowered, max, room->lse);
    if (g->tensor_size > 1) comm_sum_double(g->tensor, room->lse, n);
    for (size_t k = 0; k < n; k++) room->lse[k] = max[k] + log(room->lse[k]);
    return room->lse;
}

/* Whose logit of the reference is lowered at each output: the label's. Where a position without a label counts, the code of
 * open-unlearning takes its mark of no label, -100, for an index: the column at 100 before the last. */
static const int32_t *lowered_ids(const struct pass *p)
{
    const size_t vocabulary = p->e->layout->shape->vocabulary;
    int32_t *id = p->e->room->id;
    if (objective_outputs(p->o) != OUTPUTS_NEXT || vocabulary < 100) return p->b->out_id;
    for (size_t k = 0; k < p->b->n_out; k++) id[k] = p->b->out_id[k] < 0 ? (int32_t)(vocabulary - 100) : p->b->out_id[k];
    return id;
}

static void distribution_losses(const struct pass *p, real *dlogits)
{
    const struct distribution_target q = objective_target(p->o);
    const struct layout *l = p->e->layout;
    const struct grid *g = p->e->grid;
    struct engine_room *room = p->e->room;
    struct model *m = p->e->model;
    struct logits_target t = {.other = q.own ? model_logits(m) : model_aside_logits(m),
                              .lse = q.own ? model_lse(m) : model_aside_lse(m),
                              .lowered = q.shift,
                              .divergence = q.divergence};
    const int32_t *id = lowered_ids(p);
    if (q.shift != 0) t.lse = lowered_lse(p, t.other, id, q.shift);
    mean_coefficients(p, q.skip);
    logits_toward(p->b->n_out, l->word_count, l->word_first, model_logits(m), model_lse(m), id, &t, room->coef,
                  room->share, dlogits);
    if (g->tensor_size > 1) comm_sum_double(g->tensor, room->share, p->b->n_out);
    mean_losses(p, q.skip);
}

/* The largest logit of every output over the whole vocabulary, and the lowest id that has it, in room->best. */
static void find_peaks(const struct pass *p, const real *logits)
{
    const struct layout *l = p->e->layout;
    const size_t n = p->b->n_out;
    const struct comm *tensor = p->e->grid->tensor;
    double(*best)[2] = p->e->room->best, *largest = p->e->room->dnll, *id = p->e->room->lse;
    logits_best(n, l->word_count, l->word_first, logits, best);
    if (p->e->grid->tensor_size == 1) return;
    for (size_t k = 0; k < n; k++) largest[k] = best[k][0];
    comm_max_double(tensor, largest, n);
    for (size_t k = 0; k < n; k++) id[k] = best[k][0] == largest[k] ? -best[k][1] : -INFINITY;
    comm_max_double(tensor, id, n);
    for (size_t k = 0; k < n; k++) best[k][0] = largest[k], best[k][1] = -id[k];
}

static void peak_losses(const struct pass *p, real *dlogits)
{
    const struct layout *l = p->e->layout;
    struct engine_room *room = p->e->room;
    const real *logits = model_logits(p->e->model);
    const double vocabulary = (double)l->shape->vocabulary;
    const size_t n = p->b->n_out;
    find_peaks(p, logits);
    logits_total(n, l->word_count, logits, room->lse);
    if (p->e->grid->tensor_size > 1) comm_sum_double(p->e->grid->tensor, room->lse, n);
    mean_coefficients(p, 0);
    for (size_t k = 0; k < n; k++) {
        room->id[k] = (int32_t)room->best[k][1];
        room->share[k] = objective_peak(p->o, room->best[k][0], room->lse[k] / vocabulary, &room->dnll[k]);
        room->coef[k] *= room->dnll[k];
    }
    logits_peak_backward(n, l->word_count, l->word_first, room->id, room->coef, vocabulary, dlogits);
    mean_losses(p, 0);
}

/* Every tensor rank has the whole hidden state, so no message is needed. */
static void hidden_losses(const struct pass *p)
{
    const struct hidden_target t = objective_hidden(p->o);
    const bool fixed = objective_needs(p->o) & NEEDS_DIRECTION;
    const size_t d = p->e->layout->shape->hidden;
    struct model *m = p->e->model;
    real *x = model_dhidden(m, p->b, p->j, t.layer);
    assert(!fixed || p->o->direction);
    model_hidden(m, p->b, t.layer, x);
    mean_coefficients(p, 0);
    rows_toward(p->b->n_out, d, x, t.scale, fixed ? p->o->direction : model_aside_hidden(m, p->b, p->j), fixed ? 0 : d,
                p->e->room->coef, p->e->room->share, x);
    mean_losses(p, 0);
}

void pass_losses(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t p,
                 const struct batch *b, const double *weight, double *loss, double *mean_weight)
{
    enum phase before = phase_enter(PHASE_LOSS);
    for (size_t j = 0; j < J; j++) {
        const struct pass pass = {e,
                                  &o[j],
                                  r,
                                  j,
                                  e->room->start[p],
                                  b,
                                  weight,
                                  loss ? loss + j * r->n : NULL,
                                  mean_weight ? mean_weight + j * r->n : NULL};
        real *dlogits = model_dlogits(e->model) + j * b->n_out * e->layout->word_count;
        switch (objective_kind(&o[j])) {
        case LOSS_OF_TOKENS:
            token_losses(&pass, dlogits);
            break;
        case LOSS_OF_PAIRS:
            pair_losses(&pass, dlogits);
            break;
        case LOSS_OF_DISTRIBUTIONS:
            distribution_losses(&pass, dlogits);
            break;
        case LOSS_OF_PEAKS:
            peak_losses(&pass, dlogits);
            break;
        case LOSS_OF_HIDDEN:
            hidden_losses(&pass);
            break;
        }
    }
    phase_enter(before);
}

/* ------------------------------------------------------------------------------------------------ tangents ------- */
/* Of to_logits(): tcoef [n_out], NULL: the coefficients stay; id as the labels. */
static void to_logits_tangent(const struct pass *p, const int32_t *id, const double *tcoef, real *tdlogits)
{
    const struct model *m = p->e->model;
    const struct layout *l = p->e->layout;
    const struct logits_tangents t = {model_tangent_logits(m), model_tangent_lse(m), tcoef};
    logits_backward_tangent(p->b->n_out, l->word_count, l->word_first, model_logits(p->e->model), model_lse(m), id,
                            p->e->room->coef, &t, tdlogits);
}

static void token_tangents(const struct pass *p, real *tdlogits)
{
    struct engine_room *room = p->e->room;
    const struct batch *b = p->b;
    const double *nll = model_nll(p->e->model), *tnll = room->tangent;
    for (size_t i = 0; i < b->n_seq; i++) {
        const size_t item = room->mine[p->first + i], at = b->out_first[i], end = b->out_first[i + 1];
        const double *ref = p->r->nll_ref ? p->r->nll_ref + p->r->label_first[p->r->row[item]] : NULL;
        const double w = p->weight ? p->weight[item] : 1;
        size_t n = end - at;
        for (; n && end - at - n < p->r->drop; n--) room->share[at + n - 1] = 0;
        objective_token_tangent(p->o, n, nll + at, ref, tnll + at, room->share + at);
        for (size_t t = 0; t < n; t++) room->share[at + t] *= w;
    }
    to_logits_tangent(p, b->out_id, room->share, tdlogits);
}

static double sum_of(const struct pass *p, size_t i, const double *x)
{
    double sum = 0;
    for (size_t k = p->b->out_first[i]; k < p->b->out_first[i + 1]; k++) sum += x[k];
    return sum;
}

static void pair_tangents(const struct pass *p, real *tdlogits)
{
    struct engine_room *room = p->e->room;
    const size_t *first = p->b->out_first;
    for (size_t i = 0; i < p->b->n_seq; i += 2) {
        const double w = p->weight ? p->weight[room->mine[p->first + i]] : 1;
        double twin, tlose;
        objective_pair_tangent(p->o, risen(p, i + 1), risen(p, i), sum_of(p, i + 1, room->tangent),
                               sum_of(p, i, room->tangent), &twin, &tlose);
        for (size_t k = first[i]; k < first[i + 1]; k++) room->share[k] = w * tlose;
        for (size_t k = first[i + 1]; k < first[i + 2]; k++) room->share[k] = w * twin;
    }
    to_logits_tangent(p, p->b->out_id, room->share, tdlogits);
}

/* The model's softmax moves at every output, labelled or not; so does a target that is its own, whose lse room->lse still has:
 * it is one without the label. */
static void distribution_tangents(const struct pass *p, real *tdlogits)
{
    const struct distribution_target q = objective_target(p->o);
    const struct layout *l = p->e->layout;
    const struct batch *b = p->b;
    struct engine_room *room = p->e->room;
    const real *z = model_logits(p->e->model), *tz = model_tangent_logits(p->e->model);
    for (size_t k = 0; k < b->n_out; k++) room->id[k] = 0;
    mean_coefficients(p, q.skip);
    to_logits_tangent(p, room->id, NULL, tdlogits);
    if (!q.own) return;
    assert(isinf(q.shift));
    logits_mean_without(b->n_out, l->word_count, l->word_first, z, room->lse, b->out_id, tz, room->share);
    if (p->e->grid->tensor_size > 1) comm_sum_double(p->e->grid->tensor, room->share, b->n_out);
    logits_tangent_without(b->n_out, l->word_count, l->word_first, z, room->lse, b->out_id, room->coef, tz, room->share,
                           tdlogits);
}

/* room->best has the peaks of the pass; a slice has the tangent of the largest logit where it has that. */
static void peak_tangents(const struct pass *p, real *tdlogits)
{
    const struct layout *l = p->e->layout;
    struct engine_room *room = p->e->room;
    const size_t n = p->b->n_out;
    const real *t = model_tangent_logits(p->e->model);
    double *largest = room->share, *total = room->lse;
    for (size_t k = 0; k < n; k++) room->id[k] = (int32_t)room->best[k][1];
    logits_pick(n, l->word_count, l->word_first, t, room->id, largest);
    logits_total(n, l->word_count, t, total);
    if (p->e->grid->tensor_size > 1) {
        comm_sum_double(p->e->grid->tensor, largest, n);
        comm_sum_double(p->e->grid->tensor, total, n);
    }
    mean_coefficients(p, 0);
    for (size_t k = 0; k < n; k++)
        room->coef[k] *= objective_peak_tangent(p->o, largest[k], total[k] / (double)l->shape->vocabulary);
    logits_peak_backward(n, l->word_count, l->word_first, room->id, room->coef, (double)l->shape->vocabulary, tdlogits);
}

/* The derivative is linear in the hidden state: that of a target 0 at its tangent. */
static void hidden_tangents(const struct pass *p)
{
    const size_t d = p->e->layout->shape->hidden, layer = objective_hidden(p->o).layer;
    struct model *m = p->e->model;
    real *x = model_dhidden(m, p->b, 1, layer);
    model_hidden_tangent(m, p->b, layer, x);
    mean_coefficients(p, 0);
    rows_toward(p->b->n_out, d, x, 0, x, d, p->e->room->coef, p->e->room->share, x);
}

void pass_tangents(struct engine *e, const struct objective *o, const struct rows *r, size_t p, const struct batch *b,
                   const double *weight, struct state *direction)
{
    const struct pass pass = {.e = e, .o = o, .r = r, .first = e->room->start[p], .b = b, .weight = weight};
    const enum loss_kind kind = objective_kind(o);
    const bool hidden = kind == LOSS_OF_HIDDEN;
    real *tdlogits = model_dlogits(e->model) + b->n_out * e->layout->word_count;
    enum phase before;
    model_tangents(e->model, e->weights, b, 1, &direction, hidden ? NULL : e->room->tangent, 1, e->room->along);
    before = phase_enter(PHASE_LOSS);
    if (kind == LOSS_OF_TOKENS) token_tangents(&pass, tdlogits);
    if (kind == LOSS_OF_PAIRS) pair_tangents(&pass, tdlogits);
    if (kind == LOSS_OF_DISTRIBUTIONS) distribution_tangents(&pass, tdlogits);
    if (kind == LOSS_OF_PEAKS) peak_tangents(&pass, tdlogits);
    if (hidden) hidden_tangents(&pass);
    phase_enter(before);
}
