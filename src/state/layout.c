/* Which part of each tensor a process keeps. The table below gives the two dimensions of every tensor; each dimension
 * is kept whole or split over the tensor ranks, and that decides how the tensor is split:
 *     W of y = x W^T is split by rows if its outputs are heads, MLP columns or words, by columns if its inputs are. */
#include "unlearn/state_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16 }; /* reals: every layer starts on a cache line */
enum dim { DIM_ONE, DIM_HIDDEN, DIM_WORDS, DIM_POSITIONS, DIM_HEADS, DIM_KV, DIM_HEAD, DIM_COLUMNS, DIM_FUSED, N_DIM };
enum scope { IN_EMBED, IN_BLOCK, IN_NORM, IN_HEAD };

static const struct {
    enum scope scope;
    enum dim rows, cols;
} form[N_ROLE] = {
    [ROLE_EMBED] = {IN_EMBED, DIM_WORDS, DIM_HIDDEN},
    [ROLE_NORM1] = {IN_BLOCK, DIM_HIDDEN, DIM_ONE},
    [ROLE_NORM1_BIAS] = {IN_BLOCK, DIM_HIDDEN, DIM_ONE},
    [ROLE_Q] = {IN_BLOCK, DIM_HEADS, DIM_HIDDEN},
    [ROLE_K] = {IN_BLOCK, DIM_KV, DIM_HIDDEN},
    [ROLE_V] = {IN_BLOCK, DIM_KV, DIM_HIDDEN},
    [ROLE_Q_BIAS] = {IN_BLOCK, DIM_HEADS, DIM_ONE},
    [ROLE_K_BIAS] = {IN_BLOCK, DIM_KV, DIM_ONE},
    [ROLE_V_BIAS] = {IN_BLOCK, DIM_KV, DIM_ONE},
    [ROLE_O] = {IN_BLOCK, DIM_HIDDEN, DIM_HEADS},
    [ROLE_O_BIAS] = {IN_BLOCK, DIM_HIDDEN, DIM_ONE},
    [ROLE_NORM2] = {IN_BLOCK, DIM_HIDDEN, DIM_ONE},
    [ROLE_NORM2_BIAS] = {IN_BLOCK, DIM_HIDDEN, DIM_ONE},
    [ROLE_GATE] = {IN_BLOCK, DIM_COLUMNS, DIM_HIDDEN},
    [ROLE_UP] = {IN_BLOCK, DIM_COLUMNS, DIM_HIDDEN},
    [ROLE_GATE_BIAS] = {IN_BLOCK, DIM_COLUMNS, DIM_ONE},
    [ROLE_UP_BIAS] = {IN_BLOCK, DIM_COLUMNS, DIM_ONE},
    [ROLE_DOWN] = {IN_BLOCK, DIM_HIDDEN, DIM_COLUMNS},
    [ROLE_DOWN_BIAS] = {IN_BLOCK, DIM_HIDDEN, DIM_ONE},
    [ROLE_NORM] = {IN_NORM, DIM_HIDDEN, DIM_ONE},
    [ROLE_NORM_BIAS] = {IN_NORM, DIM_HIDDEN, DIM_ONE},
    [ROLE_HEAD] = {IN_HEAD, DIM_WORDS, DIM_HIDDEN},
    [ROLE_HEAD_BIAS] = {IN_HEAD, DIM_WORDS, DIM_ONE},
    [ROLE_POSITION] = {IN_EMBED, DIM_POSITIONS, DIM_HIDDEN},
    [ROLE_Q_NORM] = {IN_BLOCK, DIM_HEADS, DIM_ONE},
    [ROLE_Q_NORM_BIAS] = {IN_BLOCK, DIM_HEADS, DIM_ONE},
    [ROLE_K_NORM] = {IN_BLOCK, DIM_KV, DIM_ONE},
    [ROLE_K_NORM_BIAS] = {IN_BLOCK, DIM_KV, DIM_ONE},
    [ROLE_NORM1_AFTER] = {IN_BLOCK, DIM_HIDDEN, DIM_ONE},
    [ROLE_NORM2_AFTER] = {IN_BLOCK, DIM_HIDDEN, DIM_ONE},
};

static bool present(const struct shape *s, enum role role)
{
    const bool without[N_ROLE] = {
        [ROLE_POSITION] = !s->learned_positions,
        [ROLE_NORM1_BIAS] = !s->norm_bias,
        [ROLE_Q_NORM] = !s->qk_norm,
        [ROLE_K_NORM] = !s->qk_norm,
        [ROLE_Q_NORM_BIAS] = !s->qk_norm_bias,
        [ROLE_K_NORM_BIAS] = !s->qk_norm_bias,
        [ROLE_K] = s->row->fused,
        [ROLE_V] = s->row->fused,
        [ROLE_Q_BIAS] = !s->qkv_bias,
        [ROLE_K_BIAS] = !s->qkv_bias || s->row->fused,
        [ROLE_V_BIAS] = !s->qkv_bias || s->row->fused,
        [ROLE_O_BIAS] = !s->out_bias,
        [ROLE_NORM1_AFTER] = !s->both_norms,
        [ROLE_NORM2_AFTER] = !s->both_norms,
        [ROLE_NORM2] = s->one_norm,
        [ROLE_NORM2_BIAS] = s->one_norm || !s->norm_bias,
        [ROLE_GATE] = !s->gated,
        [ROLE_GATE_BIAS] = !s->gated || !s->mlp_bias,
        [ROLE_UP_BIAS] = !s->mlp_bias,
        [ROLE_DOWN_BIAS] = !s->mlp_bias,
        [ROLE_NORM_BIAS] = !s->norm_bias,
        [ROLE_HEAD] = s->tied,
        [ROLE_HEAD_BIAS] = !s->head_bias,
    };
    return !without[role];
}

static bool is_qk_norm(enum role role) { return role >= ROLE_Q_NORM && role <= ROLE_K_NORM_BIAS; }

static enum dim row_dim(const struct shape *s, enum role role)
{
    if (is_qk_norm(role) && s->qk_norm != QK_WHOLE) return DIM_HEAD;
    return form[role].rows == DIM_HEADS && s->row->fused ? DIM_FUSED : form[role].rows;
}

/* Number of tensors with this role in a block. */
static size_t role_count(const struct shape *s, enum role role)
{
    if (!is_qk_norm(role) || s->qk_norm != QK_EACH) return 1;
    return form[role].rows == DIM_HEADS ? s->heads : s->kv_heads;
}

/* Size of a dimension in the whole model, and the range that this process keeps. For DIM_FUSED only the counts are
 * right; fused_pieces() makes its ranges. */
static void dim_range(const struct layout *l, enum dim dim, size_t *all, size_t *first, size_t *count)
{
    const struct shape *s = l->shape;
    const size_t d = s->head_dim;
    const size_t range[N_DIM][3] = {
        [DIM_ONE] = {1, 0, 1},
        [DIM_HIDDEN] = {s->hidden, 0, s->hidden},
        [DIM_WORDS] = {s->vocabulary, l->word_first, l->word_count},
        [DIM_POSITIONS] = {s->positions, 0, s->positions},
        [DIM_HEAD] = {d, 0, d},
        [DIM_HEADS] = {s->heads * d, l->head_first * d, l->head_count * d},
        [DIM_KV] = {s->kv_heads * d, l->kv_first * d, l->kv_count * d},
        [DIM_COLUMNS] = {s->intermediate, l->column_first, l->column_count},
        [DIM_FUSED] = {3 * s->heads * d, 3 * l->head_first * d, 3 * l->head_count * d},
    };
    *all = range[dim][0];
    *first = range[dim][1];
    *count = range[dim][2];
}

/* The heads of a tensor rank: query heads are split evenly, and key-value heads are those that its query heads need. */
static void heads_of(const struct shape *s, int tensor_size, int rank, size_t *head_first, size_t *head_count,
                     size_t *kv_first, size_t *kv_count)
{
    const size_t group = s->heads / s->kv_heads;
    split_range(s->heads, tensor_size, rank, head_first, head_count);
    *kv_first = *head_first / group;
    *kv_count = (*head_first + *head_count - 1) / group - *kv_first + 1;
}

bool layout_kv_shared(const struct shape *s, int tensor_size, size_t h)
{
    int keepers = 0;
    size_t head_first, head_count, kv_first, kv_count;
    for (int t = 0; t < tensor_size; t++) {
        heads_of(s, tensor_size, t, &head_first, &head_count, &kv_first, &kv_count);
        keepers += h >= kv_first && h < kv_first + kv_count;
    }
    return keepers > 1;
}

/* Which rows this rank counts: the first rank counts replicated tensors, and the first rank that keeps a shared
 * key-value head counts that head. */
static void set_owned(const struct layout *l, struct param *p)
{
    const enum dim rows = row_dim(l->shape, p->role), cols = form[p->role].cols;
    size_t head_first, head_count, kv_first, kv_count;
    const bool replicated =
        (rows == DIM_HIDDEN || rows == DIM_POSITIONS || rows == DIM_HEAD) && (cols == DIM_ONE || cols == DIM_HIDDEN);
    p->own_count = replicated && l->tensor_rank ? 0 : p->row_count;
    p->shared = rows == DIM_HEAD && l->tensor_size > 1; /* a rank's gradient is the sum over its heads only */
    if (rows != DIM_KV) return;
    for (size_t h = l->kv_first; h < l->kv_first + l->kv_count; h++)
        p->shared |= layout_kv_shared(l->shape, l->tensor_size, h);
    if (!l->tensor_rank) return;
    heads_of(l->shape, l->tensor_size, l->tensor_rank - 1, &head_first, &head_count, &kv_first, &kv_count);
    if (kv_first + kv_count > l->kv_first) p->own_first = (kv_first + kv_count - l->kv_first) * l->shape->head_dim;
    p->own_count = p->row_count - p->own_first;
}

/* The norm weight of one head: query head h, or for k key-value head h. Ranks that have the head keep it. */
static void set_head(const struct layout *l, struct param *p, size_t h)
{
    const bool kv = form[p->role].rows == DIM_KV;
    const size_t first = kv ? l->kv_first : l->head_first, count = kv ? l->kv_count : l->head_count;
    size_t head_first, head_count, kv_first, kv_count;
    p->shared = kv && layout_kv_shared(l->shape, l->tensor_size, h);
    p->row_count = p->piece[0].count = h >= first && h < first + count ? l->shape->head_dim : 0;
    p->own_count = p->row_count;
    if (!kv || !l->tensor_rank) return;
    heads_of(l->shape, l->tensor_size, l->tensor_rank - 1, &head_first, &head_count, &kv_first, &kv_count);
    if (h < kv_first + kv_count) p->own_count = 0;
}

/* The file orders the rows of a fused tensor by head or by part; in memory all q rows come first, then k, then v. */
static void fused_pieces(const struct layout *l, struct param *p)
{
    const size_t d = l->shape->head_dim, n = l->head_count, all = l->shape->heads;
    for (size_t part = 0; part < 3; part++)
        for (size_t h = 0; h < n; h++)
            p->piece[part * n + h] =
                (struct piece){(l->shape->row->fused == FUSED_BY_PART ? part * all + l->head_first + h
                                                                      : 3 * (l->head_first + h) + part) *
                                   d,
                               d};
}

/* Replaces the first # of the pattern by the block's number, a second by the head's. */
static enum status param_name(const char *pattern, size_t block, size_t head, char **out)
{
    enum status st = OK;
    const size_t number[] = {block, head};
    const char *hash;
    struct text t = {0};
    for (size_t k = 0; k < 2 && (hash = strchr(pattern, '#')); pattern = hash + 1)
        TRY(text_print(&t, "%.*s%zu", (int)(hash - pattern), pattern, number[k++]));
    TRY(text_add(&t, pattern, strlen(pattern)));
done:
    *out = t.data;
    return st;
}

/* Finds the parameter's place in the file's tensor: roles with one name stand below each other in the roles' order. */
static void place_in_tensor(struct layout *l, struct param *p)
{
    const char *const *name = l->shape->row->tensor;
    struct param *first = p;
    p->tensor_rows = p->rows;
    while (first->role && first > l->param && first[-1].layer == p->layer && name[first->role - 1] &&
           !strcmp(name[first->role - 1], name[p->role])) {
        first--;
        p->tensor_first += first->rows;
    }
    p->goes_on = first < p;
    for (struct param *q = first; q <= p && p->goes_on; q++) q->tensor_rows = p->tensor_first + p->rows;
    l->n_tensor += !p->goes_on;
    p->tensor = l->n_tensor - 1;
}

/* Behind the vectors of its layer that come before it. */
static void place_vector(struct layout *l, struct param *p)
{
    const struct param *before = p;
    while (before > l->param && before[-1].layer == p->layer && !before[-1].vector) before--;
    if (before > l->param && before[-1].layer == p->layer)
        p->vector_offset = before[-1].vector_offset + before[-1].row_count;
    if (p->vector_offset + p->row_count > l->vectors) l->vectors = p->vector_offset + p->row_count;
}

static enum status param_make(struct layout *l, size_t layer, enum role role, size_t head)
{
    enum status st = OK;
    const struct shape *s = l->shape;
    struct param *p = &l->param[l->n_param++];
    const enum dim rows = row_dim(s, role);
    size_t first;

    p->role = role;
    p->layer = layer;
    p->vector = form[role].cols == DIM_ONE;
    p->transposed = !p->vector && s->row->transposed && form[role].scope == IN_BLOCK;
    TRY(param_name(s->row->tensor[role], layer - 1, head, &p->name));
    dim_range(l, rows, &p->rows, &first, &p->row_count);
    dim_range(l, form[role].cols, &p->cols, &p->col_first, &p->col_count);
    p->n_piece = rows == DIM_FUSED ? 3 * l->head_count : 1;
    TRY_NEW(p->piece, p->n_piece);
    if (rows == DIM_FUSED)
        fused_pieces(l, p);
    else
        p->piece[0] = (struct piece){first, p->row_count};
    place_in_tensor(l, p);
    set_owned(l, p);
    if (role_count(s, role) > 1) set_head(l, p, head);
    p->offset = l->size;
    l->size += p->row_count * p->col_count;
    if (p->vector) place_vector(l, p);
    l->elements += p->rows * p->cols;
done:
    return st;
}

static enum scope scope_of(const struct layout *l, size_t layer)
{
    if (!layer) return IN_EMBED;
    return layer <= l->shape->blocks ? IN_BLOCK : layer == l->shape->blocks + 1 ? IN_NORM : IN_HEAD;
}

static bool present_in(const struct layout *l, size_t layer, enum role role)
{
    return form[role].scope == scope_of(l, layer) && present(l->shape, role);
}

static enum status params_make(struct layout *l)
{
    enum status st = OK;
    const size_t heads = l->shape->qk_norm == QK_EACH ? l->shape->heads + l->shape->kv_heads : 0;
    TRY_NEW(l->param, l->n_layer * (N_ROLE + heads));
    TRY_NEW(l->layer_first, l->n_layer + 1);
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        l->layer_first[layer] = l->n_param;
        l->size = (l->size + ALIGN - 1) / ALIGN * ALIGN;
        for (enum role role = 0; role < N_ROLE; role++)
            for (size_t h = 0; h < role_count(l->shape, role) && present_in(l, layer, role); h++)
                TRY(param_make(l, layer, role, h));
    }
    l->layer_first[l->n_layer] = l->n_param;
    l->size = (l->size + ALIGN - 1) / ALIGN * ALIGN;
done:
    return st;
}

enum status layout_new(const struct shape *s, int tensor_rank, int tensor_size, struct layout **out)
{
    enum status st = OK;
    struct layout *l = *out = NULL;
    if (tensor_size < 1 || (size_t)tensor_size > s->heads) {
        st = fail(ERR_INPUT,
                  "parallel.tensor: %d processes cannot share the %zu attention heads of the model; use 1 ... %zu",
                  tensor_size, s->heads, s->heads);
        goto done;
    }
    TRY_NEW(l, 1);
    l->shape = s;
    l->tensor_rank = tensor_rank;
    l->tensor_size = tensor_size;
    l->n_layer = s->blocks + 3;
    heads_of(s, tensor_size, tensor_rank, &l->head_first, &l->head_count, &l->kv_first, &l->kv_count);
    split_range(s->intermediate, tensor_size, tensor_rank, &l->column_first, &l->column_count);
    split_range(s->vocabulary, tensor_size, tensor_rank, &l->word_first, &l->word_count);
    TRY(params_make(l));
    *out = l, l = NULL;
done:
    layout_free(l);
    return st;
}

enum status layout_largest(const struct shape *s, int tensor_size, struct layout **out)
{
    struct layout *l;
    enum status st;
    TRY(layout_new(s, 0, tensor_size, out));
    for (int rank = 1; rank < tensor_size; rank++) {
        TRY(layout_new(s, rank, tensor_size, &l));
        if (l->size > (*out)->size) {
            layout_free(*out);
            *out = l;
        } else
            layout_free(l);
    }
done:
    return st;
}

void layout_free(struct layout *l)
{
    if (!l) return;
    for (size_t i = 0; i < l->n_param; i++) {
        free(l->param[i].name);
        free(l->param[i].piece);
    }
    sharing_free(l->sharing);
    free(l->param);
    free(l->layer_first);
    free(l);
}

const struct param *layout_find(const struct layout *l, size_t layer, enum role role)
{
    if (role == ROLE_HEAD && l->shape->tied && layer == l->n_layer - 1) layer = 0, role = ROLE_EMBED;
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++)
        if (l->param[i].role == role) return &l->param[i];
    return NULL;
}

const char *layer_name(const struct layout *l, size_t layer, char buffer[32])
{
    const char *const name[] = {[IN_EMBED] = "embed", [IN_NORM] = "norm", [IN_HEAD] = "lm_head"};
    const enum scope scope = scope_of(l, layer);
    if (scope == IN_BLOCK)
        snprintf(buffer, 32, "layers.%zu", layer - 1);
    else
        snprintf(buffer, 32, "%s", name[scope]);
    return buffer;
}

void layout_span(const struct layout *l, size_t layer, size_t *first, size_t *count)
{
    const struct param *begin = &l->param[l->layer_first[layer]], *last = &l->param[l->layer_first[layer + 1]] - 1;
    *first = *count = 0;
    if (last < begin) return;
    *first = begin->offset;
    *count = last->offset + last->row_count * last->col_count - *first;
}

bool param_by_kv_heads(const struct layout *l, const struct param *p) { return row_dim(l->shape, p->role) == DIM_KV; }

size_t param_file_rows(const struct param *p) { return p->transposed ? p->cols : p->tensor_rows; }
size_t param_file_cols(const struct param *p) { return p->transposed ? p->rows : p->cols; }
size_t param_part_rows(const struct param *p) { return p->transposed ? p->cols : p->rows; }

size_t param_global_row(const struct param *p, size_t i)
{
    size_t k = 0;
    for (; i >= p->piece[k].count; k++) i -= p->piece[k].count;
    return p->piece[k].first + i;
}

size_t param_rows(const struct param *p, size_t n_param)
{
    size_t rows = 0;
    for (size_t i = 0; i < n_param; i++) rows += p[i].row_count;
    return rows;
}

const char *param_file_name(const struct layout *l, const struct param *p, bool tied, size_t i)
{
    const struct architecture *row = l->shape->row;
    const char *embed = row->tensor[ROLE_EMBED];
    const size_t prefix = strcspn(embed, ".") + 1;
    if (i == 0) return p->name;
    if (i == 1) return strncmp(p->name, embed, prefix) ? p->name : p->name + prefix;
    if (p->role != ROLE_HEAD && !(tied && p->role == ROLE_EMBED)) return NULL;
    return i == 2 ? row->tensor[ROLE_HEAD] : i == 3 ? row->head : NULL;
}
