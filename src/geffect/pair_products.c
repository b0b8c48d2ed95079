/* The sink that multiplies the gradients of passing instances i with those of the rows p of the block that is kept. For
 * y = x W^T
 *      <dW_i, dW_p> = sum over rows t of i, u of p of (delta_t . delta_u) (x_t . x_u)
 * as two products of matrices, tile by tile; or, where rows are long and the matrix is small, both gradients are formed for some
 * rows of W at a time and multiplied. Gradients of vectors are formed; those of tables meet in rows of equal ids. A tied
 * embedding has two uses: each of i's meets both of p's, and the product counts where i's use acts. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <string.h>

struct products {
    struct pairs *w;
    size_t J, G, n, m; /* n instances, m rows */
    const size_t *group;
    const size_t *instance; /* place in the list of each sequence of this pass */
    double *out;            /* [J][G][n][m] */
};
struct tile {
    size_t a, n, u, m; /* rows a ... a+n-1 of the pass, u ... u+m-1 of the block */
};

static const struct layout *layout_of(const struct products *s) { return s->w->engine.layout; }

/* Deltas of shared rows are partial sums, so every rank that keeps such rows adds its part. */
static bool counts(const struct param *p) { return p->own_count || p->shared; }

static size_t group_of(const struct products *s, size_t use, const struct param *p)
{
    return s->group[use == p->layer ? (size_t)(p - layout_of(s)->param) : layout_of(s)->n_param];
}

static double *place(const struct products *s, size_t j, size_t group, size_t i, size_t q)
{
    return &s->out[((j * s->G + group) * s->n + s->instance[i]) * s->m + s->w->place[q]];
}

/* --------------------------------------------------------------------------------------------------- tiles ------- */
static size_t tiles(size_t n) { return (n + PAIR_TILE - 1) / PAIR_TILE; }

static struct tile tile_at(size_t k, size_t n, size_t m)
{
    struct tile t = {.a = k / tiles(m) * PAIR_TILE, .u = k % tiles(m) * PAIR_TILE};
    t.n = smaller(n - t.a, PAIR_TILE), t.m = smaller(m - t.u, PAIR_TILE);
    return t;
}

/* The part of row x that lies in n rows from `from` on, counted from there. */
static size_t clip(size_t x, size_t from, size_t n) { return x < from ? 0 : smaller(x - from, n); }

/* The first matrix of a tile: products of rows of width d. */
static void tile_products(const struct products *s, const struct tile *t, size_t d, const real *x, const real *kept)
{
    linear_forward(t->n, t->m, d, x + t->a * d, d, reals(kept + t->u * d), s->w->tile, PAIR_TILE);
}

static real *second(const struct products *s) { return s->w->tile + (size_t)PAIR_TILE * PAIR_TILE; }

/* Adds to each pair of sequences the sum, over its rows in the tile, of the products of both matrices' elements. */
static void add_tile(const struct products *s, const struct tile *t, const struct cut *c, const size_t *first, size_t j,
                     size_t group)
{
    const struct pairs *w = s->w;
    double *e = w->engine.room->of_sequence;
    for (size_t i = 0; i <= c->n_seq; i++) w->cut[i] = clip(c->first[i], t->a, t->n);
    for (size_t q = 0; q < w->n_seq; q++) {
        const size_t at = clip(first[q], t->u, t->m), end = clip(first[q + 1], t->u, t->m);
        if (at == end) continue;
        memset(e, 0, c->n_seq * sizeof *e);
        dots_by_sequence(c->n_seq, w->cut, end - at, w->tile + at, PAIR_TILE, second(s) + at, PAIR_TILE, e);
        for (size_t i = 0; i < c->n_seq; i++) *place(s, j, group, i, q) += e[i];
    }
}

/* Adds y [n][sequences of the block] to the pairs of sequences at ... at+n-1. */
static void add_block(const struct products *s, size_t at, size_t n, const real *y, size_t j, size_t group)
{
    const size_t m = s->w->n_seq;
    for (size_t i = 0; i < n; i++)
        for (size_t q = 0; q < m; q++) *place(s, j, group, at + i, q) += (double)y[i * m + q];
}

/* ------------------------------------------------------------------------------------------------- matrices ------- */
bool pairs_formed(size_t in, size_t out, size_t J, const size_t rows[2], const size_t sequences[2], double *flops)
{
    const double a = (double)J * (double)rows[0], ij = (double)J * (double)sequences[0];
    const double products = (double)rows[0] * (double)rows[1] * ((double)in + (double)J * (double)out);
    const double formed = (double)in * (double)out * (a + (double)rows[1] + ij * (double)sequences[1]);
    const size_t most = sequences[0] > sequences[1] ? sequences[0] : sequences[1];
    const bool fits = most * in <= PAIR_FORMED && sequences[0] * sequences[1] <= (size_t)PAIR_TILE * PAIR_TILE;
    if (flops) *flops = 2 * (fits && formed < products ? formed : products);
    return fits && formed < products;
}

static void by_tokens(const struct products *s, size_t use, const struct param *p, size_t n_param, const struct cut *c,
                      const real *x, const real *dy)
{
    const size_t *first = pair_first(s->w, use, p), m = first[s->w->n_seq], in = p->col_count,
                 out = param_rows(p, n_param);
    for (size_t k = 0; k < tiles(c->n) * tiles(m); k++) {
        const struct tile t = tile_at(k, c->n, m);
        tile_products(s, &t, in, x, pair_use(s->w, use, p)->x);
        for (size_t j = 0; j < c->J; j++) {
            for (size_t i = 0, at = 0; i < n_param; at += p[i++].row_count)
                gemm(false, true, t.n, t.m, p[i].row_count, 1, dy + (j * c->n + t.a) * out + at, out,
                     pair_use(s->w, use, &p[i])->dy + t.u * p[i].row_count, p[i].row_count, i ? 1 : 0, second(s),
                     PAIR_TILE);
            add_tile(s, &t, c, first, j, group_of(s, use, p));
        }
    }
}

/* The gradients of n_seq sequences by some rows of a matrix, one behind the other: formed [n_seq][rows][in]. */
static void form(size_t n_seq, const size_t *first, size_t rows, size_t in, const real *x, const real *dy, size_t ld,
                 real *formed)
{
    for (size_t q = 0; q < n_seq; q++)
        gemm(true, false, rows, in, first[q + 1] - first[q], 1, dy + first[q] * ld, ld, x + first[q] * in, in, 0,
             formed + q * rows * in, in);
}

static void by_gradients(const struct products *s, size_t use, const struct param *p, size_t n_param, const struct cut *c,
                         const real *x, const real *dy)
{
    struct pairs *w = s->w;
    const size_t most = c->n_seq > w->n_seq ? c->n_seq : w->n_seq, in = p->col_count, out = param_rows(p, n_param);
    const size_t step = PAIR_FORMED / (most * in);
    for (size_t i = 0, at = 0; i < n_param; at += p[i++].row_count)
        for (size_t o = 0; o < p[i].row_count; o += step) {
            const size_t rows = smaller(step, p[i].row_count - o);
            form(w->n_seq, pair_first(w, use, p), rows, in, pair_use(w, use, p)->x, pair_use(w, use, &p[i])->dy + o,
                 p[i].row_count, w->formed[1]);
            for (size_t j = 0; j < c->J; j++) {
                form(c->n_seq, c->first, rows, in, x, dy + j * c->n * out + at + o, out, w->formed[0]);
                linear_forward(c->n_seq, w->n_seq, rows * in, w->formed[0], rows * in, reals(w->formed[1]), w->tile,
                               w->n_seq);
                add_block(s, 0, c->n_seq, w->tile, j, group_of(s, use, p));
            }
        }
}

/* The head's use of a tied embedding by the instances, with the block's look-ups. */
static void head_with_embedding(const struct products *s, const struct param *p, const struct cut *c, const real *x,
                                const real *dy)
{
    const struct pairs *w = s->w;
    const size_t m = w->first[0][w->n_seq], words = p->row_count, first = p->piece[0].first;
    for (size_t k = 0; k < tiles(c->n) * tiles(m); k++) {
        const struct tile t = tile_at(k, c->n, m);
        tile_products(s, &t, p->col_count, x, pair_use(w, p->layer, p)->dy);
        for (size_t j = 0; j < c->J; j++) {
            const real *d = dy + (j * c->n + t.a) * words;
            for (size_t r = 0; r < t.n; r++)
                for (size_t u = 0; u < t.m; u++) {
                    const size_t id = (size_t)w->id[0][t.u + u] - first; /* what is below `first` becomes huge */
                    second(s)[r * PAIR_TILE + u] = id < words ? d[r * words + id] : 0;
                }
            add_tile(s, &t, c, w->first[0], j, s->group[layout_of(s)->n_param]);
        }
    }
}

static void linear(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *x,
                   const real *dy)
{
    const struct products *s = context;
    const size_t rows[2] = {c->n, pair_first(s->w, use, p)[s->w->n_seq]}, sequences[2] = {c->n_seq, s->w->n_seq};
    enum phase before;
    if (!p->col_count || !param_rows(p, n_param)) return; /* of an MLP with fewer columns than there are tensor ranks */
    assert(counts(p));
    before = phase_enter(PHASE_PRODUCTS);
    if (pairs_formed(p->col_count, param_rows(p, n_param), c->J, rows, sequences, NULL))
        by_gradients(s, use, p, n_param, c, x, dy);
    else
        by_tokens(s, use, p, n_param, c, x, dy);
    if (use != p->layer) head_with_embedding(s, p, c, x, dy);
    phase_enter(before);
}

/* ------------------------------------------------------------------------------------------------- vectors ------- */
/* Products of v [n][width], gradients of vectors side by side, with the block's. */
static void add_vectors(const struct products *s, size_t use, const struct param *p, size_t n_param, size_t width,
                        size_t first, size_t n, size_t j)
{
    struct pairs *w = s->w;
    real beta = 0;
    for (size_t i = 0, at = 0; i < n_param; at += p[i++].row_count) {
        if (!counts(&p[i]) || !p[i].row_count) continue;
        gemm(false, true, n, w->n_seq, p[i].row_count, 1, w->vector + at, width, pair_use(w, use, &p[i])->dy,
             p[i].row_count, beta, w->tile, w->n_seq);
        beta = 1;
    }
    if (beta != 0) add_block(s, first, n, w->tile, j, group_of(s, use, p));
}

static void vectors(const struct products *s, size_t use, const struct param *p, size_t n_param, const struct cut *c,
                    size_t rows, size_t width, const real *xhat, const real *dy)
{
    struct pairs *w = s->w;
    const size_t room = (size_t)PAIR_TILE * PAIR_TILE / (w->n_seq ? w->n_seq : 1), most = smaller(PAIR_VECTORS, room);
    enum phase before = phase_enter(PHASE_PRODUCTS);
    assert(room > 0);
    for (size_t j = 0; j < c->J && rows && w->n_seq; j++)
        for (size_t first = 0; first < c->n_seq; first += most) {
            const size_t n = smaller(most, c->n_seq - first);
            for (size_t q = 0; q < n; q++)
                pair_vector(c, first + q, rows, width, xhat, dy + j * c->n * width, w->vector + q * rows);
            add_vectors(s, use, p, n_param, rows, first, n, j);
        }
    phase_enter(before);
}

static void bias(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, const real *dy)
{
    const size_t rows = param_rows(p, n_param);
    vectors(context, use, p, n_param, c, rows, rows, NULL, dy);
}

static void scale(void *context, size_t use, const struct param *p, size_t n_param, const struct cut *c, size_t width,
                  const real *xhat, const real *dy)
{
    vectors(context, use, p, n_param, c, n_param == 1 ? p->row_count : width, width, xhat, dy);
}

/* -------------------------------------------------------------------------------------------------- tables ------- */
/* The instances' look-ups with the block's. */
static void tables(const struct products *s, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                   const real *dy)
{
    const struct pairs *w = s->w;
    const int32_t *kept = w->id[p->role == ROLE_POSITION];
    const size_t m = w->first[0][w->n_seq], d = p->col_count;
    for (size_t k = 0; k < tiles(c->n) * tiles(m); k++) {
        const struct tile t = tile_at(k, c->n, m);
        for (size_t r = 0; r < t.n; r++) {
            const int32_t own = id[t.a + r];
            const bool here = (size_t)own - p->piece[0].first < p->row_count;
            for (size_t u = 0; u < t.m; u++) second(s)[r * PAIR_TILE + u] = here && kept[t.u + u] == own;
        }
        for (size_t j = 0; j < c->J; j++) {
            tile_products(s, &t, d, dy + j * c->n * d, pair_use(w, use, p)->dy);
            add_tile(s, &t, c, w->first[0], j, group_of(s, use, p));
        }
    }
}

/* The instances' look-ups in a tied embedding with the head's use of it by the block. */
static void embedding_with_head(const struct products *s, const struct param *p, const struct cut *c, const int32_t *id,
                                const real *dy)
{
    const struct pairs *w = s->w;
    const struct pair_use *head = &w->use[layout_of(s)->n_param];
    const size_t m = w->first[1][w->n_seq], d = p->col_count;
    for (size_t k = 0; k < tiles(c->n) * tiles(m); k++) {
        const struct tile t = tile_at(k, c->n, m);
        for (size_t r = 0; r < t.n; r++) {
            const size_t at = (size_t)id[t.a + r] - p->piece[0].first;
            for (size_t u = 0; u < t.m; u++)
                second(s)[r * PAIR_TILE + u] = at < head->out ? head->dy[(t.u + u) * head->out + at] : 0;
        }
        for (size_t j = 0; j < c->J; j++) {
            tile_products(s, &t, d, dy + j * c->n * d, head->x);
            add_tile(s, &t, c, w->first[1], j, group_of(s, p->layer, p));
        }
    }
}

static void embed(void *context, size_t use, const struct param *p, const struct cut *c, const int32_t *id,
                  const real *dy)
{
    const struct products *s = context;
    enum phase before = phase_enter(PHASE_PRODUCTS);
    if (counts(p)) tables(s, use, p, c, id, dy);
    if (layout_of(s)->shape->tied && p->role == ROLE_EMBED) embedding_with_head(s, p, c, id, dy);
    phase_enter(before);
}

/* --------------------------------------------------------------------------------------------------- passes ------- */
static void no_layer(void *context, size_t layer) {}

enum status pairs_add(struct pairs *w, size_t J, const struct objective *o, const struct rows *r, size_t G,
                      const size_t *group, double *out)
{
    struct products s = {.w = w, .J = J, .G = G, .n = r->n, .m = w->with->n, .group = group, .out = out};
    const struct sink sink = {.context = &s,
                              .begin = no_layer,
                              .end = no_layer,
                              .linear = linear,
                              .bias = bias,
                              .scale = scale,
                              .embed = embed};
    const enum outputs which = objective_outputs(o);
    struct engine *e = &w->engine;
    enum status st = OK, now;
    passes_cut(e, r, which);
    for (size_t p = 0; p < e->room->n_pass && (w->n_seq || layout_lockstep(e->layout)); p++) {
        struct batch b;
        const struct pass pass = {.e = e, .r = r, .p = p, .b = &b, .J = J, .o = o};
        pass_pack(e, r, p, which, &b);
        s.instance = e->room->mine + e->room->start[p];
        if ((now = pass_backward(&pass, &sink)) > st) st = now;
    }
    return grid_agree(w->grid, st);
}

double pairs_flops(const struct layout *l, size_t J, const size_t tokens[2], const size_t sequences[2])
{
    double sum = 0, one;
    for (size_t slot = 0; slot < slot_count(l); slot++) {
        const struct param *p = slot_param(l, slot);
        if (p->vector || (slot < l->n_param && (p->role == ROLE_EMBED || p->role == ROLE_POSITION))) continue;
        pairs_formed(p->col_count, p->row_count, J, tokens, sequences, &one);
        sum += one;
    }
    return sum;
}
