/* parallel: splitting of work.                                                                    NP: 1 */
#include "near.h"

#include "unlearn/parallel.h"

/* split_balanced with scratch of its own */
static void balance(size_t n, const double *cost, int parts, int *owner)
{
    void *scratch = malloc(split_scratch(n, parts));
    assert_non_null(scratch);
    split_balanced(n, cost, parts, scratch, owner);
    free(scratch);
}

static void ranges_cover_exactly_and_differ_by_at_most_one(void **state)
{
    const size_t many[] = {0, 1, 2, 3, 5, 7, 64, 1000, SIZE_MAX};
    for (size_t k = 0; k < sizeof many / sizeof *many; k++)
        for (int parts = 1; parts <= 70; parts++) {
            size_t next = 0, least = SIZE_MAX, most = 0;
            for (int part = 0; part < parts; part++) {
                size_t first, count;
                split_range(many[k], parts, part, &first, &count);
                assert_true(first == next);
                next = first + count;
                if (count < least) least = count;
                if (count > most) most = count;
            }
            assert_true(next == many[k]);
            assert_true(most - least <= 1);
        }
}

/* The dearest part; every item must have an owner in range. */
static double dearest(size_t n, const double *cost, int parts, const int *owner)
{
    double sum[16] = {0}, most = 0;
    for (size_t i = 0; i < n; i++) {
        assert_in_range(owner[i], 0, parts - 1);
        sum[owner[i]] += cost[i];
    }
    for (int p = 0; p < parts; p++) most = fmax(most, sum[p]);
    return most;
}

/* The best possible, by trying all parts^n ways. */
static double optimum(size_t n, const double *cost, int parts)
{
    double best = INFINITY;
    size_t ways = 1;
    for (size_t i = 0; i < n; i++) ways *= (size_t)parts;
    for (size_t w = 0; w < ways; w++) {
        double sum[16] = {0}, most = 0;
        size_t digits = w;
        for (size_t i = 0; i < n; i++, digits /= (size_t)parts) sum[digits % (size_t)parts] += cost[i];
        for (int p = 0; p < parts; p++) most = fmax(most, sum[p]);
        best = fmin(best, most);
    }
    return best;
}

static void the_dearest_part_is_within_graham_s_bound_of_the_optimum(void **state)
{
    for (uint64_t trial = 0; trial < 60; trial++) {
        const size_t n = 1 + random_below(1, STREAM_TEST, 1000 + trial, 8);
        const int parts = 2 + (int)(trial % 3);
        double cost[8];
        int owner[8];
        for (size_t i = 0; i < n; i++) cost[i] = (double)(1 + random_below(2, STREAM_TEST, trial * 8 + i, 40));
        balance(n, cost, parts, owner);
        const double bound = 4.0 / 3 - 1.0 / (3 * parts);
        assert_true(dearest(n, cost, parts, owner) <= bound * optimum(n, cost, parts) * (1 + 1e-12));
    }
}

static void a_known_case_comes_out_as_by_hand(void **state)
{
    const double cost[] = {5, 5, 4, 4, 3, 3, 3}; /* Graham's worst case for 3 parts: 11 where 9 is possible */
    const int want[] = {0, 1, 2, 2, 0, 1, 0};
    int owner[7];
    balance(7, cost, 3, owner);
    for (int i = 0; i < 7; i++) assert_int_equal(owner[i], want[i]);
    assert_near(dearest(7, cost, 3, owner), 11, 0);
    assert_near(optimum(7, cost, 3), 9, 0);
}

static void equal_and_zero_costs_are_dealt_out_evenly(void **state)
{
    for (int zero = 0; zero < 2; zero++) {
        double cost[10];
        int owner[10], count[4] = {0};
        for (int i = 0; i < 10; i++) cost[i] = zero ? 0 : 2.5;
        balance(10, cost, 4, owner);
        for (int i = 0; i < 10; i++) count[owner[i]]++;
        for (int p = 0; p < 4; p++) assert_in_range(count[p], 2, 3);
    }
}

static void more_parts_than_items_get_one_each(void **state)
{
    const double cost[] = {1, 3, 2};
    int owner[3] = {-1, -1, -1};
    balance(3, cost, 9, owner);
    assert_int_equal(owner[1], 0);
    assert_int_equal(owner[2], 1);
    assert_int_equal(owner[0], 2);
    balance(0, NULL, 9, NULL);
    balance(3, cost, 1, owner);
    for (int i = 0; i < 3; i++) assert_int_equal(owner[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_cover_exactly_and_differ_by_at_most_one),
        cmocka_unit_test(the_dearest_part_is_within_graham_s_bound_of_the_optimum),
        cmocka_unit_test(a_known_case_comes_out_as_by_hand),
        cmocka_unit_test(equal_and_zero_costs_are_dealt_out_evenly),
        cmocka_unit_test(more_parts_than_items_get_one_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
