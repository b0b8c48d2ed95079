/* A model whose config.json ties lm_head to the embedding, but whose files hold a head with values of its own: the files
 * count, as in transformers. Only the first process reads; nothing is read twice where the files hold no head. */
#include "unlearn/weights_priv.h"
#include <stdlib.h>
#include <unistd.h>

enum { PART = 1 << 16 }; /* numbers compared at a time */

struct side { /* the embedding or the head, read from its file part by part */
    const char *path;
    const struct tensor *t;
    int fd;
    unsigned char *bytes;
    real *x; /* [PART] */
};

static enum status side_open(const struct checkpoint *c, size_t i, struct side *s)
{
    enum status st = OK;
    uint64_t size;
    s->path = c->file[c->file_of[i]]->path;
    s->t = c->at[i];
    TRY_NEW(s->bytes, PART * storage_size(s->t->storage));
    TRY_NEW(s->x, PART);
    TRY(safetensors_file(s->path, &s->fd, &size));
done:
    return st;
}

static void side_close(struct side *s)
{
    if (s->fd >= 0) close(s->fd);
    free(s->bytes);
    free(s->x);
}

static enum status side_read(struct side *s, size_t first, size_t n)
{
    const size_t element = storage_size(s->t->storage);
    enum status st = safetensors_pread(s->path, s->fd, s->t->begin + first * element, n * element, s->bytes);
    if (st == OK) storage_load(s->t->storage, n, s->bytes, s->x);
    return st;
}

/* Of n numbers each, whatever the types that they are stored in. */
static enum status compare(struct side *a, struct side *b, size_t n, bool *differ)
{
    enum status st = OK;
    for (size_t first = 0, some; first < n && !*differ; first += some) {
        some = n - first < PART ? n - first : PART;
        TRY(side_read(a, first, some));
        TRY(side_read(b, first, some));
        for (size_t i = 0; i < some; i++) *differ = *differ || a->x[i] != b->x[i];
    }
done:
    return st;
}

/* `untied` is the shape with a head of its own. */
static enum status own_head(const char *dir, const struct shape *untied, bool *own)
{
    enum status st = OK;
    struct layout *l = NULL;
    struct checkpoint *c = NULL;
    struct side side[2] = {{.fd = -1}, {.fd = -1}};
    size_t embed, head;
    *own = false;
    TRY(layout_new(untied, 0, 1, &l));
    TRY(checkpoint_open_headless(dir, l, &c));
    embed = (size_t)(layout_find(l, 0, ROLE_EMBED) - l->param);
    head = (size_t)(layout_find(l, l->n_layer - 1, ROLE_HEAD) - l->param);
    if (!c->at[head]) goto done;
    TRY(side_open(c, embed, &side[0]));
    TRY(side_open(c, head, &side[1]));
    TRY(compare(&side[0], &side[1], l->param[head].rows * l->param[head].cols, own));
done:
    side_close(&side[0]), side_close(&side[1]);
    checkpoint_close(c);
    layout_free(l);
    return st;
}

enum status shape_untie(const char *dir, const struct grid *g, struct shape *s)
{
    enum status st = OK;
    struct shape untied = *s;
    const char *head;
    bool own = false;
    if (!s->tied) return OK;
    untied.tied = false;
    if (!g->rank) st = own_head(dir, &untied, &own);
    TRY(grid_agree(g, st));
    comm_broadcast(g->world, &own, sizeof own, 0);
    if (!own) goto done;
    if ((st = shape_separate(s, &head)) == OK)
        log_warn("%s: config.json ties %s to the embedding, but the weights hold one with other values, which is used",
                 dir, head);
    st = grid_agree(g, st);
done:
    return st;
}
