/* Collectives and messages of any size: MPI counts in int, so they are sent in pieces of at most comm->most bytes.
 * Their time counts as PHASE_MESSAGES; afterwards the earlier phase continues. */
#include "unlearn/parallel_priv.h"

#include <assert.h>
#include <string.h>

/* How many of the `left` elements of `size` bytes go into the next message. */
static int piece(const struct comm *c, size_t left, size_t size)
{
    size_t most = c->most / size;
    if (most < 1) most = 1;
    return (int)(left < most ? left : most);
}

static void reduce(const struct comm *c, void *x, size_t n, size_t size, MPI_Datatype type, MPI_Op op)
{
    if (c->size == 1) return;
    const enum phase was = phase_enter(PHASE_MESSAGES);
    char *at = x;
    for (int count; n > 0; n -= (size_t)count, at += (size_t)count * size) {
        count = piece(c, n, size);
        MPI_Allreduce(MPI_IN_PLACE, at, count, type, op, c->id);
    }
    phase_enter(was);
}

MPI_Datatype comm_real(void) { return sizeof(real) == sizeof(double) ? MPI_DOUBLE : MPI_FLOAT; }

void comm_sum_real(const struct comm *c, real *x, size_t n) { reduce(c, x, n, sizeof *x, comm_real(), MPI_SUM); }
void comm_max_real(const struct comm *c, real *x, size_t n) { reduce(c, x, n, sizeof *x, comm_real(), MPI_MAX); }
void comm_sum_double(const struct comm *c, double *x, size_t n) { reduce(c, x, n, sizeof *x, MPI_DOUBLE, MPI_SUM); }
void comm_max_double(const struct comm *c, double *x, size_t n) { reduce(c, x, n, sizeof *x, MPI_DOUBLE, MPI_MAX); }
void comm_max_u64(const struct comm *c, uint64_t *x, size_t n) { reduce(c, x, n, sizeof *x, MPI_UINT64_T, MPI_MAX); }

void comm_broadcast(const struct comm *c, void *x, size_t bytes, int root)
{
    assert(root >= 0 && root < c->size);
    if (c->size == 1) return;
    const enum phase was = phase_enter(PHASE_MESSAGES);
    char *at = x;
    for (int count; bytes > 0; bytes -= (size_t)count, at += count) {
        count = piece(c, bytes, 1);
        MPI_Bcast(at, count, MPI_BYTE, root, c->id);
    }
    phase_enter(was);
}

/* The pieces arrive in order, because messages between two processes with the same tag do not overtake each other. */
void comm_send(const struct comm *c, const void *x, size_t bytes, int to, int tag)
{
    if (c->size == 1) return;
    assert(to >= 0 && to < c->size && to != c->rank);
    const enum phase was = phase_enter(PHASE_MESSAGES);
    const char *at = x;
    for (int count; bytes > 0; bytes -= (size_t)count, at += count) {
        count = piece(c, bytes, 1);
        MPI_Send(at, count, MPI_BYTE, to, tag, c->id);
    }
    phase_enter(was);
}

void comm_receive(const struct comm *c, void *x, size_t bytes, int from, int tag)
{
    if (c->size == 1) return;
    assert(from >= 0 && from < c->size && from != c->rank);
    const enum phase was = phase_enter(PHASE_MESSAGES);
    char *at = x;
    for (int count; bytes > 0; bytes -= (size_t)count, at += count) {
        count = piece(c, bytes, 1);
        MPI_Recv(at, count, MPI_BYTE, from, tag, c->id, MPI_STATUS_IGNORE);
    }
    phase_enter(was);
}

void comm_gather_double(const struct comm *c, const double *x, size_t n, double *all)
{
    if (n == 0) return;
    memmove(all + (size_t)c->rank * n, x, n * sizeof *x); /* memmove: x may be its own place in all */
    if (c->size == 1) return;
    if (n <= c->most / sizeof *x) {
        const enum phase was = phase_enter(PHASE_MESSAGES);
        MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, (int)n, MPI_DOUBLE, c->id);
        phase_enter(was);
    } else {
        for (int r = 0; r < c->size; r++) comm_broadcast(c, all + (size_t)r * n, n * sizeof *x, r);
    }
}

void comm_barrier(const struct comm *c)
{
    if (c->size == 1) return;
    const enum phase was = phase_enter(PHASE_MESSAGES);
    MPI_Barrier(c->id);
    phase_enter(was);
}

int comm_size(const struct comm *c) { return c->size; }
int comm_rank(const struct comm *c) { return c->rank; }
