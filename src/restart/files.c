/* The files of a checkpoint, as its manifest names them: each in parts, as processes have written them, with their hashes. */
#include "unlearn/restart_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

json_t *hash_json(uint64_t hash)
{
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return json_string(text);
}

/* ------------------------------------------------------------------------------------------------------ writing ----- */
/* The parts of one file, from its start to its end; n of them are looked at. */
static enum status add_one(json_t *files, const char *dir, const char *path, const struct written_part *part, size_t n)
{
    json_t *parts = json_array();
    uint64_t bytes = 0;
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        if (part[i].at != bytes) {
            json_decref(parts);
            return fail(ERR_IO, "%s/%s: bytes %llu to %llu were not written once", dir, path, (unsigned long long)bytes,
                        (unsigned long long)part[i].at);
        }
        bytes += part[i].bytes;
        failed |= json_array_append_new(parts, json_pack("[I, o]", (json_int_t)part[i].bytes, hash_json(part[i].hash)));
    }
    failed |= json_object_set_new(files, path, json_pack("{s:I, s:o}", "bytes", (json_int_t)bytes, "parts", parts));
    return failed ? fail(ERR_MEMORY, "%s: no memory for its list of files", dir) : OK;
}

enum status files_add(json_t *files, const char *dir, const char *sub, const struct written *w)
{
    struct text path = {0};
    enum status st = OK;
    for (size_t first = 0, n; first < w->n; first += n) {
        const struct written_part *part = &w->part[first];
        for (n = 1; first + n < w->n && !strcmp(part[n].file, part->file);) n++;
        path.n = 0;
        TRY(text_print(&path, "%s/%s", sub, part->file));
        TRY(add_one(files, dir, path.data, part, n));
    }
done:
    text_free(&path);
    return st;
}

/* ------------------------------------------------------------------------------------------------------ reading ----- */
/* No path that leads out of the checkpoint. */
static bool inside(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash && slash != name && !strchr(slash + 1, '/') && name[0] != '.' && slash[1] && slash[1] != '.';
}

/* A file that has `bytes` bytes, open; -1 says why not. */
static int open_file(const char *path, uint64_t bytes, struct text *why)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat s;
    if (fd < 0 || fstat(fd, &s)) {
        text_print(why, "%s: cannot be read: %s", path, strerror(errno));
    } else if (!S_ISREG(s.st_mode)) {
        text_print(why, "%s: is no regular file", path);
    } else if ((uint64_t)s.st_size != bytes) {
        text_print(why, "%s: has %llu bytes, not as many as were written", path, (unsigned long long)s.st_size);
    } else {
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}

/* The bytes of all parts; false: they are none, or not as they are written. */
static bool add_up(const json_t *parts, uint64_t *bytes)
{
    const uint64_t most = (uint64_t)1 << 62;
    *bytes = 0;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *size = json_array_get(json_array_get(parts, i), 0);
        if (!json_is_integer(size) || json_integer_value(size) < 0 || (uint64_t)json_integer_value(size) > most - *bytes)
            return false;
        *bytes += (uint64_t)json_integer_value(size);
    }
    return json_is_array(parts);
}

/* Whether the next bytes are those of a part, through `chunk` [HASH_CHUNK]. -1: errno says why they cannot be read. */
static int part_sound(int fd, const json_t *part, unsigned char *chunk)
{
    uint64_t left = (uint64_t)json_integer_value(json_array_get(part, 0));
    struct file_hash hash;
    json_t *json;
    int same;
    if (file_hash_begin(&hash) != OK) return errno = ENOMEM, -1;
    while (left) {
        const ssize_t n = read(fd, chunk, left < HASH_CHUNK ? (size_t)left : HASH_CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        file_hash_add(&hash, chunk, (size_t)n);
        left -= (uint64_t)n;
    }
    file_hash_end(&hash);
    if (left) return -1;
    if (!(json = hash_json(hash.hash))) return errno = ENOMEM, -1;
    same = json_equal(json, json_array_get(part, 1));
    json_decref(json);
    return same;
}

static bool parts_sound(const char *path, uint64_t bytes, const json_t *parts, struct text *why)
{
    const int fd = open_file(path, bytes, why);
    unsigned char *chunk = memory_new(HASH_CHUNK, 1);
    int sound = fd < 0 ? 0 : chunk ? 1 : (errno = ENOMEM, -1);
    uint64_t at = 0;
    for (size_t i = 0; i < json_array_size(parts) && sound == 1; i++) {
        const json_t *part = json_array_get(parts, i);
        if (!(sound = part_sound(fd, part, chunk)))
            text_print(why, "%s: its content from byte %llu on is not what was written (checksum)", path,
                       (unsigned long long)at);
        at += (uint64_t)json_integer_value(json_array_get(part, 0));
    }
    if (sound < 0) text_print(why, "%s: cannot be read: %s", path, strerror(errno));
    free(chunk);
    if (fd >= 0) close(fd);
    return sound == 1;
}

bool file_sound(const char *dir, const char *name, const json_t *entry, struct text *why)
{
    const json_t *bytes = json_object_get(entry, "bytes"), *hash = json_object_get(entry, "xxh3");
    json_t *parts = json_incref(json_object_get(entry, "parts"));
    struct text path = {0};
    uint64_t all = 0;
    bool sound = false;
    if (!parts && bytes && hash) parts = json_pack("[[O, O]]", bytes, hash); /* FORMAT_OF_ONE_PART */
    if (!inside(name) || text_print(&path, "%s/%s", dir, name) != OK)
        text_print(why, "%s: is no name of a file in a checkpoint", name);
    else if (!add_up(parts, &all) || !json_is_integer(bytes) || (uint64_t)json_integer_value(bytes) != all)
        text_print(why, "%s: the manifest says no sound \"bytes\" and \"parts\" of it", path.data);
    else
        sound = parts_sound(path.data, all, parts, why);
    json_decref(parts);
    text_free(&path);
    return sound;
}
