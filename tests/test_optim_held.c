/* optim: moments and a gradient that are held in bfloat16.                                                   NP: 1 2 4 */
#include "model_files.h"
#include "unlearn/optim.h"

static const struct optim_settings usual = {OPTIM_ADAMW, LR_CONSTANT, 1e-2, 0.9,  0.999, 1e-8, 0.1,
                                            0.5,         0,           10,   NULL, true,  7};

/* A model over the tensor ranks of a grid, or all of it here: */
static struct grid *grid;
static struct shape *shape;
struct held_model {
    struct layout *layout;
    struct state *weights, *gradient, *half;
};

static struct held_model model_over(int rank, int size)
{
    struct held_model m;
    assert_int_equal(layout_new(shape, rank, size, &m.layout), OK);
    assert_int_equal(state_new("weights", m.layout, &m.weights), OK);
    assert_int_equal(state_new("gradient", m.layout, &m.gradient), OK);
    assert_int_equal(state_new_held("gradient", m.layout, true, &m.half), OK);
    weights_random(shape, 1, m.weights);
    weights_random(shape, 2, m.gradient);
    state_copy(m.gradient, m.half);
    state_copy(m.half, m.gradient); /* the same numbers in both */
    return m;
}

static void model_close(struct held_model *m)
{
    state_free(m->weights), state_free(m->gradient), state_free(m->half);
    layout_free(m->layout);
}

static int open_shape(void **state)
{
    shape = shape_with("{\"num_attention_heads\": 4, \"num_key_value_heads\": 2}");
    return grid_new(1, parallel_job_size(), &grid) != OK;
}

static int close_shape(void **state)
{
    shape_free(shape);
    grid_free(grid);
    return 0;
}

static double value(const struct state *s, size_t i)
{
    return s->data ? (double)s->data[i] : (double)from_half(s->half[i]);
}

/* bfloat16 has 8 bits: */
static double unit(double x) { return x == 0 ? 0 : ldexp(1, ilogb(x) - 7); }

static void moments_are_rounded_to_a_neighbour_and_right_in_the_mean(void **state)
{
    struct held_model full = model_over(0, 1), half = model_over(0, 1);
    struct optim_settings set = usual;
    struct optim *as_reals, *as_halves;
    double off[2] = {0}, n = 0;
    set.half = false;
    assert_int_equal(optim_new(&set, full.layout, &as_reals), OK);
    assert_int_equal(optim_new(&usual, half.layout, &as_halves), OK);
    optim_update(as_reals, full.gradient, 1, full.weights);
    optim_update(as_halves, half.half, 1, half.weights);
    assert_memory_equal(full.weights->data, half.weights->data, full.layout->size * sizeof(real));
    for (size_t i = 0; i < full.layout->size; i++) {
        const double want[2] = {value(as_reals->m, i), value(as_reals->v, i)};
        const double got[2] = {value(as_halves->m, i), value(as_halves->v, i)};
        for (int k = 0; k < 2; k++) {
            assert_true(fabs(got[k] - want[k]) <= unit(want[k]));
            if (want[k] != 0) off[k] += (got[k] - want[k]) / unit(want[k]);
        }
        n++;
    }
    assert_true(n > 1000);
    for (int k = 0; k < 2; k++)
        assert_true(fabs(off[k] / n) < 4 * 0.41 / sqrt(n)); /* a deviation of at most 1/sqrt 6 each */
    optim_free(as_reals), optim_free(as_halves);
    model_close(&full), model_close(&half);
}

/* v <- 0.999 v: to nearest, which moves by half a unit or not at all, it would stay for ever. */
static void the_second_moment_falls(void **state)
{
    struct held_model m = model_over(0, 1);
    struct optim_settings set = usual;
    struct optim *o;
    double mean = 0;
    set.lr = 0;
    assert_int_equal(optim_new(&set, m.layout, &o), OK);
    state_fill(o->v, (real)1.5);
    state_fill(m.half, 0);
    for (int t = 0; t < 1000; t++) optim_update(o, m.half, 1, m.weights);
    for (size_t i = 0; i < m.layout->size; i++) mean += value(o->v, i) / (double)m.layout->size;
    assert_near(mean, 1.5 * pow(0.999, 1000), 0.01);
    optim_free(o);
    model_close(&m);
}

/* Where element i of parameter p is on a process that has all of it. */
static size_t whole_element(const struct param *p, const struct param *whole, size_t i)
{
    return whole->offset + param_global_row(p, i / p->col_count) * whole->cols + p->col_first + i % p->col_count;
}

static void a_rounding_belongs_to_the_element_whoever_has_it(void **state)
{
    struct held_model mine = model_over(grid->tensor_rank, grid->tensor_size), whole = model_over(0, 1);
    struct optim *o, *of_whole;
    bool same = true;
    assert_int_equal(optim_new(&usual, mine.layout, &o), OK);
    assert_int_equal(optim_new(&usual, whole.layout, &of_whole), OK);
    for (int t = 0; t < 3; t++) {
        optim_update(o, mine.half, 2, mine.weights);
        optim_update(of_whole, whole.half, 2, whole.weights);
    }
    for (size_t k = 0; k < mine.layout->n_param; k++) {
        const struct param *p = &mine.layout->param[k];
        for (size_t i = 0; i < p->row_count * p->col_count; i++) {
            const size_t at = whole_element(p, &whole.layout->param[k], i);
            same = same && o->m->half[p->offset + i] == of_whole->m->half[at];
            same = same && o->v->half[p->offset + i] == of_whole->v->half[at];
            same = same && mine.weights->data[p->offset + i] == whole.weights->data[at];
        }
    }
    optim_free(o), optim_free(of_whole);
    model_close(&mine), model_close(&whole);
    assert_true(all_agree(grid, same));
}

static void other_updates_and_seeds_round_otherwise(void **state)
{
    struct held_model m = model_over(0, 1);
    struct optim_settings set = usual;
    struct optim *o[3];
    size_t other[2] = {0};
    for (int k = 0; k < 3; k++) {
        set.seed = k == 1 ? 8 : 7;
        assert_int_equal(optim_new(&set, m.layout, &o[k]), OK);
        if (k == 2) o[k]->done = 1; /* beta_1 m + (1 - beta_1) g does not know which update it is */
        optim_update(o[k], m.half, 1, m.weights);
    }
    for (size_t i = 0; i < m.layout->size; i++)
        for (int k = 0; k < 2; k++) other[k] += o[0]->m->half[i] != o[k + 1]->m->half[i];
    for (int k = 0; k < 2; k++) assert_true(other[k] > m.layout->size / 5 && other[k] < m.layout->size / 2);
    for (int k = 0; k < 3; k++) optim_free(o[k]);
    model_close(&m);
}

static void an_update_of_halves_is_predicted_and_summed(void **state)
{
    struct held_model m = model_over(0, 1), to = model_over(0, 1);
    struct optim *o;
    double *dot = malloc(m.layout->n_param * sizeof *dot), asked = 0, made = 0;
    assert_int_equal(optim_new(&usual, m.layout, &o), OK);
    optim_update(o, m.half, 2, m.weights);
    optim_predict(o, m.half, 2, m.weights, m.half, dot);
    state_copy(m.weights, to.weights);
    optim_update(o, m.half, 2, m.weights);
    for (size_t i = 0; i < m.layout->size; i++) made += value(m.half, i) * (value(m.weights, i) - value(to.weights, i));
    for (size_t p = 0; p < m.layout->n_param; p++) asked += dot[p];
    assert_true(asked < 0);
    assert_near(asked / made, 1, sizeof(real) == 8 ? 1e-12 : 1e-4);
    state_scale(m.half, 2);
    state_add(m.half, (real)0.5, m.gradient);
    for (size_t i = 0; i < m.layout->size; i++)
        assert_true(fabs(value(m.half, i) - 2.5 * value(m.gradient, i)) <= 2.5 * fabs(value(m.gradient, i)) / 128);
    free(dot);
    optim_free(o);
    model_close(&m), model_close(&to);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_are_rounded_to_a_neighbour_and_right_in_the_mean),
        cmocka_unit_test(the_second_moment_falls),
        cmocka_unit_test(a_rounding_belongs_to_the_element_whoever_has_it),
        cmocka_unit_test(other_updates_and_seeds_round_otherwise),
        cmocka_unit_test(an_update_of_halves_is_predicted_and_summed),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests(tests, open_shape, close_shape);
    parallel_end();
    return failed;
}
