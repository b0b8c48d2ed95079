/* Private to the room parallel, its tests and `output` (HDF5 needs MPI's own handle): what a communicator is. */
#ifndef UNLEARN_PARALLEL_PRIV_H
#define UNLEARN_PARALLEL_PRIV_H
#include "unlearn/parallel.h"

#include <mpi.h>

struct comm {
    MPI_Comm id; /* owned */
    int rank, size;
    size_t most;         /* largest message in bytes, longer ones are split; equal on all ranks; small in tests */
    struct parts *parts; /* only of grid->data; owned; NULL: one process */
};
MPI_Datatype comm_real(void);

/* Sums and gathers of runs that are on their way: a queue of them, and the pieces of which these consist. At any time some
 * pieces that follow each other are on their way, the oldest of them is waited for, and the next one starts when it is there. */
enum { COMM_MOST = 2 << 20 }; /* pieces fit into cache: a sum over two ranks of a node takes a third of the time */
enum { PARTS_PIECES = 4 };
struct parts {
    size_t piece; /* elements of a rank's run that a message has at most; smaller in tests */
    struct exchange {
        bool sum; /* else a gather */
        real *x;
        size_t n, pieces;
    } queue[COMM_QUEUE]; /* the number k of those begun stands at k % COMM_QUEUE */
    size_t begun, complete;
    struct place {
        size_t exchange, piece, number; /* number: of all pieces so far */
    } next, oldest;                     /* to be started; to be waited for */
    real *room;                         /* [PARTS_PIECES][size - 1][a piece] what comes from the others to be added */
    MPI_Request *request;               /* [PARTS_PIECES][size - 1][2] */
    struct arrived arrived;
};
/** What the sums and gathers of runs need. ERR_MEMORY.                                                           Local. */
enum status comm_parts_new(struct comm *c);
void comm_parts_free(struct comm *c);

/** The processes of `of` with the same colour, in the order of their ranks.                      Collective over `of`. */
void comm_split(MPI_Comm of, int colour, struct comm *out);
#endif
