/* Preloaded by tests/products.py: PRODUCTS_SLOW=NAME makes each product of dnnl_sgemm or cblas_sgemm take milliseconds more,
 * PRODUCTS_WRONG=NAME makes its last element wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is(const char *variable, const char *name)
{
    const char *value = getenv(variable);
    return value && !strcmp(value, name);
}

static void spoil(const char *name, int64_t m, int64_t n, float *c, int64_t ldc)
{
    if (is("PRODUCTS_SLOW", name)) usleep(3000);
    if (is("PRODUCTS_WRONG", name) && m > 0 && n > 0) c[(m - 1) * ldc + n - 1] += 1;
}

int dnnl_sgemm(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
               const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
int dnnl_sgemm(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
               const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    int (*next)(char, char, int64_t, int64_t, int64_t, float, const float *, int64_t, const float *, int64_t, float,
                float *, int64_t) = dlsym(RTLD_NEXT, "dnnl_sgemm");
    const int st = next(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    spoil("dnnl_sgemm", m, n, c, ldc);
    return st;
}

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc);
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc)
{
    void (*next)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int) =
        dlsym(RTLD_NEXT, "cblas_sgemm");
    next(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    spoil("cblas_sgemm", m, n, c, ldc);
}
