/* core: status, memory, random numbers, files.                                                            NP: 1 */
#include "scratch.h"

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

/* Control groups of both versions, in files as the system has them. */
static void the_tightest_control_group_counts(void **state)
{
    char place[] = "/tmp/unlearn-groups.XXXXXX", command[1024], here[4096];
    assert_non_null(getcwd(here, sizeof here));
    assert_non_null(mkdtemp(place));
    snprintf(command, sizeof command,
             "set -e; cd %s; mkdir -p memory/job/step unified/job new/a/b; "
             "printf '9:cpu,memory:/job/step\\n1:name=x:/\\n0::/job\\n' >first; printf '0::/a/b\\n' >second; "
             "echo 5000 >memory/job/memory.limit_in_bytes; echo 1000 >memory/job/memory.usage_in_bytes; "
             "printf 'cache 3\\ntotal_inactive_file 400\\n' >memory/job/memory.stat; "
             "echo 9223372036854771712 >memory/job/step/memory.limit_in_bytes; echo 7 >memory/memory.limit_in_bytes.not; "
             "echo max >new/a/memory.max; echo 90 >new/a/b/memory.max; echo 100 >new/a/b/memory.current; "
             "printf 'inactive_file 30\\n' >new/a/b/memory.stat; echo 10 >unified/job/memory.max",
             place);
    assert_int_equal(system(command), 0);
    assert_int_equal(chdir(place), 0);
    assert_int_equal(memory_in_groups("first", "new"), SIZE_MAX);
    assert_int_equal(memory_in_groups("second", "new"), 20);
    assert_int_equal(memory_in_groups("first", "."), 10); /* of the second version, beside the first: 4400 */
    assert_int_equal(unlink("unified/job/memory.max"), 0);
    assert_int_equal(memory_in_groups("first", "."), 4400);
    assert_int_equal(memory_in_groups("none", "."), SIZE_MAX);
    snprintf(command, sizeof command, "rm -r %s", place);
    assert_int_equal(chdir(here) || system(command), 0);
    assert_true(memory_available() > 0);
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
        {"{\"a\":1,\"a\":2}", "f:4:"}, {"\xef\xbb\xbf{}", "byte order mark"}, {"{} x", "f:4:"}, {"[1,\nNaNs]", "f:5:"}};
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

/* Whatever the parser refuses of these is a value, which is no value of any type that a reader takes. */
static void numbers_that_json_does_not_have_are_kept_as_they_are_written(void **state)
{
    static const char *const odd[] = {"NaN",
                                      "Infinity",
                                      "-Infinity",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "1e999",
                                      "-1.5E+400",
                                      "123456789012345678901234567890"};
    static const char *const not_json[] = {"nan", "-NaN",   "+1",      "01",  "-01",   "1.e999",
                                           "1e",  ".5e999", "NaN NaN", "0x1", "1e999x"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct text text = {0}, way[4] = {{0}};
        json_t *j, *value;
        text_print(&text, "{\"a\": [1, %s,%s], \"%s\": \"\\\"%s\\\\\", \"b\":%s}", odd[i], odd[i], odd[i], odd[i],
                   odd[i]);
        if (json_parse("f", 0, text.data, text.n, &j) != OK) fail_msg("%s", fail_message());
        value = json_object_get(j, "b");
        assert_string_equal(json_odd(value), odd[i]);
        assert_false(json_is_number(value) || json_is_string(value) || json_is_array(value) || json_is_null(value));
        assert_string_equal(json_odd(json_array_get(json_object_get(j, "a"), 2)), odd[i]);
        assert_null(json_odd(json_array_get(json_object_get(j, "a"), 0)));
        text_print(&way[0], "\"%s\\", odd[i]); /* within a text it is text */
        assert_string_equal(json_string_value(json_object_get(j, odd[i])), way[0].data);
        for (size_t k = 0; k < 2; k++) {
            char *written = json_dumps(j, k ? JSON_INDENT(2) : JSON_COMPACT);
            json_unmark(written);
            text_print(&way[2 + k],
                       k ? "{\n  \"a\": [\n    1,\n    %s,\n    %s\n  ],\n  \"%s\": \"\\\"%s\\\\\",\n  \"b\": %s\n}"
                         : "{\"a\":[1,%s,%s],\"%s\":\"\\\"%s\\\\\",\"b\":%s}",
                       odd[i], odd[i], odd[i], odd[i], odd[i]);
            assert_string_equal(written, way[2 + k].data);
            free(written);
        }
        for (size_t k = 0; k < 4; k++) text_free(&way[k]);
        text_free(&text);
        json_decref(j);
    }
    for (size_t i = 0; i < sizeof not_json / sizeof *not_json; i++) {
        json_t *j;
        if (json_parse("f", 0, not_json[i], strlen(not_json[i]), &j) != ERR_INPUT) fail_msg("%s", not_json[i]);
        fail_clear();
    }
}

/* An error behind such a number has the place that it has behind an ordinary one of the same length. */
static void an_error_behind_an_odd_number_has_its_own_place(void **state)
{
    static const char *const pair[][2] = {
        {"{\"\\ud800\": \"\\udc00\", \"b\": }", "{\"\\u0100\": \"\\u0100\", \"b\": }"},
        {"{\"a\": NaN, \"b\": }", "{\"a\": 123, \"b\": }"},
        {"[1e999,\n \"\xc3\xa9\", -Infinity 4]", "[1e123,\n \"\xc3\xa9\", 123456789 4]"},
        {"{\"a\": Infinity, \"b\": 1, \"b\": 2}", "{\"a\": 12345678, \"b\": 1, \"b\": 2}"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        char place[2][64] = {"", ""};
        for (size_t k = 0; k < 2; k++) {
            json_t *j;
            assert_int_equal(json_parse("f", 6, pair[i][k], strlen(pair[i][k]), &j), ERR_INPUT);
            snprintf(place[k], sizeof place[k], "%.*s", (int)strcspn(fail_message(), " "), fail_message());
            fail_clear();
        }
        assert_string_equal(place[0], place[1]);
    }
}

/* A text with half of a pair is a value of no type; in a key, what is unknown stands for the half; whole pairs are text. */
static void a_text_with_half_of_a_surrogate_pair_is_kept_as_it_is_written(void **state)
{
    static const char *const odd[] = {"\"\\ud800\"", "\"a\\udc00\\\"b\"", "\"\\uD83D \\uDE00\"",
                                      "\"\\ud83d\\ude00\\ud83d\"", "\"\\\\\\udfff\xc3\xa9\""};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct text text = {0}, expected = {0};
        json_t *j;
        char *written;
        text_print(&text, "{\"a\": [%s, 1], \"b\" : \"\\ud83d\\ude00 \\\\ud800\", \"c\\udfffd\": NaN}", odd[i]);
        if (json_parse("f", 0, text.data, text.n, &j) != OK) fail_msg("%s: %s", text.data, fail_message());
        assert_string_equal(json_odd(json_array_get(json_object_get(j, "a"), 0)), odd[i]);
        assert_int_equal(json_integer_value(json_array_get(json_object_get(j, "a"), 1)), 1);
        assert_string_equal(json_string_value(json_object_get(j, "b")), "\xf0\x9f\x98\x80 \\ud800");
        assert_string_equal(json_odd(json_object_get(j, "c\xef\xbf\xbd"
                                                        "d")),
                            "NaN");
        for (int k = 0; k < 2; k++) {
            written = json_dumps(json_object_get(j, "a"), k ? JSON_INDENT(1) : JSON_COMPACT);
            json_unmark(written);
            text_print(&expected, k ? "[\n %s,\n 1\n]" : "[%s,1]", odd[i]);
            assert_string_equal(written, expected.data);
            free(written), expected.n = 0;
        }
        text_free(&text), text_free(&expected);
        json_decref(j);
    }
}

/* What only looks like such a value stays what it is. */
static void an_object_that_looks_like_an_odd_number_is_written_as_it_was(void **state)
{
    static const char text[] = "{\"\\u0001\": \"true\"}";
    json_t *j;
    char *written;
    assert_int_equal(json_parse("f", 0, text, sizeof text - 1, &j), OK);
    written = json_dumps(j, 0);
    json_unmark(written);
    assert_string_equal(written, text);
    free(written);
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

/* Whatever pieces it comes in: what a reader of the whole file makes of it, chunk by chunk. */
static void a_file_is_hashed_the_same_in_any_pieces(void **state)
{
    static const size_t length[] = {0, 1, 300, HASH_CHUNK - 1, HASH_CHUNK, HASH_CHUNK + 5, 2 * (size_t)HASH_CHUNK};
    static const size_t piece[] = {7919, 1000003, 3 * (size_t)HASH_CHUNK};
    unsigned char *bytes = memory_new(2 * (size_t)HASH_CHUNK, 1);
    for (size_t i = 0; i < 2 * (size_t)HASH_CHUNK; i++) bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    for (size_t k = 0; k < sizeof length / sizeof *length; k++) {
        const size_t n = length[k], whole = n / HASH_CHUNK * HASH_CHUNK;
        uint64_t want = 0;
        for (size_t at = 0; at < whole; at += HASH_CHUNK) want = hash_bytes(bytes + at, HASH_CHUNK, want);
        if (n > whole) want = hash_bytes(bytes + whole, n - whole, want);
        for (size_t j = 0; j < sizeof piece / sizeof *piece; j++) {
            struct file_hash h;
            assert_int_equal(file_hash_begin(&h), OK);
            for (size_t at = 0; at < n; at += piece[j])
                file_hash_add(&h, bytes + at, n - at < piece[j] ? n - at : piece[j]);
            file_hash_end(&h);
            file_hash_end(&h);
            assert_true(h.bytes == n && h.hash == want);
        }
    }
    free(bytes);
}

/* The lines of run.log on a full disk: the run goes on, and says at its end that they are missing. */
static void a_log_that_did_not_take_its_lines_says_so_when_it_is_closed(void **state)
{
    assert_int_equal(log_open(NULL, false), OK);
    assert_int_equal(log_continue("/dev/full", 0), OK);
    log_info("a line");
    assert_int_equal(log_close(), ERR_IO);
    assert_string_equal(fail_message(), "/dev/full: cannot be written: No space left on device: lines are missing");
    fail_clear();
    assert_int_equal(log_close(), OK);
}

/* A terminal obeys escape codes in the name of a file; a line break in one would forge a line of the log. */
static void a_warning_quotes_controls_and_is_repeated_so(void **state)
{
    char *text = NULL;
    size_t n;
    assert_int_equal(log_open("run.log", false), OK);
    log_warn("%s: \303\251, cut", "a\033[1m\nb");
    log_info("two\nlines");
    assert_int_equal(log_close(), OK);
    assert_int_equal(file_read("run.log", 1000, &text, &n), OK);
    assert_string_equal(text, "warning: a\\x1b[1m\\x0ab: \303\251, cut\ntwo\nlines\n"
                              "1 warning:\nwarning: a\\x1b[1m\\x0ab: \303\251, cut\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_message_stays_and_controls_are_quoted),
        cmocka_unit_test(memory_is_zeroed_aligned_and_refuses_overflow),
        cmocka_unit_test(an_arena_measures_what_it_then_holds),
        cmocka_unit_test(the_tightest_control_group_counts),
        cmocka_unit_test(philox_gives_the_known_answer),
        cmocka_unit_test(a_permutation_holds_every_index_once_and_epochs_differ),
        cmocka_unit_test(normal_numbers_have_mean_zero_and_variance_one),
        cmocka_unit_test(json_refuses_duplicates_marks_and_tails_with_their_place),
        cmocka_unit_test(numbers_that_json_does_not_have_are_kept_as_they_are_written),
        cmocka_unit_test(an_error_behind_an_odd_number_has_its_own_place),
        cmocka_unit_test(a_text_with_half_of_a_surrogate_pair_is_kept_as_it_is_written),
        cmocka_unit_test(an_object_that_looks_like_an_odd_number_is_written_as_it_was),
        cmocka_unit_test(only_regular_files_of_allowed_size_are_read),
        cmocka_unit_test(a_file_is_hashed_the_same_in_any_pieces),
        cmocka_unit_test(a_log_that_did_not_take_its_lines_says_so_when_it_is_closed),
        cmocka_unit_test_setup_teardown(a_warning_quotes_controls_and_is_repeated_so, scratch_enter, scratch_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
