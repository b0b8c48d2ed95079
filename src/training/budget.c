/* guard.retain: a budget for the guarded risk. At a measured step the risk, or the risk with the change to first order by
 * the update that comes next,
 *      R(theta_t)     or     R(theta_t) + <grad R(theta_t), theta_t+1 - theta_t>     as the optimiser will make it,
 * is compared with a limit; beyond it the run ends, with the state of now or that of the last checkpoint within. */
#include "unlearn/training_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool wanted(const struct config *c) { return !isnan(c->guard.budget); }

static enum status check(const struct inputs *in)
{
    const struct config *c = in->config;
    struct place place = config_place(c, "guard.retain.budget");
    if (c->guard.limits == LIMITS_RATIO && c->guard.budget < 1)
        return fail(ERR_INPUT,
                    "%s: guard.retain.budget: a ratio of %g to the risk at the start is passed before the first update; "
                    "give 1 or more",
                    place_text(&place), c->guard.budget);
    if (c->guard.act != ACT_STEP_BACK) return OK;
    place = config_place(c, c->checkpoint.every ? "checkpoint.every" : "guard.retain.do");
    if (!c->checkpoint.every)
        return fail(ERR_INPUT, "%s: guard.retain.do: step_back needs checkpoints: give checkpoint.every",
                    place_text(&place));
    if (c->checkpoint.every % c->geffect.every)
        return fail(
            ERR_INPUT,
            "%s: checkpoint.every: %zu is no multiple of geffect.every, %zu: guard.retain would not know the risk "
            "of a checkpoint",
            place_text(&place), c->checkpoint.every, c->geffect.every);
    return OK;
}

static bool predicts(const struct inputs *in) { return in->config->guard.of == OF_PREDICTED; }

bool guard_predicts(const struct inputs *in) { return wanted(in->config) && predicts(in); }

static void demand(const struct inputs *in, const struct timetable *s, const struct layout *l, struct demand *d)
{
    if (predicts(in)) d->bytes += l->n_param * sizeof(double);
}

static enum status say(const struct inputs *in, struct text *out)
{
    static const char *const limits[] = {"nats above the start", "nats", "times the start"};
    const struct config *c = in->config;
    return text_print(out, "%s where %s%s is beyond %g %s", c->guard.act == ACT_STEP_BACK ? "steps back" : "stops",
                      in->risk[guard_risk(in)].name, predicts(in) ? ", as predicted," : "", c->guard.budget,
                      limits[c->guard.limits]);
}

static void set(uint64_t *bits, double value) { memcpy(bits, &value, sizeof value); }

static double get(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static enum status make(struct training *t)
{
    struct guard *g = t->guard;
    const struct layout *l = t->subject->layout;
    enum status st = OK;
    set(&g->start, NAN);
    if (!predicts(t->subject->in)) return OK;
    TRY_NEW(g->predicted, l->n_param);
done:
    return st;
}

/* ---------------------------------------------------------------------------------------------------- decision ----- */
static double limit(const struct config *c, double start)
{
    if (c->guard.limits == LIMITS_VALUE) return c->guard.budget;
    return c->guard.limits == LIMITS_RATIO ? start * c->guard.budget : start + c->guard.budget;
}

/* The change of the risk by the update that comes next; after the last one there is none. */
static double change(struct training *t, const struct seen *seen)
{
    struct guard *g = t->guard;
    double sum = 0;
    if (!predicts(t->subject->in) || !seen->updates) return 0;
    guard_rectify(t);
    optim_predict(t->optim, t->gradient, t->update.norm, t->subject->weights, seen->gradient, g->predicted);
    for (size_t i = 0; i < t->subject->layout->n_param; i++) sum += g->predicted[i];
    comm_sum_double(layout_sums(t->subject->layout, t->subject->grid), &sum, 1);
    return sum;
}

static void report(const struct training *t, const struct seen *seen)
{
    const struct guard *g = t->guard;
    const struct inputs *in = t->subject->in;
    struct text what = {0};
    if (t->subject->grid->rank || g->said.verdict == GO_ON) return;
    if (g->said.verdict == STOP_RUN)
        text_print(&what, "the run stops here");
    else if (g->within)
        text_print(&what, "the run steps back to checkpoint-%zu", g->said.model);
    else
        text_print(&what, "no checkpoint was within it: the run steps back to the model that it began with");
    log_info("guard: step %zu: the risk %s%s is %.6g nats, beyond its limit of %.6g (at the start %.6g): %s", seen->step,
             in->risk[guard_risk(in)].name, predicts(in) && seen->updates ? ", as predicted after the next update," : "",
             g->said.value, g->said.limit, get(g->start), what.data ? what.data : "");
    text_free(&what);
}

/* A checkpoint that a stop has made is none to step back to: the run that was never stopped has not got it. */
static bool regular(const struct config *c, size_t step)
{
    return c->checkpoint.every && step % c->checkpoint.every == 0;
}

static void measured(struct training *t, const struct seen *seen)
{
    const struct config *c = t->subject->in->config;
    struct guard *g = t->guard;
    struct guarded *said = &g->said;
    if (isnan(get(g->start))) set(&g->start, seen->risk);
    said->limit = limit(c, get(g->start));
    said->value = seen->risk + change(t, seen);
    if (seen->risk <= said->limit && g->checkpoint == seen->step && regular(c, seen->step)) g->within = seen->step + 1;
    if (said->value > said->limit) said->verdict = c->guard.act == ACT_STEP_BACK ? STEP_BACK : STOP_RUN;
    comm_broadcast(t->subject->grid->world, &said->verdict, sizeof said->verdict, 0);
    comm_broadcast(t->subject->grid->world, &g->within, sizeof g->within, 0);
    said->model = said->verdict != STEP_BACK ? seen->step : g->within ? (size_t)g->within - 1 : 0;
    report(t, seen);
}

static size_t saved(struct guard *g, struct saved *saved)
{
    saved[0] = (struct saved){"guarded risk at the start", NULL, &g->start};
    saved[1] = (struct saved){"1 + last checkpoint within the budget", NULL, &g->within};
    return 2;
}

const struct action budget_action = {.key = "guard.retain.budget",
                                     .wanted = wanted,
                                     .check = check,
                                     .demand = demand,
                                     .say = say,
                                     .make = make,
                                     .measured = measured,
                                     .saved = saved};
