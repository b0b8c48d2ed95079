/* The earlier run in a directory: what it is known by, and how it makes room for a new one.
 *
 * Overwriting loses nothing before there is something better. The files of the earlier run are moved into run.replaced/ when
 * the new run begins to write, and removed when it has written everything; a new run that ends in between leaves them
 * there. input.yaml comes last in every move and is the proof that the rest is a run's: at any kill, it lies either beside
 * all that is left or in run.replaced/, which is complete exactly when it holds it. Where that is removed, the proof gets
 * another name first and goes last: so what a kill then leaves is known from a run whose move was cut off.             */
#include "unlearn/output_priv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char PROOF[] = "input.yaml", LOG[] = "run.log", MODEL[] = "model", TEMPORARY[] = ".tmp";
static const char REMOVED[] = "input.yaml.tmp"; /* the proof of what is being removed; no move leaves one */

/* Every file that this program writes: nothing else is ever moved or removed. Each is NAME.tmp for a moment. */
static const char *const written[] = {"geffect.h5",        "train.h5",          "evaluation.h5",
                                      "generations.jsonl", "run.log",           "eval_log_aggregated.json",
                                      "TOFU_EVAL.json",    "TOFU_SUMMARY.json", "MUSE_EVAL.json",
                                      "MUSE_SUMMARY.json", "WMDP_EVAL.json",    "WMDP_SUMMARY.json",
                                      "geffect.h5.before", "train.h5.before",   "evaluation.h5.before",
                                      "tokens.h5",         "tokens.h5.before",  RUN_FINISHED,
                                      "input.yaml"};
static const char *const written_model[] = {"model.safetensors",
                                            "model-[0-9]*-of-[0-9]*.safetensors",
                                            "model.safetensors.index.json",
                                            "config.json",
                                            "generation_config.json",
                                            "tokenizer.json",
                                            "tokenizer.model",
                                            "tokenizer_config.json",
                                            "special_tokens_map.json",
                                            "added_tokens.json",
                                            "vocab.json",
                                            "merges.txt",
                                            "chat_template.jinja"};
enum { N_WRITTEN = sizeof written / sizeof *written, N_MODEL = sizeof written_model / sizeof *written_model };
enum { NOWHERE = -1 }; /* moved there: removed */
enum { MOST_KEPT = 1000 };

/* ------------------------------------------------------------------------------------------------------ names ----- */
/* The length of a name without its .tmp. */
static size_t stem(const char *name, bool *temporary)
{
    const size_t n = strlen(name), end = sizeof TEMPORARY - 1;
    *temporary = n > end && !strcmp(name + n - end, TEMPORARY);
    return *temporary ? n - end : n;
}

static bool matches(const char *name, size_t n, const char *const *pattern)
{
    char text[256];
    bool temporary;
    const size_t length = stem(name, &temporary);
    if (length >= sizeof text) return false;
    memcpy(text, name, length);
    text[length] = 0;
    for (size_t i = 0; i < n; i++)
        if (!fnmatch(pattern[i], text, FNM_PERIOD)) return true;
    return false;
}

bool written_by_run(const char *name) { return matches(name, N_WRITTEN, written) || !strcmp(name, RUN_LOCK); }
bool written_to_model(const char *name) { return matches(name, N_MODEL, written_model); }

/* --------------------------------------------------------------------------------------------------- what is there ----- */
static int open_directory(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The first bytes of a regular file, NUL-ended; -1 where there is none. */
static ssize_t begins(int directory, const char *name, char *text, size_t room)
{
    struct stat s;
    const int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = -1;
    if (fd >= 0 && !fstat(fd, &s) && S_ISREG(s.st_mode)) n = pread(fd, text, room - 1, 0);
    text[n > 0 ? n : 0] = 0;
    if (fd >= 0) close(fd);
    return n;
}

/* The resolved input begins with the task and the list of all tasks: config_write(). */
bool earlier_proven(int directory)
{
    char text[80];
    return begins(directory, PROOF, text, sizeof text) > 0 && !strncmp(text, "task: ", 6) &&
           strstr(text, "  # finetune | ");
}

static bool proven_in(int directory, const char *name)
{
    const int inside = open_directory(directory, name);
    const bool is = inside >= 0 && earlier_proven(inside);
    if (inside >= 0) close(inside);
    return is;
}

const char *earlier_found(int directory)
{
    static const char *const folder[] = {MODEL, RUN_REPLACED};
    struct stat s;
    for (int i = 0; i < N_WRITTEN; i++) /* a run that ended before its first result leaves a log alone */
        if (strcmp(written[i], LOG) && !fstatat(directory, written[i], &s, AT_SYMLINK_NOFOLLOW)) return written[i];
    for (int i = 0; i < 2; i++)
        if (!fstatat(directory, folder[i], &s, AT_SYMLINK_NOFOLLOW)) return folder[i];
    return NULL;
}

enum status earlier_check_log(const char *path, int directory)
{
    struct stat s;
    char text[16];
    ssize_t n;
    if (fstatat(directory, LOG, &s, AT_SYMLINK_NOFOLLOW)) return OK;
    if ((n = begins(directory, LOG, text, sizeof text)) == 0 || (n > 0 && !strncmp(text, "unlearn ", 8))) return OK;
    return fail(ERR_INPUT,
                "%s: output.directory holds a run.log that no run of this program has written: move it, or choose "
                "another directory",
                path);
}

/* Folders that are one, and nothing under a file's name that is not a file or a link. */
static enum status check_kinds(const char *path, int directory)
{
    static const char *const folder[] = {MODEL, RUN_REPLACED};
    struct stat s;
    for (int i = 0; i < N_WRITTEN; i++)
        if (!fstatat(directory, written[i], &s, AT_SYMLINK_NOFOLLOW) && !S_ISREG(s.st_mode) && !S_ISLNK(s.st_mode))
            return fail(ERR_INPUT, "%s: %s: is no file; one of that name will be written: remove what is there", path,
                        written[i]);
    for (int i = 0; i < 2; i++)
        if (!fstatat(directory, folder[i], &s, AT_SYMLINK_NOFOLLOW) && !S_ISDIR(s.st_mode))
            return fail(ERR_INPUT, "%s: %s: is no directory; one of that name will be written: remove what is there",
                        path, folder[i]);
    return OK;
}

enum status earlier_check(const char *path, int directory, const char *found)
{
    enum status st = check_kinds(path, directory);
    if (st != OK || earlier_proven(directory) || proven_in(directory, RUN_REPLACED)) return st;
    return fail(ERR_INPUT,
                "%s: output.directory holds %s, but not the input.yaml that every run of this program leaves: it may be "
                "yours; move it, or choose another directory",
                path, found);
}

/* ------------------------------------------------------------------------------------------------------- moving ----- */
/* A link is moved or removed itself. What was cut off while it was written is of no use to anybody. */
static enum status move_one(const char *path, int from, const char *name, int to)
{
    bool temporary;
    stem(name, &temporary);
    if (to == NOWHERE || temporary ? !unlinkat(from, name, 0) : !renameat(from, name, to, name)) return OK;
    if (errno == ENOENT) return OK;
    return fail(ERR_INPUT, "%s: %s of an earlier run cannot be %s: %s", path, name, to == NOWHERE ? "removed" : "moved",
                strerror(errno));
}

/* Files of a model's names; takes the descriptor `from` over. */
static enum status move_listed(const char *path, int from, int to)
{
    enum status st = OK;
    struct dirent *entry;
    DIR *list = fdopendir(from);
    if (!list) {
        close(from);
        return fail(ERR_INPUT, "%s: model: cannot be read: %s", path, strerror(errno));
    }
    while (st == OK && (entry = readdir(list)))
        if (written_to_model(entry->d_name)) st = move_one(path, from, entry->d_name, to);
    closedir(list);
    return st;
}

static enum status move_model(const char *path, int directory, int to)
{
    enum status st = OK;
    const int from = open_directory(directory, MODEL);
    int inside = NOWHERE;
    if (from < 0 && errno == ENOENT) return OK;
    if (from < 0) return fail(ERR_INPUT, "%s: model: cannot be read: %s", path, strerror(errno));
    if (to != NOWHERE && ((mkdirat(to, MODEL, 0777) && errno != EEXIST) || (inside = open_directory(to, MODEL)) < 0)) {
        st = fail(ERR_INPUT, "%s: %s/model: cannot be made: %s", path, RUN_REPLACED, strerror(errno));
        close(from);
        goto done;
    }
    TRY(move_listed(path, from, inside));
    if (unlinkat(directory, MODEL, AT_REMOVEDIR) && errno != ENOTEMPTY && errno != EEXIST)
        st = fail(ERR_INPUT, "%s: model of an earlier run cannot be removed: %s", path, strerror(errno));
done:
    if (inside >= 0) close(inside);
    return st;
}

/* A directory cannot be moved onto one with files in it, and those of the user's have stayed where a checkpoint was removed:
 * such a directory gets another name, that of no checkpoint. */
static enum status make_way(const char *path, int to, const char *name)
{
    struct stat s;
    char other[300];
    checkpoint_remove_at(to, name);
    if (fstatat(to, name, &s, AT_SYMLINK_NOFOLLOW)) return OK;
    for (int i = 1; i <= MOST_KEPT; i++) {
        snprintf(other, sizeof other, "%s.%d", name, i);
        if (!fstatat(to, other, &s, AT_SYMLINK_NOFOLLOW)) continue;
        if (renameat(to, name, to, other)) break;
        log_info("%s/" RUN_REPLACED "/%s: what no run has written there is in %s now", path, name, other);
        return OK;
    }
    return fail(ERR_INPUT, "%s: " RUN_REPLACED "/%s: is in the way of a checkpoint of an earlier run: move what is there",
                path, name);
}

/* Checkpoints, whole or not. */
static enum status move_checkpoints(const char *path, int from, int to)
{
    const int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again < 0 ? NULL : fdopendir(again);
    struct dirent *entry;
    size_t step;
    bool temporary;
    enum status st = OK;
    if (!list) {
        if (again >= 0) close(again);
        return fail(ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    }
    while (st == OK && (entry = readdir(list))) {
        if (!checkpoint_name(entry->d_name, &step)) continue;
        stem(entry->d_name, &temporary);
        if (to == NOWHERE || temporary)
            checkpoint_remove_at(from, entry->d_name);
        else if ((st = make_way(path, to, entry->d_name)) == OK)
            st = move_one(path, from, entry->d_name, to);
    }
    closedir(list);
    return st;
}

/* All of a run, the proof last; RUN_LOG_NEXT is the log of the run that asks for this. */
static enum status move_run(const char *path, int from, int to)
{
    enum status st = OK;
    TRY(move_model(path, from, to));
    TRY(move_checkpoints(path, from, to));
    for (int i = 0; i < N_WRITTEN; i++) {
        char temporary[64];
        snprintf(temporary, sizeof temporary, "%s%s", written[i], TEMPORARY);
        if (strcmp(temporary, RUN_LOG_NEXT)) TRY(move_one(path, from, temporary, NOWHERE));
        TRY(move_one(path, from, written[i], to));
    }
done:
    return st;
}

enum status earlier_set_aside(const char *path, int directory)
{
    enum status st = OK;
    struct stat s;
    int to;
    if (proven_in(directory, RUN_REPLACED))
        return move_run(path, directory, NOWHERE); /* it was to be replaced, unfinished */
    if ((mkdirat(directory, RUN_REPLACED, 0777) && errno != EEXIST) || (to = open_directory(directory, RUN_REPLACED)) < 0)
        return fail(ERR_INPUT, "%s: %s cannot be made: %s", path, RUN_REPLACED, strerror(errno));
    if (!fstatat(to, REMOVED, &s, AT_SYMLINK_NOFOLLOW)) TRY(move_run(path, to, NOWHERE)); /* that was cut off */
    st = move_run(path, directory, to);
done:
    close(to);
    return st;
}

/* No proof first of all: what remains after a kill is then nobody's earlier run. */
enum status earlier_remove(const char *path, int directory)
{
    enum status st = OK;
    const int replaced = open_directory(directory, RUN_REPLACED);
    if (replaced < 0 && errno == ENOENT) return OK;
    if (replaced < 0) return fail(ERR_IO, "%s: %s: cannot be read: %s", path, RUN_REPLACED, strerror(errno));
    if (renameat(replaced, PROOF, replaced, REMOVED) && errno != ENOENT) {
        st = fail(ERR_IO, "%s: %s/%s: cannot be renamed: %s", path, RUN_REPLACED, PROOF, strerror(errno));
        goto done;
    }
    TRY(move_run(path, replaced, NOWHERE));
    if (unlinkat(directory, RUN_REPLACED, AT_REMOVEDIR) && errno != ENOTEMPTY && errno != EEXIST)
        st = fail(ERR_IO, "%s: %s: cannot be removed: %s", path, RUN_REPLACED, strerror(errno));
done:
    close(replaced);
    return st;
}
