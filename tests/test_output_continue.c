/* output: an earlier run's file that is damaged, or is none of its kind, is refused when it is read back, whatever is in it.
 *                                                                                                  NP: 1 */
#include "near.h"
#include "unlearn/output.h"
#include <hdf5.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS = 3 };
static const char *const letters[] = {"a", "b"};
static const struct axis axes[] = {{.name = "step", .unlimited = true}, {.name = "letter", .n = 2, .label = letters}};
static const struct field fields[] = {{"curve", {"step"}, FIELD_DOUBLE, "1", "a curve", NULL},
                                      {"pair", {"step", "letter"}, FIELD_DOUBLE, "1", "two numbers", NULL}};
static char path[256];

static struct file *create(void)
{
    struct file *f = NULL;
    assert_int_equal(file_create(path, 2, axes, 2, fields, 0, NULL, &f), OK);
    return f;
}

static void earlier_run(void)
{
    struct file *f = create();
    for (int64_t t = 0; t < ROWS; t++) {
        const double pair[] = {(double)t, 0.5};
        assert_int_equal(file_put(f, "curve", pair), OK);
        assert_int_equal(file_put(f, "pair", pair), OK);
        assert_int_equal(file_commit(f, t), OK);
    }
    assert_int_equal(file_rows_before(f, ROWS), ROWS);
    assert_int_equal(file_rows_before(f, ROWS - 1), ROWS - 1); /* the row of that step does not count */
    assert_int_equal(file_rows_before(NULL, 1), 0);
    assert_int_equal(file_close(f), OK);
}

/* The field `name` of the file becomes another one, of these sizes and this type; rank -1: it is gone. */
static void exchange(const char *name, int rank, const hsize_t *size, hid_t type)
{
    hid_t f = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), space, data;
    assert_true(f >= 0 && H5Ldelete(f, name, H5P_DEFAULT) >= 0);
    if (rank >= 0) {
        space = rank ? H5Screate_simple(rank, size, NULL) : H5Screate(H5S_SCALAR);
        data = H5Dcreate2(f, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        assert_true(data >= 0);
        H5Dclose(data), H5Sclose(space);
    }
    assert_true(H5Fclose(f) >= 0);
}

/* The rows that a run which goes on at `step` takes over; a failure must name the file. */
static enum status go_on_with(int64_t step, size_t least, size_t *rows)
{
    struct file *f;
    char before[300];
    enum status st;
    fail_clear();
    assert_int_equal(file_set_aside(path), OK);
    f = create();
    st = file_continue(f, step, least);
    *rows = file_rows(f);
    assert_true(st == OK || (strstr(fail_message(), path) && !strstr(fail_message(), ".before")));
    if (st == OK)
        assert_int_equal(file_close(f), OK);
    else
        (void)file_close(f); /* it is not under its name any more */
    snprintf(before, sizeof before, "%s.before", path);
    assert_true(access(before, F_OK)); /* nothing lies aside: what is put under the name counts the next time */
    return st;
}

static enum status go_on(int64_t step, size_t *rows) { return go_on_with(step, 0, rows); }

static void clean(void)
{
    char before[300];
    snprintf(before, sizeof before, "%s.before", path);
    unlink(before), unlink(path);
    fail_clear();
}

static void what_is_sound_is_taken_over_up_to_the_step(void **state)
{
    size_t rows;
    for (int64_t step = 0; step <= ROWS + 1; step++) {
        earlier_run();
        assert_int_equal(go_on(step, &rows), OK);
        assert_int_equal(rows, step < ROWS ? step : ROWS);
        clean();
    }
    assert_int_equal(go_on(2, &rows), OK); /* there was no file */
    assert_int_equal(rows, 0);
    clean();
}

static void another_kind_of_field_is_refused(void **state)
{
    static const hsize_t one[] = {ROWS}, few[] = {1}, none[] = {0}, two[] = {ROWS, 2}, wide[] = {ROWS, 3},
                         many[] = {ROWS, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2},
                         huge[] = {(hsize_t)1 << 40, (hsize_t)1 << 20};
    static const struct {
        const char *name;
        int rank;
        const hsize_t *size;
        bool text;
    } cases[] = {
        {"step", -1, NULL, false}, {"step", 0, NULL, false},   {"step", 2, two, false},   {"step", 16, many, false},
        {"step", 1, one, true},    {"curve", -1, NULL, false}, {"curve", 0, NULL, false}, {"curve", 1, few, false},
        {"curve", 1, none, false}, {"curve", 2, two, false},   {"curve", 1, one, true},   {"pair", 1, one, false},
        {"pair", 2, wide, false},  {"pair", 16, many, false},  {"pair", 2, huge, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const hid_t text = H5Tcopy(H5T_C_S1);
        size_t rows;
        earlier_run();
        exchange(cases[i].name, cases[i].rank, cases[i].size, cases[i].text ? text : H5T_NATIVE_INT64);
        const enum status st = go_on(ROWS, &rows);
        if (st != ERR_INPUT && st != ERR_IO) fail_msg("case %zu, %s: status %d", i, cases[i].name, (int)st);
        clean();
        H5Tclose(text);
    }
}

static void a_file_that_is_cut_or_none_is_refused(void **state)
{
    static const char text[] = "no HDF5";
    struct stat s;
    size_t rows;
    for (int part = 0; part < 8; part++) {
        earlier_run();
        assert_true(!stat(path, &s) && !truncate(path, s.st_size * part / 8));
        const enum status st = go_on(ROWS, &rows);
        if (st != ERR_INPUT && st != ERR_IO) fail_msg("cut to %d eighths: status %d, %zu rows", part, (int)st, rows);
        clean();
    }
    FILE *f = fopen(path, "w");
    assert_true(f && fputs(text, f) >= 0 && !fclose(f));
    assert_int_equal(go_on(ROWS, &rows), ERR_INPUT);
    clean();
    assert_true(!mkdir(path, 0755) && !rmdir(path));
}

static void rows_that_are_missing_are_told(void **state)
{
    size_t rows;
    earlier_run();
    assert_int_equal(go_on_with(ROWS, ROWS, &rows), OK);
    assert_int_equal(rows, ROWS);
    unlink(path);
    earlier_run();
    assert_int_equal(go_on_with(ROWS, ROWS + 1, &rows), ERR_INPUT);
    assert_non_null(strstr(fail_message(), "has lost rows, but 4 rows had been written"));
    assert_int_equal(go_on_with(ROWS, ROWS, &rows), OK); /* the file is as it was, in its place */
    unlink(path);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(go_on_with(ROWS, 1, &rows), ERR_INPUT);
        assert_non_null(strstr(fail_message(), "is not there any more"));
        assert_true(access(path, F_OK)); /* no empty one either */
    }
    earlier_run(); /* it is put back */
    assert_int_equal(go_on_with(ROWS, ROWS, &rows), OK);
    assert_int_equal(rows, ROWS);
    fail_clear();
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_are_missing_are_told),
        cmocka_unit_test(what_is_sound_is_taken_over_up_to_the_step),
        cmocka_unit_test(another_kind_of_field_is_refused),
        cmocka_unit_test(a_file_that_is_cut_or_none_is_refused),
    };
    const char *root = getenv("TMPDIR");
    char directory[200];
    int failed;
    snprintf(directory, sizeof directory, "%s/unlearn-test-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(directory)) return 1;
    snprintf(path, sizeof path, "%s/rows.h5", directory);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}
