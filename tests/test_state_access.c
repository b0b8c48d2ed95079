/* state: gradients summed over processes.                                                         NP: 1 2 3 4 */
#include "model_files.h"
#include "unlearn/state_priv.h"

/* Small whole numbers: every sum is exact in float. */
static double part_of(const struct param *p, size_t row, size_t column, int tensor_rank, int data_rank)
{
    return (double)((p->layer * 31 + p->role * 11 + row * 7 + column) % 50 + 1) * (data_rank + 1) + 100 * tensor_rank;
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

static void fill(const struct grid *g, struct state *s)
{
    for (size_t i = 0; i < s->layout->n_param; i++) {
        const struct param *p = &s->layout->param[i];
        for (size_t r = 0; r < p->row_count; r++)
            for (size_t c = 0; c < p->col_count; c++)
                s->data[p->offset + r * p->col_count + c] =
                    (real)part_of(p, param_global_row(p, r), p->col_first + c, g->tensor_rank, g->data_rank);
    }
}

static size_t wrong(const struct grid *g, struct layout *const *all, const struct state *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->layout->n_param; i++) {
        const struct param *p = &s->layout->param[i];
        for (size_t r = 0; r < p->row_count; r++)
            for (size_t c = 0; c < p->col_count; c++)
                n += (double)s->data[p->offset + r * p->col_count + c] !=
                     expected(g, all, i, param_global_row(p, r), p->col_first + c);
    }
    return n;
}

static bool reduces(const struct grid *g, const struct shape *s)
{
    struct layout *all[8];
    struct state *gradient = NULL;
    bool good = true;
    for (int t = 0; t < g->tensor_size; t++) good = layout_new(s, t, g->tensor_size, &all[t]) == OK && good;
    good = good && state_new("gradient", all[g->tensor_rank], &gradient) == OK;
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
            assert_true(reduces(g, s));
            shape_free(s);
        }
        grid_free(g);
    }
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
        cmocka_unit_test(dots_add_up_over_the_tensor_ranks),
    };
    int failed;
    if (parallel_start(&argc, &argv) != OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
