/* guard.project: where the forget gradient f and the retain gradient r disagree, the former loses what spoils the latter,
 *      f <- f - <f, r>/|r|^2 r     if <f, r> < 0     over the parameters that move     (GRU, arXiv 2503.09117)
 * r is the gradient of the mean nll of a batch of retain rows, or with a share below 1 of the newest batch the running mean
 *      r_t = share g_t + (1 - share) r_t-1,  r_-1 = 0.
 * The regularisers' gradients are added as they are. */
#include "unlearn/training_priv.h"
#include <math.h>
#include <string.h>

static bool wanted(const struct config *c) { return c->guard.project > 0; }

/* The first regulariser has r's gradient already if it is gd, times a factor that a projection does not see. A running mean
 * does see one that varies, which only a dual weight does. */
static bool is_regularizer(const struct inputs *in)
{
    const struct config_objective *r = in->n_regularizer ? &in->config->regularizer[0] : NULL;
    return r && !strcmp(objective_name(&in->regularizer[0].objective), "gd") && r->weight > 0 && r->dual.step_size == 0;
}

static void demand(const struct inputs *in, const struct timetable *s, const struct layout *l, struct demand *d)
{
    const bool mean = in->config->guard.project < 1;
    demand_held(d, (struct held){"retain", 1, AT_GRADIENT, AT_UPDATE,
                                 .half = in->config->optimizer.storage == PRECISION_BFLOAT16, .fixed = true});
    if (mean) demand_states(d, "its mean", 1, AT_EFFECTS, N_MOMENT);
    if (is_regularizer(in)) demand_states(d, "regulariser", 1, AT_GRADIENT, AT_GRADIENT);
    d->bytes += 3 * l->n_param * sizeof(double);
    if (!is_regularizer(in) && in->retain)
        d->flops_update += 6 * plan_products(l) * (double)s->batch * plan_tokens(in->retain, in->retain->n_row, NULL) /
                           (double)in->retain->n_row;
}

static enum status say(const struct inputs *in, struct text *out)
{
    const double share = in->config->guard.project;
    return text_print(out, "forget off retain gradient, of %s%s", is_regularizer(in) ? "gd's rows" : "rows of its own",
                      share < 1 ? ", their running mean" : "");
}

static enum status make(struct training *t)
{
    struct guard *g = t->guard;
    const struct layout *l = t->subject->layout;
    enum status st = OK;
    TRY(subject_state(t->subject, "retain", 0, &g->retain));
    if (t->subject->in->config->guard.project < 1) TRY(state_new("mean retain gradient", l, &g->mean));
    TRY_NEW(g->dot, 3 * l->n_param);
done:
    return st;
}

/* t->guard->retain is that of the newest batch, t->gradient the forget gradient by itself. */
static void compare(struct training *t)
{
    struct guard *g = t->guard;
    const double share = t->subject->in->config->guard.project;
    const size_t n = t->subject->layout->n_param;
    if (g->mean) {
        state_scale(g->retain, (real)share);
        state_add(g->retain, (real)(1 - share), g->mean);
    }
    guard_dot(t, t->gradient, t->gradient, g->dot);
    guard_dot(t, t->gradient, g->retain, g->dot + n);
    guard_dot(t, g->retain, g->retain, g->dot + 2 * n);
}

/* The gradient of as many retain rows as the update has forget rows, drawn as a regulariser's are. */
static enum status objective(struct training *t, size_t i)
{
    struct subject *s = t->subject;
    const struct inputs *in = s->in;
    struct objective nll;
    struct rows rows;
    enum status st = OK;
    if (is_regularizer(in)) return OK;
    objective_find("nll", &nll);
    timetable_retain(in->config, i, in->held_out, in->retain->n_row, s->timetable->batch, t->retain_row);
    rows = subject_rows(s, in->retain, s->timetable->batch, t->retain_row);
    part_weights(t, &nll, &rows, NULL, t->weight);
    TRY(subject_gradient(s, &nll, &rows, t->weight, false, t->guard->retain, t->loss));
    t->update.tokens += (size_t)rows_tokens(&rows);
    compare(t);
done:
    return st;
}

static void regularizer(struct training *t, size_t k)
{
    if (k || !is_regularizer(t->subject->in)) return;
    state_copy(t->part, t->guard->retain);
    compare(t);
}

static void rectify(struct training *t)
{
    const struct guard *g = t->guard;
    const size_t n = t->subject->layout->n_param;
    const double forget = guard_moving(t, g->dot), both = guard_moving(t, g->dot + n);
    const double retain = guard_moving(t, g->dot + 2 * n);
    t->update.cosine = forget > 0 && retain > 0 ? both / sqrt(forget) / sqrt(retain) : NAN;
    if (both < 0 && retain > 0) state_add(t->gradient, (real)(-both / retain), g->retain);
}

/* Not before: an update that was begun and not made is formed again after a restart. */
static void updated(struct training *t)
{
    struct guard *g = t->guard;
    if (!g->mean) return;
    state_copy(g->retain, g->mean);
    state_gather(g->mean); /* a checkpoint has all of it */
}

static size_t saved(struct guard *g, struct saved *saved)
{
    if (g->mean) *saved = (struct saved){"mean retain gradient", g->mean, NULL};
    return g->mean ? 1 : 0;
}

const struct action project_action = {.key = "guard.project",
                                      .wanted = wanted,
                                      .demand = demand,
                                      .say = say,
                                      .make = make,
                                      .objective = objective,
                                      .regularizer = regularizer,
                                      .rectify = rectify,
                                      .updated = updated,
                                      .saved = saved};
