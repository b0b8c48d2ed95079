/* Whose matrix products a run uses: the BLAS library's, or oneDNN's, which is the faster on some processors. Decided once for
 * all processes and kept in checkpoints, because the last bits of results depend on it. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>

/* Flops of a process: below, half a minute of one core and less, the choice would save a second or two, and it is worth more
 * that a run can be repeated bit for bit, however busy the machine is. */
static const double WORTH_CHOOSING = 5e12;
static const double CLEARLY = 1.03; /* faster by so much: repeated measurements differ by two or three percent */

static char said[320]; /* "" nothing was decided */

const char *products_said(void) { return *said ? said : NULL; }

/* The processes that have not got them are named once, by the first of these. */
static enum status set(const struct config *c, const char *key, enum multiplier p, const struct grid *world)
{
    struct place place = config_place(c, key);
    const char *lack = math_products_lack(p);
    enum status st = OK;
    if (lack && place.line)
        st = fail(ERR_INPUT, "%s: %s: %s: leave the key out", place_text(&place), key, lack);
    else if (lack)
        st = fail(ERR_INPUT, "%s: %s: %s: leave the key out", c->file, key, lack);
    else
        st = math_products(p);
    return grid_agree(world, st);
}

/* Rates of rank 0, the same on every process; of the larger products of a block, cut to what tells enough. */
static void rates_of_first(const struct inputs *in, size_t tokens, int tensor, size_t n, const enum multiplier *p,
                           const struct grid *world, double *rate)
{
    enum { ROWS = 256, MOST = 1024 };
    const struct shape *s = in->shape;
    const size_t rows = smaller(ROWS, tokens), d = smaller(MOST, s->hidden), mlp = s->intermediate / (size_t)tensor;
    double one[N_MULTIPLIER];
    for (size_t i = 0; i < n; i++) rate[i] = 0;
    if (world->rank == 0) {
        math_products_rates(rows, smaller(MOST, mlp * (s->gated ? 2 : 1)), d, n, p, rate);
        math_products_rates(rows, d, smaller(MOST, mlp), n, p, one);
        for (size_t i = 0; i < n; i++) rate[i] = rate[i] > 0 && one[i] > 0 ? 2 / (1 / rate[i] + 1 / one[i]) : 0;
    }
    comm_broadcast(world->world, rate, n * sizeof *rate, 0);
}

/* What rounding gains on this machine, whatever the model. */
static void say_bfloat16(const struct grid *world)
{
    const enum multiplier both[] = {BY_BLAS, BY_BFLOAT16};
    double rate[2] = {0, 0};
    if (world->rank == 0) math_products_rates(256, 768, 768, 2, both, rate);
    snprintf(said, sizeof said, "%s, operands rounded to bfloat16: %.4g Gflop/s, against %.4g of %s in float32",
             math_onednn(), rate[1] / 1e9, rate[0] / 1e9, "the BLAS library");
    if (world->rank == 0 && rate[1] < 1.1 * rate[0])
        log_warn(
            "precision: bfloat16: products are no faster than in float32 on this processor: the key saves memory alone");
}

enum status products_asked(const struct inputs *in, const struct grid *world)
{
    const struct config *c = in->config;
    enum status st = OK;
    if (c->precision == PRECISION_BFLOAT16) {
        TRY(set(c, "precision", BY_BFLOAT16, world));
        say_bfloat16(world);
    } else if (c->parallel.products == PRODUCTS_OF_ONEDNN) {
        TRY(set(c, "parallel.products", BY_ONEDNN, world));
        snprintf(said, sizeof said, "%s, as the input says", math_onednn());
    } else if (c->parallel.products == PRODUCTS_OF_BLAS)
        snprintf(said, sizeof said, "the BLAS library, as the input says");
done:
    return st;
}

static bool open_to_choice(const struct config *c)
{
    return c->precision == PRECISION_FLOAT32 && c->parallel.products == PRODUCTS_OF_AUTO;
}

/* On every process. */
static bool all_have(enum multiplier p, const struct grid *world)
{
    double lack = math_products_lack(p) != NULL;
    comm_max_double(world->world, &lack, 1);
    return lack == 0;
}

enum status products_chosen(const struct inputs *in, const struct timetable *s, const struct plan *p,
                            const struct grid *world)
{
    const enum multiplier both[] = {BY_BLAS, BY_ONEDNN};
    double rate[2];
    bool faster;
    if (!open_to_choice(in->config)) return OK;
    if (work_of_all(in, s, p) < WORTH_CHOOSING * world->size) {
        snprintf(said, sizeof said, "the BLAS library: for so little work nothing else is tried (parallel.products)");
        return OK;
    }
    if (!all_have(BY_ONEDNN, world)) {
        const char *lack = math_products_lack(BY_ONEDNN);
        snprintf(said, sizeof said, "the BLAS library: %s", lack ? lack : "not every process has oneDNN's");
        return OK;
    }
    rates_of_first(in, p->tokens, p->tensor, 2, both, world, rate);
    faster = rate[1] > CLEARLY * rate[0];
    snprintf(said, sizeof said, "%s: %.4g Gflop/s at this model's sizes, %s %.4g",
             faster ? math_onednn() : "the BLAS library", rate[faster] / 1e9, faster ? "the BLAS library" : "oneDNN",
             rate[!faster] / 1e9);
    return grid_agree(world, math_products(both[faster]));
}

enum status products_of_restart(const struct inputs *in, const struct restart *r, const struct grid *world)
{
    const char *then = world->rank == 0 ? restart_products(r) : NULL;
    uint64_t onednn = then != NULL;
    if (!open_to_choice(in->config)) return OK;
    comm_broadcast(world->world, &onednn, sizeof onednn, 0);
    if (onednn && !all_have(BY_ONEDNN, world)) {
        const char *lack = math_products_lack(BY_ONEDNN);
        if (world->rank == 0)
            log_warn("%s: was made with products of %s; %s: it goes on with the BLAS library's, and agrees to rounding",
                     r->path, then, lack ? lack : "not every process has it");
        onednn = 0;
    }
    snprintf(said, sizeof said, "%s, as in the checkpoint", onednn ? math_onednn() : "the BLAS library");
    return grid_agree(world, math_products(onednn ? BY_ONEDNN : BY_BLAS));
}
