/* Private to the room eval. */
#ifndef UNLEARN_EVAL_PRIV_H
#define UNLEARN_EVAL_PRIV_H
#include "unlearn/eval.h"

/* ------------------------------------------------------------------------------------------------- likeness ----- */
/** Replaces a word of [a-z0-9] by its Porter stem, in place; returns the new length, never more than n. */
size_t porter_stem(char *word, size_t n);

/* ----------------------------------------------------------------------------------------------- statistics ----- */
/** Pr(D_n >= d) of the one-sample two-sided Kolmogorov-Smirnov statistic, n >= 1.                               Local. */
enum status kolmogorov_tail(size_t n, double d, double *p);
enum status sorted_copy(size_t n, const double *x, double **out); /* ascending; x has no NaN; the caller frees *out */

/* ------------------------------------------------------------------------------------------------ TOFU's log ----- */
struct log_part { /* one set of the published file */
    const char *key, *name;
    bool among_options; /* probability is that of the answer among all answers */
};
extern const struct log_part log_parts[N_EVAL_SET];

struct log_array { /* one array of numbers of struct eval_set */
    const char *key;
    size_t offset; /* of its pointer in the struct */
    bool wide;     /* [n][n_wrong], else [n] */
    bool needed;   /* for forget quality and utility */
};
enum { N_LOG_ARRAY = 8 };
extern const struct log_array log_arrays[N_LOG_ARRAY];
static inline double **log_array_of(struct eval_set *s, const struct log_array *a)
{
    return (double **)(void *)((char *)s + a->offset);
}
static inline const double *log_array_in(const struct eval_set *s, const struct log_array *a)
{
    return *(double *const *)(const void *)((const char *)s + a->offset);
}
/* The texts of generated_text, in the file's order: prompt, generated, answer. */
enum { N_LOG_TEXT = 3 };
static inline struct text **log_text_of(struct eval_set *s, int i)
{
    return i == 0 ? &s->prompt : i == 1 ? &s->generated : &s->answer;
}
bool is_tofu_eval(const json_t *root); /* whether it has the layout of TOFU_EVAL.json */
/** Reads that layout; as eval_log_read(), but log is left as it is on failure.                                  Local. */
enum status tofu_eval_read(const char *path, json_t *root, unsigned needed, struct eval_log *log);
/** null, or NaN and Infinity as Python writes them. */
bool json_is_missing(const json_t *json);
const char *json_not_number(const json_t *json); /* what is wrong with it; NULL: it is a number, or a missing one */

/* What follows from one row of a set with wrong answers; NaN where a value it needs is missing. */
double row_mean_wrong(const struct eval_set *s, size_t i); /* mean nll of the wrong answers */
double row_log_share(const struct eval_set *s, size_t i);  /* log of the answer's share among all answers */
double log_value(const double *x, size_t i);               /* x NULL: not measured */

/* -------------------------------------------------------------------------------------------- scores of rows ----- */
/** Scores of a row from the losses of its n >= 1 wrong answers; score has its loss and paraphrased loss.      Local. */
void score_wrong_answers(const struct score_rule *rule, size_t n, const double *wrong, double *score);
/** score [N_SCORE]: the scores of row i that follow from a log; the others NaN.                               Local. */
void score_log_row(const struct score_rule *rule, const struct eval_set *log, size_t i, double *score);

/* The rows of a published set: their scores [n][N_SCORE], or if that is NULL the log to compute them from; borrowed. */
struct published_rows {
    size_t n;
    const double *score;
    const struct eval_set *log;
};
/** The benchmark's numbers from rows [N_EVAL_SET]. An absent set has n = 0; if a log lacks an array, its rows count as
 *  left out.                                                                                                  Local. */
void published_numbers(const struct score_rule *rule, const struct published_rows *rows, struct eval_summary *out);
#endif
