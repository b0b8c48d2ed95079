/* Private to the room evaluation: room for one evaluation, its files, what it says. */
#ifndef UNLEARN_EVALUATION_PRIV_H
#define UNLEARN_EVALUATION_PRIV_H
#include "unlearn/evaluation.h"

struct evaluation {
    struct subject *subject; /* borrowed, as `in` and `grid` */
    const struct grid *grid;
    const struct evaluation_inputs *in;
    size_t *every, *label_first; /* [most rows], [most rows + 1] */
    double *nll, *hit, *z;       /* of every label of one variant of one set; NULL: not wanted */
    double *list;                /* [most rows] */
    double **reference;          /* [set][row] mean nll of the answer under the reference; NULL: not wanted */
    struct scored_set *set;      /* [set] scores owned, logs of `log`; rank 0 only, as all that follows */
    struct evaluation_numbers numbers;
    struct eval_log log; /* of the published sets */
    struct file *file;
};

/** How answers are generated. */
struct generation evaluation_decoding(const struct evaluation *v);
/** A row of evaluation.h5; the files of other tools.                                                             Local. */
enum status evaluation_put(struct evaluation *v, size_t step);
enum status evaluation_json(const struct evaluation *v);
/** Rows of a set without a number, and what they are left out of. */
void report_left_out(const struct evaluation *v, size_t set);
void report_evaluation(const struct evaluation *v, size_t step, bool last);

/* evaluation.h5: evaluation (step, set, row, metric), mean and left_out (step, set, metric), risk (step, set), summary
 * (step, number), rows (set). */
struct evaluation_file_info {
    size_t n_set, n_row, n_metric, n_number; /* n_row: of the longest set; shorter ones end in NaN */
    const char *const *set, *const *metric, *const *number;
    const int64_t *row;
    size_t n_attribute;
    const struct attribute *attribute;
};
enum status evaluation_file_create(const char *path, const struct evaluation_file_info *info, struct file **out);
#endif
