/* Lists of rows -> shares of the data ranks -> passes of packed batches; and every buffer that a pass needs. */
#include "unlearn/geffect_priv.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns of the widest product in the blocks. */
static size_t widest_product(const struct layout *l)
{
    size_t widest = 0;
    const enum role fused[][3] = {{ROLE_Q, ROLE_K, ROLE_V}, {ROLE_GATE, ROLE_UP, N_ROLE}, {ROLE_O, N_ROLE, N_ROLE}};
    for (size_t i = 0; i < sizeof fused / sizeof *fused; i++) {
        size_t width = 0;
        for (int k = 0; k < 3; k++) {
            const struct param *p = fused[i][k] == N_ROLE ? NULL : layout_find(l, 1, fused[i][k]);
            if (p) width += p->row_count;
        }
        if (width > widest) widest = width;
    }
    return widest;
}

size_t widest_block(const struct layout *l)
{
    const struct shape *s = l->shape;
    size_t kv = s->kv_heads * s->head_dim, local = widest_product(l);
    if (s->hidden > local) local = s->hidden;
    return kv > local ? kv : local;
}

size_t widest_whole(const struct layout *l)
{
    const size_t block = widest_block(l);
    return l->word_count > block ? l->word_count : block;
}

/* Products of all tokens in the blocks, or of a slab with the head. */
static size_t largest_product(const struct layout *l, size_t tokens)
{
    const size_t widest = l->shape->hidden > widest_product(l) ? l->shape->hidden : widest_product(l);
    const size_t head = smaller(tokens, MODEL_SLAB) * l->word_count;
    return tokens * widest > head ? tokens * widest : head;
}

static void take_norms(struct arena *a, struct engine *e, struct engine_room *room)
{
    const struct layout *l = e->layout;
    const size_t longest = room->most.norms, widest = widest_whole(l);
    room->n_columns = longest * widest;
    room->n_whole = e->tokens * widest_block(l);
    room->gram = arena_take(a, 2 * longest * longest, sizeof *room->gram);
    room->columns = arena_take(a, room->n_columns, sizeof *room->columns);
    room->vector = arena_take(a, room->n_whole, sizeof *room->vector);
    room->whole = arena_take(a, room->n_whole, sizeof *room->whole);
    room->head_dy = arena_take(a, longest * l->word_count, sizeof *room->head_dy);
    room->head_bias = arena_take(a, l->word_count, sizeof *room->head_bias);
    room->meet = arena_take(a, l->shape->tied ? e->tokens * longest : 0, sizeof *room->meet);
    room->square = arena_take(a, l->n_param * room->most.rows, sizeof *room->square);
    room->shared = arena_take(a, l->n_param, sizeof *room->shared);
}

/* For gradients that are formed in tiles; a pass has at most a sequence for each token. */
static void take_formed(struct arena *a, const struct engine *e, struct engine_room *room)
{
    const struct layout *l = e->layout;
    const size_t K = room->most.risks;
    size_t tile = 0;
    for (size_t i = 0; i < l->n_param; i++) {
        const size_t own = l->param[i].vector ? 0 : formed_tile(l->param[i].col_count);
        if (tile < own) tile = own;
    }
    room->tensor = arena_take(a, K, sizeof *room->tensor);
    room->formed = arena_take(a, K * e->tokens, sizeof *room->formed);
    room->sums = arena_take(a, K ? formed_sums(K, e->tokens) : 0, sizeof *room->sums);
    room->tiles = arena_take(a, K ? tile * (size_t)math_threads_now() : 0, sizeof *room->tiles);
}

static void take_all(struct arena *a, struct engine *e, struct engine_room *room)
{
    size_t n = room->most.rows;
    room->tokens = e->tokens;
    room->n_product = room->most.risks ? largest_product(e->layout, e->tokens) : 0;
    room->cost = arena_take(a, n, sizeof *room->cost);
    room->loss = arena_take(a, n, sizeof *room->loss);
    room->owner = arena_take(a, n, sizeof *room->owner);
    room->split = arena_take(a, split_scratch(n, e->grid->data_size), 1);
    room->mine = arena_take(a, 2 * n, sizeof *room->mine);
    room->row = arena_take(a, 2 * n, sizeof *room->row);
    room->start = arena_take(a, 2 * n + 1, sizeof *room->start);
    room->dnll = arena_take(a, e->tokens, sizeof *room->dnll);
    room->coef = arena_take(a, room->most.objectives * e->tokens, sizeof *room->coef);
    room->share = arena_take(a, room->most.objectives * e->tokens, sizeof *room->share);
    room->lse = arena_take(a, e->tokens, sizeof *room->lse);
    room->id = arena_take(a, e->tokens, sizeof *room->id);
    room->best = arena_take(a, e->tokens, sizeof *room->best);
    room->of_sequence = arena_take(a, e->tokens, sizeof *room->of_sequence);
    room->tangent = arena_take(a, room->most.tangents * e->tokens, sizeof *room->tangent);
    room->tcoef = arena_take(a, room->most.tangents ? e->tokens : 0, sizeof *room->tcoef);
    room->along = arena_take(a, room->most.objectives * room->most.tangents * e->tokens, sizeof *room->along);
    room->base = arena_take(a, room->most.risks, sizeof *room->base);
    room->fresh = arena_take(a, e->layout->n_param, sizeof *room->fresh);
    room->product = arena_take(a, room->n_product, sizeof *room->product);
    take_formed(a, e, room);
    if (room->most.norms) take_norms(a, e, room);
}

/* Bytes of all arrays of a packed batch of `tokens` rows, at worst of one sequence per token. */
static size_t batch_bytes(size_t tokens)
{
    struct arena a;
    arena_measure(&a);
    for (int i = 0; i < 4; i++) arena_take(&a, tokens + 1, sizeof(size_t));
    for (int i = 0; i < 3; i++) arena_take(&a, tokens, sizeof(int32_t));
    arena_take(&a, tokens, sizeof(unsigned char));
    return a.used;
}

enum status engine_room_new(struct engine *e, const struct engine_limits *most, bool count_only, size_t *bytes)
{
    enum status st = OK;
    struct engine_room *room = NULL;
    struct arena count;
    TRY_NEW(room, 1);
    room->most = *most;
    arena_measure(&count);
    take_all(&count, e, room);
    if (bytes) *bytes = count.used + batch_bytes(e->tokens);
    if (!count_only) {
        TRY(arena_new(count.used, &room->own));
        TRY(arena_new(batch_bytes(e->tokens), &room->batch));
        take_all(&room->own, e, room);
        e->room = room;
        room = NULL;
    }
done:
    if (room) arena_free(&room->own), arena_free(&room->batch);
    free(room);
    return st;
}

void engine_room_free(struct engine *e)
{
    if (!e->room) return;
    arena_free(&e->room->own);
    arena_free(&e->room->batch);
    free(e->room);
    e->room = NULL;
}

enum outputs objective_outputs(const struct objective *o)
{
    static const enum outputs at[] = {[AT_BEFORE] = OUTPUTS_LABELLED,
                                      [AT_LABELS] = OUTPUTS_OF_LABELS,
                                      [AT_NEXT] = OUTPUTS_NEXT,
                                      [AT_ALL] = OUTPUTS_WHOLE};
    const enum positions p = objective_positions(o);
    return p == AT_ALL && objective_combine(o) == BY_POSITION ? OUTPUTS_ALL : at[p];
}

/* Multiplications for each token of a row of t tokens whose queries see all keys before them, or those in the windows. */
static double attention_cost(const struct shape *s, double t)
{
    double sum = 0;
    if (!s->window) return 2.0 * t * (double)(s->heads * s->head_dim * s->blocks);
    for (size_t i = 0; i < s->blocks; i++) {
        const double window = (double)shape_window(s, i);
        sum += window > 0 && window < t ? window * (2 - window / t) : t;
    }
    return 2.0 * sum * (double)(s->heads * s->head_dim);
}

/* Weights times the tokens or outputs that they are multiplied with: the same on every tensor rank. */
static double products_cost(const struct layout *l, double tokens, double outputs)
{
    const struct shape *s = l->shape;
    double sum = s->tied ? outputs * (double)(s->vocabulary * s->hidden) : 0;
    for (size_t i = l->layer_first[1]; i < l->n_param; i++) {
        const struct param *p = &l->param[i];
        const bool at_outputs = model_sees_outputs(l, p->layer, p);
        if (!p->vector) sum += (double)(p->rows * p->cols) * (at_outputs ? outputs : tokens);
    }
    return sum;
}

double row_cost(const struct layout *l, const struct dataset *d, size_t row, enum outputs which)
{
    const double tokens = (double)dataset_length(d, row), outputs = (double)dataset_outputs(d, row, which);
    if (outputs == 0) return 0;
    return products_cost(l, tokens, outputs) + tokens * attention_cost(l->shape, tokens);
}

void rows_weights(const struct objective *o, const struct rows *r, double *weight)
{
    const enum outputs which = objective_outputs(o);
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        const size_t outputs = dataset_outputs(r->data, r->row[i], which);
        weight[i] = objective_mass(o, outputs, outputs);
        sum += weight[i];
    }
    for (size_t i = 0; i < r->n && sum > 0; i++) weight[i] /= sum;
}

/* Tokens of sequences i ... i+group-1 of this process. */
static size_t group_tokens(const struct engine *e, const struct rows *r, size_t i, size_t group)
{
    size_t sum = 0;
    for (size_t k = i; k < i + group; k++) sum += dataset_length(r->data, e->room->row[k]);
    return sum;
}

/* Tokens of a pass such that all passes are about equally long: products of a short last pass would be slow. */
static size_t pass_tokens(const struct engine *e, const struct rows *r, size_t group)
{
    size_t sum = 0, longest = 0, n, even;
    for (size_t i = 0; i < e->room->n_mine; i += group) {
        size_t length = group_tokens(e, r, i, group);
        sum += length;
        if (length > longest) longest = length;
    }
    n = (sum + e->tokens - 1) / e->tokens;
    even = n ? sum / n + longest : e->tokens;
    return even < e->tokens ? even : e->tokens;
}

static double item_cost(const struct engine *e, const struct rows *r, size_t i, enum outputs which)
{
    const struct dataset *d = r->data;
    const size_t row = r->row[i];
    const double cost = row_cost(e->layout, d, row, which);
    return cost > 0 && r->pair ? cost + row_cost(e->layout, d, row + r->pair, OUTPUTS_ALL) : cost;
}

void passes_level(struct engine *e)
{
    struct engine_room *room = e->room;
    const struct comm *data = layout_lockstep(e->layout);
    uint64_t most = room->n_pass;
    if (data) comm_max_u64(data, &most, 1);
    while (room->n_pass < most) room->start[++room->n_pass] = room->n_mine;
}

void passes_cut(struct engine *e, const struct rows *r, enum outputs which)
{
    struct engine_room *room = e->room;
    const size_t group = r->pair ? 2 : 1;
    assert(r->n <= room->most.rows && e->tokens <= room->tokens);
    room->n_mine = 0;
    for (size_t i = 0; i < r->n; i++) room->cost[i] = item_cost(e, r, i, which);
    split_balanced(r->n, room->cost, e->grid->data_size, room->split, room->owner);
    for (size_t i = 0; i < r->n; i++) {
        if (room->owner[i] != e->grid->data_rank || room->cost[i] == 0) continue;
        for (size_t k = 0; k < group; k++) {
            room->mine[room->n_mine] = i;
            room->row[room->n_mine++] = r->row[i] + k * r->pair;
        }
    }
    room->n_pass = batch_cut_groups(r->data, group, room->n_mine, room->row, pass_tokens(e, r, group), room->start);
    passes_level(e);
}

void pass_pack(struct engine *e, const struct rows *r, size_t p, enum outputs which, struct batch *b)
{
    struct engine_room *room = e->room;
    size_t first = room->start[p], n = room->start[p + 1] - first;
    arena_rewind(&room->batch, 0);
    half_turn = (uint32_t)p;
    batch_pack(r->data, n, room->row + first, which, &room->batch, b);
    assert(b->n_row <= room->tokens);
}

size_t slot_count(const struct layout *l) { return l->n_param + l->shape->tied; }

size_t slot_layer(const struct layout *l, size_t slot)
{
    return slot < l->n_param ? l->param[slot].layer : l->shape->blocks + 2;
}

const struct param *slot_param(const struct layout *l, size_t slot)
{
    return slot < l->n_param ? &l->param[slot] : layout_find(l, l->shape->blocks + 2, ROLE_HEAD);
}

/* Which row, and where, in the words of a message; what a hidden state holds is not looked at row by row. */
static enum status not_finite(const struct pass *p, size_t layer)
{
    const struct engine *e = p->e;
    const struct dataset *d = p->r->data;
    const struct batch *b = p->b;
    const double *lse = model_lse(e->model), *nll = model_nll(e->model);
    const int rank = e->grid->rank;
    if (layer) return fail(ERR_NUMERIC, "%s: hidden state %zu is not finite (rank %d)", d->path, layer, rank);
    for (size_t i = 0; i < b->n_seq; i++)
        for (size_t k = b->out_first[i]; k < b->out_first[i + 1]; k++)
            if (!isfinite(lse[k]) || !isfinite(nll[k]))
                return fail(ERR_NUMERIC, "%s: row %zu (from 0): a log-likelihood is not finite (rank %d)", d->path,
                            e->room->row[e->room->start[p->p] + i], rank);
    return ERR_NUMERIC;
}

enum status pass_values(const struct pass *p, struct state *weights, size_t layer, const struct slabs *look)
{
    struct model *m = p->e->model;
    enum status st = layer ? model_forward_hidden(m, weights, p->b, layer) : model_forward(m, weights, p->b, look);
    return st == ERR_NUMERIC ? not_finite(p, layer) : st;
}
