/* Sizes of passes, memory per process and work of a run. At its end a run compares the planned memory with the measured
 * peak. */
#include "unlearn/plan_priv.h"
#include "unlearn/weights.h"
#include <assert.h>
#include <math.h>
#include <sys/resource.h>

enum { PASS_TOKENS = 1024 }; /* enough rows for products at full speed */

double plan_products(const struct layout *l)
{
    const struct shape *s = l->shape;
    return (double)l->elements - (s->tied ? 0 : (double)s->vocabulary * (double)s->hidden);
}

size_t plan_most_tokens(const struct plan *p)
{
    return p->tokens > p->tokens_evaluated ? p->tokens : p->tokens_evaluated;
}

double plan_reference(const struct plan *p, const struct objective *o)
{
    return p->copies && objective_needs(o) & (NEEDS_DISTRIBUTION | NEEDS_STATES) ? 2 : 0;
}

double plan_tokens(const struct dataset *d, size_t n, const size_t *row)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)dataset_length(d, row ? row[i] : i);
    return sum;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* ---------------------------------------------------------------------------------------------------- parts ------- */
/* Asks all parts: takes the largest of their calls and the sums of their memory and work. */
static void ask(const struct inputs *in, const struct timetable *s, const struct layout *l, struct counter *counter,
                struct plan *p)
{
    struct demand *all = &p->all;
    *all = (struct demand){.objectives = 0};
    for (size_t i = 0; i < p->n_part; i++) {
        struct demand *d = &p->demand[i];
        *d = (struct demand){.counter = counter};
        p->part[i]->demand(in, s, p, l, d);
        all->rows = larger(all->rows, d->rows);
        all->objectives = larger(all->objectives, d->objectives);
        all->directions = larger(all->directions, d->directions);
        all->norms = larger(all->norms, d->norms);
        all->tangents = larger(all->tangents, d->tangents);
        all->keep_tangents |= d->keep_tangents;
        all->slots = larger(all->slots, d->slots);
        demand_join(d, all);
        all->moments += d->moments;
        all->bytes += d->bytes;
        all->bytes_apart += d->bytes_apart;
        all->flops_update += d->flops_update;
        all->flops_measure += d->flops_measure;
        all->flops_evaluate += d->flops_evaluate;
        for (int of = 0; of < N_OCCASION; of++) work_add(&d->work[of], 1, &all->work[of]);
    }
    p->slots = all->slots;
}

/* --------------------------------------------------------------------------------------------------- passes ------- */
/* So many tokens, as far as the longest rows allow. */
static void pass_tokens(const struct inputs *in, size_t tokens, struct plan *p)
{
    const struct evaluation_inputs *e = in->evaluation;
    p->tokens = larger(tokens, larger(in->longest, in->longest_pair));
    p->tokens_evaluated = larger(p->tokens, e ? e->longest : 0);
    if (!in->trains && !in->measures) p->tokens = p->tokens_evaluated;
}

/* false: passes cannot be smaller. */
static bool halve_tokens(const struct inputs *in, struct plan *p)
{
    const size_t before = plan_most_tokens(p);
    if (in->config->parallel.tokens != CONFIG_AUTO) return false;
    pass_tokens(in, p->tokens / 2, p);
    return plan_most_tokens(p) < before;
}

/* Limits of the engine's and the model's buffers, for the largest call of any part. */
static void limits(const struct inputs *in, struct plan *p)
{
    const struct demand *all = &p->all;
    const struct evaluation_inputs *e = in->evaluation;
    p->engine = (struct engine_limits){.rows = all->rows,
                                       .norms = all->norms,
                                       .objectives = larger(all->objectives, 1),
                                       .risks = all->directions,
                                       .tangents = all->tangents};
    p->model = (struct model_limits){.rows = plan_most_tokens(p),
                                     .outputs = plan_most_tokens(p),
                                     .sequences = plan_most_tokens(p),
                                     .longest = larger(in->longest, e ? e->longest : 0),
                                     .objectives = all->objectives,
                                     .keep_tangents = all->keep_tangents,
                                     .aside = in->needs_distribution,
                                     .given = !p->copies,
                                     .hidden = in->needs_hidden,
                                     .tangents = all->tangents};
}

/* --------------------------------------------------------------------------------------------------- memory ------- */
/* Chooses whether to keep a copy of the reference's weights, or its values for the rows that will be read. */
static enum status choose_reference(const struct inputs *in, struct timetable *s, const struct layout *l, struct plan *p)
{
    const enum reference_as as = in->config->model.reference_as;
    const struct held copy = {.half = plan_reference_half(in)};
    struct reference r = {0};
    enum status st = OK;
    if (!in->needs_distribution) return OK;
    TRY(reference_list(in, s, l, p->data, &r));
    /* if updates or measurements read it, they alone decide, so that an evaluation does not change their results */
    p->bytes_copy = plan_shares_all(p) ? layout_part_size(l, 0, p->data) * sizeof(real) : p->bytes_state;
    if (plan_half(in, &copy)) p->bytes_copy /= 2;
    p->copies =
        as == REFERENCE_WEIGHTS || (as == REFERENCE_AUTO && (r.bytes_run ? r.bytes_run : r.bytes) > p->bytes_copy);
    p->bytes_values = r.bytes;
done:
    reference_free(&r);
    return st;
}

static size_t room_by_limits(void)
{
    size_t room = SIZE_MAX;
    struct rlimit limit;
    for (int k = 0; k < 2; k++)
        if (!getrlimit(k ? RLIMIT_DATA : RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < room)
            room = limit.rlim_cur;
    return room;
}

static size_t room_on_node(int processes, size_t base)
{
    const size_t available = memory_available();
    return available ? available / (size_t)processes + base : SIZE_MAX;
}

size_t plan_room(int node_processes, size_t base)
{
    const size_t limits = room_by_limits(), node = room_on_node(node_processes, base);
    return limits < node ? limits : node;
}

/* Checked on every process before the large allocations start. */
enum status plan_memory(const struct inputs *in, const struct plan *p)
{
    const size_t limits = room_by_limits();
    const char *less = p->in_turn_helps                    ? "parallel.risks=in_turn, "
                       : !p->all.objectives                ? ""
                       : p->model.logits != MODEL_SLAB     ? "parallel.logits=256, "
                       : in->trains && !p->model.recompute ? "parallel.recompute=block, "
                                                           : "";
    if (p->bytes > limits)
        return fail(ERR_MEMORY,
                    "%s: needs %.0f MB a process, may use %.0f MB (ulimit): use more processes, %sfewer risks or a "
                    "smaller parallel.tokens",
                    in->config->file, (double)p->bytes / 1e6, (double)limits / 1e6, less);
    if (p->bytes > room_on_node(p->node_processes, p->bytes_base))
        return fail(
            ERR_MEMORY,
            "%s: needs %.0f MB a process, but this node, or the job's control group on it, has %.0f MB free for its %d: "
            "use more nodes, %sfewer risks or a smaller parallel.tokens",
            in->config->file, (double)p->bytes / 1e6, (double)memory_available() / 1e6, p->node_processes, less);
    return OK;
}

/* What reading and writing take while the states are there, on the process that takes most: files of results, of which HDF5
 * keeps pieces and indices; weights on their way, and their checksums. */
static size_t buffers(const struct inputs *in)
{
    enum { HDF5 = 3000000, HDF5_FILE = 1000000 }; /* measured: its own pages, and a file */
    const struct config *c = in->config;
    const bool saves = in->trains && c->checkpoint.every > 0, exports = in->trains && c->checkpoint.export;
    const size_t files = (size_t)in->trains + in->measures + (in->evaluation ? 1 : 0);
    const size_t written = saves ? WEIGHTS_WRITE_BYTES + HASH_CHUNK : exports ? WEIGHTS_WRITE_BYTES : 0;
    const size_t read = c->model.init == INIT_PRETRAINED ? WEIGHTS_READ_BYTES : 0;
    return (files ? HDF5 + (files - 1) * HDF5_FILE : 0) + larger(read, written);
}

void plan_share(const struct layout *l, struct plan *p)
{
    const bool again = p->copies && p->model.logits && p->model.logits < p->model.outputs;  /* the reference's head too */
    const size_t formed = p->all.objectives ? 1 + p->all.keep_tangents : 0;                 /* gradient, and direction */
    const size_t most = larger(formed, larger(p->all.directions, p->all.tangents)) + again; /* beside the weights */
    const size_t others = 1 + p->copies;                                                    /* than gradients */
    p->sharing = p->shard == SHARD_FULL ? SHARING_ALL : SHARING_MOMENTS;
    p->ahead = p->sharing == SHARING_ALL && plan_crosses(p, LINK_DATA);
    p->layers = p->sharing == SHARING_ALL ? 1 + most : p->all.moments ? 1 : 0;
    p->bytes_state = l->size * sizeof(real);
    p->bytes_part = p->data > 1 ? layout_part_size(l, 0, p->data) * sizeof(real) : p->bytes_state;
    p->bytes_shared = layout_share_bytes(l, p->data, p->layers, p->ahead, p->all.states - smaller(p->all.states, others));
}

size_t plan_states(const struct plan *p)
{
    const size_t part = p->all.moments + (p->sharing == SHARING_ALL ? p->all.states : 0);
    const size_t half = (p->halves * (p->sharing == SHARING_ALL ? p->bytes_part : p->bytes_state) +
                         p->halves_of_moments * p->bytes_part) /
                        2; /* is saved */
    return part * p->bytes_part + (p->all.states + p->all.moments - part) * p->bytes_state - half + p->bytes_shared;
}

/* ------------------------------------------------------------------------------------------------------- ways ----- */
struct way plan_way(const struct plan *p)
{
    return (struct way){.data = p->data,
                        .tensor = p->tensor,
                        .shard = p->shard,
                        .tokens = p->tokens,
                        .apart = p->apart,
                        .in_turn = p->in_turn,
                        .logits = p->model.logits,
                        .recompute = p->model.recompute};
}

struct chooser { /* borrows all */
    const struct inputs *in;
    struct timetable *s;
    const struct layout *l;
    const struct grid *g;
    struct counter *counter;
    const struct machine *m;
    struct plan *p;
};

/* Counts the activations, kept or computed again, with so many rows of logits, and with them all memory. */
static enum status count_memory(const struct chooser *c, size_t logits, bool recompute)
{
    struct plan *p = c->p;
    enum status st;
    p->model.logits = logits, p->model.recompute = recompute;
    plan_share(c->l, p);
    TRY(model_new(c->l, c->g, &p->model, NULL, &p->bytes_model));
    p->bytes = p->bytes_base + plan_states(p) + p->bytes_model + p->bytes_engine + (p->copies ? 0 : p->bytes_values) +
               p->all.bytes + p->all.bytes_apart + p->bytes_buffers;
done:
    return st;
}

/* Asks all parts what they need where gradients are held so. */
static enum status ask_way(const struct chooser *c, bool apart, bool in_turn)
{
    struct plan *p = c->p;
    struct engine e = {.grid = c->g, .layout = c->l, .tokens = plan_most_tokens(p)};
    enum status st;
    p->apart = apart, p->in_turn = in_turn;
    ask(c->in, c->s, c->l, c->counter, p);
    limits(c->in, p);
    TRY(plan_halves(c->in, p));
    st = engine_room_new(&e, &p->engine, true, &p->bytes_engine);
done:
    return st;
}

/* With what the activations would be with all logits, and without recomputation. */
static enum status take_way(const struct chooser *c, const struct way *w)
{
    struct plan *p = c->p;
    enum status st;
    pass_tokens(c->in, w->tokens, p);
    TRY(ask_way(c, w->apart, false));
    p->flops_together = p->all.flops_measure;
    if (w->in_turn) TRY(ask_way(c, w->apart, true));
    TRY(count_memory(c, p->all.objectives ? 0 : MODEL_SLAB, false));
    p->bytes_logits = p->bytes_model;
    TRY(count_memory(c, w->logits, false));
    p->bytes_kept = p->bytes_model;
    TRY(count_memory(c, w->logits, w->recompute));
done:
    return st;
}

/* What a pass costs whatever its tokens: its weights are read and packed, its gradient added; and with shard: full three states are sent
 * (of processes that compute 150 Gflop/s and send 5 GB/s). In the time of so many tokens. */
static const double A_PASS = 30, A_PASS_SHARED = 100;
/* Whoever runs an input twice, with more memory free, has the same to the last bit whatever else was given up: that is worth so much of
 * the time. So logits go first, which cost a few percent, then tokens, then what blocks keep, a quarter of the work and more. */
static const double WORTH_OF_THE_SAME = 0.1;

static double price_of_tokens(const struct plan *p)
{
    const double pass = A_PASS + (p->sharing == SHARING_ALL ? A_PASS_SHARED : 0);
    return (1 + pass / (double)p->tokens) * (p->tokens < p->tokens_usual ? 1 + WORTH_OF_THE_SAME : 1);
}

/* Products of the whole run, those among them that are made again; as if smaller passes took more. */
static double cost(const struct chooser *c)
{
    const struct plan *p = c->p;
    double sum = 0, times[N_OCCASION] = {0};
    if (c->in->trains) times[OF_UPDATE] = (double)c->s->updates;
    if (c->in->measures)
        times[OF_MEASUREMENT] =
            c->in->trains ? (double)timetable_measurements(c->in->config, c->s) : (double)c->in->config->model.n_at;
    for (int of = 0; of < N_OCCASION; of++) {
        const struct work *w = &p->all.work[of];
        sum += times[of] *
               (w->products * (1 + (p->model.logits ? p->logits_again : 0)) + (p->model.recompute ? w->again : 0));
    }
    return sum * price_of_tokens(p);
}

/* Whether the gradients of the risks may be held one at a time: several that nothing reads behind their effects. */
static bool may_turn(const struct plan *p)
{
    const struct held *risks = plan_held(p, "risks");
    return risks && risks->states > 1 && risks->to == AT_EFFECTS;
}

/* The ways to hold activations that the input allows. Where there is no backward nobody reads logits again. */
static size_t list_ways(const struct inputs *in, const struct plan *p, struct way list[4])
{
    struct way way = plan_way(p);
    const enum recompute asked = in->config->parallel.recompute;
    const size_t rows = in->config->parallel.logits;
    size_t n = 0;
    for (int again = 0; again < 2 && p->all.objectives; again++)
        for (int few = rows != CONFIG_AUTO; few < 2; few++)
            if (asked == RECOMPUTE_AUTO || again == (asked == RECOMPUTE_BLOCK)) {
                way.logits = !few ? 0 : rows == CONFIG_AUTO ? MODEL_SLAB : larger(rows, MODEL_SLAB);
                way.recompute = again;
                list[n++] = way;
            }
    if (p->all.objectives) return n;
    way.logits = MODEL_SLAB, way.recompute = false;
    list[n++] = way;
    return n;
}

struct best {
    struct way way;
    double cost;
    size_t bytes;
    bool fits;
    double least; /* cost of any way that was tried, with passes of these tokens */
};

/* The cheapest of those that fit, where gradients are held so; of those that do not fit the smallest. */
static enum status try_ways(const struct chooser *c, bool apart, bool in_turn, struct best *best)
{
    struct way way[4];
    size_t n;
    enum status st;
    TRY(ask_way(c, apart, in_turn));
    n = list_ways(c->in, c->p, way);
    for (size_t i = 0; i < n; i++) {
        TRY(count_memory(c, way[i].logits, way[i].recompute));
        const double price = cost(c), least = best->least < price ? best->least : price;
        const struct best now = {way[i], price, c->p->bytes, plan_fits(c->m, c->p), least};
        if (now.fits == best->fits ? now.fits ? now.cost < best->cost : now.bytes < best->bytes : now.fits) *best = now;
        best->least = least;
    }
done:
    return st;
}

/* Whether the risks are held together, in turn, or both are tried. */
static enum status try_held(const struct chooser *c, bool apart, struct best *best)
{
    const enum risks_held asked = c->in->config->parallel.risks;
    const struct way *then = c->m->then;
    struct plan *p = c->p;
    bool may, must;
    enum status st;
    TRY(ask_way(c, apart, false));
    may = may_turn(p), must = may && (asked == RISKS_IN_TURN || (asked == RISKS_AUTO && then && then->in_turn));
    best->least = INFINITY;
    if (!must) TRY(try_ways(c, apart, false, best));
    if (must || (may && asked == RISKS_AUTO && !then && !(best->fits && best->cost <= best->least)))
        TRY(try_ways(c, apart, true, best));
    p->in_turn_helps = may && asked == RISKS_TOGETHER && !best->fits;
done:
    return st;
}

/* Given up first is what costs least time: logits, what blocks keep, the risks' gradients together, tokens of a pass; and last what is
 * measured, the norms of single regularisers' gradients. A run that goes on stays as it was begun in what last bits depend on. */
static enum status choose_way(const struct chooser *c)
{
    const struct way *then = c->m->then;
    const size_t asked = c->in->config->parallel.tokens;
    struct plan *p = c->p;
    struct best best = {.bytes = SIZE_MAX};
    size_t states;
    enum status st = OK;
    for (int apart = 1; apart >= 0 && !best.fits; apart--) {
        if (then && apart != then->apart) continue;
        pass_tokens(c->in, then && asked == CONFIG_AUTO ? then->tokens : p->tokens_usual, p);
        do TRY(try_held(c, apart, &best));
        while (!then && !(best.fits && best.cost <= best.least) && halve_tokens(c->in, p));
    }
    if (p->in_turn_helps) TRY(ask_way(c, best.way.apart, true));
    states = p->all.states;
    TRY(take_way(c, &best.way));
    p->in_turn_helps = p->in_turn_helps && states < p->all.states;
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------------ all ------- */
enum status plan_sizes(const struct inputs *in, struct timetable *s, const struct machine *m, size_t n_part,
                       const struct part *const *part, const struct way *way, struct plan *p)
{
    const size_t asked = in->config->parallel.tokens;
    struct grid g = {.data_size = p->data, .tensor_size = p->tensor};
    struct layout *l = NULL;
    struct counter *counter = NULL;
    struct chooser c;
    enum status st;
    assert(n_part <= MOST_PARTS);
    p->part = part, p->n_part = n_part;
    p->bytes_base = m->resident, p->room = m->room;
    TRY(layout_largest(in->shape, p->tensor, &l));
    p->bytes_state = l->size * sizeof(real);
    p->bytes_buffers = buffers(in) + comm_parts_bytes(p->data);
    TRY(choose_reference(in, s, l, p));
    pass_tokens(in, asked == CONFIG_AUTO ? PASS_TOKENS : asked, p);
    p->tokens_usual = p->tokens;
    TRY(counter_new(in, s, l, p, &counter));
    p->logits_again = (p->copies ? 2 : 1) * (double)(l->shape->vocabulary * l->shape->hidden) / (3 * plan_products(l));
    c = (struct chooser){in, s, l, &g, counter, m, p};
    TRY(way ? take_way(&c, way) : choose_way(&c));
    for (int of = 0; of < N_OCCASION && p->model.recompute; of++) p->all.work[of].products += p->all.work[of].again;
done:
    counter_free(counter);
    layout_free(l);
    return st;
}
