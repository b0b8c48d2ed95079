/* core: status, memory, random numbers, files.                                                            NP: 1 */
#include "near.h"

#include "unlearn/core.h"

static void the_first_message_stays_and_controls_are_quoted(void **state)
{
    fail_clear();
    assert_int_equal(fail(ERR_INPUT, "a\033[1m%d", 7), ERR_INPUT);
    assert_int_equal(fail(ERR_IO, "later"), ERR_IO);
    assert_string_equal(fail_message(), "a\\x1b[1m7");
    assert_int_equal(status_exit(ERR_STOPPED), 75);
    fail_clear();
    assert_string_equal(fail_message(), "");
}

static void memory_is_zeroed_aligned_and_refuses_overflow(void **state)
{
    char *p = memory_new(100, 3);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 0; i < 300; i++) assert_int_equal(p[i], 0);
    free(p);
    assert_null(memory_new(SIZE_MAX / 2, 3));
}

static void an_arena_measures_what_it_then_holds(void **state)
{
    struct arena a;
    arena_measure(&a);
    assert_null(arena_take(&a, 10, 8));
    assert_null(arena_take(&a, 1, 1));
    size_t bytes = a.used;
    assert_int_equal(bytes, 128 + 64);
    assert_int_equal(arena_new(bytes, &a), OK);
    char *first = arena_take(&a, 10, 8), *second = arena_take(&a, 1, 1);
    assert_int_equal(second - first, 128);
    assert_int_equal(a.peak, bytes);
    arena_free(&a);
}

static void philox_gives_the_known_answer(void **state)
{
    /* Random123's kat_vectors: philox4x32 10, counter 0, key 0 -> 6627e8d5 e169c58d bc57ac4c 9b00dbd8 */
    assert_true(random_bits(0, 0, 0) == 0xe169c58d6627e8d5u);
}

static void a_permutation_holds_every_index_once_and_epochs_differ(void **state)
{
    size_t a[97], b[97], seen[97] = {0}, same = 0;
    random_permutation(42, STREAM_TEST, 0, 97, a);
    random_permutation(42, STREAM_TEST, 1, 97, b);
    for (int i = 0; i < 97; i++) seen[a[i]]++, same += a[i] == b[i];
    for (int i = 0; i < 97; i++) assert_int_equal(seen[i], 1);
    assert_true(same < 20);
}

static void normal_numbers_have_mean_zero_and_variance_one(void **state)
{
    double sum = 0, square = 0;
    enum { N = 20000 };
    for (int i = 0; i < N; i++) {
        double x = random_normal(1, STREAM_TEST, (uint64_t)i);
        sum += x, square += x * x;
    }
    assert_near(sum / N, 0, 0.03); /* four standard errors */
    assert_near(square / N, 1, 0.04);
}

static void json_refuses_duplicates_marks_and_tails_with_their_place(void **state)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"a\":1,\"a\":2}", "f:4:"}, {"\xef\xbb\xbf{}", "byte order mark"}, {"{} x", "f:4:"}, {"[1,\nNaN]", "f:5:"}};
    json_t *j;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fail_clear();
        assert_int_equal(json_parse("f", 3, bad[i].text, strlen(bad[i].text), &j), ERR_INPUT);
        if (!strstr(fail_message(), bad[i].message)) fail_msg("\"%s\" lacks \"%s\"", fail_message(), bad[i].message);
    }
    fail_clear();
    assert_int_equal(json_parse("f", 0, "{\"a\":[1,2]}", 11, &j), OK);
    json_decref(j);
}

static void only_regular_files_of_allowed_size_are_read(void **state)
{
    char *text;
    size_t n;
    assert_int_equal(file_read("/dev/zero", 100, &text, &n), ERR_INPUT);
    fail_clear();
    assert_int_equal(file_read(".", 100, &text, &n), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "directory"));
    fail_clear();
    assert_int_equal(file_read("tests/near.h", 10, &text, &n), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "more than the 10 allowed"));
    fail_clear();
    assert_int_equal(file_read("tests/near.h", 100000, &text, &n), OK);
    assert_int_equal(strlen(text), n);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_message_stays_and_controls_are_quoted),
        cmocka_unit_test(memory_is_zeroed_aligned_and_refuses_overflow),
        cmocka_unit_test(an_arena_measures_what_it_then_holds),
        cmocka_unit_test(philox_gives_the_known_answer),
        cmocka_unit_test(a_permutation_holds_every_index_once_and_epochs_differ),
        cmocka_unit_test(normal_numbers_have_mean_zero_and_variance_one),
        cmocka_unit_test(json_refuses_duplicates_marks_and_tails_with_their_place),
        cmocka_unit_test(only_regular_files_of_allowed_size_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
