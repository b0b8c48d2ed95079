/* The header of a safetensors file: 8 bytes of length, JSON of that length, then the tensors, which must cover the rest of
 * the file without holes or overlaps. Nothing in it is believed before it is checked; memory stays in proportion to the
 * file's size.                                                                                                       */
#include "unlearn/weights_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t HEADER_MOST = 100000000; /* the format's own limit */
static const uint64_t JSON_MOST = 32 << 20;    /* without padding: parsed JSON takes some thirty times its text */
enum { DIMS_MOST = 8 };

static const struct {
    const char *name;
    size_t bits;
    bool readable;
    enum storage storage;
} types[] = {
    {"F32", 32, true, STORE_F32}, {"BF16", 16, true, STORE_BF16},
    {"F16", 16, true, STORE_F16}, {"F64", 64, true, STORE_F64},
    {"BOOL", 8, false, 0},        {"U8", 8, false, 0},
    {"I8", 8, false, 0},          {"F8_E5M2", 8, false, 0},
    {"F8_E4M3", 8, false, 0},     {"F8_E8M0", 8, false, 0},
    {"F4", 4, false, 0},          {"F6_E2M3", 6, false, 0},
    {"F6_E3M2", 6, false, 0},     {"I16", 16, false, 0},
    {"U16", 16, false, 0},        {"I32", 32, false, 0},
    {"U32", 32, false, 0},        {"I64", 64, false, 0},
    {"U64", 64, false, 0},        {"C64", 64, false, 0},
};
static const size_t N_TYPE = sizeof types / sizeof *types;

const char *safetensors_type(enum storage storage)
{
    size_t i = 0;
    while (!types[i].readable || types[i].storage != storage) i++;
    return types[i].name;
}

/* --------------------------------------------------------------------------------------------------- one entry ----- */
static enum status parse_type(const char *path, struct tensor *t, const json_t *entry)
{
    const char *name = NULL;
    enum status st = key_text(path, entry, "dtype", &name);
    if (st != OK) return st;
    for (size_t i = 0; name && i < N_TYPE; i++)
        if (!strcmp(name, types[i].name)) {
            t->type = types[i].name;
            t->bits = types[i].bits;
            t->readable = types[i].readable;
            t->storage = types[i].storage;
            return OK;
        }
    return fail(ERR_INPUT, "%s: tensor %s: dtype \"%.16s\" is unknown", path, t->name, name ? name : "");
}

static bool parse_count(const json_t *j, uint64_t *out)
{
    if (!json_is_integer(j) || json_integer_value(j) < 0) return false;
    *out = (uint64_t)json_integer_value(j);
    return true;
}

/* The number of bits that the shape needs. */
static enum status parse_shape(const char *path, struct tensor *t, const json_t *entry, uint64_t *bits)
{
    const json_t *shape = json_object_get(entry, "shape");
    uint64_t n;
    if (!json_is_array(shape) || json_array_size(shape) > DIMS_MOST)
        return fail(ERR_INPUT, "%s: tensor %s: shape is not a list of at most %d sizes", path, t->name, DIMS_MOST);
    *bits = t->bits;
    for (t->n_dim = 0; t->n_dim < json_array_size(shape); t->n_dim++) {
        if (!parse_count(json_array_get(shape, t->n_dim), &n))
            return fail(ERR_INPUT, "%s: tensor %s: shape is not made of whole numbers", path, t->name);
        if (__builtin_mul_overflow(*bits, n, bits))
            return fail(ERR_INPUT, "%s: tensor %s: shape is too large", path, t->name);
        t->dim[t->n_dim] = n;
    }
    return OK;
}

static enum status parse_offsets(const char *path, struct tensor *t, const json_t *entry, uint64_t bits, uint64_t size)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !parse_count(json_array_get(offsets, 0), &t->begin) ||
        !parse_count(json_array_get(offsets, 1), &t->end))
        return fail(ERR_INPUT, "%s: tensor %s: data_offsets are not two whole numbers", path, t->name);
    if (t->begin > t->end || t->end > size)
        return fail(ERR_INPUT,
                    "%s: tensor %s: data_offsets %llu ... %llu are outside the %llu bytes of data; is the file cut?",
                    path, t->name, (unsigned long long)t->begin, (unsigned long long)t->end, (unsigned long long)size);
    if (bits % 8 || t->end - t->begin != bits / 8)
        return fail(ERR_INPUT, "%s: tensor %s: has %llu bytes, its shape and dtype need %llu", path, t->name,
                    (unsigned long long)(t->end - t->begin), (unsigned long long)(bits / 8));
    return OK;
}

static enum status parse_tensor(const char *path, struct tensor *t, const json_t *entry, uint64_t size)
{
    enum status st = OK;
    uint64_t bits = 0;
    if (!json_is_map(entry)) return fail(ERR_INPUT, "%s: tensor %s: is not described by an object", path, t->name);
    TRY(parse_type(path, t, entry));
    TRY(parse_shape(path, t, entry, &bits));
    TRY(parse_offsets(path, t, entry, bits, size));
done:
    return st;
}

/* -------------------------------------------------------------------------------------------------- all of them ----- */
static enum status parse_metadata(const char *path, const json_t *metadata)
{
    const char *key;
    const json_t *value;
    if (!json_is_map(metadata)) return fail(ERR_INPUT, "%s: __metadata__ is not an object", path);
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value)) return fail(ERR_INPUT, "%s: __metadata__: %s is not a text", path, key);
    }
    return OK;
}

static int by_place(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static enum status check_cover(struct safetensors *f, uint64_t size)
{
    uint64_t at = 0;
    qsort(f->tensor, f->n, sizeof *f->tensor, by_place);
    for (size_t i = 0; i < f->n; i++) {
        if (f->tensor[i].begin != at)
            return fail(ERR_INPUT, "%s: tensor %s: begins at byte %llu of the data, the one before it ends at %llu",
                        f->path, f->tensor[i].name, (unsigned long long)f->tensor[i].begin, (unsigned long long)at);
        at = f->tensor[i].end;
    }
    if (at != size)
        return fail(ERR_INPUT, "%s: %llu bytes after the last tensor", f->path, (unsigned long long)(size - at));
    return OK;
}

/* size: bytes of data, which begin at byte `start` of the file */
static enum status parse_header(struct safetensors *f, uint64_t start, uint64_t size)
{
    enum status st = OK;
    const char *name;
    const json_t *entry;
    TRY_NEW(f->tensor, json_object_size(f->header));
    json_object_foreach(f->header, name, entry)
    {
        if (!strcmp(name, "__metadata__")) {
            TRY(parse_metadata(f->path, entry));
            continue;
        }
        f->tensor[f->n].name = name;
        TRY(parse_tensor(f->path, &f->tensor[f->n++], entry, size));
    }
    TRY(check_cover(f, size));
    for (size_t i = 0; i < f->n; i++) f->tensor[i].begin += start, f->tensor[i].end += start;
    qsort(f->tensor, f->n, sizeof *f->tensor, by_name);
done:
    return st;
}

/* --------------------------------------------------------------------------------------------------------- file ----- */
enum status safetensors_pread(const char *path, int fd, uint64_t at, size_t n, void *out)
{
    unsigned char *to = out;
    while (n) {
        ssize_t r = pread(fd, to, n, (off_t)at);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0)
            return fail(ERR_INPUT, "%s: cannot be read: %s", path, r ? strerror(errno) : "it became shorter meanwhile");
        to += r, at += (uint64_t)r, n -= (size_t)r;
    }
    return OK;
}

/* O_NONBLOCK: a pipe without a writer must not stop the program before it is refused. */
enum status safetensors_file(const char *path, int *fd, uint64_t *size)
{
    struct stat s;
    if ((*fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) < 0)
        return fail(ERR_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(*fd, &s)) return fail(ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(s.st_mode)) return fail(ERR_INPUT, "%s: is not a regular file", path);
    *size = (uint64_t)s.st_size;
    return OK;
}

static enum status read_header(const char *path, int fd, uint64_t size, char **text, uint64_t *n)
{
    enum status st = OK;
    enum { LENGTH = 8 };
    unsigned char begin[64];
    const size_t n_begin = size < sizeof begin ? size : sizeof begin;
    *n = 0;
    TRY(safetensors_pread(path, fd, 0, n_begin, begin));
    TRY(check_lfs_pointer(path, begin, n_begin));
    if (size < LENGTH) return fail(ERR_INPUT, "%s: has %llu bytes, no safetensors file", path, (unsigned long long)size);
    for (int i = LENGTH - 1; i >= 0; i--) *n = *n << 8 | begin[i];
    if (*n > HEADER_MOST || *n > size - LENGTH || *n < 2)
        return fail(ERR_INPUT,
                    "%s: the length of its header, %llu bytes, does not fit a file of %llu bytes; is it complete?", path,
                    (unsigned long long)*n, (unsigned long long)size);
    TRY_NEW(*text, *n + 1);
    TRY(safetensors_pread(path, fd, LENGTH, *n, *text));
    if (**text != '{') st = fail(ERR_INPUT, "%s: its header is not a JSON object", path);
done:
    return st;
}

static enum status parse_json(const char *path, const char *text, uint64_t n, json_t **out)
{
    while (n && text[n - 1] == ' ') n--;
    if (n > JSON_MOST)
        return fail(ERR_INPUT, "%s: its header has %llu bytes, more than the %llu allowed", path, (unsigned long long)n,
                    (unsigned long long)JSON_MOST);
    return json_parse(path, 0, text, n, out);
}

enum status safetensors_open(const char *path, struct safetensors **out)
{
    enum status st = OK;
    struct safetensors *f = *out = NULL;
    char *text = NULL;
    uint64_t size, n;
    int fd = -1;
    TRY_NEW(f, 1);
    if (!(f->path = text_copy(path))) {
        st = fail(ERR_MEMORY, "%s: no memory for its name", path);
        goto done;
    }
    TRY(safetensors_file(path, &fd, &size));
    TRY(read_header(path, fd, size, &text, &n));
    TRY(parse_json(path, text, n, &f->header));
    TRY(parse_header(f, 8 + n, size - 8 - n));
    *out = f, f = NULL;
done:
    if (fd >= 0) close(fd);
    free(text);
    safetensors_close(f);
    return st;
}

void safetensors_close(struct safetensors *f)
{
    if (!f) return;
    json_decref(f->header);
    free(f->tensor);
    free(f->path);
    free(f);
}

const struct tensor *safetensors_find(const struct safetensors *f, const char *name)
{
    const struct tensor key = {.name = name};
    return f->n ? bsearch(&key, f->tensor, f->n, sizeof key, by_name) : NULL;
}
