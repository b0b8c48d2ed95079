/* For tests of weights on disk: a model on a grid, read or to be written, and a value for each of its elements. */
#ifndef UNLEARN_TESTS_LOADED_H
#define UNLEARN_TESTS_LOADED_H
#include "model_files.h"

/* A model on a grid of data x tensor processes. */
struct loaded {
    struct grid *grid;
    struct shape *shape;
    struct layout *layout;
    struct state *weights;
};

static inline void loaded_free(struct loaded *m)
{
    state_free(m->weights);
    layout_free(m->layout);
    shape_free(m->shape);
    grid_free(m->grid);
}

static inline struct loaded load_by(size_t buffer, const char *dir, int tensor, uint64_t *hash)
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

static inline struct loaded load(const char *dir, int tensor, uint64_t *hash)
{
    return load_by(1 << 20, dir, tensor, hash);
}

/* Exact in every storage: a value for each element of the model. */
static inline real element(size_t i, size_t row, size_t column)
{
    return (real)((i * 31 + row * 7 + column) % 251) - 100;
}

/* Sets this process's part of every tensor, or counts what is not so. */
static inline size_t elements(const struct state *w, bool set)
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
static inline void common_directory(char dir[256])
{
    struct grid *g;
    assert_int_equal(grid_new(parallel_node_size(), 1, &g), OK);
    if (!g->rank) scratch_directory(dir);
    comm_broadcast(g->world, dir, 256, 0);
    grid_free(g);
}
#endif
