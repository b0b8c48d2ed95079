/* model: a head of its own where config.json ties it to the embedding.                            NP: 1 2 4 */
#include "loaded.h"

/* Sets a member of DIR/config.json. */
static void set_in_config(const char *dir, const char *key, json_t *value)
{
    char path[512], *text;
    json_t *config;
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(json_read(path, 1 << 20, &config), OK);
    json_object_set_new(config, key, value);
    text = json_dumps(config, 0);
    write_file(dir, "config.json", text, strlen(text));
    json_decref(config);
    free(text);
}

/* Writes a model with a head of its own, which is the embedding again where `equal`, under a config.json that ties them. */
static void write_tied(const char *changes, const char *dir, int tensor, bool equal)
{
    struct loaded m = {.shape = shape_with(changes)};
    const struct param *embed, *head;
    assert_non_null(m.shape);
    m.shape->tied = false;
    assert_int_equal(grid_new(parallel_node_size() / tensor, tensor, &m.grid), OK);
    assert_int_equal(layout_new(m.shape, m.grid->tensor_rank, tensor, &m.layout), OK);
    assert_int_equal(state_new("weights", m.layout, &m.weights), OK);
    elements(m.weights, true);
    embed = layout_find(m.layout, 0, ROLE_EMBED), head = layout_find(m.layout, m.layout->n_layer - 1, ROLE_HEAD);
    if (equal)
        math_copy(head->row_count * head->col_count, m.weights->data + embed->offset, m.weights->data + head->offset);
    assert_int_equal(weights_write_by(100, equal ? 4000 : (uint64_t)1 << 40, dir, NULL, m.grid, m.weights, STORE_F32),
                     OK);
    if (!m.grid->rank) set_in_config(dir, "tie_word_embeddings", json_true());
    comm_barrier(m.grid->world);
    loaded_free(&m);
}

/* Of its own in one file; equal in several with an index: not phi's, whose bias is then another parameter. */
static void check_own_head(const char *changes, int tensor, bool equal)
{
    char dir[256] = "", other[256] = "";
    struct shape *s;
    struct grid *g;
    struct loaded m;
    bool good;
    common_directory(dir), common_directory(other);
    write_tied(changes, dir, tensor, equal);
    assert_int_equal(grid_new(parallel_node_size() / tensor, tensor, &g), OK);
    assert_int_equal(shape_read(dir, &s), OK);
    assert_true(s->tied);
    assert_int_equal(shape_untie(dir, g, s), OK);
    if (s->tied != equal) fail_msg("%s: tied %d, the head equals the embedding %d", changes, s->tied, equal);
    m = (struct loaded){.shape = s, .grid = g};
    assert_int_equal(layout_new(s, g->tensor_rank, tensor, &m.layout), OK);
    assert_int_equal(state_new("weights", m.layout, &m.weights), OK);
    assert_int_equal(weights_read(dir, g, m.weights, NULL), OK);
    good = !elements(m.weights, false) && weights_write(other, NULL, g, m.weights, STORE_F32) == OK;
    assert_true(all_agree(g, good));
    loaded_free(&m);
    m = load(other, tensor, NULL); /* says itself what it is */
    assert_true(all_agree(m.grid, m.shape->tied == equal && !elements(m.weights, false)));
    comm_barrier(m.grid->world);
    if (!m.grid->rank) remove_directory(dir), remove_directory(other);
    loaded_free(&m);
}

static void a_head_of_its_own_counts_though_config_json_ties_it(void **state)
{
    static const char *const kinds[] = {
        "{\"model_type\": \"phi\", \"tie_word_embeddings\": true}", "{\"tie_word_embeddings\": true}",
        "{\"model_type\": \"qwen2\", \"tie_word_embeddings\": true}",
        "{\"model_type\": \"gpt_neox\", \"hidden_size\": 48, \"tie_word_embeddings\": true}"};
    const int size = parallel_node_size();
    for (int equal = 0; equal < 2; equal++) {
        for (size_t k = equal; k < sizeof kinds / sizeof *kinds; k++) check_own_head(kinds[k], size, equal);
        for (size_t k = 0; k < N_FURTHER; k++) {
            struct shape *s = shape_with(further_kinds[k]);
            const bool tied = s->tied;
            shape_free(s);
            if (tied) check_own_head(further_kinds[k], size, equal); /* gemma, gpt2: unless they say otherwise */
        }
    }
}

/* Another name of the head in DIR/model.safetensors, in the place of its own, which is no shorter. */
static void rename_head(const char *dir, const char *from, const char *to)
{
    char path[512], *text, *at;
    size_t n;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(file_read(path, 1 << 20, &text, &n), OK);
    assert_non_null(at = strstr(text + 8, from)); /* behind the length of the header */
    memset(at, ' ', strlen(from));
    memcpy(at, to, strlen(to));
    write_file(dir, "model.safetensors", text, n);
    free(text);
}

/* gpt_neox's, as files of transformers 5 may have it: read under a config.json that ties it and one that does not, written as ever. */
static void a_head_may_have_another_name(void **state)
{
    static const char kind[] = "{\"model_type\": \"gpt_neox\", \"hidden_size\": 48, \"tie_word_embeddings\": true}";
    const int size = parallel_node_size();
    for (int tied = 0; tied < 2; tied++) {
        char dir[256] = "";
        struct grid *g;
        struct loaded m;
        common_directory(dir);
        write_tied(kind, dir, size, false);
        assert_int_equal(grid_new(1, size, &g), OK);
        if (!g->rank) rename_head(dir, "\"embed_out.weight\"", "\"lm_head.weight\"");
        if (!g->rank) set_in_config(dir, "tie_word_embeddings", json_boolean(tied));
        comm_barrier(g->world);
        m = (struct loaded){.grid = g};
        assert_int_equal(shape_read(dir, &m.shape), OK);
        assert_int_equal(shape_untie(dir, g, m.shape), OK);
        assert_false(m.shape->tied);
        assert_int_equal(layout_new(m.shape, g->tensor_rank, size, &m.layout), OK);
        assert_int_equal(state_new("weights", m.layout, &m.weights), OK);
        assert_int_equal(weights_read(dir, g, m.weights, NULL), OK);
        assert_true(all_agree(g, !elements(m.weights, false)));
        assert_string_equal(m.layout->param[m.layout->n_param - 1].name, "embed_out.weight");
        comm_barrier(g->world);
        if (!g->rank) remove_directory(dir);
        loaded_free(&m);
    }
}

static void a_head_that_cannot_be_one_is_refused_and_an_absent_one_is_none(void **state)
{
    const char *config = shared_path("golden/models/llama3/model/config.json"); /* tied, and no head in its file */
    char dir[1024];
    struct shape *s;
    struct grid *g;
    if (!config) skip();
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(config, '/') - config), config);
    assert_int_equal(grid_new(parallel_node_size(), 1, &g), OK);
    assert_int_equal(shape_read(dir, &s), OK);
    assert_int_equal(shape_untie(dir, g, s), OK);
    assert_true(s->tied);
    s->vocabulary--;
    assert_int_equal(shape_untie(dir, g, s), ERR_INPUT);
    fail_clear();
    shape_free(s);
    grid_free(g);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_of_its_own_counts_though_config_json_ties_it),
        cmocka_unit_test(a_head_may_have_another_name),
        cmocka_unit_test(a_head_that_cannot_be_one_is_refused_and_an_absent_one_is_none),
    };
    int failed;
    if (parallel_start(&argc, &argv) != OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
