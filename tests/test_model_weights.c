/* model: weights read, written, drawn.                                                              NP: 1 2 4 */
#include "loaded.h"

#include <signal.h>
#include <sys/resource.h>

static const char *const models[] = {"llama",    "llama3",   "mistral", "qwen2",  "phi",
                                     "gpt_neox", "stablelm", "phi3",    "gemma2", "gemma3"};
enum { N_MODEL = sizeof models / sizeof *models };

static const char *golden(size_t i)
{
    char name[256];
    const char *path;
    snprintf(name, sizeof name, "golden/models/%s/model/config.json", models[i]);
    if (!(path = shared_path(name))) return NULL;
    *strrchr(path, '/') = 0;
    return path;
}

/* Elements of this process's part that differ from the file's, read one by one. */
static size_t wrong_elements(const char *dir, const struct loaded *m)
{
    struct checkpoint *c;
    size_t wrong = 0;
    uint64_t size;
    int fd;
    if (checkpoint_open(dir, m->layout, &c) != OK || safetensors_file(c->file[0]->path, &fd, &size) != OK)
        return SIZE_MAX;
    for (size_t i = 0; i < m->layout->n_param; i++) {
        const struct param *p = &m->layout->param[i];
        const size_t element = storage_size(c->at[i]->storage);
        for (size_t r = 0, k = 0; r < p->row_count; r++)
            for (size_t col = p->col_first; col < p->col_first + p->col_count; col++, k++) {
                unsigned char bytes[8];
                real value;
                pread(fd, bytes, element,
                      (off_t)(c->at[i]->begin + ((p->tensor_first + param_global_row(p, r)) * p->cols + col) * element));
                storage_load(c->at[i]->storage, 1, bytes, &value);
                wrong += value != m->weights->data[p->offset + k];
            }
    }
    close(fd);
    checkpoint_close(c);
    return wrong;
}

static void every_process_gets_its_part_of_the_file_in_every_layout(void **state)
{
    static const size_t buffer[] = {1, 1000, 1 << 20}; /* a row at a time, some, all */
    for (size_t i = 0; i < N_MODEL; i++) {
        const char *dir = golden(i);
        uint64_t first = 0, hash = 0;
        if (!dir) skip();
        for (int tensor = 1; tensor <= parallel_node_size(); tensor *= 2) {
            struct loaded m = load_by(buffer[i % 3], dir, tensor, &hash);
            size_t wrong = wrong_elements(dir, &m);
            if (tensor == 1) first = hash;
            if (!all_agree(m.grid, wrong == 0 && hash == first && hash))
                fail_msg("%s, tensor %d: %zu wrong", models[i], tensor, wrong);
            loaded_free(&m);
        }
    }
}

static void the_hash_sees_one_changed_or_two_exchanged_elements(void **state)
{
    const char *dir = golden(0);
    struct loaded m;
    char other[256] = "";
    uint64_t hash, changed[2];
    if (!dir) skip();
    m = load(dir, 1, &hash);
    if (!m.grid->rank) scratch_directory(other);
    comm_broadcast(m.grid->world, other, sizeof other, 0);
    for (int k = 0; k < 2; k++) {
        real *x = m.weights->data + layout_find(m.layout, 2, ROLE_O)->offset, keep = x[5];
        x[5] = k ? x[6] : x[5] * 2;
        if (k) x[6] = keep;
        assert_int_equal(weights_write(other, dir, m.grid, m.weights, STORE_F32), OK);
        assert_int_equal(weights_read(other, m.grid, m.weights, &changed[k]), OK);
        x[5] = keep;
    }
    assert_true(hash != changed[0] && hash != changed[1] && changed[0] != changed[1]);
    comm_barrier(m.grid->world);
    if (!m.grid->rank) remove_directory(other);
    loaded_free(&m);
}

/* Writes with `tensor` processes to a layer and buffers of so many numbers, reads the other way round; true when nothing changed. */
static bool comes_back(const char *dir, int tensor, enum storage storage, size_t buffer, uint64_t most)
{
    uint64_t hash, again;
    char other[256] = "";
    struct loaded m = load(dir, tensor, &hash), n;
    bool same;
    if (!m.grid->rank) scratch_directory(other);
    comm_broadcast(m.grid->world, other, sizeof other, 0);
    if (weights_write_by(buffer, most, other, dir, m.grid, m.weights, storage) != OK) fail_msg("%s", fail_message());
    n = load(other, parallel_node_size() / tensor, &again);
    same = shape_equal(m.shape, n.shape) && hash == again;
    loaded_free(&n);
    n = load(other, tensor, &again);
    same = same && !memcmp(m.weights->data, n.weights->data, m.layout->size * sizeof(real));
    same = all_agree(m.grid, same);
    loaded_free(&n);
    if (!m.grid->rank) remove_directory(other);
    loaded_free(&m);
    return same;
}

static void what_was_written_reads_back_bit_for_bit(void **state)
{
    for (size_t i = 0; i < N_MODEL; i++) {
        const char *dir = golden(i);
        if (!dir) skip();
        for (int tensor = 1; tensor <= parallel_node_size(); tensor *= 2) {
            assert_true(comes_back(dir, tensor, STORE_F32, 1 << 20, (uint64_t)1 << 40));
            assert_true(comes_back(dir, tensor, STORE_F64, 1, 30000)); /* several files; the embedding alone is larger */
        }
    }
    assert_true(comes_back(golden(4), 1, STORE_BF16, 500, 30000)); /* phi is bfloat16, qwen2 float16 */
    assert_true(comes_back(golden(3), 1, STORE_F16, 700, (uint64_t)1 << 40));
}

/* Writes a model of these shapes with `tensor` processes, in buffers and files of so many numbers. The directory gets a
 * config.json: what the shape was made of. */
static void write_kind(const struct shape *s, const char *dir, int tensor, size_t buffer, uint64_t most)
{
    struct loaded m = {0};
    bool good = grid_new(parallel_node_size() / tensor, tensor, &m.grid) == OK &&
                layout_new(s, m.grid->tensor_rank, tensor, &m.layout) == OK &&
                state_new("weights", m.layout, &m.weights) == OK;
    assert_true(all_agree(m.grid, good));
    elements(m.weights, true);
    if (weights_write_by(buffer, most, dir, NULL, m.grid, m.weights, STORE_F32) != OK) fail_msg("%s", fail_message());
    loaded_free(&m);
}

static void further_families_come_back_bit_for_bit_in_every_layout(void **state)
{
    static const size_t buffer[] = {1, 100, 1 << 20};
    const int size = parallel_node_size();
    for (size_t k = 0; k < N_FURTHER; k++)
        for (int tensor = 1; tensor <= size; tensor *= 2) {
            struct shape *s = shape_with(further_kinds[k]);
            char dir[256] = "";
            struct loaded m;
            uint64_t hash, again;
            common_directory(dir);
            write_kind(s, dir, tensor, buffer[k % 3], k % 2 ? 5000 : (uint64_t)1 << 40);
            m = load_by(buffer[(k + 1) % 3], dir, size / tensor, &hash);
            assert_true(all_agree(m.grid, shape_equal(s, m.shape) && !elements(m.weights, false)));
            loaded_free(&m);
            m = load_by(buffer[(k + 2) % 3], dir, tensor, &again);
            assert_true(all_agree(m.grid, hash == again && !elements(m.weights, false)));
            comm_barrier(m.grid->world);
            if (!m.grid->rank) remove_directory(dir);
            loaded_free(&m);
            shape_free(s);
        }
}

/* The header of the only file with every "transformer. replaced by ", spaces at the end instead. */
static void take_prefix_away(const char *dir)
{
    static const char prefix[] = "\"transformer.";
    char *bytes, *to, *end;
    char path[512];
    size_t n;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(file_read(path, 1 << 24, &bytes, &n), OK);
    end = bytes + 8 + (unsigned char)bytes[0] + 256 * (unsigned char)bytes[1];
    to = bytes + 8;
    for (char *from = to; from < end;) {
        if (!strncmp(from, prefix, sizeof prefix - 1)) from += sizeof prefix - 1, *to++ = '"';
        if (from < end) *to++ = *from++;
    }
    while (to < end) *to++ = ' ';
    write_file(dir, "model.safetensors", bytes, n);
    free(bytes);
}

static void gpt2_is_stored_transposed_and_may_come_without_its_prefix(void **state)
{
    struct shape *s = shape_with(further_kinds[6]);
    struct checkpoint *c;
    struct loaded m;
    const struct param *p;
    char dir[256] = "";
    float x[2];
    uint64_t size;
    int fd;
    common_directory(dir);
    write_kind(s, dir, parallel_node_size(), 50, (uint64_t)1 << 40);
    m = load(dir, 1, NULL);
    if (!m.grid->rank) take_prefix_away(dir);
    comm_barrier(m.grid->world);
    assert_int_equal(checkpoint_open(dir, m.layout, &c), OK);
    p = layout_find(m.layout, 2, ROLE_UP); /* [17][24] here, [24][17] in the file */
    assert_string_equal(c->at[p - m.layout->param]->name, "h.1.mlp.c_fc.weight");
    assert_true(c->at[p - m.layout->param]->dim[0] == 24 && c->at[p - m.layout->param]->dim[1] == 17);
    assert_int_equal(safetensors_file(c->file[0]->path, &fd, &size), OK);
    assert_int_equal(safetensors_pread(dir, fd, c->at[p - m.layout->param]->begin + 4 * (3 * 17 + 5), sizeof x, x), OK);
    assert_near(x[0], element((size_t)(p - m.layout->param), 5, 3), 0);
    assert_near(x[1], element((size_t)(p - m.layout->param), 6, 3), 0);
    close(fd);
    checkpoint_close(c);
    assert_int_equal(weights_read(dir, m.grid, m.weights, NULL), OK);
    assert_true(all_agree(m.grid, !elements(m.weights, false)));
    if (!m.grid->rank) remove_directory(dir);
    loaded_free(&m);
    shape_free(s);
}

static void a_directory_gets_its_config_and_tokenizer_and_no_leftovers(void **state)
{
    const char *dir = golden(0);
    char other[256] = "", name[512];
    struct loaded m;
    json_t *config = NULL;
    char *text = NULL;
    size_t n;
    bool good = true;
    if (!dir) skip();
    m = load(dir, 1, NULL);
    if (!m.grid->rank) scratch_directory(other);
    comm_broadcast(m.grid->world, other, sizeof other, 0);
    assert_int_equal(weights_write_by(1000, 30000, other, dir, m.grid, m.weights, STORE_BF16), OK);
    assert_int_equal(weights_write(other, dir, m.grid, m.weights, STORE_BF16), OK); /* over the one before */
    static const struct {
        const char *name;
        bool there;
    } file[] = {{"config.json", true},
                {"generation_config.json", true},
                {"tokenizer.json", true},
                {"model.safetensors", true},
                {"merges.txt", false},
                {"model.safetensors.tmp", false},
                {"model.safetensors.index.json", false}};
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        snprintf(name, sizeof name, "%s/%s", other, file[i].name);
        good = good && file_exists(name) == file[i].there;
    }
    snprintf(name, sizeof name, "%s/config.json", other);
    good = good && json_read(name, 1 << 20, &config) == OK &&
           !strcmp(json_string_value(json_object_get(config, "torch_dtype")), "bfloat16") &&
           json_equal(json_object_get(config, "architectures"), json_object_get(m.shape->json, "architectures"));
    json_decref(config);
    good = good && file_read(name, 1 << 20, &text, &n) == OK && strstr(text, "\"rms_norm_eps\": 1e-5,");
    free(text);
    assert_true(all_agree(m.grid, good));
    if (!m.grid->rank) remove_directory(other);
    loaded_free(&m);
}

static void a_directory_that_cannot_be_written_fails_on_every_process(void **state)
{
    const char *dir = golden(0);
    struct loaded m;
    bool good;
    if (!dir) skip();
    m = load(dir, parallel_node_size(), NULL);
    good = weights_write("/proc/nothing/here", dir, m.grid, m.weights, STORE_F32) == ERR_IO &&
           strstr(fail_message(), "/proc/nothing/here: cannot be made");
    fail_clear();
    good = weights_write("/dev/null", dir, m.grid, m.weights, STORE_F32) == ERR_IO && good;
    fail_clear();
    assert_true(all_agree(m.grid, good));
    loaded_free(&m);
}

static void a_full_disk_leaves_what_was_there_and_fails_on_every_process(void **state)
{
    const char *dir = golden(0);
    const struct rlimit small = {100000, RLIM_INFINITY}; /* half of the weights */
    struct rlimit before;
    char other[256] = "", name[512];
    struct loaded m;
    uint64_t hash, again;
    bool good;
    if (!dir) skip();
    m = load(dir, parallel_node_size(), &hash);
    if (!m.grid->rank) scratch_directory(other);
    comm_broadcast(m.grid->world, other, sizeof other, 0);
    good = weights_write(other, dir, m.grid, m.weights, STORE_F32) == OK;
    math_fill(m.layout->size, 1, m.weights->data);
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    if (!m.grid->rank) setrlimit(RLIMIT_FSIZE, &small);
    good = weights_write(other, dir, m.grid, m.weights, STORE_F32) == ERR_IO && good &&
           strstr(fail_message(), "model.safetensors: cannot be written");
    setrlimit(RLIMIT_FSIZE, &before);
    fail_clear();
    good = weights_read(other, m.grid, m.weights, &again) == OK && good && hash == again;
    snprintf(name, sizeof name, "%s/model.safetensors.tmp", other);
    good = good && !file_exists(name);
    assert_true(all_agree(m.grid, good));
    if (!m.grid->rank) remove_directory(other);
    loaded_free(&m);
}

static void values_that_are_not_finite_are_named_on_every_process(void **state)
{
    const char *dir = golden(0);
    char other[256] = "";
    struct loaded m;
    const struct param *p;
    bool good;
    if (!dir) skip();
    m = load(dir, parallel_node_size(), NULL);
    if (!m.grid->rank) scratch_directory(other);
    comm_broadcast(m.grid->world, other, sizeof other, 0);
    p = layout_find(m.layout, 3, ROLE_DOWN); /* split by columns: one process has the last */
    if (m.grid->tensor_rank == m.grid->tensor_size - 1)
        m.weights->data[p->offset + 4 * p->col_count + p->col_count - 1] = (real)NAN;
    assert_int_equal(weights_write(other, dir, m.grid, m.weights, STORE_F32), OK);
    good = weights_read(other, m.grid, m.weights, NULL) == ERR_INPUT &&
           strstr(fail_message(), "tensor model.layers.2.mlp.down_proj.weight: element 359 (row 4, column 71) is");
    if (!good) print_error("%s\n", fail_message());
    fail_clear();
    assert_true(all_agree(m.grid, good));
    if (!m.grid->rank) remove_directory(other);
    loaded_free(&m);
}

static void a_missing_file_fails_on_every_process(void **state)
{
    struct shape *s = shape_with("{}");
    const int size = parallel_node_size();
    struct grid *g;
    struct layout *l;
    struct state *w;
    bool good;
    assert_int_equal(grid_new(1, size, &g), OK);
    assert_int_equal(layout_new(s, g->tensor_rank, size, &l), OK);
    assert_int_equal(state_new("weights", l, &w), OK);
    good = weights_read("/nowhere", g, w, NULL) == ERR_INPUT &&
           strstr(fail_message(), "/nowhere/model.safetensors: cannot be opened");
    fail_clear();
    assert_true(all_agree(g, good));
    state_free(w);
    layout_free(l);
    grid_free(g);
    shape_free(s);
}

/* Mean and variance of what a process drew for a matrix, within 5 standard errors. */
static bool looks_normal(const struct param *p, const real *x)
{
    const double n = (double)(p->row_count * p->col_count), range = 0.05;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < p->row_count * p->col_count; i++) sum += (double)x[i], squares += (double)x[i] * (double)x[i];
    return fabs(sum / n) < 5 * range / sqrt(n) && fabs(squares / n / (range * range) - 1) < 5 * sqrt(2 / n);
}

static void initial_weights_are_a_function_of_the_seed_and_not_of_the_layout(void **state)
{
    struct shape *s = shape_with("{\"model_type\": \"qwen2\", \"initializer_range\": 0.05}");
    const int size = parallel_node_size();
    struct layout *whole, *part;
    struct state *w, *x;
    bool good = true;
    assert_int_equal(layout_new(s, 0, 1, &whole), OK);
    assert_int_equal(state_new("weights", whole, &w), OK);
    weights_random(s, 7, w);
    for (int t = 0; t < size; t++) {
        assert_int_equal(layout_new(s, t, size, &part), OK);
        assert_int_equal(state_new("weights", part, &x), OK);
        weights_random(s, 7, x);
        for (size_t i = 0; i < part->n_param; i++) {
            const struct param *p = &part->param[i], *q = &whole->param[i];
            for (size_t r = 0; r < p->row_count; r++)
                good = good && !memcmp(x->data + p->offset + r * p->col_count,
                                       w->data + q->offset + param_global_row(p, r) * q->cols + p->col_first,
                                       p->col_count * sizeof(real));
            if (!p->vector && p->row_count * p->col_count > 100) good = good && looks_normal(p, x->data + p->offset);
        }
        state_free(x);
        layout_free(part);
    }
    assert_true(good);
    assert_near(w->data[layout_find(whole, 1, ROLE_NORM1)->offset], 1, 0);
    assert_near(w->data[layout_find(whole, 1, ROLE_Q_BIAS)->offset], 0, 0);
    const real was = w->data[3];
    weights_random(s, 8, w);
    assert_true(w->data[3] != was);
    state_free(w);
    layout_free(whole);
    shape_free(s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_process_gets_its_part_of_the_file_in_every_layout),
        cmocka_unit_test(the_hash_sees_one_changed_or_two_exchanged_elements),
        cmocka_unit_test(what_was_written_reads_back_bit_for_bit),
        cmocka_unit_test(further_families_come_back_bit_for_bit_in_every_layout),
        cmocka_unit_test(gpt2_is_stored_transposed_and_may_come_without_its_prefix),
        cmocka_unit_test(a_directory_gets_its_config_and_tokenizer_and_no_leftovers),
        cmocka_unit_test(a_directory_that_cannot_be_written_fails_on_every_process),
        cmocka_unit_test(a_full_disk_leaves_what_was_there_and_fails_on_every_process),
        cmocka_unit_test(values_that_are_not_finite_are_named_on_every_process),
        cmocka_unit_test(a_missing_file_fails_on_every_process),
        cmocka_unit_test(initial_weights_are_a_function_of_the_seed_and_not_of_the_layout),
    };
    int failed;
    if (parallel_start(&argc, &argv) != OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
