/* The benchmark's numbers, from rows that were scored or from a log: see eval_summarise() and eval_forget_quality() in
 * the header. */
#include "unlearn/eval_priv.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define AT(member) offsetof(struct eval_set, member)
struct published {
    const char *name, *text; /* its name in the summary, and in warnings */
    enum score score;        /* the row's score that it is made from */
    size_t needs[2];         /* offsets of the arrays that a log must have */
};
static const struct published plain[N_EVAL_NUMBER] = {
    [EVAL_PROBABILITY] = {"probability", "probability", SCORE_PROBABILITY, {AT(nll), AT(nll)}},
    [EVAL_ROUGE] = {"rouge", "ROUGE-L", SCORE_ROUGE_L_RECALL, {AT(rouge_l), AT(rouge_l)}},
    [EVAL_TRUTH_RATIO] = {"truth_ratio", "truth ratio", SCORE_TRUTH_RATIO, {AT(paraphrased), AT(perturbed)}},
};
static const struct published among = {"probability", "probability", SCORE_OF_OPTIONS, {AT(nll), AT(perturbed)}};
static const struct published quality = {"", "forget quality", SCORE_QUALITY_RATIO, {AT(paraphrased), AT(perturbed)}};

const char *eval_number_name(enum eval_number number) { return plain[number].name; }

static const struct published *number_of(enum eval_set_id set, enum eval_number number)
{
    return number == EVAL_PROBABILITY && log_parts[set].among_options ? &among : &plain[number];
}

/* ------------------------------------------------------------------------------------------------- any rows ------- */
static double score_at(const struct score_rule *rule, const struct published_rows *rows, size_t i, enum score which)
{
    double score[N_SCORE];
    if (rows->score) return rows->score[i * N_SCORE + which];
    score_log_row(rule, rows->log, i, score);
    return score[which];
}

/* What a row adds to the sum of a number; NaN: the row lacks a value for it. */
static double value(const struct score_rule *rule, enum eval_set_id set, enum eval_number number,
                    const struct published_rows *rows, size_t i)
{
    const double x = score_at(rule, rows, i, number_of(set, number)->score);
    if (number != EVAL_TRUTH_RATIO || isnan(x)) return x;
    return set == SET_FORGET ? fmin(x, 1 / (x + rule->tiny)) : fmax(0, 1 - x);
}

void published_numbers(const struct score_rule *rule, const struct published_rows *rows, struct eval_summary *out)
{
    for (int k = 0; k < N_EVAL_SET; k++)
        for (int j = 0; j < N_EVAL_NUMBER; j++) {
            double sum = 0;
            size_t n = 0;
            for (size_t i = 0; i < rows[k].n; i++) {
                const double x = value(rule, (enum eval_set_id)k, (enum eval_number)j, &rows[k], i);
                if (isfinite(x)) sum += x, n++;
            }
            out->number[k][j] = n ? sum / (double)n : NAN;
            out->left_out[k][j] = rows[k].n - n;
        }
    out->model_utility = harmonic_mean((size_t)SET_FORGET * N_EVAL_NUMBER, &out->number[0][0]);
}

/* ---------------------------------------------------------------------------------------------------- a log ------- */
/* Whether the set has what the number needs; if not, *key names the missing array, "" if the whole set is missing. */
static bool measured(const struct eval_set *s, const struct published *number, const char **key)
{
    *key = "";
    if (s->ratio && (number->score == SCORE_TRUTH_RATIO || number->score == SCORE_QUALITY_RATIO)) return true;
    for (int j = 0; j < 2 && s->n; j++)
        for (size_t k = 0; k < N_LOG_ARRAY; k++)
            if (log_arrays[k].offset == number->needs[j] && !log_array_in(s, &log_arrays[k])) {
                *key = log_arrays[k].key;
                return false;
            }
    return s->n > 0;
}

static void warn_left_out(const char *where, enum eval_set_id set, const struct eval_set *s, size_t n, size_t first,
                          const char *text)
{
    if (where && n)
        log_warn("%s: %s: %zu of %zu rows, the first is row %" PRId64 ", lack a finite value and are left out of %s",
                 where, log_parts[set].name, n, s->n, s->row[first], text);
}

static void warn_absent(const char *where, const struct text *absent, bool utility)
{
    if (where && absent->n)
        log_warn("%s: not measured: %s%s", where, absent->data, utility ? "; without it no model utility" : "");
}

void eval_summarise(const struct score_rule *rule, const char *where, const struct eval_log *log,
                    struct eval_summary *out)
{
    struct published_rows rows[N_EVAL_SET];
    struct text absent = {0};
    bool utility_lacks = false;
    for (int k = 0; k < N_EVAL_SET; k++) rows[k] = (struct published_rows){.n = log->set[k].n, .log = &log->set[k]};
    published_numbers(rule, rows, out);
    for (int k = 0; k < N_EVAL_SET; k++)
        for (int j = 0; j < N_EVAL_NUMBER; j++) {
            const struct eval_set *s = &log->set[k];
            const struct published *number = number_of((enum eval_set_id)k, (enum eval_number)j);
            const char *key;
            size_t first = 0;
            utility_lacks |= isnan(out->number[k][j]) && k != SET_FORGET;
            if (measured(s, number, &key)) {
                while (first < s->n && isfinite(value(rule, (enum eval_set_id)k, (enum eval_number)j, &rows[k], first)))
                    first++;
                warn_left_out(where, (enum eval_set_id)k, s, out->left_out[k][j], first, number->text);
                continue;
            }
            out->left_out[k][j] = 0;
            if (s->n || !j) /* names an absent set once; if memory is exhausted, only the list is shorter */
                text_print(&absent, "%s%s%s%s", absent.n ? ", " : "", log_parts[k].name, s->n ? ": " : "", key);
        }
    warn_absent(where, &absent, utility_lacks);
    text_free(&absent);
}

/* One model's sample for the KS test: *x [*n]; *n = 0 and *x unchanged if it was not measured. */
static enum status sample(const struct score_rule *rule, const char *where, const struct eval_log *log, size_t *n,
                          double **x)
{
    const enum score which = rule->tiny > 0 ? SCORE_TRUTH_RATIO : quality.score;
    const struct eval_set *s = &log->set[SET_FORGET];
    const struct published_rows rows = {.n = s->n, .log = s};
    size_t first = s->n;
    const char *key;
    enum status st = OK;
    *n = 0;
    if (!measured(s, &quality, &key)) {
        if (where) log_warn("%s: not measured: forget%s%s; without it no forget quality", where, *key ? ": " : "", key);
        return OK;
    }
    TRY_NEW(*x, s->n);
    for (size_t i = 0; i < s->n; i++) {
        const double ratio = score_at(rule, &rows, i, which);
        if (!isnan(ratio))
            (*x)[(*n)++] = ratio;
        else if (first == s->n)
            first = i;
    }
    warn_left_out(where, SET_FORGET, s, s->n - *n, first, quality.text);
done:
    return st;
}

enum status eval_forget_quality(const struct score_rule *rule, const char *where, const struct eval_log *log,
                                const char *where_retain, const struct eval_log *retain, double *p, double *statistic)
{
    enum status st;
    double *x = NULL, *y = NULL;
    size_t n, m;
    TRY(sample(rule, where, log, &n, &x));
    TRY(sample(rule, where_retain, retain, &m, &y));
    TRY(ks_two_sample(n, x, m, y, statistic, p));
done:
    free(x);
    free(y);
    return st;
}
