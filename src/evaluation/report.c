/* The log of an evaluation: a line at every step; at the end a table, all numbers, and the rows left out of means. */
#include "unlearn/evaluation_priv.h"
#include <math.h>
#include <string.h>

static const struct {
    enum score score;
    const char *head;
} column[] = {
    {SCORE_LOSS, "loss"},           {SCORE_PROBABILITY, "prob"},      {SCORE_PARAPHRASED_LOSS, "para"},
    {SCORE_PERTURBED_LOSS, "pert"}, {SCORE_TRUTH_RATIO, "ratio"},     {SCORE_MEMORIZATION, "memo"},
    {SCORE_EXTRACTION, "extr"},     {SCORE_ROUGE_L_RECALL, "rougeL"}, {SCORE_KL, "kl"},
    {SCORE_CORRECT, "correct"},     {SCORE_RIGHT, "right"},
};
enum { N_COLUMN = sizeof column / sizeof *column };

static void cell(struct text *line, double x)
{
    if (isfinite(x))
        text_print(line, " %8.4g", x);
    else
        text_print(line, " %8s", "-");
}

static void one_line(const struct evaluation *v, size_t step)
{
    const struct evaluation_inputs *e = v->in;
    const struct suite *b = suite_of(v->subject->in->config);
    struct text line = {0};
    for (size_t k = 0; k < e->n; k++) {
        const double *mean = v->numbers.mean + k * N_SCORE;
        if (e->wanted[SCORE_CORRECT]) {
            text_print(&line, "  %s correct %.4g", e->set[k].name, mean[SCORE_CORRECT]);
            continue;
        }
        text_print(&line, "  %s loss %.4g", e->set[k].name, mean[SCORE_LOSS]);
        if (e->wanted[SCORE_ROUGE_L_RECALL] && e->set[k].generates)
            text_print(&line, " rougeL %.3g", mean[SCORE_ROUGE_L_RECALL]);
    }
    if (b->number_name == number_name) {
        const double utility = v->numbers.number[NUMBER_UTILITY], quality = v->numbers.number[NUMBER_QUALITY];
        if (isfinite(utility)) text_print(&line, "  utility %.4g", utility);
        if (isfinite(quality)) text_print(&line, "  quality %.4g", quality);
    }
    log_info("evaluated at step %zu:%s", step, line.data ? line.data : "");
    text_free(&line);
}

static void table(const struct evaluation *v)
{
    const struct evaluation_inputs *e = v->in;
    struct text line = {0};
    text_print(&line, "%-16s %5s", "means over rows", "rows");
    for (int c = 0; c < N_COLUMN; c++)
        if (e->wanted[column[c].score]) text_print(&line, " %8s", column[c].head);
    log_info("%s", line.data ? line.data : "");
    for (size_t k = 0; k < e->n; k++) {
        line.n = 0;
        text_print(&line, "%-16s %5zu", e->set[k].name, e->set[k].n);
        for (int c = 0; c < N_COLUMN; c++)
            if (e->wanted[column[c].score]) cell(&line, v->numbers.mean[k * N_SCORE + column[c].score]);
        log_info("%s", line.data ? line.data : "");
    }
    text_free(&line);
}

static void numbers(const struct evaluation *v)
{
    const struct suite *b = suite_of(v->subject->in->config);
    for (size_t k = 0; k < b->n_number; k++)
        if (isfinite(v->numbers.number[k])) log_info("%-28s %.6g", b->number_name[k], v->numbers.number[k]);
}

/* Scores that leave out the same number of rows share a line. */
void report_left_out(const struct evaluation *v, size_t k)
{
    const struct evaluation_inputs *e = v->in;
    const struct evaluated_set *s = &e->set[k];
    const double *left = v->numbers.left_out + k * N_SCORE;
    bool done[N_SCORE] = {false};
    for (int a = 0; a < N_SCORE; a++) {
        struct text names = {0};
        size_t row = 0;
        if (done[a] || left[a] == 0 || !e->wanted[a] || !scores_possible(s, (enum score)a)) continue;
        for (int b = a; b < N_SCORE; b++)
            if (left[b] == left[a] && e->wanted[b] && scores_possible(s, (enum score)b)) {
                text_print(&names, "%s%s", names.n ? ", " : "", score_table[b].name);
                done[b] = true;
            }
        while (row < s->n && isfinite(*score_of(&v->set[k], row, (enum score)a))) row++;
        log_warn("%s: %.0f of %zu rows have no finite number (first: row %zu), left out of %s", s->path, left[a], s->n,
                 row, names.data ? names.data : "");
        text_free(&names);
    }
}

void report_evaluation(const struct evaluation *v, size_t step, bool last)
{
    one_line(v, step);
    if (!last) return;
    table(v);
    numbers(v);
}
