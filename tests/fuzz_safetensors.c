/* fuzz: the header of a safetensors file. What is accepted must lie in the file, without holes or overlaps. */
#define _GNU_SOURCE
#include "fuzz_json.h"
#include "unlearn/state.h"
#include "unlearn/weights_priv.h"
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

/* Of the header, with its length made right; the data stay. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned seed)
{
    uint64_t header = 0, length;
    size_t data;
    uint8_t *rest;
    if (n >= 8) memcpy(&header, bytes, 8);
    if (n < 10 || header > n - 8 || seed % 8 < 2) return LLVMFuzzerMutate(bytes, n, most);
    data = n - 8 - header;
    must((rest = malloc(data + 1)));
    memcpy(rest, bytes + 8 + header, data);
    length = mutate_json(bytes + 8, header, most - 8, seed / 8);
    if (length && 8 + length + data <= most) {
        memcpy(bytes, &length, 8);
        memcpy(bytes + 8 + length, rest, data);
        n = 8 + length + data;
    }
    free(rest);
    return n;
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
