/* The first and the last call of a process, and what the MPI library says of itself. */
#include "unlearn/parallel_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static int number_of(const char *variable)
{
    const char *value = getenv(variable);
    return value ? atoi(value) : 0;
}

/* Whether srun itself has started this process, not a shell or a launcher that srun has started: its child is alone by right. */
static bool child_of_srun(void)
{
    char path[64], name[32] = "";
    FILE *f;
    snprintf(path, sizeof path, "/proc/%ld/comm", (long)getppid());
    if (!(f = fopen(path, "r"))) return false;
    if (!fgets(name, sizeof name, f)) name[0] = 0;
    (void)fclose(f); /* only read */
    return !strncmp(name, "slurmstepd", 10);
}

enum status parallel_alone(int *rank)
{
    static const struct { /* what launchers say to those whom they start */
        const char *size, *rank, *what, *how;
    } launcher[] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "Open MPI's mpirun", ""},
                    {"PMI_SIZE", "PMI_RANK", "the mpirun of MPICH or one of its relatives", ""},
                    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun", ", or srun --mpi=pmix or pmi2"}};
    const bool srun = child_of_srun();
    *rank = 0;
    for (size_t i = 0; i < sizeof launcher / sizeof *launcher; i++) {
        const int size = number_of(launcher[i].size);
        if (size == 0 || (*launcher[i].how && !srun)) continue;
        if (size == 1 || parallel_job_size() > 1) return OK;
        *rank = number_of(launcher[i].rank);
        return fail(ERR_USAGE,
                    "%s=%d: %s has started %d processes, but each is a job of its own, for this program is built with "
                    "%.*s: start it with that one's mpirun%s, or build it with the launcher's mpicc (make CC=...)",
                    launcher[i].size, size, launcher[i].what, size, (int)strcspn(parallel_library(), ","),
                    parallel_library(), launcher[i].how);
    }
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

bool parallel_first(void)
{
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank == 0;
}

int parallel_job_size(void)
{
    int size;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

int parallel_node_size(void) { return node_size; }
