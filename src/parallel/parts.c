/* Sums of which every rank gets its own run, and the runs of all ranks from each other: the two halves of a sum that all
 * ranks get. The sum is added in the order of the ranks, whatever their number and the library; no more than a few pieces
 * of it are on their way at a time, so that they stay in cache. The library moves messages only while it is called: what was
 * begun and is not yet there goes on in comm_progress(). */
#include "unlearn/parallel_priv.h"
#include <assert.h>
#include <stdlib.h>

enum { UNIT = 64 / sizeof(real), TAG = 32000 /* of no other message */ };

void part_range(size_t n, int parts, int part, size_t *first, size_t *count)
{
    size_t unit, units;
    split_range((n + UNIT - 1) / UNIT, parts, part, &unit, &units);
    *first = smaller(unit * UNIT, n);
    *count = smaller((unit + units) * UNIT, n) - *first;
}

/* ------------------------------------------------------------------------------------------------------ a piece ----- */
/* Piece k of a rank's run: where it begins, and how long it is. */
static size_t piece(const struct comm *c, const struct exchange *e, int rank, size_t k, real **at)
{
    const size_t most = c->parts->piece;
    size_t first, count;
    part_range(e->n, c->size, rank, &first, &count);
    *at = e->x;
    if (k * most >= count) return 0;
    *at = e->x + first + k * most;
    return smaller(most, count - k * most);
}

static const struct exchange *exchange_of(const struct parts *p, const struct place *at)
{
    return &p->queue[at->exchange % COMM_QUEUE];
}

static real *room_of(const struct comm *c, const struct place *at)
{
    return c->parts->room + at->number % PARTS_PIECES * (size_t)(c->size - 1) * c->parts->piece;
}

static MPI_Request *requests_of(const struct comm *c, const struct place *at)
{
    return c->parts->request + at->number % PARTS_PIECES * 2 * (size_t)(c->size - 1);
}

static void advance(struct parts *p, struct place *at)
{
    at->number++, at->piece++;
    if (at->piece < exchange_of(p, at)->pieces) return;
    at->exchange++, at->piece = 0;
}

/* Of a sum: mine from all, theirs to them. Of a gather: theirs from them, mine to all. */
static void start(const struct comm *c)
{
    struct parts *p = c->parts;
    const struct exchange *e = exchange_of(p, &p->next);
    MPI_Request *request = requests_of(c, &p->next);
    real *room = room_of(c, &p->next), *own;
    const size_t k = p->next.piece, mine = piece(c, e, c->rank, k, &own);
    for (int i = 1; i < c->size; i++, request += 2) {
        const int from = (c->rank + c->size - i) % c->size, to = (c->rank + i) % c->size;
        real *place = room + (size_t)(from - (from > c->rank)) * p->piece, *leaves = own;
        size_t take = mine, give = mine;
        if (e->sum)
            give = piece(c, e, to, k, &leaves);
        else
            take = piece(c, e, from, k, &place);
        request[0] = request[1] = MPI_REQUEST_NULL;
        if (take) MPI_Irecv(place, (int)take, comm_real(), from, TAG, c->id, &request[0]);
        if (give) MPI_Isend(leaves, (int)give, comm_real(), to, TAG, c->id, &request[1]);
        p->arrived.bytes += (double)(take * sizeof(real));
    }
    advance(p, &p->next);
}

static void add(size_t n, const real *restrict from, real *restrict to)
{
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

/* sum += the ranks below mine in their order, then mine, then those above. */
static void add_all(const struct comm *c, const struct exchange *e)
{
    const struct parts *p = c->parts;
    real *own, *room = room_of(c, &p->oldest);
    const size_t n = piece(c, e, c->rank, p->oldest.piece, &own);
    for (int r = 1; r < c->rank; r++) add(n, room + (size_t)r * p->piece, room);
    if (c->rank > 0) add(n, room, own); /* x + y = y + x, to the last bit */
    for (int r = c->rank; r < c->size - 1; r++) add(n, room + (size_t)r * p->piece, own);
}

/* ------------------------------------------------------------------------------------------------ on their way ----- */
static void start_more(const struct comm *c)
{
    struct parts *p = c->parts;
    while (p->next.exchange < p->begun && p->next.number < p->oldest.number + PARTS_PIECES) start(c);
}

/* What has come with the oldest piece, in bytes. */
static double bytes_of(const struct comm *c, const struct exchange *e)
{
    size_t n = 0;
    real *at;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank) n += piece(c, e, e->sum ? c->rank : r, c->parts->oldest.piece, &at);
    return (double)(n * sizeof(real));
}

/* Whether the messages of the oldest piece are there. One by one: of all at once MPICH's header makes gcc warn. */
static bool all_there(const struct comm *c)
{
    MPI_Request *request = requests_of(c, &c->parts->oldest);
    int all = 1;
    for (int i = 0, there; i < 2 * (c->size - 1); i++) {
        MPI_Test(&request[i], &there, MPI_STATUS_IGNORE);
        all &= there;
    }
    return all;
}

/* Ends the oldest piece; without `wait` only if it is there. */
static bool end(const struct comm *c, bool wait)
{
    struct parts *p = c->parts;
    const struct exchange *e = exchange_of(p, &p->oldest);
    MPI_Request *request = requests_of(c, &p->oldest);
    const bool there = all_there(c);
    if (!there && !wait) return false;
    for (int i = 0; !there && i < 2 * (c->size - 1); i++) MPI_Wait(&request[i], MPI_STATUS_IGNORE);
    if (!wait) p->arrived.meanwhile += bytes_of(c, e);
    if (e->sum) add_all(c, e);
    advance(p, &p->oldest);
    p->complete = p->oldest.exchange;
    start_more(c);
    return true;
}

void comm_progress(const struct comm *c)
{
    const struct parts *p = c->parts;
    if (!p || p->complete == p->begun) return;
    const enum phase was = phase_enter(PHASE_MESSAGES);
    while (p->complete < p->begun && end(c, false)) {
    }
    phase_enter(was);
}

void comm_complete(const struct comm *c, size_t number)
{
    const struct parts *p = c->parts;
    if (!p || p->complete >= number) return;
    const enum phase was = phase_enter(PHASE_MESSAGES);
    assert(number <= p->begun);
    while (p->complete < number) end(c, true);
    phase_enter(was);
}

static size_t begin(const struct comm *c, bool sum, real *x, size_t n)
{
    struct parts *p = c->parts;
    size_t first, longest;
    if (!p) return 0;
    if (n == 0) return p->begun;
    comm_progress(c);
    if (p->begun - p->complete == COMM_QUEUE) comm_complete(c, p->complete + 1);
    part_range(n, c->size, 0, &first, &longest); /* no other is longer */
    p->queue[p->begun++ % COMM_QUEUE] = (struct exchange){sum, x, n, (longest + p->piece - 1) / p->piece};
    const enum phase was = phase_enter(PHASE_MESSAGES);
    start_more(c);
    phase_enter(was);
    return p->begun;
}

size_t comm_reduce_begin(const struct comm *c, real *x, size_t n) { return begin(c, true, x, n); }
size_t comm_gather_begin(const struct comm *c, real *x, size_t n) { return begin(c, false, x, n); }
void comm_reduce_parts(const struct comm *c, real *x, size_t n) { comm_complete(c, comm_reduce_begin(c, x, n)); }
void comm_gather_parts(const struct comm *c, real *x, size_t n) { comm_complete(c, comm_gather_begin(c, x, n)); }

struct arrived comm_arrived(const struct comm *c) { return c->parts ? c->parts->arrived : (struct arrived){0}; }

/* ---------------------------------------------------------------------------------------------------------- all ----- */
/* Those of all ranks together are as long as one message. */
static size_t piece_elements(size_t most, int size)
{
    return (most / sizeof(real) + (size_t)size - 2) / (size_t)(size - 1);
}

size_t comm_parts_bytes(int size)
{
    return size > 1 ? PARTS_PIECES * (size_t)(size - 1) * piece_elements(COMM_MOST, size) * sizeof(real) : 0;
}

enum status comm_parts_new(struct comm *c)
{
    enum status st = OK;
    const size_t others = (size_t)(c->size - 1);
    if (c->size == 1) return OK;
    TRY_NEW(c->parts, 1);
    c->parts->piece = piece_elements(c->most, c->size);
    TRY_NEW(c->parts->room, PARTS_PIECES * others * c->parts->piece);
    TRY_NEW(c->parts->request, PARTS_PIECES * 2 * others);
done:
    return st;
}

void comm_parts_free(struct comm *c)
{
    if (!c->parts) return;
    assert(c->parts->complete == c->parts->begun);
    free(c->parts->room), free(c->parts->request);
    free(c->parts);
}
