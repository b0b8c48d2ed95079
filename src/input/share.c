/* Sends what world rank 0 has read to every process. */
#include "unlearn/input_priv.h"
#include <stdlib.h>

enum status share_text(const struct grid *world, const char *path, size_t most, char **text, size_t *n)
{
    enum status st = OK;
    uint64_t size = 0;
    *text = NULL;
    if (world->rank == 0) st = file_read(path, most, text, n), size = *n;
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, &size, sizeof size, 0);
    *n = (size_t)size;
    if (world->rank && !(*text = calloc(*n + 1, 1))) st = fail(ERR_MEMORY, "%s: no memory for its %zu bytes", path, *n);
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, *text, *n, 0);
done:
    return st;
}

enum status share_list(const struct grid *world, const char *path, size_t n, size_t size, void **x)
{
    enum status st = OK;
    if (world->rank && !(*x = memory_new(n, size))) st = fail(ERR_MEMORY, "%s: no memory for its rows", path);
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, *x, n * size, 0);
done:
    return st;
}

enum status share_dataset(const struct grid *world, const char *path, struct dataset **d)
{
    enum status st = OK;
    unsigned char *bytes = NULL;
    uint64_t size = 0;
    size_t n = 0;
    if (world->rank == 0 && *d) st = dataset_pack(*d, &bytes, &n), size = n;
    TRY(grid_agree(world, st));
    comm_broadcast(world->world, &size, sizeof size, 0);
    if (!size) goto done;
    TRY(share_list(world, path, size, 1, (void **)&bytes));
    if (world->rank) st = dataset_unpack(bytes, size, d);
done:
    free(bytes);
    return grid_agree(world, st);
}
