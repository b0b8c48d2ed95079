/* restart: checkpoints of a training run, and going on from one. A checkpoint is a directory checkpoint-N beside the results:
 * the state after N updates, one directory of safetensors for each value per parameter, and manifest.json, which is written
 * last. Nothing in it depends on the layout of processes. docs/CHECKPOINT.md describes the format.                    */
#ifndef UNLEARN_RESTART_H
#define UNLEARN_RESTART_H
#include "unlearn/output.h"
#include "unlearn/training.h"

struct result_rows { /* of steps before a checkpoint's, in the files of a run */
    size_t geffect, evaluation, train;
};
struct restart {     /* a checkpoint to go on from; equal on every process */
    char *path;      /* owned */
    size_t step;     /* updates made */
    bool decays_all; /* it was made when all parameters decayed, and the input does not say optimizer.decay */
    size_t log_bytes;
    struct result_rows rows; /* rank 0 only, as all that follows */
    json_t *manifest;        /* owned */
};

/** Saves t after `step` updates into the run's directory: written beside, checksummed, synced, renamed; then all but the
 *  newest checkpoint.keep go. log_bytes: of the log so far. ERR_IO, and ERR_NUMERIC where a value is not finite: the
 *  checkpoints before it are as they were.
 *                                                                                              Collective over the job. */
enum status restart_save(struct training *t, size_t step, size_t log_bytes, const struct result_rows *rows);

/** The newest sound checkpoint in directory DIR that fits the input; damaged ones are named in warnings. ERR_INPUT: there is
 *  none, it is of another precision or a later format, or the input has changed in what must stay.
 *                                                                                            Collective over world. */
enum status restart_find(const char *dir, const struct config *c, const struct grid *world, struct restart **out);
/** Whether the run that is finished in DIR had this input: ERR_INPUT names what has changed and must stay.       Local. */
enum status restart_finished(const char *dir, const struct config *now);
void restart_free(struct restart *r);
/** What other library than the BLAS multiplied when it was made, as math_onednn() has it; NULL: none. Rank 0, borrowed. */
const char *restart_products(const struct restart *r);
/** What the run was begun with of which last bits depend, into *way; false: on another number of processes.
 *                                                                                            Collective over world. */
bool restart_way(const struct restart *r, const struct grid *world, struct way *way);
/** "restart ..." for the log: from where, and whether to the last bit. Rank 0. */
enum status restart_describe(const struct restart *r, const struct plan *p, struct text *out);
/** Whether models and data have the content that they had. ERR_INPUT names the key.             Collective over the job. */
enum status restart_check(const struct restart *r, const struct subject *s);
/** What was saved, on this layout.                                                              Collective over the job. */
enum status restart_load(const struct restart *r, struct training *t);
/** The weights alone, of the checkpoint of this step in the run's directory DIR. ERR_IO: it is not sound any more.
 *                                                                                              Collective over the job. */
enum status restart_weights(const char *dir, size_t step, struct training *t);
#endif
