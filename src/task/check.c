/* --check: what would be done. The resolved input comes first, since it is long; what it comes to is at the end, where a
 * terminal shows it. */
#include "unlearn/task_priv.h"
#include "unlearn/weights.h"
#include <math.h>

/* A node of this machine, or of one that the input describes. */
static void report_node(const struct inputs *in, const struct plan *p)
{
    const bool given = !isnan(in->config->plan.memory);
    const double node = (double)p->bytes * p->node_processes / 1e6;
    const double all = given ? in->config->plan.memory / 1e6 : (double)memory_available() / 1e6;
    log_info("node       %d process%s: %.1f MB of %.1f MB that %s; the whole job %.1f MB", p->node_processes,
             p->node_processes == 1 ? "" : "es", node, all, given ? "it has" : "are free now",
             (double)p->bytes * (p->data * p->tensor) / 1e6);
}

/* s NULL: prompts are continued, once. */
static struct times count(const struct inputs *in, const struct timetable *s)
{
    const struct config *c = in->config;
    const bool trains = in->trains && s;
    struct times n = {.updates = trains ? s->updates : 0, .evaluations = in->evaluation || !s ? 1 : 0};
    if (!trains && s) n.measurements = in->measures ? c->model.n_at : 0, n.evaluations *= c->model.n_at;
    if (trains && in->measures) n.measurements = timetable_measurements(c, s);
    if (trains && in->evaluation) n.evaluations += timetable_evaluations(c, s);
    return n;
}

static enum status counted(struct text *out, size_t n, const char *what)
{
    return n ? text_print(out, "%s%zu %s%s", out->n ? ", " : "", n, what, n == 1 ? "" : "s") : OK;
}

double work_of_all(const struct inputs *in, const struct timetable *s, const struct plan *p)
{
    const struct times n = count(in, s);
    return (double)n.updates * p->all.flops_update + (double)n.measurements * p->all.flops_measure +
           (double)n.evaluations * p->all.flops_evaluate;
}

/* 0.042 s, 93 s, 12.5 min, 3.2 h */
static enum status duration(struct text *out, double seconds)
{
    const double unit = seconds < 120 ? 1 : seconds < 7200 ? 60 : 3600;
    return text_print(out, "%.3g %s", seconds / unit, unit == 1 ? "s" : unit == 60 ? "min" : "h");
}

static enum status each(struct text *out, size_t n, double seconds, const char *what)
{
    enum status st = OK;
    if (!n) return OK;
    TRY(text_print(out, "%s %s ", out->n ? "," : "", what));
    TRY(duration(out, seconds));
done:
    return st;
}

static enum status rates_print(const struct rates *r, struct text *out)
{
    enum status st;
    TRY(text_print(out, "%.4g Gflop/s of products and %.3g GB/s of memory a process", r->flops / 1e9,
                   r->bandwidth / 1e9));
    if (r->link > 0) TRY(text_print(out, ", %.3g GB/s between two", r->link / 1e9));
    if (r->network > 0) TRY(text_print(out, ", %.3g GB/s between nodes", r->network / 1e9));
done:
    return st;
}

/* The rates, and what they say of an update, of a measurement, and of the whole run. */
static enum status report_time(const struct plan *p, const struct rates *r, const struct times *n, bool prompts)
{
    const double update = plan_seconds(p, OF_UPDATE, r), measurement = plan_seconds(p, OF_MEASUREMENT, r);
    const double evaluation = p->all.flops_evaluate / r->flops / (p->data * p->tensor);
    struct text speed = {0}, t = {0}, times = {0};
    enum status st;
    TRY(rates_print(r, &speed));
    TRY(each(&t, n->updates, update, "an update"));
    TRY(each(&t, n->measurements, measurement, "a measurement"));
    TRY(each(&t, n->evaluations, evaluation, "what is scored or generated at least"));
    TRY(text_print(&t, "%s about ", t.n ? ";" : ""));
    TRY(duration(&t, (double)n->updates * update + (double)n->measurements * measurement +
                         (double)n->evaluations * evaluation));
    TRY(counted(&times, n->updates, "update"));
    TRY(counted(&times, n->measurements, "measurement"));
    TRY(counted(&times, n->evaluations, prompts ? "set of prompts" : "evaluation"));
    log_info("speed      %s", speed.data);
    log_info("time      %s for all: %s", t.data, times.data ? times.data : "nothing to compute");
done:
    text_free(&speed);
    text_free(&t);
    text_free(&times);
    return st;
}

/* What the speed of this machine, or of another, makes of the plan. */
static enum status predict(const struct inputs *in, struct timetable *s, const struct grid *world,
                           const struct machine *m, const struct plan *p)
{
    const bool chooses = in->config->parallel.data == CONFIG_AUTO && in->config->parallel.tensor == CONFIG_AUTO;
    const struct times n = count(in, s);
    struct text t = {0};
    struct rates r;
    enum status st;
    TRY(rates_measure(in, p, world, &r));
    TRY(report_time(p, &r, &n, !s));
    if (!s || !chooses || m->processes == 1) goto done;
    TRY(layouts_print(in, s, m, p, &r, &n, &t));
    log_info("%.*s", (int)t.n - 1, t.data);
done:
    text_free(&t);
    return st;
}

enum status check_print(const struct inputs *in, struct timetable *s, const struct grid *world, const struct machine *m,
                        const struct plan *p, const struct text *plan)
{
    const bool other = m->processes != world->size; /* another job: there may be no room for its weights here */
    const size_t whole =
        (p->sharing == SHARING_ALL ? p->bytes_part : p->bytes_state) / (plan_half(in, plan_held(p, "weights")) ? 2 : 1);
    uint64_t taken = p->bytes_base + whole + p->bytes_shared + WEIGHTS_READ_BYTES; /* the digest needs the weights */
    bool hashes;
    struct text echo = {0}, measured = {0};
    uint64_t weights, reference;
    enum status st;
    if ((st = config_write(in->config, &echo)) == OK) st = probes_named(in, &measured);
    TRY(grid_agree(world, st));
    comm_max_u64(world->world, &taken, 1);
    hashes = !other && taken < least_room(world);
    if (isnan(in->config->plan.memory) && plan_memory(in, p) != OK) {
        log_warn("%s", fail_message());
        fail_clear();
    }
    if (hashes) TRY(subject_hashes(in, p, &weights, &reference));
    log_info("%s\nwhat it comes to:\n", echo.data);
    log_info("%.*s", (int)(plan->data[plan->n - 1] == '\n' ? plan->n - 1 : plan->n), plan->data);
    log_info("end tokens %s", in->ends.said);
    report_kernels();
    report_node(in, p);
    TRY(predict(in, s, world, m, p));
    TRY(log_close()); /* warnings come before the digest, which is the last line */
    if (other)
        log_info("digest: none, for plan.processes describes another job than this one of %d", world->size);
    else if (!hashes)
        log_info("digest: none, for there is no room here for the weights, %.1f MB a process", (double)whole / 1e6);
    else
        log_info("digest: %016llx", (unsigned long long)plan_digest(in, measured.data, weights, reference));
done:
    text_free(&echo);
    text_free(&measured);
    return st;
}
