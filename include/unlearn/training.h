/* training: the gradient of one global batch and the update it makes; what must be kept to go on from there; train.h5.
 *      update t = 0 ... T-1:   training_gradient(), training_update(), training_put()                                 */
#ifndef UNLEARN_TRAINING_H
#define UNLEARN_TRAINING_H
#include "unlearn/optim.h"
#include "unlearn/output.h"
#include "unlearn/subject.h"

struct update {                     /* the numbers of one update; NaN: there was none */
    double loss, objective, *part;  /* in nats; part [n_regularizer] */
    double norm, norm_of_objective; /* 2-norms of the gradients */
    double *norm_of_part;           /* [n_regularizer] of their gradients times their weights; NAN: there was no room */
    double rate, seconds;
    double dual;   /* the dual weight at its beginning; NaN: none */
    double cosine; /* of forget and retain gradient, before the one is projected off the other; NaN: guard.project is 0 */
    size_t tokens;
};
struct training {
    struct subject *subject; /* borrowed; its weights are updated */
    /* states that the plan has, of which it says when they are alive; NULL: nothing reads it; borrowed from the subject */
    struct state *gradient;     /* of the batch, complete */
    struct state *part;         /* what one regulariser has added to it, reused for each */
    struct state *regularizers; /* what several have added together */
    struct state *step;         /* theta_t+1 - theta_t */
    struct optim *optim;
    size_t *batch_row, *retain_row; /* rows of the current update */
    double *weight, *loss;          /* [longest list] of these rows */
    double *factor;                 /* [longest list] of each part of a batch: its weight in the update */
    uint64_t dual;                  /* the bits of a regulariser's weight that is a dual variable */
    double dual_next;               /* what it becomes when the update is made */
    struct guard *guard;            /* NULL: nothing guards */
    struct update_window *window;   /* NULL: none is asked for */
    struct update update;           /* the latest one */
    struct file *file;              /* train.h5, rank 0 only */
    double started;                 /* clock at the first update of this process */
    size_t made;                    /* updates of this process */
};
extern const struct part training_part;
/** Describes train.h5.                                                                                        Local. */
enum status training_files(file_say *say, void *to);

enum status training_new(struct subject *s, struct training **out);
void training_free(struct training *t);

/** Computes the complete batch gradient of update i, t->gradient, and sets t->update.       Collective over the job. */
enum status training_gradient(struct training *t, size_t i);
/** Updates the weights with it; if `shown`, also sets t->step. ERR_NUMERIC: the loss or the gradient is not finite, and
 *  nothing was updated.                                                                     Collective over the job. */
enum status training_update(struct training *t, size_t i, bool shown);
/** After the last update: sets the numbers of t->update to NaN.                                               Local. */
void training_ended(struct training *t);

/* ------------------------------------------------------------------------------------------------------ guard ----- */
/* What acts on measurements and gradients, docs/GUARD.md: layers rest, the forget gradient is projected, a budget ends
 * the run. */
enum verdict { GO_ON, STOP_RUN, STEP_BACK };
struct seen { /* what a measurement shows the guard; equal on every process but for its gradient */
    size_t step;
    double risk;                  /* the guarded risk, in nats */
    const struct state *gradient; /* of it, complete; NULL: guard_predicts() does not ask for it */
    const double *effect;         /* [layout->n_layer] of the objective trained on it, summed over weighted instances */
    bool updates;                 /* an update follows, whose gradient is t->gradient */
};
struct guarded { /* what it said of the measurement before */
    enum verdict verdict;
    double value, limit; /* what the budget compares, in nats; NaN: there is no budget */
    size_t model;        /* updates of the model that the run leaves if the verdict is to end it */
    const double *rests; /* [layout->n_layer] 1: the layer gets no updates until the next measurement, 0: it gets them */
};
/** ERR_INPUT: what the input asks of the guard cannot be done.                                                   Local. */
enum status guard_check(const struct inputs *in);
/** Whether it acts on measurements, of the risk guard_risk(in). */
bool guard_measures(const struct inputs *in);
/** Whether it reads the gradient of that risk, when an update's is formed. */
bool guard_predicts(const struct inputs *in);
/** The number of the risk that is guarded; in->n_risk: there is none. */
size_t guard_risk(const struct inputs *in);
/** The number of the objective trained among those measured; in->n_measured: it is not among them. */
size_t guard_objective(const struct inputs *in);
/** After a measurement and before the update: decides, and returns what; borrowed.          Collective over the job. */
const struct guarded *training_guard(struct training *t, const struct seen *seen);
/** What it said last; without a guard that the run goes on. */
struct guarded training_guarded(const struct training *t);
/** The state after `step` updates, as it is now, is that of a checkpoint.                                        Local. */
void training_checkpointed(struct training *t, size_t step);
/** The step of the checkpoint that a run may yet step back to; SIZE_MAX: there is none. */
size_t training_pinned(const struct training *t);

/* ----------------------------------------------------------------------------------------------------- window ----- */
/* Updates predicted from where they began: window.c. States are whole, on every process its part. */
struct update_window {
    size_t length;
    uint64_t begun;                   /* 1 + the update at which the present one began; 0: none */
    struct state *start;              /* weights there; owned, as all of these */
    struct state *first, *corrected;  /* the way made since: to first order, and with A */
    struct state *gradient, *product; /* scratch between updates */
};
size_t window_length(const struct inputs *in); /* updates; 0: none is asked for */
/** ERR_INPUT: the input has no such window.                                                                      Local. */
enum status window_check(const struct inputs *in);
/** Before update i is made, its gradient complete: the window begins, or follows it.        Collective over the job. */
enum status training_window(struct training *t, size_t i);
/** Whether the update made last was the last of a window. */
bool window_ends(const struct training *t);

/* ------------------------------------------------------------------------------------------------------ saved ----- */
/* What must be saved and restored so that a run continues as if it had not stopped: the weights, the optimiser's
 * moments, the number of updates made, a dual weight, what the guard remembers, a window. Rows and random draws follow from
 * the input and that number. */
enum { MOST_SAVED = 16 };
struct saved {
    const char *name;
    struct state *state; /* NULL: the member is a number */
    uint64_t *number;    /* NULL: the member is a state */
};
size_t training_saved(struct training *t, struct saved saved[MOST_SAVED]);

/** Creates dir/train.h5, or continues it. Local; rank 0 only. */
enum status training_open(struct training *t, const char *dir, const struct opening *o);
enum status training_put(struct training *t, size_t i);
/** Flushes its rows to disk. Local; any rank. */
enum status training_sync(struct training *t);
/** Rows of steps before this one; 0 on other ranks than 0. Local. */
size_t training_rows(const struct training *t, int64_t step);
/** Closes the file. Local; any rank. */
enum status training_close(struct training *t);
void training_report(const struct training *t, size_t i); /* writes the log's line of an update */
#endif
