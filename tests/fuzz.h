/* For fuzz targets (clang -fsanitize=fuzzer): what goes wrong shows as a crash, a sanitizer's report, or abort(). */
#ifndef UNLEARN_TESTS_FUZZ_H
#define UNLEARN_TESTS_FUZZ_H
#include "unlearn/core.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* What must hold whatever the input is. */
static inline void must(bool holds)
{
    if (!holds) abort();
}

/* A failure has a message, a success none; either way the next input starts anew. */
static inline bool accepted(enum status st)
{
    must(st == OK || st == ERR_INPUT);
    must((st == OK) == !*fail_message());
    fail_clear();
    return st == OK;
}
#endif
