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

static unsigned needs_of(const struct pass *p)
{
    unsigned needs = 0;
    for (size_t j = 0; j < p->J; j++) needs |= objective_needs(&p->o[j]);
    return needs;
}

/* The reference's hidden state at the output rows for every objective that compares with one. */
static void reference_states(const struct pass *p)
{
    struct model *m = p->e->model;
    for (size_t j = 0; j < p->J; j++) {
        const size_t layer = objective_reference_layer(&p->o[j]);
        const struct slab all = {.n = p->b->n_out};
        if (!layer) continue;
        if (p->e->reference)
            model_hidden(m, p->b, layer, model_aside_hidden(m, p->b, j));
        else
            kept_give(p, objective_outputs(&p->o[j]), layer, &all, model_aside_hidden(m, p->b, j), NULL);
    }
}

/* Puts the reference's values for this pass aside in the model, but for kept logits: those come a slab at a time. */
static enum status reference_values(const struct pass *p)
{
    const unsigned needs = needs_of(p);
    struct engine *e = p->e;
    enum status st = OK;
    if (!(needs & (NEEDS_DISTRIBUTION | NEEDS_STATES))) return OK;
    if (e->reference) {
        st = pass_values(p, e->reference, needs & NEEDS_DISTRIBUTION ? 0 : top_layer(p->J, p->o), NULL);
        if (needs & NEEDS_DISTRIBUTION) model_set_aside(e->model, p->b);
    }
    reference_states(p);
    return st;
}

/* The reference's logits at the outputs of a slab, with their log-sum-exp; NULL where nothing compares with them. */
static const real *reference_logits(const struct pass *p, const struct slab *s)
{
    struct model *m = p->e->model;
    real *z;
    if (!(needs_of(p) & NEEDS_DISTRIBUTION)) return NULL;
    if (p->e->reference) return model_aside_logits(m, p->b, s);
    z = model_aside_room(m, p->b, s);
    kept_give(p, objective_outputs(p->o), 0, s, z, model_aside_lse(m) + s->first);
    return z;
}

static enum status worse(enum status a, enum status b) { return a > b ? a : b; }

enum status pass_forward(const struct pass *p)
{
    const enum status st = reference_values(p);
    return worse(st, pass_values(p, p->e->weights, top_layer(p->J, p->o), NULL));
}

static void put(const struct pass *p, size_t j, size_t item, double loss, double mean_weight)
{
    if (p->loss) p->loss[j * p->r->n + item] = loss;
    if (p->mean_weight) p->mean_weight[j * p->r->n + item] = mean_weight;
}

double *pass_coef(const struct pass *p, size_t j) { return p->e->room->coef + j * p->e->room->tokens; }
static double *share_of(const struct pass *p, size_t j) { return p->e->room->share + j * p->e->room->tokens; }

/* --------------------------------------------------------------------------------- from likelihoods alone ------- */
static void token_losses(const struct pass *p, size_t j)
{
    struct engine_room *room = p->e->room;
    const struct batch *b = p->b;
    const double *nll = model_nll(p->e->model);
    double *coef = pass_coef(p, j);
    for (size_t i = 0; i < b->n_seq; i++) {
        size_t item = pass_item(p, i), at = b->out_first[i], n = b->out_first[i + 1] - at;
        const double *ref = p->r->nll_ref ? p->r->nll_ref + p->r->label_first[p->r->row[item]] : NULL;
        double w = p->weight ? p->weight[item] : 1, mean, loss;
        for (; n && b->out_first[i + 1] - at - n < p->r->drop; n--) coef[at + n - 1] = 0;
        loss = objective_token(&p->o[j], n, nll + at, ref, room->dnll, &mean);
        for (size_t t = 0; t < n; t++) coef[at + t] = w * room->dnll[t];
        put(p, j, item, loss, mean);
    }
}

double pass_risen(const struct pass *p, size_t i)
{
    const size_t row = p->e->room->row[p->e->room->start[p->p] + i], at = p->b->out_first[i],
                 n = p->b->out_first[i + 1] - at;
    const double *nll = model_nll(p->e->model) + at, *ref = p->r->nll_ref + p->r->label_first[row];
    double sum = 0;
    for (size_t t = 0; t < n; t++) sum += nll[t] - ref[t];
    return sum;
}

/* Sequences 2i and 2i+1 are one item: the answer, then the refusal. */
static void pair_losses(const struct pass *p, size_t j)
{
    const size_t *first = p->b->out_first;
    double *coef = pass_coef(p, j);
    assert(p->r->pair && p->r->nll_ref);
    for (size_t i = 0; i < p->b->n_seq; i += 2) {
        size_t item = pass_item(p, i);
        double w = p->weight ? p->weight[item] : 1, dwin, dlose, mean;
        double loss = objective_pair(&p->o[j], pass_risen(p, i + 1), pass_risen(p, i), &dwin, &dlose, &mean);
        for (size_t k = first[i]; k < first[i + 1]; k++) coef[k] = w * dlose;
        for (size_t k = first[i + 1]; k < first[i + 2]; k++) coef[k] = w * dwin;
        put(p, j, item, loss, mean);
    }
}

/* ---------------------------------------------------------------------------------- means over outputs ------- */
/* Number of outputs of sequence i without its first `skip`. */
static size_t outputs_used(const struct batch *b, size_t i, size_t skip)
{
    size_t n = b->out_first[i + 1] - b->out_first[i];
    return n > skip ? n - skip : 0;
}

/* Coefficients of a loss that is the mean over a sequence's outputs without the first `skip`. */
static void mean_coefficients(const struct pass *p, size_t j, size_t skip)
{
    double *coef = pass_coef(p, j);
    for (size_t i = 0; i < p->b->n_seq; i++) {
        const size_t n = outputs_used(p->b, i, skip), end = p->b->out_first[i + 1];
        const double w = p->weight ? p->weight[pass_item(p, i)] : 1;
        for (size_t k = p->b->out_first[i]; k < end; k++) coef[k] = k + n < end ? 0 : w / (double)n;
    }
}

/* The loss of every sequence: that mean over its outputs' shares. */
static void mean_losses(const struct pass *p, size_t j, size_t skip)
{
    const double *share = share_of(p, j);
    for (size_t i = 0; i < p->b->n_seq; i++) {
        const size_t n = outputs_used(p->b, i, skip), end = p->b->out_first[i + 1];
        double sum = 0;
        for (size_t k = end - n; k < end; k++) sum += share[k];
        put(p, j, pass_item(p, i), n ? sum / (double)n : 0, NAN);
    }
}

/* Every tensor rank has the whole hidden state, so no message is needed. */
static void hidden_losses(const struct pass *p, size_t j)
{
    const struct hidden_target t = objective_hidden(&p->o[j]);
    const bool fixed = objective_needs(&p->o[j]) & NEEDS_DIRECTION;
    const size_t d = p->e->layout->shape->hidden;
    struct model *m = p->e->model;
    real *x = model_dhidden(m, p->b, j, t.layer);
    assert(!fixed || p->o[j].direction);
    model_hidden(m, p->b, t.layer, x);
    mean_coefficients(p, j, 0);
    rows_toward(p->b->n_out, d, x, t.scale, fixed ? p->o[j].direction : model_aside_hidden(m, p->b, j), fixed ? 0 : d,
                pass_coef(p, j), share_of(p, j), x);
    mean_losses(p, j, 0);
}

/* --------------------------------------------------------------------------------------- a slab of logits ------- */
/* Log-sum-exp, over the whole vocabulary, of logits lowered at the label. It is summed anew: subtracting the label's
 * probability from 1 would lose all digits where that is near 1. */
static const double *lowered_lse(const struct pass *p, size_t n, const real *logits, const int32_t *id, double lowered)
{
    struct engine_room *room = p->e->room;
    const struct layout *l = p->e->layout;
    const struct grid *g = p->e->grid;
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
static const int32_t *lowered_ids(const struct pass *p, size_t j, const struct slab *s)
{
    const size_t vocabulary = p->e->layout->shape->vocabulary;
    const int32_t *label = p->b->out_id + s->first;
    int32_t *id = p->e->room->id;
    if (objective_outputs(&p->o[j]) != OUTPUTS_NEXT || vocabulary < 100) return label;
    for (size_t k = 0; k < s->n; k++) id[k] = label[k] < 0 ? (int32_t)(vocabulary - 100) : label[k];
    return id;
}

static void distribution_slab(const struct pass *p, size_t j, const struct slab *s, const real *reference, real *dlogits)
{
    const struct distribution_target q = objective_target(&p->o[j]);
    const struct layout *l = p->e->layout;
    const struct grid *g = p->e->grid;
    struct model *m = p->e->model;
    const double *lse = model_lse(m) + s->first;
    struct logits_target t = {.other = q.own ? s->logits : reference,
                              .lse = q.own ? lse : model_aside_lse(m) + s->first,
                              .lowered = q.shift,
                              .divergence = q.divergence};
    const int32_t *id = lowered_ids(p, j, s);
    double *share = share_of(p, j) + s->first;
    if (q.shift != 0) t.lse = lowered_lse(p, s->n, t.other, id, q.shift);
    logits_toward(s->n, l->word_count, l->word_first, s->logits, lse, id, &t, pass_coef(p, j) + s->first, share, dlogits);
    if (g->tensor_size > 1) comm_sum_double(g->tensor, share, s->n);
}

/* The largest logit of every output of a slab over the whole vocabulary, and the lowest id that has it, in room->best. */
static void find_peaks(const struct pass *p, const struct slab *s)
{
    const struct layout *l = p->e->layout;
    const size_t n = s->n;
    const struct comm *tensor = p->e->grid->tensor;
    double(*best)[2] = p->e->room->best, *largest = p->e->room->dnll, *id = p->e->room->lse;
    logits_best(n, l->word_count, l->word_first, s->logits, best);
    if (p->e->grid->tensor_size == 1) return;
    for (size_t k = 0; k < n; k++) largest[k] = best[k][0];
    comm_max_double(tensor, largest, n);
    for (size_t k = 0; k < n; k++) id[k] = best[k][0] == largest[k] ? -best[k][1] : -INFINITY;
    comm_max_double(tensor, id, n);
    for (size_t k = 0; k < n; k++) best[k][0] = largest[k], best[k][1] = -id[k];
}

static void peak_slab(const struct pass *p, size_t j, const struct slab *s, real *dlogits)
{
    const struct layout *l = p->e->layout;
    struct engine_room *room = p->e->room;
    const double vocabulary = (double)l->shape->vocabulary, *coef = pass_coef(p, j) + s->first;
    double *share = share_of(p, j) + s->first;
    find_peaks(p, s);
    logits_total(s->n, l->word_count, s->logits, room->lse);
    if (p->e->grid->tensor_size > 1) comm_sum_double(p->e->grid->tensor, room->lse, s->n);
    for (size_t k = 0; k < s->n; k++) {
        room->id[k] = (int32_t)room->best[k][1];
        share[k] = objective_peak(&p->o[j], room->best[k][0], room->lse[k] / vocabulary, &room->dnll[k]);
        room->dnll[k] *= coef[k];
    }
    logits_peak_backward(s->n, l->word_count, l->word_first, room->id, room->dnll, vocabulary, dlogits);
}

void pass_slab(const void *context, const struct slab *s)
{
    const struct pass *p = context;
    const struct layout *l = p->e->layout;
    const struct model *m = p->e->model;
    const enum phase before = phase_enter(PHASE_LOSS);
    const real *reference = reference_logits(p, s);
    for (size_t j = 0; j < p->J; j++) {
        const enum loss_kind kind = objective_kind(&p->o[j]);
        real *dlogits = s->dlogits + j * s->n * l->word_count;
        if (kind == LOSS_OF_TOKENS || kind == LOSS_OF_PAIRS)
            logits_backward(s->n, l->word_count, l->word_first, s->logits, model_lse(m) + s->first,
                            p->b->out_id + s->first, pass_coef(p, j) + s->first, dlogits);
        if (kind == LOSS_OF_DISTRIBUTIONS) distribution_slab(p, j, s, reference, dlogits);
        if (kind == LOSS_OF_PEAKS) peak_slab(p, j, s, dlogits);
    }
    phase_enter(before);
}

/* ------------------------------------------------------------------------------------------------- passes ------- */
/* The first outputs of a sequence that a mean over them leaves out. */
static size_t skipped(const struct objective *o)
{
    return objective_kind(o) == LOSS_OF_DISTRIBUTIONS ? objective_target(o).skip : 0;
}

static bool by_slab(const struct objective *o)
{
    return objective_kind(o) == LOSS_OF_DISTRIBUTIONS || objective_kind(o) == LOSS_OF_PEAKS;
}

void pass_losses(const struct pass *p)
{
    const enum phase before = phase_enter(PHASE_LOSS);
    for (size_t j = 0; j < p->J; j++) {
        const enum loss_kind kind = objective_kind(&p->o[j]);
        if (kind == LOSS_OF_TOKENS) token_losses(p, j);
        if (kind == LOSS_OF_PAIRS) pair_losses(p, j);
        if (kind == LOSS_OF_HIDDEN) hidden_losses(p, j);
        if (by_slab(&p->o[j])) mean_coefficients(p, j, skipped(&p->o[j]));
    }
    phase_enter(before);
}

/* The losses whose outputs' shares all slabs have given. */
static void finish(const struct pass *p)
{
    for (size_t j = 0; j < p->J; j++)
        if (by_slab(&p->o[j])) mean_losses(p, j, skipped(&p->o[j]));
}

struct slabs pass_slabs(const struct pass *p, void (*each)(const void *context, const struct slab *s))
{
    return (struct slabs){p, each, needs_of(p) & NEEDS_DISTRIBUTION ? p->e->reference : NULL};
}

enum status pass_backward(const struct pass *p, const struct sink *sink)
{
    const struct slabs losses = pass_slabs(p, pass_slab);
    enum status st = pass_forward(p);
    pass_losses(p);
    st = worse(st, model_backward(p->e->model, p->e->weights, p->b, p->J, &losses, sink));
    finish(p);
    return st;
}

enum status pass_measure(const struct pass *p)
{
    const struct slabs losses = pass_slabs(p, pass_slab);
    enum status st;
    if (p->J != 1 || !by_slab(p->o)) {
        st = pass_forward(p);
        pass_losses(p);
        return st;
    }
    st = reference_values(p);
    pass_losses(p);
    st = worse(st, pass_values(p, p->e->weights, 0, &losses));
    finish(p);
    return st;
}
