/* Where the time of this process goes: one phase at a time. */
#include "unlearn/core.h"
#include <time.h>

static double spent[N_PHASE], since;
static enum phase current = PHASE_OTHER;

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum phase phase_enter(enum phase p)
{
    enum phase before = current;
    double now = clock_seconds();
    if (since > 0) spent[current] += now - since;
    since = now;
    current = p;
    return before;
}

double phase_seconds(enum phase p) { return spent[p] + (p == current && since > 0 ? clock_seconds() - since : 0); }

const char *phase_text(enum phase p)
{
    static const char *const text[] = {
#define X(name, t) t,
        PHASE_LIST(X)
#undef X
    };
    return text[p];
}
