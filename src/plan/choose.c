/* Which layout a run has where the input leaves it open, and whether its data ranks share all states. It follows from the memory of
 * the process that has least, and from no measured rate, so that a run is the same again:
 *      the layout by rule (layout.c); shard: none if that holds the run, whatever else is given up but what is measured
 *      else shard: full, which costs messages of three states in each pass, and sums in another order
 *      else, where the layout is open too, the first other one that fits
 * A run that goes on stays as it was begun, if that fits. */
#include "unlearn/plan_priv.h"

static const enum shard shards[] = {SHARD_NONE, SHARD_FULL};
enum { N_SHARD = sizeof shards / sizeof *shards };

enum status plan_on(const struct inputs *in, struct timetable *s, const struct machine *m, const struct plan *like,
                    int tensor, enum shard shard, struct plan *p)
{
    const struct plan new = {.data = m->processes / tensor,
                             .tensor = tensor,
                             .shard = shard,
                             .threads = like->threads,
                             .node_processes = m->node_processes};
    *p = new;
    return plan_sizes(in, s, m, like->n_part, like->part, NULL, p);
}

/* shard: full changes nothing where there is one data rank. */
bool plan_possible(const struct inputs *in, const struct timetable *s, int processes, int tensor, enum shard shard)
{
    if (shard == SHARD_FULL && (processes == tensor || !plan_can_share(in))) return false;
    if (processes % tensor || (size_t)tensor > in->shape->heads) return false;
    return !in->trains || (size_t)(processes / tensor) <= s->batch;
}

bool plan_fits(const struct machine *m, const struct plan *p) { return p->bytes <= m->room; }

enum status plan_first_fitting(const struct inputs *in, struct timetable *s, const struct machine *m,
                               const struct plan *like, enum shard shard, bool *found, struct plan *p)
{
    const bool any = shard == SHARD_AUTO;
    enum status st = OK;
    *found = false;
    for (size_t k = 0; k < (any ? N_SHARD : 1); k++)
        for (int tensor = 1; tensor <= m->processes && !*found; tensor++) {
            if (!plan_possible(in, s, m->processes, tensor, any ? shards[k] : SHARD_NONE)) continue;
            TRY(plan_on(in, s, m, like, tensor, any ? shards[k] : shard, p));
            *found = plan_fits(m, p);
        }
done:
    return st;
}

/* 0: does not fit; 2: with all that is asked for. */
static int merit(const struct machine *m, const struct plan *p) { return !plan_fits(m, p) ? 0 : p->apart ? 2 : 1; }

/* As the run was begun, where the input does not say otherwise now. */
static enum status as_begun(const struct inputs *in, struct timetable *s, const struct machine *m,
                            const struct plan *like, bool any_layout, bool any_shard, bool *fits, struct plan *p)
{
    const struct way *then = m->then;
    enum status st = plan_on(in, s, m, like, any_layout ? then->tensor : like->tensor,
                             any_shard && plan_can_share(in) ? then->shard : like->shard, p);
    *fits = st == OK && plan_fits(m, p);
    p->as_then = *fits;
    return st;
}

/* On the layout of `like`. */
static enum status choose_shard(const struct inputs *in, struct timetable *s, const struct machine *m,
                                const struct plan *like, bool any, struct plan *p)
{
    struct plan full;
    enum status st;
    TRY(plan_on(in, s, m, like, like->tensor, like->shard, p));
    if (!any || like->data == 1 || !plan_can_share(in) || merit(m, p) == 2) goto done;
    TRY(plan_on(in, s, m, like, like->tensor, SHARD_FULL, &full));
    full.unshared = p->bytes;
    if (merit(m, &full) == merit(m, p) ? !merit(m, p) && full.bytes < p->bytes : merit(m, &full) > merit(m, p)) *p = full;
done:
    return st;
}

enum status plan_choose(const struct inputs *in, struct timetable *s, const struct machine *m, size_t n_part,
                        const struct part *const *part, struct plan *p)
{
    const struct config *c = in->config;
    const bool any_layout = c->parallel.data == CONFIG_AUTO && c->parallel.tensor == CONFIG_AUTO;
    const bool any_shard = c->parallel.shard == SHARD_AUTO;
    const struct plan like = {p->data,           p->tensor,        p->threads,  p->node_processes,
                              .shard = p->shard, .n_part = n_part, .part = part};
    struct machine now = *m;
    struct plan other;
    bool fits = false;
    enum status st = OK;
    if (m->then) TRY(as_begun(in, s, m, &like, any_layout, any_shard, &fits, p));
    if (fits) goto done;
    now.then = NULL;
    TRY(choose_shard(in, s, &now, &like, any_shard, p));
    if (plan_fits(m, p) || !any_layout) goto done;
    TRY(plan_first_fitting(in, s, &now, &like, c->parallel.shard, &fits, &other));
    if (!fits) goto done;
    other.ruled = (struct plan_ruled){p->data, p->tensor, p->bytes};
    *p = other;
done:
    return st;
}

enum status plan_take(const struct inputs *in, struct timetable *s, const struct machine *m, size_t n_part,
                      const struct part *const *part, const struct way *way, struct plan *p)
{
    p->data = way->data, p->tensor = way->tensor, p->shard = way->shard;
    return plan_sizes(in, s, m, n_part, part, way, p);
}
