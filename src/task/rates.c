/* What this machine does in a second, measured for --check on all processes at once: products of the model's own shapes, loops over
 * memory, sums over processes. What the input gives under `plan` is taken as it stands. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST_TOKENS = 1024, MOST_WIDTH = 2048, TIMES = 3 };
static const double LONG = 0.05; /* seconds of one timing: processes that share a core must all have had their turn */

struct products { /* buffers for the largest of them */
    const struct grid *world;
    const struct layout *layout;
    size_t n;
    real *x, *y, *w;
    double flops;
};

static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }

/* y = x W^T and its two derivatives, as a step has them. */
static void three_products(struct products *p, size_t out, size_t in)
{
    linear_forward(p->n, out, in, p->x, in, reals(p->w), p->y, out);
    linear_backward_input(p->n, out, in, p->y, out, reals(p->w), 0, p->x, in);
    linear_backward_weight(p->n, out, in, p->y, out, p->x, in, 1, reals(p->w));
    math_fill(p->n * in, (real)1e-3, p->x);
    math_fill(out * in, (real)1e-3, p->w);
    p->flops += 6.0 * (double)p->n * (double)out * (double)in;
}

static void block_products(void *context)
{
    static const enum role roles[][3] = {
        {ROLE_Q, ROLE_K, ROLE_V}, {ROLE_O, N_ROLE, N_ROLE}, {ROLE_GATE, ROLE_UP, N_ROLE}, {ROLE_DOWN, N_ROLE, N_ROLE}};
    struct products *p = context;
    p->flops = 0;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        size_t out = 0, in = 0;
        for (int k = 0; k < 3; k++) {
            const struct param *w = roles[i][k] == N_ROLE ? NULL : layout_find(p->layout, 1, roles[i][k]);
            if (w) out += w->row_count, in = w->col_count;
        }
        if (out && in) three_products(p, at_most(out, MOST_WIDTH), at_most(in, MOST_WIDTH));
    }
}

/* Seconds of one call, the same on every process: as often as it takes all of them LONG; the shortest of several timings.
 *                                                                                              Collective over world. */
static double timed(const struct grid *world, void (*call)(void *context), void *context)
{
    double least = INFINITY, first, n;
    call(context);
    first = clock_seconds();
    call(context);
    first = clock_seconds() - first;
    comm_max_double(world->world, &first, 1);
    n = ceil(LONG / fmax(first, 1e-7));
    for (int i = 0; i < TIMES; i++) {
        double seconds;
        comm_barrier(world->world);
        seconds = clock_seconds();
        for (double k = 0; k < n; k++) call(context);
        seconds = clock_seconds() - seconds;
        comm_max_double(world->world, &seconds, 1);
        least = fmin(least, seconds / n);
    }
    return least;
}

static void products_and_sum(void *context)
{
    enum { FEW = 64 };
    struct products *p = context;
    block_products(p);
    comm_sum_real(p->world->world, p->x, FEW);
}

/* Where processes share cores, one that waits for a sum gives its core to another, which keeps it until the system takes it
 * away: a sum between products takes longer than one among sums.                                Collective over world. */
static bool crowded(const struct grid *world, int threads)
{
    double too_many = world->size > 1 && (long)parallel_node_size() * threads > sysconf(_SC_NPROCESSORS_ONLN);
    comm_max_double(world->world, &too_many, 1); /* nodes may differ, and all time the same */
    return too_many > 0;
}

/* flop/s of the products of a block, of passes of so many tokens; what a sum between them takes, where cores are shared. */
static enum status product_rate(const struct grid *world, const struct layout *l, size_t tokens, bool waits,
                                struct rates *r)
{
    struct products p = {.world = world, .layout = l, .n = at_most(tokens ? tokens : MOST_TOKENS, MOST_TOKENS)};
    double seconds;
    enum status st = OK;
    p.x = memory_new(p.n * MOST_WIDTH, sizeof(real));
    p.y = memory_new(p.n * MOST_WIDTH, sizeof(real));
    p.w = memory_new((size_t)MOST_WIDTH * MOST_WIDTH, sizeof(real));
    if (!p.x || !p.y || !p.w) st = fail(ERR_MEMORY, "memory: cannot allocate what rates are measured with");
    TRY(grid_agree(world, st));
    seconds = timed(world, block_products, &p);
    r->flops = p.flops / seconds;
    if (waits) r->latency = fmax(timed(world, products_and_sum, &p) - seconds, 0);
done:
    free(p.x), free(p.y), free(p.w);
    return st;
}

struct arrays {
    const struct grid *world;
    size_t n, sum; /* of which so many are summed */
    real *a, *b;
};

static void add(void *context)
{
    const struct arrays *x = context;
    math_add(x->n, x->a, x->b);
}

static void sum(void *context)
{
    const struct arrays *x = context;
    comm_sum_real(x->world->world, x->a, x->sum);
}

/* Loops that read two arrays and write one, larger than caches; sums over all processes, of much and of little. */
static enum status memory_rates(const struct grid *world, struct rates *r)
{
    struct arrays x = {.world = world, .n = ((size_t)32 << 20) / sizeof(real)};
    const double ring = 2.0 * (world->size - 1) / world->size * sizeof(real);
    double little;
    enum status st = OK;
    x.a = memory_new(x.n, sizeof(real));
    x.b = memory_new(x.n, sizeof(real));
    if (!x.a || !x.b) st = fail(ERR_MEMORY, "memory: cannot allocate what rates are measured with");
    TRY(grid_agree(world, st));
    r->bandwidth = 3.0 * (double)x.n * sizeof(real) / timed(world, add, &x);
    if (world->size == 1) goto done;
    x.sum = 64;
    little = timed(world, sum, &x);
    x.sum = ((size_t)2 << 20) / sizeof(real); /* a piece of parallel/collective.c */
    r->link = ring * (double)x.sum / fmax(timed(world, sum, &x) - little, 1e-9);
    r->latency = fmax(r->latency, little);
done:
    free(x.a), free(x.b);
    return st;
}

enum status rates_measure(const struct inputs *in, const struct plan *p, const struct grid *world, struct rates *r)
{
    const struct config *c = in->config;
    struct layout *l = NULL;
    bool waits;
    enum status st;
    *r = (struct rates){0};
    st = layout_new(in->shape, 0, p->tensor, &l);
    TRY(grid_agree(world, st));
    waits = crowded(world, p->threads);
    if (isnan(c->plan.flops) || waits) TRY(product_rate(world, l, p->tokens, waits, r));
    TRY(memory_rates(world, r));
    if (!isnan(c->plan.flops)) r->flops = c->plan.flops;
    if (!isnan(c->plan.bandwidth)) r->bandwidth = c->plan.bandwidth;
    if (world->size == 1) r->link = r->bandwidth / 3; /* what is sent is written, read, and added */
    r->network = !isnan(c->plan.network) ? c->plan.network : world->size > parallel_node_size() ? r->link : 0;
done:
    layout_free(l);
    return st;
}
