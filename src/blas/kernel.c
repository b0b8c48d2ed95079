/* Which kernels the BLAS library uses. OpenBLAS chooses them by the model of the processor; a library older than the
 * processor falls back to its oldest kernels, a quarter as fast. OPENBLAS_CORETYPE overrides the choice, but is read
 * only when the library is loaded: the program sets it and restarts itself, once, before it starts MPI or threads. BLIS
 * aborts if it is given kernels that it was built without, so its choice is left alone. */
#define _GNU_SOURCE
#include "unlearn/blas_priv.h"
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/auxv.h>
#include <unistd.h>
#if defined __x86_64__
#include <cpuid.h>
#endif

#define MARK    "UNLEARN_KERNELS_BEFORE" /* tells the restarted program which kernels were used before */
#define REFUSED '!' /* prefix of MARK's value: those kernels were wrong, this is the second restart */

enum width { NARROW, AVX2, AVX512, UNKNOWN };
static const char *const width_text[] = {"no AVX2", "AVX2", "AVX-512"};

/* How the kernels in use were chosen. */
static enum { AS_CHOSEN, AS_SET, RAISED, NOT_RAISED, WRONG } origin = AS_CHOSEN;
static char before[32]; /* RAISED, NOT_RAISED: the library's own choice; WRONG: what it was raised to */

static enum width processor(void)
{
#if defined __x86_64__
    __builtin_cpu_init(); /* also checks that the system saves such registers */
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return AVX512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? AVX2 : NARROW;
#else
    return UNKNOWN; /* other processors than x86 report their features to the library */
#endif
}

/* SETTING: variable that names the kernels to use; ADVICE: what to do where the library has none for the processor. */
#if defined OPENBLAS_VERSION
#define SETTING "OPENBLAS_CORETYPE"
#define ADVICE  "use a newer OpenBLAS, built with DYNAMIC_ARCH, which knows this processor"
static const char *kernels(void) { return openblas_get_corename(); }
static bool can_choose(void) { return strstr(openblas_get_config(), "DYNAMIC_ARCH") != NULL; }
#elif defined BLIS_TYPE_DEFS_H
#define SETTING "BLIS_ARCH_TYPE"
#define ADVICE \
    "use a newer BLIS, or name better kernels to it, if it has them: BLIS_ARCH_TYPE=skx (AVX-512) or haswell (AVX2)"
arch_t bli_arch_query_id(void);
const char *bli_arch_string(arch_t id);
static const char *kernels(void) { return bli_arch_string(bli_arch_query_id()); }
static bool can_choose(void) { return false; }
#else
#define SETTING "BLAS_KERNELS" /* none */
#define ADVICE  "use a library that knows this processor"
static const char *kernels(void) { return "unnamed"; }
static bool can_choose(void) { return false; }
#endif

/* Vector width of the x86 kernels that these libraries have today; a name not listed here is newer than the list. */
static enum width width_of(const char *name)
{
    static const char *const known[] = {" athlon atom barcelona bobcat bulldozer core2 dunnington generic nano nehalem "
                                        "opteron opteron_sse3 penryn piledriver "
                                        "prescott sandybridge steamroller ",
                                        " excavator haswell zen zen2 zen3 ",
                                        " cooperlake sapphirerapids skx skylakex zen4 zen5 "};
    char word[64];
    snprintf(word, sizeof word, " %s ", name);
    for (int w = NARROW; w < UNKNOWN; w++)
        if (strcasestr(known[w], word)) return (enum width)w;
    return UNKNOWN;
}

static bool below_processor(void)
{
    return processor() != UNKNOWN && width_of(kernels()) < processor(); /* UNKNOWN is the largest */
}

/* ---- the restart */

/* Whether a restart would run this program on this processor again. Not under valgrind or an emulator, which it would
 * leave; nor if the dynamic linker was called by name (no base address), which would lose its first argument. */
static bool may_restart(void)
{
    const char *preload = getenv("LD_PRELOAD");
#if defined __x86_64__
    unsigned a, vendor[3];
    __cpuid(1, a, vendor[0], vendor[1], vendor[2]);
    if (vendor[1] >> 31) { /* a hypervisor: QEMU's emulator? */
        __cpuid(0x40000000, a, vendor[0], vendor[1], vendor[2]);
        if (!memcmp(vendor, "TCGTCGTCGTCG", sizeof vendor)) return false;
    }
#endif
    return !(preload && strstr(preload, "vgpreload")) && getauxval(AT_BASE);
}

/* Adds all places of OpenMP to those of the calling thread, which it may have bound to one (OMP_PROC_BIND, OMP_PLACES): a
 * program started from there would have no other. */
static void leave_place(cpu_set_t all)
{
    int id[CPU_SETSIZE];
    for (int i = 0; i < omp_get_num_places(); i++) {
        const int n = omp_get_place_num_procs(i);
        if (n > CPU_SETSIZE) return;
        omp_get_place_proc_ids(i, id);
        for (int k = 0; k < n; k++) CPU_SET((size_t)id[k], &all);
    }
    sched_setaffinity(0, sizeof all, &all);
}

/* Returns only on failure. Runs the program's own path, not /proc/self/exe, so that `ps` shows its name. */
static void restart(char **argv, const char *kernel, const char *mark)
{
    char path[4096];
    cpu_set_t place;
    const bool bound = !sched_getaffinity(0, sizeof place, &place);
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0 || setenv(MARK, mark, 1) || (kernel ? setenv(SETTING, kernel, 1) : unsetenv(SETTING))) return;
    path[n] = 0;
    if (bound) leave_place(place);
    execv(path, argv);
    if (bound) sched_setaffinity(0, sizeof place, &place);
    unsetenv(MARK);
    unsetenv(SETTING);
}

/* Small whole numbers make every sum exact. */
static real entry(size_t i) { return (real)((int)(i * 7 + i / 5) % 9 - 4); }

static bool product_agrees(bool ta, bool tb, size_t m, size_t n, size_t k)
{
    real *a = memory_new(m * k, sizeof *a), *b = memory_new(k * n, sizeof *b), *c = memory_new(m * n, sizeof *c);
    bool same = a && b && c;
    for (size_t i = 0; same && i < m * k; i++) a[i] = entry(i);
    for (size_t i = 0; same && i < k * n; i++) b[i] = entry(i + 3);
    for (size_t i = 0; same && i < m * n; i++) c[i] = 1;
    if (same) gemm_within(m + n + k, ta, tb, m, n, k, 2, a, ta ? m : k, b, tb ? k : n, 1, c, n);
    for (size_t i = 0; same && i < m; i++)
        for (size_t j = 0; same && j < n; j++) {
            real sum = 0;
            for (size_t l = 0; l < k; l++) sum += a[ta ? l * m + i : i * k + l] * b[tb ? j * k + l : l * n + j];
            same = c[i * n + j] == 1 + 2 * sum;
        }
    free(a);
    free(b);
    free(c);
    return same;
}

/* Tests the forms that are used; the last size is too large for special kernels for small products. */
bool products_agree(void)
{
    enum {
        BUFFER = 144 << 20
    }; /* bytes that OpenBLAS needs; it retries forever if a limit forbids them, so no product is tried then */
    void *volatile room = malloc(BUFFER);
    const size_t size[][3] = {{1, 61, 83}, {7, 5, 3}, {67, 83, 61}, {131, 149, 113}};
    const int threads = math_threads_now();
    bool same = true;
    if (!room) return true;
    free(room);
    math_threads(1);
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        for (int form = 0; form < 3; form++)
            same = same && product_agrees(form == 1, form == 2, size[i][0], size[i][1], size[i][2]);
    math_threads(threads);
    return same;
}

/* Reads what the program before the restart left: its kernels, and whether those it then asked for were wrong. */
static enum status after_restart(char **argv, const char *mark)
{
    char refused[sizeof before + 1];
    origin = *mark == REFUSED ? WRONG : RAISED;
    snprintf(before, sizeof before, "%s", mark + (*mark == REFUSED));
    unsetenv(MARK);
    if (origin == WRONG) return OK;
    if (!strcasecmp(before, kernels())) return origin = NOT_RAISED, OK;
    if (products_agree()) return OK;
    snprintf(refused, sizeof refused, "%c%s", REFUSED, kernels());
    restart(argv, NULL, refused);
    return fail(
        ERR_INTERNAL,
        "the BLAS library's %s kernels give wrong products, and the program cannot be started anew: %s; set " SETTING
        "=%s",
        kernels(), strerror(errno), before);
}

enum status math_start(char **argv)
{
    const char *mark = getenv(MARK);
    if (mark) return after_restart(argv, mark);
    if (getenv(SETTING)) return origin = AS_SET, OK;
    if (!below_processor() || !can_choose()) return OK;
    if (may_restart()) restart(argv, processor() == AVX512 ? "SKYLAKEX" : "HASWELL", kernels());
    origin = NOT_RAISED;
    snprintf(before, sizeof before, "%s", kernels());
    return OK;
}

/* ---- what the log says */

const char *math_kernels(void)
{
    static char line[256];
    const char *how = "the library's own choice";
    char raised[128], has[64] = "";
    if (origin == AS_SET) how = "set by " SETTING;
    if (origin == NOT_RAISED) how = "the library's own choice, which could not be bettered";
    if (origin == WRONG || origin == RAISED) how = raised;
    snprintf(raised, sizeof raised,
             origin == WRONG ? "the library's own choice; %s tried, but wrong on this processor"
                             : "in place of %s, which the library had chosen not knowing this processor",
             before);
    if (processor() != UNKNOWN) snprintf(has, sizeof has, "; the processor has %s", width_text[processor()]);
    snprintf(line, sizeof line, "%s: %s%s", kernels(), how, has);
    return line;
}

static void advice(char *text, size_t room)
{
    if (origin == AS_SET)
        snprintf(text, room, SETTING "=%s is set: unset it: the best are found without", getenv(SETTING));
    else if (origin == WRONG)
        snprintf(text, room, "%s kernels give wrong results here: use another version of the library", before);
    else
        snprintf(text, room, ADVICE);
}

static const double FAIR = 0.45, SLOWEST = 1e9; /* only valgrind is slower, where measuring is slow and means nothing */
static struct {
    double product, peak; /* flop/s; 0: not measured yet */
    enum multiplier by;
} core;

/* Once: a large product's operands, in the middle of a run, would be memory that no plan knows. */
static void measure_core(void)
{
    const int threads = math_threads_now();
    if (core.peak > 0) return;
    math_threads(1); /* a team would wait for other programs' threads */
    core.by = math_products_now();
    if ((core.product = math_gemm_rate(64)) > SLOWEST) core.product = math_gemm_rate(256);
    core.peak = math_peak_rate();
    if (core.product > SLOWEST && core.product < FAIR * core.peak)
        core.product = fmax(core.product, math_gemm_rate(1024)); /* the size may be too small, or chance: again */
    math_threads(threads);
}

const char *math_warning(void)
{
    static char text[512];
    char what_to_do[256];
    measure_core();
    if (core.by != math_products_now()) return NULL; /* those were measured since, and are faster */
    if (core.product < SLOWEST ||
        (core.product > FAIR * core.peak && (!below_processor() || math_products_now() != BY_BLAS)))
        return NULL;
    advice(what_to_do, sizeof what_to_do);
    snprintf(text, sizeof text,
             "products reach %.4g of the %.4g Gflop/s of a core with the BLAS library's %s kernels: %s",
             core.product / 1e9, core.peak / 1e9, kernels(), what_to_do);
    return text;
}

void math_warm_up(void)
{
    math_gemm_once(512);
    measure_core();
}
