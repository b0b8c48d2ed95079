/* The benchmark's log as a struct: names, memory, and what follows from one row. */
#include "unlearn/eval_priv.h"
#include <math.h>
#include <stdlib.h>

const struct log_part log_parts[N_EVAL_SET] = {
    [SET_RETAIN] = {"eval_log.json", "retain", false},
    [SET_REAL_AUTHORS] = {"eval_real_author_wo_options.json", "real_authors", true},
    [SET_WORLD_FACTS] = {"eval_real_world_wo_options.json", "world_facts", true},
    [SET_FORGET] = {"eval_log_forget.json", "forget", false},
};
#define AT(member) offsetof(struct eval_set, member)
const struct log_array log_arrays[N_LOG_ARRAY] = {
    {"avg_gt_loss", AT(nll), false, true},
    {"avg_paraphrased_loss", AT(paraphrased), false, true},
    {"average_perturb_loss", AT(perturbed), true, true},
    {"num_token_gt", AT(n_token), false, false},
    {"num_token_paraphrased", AT(n_token_paraphrased), false, false},
    {"num_token_perturb", AT(n_token_perturbed), true, false},
    {"rouge1_recall", AT(rouge1), false, false},
    {"rougeL_recall", AT(rouge_l), false, false},
};

const char *eval_set_name(enum eval_set_id set) { return log_parts[set].name; }

enum status eval_set_new(size_t n, size_t n_wrong, bool generates, struct eval_set *out)
{
    enum status st = OK;
    struct eval_set s = {.n = n, .n_wrong = n_wrong};
    *out = (struct eval_set){0};
    TRY_NEW(s.row, n);
    TRY_NEW(s.n_wrong_of, n);
    for (size_t i = 0; i < n; i++) s.row[i] = (int64_t)i, s.n_wrong_of[i] = n_wrong;
    for (size_t k = 0; k < N_LOG_ARRAY; k++) {
        const struct log_array *a = &log_arrays[k];
        double **x = log_array_of(&s, a);
        size_t each = a->wide ? n_wrong : 1;
        if (!each || (!generates && (a->offset == AT(rouge1) || a->offset == AT(rouge_l)))) continue;
        TRY_NEW(*x, n * each);
        for (size_t i = 0; i < n * each; i++) (*x)[i] = NAN;
    }
    for (int k = 0; k < N_LOG_TEXT && generates; k++) TRY_NEW(*log_text_of(&s, k), n);
    *out = s, s = (struct eval_set){0};
done:
    eval_set_free(&s);
    return st;
}

void eval_set_free(struct eval_set *s)
{
    free(s->row), free(s->n_wrong_of), free(s->ratio);
    for (size_t k = 0; k < N_LOG_ARRAY; k++) free(*log_array_of(s, &log_arrays[k]));
    for (int k = 0; k < N_LOG_TEXT; k++) {
        struct text *t = *log_text_of(s, k);
        for (size_t i = 0; t && i < s->n; i++) text_free(&t[i]);
        free(t);
    }
    *s = (struct eval_set){0};
}

void eval_log_free(struct eval_log *log)
{
    for (int k = 0; log && k < N_EVAL_SET; k++) eval_set_free(&log->set[k]);
}

double log_value(const double *x, size_t i) { return x && isfinite(x[i]) ? x[i] : NAN; }

double row_mean_wrong(const struct eval_set *s, size_t i)
{
    double sum = 0;
    for (size_t k = 0; k < s->n_wrong_of[i]; k++) sum += log_value(s->perturbed, i * s->n_wrong + k);
    return sum / (double)s->n_wrong_of[i];
}

/* log sum_k e^-w_k, relative to its largest term, so that nothing overflows */
static double log_sum_wrong(const struct eval_set *s, size_t i)
{
    const size_t n = s->n_wrong_of[i];
    double least = INFINITY, sum = 0;
    for (size_t k = 0; k < n; k++) {
        double w = log_value(s->perturbed, i * s->n_wrong + k);
        if (isnan(w)) return NAN;
        least = fmin(least, w);
    }
    for (size_t k = 0; k < n; k++) sum += exp(least - s->perturbed[i * s->n_wrong + k]);
    return n ? log(sum) - least : NAN;
}

double row_log_share(const struct eval_set *s, size_t i)
{
    double more = log_sum_wrong(s, i) + log_value(s->nll, i); /* log of sum wrong/right; the share is 1/(1 + e^more) */
    return more > 0 ? -more - log1p(exp(-more)) : -log1p(exp(more));
}
