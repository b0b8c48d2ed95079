/* output, private: a file being written; the names in a run's directory, and the earlier run there. */
#ifndef UNLEARN_OUTPUT_PRIV_H
#define UNLEARN_OUTPUT_PRIV_H
#include "unlearn/output.h"
#include <hdf5.h>
#include <sys/types.h>
#if !H5_VERSION_GE(1, 10, 7) || (H5_VERSION_GE(1, 11, 0) && !H5_VERSION_GE(1, 12, 1)) /* no H5Pset_file_locking() */
#error HDF5 1.10.7 or newer is needed, but not 1.12.0: see INSTALL
#endif

struct column { /* one field of the file */
    char *name; /* owned */
    hid_t data;
    enum field_type type;
    int n_axis;
    hsize_t size[FIELD_AXES]; /* of what one put writes: 1 along the unlimited axis */
    bool growing;             /* has the unlimited axis */
    size_t chunk_rows;        /* rows that share chunks ... */
    size_t chunk_bytes;       /* ... which take so much space together */
};
struct file {
    char *path; /* owned */
    hid_t id, step;
    int fd;       /* HDF5's descriptor; borrowed */
    dev_t device; /* which file the path meant when it was created */
    ino_t inode;
    off_t length; /* of the file after the last flush */
    size_t n_column;
    struct column *column; /* owned */
    hsize_t rows;
    int64_t step_last; /* of the row committed last; -1: there is none */
    enum status st;    /* the first failure */
};

/** The failure of an HDF5 call: `what` it did to `path`, and the library's innermost reason. */
enum status hdf_fail(const char *path, const char *what);
enum status hdf_fail_read(const char *path,
                          const char *what); /* the same of a file that an earlier run left: ERR_INPUT */
/** Brings everything that HDF5 holds into the file; nothing of it when there is no space for all of it. */
enum status file_flush(struct file *f);

/** Writes `length` as the file's end into its superblock. False, and nothing done, where that is not one of version 2. */
bool superblock_state_length(int fd, uint64_t length);

#define RUN_LOCK     "run.lock"
#define RUN_LOG      "run.log"
#define RUN_LOG_NEXT "run.log.tmp" /* of a run that has not begun to replace the earlier one */
#define RUN_FINISHED "run.finished"
#define RUN_REPLACED "run.replaced" /* the directory where the earlier run waits until the new one is written */

/** Whether a run writes a file of this name into its directory, or into model/; with or without .tmp. */
bool written_by_run(const char *name);
bool written_to_model(const char *name);

/** Whether it is the name of a checkpoint, written or being written. */
bool checkpoint_name(const char *name, size_t *step);
/** checkpoint_remove() of a name in the directory `at`. */
void checkpoint_remove_at(int at, const char *name);

/* `path` is the directory's name for messages, `directory` its descriptor. */
/** The name of a result in the directory; NULL: it holds no earlier run. */
const char *earlier_found(int directory);
/** Whether a run of this program has written its resolved input there. */
bool earlier_proven(int directory);
/** Refuses to replace what no run of this program has written, or what cannot be replaced. Changes nothing. */
enum status earlier_check(const char *path, int directory, const char *found);
/** The same for a run.log alone. */
enum status earlier_check_log(const char *path, int directory);
/** Moves the earlier run into RUN_REPLACED, freed of what a removal has left there; where a whole one waits there, removes
 *  the one that was to replace it. */
enum status earlier_set_aside(const char *path, int directory);
/** Removes what waits in RUN_REPLACED. */
enum status earlier_remove(const char *path, int directory);

#define TRY_HDF_OR(failure, call, path, what) \
    do {                                      \
        if ((call) < 0) {                     \
            st = failure(path, what);         \
            goto done;                        \
        }                                     \
    } while (0)
#define TRY_HDF(call, path, what)      TRY_HDF_OR(hdf_fail, call, path, what)
#define TRY_HDF_READ(call, path, what) TRY_HDF_OR(hdf_fail_read, call, path, what)
#endif
