/* The directory of a run: made, locked, cleared of an earlier run; and small files written whole or not at all. */
#include "unlearn/output.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char LOCK[] = "run.lock";
static const char *const marker[] = {"geffect.h5",        "train.h5", "evaluation.h5",
                                     "generations.jsonl", "model",    "input.yaml"};
enum { N_MARKER = sizeof marker / sizeof *marker };

/* Every file that this program writes, as patterns: overwriting removes these and nothing else. */
static const char *const written[] = {
    "geffect.h5",     "train.h5",          "evaluation.h5",     "input.yaml", "run.log", "eval_log_aggregated.json",
    "TOFU_EVAL.json", "TOFU_SUMMARY.json", "generations.jsonl", "*.tmp"};
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
                                            "chat_template.jinja",
                                            "*.tmp"};

struct directory {
    char *lock; /* path; owned */
    int fd;     /* of the lock file; -1: none */
    bool held;
};

/* ------------------------------------------------------------------------------------------------- making it ----- */
static enum status make_one(const char *path, const char *whole)
{
    struct stat s;
    int reason;
    if (!mkdir(path, 0777)) return OK;
    reason = errno;
    if (!stat(path, &s) && S_ISDIR(s.st_mode)) return OK;
    if (!lstat(path, &s) && S_ISLNK(s.st_mode))
        return fail(ERR_INPUT, "%s: output.directory: %s is a symbolic link that leads to no directory", whole, path);
    if (reason == EEXIST) return fail(ERR_INPUT, "%s: output.directory: %s is a file, not a directory", whole, path);
    return fail(ERR_INPUT, "%s: output.directory: %s cannot be created: %s", whole, path, strerror(reason));
}

static enum status make_all(const char *path)
{
    enum status st = OK;
    char *part = text_copy(path);
    if (!path[0]) {
        st = fail(ERR_INPUT, "output.directory is empty");
        goto done;
    }
    if (!part) {
        st = fail(ERR_MEMORY, "%s: no memory", path);
        goto done;
    }
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        TRY(make_one(part, path));
        *slash = '/';
    }
    TRY(make_one(part, path));
done:
    free(part);
    return st;
}

/* --------------------------------------------------------------------------------------------------- locking ----- */
static enum status in_use(const char *path, int fd)
{
    char owner[128];
    ssize_t n = pread(fd, owner, sizeof owner - 1, 0);
    owner[n > 0 ? n : 0] = 0;
    owner[strcspn(owner, "\n")] = 0;
    return fail(ERR_INPUT, "%s: is locked: another run (%s) writes into this directory; choose another output.directory",
                path, owner[0] ? owner : "unknown");
}

/* The one who held the lock may have removed the file between our open and our lock: then it is not the file's lock. */
static bool is_the_file(int fd, const char *path)
{
    struct stat a, b;
    return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static enum status write_all(const char *path, int fd, const char *text, size_t n)
{
    while (n) {
        ssize_t w = write(fd, text, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return fail(ERR_IO, "%s: cannot write: %s", path, strerror(errno));
        text += w, n -= (size_t)w;
    }
    return OK;
}

static enum status sign(struct directory *d)
{
    char host[64] = "", owner[128];
    gethostname(host, sizeof host - 1);
    snprintf(owner, sizeof owner, "process %ld on %s\n", (long)getpid(), host);
    if (ftruncate(d->fd, 0)) return fail(ERR_IO, "%s: cannot write: %s", d->lock, strerror(errno));
    return write_all(d->lock, d->fd, owner, strlen(owner));
}

/* Also the proof that the directory can be written to. Where the file system has no locks the run goes on without. */
static enum status take_lock(const char *path, struct directory *d)
{
    for (;;) {
        d->fd = open(d->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (d->fd < 0)
            return fail(ERR_INPUT, "%s: output.directory cannot be written to: %s: %s", path, LOCK, strerror(errno));
        if (flock(d->fd, LOCK_EX | LOCK_NB)) {
            if (errno == EWOULDBLOCK) return in_use(d->lock, d->fd);
            if (errno != EINTR) break;
        } else if ((d->held = is_the_file(d->fd, d->lock))) {
            break;
        }
        close(d->fd);
    }
    return sign(d);
}

/* --------------------------------------------------------------------------------------- an earlier run's files ----- */
static const char *earlier_run(int directory)
{
    struct stat s;
    for (int i = 0; i < N_MARKER; i++)
        if (!fstatat(directory, marker[i], &s, AT_SYMLINK_NOFOLLOW)) return marker[i];
    return NULL;
}

static bool is_written(const char *name, size_t n, const char *const *pattern)
{
    for (size_t i = 0; i < n; i++)
        if (!fnmatch(pattern[i], name, FNM_PERIOD)) return true;
    return false;
}

/* Takes the descriptor over. */
static enum status remove_written(const char *path, int directory, size_t n, const char *const *pattern)
{
    enum status st = OK;
    struct dirent *entry;
    DIR *list = fdopendir(directory);
    if (!list) {
        close(directory);
        return fail(ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    }
    while (st == OK && (entry = readdir(list)))
        if (is_written(entry->d_name, n, pattern) && unlinkat(directory, entry->d_name, 0))
            st = fail(ERR_INPUT, "%s: %s of an earlier run cannot be removed: %s", path, entry->d_name, strerror(errno));
    closedir(list);
    return st;
}

static enum status remove_run(const char *path, int directory)
{
    enum status st = OK;
    int model = openat(directory, "model", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int again;
    if (model < 0 && errno != ENOENT)
        return fail(ERR_INPUT, "%s: model: %s; a directory of that name will be written: remove what is there", path,
                    strerror(errno));
    if (model >= 0) {
        TRY(remove_written(path, model, sizeof written_model / sizeof *written_model, written_model));
        if (unlinkat(directory, "model", AT_REMOVEDIR) && errno != ENOTEMPTY && errno != EEXIST) {
            st = fail(ERR_INPUT, "%s: model of an earlier run cannot be removed: %s", path, strerror(errno));
            goto done;
        }
    }
    if ((again = dup(directory)) < 0) {
        st = fail(ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
        goto done;
    }
    TRY(remove_written(path, again, sizeof written / sizeof *written, written));
done:
    return st;
}

enum status directory_prepare(const char *path, bool overwrite, struct directory **out)
{
    enum status st = OK;
    struct directory *d = *out = NULL;
    const char *found;
    int directory = -1;
    TRY(make_all(path));
    TRY_NEW(d, 1);
    d->fd = -1;
    TRY(path_join(path, LOCK, &d->lock));
    TRY(take_lock(path, d));
    if ((directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        st = fail(ERR_INPUT, "%s: output.directory cannot be read: %s", path, strerror(errno));
        goto done;
    }
    if ((found = earlier_run(directory)) && !overwrite) {
        st = fail(
            ERR_INPUT,
            "%s: output.directory holds an earlier run (%s); choose another one, or replace that run with --overwrite",
            path, found);
        goto done;
    }
    if (overwrite) TRY(remove_run(path, directory));
    *out = d, d = NULL;
done:
    if (directory >= 0) close(directory);
    directory_free(d);
    return st;
}

void directory_free(struct directory *d)
{
    if (!d) return;
    if (d->held) unlink(d->lock);
    if (d->fd >= 0) close(d->fd);
    free(d->lock);
    free(d);
}

/* --------------------------------------------------------------------------------------------- small files ----- */
/* Without it a rename may be forgotten when the machine stops; file systems that cannot do it need not. */
static void sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash ? text_copy(path) : text_copy(".");
    int fd;
    if (!parent) return;
    if (slash) parent[slash == path ? 1 : slash - path] = 0;
    if ((fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0) {
        fsync(fd);
        close(fd);
    }
    free(parent);
}

enum status output_write_text(const char *path, const char *text, size_t n)
{
    enum status st = OK;
    struct text other = {0};
    int fd = -1;
    TRY(text_print(&other, "%s.tmp", path));
    if ((fd = open(other.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0) {
        st = fail(ERR_IO, "%s: cannot be created: %s", other.data, strerror(errno));
        goto done;
    }
    TRY(write_all(path, fd, text, n));
    if (fsync(fd)) {
        st = fail(ERR_IO, "%s: cannot write: %s", path, strerror(errno));
        goto done;
    }
    if (rename(other.data, path)) {
        st = fail(ERR_IO, "%s: cannot be put in place: %s", path, strerror(errno));
        goto done;
    }
    sync_parent(path);
done:
    if (fd >= 0) close(fd);
    if (st != OK && other.data) unlink(other.data);
    text_free(&other);
    return st;
}
