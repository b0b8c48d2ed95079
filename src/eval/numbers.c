/* The numbers of a whole evaluation, from the scores of its rows. Means leave out and count the rows without a number.
 *      probability of a set: mean p, for authors and facts p among the answers;     rouge: mean ROUGE-L recall
 *      truth ratio of a set: mean max(0, 1 - r), for forget mean min(r, 1/r)
 *      model utility: harmonic mean of the nine of retain, real_authors, world_facts
 *      forget quality: p of the two-sample KS test of r against that of a model that never saw the forget rows
 *      auc: how well a score tells holdout (larger) from forget
 *      privleak = 100 (auc* - auc) / (1 - auc*), auc of min_k
 *      relative: 100 (x - x*) / x*, x* of the model that never saw the forget rows                                   */
#include "unlearn/eval_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double TINY = 1e-10; /* added to divisors, as in open-unlearning */
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

static const struct scored_set *find(size_t n_set, const struct scored_set *set, const char *name)
{
    for (size_t k = 0; k < n_set; k++)
        if (!strcmp(set[k].name, name)) return &set[k];
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------- means ------- */
enum status evaluation_numbers_new(size_t n_set, struct evaluation_numbers *out)
{
    enum status st = OK;
    TRY_NEW(out->mean, n_set * N_SCORE);
    TRY_NEW(out->left_out, n_set * N_SCORE);
    TRY_NEW(out->risk, n_set);
done:
    return st;
}

void evaluation_numbers_free(struct evaluation_numbers *v)
{
    free(v->mean), free(v->left_out), free(v->risk);
    *v = (struct evaluation_numbers){0};
}

void evaluation_means(const struct scored_set *s, size_t k, struct evaluation_numbers *out)
{
    double tokens = 0, nll = 0;
    for (int which = 0; which < N_SCORE; which++) {
        double sum = 0;
        size_t count = 0;
        for (size_t i = 0; i < s->n; i++) {
            const double x = *score_of(s, i, (enum score)which);
            if (isfinite(x)) sum += x, count++;
        }
        out->mean[k * N_SCORE + (size_t)which] = count ? sum / (double)count : NAN;
        out->left_out[k * N_SCORE + (size_t)which] = (double)(s->n - count);
    }
    for (size_t i = 0; i < s->n; i++) {
        const double x = *score_of(s, i, SCORE_LOSS), t = *score_of(s, i, SCORE_TOKENS);
        if (isfinite(x)) tokens += t, nll += t * x;
    }
    out->risk[k] = tokens > 0 ? nll / tokens : NAN;
}

/* ------------------------------------------------------------------------------------------ published numbers ------- */
static void utility(const struct score_rule *rule, size_t n_set, const struct scored_set *set, double *number)
{
    struct published_rows rows[N_EVAL_SET] = {{0}};
    struct eval_summary own;
    for (int k = 0; k < N_EVAL_SET; k++) {
        const struct scored_set *s = find(n_set, set, eval_set_name((enum eval_set_id)k));
        if (s) rows[k] = (struct published_rows){.n = s->n, .score = s->score};
    }
    published_numbers(rule, rows, &own);
    memcpy(number + NUMBER_SETS, own.number, sizeof own.number);
    number[NUMBER_UTILITY] = own.model_utility;
}

/* Compares with the log of a model that never saw the forget rows, by the same rule. */
static enum status quality(const struct score_rule *rule, const struct named_log *own, const struct named_log *retain,
                           double *number)
{
    struct eval_summary other;
    enum status st = OK;
    number[NUMBER_QUALITY] = number[NUMBER_KS] = NAN;
    for (int k = 0; k < N_EVAL_NUMBER; k++) number[NUMBER_RELATIVE + k] = NAN;
    if (!retain->log->set[SET_FORGET].n || !own->log->set[SET_FORGET].perturbed) return OK;
    TRY(eval_forget_quality(rule, own->where, own->log, retain->where, retain->log, &number[NUMBER_QUALITY],
                            &number[NUMBER_KS]));
    eval_summarise(rule, retain->where, retain->log, &other);
    for (int k = 0; k < N_EVAL_NUMBER; k++) {
        const double x = number[NUMBER_SETS + SET_FORGET * N_EVAL_NUMBER + k], y = other.number[SET_FORGET][k];
        number[NUMBER_RELATIVE + k] = 100 * (x - y) / (y + TINY);
    }
done:
    return st;
}

/* ------------------------------------------------------------------------------------------------- attacks ------- */
/* Copies the finite scores of the set's rows to x; returns how many there are. */
static size_t finite_scores(const struct scored_set *s, enum score which, double *x)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const double y = *score_of(s, i, which);
        if (isfinite(y)) x[n++] = y;
    }
    return n;
}

/* The area of min_k of the model that never saw the forget rows. */
static double never_saw(const struct score_rule *rule, const struct eval_log *retain)
{
    if (!isnan(rule->privleak_auc)) return rule->privleak_auc;
    return retain->has_min_k ? retain->min_k_area : 0.5;
}

enum status evaluation_attacks(const struct score_rule *rule, const struct eval_log *retain,
                               const struct scored_set *members, const struct scored_set *others, double *number)
{
    double *x = NULL, *y = NULL;
    const double reference = never_saw(rule, retain);
    enum status st = OK;
    for (size_t i = 0; i < sizeof attack / sizeof *attack; i++) number[NUMBER_AUC_LOSS + i] = NAN;
    number[NUMBER_PRIVLEAK] = NAN;
    if (!members || !others) return OK;
    TRY_NEW(x, members->n);
    TRY_NEW(y, others->n);
    for (size_t i = 0; i < sizeof attack / sizeof *attack; i++) {
        const size_t n = finite_scores(members, attack[i], x), m = finite_scores(others, attack[i], y);
        TRY(auc(n, x, m, y, &number[NUMBER_AUC_LOSS + i]));
    }
    number[NUMBER_PRIVLEAK] = 100 * (reference - number[NUMBER_AUC_MIN_K]) / (1 - reference + TINY);
done:
    free(x), free(y);
    return st;
}

enum status evaluation_summarise(const struct score_rule *rule, size_t n_set, const struct scored_set *set,
                                 const struct named_log *own, const struct named_log *retain, double *number)
{
    enum status st = OK;
    utility(rule, n_set, set, number);
    TRY(quality(rule, own, retain, number));
    TRY(evaluation_attacks(rule, retain->log, find(n_set, set, "forget"), find(n_set, set, "holdout"), number));
done:
    return st;
}
