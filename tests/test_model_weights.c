/* model: weights read, written, drawn.                                                              NP: 1 2 4 */
#include "model_files.h"

#include <signal.h>
#include <sys/resource.h>

static const char *const models[] = {"llama", "llama3", "mistral", "qwen2", "phi", "gpt_neox", "stablelm"};
enum { N_MODEL = sizeof models / sizeof *models };

/* A model on a grid of data x tensor processes. */
struct loaded {
    struct grid *grid;
    struct shape *shape;
    struct layout *layout;
    struct state *weights;
};

static void loaded_free(struct loaded *m)
{
    state_free(m->weights);
    layout_free(m->layout);
    shape_free(m->shape);
    grid_free(m->grid);
}

static struct loaded load_by(size_t buffer, const char *dir, int tensor, uint64_t *hash)
{
    struct loaded m = {0};
    const int size = parallel_node_size(); /* tests run on one node */
    bool good = grid_new(size / tensor, tensor, &m.grid) == OK && shape_read(dir, &m.shape) == OK &&
                layout_new(m.shape, m.grid->tensor_rank, tensor, &m.layout) == OK &&
                state_new("weights", m.layout, &m.weights) == OK;
    if (!good) print_error("%s\n", fail_message());
    assert_true(all_agree(m.grid, good));
    math_fill(m.layout->size, -1, m.weights->data);
    if (weights_read_by(buffer, dir, m.grid, m.weights, hash) != OK) fail_msg("%s", fail_message());
    return m;
}

static struct loaded load(const char *dir, int tensor, uint64_t *hash) { return load_by(1 << 20, dir, tensor, hash); }

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
                pread(fd, bytes, element, (off_t)(c->at[i]->begin + (param_global_row(p, r) * p->cols + col) * element));
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

/* Exact in every storage: a value for each element of the model. */
static real element(size_t i, size_t row, size_t column) { return (real)((i * 31 + row * 7 + column) % 251) - 100; }

/* Sets this process's part of every tensor, or counts what is not so. */
static size_t elements(const struct state *w, bool set)
{
    size_t wrong = 0;
    for (size_t i = 0; i < w->layout->n_param; i++) {
        const struct param *p = &w->layout->param[i];
        for (size_t r = 0; r < p->row_count; r++)
            for (size_t c = 0; c < p->col_count; c++) {
                real *x = w->data + p->offset + r * p->col_count + c,
                     want = element(i, param_global_row(p, r), p->col_first + c);
                if (set) *x = want;
                wrong += *x != want;
            }
    }
    return wrong;
}

/* A new directory whose name every process knows. */
static void common_directory(char dir[256])
{
    struct grid *g;
    assert_int_equal(grid_new(parallel_node_size(), 1, &g), OK);
    if (!g->rank) scratch_directory(dir);
    comm_broadcast(g->world, dir, 256, 0);
    grid_free(g);
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
    static const char *const kinds[] = {"{\"model_type\": \"phi\", \"tie_word_embeddings\": true}",
                                        "{\"tie_word_embeddings\": true}",
                                        "{\"model_type\": \"qwen2\", \"tie_word_embeddings\": true}",
                                        "{\"model_type\": \"gpt_neox\", \"num_key_value_heads\": null,"
                                        " \"hidden_size\": 48, \"tie_word_embeddings\": true}"};
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

static void a_head_that_cannot_be_one_is_refused_and_an_absent_one_is_none(void **state)
{
    const char *dir = golden(1); /* llama3 is tied and has no head in its file */
    struct shape *s;
    struct grid *g;
    if (!dir) skip();
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
        cmocka_unit_test(a_head_of_its_own_counts_though_config_json_ties_it),
        cmocka_unit_test(a_head_that_cannot_be_one_is_refused_and_an_absent_one_is_none),
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
