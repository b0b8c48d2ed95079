/* Preloaded by tests/room.py: what a process hears of its limit is in bytes ROOM_OF_0, ROOM_OF_1 ... by its rank, or ROOM; it is
 * not held to it, since libraries reserve far more than they use. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

int getrlimit(__rlimit_resource_t what, struct rlimit *limit)
{
    int (*next)(__rlimit_resource_t, struct rlimit *) = dlsym(RTLD_NEXT, "getrlimit");
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *room;
    const int st = next(what, limit);
    char name[64];
    snprintf(name, sizeof name, "ROOM_OF_%s", rank ? rank : "0");
    room = getenv(name);
    if (!room) room = getenv("ROOM");
    if (room && what == RLIMIT_DATA) limit->rlim_cur = (rlim_t)strtoull(room, NULL, 10);
    return st;
}
