/* parallel: sums and gathers of runs, one after the other and several on their way at a time.                    NP: 1 2 3 4 */
#include "near.h"

#include "unlearn/parallel.h"
#include "unlearn/parallel_priv.h"

enum { LONG = 1000 };
static struct grid *grid; /* all processes in `data` */

/* Agree first, assert after: a rank that fails alone would leave the others waiting. */
static void all_assert(bool good)
{
    const enum status st = grid_agree(grid, good ? OK : fail(ERR_INTERNAL, "rank %d: wrong", grid->rank));
    if (st != OK) print_error("%s\n", fail_message());
    fail_clear();
    assert_int_equal(st, OK);
}

/* Pieces of all lengths: runs of one, of several, of none. */
static size_t lengths(const struct comm *c, size_t k)
{
    static const size_t length[] = {(size_t)-1, 64, 7, 1};
    static size_t whole;
    if (!c->parts) return k < 1;
    if (k == 0) whole = c->parts->piece;
    c->parts->piece = k < sizeof length / sizeof *length ? smaller(length[k], whole) : whole;
    return k < sizeof length / sizeof *length;
}

/* Numbers whose sum depends on the order. */
static real own(int rank, size_t seed, size_t i)
{
    return (real)1 / (real)(i + 3 + seed + 7 * (size_t)rank * (size_t)rank);
}

static void fill(const struct comm *c, size_t seed, size_t n, real *x, real *want)
{
    for (size_t i = 0; i < n; i++) {
        want[i] = 0;
        for (int r = 0; r < c->size; r++) want[i] += own(r, seed, i);
        x[i] = own(c->rank, seed, i);
    }
}

static bool my_run_is(const struct comm *c, size_t n, const real *x, const real *want)
{
    size_t first, count;
    part_range(n, c->size, c->rank, &first, &count);
    return !memcmp(x + first, want + first, count * sizeof *x);
}

static void parts_are_summed_in_the_order_of_the_ranks(void **state)
{
    struct comm *c = grid->data;
    bool good = true;
    for (size_t k = 0; lengths(c, k); k++)
        for (size_t n = 0; n <= LONG; n = n * 3 + 1) {
            real x[LONG], want[LONG];
            fill(c, 0, n, x, want);
            comm_reduce_parts(c, x, n);
            good = good && my_run_is(c, n, x, want);
            comm_gather_parts(c, x, n);
            good = good && !memcmp(x, want, n * sizeof *x);
        }
    all_assert(good);
}

/* ---- several at a time; the last of `most` is kept back in turns by a rank that comes late to everything */
enum { MOST = 12 };
struct several {
    real x[MOST][LONG], want[MOST][LONG];
    size_t n[MOST], number[MOST];
};

static void late(const struct comm *c, size_t k)
{
    const double until = clock_seconds() + ((size_t)c->rank == k % (size_t)c->size ? 2e-3 : 0);
    while (clock_seconds() < until) comm_progress(c);
}

/* Lengths of which some are of fewer units than ranks, so that runs are of no elements, and some of none at all. */
static void begin_sums(const struct comm *c, struct several *s)
{
    static const size_t length[MOST] = {1000, 0, 1, 16, 999, 17, 33, 640, 0, 5, 1000, 48};
    for (size_t k = 0; k < MOST; k++) {
        s->n[k] = length[k];
        fill(c, k, s->n[k], s->x[k], s->want[k]);
        if (k % 4 == 1) late(c, k);
        s->number[k] = comm_reduce_begin(c, s->x[k], s->n[k]);
    }
}

/* Gathers begin before sums that began before them are complete; those are completed by their numbers, not in one order. */
static bool several_are_right(const struct comm *c, struct several *s)
{
    static const size_t order[MOST] = {3, 1, 0, 2, 7, 5, 4, 6, 11, 8, 9, 10};
    bool good = true;
    begin_sums(c, s);
    for (size_t i = 0; i < MOST; i++) {
        const size_t k = order[i];
        if (i % 3 == 0) late(c, i);
        comm_complete(c, s->number[k]);
        good = good && my_run_is(c, s->n[k], s->x[k], s->want[k]);
        s->number[k] = comm_gather_begin(c, s->x[k], s->n[k]);
        comm_progress(c);
    }
    for (size_t k = MOST; k-- > 0;) {
        comm_complete(c, s->number[k]);
        good = good && !memcmp(s->x[k], s->want[k], s->n[k] * sizeof(real));
    }
    return good && (!c->parts || c->parts->complete == c->parts->begun);
}

static void several_on_their_way_do_not_mix(void **state)
{
    struct comm *c = grid->data;
    struct several *s = calloc(1, sizeof *s);
    bool good = true;
    assert_non_null(s);
    for (size_t k = 0; lengths(c, k); k++) good = several_are_right(c, s) && good;
    free(s);
    all_assert(good);
}

static void more_than_the_queue_holds_may_begin(void **state)
{
    enum { MANY = 3 * COMM_QUEUE };
    struct comm *c = grid->data;
    real x[MANY], want[MANY];
    bool good = true;
    for (size_t k = 0; k < MANY; k++) fill(c, k, 1, x + k, want + k);
    for (size_t k = 0; k < MANY; k++) comm_reduce_begin(c, x + k, 1);
    comm_complete(c, c->parts ? c->parts->begun : 0);
    for (size_t k = 0; k < MANY; k++) good = good && my_run_is(c, 1, x + k, want + k);
    all_assert(good);
}

static void collectives_and_messages_come_between(void **state)
{
    struct comm *c = grid->data;
    real x[LONG], want[LONG];
    double sum = 1;
    int token = c->rank;
    bool good;
    fill(c, 0, LONG, x, want);
    const size_t number = comm_reduce_begin(c, x, LONG);
    comm_sum_double(c, &sum, 1);
    if (c->size > 1 && c->rank == 0) comm_send(c, &token, sizeof token, 1, 0);
    if (c->rank == 1) comm_receive(c, &token, sizeof token, 0, 0);
    good = grid_agree(grid, OK) == OK && sum == c->size && token == (c->rank == 1 ? 0 : c->rank);
    comm_complete(c, number);
    all_assert(good && my_run_is(c, LONG, x, want));
}

/* Nobody waits, so in the end all of it has come meanwhile, and the time stands with the messages. */
static void progress_alone_brings_everything(void **state)
{
    struct comm *c = grid->data;
    const struct arrived before = comm_arrived(c);
    real x[LONG], want[LONG];
    const double since = clock_seconds();
    phase_enter(PHASE_LOSS);
    fill(c, 0, LONG, x, want);
    comm_reduce_begin(c, x, LONG);
    while (c->parts && c->parts->complete < c->parts->begun && clock_seconds() < since + 60) comm_progress(c);
    const enum phase now = phase_enter(PHASE_OTHER);
    const struct arrived after = comm_arrived(c);
    size_t first, count;
    part_range(LONG, c->size, c->rank, &first, &count);
    const double bytes = (double)(count * (size_t)(c->size - 1) * sizeof(real));
    all_assert(now == PHASE_LOSS && my_run_is(c, LONG, x, want) && after.bytes - before.bytes == bytes &&
               after.meanwhile - before.meanwhile == bytes);
}

static void a_process_alone_sums_nothing(void **state)
{
    const struct comm one = {.id = MPI_COMM_NULL, .size = 1}; /* any call of MPI would abort */
    real x[2] = {1, 2};
    const size_t sum = comm_reduce_begin(&one, x, 2), gather = comm_gather_begin(&one, x, 2);
    comm_progress(&one);
    comm_complete(&one, sum), comm_complete(&one, gather);
    comm_reduce_parts(&one, x, 2), comm_gather_parts(&one, x, 2);
    all_assert(x[0] == 1 && x[1] == 2 && comm_arrived(&one).bytes == 0 && comm_parts_bytes(1) == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_summed_in_the_order_of_the_ranks),
        cmocka_unit_test(several_on_their_way_do_not_mix),
        cmocka_unit_test(more_than_the_queue_holds_may_begin),
        cmocka_unit_test(collectives_and_messages_come_between),
        cmocka_unit_test(progress_alone_brings_everything),
        cmocka_unit_test(a_process_alone_sums_nothing),
    };
    int size, failed;
    if (parallel_start(&argc, &argv) != OK) return 1;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (grid_new(size, 1, &grid) != OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    grid_free(grid);
    parallel_end();
    return failed;
}
