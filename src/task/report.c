/* What a run says of itself: its head, and at the end where the time went. Updates, measurements and evaluations say their
 * own lines. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void report_kernels(void)
{
    const char *warning = math_warning();
    log_info("kernels    %s", math_kernels());
    if (products_said()) log_info("products   %s", products_said());
    if (warning) log_warn("%s", warning);
}

/* What this process can do: multiply-adds, and products; the cube is as large as it needs to be to come near the best product, as
 * far as a run of so many seconds is worth it, and not on a slow machine, or under valgrind, where it would take minutes. */
static void rates(double seconds, double *peak, double *product)
{
    *peak = math_peak_rate();
    *product = math_gemm_rate(64); /* not worth a team: known even where others are at work */
    if (*product > 1e9) *product = math_gemm_rate(seconds > 2 ? 512 : 256);
    if (seconds > 20 && *product > 2e10) *product = math_gemm_rate(2048);
    if (*product > *peak) *peak = *product; /* other work came between */
}

static const char *product_name(void)
{
    if (math_products_now() == BY_BFLOAT16) return "products in bfloat16";
    return sizeof(real) == 8 ? "dgemm" : "sgemm";
}

void report_head(const struct subject *s)
{
    const struct inputs *in = s->in;
    log_info("unlearn %s (%s), %s, %s", UNLEARN_VERSION, UNLEARN_COMMIT, sizeof(real) == 8 ? "float64" : "float32",
             math_library());
    log_info("%s", parallel_library());
    report_kernels();
    log_info("input      %s -> %s", in->config->file, in->config->output_directory);
    log_info("model      %s: %s, %.4g M parameters, %zu blocks of width %zu, vocabulary %zu", in->config->model.path,
             in->shape->model_type, (double)s->layout->elements / 1e6, in->shape->blocks, in->shape->hidden,
             in->shape->vocabulary);
    log_info("end tokens %s", in->ends.said);
}

/* "npo(beta=0.5) x 2 + kl + gd x 0.5 (dual)" */
static enum status objective_sum(const struct inputs *in, struct text *t)
{
    const bool unlearns = in->config->task == TASK_UNLEARN;
    enum status st = OK;
    TRY(objective_label(&in->objective, true, t));
    if (unlearns && in->config->objective.weight != 1) TRY(text_print(t, " x %g", in->config->objective.weight));
    for (size_t i = 0; i < in->n_regularizer; i++) {
        TRY(text_print(t, " + "));
        TRY(objective_label(&in->regularizer[i].objective, true, t));
        if (in->regularizer[i].weight != 1) TRY(text_print(t, " x %g", in->regularizer[i].weight));
        if (in->config->regularizer[i].dual.step_size > 0) TRY(text_print(t, " (dual)"));
    }
done:
    return st;
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
    if (in->measures && in->forget && in->config->geffect.estimator == ESTIMATOR_MOVING_AVERAGE)
        log_info("estimator  moving average over batches of four rows; risks read at most %zu rows", in->forget->n_row);
    if (in->trains && objective_sum(in, &t) == OK) log_info("objective  %s", t.data);
    if (in->trains && in->config->optimizer.weight_decay > 0)
        log_info("decay      %g, %s", in->config->optimizer.weight_decay,
                 in->config->optimizer.decay == DECAY_ALL ? "of all parameters"
                                                          : "of matrices: norms and biases stay (optimizer.decay)");
    text_free(&t);
    if (plan_print(in, r->subject->timetable, r->plan, &t) == OK) t.data[t.n - 1] = 0, log_info("%s", t.data);
    text_free(&t);
}

void report_restart(const struct run *r)
{
    struct text t = {0};
    if (restart_describe(r->restart, r->plan, &t) == OK) log_info("%s", t.data);
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

/* What the data ranks sent each other of layers; nothing where nobody shares any. */
static void arrived(const struct grid *g)
{
    const struct arrived a = comm_arrived(g->data);
    double sum[] = {a.bytes, a.meanwhile};
    comm_sum_double(g->world, sum, 2);
    if (sum[0] > 0)
        log_info("sums and gathers of layers brought a process %.4g MB, %.0f%% of it while it did something else",
                 sum[0] / g->size / 1e6, 100 * sum[1] / sum[0]);
}

void report_end(const struct run *r)
{
    const struct grid *g = r->subject->grid;
    double total = 0, work = 0, mine[N_PHASE], *all;
    double peak = (double)memory_peak(), lack, rate[2]; /* of multiply-adds, of products; of all processes together */
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
    rates(total, &rate[0], &rate[1]);
    comm_sum_double(g->world, rate, 2);
    for (int p = PHASE_FORWARD; p <= PHASE_MESSAGES; p++) work += mine[p];
    phases(all, n, total);
    arrived(g);
    log_info("memory of a process: planned %.1f MB, peak %.1f MB", (double)r->plan->bytes / 1e6, peak / 1e6);
    log_info("total %.2f s; %.4g Gflop nominal: %.1f Gflop/s, %.2f of the multiply-adds that all processes can do "
             "(%.1f), %.2f of their %s (%.1f); the parts that compute, %.2f s: %.1f Gflop/s, %.2f, %.2f",
             total, r->subject->flops / 1e9, r->subject->flops / total / 1e9, r->subject->flops / total / rate[0],
             rate[0] / 1e9, r->subject->flops / total / rate[1], product_name(), rate[1] / 1e9, work,
             r->subject->flops / work / 1e9, r->subject->flops / work / rate[0], r->subject->flops / work / rate[1]);
    free(all);
}
