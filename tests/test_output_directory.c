/* output: the run directory and small files.                                                       NP: 1 */
#include "near.h"
#include "unlearn/output.h"
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void touch(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("x", f);
    fclose(f);
}

static void assert_refused(const char *path, bool overwrite, const char *part)
{
    struct directory *d;
    assert_int_equal(directory_prepare(path, overwrite, &d), ERR_INPUT);
    assert_null(d);
    if (!strstr(fail_message(), part)) fail_msg("\"%s\" does not say \"%s\"", fail_message(), part);
    fail_clear();
}

static void assert_ready(const char *path, bool overwrite)
{
    struct directory *d;
    struct stat s;
    if (directory_prepare(path, overwrite, &d) != OK) fail_msg("%s", fail_message());
    assert_int_equal(stat(path, &s), 0);
    assert_true(S_ISDIR(s.st_mode));
    directory_free(d);
}

static void parents_are_made_and_nothing_is_left_in_it(void **state)
{
    assert_ready("a/b//c/", false);
    assert_ready("a/b/c", false);
    assert_int_equal(rmdir("a/b/c"), 0); /* empty again */
}

static void what_is_in_the_way_is_named(void **state)
{
    char longest[400];
    touch("taken");
    assert_refused("taken", true, "taken is a file, not a directory");
    assert_refused("taken/run", true, "taken is a file, not a directory");
    assert_int_equal(symlink("nowhere", "dangling"), 0);
    assert_refused("dangling", false, "leads to no directory");
    assert_refused("dangling/run", false, "leads to no directory");
    memset(longest, 'n', sizeof longest);
    longest[sizeof longest - 1] = 0;
    assert_refused(longest, false, "File name too long");
    assert_refused("/proc/run", false, "cannot be created: No such file");
    assert_refused("/proc", false, "cannot be written to");
    assert_refused("", false, "empty");
}

static void a_link_to_a_directory_is_a_directory(void **state)
{
    assert_int_equal(mkdir("real", 0777), 0);
    assert_int_equal(symlink("real", "link"), 0);
    assert_ready("link", false);
    assert_ready("link/run", false);
}

static void an_earlier_run_is_not_overwritten_unless_asked(void **state)
{
    static const char *const marker[] = {"run/geffect.h5", "run/train.h5", "run/evaluation.h5", "run/input.yaml"};
    assert_int_equal(mkdir("run", 0777), 0);
    touch("run/notes.txt");
    assert_ready("run", false);
    for (size_t i = 0; i < 4; i++) {
        touch(marker[i]);
        assert_refused("run", false, "holds an earlier run");
        assert_ready("run", true);
        assert_false(file_exists(marker[i]));
    }
    assert_int_equal(mkdir("run/model", 0777), 0);
    assert_refused("run", false, "(model)");
    assert_ready("run", true);
    assert_false(file_exists("run/model"));
    assert_true(file_exists("run/notes.txt"));
}

static void overwriting_removes_only_what_this_program_writes(void **state)
{
    static const char *const ours[] = {"mixed/geffect.h5",
                                       "mixed/run.log",
                                       "mixed/geffect.h5.tmp",
                                       "mixed/model/model.safetensors",
                                       "mixed/model/model-00001-of-00002.safetensors",
                                       "mixed/model/config.json"};
    static const char *const theirs[] = {"mixed/results.csv", "mixed/.hidden.tmp", "mixed/model/readme.txt",
                                         "mixed/model/model-final.safetensors"};
    assert_int_equal(mkdir("mixed", 0777), 0);
    assert_int_equal(mkdir("mixed/model", 0777), 0);
    for (size_t i = 0; i < 6; i++) touch(ours[i]);
    for (size_t i = 0; i < 4; i++) touch(theirs[i]);
    assert_ready("mixed", true);
    for (size_t i = 0; i < 6; i++) assert_false(file_exists(ours[i]));
    for (size_t i = 0; i < 4; i++) assert_true(file_exists(theirs[i]));
}

static void a_model_that_is_a_link_is_not_followed(void **state)
{
    assert_int_equal(mkdir("precious", 0777), 0);
    touch("precious/model.safetensors");
    assert_int_equal(mkdir("linked", 0777), 0);
    assert_int_equal(symlink("../precious", "linked/model"), 0);
    assert_refused("linked", true, "model");
    assert_true(file_exists("precious/model.safetensors"));
}

static void two_runs_cannot_share_a_directory(void **state)
{
    struct directory *d;
    char owner[64];
    sprintf(owner, "process %ld on ", (long)getpid());
    assert_int_equal(directory_prepare("shared", false, &d), OK);
    assert_refused("shared", false, owner);
    assert_refused("shared", true, "another run");
    directory_free(d);
    assert_ready("shared", false);
}

static void the_lock_of_a_dead_run_does_not_count(void **state)
{
    pid_t child = fork();
    int how;
    if (!child) {
        struct directory *d;
        if (directory_prepare("dead", false, &d) != OK) _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how));
    assert_true(file_exists("dead/run.lock"));
    assert_ready("dead", false);
}

static void a_text_replaces_the_old_one_whole(void **state)
{
    char *text;
    size_t n;
    assert_int_equal(output_write_text("text", "a long first text\n", 18), OK);
    assert_int_equal(output_write_text("text", "b\0c", 3), OK);
    assert_int_equal(file_read("text", 100, &text, &n), OK);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "b\0c", 3);
    assert_false(file_exists("text.tmp"));
    free(text);
    assert_int_equal(output_write_text("nowhere/text", "b", 1), ERR_IO);
    assert_non_null(strstr(fail_message(), "nowhere/text"));
    fail_clear();
    assert_int_equal(mkdir("folder", 0777), 0);
    assert_int_equal(output_write_text("folder", "b", 1), ERR_IO);
    assert_false(file_exists("folder.tmp"));
    fail_clear();
}

static int enter(void **state)
{
    static char place[] = "/tmp/test_output_directory.XXXXXX";
    *state = place;
    return !mkdtemp(place) || chdir(place);
}

static int leave(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", (char *)*state);
    return chdir("/") || system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parents_are_made_and_nothing_is_left_in_it),
        cmocka_unit_test(what_is_in_the_way_is_named),
        cmocka_unit_test(a_link_to_a_directory_is_a_directory),
        cmocka_unit_test(an_earlier_run_is_not_overwritten_unless_asked),
        cmocka_unit_test(overwriting_removes_only_what_this_program_writes),
        cmocka_unit_test(a_model_that_is_a_link_is_not_followed),
        cmocka_unit_test(two_runs_cannot_share_a_directory),
        cmocka_unit_test(the_lock_of_a_dead_run_does_not_count),
        cmocka_unit_test(a_text_replaces_the_old_one_whole),
    };
    return cmocka_run_group_tests_name("output: directory", tests, enter, leave);
}
