/* The first and the last call of a process, and what the MPI library says of itself. */
#include "unlearn/parallel_priv.h"

#include <stdlib.h>
#include <string.h>

static int node_size = 1; /* found once at the start, because it needs a collective call */

static int count_node(void)
{
    MPI_Comm node;
    int size;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &size);
    MPI_Comm_free(&node);
    return size;
}

enum status parallel_start(int *argc, char ***argv)
{
    int provided, up;
    MPI_Initialized(&up);
    if (!up) {
        MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    } else {
        MPI_Query_thread(&provided);
    }
    if (provided < MPI_THREAD_FUNNELED)
        return fail(ERR_INTERNAL, "MPI: %s does not allow threads beside its calls: use a build with MPI_THREAD_FUNNELED",
                    parallel_library());
    node_size = count_node();
    return OK;
}

void parallel_end(void)
{
    int up, down;
    MPI_Initialized(&up);
    MPI_Finalized(&down);
    if (up && !down) MPI_Finalize();
}

void parallel_abort(int exit_code)
{
    int up, down;
    MPI_Initialized(&up);
    MPI_Finalized(&down);
    if (up && !down) MPI_Abort(MPI_COMM_WORLD, exit_code);
    exit(exit_code);
}

const char *parallel_library(void)
{
    static char line[MPI_MAX_LIBRARY_VERSION_STRING];
    int n;
    MPI_Get_library_version(line, &n);
    line[strcspn(line, "\r\n")] = 0;
    return line;
}

int parallel_job_size(void)
{
    int size;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

int parallel_node_size(void) { return node_size; }
