/* optim: updates, decay, clipping, rates, norms.                                                           NP: 1 2 4 */
#include "model_files.h"
#include "unlearn/optim.h"

/* relative: what rounding leaves after some updates; moments and weights are reals */
static const double TOL = sizeof(real) == 8 ? 1e-13 : 2e-6;
static const struct optim_settings usual = {OPTIM_ADAMW, LR_CONSTANT, 1e-2, 0.9,  0.999, 1e-8, 0,
                                            0,           0,           10,   NULL, false, 0};

static struct model_parts {
    struct grid *grid;
    struct shape *shape;
    struct layout *layout;
    struct state *weights, *gradient;
} m;

/* tensor ranks over the whole job: 4 heads on 2 key-value heads, so that 4 ranks share them */
static int open_model(void **state)
{
    m.shape = shape_with("{\"num_attention_heads\": 4, \"num_key_value_heads\": 2}");
    if (grid_new(1, parallel_job_size(), &m.grid) != OK) return 1;
    if (layout_new(m.shape, m.grid->tensor_rank, m.grid->tensor_size, &m.layout) != OK) return 1;
    if (state_new("weights", m.layout, &m.weights) != OK || state_poison(m.weights) != OK) return 1;
    return state_new("gradient", m.layout, &m.gradient) != OK || state_poison(m.gradient) != OK;
}

static int close_model(void **state)
{
    state_free(m.weights), state_free(m.gradient);
    layout_free(m.layout);
    shape_free(m.shape);
    grid_free(m.grid);
    return 0;
}

/* Weights and gradient drawn; the twin's copies in double. */
static size_t draw(double *w, double *g)
{
    weights_random(m.shape, 1, m.weights);
    weights_random(m.shape, 2, m.gradient);
    for (size_t i = 0; i < m.layout->size; i++) w[i] = (double)m.weights->data[i], g[i] = (double)m.gradient->data[i];
    return m.layout->size;
}

/* What each element decays by: norms and biases, the vectors, only where all parameters do. */
static void decays(const struct optim_settings *s, bool matrices, size_t unreached, double *decay)
{
    for (size_t p = 0; p < m.layout->n_param; p++) {
        const struct param *q = &m.layout->param[p];
        const bool vector = strstr(q->name, "norm") || strstr(q->name, ".bias");
        for (size_t i = q->offset; i < q->offset + q->row_count * q->col_count; i++)
            decay[i] = matrices && (vector || q->layer >= unreached) ? 0 : s->weight_decay;
    }
}

/* adamw() of reference.py, in double, element by element; step counts from 1 */
static void adamw_twin(const struct optim_settings *s, double lr, size_t step, size_t n, const double *g,
                       const double *decay, double *mean, double *square, double *w)
{
    for (size_t i = 0; i < n; i++) {
        mean[i] = mean[i] * s->beta1 + g[i] * (1 - s->beta1);
        square[i] = square[i] * s->beta2 + g[i] * g[i] * (1 - s->beta2);
        w[i] *= 1 - lr * decay[i];
        w[i] -= lr * (mean[i] / (1 - pow(s->beta1, (double)step))) /
                (sqrt(square[i] / (1 - pow(s->beta2, (double)step))) + s->eps);
    }
}

static double distance(const double *w)
{
    double worst = 0;
    for (size_t p = 0; p < m.layout->n_param; p++) {
        const struct param *q = &m.layout->param[p];
        for (size_t i = q->offset; i < q->offset + q->row_count * q->col_count; i++)
            worst = fmax(worst, isnan(m.weights->data[i]) ? INFINITY : fabs((double)m.weights->data[i] - w[i]));
    }
    return worst;
}

static void follow(const struct optim_settings *set, double scale, double norm, bool matrices, size_t unreached)
{
    enum { MOST = 20000 };
    static double w[MOST], g[MOST], decay[MOST], mean[MOST], square[MOST];
    struct optim *o;
    size_t n;
    double worst;
    assert_true(m.layout->size <= MOST);
    n = draw(w, g);
    decays(set, matrices, unreached ? unreached : SIZE_MAX, decay);
    memset(mean, 0, sizeof mean), memset(square, 0, sizeof square);
    for (size_t i = 0; i < n; i++) g[i] *= scale;
    assert_int_equal(optim_new(set, m.layout, &o), OK);
    if (matrices) assert_int_equal(optim_decay_matrices(o, m.layout, unreached), OK);
    for (size_t t = 0; t < 5; t++) {
        adamw_twin(set, optim_rate(set, t), t + 1, n, g, decay, mean, square, w);
        optim_update(o, m.gradient, norm, m.weights);
    }
    assert_int_equal(o->done, 5);
    optim_free(o);
    worst = distance(w);
    assert_true(all_agree(m.grid, worst <= TOL));
}

static void follow_adamw(const struct optim_settings *set, double scale, double norm)
{
    follow(set, scale, norm, false, 0);
}

static void adamw_follows_its_slow_twin(void **state) { follow_adamw(&usual, 1, 1); }

static void decay_shrinks_matrices_beside_the_step_but_no_norm_and_no_bias(void **state)
{
    struct optim_settings set = usual;
    set.weight_decay = 0.3;
    follow(&set, 1, 1, true, 0);
    follow(&set, 1, 1, true, 2); /* nor what is above the first block */
}

static void decay_shrinks_every_parameter_beside_the_step(void **state)
{
    struct optim_settings set = usual;
    set.weight_decay = 0.3;
    follow_adamw(&set, 1, 1);
}

static void adamw_follows_a_schedule(void **state)
{
    struct optim_settings set = usual;
    set.schedule = LR_LINEAR, set.warmup = 2;
    follow_adamw(&set, 1, 1);
}

static void a_gradient_beyond_clip_is_scaled_to_it(void **state)
{
    struct optim_settings set = usual;
    set.clip = 0.5, set.eps = 1e-3; /* an eps that shows the gradient's size */
    follow_adamw(&set, 0.25, 2);
}

static void a_gradient_within_clip_stays(void **state)
{
    struct optim_settings set = usual;
    set.clip = 2, set.eps = 1e-3;
    follow_adamw(&set, 1, 2);
}

static void sgd_steps_down_the_gradient_and_decays(void **state)
{
    static double w[20000], g[20000], decay[20000];
    struct optim_settings set = usual;
    struct optim *o;
    size_t n = draw(w, g);
    double worst;
    set.kind = OPTIM_SGD, set.weight_decay = 0.1, set.clip = 3;
    decays(&set, false, SIZE_MAX, decay);
    assert_int_equal(optim_new(&set, m.layout, &o), OK);
    assert_null(o->m);
    for (int t = 0; t < 3; t++) {
        for (size_t i = 0; i < n; i++) w[i] = (1 - set.lr * decay[i]) * w[i] - set.lr * 0.5 * g[i];
        optim_update(o, m.gradient, 6, m.weights);
    }
    optim_free(o);
    worst = distance(w);
    assert_true(all_agree(m.grid, worst <= TOL));
}

/* <direction, weights after - weights before>, of the update that follows, and nothing is changed by asking. */
static void an_update_is_predicted_without_being_made(void **state)
{
    static double w[20000], g[20000];
    const enum optim_kind kind[2] = {OPTIM_ADAMW, OPTIM_SGD};
    struct optim_settings set = usual;
    double *dot = malloc(m.layout->n_param * sizeof *dot);
    bool *frozen = calloc(m.layout->n_param, sizeof *frozen), same = true;
    set.weight_decay = 0.3, set.clip = 0.5, set.frozen = frozen, frozen[2] = true;
    for (int k = 0; k < 2; k++) {
        struct optim *o;
        set.kind = kind[k];
        assert_int_equal(optim_new(&set, m.layout, &o), OK);
        assert_int_equal(optim_decay_matrices(o, m.layout, 0), OK);
        draw(w, g);
        for (int t = 0; t < 3; t++) {
            double asked = 0, made = 0;
            optim_predict(o, m.gradient, 2, m.weights, m.gradient, dot);
            for (size_t i = 0; i < m.layout->size; i++) same = same && (t || (double)m.weights->data[i] == w[i]);
            for (size_t i = 0; i < m.layout->size; i++) w[i] = (double)m.weights->data[i];
            optim_update(o, m.gradient, 2, m.weights);
            for (size_t p = 0; p < m.layout->n_param; p++) {
                const struct param *q = &m.layout->param[p];
                const size_t first = q->offset + q->own_first * q->col_count;
                for (size_t i = first; i < first + q->own_count * q->col_count; i++)
                    made += g[i] * ((double)m.weights->data[i] - w[i]);
                asked += dot[p];
            }
            same = same && asked < 0 && fabs(asked / made - 1) < (sizeof(real) == 8 ? 1e-12 : 1e-4);
        }
        same = same && dot[2] == 0;
        optim_free(o);
    }
    free(dot), free(frozen);
    assert_true(all_agree(m.grid, same));
}

static void a_rate_of_zero_changes_nothing(void **state)
{
    static double w[20000], g[20000];
    struct optim_settings set = usual;
    struct optim *o;
    double worst;
    draw(w, g);
    set.warmup = 4, set.weight_decay = 0.5; /* the first rate of a warm-up is 0 */
    assert_int_equal(optim_new(&set, m.layout, &o), OK);
    optim_update(o, m.gradient, 1, m.weights);
    optim_free(o);
    worst = distance(w);
    assert_true(all_agree(m.grid, worst == 0));
}

/* Every element is 2, also the copies of shared heads and replicated norms: 2 sqrt(elements of the model). */
static void the_norm_counts_every_element_of_the_model_once(void **state)
{
    double norm;
    math_fill(m.layout->size, 2, m.gradient->data);
    norm = optim_norm(m.grid, NULL, m.gradient);
    assert_true(all_agree(m.grid, fabs(norm - 2 * sqrt((double)m.layout->elements)) < 1e-9));
}

/* -------------------------------------------------------------------------------------------------------- rates ----- */
static double rate(enum optim_schedule schedule, size_t warmup, size_t steps, size_t t)
{
    const struct optim_settings set = {.schedule = schedule, .lr = 8, .warmup = warmup, .steps = steps};
    return optim_rate(&set, t);
}

static void a_warm_up_begins_at_zero_and_reaches_the_rate(void **state)
{
    for (int s = LR_CONSTANT; s <= LR_COSINE; s++) {
        assert_true(rate((enum optim_schedule)s, 4, 12, 0) == 0);
        assert_near(rate((enum optim_schedule)s, 4, 12, 1), 2, 1e-15);
        assert_near(rate((enum optim_schedule)s, 4, 12, 3), 6, 1e-15);
        assert_near(rate((enum optim_schedule)s, 4, 12, 4), 8, 1e-15);
    }
}

static void without_warm_up_the_first_rate_is_the_whole(void **state)
{
    for (int s = LR_CONSTANT; s <= LR_COSINE; s++) assert_near(rate((enum optim_schedule)s, 0, 5, 0), 8, 1e-15);
}

static void rates_fall_linearly_or_as_half_a_cosine_or_not(void **state)
{
    assert_near(rate(LR_LINEAR, 4, 12, 8), 4, 1e-15);
    assert_near(rate(LR_LINEAR, 4, 12, 11), 1, 1e-15);
    assert_near(rate(LR_LINEAR, 4, 12, 12), 0, 1e-15);
    assert_near(rate(LR_COSINE, 4, 12, 8), 4, 1e-14);
    assert_near(rate(LR_COSINE, 4, 12, 6), 4 * (1 + cos(atan(1))), 1e-14); /* a quarter of the way: 45 degrees */
    assert_near(rate(LR_COSINE, 4, 12, 12), 0, 1e-14);
    assert_near(rate(LR_CONSTANT, 4, 12, 11), 8, 1e-15);
}

static void a_warm_up_longer_than_the_run_only_rises(void **state)
{
    for (int s = LR_CONSTANT; s <= LR_COSINE; s++)
        for (size_t t = 0; t < 5; t++) assert_near(rate((enum optim_schedule)s, 16, 5, t), 0.5 * (double)t, 1e-15);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_follows_its_slow_twin),
        cmocka_unit_test(decay_shrinks_matrices_beside_the_step_but_no_norm_and_no_bias),
        cmocka_unit_test(decay_shrinks_every_parameter_beside_the_step),
        cmocka_unit_test(adamw_follows_a_schedule),
        cmocka_unit_test(a_gradient_beyond_clip_is_scaled_to_it),
        cmocka_unit_test(a_gradient_within_clip_stays),
        cmocka_unit_test(sgd_steps_down_the_gradient_and_decays),
        cmocka_unit_test(an_update_is_predicted_without_being_made),
        cmocka_unit_test(a_rate_of_zero_changes_nothing),
        cmocka_unit_test(the_norm_counts_every_element_of_the_model_once),
        cmocka_unit_test(a_warm_up_begins_at_zero_and_reaches_the_rate),
        cmocka_unit_test(without_warm_up_the_first_rate_is_the_whole),
        cmocka_unit_test(rates_fall_linearly_or_as_half_a_cosine_or_not),
        cmocka_unit_test(a_warm_up_longer_than_the_run_only_rises),
    };
    if (parallel_start(&argc, &argv) != OK) return 1;
    int failed = cmocka_run_group_tests(tests, open_model, close_model);
    parallel_end();
    return failed;
}
