/* Private to the room weights: safetensors files, directories of them, files that get their names together. */
#ifndef UNLEARN_WEIGHTS_PRIV_H
#define UNLEARN_WEIGHTS_PRIV_H
#include "unlearn/weights.h"

/* --------------------------------------------------------------------------------------------- safetensors files ----- */
struct tensor { /* one entry of a header, checked: begin ... end lies in the file, and is what type and shape need */
    const char *name; /* borrowed from the header */
    const char *type; /* "F32"; static */
    size_t bits;      /* of an element */
    bool readable;    /* a type that storage_load() reads */
    enum storage storage;
    size_t n_dim, dim[8];
    uint64_t begin, end; /* bytes from the start of the file */
};
struct safetensors {
    char *path;
    json_t *header;
    size_t n;
    struct tensor *tensor; /* [n] sorted by name */
};
/** Reads and checks the header: everything that the format forbids is ERR_INPUT naming the file.                  Local. */
enum status safetensors_open(const char *path, struct safetensors **out);
void safetensors_close(struct safetensors *f);
const struct tensor *safetensors_find(const struct safetensors *f, const char *name); /* NULL: not there */
const char *safetensors_type(enum storage storage);                                   /* "F32", "BF16", ...; static */
/** Opens a regular file, and only that, for reading.                                                              Local. */
enum status safetensors_file(const char *path, int *fd, uint64_t *size);
/** All n bytes from `at` on, or ERR_INPUT.                                                                        Local. */
enum status safetensors_pread(const char *path, int fd, uint64_t at, size_t n, void *out);

/* A checkpoint directory: its files, and in which one every parameter of a layout stands. */
struct checkpoint {
    size_t n_file;
    struct safetensors **file; /* [n_file] */
    const struct tensor **at;  /* [layout->n_param]; NULL: absent, where that is allowed */
    size_t *file_of;           /* [layout->n_param] */
};
/** Checks names, shapes and types against the layout.                                                             Local. */
enum status checkpoint_open(const char *dir, const struct layout *l, struct checkpoint **out);
/** The same, but the head may be absent.                                                                          Local. */
enum status checkpoint_open_headless(const char *dir, const struct layout *l, struct checkpoint **out);
void checkpoint_close(struct checkpoint *c);

/* ------------------------------------------------------------------------------------------------ weights on disk ----- */
/* Files of a directory that get their names together. One file is open at a time. */
struct export
{
    const char *dir; /* borrowed */
    char **name;     /* [n] in order of beginning; owned */
    size_t n, room;
    int fd;
    bool committed;
    struct written *written; /* borrowed; NULL: nobody asks */
    struct file_hash hash;   /* of the open file, where somebody does */
};
enum status export_open(const char *dir, struct export *e); /* makes the directory where it is not there */
enum status export_file(struct export *e, const char *name);
enum status export_bytes(struct export *e, const void *bytes, size_t n);
enum status export_close(struct export *e);
enum status export_text(struct export *e, const char *name, const char *bytes, size_t n); /* a whole file */
enum status export_json(struct export *e, const char *name, const json_t *json);
enum status export_copy(struct export *e, const char *source, const char *name); /* where source has one */
enum status export_commit(struct export *e);
void export_end(struct export *e); /* without commit, removes what was written */
/* A share of files that one process has begun, written in place by another: {.dir = DIR, .fd = -1}. */
struct export_part {
    const char *dir; /* borrowed */
    char name[64];
    int fd;
    struct written *written; /* borrowed; NULL: nobody asks */
    struct file_hash hash;   /* of the run of bytes being written, */
    uint64_t at;             /* which begins here */
};
enum status export_part_open(struct export_part *p, const char *name); /* it stays open where it is the same again */
enum status export_part_bytes(struct export_part *p, uint64_t at, const void *bytes, size_t n);
enum status export_part_close(struct export_part *p); /* on the disk; where none is open, nothing */
/** What all processes have written, in order of files and places, to rank 0; the others have none then. Collective over grid. */
enum status written_gather(const struct grid *g, struct written *w);

/* weights_read and weights_write with buffers and files of given sizes. At least a row of a tensor fits in a buffer, and a
 * tensor in a file, whatever the size.                                                            Collective over grid. */
enum status weights_read_by(size_t buffer, const char *dir, const struct grid *g, struct state *weights, uint64_t *hash);
enum status weights_write_by(size_t buffer, uint64_t file, const char *dir, const char *source, const struct grid *g,
                             struct state *weights, enum storage storage);
#endif
