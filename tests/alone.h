/* A process by itself, in a job of several. */
#ifndef UNLEARN_TESTS_ALONE_H
#define UNLEARN_TESTS_ALONE_H
#include "unlearn/parallel_priv.h"
#include <stdlib.h>

/* A grid of one, whatever the job is. */
static inline struct grid *grid_alone(void)
{
    struct grid *g = calloc(1, sizeof *g);
    struct comm **c[] = {&g->world, &g->data, &g->tensor};
    g->size = g->data_size = g->tensor_size = 1;
    for (int i = 0; i < 3; i++) {
        *c[i] = calloc(1, sizeof **c[i]);
        comm_split(MPI_COMM_SELF, 0, *c[i]);
    }
    return g;
}
#endif
