/* fuzz: the header of a safetensors file. What is accepted must lie in the file, without holes or overlaps. */
#define _GNU_SOURCE
#include "fuzz.h"
#include "unlearn/model_priv.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void check(const struct safetensors *f, uint64_t size)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < f->n; i++) {
        const struct tensor *t = &f->tensor[i];
        must(t->begin <= t->end && t->end <= size);
        must(safetensors_find(f, t->name) == t);
        sum += t->end - t->begin;
    }
    must(sum <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static int fd = -1;
    char path[64];
    struct safetensors *f;
    if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    must(fd >= 0 && !ftruncate(fd, 0) && pwrite(fd, bytes, n, 0) == (ssize_t)n);
    if (accepted(safetensors_open(path, &f))) check(f, n);
    safetensors_close(f);
    return 0;
}
