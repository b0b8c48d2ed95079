/* --check: what would be done. The resolved input comes first, since it is long; what it comes to is at the end, where a
 * terminal shows it. */
#include "unlearn/task_priv.h"

static void report_node(const struct plan *p)
{
    const double node = (double)p->bytes * p->node_processes / 1e6, free = (double)memory_available() / 1e6;
    log_info("node       %d process%s: %.1f MB of %.1f MB that are free now; the whole job %.1f MB", p->node_processes,
             p->node_processes == 1 ? "" : "es", node, free, (double)p->bytes * (p->data * p->tensor) / 1e6);
}

/* How often each kind of work is done; s NULL: prompts are continued, once. */
struct times {
    size_t updates, measurements, evaluations;
};
static struct times count(const struct inputs *in, const struct timetable *s)
{
    const struct config *c = in->config;
    const bool trains = in->trains && s;
    struct times n = {.updates = trains ? s->updates : 0, .evaluations = in->evaluation || !s ? 1 : 0};
    if (!trains && s) n.measurements = in->measures ? c->model.n_at : 0, n.evaluations *= c->model.n_at;
    for (size_t t = 0; trains && t <= s->updates; t++) {
        if (in->measures && timetable_measured(c, s, t)) n.measurements++;
        if (in->evaluation && t < s->updates && timetable_evaluated(c, t)) n.evaluations++;
    }
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

/* The least time of the whole run, by the rate at which all processes can multiply [flop/s]. */
static enum status report_time(const struct inputs *in, const struct timetable *s, const struct plan *p, double rate)
{
    const struct times n = count(in, s);
    const double seconds = work_of_all(in, s, p) / rate;
    const double unit = seconds < 120 ? 1 : seconds < 7200 ? 60 : 3600;
    struct text t = {0};
    enum status st;
    TRY(counted(&t, n.updates, "update"));
    TRY(counted(&t, n.measurements, "measurement"));
    TRY(counted(&t, n.evaluations, s ? "evaluation" : "set of prompts"));
    log_info("time       at least %.3g %s for all: %s", seconds / unit,
             unit == 1    ? "s"
             : unit == 60 ? "min"
                          : "h",
             t.data ? t.data : "nothing to compute");
done:
    text_free(&t);
    return st;
}

enum status check_print(const struct inputs *in, const struct timetable *s, const struct plan *p, const struct text *plan)
{
    struct text echo = {0}, measured = {0};
    uint64_t weights, reference;
    enum status st;
    TRY(config_write(in->config, &echo));
    TRY(probes_named(in, &measured));
    if (plan_memory(in, p) != OK) {
        log_warn("%s", fail_message());
        fail_clear();
    }
    TRY(subject_hashes(in, p, &weights, &reference));
    log_info("%s\nwhat it comes to:\n", echo.data);
    log_info("%.*s", (int)(plan->data[plan->n - 1] == '\n' ? plan->n - 1 : plan->n), plan->data);
    log_info("end tokens %s", in->ends.said);
    report_kernels();
    report_node(p);
    TRY(report_time(in, s, p, report_prediction(p)));
    TRY(log_close()); /* warnings come before the digest, which is the last line */
    log_info("digest: %016llx", (unsigned long long)plan_digest(in, measured.data, weights, reference));
done:
    text_free(&echo);
    text_free(&measured);
    return st;
}
