/* training: the gradient of one global batch and the update it makes; what must be kept to go on from there; train.h5.
 *      update t = 0 ... T-1:   training_gradient(), training_update(), training_put()                                 */
#ifndef UNLEARN_TRAINING_H
#define UNLEARN_TRAINING_H
#include "unlearn/optim.h"
#include "unlearn/output.h"
#include "unlearn/subject.h"

struct update {                     /* what one update was; NaN: it was none */
    double loss, objective, *part;  /* in nats; part [n_regularizer] */
    double norm, norm_of_objective; /* of the gradients */
    double *norm_of_part;           /* [n_regularizer] weight included */
    double rate, seconds;
    size_t tokens;
};
enum training_extra {                       /* what a measurement wants to see of an update */
                      SHOWS_STEP = 1,       /* theta_t+1 - theta_t */
                      SHOWS_REGULARIZER = 2 /* the gradient of all regularisers together */
};
struct training {
    struct subject *subject;   /* borrowed; its weights are updated */
    struct state *gradient;    /* of the batch, complete */
    struct state *part;        /* gradient of a regulariser, by turns; NULL: there is none */
    struct state *regularizer; /* SHOWS_REGULARIZER: their sum, `part` where there is one only; NULL: not shown */
    struct state *step;        /* SHOWS_STEP: of an update that is shown; NULL: not shown */
    struct optim *optim;
    size_t *batch_row, *retain_row; /* of an update */
    double *weight, *loss;          /* [longest list] of its rows */
    struct update update;           /* the one that was formed last */
    struct file *file;              /* train.h5, rank 0 only */
    double started;                 /* clock at the first update of this process */
    size_t made;                    /* updates of this process */
};
extern const struct part training_part;

enum status training_new(struct subject *s, unsigned extra, struct training **out);
void training_free(struct training *t);

/** The batch gradient of update i into t->gradient, complete, and what else t->update says of it.
 *                                                                                              Collective over the job. */
enum status training_gradient(struct training *t, size_t i);
/** theta_t+1 from it; a shown update also leaves its step. ERR_NUMERIC: the loss or the gradient is not finite, and nothing
 *  was updated.                                                                                Collective over the job. */
enum status training_update(struct training *t, size_t i, bool shown);
/** After the last update: a t->update without numbers.                                                           Local. */
void training_ended(struct training *t);

/* What must be saved, and put back, to go on as if nothing had happened: the weights, what the optimiser has gathered, the
 * number of updates made. Rows and draws are functions of the input and that number. */
enum { MOST_SAVED = 8 };
struct saved {
    const char *name;
    struct state *state; /* a value for every parameter; or NULL, and */
    uint64_t *number;    /* a number */
};
size_t training_saved(struct training *t, struct saved saved[MOST_SAVED]);

/** dir/train.h5 and its rows. Local; rank 0 only. */
enum status training_open(struct training *t, const char *dir, const struct opening *o);
enum status training_put(struct training *t, size_t i);
/** Sees its rows onto the disk. Local; any rank. */
enum status training_sync(struct training *t);
/** Ends the file. Local; any rank. */
enum status training_close(struct training *t);
void training_report(const struct training *t, size_t i); /* a line of the log */
#endif
