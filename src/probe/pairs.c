/* Effects of instances on instances: which single rows p pay for which forgotten instance i,
 *      pair_effect[j,g,i,p] = <grad_g L_j(s_i), grad_g nll(s_p)>
 * over groups of layers g. nll(s_p) is the mean over the row's labels, so that the sum over p with the weights of a risk is the
 * effect on that risk. Rows p go through the model block by block (geffect/pairs.c), and for each block all instances. */
#include "unlearn/probe_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct self {
    struct pairs *store;
    struct rows with;
    double *effect;     /* [J][N_GROUP][n][m] */
    size_t *group;      /* [n_slot] */
    int64_t *row;       /* [m] rows of the file */
    const char *of_row; /* what the rows are */
    double flops;
};
static const char *const groups[] = {"embed", "shallow", "middle", "deep", "lm"}; /* as in unlearn_report/effects.py */
enum { N_GROUP = sizeof groups / sizeof *groups, SMALL = 512 << 20 };

static bool wanted(const struct inputs *in) { return in->measures && in->paired; }

/* The blocks in thirds; the final norm stands with the head. */
static size_t group_of(const struct layout *l, size_t layer)
{
    const size_t blocks = l->shape->blocks;
    return !layer ? 0 : layer <= blocks ? 1 + 3 * (layer - 1) / blocks : N_GROUP - 1;
}

/* ----------------------------------------------------------------------------------------------------- plan ------- */
/* The more rows a block has, the less often the instances pass. Where the model is large, a block takes as much memory as the
 * weights; where it is small, SMALL bytes; in any case it has room for a pass. The same on all processes. */
static struct pairs_limits limits(const struct inputs *in, const struct plan *plan, const struct layout *l)
{
    const struct risk *p = in->paired;
    const size_t weights = l->elements / (size_t)l->tensor_size * sizeof(real), pass = plan->tokens;
    const size_t all = (size_t)plan_tokens(p->data, p->n, p->row), bytes = weights > SMALL ? weights : SMALL;
    struct pairs_limits most = {.rows = p->n, .tokens = bytes / pairs_token_bytes(l)};
    size_t outputs = 0;
    for (size_t i = 0; i < p->n; i++) outputs += dataset_labels(p->data, p->row[i]);
    if (most.tokens < pass) most.tokens = pass;
    if (most.tokens > all) most.tokens = all;
    most.outputs = smaller(most.tokens, outputs);
    most.sequences = smaller(most.tokens, p->n);
    return most;
}

static double work(const struct inputs *in, const struct plan *plan, const struct layout *l)
{
    const struct pairs_limits most = limits(in, plan, l);
    const struct risk *p = in->paired;
    const double N = plan_products(l), J = (double)in->n_measured, pass = (double)plan->tokens;
    const double a = plan_tokens(in->forget, in->forget->n_row, NULL), u = plan_tokens(p->data, p->n, p->row);
    const double passes = ceil(a / pass), blocks = ceil(u / (double)most.tokens);
    const size_t tokens[2] = {(size_t)(a / passes), (size_t)(u / blocks)};
    const size_t sequences[2] = {(size_t)ceil((double)in->forget->n_row / passes), (size_t)ceil((double)p->n / blocks)};
    return 4 * N * u + blocks * (2 + 2 * J) * N * a +
           passes * blocks * pairs_flops(l, in->n_measured, tokens, sequences) * (double)l->tensor_size;
}

static void demand(const struct inputs *in, const struct plan *p, const struct layout *l, struct demand *d)
{
    const struct grid g = {.data_size = 1, .tensor_size = l->tensor_size};
    const struct engine e = {.grid = &g, .layout = l, .tokens = p->tokens};
    const struct pairs_limits most = limits(in, p, l);
    pairs_new(&e, &most, NULL, &d->bytes);
    d->bytes += in->n_measured * N_GROUP * in->forget->n_row * in->paired->n * sizeof(double);
    d->rows = in->paired->n;
    d->flops_measure = work(in, p, l);
}

static enum status print(const struct inputs *in, const struct plan *p, const struct layout *l, struct text *out)
{
    const struct pairs_limits most = limits(in, p, l);
    const struct grid g = {.data_size = 1, .tensor_size = l->tensor_size};
    const struct engine e = {.grid = &g, .layout = l, .tokens = p->tokens};
    const double all = plan_tokens(in->paired->data, in->paired->n, in->paired->row);
    size_t bytes = 0;
    pairs_new(&e, &most, NULL, &bytes);
    return text_print(out,
                      "pairs      %zu forget rows with %zu of %s: blocks of at most %zu of their %.0f tokens, %.1f MB a "
                      "process, %.3g Gflop a measurement\n",
                      in->forget->n_row, in->paired->n, in->paired->data->path, most.tokens, all, (double)bytes / 1e6,
                      work(in, p, l) / 1e9);
}

/* ------------------------------------------------------------------------------------------------------ new ------- */
static void end(void *context)
{
    struct self *s = context;
    if (!s) return;
    pairs_free(s->store);
    free(s->effect), free(s->group), free(s->row);
    free(s);
}

static enum status make(const struct measurement *m, void **context)
{
    const struct inputs *in = m->subject->in;
    const struct layout *l = m->subject->layout;
    const struct pairs_limits most = limits(in, m->subject->plan, l);
    const size_t slots = slot_count(l);
    struct self *s = NULL;
    enum status st = OK;
    TRY_NEW(s, 1);
    *context = s;
    s->with = risk_rows(in->paired);
    s->of_row = in->paired->data == in->forget ? "row of the forget file, from 0" : "row of the retain file, from 0";
    s->flops = work(in, m->subject->plan, l);
    TRY_NEW(s->effect, in->n_measured * N_GROUP * in->forget->n_row * s->with.n);
    TRY_NEW(s->group, slots);
    TRY_NEW(s->row, s->with.n);
    for (size_t k = 0; k < slots; k++) s->group[k] = group_of(l, slot_layer(l, k));
    for (size_t p = 0; p < s->with.n; p++) s->row[p] = (int64_t)s->with.row[p];
    TRY(pairs_new(&m->subject->engine, &most, &s->store, NULL));
done:
    return st;
}

static const struct axis own_axis[] = {
    {.name = "group",
     .long_name = "layers: embedding; first, second, last third of the blocks; final norm and output layer"},
    {.name = "pair_instance", .long_name = "row of the file of geffect.pairs.with, from 0", .units = "1"},
};

static size_t axes(const void *context, struct axis axis[MOST_AXES])
{
    const struct self *s = context;
    axis[0] = own_axis[0], axis[1] = own_axis[1];
    axis[0].n = N_GROUP, axis[0].label = groups;
    axis[1].long_name = s->of_row, axis[1].n = s->with.n, axis[1].value = s->row;
    return 2;
}

/* -------------------------------------------------------------------------------------------------- measure ------- */
/* All instances with the block that is kept. */
static enum status pass_by(struct measurement *m, struct self *s)
{
    const struct inputs *in = m->subject->in;
    const size_t each = N_GROUP * in->forget->n_row * s->with.n;
    enum status st = OK;
    for (size_t j = 0, next; j < in->n_measured; j = next) {
        const struct rows rows = subject_forget(m->subject, &in->measured[j]);
        next = measured_together(in, j);
        TRY(pairs_add(s->store, next - j, &in->measured[j], &rows, N_GROUP, s->group, s->effect + j * each));
    }
done:
    return st;
}

/* Every rank has the same. */
static enum status check(const struct inputs *in, const struct self *s)
{
    const size_t n = in->forget->n_row, m = s->with.n;
    for (size_t at = 0; at < in->n_measured * N_GROUP * n * m; at++)
        if (!isfinite(s->effect[at]))
            return fail(ERR_NUMERIC, "%s: row %zu (from 0): the effect of %s of row %zu of %s is not finite in %s",
                        s->with.data->path, s->with.row[at % m], in->label[at / m / n / N_GROUP], at / m % n,
                        in->forget->path, groups[at / m / n % N_GROUP]);
    return OK;
}

static enum status before(struct measurement *m, void *context)
{
    const struct inputs *in = m->subject->in;
    struct self *s = context;
    const size_t size = in->n_measured * N_GROUP * in->forget->n_row * s->with.n;
    const size_t blocks = pairs_share(s->store, &m->subject->engine, &s->with);
    enum status st = OK;
    memset(s->effect, 0, size * sizeof *s->effect);
    for (size_t b = 0; b < blocks; b++) {
        if (b) TRY(measurement_go_on(m));
        TRY(pairs_keep(s->store, b));
        TRY(pass_by(m, s));
    }
    comm_sum_double(m->subject->grid->world, s->effect, size);
    m->subject->flops += s->flops;
    TRY(check(in, s));
    TRY(measurement_put(m, "pair_weight", in->paired->weight));
    TRY(measurement_put(m, "pair_effect", s->effect));
done:
    return st;
}

static const struct field fields[] = {
    {"pair_effect",
     {"step", "objective", "group", "instance", "pair_instance"},
     FIELD_DOUBLE,
     "nat2",
     "effect of an instance on a single row: inner product of the gradient of the objective on the one and of the mean "
     "negative log-likelihood per labelled token of the other, in a group of layers; a tied embedding counts where the "
     "objective's gradient comes through it",
     "<grad_g L_j(s_i; theta_t), grad_g nll(s_p; theta_t)>; sum_p pair_weight[p] of it is the effect on a risk over "
     "these rows"},
    {"pair_weight",
     {"pair_instance"},
     FIELD_DOUBLE,
     "1",
     "weight of a row in the risk over the rows of pair_instance, by the attribute normalisation",
     "R = sum_p pair_weight[p] nll(s_p)"},
};

const struct probe pairs_probe = {.name = "pairs",
                                  .wanted = wanted,
                                  .demand = demand,
                                  .print = print,
                                  .fields = {fields, sizeof fields / sizeof *fields, "geffect.pairs"},
                                  .own_axis = own_axis,
                                  .n_own_axis = sizeof own_axis / sizeof *own_axis,
                                  .axes = axes,
                                  .make = make,
                                  .before = before,
                                  .end = end};
