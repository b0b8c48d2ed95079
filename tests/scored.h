/* What tests of scores need: four rows with the values of their tokens, and a set for their scores. */
#ifndef UNLEARN_TESTS_SCORED_H
#define UNLEARN_TESTS_SCORED_H
#include "near.h"
#include "unlearn/eval_priv.h"

static const double TOL = 1e-14; /* relative above 1: a few exponentials and logarithms of small numbers */

static const struct score_rule tofu = {.min_k = 0.2, .privleak_auc = 0.5};
static const struct score_rule open_unlearning = {
    .min_k = 0.4, .tiny = 1e-10, .privleak_auc = 0.5, .without_end = true, .one_extracted = true, .geometric = true};
static inline double ln(double x) { return log(x); }

/* A set of at most 4 rows, its scores noise that must not leak into results. */
enum { ROWS = 4 };
static inline struct scored_set new_set(const char *name, size_t n, double *score, struct eval_set *log)
{
    struct scored_set s = {.name = name, .n = n, .score = score, .log = log};
    for (size_t i = 0; i < n * N_SCORE; i++) score[i] = -7;
    scores_clear(&s);
    for (size_t i = 0; i < n * N_SCORE; i++) assert_true(isnan(score[i]));
    return s;
}

static inline void assert_score(const struct scored_set *s, size_t row, enum score which, double want)
{
    const double got = *score_of(s, row, which);
    if (isnan(want) && isnan(got)) return;
    if (isnan(got)) print_error("%s of row %zu is NaN\n", score_table[which].name, row);
    assert_near(got, want, TOL);
}

static const struct text texts[ROWS] = {{"a", 1, 2}, {"", 0, 1}, {"bb", 2, 3}, {"c", 1, 2}};

/* Row 0: ln 2, ln 4, ln 8, the first and third the likeliest. Row 1 has no tokens, row 2 one, row 3 an infinite one. */
static const size_t label_first[ROWS + 1] = {0, 3, 3, 4, 6};
static double nll[6], hit[6] = {1, 0, 1, 0, 1, 1}, z[6] = {0.5, -3, 1, -2, 0, 1};
static inline struct token_values values(void)
{
    const double of[] = {ln(2), ln(4), ln(8), ln(16), ln(2), INFINITY};
    memcpy(nll, of, sizeof nll);
    return (struct token_values){.label_first = label_first, .nll = nll, .hit = hit, .z = z};
}
#endif
