/* probe: measures one row of geffect.h5: risks and their gradients on full sets, effects of all objectives and
 * regularisers, and whatever the probes of a table measure beside these.                                             */
#ifndef UNLEARN_PROBE_H
#define UNLEARN_PROBE_H
#include "unlearn/output.h"
#include "unlearn/subject.h"
#include "unlearn/training.h"

struct measurement; /* what is measured, with its buffers; opaque */
extern const struct part measurement_part;

/** Describes geffect.h5 and the files of probes.                                                               Local. */
enum status measurement_files(file_say *say, void *to);
/** " name" of each probe that is asked for, " 0" where none is. */
enum status probes_named(const struct inputs *in, struct text *out);
/** ERR_INPUT if something cannot be measured together with the probes asked for.                              Local. */
enum status probes_check(const struct inputs *in);

/** t NULL: nothing is trained.                                                                  Collective over the job. */
enum status measurement_new(struct subject *s, struct training *t, struct measurement **out);
void measurement_free(struct measurement *m);
/** Creates dir/geffect.h5 with all values that do not change. Local; rank 0 only. */
enum status measurement_open(struct measurement *m, const char *dir, const struct opening *o);
/** Flushes its rows to disk. Local; any rank. */
enum status measurement_sync(struct measurement *m);
/** Rows of steps before this one; 0 on other ranks than 0. Local. */
size_t measurement_rows(const struct measurement *m, int64_t step);
/** Closes the file. Local; any rank. */
enum status measurement_close(struct measurement *m);

/** From now on a measurement calls ask() between its parts; if that returns true it ends with ERR_STOPPED, its row
 *  incomplete. ask() is Collective over the job. */
void measurement_interruptible(struct measurement *m, bool (*ask)(void *context), void *context);

/** Measures a row at the present weights, those after `step` updates, before the gradient of the next update is formed: it has
 *  memory that is needed here.                                                              Collective over the job. */
enum status measure(struct measurement *m, size_t step);
/** Measures what concerns the gradient of the update that follows. u NULL: there is none.   Collective over the job. */
enum status measure_formed(struct measurement *m, const struct update *u);
/** After the update: measures what it did, then commits and reports the row of this step. u NULL: there was none.
 *                                                                                           Collective over the job. */
enum status measure_end(struct measurement *m, size_t step, const struct update *u);
#endif
