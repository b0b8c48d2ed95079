/* fuzz: eval_log_aggregated.json. What is accepted can be summed up, and is written so that it reads back to the same. */
#define _GNU_SOURCE
#include "fuzz_json.h"
#include "unlearn/eval.h"
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static void write_all(int fd, const char *bytes, size_t n)
{
    must(fd >= 0 && !ftruncate(fd, 0) && pwrite(fd, bytes, n, 0) == (ssize_t)n);
}

static void check(const struct eval_log *log)
{
    static int fd = -1;
    char path[64];
    struct text once = {0}, twice = {0};
    struct eval_log again;
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
    if (accepted(eval_log_read(path, 1u << SET_FORGET, &log)))
        must(log.set[SET_FORGET].n && log.set[SET_FORGET].nll && log.set[SET_FORGET].perturbed &&
             log.set[SET_FORGET].n_wrong);
    eval_log_free(&log);
    if (accepted(eval_log_read(path, 0, &log))) check(&log);
    eval_log_free(&log);
    return 0;
}
