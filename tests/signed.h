/* For tests of manifests: the hash of itself that a manifest has, of all but this one member. */
#ifndef UNLEARN_TESTS_SIGNED_H
#define UNLEARN_TESTS_SIGNED_H
#include "unlearn/core.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The text of the manifest, signed; the caller's. */
static inline char *signed_text(json_t *manifest)
{
    char number[24], *compact;
    json_object_del(manifest, "xxh3");
    if (!(compact = json_dumps(manifest, JSON_COMPACT | JSON_SORT_KEYS))) return NULL;
    snprintf(number, sizeof number, "%016llx", (unsigned long long)hash_bytes(compact, strlen(compact), 0));
    free(compact);
    json_object_set_new(manifest, "xxh3", json_string(number));
    return json_dumps(manifest, 0);
}
#endif
