/* Private to the room evaluation: the buffers of an evaluation, its files, its lines of the log. */
#ifndef UNLEARN_EVALUATION_PRIV_H
#define UNLEARN_EVALUATION_PRIV_H
#include "unlearn/evaluation.h"

struct evaluation {
    struct subject *subject; /* borrowed, as are `grid` and `in` */
    const struct grid *grid;
    const struct evaluation_inputs *in;
    size_t *every, *label_first; /* [most rows], [most rows + 1] */
    double *nll, *hit, *z;       /* of every label of one variant of one set, reused; NULL: not wanted */
    double *list;                /* [most rows] one score of every row */
    double **reference;          /* [set][row] mean nll of the answer under the reference; NULL: not wanted */
    struct scored_set *set;      /* [set] scores owned, logs point into `log`; rank 0 only, as all that follows */
    struct evaluation_numbers numbers;
    struct eval_log log;        /* log of the published sets */
    struct eval_set *generated; /* [set] texts of other sets; NULL: there are none; owned */
    struct file *file;
};

/* MUSE's numbers: its own in place of TOFU's first three, then the attacks and privleak as there. */
enum { MUSE_VERBMEM, MUSE_KNOWMEM_FORGET, MUSE_KNOWMEM_RETAIN, N_MUSE = NUMBER_PRIVLEAK + 1 };

/* ------------------------------------------------------------------------------------------- files of other tools ----- */
enum { MOST_VALUES = 3, MEAN = -1 };
enum kind {
    WHOLE,  /* a number of the whole evaluation, without rows */
    ROWS,   /* values of every row */
    LISTS,  /* of every row, a list with a value for each wrong answer */
    TEXTS,  /* values of every row, and what was asked, expected and generated */
    ATTACK, /* values of the rows of forget and of holdout */
};
struct entry {
    const char *name, *set;
    enum kind kind;
    int number; /* number of the whole evaluation; MEAN: the mean of the first value */
    struct value {
        const char *key;
        enum score score;
        bool loss;        /* the value is the probability exp(-score) */
    } value[MOST_VALUES]; /* a NULL key ends them */
};
extern const struct entry tofu_entries[], muse_entries[]; /* a NULL name ends them */

/* What is computed and written at the end of an evaluation, by evaluate.benchmark. */
struct suite {
    size_t n_number;
    const char *const *number_name;
    enum status (*summarise)(struct evaluation *v, bool last); /* v->numbers.number */
    const struct entry *entry; /* of the JSON files, see json.c; NULL: an entry for each set */
    const char *whole, *flat;  /* their names */
};
const struct suite *suite_of(const struct config *c);
/** Scores of questions with choices, from the likelihoods measured last.                                      Local. */
enum status scores_choices(const struct token_values *t, const size_t *first, const size_t *right,
                           const struct scored_set *s);

/** How the answers of a set are generated. */
struct generation evaluation_decoding(const struct evaluation *v, const struct evaluated_set *s);
/** Writes a row of evaluation.h5; writes the files in other tools' formats.                                   Local. */
enum status evaluation_put(struct evaluation *v, size_t step);
enum status evaluation_json(const struct evaluation *v);
/** Warns of rows of a set without a finite number, and names the means that leave them out. */
void report_left_out(const struct evaluation *v, size_t set);
void report_evaluation(const struct evaluation *v, size_t step, bool last);

/* evaluation.h5: evaluation (step, set, row, metric), mean and left_out (step, set, metric), risk (step, set), summary
 * (step, number), rows (set). */
struct evaluation_file_info {
    size_t n_set, n_row, n_metric, n_number; /* n_row: rows of the longest set; shorter sets are filled with NaN */
    const char *const *set, *const *metric, *const *number;
    const int64_t *row;
    size_t n_attribute;
    const struct attribute *attribute;
};
enum status evaluation_file_create(const char *path, const struct evaluation_file_info *info, struct file **out);
#endif
