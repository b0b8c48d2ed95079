/* A directory of its own for the tests of one program, which run inside it. */
#ifndef UNLEARN_TESTS_SCRATCH_H
#define UNLEARN_TESTS_SCRATCH_H
#include "near.h"
#include <unistd.h>

static inline int scratch_enter(void **state)
{
    static char place[] = "/tmp/unlearn-test.XXXXXX";
    *state = place;
    return !mkdtemp(place) || chdir(place);
}

static inline int scratch_leave(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", (char *)*state);
    return chdir("/") || system(command);
}
#endif
