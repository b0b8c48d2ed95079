/* output, private: a file being written. */
#ifndef UNLEARN_OUTPUT_PRIV_H
#define UNLEARN_OUTPUT_PRIV_H
#include "unlearn/output.h"
#include <hdf5.h>
#include <sys/types.h>

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
    enum status st; /* the first failure */
};

/** The failure of an HDF5 call: `what` it did to `path`, and the library's innermost reason. */
enum status hdf_fail(const char *path, const char *what);
/** Brings everything that HDF5 holds into the file; nothing of it when there is no space for all of it. */
enum status file_flush(struct file *f);

/** Writes `length` as the file's end into its superblock. False, and nothing done, where that is not one of version 2. */
bool superblock_state_length(int fd, uint64_t length);

#define TRY_HDF(call, path, what)      \
    do {                               \
        if ((call) < 0) {              \
            st = hdf_fail(path, what); \
            goto done;                 \
        }                              \
    } while (0)
#endif
