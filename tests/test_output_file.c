/* output: files made from tables.                                                                  NP: 1 */
#include "scratch.h"
#include "unlearn/output.h"
#include <hdf5.h>
#include <hdf5_hl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is written is read again: no rounding anywhere. */
static const char *const letters[] = {"a", "b\xc3\xa9"};
static const int64_t rows[] = {7, 3, 5};
static const struct axis axes[] = {
    {.name = "step", .units = "1", .unlimited = true},
    {.name = "letter", .long_name = "a letter", .n = 2, .label = letters},
    {.name = "row", .n = 3, .value = rows},
};
static const struct field fields[] = {
    {"cube", {"step", "letter", "row"}, FIELD_DOUBLE, "m", "a cube", "c = l r"},
    {"count", {"step", "row"}, FIELD_INT64, "1", "a count", NULL},
    {"weight", {"letter", "row"}, FIELD_DOUBLE, "1", "a weight", NULL},
    {"pair", {"letter", "letter"}, FIELD_DOUBLE, "1", "never written", NULL},
    {"curve", {"step"}, FIELD_DOUBLE, "s", "a curve", NULL},
};
static const struct attribute about[] = {{"title", "test"}, {"input", "a: 1\nb: \xc3\xa9\n"}};

static enum status create(const char *path, struct file **out)
{
    return file_create(path, 3, axes, 5, fields, 2, about, out);
}

static double cube_value(size_t t, size_t i) { return (double)(100 * t + i) + 0.1; }

static enum status put_row(struct file *f, size_t t)
{
    double cube[6], curve = (double)t / 3;
    for (size_t i = 0; i < 6; i++) cube[i] = cube_value(t, i);
    enum status st = file_put(f, "cube", cube);
    return st == OK ? file_put(f, "curve", &curve) : st;
}

static hid_t open_read(const char *path)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(f >= 0);
    return f;
}

static size_t read_all(hid_t f, const char *name, hid_t type, size_t room, void *to)
{
    hid_t d = H5Dopen2(f, name, H5P_DEFAULT), space;
    assert_true(d >= 0);
    space = H5Dget_space(d);
    size_t n = (size_t)H5Sget_simple_extent_npoints(space);
    assert_true(n <= room);
    assert_true(H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) >= 0);
    H5Sclose(space);
    H5Dclose(d);
    return n;
}

/* The rows 0 ... n-1 that put_row wrote, with steps 5 t. */
static void assert_rows(const char *path, size_t n)
{
    double cube[6 * 64], curve[64];
    int64_t step[64];
    hid_t f = open_read(path);
    assert_int_equal(read_all(f, "step", H5T_NATIVE_INT64, 64, step), n);
    assert_true(read_all(f, "cube", H5T_NATIVE_DOUBLE, 6 * 64, cube) >= 6 * n); /* more: not committed */
    assert_true(read_all(f, "curve", H5T_NATIVE_DOUBLE, 64, curve) >= n);
    for (size_t t = 0; t < n; t++) {
        assert_int_equal(step[t], 5 * (int64_t)t);
        assert_near(curve[t], (double)t / 3, 0);
        for (size_t i = 0; i < 6; i++) assert_near(cube[6 * t + i], cube_value(t, i), 0);
    }
    assert_true(H5Fclose(f) >= 0);
}

static void what_is_written_is_read_again(void **state)
{
    struct file *f;
    const double weight[6] = {1, 2, 3, 4, 5, 6e300};
    const int64_t count[3] = {1, -2, INT64_MAX};
    double read_weight[6];
    int64_t read_count[12];
    assert_int_equal(create("rows.h5", &f), OK);
    assert_int_equal(file_put(f, "weight", weight), OK);
    for (size_t t = 0; t < 4; t++) {
        assert_int_equal(file_rows(f), t);
        assert_int_equal(put_row(f, t), OK);
        assert_int_equal(file_put_int64(f, "count", count), OK);
        assert_int_equal(file_commit(f, 5 * (int64_t)t), OK);
    }
    assert_int_equal(file_close(f), OK);
    assert_rows("rows.h5", 4);
    hid_t h = open_read("rows.h5");
    assert_int_equal(read_all(h, "weight", H5T_NATIVE_DOUBLE, 6, read_weight), 6);
    assert_memory_equal(read_weight, weight, sizeof weight);
    assert_int_equal(read_all(h, "count", H5T_NATIVE_INT64, 12, read_count), 12);
    assert_memory_equal(read_count + 9, count, sizeof count);
    H5Fclose(h);
}

static void what_is_not_put_reads_nan(void **state)
{
    struct file *f;
    double pair[4] = {0}, weight[6] = {0}, cube[12] = {0}, curve[2] = {0};
    int64_t count[6] = {0};
    assert_int_equal(create("holes.h5", &f), OK);
    assert_int_equal(file_put(f, "curve", (const double[]){0.5}), OK);
    assert_int_equal(file_commit(f, 0), OK);
    assert_int_equal(put_row(f, 1), OK);
    assert_int_equal(file_commit(f, 5), OK);
    assert_int_equal(file_close(f), OK);
    hid_t h = open_read("holes.h5");
    assert_int_equal(read_all(h, "pair", H5T_NATIVE_DOUBLE, 4, pair), 4);
    assert_int_equal(read_all(h, "weight", H5T_NATIVE_DOUBLE, 6, weight), 6);
    assert_int_equal(read_all(h, "cube", H5T_NATIVE_DOUBLE, 12, cube), 12);
    assert_int_equal(read_all(h, "count", H5T_NATIVE_INT64, 6, count), 6);
    assert_int_equal(read_all(h, "curve", H5T_NATIVE_DOUBLE, 2, curve), 2);
    for (int i = 0; i < 4; i++) assert_true(isnan(pair[i]));
    for (int i = 0; i < 6; i++) assert_true(isnan(weight[i]) && isnan(cube[i]) && count[i] == INT64_MIN);
    for (int i = 0; i < 6; i++) assert_near(cube[6 + i], cube_value(1, (size_t)i), 0);
    assert_near(curve[0], 0.5, 0);
    H5Fclose(h);
}

static void a_row_that_is_put_but_not_committed_does_not_count(void **state)
{
    struct file *f;
    double curve[8];
    int64_t step[8];
    assert_int_equal(create("half.h5", &f), OK);
    assert_int_equal(put_row(f, 0), OK);
    assert_int_equal(file_commit(f, 0), OK);
    assert_int_equal(put_row(f, 1), OK);
    assert_int_equal(file_close(f), OK);
    hid_t h = open_read("half.h5");
    assert_int_equal(read_all(h, "step", H5T_NATIVE_INT64, 8, step), 1);
    assert_int_equal(read_all(h, "curve", H5T_NATIVE_DOUBLE, 8, curve), 1);
    H5Fclose(h);
}

static void read_label(hid_t f, const char *name, char *to)
{
    hid_t d = H5Dopen2(f, name, H5P_DEFAULT), type = H5Dget_type(d), space = H5Dget_space(d);
    char *text[2];
    assert_true(H5Tis_variable_str(type));
    assert_int_equal(H5Tget_cset(type), H5T_CSET_UTF8);
    assert_true(H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) >= 0);
    sprintf(to, "%s,%s", text[0], text[1]);
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, text);
    H5Sclose(space), H5Tclose(type), H5Dclose(d);
}

static void every_axis_of_a_field_has_its_coordinate(void **state)
{
    struct file *f;
    char name[32], label[32];
    const char *want[] = {"step", "letter", "row"};
    assert_int_equal(create("axes.h5", &f), OK);
    assert_int_equal(file_close(f), OK);
    hid_t h = open_read("axes.h5"), d = H5Dopen2(h, "cube", H5P_DEFAULT), text, a;
    for (unsigned i = 0; i < 3; i++) {
        hid_t scale = H5Dopen2(h, want[i], H5P_DEFAULT);
        assert_int_equal(H5DSis_scale(scale), 1);
        assert_int_equal(H5DSis_attached(d, scale, i), 1);
        assert_true(H5DSget_scale_name(scale, name, sizeof name) > 0);
        assert_string_equal(name, want[i]);
        H5Dclose(scale);
    }
    read_label(h, "letter", label);
    assert_string_equal(label, "a,b\xc3\xa9");
    a = H5Aopen(d, "equation", H5P_DEFAULT);
    text = H5Aget_type(a);
    char *content;
    assert_true(H5Aread(a, text, &content) >= 0);
    assert_string_equal(content, "c = l r");
    H5free_memory(content);
    H5Tclose(text), H5Aclose(a), H5Dclose(d), H5Fclose(h);
}

static void files_of_equal_content_are_equal_bytes(void **state)
{
    char *bytes[2];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        struct file *f;
        const char *name = i ? "second.h5" : "first.h5";
        assert_int_equal(create(name, &f), OK);
        for (size_t t = 0; t < 3; t++) {
            assert_int_equal(put_row(f, t), OK);
            assert_int_equal(file_commit(f, (int64_t)t), OK);
        }
        assert_int_equal(file_close(f), OK);
        assert_int_equal(file_read(name, 1 << 24, &bytes[i], &n[i]), OK);
        sleep(i ? 0 : 1); /* times of creation, were they stored, would differ */
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    free(bytes[0]), free(bytes[1]);
}

static void a_killed_process_leaves_the_rows_it_committed(void **state)
{
    pid_t child = fork();
    int how;
    if (!child) {
        struct file *f;
        if (create("killed.h5", &f) != OK) _exit(1);
        for (size_t t = 0; t < 3; t++)
            if (put_row(f, t) != OK || file_commit(f, 5 * (int64_t)t) != OK) _exit(2);
        if (put_row(f, 3) != OK) _exit(3);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    assert_rows("killed.h5", 3);
}

static void a_wide_row_is_cut_into_chunks_and_comes_back(void **state)
{
    enum { N = 300000 };
    int64_t *wide = calloc(N, sizeof *wide);
    double *x = calloc(2 * N, sizeof *x), *y = calloc(4 * N, sizeof *y);
    for (int i = 0; i < N; i++) wide[i] = i;
    for (int i = 0; i < 2 * N; i++) x[i] = i * 0.25;
    const struct axis wide_axes[] = {{.name = "step", .unlimited = true},
                                     {.name = "letter", .n = 2, .label = letters},
                                     {.name = "row", .n = N, .value = wide}};
    struct file *f;
    assert_int_equal(file_create("wide.h5", 3, wide_axes, 1, fields, 0, NULL, &f), OK);
    for (int t = 0; t < 2; t++) {
        assert_int_equal(file_put(f, "cube", x), OK);
        assert_int_equal(file_commit(f, t), OK);
    }
    assert_int_equal(file_close(f), OK);
    hid_t h = open_read("wide.h5");
    assert_int_equal(read_all(h, "cube", H5T_NATIVE_DOUBLE, 4 * N, y), 4 * N);
    assert_memory_equal(x, y + 2 * N, 2 * N * sizeof *x);
    H5Fclose(h);
    free(wide), free(x), free(y);
}

static void assert_failed(enum status st, enum status want, const char *part, const char *other)
{
    assert_int_equal(st, want);
    if (!strstr(fail_message(), part) || !strstr(fail_message(), other))
        fail_msg("\"%s\" does not say \"%s\" and \"%s\"", fail_message(), part, other);
    fail_clear();
}

static void a_file_that_cannot_be_made_says_why(void **state)
{
    struct file *f;
    assert_failed(create("nowhere/x.h5", &f), ERR_IO, "nowhere/x.h5", "No such file or directory");
    assert_null(f);
    assert_int_equal(mkdir("taken.h5", 0777), 0);
    assert_failed(create("taken.h5", &f), ERR_IO, "taken.h5", "Is a directory");
}

static void an_unknown_field_is_refused_and_the_file_stays_failed(void **state)
{
    struct file *f;
    assert_int_equal(create("unknown.h5", &f), OK);
    assert_true(file_has(f, "cube"));
    assert_false(file_has(f, "sphere"));
    assert_failed(file_put(f, "sphere", NULL), ERR_INTERNAL, "unknown.h5", "sphere");
    assert_int_equal(put_row(f, 0), ERR_INTERNAL);
    assert_int_equal(file_commit(f, 0), ERR_INTERNAL);
    assert_int_equal(file_close(f), ERR_INTERNAL);
    fail_clear();
}

static void a_deleted_file_is_noticed(void **state)
{
    struct file *f;
    assert_int_equal(create("deleted.h5", &f), OK);
    assert_int_equal(put_row(f, 0), OK);
    assert_int_equal(unlink("deleted.h5"), 0);
    assert_failed(file_commit(f, 0), ERR_IO, "deleted.h5", "no longer there");
    assert_int_equal(file_close(f), ERR_IO);
    fail_clear();
}

/* Child: writes rows, each a chunk of its own, until the limit on file size stops it (EFBIG, where a full disk gives ENOSPC).
 * Its exit status counts the rows committed; 99: the file could not be created; more: no orderly failure. */
enum { FULL_WIDE = 12000, FULL_ROWS = 20 };

static int write_until_full(const char *path, rlim_t most)
{
    static int64_t place[FULL_WIDE];
    static double wide[FULL_WIDE];
    const struct axis full_axes[] = {{.name = "step", .unlimited = true},
                                     {.name = "row", .n = FULL_WIDE, .value = place}};
    const struct field field = {"wide", {"step", "row"}, FIELD_DOUBLE, "1", "wide", NULL};
    const struct rlimit limit = {most, most};
    struct file *f;
    int t = 0;
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGSEGV, SIG_DFL); /* cmocka's handler would go on with the tests here */
    if (setrlimit(RLIMIT_FSIZE, &limit)) return 101;
    if (file_create(path, 2, full_axes, 1, &field, 0, NULL, &f) != OK)
        return strstr(fail_message(), "File too large") ? 99 : 102;
    for (; t < FULL_ROWS; t++) {
        for (int i = 0; i < FULL_WIDE; i++) wide[i] = t + i * 0.5;
        if (file_put(f, "wide", wide) != OK || file_commit(f, t) != OK) break;
    }
    if ((file_close(f) == OK) != (t == FULL_ROWS)) return 103;
    return t == FULL_ROWS || strstr(fail_message(), "File too large") ? t : 104;
}

static void assert_wide_rows(const char *path, hsize_t n)
{
    static double wide[FULL_WIDE * (FULL_ROWS + 1)];
    int64_t step[FULL_ROWS + 1];
    hid_t f = open_read(path);
    assert_int_equal(read_all(f, "step", H5T_NATIVE_INT64, FULL_ROWS + 1, step), n);
    assert_true(read_all(f, "wide", H5T_NATIVE_DOUBLE, FULL_WIDE * (FULL_ROWS + 1), wide) >= n * FULL_WIDE);
    for (hsize_t t = 0; t < n; t++)
        for (int i = 0; i < FULL_WIDE; i++) assert_near(wide[t * FULL_WIDE + (hsize_t)i], (double)t + i * 0.5, 0);
    H5Fclose(f);
}

static void a_full_disk_is_reported_and_the_committed_rows_stay(void **state)
{
    bool seen[FULL_ROWS + 1] = {false};
    int not_created = 0, kinds = 0;
    for (rlim_t most = 1 << 10; most < 3 << 20; most += 59 << 10) {
        pid_t child;
        int how;
        unlink("full.h5");
        if (!(child = fork())) exit(write_until_full("full.h5", most)); /* through all exit handlers */
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how));
        how = WEXITSTATUS(how);
        if (how > 99) fail_msg("limit %zu: child says %d", (size_t)most, how);
        if (how == 99) {
            assert_false(file_exists("full.h5"));
            not_created++;
        } else {
            assert_wide_rows("full.h5", (hsize_t)how);
            seen[how] = true;
        }
    }
    for (int t = 0; t <= FULL_ROWS; t++) kinds += seen[t];
    assert_true(not_created > 0 && kinds > 10 && seen[FULL_ROWS]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(what_is_not_put_reads_nan),
        cmocka_unit_test(a_row_that_is_put_but_not_committed_does_not_count),
        cmocka_unit_test(every_axis_of_a_field_has_its_coordinate),
        cmocka_unit_test(files_of_equal_content_are_equal_bytes),
        cmocka_unit_test(a_killed_process_leaves_the_rows_it_committed),
        cmocka_unit_test(a_wide_row_is_cut_into_chunks_and_comes_back),
        cmocka_unit_test(a_file_that_cannot_be_made_says_why),
        cmocka_unit_test(an_unknown_field_is_refused_and_the_file_stays_failed),
        cmocka_unit_test(a_deleted_file_is_noticed),
        cmocka_unit_test(a_full_disk_is_reported_and_the_committed_rows_stay),
    };
    return cmocka_run_group_tests_name("output: file", tests, scratch_enter, scratch_leave);
}
