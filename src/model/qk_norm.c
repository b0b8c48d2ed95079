/* Norms of queries and keys before they rotate, forward beside backward and tangent:
 *      y = xhat w (+ b)        over each head, with one w for all heads or one per head, in memory [heads][head_dim];
 *      y = xhat (1 + w)        where the family's norms are so;
 *                              or over all heads together, whose squares are then summed over the tensor ranks
 * If several tensor ranks keep a key head, their deltas of it are partial sums. The backward is linear in the deltas
 * and works on these; but the term from the sum over all heads is subtracted only by the rank that counts the head. */
#include "decoder.h"

struct half { /* the queries' or the keys' columns of the rows of q, k, v */
    const struct param *weight, *bias;
    size_t n_param, heads, at, width;
    size_t rows; /* of the weights in memory: width, or head_dim if heads share them */
};

static struct half half_of(const struct model *m, size_t layer, bool keys)
{
    const struct layout *l = m->layout;
    const struct shape *s = l->shape;
    struct half h = {.weight = layout_find(l, layer, keys ? ROLE_K_NORM : ROLE_Q_NORM),
                     .bias = layout_find(l, layer, keys ? ROLE_K_NORM_BIAS : ROLE_Q_NORM_BIAS),
                     .n_param = 1,
                     .heads = keys ? l->kv_count : l->head_count,
                     .at = keys ? l->head_count * s->head_dim : 0};
    h.width = h.heads * s->head_dim;
    h.rows = s->qk_norm == QK_SHARED ? s->head_dim : h.width;
    if (s->qk_norm == QK_EACH) h.n_param = keys ? s->kv_heads : s->heads;
    return h;
}

static void sum_ranks(const struct model *m, double *x, size_t n)
{
    if (m->grid->tensor_size > 1) comm_sum_double(m->grid->tensor, x, n);
}

static void forward(struct model *m, size_t n, const struct tensors *w, const struct half *h, real *qkv, real *hat,
                    real *r)
{
    const struct shape *s = m->layout->shape;
    if (s->qk_norm == QK_WHOLE) {
        columns_take(n, h->width, qkv + h->at, m->qkv, hat);
        norm_part_squares(n, h->width, h->weight->own_first, h->weight->own_count, hat, m->q_sum);
        sum_ranks(m, m->q_sum, n);
        norm_part_forward(n, h->width, h->weight->rows, m->q_sum, s->norm_eps, hat, r);
    } else {
        columns_take(n, h->width, qkv + h->at, m->qkv, m->q1);
        norm_forward(s->norm, n * h->heads, s->head_dim, m->q1, NULL, NULL, s->norm_eps, hat, m->q_mean, r);
    }
    rows_scale(n * (h->width / h->rows), h->rows, hat, tensors_vector(w, h->weight), m->q1);
    if (s->norm == NORM_RMS_OFFSET) math_add(n * h->width, hat, m->q1);
    if (h->bias) bias_add(n * (h->width / h->rows), h->rows, tensors_vector(w, h->bias), m->q1, h->rows);
    columns_put(n, h->width, m->q1, qkv + h->at, m->qkv);
}

void qk_norm_forward(struct model *m, size_t n, const struct tensors *w, size_t layer, struct block_kept *k)
{
    for (int i = 0; i < 2; i++) {
        const struct half h = half_of(m, layer, i);
        forward(m, n, w, &h, k->qkv, k->qk_hat[i], k->qk_r[i]);
    }
}

/* Passes the bias to the sink, from the deltas dy; those of a bias that heads share are summed over the heads. */
static void give_bias(struct model *m, const struct half *h, const struct cut *c, const struct sink *sink, size_t layer,
                      const real *dy)
{
    const size_t N = c->J * c->n, times = h->width / h->rows;
    math_fill(N * h->rows, 0, m->q2);
    for (size_t i = 0; i < N; i++)
        for (size_t t = 0; t < times; t++) math_add(h->rows, dy + (i * times + t) * h->rows, m->q2 + i * h->rows);
    struct cut dense = *c;
    dense.ldy = h->rows;
    sink->bias(sink->context, layer, h->bias, 1, &dense, m->q2);
}

/* m->q3, m->q_tr: tangents of xhat and r from those of the input, for which every process has all columns of its heads. */
static void hat_tangents(struct model *m, const struct half *h, size_t n, const real *hat, const real *r, const real *raw)
{
    const struct shape *s = m->layout->shape;
    const struct param *w = h->weight;
    if (s->qk_norm == QK_WHOLE) {
        norm_part_inner(n, h->width, w->own_first, w->own_count, hat, raw, m->q_sum);
        sum_ranks(m, m->q_sum, n);
        math_copy(n * h->width, raw, m->q3);
        norm_part_tangent(n, h->width, w->rows, m->q_sum, hat, r, m->q3, m->q_tr);
    } else
        norm_tangent(s->norm, n * h->heads, s->head_dim, hat, r, raw, m->q3, m->q_tr);
}

/* The parameters to the sink, from the deltas m->q1; with tangents those of their gradients. */
static void give(struct model *m, const struct half *h, const struct cut *c, const struct sink *sink, size_t layer,
                 const real *hat, bool tangents)
{
    const struct cut one = {.J = 1, .n = c->n, .n_seq = c->n_seq, .first = c->first};
    const real *second = m->q1 + c->n * h->width;
    if (tangents) {
        sink->scale(sink->context, layer, h->weight, h->n_param, &one, h->width, hat, second);
        sink->scale(sink->context, layer, h->weight, h->n_param, &one, h->width, m->q3, m->q1);
        if (h->bias) give_bias(m, h, &one, sink, layer, second);
    } else {
        sink->scale(sink->context, layer, h->weight, h->n_param, c, h->width, hat, m->q1);
        if (h->bias) give_bias(m, h, c, sink, layer, m->q1);
    }
}

/* tw: the direction's tensors; raw: tangent of the input; NULL: there are no tangents */
static void backward(struct model *m, const struct half *h, const struct cut *c, const struct sink *sink,
                     const struct tensors *w, size_t layer, const real *hat, const real *r, const struct tensors *tw,
                     const real *raw)
{
    const struct shape *s = m->layout->shape;
    const size_t n = c->n, N = c->J * n, size = n * h->width;
    const struct norm_tangents t = {hat, m->q3, r, m->q_tr, NULL, NULL};
    if (raw) hat_tangents(m, h, n, hat, r, raw);
    columns_take(N, h->width, m->dqkv + h->at, m->qkv, m->q1);
    give(m, h, c, sink, layer, hat, raw != NULL);
    rows_scale(N * (h->width / h->rows), h->rows, m->q1, tensors_vector(w, h->weight), m->q2);
    if (s->norm == NORM_RMS_OFFSET) math_add(N * h->width, m->q1, m->q2);
    if (raw) {
        rows_scale(n * (h->width / h->rows), h->rows, m->q1, tensors_vector(tw, h->weight), m->q1);
        math_add(size, m->q1, m->q2 + size);
    }
    if (s->qk_norm == QK_WHOLE) {
        const struct param *p = h->weight;
        norm_part_along(c->J, n, h->width, hat, m->q2, m->q_sum);
        if (raw) norm_part_along(1, n, h->width, m->q3, m->q2, m->q_sum + N);
        sum_ranks(m, m->q_sum, N + (raw ? n : 0));
        norm_part_backward(c->J, n, h->width, p->rows, p->own_first, p->own_count, hat, r, m->q_sum, m->q2);
        if (raw)
            norm_part_backward_tangent(n, h->width, p->rows, p->own_first, p->own_count, &t, m->q_sum, m->q_sum + N,
                                       m->q2, m->q2 + size);
        columns_put(N, h->width, m->q2, m->dqkv + h->at, m->qkv);
    } else {
        math_fill(N * h->width, 0, m->q1);
        norm_backward(s->norm, c->J, c->n * h->heads, s->head_dim, hat, r, NULL, m->q2, m->q1);
        if (raw) norm_backward_tangent(s->norm, n * h->heads, s->head_dim, &t, m->q2, m->q1 + size);
        columns_put(N, h->width, m->q1, m->dqkv + h->at, m->qkv);
    }
}

void qk_norm_backward(struct model *m, const struct cut *c, const struct sink *sink, const struct tensors *w,
                      size_t layer, const struct block_kept *k, const struct block_tangent *t, const struct tensors *tw)
{
    for (int i = 0; i < 2; i++) {
        const struct half h = half_of(m, layer, i);
        backward(m, &h, c, sink, w, layer, k->qk_hat[i], k->qk_r[i], tw, t ? t->raw[i] : NULL);
    }
}

/* What is complete in every column, of those columns alone that this process counts. */
static void keep_own(const struct half *h, size_t n, real *x)
{
    const size_t first = h->weight->own_first, end = first + h->weight->own_count;
    for (size_t r = 0; r < n && (first || end < h->width); r++) {
        math_fill(first, 0, x + r * h->width);
        math_fill(h->width - end, 0, x + r * h->width + end);
    }
}

/* m->q2 = derivatives of xhat from those of x in m->q1, for which every process has all columns of its heads. */
static void hat_tangent(struct model *m, const struct half *h, size_t n, size_t K, const real *hat, const real *r)
{
    const struct shape *s = m->layout->shape;
    const size_t N = K * n;
    if (s->qk_norm == QK_WHOLE) {
        math_copy(N * h->width, m->q1, m->q2);
        keep_own(h, N, m->q2);
        norm_part_along(K, n, h->width, hat, m->q2, m->q_sum);
        sum_ranks(m, m->q_sum, N);
        math_copy(N * h->width, m->q1, m->q2);
        norm_part_backward(K, n, h->width, h->weight->rows, 0, h->width, hat, r, m->q_sum, m->q2);
    } else {
        math_fill(N * h->width, 0, m->q2);
        norm_backward(s->norm, K, n * h->heads, s->head_dim, hat, r, NULL, m->q1, m->q2);
    }
}

static void tangent(struct model *m, const struct half *h, size_t n, size_t K, const struct tensors *w, const real *hat,
                    const real *r, real *raw, real *qkv)
{
    const struct shape *s = m->layout->shape;
    const size_t times = n * (h->width / h->rows), size = n * h->width;
    columns_take(K * n, h->width, qkv + h->at, m->qkv, m->q1);
    math_copy(K * size, m->q1, raw);
    hat_tangent(m, h, n, K, hat, r);
    rows_scale(K * times, h->rows, m->q2, tensors_vector(w, h->weight), m->q1);
    if (s->norm == NORM_RMS_OFFSET) math_add(K * size, m->q2, m->q1);
    for (size_t k = 0; k < K; k++) {
        rows_scale(times, h->rows, hat, tensors_vector(&m->base[k], h->weight), m->q2);
        math_add(size, m->q2, m->q1 + k * size);
        if (h->bias) bias_add(times, h->rows, tensors_vector(&m->base[k], h->bias), m->q1 + k * size, h->rows);
    }
    columns_put(K * n, h->width, m->q1, qkv + h->at, m->qkv);
}

void qk_norm_tangent(struct model *m, size_t n, size_t K, const struct tensors *w, size_t layer,
                     const struct block_kept *k, const struct block_tangent *t)
{
    for (int i = 0; i < 2; i++) {
        const struct half h = half_of(m, layer, i);
        tangent(m, &h, n, K, w, k->qk_hat[i], k->qk_r[i], t->raw[i], t->qkv);
    }
}
