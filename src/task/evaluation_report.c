/* What an evaluation says: a line at every step of a run, and one page at its end. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <string.h>

static const struct {
    enum score score;
    const char *head;
} column[] = {
    {SCORE_LOSS, "loss"},           {SCORE_PROBABILITY, "prob"},      {SCORE_PARAPHRASED_LOSS, "para"},
    {SCORE_PERTURBED_LOSS, "pert"}, {SCORE_TRUTH_RATIO, "ratio"},     {SCORE_MEMORIZATION, "memo"},
    {SCORE_EXTRACTION, "extr"},     {SCORE_ROUGE_L_RECALL, "rougeL"}, {SCORE_KL, "kl"},
};
enum { N_COLUMN = sizeof column / sizeof *column };

static void cell(struct text *line, double x)
{
    if (isfinite(x))
        text_print(line, " %8.4g", x);
    else
        text_print(line, " %8s", "-");
}

static void one_line(const struct run *r, size_t step)
{
    const struct evaluation_inputs *e = r->in->evaluation;
    const struct evaluation *v = r->evaluation;
    struct text line = {0};
    for (size_t k = 0; k < e->n; k++) {
        text_print(&line, "  %s loss %.4g", e->set[k].name, v->mean[k * N_SCORE + SCORE_LOSS]);
        if (e->wanted[SCORE_ROUGE_L_RECALL] && e->set[k].generates)
            text_print(&line, " rougeL %.3g", v->mean[k * N_SCORE + SCORE_ROUGE_L_RECALL]);
    }
    if (isfinite(v->number[NUMBER_UTILITY])) text_print(&line, "  utility %.4g", v->number[NUMBER_UTILITY]);
    if (isfinite(v->number[NUMBER_QUALITY])) text_print(&line, "  quality %.4g", v->number[NUMBER_QUALITY]);
    log_info("evaluated at step %zu:%s", step, line.data ? line.data : "");
    text_free(&line);
}

static void table(const struct run *r)
{
    const struct evaluation_inputs *e = r->in->evaluation;
    struct text line = {0};
    text_print(&line, "%-16s %5s", "means over rows", "rows");
    for (int c = 0; c < N_COLUMN; c++)
        if (e->wanted[column[c].score]) text_print(&line, " %8s", column[c].head);
    log_info("%s", line.data ? line.data : "");
    for (size_t k = 0; k < e->n; k++) {
        line.n = 0;
        text_print(&line, "%-16s %5zu", e->set[k].name, e->set[k].n);
        for (int c = 0; c < N_COLUMN; c++)
            if (e->wanted[column[c].score]) cell(&line, r->evaluation->mean[k * N_SCORE + column[c].score]);
        log_info("%s", line.data ? line.data : "");
    }
    text_free(&line);
}

static void numbers(const struct run *r)
{
    for (int k = 0; k < N_NUMBER; k++)
        if (isfinite(r->evaluation->number[k])) log_info("%-28s %.6g", number_name[k], r->evaluation->number[k]);
}

void report_evaluation(const struct run *r, size_t step, bool last)
{
    one_line(r, step);
    if (!last) return;
    table(r);
    numbers(r);
}
