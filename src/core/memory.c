/* Allocation, arenas, growing text. */
#include "unlearn/core.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const size_t ALIGNMENT = 64, HUGE = 2 << 20;
static size_t n_allocations;

static size_t round_up(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* The first touch of a page costs as much as a copy of it, so that all threads share it, each the part that it will use in a
 * loop over the whole. */
static void zero(void *p, size_t bytes)
{
    enum phase before;
    if (bytes < 4 * HUGE) {
        memset(p, 0, bytes);
        return;
    }
    before = phase_enter(PHASE_MEMORY);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < bytes / ALIGNMENT; i++) memset((char *)p + i * ALIGNMENT, 0, ALIGNMENT);
    phase_enter(before);
}

void *memory_new(size_t n, size_t size)
{
    size_t bytes;
    void *p;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT) return NULL;
    bytes = round_up(bytes ? bytes : 1);
    if (posix_memalign(&p, bytes < 4 * HUGE ? ALIGNMENT : HUGE, bytes)) return NULL;
#ifdef MADV_HUGEPAGE /* measured: a model that writes one sequence reads its weights 1.4 times as fast from huge pages */
    if (bytes >= 4 * HUGE) madvise(p, bytes, MADV_HUGEPAGE); /* where they are not to be had, nothing changes */
#endif
    zero(p, bytes);
    n_allocations++;
    return p;
}

enum status memory_grow(void **p, size_t *room, size_t need, size_t size)
{
    size_t more = *room * 2 > 16 ? *room * 2 : 16;
    void *q;
    if (need <= *room) return OK;
    if (more < need) more = need;
    if (!(q = memory_new(more, size))) return fail(ERR_MEMORY, "memory: cannot allocate %zu x %zu bytes", more, size);
    if (*room) memcpy(q, *p, *room * size);
    free(*p);
    *p = q;
    *room = more;
    return OK;
}

size_t memory_count(void) { return n_allocations; }

void arena_measure(struct arena *a) { *a = (struct arena){0}; }

enum status arena_new(size_t bytes, struct arena *a)
{
    *a = (struct arena){0};
    if (!(a->base = memory_new(bytes, 1)))
        return fail(ERR_MEMORY, "memory: cannot allocate a workspace of %zu bytes", bytes);
    a->size = bytes;
    return OK;
}

void arena_free(struct arena *a)
{
    if (!a) return;
    free(a->base);
    *a = (struct arena){0};
}

void *arena_take(struct arena *a, size_t n, size_t size)
{
    size_t bytes = round_up(n * size);
    unsigned char *p = a->base ? a->base + a->used : NULL;
    a->used += bytes;
    if (a->used > a->peak) a->peak = a->used;
    assert(!a->base || a->used <= a->size);
    return p;
}

/* Room for n more bytes and the NUL. */
static enum status text_reserve(struct text *t, size_t n)
{
    size_t room = t->room ? t->room : 128;
    char *data;
    while (room - t->n <= n) room *= 2;
    if (room == t->room) return OK;
    if (!(data = realloc(t->data, room))) return fail(ERR_MEMORY, "memory: cannot allocate %zu bytes of text", room);
    t->data = data;
    t->room = room;
    return OK;
}

enum status text_add(struct text *t, const char *bytes, size_t n)
{
    enum status st = text_reserve(t, n);
    if (st != OK) return st;
    if (n) memcpy(t->data + t->n, bytes, n);
    t->n += n;
    t->data[t->n] = 0;
    return OK;
}

enum status text_print(struct text *t, const char *format, ...)
{
    va_list args;
    int n;
    enum status st;
    va_start(args, format);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) return fail(ERR_INTERNAL, "text: cannot be formatted as \"%s\"", format);
    if ((st = text_reserve(t, (size_t)n)) != OK) return st;
    va_start(args, format);
    vsnprintf(t->data + t->n, (size_t)n + 1, format, args);
    va_end(args);
    t->n += (size_t)n;
    return OK;
}

void text_free(struct text *t)
{
    if (!t) return;
    free(t->data);
    *t = (struct text){0};
}

char *text_copy(const char *s)
{
    size_t n;
    char *copy;
    if (!s) return NULL;
    n = strlen(s) + 1;
    if ((copy = malloc(n))) memcpy(copy, s, n);
    return copy;
}
