/* output: what a run leaves behind - HDF5 files made from tables of axes and fields, the run directory, small text files.
 * The only room that calls HDF5. Everything here is Local: one process (world rank 0) holds the reduced arrays and writes
 * them; whoever calls it agrees on the status afterwards.                                                             */
#ifndef UNLEARN_OUTPUT_H
#define UNLEARN_OUTPUT_H
#include "unlearn/core.h"

/* ---------------------------------------------------------------------------------------- tables -> HDF5 files ----- */
/* An axis becomes a dimension scale: the coordinate that xarray shows. It has labels (text), values (int64), or it is the
 * file's one unlimited axis, which grows by a row with every file_commit(). Borrowed during file_create() only, as are
 * fields and attributes. long_name and units may be NULL. */
struct axis {
    const char *name, *long_name, *units;
    size_t n;                 /* unlimited: ignored */
    const char *const *label; /* [n] UTF-8, or NULL */
    const int64_t *value;     /* [n], or NULL */
    bool unlimited;
};

enum { FIELD_AXES = 6 };
enum field_type { FIELD_DOUBLE, FIELD_INT64, FIELD_TEXT }; /* text: UTF-8; not along the unlimited axis */
struct field {
    const char *name;
    const char *axis[FIELD_AXES]; /* names, slowest first, ended by NULL; the unlimited one can only be the first */
    enum field_type type;
    const char *units, *long_name; /* units "1": a pure number */
    const char *equation;          /* what the numbers are, in the notation of the paper, and its source; may be NULL */
};

struct attribute { /* of the file */
    const char *name, *text;
};

struct file; /* opaque */

/** Creates PATH, replacing a file of that name (whether one may be replaced: directory_prepare), with every coordinate
 *  but the unlimited one written. netCDF-4 style: opens with xarray, h5netcdf, netCDF4, h5py. Equal tables and numbers
 *  give equal bytes. ERR_IO names the path and the system's reason; ERR_INTERNAL: the tables contradict themselves. */
enum status file_create(const char *path, size_t n_axis, const struct axis *axis, size_t n_field,
                        const struct field *field, size_t n_attribute, const struct attribute *attribute,
                        struct file **out);

/** Writes a field: without the unlimited axis the whole of it, with it the slab of the row being built. Memory order is the
 *  order of the field's axes. What is not put reads NaN (int64: INT64_MIN). A field that the file does not have, or that
 *  has the other type, is ERR_INTERNAL. */
enum status file_put(struct file *f, const char *field, const double *slab);
enum status file_put_int64(struct file *f, const char *field, const int64_t *slab);
enum status file_put_text(struct file *f, const char *field, const char *const *text);
bool file_has(const struct file *f, const char *field);

/** Ends the row: writes the fields, and when they are in the file the coordinate `step`, the row's commit mark. A process
 *  killed at any time leaves a file that opens, and holds every committed row. A row may be visible before it is committed:
 *  its step then reads -1. ERR_IO also when the file was deleted, replaced or cut since it was created. */
enum status file_commit(struct file *f, int64_t step);
size_t file_rows(const struct file *f); /* committed so far */
size_t file_rows_before(const struct file *f,
                        int64_t step); /* without the last one, where it is of this step; f may be NULL */

/** Writes what is left, sees it onto the disk and frees f (also on failure; NULL is accepted). Returns the first failure of
 *  the file's life: after one, every call returns it, nothing more is written, and the committed rows stay. */
enum status file_close(struct file *f);

/** To go on with a file that an earlier run wrote: file_set_aside(PATH), then file_create(), then file_continue() takes the
 *  committed rows of steps below `step` over and removes the old file. Nothing is lost whenever the process is killed in
 *  between. Where there was no file, nothing happens. ERR_INPUT: the old file cannot be read, holds other fields, or fewer
 *  than so many rows. */
enum status file_set_aside(const char *path);
/** Whether file_continue() would find what it needs at PATH; nothing is changed. ERR_INPUT as there, but for other fields.  Local. */
enum status file_continues(const char *path, int64_t step, size_t rows);
enum status file_continue(struct file *f, int64_t step, size_t rows);

/* How a run opens its files: their attributes; and where it goes on with an earlier run, from which step on rows are its
 * own. Borrowed. */
struct opening {
    size_t n_attribute;
    const struct attribute *attribute;
    bool continues;
    int64_t step;
    size_t rows; /* of earlier steps that there must be */
};
/** Sees what was committed onto the disk; NULL is accepted. */
enum status file_sync(struct file *f);

/* -------------------------------------------------------------------------------------- fields of regularisers ----- */
struct field_list { /* borrowed */
    const struct field *field;
    size_t n;
    const char *when; /* the keys with which a file has these fields, for the reference; NULL: always */
};
/* A file's tables. A field with "%s" in its name stands once for each name, a regulariser's, which fills the "%s" of name and
 * long_name; "%s" in a long_name alone is the objective. An axis without values is left out: nothing may stand on it. */
struct file_tables {
    const char *title;
    size_t n_axis;
    const struct axis *axis;
    size_t n_list;
    const struct field_list *list; /* one behind the other */
    const char *objective;         /* NULL: no table names it */
    size_t n_name;
    const char *const *name;
};
/** file_create() of such tables; the title is added to the attributes. */
enum status file_create_named(const char *path, const struct file_tables *t, size_t n_attribute,
                              const struct attribute *attribute, struct file **out);
/* Takes a description of a file, for the reference of outputs: its tables, whose axes have no values, and the keys with
 * which a run leaves it. Borrowed during the call. */
typedef enum status file_say(void *to, const char *name, const char *when, const struct file_tables *t);

/* --------------------------------------------------------------------------------------------- run directory ----- */
struct directory; /* a run directory held by this process; opaque */

/** Makes PATH (with its parents) ready for a run, before anything costly is done: refuses what is no directory, cannot be
 *  written to, is used by another run that still lives (a kernel lock: a dead run's does not count) or holds the results of
 *  an earlier one; with overwrite, only results that no run of this program can have left. No result is changed yet.
 *  ERR_INPUT, with what to do. */
enum status directory_prepare(const char *path, bool overwrite, struct directory **out);
/** The same to go on with the run that PATH holds: its files stay. ERR_INPUT: there is none. */
enum status directory_resume(const char *path, struct directory **out);
/** Where the log is to be written from now on: a path of no file. */
const char *directory_log(const struct directory *d);
/** All input is good, the first result comes next: an earlier run is moved aside, into run.replaced/, by the names that this
 *  program writes, never through a link. */
enum status directory_begin(struct directory *d);
/** All results are written: what was moved aside is removed. */
enum status directory_end(struct directory *d);
/** Marks the run as finished after so many updates; whether it is, and after how many. */
enum status directory_mark(const struct directory *d, size_t updates);
enum status directory_finished(const struct directory *d, bool *finished, uint64_t *updates);
/** A run goes on from the checkpoint of this step: the mark goes, and later checkpoints, which were found damaged. */
void directory_go_on(const struct directory *d, size_t step);
/** Gives the directory free; NULL is accepted. Before directory_begin() it leaves an earlier run as it was, between begin
 *  and end it leaves it in run.replaced/, and says so in the log. */
void directory_free(struct directory *d);

/** Refuses a run into directory OUT, whether it is there or not, that would remove or replace what it reads: PATH, or what
 *  lies on the way to it through links; `what` is the key that names it. With _model a directory with the files of a model.
 *  Changes nothing. ERR_INPUT names both. */
enum status directory_spares(const char *out, const char *path, const char *what);
enum status directory_spares_model(const char *out, const char *path, const char *what);

/* Checkpoints are directories checkpoint-N of the run's directory; while one is written it is checkpoint-N.tmp. */
/** Steps N of those in directory PATH, rising; the caller frees them. */
enum status checkpoints_list(const char *path, size_t **step, size_t *n);
/** Removes one, never through a link, and nothing but files of the names that this program writes. */
void checkpoint_remove(const char *path);
/** Removes all but the newest so many, and but that of step `spared` (SIZE_MAX: none); all that are newer than step `newest`. */
void checkpoints_keep(const char *path, size_t keep, size_t spared);
void checkpoints_drop(const char *path, size_t newest);

/** Sees the names in a directory onto the disk; file systems that cannot do it need not. */
void output_sync_names(const char *directory);
/** Writes a small file so that PATH is the old or the new content, never a part: other name, fsync, rename. */
enum status output_write_text(const char *path, const char *text, size_t n);
#endif
