/* state: gradients summed over processes, states shared.                                                         NP: 1 2 3 4 */
#include "model_files.h"
#include "unlearn/state_priv.h"

/* Small whole numbers: every sum is exact in float, and every term in bfloat16. */
static double part_of(const struct param *p, size_t row, size_t column, int tensor_rank, int data_rank)
{
    return (double)((p->layer * 31 + p->role * 11 + row * 7 + column) % 13 + 1) * (data_rank + 1) + 20 * tensor_rank;
}

/* Whether tensor rank t of `all` has that global row of parameter i. */
static bool keeps(struct layout *const *all, int t, size_t i, size_t row)
{
    const struct param *p = &all[t]->param[i];
    for (size_t k = 0; k < p->row_count; k++)
        if (param_global_row(p, k) == row) return true;
    return false;
}

/* Sum over the data ranks, and over the tensor ranks that have the row where it is one of those that are shared: a key-value
 * head's, or a norm's of all heads. */
static double expected(const struct grid *g, struct layout *const *all, size_t i, size_t row, size_t column)
{
    const struct param *p = &all[g->tensor_rank]->param[i];
    const bool shared = param_by_kv_heads(all[0], p) || p->role == ROLE_K_NORM || p->role == ROLE_K_NORM_BIAS ||
                        ((p->role == ROLE_Q_NORM || p->role == ROLE_Q_NORM_BIAS) && p->rows == all[0]->shape->head_dim);
    double sum = 0;
    for (int t = 0; t < g->tensor_size; t++)
        for (int r = 0; (shared ? keeps(all, t, i, row) : t == g->tensor_rank) && r < g->data_size; r++)
            sum += part_of(&all[t]->param[i], row, column, t, r);
    return sum;
}

/* Sums that are held in bfloat16 were rounded, twice at most. */
static bool differs(bool half, double x, double want) { return half ? fabs(x - want) > want / 128 : x != want; }

static void fill(const struct grid *g, struct state *s)
{
    for (size_t i = 0; i < s->layout->n_param; i++) {
        const struct param *p = &s->layout->param[i];
        for (size_t r = 0; r < p->row_count; r++)
            for (size_t c = 0; c < p->col_count; c++)
                matrix_set((struct matrix){s->data, s->half}, p->offset + r * p->col_count + c,
                           (real)part_of(p, param_global_row(p, r), p->col_first + c, g->tensor_rank, g->data_rank));
    }
}

static size_t wrong(const struct grid *g, struct layout *const *all, const struct state *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->layout->n_param; i++) {
        const struct param *p = &s->layout->param[i];
        for (size_t r = 0; r < p->row_count; r++)
            for (size_t c = 0; c < p->col_count; c++)
                n += differs(s->half,
                             (double)matrix_get((struct matrix){s->data, s->half}, p->offset + r * p->col_count + c),
                             expected(g, all, i, param_global_row(p, r), p->col_first + c));
    }
    return n;
}

static bool reduces(const struct grid *g, const struct shape *s, bool half)
{
    struct layout *all[8];
    struct state *gradient = NULL;
    bool good = true;
    for (int t = 0; t < g->tensor_size; t++) good = layout_new(s, t, g->tensor_size, &all[t]) == OK && good;
    good = good && state_new_held("gradient", all[g->tensor_rank], half, &gradient) == OK;
    if (!all_agree(g, good)) return false;
    for (int again = 0; again < 2; again++) { /* the second finds its buffer */
        const size_t before = memory_count();
        fill(g, gradient);
        good = state_reduce(g, gradient) == OK && good;
        good = good && !wrong(g, all, gradient);
        good = good && (!again || memory_count() == before);
    }
    state_free(gradient);
    for (int t = 0; t < g->tensor_size; t++) layout_free(all[t]);
    return all_agree(g, good);
}

/* ---- among data ranks that share states */

static size_t wrong_here(const struct grid *g, struct layout *const *all, const struct state *s, size_t layer,
                         const struct tensors *t, double times)
{
    const struct layout *l = s->layout;
    size_t n = 0;
    for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
        const struct param *p = &l->param[i];
        for (size_t r = 0; r < p->row_count; r++)
            for (size_t c = 0; c < p->col_count; c++)
                n += differs(s->half, (double)matrix_get(tensors_values(t, p), r * p->col_count + c),
                             times * expected(g, all, i, param_global_row(p, r), p->col_first + c));
    }
    return n;
}

/* Everybody's part added twice, layer by layer, to a state that is held as parts. */
static size_t wrong_parts(const struct grid *g, struct layout *const *all, struct state *s, struct state *mine)
{
    const struct layout *l = s->layout;
    size_t n = 0;
    for (int again = 0; again < 2; again++)
        for (size_t layer = l->n_layer; layer-- > 0;) {
            size_t first, count;
            const struct tensors t = state_add_begin(s, layer);
            layout_span(l, layer, &first, &count);
            math_copy(count, mine->data + first, t.full + first);
            state_add_end(s, layer);
        }
    n += state_reduce(g, s) != OK;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const struct tensors t = state_acquire(s, layer);
        n += wrong_here(g, all, s, layer, &t, 2);
        state_release(s, layer);
    }
    return n;
}

/* What is written on all data ranks is kept in parts, and every element is counted by one process. */
static size_t wrong_sums(const struct grid *g, struct state *s)
{
    const struct layout *l = s->layout;
    double e[256], sum = 0;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        size_t first, count;
        const struct tensors t = state_acquire(s, layer);
        layout_span(l, layer, &first, &count);
        for (size_t i = 0; t.full && i < count; i++) t.full[first + i] = 2;
        for (size_t i = l->layer_first[layer]; t.half && i < l->layer_first[layer + 1]; i++)
            for (size_t k = 0; k < l->param[i].row_count * l->param[i].col_count; k++)
                matrix_set(tensors_values(&t, &l->param[i]), k, 2);
        state_commit(s, layer);
    }
    state_dot(s, s, e);
    comm_sum_double(layout_sums(l, g), e, l->n_param);
    for (size_t i = 0; i < l->n_param; i++) sum += e[i];
    return (sum != 4 * (double)l->elements) + (state_not_finite(s) != NULL);
}

static bool shares(const struct grid *g, const struct shape *shape, enum sharing_of what, bool half)
{
    struct layout *all[8] = {NULL};
    struct state *s = NULL, *mine = NULL;
    bool good = true;
    for (int t = 0; t < g->tensor_size; t++) good = layout_new(shape, t, g->tensor_size, &all[t]) == OK && good;
    struct layout *l = all[g->tensor_rank];
    good = good && state_new("mine", l, &mine) == OK && layout_share(l, g, what, 1, what == SHARING_ALL && half) == OK;
    good = good && state_new_held(what == SHARING_ALL ? "part" : "whole", l, half, &s) == OK;
    if (!all_agree(g, good)) return false;
    fill(g, mine);
    if (s->part) {
        good = s->size < l->size && !wrong_parts(g, all, s, mine);
    } else {
        state_copy(mine, s);
        good = state_reduce(g, s) == OK;
        state_gather(s);
        good = good && !wrong(g, all, s);
    }
    good = !wrong_sums(g, s) && good;
    state_free(s), state_free(mine);
    for (int t = 0; t < g->tensor_size; t++) layout_free(all[t]);
    return all_agree(g, good);
}

static void data_ranks_keep_parts_of_every_layer(void **state)
{
    static const char *const kinds[] = {
        "{\"model_type\": \"qwen2\"}",
        "{\"model_type\": \"qwen2\", \"num_key_value_heads\": 2, \"tie_word_embeddings\": true}"};
    const int size = parallel_node_size();
    for (int tensor = 1; tensor <= size; tensor++) {
        struct grid *g;
        if (size % tensor) continue;
        assert_int_equal(grid_new(size / tensor, tensor, &g), OK);
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            struct shape *s = shape_with(kinds[k]);
            for (int half = 0; half < 2; half++) {
                assert_true(shares(g, s, SHARING_MOMENTS, half));
                assert_true(shares(g, s, SHARING_ALL, half));
            }
            shape_free(s);
        }
        grid_free(g);
    }
}

static void parts_of_a_layer_are_all_of_it(void **state)
{
    struct shape *s = shape_with("{\"model_type\": \"qwen2\"}");
    struct layout *l;
    assert_int_equal(layout_new(s, 0, 1, &l), OK);
    for (int size = 1; size <= 70; size++)
        for (size_t layer = 0; layer < l->n_layer; layer++) {
            size_t first, count, at, n;
            layout_span(l, layer, &at, &n);
            n += at;
            for (int r = 0; r < size; r++, at += count) {
                layout_part(l, layer, r, size, &first, &count);
                assert_true(first == at && first + count <= n);
            }
            assert_int_equal(at, n);
        }
    layout_free(l);
    shape_free(s);
}

static void a_reduction_sums_over_data_ranks_and_over_those_who_share_a_row(void **state)
{
    static const char *const kinds[] = {
        "{\"model_type\": \"qwen2\"}", /* 6 heads, 3 key-value heads */
        "{\"model_type\": \"qwen2\", \"num_key_value_heads\": 1}",
        "{\"model_type\": \"qwen2\", \"num_key_value_heads\": 2, \"tie_word_embeddings\": true}",
        "{\"model_type\": \"gpt_neox\", \"hidden_size\": 48}",
    };
    enum { N_KIND = sizeof kinds / sizeof *kinds };
    const int size = parallel_node_size(); /* tests run on one node */
    for (int tensor = 1; tensor <= size; tensor++) {
        struct grid *g;
        if (size % tensor) continue;
        assert_int_equal(grid_new(size / tensor, tensor, &g), OK);
        for (size_t k = 0; k < N_KIND + N_FURTHER; k++) {
            struct shape *s = shape_with(k < N_KIND ? kinds[k] : further_kinds[k - N_KIND]);
            assert_true(reduces(g, s, false) && reduces(g, s, true));
            shape_free(s);
        }
        grid_free(g);
    }
}

/* What is added to a layer, matrices where they are and vectors by themselves, is there afterwards, rounded. */
static void a_state_in_bfloat16_holds_what_is_added_and_committed(void **state)
{
    struct shape *shape = shape_with("{\"model_type\": \"qwen2\"}");
    struct layout *l;
    struct state *s, *full;
    double e[64];
    assert_int_equal(layout_new(shape, 0, 1, &l), OK);
    assert_int_equal(state_new_held("x", l, true, &s), OK);
    assert_int_equal(state_new("y", l, &full), OK);
    for (size_t layer = 0; layer < l->n_layer; layer++)
        for (int again = 0; again < 2; again++) {
            struct tensors t = state_add_begin(s, layer);
            for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++)
                for (size_t k = 0; k < l->param[i].row_count * l->param[i].col_count; k++) {
                    const struct matrix x = tensors_values(&t, &l->param[i]);
                    matrix_set(x, k, matrix_get(x, k) + (real)(k % 100 + i + 0.1));
                }
            state_add_end(s, layer);
        }
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const struct tensors t = state_acquire(s, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++)
            for (size_t k = 0; k < l->param[i].row_count * l->param[i].col_count; k++)
                assert_true(differs(true, (double)matrix_get(tensors_values(&t, &l->param[i]), k),
                                    2 * ((double)(k % 100 + i) + 0.1)) == false);
        state_release(s, layer);
    }
    state_copy(s, full);
    state_dot(s, full, e);
    for (size_t i = 0; i < l->n_param; i++) {
        const struct param *p = &l->param[i];
        const size_t n = p->row_count * p->col_count;
        assert_near(e[i], math_sum_squares(n, full->data + p->offset), 1e-6);
        for (size_t k = 0; k < n; k++) assert_true(full->data[p->offset + k] == (real)from_half(s->half[p->offset + k]));
    }
    assert_null(state_not_finite(s));
    s->half[l->param[3].offset] = to_half(-INFINITY);
    assert_ptr_equal(state_not_finite(s), &l->param[3]);
    state_fill(s, 0);
    assert_null(state_not_finite(s));
    state_free(s), state_free(full);
    layout_free(l);
    shape_free(shape);
}

static void dots_add_up_over_the_tensor_ranks(void **state)
{
    const int size = parallel_node_size();
    struct shape *s = shape_with("{\"num_key_value_heads\": 2}");
    struct grid *g;
    struct layout *l;
    struct state *x;
    double e[64];
    assert_int_equal(grid_new(1, size, &g), OK);
    assert_int_equal(layout_new(s, g->tensor_rank, size, &l), OK);
    assert_int_equal(state_new("x", l, &x), OK);
    math_fill(l->size, 2, x->data);
    state_dot(x, x, e);
    comm_sum_double(g->tensor, e, l->n_param);
    for (size_t i = 0; i < l->n_param; i++) assert_near(e[i], 4 * (double)(l->param[i].rows * l->param[i].cols), 0);
    state_free(x);
    layout_free(l);
    grid_free(g);
    shape_free(s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reduction_sums_over_data_ranks_and_over_those_who_share_a_row),
        cmocka_unit_test(a_state_in_bfloat16_holds_what_is_added_and_committed),
        cmocka_unit_test(dots_add_up_over_the_tensor_ranks),
        cmocka_unit_test(data_ranks_keep_parts_of_every_layer),
        cmocka_unit_test(parts_of_a_layer_are_all_of_it),
    };
    int failed;
    if (parallel_start(&argc, &argv) != OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
