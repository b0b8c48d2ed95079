/* The work of one process, counted row by row: matrix products, attention, the loops beside them, and what is summed over
 * processes. Counted is the data rank whose rows cost most, for the others wait for it.
 *      products   2 flops for each weight and token, forward; as many for each objective's backward by activations, each
 *                 direction of effects, and the gradient; only at outputs the head's, and of the last block what comes behind
 *                 attention's heads
 *      attention  two products over half of length^2 forward, five backward                                          */
#include "unlearn/plan_priv.h"
#include <assert.h>
#include <stdlib.h>

enum { SAMPLES = 8 }; /* updates whose rows are drawn, evenly spread */

/* What the most expensive share of a list of rows has. */
struct share {
    double tokens, outputs, squares, sequences; /* squares: of the lengths */
};

struct counter {
    const struct inputs *in;
    struct timetable *timetable;
    const struct layout *layout;
    const struct plan *plan;
    size_t most;  /* longest list of rows */
    size_t *row;  /* [most] of an update */
    double *cost; /* [most] */
    void *scratch;
    int *owner; /* [most] */
};

static void add_row(const struct dataset *d, size_t row, enum outputs which, struct share *s)
{
    const double t = (double)dataset_length(d, row);
    s->tokens += t, s->squares += t * t, s->sequences++;
    s->outputs += (double)dataset_outputs(d, row, which);
}

static double cost_of(const struct counter *k, const struct call *c, size_t row)
{
    const double cost = row_cost(k->layout, c->data, row, c->outputs);
    return cost > 0 && c->pair ? cost + row_cost(k->layout, c->data, row + c->pair, OUTPUTS_ALL) : cost;
}

static struct share largest_share(struct counter *k, const struct call *c, const size_t *row)
{
    struct share s = {0};
    double most = 0;
    int at = 0;
    for (size_t i = 0; i < c->n; i++) k->cost[i] = cost_of(k, c, row ? row[i] : i);
    split_balanced(c->n, k->cost, k->plan->data, k->scratch, k->owner);
    for (int rank = 0; rank < k->plan->data; rank++) {
        double sum = 0;
        for (size_t i = 0; i < c->n; i++) sum += k->owner[i] == rank ? k->cost[i] : 0;
        if (sum > most) most = sum, at = rank;
    }
    for (size_t i = 0; i < c->n; i++) {
        if (k->owner[i] != at || k->cost[i] == 0) continue;
        add_row(c->data, row ? row[i] : i, c->outputs, &s);
        if (c->pair) add_row(c->data, (row ? row[i] : i) + c->pair, c->outputs, &s);
    }
    return s;
}

/* ---------------------------------------------------------------------------------------------------- a call ------- */
struct widths {           /* of this process */
    double blocks, again; /* weights of all blocks; of those whose products are computed again */
    double last[2];       /* of both in the last block, behind attention's heads */
    double head, d, att, qkv, up;
    double kept_twice; /* parameters that tensor ranks keep together */
};

static struct widths widths_of(const struct layout *l)
{
    const struct shape *s = l->shape;
    struct widths w = {.head = (double)l->word_count * (double)s->hidden, .d = (double)s->hidden};
    w.att = (double)(l->head_count * s->head_dim);
    w.qkv = (double)((l->head_count + 2 * l->kv_count) * s->head_dim);
    w.up = (double)(l->column_count * (s->gated ? 2 : 1));
    for (size_t i = 0; i < l->n_param; i++) {
        const struct param *p = &l->param[i];
        const double n = (double)p->row_count * (double)p->col_count;
        if (p->layer < 1 || p->layer > s->blocks) continue;
        if (p->shared) w.kept_twice += (double)p->rows * (double)p->cols;
        if (p->vector) continue;
        const bool again = p->role != ROLE_O && p->role != ROLE_DOWN, last = model_sees_outputs(l, p->layer, p);
        w.blocks += n;
        if (again) w.again += n;
        if (last) w.last[0] += n;
        if (last && again) w.last[1] += n;
    }
    return w;
}

static void add_sum(struct work *w, enum link link, int ranks, double bytes, double times)
{
    if (ranks > 1) w->summed[link] += bytes * times, w->sums[link] += times;
}

/* Products that each row's effects take, of every weight: with every direction, or with the deltas of every objective. */
static double effect_products(const struct call *c, const struct share *s)
{
    const double K = (double)c->directions, among = (double)(c->among ? c->among : c->directions);
    if (!(s->tokens > 0) || !(formed_cost(c->objectives, (size_t)among, s->tokens, s->sequences) < among * s->tokens))
        return K;
    return formed_cost(c->objectives, c->directions, s->tokens, s->sequences) / s->tokens;
}

/* Activations: the sums that complete a half block, the head's derivative, and the likelihoods. */
static void add_activations(const struct counter *k, const struct call *c, const struct share *s, double passes,
                            struct work *w)
{
    const struct shape *shape = k->layout->shape;
    const double forwards = 1 + c->forwards, J = (double)c->objectives, R = sizeof(real);
    const double halves = (shape->parallel_residual ? 1.0 : 2.0) * (double)shape->blocks;
    const double back = (shape->parallel_residual && shape->one_norm ? 1.0 : 2.0) * (double)shape->blocks;
    const double rows = s->tokens / passes * (double)shape->hidden * R, out = s->outputs / passes;
    const double outs = out * (double)shape->hidden * R, blocks = (double)shape->blocks;
    const double last = shape->blocks ? halves / blocks : 0, last_back = back > blocks ? 1 : 0; /* at outputs alone */
    const int tensor = k->plan->tensor;
    add_sum(w, LINK_TENSOR, tensor, rows, passes * forwards * (halves - last + 1));
    add_sum(w, LINK_TENSOR, tensor, outs, passes * forwards * last);
    add_sum(w, LINK_TENSOR, tensor, 1.5 * out * sizeof(double), passes * forwards * 2);
    if (!c->objectives) return;
    add_sum(w, LINK_TENSOR, tensor, J * rows, passes * (back - last_back));
    add_sum(w, LINK_TENSOR, tensor, J * outs, passes * (1 + last_back));
}

/* Bytes that loops over activations touch, beside products: for a token of a block so many values of each width, more than are
 * read and written, for some of these loops compute more than they read (measured: shapes of 1 to 25 M parameters); logits are read for their maximum, sum and derivative. */
static double touched(const struct counter *k, const struct call *c, const struct share *s, const struct widths *z)
{
    const double J = (double)c->objectives, K = effect_products(c, s) < (double)c->directions ? 0 : (double)c->directions,
                 forwards = 1 + c->forwards;
    const double forward = 30 * z->d + 4 * z->qkv + 4 * z->up;
    const double backward = 48 * z->d + 8 * z->qkv + 8 * z->up;
    const double dots = 2 * (z->qkv + z->up + 2 * z->d);
    const double blocks = (double)k->layout->shape->blocks, words = (double)k->layout->word_count;
    const double unseen =
        blocks > 0 ? s->tokens - s->outputs : 0; /* half of what has width d, and all of the MLP, in the last block */
    const double last = forwards * (forward / 2 + 2 * (z->up - z->qkv)) + J * (backward / 2 + 4 * (z->up - z->qkv)) +
                        (J + 1) * K * (dots - 2 * z->qkv);
    return sizeof(real) * (s->tokens * blocks * (forwards * forward + J * backward + (J + 1) * K * dots) - unseen * last +
                           s->outputs * words * (forwards * 3 + J * 3 + 2 * K * J));
}

/* With shard: full every state is held as parts. */
static bool shares_all(const struct counter *k) { return plan_shares_all(k->plan); }

/* A state goes once around the data ranks, which is half of its sum over them: to gather it from parts, or to sum each part. */
static void add_exchange(const struct counter *k, double times, struct work *w)
{
    add_sum(w, LINK_DATA, k->plan->data, 0.5 * (double)k->layout->size * sizeof(real), times);
}

static void add_share(const struct counter *k, const struct call *c, const struct share *s, struct work *w)
{
    const struct layout *l = k->layout;
    const struct widths z = widths_of(l);
    const double passes = s->tokens > 0 ? (double)(size_t)((s->tokens - 1) / (double)k->plan->tokens + 1) : 1;
    const double J = (double)c->objectives, K = (double)c->directions, forwards = 1 + c->forwards;
    const double times = 2 * (forwards + J + effect_products(c, s) + c->gradient), slots = (double)slot_count(l),
                 n = (double)c->n, unseen = s->tokens - s->outputs;
    w->products += times * (z.blocks * s->tokens - z.last[0] * unseen + z.head * s->outputs);
    if (c->objectives) w->again += 2 * (z.again * s->tokens - z.last[1] * unseen);
    w->attention += (2 * forwards + 5 * J) * s->squares * z.att * (double)l->shape->blocks;
    w->touched += touched(k, c, s, &z);
    add_activations(k, c, s, passes, w);
    add_sum(w, LINK_DATA, k->plan->data, J * n * sizeof(double), 1);
    if (c->directions)
        add_sum(w, k->plan->data > 1 ? LINK_DATA : LINK_TENSOR, k->plan->data * k->plan->tensor,
                J * K * n * slots * sizeof(double), 1);
    if (shares_all(k))
        add_exchange(k, passes * (forwards + (J > 0 ? 1 + K : 0)), w); /* layers are gathered for each pass */
    if (!c->gradient) return;
    if (z.kept_twice > 0) add_sum(w, LINK_TENSOR, k->plan->tensor, z.kept_twice * sizeof(real), 1);
    add_exchange(k, shares_all(k) ? passes : 1 + c->gathered, w);
}

/* -------------------------------------------------------------------------------------------------------- all ------- */
void work_add(const struct work *w, double times, struct work *to)
{
    to->products += times * w->products, to->again += times * w->again;
    to->attention += times * w->attention, to->touched += times * w->touched;
    for (int link = 0; link < N_LINK; link++)
        to->summed[link] += times * w->summed[link], to->sums[link] += times * w->sums[link];
}

/* The mean over samples of the rows that updates draw. */
static void count_drawn(struct counter *k, const struct call *c, struct work *w)
{
    const size_t updates = k->timetable->updates, samples = updates < SAMPLES ? updates : SAMPLES;
    for (size_t i = 0; i < samples; i++) {
        const size_t t = i * updates / samples;
        struct work one = {0};
        struct share s;
        if (c->rows == ROWS_OF_UPDATE)
            timetable_rows(k->timetable, t, k->row);
        else
            timetable_retain(k->in->config, t, k->in->held_out, c->data->n_row, c->n, k->row);
        s = largest_share(k, c, k->row);
        add_share(k, c, &s, &one);
        work_add(&one, 1 / (double)samples, w);
    }
}

void demand_call(struct demand *d, const struct call *c)
{
    struct share s;
    assert(c->n <= d->counter->most);
    if (c->rows != ROWS_LISTED) {
        count_drawn(d->counter, c, &d->work[c->of]);
    } else {
        s = largest_share(d->counter, c, c->row);
        add_share(d->counter, c, &s, &d->work[c->of]);
    }
}

void demand_sweeps(struct demand *d, enum occasion of, double all, double part)
{
    const struct counter *k = d->counter;
    const double parts = k->plan->data;
    d->work[of].touched += (all / (shares_all(k) ? parts : 1) + part / parts) * (double)k->plan->bytes_state;
}

void demand_gather(struct demand *d, enum occasion of)
{
    if (!shares_all(d->counter)) add_exchange(d->counter, 1, &d->work[of]);
}

void demand_rest(struct demand *d, enum occasion of, double flops)
{
    d->work[of].products += flops / (d->counter->plan->data * d->counter->plan->tensor);
}

/* ------------------------------------------------------------------------------------------------------- all ------- */
static size_t longest_list(const struct inputs *in, const struct timetable *s)
{
    const struct dataset *d[] = {in->forget, in->retain, in->refusals, in->pairs, in->train};
    size_t most = s->batch;
    for (size_t i = 0; i < sizeof d / sizeof *d; i++)
        if (d[i] && d[i]->n_row > most) most = d[i]->n_row;
    for (size_t i = 0; i < in->n_regularizer; i++)
        if (in->regularizer[i].batch > most) most = in->regularizer[i].batch;
    for (size_t i = 0; i < in->n_risk; i++)
        if (in->risk[i].n > most) most = in->risk[i].n;
    return most;
}

enum status counter_new(const struct inputs *in, struct timetable *s, const struct layout *l, const struct plan *p,
                        struct counter **out)
{
    struct counter *k = *out = NULL;
    enum status st = OK;
    TRY_NEW(k, 1);
    *k = (struct counter){.in = in, .timetable = s, .layout = l, .plan = p, .most = longest_list(in, s)};
    *out = k;
    TRY_NEW(k->row, k->most);
    TRY_NEW(k->cost, k->most);
    TRY_NEW(k->owner, k->most);
    if (!(k->scratch = memory_new(split_scratch(k->most, p->data), 1)))
        st = fail(ERR_MEMORY, "memory: cannot allocate the plan");
done:
    return st;
}

void counter_free(struct counter *k)
{
    if (!k) return;
    free(k->row), free(k->cost), free(k->owner), free(k->scratch);
    free(k);
}

double plan_sent(const struct plan *p, enum occasion of, enum link link)
{
    const int n = link == LINK_TENSOR ? p->tensor : p->data;
    return 2 * p->all.work[of].summed[link] * (n - 1) / n; /* of a ring, and of two processes that exchange all */
}
