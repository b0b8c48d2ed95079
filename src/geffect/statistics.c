/* What needs only a forward: statistics of every labelled token, and losses of rows. */
#include "unlearn/geffect_priv.h"
#include <math.h>
#include <string.h>

static void clear(const struct rows *r, const struct token_statistics *out)
{
    const size_t n = r->label_first[r->data->n_row];
    if (out->nll) memset(out->nll, 0, n * sizeof *out->nll);
    if (out->hit) memset(out->hit, 0, n * sizeof *out->hit);
    if (out->z) memset(out->z, 0, n * sizeof *out->z);
}

/* Whether the label is the likeliest of the whole vocabulary: the maximum of the slices, then the lowest id that has it. */
static void hits(struct engine *e, const struct slab *s, const int32_t *label, double *hit)
{
    const struct layout *l = e->layout;
    const struct comm *tensor = e->grid->tensor;
    double(*own)[2] = e->room->best, *id = e->room->lse, *max = e->room->dnll;
    logits_best(s->n, l->word_count, l->word_first, s->logits, own);
    for (size_t k = 0; k < s->n; k++) max[k] = own[k][0];
    comm_max_double(tensor, max, s->n);
    for (size_t k = 0; k < s->n; k++) id[k] = own[k][0] == max[k] ? -own[k][1] : -INFINITY;
    comm_max_double(tensor, id, s->n);
    for (size_t k = 0; k < s->n; k++) hit[k] = -id[k] == label[k];
}

static void standard_scores(struct engine *e, const struct slab *s, double *z)
{
    const size_t words = e->layout->word_count;
    const double *lse = model_lse(e->model) + s->first, *nll = model_nll(e->model) + s->first;
    double *mean = e->room->dnll, *variance = e->room->lse;
    logits_moment(s->n, words, s->logits, lse, NULL, 1, mean);
    comm_sum_double(e->grid->tensor, mean, s->n);
    logits_moment(s->n, words, s->logits, lse, mean, 2, variance);
    comm_sum_double(e->grid->tensor, variance, s->n);
    for (size_t k = 0; k < s->n; k++) z[k] = (-nll[k] - mean[k]) / sqrt(variance[k] > 1e-6 ? variance[k] : 1e-6);
}

struct looking { /* at the slabs of a pass; hit and z [n_out], NULL: not asked for */
    struct engine *e;
    const struct batch *b;
    double *hit, *z;
};

static void look_at(const void *context, const struct slab *s)
{
    const struct looking *look = context;
    const enum phase before = phase_enter(PHASE_LOSS);
    if (look->hit) hits(look->e, s, look->b->out_id + s->first, look->hit + s->first);
    if (look->z) standard_scores(look->e, s, look->z + s->first);
    phase_enter(before);
}

/* Copies value [n_out] of pass p to label_first of its rows; NaN where the token's likelihood is not finite. */
static void put(struct engine *e, const struct rows *r, size_t p, const struct batch *b, const double *value, double *to)
{
    const double *nll = model_nll(e->model);
    if (!to) return;
    for (size_t i = 0; i < b->n_seq; i++) {
        double *row = to + r->label_first[e->room->row[e->room->start[p] + i]];
        for (size_t k = b->out_first[i]; k < b->out_first[i + 1]; k++)
            row[k - b->out_first[i]] = isfinite(nll[k]) ? value[k] : NAN;
    }
}

enum status engine_statistics(struct engine *e, const struct rows *r, const struct token_statistics *out)
{
    struct engine_room *room = e->room;
    const size_t n = r->label_first[r->data->n_row];
    enum status st = OK, now;
    clear(r, out);
    passes_cut(e, r, OUTPUTS_LABELLED);
    for (size_t p = 0; p < room->n_pass; p++) {
        struct batch b;
        const struct pass pass = {.e = e, .r = r, .p = p, .b = &b};
        const struct looking looking = {e, &b, out->hit ? room->share : NULL, out->z ? room->coef : NULL};
        const struct slabs look = {&looking, look_at, NULL};
        pass_pack(e, r, p, OUTPUTS_LABELLED, &b);
        if ((now = pass_values(&pass, e->weights, 0, &look)) > st) st = now;
        put(e, r, p, &b, model_nll(e->model), out->nll);
        put(e, r, p, &b, room->share, out->hit);
        put(e, r, p, &b, room->coef, out->z);
    }
    if (out->nll) comm_sum_double(e->grid->data, out->nll, n);
    if (out->hit) comm_sum_double(e->grid->data, out->hit, n);
    if (out->z) comm_sum_double(e->grid->data, out->z, n);
    return grid_agree(e->grid, st);
}

enum status engine_losses(struct engine *e, const struct objective *o, const struct rows *r, double *loss)
{
    const enum outputs which = objective_outputs(o);
    enum status st = OK, now;
    memset(loss, 0, r->n * sizeof *loss);
    passes_cut(e, r, which);
    for (size_t p = 0; p < e->room->n_pass; p++) {
        struct batch b;
        const struct pass pass = {.e = e, .r = r, .p = p, .b = &b, .J = 1, .o = o, .loss = loss};
        pass_pack(e, r, p, which, &b);
        if ((now = pass_measure(&pass)) > st) st = now;
    }
    comm_sum_double(e->grid->data, loss, r->n);
    return grid_agree(e->grid, st);
}
