/* The directory of a run: made, locked, freed of an earlier run; and small files written whole or not at all. */
#include "unlearn/output_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct directory {
    char *path, *lock, *log; /* paths; owned */
    int place;               /* the directory, -1: not open */
    int fd;                  /* of the lock file; -1: none */
    bool ours;               /* the lock file: locked, or, where that cannot be, made by this run */
    bool earlier;            /* an earlier run is to be replaced */
    bool begun, ended;       /* it has been set aside; all is written */
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
    if (truncate_fd(d->fd, 0)) return fail(ERR_IO, "%s: cannot write: %s", d->lock, strerror(errno));
    return write_all(d->lock, d->fd, owner, strlen(owner));
}

/* Whoever wrote into it: a lock left by a run is empty or names its process. */
static enum status check_lock(struct directory *d)
{
    char text[9] = "";
    const ssize_t n = pread(d->fd, text, sizeof text - 1, 0);
    if (!n) d->ours = true;
    if (n <= 0 || !strcmp(text, "process ")) return OK;
    d->ours = false;
    return fail(ERR_INPUT, "%s: is no lock of this program: move it, or choose another output.directory", d->lock);
}

/* Also the proof that the directory can be written to. Where the file system has no locks the run goes on without: a file
 * that another run has signed is then its own only when it goes on with that run or replaces it. */
static enum status take_lock(const char *path, struct directory *d)
{
    for (;;) {
        d->fd = open(d->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (d->fd < 0)
            return fail(ERR_INPUT, "%s: output.directory cannot be written to: %s: %s", path, RUN_LOCK, strerror(errno));
        if (flock(d->fd, LOCK_EX | LOCK_NB)) {
            if (errno == EWOULDBLOCK) return in_use(d->lock, d->fd);
            if (errno != EINTR) break;
        } else if ((d->ours = is_the_file(d->fd, d->lock))) {
            break;
        }
        close(d->fd);
    }
    if (check_lock(d) != OK) return ERR_INPUT;
    return sign(d);
}

/* ------------------------------------------------------------------------------------------------- the run ----- */
/* The log is begun first of all, but that of an earlier run stays as long as its other results: the new one has another
 * name until then. A link of the log's name must not be written through, nor a file's other name: so it is made anew. */
static enum status place_log(const char *path, struct directory *d)
{
    enum status st = OK;
    const char *name = d->earlier ? RUN_LOG_NEXT : RUN_LOG;
    if (!d->earlier) TRY(earlier_check_log(path, d->place));
    TRY(path_join(path, name, &d->log));
    if (unlinkat(d->place, name, 0) && errno != ENOENT)
        st = fail(ERR_INPUT, "%s: cannot be replaced: %s", d->log, strerror(errno));
done:
    return st;
}

/* Whether there is an earlier run, and it may be replaced. Changes nothing. */
static enum status look_for_earlier(const char *path, bool overwrite, struct directory *d)
{
    const char *found = earlier_found(d->place);
    if (!found) return OK;
    if (!overwrite)
        return fail(
            ERR_INPUT,
            "%s: output.directory holds an earlier run (%s); choose another one, or replace that run with --overwrite",
            path, found);
    d->earlier = true;
    return earlier_check(path, d->place, found);
}

/* There, locked by us, and open. */
static enum status hold(const char *path, struct directory **out)
{
    enum status st = OK;
    struct directory *d = *out = NULL;
    TRY_NEW(d, 1);
    *out = d;
    d->fd = d->place = -1;
    if (!(d->path = text_copy(path))) {
        st = fail(ERR_MEMORY, "%s: no memory", path);
        goto done;
    }
    TRY(path_join(path, RUN_LOCK, &d->lock));
    TRY(take_lock(path, d));
    if ((d->place = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        st = fail(ERR_INPUT, "%s: output.directory cannot be read: %s", path, strerror(errno));
done:
    return st;
}

enum status directory_prepare(const char *path, bool overwrite, struct directory **out)
{
    enum status st = OK;
    struct directory *d = *out = NULL;
    TRY(make_all(path));
    TRY(hold(path, &d));
    TRY(look_for_earlier(path, overwrite, d));
    TRY(place_log(path, d));
    *out = d, d = NULL;
done:
    directory_free(d);
    return st;
}

enum status directory_resume(const char *path, struct directory **out)
{
    enum status st = OK;
    struct directory *d = *out = NULL;
    struct stat s;
    if (stat(path, &s))
        return fail(ERR_INPUT, "%s: holds no run to go on with: %s; start the run without --restart", path,
                    strerror(errno));
    TRY(hold(path, &d));
    if (!earlier_proven(d->place)) {
        const char *found = earlier_found(d->place);
        if (found) TRY(earlier_check(path, d->place, found)); /* what --overwrite would say */
        st = fail(ERR_INPUT, "%s: holds no run to go on with: there is no input.yaml of this program; start the run %s",
                  path, found ? "anew with --overwrite" : "without --restart");
        goto done;
    }
    TRY(path_join(path, RUN_LOG, &d->log));
    d->earlier = !fstatat(d->place, RUN_REPLACED, &s, AT_SYMLINK_NOFOLLOW); /* that the run before us was to replace */
    d->begun = true;
    *out = d, d = NULL;
done:
    directory_free(d);
    return st;
}

const char *directory_log(const struct directory *d) { return d->log; }

enum status directory_begin(struct directory *d)
{
    enum status st = OK;
    if (d->earlier) {
        TRY(earlier_set_aside(d->path, d->place));
        if (renameat(d->place, RUN_LOG_NEXT, d->place, RUN_LOG) && errno != ENOENT) {
            st = fail(ERR_IO, "%s: cannot be renamed: %s", d->log, strerror(errno));
            goto done;
        }
    }
    d->begun = true;
done:
    return st;
}

enum status directory_end(struct directory *d)
{
    enum status st = d->earlier ? earlier_remove(d->path, d->place) : OK;
    d->ended = st == OK;
    return st;
}

enum status directory_mark(const struct directory *d, size_t updates)
{
    struct text t = {0};
    char *path = NULL;
    enum status st;
    TRY(path_join(d->path, RUN_FINISHED, &path));
    TRY(text_print(&t, "{\"updates\": %zu}\n", updates));
    TRY(output_write_text(path, t.data, t.n));
done:
    free(path);
    text_free(&t);
    return st;
}

enum status directory_finished(const struct directory *d, bool *finished, uint64_t *updates)
{
    char *path = NULL;
    json_t *mark = NULL;
    enum status st;
    *updates = 0;
    TRY(path_join(d->path, RUN_FINISHED, &path));
    if (!(*finished = file_exists(path))) goto done;
    TRY(json_read(path, 1 << 10, &mark));
    *updates = (uint64_t)json_integer_value(json_object_get(mark, "updates"));
done:
    json_decref(mark);
    free(path);
    return st;
}

void directory_go_on(const struct directory *d, size_t step)
{
    unlinkat(d->place, RUN_FINISHED, 0);
    checkpoints_drop(d->path, step);
}

void directory_free(struct directory *d)
{
    if (!d) return;
    if (d->earlier && !d->begun && d->log) unlink(d->log); /* the earlier run is as it was */
    if (d->earlier && d->begun && !d->ended) log_info("the earlier run is kept in %s/" RUN_REPLACED, d->path);
    if (d->ours || d->begun) unlink(d->lock);
    if (d->fd >= 0) close(d->fd);
    if (d->place >= 0) close(d->place);
    free(d->path), free(d->lock), free(d->log);
    free(d);
}

/* --------------------------------------------------------------------------------------------- small files ----- */
/* Without it a rename may be forgotten when the machine stops. */
static void sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash ? text_copy(path) : text_copy(".");
    if (!parent) return;
    if (slash) parent[slash == path ? 1 : slash - path] = 0;
    output_sync_names(parent);
    free(parent);
}

void output_sync_names(const char *directory)
{
    const int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)sync_fd(fd);
    close(fd);
}

enum status output_write_text(const char *path, const char *text, size_t n)
{
    enum status st = OK;
    struct text other = {0};
    int fd = -1;
    TRY(text_print(&other, "%s.tmp", path));
    unlink(other.data); /* what a kill left, or a link, which must not be written through */
    if ((fd = open(other.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0) {
        st = fail(ERR_IO, "%s: cannot be created: %s", other.data, strerror(errno));
        goto done;
    }
    TRY(write_all(path, fd, text, n));
    if (sync_fd(fd)) {
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
