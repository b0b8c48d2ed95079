/* What the system says of memory: of this process, of the node, and of the control groups into which batch systems and
 * containers put a job. */
#include "unlearn/core.h"
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The number behind a word at the beginning of a line; 0: there is no such line. */
static uint64_t number_of(const char *file, const char *key)
{
    char line[PATH_MAX];
    uint64_t n = 0;
    FILE *f = fopen(file, "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) (void)sscanf(line + strlen(key), "%" SCNu64, &n);
    (void)fclose(f); /* only read */
    return n;
}

size_t memory_resident(void) { return number_of("/proc/self/status", "VmRSS:") * 1024; }
size_t memory_peak(void) { return number_of("/proc/self/status", "VmHWM:") * 1024; }

/* Files of a control group, by the version of the interface. */
static const struct interface {
    const char *controller; /* in /proc/self/cgroup */
    const char *mount[2];   /* below the root; version 2 has a place of its own where there are both */
    const char *limit, *usage, *reclaimable;
} interfaces[] = {
    {"", {"", "/unified"}, "memory.max", "memory.current", "inactive_file "},
    {"memory", {"/memory", "/memory"}, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "},
};

/* What one group leaves; SIZE_MAX: it has no limit, or is not to be seen from here. */
static size_t room_of_group(const struct interface *of, const char *directory)
{
    char file[3][PATH_MAX];
    const char *const name[3] = {of->limit, of->usage, "memory.stat"};
    uint64_t limit, used, reclaimable;
    for (int i = 0; i < 3; i++)
        if ((size_t)snprintf(file[i], PATH_MAX, "%s/%s", directory, name[i]) >= PATH_MAX) return SIZE_MAX;
    limit = number_of(file[0], ""); /* "max" is no number */
    if (!limit || limit >= UINT64_C(1) << 60) return SIZE_MAX;
    used = number_of(file[1], ""), reclaimable = number_of(file[2], of->reclaimable);
    used -= reclaimable < used ? reclaimable : used;
    return used < limit ? (size_t)(limit - used) : 1; /* 0 would say that nothing is known */
}

/* Of the group at `path` below its mount, and of those that hold it. */
static size_t room_of_path(const struct interface *of, const char *root, const char *mount, const char *path)
{
    char directory[PATH_MAX];
    size_t least = SIZE_MAX, base;
    if ((size_t)snprintf(directory, sizeof directory, "%s%s", root, mount) >= sizeof directory) return SIZE_MAX;
    base = strlen(directory);
    if ((size_t)snprintf(directory + base, sizeof directory - base, "%s", path) >= sizeof directory - base)
        return SIZE_MAX;
    for (;;) {
        const size_t room = room_of_group(of, directory);
        char *slash = strrchr(directory + base, '/');
        if (room < least) least = room;
        if (!slash) return least;
        *slash = 0;
    }
}

/* Whether a list of controllers, "cpu,memory", names this one; version 2 has an empty list. */
static bool controls(const char *list, const char *controller)
{
    const size_t n = strlen(controller);
    if (!n) return !*list;
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (!strncmp(at, controller, n) && (at[n] == ',' || !at[n])) return true;
    }
    return false;
}

size_t memory_in_groups(const char *groups, const char *root)
{
    char line[PATH_MAX];
    size_t least = SIZE_MAX;
    FILE *f = fopen(groups, "r");
    if (!f) return SIZE_MAX;
    while (fgets(line, sizeof line, f)) { /* NUMBER:CONTROLLERS:PATH */
        char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0, path[strcspn(path, "\n")] = 0;
        for (size_t i = 0; i < 2 * sizeof interfaces / sizeof *interfaces; i++) {
            const struct interface *of = &interfaces[i / 2];
            const size_t room =
                controls(list + 1, of->controller) ? room_of_path(of, root, of->mount[i % 2], path) : SIZE_MAX;
            if (room < least) least = room;
        }
    }
    (void)fclose(f); /* only read */
    return least;
}

size_t memory_available(void)
{
    const size_t node = number_of("/proc/meminfo", "MemAvailable:") * 1024;
    const size_t groups = memory_in_groups("/proc/self/cgroup", "/sys/fs/cgroup");
    if (groups == SIZE_MAX) return node;
    return node && node < groups ? node : groups;
}
