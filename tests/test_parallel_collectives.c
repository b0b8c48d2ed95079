/* parallel: sums, maxima, broadcasts, gathers, messages, whole and in pieces.                     NP: 1 2 3 4 */
#include "near.h"

#include "unlearn/parallel.h"
#include "unlearn/parallel_priv.h"

enum { N = 23 };          /* no multiple of any limit below */
static struct grid *grid; /* all processes in `data` */

/* Every test runs with one message and with pieces: of 3 doubles, and of 1 byte (one element at least goes out). */
static const size_t limits[] = {(size_t)1 << 30, 24, 1};
#define FOR_EACH_LIMIT(c) for (size_t k_ = 0; k_ < sizeof limits / sizeof *limits && ((c)->most = limits[k_], true); k_++)

/* Agree first, assert after: a rank that fails alone would leave the others waiting. */
static void all_assert(bool good)
{
    const enum status st = grid_agree(grid, good ? OK : fail(ERR_INTERNAL, "rank %d: wrong", grid->rank));
    if (st != OK) print_error("%s\n", fail_message());
    fail_clear();
    assert_int_equal(st, OK);
}

static void sums_count_every_rank_once(void **state)
{
    struct comm *c = grid->world;
    bool good = true;
    FOR_EACH_LIMIT(c)
    {
        double x[N + 1];
        real y[N + 1];
        for (int i = 0; i <= N; i++)
            x[i] = y[i] = (real)((c->rank + 1) * (i + 1)); /* small integers: exact in any order */
        comm_sum_double(c, x, N);
        comm_sum_real(c, y, N);
        const int ranks = c->size * (c->size + 1) / 2;
        for (int i = 0; i < N; i++) good = good && x[i] == ranks * (i + 1) && (double)y[i] == ranks * (i + 1);
        good = good && x[N] == (c->rank + 1) * (N + 1) && (double)y[N] == (c->rank + 1) * (N + 1); /* behind the end */
    }
    all_assert(good);
}

static void maxima_find_the_rank_that_has_them(void **state)
{
    struct comm *c = grid->world;
    bool good = true;
    FOR_EACH_LIMIT(c)
    {
        double x[N];
        real y[N];
        uint64_t u[N];
        for (int i = 0; i < N; i++) {
            const bool mine = i % c->size == c->rank;
            x[i] = mine ? -1.0 - i : -1000;
            y[i] = mine ? (real)(i + 1) : 0;
            u[i] = mine ? UINT64_MAX - (uint64_t)i : (uint64_t)INT64_MAX; /* signed numbers would choose otherwise */
        }
        comm_max_double(c, x, N);
        comm_max_real(c, y, N);
        comm_max_u64(c, u, N);
        for (int i = 0; i < N; i++)
            good = good && x[i] == -1.0 - i && (double)y[i] == i + 1 && u[i] == UINT64_MAX - (uint64_t)i;
    }
    all_assert(good);
}

static void a_broadcast_reaches_all_from_every_root(void **state)
{
    struct comm *c = grid->world;
    bool good = true;
    FOR_EACH_LIMIT(c)
    {
        for (int root = 0; root < c->size; root++) {
            unsigned char x[N + 1];
            for (int i = 0; i <= N; i++) x[i] = c->rank == root ? (unsigned char)(root * 50 + i) : 255;
            comm_broadcast(c, x, N, root);
            for (int i = 0; i < N; i++) good = good && x[i] == root * 50 + i;
            good = good && (c->rank == root || x[N] == 255);
        }
    }
    all_assert(good);
}

static void a_gather_lays_ranks_in_order(void **state)
{
    struct comm *c = grid->world;
    bool good = true;
    double *all = calloc((size_t)c->size * N, sizeof *all);
    assert_non_null(all);
    FOR_EACH_LIMIT(c)
    {
        double x[N];
        for (int i = 0; i < N; i++) x[i] = c->rank * 100 + i;
        memset(all, 0xff, (size_t)c->size * N * sizeof *all); /* NaN */
        comm_gather_double(c, x, N, all);
        for (int i = 0; i < c->size * N; i++) good = good && all[i] == i / N * 100 + i % N;
        comm_gather_double(c, all + c->rank * N, N, all); /* in place */
        for (int i = 0; i < c->size * N; i++) good = good && all[i] == i / N * 100 + i % N;
    }
    free(all);
    all_assert(good);
}

static void messages_go_round_the_ring_in_order(void **state)
{
    struct comm *c = grid->world;
    bool good = true;
    if (c->size == 1) return; /* nobody to send to */
    FOR_EACH_LIMIT(c)
    {
        const int next = (c->rank + 1) % c->size, before = (c->rank + c->size - 1) % c->size;
        int token[2][N] = {{0}};
        for (int i = 0; c->rank == 0 && i < 2 * N; i++) token[i / N][i % N] = i;
        for (int k = 0; k < 2; k++) {
            if (c->rank == 0) comm_send(c, token[k], sizeof token[k], next, 7 + k);
            comm_receive(c, token[k], sizeof token[k], before, 7 + k);
            for (int i = 0; i < N; i++) token[k][i] += 1000;
            if (c->rank != 0) comm_send(c, token[k], sizeof token[k], next, 7 + k);
        }
        const int passed = c->rank == 0 ? c->size : c->rank;
        for (int i = 0; i < 2 * N; i++) good = good && token[i / N][i % N] == i + 1000 * passed;
    }
    all_assert(good);
}

static void nothing_is_a_valid_amount(void **state)
{
    double all = 5;
    comm_sum_double(grid->world, NULL, 0);
    comm_max_u64(grid->world, NULL, 0);
    comm_broadcast(grid->world, NULL, 0, 0);
    comm_gather_double(grid->world, NULL, 0, &all);
    comm_barrier(grid->world);
    all_assert(all == 5);
}

static void collectives_give_the_phase_back(void **state)
{
    double x[N] = {0};
    phase_enter(PHASE_LOSS);
    comm_sum_double(grid->world, x, N);
    comm_broadcast(grid->world, x, sizeof x, 0);
    comm_barrier(grid->world);
    grid_agree(grid, OK);
    const enum phase now = phase_enter(PHASE_OTHER);
    all_assert(now == PHASE_LOSS);
}

static void a_process_alone_needs_no_messages(void **state)
{
    const struct comm one = {.id = MPI_COMM_NULL, .size = 1, .most = 8}; /* any call of MPI would abort */
    double x[2] = {1, 2}, all[2] = {0};
    uint64_t u = 9;
    real y = 3;
    comm_sum_double(&one, x, 2);
    comm_max_double(&one, x, 2);
    comm_sum_real(&one, &y, 1);
    comm_max_real(&one, &y, 1);
    comm_max_u64(&one, &u, 1);
    comm_broadcast(&one, x, sizeof x, 0);
    comm_barrier(&one);
    comm_gather_double(&one, x, 2, all);
    all_assert(x[0] == 1 && x[1] == 2 && y == 3 && u == 9 && all[0] == 1 && all[1] == 2);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_count_every_rank_once),
        cmocka_unit_test(maxima_find_the_rank_that_has_them),
        cmocka_unit_test(a_broadcast_reaches_all_from_every_root),
        cmocka_unit_test(a_gather_lays_ranks_in_order),
        cmocka_unit_test(messages_go_round_the_ring_in_order),
        cmocka_unit_test(nothing_is_a_valid_amount),
        cmocka_unit_test(collectives_give_the_phase_back),
        cmocka_unit_test(a_process_alone_needs_no_messages),
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
