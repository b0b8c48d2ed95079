/* core: what every room needs - status, messages, memory, random numbers, clocks, JSON, files.
 * Nothing here knows about models, processes or data.                                                                */
#ifndef UNLEARN_CORE_H
#define UNLEARN_CORE_H
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef REAL real; /* float (`unlearn`) or double (`unlearn-double`): make PRECISION= */

/* ---------------------------------------------------------------------------------------------------- status ----- */
/* In order of severity: processes that disagree leave with the largest. */
#define STATUS_LIST(X) /* name, exit code, text */        \
    X(OK, 0, "done")                                      \
    X(ERR_INPUT, 1, "bad input")                          \
    X(ERR_USAGE, 2, "wrong use of the command line")      \
    X(ERR_STOPPED, 75, "stopped early with a checkpoint") \
    X(ERR_MEMORY, 3, "not enough memory")                 \
    X(ERR_IO, 3, "cannot write")                          \
    X(ERR_NUMERIC, 3, "not finite")                       \
    X(ERR_INTERNAL, 3, "internal error")
enum status {
#define X(name, code, text) name,
    STATUS_LIST(X)
#undef X
};
int status_exit(enum status st);         /* the exit code of the program */
const char *status_text(enum status st); /* a few words, static */

/** Records what went wrong, where it happens, and returns st. The first message of a process is kept until fail_clear():
 *  what fails later is mostly its consequence. Form: "FILE[:LINE[:COLUMN]]: what is wrong, and what to do".     Local. */
enum status fail(enum status st, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *fail_message(void); /* "" when nothing failed; control characters are quoted */
void fail_clear(void);
/** Copies what fits of a text; control characters become \x1b and so on: paths and keys come from files, and a terminal must
 *  never obey them.                                                                                              Local. */
void quote_controls(const char *from, char *to, size_t room);

#define TRY(call)                           \
    do {                                    \
        if ((st = (call)) != OK) goto done; \
    } while (0)
/* p = n zeroed objects of its own type; at its failure the function leaves through done with ERR_MEMORY */
#define TRY_NEW(p, n)                                                                                   \
    do {                                                                                                \
        if (!((p) = memory_new((n), sizeof *(p)))) {                                                    \
            st = fail(ERR_MEMORY, "memory: cannot allocate %zu x %zu bytes", (size_t)(n), sizeof *(p)); \
            goto done;                                                                                  \
        }                                                                                               \
    } while (0)

/* ---------------------------------------------------------------------------------------------------- memory ----- */
/** n zeroed objects of `size` bytes, aligned to 64 bytes; NULL when there is no memory or n*size overflows. n = 0 gives a
 *  pointer to nothing that may be freed. Released by free().                                                    Local. */
void *memory_new(size_t n, size_t size);
/** Room for `need` objects of `size` bytes behind *p (content kept), at least doubled; *room counts objects.       Local. */
enum status memory_grow(void **p, size_t *room, size_t need, size_t size);
size_t memory_count(void);    /* allocations by this function so far: a step must not raise it */
size_t memory_resident(void); /* bytes resident now (VmRSS), 0 where the system does not say */
size_t memory_peak(void);     /* largest resident size so far (VmHWM) */
/** Bytes that this node could still give (MemAvailable), or the control groups that the process is in if these leave less;
 *  0 where the system does not say.                                                                            Local. */
size_t memory_available(void);
/** What the control groups listed in the file `groups` (/proc/self/cgroup), of version 1 and 2, leave of their limits; `root` is where
 *  they are mounted (/sys/fs/cgroup). SIZE_MAX: there is no limit.                                            Local. */
size_t memory_in_groups(const char *groups, const char *root);

/* A stack of buffers. Lay a workspace out twice with the same code: once on an arena without memory (arena_measure), then
 * on one of arena->used bytes. arena_take never fails: too small an arena is a bug and trips an assertion. */
struct arena {
    unsigned char *base; /* owned; NULL while measuring */
    size_t size, used, peak;
};
void arena_measure(struct arena *a);                      /* take() then returns NULL and only counts */
enum status arena_new(size_t bytes, struct arena *a);     /* zeroed */
void arena_free(struct arena *a);                         /* accepts an empty one */
void *arena_take(struct arena *a, size_t n, size_t size); /* aligned to 64 bytes, content undefined */
static inline size_t arena_mark(const struct arena *a) { return a->used; }
static inline void arena_rewind(struct arena *a, size_t mark) { a->used = mark; }

/** A growing text buffer, always ended by a NUL that is not counted. {0} is empty. */
struct text {
    char *data;
    size_t n, room;
};
enum status text_add(struct text *t, const char *bytes, size_t n);
enum status text_print(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_free(struct text *t);
char *text_copy(const char *s); /* NULL without memory, and for NULL */

/* ------------------------------------------------------------------------------------------------------- log ----- */
/* One process writes (log_open elsewhere with path NULL and quiet true); lines go to standard output and to the file, which
 * must not be there yet. */
enum status log_open(const char *path, bool quiet);
/** To go on with a log: cut to `bytes`, what follows is appended. */
enum status log_continue(const char *path, size_t bytes);
size_t log_bytes(void); /* of the file so far; 0 without one */
/** Repeats the warnings first. ERR_IO: the file did not take every line; the run went on without. */
enum status log_close(void);
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2))); /* "warning: ...": quoted, kept, repeated */
size_t log_warnings(void);

/* --------------------------------------------------------------------------------------------- random numbers ----- */
/* Counter-based (Philox4x32-10, Salmon et al. 2011): a value is a function of (seed, stream, counter) alone, so any process
 * can draw any number of any stream, and a restart needs no state. */
enum random_stream {
    STREAM_ORDER = 1,
    STREAM_RETAIN,
    STREAM_REPLACEMENT,
    STREAM_WEIGHTS,
    STREAM_DIRECTION,
    STREAM_TEST,
    STREAM_ESTIMATOR,
    STREAM_GENERATION,
    STREAM_ROUNDING
};
uint64_t random_bits(uint64_t seed, uint32_t stream, uint64_t counter);
double random_uniform(uint64_t seed, uint32_t stream, uint64_t counter);         /* in [0, 1), 53 bits */
double random_normal(uint64_t seed, uint32_t stream, uint64_t counter);          /* mean 0, variance 1 (Box-Muller) */
size_t random_below(uint64_t seed, uint32_t stream, uint64_t counter, size_t n); /* in 0 ... n-1; n > 0 */
/** order[0 ... n-1] = a permutation of 0 ... n-1 (Fisher-Yates); epoch picks one of many of the same stream. */
void random_permutation(uint64_t seed, uint32_t stream, uint64_t epoch, size_t n, size_t *order);

/* ---------------------------------------------------------------------------------------------------- clocks ----- */
#define PHASE_LIST(X) /* name, text of the final table */ \
    X(PHASE_READ, "read and prepare")                     \
    X(PHASE_MEMORY, "memory")                             \
    X(PHASE_FORWARD, "forward")                           \
    X(PHASE_LOSS, "losses")                               \
    X(PHASE_BACKWARD, "backward")                         \
    X(PHASE_PRODUCTS, "inner products")                   \
    X(PHASE_OPTIMISER, "optimiser")                       \
    X(PHASE_MESSAGES, "messages")                         \
    X(PHASE_OUTPUT, "output")                             \
    X(PHASE_OTHER, "other")
enum phase {
#define X(name, text) name,
    PHASE_LIST(X)
#undef X
        N_PHASE
};
double clock_seconds(void);           /* monotonic */
enum phase phase_enter(enum phase p); /* from now on time goes to p; returns the phase it went to before */
double phase_seconds(enum phase p);   /* so far */
const char *phase_text(enum phase p);

/* ---------------------------------------------------------------------------------------------- packed batch ----- */
#define LABEL_NONE (-100) /* a token that is read but not to be predicted */

/* Sequences laid end to end without padding: what `data` builds and `model` reads. "Outputs" are the rows whose
 * next-token distribution is wanted: those before a labelled token, or all of them. Arrays live in one block owned by
 * whoever built the batch. */
struct batch {
    size_t n_seq, n_row, n_out, longest; /* sequences, tokens, outputs, tokens of the longest sequence */
    size_t *first;                       /* [n_seq+1] rows first[i] ... first[i+1]-1 belong to sequence i */
    int32_t *id, *position;              /* [n_row] token, and its place in its sequence from 0 */
    size_t *out_first;                   /* [n_seq+1] the same for outputs */
    size_t *out_row;                     /* [n_out] the row that an output is computed from */
    int32_t *out_id;                     /* [n_out] the labelled next token, or -1 where there is none */
    size_t *item;                        /* [n_seq] which item of the caller's list the sequence is */
    unsigned char *hidden;               /* [n_row] 1: attention does not see it as a key; NULL: none */
    int32_t *place; /* [n_row] its place in its sequence, where `position` counts otherwise; NULL: position */
};

/* ---------------------------------------------------------------------------------------- files, JSON, hashes ----- */
/** The whole of a regular file (never a device, pipe or directory), NUL-ended; *n without the NUL. ERR_INPUT with the
 *  path and the reason; a file of more than `most` bytes is refused before it is read, and so is a Git LFS pointer. Local. */
enum status file_read(const char *path, size_t most, char **text, size_t *n);
enum status file_read_any(const char *path, size_t most, char **text, size_t *n); /* pointers too */
/** What a repository cloned without Git LFS has in place of a large file; ERR_INPUT with the path and what to do.  Local. */
bool is_lfs_pointer(const void *bytes, size_t n);
enum status check_lfs_pointer(const char *path, const void *bytes, size_t n);
enum status path_join(const char *dir, const char *name, char **path); /* owned by the caller */
/* fsync() and ftruncate(), again where a signal has broken them off. */
int sync_fd(int fd);
int truncate_fd(int fd, off_t length);
bool file_exists(const char *path);

/** Strict JSON: duplicates, a BOM, trailing text and nesting beyond jansson's limit are ERR_INPUT with FILE:LINE:COLUMN.
 *  `where` names the file, `line` is added to the parser's (a row of a JSON Lines file); the caller json_decref()s. NaN,
 *  Infinity, numbers that do not fit and texts with half of a surrogate pair are read as a value that is neither number
 *  nor text, list or null.                                                                                      Local. */
enum status json_parse(const char *where, size_t line, const char *text, size_t n, json_t **out);
enum status json_read(const char *path, size_t most, json_t **out);
/** JSON as text, with jansson's flags; NULL without memory, for NULL, and where a text is not UTF-8. Released by free(). For
 *  json_dumps(), which goes on where there is no memory for a key, and returns JSON without it.                   Local. */
char *json_text(const json_t *json, size_t flags);
const char *json_odd(const json_t *j); /* how such a value is written, "NaN"; NULL: it is another */
bool json_is_map(const json_t *j);     /* an object, and no such value */
void json_unmark(char *text);          /* what json_dumps() wrote, with such values as they were read; in place */

/* Members of an object. `where` names the file; absent and null are the same and leave *out alone. ERR_INPUT names file, key and range. */
enum status key_size(const char *where, const json_t *object, const char *key, size_t least, size_t most, size_t *out);
enum status key_number(const char *where, const json_t *object, const char *key, double least, double most, double *out);
enum status key_flag(const char *where, const json_t *object, const char *key, bool *out);
enum status key_text(const char *where, const json_t *object, const char *key, const char **out); /* borrowed */
/** ERR_INPUT: what stands under `key` is not `needed`, "a whole number". */
enum status key_wrong(const char *where, const char *key, const json_t *j, const char *needed);
/** The member unless it is null. */
const json_t *key_find(const json_t *object, const char *key);

uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed); /* XXH3-64 */
/** The hash of a file while it is written: of chunks of HASH_CHUNK bytes, and of what is left at the end, each seeded with
 *  the hash of those before it.                                                                                  Local. */
enum { HASH_CHUNK = 4 << 20 };
struct file_hash {
    void *state; /* owned until the end */
    size_t in_chunk;
    uint64_t bytes, hash; /* so far; whole at the end */
};
enum status file_hash_begin(struct file_hash *h);
void file_hash_add(struct file_hash *h, const void *bytes, size_t n);
void file_hash_end(struct file_hash *h); /* once, or without harm again */
static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
#endif
