/* Who does what: runs of equal length, and items of unequal cost by "longest processing time first": the most expensive
 * item left goes to the part that has least so far. The most expensive part then costs at most 4/3 - 1/(3 parts) times
 * the best possible (Graham 1969). */
#include "unlearn/parallel.h"

#include <assert.h>
#include <stdlib.h>

void split_range(size_t n, int parts, int part, size_t *first, size_t *count)
{
    assert(parts > 0 && part >= 0 && part < parts);
    const size_t p = (size_t)part, base = n / (size_t)parts, longer = n % (size_t)parts;
    *first = p * base + (p < longer ? p : longer);
    *count = base + (p < longer);
}

struct item {
    double cost;
    size_t index;
};
struct load {
    double cost;
    size_t count;
};

static int dearer_first(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->cost != y->cost) return x->cost > y->cost ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* The part of least cost; of equal ones that with fewest items (so that not all items of cost 0 go to part 0). */
static int lightest(const struct load *load, int parts)
{
    int best = 0;
    for (int p = 1; p < parts; p++)
        if (load[p].cost < load[best].cost || (load[p].cost == load[best].cost && load[p].count < load[best].count))
            best = p;
    return best;
}

size_t split_scratch(size_t n, int parts) { return n * sizeof(struct item) + (size_t)parts * sizeof(struct load); }

void split_balanced(size_t n, const double *cost, int parts, void *scratch, int *owner)
{
    struct load *load = scratch;
    struct item *item = (struct item *)(load + parts);

    assert(parts > 0);
    for (int p = 0; p < parts; p++) load[p] = (struct load){0};
    for (size_t i = 0; i < n; i++) {
        assert(cost[i] >= 0);
        item[i] = (struct item){cost[i], i};
    }
    qsort(item, n, sizeof *item, dearer_first);
    for (size_t i = 0; i < n; i++) {
        const int p = lightest(load, parts);
        load[p].cost += item[i].cost;
        load[p].count++;
        owner[item[i].index] = p;
    }
}
