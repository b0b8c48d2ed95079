/* parallel: the process grid, and agreement on a status.                                          NP: 1 2 3 4 */
#include "near.h"

#include "unlearn/parallel.h"
#include "unlearn/parallel_priv.h"

static int world_rank, world_size;
static struct grid *flat;

static void all_assert(bool good)
{
    int all = good;
    MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    assert_true(all);
}

/* The sum over a communicator of 2^rank names its members. */
static int members(const struct comm *c)
{
    double x = 1 << world_rank;
    comm_sum_double(c, &x, 1);
    return (int)x;
}

static bool is_right(const struct grid *g, int data, int tensor)
{
    int same_data = 0, same_tensor = 0;
    for (int r = 0; r < world_size; r++) {
        if (r / tensor == world_rank / tensor) same_data |= 1 << r;
        if (r % tensor == world_rank % tensor) same_tensor |= 1 << r;
    }
    bool good = g->rank == world_rank && g->size == world_size && g->data_size == data && g->tensor_size == tensor;
    good = good && g->rank == g->data_rank * tensor + g->tensor_rank && g->tensor_rank >= 0 && g->tensor_rank < tensor;
    good = good && comm_size(g->data) == data && comm_rank(g->data) == g->data_rank;
    good = good && comm_size(g->tensor) == tensor && comm_rank(g->tensor) == g->tensor_rank;
    good = good && comm_size(g->world) == world_size && comm_rank(g->world) == world_rank;
    const int in_tensor = members(g->tensor), in_data = members(g->data), in_world = members(g->world);
    return good && in_tensor == same_data && in_data == same_tensor && in_world == (1 << world_size) - 1;
}

static void every_factorisation_has_tensor_ranks_as_neighbours(void **state)
{
    bool good = true;
    for (int tensor = 1; tensor <= world_size; tensor++) {
        struct grid *g;
        if (world_size % tensor) continue;
        good = grid_new(world_size / tensor, tensor, &g) == OK && good;
        good = is_right(g, world_size / tensor, tensor) && good;
        grid_free(g);
    }
    all_assert(good);
}

static void a_grid_that_is_not_the_job_is_refused_on_all_ranks(void **state)
{
    const int wrong[][2] = {{world_size, 2}, {world_size + 1, 1}, {0, world_size}, {-1, -world_size}, {1 << 20, 1 << 20}};
    bool good = true;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct grid *g = flat;
        fail_clear();
        good = grid_new(wrong[i][0], wrong[i][1], &g) == ERR_INPUT && good;
        good = good && g == NULL && strstr(fail_message(), "number of processes");
    }
    fail_clear();
    all_assert(good);
}

static void agreement_without_failure_is_ok_and_silent(void **state)
{
    fail_clear();
    const enum status st = grid_agree(flat, OK);
    all_assert(st == OK && !*fail_message());
}

static void each_rank_in_turn_fails_alone_and_tells_the_others(void **state)
{
    bool good = true;
    for (int bad = 0; bad < world_size; bad++) {
        char want[64];
        fail_clear();
        snprintf(want, sizeof want, "file:%d: 100%% wrong", bad); /* a percent sign is text, not a format */
        const enum status st = world_rank == bad ? fail(ERR_INPUT, "%s", want) : OK;
        good = grid_agree(flat, st) == ERR_INPUT && strcmp(fail_message(), want) == 0 && good;
    }
    fail_clear();
    all_assert(good);
}

static void the_worst_status_wins_and_of_equals_the_lowest_rank(void **state)
{
    const enum status mine[] = {ERR_INPUT, ERR_NUMERIC, ERR_NUMERIC, ERR_STOPPED};
    const int first = world_size > 1 ? 1 : 0;
    char want[64];
    fail_clear();
    snprintf(want, sizeof want, "rank %d", first);
    fail(mine[world_rank % 4], "rank %d", world_rank);
    const enum status st = grid_agree(flat, mine[world_rank % 4]);
    const bool good = st == mine[first] && strcmp(fail_message(), want) == 0;
    fail_clear();
    all_assert(good);
}

static void a_failure_without_words_gets_the_text_of_its_status(void **state)
{
    fail_clear();
    const enum status st = grid_agree(flat, world_rank == world_size - 1 ? ERR_MEMORY : OK);
    const bool good = st == ERR_MEMORY && strcmp(fail_message(), status_text(ERR_MEMORY)) == 0;
    fail_clear();
    all_assert(good);
}

static void the_library_and_the_node_are_known(void **state)
{
    const char *text = parallel_library();
    all_assert(strlen(text) > 4 && !strchr(text, '\n') && parallel_node_size() >= 1 &&
               parallel_node_size() <= world_size);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_factorisation_has_tensor_ranks_as_neighbours),
        cmocka_unit_test(a_grid_that_is_not_the_job_is_refused_on_all_ranks),
        cmocka_unit_test(agreement_without_failure_is_ok_and_silent),
        cmocka_unit_test(each_rank_in_turn_fails_alone_and_tells_the_others),
        cmocka_unit_test(the_worst_status_wins_and_of_equals_the_lowest_rank),
        cmocka_unit_test(a_failure_without_words_gets_the_text_of_its_status),
        cmocka_unit_test(the_library_and_the_node_are_known),
    };
    int failed;
    if (parallel_start(&argc, &argv) != OK) return 1;
    MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world_size);
    if (grid_new(world_size, 1, &flat) != OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    grid_free(flat);
    parallel_end();
    return failed;
}
