/* --check: the layouts that a number of processes can have, each with its memory and its predicted times, and one of them. */
#include "unlearn/task_priv.h"

enum { MOST_LAYOUTS = 64, MOST_PROCESSES = 1 << 16 };

struct choice {
    struct plan plan;
    double update, measurement, all; /* seconds; all: of the whole run */
    bool fits;
};

static double megabytes(size_t bytes) { return (double)bytes / 1e6; }

static enum status try_layout(const struct inputs *in, struct timetable *s, const struct machine *m, const struct plan *p,
                              int tensor, struct choice *c)
{
    *c = (struct choice){0};
    c->plan.tensor = tensor, c->plan.data = m->processes / tensor;
    c->plan.threads = p->threads, c->plan.node_processes = m->node_processes;
    return plan_sizes(in, s, m, p->n_part, p->part, &c->plan);
}

static bool possible(const struct inputs *in, const struct timetable *s, int processes, int tensor)
{
    if (processes % tensor || (size_t)tensor > in->shape->heads) return false;
    return !in->trains || (size_t)(processes / tensor) <= s->batch;
}

static bool fits(const struct machine *m, const struct plan *p)
{
    return p->bytes <= m->room && p->bytes * (size_t)m->node_processes <= m->node;
}

static void predict(const struct machine *m, const struct rates *r, const struct times *n, struct choice *c)
{
    c->update = plan_seconds(&c->plan, OF_UPDATE, r);
    c->measurement = plan_seconds(&c->plan, OF_MEASUREMENT, r);
    c->all = (double)n->updates * c->update + (double)n->measurements * c->measurement;
    c->fits = fits(m, &c->plan);
}

static enum status print_choice(const struct choice *c, struct text *out)
{
    return text_print(out, "           %4d x %-4d %16.1f %12.1f %12.3g %15.3g  %s\n", c->plan.data, c->plan.tensor,
                      megabytes(c->plan.bytes), megabytes(c->plan.bytes * (size_t)c->plan.node_processes), c->update,
                      c->measurement, c->fits ? "" : "does not fit");
}

/* The least number of processes, in doublings, with a layout that fits. */
static enum status print_more(const struct inputs *in, struct timetable *s, const struct machine *m, const struct plan *p,
                              struct text *out)
{
    struct machine more = *m;
    enum status st = OK;
    while ((more.processes *= 2) <= MOST_PROCESSES)
        for (int tensor = 1; tensor <= more.processes; tensor++) {
            struct choice c;
            if (!possible(in, s, more.processes, tensor)) continue;
            TRY(try_layout(in, s, &more, p, tensor, &c));
            if (!fits(&more, &c.plan)) continue;
            TRY(text_print(
                out,
                "advice     none fits: take %d processes, %d on each node: parallel: {data: %d, tensor: %d}, %.1f MB "
                "a process\n",
                more.processes, more.node_processes, c.plan.data, tensor, megabytes(c.plan.bytes)));
            goto done;
        }
    TRY(text_print(out, "advice     none fits, nor would more processes of this number on a node: see docs/LAYOUT.md\n"));
done:
    return st;
}

static enum status print_advice(const struct choice *best, const struct machine *m, const struct plan *p,
                                struct text *out)
{
    const bool same = best->plan.data == p->data && best->plan.tensor == p->tensor;
    return text_print(
        out, "advice     parallel: {data: %d, tensor: %d}: the shortest run of those that fit into a node's %.0f MB%s\n",
        best->plan.data, best->plan.tensor, megabytes(m->node), same ? ", and what auto takes" : "");
}

enum status layouts_print(const struct inputs *in, struct timetable *s, const struct machine *m, const struct plan *p,
                          const struct rates *r, const struct times *times, struct text *out)
{
    struct choice best = {0}, c;
    bool any = false;
    enum status st;
    TRY(text_print(out, "layouts    data x tensor     MB a process    MB a node  s an update s a measurement\n"));
    for (int tensor = 1; tensor <= m->processes; tensor++) {
        if (!possible(in, s, m->processes, tensor)) continue;
        TRY(try_layout(in, s, m, p, tensor, &c));
        predict(m, r, times, &c);
        TRY(print_choice(&c, out));
        if (c.fits && (!any || c.all < best.all)) best = c, any = true;
    }
    TRY(any ? print_advice(&best, m, p, out) : print_more(in, s, m, p, out));
done:
    return st;
}
