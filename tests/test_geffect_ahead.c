/* geffect: gradients of which layers are summed behind the backward, and layers gathered ahead of use.           NP: 2 3 4 */
#include "family.h"

#include "unlearn/parallel_priv.h"
#include "unlearn/state_priv.h"

/* Of the rows the first data rank has one, in one pass, the second two, in as many, the fourth none. */
struct ahead {
    struct family *f;
    struct state *weights, *gradient, *want;
    size_t most_begun; /* layers whose sums had begun when the engine returned */
};

/* Relative to a layer's largest: what is added to parts is summed over the ranks for each pass and each use of a tied embedding. */
static const double PARTS_TOL = sizeof(real) == 8 ? 1e-14 : 4e-6;

static size_t differing_layers(const struct ahead *a)
{
    const struct layout *l = a->f->layout;
    const double tol = a->gradient->part ? PARTS_TOL : 0;
    size_t n = 0, first, count;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const real *got = state_own(a->gradient, layer).full, *want = a->want->data;
        double off = 0, largest = 0;
        sharing_part(l, layer, &first, &count);
        for (size_t i = first; i < first + count; i++) {
            off = fmax(off, fabs((double)got[i] - (double)want[i])), largest = fmax(largest, fabs((double)want[i]));
            n += !isfinite((double)got[i]);
        }
        n += off > tol * largest;
    }
    return n;
}

static enum status gradient(struct ahead *a)
{
    struct family *f = a->f;
    enum status st;
    state_fill(a->gradient, 0);
    state_reduce_soon(a->gradient);
    st = engine_gradient(&f->engine, &f->nll, &f->rows, f->weight, true, a->gradient, f->loss);
    if (a->most_begun < f->layout->sharing->begun) a->most_begun = f->layout->sharing->begun;
    return state_reduce_after(f->grid, a->gradient, st);
}

static bool nothing_is_on_its_way(const struct family *f)
{
    const struct parts *p = f->grid->data->parts;
    const struct sharing *s = f->layout->sharing;
    size_t taken = 0;
    for (size_t i = 0; i < s->n_hold; i++) taken += s->hold[i].taken;
    return p->begun == p->complete && !s->begun && !taken;
}

/* A weight of the first data rank alone, or of the part that it has. */
static real *a_weight(const struct ahead *a)
{
    const struct layout *l = a->f->layout;
    size_t first, count;
    if (!a->weights->part) return a->weights->data + layout_find(l, 1, ROLE_O)->offset;
    sharing_part(l, 1, &first, &count);
    return state_own(a->weights, 1).full + first;
}

/* The same to the last bit; a rank whose rows fail leaves nobody waiting, and nothing on its way that would meet what follows. */
static void check_gradients(struct ahead *a, const char *what)
{
    struct family *f = a->f;
    real *weight = a_weight(a);
    for (int again = 0; again < 2; again++) {
        const bool good = gradient(a) == OK && !differing_layers(a) && nothing_is_on_its_way(f);
        const real kept = *weight;
        if (!all_agree(f->grid, good)) fail_msg("%s: %zu layers differ", what, differing_layers(a));
        if (again) break;
        if (f->grid->data_rank == 0) *weight = (real)NAN;
        const enum status st = gradient(a);
        *weight = kept;
        fail_clear();
        if (!all_agree(f->grid, st == ERR_NUMERIC && nothing_is_on_its_way(f))) fail_msg("%s: status %d", what, (int)st);
    }
}

/* A state of this process's parts, from a whole one. */
static struct state *parts_of(const struct ahead *a, const struct state *whole)
{
    const struct layout *l = a->f->layout;
    struct state *s;
    size_t first, count;
    TEST_OK(state_new("parts", l, &s));
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        sharing_part(l, layer, &first, &count);
        math_copy(count, whole->data + first, state_own(s, layer).full + first);
    }
    return s;
}

/* Effects on a direction, and a Hessian's product with it. */
static void effects(struct ahead *a, struct state *direction, double *e)
{
    struct family *f = a->f;
    double mean[ROWS];
    struct state *const risk[1] = {direction};
    TEST_OK(engine_effects(&f->engine, 1, &f->nll, &f->rows, 1, 1, risk, e, f->loss, mean));
    state_fill(a->gradient, 0);
    state_reduce_soon(a->gradient);
    TEST_OK(state_reduce_after(f->grid, a->gradient,
                               engine_hvp(&f->engine, &f->nll, &f->rows, f->weight, direction, a->gradient)));
}

/* Whole states, of which nothing but the reductions is shared. */
static void check_whole(struct ahead *a, double *e, const char *what)
{
    struct family *f = a->f;
    check_gradients(a, what);
    /* all but the embedding, as many as wait for nobody */
    const size_t most = smaller(f->layout->n_layer - 1, COMM_QUEUE);
    const bool good = a->most_begun == (f->engine.room->n_pass ? most : 0);
    if (!all_agree(f->grid, good)) fail_msg("%s: %zu sums had begun", what, a->most_begun);
    effects(a, f->gradient, e);
    state_copy(a->gradient, a->want);
}

/* Against check_whole()'s. */
static void check_parts(struct ahead *a, const double *e_whole, const char *what)
{
    struct family *f = a->f;
    struct state *direction = parts_of(a, f->gradient);
    const size_t size = slot_count(f->layout) * ROWS;
    double *e = calloc(size, sizeof *e);
    effects(a, direction, e);
    const bool good = !memcmp(e, e_whole, size * sizeof *e) && !differing_layers(a) && nothing_is_on_its_way(f);
    if (!all_agree(f->grid, good)) fail_msg("%s: effects or a product of parts differ", what);
    state_free(direction);
    free(e);
}

static void share(struct ahead *a, enum sharing_of of)
{
    struct family *f = a->f;
    TEST_OK(layout_share(f->layout, f->grid, of, 4, of == SHARING_ALL));
    TEST_OK(state_new("gradient", f->layout, &a->gradient));
    f->engine.weights = a->weights = of == SHARING_ALL ? parts_of(a, f->weights) : f->weights;
}

static void unshare(struct ahead *a)
{
    struct family *f = a->f;
    state_free(a->gradient);
    if (a->weights != f->weights) state_free(a->weights);
    f->engine.weights = f->weights;
    sharing_free(f->layout->sharing);
    f->layout->sharing = NULL;
}

static void check(struct family *f, const char *what)
{
    struct ahead a = {.f = f};
    double *e;
    if (f->grid->data_size == 1) return;
    TEST_OK(state_new("want", f->layout, &a.want));
    e = calloc(slot_count(f->layout) * ROWS, sizeof *e);
    risk(f);
    state_copy(f->gradient, a.want);
    share(&a, SHARING_MOMENTS);
    check_whole(&a, e, what);
    unshare(&a);
    share(&a, SHARING_ALL);
    check_parts(&a, e, what);
    state_copy(f->gradient, a.want);
    check_gradients(&a, what);
    unshare(&a);
    state_free(a.want);
    free(e);
}

static void sums_behind_the_backward_are_the_same_to_the_last_bit(void **state)
{
    everywhere(ROWS, usual_length, LONGEST, check);
}

/* The first data rank has the one row; the others wait in the engine's own sums for it, and move none of its messages. */
static void more_layers_than_may_be_on_their_way_leave_nobody_waiting(void **state)
{
    struct family f;
    family_open("{\"num_hidden_layers\": 130}", 1, 1, usual_length, LONGEST, &f);
    assert_true(f.layout->n_layer - 1 > COMM_QUEUE);
    check(&f, "130 blocks");
    family_close(&f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_behind_the_backward_are_the_same_to_the_last_bit),
        cmocka_unit_test(more_layers_than_may_be_on_their_way_leave_nobody_waiting),
    };
    int failed;
    keeps_tangents = true;
    if (parallel_start(&argc, &argv) != OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    parallel_end();
    return failed;
}
