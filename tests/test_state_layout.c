/* state: which part of every tensor a process keeps.                                                      NP: 1 */
#include "model_files.h"

static const char *const kinds[] = {
    "{}",                                                          /* 6 heads, 3 key-value heads */
    "{\"num_key_value_heads\": 1, \"tie_word_embeddings\": true}", /* all share one */
    "{\"num_key_value_heads\": 6, \"attention_bias\": true, \"mlp_bias\": true}",
    "{\"num_key_value_heads\": 2, \"intermediate_size\": 5, \"vocab_size\": 4}", /* fewer columns than heads */
    "{\"model_type\": \"qwen2\"}",
    "{\"model_type\": \"phi\", \"num_key_value_heads\": null}",
    "{\"model_type\": \"gpt_neox\", \"hidden_size\": 48}",
    "{\"model_type\": \"stablelm\", \"num_key_value_heads\": 3, \"head_dim\": 8}",
};
enum { N_GIVEN = sizeof kinds / sizeof *kinds, N_KIND = N_GIVEN + N_FURTHER };

static struct shape *kind(size_t k) { return shape_with(k < N_GIVEN ? kinds[k] : further_kinds[k - N_GIVEN]); }

static struct layout *layout_of(const struct shape *s, int rank, int size)
{
    struct layout *l;
    if (layout_new(s, rank, size, &l) != OK) fail_msg("%s", fail_message());
    return l;
}

/* Adds one to count [rows][cols] for every element that this process counts as its own. */
static void count_owned(const struct param *p, int *count)
{
    assert_true(p->own_first + p->own_count <= p->row_count);
    for (size_t i = p->own_first; i < p->own_first + p->own_count; i++)
        for (size_t c = 0; c < p->col_count; c++) count[param_global_row(p, i) * p->cols + p->col_first + c]++;
}

static void every_element_is_counted_by_exactly_one_process(void **state)
{
    for (size_t k = 0; k < N_KIND; k++) {
        struct shape *s = kind(k);
        for (int size = 1; size <= (int)s->heads; size++) {
            struct layout *l[8] = {0};
            for (int t = 0; t < size; t++) l[t] = layout_of(s, t, size);
            for (size_t i = 0; i < l[0]->n_param; i++) {
                const struct param *p = &l[0]->param[i];
                int *count = calloc(p->rows * p->cols, sizeof *count);
                for (int t = 0; t < size; t++) count_owned(&l[t]->param[i], count);
                for (size_t e = 0; e < p->rows * p->cols; e++)
                    if (count[e] != 1)
                        fail_msg("%s, %d processes: element %zu counts %d times", p->name, size, e, count[e]);
                free(count);
            }
            for (int t = 0; t < size; t++) layout_free(l[t]);
        }
        shape_free(s);
    }
}

static void pieces_lie_in_their_tensor_and_make_up_the_local_rows(void **state)
{
    for (size_t k = 0; k < N_KIND; k++) {
        struct shape *s = kind(k);
        for (int size = 1; size <= (int)s->heads; size++)
            for (int t = 0; t < size; t++) {
                struct layout *l = layout_of(s, t, size);
                for (size_t i = 0; i < l->n_param; i++) {
                    const struct param *p = &l->param[i];
                    size_t rows = 0;
                    for (size_t j = 0; j < p->n_piece; rows += p->piece[j++].count)
                        assert_true(p->piece[j].first + p->piece[j].count <= p->rows);
                    assert_int_equal(rows, p->row_count);
                    assert_true(p->col_first + p->col_count <= p->cols);
                    assert_int_equal(p->vector ? p->cols : 1, 1);
                }
                layout_free(l);
            }
        shape_free(s);
    }
}

static void parameters_of_a_layer_stand_one_behind_the_other_in_order_of_role(void **state)
{
    for (size_t k = 0; k < N_KIND; k++) {
        struct shape *s = kind(k);
        for (int t = 0; t < 4; t++) {
            struct layout *l = layout_of(s, t, 4);
            size_t at = 0, elements = 0;
            assert_int_equal(l->n_layer, s->blocks + 3);
            for (size_t layer = 0; layer < l->n_layer; layer++) {
                size_t first, count;
                layout_span(l, layer, &first, &count);
                at = (at + 15) / 16 * 16;
                for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
                    const struct param *p = &l->param[i];
                    assert_int_equal(p->layer, layer);
                    assert_int_equal(p->offset, at);
                    if (i > l->layer_first[layer])
                        assert_true(p->role > p[-1].role || (s->qk_norm == QK_EACH && p->role == p[-1].role));
                    else
                        assert_int_equal(first, at);
                    at += p->row_count * p->col_count;
                    elements += p->rows * p->cols;
                    assert_true(layout_find(l, layer, p->role)->role == p->role && layout_find(l, layer, p->role) <= p);
                }
                if (count) assert_int_equal(first + count, at);
            }
            assert_int_equal(l->size, (at + 15) / 16 * 16);
            assert_int_equal(l->elements, elements);
            layout_free(l);
        }
        shape_free(s);
    }
}

static void a_process_keeps_the_keys_and_values_of_its_query_heads(void **state)
{
    struct shape *s = shape_with("{}"); /* heads 0 1 | 2 3 | 4 5 share a key-value head */
    static const size_t head_first[] = {0, 2, 4, 5}, head_count[] = {2, 2, 1, 1}, kv_first[] = {0, 1, 2, 2};
    static const size_t own_count[] = {4, 4, 4, 0};
    for (int t = 0; t < 4; t++) {
        struct layout *l = layout_of(s, t, 4);
        const struct param *q = layout_find(l, 1, ROLE_Q), *v = layout_find(l, 2, ROLE_V), *o = layout_find(l, 1, ROLE_O);
        assert_int_equal(l->head_first, head_first[t]);
        assert_int_equal(l->head_count, head_count[t]);
        assert_int_equal(l->kv_first, kv_first[t]);
        assert_int_equal(l->kv_count, 1);
        assert_int_equal(q->piece[0].first, 4 * head_first[t]);
        assert_int_equal(q->row_count, 4 * head_count[t]);
        assert_int_equal(o->col_first, 4 * head_first[t]);
        assert_int_equal(o->col_count, 4 * head_count[t]);
        assert_int_equal(o->row_count, 24);
        assert_int_equal(v->piece[0].first, 4 * kv_first[t]);
        assert_int_equal(v->own_count, own_count[t]);
        assert_int_equal(v->shared, t >= 2);
        assert_false(q->shared || o->shared);
        layout_free(l);
    }
    shape_free(s);
}

static void the_largest_process_keeps_two_groups_keys_and_values(void **state)
{
    struct shape *s = shape_with("{\"num_key_value_heads\": 2}"); /* heads 0 1 | 2 3 | 4 5, groups 0 1 2 | 3 4 5 */
    struct layout *most, *l;
    assert_int_equal(layout_largest(s, 3, &most), OK);
    assert_int_equal(most->kv_count, 2);
    for (int t = 0; t < 3; t++) {
        l = layout_of(s, t, 3);
        assert_true(t == 1 ? l->size == most->size : l->size < most->size);
        layout_free(l);
    }
    layout_free(most);
    shape_free(s);
}

static void a_fused_tensor_is_regrouped_into_queries_keys_values(void **state)
{
    struct shape *s = shape_with("{\"model_type\": \"gpt_neox\", \"hidden_size\": 48}");
    struct layout *l = layout_of(s, 1, 4); /* heads 2 and 3 of 6, 8 wide; a head's rows of the file: q, k, v */
    const struct param *p = layout_find(l, 1, ROLE_Q);
    static const size_t first[] = {48, 72, 56, 80, 64, 88};
    assert_string_equal(p->name, "gpt_neox.layers.0.attention.query_key_value.weight");
    assert_int_equal(p->rows, 144);
    assert_int_equal(p->n_piece, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(p->piece[i].first, first[i]);
        assert_int_equal(p->piece[i].count, 8);
    }
    assert_null(layout_find(l, 1, ROLE_K));
    assert_int_equal(param_global_row(p, 17), 57);
    layout_free(l);
    shape_free(s);
}

static void parts_of_a_fused_tensor_may_stand_one_behind_the_other_and_matrices_transposed(void **state)
{
    struct shape *s = shape_with(further_kinds[6]); /* gpt2, heads 4 wide */
    struct layout *l = layout_of(s, 1, 4);          /* heads 2 and 3 of 6 */
    const struct param *p = layout_find(l, 1, ROLE_Q);
    static const size_t first[] = {8, 12, 32, 36, 56, 60};
    assert_string_equal(p->name, "transformer.h.0.attn.c_attn.weight");
    assert_true(p->transposed && p->rows == 72 && p->cols == 24);
    assert_true(param_file_rows(p) == 24 && param_file_cols(p) == 72);
    for (size_t i = 0; i < 6; i++) assert_int_equal(p->piece[i].first, first[i]);
    p = layout_find(l, 0, ROLE_POSITION);
    assert_true(!p->transposed && p->rows == 11 && p->cols == 24 && p->own_count == 0 && p->row_count == 11);
    layout_free(l);
    shape_free(s);
}

/* phi3: q, k and v are three parameters of one tensor, gate and up two of another, each split as if it stood alone. */
static void parameters_of_one_tensor_have_its_name_and_their_rows_of_it(void **state)
{
    struct shape *s = shape_with(further_kinds[8]); /* 6 heads and 2 key-value heads, 4 wide; 17 columns */
    struct layout *l = layout_of(s, 1, 3);          /* heads 2 and 3: of both key-value heads */
    const struct param *q = layout_find(l, 1, ROLE_Q), *k = q + 1, *v = q + 2, *gate = layout_find(l, 1, ROLE_GATE);
    static const size_t first[] = {0, 24, 32}, rows[] = {24, 8, 8};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(q[i].name, "model.layers.0.self_attn.qkv_proj.weight");
        assert_true(q[i].role == ROLE_Q + i && q[i].goes_on == (i > 0) && q[i].tensor == q->tensor);
        assert_true(q[i].tensor_first == first[i] && q[i].rows == rows[i] && q[i].tensor_rows == 40);
        assert_true(param_file_rows(&q[i]) == 40 && param_part_rows(&q[i]) == rows[i]);
    }
    assert_true(q->row_count == 8 && !q->shared && q->own_count == 8);
    assert_true(k->row_count == 8 && k->shared && k->own_first == 4 && k->own_count == 4);
    assert_true(v->row_count == 8 && v->shared && v->own_first == 4 && v->own_count == 4);
    assert_string_equal(gate->name, "model.layers.0.mlp.gate_up_proj.weight");
    assert_true(!gate->goes_on && gate[1].goes_on && gate[1].tensor_first == 17 && gate->tensor_rows == 34);
    assert_int_equal(l->n_tensor, l->n_param - 2 * 3);
    layout_free(l), shape_free(s);
}

static void norms_of_queries_and_keys_are_shared_kept_by_head_or_split(void **state)
{
    struct shape *s = shape_with(further_kinds[0]);
    struct layout *l = layout_of(s, 1, 2);
    const struct param *p = layout_find(l, 2, ROLE_K_NORM);
    assert_true(p->rows == 10 && p->row_count == 10 && p->own_count == 0 && p->shared);
    layout_free(l), shape_free(s);
    s = shape_with(further_kinds[2]); /* 6 heads, 2 key-value heads, 3 processes: the second has heads of both */
    l = layout_of(s, 1, 3);
    p = layout_find(l, 1, ROLE_Q_NORM);
    assert_string_equal(p[3].name, "model.layers.0.self_attn.q_layernorm.norms.3.weight");
    for (size_t h = 0; h < 6; h++) assert_true(p[h].row_count == (h == 2 || h == 3 ? 8 : 0) && !p[h].shared);
    p = layout_find(l, 1, ROLE_K_NORM);
    assert_true(p[0].row_count == 8 && p[0].own_count == 0 && p[0].shared);
    assert_true(p[1].row_count == 8 && p[1].own_count == 8 && p[1].shared);
    layout_free(l), shape_free(s);
    s = shape_with(further_kinds[5]);
    l = layout_of(s, 1, 3);
    p = layout_find(l, 1, ROLE_Q_NORM);
    assert_true(p->rows == 24 && p->row_count == 8 && p->piece[0].first == 8 && !p->shared);
    layout_free(l), shape_free(s);
}

static void a_tied_head_is_the_embedding(void **state)
{
    struct shape *s = shape_with("{\"tie_word_embeddings\": true}");
    struct layout *l = layout_of(s, 0, 1);
    assert_ptr_equal(layout_find(l, 4 + 0, ROLE_HEAD), layout_find(l, 0, ROLE_EMBED));
    assert_int_equal(l->layer_first[l->n_layer] - l->layer_first[l->n_layer - 1], 0);
    layout_free(l);
    shape_free(s);
}

static void layers_have_names(void **state)
{
    struct shape *s = shape_with("{}");
    struct layout *l = layout_of(s, 0, 1);
    static const char *const name[] = {"embed", "layers.0", "layers.1", "norm", "lm_head"};
    char buffer[32];
    for (size_t i = 0; i < l->n_layer; i++) assert_string_equal(layer_name(l, i, buffer), name[i]);
    layout_free(l);
    shape_free(s);
}

static void more_processes_than_heads_are_refused(void **state)
{
    struct shape *s = shape_with("{}");
    struct layout *l;
    assert_int_equal(layout_new(s, 0, 7, &l), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "7 processes cannot share the 6 attention heads of the model; use 1 ... 6"));
    assert_null(l);
    fail_clear();
    assert_int_equal(layout_new(s, 0, 0, &l), ERR_INPUT);
    fail_clear();
    shape_free(s);
}

static void dots_count_what_a_process_owns(void **state)
{
    struct shape *s = shape_with("{\"num_key_value_heads\": 2}");
    for (int size = 1; size <= 6; size++) {
        double total[64] = {0}, e[64];
        struct layout *l = NULL;
        for (int t = 0; t < size; t++) {
            struct state *a, *b;
            layout_free(l);
            l = layout_of(s, t, size);
            assert_true(l->n_param < 64);
            assert_int_equal(state_new("a", l, &a), OK);
            assert_int_equal(state_new("b", l, &b), OK);
            math_fill(l->size, 2, a->data), math_fill(l->size, 3, b->data);
            state_dot(a, b, e);
            for (size_t i = 0; i < l->n_param; i++) total[i] += e[i];
            state_free(a), state_free(b);
        }
        for (size_t i = 0; i < l->n_param; i++)
            assert_near(total[i], 6 * (double)(l->param[i].rows * l->param[i].cols), 0);
        layout_free(l);
    }
    shape_free(s);
}

static void what_was_released_reads_as_nan_and_what_was_committed_stays(void **state)
{
    struct shape *s = shape_with("{\"tie_word_embeddings\": true}");
    struct layout *l = layout_of(s, 0, 1);
    const size_t at = layout_find(l, 2, ROLE_DOWN)->offset, head = layout_find(l, 4, ROLE_HEAD)->offset;
    struct state *w;
    real *base;
    assert_int_equal(state_new("weights", l, &w), OK);
    assert_int_equal(state_poison(w), OK);
    base = state_acquire(w, 2).full;
    assert_near(base[at], 0, 0);
    assert_true(isnan(base[0])); /* another layer's */
    base[at] = 5;
    state_commit(w, 2);
    assert_true(isnan(base[at]));
    base = state_acquire(w, 2).full;
    assert_near(base[at], 5, 0);
    base[at] = 6;
    state_release(w, 2);
    assert_near(state_acquire(w, 2).full[at], 5, 0); /* released, not committed */
    state_release(w, 2);
    assert_near(state_acquire(w, 4).full[head], 0, 0);
    state_release(w, 4);
    state_free(w);
    layout_free(l);
    shape_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_is_counted_by_exactly_one_process),
        cmocka_unit_test(pieces_lie_in_their_tensor_and_make_up_the_local_rows),
        cmocka_unit_test(parameters_of_a_layer_stand_one_behind_the_other_in_order_of_role),
        cmocka_unit_test(a_process_keeps_the_keys_and_values_of_its_query_heads),
        cmocka_unit_test(the_largest_process_keeps_two_groups_keys_and_values),
        cmocka_unit_test(a_fused_tensor_is_regrouped_into_queries_keys_values),
        cmocka_unit_test(parts_of_a_fused_tensor_may_stand_one_behind_the_other_and_matrices_transposed),
        cmocka_unit_test(parameters_of_one_tensor_have_its_name_and_their_rows_of_it),
        cmocka_unit_test(norms_of_queries_and_keys_are_shared_kept_by_head_or_split),
        cmocka_unit_test(a_tied_head_is_the_embedding),
        cmocka_unit_test(layers_have_names),
        cmocka_unit_test(more_processes_than_heads_are_refused),
        cmocka_unit_test(dots_count_what_a_process_owns),
        cmocka_unit_test(what_was_released_reads_as_nan_and_what_was_committed_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
