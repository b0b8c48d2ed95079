/* Which states a process has, when each is alive, and which of them share memory. Parts of a program say what they need, and from
 * which moment of an update to which (demand_states()); the plan counts the most that are alive at a time, and that many memories
 * are enough: states are given the first free one in the order in which their lives begin.
 *
 *      weights, moments, reference      always
 *      risks          AT_EFFECTS        gradients of the risks; longer where a probe compares them with the update
 *      objectives     AT_PROBES         gradients of the objectives, for standard errors
 *      gradient       AT_GRADIENT ...   of the update, until the weights have moved; longer where a probe shows it
 *      regulariser    AT_GRADIENT       the part of it that a regulariser has, where something reads that by itself
 *      step           AT_UPDATE ...     how the weights moved, for probes
 * The table of a run is in its plan, which print.c writes.                                                              */
#include "unlearn/plan_priv.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static struct held *find(const struct demand *d, const char *name)
{
    for (size_t i = 0; i < d->n_held; i++)
        if (!strcmp(d->held[i].name, name)) return (struct held *)&d->held[i];
    return NULL;
}

void demand_held(struct demand *d, struct held h)
{
    struct held *had = find(d, h.name);
    if (!had) {
        assert(d->n_held < MOST_HELD);
        d->held[d->n_held++] = h;
        return;
    }
    if (had->states < h.states) had->states = h.states;
    if (had->from > h.from) had->from = h.from;
    if (had->to < h.to) had->to = h.to;
    had->half |= h.half;
    had->fixed |= h.fixed;
}

void demand_states(struct demand *d, const char *name, size_t n, enum moment from, enum moment to)
{
    if (n) demand_held(d, (struct held){name, n, to == N_MOMENT ? (enum moment)0 : from, to, .half = false});
}

void demand_moments(struct demand *d, size_t n, bool half)
{
    demand_held(d, (struct held){"moments", n, (enum moment)0, N_MOMENT, .moments = true, .half = half});
    d->moments += n;
}

/* Takes what a part demands to what all do. */
void demand_join(const struct demand *d, struct demand *all)
{
    for (size_t i = 0; i < d->n_held; i++) demand_held(all, d->held[i]);
    all->states = 0;
    for (int t = 0; t < N_MOMENT; t++) {
        size_t alive = 0;
        for (size_t i = 0; i < all->n_held; i++)
            if ((int)all->held[i].from <= t && t <= (int)all->held[i].to && !all->held[i].moments)
                alive += all->held[i].states;
        if (all->states < alive) all->states = alive;
    }
}

const struct held *plan_held(const struct plan *p, const char *name) { return find(&p->all, name); }
size_t plan_at_once(const struct plan *p, size_t n) { return p->in_turn && n > 1 ? 1 : n; }

/* The first memory that no state of the list, whose lives begin no later, has at the moment `from`. */
static size_t first_free(const struct home *list, size_t n, enum moment from)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].at == at && list[i].to >= from) at++, i = (size_t)-1;
    return at;
}

bool plan_shares_all(const struct plan *p) { return p->shard == SHARD_FULL && p->data > 1; }

bool plan_reference_half(const struct inputs *in) { return !in->trains || in->half_reference; }

bool plan_half(const struct inputs *in, const struct held *h)
{
    return h && h->half && in->config->precision == PRECISION_BFLOAT16;
}

/* A memory that a state in float32 has at some moment is of float32, and so are the others that have it, unless they are fixed. */
static void widen(size_t n, struct home *list)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n && !list[i].half; k++)
            if (list[k].at == list[i].at) list[k].wide = true;
    for (size_t k = 0; k < n; k++) list[k].half = list[k].half && (list[k].fixed || !list[k].wide);
}

enum status plan_halves(const struct inputs *in, struct plan *p)
{
    const struct demand *d = &p->all;
    struct home *list = NULL;
    size_t n, last = 0;
    enum status st;
    TRY(plan_homes(in, p, &n, &list, NULL));
    p->halves = p->halves_of_moments = 0;
    for (size_t i = 0; i < d->n_held; i++)
        if (d->held[i].to == N_MOMENT && plan_half(in, &d->held[i]))
            *(d->held[i].moments ? &p->halves_of_moments : &p->halves) += d->held[i].states;
    for (size_t i = 0; i < n; i++)
        if (!list[i].wide && list[i].at >= last) p->halves++, last = list[i].at + 1;
done:
    free(list);
    return st;
}

enum status plan_homes(const struct inputs *in, const struct plan *p, size_t *n, struct home **out, size_t *memories)
{
    const struct demand *d = &p->all;
    struct home *list = NULL;
    size_t most = 0, all = 0, kept = 0;
    enum status st = OK;
    *n = 0, *out = NULL;
    for (size_t i = 0; i < d->n_held; i++) {
        const bool lasts = d->held[i].to == N_MOMENT;
        if (lasts && !d->held[i].moments) kept += d->held[i].states;
        if (!lasts) all += d->held[i].states;
    }
    TRY_NEW(list, all);
    for (int from = 0; from < N_MOMENT; from++)
        for (size_t i = 0; i < d->n_held; i++) {
            const struct held *h = &d->held[i];
            for (size_t k = 0; k < h->states && (int)h->from == from && h->to < N_MOMENT; k++) {
                const size_t at = first_free(list, *n, h->from);
                list[(*n)++] = (struct home){h->name, k, h->from, h->to, at, plan_half(in, h), h->fixed, false};
                if (most < at + 1) most = at + 1;
            }
        }
    widen(*n, list);
    assert(most + kept == d->states);
    if (memories) *memories = most;
    *out = list;
done:
    return st;
}
