/* Private to the room task: the parts of a run and its stories. */
#ifndef UNLEARN_TASK_PRIV_H
#define UNLEARN_TASK_PRIV_H
#include "unlearn/evaluation.h"
#include "unlearn/input.h"
#include "unlearn/plan.h"
#include "unlearn/probe.h"
#include "unlearn/subject.h"
#include "unlearn/task.h"
#include "unlearn/training.h"

struct run {
    const struct inputs *in; /* borrowed, as plan */
    const struct plan *plan;
    struct subject *subject;
    struct training *training;       /* NULL: nothing is trained */
    struct measurement *measurement; /* NULL: nothing is measured */
    struct evaluation *evaluation;   /* NULL: nothing is evaluated */
    struct directory *directory;     /* rank 0 only */
};
void run_free(struct run *r); /* what it points to */

/* --------------------------------------------------------------------------------------------------- stories ----- */
/** The loop of updates; or, without training, what is there measured and evaluated.             Collective over the job. */
enum status unlearn(struct run *r);
/** task: generate, or with --check all short of it.                                             Collective over the job. */
enum status task_generate(const struct options *o, const struct inputs *in, const struct grid *world);
/** --check: prints the resolved input, this text of the plan, and the digest; needs memory for the weights only, so that it
 *  can be done elsewhere.                                                                      Collective over the job. */
enum status check_print(const struct inputs *in, const struct plan *p, const struct text *plan);

/* ----------------------------------------------------------------------------------------------------- files ----- */
/** Refuses to read anything that lies where the run removes or replaces files.                                   Local. */
enum status inputs_spared(const struct options *o, const struct config *c);
/** The output directory with run.log, before anything costly. Collective over the job. */
enum status run_directory(struct run *r, const struct options *o);
/** input.yaml, geffect.h5, train.h5, evaluation.h5: what there is to fill.                      Collective over the job. */
enum status run_files(struct run *r);
/** Ends them: what could not be written to them is a failure of the run.                        Collective over the job. */
enum status run_close(struct run *r);
/** model/, where it is asked for. Collective over the job. */
enum status run_export(struct run *r);
/** All results are written: an earlier run that they replace goes. Collective over the job. */
enum status run_complete(struct run *r);

/* ------------------------------------------------------------------------------------------------------- log ----- */
void report_head(const struct subject *s); /* program, input, model */
void report_start(const struct run *r);
void report_end(const struct run *r); /* Collective over the job. */
#endif
