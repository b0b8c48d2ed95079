/* parallel, from inside: what a communicator is, for this room, its tests and `output` (HDF5 wants MPI's own handle). */
#ifndef UNLEARN_PARALLEL_PRIV_H
#define UNLEARN_PARALLEL_PRIV_H
#include "unlearn/parallel.h"

#include <mpi.h>

struct comm {
    MPI_Comm id; /* owned */
    int rank, size;
    size_t most; /* bytes of one message: more is split; the same on all ranks. Tests make it small */
};

/** The processes of `of` with the same colour, in the order of their ranks.                      Collective over `of`. */
void comm_split(MPI_Comm of, int colour, struct comm *out);
#endif
