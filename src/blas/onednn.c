/* Products by oneDNN, which chooses its kernels by what the processor can do and not by its name. In float through its
 * sgemm; of bfloat16 through its matrix multiplication, whose kernels it keeps from one call to the next. Each call works on
 * the calling thread alone: gemm() has divided the product already. */
#include "unlearn/blas_priv.h"
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#if defined ONEDNN && defined REAL_float
#include <oneapi/dnnl/dnnl.h>

static const char *processor_class(void)
{
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } known[] = {{dnnl_cpu_isa_avx512_core_amx, "AMX"},
                 {dnnl_cpu_isa_avx512_core_bf16, "AVX-512 with bfloat16"},
                 {dnnl_cpu_isa_avx512_core, "AVX-512"},
                 {dnnl_cpu_isa_avx2, "AVX2"}};
    const unsigned has = (unsigned)dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((has & (unsigned)known[i].isa) == (unsigned)known[i].isa) return known[i].name;
    return "no AVX2";
}

const char *math_onednn(void)
{
    static char name[80];
    const dnnl_version_t *v = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d.%d %s", v->major, v->minor, v->patch, processor_class());
    return name;
}

const char *onednn_lack(void)
{
    const unsigned runtime = dnnl_version()->cpu_runtime;
    return runtime == DNNL_RUNTIME_OMP || runtime == DNNL_RUNTIME_SEQ ? NULL
                                                                      : "this oneDNN has threads other than OpenMP's";
}

/* oneDNN would take the whole team for a product that is worth one thread only. */
static int threads_one(void)
{
    const int before = omp_get_max_threads();
    if (before > 1) omp_set_num_threads(1);
    return before;
}

static void threads_again(int before)
{
    if (before > 1) omp_set_num_threads(before);
}

bool onednn_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda, const real *b,
                 size_t ldb, real beta, real *c, size_t ldc)
{
    const int before = threads_one();
    const dnnl_status_t st = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k,
                                        alpha, a, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, beta, c, (dnnl_dim_t)ldc);
    threads_again(before);
    return st == dnnl_success;
}

/* ---- bfloat16 */

#define DNNL(call)                             \
    do {                                       \
        if ((call) != dnnl_success) goto done; \
    } while (0)

#if DNNL_VERSION_MAJOR >= 3
#define DESCRIPTION(md)                          (md)
#define DESCRIBE(md, dims, type, strides)        dnnl_memory_desc_create_with_strides(&(md), 2, dims, type, strides)
#define FORGET(md)                               dnnl_memory_desc_destroy(md)
#define APPEND_SUM(ops)                          dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef)
#define PRODUCT_OF(pd, engine, ma, mb, mc, attr) dnnl_matmul_primitive_desc_create(pd, engine, ma, mb, NULL, mc, attr)
#else
#define DESCRIPTION(md)                          (&(md))
#define DESCRIBE(md, dims, type, strides)        dnnl_memory_desc_init_by_strides(&(md), 2, dims, type, strides)
#define FORGET(md)                               ((void)(md))
#define APPEND_SUM(ops)                          dnnl_post_ops_append_sum(ops, 1)
static dnnl_status_t product_of(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const dnnl_memory_desc_t *a,
                                const dnnl_memory_desc_t *b, const dnnl_memory_desc_t *c, dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    const dnnl_status_t st = dnnl_matmul_desc_init(&d, a, b, NULL, c);
    return st == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) : st;
}
#define PRODUCT_OF(pd, engine, ma, mb, mc, attr) product_of(pd, engine, &(ma), &(mb), &(mc), attr)
#endif

struct operand {
    dnnl_memory_desc_t md;
    dnnl_memory_t memory;
};

/* A matrix [rows][columns] of which memory holds the transpose, if so, in rows of ld. */
static dnnl_status_t operand(dnnl_engine_t engine, bool transposed, size_t rows, size_t columns, size_t ld,
                             dnnl_data_type_t type, const void *data, struct operand *o)
{
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    const dnnl_dims_t strides = {transposed ? 1 : (dnnl_dim_t)ld, transposed ? (dnnl_dim_t)ld : 1};
    dnnl_status_t st = DESCRIBE(o->md, dims, type, strides);
    if (st != dnnl_success) return st;
    st = dnnl_memory_create(&o->memory, DESCRIPTION(o->md), engine, (void *)data);
    if (st != dnnl_success) FORGET(o->md);
    return st;
}

/* One engine for the process, whichever thread comes first. */
static dnnl_engine_t engine_of_process(void)
{
    static dnnl_engine_t engine;
#pragma omp critical(onednn_engine)
    if (!engine && dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) engine = NULL;
    return engine;
}

bool onednn_bfloat16(bool ta, bool tb, size_t m, size_t n, size_t k, const uint16_t *a, const uint16_t *b, size_t ldb,
                     bool add, real *c, size_t ldc)
{
    const int before = threads_one();
    dnnl_engine_t engine = engine_of_process();
    struct operand of[3] = {{.memory = NULL}};
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t product = NULL;
    dnnl_stream_t stream = NULL;
    bool done = false;
    if (!engine) goto done;
    DNNL(operand(engine, ta, m, k, ta ? m : k, dnnl_bf16, a, &of[0]));
    DNNL(operand(engine, tb, k, n, ldb, dnnl_bf16, b, &of[1]));
    DNNL(operand(engine, false, m, n, ldc, dnnl_f32, c, &of[2]));
    DNNL(dnnl_primitive_attr_create(&attr));
    DNNL(dnnl_post_ops_create(&ops));
    if (add) DNNL(APPEND_SUM(ops));
    DNNL(dnnl_primitive_attr_set_post_ops(attr, ops));
    DNNL(PRODUCT_OF(&pd, engine, of[0].md, of[1].md, of[2].md, attr));
    DNNL(dnnl_primitive_create(&product, pd));
    DNNL(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    const dnnl_exec_arg_t with[] = {
        {DNNL_ARG_SRC, of[0].memory}, {DNNL_ARG_WEIGHTS, of[1].memory}, {DNNL_ARG_DST, of[2].memory}};
    DNNL(dnnl_primitive_execute(product, stream, 3, with));
    DNNL(dnnl_stream_wait(stream));
    done = true;
done:
    dnnl_stream_destroy(stream);
    dnnl_primitive_destroy(product);
    dnnl_primitive_desc_destroy(pd);
    dnnl_post_ops_destroy(ops);
    dnnl_primitive_attr_destroy(attr);
    for (int i = 0; i < 3; i++) {
        if (of[i].memory) FORGET(of[i].md);
        dnnl_memory_destroy(of[i].memory);
    }
    threads_again(before);
    return done;
}

#else /* double, or oneDNN was not there when the program was built */
const char *math_onednn(void) { return "no oneDNN"; }

const char *onednn_lack(void)
{
    return sizeof(real) == 8 ? "oneDNN has no products of float64" : "this program was built without oneDNN";
}

bool onednn_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda, const real *b,
                 size_t ldb, real beta, real *c, size_t ldc)
{
    return false;
}

bool onednn_bfloat16(bool ta, bool tb, size_t m, size_t n, size_t k, const uint16_t *a, const uint16_t *b, size_t ldb,
                     bool add, real *c, size_t ldc)
{
    return false;
}
#endif
