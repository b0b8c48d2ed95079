/* Whole files, hashes. */
#define XXH_INLINE_ALL
#include "unlearn/core.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* A file with holes has any size at no cost; read, it has none. The system gives memory out that is not there. */
static enum status check_room(const char *path, size_t size)
{
    const size_t large = (size_t)1 << 28, available = size > large ? memory_available() : 0;
    if (!available || size <= available) return OK;
    return fail(ERR_MEMORY, "%s: has %.1f GB, and %.1f GB of memory are free", path, (double)size / 1e9,
                (double)available / 1e9);
}

/* O_NONBLOCK: a pipe without a writer must not stop the program before it is refused. */
static enum status open_regular(const char *path, size_t most, int *fd, size_t *size)
{
    struct stat s;
    if ((*fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) < 0)
        return fail(ERR_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(*fd, &s)) return fail(ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (S_ISDIR(s.st_mode)) return fail(ERR_INPUT, "%s: is a directory, not a file", path);
    if (!S_ISREG(s.st_mode)) return fail(ERR_INPUT, "%s: is not a regular file", path);
    if ((uint64_t)s.st_size > most)
        return fail(ERR_INPUT, "%s: has %lld bytes, more than the %zu allowed", path, (long long)s.st_size, most);
    *size = (size_t)s.st_size;
    return OK;
}

bool is_lfs_pointer(const void *bytes, size_t n)
{
    static const char begin[] = "version https://git-lfs.github.com/spec/";
    return n >= sizeof begin - 1 && !memcmp(bytes, begin, sizeof begin - 1);
}

enum status check_lfs_pointer(const char *path, const void *bytes, size_t n)
{
    if (!is_lfs_pointer(bytes, n)) return OK;
    return fail(ERR_INPUT, "%s: is a Git LFS pointer, not the file itself: git lfs pull", path);
}

enum status file_read_any(const char *path, size_t most, char **text, size_t *n)
{
    enum status st = OK;
    size_t size = 0, got = 0;
    char *buffer = *text = NULL;
    int fd = -1;
    *n = 0;
    TRY(open_regular(path, most, &fd, &size));
    TRY(check_room(path, size));
    if (!(buffer = malloc(size + 1))) {
        st = fail(ERR_MEMORY, "%s: no memory for its %zu bytes", path, size);
        goto done;
    }
    while (got < size) {
        ssize_t r = read(fd, buffer + got, size - got);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) {
            st = fail(ERR_INPUT, "%s: cannot be read: %s", path, r ? strerror(errno) : "it became shorter meanwhile");
            goto done;
        }
        got += (size_t)r;
    }
    buffer[size] = 0;
    *text = buffer, buffer = NULL;
    *n = size;
done:
    free(buffer);
    if (fd >= 0) close(fd);
    return st;
}

enum status file_read(const char *path, size_t most, char **text, size_t *n)
{
    enum status st = file_read_any(path, most, text, n);
    if (st == OK && (st = check_lfs_pointer(path, *text, *n)) != OK) {
        free(*text);
        *text = NULL, *n = 0;
    }
    return st;
}

enum status path_join(const char *dir, const char *name, char **path)
{
    struct text t = {0};
    size_t n = strlen(dir);
    enum status st = text_print(&t, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    *path = t.data;
    return st;
}

bool file_exists(const char *path) { return access(path, F_OK) == 0; }

uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed) { return XXH3_64bits_withSeed(bytes, n, seed); }

enum status file_hash_begin(struct file_hash *h)
{
    *h = (struct file_hash){.state = XXH3_createState()};
    if (!h->state) return fail(ERR_MEMORY, "memory: cannot allocate a hash");
    XXH3_64bits_reset_withSeed(h->state, 0);
    return OK;
}

void file_hash_add(struct file_hash *h, const void *bytes, size_t n)
{
    const unsigned char *from = bytes;
    while (n) {
        const size_t room = HASH_CHUNK - h->in_chunk, some = n < room ? n : room;
        XXH3_64bits_update(h->state, from, some);
        from += some, n -= some;
        h->bytes += some, h->in_chunk += some;
        if (h->in_chunk < HASH_CHUNK) continue;
        h->hash = XXH3_64bits_digest(h->state);
        XXH3_64bits_reset_withSeed(h->state, h->hash);
        h->in_chunk = 0;
    }
}

void file_hash_end(struct file_hash *h)
{
    if (h->state && h->in_chunk) h->hash = XXH3_64bits_digest(h->state);
    XXH3_freeState(h->state);
    h->state = NULL;
}

int sync_fd(int fd)
{
    int no;
    do no = fsync(fd);
    while (no && errno == EINTR);
    return no;
}

int truncate_fd(int fd, off_t length)
{
    int no;
    do no = ftruncate(fd, length);
    while (no && errno == EINTR);
    return no;
}
