/* The sink that forms inner products instead of whole weight gradients. For y = x W^T and risk gradient G:
 *      e[i] = sum over rows t of sequence i of delta_t . (G x_t) = <delta_i^T x_i, G>
 * The middle is one product for each risk, the right one product for each objective: the cheaper is taken.
 * For biases the terms are delta_t . g, for norm weights (delta_t xhat_t) . g, for embeddings delta_t . G[id_t]. Each
 * process has a slice of W, so its e is a partial sum. A tensor that all tensor ranks keep whole, with complete deltas,
 * is counted on one of them. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <math.h>
#include <string.h>

struct products {
    struct engine *e;
    size_t J, K, n, among; /* n instances; among: see engine_effects() */
    struct state *const *risk;
    const size_t *instance; /* place in the list of each sequence of this pass */
    double *out;            /* [J][K][n_slot][n] */
};

/* Deltas of shared rows are partial sums, so every rank that keeps such rows adds its part. */
static bool counts(const struct param *p) { return p->own_count || p->shared; }

static size_t slot_of(const struct products *s, size_t use, const struct param *p)
{
    const struct layout *l = s->e->layout;
    return use == p->layer ? (size_t)(p - l->param) : l->n_param;
}

static void begin(void *context, size_t layer)
{
    struct products *s = context;
    for (size_t k = 0; k < s->K; k++) s->e->room->base[k] = state_acquire(s->risk[k], layer);
    if (layer > s->e->layout->shape->blocks) return;
    for (size_t k = 0; k < s->K && layer > 1; k++) state_expect(s->risk[k], layer - 1);
}

static void end(void *context, size_t layer)
{
    struct products *s = context;
    for (size_t k = 0; k < s->K; k++) state_release(s->risk[k], layer);
}

static void add_from(const struct products *s, size_t j, size_t k, size_t slot, size_t n_seq, const double *e)
{
    double *to = s->out + ((j * s->K + k) * slot_count(s->e->layout) + slot) * s->n;
    for (size_t i = 0; i < n_seq; i++) to[s->instance[i]] += e[i];
}

static void add(const struct products *s, size_t j, size_t k, size_t slot, size_t n_seq)
{
    add_from(s, j, k, slot, n_seq, s->e->room->of_sequence);
}

/* Adds each sequence's sum over rows of dy . y to its slot, over columns at ... at+width-1 of rows of length ld. */
static void add_dots(const struct products *s, size_t k, size_t slot, const struct cut *c, size_t width, size_t at,
                     size_t ld, const real *y, const real *dy)
{
    double *e = s->e->room->of_sequence;
    for (size_t j = 0; j < c->J; j++) {
        memset(e, 0, c->n_seq * sizeof *e);
        dots_by_sequence(c->n_seq, c->first, width, dy + j * c->n * ld + at, ld, y + at, ld, e);
        add(s, j, k, slot, c->n_seq);
    }
}

/* G x of all rows, whose products with the deltas of any number of objectives cost little. */
static void by_rows(const struct products *s, size_t use, const struct param *p, size_t n_param, const struct cut *c,
                    const real *x, const real *dy)
{
    const size_t out = param_rows(p, n_param), in = p->col_count;
    assert(c->n * out <= s->e->room->n_product);
    for (size_t k = 0; k < s->K; k++) {
        size_t at = 0;
        linear_forward(c->n, out, in, x, in, tensors_matrix(&s->e->room->base[k], p), s->e->room->product, out);
        for (size_t i = 0; i < n_param; i++) {
            if (counts(&p[i]))
                add_dots(s, k, slot_of(s, use, &p[i]), c, p[i].row_count, at, out, s->e->room->product, dy);
            at += p[i].row_count;
        }
    }
}

/* The gradients themselves, tile by tile: any number of directions costs little. */
static void by_tiles(const struct products *s, size_t use, const struct param *p, size_t n_param, const struct cut *c,
                     const real *x, const real *dy)
{
    struct engine_room *room = s->e->room;
    const size_t out = param_rows(p, n_param);
    for (size_t j = 0; j < c->J; j++)
        for (size_t i = 0, at = 0; i < n_param; at += p[i++].row_count) {
            const struct formed f = {c->n_seq, p[i].row_count,           p->col_count, out, s->K, c->first,
                                     x,        dy + j * c->n * out + at, room->tensor};
            if (!counts(&p[i])) continue;
            for (size_t k = 0; k < s->K; k++) room->tensor[k] = tensors_matrix(&room->base[k], &p[i]);
            memset(room->formed, 0, s->K * c->n_seq * sizeof *room->formed);
            formed_dots(&f, room->tiles, room->sums, room->formed);
            for (size_t k = 0; k < s->K; k++)
                add_from(s, j, k, slot_of(s, use, &p[i]), c->n_seq, room->formed + k * c->n_seq);
        }
}

static void linear(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy)
{
    const struct products *s = context;
    enum phase before = phase_enter(PHASE_PRODUCTS);
    if (formed_pays(c->J, s->among, c->n_seq, c->first))
        by_tiles(s, use, p, n_param, c, x, dy);
    else
        by_rows(s, use, p, n_param, c, x, dy);
    phase_enter(before);
}

static void bias(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *dy)
{
    struct products *s = context;
    double *e = s->e->room->of_sequence;
    size_t out = param_rows(p, n_param);
    enum phase before = phase_enter(PHASE_PRODUCTS);
    for (size_t k = 0; k < s->K; k++)
        for (size_t i = 0, at = 0; i < n_param; at += p[i++].row_count)
            for (size_t j = 0; j < c->J && counts(&p[i]); j++) {
                memset(e, 0, c->n_seq * sizeof *e);
                dots_with_vector(c->n_seq, c->first, p[i].row_count, dy + j * c->n * out + at, out,
                                 tensors_vector(&s->e->room->base[k], &p[i]), e);
                add(s, j, k, slot_of(s, use, &p[i]), c->n_seq);
            }
    phase_enter(before);
}

static void scale(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t width,
                  const real *xhat, const real *dy)
{
    struct products *s = context;
    size_t rows = param_rows(p, n_param);
    enum phase before = phase_enter(PHASE_PRODUCTS);
    assert(c->n * width <= s->e->room->n_product);
    for (size_t k = 0; k < s->K; k++) {
        size_t at = 0;
        rows_scale(c->n * (width / rows), rows, xhat, tensors_vector(&s->e->room->base[k], p), s->e->room->product);
        for (size_t i = 0; i < n_param; i++) {
            const size_t own = n_param == 1 ? width : p[i].row_count;
            if (counts(&p[i])) add_dots(s, k, slot_of(s, use, &p[i]), c, own, at, width, s->e->room->product, dy);
            at += own;
        }
    }
    phase_enter(before);
}

static void embed(void *context, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                  const real *dy)
{
    struct products *s = context;
    size_t d = p->col_count;
    enum phase before = phase_enter(PHASE_PRODUCTS);
    assert(c->n * d <= s->e->room->n_product);
    for (size_t k = 0; k < s->K && counts(p); k++) {
        embedding_forward(c->n, d, id, p->piece[0].first, p->row_count, tensors_matrix(&s->e->room->base[k], p),
                          s->e->room->product);
        add_dots(s, k, slot_of(s, use, p), c, d, 0, d, s->e->room->product, dy);
    }
    phase_enter(before);
}

enum status engine_effects(struct engine *e, size_t J, const struct objective *o, const struct rows *r, size_t K,
                           size_t among, struct state *const *risk, double *e_out, double *loss, double *mean_weight)
{
    struct engine_room *room = e->room;
    struct products s = {.e = e, .J = J, .K = K, .n = r->n, .among = among, .risk = risk, .out = e_out};
    const struct sink sink = {
        .context = &s, .begin = begin, .end = end, .linear = linear, .bias = bias, .scale = scale, .embed = embed};
    const enum outputs which = objective_outputs(o);
    size_t size = J * K * slot_count(e->layout) * r->n;
    enum status st = OK;
    assert(K <= room->most.risks);
    memset(e_out, 0, size * sizeof *e_out);
    memset(loss, 0, J * r->n * sizeof *loss);
    memset(mean_weight, 0, J * r->n * sizeof *mean_weight);
    passes_cut(e, r, which);
    for (size_t p = 0; p < room->n_pass; p++) {
        struct batch b;
        const struct pass pass = {
            .e = e, .r = r, .p = p, .b = &b, .J = J, .o = o, .loss = loss, .mean_weight = mean_weight};
        enum status now;
        pass_pack(e, r, p, which, &b);
        s.instance = room->mine + room->start[p];
        now = pass_backward(&pass, &sink);
        if (now > st) st = now;
    }
    comm_sum_double(e->grid->world, e_out, size);
    comm_sum_double(e->grid->data, loss, J * r->n);
    comm_sum_double(e->grid->data, mean_weight, J * r->n);
    for (size_t i = 0; i < r->n; i++)
        for (size_t j = 0; j < J && !dataset_labels(r->data, r->row[i]); j++) mean_weight[j * r->n + i] = NAN;
    return grid_agree(e->grid, st);
}
