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
static void hits(struct engine *e, const struct batch *b, double *hit)
{
    const struct layout *l = e->layout;
    const struct comm *tensor = e->grid->tensor;
    double(*own)[2] = e->room->best, *id = e->room->coef, *max = e->room->share;
    logits_best(b->n_out, l->word_count, l->word_first, model_logits(e->model), own);
    for (size_t k = 0; k < b->n_out; k++) max[k] = own[k][0];
    comm_max_double(tensor, max, b->n_out);
    for (size_t k = 0; k < b->n_out; k++) id[k] = own[k][0] == max[k] ? -own[k][1] : -INFINITY;
    comm_max_double(tensor, id, b->n_out);
    for (size_t k = 0; k < b->n_out; k++) hit[k] = -id[k] == b->out_id[k];
}

static void standard_scores(struct engine *e, const struct batch *b, double *z)
{
    const struct layout *l = e->layout;
    const double *lse = model_lse(e->model), *nll = model_nll(e->model);
    double *mean = e->room->share, *variance = e->room->coef;
    logits_moment(b->n_out, l->word_count, model_logits(e->model), lse, NULL, 1, mean);
    comm_sum_double(e->grid->tensor, mean, b->n_out);
    logits_moment(b->n_out, l->word_count, model_logits(e->model), lse, mean, 2, variance);
    comm_sum_double(e->grid->tensor, variance, b->n_out);
    for (size_t k = 0; k < b->n_out; k++) z[k] = (-nll[k] - mean[k]) / sqrt(variance[k] > 1e-6 ? variance[k] : 1e-6);
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
        enum phase before;
        pass_pack(e, r, p, OUTPUTS_LABELLED, &b);
        if ((now = pass_values(e, e->weights, r->data, p, &b, 0)) > st) st = now;
        before = phase_enter(PHASE_LOSS);
        put(e, r, p, &b, model_nll(e->model), out->nll);
        if (out->hit) hits(e, &b, room->of_sequence);
        put(e, r, p, &b, room->of_sequence, out->hit);
        if (out->z) standard_scores(e, &b, room->of_sequence);
        put(e, r, p, &b, room->of_sequence, out->z);
        phase_enter(before);
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
        pass_pack(e, r, p, which, &b);
        if ((now = pass_forward(e, 1, o, r, p, &b)) > st) st = now;
        pass_losses(e, 1, o, r, p, &b, NULL, loss, NULL);
    }
    comm_sum_double(e->grid->data, loss, r->n);
    return grid_agree(e->grid, st);
}
