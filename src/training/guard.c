/* The guard: a table of actions that look on while an update is made, and change or end what follows. docs/GUARD.md says
 * what each does; here is when. An update forms the objective's gradient, then those of the regularisers; a measurement may
 * come next; then the gradient is rectified, and the weights move. */
#include "unlearn/training_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* In the order in which they act on a measurement: which layers rest decides what is projected, and both what is predicted. */
static const struct action *const table[] = {&freeze_action, &project_action, &budget_action};
enum { N_ACTION = sizeof table / sizeof *table };

static bool wanted(const struct inputs *in, size_t i)
{
    return in->config->task == TASK_UNLEARN && table[i]->wanted(in->config);
}

/* ------------------------------------------------------------------------------------------------------ inputs ----- */
bool guard_measures(const struct inputs *in)
{
    bool any = false;
    for (size_t i = 0; i < N_ACTION; i++) any = any || (table[i]->measured && wanted(in, i));
    return any;
}

size_t guard_risk(const struct inputs *in)
{
    const char *name = in->config->guard.risk;
    for (size_t k = 0; k < in->n_risk; k++)
        if (name ? !strcmp(in->risk[k].name, name) : in->risk[k].data == in->retain) return k;
    return in->n_risk;
}

static bool same(const struct objective *a, const struct objective *b)
{
    bool same = a->row == b->row && a->direction == b->direction;
    for (size_t i = 0; i < MAX_PARAMETER; i++) same = same && a->parameter[i] == b->parameter[i];
    return same;
}

size_t guard_objective(const struct inputs *in)
{
    for (size_t j = 0; j < in->n_measured; j++)
        if (same(&in->measured[j], &in->objective)) return j;
    return in->n_measured;
}

static enum status no_risk(const struct inputs *in)
{
    const struct config *c = in->config;
    const struct place place = config_place(c, c->guard.risk ? "guard.risk" : "geffect.risks");
    struct text names = {0}, near = {0};
    enum status st = OK;
    if (!c->guard.risk)
        return fail(ERR_INPUT, "%s: geffect.risks: none is on data.retain: name the one to guard in guard.risk",
                    place_text(&place));
    for (size_t k = 0; k < in->n_risk; k++) TRY(text_print(&names, "%s%s", k ? "|" : "", in->risk[k].name));
    TRY(config_nearest(names.data, c->guard.risk, &near));
    st = fail(ERR_INPUT, "%s: guard.risk: geffect.risks has no \"%.60s\"%s%s", place_text(&place), c->guard.risk,
              near.n ? ": " : "; give one of its names", near.n ? near.data : "");
done:
    text_free(&names), text_free(&near);
    return st;
}

/* What all that acts on measurements needs. */
static enum status check_measured(const struct inputs *in, const char *key)
{
    const struct config *c = in->config;
    struct place place = config_place(c, key);
    if (!in->measures)
        return fail(ERR_INPUT, "%s: %s: acts on measurements, but geffect.every is 0: give it 1 or more",
                    place_text(&place), key);
    if (c->geffect.estimator != ESTIMATOR_FULL) {
        place = config_place(c, "geffect.estimator");
        return fail(ERR_INPUT, "%s: geffect.estimator: %s needs full", place_text(&place), key);
    }
    return guard_risk(in) < in->n_risk ? OK : no_risk(in);
}

/* Keys that say how a budget is kept, where there is none. */
static enum status check_unused(const struct config *c)
{
    const bool unused = c->guard.act != ACT_AUTO || c->guard.of != OF_MEASURED || c->guard.limits != LIMITS_RISE;
    const struct place place = config_place(c, "guard.retain");
    if (!unused || !isnan(c->guard.budget)) return OK;
    return fail(ERR_INPUT, "%s: guard.retain.budget is missing: how far the risk may go", place_text(&place));
}

enum status guard_check(const struct inputs *in)
{
    const struct config *c = in->config;
    enum status st = OK;
    if (c->task == TASK_UNLEARN || c->task == TASK_FINETUNE) TRY(check_unused(c));
    for (size_t i = 0; i < N_ACTION; i++) {
        if (c->task == TASK_FINETUNE && table[i]->wanted(c)) {
            const struct place place = config_place(c, table[i]->key);
            st = fail(ERR_INPUT, "%s: %s: task finetune has nothing to guard; leave it out", place_text(&place),
                      table[i]->key);
            goto done;
        }
        if (!wanted(in, i)) continue;
        if (table[i]->measured) TRY(check_measured(in, table[i]->key));
        if (table[i]->check) TRY(table[i]->check(in));
    }
done:
    return st;
}

void guard_demand(const struct inputs *in, const struct timetable *s, const struct layout *l, struct demand *d)
{
    for (size_t i = 0; i < N_ACTION; i++)
        if (wanted(in, i)) {
            d->bytes += l->n_param * sizeof(bool);
            if (table[i]->demand) table[i]->demand(in, s, l, d);
        }
}

enum status guard_print(const struct inputs *in, const struct plan *p, const struct demand *d, struct text *out)
{
    const char *between = "guard      ";
    enum status st = OK;
    for (size_t i = 0; i < N_ACTION; i++) {
        if (!wanted(in, i)) continue;
        TRY(text_print(out, "%s", between));
        TRY(table[i]->say(in, out));
        between = "; ";
    }
    if (*between == ';') TRY(text_print(out, "\n"));
done:
    return st;
}

/* --------------------------------------------------------------------------------------------------------- new ----- */
enum status guard_new(struct training *t)
{
    const struct inputs *in = t->subject->in;
    const struct layout *l = t->subject->layout;
    bool any = false;
    enum status st = OK;
    for (size_t i = 0; i < N_ACTION; i++) any = any || wanted(in, i);
    if (!any) return OK;
    TRY_NEW(t->guard, 1);
    t->guard->said = (struct guarded){.value = NAN, .limit = NAN};
    t->guard->checkpoint = SIZE_MAX;
    TRY_NEW(t->guard->still, l->n_param);
    TRY_NEW(t->guard->rests, l->n_layer);
    t->guard->said.rests = t->guard->rests;
    t->optim->set.frozen = t->guard->still;
    for (size_t i = 0; i < N_ACTION; i++)
        if (wanted(in, i) && table[i]->make) TRY(table[i]->make(t));
    guard_begin(t);
done:
    return st;
}

void guard_free(struct guard *g)
{
    if (!g) return;
    state_free(g->mean);
    free(g->still), free(g->rests), free(g->square), free(g->dot), free(g->predicted);
    free(g);
}

size_t guard_saved(const struct training *t, struct saved *saved)
{
    size_t n = 0;
    for (size_t i = 0; t->guard && i < N_ACTION; i++)
        if (wanted(t->subject->in, i) && table[i]->saved) n += table[i]->saved(t->guard, saved + n);
    return n;
}

/* ----------------------------------------------------------------------------------------------------- moments ----- */
const bool *guard_still(const struct training *t) { return t->optim->set.frozen; }

double guard_moving(const struct training *t, const double *x)
{
    const bool *still = guard_still(t);
    double sum = 0;
    for (size_t i = 0; i < t->subject->layout->n_param; i++)
        if (!still || !still[i]) sum += x[i];
    return sum;
}

void guard_dot(const struct training *t, const struct state *a, const struct state *b, double *dot)
{
    state_dot(a, b, dot);
    comm_sum_double(layout_sums(t->subject->layout, t->subject->grid), dot, t->subject->layout->n_param);
}

/* Sets what is still from the bits, which a restart has read: of a tied embedding older programs wrote one use alone. */
void guard_begin(struct training *t)
{
    const struct layout *l = t->subject->layout;
    const bool *frozen = t->subject->in->frozen;
    struct guard *g = t->guard;
    t->update.cosine = NAN;
    if (!g) return;
    g->rectified = false;
    for (size_t i = 0; i < l->n_param; i++) g->still[i] = frozen && frozen[i];
    for (size_t s = 0; s < slot_count(l); s++) {
        const size_t layer = slot_layer(l, s);
        if (g->resting[layer / 64] >> layer % 64 & 1) g->still[slot_param(l, s) - l->param] = true;
    }
    for (size_t k = 0; k < l->n_layer; k++) g->rests[k] = g->resting[k / 64] >> k % 64 & 1 ? 1 : 0;
}

enum status guard_objective_formed(struct training *t, size_t i)
{
    enum status st = OK;
    for (size_t a = 0; t->guard && a < N_ACTION; a++)
        if (wanted(t->subject->in, a) && table[a]->objective) TRY(table[a]->objective(t, i));
done:
    return st;
}

void guard_regularizer_formed(struct training *t, size_t k)
{
    for (size_t a = 0; t->guard && a < N_ACTION; a++)
        if (wanted(t->subject->in, a) && table[a]->regularizer) table[a]->regularizer(t, k);
}

void guard_rectify(struct training *t)
{
    if (!t->guard || t->guard->rectified) return;
    for (size_t a = 0; a < N_ACTION; a++)
        if (wanted(t->subject->in, a) && table[a]->rectify) table[a]->rectify(t);
    t->update.norm = optim_norm(t->subject->grid, guard_still(t), t->gradient);
    t->guard->rectified = true;
}

void guard_updated(struct training *t)
{
    for (size_t a = 0; t->guard && a < N_ACTION; a++)
        if (wanted(t->subject->in, a) && table[a]->updated) table[a]->updated(t);
}

/* ------------------------------------------------------------------------------------------------- measurement ----- */
const struct guarded *training_guard(struct training *t, const struct seen *seen)
{
    struct guard *g = t->guard;
    g->said = (struct guarded){.value = NAN, .limit = NAN, .rests = g->rests};
    for (size_t a = 0; a < N_ACTION; a++)
        if (wanted(t->subject->in, a) && table[a]->measured) table[a]->measured(t, seen);
    return &g->said;
}

struct guarded training_guarded(const struct training *t)
{
    return t->guard ? t->guard->said : (struct guarded){.verdict = GO_ON, .value = NAN, .limit = NAN};
}

void training_checkpointed(struct training *t, size_t step)
{
    if (t->guard) t->guard->checkpoint = step;
}

size_t training_pinned(const struct training *t)
{
    return t->guard && t->guard->within ? (size_t)t->guard->within - 1 : SIZE_MAX;
}
