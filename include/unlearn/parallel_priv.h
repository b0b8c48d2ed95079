/* Private to the room parallel, its tests and `output` (HDF5 needs MPI's own handle): what a communicator is. */
#ifndef UNLEARN_PARALLEL_PRIV_H
#define UNLEARN_PARALLEL_PRIV_H
#include "unlearn/parallel.h"

#include <mpi.h>

struct comm {
    MPI_Comm id; /* owned */
    int rank, size;
    size_t most; /* largest message in bytes, longer ones are split; equal on all ranks; small in tests */
    /* Only of grid->data; owned. */
    size_t piece;         /* elements of a rank's run that are on their way at a time; smaller in tests */
    real *room;           /* [2][size - 1][a piece] what comes from the others, now and next */
    MPI_Request *request; /* [2][size - 1][2] */
    int *count, *at;      /* [size] */
};
MPI_Datatype comm_real(void);
/** What comm_reduce_parts() and comm_gather_parts() need. ERR_MEMORY.                                            Local. */
enum status comm_parts_new(struct comm *c);

/** The processes of `of` with the same colour, in the order of their ranks.                      Collective over `of`. */
void comm_split(MPI_Comm of, int colour, struct comm *out);
#endif
