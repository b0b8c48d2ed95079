/* training: the guard - projection, resting layers, budgets.                                                NP: 1 2 */
#include "demo_run.h"
#include "model_files.h"
#include "unlearn/training_priv.h"

static const double TOL = sizeof(real) == 8 ? 1e-13 : 2e-5; /* relative to the largest, of sums of a million reals */
static const char *layout =
    "parallel={data: auto, tensor: auto, tokens: 1024, shard: none}"; /* main() takes the other one too */

struct guarded_run {
    struct demo_run d;
    struct training *t;
};

/* A training of these overrides, whose rows are in order. */
static void begin(struct guarded_run *r, const char *const *more)
{
    const char *all[MOST_OVERRIDES] = {layout, "train={steps: 6, batch_size: 2, accumulation: 2, shuffle: false}"};
    int n = 2;
    while (*more) all[n++] = *more++;
    demo_inputs(&r->d, all);
    if (guard_check(r->d.in) != OK) fail_msg("%s", fail_message());
    demo_subject(&r->d);
    assert_int_equal(training_new(r->d.subject, &r->t), OK);
}

static void end(struct guarded_run *r)
{
    training_free(r->t);
    demo_free(&r->d);
}

static real *copy_of(const struct state *s)
{
    real *x = malloc(s->layout->size * sizeof *x);
    memcpy(x, s->data, s->layout->size * sizeof *x);
    return x;
}

static double dot(const struct training *t, const struct state *a, const struct state *b)
{
    double *e = malloc(t->subject->layout->n_param * sizeof *e), sum;
    guard_dot(t, a, b, e);
    sum = guard_moving(t, e);
    free(e);
    return sum;
}

/* max |x - (a y + b z)| / max |x|, of this process's part: where it has all of a gradient, the rest is not complete */
static double unlike(const struct state *x, double a, const real *y, double b, const real *z)
{
    double worst = 0, scale = 0;
    for (size_t k = 0; k < x->layout->n_param; k++) {
        size_t first, count;
        param_part(x->layout, &x->layout->param[k], false, &first, &count);
        for (size_t i = first; i < first + count; i++) {
            const double want = a * (double)y[i] + (z ? b * (double)z[i] : 0);
            worst = worse(worst, fabs((double)x->data[i] - want)), scale = fmax(scale, fabs((double)x->data[i]));
        }
    }
    return worst / scale;
}

/* -------------------------------------------------------------------------------------------------- projection ----- */
#define ASCENT  "objective={name: ga}"
#define REFUSES "objective={name: po}", "data.idk=inputs/demo/idk.jsonl"

/* The gradient of update i by itself, without a guard. */
static real *plain_gradient(const char *const *more, size_t i)
{
    struct guarded_run r;
    begin(&r, more);
    real *gradient;
    assert_int_equal(training_gradient(r.t, i), OK);
    gradient = copy_of(r.t->gradient);
    end(&r);
    return gradient;
}

static void the_forget_gradient_loses_what_spoils_the_retain_gradient(void **state)
{
    static const char *const plain[] = {ASCENT, NULL}, *const guarded[] = {ASCENT, "guard.project=1", NULL};
    real *forget = plain_gradient(plain, 0), *retain;
    struct guarded_run r;
    begin(&r, guarded);
    struct training *t = r.t;
    double product, squares, length;
    assert_int_equal(training_gradient(t, 0), OK);
    product = dot(t, t->gradient, t->guard->retain), squares = dot(t, t->guard->retain, t->guard->retain);
    length = sqrt(dot(t, t->gradient, t->gradient));
    assert_true(product < -0.1 * length * sqrt(squares)); /* they disagree, or this shows nothing */
    assert_near(t->update.norm, length, 1e-12);
    assert_true(unlike(t->gradient, 1, forget, 0, NULL) == 0); /* a measurement sees it as it is */
    guard_rectify(t);
    retain = copy_of(t->guard->retain);
    assert_near(t->update.cosine, product / length / sqrt(squares), 1e-12);
    assert_near(dot(t, t->gradient, t->guard->retain) / length / sqrt(squares), 0, sizeof(real) == 8 ? 1e-15 : 1e-7);
    assert_true(unlike(t->gradient, 1, forget, -product / squares, retain) < TOL);
    assert_near(t->update.norm, sqrt(length * length - product * product / squares), TOL);
    assert_int_equal(training_update(t, 0, true), OK);
    assert_int_equal(training_gradient(t, 1), OK); /* the next update has a projection of its own */
    assert_true(dot(t, t->gradient, t->guard->retain) < -0.1 * length * sqrt(squares));
    assert_int_equal(training_update(t, 1, true), OK);
    assert_near(dot(t, t->gradient, t->guard->retain) / length / sqrt(squares), 0, sizeof(real) == 8 ? 1e-14 : 1e-6);
    assert_true(t->update.cosine < -0.1);
    free(forget), free(retain);
    end(&r);
}

static void a_forget_gradient_that_agrees_stays_bit_for_bit(void **state)
{
    static const char *const plain[] = {REFUSES, NULL}, *const guarded[] = {REFUSES, "guard.project=1", NULL};
    real *forget = plain_gradient(plain, 0);
    struct guarded_run r;
    begin(&r, guarded);
    assert_int_equal(training_gradient(r.t, 0), OK);
    guard_rectify(r.t);
    assert_true(r.t->update.cosine > 0.1);
    assert_memory_equal(r.t->gradient->data, forget, r.d.subject->layout->size * sizeof *forget);
    free(forget);
    end(&r);
}

/* gd's gradient serves as retain gradient, and is added as it is; another regulariser's does not serve. */
static void regularisers_are_added_to_what_was_projected(void **state)
{
    static const char *const plain[] = {ASCENT, NULL}, *const alone[] = {ASCENT, "guard.project=1", NULL};
    static const char *const with[2] = {"objective.regularizer=[{name: gd, weight: 0.5}, {name: rr, weight: 3}]",
                                        "objective.regularizer=[{name: rr, weight: 3}, {name: gd, weight: 0.5}]"};
    real *forget = plain_gradient(plain, 0), *retain, *sum;
    struct guarded_run r;
    begin(&r, alone);
    double share;
    assert_int_equal(training_gradient(r.t, 0), OK);
    retain = copy_of(r.t->guard->retain);
    share = dot(r.t, r.t->gradient, r.t->guard->retain) / dot(r.t, r.t->guard->retain, r.t->guard->retain);
    end(&r);
    for (int k = 0; k < 2; k++) {
        const char *const more[] = {ASCENT, with[k], NULL}, *const both[] = {ASCENT, with[k], "guard.project=1", NULL};
        sum = plain_gradient(more, 0);
        begin(&r, both);
        assert_int_equal(training_gradient(r.t, 0), OK);
        guard_rectify(r.t);
        assert_true(unlike(r.t->guard->retain, k ? 1 : 0.5, retain, 0, NULL) < TOL);
        assert_true(unlike(r.t->gradient, 1, sum, -share, retain) < TOL);
        end(&r);
        free(sum);
    }
    free(forget), free(retain);
}

/* At a rate of 0 the weights stay, so that both updates' batches have their gradients at the same ones. */
static void a_share_below_one_makes_a_running_mean(void **state)
{
    static const char *const newest[] = {ASCENT, "optimizer.lr=0", "guard.project=1", NULL}, *const mean[] = {
                                                                                                 ASCENT, "optimizer.lr=0",
                                                                                                 "guard.project=0.25",
                                                                                                 NULL};
    real *batch[2];
    struct guarded_run r;
    begin(&r, newest);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(training_gradient(r.t, i), OK);
        batch[i] = copy_of(r.t->guard->retain);
        assert_int_equal(training_update(r.t, i, false), OK);
    }
    end(&r);
    begin(&r, mean);
    assert_int_equal(training_gradient(r.t, 0), OK);
    assert_int_equal(training_gradient(r.t, 0), OK); /* an update that was begun and not made leaves no trace */
    assert_true(unlike(r.t->guard->retain, 0.25, batch[0], 0, NULL) < TOL);
    assert_int_equal(training_update(r.t, 0, false), OK);
    assert_int_equal(training_gradient(r.t, 1), OK);
    assert_true(unlike(r.t->guard->retain, 0.25, batch[1], 0.75 * 0.25, batch[0]) < TOL);
    end(&r);
    free(batch[0]), free(batch[1]);
}

/* rmu alone has no gradient above its layer; the retain gradient that is projected off has one everywhere. */
static void what_the_retain_gradient_reaches_decays(void **state)
{
    static const char *const plain[] = {"objective={name: rmu, layer: 1}", "objective.regularizer=[]", NULL};
    const char *const guarded[] = {plain[0], plain[1], "guard.project=1", NULL};
    for (int k = 0; k < 2; k++) {
        struct guarded_run r;
        begin(&r, k ? guarded : plain);
        const struct layout *l = r.d.subject->layout;
        for (size_t i = 0; i < l->n_param; i++)
            assert_int_equal(r.t->optim->decays[i], !l->param[i].vector && (k || l->param[i].layer < 2));
        end(&r);
    }
}

/* ------------------------------------------------------------------------------------------------ resting layers ----- */
/* Layers of the model whose parameters are as they were, as bits. */
static unsigned unmoved(const struct training *t, const real *before)
{
    const struct layout *l = t->subject->layout;
    unsigned same = 0;
    for (size_t k = 0; k < l->n_layer; k++) {
        size_t first, count;
        layout_span(l, k, &first, &count);
        if (!memcmp(before + first, t->subject->weights->data + first, count * sizeof *before)) same |= 1u << k;
    }
    return same;
}

static unsigned after_update(struct training *t, size_t i, const double *effect)
{
    real *before = copy_of(t->subject->weights);
    const struct seen seen = {.step = i, .risk = 1, .effect = effect, .updates = true};
    unsigned same;
    assert_int_equal(training_gradient(t, i), OK);
    if (effect) training_guard(t, &seen);
    assert_int_equal(training_update(t, i, false), OK);
    same = unmoved(t, before);
    free(before);
    return same;
}

static void layers_of_the_worst_effect_rest_until_the_next_measurement(void **state)
{
    static const char *const optimizer[2] = {"optimizer={lr: 1.0e-3, warmup_steps: 0, weight_decay: 0.1, clip: 0.5}",
                                             "optimizer={name: sgd, lr: 0.1, warmup_steps: 0, weight_decay: 0.1}"};
    const double first[] = {-3, 1, -5, -4, 2, -1, 0}, other[] = {0, 1, 2, 3, -1, 0, 0}, none[7] = {0};
    for (int k = 0; k < 2; k++) {
        const char *const more[] = {ASCENT, optimizer[k], "guard.freeze=2", "guard.project=0.5", NULL};
        struct guarded_run r;
        begin(&r, more);
        assert_int_equal(after_update(r.t, 0, first), 1u << 2 | 1u << 3);
        assert_int_equal(after_update(r.t, 1, NULL), 1u << 2 | 1u << 3);
        assert_int_equal(after_update(r.t, 2, other), 1u << 4); /* one that is not negative does not rest */
        assert_int_equal(after_update(r.t, 3, none), 0);
        end(&r);
    }
}

/* What is frozen for good is not among the worst, and stays. */
static void what_is_frozen_for_good_is_no_choice(void **state)
{
    static const char *const more[] = {ASCENT, "optimizer={lr: 1.0e-3, warmup_steps: 0}", "guard.freeze=1",
                                       "train.freeze=[layers.1]", NULL};
    const double effect[] = {-3, 1, -5, -4, 2, -1, 0}, none[7] = {0};
    struct guarded_run r;
    begin(&r, more);
    assert_int_equal(after_update(r.t, 0, effect), 1u << 2 | 1u << 3);
    assert_int_equal(after_update(r.t, 1, none), 1u << 2);
    end(&r);
}

/* The demo's model with one matrix for the embedding and the head, as a directory that every process knows; of phi the head has
 * a bias of its own. */
static const char *const tied_kinds[] = {"{\"tie_word_embeddings\": true}",
                                         "{\"tie_word_embeddings\": true, \"model_type\": \"phi\"}"};
static void tied_model(int kind, char dir[256], char key[300])
{
    struct grid *g;
    assert_int_equal(grid_new(parallel_job_size(), 1, &g), OK);
    if (!g->rank) {
        json_t *config, *changes = json_loads(tied_kinds[kind], 0, NULL);
        char *text;
        size_t n;
        scratch_directory(dir);
        assert_int_equal(json_read("inputs/demo/model/config.json", 1 << 20, &config), OK);
        json_object_update(config, changes);
        text = json_dumps(config, 0);
        write_file(dir, "config.json", text, strlen(text));
        free(text), json_decref(config), json_decref(changes);
        assert_int_equal(file_read("inputs/demo/model/tokenizer.json", 1 << 20, &text, &n), OK);
        write_file(dir, "tokenizer.json", text, n);
        free(text);
    }
    comm_broadcast(g->world, dir, 256, 0);
    snprintf(key, 300, "model.path=%s", dir);
    comm_barrier(g->world);
    grid_free(g);
}

/* By the sum of the effects of its uses, and as one of the layers that may rest. */
static void a_tied_embedding_rests_as_one_layer_in_both_its_entries(void **state)
{
    static const struct {
        double effect[7];
        unsigned rests;
    } cases[] = {{{-3, -4, -1, 0, 0, 0, -2}, 1u << 0 | 1u << 6 | 1u << 1},
                 {{-3, -1, -2, 0, 0, 0, -4}, 1u << 0 | 1u << 6 | 1u << 2},
                 {{3, -1, 0, 0, 0, 0, -2}, 1u << 1}, /* what one use spoils the other makes good */
                 {{-1, 0, 0, 0, 0, 0, 1}, 0}};
    for (int kind = 0; kind < 2; kind++) {
        char dir[256] = "", key[300];
        tied_model(kind, dir, key);
        const char *const more[] = {ASCENT, key, "optimizer={lr: 1.0e-3, warmup_steps: 0}", "guard.freeze=2", NULL};
        struct guarded_run r;
        begin(&r, more);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            const unsigned none = kind ? 0 : 1u << 6; /* without a bias lm_head has no parameter of its own to move */
            assert_int_equal(after_update(r.t, i, cases[i].effect), cases[i].rests | none);
            for (size_t k = 0; k < 7; k++) assert_near(training_guarded(r.t).rests[k], cases[i].rests >> k & 1, 0);
        }
        if (!r.d.world->rank) remove_directory(dir);
        end(&r);
    }
}

static void a_tied_embedding_is_one_of_the_layers_that_may_not_all_rest(void **state)
{
    static const char *const words[] = {"5 may rest, of 5 that have parameters to move", "of 6"};
    for (int kind = 0; kind < 2; kind++)
        for (int frozen = 0; frozen < 2; frozen++) { /* of phi the bias still moves */
            char dir[256] = "", key[300];
            struct demo_run d;
            tied_model(kind, dir, key);
            const char *const more[] = {key, frozen && !kind ? "guard.freeze=5" : "guard.freeze=6",
                                        frozen ? "train.freeze=[embed]" : "train.freeze=[]", NULL};
            demo_inputs(&d, more);
            if (guard_check(d.in) != ERR_INPUT || !strstr(fail_message(), words[!frozen || kind]))
                fail_msg("kind %d: %s", kind, fail_message() ? fail_message() : "is not refused");
            fail_clear();
            comm_barrier(d.world->world);
            if (!d.world->rank) remove_directory(dir);
            demo_free(&d);
        }
}

/* Which layers rest is known after the gradients: all norms, and the projection, are those over what moves. */
static void norms_and_projection_leave_out_what_rests(void **state)
{
    static const char *const more[] = {ASCENT, "guard.freeze=3", "guard.project=1",
                                       "objective.regularizer=[{name: gd}, {name: rr}]", NULL};
    const double effect[] = {-3, 1, -5, 0, 2, 0, -1};
    const struct seen seen = {.risk = 1, .effect = effect, .updates = true};
    struct guarded_run r;
    begin(&r, more);
    struct training *t = r.t;
    double whole, retain;
    assert_int_equal(training_gradient(t, 0), OK);
    whole = t->update.norm_of_objective, retain = t->update.norm_of_part[0];
    training_guard(t, &seen);
    guard_rectify(t);
    assert_true(t->update.norm_of_objective < 0.99 * whole && t->update.norm_of_objective > 0);
    assert_true(t->update.norm_of_part[0] < 0.99 * retain && t->update.norm_of_part[0] > 0);
    assert_near(t->update.norm_of_part[0], sqrt(dot(t, t->guard->retain, t->guard->retain)), 1e-12);
    assert_near(t->update.norm, sqrt(dot(t, t->gradient, t->gradient)), 1e-12);
    /* without gd's and rr's (0 at the start) gradients the rest is orthogonal to gd's, over what moves alone */
    math_add_scaled(t->subject->layout->size, -1, t->guard->retain->data, t->gradient->data);
    assert_near(dot(t, t->gradient, t->guard->retain) / whole / retain, 0, sizeof(real) == 8 ? 1e-14 : 1e-6);
    end(&r);
}

/* ------------------------------------------------------------------------------------------------------- budget ----- */
static enum verdict says(struct training *t, size_t step, double risk)
{
    const struct seen seen = {.step = step, .risk = risk};
    return training_guard(t, &seen)->verdict;
}

static void a_budget_limits_the_rise_the_value_or_the_ratio(void **state)
{
    static const char *const budget[3] = {"guard.retain={budget: 0.25}", "guard.retain={budget: 0.75, limits: value}",
                                          "guard.retain={budget: 1.5, limits: ratio}"};
    for (int k = 0; k < 3; k++) { /* each has its limit at 0.75, for a start of 0.5 */
        const char *const more[] = {ASCENT, budget[k], NULL};
        struct guarded_run r;
        begin(&r, more);
        assert_int_equal(says(r.t, 0, 0.5), GO_ON);
        assert_int_equal(says(r.t, 5, 0.75), GO_ON);
        assert_int_equal(says(r.t, 10, 0.7501), STOP_RUN);
        assert_near(training_guarded(r.t).limit, 0.75, 0);
        assert_near(training_guarded(r.t).value, 0.7501, 0);
        assert_int_equal(training_guarded(r.t).model, 10);
        end(&r);
    }
}

static void it_steps_back_to_the_last_checkpoint_within(void **state)
{
    static const char *const more[] = {ASCENT, "guard.retain={budget: 0.25, do: step_back}", "checkpoint.every=5", NULL};
    struct guarded_run r;
    begin(&r, more);
    assert_int_equal(says(r.t, 0, 0.5), GO_ON);
    assert_true(training_pinned(r.t) == SIZE_MAX);
    training_checkpointed(r.t, 5);
    assert_true(training_pinned(r.t) == SIZE_MAX); /* its risk is not known yet */
    assert_int_equal(says(r.t, 5, 0.6), GO_ON);
    assert_int_equal(training_pinned(r.t), 5);
    training_checkpointed(r.t, 7); /* of a run that was stopped at a step that is not measured */
    assert_int_equal(says(r.t, 10, 0.7), GO_ON);
    training_checkpointed(r.t, 15);
    assert_int_equal(training_pinned(r.t), 5);
    assert_int_equal(says(r.t, 15, 0.8), STEP_BACK);
    assert_int_equal(training_guarded(r.t).model, 5);
    end(&r);
    begin(&r, more);
    assert_int_equal(says(r.t, 0, 0.5), GO_ON);
    training_checkpointed(r.t, 5);
    assert_int_equal(says(r.t, 5, 0.8), STEP_BACK); /* none is within: the model of the start */
    assert_int_equal(training_guarded(r.t).model, 0);
    assert_true(training_pinned(r.t) == SIZE_MAX);
    end(&r);
}

/* In the direction of its own gradient. The change is <direction, step> of the update that is then made, with all that the optimiser and the guard do to it. */
static void what_is_predicted_is_what_the_update_will_do(void **state)
{
    static const char *const optimizer[2] = {"optimizer={lr: 1.0e-3, warmup_steps: 0, weight_decay: 0.1, clip: 0.5}",
                                             "optimizer={name: sgd, lr: 0.1, warmup_steps: 0}"};
    const double effect[] = {-3, 1, -5, -4, 2, -1, 0};
    for (int k = 0; k < 2; k++) {
        const char *const more[] = {ASCENT,
                                    optimizer[k],
                                    "guard.freeze=1",
                                    "guard.project=1",
                                    "train.freeze=[norm]",
                                    "guard.retain={budget: 100, of: predicted}",
                                    "geffect.fidelity=true", /* shows the step */
                                    NULL};
        struct guarded_run r;
        begin(&r, more);
        struct training *t = r.t;
        for (size_t i = 0; i < 3; i++) {
            const struct seen seen = {.step = i, .risk = 2, .gradient = t->gradient, .effect = effect, .updates = true};
            double change;
            assert_int_equal(training_gradient(t, i), OK);
            change = training_guard(t, &seen)->value - 2;
            assert_int_equal(training_update(t, i, true), OK);
            assert_true(fabs(change) > 1e-4);
            assert_near(change / dot(t, t->gradient, t->step), 1, sizeof(real) == 8 ? 1e-10 : 1e-4);
        }
        end(&r);
    }
}

/* ------------------------------------------------------------------------------------------------------- refused ----- */
static void what_cannot_be_guarded_is_refused(void **state)
{
    static const struct {
        const char *more[4], *words;
    } wrong[] = {
        {{"guard.retain=0.1", "geffect.every=0"}, "guard.retain.budget: acts on measurements, but geffect.every is 0"},
        {{"guard.retain={budget: 0.1, of: predicted}", "geffect.every=0"}, "geffect.every is 0"},
        {{"guard.freeze=1", "geffect.every=0"}, "guard.freeze.layers: acts on measurements"},
        {{"guard.retain={do: stop}"}, "guard.retain.budget is missing"},
        {{"guard.retain={of: predicted}"}, "guard.retain.budget is missing"},
        {{"guard.retain={limits: ratio, budget: 0.9}"}, "a ratio of 0.9"},
        {{"guard.retain={budget: 0.1, do: step_back}"}, "step_back needs checkpoints"},
        {{"guard.retain={budget: 0.1, do: step_back}", "checkpoint.every=3"}, "3 is no multiple of geffect.every, 5"},
        {{"guard.retain=0.1", "guard.risk=retian"}, "geffect.risks has no \"retian\": did you mean retain?"},
        {{"guard.retain=0.1", "geffect.risks={a: {data: forget}}"}, "none is on data.retain"},
        {{"guard.retain=0.1", "geffect.estimator=moving_average"}, "geffect.estimator: guard.retain.budget needs full"},
        {{"guard.freeze=1", "geffect.resolution=tensor"}, "guard.freeze needs layer"},
        {{"guard.freeze=1", "geffect.objectives=[ga]"}, "needs the effect of the objective that is trained, npo"},
        {{"guard.freeze=7"}, "7 may rest, of 7 that have parameters to move"},
        {{"guard.freeze=3", "train.freeze=[layers.0-3]"}, "3 may rest, of 3"},
        {{"guard.project=1", "task=finetune"}, "guard.project: task finetune has nothing to guard"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct demo_run d;
        demo_inputs(&d, wrong[i].more);
        if (guard_check(d.in) != ERR_INPUT || !strstr(fail_message(), wrong[i].words))
            fail_msg("case %zu, %s: %s", i, wrong[i].words, fail_message() ? fail_message() : "is not refused");
        fail_clear();
        demo_free(&d);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_forget_gradient_loses_what_spoils_the_retain_gradient),
        cmocka_unit_test(a_forget_gradient_that_agrees_stays_bit_for_bit),
        cmocka_unit_test(regularisers_are_added_to_what_was_projected),
        cmocka_unit_test(a_share_below_one_makes_a_running_mean),
        cmocka_unit_test(what_the_retain_gradient_reaches_decays),
        cmocka_unit_test(layers_of_the_worst_effect_rest_until_the_next_measurement),
        cmocka_unit_test(what_is_frozen_for_good_is_no_choice),
        cmocka_unit_test(a_tied_embedding_rests_as_one_layer_in_both_its_entries),
        cmocka_unit_test(a_tied_embedding_is_one_of_the_layers_that_may_not_all_rest),
        cmocka_unit_test(norms_and_projection_leave_out_what_rests),
        cmocka_unit_test(a_budget_limits_the_rise_the_value_or_the_ratio),
        cmocka_unit_test(it_steps_back_to_the_last_checkpoint_within),
        cmocka_unit_test(what_is_predicted_is_what_the_update_will_do),
        cmocka_unit_test(what_cannot_be_guarded_is_refused),
    };
    int failed;
    if (parallel_start(&argc, &argv) != OK) return 1;
    failed = cmocka_run_group_tests_name("training: the guard, tensor ranks", tests, NULL, NULL);
    if (parallel_job_size() == 2) {
        layout = "parallel={data: 2, tensor: 1, tokens: 1024, shard: none}";
        failed += cmocka_run_group_tests_name("training: the guard, data ranks", tests, NULL, NULL);
    }
    parallel_end();
    return failed;
}
