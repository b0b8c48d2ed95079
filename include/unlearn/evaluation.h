/* evaluation: measures what a model still knows, with all scores of all sets, and writes the files of results.       */
#ifndef UNLEARN_EVALUATION_H
#define UNLEARN_EVALUATION_H
#include "unlearn/output.h"
#include "unlearn/subject.h"

struct evaluation; /* opaque */
extern const struct part evaluation_part;
/** Describes evaluation.h5; the names of its axis `number` for a benchmark, in Markdown.                       Local. */
enum status evaluation_files(file_say *say, void *to);
enum status evaluation_numbers(enum benchmark b, struct text *out);

enum status evaluation_new(struct subject *s, struct evaluation **out); /* Collective over the job. */
void evaluation_free(struct evaluation *v);
/** Computes the reference's nll of the answers; the subject's weights must be the reference's.
 *                                                                                           Collective over the job. */
enum status evaluation_reference(struct evaluation *v);
/** Creates dir/evaluation.h5 with all values that do not change. Local; rank 0 only. */
enum status evaluation_open(struct evaluation *v, const char *dir, const struct opening *o);
/** Flushes its rows to disk. Local; any rank. */
enum status evaluation_sync(struct evaluation *v);
/** Rows of steps before this one; 0 on other ranks than 0. Local. */
size_t evaluation_rows(const struct evaluation *v, int64_t step);
/** Closes the file. Local; any rank. */
enum status evaluation_close(struct evaluation *v);
/** Measures all scores at the present weights and writes a row of evaluation.h5; if `last`, also the JSON files and the
 *  table in the log.                                                                        Collective over the job. */
enum status evaluate(struct evaluation *v, size_t step, bool last);
#endif
