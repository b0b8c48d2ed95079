/* The checkpoint directories of a run: which there are, and how one is removed, by the names that this program writes. */
#include "unlearn/output_priv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char PREFIX[] = "checkpoint-", TEMPORARY[] = ".tmp", MANIFEST[] = "manifest.json";

bool checkpoint_name(const char *name, size_t *step)
{
    char *end;
    const char *digits = name + sizeof PREFIX - 1;
    if (strncmp(name, PREFIX, sizeof PREFIX - 1) || *digits < '0' || *digits > '9') return false;
    errno = 0;
    *step = strtoull(digits, &end, 10);
    return !errno && (!*end || !strcmp(end, TEMPORARY));
}

static int by_step(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

enum status checkpoints_list(const char *path, size_t **step, size_t *n)
{
    enum status st = OK;
    struct dirent *entry;
    DIR *list = opendir(path);
    size_t room = 0;
    *step = NULL, *n = 0;
    if (!list) return fail(ERR_INPUT, "%s: output.directory cannot be read: %s", path, strerror(errno));
    while ((entry = readdir(list))) {
        size_t one;
        if (!checkpoint_name(entry->d_name, &one) || strstr(entry->d_name, TEMPORARY)) continue;
        if ((st = memory_grow((void **)step, &room, *n + 1, sizeof **step)) != OK) break;
        (*step)[(*n)++] = one;
    }
    closedir(list);
    if (*n) qsort(*step, *n, sizeof **step, by_step);
    return st;
}

/* Files of a state's directory, and it; takes the descriptor over. */
static void remove_files(int directory)
{
    struct dirent *entry;
    DIR *list = fdopendir(directory);
    if (!list) {
        close(directory);
        return;
    }
    while ((entry = readdir(list)))
        if (written_to_model(entry->d_name)) unlinkat(directory, entry->d_name, 0);
    closedir(list);
}

void checkpoint_remove_at(int at, const char *name)
{
    const int directory = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct dirent *entry;
    DIR *list = directory < 0 ? NULL : fdopendir(directory);
    if (!list) {
        if (directory >= 0) close(directory);
        return;
    }
    unlinkat(directory, MANIFEST, 0); /* first: without it nothing of the rest counts */
    unlinkat(directory, "manifest.json.tmp", 0);
    while ((entry = readdir(list))) {
        int inside;
        if (entry->d_name[0] == '.') continue;
        inside = openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (inside < 0) continue;
        remove_files(inside);
        unlinkat(directory, entry->d_name, AT_REMOVEDIR);
    }
    closedir(list);
    unlinkat(at, name, AT_REMOVEDIR);
}

void checkpoint_remove(const char *path) { checkpoint_remove_at(AT_FDCWD, path); }

/* Those of the steps first ... end-1 in the order of the list, but for the one that is spared. */
static void remove_some(const char *path, const size_t *step, size_t first, size_t end, size_t spared)
{
    for (size_t i = first; i < end; i++) {
        struct text one = {0};
        if (step[i] == spared) continue;
        if (text_print(&one, "%s/%s%zu", path, PREFIX, step[i]) == OK) checkpoint_remove(one.data);
        text_free(&one);
    }
}

void checkpoints_keep(const char *path, size_t keep, size_t spared)
{
    size_t *step = NULL, n = 0;
    if (checkpoints_list(path, &step, &n) != OK) fail_clear();
    if (step && n > keep) remove_some(path, step, 0, n - keep, spared);
    free(step);
}

/* What a process that was killed had begun to save. */
static void remove_begun(const char *path)
{
    struct dirent *entry;
    DIR *list = opendir(path);
    size_t step;
    while (list && (entry = readdir(list)))
        if (checkpoint_name(entry->d_name, &step) && strstr(entry->d_name, TEMPORARY))
            checkpoint_remove_at(dirfd(list), entry->d_name);
    if (list) closedir(list);
}

void checkpoints_drop(const char *path, size_t newest)
{
    size_t *step = NULL, n = 0, first = 0;
    remove_begun(path);
    if (checkpoints_list(path, &step, &n) != OK) fail_clear();
    while (first < n && step[first] <= newest) first++;
    remove_some(path, step, first, n, SIZE_MAX);
    free(step);
}
