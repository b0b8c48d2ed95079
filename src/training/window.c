/* A window of N updates of plain gradient steps, predicted from where it began, theta_0 (Proposition 1 of arXiv 2502.19301 in
 * its cumulative form). Update s moves by -lr_s grad L_s(theta_s), which to first order in the way made so far is
 *      -lr_s (g_s + H_s (theta_s - theta_0))      g_s, H_s: gradient and its derivative of batch s, both at theta_0
 * so that, with d = -sum_s lr_s g_s, which is the way to first order,
 *      theta_N - theta_0 = -sum_s lr_s A_s g_s,   A_s = I - sum of lr_r H_r over the updates r after s
 * No A_s is formed: the product of H_s and the way before it, d_s, adds what all updates before s owe to s. */
#include "unlearn/training_priv.h"
#include <stdlib.h>

size_t window_length(const struct inputs *in)
{
    return in->measures && in->trains ? in->config->geffect.curvature.window : 0;
}

static enum status refuse(const struct inputs *in, const char *what)
{
    const struct place place = config_place(in->config, "geffect.curvature.window");
    return fail(ERR_INPUT, "%s: geffect.curvature.window: %s", place_text(&place), what);
}

/* Every measured row is one at which a window may begin and end, so that the change of the risks is in the file. */
static enum status check_length(const struct inputs *in)
{
    const size_t length = window_length(in), every = in->config->geffect.every;
    struct timetable s = {0};
    struct text what = {0};
    enum status st;
    TRY(timetable_new(in->config, in->train->n_row, &s));
    if (length > s.updates)
        TRY(text_print(&what, "%zu updates are more than the %zu of the run: give fewer", length, s.updates));
    else if (length % every && length != s.updates)
        TRY(text_print(&what, "%zu is no multiple of geffect.every, %zu: both ends of a window are measured", length,
                       every));
    if (what.n) st = refuse(in, what.data);
done:
    text_free(&what);
    timetable_free(&s);
    return st;
}

enum status window_check(const struct inputs *in)
{
    const struct config *c = in->config;
    enum status st = OK;
    if (!window_length(in)) goto done;
    for (size_t k = 0; k < in->n_regularizer; k++) {
        if (dual_of(in, k)) st = refuse(in, "a dual weight moves within a window: give the regularizer a fixed one");
        TRY(st);
    }
    if (c->optimizer.name != OPTIMIZER_SGD)
        st = refuse(in, "is the form of plain gradient steps: give optimizer.name: sgd, or geffect.curvature: true");
    if (st == OK && c->optimizer.weight_decay > 0) st = refuse(in, "does not know of optimizer.weight_decay: leave it 0");
    if (st == OK && (c->guard.layers || c->guard.project > 0))
        st = refuse(in, "does not know of updates that a guard has changed: leave guard.freeze and guard.project out");
    TRY(st);
    TRY(check_length(in));
done:
    return st;
}

enum status window_new(struct subject *s, struct update_window **out)
{
    const struct layout *l = s->layout;
    struct update_window *w = *out = NULL;
    enum status st = OK;
    TRY_NEW(w, 1);
    w->length = window_length(s->in);
    TRY(state_new("start of the window", l, &w->start));
    TRY(state_new("way of the window", l, &w->first));
    TRY(state_new("corrected way of the window", l, &w->corrected));
    TRY(state_new("gradient at the start of the window", l, &w->gradient));
    TRY(state_new("curvature at the start of the window", l, &w->product));
    *out = w, w = NULL;
done:
    window_free(w);
    return st;
}

void window_free(struct update_window *w)
{
    if (!w) return;
    state_free(w->start), state_free(w->first), state_free(w->corrected), state_free(w->gradient), state_free(w->product);
    free(w);
}

bool window_ends(const struct training *t)
{
    const struct update_window *w = t->window;
    return w && w->begun && w->begun - 1 + w->length == t->optim->done;
}

/* Adds a part of the update's loss to the gradient and its derivative along the way, at the engine's weights. */
static enum status add_part(struct training *t, const struct objective *o, const struct rows *rows, double factor)
{
    struct subject *s = t->subject;
    struct update_window *w = t->window;
    enum status st;
    for (size_t i = 0; i < rows->n; i++) t->factor[i] = factor;
    part_weights(t, o, rows, t->factor, t->weight);
    TRY(engine_gradient(&s->engine, o, rows, t->weight, true, w->gradient, t->loss));
    TRY(engine_hvp(&s->engine, o, rows, t->weight, w->first, w->product));
    subject_count(s, rows, 6 + HVP_PRODUCTS + 2 * plan_reference(s->plan, o));
done:
    return st;
}

static enum status all_parts(struct training *t, size_t i)
{
    const struct inputs *in = t->subject->in;
    const struct rows rows =
        subject_rows(t->subject, inputs_of(in, &in->objective), t->subject->timetable->batch, t->batch_row);
    enum status st;
    TRY(add_part(t, &in->objective, &rows, in->config->objective.weight));
    for (size_t k = 0; k < in->n_regularizer; k++) {
        const struct regularizer *reg = &in->regularizer[k];
        timetable_retain(in->config, i, in->held_out, in->retain->n_row, reg->batch, t->retain_row);
        const struct rows retain = subject_rows(t->subject, in->retain, reg->batch, t->retain_row);
        TRY(add_part(t, &reg->objective, &retain, reg->weight));
    }
    TRY(state_reduce(t->subject->grid, t->window->gradient));
    TRY(state_reduce(t->subject->grid, t->window->product));
done:
    return st;
}

/* x = -rate x; 0 for what is frozen */
static void step(const struct training *t, double rate, struct state *x)
{
    const struct layout *l = t->subject->layout;
    const bool *frozen = t->subject->in->frozen;
    for (size_t i = 0; i < l->n_param; i++) {
        size_t first, count;
        param_part(l, &l->param[i], false, &first, &count);
        math_scale(count, frozen && frozen[i] ? 0 : (real)-rate, state_own(x, l->param[i].layer).full + first);
    }
    state_gather(x); /* the ways that it is added to are directions, and in checkpoints */
}

static void begin(struct training *t, size_t i)
{
    struct update_window *w = t->window;
    w->begun = i + w->length <= t->subject->timetable->updates ? i + 1 : 0;
    state_copy(t->subject->weights, w->start);
    state_fill(w->first, 0);
    state_fill(w->corrected, 0);
}

/* A restart within a window that would end behind the last update when its first ones were made, but ends before that now: what
 * it would have summed of them is not there. */
static void warn_lost(const struct training *t, size_t i)
{
    const struct update_window *w = t->window;
    const size_t end = i - i % w->length + w->length;
    if (!t->made && end <= t->subject->timetable->updates)
        log_warn(
            "geffect.curvature.window: the row of step %zu stays empty: the window that ends there was not begun at step "
            "%zu, since the run was to end before it",
            end, end - w->length);
}

enum status training_window(struct training *t, size_t i)
{
    struct subject *s = t->subject;
    struct update_window *w = t->window;
    const double rate = t->update.rate * optim_scale(&t->optim->set, t->update.norm);
    enum status st = OK;
    if (!w) goto done;
    if (i % w->length == 0) begin(t, i);
    if (!w->begun) {
        warn_lost(t, i);
        goto done;
    }
    state_fill(w->gradient, 0);
    state_fill(w->product, 0);
    if (i + 1 == w->begun) {
        state_copy(t->gradient, w->gradient);
    } else {
        s->engine.weights = w->start;
        st = all_parts(t, i);
        s->engine.weights = s->weights;
        TRY(st);
    }
    step(t, rate, w->gradient); /* the product is along the way before this update */
    step(t, rate, w->product);
    state_add(w->first, 1, w->gradient);
    state_add(w->corrected, 1, w->gradient);
    state_add(w->corrected, 1, w->product);
done:
    return st;
}
