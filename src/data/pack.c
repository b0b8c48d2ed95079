/* A dataset as one block of bytes: the sizes, then the arrays, so that one process reads and the others receive. */
#include "unlearn/data_priv.h"
#include <stdlib.h>
#include <string.h>

struct header {
    uint64_t n_row, n_token, n_path, n_line, n_cut, n_unlabelled, n_blank, blank, hash, hide;
};

enum status dataset_pack(const struct dataset *d, unsigned char **bytes, size_t *n)
{
    enum status st = OK;
    struct header h = {d->n_row,   d->first[d->n_row], strlen(d->path) + 1,
                       d->n_line,  d->n_cut,           d->n_unlabelled,
                       d->n_blank, d->blank,           d->hash,
                       d->hide};
    const struct {
        const void *from;
        size_t n;
    } part[] = {{&h, sizeof h},
                {d->first, (d->n_row + 1) * sizeof *d->first},
                {d->id, h.n_token * sizeof *d->id},
                {d->label, h.n_token * sizeof *d->label},
                {d->end, d->n_row * sizeof *d->end},
                {d->path, h.n_path}};
    size_t at = 0, count = sizeof part / sizeof *part;
    *bytes = NULL;
    for (size_t i = 0; i < count; i++) at += part[i].n;
    TRY_NEW(*bytes, at);
    *n = at;
    at = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(*bytes + at, part[i].from, part[i].n);
        at += part[i].n;
    }
done:
    return st;
}

/* A new array of `count` objects from the block; what the block has not got is not read. */
static enum status take(const unsigned char *bytes, size_t n, size_t *at, size_t count, size_t size, void **out)
{
    if (count > (n - *at) / size) return fail(ERR_INTERNAL, "a packed dataset is cut short");
    if (!(*out = memory_new(count, size)))
        return fail(ERR_MEMORY, "memory: cannot allocate %zu x %zu bytes", count, size);
    memcpy(*out, bytes + *at, count * size);
    *at += count * size;
    return OK;
}

static bool consistent(const struct dataset *d, const struct header *h)
{
    if (d->first[0] || d->first[d->n_row] != h->n_token || d->path[h->n_path - 1]) return false;
    for (size_t i = 0; i < d->n_row; i++)
        if (d->first[i] > d->first[i + 1]) return false;
    return true;
}

enum status dataset_unpack(const unsigned char *bytes, size_t n, struct dataset **out)
{
    enum status st = OK;
    struct header h;
    struct dataset *d = *out = NULL;
    size_t at = sizeof h;
    if (n < sizeof h) return fail(ERR_INTERNAL, "a packed dataset is cut short");
    memcpy(&h, bytes, sizeof h);
    if (h.n_row >= SIZE_MAX / sizeof *d->first || !h.n_path)
        return fail(ERR_INTERNAL, "a packed dataset has wrong sizes");
    TRY_NEW(d, 1);
    d->n_row = h.n_row, d->n_line = h.n_line, d->n_cut = h.n_cut, d->n_unlabelled = h.n_unlabelled, d->hash = h.hash;
    d->n_blank = h.n_blank, d->blank = h.blank, d->hide = h.hide;
    TRY(take(bytes, n, &at, h.n_row + 1, sizeof *d->first, (void **)&d->first));
    TRY(take(bytes, n, &at, h.n_token, sizeof *d->id, (void **)&d->id));
    TRY(take(bytes, n, &at, h.n_token, sizeof *d->label, (void **)&d->label));
    TRY(take(bytes, n, &at, h.n_row, sizeof *d->end, (void **)&d->end));
    TRY(take(bytes, n, &at, h.n_path, 1, (void **)&d->path));
    if (at != n || !consistent(d, &h)) TRY(fail(ERR_INTERNAL, "a packed dataset contradicts itself"));
    *out = d, d = NULL;
done:
    dataset_free(d);
    return st;
}
