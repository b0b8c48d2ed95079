/* output: processes killed while they write.                                                       NP: 1 */
#define _GNU_SOURCE
#include "scratch.h"
#include "unlearn/output.h"
#include <dlfcn.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WIDE = 12000, ROWS = 6 }; /* a row of WIDE doubles is a chunk of its own: each commit adds to the index */

static struct shared { /* between parent and child */
    bool counts;       /* the file is complete: from now on each write may be the last one */
    long left;         /* writes until the kill */
    long committed;
} * shared;

/* Every write of HDF5 and of the room itself comes through here. */
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    static ssize_t (*real_one)(int, const void *, size_t, off_t);
    if (!real_one) *(void **)&real_one = dlsym(RTLD_NEXT, "pwrite");
    if (shared && shared->counts && shared->left-- == 0) raise(SIGKILL);
    return real_one(fd, bytes, n, at);
}

static int write_rows(const char *path)
{
    static int64_t place[WIDE];
    static double wide[WIDE];
    const struct axis axes[] = {{.name = "step", .unlimited = true}, {.name = "place", .n = WIDE, .value = place}};
    static const struct field fields[] = {{"wide", {"step", "place"}, FIELD_DOUBLE, "1", "wide", NULL},
                                          {"thin", {"step"}, FIELD_DOUBLE, "1", "thin", NULL}};
    struct file *f;
    if (file_create(path, 2, axes, 2, fields, 0, NULL, &f) != OK) return 1;
    shared->counts = true;
    for (int t = 0; t < ROWS; t++) {
        const double thin = t;
        for (int i = 0; i < WIDE; i++) wide[i] = t + i * 0.5;
        if (file_put(f, "wide", wide) != OK || file_put(f, "thin", &thin) != OK) return 2;
        if (file_commit(f, 10 * t) != OK) return 3;
        shared->committed = t + 1;
    }
    return file_close(f) == OK ? 0 : 4;
}

static hsize_t read_all(hid_t f, const char *name, double *to)
{
    hid_t d = H5Dopen2(f, name, H5P_DEFAULT), space = H5Dget_space(d);
    hsize_t n = (hsize_t)H5Sget_simple_extent_npoints(space);
    assert_true(n <= WIDE * (ROWS + 1));
    if (H5Dread(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) < 0)
        fail_msg("%s cannot be read after %ld rows", name, shared->committed);
    H5Sclose(space), H5Dclose(d);
    return n;
}

/* Whoever reads takes the rows that have a step: never fewer than were committed, and each of them right. */
static void assert_readable(const char *path)
{
    static double step[WIDE * (ROWS + 1)], wide[WIDE * (ROWS + 1)], thin[WIDE * (ROWS + 1)];
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (f < 0) fail_msg("%s cannot be opened after %ld rows", path, shared->committed);
    hsize_t n = read_all(f, "step", step), n_wide = read_all(f, "wide", wide), n_thin = read_all(f, "thin", thin);
    assert_true(n >= (hsize_t)shared->committed && n_wide >= WIDE * n && n_thin >= n);
    for (hsize_t t = 0; t < n; t++) {
        if (step[t] < 0) continue; /* made room for, not committed */
        assert_near(step[t], 10 * (double)t, 0);
        assert_near(thin[t], (double)t, 0);
        for (int i = 0; i < WIDE; i += 11) assert_near(wide[t * WIDE + (hsize_t)i], (double)t + i * 0.5, 0);
    }
    for (long t = 0; t < shared->committed; t++) assert_true(step[t] >= 0);
    assert_true(H5Fclose(f) >= 0);
}

static void a_kill_at_any_write_leaves_every_committed_row(void **state)
{
    long writes = 0;
    int how = 0;
    do {
        *shared = (struct shared){.left = writes};
        pid_t child = fork();
        if (!child) _exit(write_rows("killed.h5"));
        assert_int_equal(waitpid(child, &how, 0), child);
        shared->counts = false;
        assert_true(WIFSIGNALED(how) ? WTERMSIG(how) == SIGKILL : WEXITSTATUS(how) == 0);
        assert_readable("killed.h5");
        writes++;
    } while (WIFSIGNALED(how));
    assert_int_equal(shared->committed, ROWS);
    assert_true(writes > 8 * ROWS); /* it was killed often, and at last not any more */
}

static int enter(void **state)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED || scratch_enter(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_write_leaves_every_committed_row),
    };
    return cmocka_run_group_tests_name("output: killed", tests, enter, scratch_leave);
}
