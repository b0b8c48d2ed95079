/* Writing the rows of a file, so that whatever happens to the process or the disk the committed rows stay. */
#define _GNU_SOURCE /* fallocate, memfd_create */
#include "unlearn/output_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { METADATA_BYTES = 16 << 10 }; /* more than HDF5 adds to a field's index with one row */

/* The innermost entry of HDF5's error stack says most. */
static herr_t take_first(unsigned n, const H5E_error2_t *error, void *text)
{
    snprintf(text, 512, "%s", error->desc ? error->desc : "");
    return 1;
}

/* Failed system calls read "...: time = ..., errno = 28, error message = 'No space left on device', buf = ...". */
static void keep_system_message(char *text)
{
    char *from = strstr(text, "error message = '"), *end;
    if (!from) return;
    from += strlen("error message = '");
    if (!(end = strchr(from, '\''))) return;
    *end = 0;
    memmove(text, from, strlen(from) + 1);
}

enum { REASON_ROOM = 512 };

static const char *reason(char text[REASON_ROOM])
{
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, text);
    keep_system_message(text);
    return text[0] ? text : "HDF5 gives no reason";
}

enum status hdf_fail(const char *path, const char *what)
{
    char text[REASON_ROOM] = "";
    return fail(ERR_IO, "%s: cannot write (%s): %s", path, what, reason(text));
}

enum status hdf_fail_read(const char *path, const char *what)
{
    char text[REASON_ROOM] = "";
    return fail(ERR_INPUT,
                "%s: cannot be read (%s): %s; put an undamaged copy back, or start the run anew with --overwrite", path,
                what, reason(text));
}

static struct column *find_column(const struct file *f, const char *name)
{
    for (size_t i = 0; i < f->n_column; i++)
        if (!strcmp(f->column[i].name, name)) return &f->column[i];
    return NULL;
}

bool file_has(const struct file *f, const char *field) { return find_column(f, field) != NULL; }
size_t file_rows(const struct file *f) { return (size_t)f->rows; }

size_t file_rows_before(const struct file *f, int64_t step)
{
    return f ? (size_t)f->rows - (f->rows > 0 && f->step_last >= step) : 0;
}

/* What is not written of a new row reads as the fill value. */
static enum status extend(const struct file *f, const struct column *c, hsize_t rows)
{
    enum status st = OK;
    hsize_t size[FIELD_AXES];
    memcpy(size, c->size, sizeof size);
    size[0] = rows;
    TRY_HDF(H5Dset_extent(c->data, size), f->path, c->name);
done:
    return st;
}

static enum status write_slab(const struct file *f, const struct column *c, hid_t type, const void *slab)
{
    enum status st = OK;
    hid_t from = H5I_INVALID_HID, to = H5I_INVALID_HID;
    hsize_t start[FIELD_AXES] = {f->rows};
    if (!c->growing) {
        TRY_HDF(H5Dwrite(c->data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, slab), f->path, c->name);
        return OK;
    }
    TRY(extend(f, c, f->rows + 1));
    TRY_HDF(from = H5Screate_simple(c->n_axis, c->size, NULL), f->path, c->name);
    TRY_HDF(to = H5Dget_space(c->data), f->path, c->name);
    TRY_HDF(H5Sselect_hyperslab(to, H5S_SELECT_SET, start, NULL, c->size, NULL), f->path, c->name);
    TRY_HDF(H5Dwrite(c->data, type, from, to, H5P_DEFAULT, slab), f->path, c->name);
done:
    if (from >= 0) H5Sclose(from);
    if (to >= 0) H5Sclose(to);
    return st;
}

static enum status put(struct file *f, const char *field, enum field_type type, hid_t memory, const void *slab)
{
    const struct column *c = find_column(f, field);
    if (f->st != OK) return f->st;
    if (!c || c->type != type)
        return f->st = fail(ERR_INTERNAL, "%s: %s field %s", f->path, c ? "wrong type for the" : "has no", field);
    return f->st = write_slab(f, c, memory, slab);
}

enum status file_put(struct file *f, const char *field, const double *slab)
{
    return put(f, field, FIELD_DOUBLE, H5T_NATIVE_DOUBLE, slab);
}

enum status file_put_int64(struct file *f, const char *field, const int64_t *slab)
{
    return put(f, field, FIELD_INT64, H5T_NATIVE_INT64, slab);
}

enum status file_put_text(struct file *f, const char *field, const char *const *text)
{
    hid_t type = H5I_INVALID_HID;
    enum status st = OK;
    TRY_HDF(type = H5Tcopy(H5T_C_S1), f->path, field);
    TRY_HDF(H5Tset_size(type, H5T_VARIABLE), f->path, field);
    TRY_HDF(H5Tset_cset(type, H5T_CSET_UTF8), f->path, field);
    TRY(put(f, field, FIELD_TEXT, type, text));
done:
    if (type >= 0) H5Tclose(type);
    return st;
}

/* Writing on into a file that nobody can reach any more would lose the results silently. */
static enum status still_ours(const struct file *f)
{
    struct stat s;
    if (stat(f->path, &s))
        return fail(ERR_IO, "%s: is no longer there (%s); it must not be moved while a run writes it", f->path,
                    strerror(errno));
    if (s.st_dev != f->device || s.st_ino != f->inode)
        return fail(ERR_IO, "%s: was replaced by another file while this run was writing it", f->path);
    if (s.st_size < f->length) return fail(ERR_IO, "%s: was cut while this run was writing it", f->path);
    return OK;
}

/* All that this row can add to the file. */
static size_t growth(const struct file *f)
{
    size_t most = METADATA_BYTES * (f->n_column + 1);
    for (size_t i = 0; i < f->n_column; i++) {
        const struct column *c = &f->column[i];
        if (!c->growing || f->rows % c->chunk_rows == 0) most += c->chunk_bytes;
    }
    return most;
}

/* A disk that fills up in the middle of a flush would leave a file that does not open: so the space comes first. File
 * systems without preallocation go on without. */
static enum status reserve(const struct file *f, hsize_t length, size_t more)
{
    int no;
    do no = fallocate(f->fd, 0, (off_t)length, (off_t)more);
    while (no && errno == EINTR);
    if (no && (errno == EOPNOTSUPP || errno == ENOSYS)) no = truncate_fd(f->fd, (off_t)(length + more));
    if (!no) return OK;
    return fail(ERR_IO, "%s: cannot write: %s", f->path, strerror(errno));
}

enum status file_flush(struct file *f)
{
    enum status st = OK;
    hsize_t length;
    TRY_HDF(H5Fget_filesize(f->id, &length), f->path, "flush");
    TRY(reserve(f, length, growth(f)));
    superblock_state_length(f->fd, length + growth(f));
    TRY_HDF(H5Fflush(f->id, H5F_SCOPE_GLOBAL), f->path, "flush");
    TRY_HDF(H5Fget_filesize(f->id, &length), f->path, "flush");
    superblock_state_length(f->fd, length);
    f->length = (off_t)length;
    if (truncate_fd(f->fd, f->length)) st = fail(ERR_IO, "%s: cannot write: %s", f->path, strerror(errno));
done:
    return st;
}

static enum status commit(struct file *f, int64_t step)
{
    enum status st = OK;
    hid_t from = H5I_INVALID_HID, to = H5I_INVALID_HID;
    const hsize_t one = 1, rows = f->rows + 1;
    TRY(still_ours(f));
    for (size_t i = 0; i < f->n_column; i++)
        if (f->column[i].growing) TRY(extend(f, &f->column[i], f->rows + 1));
    TRY(file_flush(f));
    TRY_HDF(H5Dset_extent(f->step, &rows), f->path, "step");
    TRY_HDF(from = H5Screate_simple(1, &one, NULL), f->path, "step");
    TRY_HDF(to = H5Dget_space(f->step), f->path, "step");
    TRY_HDF(H5Sselect_hyperslab(to, H5S_SELECT_SET, &f->rows, NULL, &one, NULL), f->path, "step");
    TRY_HDF(H5Dwrite(f->step, H5T_NATIVE_INT64, from, to, H5P_DEFAULT, &step), f->path, "step");
    TRY(file_flush(f));
    f->rows++, f->step_last = step;
done:
    if (from >= 0) H5Sclose(from);
    if (to >= 0) H5Sclose(to);
    return st;
}

enum status file_commit(struct file *f, int64_t step)
{
    if (f->st != OK) return f->st;
    if (f->step < 0) return f->st = fail(ERR_INTERNAL, "%s: has no unlimited axis to commit a row to", f->path);
    return f->st = commit(f, step);
}

static void keep(struct file *f, bool good, const char *what)
{
    if (!good && f->st == OK) f->st = hdf_fail(f->path, what);
}

/* HDF5 would write what it still holds at any close, and at exit, after a failure too, and so spoil the file: write calls
 * that fail halfway left it unreadable. From here on it writes into a file that nobody sees. */
static void abandon(struct file *f)
{
    int nowhere = memfd_create("abandoned", MFD_CLOEXEC);
    if (nowhere < 0) return;
    dup2(nowhere, f->fd);
    close(nowhere);
}

static enum status finish(struct file *f)
{
    enum status st = OK;
    TRY(still_ours(f));
    for (size_t i = 0; i < f->n_column; i++) /* a row that was begun and not committed */
        if (f->column[i].growing) TRY(extend(f, &f->column[i], f->rows));
    TRY(file_flush(f));
    if (sync_fd(f->fd)) st = fail(ERR_IO, "%s: cannot write: %s", f->path, strerror(errno));
done:
    return st;
}

enum status file_sync(struct file *f)
{
    if (!f || f->st != OK) return f ? f->st : OK;
    if (sync_fd(f->fd)) f->st = fail(ERR_IO, "%s: cannot write: %s", f->path, strerror(errno));
    return f->st;
}

enum status file_close(struct file *f)
{
    enum status st;
    if (!f) return OK;
    if (f->st == OK) f->st = finish(f);
    if (f->st != OK && f->fd >= 0) abandon(f);
    for (size_t i = 0; i < f->n_column; i++)
        if (f->column[i].data >= 0) keep(f, H5Dclose(f->column[i].data) >= 0, f->column[i].name);
    if (f->step >= 0) keep(f, H5Dclose(f->step) >= 0, "step");
    if (f->id >= 0) keep(f, H5Fclose(f->id) >= 0, "close");
    st = f->st;
    for (size_t i = 0; i < f->n_column; i++) free(f->column[i].name);
    free(f->column);
    free(f->path);
    free(f);
    return st;
}
