/* Preloaded into the program by tests/faults.py: its n-th call of a kind fails, or kills the process, or takes long.
 *     FAULT_CALL  malloc | write | space | fsync | rename | open | remove | gemm, or several with commas
 *     FAULT_N     which one, from 1; of all that match
 *     FAULT_HOW   nan (gemm: an element of its result), kill, stop (SIGUSR1), sleep (4 s), short (half is written), a number of errno; of malloc: no memory
 *     FAULT_LAST  so many calls in a row (1); 0: that one and all after it
 *     FAULT_RANK  the process that it is for; without it, all
 *     FAULT_PATH  only of files with this in their path; for malloc, only when called by a library or program of this name
 *     FAULT_SINCE counts from when a file with this in its path was opened first
 *     FAULT_MARK  a file that is made when it happens
 *     FAULT_STACK n counts different ways to malloc, by so many callers, in place of calls                          */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The C library's own names, so that the first call needs no look-up. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

enum { MOST_STACKS = 1 << 14, DEPTH = 24 };
static struct {
    const char *call, *how, *path, *mark, *since;
    long n, last;
    int stack;
    int error;
    bool armed;
} fault;
static long seen;
static uint64_t stacks[MOST_STACKS];
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static __thread bool inside;

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

__attribute__((constructor)) static void arm(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    const long wanted = number("FAULT_RANK", -1);
    void *warm[2];
    fault.call = getenv("FAULT_CALL"), fault.how = getenv("FAULT_HOW");
    fault.path = getenv("FAULT_PATH"), fault.mark = getenv("FAULT_MARK");
    fault.since = getenv("FAULT_SINCE");
    fault.n = number("FAULT_N", 0), fault.last = number("FAULT_LAST", 1);
    fault.stack = (int)number("FAULT_STACK", 0);
    fault.error = fault.how ? atoi(fault.how) : 0;
    if (fault.stack) backtrace(warm, 2);                           /* loads what it needs */
    if (!strstr(program_invocation_short_name, "unlearn")) return; /* mpirun has it too */
    fault.armed = fault.call && fault.n > 0 && (wanted < 0 || wanted == (rank ? atol(rank) : 0));
}

static bool of_kind(const char *kind)
{
    const size_t n = strlen(kind);
    for (const char *at = fault.call; at; at = strchr(at, ',')) {
        if (*at == ',') at++;
        if (!strncmp(at, kind, n) && (at[n] == ',' || !at[n])) return true;
    }
    return false;
}

static bool path_matches(int fd, const char *name)
{
    char link[64], path[4096] = "";
    ssize_t n = 0;
    if (!fault.path) return true;
    if (name && strstr(name, fault.path)) return true;
    if (name && *name == '/') return false;
    if (fd < 0) return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return strstr(path, fault.path) != NULL;
}

static bool lies_in(const void *code, const char *library)
{
    Dl_info info;
    const char *slash;
    if (!dladdr(code, &info) || !info.dli_fname) return false;
    slash = strrchr(info.dli_fname, '/');
    return strstr(slash ? slash + 1 : info.dli_fname, library) != NULL;
}

/* A library may take its memory through a function that the program has given it. */
static bool caller_matches(const void *caller)
{
    void *frame[8];
    int n, i = 0;
    if (!fault.path || lies_in(caller, fault.path)) return true;
    if (!lies_in(caller, "unlearn")) return false;
    n = backtrace(frame, 8);
    while (i < n && frame[i] != caller) i++;
    return i + 1 < n && lies_in(frame[i + 1], fault.path);
}

/* Whether this way here was not gone before. */
static bool new_stack(void)
{
    void *frame[DEPTH];
    const int n = backtrace(frame, fault.stack + 3 < DEPTH ? fault.stack + 3 : DEPTH);
    uint64_t hash = 1469598103934665603u;
    for (int i = 3; i < n; i++) hash = (hash ^ (uint64_t)(uintptr_t)frame[i]) * 1099511628211u;
    for (size_t i = hash % MOST_STACKS;; i = (i + 1) % MOST_STACKS) {
        if (stacks[i] == hash) return false;
        if (!stacks[i]) return stacks[i] = hash, true;
    }
}

static void leave_mark(void)
{
    const int fd = fault.mark ? (int)syscall(SYS_openat, AT_FDCWD, fault.mark, O_WRONLY | O_CREAT, 0666) : -1;
    if (fd >= 0) syscall(SYS_close, fd);
}

/* Whether this call is the one. */
static bool hit(void)
{
    long now;
    pthread_mutex_lock(&one_at_a_time);
    now = ++seen;
    pthread_mutex_unlock(&one_at_a_time);
    if (now < fault.n || (fault.last && now >= fault.n + fault.last)) return false;
    if (now == fault.n) leave_mark();
    if (!strcmp(fault.how, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(fault.how, "stop")) return kill(getpid(), SIGUSR1), false;
    if (!strcmp(fault.how, "sleep")) {
        for (unsigned left = 4; left;) left = sleep(left);
        return false;
    }
    return true;
}

/* Of a call on a file: to fail, with errno. */
static bool fails(const char *kind, int fd, const char *path)
{
    bool yes;
    if (fault.since && path && strstr(path, fault.since)) fault.since = NULL;
    if (!fault.armed || fault.since || inside || !of_kind(kind)) return false;
    inside = true;
    yes = path_matches(fd, path) && hit();
    inside = false;
    if (yes && fault.error) errno = fault.error;
    return yes;
}

static bool no_memory(const void *caller)
{
    bool yes;
    if (!fault.armed || fault.since || inside || !of_kind("malloc")) return false;
    inside = true;
    yes = caller_matches(caller) && (!fault.stack || new_stack()) && hit();
    inside = false;
    if (yes) errno = ENOMEM;
    return yes;
}
#define CALLER __builtin_return_address(0)
#define REAL(name)                 \
    static __typeof__(name) *real; \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

/* -------------------------------------------------------------------------------------------------------- memory ----- */
void *malloc(size_t n) { return no_memory(CALLER) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return no_memory(CALLER) ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return no_memory(CALLER) ? NULL : __libc_realloc(p, n); }
void *aligned_alloc(size_t align, size_t n) { return no_memory(CALLER) ? NULL : __libc_memalign(align, n); }
int posix_memalign(void **p, size_t align, size_t n)
{
    if (no_memory(CALLER) || !(*p = __libc_memalign(align, n))) return ENOMEM;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- writing ----- */
/* Short: half of it, which is no failure. */
static ssize_t part(size_t n, bool *whole)
{
    *whole = strcmp(fault.how, "short") != 0;
    return *whole ? -1 : (ssize_t)(n > 1 ? n / 2 : n);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    REAL(write);
    bool failed;
    if (fails("write", fd, NULL)) {
        const ssize_t some = part(n, &failed);
        return failed ? -1 : real(fd, bytes, (size_t)some);
    }
    return real(fd, bytes, n);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    REAL(pwrite);
    bool failed;
    if (fails("write", fd, NULL)) {
        const ssize_t some = part(n, &failed);
        return failed ? -1 : real(fd, bytes, (size_t)some, at);
    }
    return real(fd, bytes, n, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) { return pwrite(fd, bytes, n, at); }

int ftruncate(int fd, off_t n)
{
    REAL(ftruncate);
    return fails("space", fd, NULL) ? -1 : real(fd, n);
}
int ftruncate64(int fd, off64_t n) { return ftruncate(fd, n); }

int fallocate(int fd, int mode, off_t at, off_t n)
{
    REAL(fallocate);
    return fails("space", fd, NULL) ? -1 : real(fd, mode, at, n);
}
int fallocate64(int fd, int mode, off64_t at, off64_t n) { return fallocate(fd, mode, at, n); }

int fsync(int fd)
{
    REAL(fsync);
    return fails("fsync", fd, NULL) ? -1 : real(fd);
}

/* --------------------------------------------------------------------------------------------------------- names ----- */
int rename(const char *from, const char *to)
{
    REAL(rename);
    return fails("rename", -1, to) ? -1 : real(from, to);
}

int renameat(int a, const char *from, int b, const char *to)
{
    REAL(renameat);
    return fails("rename", b, to) ? -1 : real(a, from, b, to);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    return fails("open", -1, path) ? -1 : real(path, mode);
}

int unlink(const char *path)
{
    REAL(unlink);
    return fails("remove", -1, path) ? -1 : real(path);
}

int unlinkat(int at, const char *path, int flags)
{
    REAL(unlinkat);
    return fails("remove", at, path) ? -1 : real(at, path, flags);
}

static mode_t mode_of(int flags, va_list more) { return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; }

int open(const char *path, int flags, ...)
{
    REAL(open);
    va_list more;
    mode_t mode;
    va_start(more, flags);
    mode = mode_of(flags, more);
    va_end(more);
    return fails("open", -1, path) ? -1 : real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    REAL(open64);
    va_list more;
    mode_t mode;
    va_start(more, flags);
    mode = mode_of(flags, more);
    va_end(more);
    return fails("open", -1, path) ? -1 : real(path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    REAL(openat);
    va_list more;
    mode_t mode;
    va_start(more, flags);
    mode = mode_of(flags, more);
    va_end(more);
    return fails("open", at, path) ? -1 : real(at, path, flags, mode);
}

FILE *fopen(const char *path, const char *mode)
{
    REAL(fopen);
    return fails("open", -1, path) ? NULL : real(path, mode);
}
FILE *fopen64(const char *path, const char *mode) { return fopen(path, mode); }

/* -------------------------------------------------------------------------------------------------------- values ----- */
static bool spoils(void) { return fault.armed && of_kind("gemm") && hit(); }

#define GEMM(name, type)                                                                                               \
    void name(int order, int ta, int tb, int m, int n, int k, type alpha, const type *a, int lda, const type *b,       \
              int ldb, type beta, type *c, int ldc);                                                                   \
    void name(int order, int ta, int tb, int m, int n, int k, type alpha, const type *a, int lda, const type *b,       \
              int ldb, type beta, type *c, int ldc)                                                                    \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        real(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                                             \
        if (spoils()) c[(size_t)(order == 101 ? m / 2 * ldc + n / 2 : n / 2 * ldc + m / 2)] = (type)__builtin_nan(""); \
    }
GEMM(cblas_sgemm, float)
GEMM(cblas_dgemm, double)
