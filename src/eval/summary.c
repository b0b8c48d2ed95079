/* The benchmark's numbers of a log: see eval_summarise() and eval_forget_quality() in the header. */
#include "unlearn/eval_priv.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Values of one row; NaN: what they need is missing. */
static double probability(const struct eval_set *s, size_t i) { return isfinite(s->nll[i]) ? exp(-s->nll[i]) : NAN; }
static double probability_among(const struct eval_set *s, size_t i) { return exp(row_log_share(s, i)); }
static double rouge_recall(const struct eval_set *s, size_t i) { return isfinite(s->rouge_l[i]) ? s->rouge_l[i] : NAN; }
static double truth(const struct eval_set *s, size_t i)
{
    double r = row_log_truth_ratio(s, i);
    return r >= 0 ? 0 : -expm1(r);
}
static double truth_forget(const struct eval_set *s, size_t i) { return exp(-fabs(row_log_truth_ratio(s, i))); }
static double truth_for_quality(const struct eval_set *s, size_t i)
{
    return isfinite(s->paraphrased[i]) ? exp(row_mean_wrong(s, i) - s->paraphrased[i]) : NAN;
}

#define AT(member) offsetof(struct eval_set, member)
struct published {
    const char *name, *text; /* in the summary; in warnings */
    double (*row)(const struct eval_set *s, size_t i);
    size_t needs[2]; /* offsets of arrays */
};
static const struct published plain[N_EVAL_NUMBER] = {
    [EVAL_PROBABILITY] = {"probability", "probability", probability, {AT(nll), AT(nll)}},
    [EVAL_ROUGE] = {"rouge", "ROUGE-L", rouge_recall, {AT(rouge_l), AT(rouge_l)}},
    [EVAL_TRUTH_RATIO] = {"truth_ratio", "truth ratio", truth, {AT(paraphrased), AT(perturbed)}},
};
static const struct published among = {"probability", "probability", probability_among, {AT(nll), AT(perturbed)}};
static const struct published forgotten = {"truth_ratio", "truth ratio", truth_forget, {AT(paraphrased), AT(perturbed)}};
static const struct published quality = {"", "forget quality", truth_for_quality, {AT(paraphrased), AT(perturbed)}};

const char *eval_number_name(enum eval_number number) { return plain[number].name; }

static const struct published *number_of(enum eval_set_id set, enum eval_number number)
{
    if (number == EVAL_PROBABILITY && log_parts[set].among_options) return &among;
    if (number == EVAL_TRUTH_RATIO && set == SET_FORGET) return &forgotten;
    return &plain[number];
}

/* Whether it was measured; if not, *key names what lacks ("" where the set does). */
static bool measured(const struct eval_set *s, const struct published *number, const char **key)
{
    *key = "";
    for (int j = 0; j < 2 && s->n; j++)
        for (size_t k = 0; k < N_LOG_ARRAY; k++)
            if (log_arrays[k].offset == number->needs[j] && !log_array_in(s, &log_arrays[k])) {
                *key = log_arrays[k].key;
                return false;
            }
    return s->n > 0;
}

/* Those of the rows that have a value go to out [n] (may be NULL); one warning for the others. */
static size_t row_values(const char *where, enum eval_set_id set, const struct eval_set *s,
                         const struct published *number, double *out, double *sum)
{
    size_t n = 0, first = s->n;
    *sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        double x = number->row(s, i);
        if (isnan(x)) {
            if (first == s->n) first = i;
            continue;
        }
        if (out) out[n] = x;
        *sum += x, n++;
    }
    if (where && n < s->n)
        log_warn("%s: %s: %zu of %zu rows, the first is row %" PRId64 ", lack a finite value and are left out of %s",
                 where, log_parts[set].name, s->n - n, s->n, s->row[first], number->text);
    return n;
}

static void warn_absent(const char *where, const struct text *absent, bool utility)
{
    if (where && absent->n)
        log_warn("%s: not measured: %s%s", where, absent->data, utility ? "; without it no model utility" : "");
}

void eval_summarise(const char *where, const struct eval_log *log, struct eval_summary *out)
{
    struct text absent = {0};
    bool utility_lacks = false;
    for (int k = 0; k < N_EVAL_SET; k++)
        for (int j = 0; j < N_EVAL_NUMBER; j++) {
            const struct eval_set *s = &log->set[k];
            const struct published *number = number_of((enum eval_set_id)k, (enum eval_number)j);
            const char *key;
            double sum = 0;
            size_t n = 0;
            out->left_out[k][j] = 0;
            if (measured(s, number, &key)) {
                n = row_values(where, (enum eval_set_id)k, s, number, NULL, &sum);
                out->left_out[k][j] = s->n - n;
            } else if (s->n || !j) { /* of a set that is absent once; without memory the list is shorter, no more */
                text_print(&absent, "%s%s%s%s", absent.n ? ", " : "", log_parts[k].name, s->n ? ": " : "", key);
            }
            utility_lacks |= !n && k != SET_FORGET;
            out->number[k][j] = n ? sum / (double)n : NAN;
        }
    warn_absent(where, &absent, utility_lacks);
    text_free(&absent);
    out->model_utility = harmonic_mean((size_t)SET_FORGET * N_EVAL_NUMBER, &out->number[0][0]);
}

/* The samples of the test: [n] of one model; NULL and 0 where none was measured. */
static enum status sample(const char *where, const struct eval_log *log, size_t *n, double **x)
{
    enum status st = OK;
    const struct eval_set *s = &log->set[SET_FORGET];
    const char *key;
    double sum;
    *n = 0;
    if (measured(s, &quality, &key)) {
        TRY_NEW(*x, s->n);
        *n = row_values(where, SET_FORGET, s, &quality, *x, &sum);
    } else if (where)
        log_warn("%s: not measured: forget%s%s; without it no forget quality", where, *key ? ": " : "", key);
done:
    return st;
}

enum status eval_forget_quality(const char *where, const struct eval_log *log, const char *where_retain,
                                const struct eval_log *retain, double *p, double *statistic)
{
    enum status st;
    double *x = NULL, *y = NULL;
    size_t n, m;
    TRY(sample(where, log, &n, &x));
    TRY(sample(where_retain, retain, &m, &y));
    TRY(ks_two_sample(n, x, m, y, statistic, p));
done:
    free(x);
    free(y);
    return st;
}
