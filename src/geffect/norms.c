/* Norms of the gradients of single rows, by a sink that computes their squares without forming them. For y = x W^T
 *      |dW|^2 = sum over rows t, u of the sequence of (delta_t . delta_u) (x_t . x_u)
 * A tied embedding has two uses; the square of their sum also needs twice the inner product of their gradients. Each
 * process has a slice of a tensor, so squares are summed over the tensor ranks; where several ranks have partial sums
 * of the same rows, the partial sums are added before they are squared. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <math.h>
#include <string.h>

struct norms {
    struct engine *e;
    size_t n;               /* rows of the list */
    const size_t *instance; /* place in the list of each sequence of this pass */
    struct cut head;        /* the head's use of a tied embedding, kept until embed() needs it */
    const real *head_x, *head_dy;
};

static double *square_of(const struct norms *s, const struct param *p, size_t sequence)
{
    return &s->e->room->square[(size_t)(p - s->e->layout->param) * s->n + s->instance[sequence]];
}

static bool is_shared(const struct norms *s, const struct param *p)
{
    return s->e->room->shared[p - s->e->layout->param] > 0;
}

/* Sums the partial sums of all tensor ranks: x [n][ld], whose first columns are this process's rows of p (NULL: it has
 * none), becomes [n][p->rows]. Returns where the rows begin that this process counts. */
static const real *whole(const struct norms *s, const struct param *p, size_t n, const real *x, size_t ld)
{
    assert(n * p->rows <= s->e->room->n_whole);
    return shared_sum(s->e, p, n, x, ld, s->e->room->whole) + (p->own_count ? p->own_first : 0);
}

/* Squared norm of the gradient of matrix p by sequence q; the scratch is for the longest row. */
static double linear_square(const struct norms *s, const struct cut *c, size_t q, size_t in, const real *x,
                            const struct param *p, const real *d, size_t ld)
{
    const struct engine_room *room = s->e->room;
    const size_t at = c->first[q], n = c->first[q + 1] - at;
    assert(n <= room->most.norms && n * p->own_count <= room->n_columns);
    return ghost_linear(n, in, x + at * in, p->own_count, d + at * ld, ld, room->gram, room->columns);
}

static void linear(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy)
{
    struct norms *s = context;
    const size_t in = p->col_count, out = param_rows(p, n_param);
    enum phase before = phase_enter(PHASE_PRODUCTS);
    for (size_t i = 0, at = 0; i < n_param; at += p[i++].row_count) {
        const real *d = dy + at + p[i].own_first;
        size_t ld = out;
        if (is_shared(s, &p[i])) d = whole(s, &p[i], c->n, dy + at, out), ld = p[i].rows;
        for (size_t q = 0; q < c->n_seq && p[i].own_count; q++)
            *square_of(s, &p[i], q) += linear_square(s, c, q, in, x, &p[i], d, ld);
    }
    if (s->e->layout->shape->tied && p->role == ROLE_EMBED) s->head = *c, s->head_x = x, s->head_dy = dy;
    phase_enter(before);
}

/* Adds the squares of the gradient g [sequence][ld] of a vector; NULL: this process has no rows of it. */
static void vector(struct norms *s, const struct param *p, size_t n_seq, const real *g, size_t ld)
{
    if (is_shared(s, p))
        g = whole(s, p, n_seq, g, ld), ld = p->rows;
    else if (g)
        g += p->own_first;
    for (size_t q = 0; q < n_seq && p->own_count; q++) *square_of(s, p, q) += math_sum_squares(p->own_count, g + q * ld);
}

/* The same for vectors side by side in v [sequence][width]. With a norm for each head all ranks go through the heads of
 * all ranks in the same order, because vector() may send messages. */
static void vectors(struct norms *s, const struct param *p, size_t n_param, size_t n_seq, const real *v, size_t width)
{
    const struct layout *l = s->e->layout;
    const bool each = l->shape->qk_norm == QK_EACH && (p->role == ROLE_Q_NORM || p->role == ROLE_K_NORM);
    const struct param *first = each ? layout_find(l, p->layer, p->role) : p;
    const size_t n = !each ? n_param : p->role == ROLE_Q_NORM ? l->shape->heads : l->shape->kv_heads;
    for (size_t i = 0, at = 0; i < n; i++) {
        const bool here = first + i >= p && first + i < p + n_param;
        vector(s, &first[i], n_seq, here ? v + at : NULL, width);
        if (here) at += first[i].row_count;
    }
}

static void bias(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *dy)
{
    struct norms *s = context;
    const size_t width = param_rows(p, n_param);
    real *v = s->e->room->vector;
    enum phase before = phase_enter(PHASE_PRODUCTS);
    assert(c->n_seq * width <= s->e->room->n_whole);
    math_fill(c->n_seq * width, 0, v);
    for (size_t q = 0; q < c->n_seq; q++)
        bias_backward(c->first[q + 1] - c->first[q], width, dy + c->first[q] * width, width, v + q * width);
    vectors(s, p, n_param, c->n_seq, v, width);
    phase_enter(before);
}

static void scale(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t width,
                  const real *xhat, const real *dy)
{
    struct norms *s = context;
    const size_t rows = n_param == 1 ? p->row_count : width, times = rows ? width / rows : 0;
    real *v = s->e->room->vector;
    enum phase before = phase_enter(PHASE_PRODUCTS);
    assert(c->n_seq * rows <= s->e->room->n_whole);
    math_fill(c->n_seq * rows, 0, v);
    for (size_t q = 0; q < c->n_seq; q++)
        norm_backward_weight((c->first[q + 1] - c->first[q]) * times, rows, xhat + c->first[q] * width,
                             dy + c->first[q] * width, v + q * rows);
    vectors(s, p, n_param, c->n_seq, v, rows);
    phase_enter(before);
}

static void embed(void *context, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                  const real *dy)
{
    struct norms *s = context;
    struct engine_room *room = s->e->room;
    const size_t d = p->col_count, first = p->piece[0].first;
    enum phase before = phase_enter(PHASE_PRODUCTS);
    for (size_t q = 0; q < c->n_seq && p->own_count; q++) {
        const size_t at = c->first[q], n = c->first[q + 1] - at, out = s->head_x ? s->head.first[q] : 0;
        const size_t n_out = s->head_x ? s->head.first[q + 1] - out : 0;
        double *square = square_of(s, p, q);
        assert(n <= room->most.norms && n_out <= room->most.norms && d <= room->n_columns);
        *square += ghost_embedding(n, d, id + at, first, p->row_count, dy + at * d, room->columns);
        if (s->head_x && p->role == ROLE_EMBED)
            *square += 2 * ghost_cross(n, d, id + at, first, p->row_count, dy + at * d, n_out, s->head_x + out * d,
                                       s->head_dy + out * p->row_count, room->gram);
    }
    phase_enter(before);
}

static void no_layer(void *context, size_t layer) {}

/* The mean over the tensors of the file. Rounding may leave a square slightly below 0. */
static double mean_norm(const struct engine *e, size_t n, size_t i)
{
    const struct layout *l = e->layout;
    double sum = 0, square = 0;
    for (size_t k = 0; k < l->n_param; k++) {
        square = (l->param[k].goes_on ? square : 0) + e->room->square[k * n + i];
        if (k + 1 < l->n_param && l->param[k + 1].goes_on) continue;
        sum += square < 0 ? 0 : sqrt(square);
    }
    return sum / (double)l->n_tensor;
}

enum status engine_norms(struct engine *e, const struct rows *r, double *norm)
{
    struct engine_room *room = e->room;
    struct norms s = {.e = e, .n = r->n};
    const struct sink sink = {.context = &s,
                              .begin = no_layer,
                              .end = no_layer,
                              .linear = linear,
                              .bias = bias,
                              .scale = scale,
                              .embed = embed};
    const size_t size = e->layout->n_param * r->n;
    struct objective nll;
    enum status st = OK, now;
    objective_find("nll", &nll);
    memset(room->square, 0, size * sizeof *room->square);
    shared_find(e, room->shared);
    passes_cut(e, r, OUTPUTS_LABELLED);
    for (size_t p = 0; p < room->n_pass; p++) {
        struct batch b;
        pass_pack(e, r, p, OUTPUTS_LABELLED, &b);
        s.instance = room->mine + room->start[p];
        s.head_x = NULL;
        if ((now = pass_forward(e, 1, &nll, r, p, &b)) > st) st = now;
        pass_losses(e, 1, &nll, r, p, &b, NULL, NULL, NULL);
        if ((now = model_backward(e->model, e->weights, &b, 1, &sink)) > st) st = now;
    }
    comm_sum_double(e->grid->world, room->square, size);
    for (size_t i = 0; i < r->n; i++)
        norm[i] = dataset_labels(r->data, r->row[i]) > r->drop ? mean_norm(e, r->n, i) : NAN;
    return grid_agree(e->grid, st);
}
