/* Private to the room task: the parts of a run and its stories. */
#ifndef UNLEARN_TASK_PRIV_H
#define UNLEARN_TASK_PRIV_H
#include "unlearn/evaluation.h"
#include "unlearn/input.h"
#include "unlearn/plan.h"
#include "unlearn/probe.h"
#include "unlearn/restart.h"
#include "unlearn/subject.h"
#include "unlearn/task.h"
#include "unlearn/training.h"

/* ------------------------------------------------------------------------------------------------ stopping early ----- */
enum stop_cause { STOP_NOT, STOP_TIME, STOP_FILE, STOP_SIGNAL }; /* the largest counts */
struct stop {
    const struct grid *grid; /* borrowed */
    char *file;              /* a file of this name stops the run; rank 0 only; owned */
    double deadline;         /* clock_seconds() at which the job ends; 0: none */
    double began;            /* the clock when the step began that is not over */
    double longest, saving;  /* seconds of the longest step, and of a checkpoint */
    enum stop_cause cause;   /* the answer given last */
};
/** From now on SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 ask the run to stop; a second one ends the process at once. saved: bytes
 *  of a checkpoint.                                                                                              Local. */
enum status stop_watch(struct stop *s, const struct grid *g, const struct options *o, const char *dir, size_t saved);
/** Says what is not watched where nothing is trained, and so nothing could be gone on with.                    Local. */
void stop_unwatched(const struct options *o);
void stop_free(struct stop *s);
/** Whether to stop, the same on every process: a signal reached any of them, the file is there, or a checkpoint, and between
 *  steps the next step, would end beyond the deadline.                                          Collective over the job. */
enum stop_cause stop_asked(struct stop *s, bool between_steps);
void stop_begins(struct stop *s);                /* the next step begins now: what was read before it is none */
void stop_saved(struct stop *s, double seconds); /* how long a checkpoint took, which is no step */
const char *stop_text(enum stop_cause reason);

struct run {
    const struct inputs *in; /* borrowed, as plan */
    const struct plan *plan;
    struct subject *subject;
    struct training *training;       /* NULL: nothing is trained */
    struct measurement *measurement; /* NULL: nothing is measured */
    struct evaluation *evaluation;   /* NULL: nothing is evaluated */
    struct directory *directory;     /* rank 0 only */
    struct restart *restart;         /* what the run goes on from; NULL: it begins */
    bool finished;                   /* it was, before */
    size_t log_bytes;                /* of the log before the present step began: its lines come again after a restart */
    bool saved;                      /* a checkpoint has the present state */
    struct stop stop;
};
void run_free(struct run *r); /* what it points to */

/* --------------------------------------------------------------------------------------------------- stories ----- */
/** The loop of updates; or, without training, what is there measured and evaluated.             Collective over the job. */
enum status unlearn(struct run *r);
/** task: generate, or with --check all short of it.                                             Collective over the job. */
enum status task_generate(const struct options *o, const struct inputs *in, const struct grid *world);
/** --check: prints the resolved input, this text of the plan, totals, and the digest; needs memory for the weights only, so
 *  that it can be done elsewhere, and for another machine not even these. s NULL: nothing but prompts.
 *                                                                                              Collective over the job. */
enum status check_print(const struct inputs *in, struct timetable *s, const struct grid *world, const struct machine *m,
                        const struct plan *p, const struct text *plan);
struct times { /* how often each kind of work is done */
    size_t updates, measurements, evaluations;
};
/** Adds the layouts that so many processes can have: memory, predicted times, and which of them to take.        Local. */
enum status layouts_print(const struct inputs *in, struct timetable *s, const struct machine *m, const struct plan *p,
                          const struct rates *r, const struct times *times, struct text *out);
/** Collective over world. */
enum status rates_measure(const struct inputs *in, const struct plan *p, const struct grid *world, struct rates *r);

/** Nominal flops of a whole run, of all processes. */
double work_of_all(const struct inputs *in, const struct timetable *s, const struct plan *p);

/* -------------------------------------------------------------------------------------------------- products ----- */
/** Sets whose products the run uses where the input says so; ERR_INPUT where this program or processor has not got them.
 *                                                                                              Collective over world. */
enum status products_asked(const struct inputs *in, const struct grid *world);
/** Where the input leaves it open: the faster, as rank 0 measures at the sizes of the plan; so that a run of little work is the
 *  same each time, the BLAS library's for that.                                               Collective over world. */
enum status products_chosen(const struct inputs *in, const struct timetable *s, const struct plan *p,
                            const struct grid *world);
/** Where the input leaves it open: those of the checkpoint; with a warning where they are not to be had.
 *                                                                                              Collective over world. */
enum status products_of_restart(const struct inputs *in, const struct restart *r, const struct grid *world);
/** Whose products they are, and why: a line; NULL: nothing was decided. */
const char *products_said(void);

/* ----------------------------------------------------------------------------------------------------- files ----- */
/** Refuses to read anything that lies where the run removes or replaces files.                                   Local. */
enum status inputs_spared(const struct options *o, const struct config *c);
/** To go on: holds the output directory, finds the checkpoint, or says r->finished.              Collective over world. */
enum status run_resume(struct run *r, size_t updates, const struct grid *world);
/** The output directory, where it is not held yet, and run.log, before anything costly.         Collective over the job. */
enum status run_directory(struct run *r, const struct options *o);
/** input.yaml, geffect.h5, train.h5, evaluation.h5: what there is to fill.                      Collective over the job. */
enum status run_files(struct run *r);
/** What was committed to them is on the disk.                                                   Collective over the job. */
enum status run_sync(struct run *r);
/** Ends them: what could not be written to them is a failure of the run.                        Collective over the job. */
enum status run_close(struct run *r);
/** model/, where it is asked for. Collective over the job. */
enum status run_export(struct run *r);
/** All results are written: an earlier run that they replace goes. Collective over the job. */
enum status run_complete(struct run *r);

/* ------------------------------------------------------------------------------------------------ help, documents ----- */
struct entry { /* lists end with a name of NULL */
    const char *name, *text;
};
struct output_text { /* of one file, or of several, "A, B" */
    const char *name, *when, *text;
};
extern const struct entry help_options[], help_ends[], help_environment[];
extern const struct output_text help_files[];
extern const char help_summary[], help_stops[], help_errors[], help_symbols[];
/** docs/INPUT.md, docs/OUTPUT.md and the manual page, from the tables of the program.                            Local. */
enum status reference_input(struct text *out);
enum status reference_output(struct text *out);
enum status reference_manual(struct text *out);

/** ERR_MEMORY where this process may not have what the BLAS library asks for again and again until it has it.   Local. */
enum status blas_room(const struct inputs *in, int threads);
/** plan_room() of the process that has least.                                                    Collective over world. */
size_t least_room(const struct grid *world);
/** This machine, with room bytes for a process; for --check the one that the input describes under `plan`.      Local. */
struct machine machine_of(const struct config *c, const struct grid *world, size_t room, bool check);

/* ------------------------------------------------------------------------------------------------------- log ----- */
void report_kernels(void);                 /* the BLAS library's, and a warning where they are far below the processor */
void report_head(const struct subject *s); /* program, kernels, input, model */
void report_start(const struct run *r);
void report_restart(const struct run *r); /* rank 0 */
void report_end(const struct run *r);     /* Collective over the job. */
#endif
