/* Private to the room parallel, its tests and `output` (HDF5 needs MPI's own handle): what a communicator is. */
#ifndef UNLEARN_PARALLEL_PRIV_H
#define UNLEARN_PARALLEL_PRIV_H
#include "unlearn/parallel.h"

#include <mpi.h>

struct comm {
    MPI_Comm id; /* owned */
    int rank, size;
    size_t most; /* largest message in bytes, longer ones are split; equal on all ranks; small in tests */
};

/** The processes of `of` with the same colour, in the order of their ranks.                      Collective over `of`. */
void comm_split(MPI_Comm of, int colour, struct comm *out);
#endif
