/* The numbers of a whole evaluation, from the scores of its rows. A row without a number is left out of a mean, and counted.
 *      probability of a set: mean p, of authors and facts p among the answers;      rouge: mean ROUGE-L recall
 *      truth ratio of a set: mean max(0, 1 - r), of forget mean min(r, 1/r)
 *      model utility: harmonic mean of the nine of retain, real_authors, world_facts
 *      forget quality: p of the two-sample KS test of r against that of a model that never saw the forget rows
 *      auc: of telling holdout (larger scores) from forget;      privleak = 100 (auc* - auc) / (1 - auc*), auc of min_k
 *      relative: 100 (x - x*) / x*, x* of the model that never saw the forget rows                                      */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double TINY = 1e-10; /* of open-unlearning, which keeps divisors from 0 by it */
static const enum score attack[] = {SCORE_LOSS,       SCORE_ZLIB,      SCORE_MIN_K,
                                    SCORE_MIN_K_PLUS, SCORE_REFERENCE, SCORE_GRADNORM};

const char *const number_name[N_NUMBER] = {
    "model_utility",
    "forget_quality",
    "ks_statistic",
    "auc_loss",
    "auc_zlib",
    "auc_min_k",
    "auc_min_k++",
    "auc_reference",
    "auc_gradnorm",
    "privleak",
    "retain_probability",
    "retain_rouge",
    "retain_truth_ratio",
    "real_authors_probability",
    "real_authors_rouge",
    "real_authors_truth_ratio",
    "world_facts_probability",
    "world_facts_rouge",
    "world_facts_truth_ratio",
    "forget_probability",
    "forget_rouge",
    "forget_truth_ratio",
    "forget_probability_relative",
    "forget_rouge_relative",
    "forget_truth_ratio_relative",
};

static size_t set_index(const struct run *r, const char *name)
{
    const struct evaluated_set *s = evaluated_set(r->in, name);
    return s ? (size_t)(s - r->in->evaluation->set) : SIZE_MAX;
}

/* ---------------------------------------------------------------------------------------------------- means ------- */
static void set_means(struct run *r, size_t k)
{
    struct evaluation *v = r->evaluation;
    const size_t n = r->in->evaluation->set[k].n;
    double tokens = 0, nll = 0;
    for (int which = 0; which < N_SCORE; which++) {
        double sum = 0;
        size_t count = 0;
        for (size_t i = 0; i < n; i++) {
            const double x = *score_of(v, k, i, (enum score)which);
            if (isfinite(x)) sum += x, count++;
        }
        v->mean[k * N_SCORE + (size_t)which] = count ? sum / (double)count : NAN;
        v->left_out[k * N_SCORE + (size_t)which] = (double)(n - count);
    }
    for (size_t i = 0; i < n; i++) {
        const double x = *score_of(v, k, i, SCORE_LOSS), t = *score_of(v, k, i, SCORE_TOKENS);
        if (isfinite(x)) tokens += t, nll += t * x;
    }
    v->risk[k] = tokens > 0 ? nll / tokens : NAN;
}

/* Scores that lack the same number of rows share a line. */
static void warn_left_out(const struct run *r, size_t k)
{
    const struct evaluated_set *s = &r->in->evaluation->set[k];
    const double *left = r->evaluation->left_out + k * N_SCORE;
    bool done[N_SCORE] = {false};
    for (int a = 0; a < N_SCORE; a++) {
        struct text names = {0};
        size_t row = 0;
        if (done[a] || left[a] == 0 || !r->in->evaluation->wanted[a] || !scores_possible(s, (enum score)a)) continue;
        for (int b = a; b < N_SCORE; b++)
            if (left[b] == left[a] && r->in->evaluation->wanted[b] && scores_possible(s, (enum score)b)) {
                text_print(&names, "%s%s", names.n ? ", " : "", score_table[b].name);
                done[b] = true;
            }
        while (row < s->n && isfinite(*score_of(r->evaluation, k, row, (enum score)a))) row++;
        log_warn("%s: %.0f of %zu rows have no finite number (first: row %zu), left out of %s", s->path, left[a], s->n,
                 row, names.data ? names.data : "");
        text_free(&names);
    }
}

/* ------------------------------------------------------------------------------------------ published numbers ------- */
static double published(const struct run *r, enum eval_set_id set, enum eval_number number, double x)
{
    const double tiny = r->in->config->evaluate.variant == VARIANT_OPEN_UNLEARNING ? TINY : 0;
    if (number != EVAL_TRUTH_RATIO || isnan(x)) return x;
    return set == SET_FORGET ? fmin(x, 1 / (x + tiny)) : fmax(0, 1 - x);
}

static double number_of(const struct run *r, enum eval_set_id set, enum eval_number number)
{
    const size_t k = set_index(r, eval_set_name(set));
    const bool options = set == SET_REAL_AUTHORS || set == SET_WORLD_FACTS;
    const enum score which = number == EVAL_ROUGE         ? SCORE_ROUGE_L_RECALL
                             : number == EVAL_TRUTH_RATIO ? SCORE_TRUTH_RATIO
                             : options                    ? SCORE_OF_OPTIONS
                                                          : SCORE_PROBABILITY;
    double sum = 0;
    size_t n = 0;
    if (k == SIZE_MAX) return NAN;
    for (size_t i = 0; i < r->in->evaluation->set[k].n; i++) {
        const double x = published(r, set, number, *score_of(r->evaluation, k, i, which));
        if (isfinite(x)) sum += x, n++;
    }
    return n ? sum / (double)n : NAN;
}

static void utility(struct run *r)
{
    double *number = r->evaluation->number, nine[(N_EVAL_SET - 1) * N_EVAL_NUMBER];
    size_t n = 0;
    for (int s = 0; s < N_EVAL_SET; s++)
        for (int k = 0; k < N_EVAL_NUMBER; k++) {
            const double x = number_of(r, (enum eval_set_id)s, (enum eval_number)k);
            number[NUMBER_SETS + s * N_EVAL_NUMBER + k] = x;
            if (s != SET_FORGET) nine[n++] = x;
        }
    number[NUMBER_UTILITY] = harmonic_mean(n, nine);
}

/* Against evaluate.retain_logs. */
static enum status quality(struct run *r, bool say)
{
    const struct eval_log *retain = &r->in->evaluation->retain;
    struct evaluation *v = r->evaluation;
    const char *path = r->in->config->evaluate.retain_logs;
    struct eval_summary other;
    enum status st = OK;
    v->number[NUMBER_QUALITY] = v->number[NUMBER_KS] = NAN;
    for (int k = 0; k < N_EVAL_NUMBER; k++) v->number[NUMBER_RELATIVE + k] = NAN;
    if (!retain->set[SET_FORGET].n || !v->log.set[SET_FORGET].perturbed) return OK;
    TRY(eval_forget_quality(say ? r->in->config->output_directory : NULL, &v->log, say ? path : NULL, retain,
                            &v->number[NUMBER_QUALITY], &v->number[NUMBER_KS]));
    eval_summarise(say ? path : NULL, retain, &other);
    for (int k = 0; k < N_EVAL_NUMBER; k++) {
        const double x = v->number[NUMBER_SETS + SET_FORGET * N_EVAL_NUMBER + k], y = other.number[SET_FORGET][k];
        v->number[NUMBER_RELATIVE + k] = 100 * (x - y) / (y + TINY);
    }
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------- attacks ------- */
/* Those of the rows that have the score. */
static size_t finite_scores(const struct run *r, size_t k, enum score which, double *x)
{
    size_t n = 0;
    for (size_t i = 0; i < r->in->evaluation->set[k].n; i++) {
        const double y = *score_of(r->evaluation, k, i, which);
        if (isfinite(y)) x[n++] = y;
    }
    return n;
}

static enum status attacks(struct run *r)
{
    double *number = r->evaluation->number, *x = NULL, *y = NULL;
    const size_t members = set_index(r, "forget"), others = set_index(r, "holdout");
    const double reference = r->in->config->evaluate.privleak_auc;
    enum status st = OK;
    for (size_t i = 0; i < sizeof attack / sizeof *attack; i++) number[NUMBER_AUC_LOSS + i] = NAN;
    number[NUMBER_PRIVLEAK] = NAN;
    if (members == SIZE_MAX || others == SIZE_MAX) return OK;
    TRY_NEW(x, r->in->evaluation->set[members].n);
    TRY_NEW(y, r->in->evaluation->set[others].n);
    for (size_t i = 0; i < sizeof attack / sizeof *attack; i++) {
        const size_t n = finite_scores(r, members, attack[i], x), m = finite_scores(r, others, attack[i], y);
        TRY(auc(n, x, m, y, &number[NUMBER_AUC_LOSS + i]));
    }
    number[NUMBER_PRIVLEAK] = 100 * (reference - number[NUMBER_AUC_MIN_K]) / (1 - reference + TINY);
done:
    free(x), free(y);
    return st;
}

enum status summarise(struct run *r, bool say)
{
    enum status st = OK;
    for (size_t k = 0; k < r->in->evaluation->n; k++) {
        set_means(r, k);
        if (say) warn_left_out(r, k);
    }
    utility(r);
    TRY(quality(r, say));
    TRY(attacks(r));
done:
    return st;
}
