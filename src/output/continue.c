/* The rows that a run takes over from what a run before it has written: the old file is read, and a new one made of it, so
 * that a file of two runs is no other than one of a single run, and the old one stays until the new one has its rows. */
#include "unlearn/output_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char BEFORE[] = ".before";

static enum status before_path(const char *path, struct text *out) { return text_print(out, "%s%s", path, BEFORE); }

enum status file_set_aside(const char *path)
{
    struct text before = {0};
    struct stat s;
    enum status st;
    TRY(before_path(path, &before));
    if (!lstat(before.data, &s)) goto done; /* a restart was broken off: that one is whole, the other may not be */
    if (rename(path, before.data) && errno != ENOENT)
        st = fail(ERR_IO, "%s: cannot be renamed: %s", path, strerror(errno));
done:
    text_free(&before);
    return st;
}

struct source {              /* the old file */
    const char *path, *name; /* where it is now; what it is called in messages: as it will be again if it is refused */
    hid_t id;
    size_t rows; /* committed, and of steps before the one that comes next */
};

static enum status source_open(struct source *s)
{
    enum status st = OK;
    hid_t access = H5I_INVALID_HID;
    TRY_HDF_READ(access = H5Pcreate(H5P_FILE_ACCESS), s->name, "open");
    TRY_HDF_READ(H5Pset_file_locking(access, 0, 1), s->name, "open");
    if ((s->id = H5Fopen(s->path, H5F_ACC_RDONLY, access)) < 0)
        st = fail(ERR_INPUT, "%s: cannot be read as HDF5: it was damaged; start the run anew with --overwrite", s->name);
done:
    if (access >= 0) H5Pclose(access);
    return st;
}

/* Steps rise; a row that was begun and not committed has none. */
static enum status count_rows(struct source *s, int64_t end, int64_t **step)
{
    enum status st = OK;
    hid_t data = H5I_INVALID_HID, space = H5I_INVALID_HID;
    hsize_t n = 0;
    TRY_HDF_READ(data = H5Dopen2(s->id, "step", H5P_DEFAULT), s->name, "step");
    TRY_HDF_READ(space = H5Dget_space(data), s->name, "step");
    if (H5Sget_simple_extent_ndims(space) != 1) {
        st = fail(ERR_INPUT, "%s: field step is no list: it was damaged; start the run anew with --overwrite", s->name);
        goto done;
    }
    TRY_HDF_READ(H5Sget_simple_extent_dims(space, &n, NULL), s->name, "step");
    TRY_NEW(*step, n);
    if (n) TRY_HDF_READ(H5Dread(data, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, *step), s->name, "step");
    while (s->rows < n && (*step)[s->rows] >= 0 && (*step)[s->rows] < end) s->rows++;
done:
    if (space >= 0) H5Sclose(space);
    if (data >= 0) H5Dclose(data);
    return st;
}

static size_t slab_elements(const struct column *c)
{
    size_t n = 1;
    for (int i = 1; i < c->n_axis; i++) n *= c->size[i];
    return n;
}

/* The field as it stands in the old file, with the sizes of the new one. */
static enum status open_column(const struct source *s, const struct column *c, hid_t *data, hid_t *space)
{
    enum status st = OK;
    hsize_t size[H5S_MAX_RANK] = {0};
    int n_axis = -1;
    bool same;
    if ((*data = H5Dopen2(s->id, c->name, H5P_DEFAULT)) >= 0 && (*space = H5Dget_space(*data)) >= 0)
        n_axis = H5Sget_simple_extent_dims(*space, size, NULL);
    same = n_axis == c->n_axis && size[0] >= s->rows;
    for (int i = 1; same && i < n_axis; i++) same = size[i] == c->size[i];
    if (!same)
        st = fail(ERR_INPUT,
                  "%s: field %s is not there, or has other sizes: these are the results of another input; choose another "
                  "output.directory",
                  s->name, c->name);
    return st;
}

static enum status take_one(struct file *f, const struct source *s, struct column *c, size_t row, void *slab)
{
    enum status st = OK;
    hid_t data = H5I_INVALID_HID, space = H5I_INVALID_HID, memory = H5I_INVALID_HID;
    const hid_t type = c->type == FIELD_DOUBLE ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64;
    hsize_t start[FIELD_AXES] = {row};
    TRY(open_column(s, c, &data, &space));
    TRY_HDF_READ(memory = H5Screate_simple(c->n_axis, c->size, NULL), s->name, c->name);
    TRY_HDF_READ(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, c->size, NULL), s->name, c->name);
    TRY_HDF_READ(H5Dread(data, type, memory, space, H5P_DEFAULT, slab), s->name, c->name);
    TRY(c->type == FIELD_DOUBLE ? file_put(f, c->name, slab) : file_put_int64(f, c->name, slab));
done:
    if (memory >= 0) H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    if (data >= 0) H5Dclose(data);
    return st;
}

static enum status take_rows(struct file *f, const struct source *s, const int64_t *step)
{
    size_t most = 1;
    double *slab = NULL; /* an element of either type has 8 bytes */
    enum status st = OK;
    for (size_t i = 0; i < f->n_column; i++)
        if (slab_elements(&f->column[i]) > most) most = slab_elements(&f->column[i]);
    TRY_NEW(slab, most);
    for (size_t row = 0; row < s->rows; row++) {
        for (size_t i = 0; i < f->n_column; i++)
            if (f->column[i].growing) TRY(take_one(f, s, &f->column[i], row, slab));
        TRY(file_commit(f, step[row]));
    }
done:
    free(slab);
    return st;
}

static enum status too_few(const char *path, size_t found, size_t rows)
{
    return fail(
        ERR_INPUT,
        "%s: %s, but %zu rows had been written to it before the checkpoint: put the file of that run back, or start "
        "the run anew with --overwrite",
        path, found ? "has lost rows" : "is not there any more, or holds no rows", rows);
}

/* Nothing is taken over, and the old file goes back: as long as it lies aside it counts as the whole one, and what a user puts
 * under the name would be overwritten. */
static void put_back(const char *path, const char *before)
{
    if (rename(before, path) && errno == ENOENT) unlink(path);
}

/* Opens the old file and counts its rows; s->id is none where there is no file, which is all right if no rows are missed. */
static enum status source_read(struct source *s, int64_t step, size_t rows, int64_t **steps)
{
    struct stat exists;
    enum status st = OK;
    if (!lstat(s->path, &exists)) {
        TRY(source_open(s));
        TRY(count_rows(s, step, steps));
    }
    if (s->rows < rows) st = too_few(s->name, s->rows, rows);
done:
    return st;
}

enum status file_continues(const char *path, int64_t step, size_t rows)
{
    struct text before = {0};
    struct source s = {.name = path, .id = H5I_INVALID_HID};
    struct stat exists;
    int64_t *steps = NULL;
    enum status st;
    TRY(before_path(path, &before));
    s.path = lstat(before.data, &exists) ? path : before.data;
    st = source_read(&s, step, rows, &steps);
done:
    if (s.id >= 0) H5Fclose(s.id);
    free(steps);
    text_free(&before);
    return st;
}

enum status file_continue(struct file *f, int64_t step, size_t rows)
{
    struct text before = {0};
    struct source s = {.name = f->path, .id = H5I_INVALID_HID};
    int64_t *steps = NULL;
    enum status st;
    TRY(before_path(f->path, &before));
    s.path = before.data;
    TRY(source_read(&s, step, rows, &steps));
    if (s.id < 0) goto done; /* nothing of this kind was written */
    TRY(take_rows(f, &s, steps));
    H5Fclose(s.id), s.id = H5I_INVALID_HID;
    if (unlink(before.data)) st = fail(ERR_IO, "%s: cannot be removed: %s", before.data, strerror(errno));
done:
    if (s.id >= 0) H5Fclose(s.id);
    if (st != OK && before.data) put_back(f->path, before.data);
    free(steps);
    text_free(&before);
    return st;
}
