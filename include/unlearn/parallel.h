/* parallel: the process grid, collectives, splitting of work. The only room that calls MPI, besides main.c.
 * N processes = data x tensor. Tensor ranks are neighbours in world order, so that they share a node.                */
#ifndef UNLEARN_PARALLEL_H
#define UNLEARN_PARALLEL_H
#include "unlearn/core.h"

struct comm; /* a group of processes; opaque */

struct grid {
    int rank, size;               /* in the whole job */
    int data_rank, data_size;     /* which share of the sequences */
    int tensor_rank, tensor_size; /* which share of every layer */
    struct comm *world, *data,
        *tensor; /* owned; data: the processes with the same tensor_rank; tensor: those with the same data_rank */
};

/** First and last MPI call of a process. Without mpirun the job has one process.            Collective over the job. */
enum status parallel_start(int *argc, char ***argv);
void parallel_end(void);
/** ERR_USAGE where a launcher has started several processes, but each is alone in a job of its own: the launcher is another MPI's.
 *  *rank: this process's number among them, else 0.                                                              Local. */
enum status parallel_alone(int *rank);
void parallel_abort(int exit_code); /* ends every process; only for main.c, when agreement is impossible */
const char *parallel_library(void); /* version text of the MPI library, one line, static */
int parallel_job_size(void);        /* processes of the job */
bool parallel_first(void);          /* whether this is the first of them */
int parallel_node_size(void);       /* processes of this job on this node; valid after parallel_start */

/** data * tensor must be the number of processes.                                            Collective over the job. */
enum status grid_new(int data, int tensor, struct grid **out);
void grid_free(struct grid *g);

/** Returns the worst status of all processes on each. A rank that failed calls it too, before the first message that it
 *  would miss. Every rank takes over the error message of the lowest rank that has the worst status.
 *                                                                                              Collective over grid. */
enum status grid_agree(const struct grid *g, enum status st);

/* Collectives over a communicator, in place. Counts are in elements and may exceed MPI's int. A failure of the MPI
 * library aborts the job (MPI_ERRORS_ARE_FATAL), so they return nothing. With one process they do nothing. */
void comm_sum_real(const struct comm *c, real *x, size_t n);
void comm_sum_double(const struct comm *c, double *x, size_t n);
void comm_max_double(const struct comm *c, double *x, size_t n);
void comm_max_real(const struct comm *c, real *x, size_t n);
void comm_max_u64(const struct comm *c, uint64_t *x, size_t n);
void comm_broadcast(const struct comm *c, void *x, size_t bytes, int root);
void comm_send(const struct comm *c, const void *x, size_t bytes, int to, int tag);
void comm_receive(const struct comm *c, void *x, size_t bytes, int from, int tag);
void comm_gather_double(const struct comm *c, const double *x, size_t n, double *all); /* all [size][n], on every rank */
/* Of grid->data alone, x [n] in runs as part_range() cuts it. */
void comm_reduce_parts(const struct comm *c, real *x,
                       size_t n); /* a rank's run: the sum over all ranks, added in their order;
                                                                    the rest of x stays as it was */
void comm_gather_parts(const struct comm *c, real *x, size_t n); /* all runs, each from its rank */
/* The same while the caller computes: begun, in one order on all ranks, each gets a number, and x stays alone until those up to
 * that number are completed. Neither begin waits for others while fewer than COMM_QUEUE are on their way; what is begun goes on in
 * these calls alone, so comm_progress() is called now and then. A process ends nothing before all that it has begun is complete. */
enum { COMM_QUEUE = 128 };
size_t comm_reduce_begin(const struct comm *c, real *x, size_t n);
size_t comm_gather_begin(const struct comm *c, real *x, size_t n);
void comm_progress(const struct comm *c);
void comm_complete(const struct comm *c, size_t number);
struct arrived {
    double bytes, meanwhile; /* received by sums and gathers of runs; of these, before anybody waited for them */
};
struct arrived comm_arrived(const struct comm *c); /* since the start, on this process */
size_t comm_parts_bytes(int size);                 /* that sums over so many processes take */
void comm_barrier(const struct comm *c);
int comm_size(const struct comm *c);
int comm_rank(const struct comm *c);

/** Part `part` of n things cut into `parts` runs whose lengths differ by at most one: [*first, *first + *count).  Local. */
void split_range(size_t n, int parts, int part, size_t *first, size_t *count);
/** The same of n reals, cut at multiples of 64 bytes; the first run is the longest.                             Local. */
void part_range(size_t n, int parts, int part, size_t *first, size_t *count);

/** Shares items of given costs among `parts` so that the most expensive part costs little (longest processing time
 *  first; ties go by index, so all processes compute the same). owner [n] receives the part of each item; scratch has
 *  split_scratch() bytes.                                                                                     Local. */
size_t split_scratch(size_t n, int parts);
void split_balanced(size_t n, const double *cost, int parts, void *scratch, int *owner);
#endif
