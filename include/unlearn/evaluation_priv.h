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
    struct eval_log log; /* log of the published sets */
    struct file *file;
};

/** How answers are generated. */
struct generation evaluation_decoding(const struct evaluation *v);
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
