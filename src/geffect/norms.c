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
    const struct batch *b;
    const real
        *head_x; /* of a tied embedding, with room->meet: the delta of output t, by the word of row u of its sequence */
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

/* ------------------------------------------------------------------------------------------------ the head ------- */
static bool is_head(const struct norms *s, size_t use) { return use == s->e->layout->shape->blocks + 2; }
static bool begins(const struct norms *s, const struct cut *c, size_t q) { return s->b->out_first[q] >= c->row; }
static bool ends(const struct norms *s, const struct cut *c, size_t q) { return s->b->out_first[q + 1] <= c->row + c->n; }

/* A sequence's rows may come in several slabs, the last ones first: they are collected until its first row has come. From its last
 * sequence to its first, a slab completes one, then has whole ones, then begins one. */
static void head_linear(struct norms *s, const struct param *p, const struct cut *c, const real *x, const real *dy)
{
    const struct engine_room *room = s->e->room;
    const size_t in = p->col_count, out = p->row_count, own = p->own_count;
    for (size_t q = c->n_seq; q-- > 0 && own;) {
        const size_t first = s->b->out_first[q], n = s->b->out_first[q + 1] - first, here = c->first[q + 1] - c->first[q];
        if (!here) continue;
        assert(n <= room->most.norms);
        columns_take(here, own, dy + c->first[q] * out + p->own_first, out,
                     room->head_dy + (c->row + c->first[q] - first) * own);
        if (begins(s, c, q))
            *square_of(s, p, q) +=
                ghost_linear(n, in, x + c->first[q] * in, own, room->head_dy, own, room->gram, room->columns);
    }
}

static void head_bias(struct norms *s, const struct param *p, const struct cut *c, const real *dy)
{
    const size_t out = p->row_count;
    real *v = s->e->room->head_bias;
    for (size_t q = c->n_seq; q-- > 0;) {
        const size_t here = c->first[q + 1] - c->first[q];
        if (!here) continue;
        if (ends(s, c, q)) math_fill(out, 0, v);
        bias_backward(here, out, dy + c->first[q] * out, out, v);
        if (begins(s, c, q)) *square_of(s, p, q) += math_sum_squares(p->own_count, v + p->own_first);
    }
}

/* Keeps what embed() needs of the head's use of a tied embedding. */
static void head_tied(struct norms *s, const struct param *p, const struct cut *c, const real *x, const real *dy)
{
    const struct batch *b = s->b;
    const size_t words = p->row_count, first = p->piece[0].first, ld = s->e->room->most.norms;
    if (!c->row) s->head_x = x;
    for (size_t q = 0; q < c->n_seq; q++)
        for (size_t t = c->first[q]; t < c->first[q + 1]; t++)
            for (size_t u = b->first[q]; u < b->first[q + 1]; u++) {
                const size_t id = (size_t)b->id[u] - first; /* what is below `first` becomes huge */
                s->e->room->meet[(c->row + t) * ld + u - b->first[q]] = id < words ? dy[t * words + id] : 0;
            }
}

static void linear(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy)
{
    struct norms *s = context;
    const size_t in = p->col_count, out = param_rows(p, n_param);
    enum phase before = phase_enter(PHASE_PRODUCTS);
    if (is_head(s, use)) {
        head_linear(s, p, c, x, dy);
        if (use != p->layer) head_tied(s, p, c, x, dy);
        phase_enter(before);
        return;
    }
    for (size_t i = 0, at = 0; i < n_param; at += p[i++].row_count) {
        const real *d = dy + at + p[i].own_first;
        size_t ld = out;
        if (is_shared(s, &p[i])) d = whole(s, &p[i], c->n, dy + at, out), ld = p[i].rows;
        for (size_t q = 0; q < c->n_seq && p[i].own_count; q++)
            *square_of(s, &p[i], q) += linear_square(s, c, q, in, x, &p[i], d, ld);
    }
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
    if (is_head(s, use)) {
        head_bias(s, p, c, dy);
        phase_enter(before);
        return;
    }
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
        const size_t at = c->first[q], n = c->first[q + 1] - at;
        const size_t out = s->b->out_first[q], n_out = s->b->out_first[q + 1] - out;
        double *square = square_of(s, p, q);
        assert(n <= room->most.norms && n_out <= room->most.norms && d <= room->n_columns);
        *square += ghost_embedding(n, d, id + at, first, p->row_count, dy + at * d, room->columns);
        if (s->head_x && p->role == ROLE_EMBED)
            *square += 2 * ghost_cross(n, d, dy + at * d, n_out, s->head_x + out * d, room->meet + out * room->most.norms,
                                       room->most.norms, room->gram);
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
        const struct pass pass = {.e = e, .r = r, .p = p, .b = &b, .J = 1, .o = &nll};
        pass_pack(e, r, p, OUTPUTS_LABELLED, &b);
        s.instance = room->mine + room->start[p];
        s.head_x = NULL, s.b = &b;
        if ((now = pass_backward(&pass, &sink)) > st) st = now;
    }
    comm_sum_double(e->grid->world, room->square, size);
    for (size_t i = 0; i < r->n; i++)
        norm[i] = dataset_labels(r->data, r->row[i]) > r->drop ? mean_norm(e, r->n, i) : NAN;
    return grid_agree(e->grid, st);
}
