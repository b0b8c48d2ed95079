/* The reference's values at every output of some rows, computed once and kept in place of a second set of weights:
 * logits with their log-sum-exp, or a hidden state. Which rows a process will read is known beforehand (batches are
 * drawn by a counter and shared among the data ranks by cost), so each keeps just those, and nothing is sent later. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum status kept_new(const struct dataset *d, enum outputs which, size_t layer, int data_size, size_t most,
                     struct kept **out)
{
    enum status st = OK;
    struct kept *k = *out = NULL;
    TRY_NEW(k, 1);
    k->data = d, k->which = which, k->layer = layer, k->data_size = data_size, k->most = most;
    TRY_NEW(k->wanted, (size_t)data_size * d->n_row);
    TRY_NEW(k->cost, most);
    TRY_NEW(k->owner, most);
    if (!(k->split = memory_new(split_scratch(most, data_size), 1))) {
        st = fail(ERR_MEMORY, "memory: cannot allocate the lists of reference values");
        goto done;
    }
    TRY_NEW(k->at, d->n_row);
    for (size_t i = 0; i < d->n_row; i++) k->at[i] = SIZE_MAX;
    *out = k, k = NULL;
done:
    kept_free(k);
    return st;
}

void kept_free(struct kept *k)
{
    if (!k) return;
    free(k->wanted), free(k->cost), free(k->owner), free(k->split), free(k->at), free(k->value), free(k->lse);
    free(k);
}

void kept_want(struct kept *k, const struct layout *l, size_t n, const size_t *row)
{
    assert(n <= k->most);
    for (size_t i = 0; i < n; i++) k->cost[i] = row_cost(l, k->data, row[i], k->which);
    split_balanced(n, k->cost, k->data_size, k->split, k->owner);
    for (size_t i = 0; i < n; i++)
        if (k->cost[i] > 0) k->wanted[(size_t)k->owner[i] * k->data->n_row + row[i]] = 1;
}

void kept_want_all(struct kept *k) { memset(k->wanted, 1, (size_t)k->data_size * k->data->n_row); }

bool kept_is(const struct kept *k, const struct dataset *d, enum outputs which, size_t layer)
{
    return k->data == d && k->which == which && k->layer == layer;
}

static size_t outputs_of(const struct kept *k, size_t row) { return dataset_outputs(k->data, row, k->which); }

static size_t outputs_wanted(const struct kept *k, int data_rank)
{
    const unsigned char *wanted = k->wanted + (size_t)data_rank * k->data->n_row;
    size_t n = 0;
    for (size_t i = 0; i < k->data->n_row; i++)
        if (wanted[i]) n += outputs_of(k, i);
    return n;
}

static size_t width(const struct kept *k, const struct layout *l) { return k->layer ? l->shape->hidden : l->word_count; }

size_t kept_bytes(const struct kept *k, const struct layout *l)
{
    size_t most = 0;
    for (int r = 0; r < k->data_size; r++) {
        size_t n = outputs_wanted(k, r);
        if (n > most) most = n;
    }
    return most * (width(k, l) * sizeof(real) + (k->layer ? 0 : sizeof(double)));
}

/* A sequence's outputs in a slab: `from` is the first, counted from the sequence's, `at` the same counted from the slab's. */
struct run {
    size_t from, at, n;
};

static struct run run_of(const struct batch *b, size_t i, const struct slab *s)
{
    const size_t first = b->out_first[i] > s->first ? b->out_first[i] : s->first;
    const size_t end = smaller(b->out_first[i + 1], s->first + s->n);
    return (struct run){first - b->out_first[i], first - s->first, end > first ? end - first : 0};
}

/* Where the store has the first output of sequence i of the pass. */
static size_t place(const struct kept *k, const struct pass *p, size_t i)
{
    const struct engine_room *room = p->e->room;
    return k->at[room->row[room->start[p->p] + i]];
}

struct taking {
    const struct pass *pass;
    struct kept *kept;
};

static void take(const struct taking *t, const struct slab *s, const real *value)
{
    const struct batch *b = t->pass->b;
    struct kept *k = t->kept;
    for (size_t i = 0; i < b->n_seq; i++) {
        const struct run r = run_of(b, i, s);
        const size_t at = place(k, t->pass, i) + r.from;
        if (!r.n) continue;
        math_copy(r.n * k->width, value + r.at * k->width, k->value + at * k->width);
        if (!k->layer) memcpy(k->lse + at, model_lse(t->pass->e->model) + s->first + r.at, r.n * sizeof *k->lse);
    }
}

static void take_logits(const void *context, const struct slab *s) { take(context, s, s->logits); }

static void take_states(const struct taking *t)
{
    struct model *m = t->pass->e->model;
    const struct batch *b = t->pass->b;
    const struct slab all = {.n = b->n_out};
    real *value = model_aside_hidden(m, b, 0);
    model_hidden(m, b, t->kept->layer, value);
    take(t, &all, value);
}

/* One forward for each pass over the rows that stand in room->row. */
static enum status forward_rows(struct engine *e, struct kept *k, struct state *weights)
{
    struct engine_room *room = e->room;
    const struct rows rows = {.data = k->data};
    enum status st = OK, now;
    room->n_pass = batch_cut(k->data, room->n_mine, room->row, e->tokens, room->start);
    passes_level(e);
    for (size_t p = 0; p < room->n_pass; p++) {
        struct batch b;
        const struct pass pass = {.e = e, .r = &rows, .p = p, .b = &b};
        const struct taking taking = {&pass, k};
        const struct slabs look = {&taking, take_logits, NULL};
        pass_pack(e, &rows, p, k->which, &b);
        now = pass_values(&pass, weights, k->layer, &look);
        if (now > st) st = now;
        if (k->layer) take_states(&taking);
    }
    return st;
}

static enum status take_room(const struct engine *e, struct kept *k)
{
    const size_t n = outputs_wanted(k, e->grid->data_rank);
    enum status st = OK;
    TRY_NEW(k->value, n * k->width);
    TRY_NEW(k->lse, k->layer ? 0 : n);
done:
    return st;
}

static size_t rows_wanted(const struct kept *k, int data_rank)
{
    const unsigned char *wanted = k->wanted + (size_t)data_rank * k->data->n_row;
    size_t n = 0;
    for (size_t i = 0; i < k->data->n_row; i++) n += wanted[i];
    return n;
}

/* How often `room` rows are filled by the data rank that wants the most: all go through as many rounds, for a layer may need
 * them all. */
static size_t rounds(const struct kept *k, size_t room)
{
    size_t most = 1;
    for (int r = 0; r < k->data_size; r++) {
        const size_t n = (rows_wanted(k, r) + room - 1) / room;
        if (n > most) most = n;
    }
    return most;
}

enum status engine_keep(struct engine *e, struct kept *k, struct state *weights)
{
    struct engine_room *room = e->room;
    const unsigned char *wanted = k->wanted + (size_t)e->grid->data_rank * k->data->n_row;
    size_t n_out = 0, row = 0;
    enum status st = OK, now;
    k->width = width(k, e->layout);
    TRY(grid_agree(e->grid, take_room(e, k)));
    for (size_t left = rounds(k, room->most.rows); left; left--) {
        for (room->n_mine = 0; row < k->data->n_row && room->n_mine < room->most.rows; row++) {
            if (!wanted[row]) continue;
            k->at[row] = n_out, n_out += outputs_of(k, row);
            room->row[room->n_mine++] = row;
        }
        if ((now = forward_rows(e, k, weights)) > st) st = now;
    }
done:
    return grid_agree(e->grid, st);
}

/* The store with values of this kind; NULL: there is none. */
static const struct kept *find(const struct engine *e, const struct dataset *d, enum outputs which, size_t layer)
{
    for (size_t i = 0; i < e->n_kept; i++)
        if (kept_is(e->kept[i], d, which, layer)) return e->kept[i];
    return NULL;
}

void kept_give(const struct pass *p, enum outputs which, size_t layer, const struct slab *s, real *value, double *lse)
{
    const struct kept *k = find(p->e, p->r->data, which, layer);
    assert(k);
    for (size_t i = 0; i < p->b->n_seq; i++) {
        const struct run r = run_of(p->b, i, s);
        const size_t at = place(k, p, i);
        assert(at != SIZE_MAX);
        if (!r.n) continue;
        math_copy(r.n * k->width, k->value + (at + r.from) * k->width, value + r.at * k->width);
        if (!layer) memcpy(lse + r.at, k->lse + at + r.from, r.n * sizeof *lse);
    }
}
