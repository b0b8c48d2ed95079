/* output: the run directory and small files.                                                       NP: 1 */
#include "scratch.h"
#include "unlearn/output.h"
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the place of the C library's: that of a file system without locks. */
static bool no_locks;
int flock(int fd, int how)
{
    if (no_locks) return errno = ENOLCK, -1;
    return (int)syscall(SYS_flock, fd, how);
}

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

/* ----------------------------------------------------------------------------------------------- an earlier run ----- */
static const char PROOF[] = "task: unlearn  # finetune | unlearn | geffect | evaluate | generate; what to do\n";

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void assert_holds(const char *path, const char *text)
{
    char *got;
    size_t n;
    if (file_read(path, 1000, &got, &n) != OK) fail_msg("%s", fail_message());
    assert_string_equal(got, text);
    free(got);
}

static struct directory *prepared(const char *path, bool overwrite)
{
    struct directory *d;
    if (directory_prepare(path, overwrite, &d) != OK) fail_msg("%s", fail_message());
    return d;
}

/* A run from its log to its end, or as far as `stop`: 0 prepared, 1 begun, 2 a result written, 3 all. */
static void run_until(const char *path, const char *mark, int stop)
{
    struct directory *d = prepared(path, true);
    char name[64];
    put(directory_log(d), "unlearn: its log");
    if (stop > 0) assert_int_equal(directory_begin(d), OK);
    if (stop > 1) {
        snprintf(name, sizeof name, "%s/input.yaml", path);
        put(name, PROOF);
        snprintf(name, sizeof name, "%s/geffect.h5", path);
        put(name, mark);
    }
    if (stop > 2) assert_int_equal(directory_end(d), OK);
    directory_free(d);
}

static void an_earlier_run_is_not_overwritten_unless_asked(void **state)
{
    static const char *const result[] = {"run/geffect.h5",        "run/train.h5",         "run/evaluation.h5",
                                         "run/generations.jsonl", "run/input.yaml",       "run/eval_log_aggregated.json",
                                         "run/TOFU_EVAL.json",    "run/TOFU_SUMMARY.json"};
    assert_int_equal(mkdir("run", 0777), 0);
    touch("run/notes.txt");
    assert_ready("run", false);
    for (size_t i = 0; i < 8; i++) {
        put("run/input.yaml", PROOF);
        assert_refused("run", false, "holds an earlier run");
        touch(result[i]);
        if (i != 4) unlink("run/input.yaml");
        assert_refused("run", false, "holds an earlier run");
        put("run/input.yaml", PROOF);
        run_until("run", "", 1);
        assert_false(file_exists(result[i]));
        assert_true(file_exists("run/run.replaced/input.yaml"));
        assert_int_equal(system("rm -r run/run.replaced"), 0);
    }
    assert_int_equal(mkdir("run/model", 0777), 0);
    assert_refused("run", false, "(model)");
    assert_true(file_exists("run/notes.txt"));
}

static void the_old_results_go_when_the_new_ones_are_written(void **state)
{
    assert_int_equal(mkdir("two", 0777), 0);
    run_until("two", "first", 3);
    assert_int_equal(mkdir("two/model", 0777), 0);
    put("two/model/model.safetensors", "first model");
    put("two/model/readme.txt", "mine");
    put("two/train.h5.tmp", "cut off");
    run_until("two", "", 0); /* its input was bad */
    assert_holds("two/geffect.h5", "first");
    assert_holds("two/run.log", "unlearn: its log");
    assert_holds("two/model/model.safetensors", "first model");
    assert_false(file_exists("two/run.log.tmp"));
    assert_false(file_exists("two/run.replaced"));
    run_until("two", "second", 2); /* it failed */
    assert_holds("two/geffect.h5", "second");
    assert_holds("two/run.log", "unlearn: its log");
    assert_holds("two/run.replaced/geffect.h5", "first");
    assert_holds("two/run.replaced/run.log", "unlearn: its log");
    assert_holds("two/run.replaced/model/model.safetensors", "first model");
    assert_false(file_exists("two/model/model.safetensors"));
    assert_false(file_exists("two/train.h5.tmp"));
    run_until("two", "third", 2); /* it failed too: what waits is the one that was whole */
    assert_holds("two/geffect.h5", "third");
    assert_holds("two/run.replaced/geffect.h5", "first");
    assert_refused("two", false, "holds an earlier run");
    run_until("two", "fourth", 3);
    assert_holds("two/geffect.h5", "fourth");
    assert_false(file_exists("two/run.replaced"));
    assert_holds("two/model/readme.txt", "mine");
}

/* As a kill within a move, or within the removal at the end, leaves them. */
static void a_move_that_was_cut_off_is_finished(void **state)
{
    assert_int_equal(system("mkdir -p half/run.replaced/model half/model"), 0);
    put("half/input.yaml", PROOF);
    put("half/train.h5", "first");
    put("half/model/config.json", "first");
    put("half/run.replaced/geffect.h5", "first");
    put("half/run.replaced/model/model.safetensors", "first");
    run_until("half", "second", 2);
    assert_holds("half/run.replaced/geffect.h5", "first");
    assert_holds("half/run.replaced/train.h5", "first");
    assert_holds("half/run.replaced/model/config.json", "first");
    assert_holds("half/run.replaced/model/model.safetensors", "first");
    assert_false(file_exists("half/train.h5"));
    unlink("half/input.yaml"), unlink("half/geffect.h5"), unlink("half/run.log"); /* killed at the end of the move */
    assert_refused("half", false, "(run.replaced)");
    run_until("half", "third", 3);
    assert_holds("half/geffect.h5", "third");
    assert_false(file_exists("half/run.replaced"));
}

/* A removal that ends early leaves the rest of a run without its proof: none of it may come among the files of another. */
static void a_removal_that_was_cut_off_is_finished(void **state)
{
    struct directory *d;
    assert_int_equal(mkdir("torn", 0777), 0);
    run_until("torn", "first", 3);
    assert_int_equal(system("mkdir -p torn/model torn/checkpoint-10/weights"), 0);
    put("torn/model/vocab.json", "first");
    put("torn/checkpoint-10/manifest.json", "first");
    put("torn/checkpoint-10/weights/model.safetensors", "first");
    put("torn/train.h5", "first");
    d = prepared("torn", true);
    put(directory_log(d), "unlearn: its log");
    assert_int_equal(directory_begin(d), OK);
    put("torn/input.yaml", PROOF), put("torn/geffect.h5", "second");
    assert_int_equal(unlink("torn/run.replaced/geffect.h5"), 0);
    assert_int_equal(system("mkdir torn/run.replaced/geffect.h5"), 0); /* in the way */
    assert_int_equal(directory_end(d), ERR_INPUT);
    fail_clear();
    directory_free(d);
    assert_int_equal(rmdir("torn/run.replaced/geffect.h5"), 0);
    assert_holds("torn/run.replaced/train.h5", "first");
    assert_int_equal(mkdir("torn/run.replaced/checkpoint-10", 0777), 0); /* as if this had not gone yet */
    put("torn/run.replaced/checkpoint-10/manifest.json", "first");
    run_until("torn", "third", 2);
    assert_holds("torn/run.replaced/geffect.h5", "second");
    assert_false(file_exists("torn/run.replaced/train.h5"));
    assert_false(file_exists("torn/run.replaced/checkpoint-10"));
    assert_false(file_exists("torn/run.replaced/input.yaml.tmp"));
    run_until("torn", "fourth", 3);
    assert_false(file_exists("torn/run.replaced"));
}

static void save_checkpoint(const char *path, const char *mark)
{
    char name[64];
    snprintf(name, sizeof name, "%s/checkpoint-10", path);
    assert_true(!mkdir(name, 0777) || errno == EEXIST);
    snprintf(name, sizeof name, "%s/checkpoint-10/manifest.json", path);
    put(name, mark);
    snprintf(name, sizeof name, "%s/checkpoint-10/notes.txt", path);
    put(name, mark);
}

static void files_of_the_users_in_a_checkpoint_stay(void **state)
{
    assert_int_equal(mkdir("noted", 0777), 0);
    run_until("noted", "first", 3);
    save_checkpoint("noted", "first");
    run_until("noted", "second", 3);
    assert_holds("noted/run.replaced/checkpoint-10/notes.txt", "first");
    save_checkpoint("noted", "second");
    put("noted/run.replaced/checkpoint-10/manifest.json", "first"); /* as an older program could be killed */
    run_until("noted", "third", 2);                                 /* it failed */
    assert_holds("noted/run.replaced/checkpoint-10/manifest.json", "second");
    assert_holds("noted/run.replaced/checkpoint-10/notes.txt", "second");
    assert_false(file_exists("noted/run.replaced/checkpoint-10.1/manifest.json"));
    run_until("noted", "fourth", 3);
    save_checkpoint("noted", "fourth");
    run_until("noted", "fifth", 3);
    assert_holds("noted/geffect.h5", "fifth");
    assert_holds("noted/run.replaced/checkpoint-10.1/notes.txt", "first");
    assert_holds("noted/run.replaced/checkpoint-10.2/notes.txt", "second");
    assert_holds("noted/run.replaced/checkpoint-10/notes.txt", "fourth");
    assert_false(file_exists("noted/run.replaced/checkpoint-10/manifest.json"));
}

static void overwriting_removes_only_what_this_program_writes(void **state)
{
    static const char *const ours[] = {"mixed/geffect.h5",
                                       "mixed/run.log",
                                       "mixed/geffect.h5.tmp",
                                       "mixed/input.yaml",
                                       "mixed/model/model.safetensors",
                                       "mixed/model/model-00001-of-00002.safetensors",
                                       "mixed/model/tokenizer.json.tmp",
                                       "mixed/model/config.json"};
    static const char *const theirs[] = {"mixed/results.csv",      "mixed/.hidden.tmp",
                                         "mixed/notes.tmp",        "mixed/train.h5.bak",
                                         "mixed/model/readme.txt", "mixed/model/model-final.safetensors",
                                         "mixed/model/notes.tmp",  "mixed/config.json"};
    assert_int_equal(mkdir("mixed", 0777), 0);
    assert_int_equal(mkdir("mixed/model", 0777), 0);
    for (size_t i = 0; i < 8; i++) touch(ours[i]), touch(theirs[i]);
    put("mixed/input.yaml", PROOF);
    run_until("mixed", "", 1);
    for (size_t i = 0; i < 8; i++) assert_true(file_exists(theirs[i]));
    for (size_t i = 0; i < 8; i++)
        if (i != 1) assert_false(file_exists(ours[i])); /* run.log is the new one */
    assert_true(file_exists("mixed/run.log"));
    run_until("mixed", "", 3);
    for (size_t i = 0; i < 8; i++) assert_true(file_exists(theirs[i]));
}

/* Names alone do not make a run. */
static void what_no_run_has_left_is_not_replaced(void **state)
{
    assert_int_equal(system("mkdir -p mine/model logged locked"), 0);
    touch("mine/model/config.json");
    assert_refused("mine", false, "holds an earlier run (model)");
    assert_refused("mine", true, "may be yours");
    put("mine/input.yaml", "task: unlearn\n");
    assert_refused("mine", true, "may be yours");
    assert_holds("mine/model/config.json", "x");
    put("logged/run.log", "step 1: my own notes\n");
    assert_refused("logged", false, "run.log that no run");
    assert_refused("logged", true, "run.log that no run");
    assert_holds("logged/run.log", "step 1: my own notes\n");
    put("locked/run.lock", "the key is under the mat\n");
    assert_refused("locked", true, "is no lock of this program");
    assert_holds("locked/run.lock", "the key is under the mat\n");
    put("logged/run.log", "unlearn 0.1.0 (abc)\n");
    assert_ready("logged", false);
    put("mine/input.yaml", PROOF);
    assert_int_equal(mkdir("mine/geffect.h5", 0777), 0);
    assert_refused("mine", true, "geffect.h5: is no file");
}

static void links_are_removed_and_never_followed(void **state)
{
    assert_int_equal(system("mkdir -p precious linked out"), 0);
    touch("precious/model.safetensors");
    put("linked/input.yaml", PROOF);
    assert_int_equal(symlink("../precious", "linked/model"), 0);
    assert_refused("linked", true, "model");
    assert_int_equal(unlink("linked/model"), 0);
    assert_int_equal(symlink("../precious", "linked/run.replaced"), 0);
    assert_refused("linked", true, "run.replaced");
    put("precious/data", "data");
    put("out/input.yaml", PROOF);
    assert_int_equal(symlink("../precious/data", "out/geffect.h5"), 0);
    assert_int_equal(symlink("../precious/data", "out/run.log.tmp"), 0);
    assert_int_equal(symlink("../precious/data", "out/run.log"), 0);
    assert_int_equal(symlink("../precious/data", "out/text.tmp"), 0);
    assert_int_equal(link("precious/data", "out/train.h5"), 0);
    run_until("out", "new", 3);
    assert_int_equal(output_write_text("out/text", "new", 3), OK);
    assert_holds("precious/data", "data");
    assert_holds("out/geffect.h5", "new");
    assert_holds("precious/model.safetensors", "x");
}

/* -------------------------------------------------------------------------------------- what a run reads is spared ----- */
static void assert_hit(enum status st, const char *path, const char *hit)
{
    assert_int_equal(st, ERR_INPUT);
    if (strncmp(fail_message(), path, strlen(path)) || !strstr(fail_message(), hit))
        fail_msg("\"%s\" does not name \"%s\" and \"%s\"", fail_message(), path, hit);
    fail_clear();
}

static void what_lies_in_a_run_is_found_through_every_link(void **state)
{
    char whole[PATH_MAX];
    assert_int_equal(
        system("mkdir -p base work/r/model work/r/run.replaced/model work/r/sub && ln -s work/r again &&"
               "touch base/config.json base/model.safetensors base/d work/r/model/config.json work/r/own.jsonl "
               "work/r/generations.jsonl work/r/run.replaced/model/config.json work/r/model/own.json &&"
               "ln -s work/r/model m && ln -s ../work/r/sub base/sub && ln -s work/r/train.h5 later &&"
               "mkdir shard && ln -s ../work/r/model/config.json shard/config.json &&"
               "ln -s ../../base/d work/r/geffect.h5 && ln work/r/generations.jsonl base/hard"),
        0);
    assert_hit(directory_spares_model("work/r", "work/r/model", "model.path"), "work/r/model",
               "work/r/model/config.json");
    assert_hit(directory_spares_model("work/r/", "./work/../work/r//model/", "model.path"), "./work",
               "model/config.json");
    assert_hit(directory_spares_model("again", "work/r/model", "model.path"), "work/r/model", "again/model/config.json");
    assert_hit(directory_spares_model("work/r", "again/model", "model.path"), "again/model", "work/r/model/config.json");
    assert_hit(directory_spares_model("work/r", "m", "model.path"), "m: ", "work/r/model/config.json");
    assert_hit(directory_spares_model("work/r", "shard", "model.path"), "shard", "work/r/model/config.json");
    assert_hit(directory_spares_model("work/r", "work/r/run.replaced/model", "model.path"), "work/r/run", "config.json");
    assert_hit(directory_spares("work/r", "again/generations.jsonl", "data.forget"), "again/gen", "data.forget");
    assert_hit(directory_spares("work/r", "later", "data.forget"), "later", "work/r/train.h5"); /* dangling */
    assert_hit(directory_spares("work/r", "work/r/geffect.h5", "data.forget"), "work/r",
               "work/r/geffect.h5"); /* the way */
    assert_hit(directory_spares("work/r", "base/sub/../geffect.h5", "data.forget"), "base/sub", "work/r/geffect.h5");
    assert_hit(directory_spares("work/r", "work/r/run.lock", "data.forget"), "work/r", "run.lock");
    assert_hit(directory_spares("work/r", "work/r/input.yaml.tmp", "data.forget"), "work/r", "input.yaml.tmp");
    assert_non_null(realpath("work/r/generations.jsonl", whole));
    assert_hit(directory_spares("work/r", whole, "data.forget"), whole, "work/r/generations.jsonl");
    assert_int_equal(directory_spares_model("work/r", "base", "model.path"), OK);
    assert_int_equal(directory_spares_model(".", "base", "model.path"), OK); /* above what is read */
    assert_int_equal(directory_spares_model("base", "base", "model.path"), OK);
    assert_int_equal(directory_spares_model("nowhere", "base", "model.path"), OK);
    assert_int_equal(directory_spares_model("work/r", "nowhere", "model.path"), OK);
    assert_int_equal(directory_spares("work/r", "base/d", "data.forget"), OK);    /* a link there leads to it */
    assert_int_equal(directory_spares("work/r", "base/hard", "data.forget"), OK); /* has another name there */
    assert_int_equal(directory_spares("work/r", "work/r/own.jsonl", "data.forget"), OK);
    assert_int_equal(directory_spares("work/r", "work/r/model/own.json", "data.forget"), OK);
    assert_int_equal(symlink("loop", "loop"), 0);
    assert_int_equal(directory_spares("work/r", "loop/x", "data.forget"), OK);
    assert_int_equal(directory_spares("work/r", "", "data.forget"), OK);
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

/* Without locks nobody knows whether another run's signature is a dead one's. */
static void without_locks_a_run_removes_what_it_has_signed(void **state)
{
    struct directory *d;
    no_locks = true;
    assert_ready("unlocked", false); /* refused later, by its input */
    assert_false(file_exists("unlocked/run.lock"));
    run_until("unlocked", "first", 3);
    assert_false(file_exists("unlocked/run.lock"));
    assert_int_equal(directory_prepare("unlocked", true, &d), OK);
    assert_refused("unlocked", false, "holds an earlier run");
    assert_true(file_exists("unlocked/run.lock")); /* that of d */
    directory_free(d);
    put("unlocked/run.lock", "process 1 on another\n"); /* it was killed */
    run_until("unlocked", "second", 3);
    assert_false(file_exists("unlocked/run.lock"));
    put("unlocked/run.lock", "the key is under the mat\n");
    assert_refused("unlocked", true, "is no lock of this program");
    assert_holds("unlocked/run.lock", "the key is under the mat\n");
    no_locks = false;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parents_are_made_and_nothing_is_left_in_it),
        cmocka_unit_test(what_is_in_the_way_is_named),
        cmocka_unit_test(a_link_to_a_directory_is_a_directory),
        cmocka_unit_test(an_earlier_run_is_not_overwritten_unless_asked),
        cmocka_unit_test(overwriting_removes_only_what_this_program_writes),
        cmocka_unit_test(the_old_results_go_when_the_new_ones_are_written),
        cmocka_unit_test(a_move_that_was_cut_off_is_finished),
        cmocka_unit_test(a_removal_that_was_cut_off_is_finished),
        cmocka_unit_test(files_of_the_users_in_a_checkpoint_stay),
        cmocka_unit_test(what_no_run_has_left_is_not_replaced),
        cmocka_unit_test(links_are_removed_and_never_followed),
        cmocka_unit_test(what_lies_in_a_run_is_found_through_every_link),
        cmocka_unit_test(two_runs_cannot_share_a_directory),
        cmocka_unit_test(the_lock_of_a_dead_run_does_not_count),
        cmocka_unit_test(without_locks_a_run_removes_what_it_has_signed),
        cmocka_unit_test(a_text_replaces_the_old_one_whole),
    };
    return cmocka_run_group_tests_name("output: directory", tests, scratch_enter, scratch_leave);
}
