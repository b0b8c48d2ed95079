/* evaluation: what a model still knows, all scores of all sets at once, and the files that say so.                   */
#ifndef UNLEARN_EVALUATION_H
#define UNLEARN_EVALUATION_H
#include "unlearn/output.h"
#include "unlearn/subject.h"

struct evaluation; /* opaque */
extern const struct part evaluation_part;

enum status evaluation_new(struct subject *s, struct evaluation **out); /* Collective over the job. */
void evaluation_free(struct evaluation *v);
/** What the reference says of the answers, its weights in the subject's.                        Collective over the job. */
enum status evaluation_reference(struct evaluation *v);
/** dir/evaluation.h5 with all that does not change. Local; rank 0 only. */
enum status evaluation_open(struct evaluation *v, const char *dir, const struct opening *o);
/** Sees its rows onto the disk. Local; any rank. */
enum status evaluation_sync(struct evaluation *v);
/** Ends the file. Local; any rank. */
enum status evaluation_close(struct evaluation *v);
/** All scores at the weights as they are, a row of evaluation.h5; the last one also writes the JSON files and the table.
 *                                                                                              Collective over the job. */
enum status evaluate(struct evaluation *v, size_t step, bool last);
#endif
