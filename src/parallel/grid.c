/* N processes as data x tensor: rank = data_rank * tensor_size + tensor_rank, so that tensor ranks are neighbours; and the
 * agreement of all of them on one status. */
#include "unlearn/parallel_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_ROOM = 4096 };

/* Returns the worst of all statuses; the lowest rank that has it sends its error message to the others. */
static enum status agree(MPI_Comm all, enum status st)
{
    struct {
        int status, rank; /* the layout of MPI_2INT */
    } worst = {.status = (int)st};
    char text[MESSAGE_ROOM] = "";
    const enum phase was = phase_enter(PHASE_MESSAGES);
    int rank;

    MPI_Comm_rank(all, &rank);
    worst.rank = rank;
    MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_2INT, MPI_MAXLOC, all); /* MAXLOC takes the lowest rank of equal ones */
    if (worst.status != OK) {
        if (rank == worst.rank) {
            const char *message = *fail_message() ? fail_message() : status_text(st);
            strncpy(text, message, sizeof text - 1);
        }
        MPI_Bcast(text, sizeof text, MPI_CHAR, worst.rank, all);
        fail_clear();
        fail((enum status)worst.status, "%s", text);
    }
    phase_enter(was);
    return (enum status)worst.status;
}

void comm_split(MPI_Comm of, int colour, struct comm *out)
{
    int rank;
    MPI_Comm_rank(of, &rank);
    MPI_Comm_split(of, colour, rank, &out->id);
    MPI_Comm_rank(out->id, &out->rank);
    MPI_Comm_size(out->id, &out->size);
    out->most = COMM_MOST;
}

static enum status allocate(struct grid **out)
{
    enum status st = OK;
    struct grid *g = NULL;
    TRY_NEW(g, 1);
    *out = g;
    TRY_NEW(g->world, 1);
    g->world->id = MPI_COMM_NULL;
    TRY_NEW(g->data, 1);
    g->data->id = MPI_COMM_NULL;
    TRY_NEW(g->tensor, 1);
    g->tensor->id = MPI_COMM_NULL;
done:
    return st;
}

enum status grid_new(int data, int tensor, struct grid **out)
{
    enum status st = OK;
    struct grid *g = NULL;
    int size;

    *out = NULL;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (data < 1 || tensor < 1 || (long long)data * tensor != size)
        st = fail(ERR_INPUT, "parallel: data %d x tensor %d is not the number of processes, %d: change either", data,
                  tensor, size);
    if (st == OK) st = allocate(&g);
    TRY(agree(MPI_COMM_WORLD, st));
    assert(g);

    MPI_Comm_rank(MPI_COMM_WORLD, &g->rank);
    g->size = size;
    g->data_size = data;
    g->tensor_size = tensor;
    g->data_rank = g->rank / tensor;
    g->tensor_rank = g->rank % tensor;
    comm_split(MPI_COMM_WORLD, 0, g->world);
    comm_split(MPI_COMM_WORLD, g->tensor_rank, g->data);
    comm_split(MPI_COMM_WORLD, g->data_rank, g->tensor);
    TRY(agree(MPI_COMM_WORLD, comm_parts_new(g->data)));
    *out = g;
    g = NULL;
done:
    grid_free(g);
    return st;
}

static void comm_free(struct comm *c)
{
    if (!c) return;
    if (c->id != MPI_COMM_NULL) MPI_Comm_free(&c->id);
    comm_parts_free(c);
    free(c);
}

void grid_free(struct grid *g)
{
    if (!g) return;
    comm_free(g->world);
    comm_free(g->data);
    comm_free(g->tensor);
    free(g);
}

#undef grid_agree /* a macro in `make analyse` */
enum status grid_agree(const struct grid *g, enum status st) { return agree(g->world->id, st); }
