/* Creating a file from tables of axes and fields.
 *
 * Each ingredient is there because a reader needs it: dimension scales give xarray names and coordinates; tracked creation
 * order lets netCDF4 append; labels of variable length are text in every reader; _FillValue makes what was not written NaN.
 * Format 1.8: dense attributes, hence any number of fields on an axis, and readable by old tools; nothing of it marks the
 * file as open, so what a killed process leaves can be opened. No time stamps: equal runs give equal bytes. */
#include "unlearn/output_priv.h"
#include <hdf5_hl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A chunk of rows of one field: small enough for HDF5's cache of 1 MB per dataset, large enough for readers, and of the
 * table's sizes alone, so that no layout of processes shows in the file. */
enum { CHUNK_BYTES = 64 << 10, CHUNK_ROWS = 1024, CHUNK_MOST = 1 << 20 };

static const int64_t STEP_NOT_COMMITTED = -1;

/* HDF5 ends itself at exit, and where it began after MPI, in MPI_Finalize; both crash on a file that could not be closed. So
 * it begins before MPI, and is told not to. */
__attribute__((constructor)) static void begin_hdf5(void)
{
    H5dont_atexit();
    H5open();
}

struct creation { /* what is open while a file is being created */
    const char *path;
    hid_t file, text; /* text: the type of labels and attributes */
    size_t n_axis;
    const struct axis *axis;
    hid_t *scale; /* [n_axis] */
};

static enum status put_attribute(const struct creation *c, hid_t owner, const char *name, const char *text)
{
    enum status st = OK;
    hid_t space = H5I_INVALID_HID, attribute = H5I_INVALID_HID;
    if (!text) return OK;
    TRY_HDF(space = H5Screate(H5S_SCALAR), c->path, name);
    TRY_HDF(attribute = H5Acreate2(owner, name, c->text, space, H5P_DEFAULT, H5P_DEFAULT), c->path, name);
    TRY_HDF(H5Awrite(attribute, c->text, &text), c->path, name);
done:
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    return st;
}

static enum status put_fill_value(const struct creation *c, hid_t owner, hid_t type, const void *value)
{
    enum status st = OK;
    hid_t space = H5I_INVALID_HID, attribute = H5I_INVALID_HID;
    TRY_HDF(space = H5Screate_simple(1, (const hsize_t[]){1}, NULL), c->path, "_FillValue");
    TRY_HDF(attribute = H5Acreate2(owner, "_FillValue", type, space, H5P_DEFAULT, H5P_DEFAULT), c->path, "_FillValue");
    TRY_HDF(H5Awrite(attribute, type, value), c->path, "_FillValue");
done:
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    return st;
}

static enum status creation_properties(const char *path, hid_t class, hid_t *out)
{
    enum status st = OK;
    unsigned order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
    TRY_HDF(*out = H5Pcreate(class), path, "create");
    TRY_HDF(H5Pset_attr_creation_order(*out, order), path, "create");
    TRY_HDF(H5Pset_obj_track_times(*out, 0), path, "create");
    if (class == H5P_FILE_CREATE) TRY_HDF(H5Pset_link_creation_order(*out, order), path, "create");
done:
    return st;
}

/* A field's index comes into being with its first chunk; made now, and emptied again, a kill while the first row is written
 * finds it complete. */
static enum status make_index(const struct creation *c, hid_t data, const char *name, hid_t type, const void *nothing)
{
    enum status st = OK;
    hid_t all = H5I_INVALID_HID, one = H5I_INVALID_HID;
    hsize_t size[FIELD_AXES], first[FIELD_AXES] = {0};
    int n_axis;
    TRY_HDF(all = H5Dget_space(data), c->path, name);
    TRY_HDF(n_axis = H5Sget_simple_extent_dims(all, size, NULL), c->path, name);
    H5Sclose(all);
    size[0] = 1;
    TRY_HDF(H5Dset_extent(data, size), c->path, name);
    TRY_HDF(all = H5Dget_space(data), c->path, name);
    TRY_HDF(one = H5Screate(H5S_SCALAR), c->path, name);
    TRY_HDF(H5Sselect_elements(all, H5S_SELECT_SET, 1, first), c->path, name);
    TRY_HDF(H5Dwrite(data, type, one, all, H5P_DEFAULT, nothing), c->path, name);
    TRY_HDF(H5Dflush(data), c->path, name);
    size[0] = 0;
    TRY_HDF(H5Dset_extent(data, size), c->path, name);
done:
    if (one >= 0) H5Sclose(one);
    if (all >= 0) H5Sclose(all);
    return st;
}

/* Without HDF5's lock, so that a run can be looked at while it writes; one writer per directory is directory_prepare's. */
static enum status open_file(struct creation *c)
{
    enum status st = OK;
    hid_t creation = H5I_INVALID_HID, access = H5I_INVALID_HID;
    TRY(creation_properties(c->path, H5P_FILE_CREATE, &creation));
    TRY_HDF(access = H5Pcreate(H5P_FILE_ACCESS), c->path, "create");
    TRY_HDF(H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18), c->path, "create");
    TRY_HDF(H5Pset_file_locking(access, 0, 1), c->path, "create");
    TRY_HDF(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), c->path, "create");
    TRY_HDF(c->file = H5Fcreate(c->path, H5F_ACC_TRUNC, creation, access), c->path, "create");
done:
    if (access >= 0) H5Pclose(access);
    if (creation >= 0) H5Pclose(creation);
    return st;
}

static enum status describe(const struct creation *c, hid_t data, const char *long_name, const char *units,
                            const char *equation)
{
    enum status st = OK;
    TRY(put_attribute(c, data, "long_name", long_name));
    TRY(put_attribute(c, data, "units", units));
    TRY(put_attribute(c, data, "equation", equation));
done:
    return st;
}

static enum status create_axis(const struct creation *c, const struct axis *a, hid_t *scale)
{
    enum status st = OK;
    hid_t space = H5I_INVALID_HID, create = H5I_INVALID_HID, type = a->label ? c->text : H5T_NATIVE_INT64;
    hsize_t n = a->unlimited ? 0 : a->n, most = a->unlimited ? H5S_UNLIMITED : a->n;
    if (!a->unlimited && (!a->n || !(a->label || a->value)))
        return fail(ERR_INTERNAL, "%s: axis %s is empty", c->path, a->name);
    TRY(creation_properties(c->path, H5P_DATASET_CREATE, &create));
    if (a->unlimited) {
        TRY_HDF(H5Pset_chunk(create, 1, (const hsize_t[]){CHUNK_ROWS}), c->path, a->name);
        TRY_HDF(H5Pset_fill_value(create, H5T_NATIVE_INT64, &STEP_NOT_COMMITTED), c->path, a->name);
    }
    TRY_HDF(space = H5Screate_simple(1, &n, &most), c->path, a->name);
    TRY_HDF(*scale =
                H5Dcreate2(c->file, a->name, a->label ? c->text : H5T_STD_I64LE, space, H5P_DEFAULT, create, H5P_DEFAULT),
            c->path, a->name);
    TRY_HDF(H5DSset_scale(*scale, a->name), c->path, a->name);
    TRY(describe(c, *scale, a->long_name, a->units, NULL));
    if (a->unlimited) TRY(make_index(c, *scale, a->name, H5T_NATIVE_INT64, &STEP_NOT_COMMITTED));
    if (n) {
        const void *content = a->label ? (const void *)a->label : a->value;
        TRY_HDF(H5Dwrite(*scale, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, content), c->path, a->name);
    }
done:
    if (space >= 0) H5Sclose(space);
    if (create >= 0) H5Pclose(create);
    return st;
}

/* Whole rows up to CHUNK_BYTES; a row beyond CHUNK_MOST is cut along its slowest axes. */
static void choose_chunk(struct column *c, hsize_t *chunk)
{
    size_t bytes = sizeof(double);
    for (int i = 0; i < c->n_axis; i++) {
        chunk[i] = c->size[i] ? c->size[i] : 1;
        bytes *= chunk[i];
    }
    for (int i = 1; i < c->n_axis && bytes > CHUNK_MOST; i++) {
        size_t rest = bytes / chunk[i];
        chunk[i] = rest < CHUNK_MOST ? CHUNK_MOST / rest : 1;
        bytes = rest * chunk[i];
    }
    chunk[0] = bytes < CHUNK_BYTES ? CHUNK_BYTES / bytes : 1;
    if (chunk[0] > CHUNK_ROWS) chunk[0] = CHUNK_ROWS;
    c->chunk_rows = c->chunk_bytes = chunk[0];
    c->chunk_bytes *= sizeof(double);
    for (int i = 1; i < c->n_axis; i++) c->chunk_bytes *= (c->size[i] + chunk[i] - 1) / chunk[i] * chunk[i];
}

static enum status column_properties(const struct creation *c, struct column *column, hid_t *out)
{
    enum status st = OK;
    const double nothing = NAN;
    const int64_t nothing_int64 = INT64_MIN;
    hsize_t chunk[FIELD_AXES];
    TRY(creation_properties(c->path, H5P_DATASET_CREATE, out));
    if (column->type == FIELD_DOUBLE)
        TRY_HDF(H5Pset_fill_value(*out, H5T_NATIVE_DOUBLE, &nothing), c->path, column->name);
    else if (column->type == FIELD_INT64)
        TRY_HDF(H5Pset_fill_value(*out, H5T_NATIVE_INT64, &nothing_int64), c->path, column->name);
    if (column->growing) {
        choose_chunk(column, chunk);
        TRY_HDF(H5Pset_chunk(*out, column->n_axis, chunk), c->path, column->name);
    }
done:
    return st;
}

static enum status find_axes(const struct creation *c, const struct field *field, struct column *column, size_t *axis)
{
    for (column->n_axis = 0; column->n_axis < FIELD_AXES && field->axis[column->n_axis]; column->n_axis++) {
        size_t i = 0;
        while (i < c->n_axis && strcmp(c->axis[i].name, field->axis[column->n_axis]) != 0) i++;
        if (i == c->n_axis)
            return fail(ERR_INTERNAL, "%s: field %s has an unknown axis %s", c->path, field->name,
                        field->axis[column->n_axis]);
        if (c->axis[i].unlimited && column->n_axis)
            return fail(ERR_INTERNAL, "%s: field %s: the unlimited axis must be the first", c->path, field->name);
        if (c->axis[i].unlimited) column->growing = true;
        column->size[column->n_axis] = c->axis[i].unlimited ? 1 : c->axis[i].n;
        axis[column->n_axis] = i;
    }
    return OK;
}

static enum status create_column(const struct creation *c, const struct field *field, struct column *column)
{
    enum status st = OK;
    hid_t space = H5I_INVALID_HID, create = H5I_INVALID_HID;
    const hid_t types[] = {[FIELD_DOUBLE] = H5T_IEEE_F64LE, [FIELD_INT64] = H5T_STD_I64LE, [FIELD_TEXT] = c->text};
    const hid_t type = types[field->type];
    hsize_t now[FIELD_AXES], most[FIELD_AXES];
    size_t axis[FIELD_AXES] = {0};
    hid_t memory = field->type == FIELD_DOUBLE ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64;
    const double nothing = NAN;
    const int64_t nothing_int64 = INT64_MIN;
    const void *fill = field->type == FIELD_DOUBLE ? (const void *)&nothing : &nothing_int64;
    column->type = field->type;
    if (!(column->name = text_copy(field->name))) return fail(ERR_MEMORY, "%s: no memory", c->path);
    TRY(find_axes(c, field, column, axis));
    if (column->growing && field->type == FIELD_TEXT)
        return fail(ERR_INTERNAL, "%s: field %s: text cannot grow", c->path, field->name);
    for (int i = 0; i < column->n_axis; i++) now[i] = most[i] = column->size[i];
    if (column->growing) now[0] = 0, most[0] = H5S_UNLIMITED;
    TRY(column_properties(c, column, &create));
    TRY_HDF(space = H5Screate_simple(column->n_axis, now, most), c->path, field->name);
    TRY_HDF(column->data = H5Dcreate2(c->file, field->name, type, space, H5P_DEFAULT, create, H5P_DEFAULT), c->path,
            field->name);
    for (int i = 0; i < column->n_axis; i++)
        TRY_HDF(H5DSattach_scale(column->data, c->scale[axis[i]], (unsigned)i), c->path, field->name);
    if (field->type != FIELD_TEXT) TRY(put_fill_value(c, column->data, memory, fill));
    if (column->growing) TRY(make_index(c, column->data, field->name, memory, fill));
    TRY(describe(c, column->data, field->long_name, field->units, field->equation));
done:
    if (space >= 0) H5Sclose(space);
    if (create >= 0) H5Pclose(create);
    return st;
}

/* Remembers which file the path means, and takes over the unlimited coordinate. */
static enum status identify(struct creation *c, struct file *f)
{
    enum status st = OK;
    struct stat s;
    for (size_t i = 0; i < c->n_axis; i++)
        if (c->axis[i].unlimited) f->step = c->scale[i], c->scale[i] = H5I_INVALID_HID;
    TRY(file_flush(f));
    if (fstat(f->fd, &s)) {
        st = hdf_fail(f->path, "create");
        goto done;
    }
    f->device = s.st_dev, f->inode = s.st_ino;
done:
    return st;
}

static enum status create_all(struct creation *c, struct file *f, const struct field *field, size_t n_attribute,
                              const struct attribute *attribute)
{
    enum status st = OK;
    int *fd = NULL;
    TRY_HDF(c->text = H5Tcopy(H5T_C_S1), c->path, "create");
    TRY_HDF(H5Tset_size(c->text, H5T_VARIABLE), c->path, "create");
    TRY_HDF(H5Tset_cset(c->text, H5T_CSET_UTF8), c->path, "create");
    TRY(open_file(c));
    f->id = c->file;
    TRY_HDF(H5Fget_vfd_handle(f->id, H5P_DEFAULT, (void **)&fd), f->path, "create");
    f->fd = *fd;
    for (size_t i = 0; i < n_attribute; i++) TRY(put_attribute(c, c->file, attribute[i].name, attribute[i].text));
    for (size_t i = 0; i < c->n_axis; i++) TRY(create_axis(c, &c->axis[i], &c->scale[i]));
    for (size_t i = 0; i < f->n_column; i++) TRY(create_column(c, &field[i], &f->column[i]));
    TRY(identify(c, f));
done:
    return st;
}

enum status file_create(const char *path, size_t n_axis, const struct axis *axis, size_t n_field,
                        const struct field *field, size_t n_attribute, const struct attribute *attribute,
                        struct file **out)
{
    enum status st = OK;
    struct file *f = *out = NULL;
    struct creation c = {.path = path, .file = -1, .text = -1, .n_axis = n_axis, .axis = axis};
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* its messages become ours */
    TRY_NEW(c.scale, n_axis);
    for (size_t i = 0; i < n_axis; i++) c.scale[i] = H5I_INVALID_HID;
    TRY_NEW(f, 1);
    f->id = f->step = H5I_INVALID_HID;
    f->step_last = -1;
    f->fd = -1;
    TRY_NEW(f->column, n_field);
    for (f->n_column = 0; f->n_column < n_field; f->n_column++) f->column[f->n_column].data = H5I_INVALID_HID;
    if (!(f->path = text_copy(path))) {
        st = fail(ERR_MEMORY, "%s: no memory", path);
        goto done;
    }
    TRY(create_all(&c, f, field, n_attribute, attribute));
done:
    for (size_t i = 0; st == OK && i < n_axis; i++) /* after a failure file_close() closes all, into nowhere */
        if (c.scale[i] >= 0 && H5Dclose(c.scale[i]) < 0) st = hdf_fail(path, axis[i].name);
    free(c.scale);
    if (c.text >= 0) H5Tclose(c.text);
    if (f) f->st = st;
    if (st == OK) {
        *out = f;
        return OK;
    }
    file_close(f);
    if (c.file >= 0) unlink(path);
    return st;
}
