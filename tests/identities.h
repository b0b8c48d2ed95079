/* For tests of what effects must satisfy: results of a call, sums over instances, products of whole gradients, and
 * differences of the risk. */
#ifndef UNLEARN_TESTS_IDENTITIES_H
#define UNLEARN_TESTS_IDENTITIES_H
#include "scene.h"

/* relative to the largest: what float rounding leaves of sums of a few thousand products */
static const double TOL = sizeof(real) == 8 ? 1e-10 : 2e-5;

static double e[SCENE_J * SCENE_K * 256 * 64], loss[SCENE_J * 64], mean_weight[SCENE_J * 64];

/* relative error, and zero against zero is none */
static inline double distance(size_t n, const double *x, const double *y)
{
    double d = relative_error(n, x, y);
    return isnan(d) ? INFINITY : d;
}

#define assert_equal(s, name, n, got, want, tolerance)                                             \
    do {                                                                                           \
        double error_ = distance(n, got, want);                                                    \
        if (!(error_ <= (tolerance))) fail_msg("%s: %s differs by %.3g", (s)->what, name, error_); \
    } while (0)

/* e, loss, mean_weight of J objectives, both risks */
static inline void effects_of(struct scene *s, size_t J, const struct objective *o, const struct rows *r)
{
    assert_true(J * SCENE_K * slot_count(s->g.layout) * r->n <= sizeof e / sizeof *e);
    TEST_OK(engine_effects(&s->g.engine, J, o, r, SCENE_K, SCENE_K, s->risk, e, loss, mean_weight));
}

/* Of all rows of a set. */
static inline struct rows effects(struct scene *s, size_t J, const struct objective *o, struct dataset *d)
{
    struct rows all = golden_rows(&s->g, d);
    effects_of(s, J, o, &all);
    return all;
}

/* Batch-weighted sum over instances of objective 0's effect on risk k, per parameter: slots of a tied tensor add up. */
static inline void by_parameter(const struct scene *s, const struct objective *o, const struct rows *r, size_t k,
                                double *sum)
{
    const struct layout *l = s->g.layout;
    double weight[64];
    rows_weights(o, r, weight);
    memset(sum, 0, l->n_param * sizeof *sum);
    for (size_t slot = 0; slot < slot_count(l); slot++)
        for (size_t i = 0; i < r->n; i++)
            sum[slot_param(l, slot) - l->param] += weight[i] * e[(k * slot_count(l) + slot) * r->n + i];
}

/* scale * <a, b> per parameter, over the tensor ranks */
static inline void dots(const struct scene *s, const struct state *a, const struct state *b, double scale, double *sum)
{
    state_dot(a, b, sum);
    if (s->g.grid->tensor_size > 1) comm_sum_double(s->g.grid->tensor, sum, s->g.layout->n_param);
    for (size_t i = 0; i < s->g.layout->n_param; i++) sum[i] *= scale;
}

static inline void check_dots(struct scene *s, const char *what, const struct objective *o, const struct rows *r,
                              size_t k, const struct state *other, double scale)
{
    double got[256], want[256];
    by_parameter(s, o, r, k, got);
    dots(s, s->risk[k], other, scale, want);
    assert_equal(s, what, s->g.layout->n_param, got, want, TOL);
}

/* R_k at the weights as they are */
static inline double risk_value(struct scene *s, size_t k)
{
    struct objective nll = golden_objective("nll", NULL, 0);
    struct rows r = golden_rows(&s->g, k ? s->g.retain : s->g.forget);
    size_t label_first[65] = {0};
    double weight[64], nlls[4096], sum = 0;
    for (size_t i = 0; i < r.n; i++) label_first[i + 1] = label_first[i] + dataset_labels(r.data, i);
    assert_true(label_first[r.n] <= 4096);
    r.label_first = label_first;
    rows_weights(&nll, &r, weight);
    TEST_OK(engine_nll(&s->g.engine, s->g.weights, &r, nlls));
    for (size_t t = 0; t < label_first[r.n]; t++) sum += nlls[t];
    return sum / (double)label_first[r.n];
}

/* (R(theta - h g) - R(theta + h g)) / (-2h) for the gradient in s->gradient, of one parameter or all */
static inline double difference(struct scene *s, size_t k, double h, const struct param *p)
{
    double less, more;
    real *kept = malloc(s->g.layout->size * sizeof *kept);
    memcpy(kept, s->g.weights->data, s->g.layout->size * sizeof *kept);
    shift(s->g.weights, -h, s->gradient, p);
    less = risk_value(s, k);
    memcpy(s->g.weights->data, kept, s->g.layout->size * sizeof *kept);
    shift(s->g.weights, h, s->gradient, p);
    more = risk_value(s, k);
    memcpy(s->g.weights->data, kept, s->g.layout->size * sizeof *kept);
    free(kept);
    return (less - more) / (-2 * h);
}

static inline double total(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* The risk changes along -grad L as the effects say: in all tensors at once and, in models made here, in each alone. */
static inline void follow(struct scene *s, const struct objective *o, const struct rows *r)
{
    const struct layout *l = s->g.layout;
    double norm[256], effect[256], got[256], h;
    effects_of(s, 1, o, r);
    rows_gradient(s, o, r, s->gradient);
    dots(s, s->gradient, s->gradient, 1, norm);
    h = 1e-5 / sqrt(total(norm, l->n_param));
    for (size_t k = 0; k < SCENE_K; k++) {
        by_parameter(s, o, r, k, effect);
        got[0] = difference(s, k, h, NULL), effect[l->n_param] = total(effect, l->n_param);
        assert_equal(s, objective_name(o), 1, got, effect + l->n_param, 1e-5);
        if (!s->made) continue;
        for (size_t p = 0; p < l->n_param; p++) got[p] = difference(s, k, h, &l->param[p]);
        assert_equal(s, objective_name(o), l->n_param, got, effect, 1e-5);
    }
}

/* Where the weights are the reference's, npo and dpo with beta 0.1 have the value (2/beta) ln 2 and the weight 1. */
static inline void assert_at_reference(const struct rows *r)
{
    for (size_t k = 0; k < r->n; k++) {
        bool labelled = dataset_labels(r->data, k) > 0;
        assert_near(loss[k], labelled ? 2 / 0.1 * log(2) : 0, 1e-14);
        if (labelled)
            assert_near(mean_weight[k], 1, 1e-14);
        else
            assert_true(isnan(mean_weight[k]));
    }
}
#endif
