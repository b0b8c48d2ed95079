#define _GNU_SOURCE
/* Files of a directory that appear under their names together: each is written as NAME.tmp and synced; the commit renames
 * them in the order they were begun, so the last one, which the others wait for, comes last.                          */
#include "unlearn/weights_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const size_t COPY_MOST = (size_t)1 << 30;

static enum status paths(const struct export *e, const char *name, char **final, struct text *temporary)
{
    enum status st = path_join(e->dir, name, final);
    return st == OK ? text_print(temporary, "%s.tmp", *final) : st;
}

enum status export_open(const char *dir, struct export *e)
{
    *e = (struct export){.dir = dir, .fd = -1, .written = e->written};
    if (mkdir(dir, 0777) && errno != EEXIST) return fail(ERR_IO, "%s: cannot be made: %s", dir, strerror(errno));
    return OK;
}

/* Room for one more name. */
static enum status reserve(struct export *e)
{
    const size_t room = e->room ? 2 * e->room : 16;
    char **name;
    if (e->n < e->room) return OK;
    if (!(name = realloc(e->name, room * sizeof *name)))
        return fail(ERR_MEMORY, "%s: no memory for the names of %zu files", e->dir, room);
    e->name = name;
    e->room = room;
    return OK;
}

enum status export_file(struct export *e, const char *name)
{
    enum status st = OK;
    struct text temporary = {0};
    char *path = NULL;
    TRY(paths(e, name, &path, &temporary));
    TRY(reserve(e));
    if (!(e->name[e->n] = text_copy(name))) {
        st = fail(ERR_MEMORY, "%s: no memory for its name", path);
        goto done;
    }
    e->n++;
    unlink(temporary.data); /* what a kill left, or a link, which must not be written through */
    if (e->written) TRY(file_hash_begin(&e->hash));
    if ((e->fd = open(temporary.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0)
        st = fail(ERR_IO, "%s: cannot be written: %s", temporary.data, strerror(errno));
done:
    free(path);
    text_free(&temporary);
    return st;
}

/* Pieces for which the system finds room at once: Linux 6.18 gives a write of 128 KiB and more large pages that were not
 * in use before, which took up to five times as long as those of a file just removed. */
enum { PIECE = 64 << 10 };
/* Whenever so much more is there, the disk begins with it: it works while the rest is written, and fsync finds little left.
 * Without this a checkpoint of 300 MB took twice as long. */
enum { FLUSH = 8 << 20 };

enum status export_bytes(struct export *e, const void *bytes, size_t n)
{
    const unsigned char *from = bytes;
    while (n) {
        ssize_t w = write(e->fd, from, n < PIECE ? n : PIECE);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return fail(ERR_IO, "%s/%s: cannot be written: %s", e->dir, e->name[e->n - 1], strerror(errno));
        if (e->written) file_hash_add(&e->hash, from, (size_t)w);
        from += w, n -= (size_t)w;
    }
    return OK;
}

/* Ends the hash of a run of bytes that begins at `at`. */
static enum status note_written(struct written *w, const char *file, uint64_t at, struct file_hash *hash)
{
    enum status st;
    if (!w || !hash->state) return OK;
    file_hash_end(hash);
    TRY(memory_grow((void **)&w->part, &w->room, w->n + 1, sizeof *w->part));
    w->part[w->n] = (struct written_part){.at = at, .bytes = hash->bytes, .hash = hash->hash};
    snprintf(w->part[w->n++].file, sizeof w->part->file, "%s", file);
done:
    return st;
}

static int by_place(const void *a, const void *b)
{
    const struct written_part *x = a, *y = b;
    const int by_file = strcmp(x->file, y->file);
    return by_file ? by_file : (x->at > y->at) - (x->at < y->at);
}

enum status written_gather(const struct grid *g, struct written *w)
{
    uint64_t n = w->n;
    enum status st;
    comm_max_u64(g->world, &n, 1);
    TRY(grid_agree(
        g, g->rank ? OK : memory_grow((void **)&w->part, &w->room, w->n + n * (size_t)(g->size - 1), sizeof *w->part)));
    n = w->n;
    if (g->rank) {
        comm_send(g->world, &n, sizeof n, 0, 0);
        if (n) comm_send(g->world, w->part, w->n * sizeof *w->part, 0, 0);
        written_free(w);
        goto done;
    }
    for (int r = 1; r < g->size; r++) {
        comm_receive(g->world, &n, sizeof n, r, 0);
        if (n) comm_receive(g->world, w->part + w->n, n * sizeof *w->part, r, 0);
        w->n += n;
    }
    qsort(w->part, w->n, sizeof *w->part, by_place);
done:
    return st;
}

void written_free(struct written *w)
{
    free(w->part);
    *w = (struct written){0};
}

enum status export_close(struct export *e)
{
    const bool synced = !sync_fd(e->fd), closed = !close(e->fd);
    e->fd = -1;
    if (synced && closed) return note_written(e->written, e->name[e->n - 1], 0, &e->hash);
    return fail(ERR_IO, "%s/%s: cannot be written: %s", e->dir, e->name[e->n - 1], strerror(errno));
}

enum status export_text(struct export *e, const char *name, const char *bytes, size_t n)
{
    enum status st = OK;
    TRY(export_file(e, name));
    TRY(export_bytes(e, bytes, n));
    TRY(export_close(e));
done:
    return st;
}

/* With as few digits as give the same numbers again: 1e-5, not 1.0000000000000001e-5. */
static char *shortest(const json_t *json)
{
    char *text = NULL;
    bool same = false;
    for (size_t digits = 15; digits <= 17 && !same; digits++) {
        json_t *again;
        free(text);
        if (!(text = json_text(json, JSON_INDENT(2) | JSON_REAL_PRECISION(digits)))) return NULL;
        again = json_loads(text, 0, NULL);
        same = json_equal(json, again);
        json_decref(again);
    }
    json_unmark(text);
    return text;
}

enum status export_json(struct export *e, const char *name, const json_t *json)
{
    enum status st = OK;
    struct text t = {0};
    char *text = shortest(json);
    if (!text) {
        st = fail(ERR_MEMORY, "%s/%s: no memory for its text", e->dir, name);
        goto done;
    }
    TRY(text_print(&t, "%s\n", text));
    TRY(export_text(e, name, t.data, t.n));
done:
    free(text);
    text_free(&t);
    return st;
}

enum status export_copy(struct export *e, const char *source, const char *name)
{
    enum status st = OK;
    char *path = NULL, *text = NULL;
    size_t n;
    TRY(path_join(source, name, &path));
    if (!file_exists(path) && !strcmp(name, "tokenizer.json")) /* it was there when the run began */
        st = fail(ERR_IO, "%s: is not there any more: %s would have no tokenizer", path, e->dir);
    if (!file_exists(path)) goto done;
    TRY(file_read_any(path, COPY_MOST, &text, &n));
    if (is_lfs_pointer(text, n))
        log_warn("%s: is a Git LFS pointer, not the file itself; it is not copied to %s", path, e->dir);
    else
        TRY(export_text(e, name, text, n));
done:
    free(path);
    free(text);
    return st;
}

/* ---- a share of files that another process has begun */
static enum status part_path(const struct export_part *p, struct text *out)
{
    return text_print(out, "%s/%s.tmp", p->dir, p->name);
}

static enum status part_fail(const struct export_part *p)
{
    return fail(ERR_IO, "%s/%s: cannot be written: %s", p->dir, p->name, strerror(errno));
}

enum status export_part_open(struct export_part *p, const char *name)
{
    enum status st = OK;
    struct text path = {0};
    if (p->fd >= 0 && !strcmp(p->name, name)) return OK;
    TRY(export_part_close(p));
    snprintf(p->name, sizeof p->name, "%s", name);
    TRY(part_path(p, &path));
    if ((p->fd = open(path.data, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)) < 0) st = part_fail(p);
done:
    text_free(&path);
    return st;
}

/* The bytes that come now are a run of their own, unless they follow those before. */
static enum status go_to(struct export_part *p, uint64_t at)
{
    enum status st = OK;
    if (!p->written || (p->hash.state && at == p->at + p->hash.bytes)) return OK;
    TRY(note_written(p->written, p->name, p->at, &p->hash));
    TRY(file_hash_begin(&p->hash));
    p->at = at;
done:
    return st;
}

enum status export_part_bytes(struct export_part *p, uint64_t at, const void *bytes, size_t n)
{
    const unsigned char *from = bytes;
    enum status st = go_to(p, at);
    while (n && st == OK) {
        const ssize_t w = pwrite(p->fd, from, n < PIECE ? n : PIECE, (off_t)at);
        const uint64_t flushed = at / FLUSH * FLUSH;
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return part_fail(p);
        if (p->written) file_hash_add(&p->hash, from, (size_t)w);
        from += w, at += (uint64_t)w, n -= (size_t)w;
        if (at >= flushed + FLUSH) sync_file_range(p->fd, (off_t)flushed, FLUSH, SYNC_FILE_RANGE_WRITE);
    }
    return st;
}

enum status export_part_close(struct export_part *p)
{
    bool good = true;
    if (p->fd < 0) return OK;
    good = !sync_fd(p->fd);
    good = !close(p->fd) && good;
    p->fd = -1;
    return good ? note_written(p->written, p->name, p->at, &p->hash) : part_fail(p);
}

/* ---- all under their names */
static enum status rename_one(const struct export *e, const char *name)
{
    enum status st = OK;
    struct text temporary = {0};
    char *path = NULL;
    TRY(paths(e, name, &path, &temporary));
    if (rename(temporary.data, path)) st = fail(ERR_IO, "%s: cannot be renamed: %s", temporary.data, strerror(errno));
done:
    free(path);
    text_free(&temporary);
    return st;
}

enum status export_commit(struct export *e)
{
    enum status st = OK;
    int fd;
    for (size_t i = 0; i < e->n; i++) TRY(rename_one(e, e->name[i]));
    if ((fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || sync_fd(fd))
        st = fail(ERR_IO, "%s: cannot be synced: %s", e->dir, strerror(errno));
    if (fd >= 0) close(fd);
    e->committed = st == OK;
done:
    return st;
}

static void remove_temporary(const struct export *e, const char *name)
{
    struct text temporary = {0};
    char *path = NULL;
    if (paths(e, name, &path, &temporary) == OK) unlink(temporary.data);
    free(path);
    text_free(&temporary);
}

void export_end(struct export *e)
{
    if (e->fd >= 0) close(e->fd);
    file_hash_end(&e->hash);
    for (size_t i = 0; i < e->n; i++) {
        if (!e->committed) remove_temporary(e, e->name[i]);
        free(e->name[i]);
    }
    free(e->name);
    *e = (struct export){.fd = -1};
}
