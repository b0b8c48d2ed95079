/* Preloaded by tests/kernels_test.sh: a BLAS library that does not know the processor. The first question for OPENBLAS_CORETYPE
 * is the library's own, while it is loaded; where it is not set, the answer is OLD_KERNELS. With OLD_HEEDS=no it is so whatever
 * is set: a library without other kernels. With OLD_WRONG=NAME the products of those kernels are wrong. With OLD_EXEC=no the program
 * cannot be started anew. STARTS names a file that gets a line from each start. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char *setting(const char *name)
{
    const size_t n = strlen(name);
    for (char **e = environ; e && *e; e++)
        if (!strncmp(*e, name, n) && (*e)[n] == '=') return *e + n + 1;
    return NULL;
}

static void count_start(void)
{
    const char *path = setting("STARTS");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f) return;
    fputs("start\n", f);
    fclose(f);
}

char *getenv(const char *name)
{
    static bool loaded;
    const char *own = setting(name), *heeds = setting("OLD_HEEDS"), *old = setting("OLD_KERNELS");
    if (!strcmp(name, "OPENBLAS_CORETYPE") && !loaded) {
        loaded = true;
        if (old) count_start();
        if (old && (!own || (heeds && !strcmp(heeds, "no")))) own = old;
    }
    return (char *)own;
}

int execv(const char *path, char *const argv[])
{
    const char *may = setting("OLD_EXEC");
    if (!may || strcmp(may, "no") || !strstr(path, program_invocation_short_name)) return execve(path, argv, environ);
    errno = EACCES;
    return -1;
}

typedef void gemm_f(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
typedef void gemm_d(int, int, int, int, int, int, double, const double *, int, const double *, int, double, double *,
                    int);

static bool wrong(void)
{
    const char *which = setting("OLD_WRONG");
    char *(*name)(void) = (char *(*)(void))dlsym(RTLD_NEXT, "openblas_get_corename");
    return which && name && !strcasecmp(name(), which);
}

#define GEMM(type, name)                                                                                         \
    void name(int order, int ta, int tb, int m, int n, int k, type alpha, const type *a, int lda, const type *b, \
              int ldb, type beta, type *c, int ldc)                                                              \
    {                                                                                                            \
        ((gemm_##type *)dlsym(RTLD_NEXT, #name))(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);   \
        if (wrong()) c[(m - 1) * ldc + n - 1] += 1;                                                              \
    }
#define gemm_float  gemm_f
#define gemm_double gemm_d
void cblas_sgemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
void cblas_dgemm(int, int, int, int, int, int, double, const double *, int, const double *, int, double, double *, int);
GEMM(float, cblas_sgemm)
GEMM(double, cblas_dgemm)
