/* probe: one row of geffect.h5. Risks and their gradients on full sets, effects of all objectives and regularisers, and from
 * a table of probes whatever else is measured at a step.                                                             */
#ifndef UNLEARN_PROBE_H
#define UNLEARN_PROBE_H
#include "unlearn/output.h"
#include "unlearn/subject.h"
#include "unlearn/training.h"

struct measurement; /* what is measured, and room for it; opaque */
extern const struct part measurement_part;

/** What the probes asked for want to see of an update, of enum training_extra. */
unsigned probes_show(const struct inputs *in);
/** " name" of each probe that is asked for, " 0" where none is. */
enum status probes_named(const struct inputs *in, struct text *out);
/** Refuses what cannot be measured together.                                                                    Local. */
enum status probes_check(const struct inputs *in);

/** t NULL: nothing is trained.                                                                  Collective over the job. */
enum status measurement_new(struct subject *s, struct training *t, struct measurement **out);
void measurement_free(struct measurement *m);
/** dir/geffect.h5 with all that does not change. Local; rank 0 only. */
enum status measurement_open(struct measurement *m, const char *dir, const struct opening *o);
/** Sees its rows onto the disk. Local; any rank. */
enum status measurement_sync(struct measurement *m);
/** Ends the file. Local; any rank. */
enum status measurement_close(struct measurement *m);

/** From now on a measurement asks between its parts whether to end, and then does with ERR_STOPPED, its row not complete.
 *  ask() is Collective over the job. */
void measurement_interruptible(struct measurement *m, bool (*ask)(void *context), void *context);

/** A row at the weights as they are. u: the update that follows, its gradient complete; NULL: none.
 *                                                                                              Collective over the job. */
enum status measure(struct measurement *m, const struct update *u);
/** What the update, now made, did; then the row of this step is complete, committed and reported. u NULL: there was none.
 *                                                                                              Collective over the job. */
enum status measure_end(struct measurement *m, size_t step, const struct update *u);
#endif
