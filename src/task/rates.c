/* What this machine does in a second, measured for --check on all processes at once: products of the model's own shapes, loops over
 * memory, sums over processes. What the input gives under `plan` is taken as it stands. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>

enum { MOST_TOKENS = 1024, MOST_WIDTH = 2048, TIMES = 3 };

struct products { /* buffers for the largest of them */
    size_t n;
    real *x, *y, *w;
    double flops, seconds;
};

static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }

/* y = x W^T and its two derivatives, as a step has them. */
static void three_products(struct products *p, size_t out, size_t in)
{
    double least = INFINITY;
    for (int i = 0; i < TIMES; i++) {
        const double start = clock_seconds();
        linear_forward(p->n, out, in, p->x, in, p->w, p->y, out);
        linear_backward_input(p->n, out, in, p->y, out, p->w, 0, p->x, in);
        linear_backward_weight(p->n, out, in, p->y, out, p->x, in, p->w);
        least = fmin(least, clock_seconds() - start);
        math_fill(p->n * in, (real)0.5, p->x);
        math_fill(out * in, (real)0.25, p->w);
    }
    p->flops += 6.0 * (double)p->n * (double)out * (double)in;
    p->seconds += least;
}

/* flop/s of the products of a block, of passes of so many tokens. */
static enum status product_rate(const struct layout *l, size_t tokens, double *rate)
{
    static const enum role roles[][3] = {
        {ROLE_Q, ROLE_K, ROLE_V}, {ROLE_O, N_ROLE, N_ROLE}, {ROLE_GATE, ROLE_UP, N_ROLE}, {ROLE_DOWN, N_ROLE, N_ROLE}};
    struct products p = {.n = at_most(tokens ? tokens : MOST_TOKENS, MOST_TOKENS)};
    enum status st = OK;
    TRY_NEW(p.x, p.n * MOST_WIDTH);
    TRY_NEW(p.y, p.n * MOST_WIDTH);
    TRY_NEW(p.w, (size_t)MOST_WIDTH * MOST_WIDTH);
    math_fill(p.n * MOST_WIDTH, (real)0.5, p.x);
    math_fill((size_t)MOST_WIDTH * MOST_WIDTH, (real)0.25, p.w);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        size_t out = 0, in = 0;
        for (int k = 0; k < 3; k++) {
            const struct param *w = roles[i][k] == N_ROLE ? NULL : layout_find(l, 1, roles[i][k]);
            if (w) out += w->row_count, in = w->col_count;
        }
        if (out && in) three_products(&p, at_most(out, MOST_WIDTH), at_most(in, MOST_WIDTH));
    }
    *rate = p.seconds > 0 ? p.flops / p.seconds : math_gemm_rate(512);
done:
    free(p.x), free(p.y), free(p.w);
    return st;
}

/* bytes/s of loops that read two arrays and write one, which are larger than caches. */
static enum status bandwidth(double *rate)
{
    const size_t n = ((size_t)32 << 20) / sizeof(real);
    real *a = NULL, *b = NULL;
    double least = INFINITY;
    enum status st = OK;
    TRY_NEW(a, n);
    TRY_NEW(b, n);
    for (int i = 0; i < TIMES; i++) {
        const double start = clock_seconds();
        math_add(n, a, b);
        least = fmin(least, clock_seconds() - start);
    }
    *rate = 3.0 * (double)n * sizeof(real) / least;
done:
    free(a), free(b);
    return st;
}

/* bytes/s that each process sends for sums over all of them.                                  Collective over world. */
static enum status sum_rate(const struct grid *world, double *rate)
{
    const size_t n = ((size_t)4 << 20) / sizeof(real);
    real *a = NULL;
    double least = INFINITY;
    enum status st = OK;
    *rate = 0;
    if (world->size == 1) return OK;
    TRY_NEW(a, n);
    for (int i = 0; i < TIMES; i++) {
        double start;
        comm_barrier(world->world);
        start = clock_seconds();
        comm_sum_real(world->world, a, n);
        least = fmin(least, clock_seconds() - start);
    }
    *rate = 2.0 * (double)n * sizeof(real) * (world->size - 1) / world->size / least;
done:
    free(a);
    return st;
}

/* The least of all processes', for the others wait. */
static double least_of(const struct grid *world, double rate)
{
    double minus = -rate;
    comm_max_double(world->world, &minus, 1);
    return -minus;
}

enum status rates_measure(const struct inputs *in, const struct plan *p, const struct grid *world, struct rates *r)
{
    const struct config *c = in->config;
    struct layout *l = NULL;
    enum status st;
    *r = (struct rates){0};
    st = layout_new(in->shape, 0, p->tensor, &l);
    TRY(grid_agree(world, st));
    st = isnan(c->plan.flops) ? product_rate(l, p->tokens, &r->flops) : OK;
    if (st == OK && isnan(c->plan.bandwidth)) st = bandwidth(&r->bandwidth);
    TRY(grid_agree(world, st));
    TRY(grid_agree(world, sum_rate(world, &r->link)));
    r->flops = isnan(c->plan.flops) ? least_of(world, r->flops) : c->plan.flops;
    r->bandwidth = isnan(c->plan.bandwidth) ? least_of(world, r->bandwidth) : c->plan.bandwidth;
    r->network = isnan(c->plan.network) ? world->size > parallel_node_size() ? r->link : 0 : c->plan.network;
    if (world->size == 1) r->link = r->bandwidth / 3; /* what is sent is written, read, and added */
done:
    layout_free(l);
    return st;
}
