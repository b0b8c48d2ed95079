/* What a run says of itself: its head, and at the end where the time went. Updates, measurements and evaluations say their
 * own lines. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void report_head(const struct subject *s)
{
    const struct inputs *in = s->in;
    log_info("unlearn %s (%s), %s, %s", UNLEARN_VERSION, UNLEARN_COMMIT, sizeof(real) == 8 ? "float64" : "float32",
             math_library());
    log_info("%s", parallel_library());
    log_info("input      %s -> %s", in->config->file, in->config->output_directory);
    log_info("model      %s: %s, %.4g M parameters, %zu blocks of width %zu, vocabulary %zu", in->config->model.path,
             in->shape->model_type, (double)s->layout->elements / 1e6, in->shape->blocks, in->shape->hidden,
             in->shape->vocabulary);
}

void report_start(const struct run *r)
{
    const struct inputs *in = r->in;
    struct text t = {0};
    report_head(r->subject);
    if (in->config->model.n_at > 1)
        log_info("trajectory %zu models, steps %zu to %zu", in->config->model.n_at, in->config->model.at[0].step,
                 in->config->model.at[in->config->model.n_at - 1].step);
    if (in->forget) log_info("forget     %s: %zu rows", in->forget->path, in->forget->n_row);
    if (in->refusals) log_info("refusals   %s", in->config->data.idk);
    if (in->retain)
        log_info("retain     %s: %zu rows, the first %zu never trained on", in->retain->path, in->retain->n_row,
                 in->held_out);
    for (size_t k = 0; in->evaluation && k < in->evaluation->n; k++)
        log_info("evaluate   %s: %s, %zu rows", in->evaluation->set[k].name, in->evaluation->set[k].path,
                 in->evaluation->set[k].n);
    if (in->measures && in->config->geffect.estimator == ESTIMATOR_MOVING_AVERAGE)
        log_info("estimator  moving average over batches of four rows; risks read at most %zu rows", in->forget->n_row);
    if (in->trains && objective_label(&in->objective, true, &t) == OK) log_info("objective  %s", t.data);
    text_free(&t);
    if (plan_print(in, r->subject->timetable, r->plan, &t) == OK) t.data[t.n - 1] = 0, log_info("%s", t.data);
    text_free(&t);
}

static void phases(const double *all, int n, double total)
{
    log_info("%-18s %9s %9s %9s %7s", "seconds", "least", "mean", "most", "share");
    for (int p = 0; p < N_PHASE; p++) {
        double least = INFINITY, most = 0, sum = 0;
        for (int k = 0; k < n; k++) {
            double s = all[k * N_PHASE + p];
            sum += s;
            if (s < least) least = s;
            if (s > most) most = s;
        }
        if (sum > 0)
            log_info("%-18s %9.2f %9.2f %9.2f %6.1f%%", phase_text((enum phase)p), least, sum / n, most,
                     100 * sum / n / total);
    }
}

/* The rate of the products that this machine can do at its best, of all processes together; the cube is large enough to
 * reach it, except after a run so short that the measurement would last longer. */
static double best_rate(const struct grid *g, double total)
{
    double rate = math_gemm_rate(512);
    if (total > 20 && rate > 2e10) rate = math_gemm_rate(2048); /* a slow machine, or valgrind, would take minutes */
    comm_sum_double(g->world, &rate, 1);
    return rate;
}

void report_end(const struct run *r)
{
    const struct grid *g = r->subject->grid;
    double total = 0, work = 0, rate, mine[N_PHASE], *all;
    double peak = (double)memory_peak(), lack;
    int n = g->size;
    for (int p = 0; p < N_PHASE; p++) mine[p] = phase_seconds((enum phase)p), total += mine[p];
    comm_max_double(g->world, &peak, 1);
    all = calloc((size_t)n * N_PHASE, sizeof *all);
    lack = all ? 0 : 1;
    comm_max_double(g->world, &lack, 1);
    if (lack > 0) { /* the run has ended well without it */
        free(all);
        return;
    }
    comm_gather_double(g->world, mine, N_PHASE, all);
    rate = best_rate(g, total);
    for (int p = PHASE_FORWARD; p <= PHASE_MESSAGES; p++) work += mine[p];
    phases(all, n, total);
    log_info("total %.2f s; %.4g Gflop nominal; %.1f Gflop/s of %.1f that all processes reach in %s: %.2f", total,
             r->subject->flops / 1e9, r->subject->flops / work / 1e9, rate / 1e9, sizeof(real) == 8 ? "dgemm" : "sgemm",
             r->subject->flops / work / rate);
    log_info("memory of a process: planned %.1f MB, peak %.1f MB", (double)r->plan->bytes / 1e6, peak / 1e6);
    free(all);
}
