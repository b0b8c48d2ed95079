/* math: causal attention of packed sequences, forward and backward.  NP: 1 */
#include "math_cases.h"

struct example {
    struct attention a;
    size_t n, width, out_width; /* rows, reals of a row of qkv and of out */
    const real *dout;
};

static struct example example(size_t n_seq, const size_t *first, size_t heads_q, size_t heads_kv, size_t head_dim,
                              const int *kv_of)
{
    return (struct example){
        .a = {n_seq, first, heads_q, heads_kv, head_dim, kv_of, 1 / sqrt((double)head_dim), 0, 0, NULL},
        .n = first[n_seq],
        .width = (heads_q + 2 * heads_kv) * head_dim,
        .out_width = heads_q * head_dim,
    };
}

/* Whether the query sees the key: keys from the window's first up to its own that are not hidden, or its own if there is none. */
static bool sees(const struct example *o, size_t from, size_t row, size_t key)
{
    bool any = false;
    if (!o->a.hidden) return true;
    for (size_t k = from; k <= row; k++) any = any || !o->a.hidden[k];
    return any ? !o->a.hidden[key] : key == row;
}

static struct example limited(struct example o, double cap, size_t window)
{
    o.a.cap = cap, o.a.window = window;
    return o;
}

/* One query of one head, the slow way; returns lse */
static double plain_query(const struct example *o, const double *qkv, size_t from, size_t row, size_t head, double *out)
{
    if (o->a.window && row - from >= o->a.window) from = row + 1 - o->a.window;
    const size_t d = o->a.head_dim, k_at = (o->a.heads_q + (size_t)o->a.kv_of[head]) * d, v_at = k_at + o->a.heads_kv * d;
    double most = -INFINITY, sum = 0, *s = malloc((row - from + 1) * sizeof *s);
    for (size_t key = from; key <= row; key++) {
        double dot = 0;
        for (size_t c = 0; c < d; c++) dot += qkv[row * o->width + head * d + c] * qkv[key * o->width + k_at + c];
        s[key - from] = o->a.cap > 0 ? o->a.cap * tanh(o->a.scale * dot / o->a.cap) : o->a.scale * dot;
        if (!sees(o, from, row, key)) s[key - from] = -INFINITY;
        most = fmax(most, s[key - from]);
    }
    for (size_t key = from; key <= row; key++) sum += exp(s[key - from] - most);
    for (size_t c = 0; c < d; c++) out[c] = 0;
    for (size_t key = from; key <= row; key++)
        for (size_t c = 0; c < d; c++) out[c] += exp(s[key - from] - most) / sum * qkv[key * o->width + v_at + c];
    free(s);
    return most + log(sum);
}

static void plain_attention(const struct example *o, const double *qkv, double *out, double *lse)
{
    for (size_t i = 0; i < o->a.n_seq; i++)
        for (size_t r = o->a.first[i]; r < o->a.first[i + 1]; r++)
            for (size_t h = 0; h < o->a.heads_q; h++)
                lse[r * o->a.heads_q + h] =
                    plain_query(o, qkv, o->a.first[i], r, h, out + r * o->out_width + h * o->a.head_dim);
}

static double attention_loss(const double *qkv, const void *more)
{
    const struct example *o = more;
    double *out = malloc(o->n * o->out_width * sizeof *out), *lse = malloc(o->n * o->a.heads_q * sizeof *lse), loss;
    plain_attention(o, qkv, out, lse);
    loss = weighted_sum(o->n * o->out_width, out, o->dout);
    free(out);
    free(lse);
    return loss;
}

static real *scratch_for(const struct attention *a)
{
    size_t longest = 0;
    for (size_t i = 0; i < a->n_seq; i++)
        if (a->first[i + 1] - a->first[i] > longest) longest = a->first[i + 1] - a->first[i];
    return noise(attention_scratch(a, longest));
}

static void forward_agrees(const struct example *o)
{
    real *qkv = random_reals(1, o->n * o->width), *out = noise(o->n * o->out_width), *lse = noise(o->n * o->a.heads_q);
    real *scratch = scratch_for(&o->a);
    double *at = doubles(o->n * o->width, qkv), *want = malloc((o->n * o->out_width + 1) * sizeof *want);
    double *want_lse = malloc((o->n * o->a.heads_q + 1) * sizeof *want_lse);
    attention_forward(&o->a, qkv, out, lse, scratch);
    plain_attention(o, at, want, want_lse);
    assert_true(error_of(o->n * o->out_width, out, want) < TOL);
    assert_true(error_of(o->n * o->a.heads_q, lse, want_lse) < TOL);
    free(qkv), free(out), free(lse), free(scratch), free(at), free(want), free(want_lse);
}

/* Tangents of two directions against the backward, which differences have checked. */
static void tangents_agree(const struct example *o, const real *qkv, const real *lse, const real *dout, const real *dqkv)
{
    const size_t n_out = o->n * o->out_width, n_qkv = o->n * o->width;
    real *tqkv = random_reals(5, 2 * n_qkv), *tout = noise(2 * n_out), *scratch = scratch_for(&o->a);
    attention_tangent(&o->a, 2, o->n, qkv, lse, tqkv, tout, scratch);
    for (size_t k = 0; k < 2; k++) assert_adjoint(n_out, dout, tout + k * n_out, n_qkv, dqkv, tqkv + k * n_qkv);
    free(tqkv), free(tout), free(scratch);
}

static void backward_agrees(struct example o, size_t J)
{
    const size_t n_out = o.n * o.out_width, n_qkv = o.n * o.width;
    real *qkv = random_reals(1, n_qkv), *out = noise(n_out), *lse = noise(o.n * o.a.heads_q);
    real *dout = random_reals(2, J * n_out), *dqkv = noise(J * n_qkv), *scratch = scratch_for(&o.a);
    double *at = doubles(n_qkv, qkv), *slope = malloc((n_qkv + 1) * sizeof *slope);
    attention_forward(&o.a, qkv, out, lse, scratch);
    attention_backward(&o.a, J, o.n, qkv, out, lse, dout, dqkv, scratch);
    for (size_t j = 0; j < J; j++) {
        o.dout = dout + j * n_out;
        differences(attention_loss, &o, n_qkv, at, slope);
        assert_true(error_of(n_qkv, dqkv + j * n_qkv, slope) < TOL_DIFFERENCE);
        tangents_agree(&o, qkv, lse, o.dout, dqkv + j * n_qkv);
    }
    free(qkv), free(out), free(lse), free(dout), free(dqkv), free(scratch), free(at), free(slope);
}

/* tout: the output's tangent along tqkv, by differences of the twin. */
static real *plain_tangent(const struct example *o, const double *qkv, const real *tqkv)
{
    const double h = 1e-5;
    const size_t n = o->n * o->out_width;
    double *at = malloc((o->n * o->width + 1) * sizeof *at), *out[2],
           *lse = malloc((o->n * o->a.heads_q + 1) * sizeof *lse);
    real *tout = noise(n);
    for (int side = 0; side < 2; side++) {
        out[side] = malloc((n + 1) * sizeof **out);
        for (size_t i = 0; i < o->n * o->width; i++) at[i] = qkv[i] + (side ? h : -h) * tqkv[i];
        plain_attention(o, at, out[side], lse);
    }
    for (size_t i = 0; i < n; i++) tout[i] = (real)((out[1][i] - out[0][i]) / (2 * h));
    free(at), free(lse), free(out[0]), free(out[1]);
    return tout;
}

/* dqkv at qkv + h tqkv, by the program. */
static double *backward_at(const struct example *o, const real *qkv, double h, const real *tqkv)
{
    real *at = shifted(o->n * o->width, qkv, h, tqkv), *out = noise(o->n * o->out_width);
    real *lse = noise(o->n * o->a.heads_q), *dqkv = noise(o->n * o->width), *scratch = scratch_for(&o->a);
    double *result;
    attention_forward(&o->a, at, out, lse, scratch);
    attention_backward(&o->a, 1, o->n, at, out, lse, o->dout, dqkv, scratch);
    result = doubles(o->n * o->width, dqkv);
    free(at), free(out), free(lse), free(dqkv), free(scratch);
    return result;
}

static void tangent_agrees(struct example o)
{
    const size_t n_out = o.n * o.out_width, n = o.n * o.width;
    const double h = 1e-5;
    real *qkv = random_reals(1, n), *tqkv = random_reals(6, n), *out = noise(n_out), *lse = noise(o.n * o.a.heads_q);
    real *dout = random_reals(2, n_out), *tdqkv = random_reals(3, n), *before = random_reals(3, n);
    double *at = doubles(n, qkv), *want = malloc((n + 1) * sizeof *want), *side[2];
    real *tout = plain_tangent(&o, at, tqkv), *scratch = noise(attention_tangent_scratch(&o.a, o.n));
    assert_true(attention_scratch(&o.a, o.n) <= attention_tangent_scratch(&o.a, o.n));
    const struct attention_tangents x = {qkv, tqkv, out, tout};
    o.dout = dout;
    attention_forward(&o.a, qkv, out, lse, scratch);
    attention_backward_tangent(&o.a, &x, lse, dout, tdqkv, scratch);
    mixed_differences(attention_loss, &o, n, at, tqkv, want);
    side[0] = backward_at(&o, qkv, -h, tqkv), side[1] = backward_at(&o, qkv, h, tqkv);
    for (size_t i = 0; i < n; i++) {
        want[i] += before[i];
        side[1][i] = before[i] + (side[1][i] - side[0][i]) / (2 * h);
    }
    assert_true(error_of(n, tdqkv, want) < TOL_MIXED);
    if (sizeof(real) == 8) assert_true(error_of(n, tdqkv, side[1]) < TOL_DIFFERENCE);
    free(qkv), free(tqkv), free(out), free(lse), free(dout), free(tdqkv), free(before), free(at), free(want);
    free(side[0]), free(side[1]), free(tout), free(scratch);
}

/* Heads may be few enough on one process that some key-value head is asked by none of them. */
static const int skipping[] = {0, 0, 2, 2};
static const int own[] = {0, 1, 2, 3}, shared[] = {0, 0, 1, 1}, uneven[] = {0, 0, 0, 1}, single[] = {0, 0, 0, 0};

static void any_length_head_and_group_agrees_with_the_slow_way(void **state)
{
    const size_t first[] = {0, 1, 1, 8, 73, 74, 138, 338};
    const struct example all[] = {
        example(7, first, 4, 4, 5, own),    example(7, first, 4, 2, 16, shared), example(7, first, 4, 2, 48, uneven),
        example(7, first, 4, 1, 1, single), example(7, first, 1, 1, 80, own),    example(0, first, 4, 4, 8, own),
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) forward_agrees(&all[i]);
}

/* The first keys of a sequence, single ones, a whole short sequence: those of hidden tokens. */
static struct example hiding(struct example o)
{
    static unsigned char hidden[400];
    for (size_t r = 0; r < o.n; r++) hidden[r] = r < 3 || r % 7 == 2 || (r > 80 && r < 130) || r == 9;
    o.a.hidden = hidden;
    return o;
}

static void hidden_keys_are_seen_by_no_query_that_sees_another(void **state)
{
    const size_t first[] = {0, 1, 1, 8, 73, 74, 138, 338}, few[] = {0, 1, 7, 7, 12}, several[] = {0, 100};
    forward_agrees(&(struct example[]){hiding(example(7, first, 4, 4, 5, own))}[0]);
    forward_agrees(&(struct example[]){hiding(example(7, first, 4, 2, 16, shared))}[0]);
    backward_agrees(hiding(example(4, few, 4, 2, 4, shared)), 3);
    backward_agrees(hiding(example(4, few, 4, 3, 4, skipping)), 2);
    backward_agrees(hiding(example(1, several, 2, 1, 3, single)), 2);
}

/* A hidden key stays hidden however its score is capped; a query whose window holds hidden keys alone sees its own. */
static void hidden_keys_of_capped_scores_and_windows_agree_with_the_slow_way(void **state)
{
    const size_t first[] = {0, 1, 1, 8, 73, 74, 138, 338}, few[] = {0, 1, 7, 7, 12}, one[] = {0, 90};
    static const size_t window[] = {0, 1, 3, 64, 65, 100, 400};
    for (size_t i = 0; i < sizeof window / sizeof *window; i++) {
        const struct example plain = hiding(limited(example(7, first, 4, 2, 16, shared), 0, window[i]));
        const struct example capped = hiding(limited(example(7, first, 4, 2, 5, uneven), 0.7, window[i]));
        forward_agrees(&plain);
        forward_agrees(&capped);
    }
    backward_agrees(hiding(limited(example(4, few, 4, 4, 3, own), 0.5, 0)), 1);
    backward_agrees(hiding(limited(example(4, few, 4, 2, 4, shared), 1.5, 3)), 3);
    backward_agrees(hiding(limited(example(4, few, 4, 3, 4, skipping), 0.2, 1)), 2);
    backward_agrees(hiding(limited(example(1, one, 2, 1, 2, single), 0.6, 70)), 2);
    backward_agrees(hiding(limited(example(1, one, 1, 1, 2, own), 0, 5)), 1);
}

static void backwards_agree_with_differences(void **state)
{
    const size_t first[] = {0, 1, 7, 7, 12};
    backward_agrees(example(4, first, 4, 4, 3, own), 1);
    backward_agrees(example(4, first, 4, 2, 4, shared), 3);
    backward_agrees(example(4, first, 4, 2, 5, uneven), 3);
    backward_agrees(example(4, first, 3, 1, 7, single), 1);
    backward_agrees(example(4, first, 4, 3, 4, skipping), 2);
    backward_agrees(example(4, first, 1, 1, 17, own), 1);
}

/* A cap near the scores, so that it bends them; windows of one key, within a panel of keys, and over several. */
static void capped_scores_and_windows_agree_with_the_slow_way(void **state)
{
    const size_t first[] = {0, 1, 1, 8, 73, 74, 138, 338}, few[] = {0, 1, 7, 7, 12}, one[] = {0, 150};
    static const size_t window[] = {1, 3, 64, 65, 100, 337, 400};
    for (size_t i = 0; i < sizeof window / sizeof *window; i++) {
        const struct example plain = limited(example(7, first, 4, 2, 16, shared), 0, window[i]);
        const struct example capped = limited(example(7, first, 4, 2, 5, uneven), 0.7, window[i]);
        forward_agrees(&plain);
        forward_agrees(&capped);
    }
    backward_agrees(limited(example(4, few, 4, 4, 3, own), 0.5, 0), 1);
    backward_agrees(limited(example(4, few, 4, 2, 4, shared), 1.5, 3), 3);
    backward_agrees(limited(example(4, few, 4, 2, 5, uneven), 0, 2), 3);
    backward_agrees(limited(example(4, few, 4, 3, 4, skipping), 0.2, 1), 2);
    backward_agrees(limited(example(1, one, 2, 1, 2, single), 0.6, 70), 2);
    backward_agrees(limited(example(1, one, 1, 1, 2, own), 0, 5), 1);
}

static void tangents_of_the_backward_agree_with_differences(void **state)
{
    const size_t first[] = {0, 1, 7, 7, 12}, one[] = {0, 70};
    tangent_agrees(example(4, first, 4, 4, 3, own));
    tangent_agrees(example(4, first, 4, 2, 5, uneven));
    tangent_agrees(example(4, first, 4, 3, 4, skipping));
    tangent_agrees(example(4, first, 1, 1, 17, own));
    tangent_agrees(limited(example(4, first, 4, 2, 4, shared), 1.5, 3));
    tangent_agrees(limited(example(4, first, 4, 4, 3, own), 1, 0));
    tangent_agrees(limited(example(1, one, 2, 1, 2, single), 1.5, 65));
    tangent_agrees(hiding(example(4, first, 4, 2, 4, shared)));
    tangent_agrees(hiding(limited(example(4, first, 4, 3, 4, skipping), 1.5, 2)));
    tangent_agrees(hiding(limited(example(1, one, 1, 1, 2, own), 0, 5)));
}

static void a_sequence_of_several_blocks_has_the_same_backward(void **state)
{
    const size_t first[] = {0, 70};
    backward_agrees(example(1, first, 1, 1, 2, own), 2);
}

/* Values enter linearly: <dout, out> = <dv, v> summed over all heads; and sum over keys of dk.k = sum over queries of dq.q,
 * for both are the derivative with respect to the scale. */
static void long_sequences_obey_identities_on_any_threads(void **state)
{
    const size_t first[] = {0, 300, 1300, 1301};
    struct example o = example(3, first, 4, 2, 24, uneven);
    real *qkv = random_reals(1, o.n * o.width), *out = noise(o.n * o.out_width), *lse = noise(o.n * 4);
    real *dout = random_reals(2, o.n * o.out_width), *dqkv[2] = {noise(o.n * o.width), noise(o.n * o.width)};
    double sum[3] = {0};
    for (int threads = 1; threads <= 2; threads++) {
        real *scratch;
        math_threads(threads);
        scratch = scratch_for(&o.a);
        attention_forward(&o.a, qkv, out, lse, scratch);
        attention_backward(&o.a, 1, o.n, qkv, out, lse, dout, dqkv[threads - 1], scratch);
        free(scratch);
    }
    math_threads(1);
    assert_memory_equal(dqkv[0], dqkv[1], o.n * o.width * sizeof(real));
    for (size_t r = 0; r < o.n; r++)
        for (size_t c = 0; c < o.width; c++)
            sum[c < 96 ? 0 : c < 144 ? 1 : 2] += (double)qkv[r * o.width + c] * dqkv[0][r * o.width + c];
    assert_near(sum[2], inner(o.n * o.out_width, dout, out), 20 * TOL);
    assert_near(sum[0], sum[1], 200 * TOL); /* sums of 1e5 terms that mostly cancel */
    free(qkv), free(out), free(lse), free(dout), free(dqkv[0]), free(dqkv[1]);
}

/* Scores of a thousand: the softmax is one-hot, nothing overflows */
static void huge_scores_stay_finite(void **state)
{
    const size_t first[] = {0, 40};
    struct example o = example(1, first, 1, 1, 4, own);
    real *qkv = random_reals(1, o.n * o.width), *out = noise(o.n * 4), *lse = noise(o.n), *scratch = scratch_for(&o.a);
    real *dqkv = noise(o.n * o.width);
    for (size_t i = 0; i < o.n * o.width; i++) qkv[i] *= 100;
    attention_forward(&o.a, qkv, out, lse, scratch);
    attention_backward(&o.a, 1, o.n, qkv, out, lse, out, dqkv, scratch);
    assert_true(math_finite(o.n * 4, out) && math_finite(o.n, lse) && math_finite(o.n * o.width, dqkv));
    free(qkv), free(out), free(lse), free(scratch), free(dqkv);
}

/* Sequences in turn, a few rows of each at a time, in slots that have held others: what comes out is what the whole gives. */
static void continued(const struct example *o, const real *qkv, real *out, size_t longest, size_t step)
{
    const struct attention_past room = {.longest = longest};
    struct attention a = o->a;
    size_t slots = o->a.n_seq, first[9] = {0}, slot[8], from[8];
    int32_t position[400];
    real *cache = noise(attention_cache(&a, slots, room.longest)), *scratch = noise(attention_scratch(&a, room.longest));
    real *rows = noise(o->n * o->width), *answer = noise(o->n * o->out_width);
    unsigned char *hidden = calloc(slots * longest + 1, 1);
    for (size_t r = 0, i = 0; o->a.hidden && r < o->n; r++) {
        while (r >= o->a.first[i + 1]) i++;
        hidden[(slots - 1 - i) * longest + r - o->a.first[i]] = o->a.hidden[r];
    }
    for (size_t at = 0; at < longest; at += step) {
        struct attention_past past = {room.longest, slot, position, cache, o->a.hidden ? hidden : NULL};
        a.n_seq = 0, a.first = first;
        for (size_t i = 0, n = 0; i < slots; i++) {
            size_t begin = o->a.first[i] + at, end = o->a.first[i + 1];
            if (begin >= end) continue;
            if (end > begin + step) end = begin + step;
            slot[a.n_seq] = slots - 1 - i, from[a.n_seq] = begin;
            memcpy(rows + n * o->width, qkv + begin * o->width, (end - begin) * o->width * sizeof *rows);
            for (size_t r = begin; r < end; r++, n++) position[n] = (int32_t)(r - o->a.first[i]);
            first[++a.n_seq] = n;
        }
        attention_cached(&a, &past, rows, answer, scratch);
        for (size_t i = 0; i < a.n_seq; i++)
            memcpy(out + from[i] * o->out_width, answer + first[i] * o->out_width,
                   (first[i + 1] - first[i]) * o->out_width * sizeof *out);
    }
    free(cache), free(scratch), free(rows), free(answer), free(hidden);
}

/* And bit for bit the same, however the sequence is cut, on any threads. */
static void remembered_keys_give_what_the_whole_sequence_gives_however_it_is_cut(void **state)
{
    const size_t first[] = {0, 1, 8, 73, 74, 138, 338};
    const struct example all[] = {
        example(6, first, 4, 4, 5, own),
        example(6, first, 4, 2, 16, shared),
        example(6, first, 4, 2, 48, uneven),
        example(6, first, 4, 1, 1, single),
        example(6, first, 1, 1, 80, own),
        example(0, first, 4, 4, 8, own),
        example(6, first, 4, 3, 8, skipping),
        hiding(example(6, first, 4, 2, 16, shared)),
        hiding(example(6, first, 4, 1, 1, single)),
        limited(example(6, first, 4, 2, 16, shared), 0.7, 0),
        limited(example(6, first, 4, 2, 5, uneven), 0, 1),
        limited(example(6, first, 4, 1, 7, single), 0.4, 70),
        hiding(limited(example(6, first, 4, 2, 16, shared), 0.7, 0)),
        hiding(limited(example(6, first, 4, 2, 5, uneven), 0, 1)),
        hiding(limited(example(6, first, 4, 2, 5, uneven), 0, 3)),
        hiding(limited(example(6, first, 4, 1, 7, single), 0.4, 70)),
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const struct example *o = &all[i];
        const size_t n_out = o->n * o->out_width;
        real *qkv = random_reals(1, o->n * o->width), *whole = noise(n_out), *lse = noise(o->n * o->a.heads_q);
        real *scratch = scratch_for(&o->a), *want = noise(n_out), *out = noise(n_out);
        double *at = doubles(o->n * o->width, qkv), *slow = malloc((n_out + 1) * sizeof *slow);
        double *slow_lse = malloc((o->n * o->a.heads_q + 1) * sizeof *slow_lse);
        attention_forward(&o->a, qkv, whole, lse, scratch);
        plain_attention(o, at, slow, slow_lse);
        continued(o, qkv, want, 200, 1);
        assert_true(error_of(n_out, want, slow) < TOL);
        free(at), at = doubles(n_out, whole);
        assert_true(error_of(n_out, want, at) < TOL);
        for (size_t step = 7; step < 400; step *= 7) {
            math_threads(1 + (int)step % 2);
            continued(o, qkv, out, 200, step);
            math_threads(1);
            assert_memory_equal(out, want, n_out * sizeof *out);
        }
        free(qkv), free(whole), free(lse), free(scratch), free(want), free(out), free(at), free(slow), free(slow_lse);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_length_head_and_group_agrees_with_the_slow_way),
        cmocka_unit_test(backwards_agree_with_differences),
        cmocka_unit_test(hidden_keys_are_seen_by_no_query_that_sees_another),
        cmocka_unit_test(capped_scores_and_windows_agree_with_the_slow_way),
        cmocka_unit_test(hidden_keys_of_capped_scores_and_windows_agree_with_the_slow_way),
        cmocka_unit_test(tangents_of_the_backward_agree_with_differences),
        cmocka_unit_test(a_sequence_of_several_blocks_has_the_same_backward),
        cmocka_unit_test(long_sequences_obey_identities_on_any_threads),
        cmocka_unit_test(huge_scores_stay_finite),
        cmocka_unit_test(remembered_keys_give_what_the_whole_sequence_gives_however_it_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
