/* fuzz: eval_log_aggregated.json and TOFU_EVAL.json. What is accepted can be summed up, and is written, as the first of
 * them, so that it reads back to the same. */
#define _GNU_SOURCE
#include "fuzz_json.h"
#include "unlearn/eval.h"
#include <math.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static void write_all(int fd, const char *bytes, size_t n)
{
    must(fd >= 0 && !ftruncate(fd, 0) && pwrite(fd, bytes, n, 0) == (ssize_t)n);
}

static void summed(const struct eval_log *log)
{
    static const struct score_rule rule = {.tiny = 1e-10, .geometric = true};
    struct eval_summary s;
    double p, d;
    must(!log->has_min_k || (log->min_k_area >= 0 && log->min_k_area <= 1));
    eval_summarise(&rule, NULL, log, &s);
    must(eval_forget_quality(&rule, NULL, log, NULL, log, &p, &d) == OK);
}

/* Whether the last wrong answer of a row lacks its loss: where the numbers of tokens are not there either, the layout that
 * is written takes it for one that the row does not have. */
static bool ends_without_a_loss(const struct eval_set *s)
{
    for (size_t i = 0; i < s->n; i++) must(s->n_wrong_of[i] <= s->n_wrong);
    for (size_t i = 0; i < s->n && s->perturbed && !s->n_token_perturbed; i++)
        if (s->n_wrong_of[i] && isnan(s->perturbed[i * s->n_wrong + s->n_wrong_of[i] - 1])) return true;
    return false;
}

static void check(const struct eval_log *log)
{
    static int fd = -1;
    char path[64];
    struct text once = {0}, twice = {0};
    struct eval_log again;
    summed(log);
    for (int k = 0; k < N_EVAL_SET; k++)
        if (ends_without_a_loss(&log->set[k]) || log->set[k].ratio) return; /* the layout that is written has no ratios */
    if (fd < 0) fd = memfd_create("fuzz-again", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    must(eval_log_write(log, &once) == OK);
    write_all(fd, once.data, once.n);
    must(accepted(eval_log_read(path, 0, &again)));
    for (int k = 0; k < N_EVAL_SET; k++) must(again.set[k].n == log->set[k].n);
    must(eval_log_write(&again, &twice) == OK && once.n == twice.n && !memcmp(once.data, twice.data, once.n));
    eval_log_free(&again);
    text_free(&once);
    text_free(&twice);
}

/* What forget quality needs is there, in one of the two layouts. */
static void needed(const struct eval_set *s)
{
    must(s->n && (s->ratio || (s->paraphrased && s->perturbed && s->n_wrong)));
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned seed)
{
    const size_t length = seed % 8 ? mutate_json(bytes, n, most, seed / 8) : 0;
    return length ? length : LLVMFuzzerMutate(bytes, n, most);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static int fd = -1;
    char path[64];
    struct eval_log log;
    if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    write_all(fd, (const char *)bytes, n);
    if (accepted(eval_log_read(path, 1u << SET_FORGET, &log))) needed(&log.set[SET_FORGET]);
    eval_log_free(&log);
    if (accepted(eval_log_read(path, 0, &log))) check(&log);
    eval_log_free(&log);
    return 0;
}
