/* How a model continues prompts. Each data rank runs its share of the prompts in a number of slots. In every step each
 * busy slot reads one more token, and a free slot reads all of the next prompt, so a forward has as many rows as there
 * are new tokens. The logits at a sequence's last row choose its next token.
 * Rows do not influence each other (model_step()), so answers do not depend on slots or data ranks. Threads divide
 * slots and prompts among themselves, as data ranks divide prompts; they meet only at the end, so that none waits for a
 * thread that the system has stopped. */
#include "unlearn/eval.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    bool busy;
    size_t prompt;       /* its number */
    size_t length, read; /* ids of the sequence so far; how many of them are in the cache */
    size_t visible;      /* of those in the cache, without the hidden ones */
};
struct decoding {            /* what one thread works on; the answers are common to all threads */
    const struct grid *grid; /* borrowed, as the other arguments of generate() */
    const struct layout *layout;
    const struct generation *how;
    struct state *weights;
    size_t n; /* number of prompts of all data ranks */
    const size_t *first;
    const int32_t *id;
    size_t slots, rows;  /* rows: most in a step */
    size_t next, stride; /* its next prompt, and the step to the one after it */
    size_t bad;          /* 1 + the prompt whose logits were not finite; 0: none */
    struct model *model;
    struct cache *cache;
    struct arena arena;
    struct slot *slot;            /* [slots] */
    struct batch batch;           /* batch of the current step */
    double (*best)[2], (*all)[2]; /* [slots], [tensor ranks][slots] largest logit and its id */
    real *logits;                 /* [slots][vocabulary]; NULL: not needed */
    struct candidate *candidate;  /* [vocabulary] */
    int32_t *answer;              /* answers of this rank's prompts, each with room for its greatest length */
    size_t *answer_at;            /* [n] where an answer begins */
    uint64_t *ended;              /* [n] 1 + 2 x (ids of the answer) + stop reason; 0: not ended, or another rank's */
};

/* ------------------------------------------------------------------------------------------------------ workspace ----- */
static void take(struct arena *a, struct decoding *d)
{
    const size_t S = d->slots, V = d->layout->shape->vocabulary, ranks = (size_t)d->grid->tensor_size;
    const bool draws = d->how->temperature > 0;
    struct batch *b = &d->batch;
    d->slot = arena_take(a, S, sizeof *d->slot);
    b->first = arena_take(a, S + 1, sizeof *b->first);
    b->item = arena_take(a, S, sizeof *b->item);
    b->out_row = arena_take(a, S, sizeof *b->out_row);
    b->id = arena_take(a, d->rows, sizeof *b->id);
    b->position = arena_take(a, d->rows, sizeof *b->position);
    b->place = d->how->hide ? arena_take(a, d->rows, sizeof *b->place) : NULL;
    b->hidden = d->how->hide ? arena_take(a, d->rows, sizeof *b->hidden) : NULL;
    d->best = arena_take(a, S, sizeof *d->best);
    d->all = ranks > 1 ? arena_take(a, ranks * S, sizeof *d->all) : NULL;
    d->logits = draws && ranks > 1 ? arena_take(a, S * V, sizeof *d->logits) : NULL;
    d->candidate = draws ? arena_take(a, V, sizeof *d->candidate) : NULL;
}

/* A step has at most one token for every slot and the longest prompt that gets an answer. */
static struct model_limits limits(struct decoding *d)
{
    d->rows = d->slots + d->how->max_length;
    return (struct model_limits){
        .rows = d->rows, .outputs = d->slots, .sequences = d->slots, .longest = d->how->max_length};
}

static enum status room_new(struct decoding *d)
{
    enum status st = OK;
    struct model_limits most = limits(d);
    struct arena count;
    TRY(model_new(d->layout, d->grid, &most, &d->model, NULL));
    TRY(cache_new(d->layout, d->slots, d->how->max_length, &d->cache, NULL));
    arena_measure(&count);
    take(&count, d);
    TRY(arena_new(count.used, &d->arena));
    take(&d->arena, d);
done:
    return st;
}

/* In test mode one layer is copied at a time, and of weights in bfloat16 the vectors of one layer are widened at a time. */
static bool one_reader(const struct state *weights) { return weights->guard || weights->half; }

/* Several threads only where no layer needs messages, since threads must not send any, and weights may have several readers. */
static size_t threads_of(const struct decoding *d, bool one)
{
    if (one || d->grid->tensor_size > 1 || layout_lockstep(d->layout)) return 1;
    return d->slots < (size_t)math_threads_now() ? d->slots : (size_t)math_threads_now();
}

/* The part of the work that thread t of n does. */
static struct decoding part_of(const struct decoding *d, size_t t, size_t n)
{
    struct decoding part = *d;
    part.slots = (d->slots + n - 1 - t) / n;
    part.next = d->next + t * d->stride;
    part.stride = n * d->stride;
    return part;
}

size_t generate_bytes(const struct grid *g, const struct layout *l, bool one, const struct generation *how)
{
    struct decoding d = {.grid = g, .layout = l, .how = how, .slots = how->slots};
    size_t bytes = 0;
    for (size_t t = 0, n = threads_of(&d, one); t < n; t++) {
        struct decoding part = part_of(&d, t, n);
        struct model_limits most = limits(&part);
        struct arena count;
        size_t model = 0, cache = 0;
        if (model_new(l, g, &most, NULL, &model) != OK || cache_new(l, part.slots, how->max_length, NULL, &cache) != OK)
            fail_clear();
        arena_measure(&count);
        take(&count, &part);
        bytes += model + cache + count.used;
    }
    return bytes;
}

static size_t length_of(const struct decoding *d, size_t i) { return d->first[i + 1] - d->first[i]; }

/* Assigns the places of this rank's answers. A prompt that fills max_length has ended already, with an empty answer. */
static enum status answers_place(struct decoding *d)
{
    enum status st = OK;
    size_t ids = 0;
    TRY_NEW(d->answer_at, d->n);
    TRY_NEW(d->ended, d->n);
    for (size_t i = d->next; i < d->n; i += d->stride) {
        d->answer_at[i] = ids;
        if (length_of(d, i) < d->how->max_length)
            ids += d->how->max_length - length_of(d, i);
        else
            d->ended[i] = 1 + STOP_LENGTH;
    }
    TRY_NEW(d->answer, ids);
done:
    return st;
}

static void parts_free(size_t n, struct decoding *part)
{
    for (size_t t = 0; part && t < n; t++) {
        model_free(part[t].model);
        cache_free(part[t].cache);
        arena_free(&part[t].arena);
    }
    free(part);
}

static enum status parts_new(const struct decoding *d, size_t n, struct decoding **out)
{
    enum status st = OK;
    struct decoding *part = *out = NULL;
    TRY_NEW(part, n);
    for (size_t t = 0; t < n; t++) {
        part[t] = part_of(d, t, n);
        TRY(room_new(&part[t]));
    }
    *out = part, part = NULL;
done:
    parts_free(n, part);
    return st;
}

/* --------------------------------------------------------------------------------------------------------- a step ----- */
/* A hidden token stands at position 1, as transformers has it; what it says matters where it is a prompt's last. */
static void add_row(struct decoding *d, struct slot *slot, int32_t id, size_t place, bool hidden)
{
    struct batch *b = &d->batch;
    b->id[b->n_row] = id;
    b->position[b->n_row] = hidden ? 1 : (int32_t)slot->visible++;
    if (b->place) b->place[b->n_row] = (int32_t)place, b->hidden[b->n_row] = hidden;
    b->n_row++;
}

/* Whether the sequence has just become so long that the model turns all of it by other frequencies: it is read again. What
 * is long are positions, so hidden ids do not count; the ids that are not read yet are the answer's, which are all visible. */
static bool reads_again(const struct decoding *d, const struct slot *slot)
{
    const size_t from = d->layout->shape->long_from;
    return from && slot->read && slot->visible <= from && slot->visible + (slot->length - slot->read) > from;
}

/* Adds to the batch what slot s has not read yet: its newest id, or a whole prompt; or again all of its ids. */
static void add_sequence(struct decoding *d, size_t s)
{
    struct batch *b = &d->batch;
    struct slot *slot = &d->slot[s];
    const size_t prompt = length_of(d, slot->prompt), first = reads_again(d, slot) ? 0 : slot->read;
    if (!first) slot->visible = 0;
    for (size_t t = first; t < slot->length; t++) {
        const bool asked = t < prompt;
        const int32_t id = asked ? d->id[d->first[slot->prompt] + t] : d->answer[d->answer_at[slot->prompt] + t - prompt];
        add_row(d, slot, id, t, asked && (size_t)id + 1 == d->how->hide);
    }
    slot->read = slot->length;
    if (slot->read > b->longest) b->longest = slot->read;
    b->item[b->n_seq++] = s;
    b->first[b->n_seq] = b->n_row;
    b->out_row[b->n_out++] = b->n_row - 1;
}

/* Gives the slot this rank's next prompt that needs an answer, if it fits into the step. */
static bool slot_fill(struct decoding *d, struct slot *slot)
{
    while (d->next < d->n && d->ended[d->next]) d->next += d->stride;
    if (d->next >= d->n || d->batch.n_row + length_of(d, d->next) > d->rows) return false;
    *slot = (struct slot){.busy = true, .prompt = d->next, .length = length_of(d, d->next)};
    d->next += d->stride;
    return true;
}

/* A sequence that is read again waits for a step with room for it and for one id of each slot behind it. */
static bool fits(const struct decoding *d, size_t s)
{
    return !reads_again(d, &d->slot[s]) || d->batch.n_row + d->slot[s].length + (d->slots - 1 - s) <= d->rows;
}

static void batch_clear(struct batch *b)
{
    b->n_seq = b->n_row = b->n_out = b->longest = 0;
    b->first[0] = 0;
}

static bool step_make(struct decoding *d)
{
    struct batch *b = &d->batch;
    batch_clear(b);
    for (size_t s = 0; s < d->slots; s++)
        if (d->slot[s].busy && fits(d, s)) add_sequence(d, s);
    for (size_t s = 0; s < d->slots; s++)
        if (!d->slot[s].busy && slot_fill(d, &d->slot[s])) add_sequence(d, s);
    return b->n_seq > 0;
}

/* Chooses the token with the largest logit over all tensor ranks; of equal logits the lowest id. */
static void choose_best(struct decoding *d)
{
    const struct layout *l = d->layout;
    const size_t n = d->batch.n_out;
    logits_best(n, l->word_count, l->word_first, model_logits(d->model), d->best);
    if (d->all) comm_gather_double(d->grid->tensor, &d->best[0][0], 2 * n, &d->all[0][0]);
    for (size_t i = n; d->all && i < n * (size_t)d->grid->tensor_size; i++) {
        double *best = d->best[i % n], *other = d->all[i];
        if (i < 2 * n) memcpy(best, d->all[i % n], sizeof *d->best);
        if (other[0] > best[0]) memcpy(best, other, sizeof *d->best); /* later ranks have higher ids */
    }
    for (size_t k = n; k-- > 0;)
        if (!isfinite(d->best[k][0])) d->bad = d->slot[d->batch.item[k]].prompt + 1;
}

/* Logits over the whole vocabulary, gathered from the tensor ranks. */
static const real *whole_logits(struct decoding *d)
{
    const struct layout *l = d->layout;
    const size_t n = d->batch.n_out, V = l->shape->vocabulary;
    if (!d->logits) return model_logits(d->model);
    math_fill(n * V, 0, d->logits);
    columns_put(n, l->word_count, model_logits(d->model), d->logits + l->word_first, V);
    comm_sum_real(d->grid->tensor, d->logits, n * V);
    return d->logits;
}

static void choose_drawn(struct decoding *d)
{
    const struct generation *how = d->how;
    const size_t V = d->layout->shape->vocabulary;
    const real *z = whole_logits(d);
    for (size_t k = 0; k < d->batch.n_out; k++) {
        const struct slot *slot = &d->slot[d->batch.item[k]];
        const uint64_t t = slot->length - length_of(d, slot->prompt);
        const double u = random_uniform(how->seed, STREAM_GENERATION, (uint64_t)slot->prompt << 32 | t);
        d->best[k][1] = logits_draw(V, z + k * V, how->temperature, how->top_p, u, d->candidate);
    }
}

static bool is_eos(const struct generation *how, int32_t id)
{
    for (size_t i = 0; i < how->n_eos; i++)
        if (how->eos[i] == id) return true;
    return false;
}

/* Adds the chosen id to its sequence, or ends the sequence. */
static void slot_take(struct decoding *d, struct slot *slot, int32_t id)
{
    const size_t i = slot->prompt, count = slot->length - length_of(d, i);
    const bool eos = is_eos(d->how, id);
    if (!eos) {
        d->answer[d->answer_at[i] + count] = id;
        slot->length++;
    }
    if (!eos && slot->length < d->how->max_length) return;
    d->ended[i] = 1 + 2 * (uint64_t)(count + !eos) + (eos ? STOP_EOS : STOP_LENGTH);
    slot->busy = false;
}

/* Whether any rank has a step to make, where the data ranks keep step; one that has none makes it without rows. */
static bool any_steps(const struct decoding *d, bool mine)
{
    const struct comm *data = layout_lockstep(d->layout);
    uint64_t any = mine;
    if (data) comm_max_u64(data, &any, 1);
    return any;
}

static void decode(struct decoding *d)
{
    for (size_t s = 0; s < d->slots; s++) d->slot[s] = (struct slot){0};
    while (any_steps(d, !d->bad && step_make(d))) {
        if (d->bad) batch_clear(&d->batch);
        model_step(d->model, d->weights, d->cache, &d->batch);
        choose_best(d);
        if (d->bad) continue;
        if (d->how->temperature > 0) choose_drawn(d);
        for (size_t k = 0; k < d->batch.n_seq; k++) slot_take(d, &d->slot[d->batch.item[k]], (int32_t)d->best[k][1]);
    }
}

static enum status decode_all(size_t n, struct decoding *part)
{
    enum phase before = phase_enter(PHASE_FORWARD);
    size_t bad = 0;
    if (n == 1)
        decode(part); /* outside a parallel region, so that the team can share large products */
    else {
#pragma omp parallel for schedule(static, 1) num_threads((int)n)
        for (size_t t = 0; t < n; t++) decode(&part[t]);
    }
    phase_enter(before);
    for (size_t t = 0; t < n; t++)
        if (part[t].bad && (!bad || part[t].bad < bad)) bad = part[t].bad;
    if (!bad) return OK;
    return fail(ERR_NUMERIC, "generation: prompt %zu: the logits are not finite; the weights have diverged", bad);
}

/* ------------------------------------------------------------------------------------------------ all together ----- */
/* Every process knows all lengths and stop reasons, so it can place all answers. */
static enum status answers_new(const struct decoding *d, struct answers *out, int32_t **packed)
{
    enum status st = OK;
    size_t total = 0;
    out->n = d->n;
    TRY_NEW(out->first, d->n + 1);
    TRY_NEW(out->stop, d->n);
    for (size_t i = 0; i < d->n; i++) {
        total += (size_t)(d->ended[i] - 1) / 2;
        out->first[i + 1] = total;
        out->stop[i] = (d->ended[i] - 1) % 2 ? STOP_LENGTH : STOP_EOS;
    }
    TRY_NEW(out->id, total);
    TRY_NEW(*packed, total);
done:
    return st;
}

/* Each data rank in turn sends its answers, end to end, to all data ranks. */
static void answers_share(const struct decoding *d, struct answers *out, int32_t *packed)
{
    for (int rank = 0; rank < d->grid->data_size; rank++) {
        size_t n = 0;
        for (int pass = 0; pass < 2; pass++) {
            const bool mine = rank == d->grid->data_rank;
            if (pass) comm_broadcast(d->grid->data, packed, n * sizeof *packed, rank);
            n = 0;
            for (size_t i = (size_t)rank; i < d->n; i += (size_t)d->grid->data_size) {
                const size_t count = out->first[i + 1] - out->first[i];
                if (!pass && mine) memcpy(packed + n, d->answer + d->answer_at[i], count * sizeof *packed);
                if (pass) memcpy(out->id + out->first[i], packed + n, count * sizeof *packed);
                n += count;
            }
        }
    }
}

static enum status check(const struct layout *l, const struct generation *how, size_t n, const size_t *first)
{
    const struct shape *s = l->shape;
    assert(how->slots > 0 && how->temperature >= 0 && how->top_p > 0 && how->top_p <= 1);
    if (s->learned_positions && how->max_length > s->positions)
        return fail(ERR_INPUT, "generation: up to %zu tokens, but the model has learned %zu positions; lower max_length",
                    how->max_length, s->positions);
    for (size_t i = 0; i < n; i++)
        if (first[i] == first[i + 1]) return fail(ERR_INPUT, "generation: prompt %zu has no tokens", i + 1);
    return OK;
}

enum status generate(const struct grid *g, const struct layout *l, struct state *weights, const struct generation *how,
                     size_t n, const size_t *first, const int32_t *id, struct answers *out)
{
    size_t mine = (n + (size_t)(g->data_size - 1 - g->data_rank)) / (size_t)g->data_size;
    struct decoding d = {.grid = g, .layout = l, .how = how, .weights = weights, .n = n, .first = first, .id = id};
    struct decoding *part = NULL;
    int32_t *packed = NULL;
    size_t threads = 0;
    enum status st;
    *out = (struct answers){0};
    d.next = (size_t)g->data_rank, d.stride = (size_t)g->data_size;
    if (layout_lockstep(l) && !mine) mine = 1;
    d.slots = how->slots < mine ? how->slots : mine;
    threads = threads_of(&d, one_reader(weights));
    TRY(check(l, how, n, first));
    st = answers_place(&d);
    if (st == OK && mine) st = parts_new(&d, threads, &part);
    TRY(grid_agree(g, st));
    if (part) st = decode_all(threads, part);
    TRY(grid_agree(g, st));
    comm_max_u64(g->data, d.ended, n);
    TRY(grid_agree(g, answers_new(&d, out, &packed)));
    answers_share(&d, out, packed);
done:
    if (st != OK) answers_free(out);
    parts_free(threads, part);
    free(packed);
    free(d.answer), free(d.answer_at), free(d.ended);
    return st;
}

void answers_free(struct answers *a)
{
    free(a->first), free(a->id), free(a->stop);
    *a = (struct answers){0};
}
