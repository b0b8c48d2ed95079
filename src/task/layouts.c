/* --check: the layouts that a number of processes can have, each with its memory and its predicted times, and one of them. */
#include "unlearn/task_priv.h"

enum { MOST_PROCESSES = 1 << 16 };

struct choice {
    struct plan plan;
    double update, measurement, all; /* seconds; all: of the whole run */
    bool fits;
};

static double megabytes(size_t bytes) { return (double)bytes / 1e6; }

static void predict(const struct machine *m, const struct rates *r, const struct times *n, struct choice *c)
{
    c->update = plan_seconds(&c->plan, OF_UPDATE, r);
    c->measurement = plan_seconds(&c->plan, OF_MEASUREMENT, r);
    c->all = (double)n->updates * c->update + (double)n->measurements * c->measurement;
    c->fits = plan_fits(m, &c->plan);
}

static const enum shard shards[] = {SHARD_NONE, SHARD_FULL};
enum { N_SHARD = sizeof shards / sizeof *shards };
static const char *shard_text(enum shard shard, const char *full) { return shard == SHARD_FULL ? full : ""; }

static enum status print_choice(const struct choice *c, struct text *out)
{
    return text_print(out, "           %4d x %-4d %-5s %15.1f %12.1f %12.3g %15.3g%s\n", c->plan.data, c->plan.tensor,
                      shard_text(c->plan.shard, "full"), megabytes(c->plan.bytes),
                      megabytes(c->plan.bytes * (size_t)c->plan.node_processes), c->update, c->measurement,
                      c->fits ? "" : "  does not fit");
}

/* "parallel: {data: 2, tensor: 4, shard: full}" */
static enum status print_setting(const struct plan *p, struct text *out)
{
    return text_print(out, "parallel: {data: %d, tensor: %d%s}", p->data, p->tensor,
                      shard_text(p->shard, ", shard: full"));
}

/* The least number of processes, in doublings, with a layout that fits. */
static enum status print_more(const struct inputs *in, struct timetable *s, const struct machine *m, const struct plan *p,
                              struct text *out)
{
    struct machine more = *m;
    struct plan other;
    bool found = false;
    enum status st = OK;
    while (!found && (more.processes *= 2) <= MOST_PROCESSES)
        TRY(plan_first_fitting(in, s, &more, p, SHARD_AUTO, &found, &other));
    if (!found)
        return text_print(
            out, "advice     none fits, nor would more processes of this number on a node: see docs/LAYOUT.md\n");
    TRY(text_print(out, "advice     none fits: take %d processes, %d on each node: ", more.processes,
                   more.node_processes));
    TRY(print_setting(&other, out));
    TRY(text_print(out, ", %.1f MB a process\n", megabytes(other.bytes)));
done:
    return st;
}

static enum status print_advice(const struct choice *best, const struct machine *m, const struct plan *p,
                                struct text *out)
{
    const bool same = best->plan.data == p->data && best->plan.tensor == p->tensor && best->plan.sharing == p->sharing;
    enum status st;
    TRY(text_print(out, "advice     "));
    TRY(print_setting(&best->plan, out));
    TRY(text_print(out, ": the shortest run of those that fit into a node's %.0f MB%s\n", megabytes(m->node),
                   same ? ", and what auto takes" : ""));
done:
    return st;
}

enum status layouts_print(const struct inputs *in, struct timetable *s, const struct machine *m, const struct plan *p,
                          const struct rates *r, const struct times *times, struct text *out)
{
    struct choice best = {0}, c;
    bool any = false;
    enum status st;
    TRY(text_print(out, "layouts    data x tensor shard   MB a process    MB a node  s an update s a measurement\n"));
    for (int tensor = 1; tensor <= m->processes; tensor++)
        for (size_t k = 0; k < N_SHARD; k++) {
            if (!plan_possible(in, s, m->processes, tensor, shards[k])) continue;
            c = (struct choice){0};
            TRY(plan_on(in, s, m, p, tensor, shards[k], &c.plan));
            predict(m, r, times, &c);
            TRY(print_choice(&c, out));
            if (c.fits && (!any || c.all < best.all)) best = c, any = true;
        }
    TRY(any ? print_advice(&best, m, p, out) : print_more(in, s, m, p, out));
done:
    return st;
}
