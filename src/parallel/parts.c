/* Sums of which every rank gets its own run, and the runs of all ranks from each other: the two halves of a sum that all
 * ranks get. The sum is added in the order of the ranks, whatever their number and the library; no more than a few pieces
 * of it are on their way at a time, so that they stay in cache. */
#include "unlearn/parallel_priv.h"
#include <limits.h>

enum { UNIT = 64 / sizeof(real) };

void part_range(size_t n, int parts, int part, size_t *first, size_t *count)
{
    size_t unit, units;
    split_range((n + UNIT - 1) / UNIT, parts, part, &unit, &units);
    *first = smaller(unit * UNIT, n);
    *count = smaller((unit + units) * UNIT, n) - *first;
}

struct exchange {
    const struct comm *c;
    real *x;
    size_t n, piece;
};

/* Piece k of a rank's run of x: where it begins, and how long it is. */
static size_t piece(const struct exchange *e, int rank, size_t k, real **at)
{
    size_t first, count;
    part_range(e->n, e->c->size, rank, &first, &count);
    if (k * e->piece >= count) return 0;
    *at = e->x + first + k * e->piece;
    return smaller(e->piece, count - k * e->piece);
}

/* Starts piece k of every rank's run: mine from all, theirs to them. */
static void start(const struct exchange *e, size_t k)
{
    const struct comm *c = e->c;
    real *own = NULL, *theirs = NULL, *room = c->room + k % 2 * (size_t)(c->size - 1) * e->piece;
    MPI_Request *request = c->request + k % 2 * 2 * (size_t)(c->size - 1);
    for (int i = 1; i < c->size; i++) {
        const int from = (c->rank + c->size - i) % c->size, to = (c->rank + i) % c->size;
        const size_t take = piece(e, c->rank, k, &own), give = piece(e, to, k, &theirs);
        real *place = room + (size_t)(from - (from > c->rank)) * e->piece;
        request[0] = request[1] = MPI_REQUEST_NULL;
        if (take) MPI_Irecv(place, (int)take, comm_real(), from, 0, c->id, &request[0]);
        if (give) MPI_Isend(theirs, (int)give, comm_real(), to, 0, c->id, &request[1]);
        request += 2;
    }
}

static void add(size_t n, const real *restrict from, real *restrict to)
{
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

/* sum += the ranks below mine in their order, then mine, then those above. */
static void finish(const struct exchange *e, size_t k)
{
    const struct comm *c = e->c;
    real *own = NULL, *room = c->room + k % 2 * (size_t)(c->size - 1) * e->piece;
    const size_t n = piece(e, c->rank, k, &own);
    MPI_Request *request = c->request + k % 2 * 2 * (size_t)(c->size - 1);
    for (int i = 0; i < 2 * (c->size - 1); i++) MPI_Wait(&request[i], MPI_STATUS_IGNORE);
    for (int r = 1; r < c->rank; r++) add(n, room + (size_t)r * e->piece, room);
    if (c->rank > 0) add(n, room, own); /* x + y = y + x, to the last bit */
    for (int r = c->rank; r < c->size - 1; r++) add(n, room + (size_t)r * e->piece, own);
}

void comm_reduce_parts(const struct comm *c, real *x, size_t n)
{
    if (c->size == 1 || n == 0) return;
    const enum phase was = phase_enter(PHASE_MESSAGES);
    const struct exchange e = {c, x, n, c->piece};
    size_t first, longest, pieces;
    part_range(n, c->size, 0, &first, &longest); /* no other is longer */
    pieces = (longest + e.piece - 1) / e.piece;
    for (size_t k = 0; k < pieces; k++) {
        if (k == 0) start(&e, 0);
        if (k + 1 < pieces) start(&e, k + 1);
        finish(&e, k);
    }
    phase_enter(was);
}

void comm_gather_parts(const struct comm *c, real *x, size_t n)
{
    if (c->size == 1 || n == 0) return;
    const enum phase was = phase_enter(PHASE_MESSAGES);
    size_t first, count;
    for (int r = 0; r < c->size; r++) {
        part_range(n, c->size, r, &first, &count);
        if (n > INT_MAX) comm_broadcast(c, x + first, count * sizeof *x, r);
        c->at[r] = (int)first, c->count[r] = (int)count;
    }
    if (n <= INT_MAX) MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x, c->count, c->at, comm_real(), c->id);
    phase_enter(was);
}

enum status comm_parts_new(struct comm *c)
{
    enum status st = OK;
    const size_t others = (size_t)(c->size - 1);
    if (c->size == 1) return OK;
    c->piece = c->most / sizeof(real) / others; /* those of all ranks together are as long as one message */
    if (c->piece == 0) c->piece = 1;
    TRY_NEW(c->room, 2 * others * c->piece);
    TRY_NEW(c->request, 4 * others);
    TRY_NEW(c->count, (size_t)c->size);
    TRY_NEW(c->at, (size_t)c->size);
done:
    return st;
}
