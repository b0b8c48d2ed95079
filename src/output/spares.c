/* What a run reads must not lie where it removes or replaces. A path is followed as the system does, component by component
 * and through every link, and each name on the way is compared with those of the output directory: by the identity of the
 * directory that holds it, so that neither another spelling nor a link, in either direction, hides it. A link in the output
 * directory that leads out of it is only ever removed itself: then what it leads to is safe, and the way through it is not. */
#include "unlearn/output_priv.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_LINKS = 40 };

/* Results, and the checkpoints that go with them. */
static bool taken_by_run(const char *name)
{
    size_t step;
    return written_by_run(name) || checkpoint_name(name, &step);
}

/* The places where a run writes: what is below the output directory, and which names there. */
static const struct {
    const char *below;
    bool (*written)(const char *name);
} place[] = {{"", taken_by_run},
             {"/model", written_to_model},
             {"/" RUN_REPLACED, taken_by_run},
             {"/" RUN_REPLACED "/model", written_to_model}};
enum { N_PLACE = sizeof place / sizeof *place };

struct walk {
    const char *out;
    struct stat directory[N_PLACE];
    bool there[N_PLACE];
    char at[PATH_MAX], rest[PATH_MAX]; /* where it is, "" for the root; what is to be followed from there */
    char hit[PATH_MAX];                /* what would be removed or replaced; "": nothing */
};

static void walk_begin(struct walk *w, const char *out)
{
    *w = (struct walk){.out = out};
    for (int i = 0; i < N_PLACE; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s%s", out, place[i].below) >= (int)sizeof path) continue;
        w->there[i] = !stat(path, &w->directory[i]);
    }
}

static void look(struct walk *w, const char *name)
{
    struct stat s;
    if (stat(w->at[0] ? w->at : "/", &s)) return;
    for (int i = 0; i < N_PLACE; i++)
        if (w->there[i] && s.st_dev == w->directory[i].st_dev && s.st_ino == w->directory[i].st_ino &&
            place[i].written(name))
            snprintf(w->hit, sizeof w->hit, "%s%s/%s", w->out, place[i].below, name);
}

/* A link's target goes before what is left. False: it cannot be followed. */
static bool follow(struct walk *w, const char *link)
{
    char target[PATH_MAX], rest[PATH_MAX];
    const ssize_t n = readlink(link, target, sizeof target - 1);
    if (n < 0) return false;
    target[n] = 0;
    if (snprintf(rest, sizeof rest, "%s/%s", target, w->rest) >= (int)sizeof rest) return false;
    memcpy(w->rest, rest, sizeof rest);
    if (target[0] == '/') w->at[0] = 0;
    return true;
}

/* One component. False: the end, or a place that opening the file will not reach either. */
static bool step(struct walk *w, int *links)
{
    char name[NAME_MAX + 1], next[PATH_MAX];
    struct stat s;
    char *from = w->rest + strspn(w->rest, "/");
    const size_t n = strcspn(from, "/");
    if (!n || n > NAME_MAX) return false;
    memcpy(name, from, n);
    name[n] = 0;
    memmove(w->rest, from + n, strlen(from + n) + 1);
    if (!strcmp(name, ".")) return true;
    if (!strcmp(name, "..")) {
        char *slash = strrchr(w->at, '/');
        if (slash) *slash = 0;
        return true;
    }
    look(w, name);
    if (snprintf(next, sizeof next, "%s/%s", w->at, name) >= (int)sizeof next || lstat(next, &s)) return false;
    if (S_ISLNK(s.st_mode)) return ++*links <= MOST_LINKS && follow(w, next);
    memcpy(w->at, next, sizeof next);
    return true;
}

static void walk(struct walk *w, const char *path)
{
    int links = 0;
    w->at[0] = 0;
    if (path[0] != '/' && (!getcwd(w->at, sizeof w->at) || !strcmp(w->at, "/"))) w->at[0] = 0;
    if (snprintf(w->rest, sizeof w->rest, "%s", path) >= (int)sizeof w->rest) return;
    while (!w->hit[0] && step(w, &links)) {
    }
}

static enum status verdict(const struct walk *w, const char *path, const char *what)
{
    if (!w->hit[0]) return OK;
    return fail(
        ERR_INPUT,
        "%s: is read by this run (%s), but a run into %s removes or replaces %s: choose another output.directory, or "
        "move what is read",
        path, what, w->out, w->hit);
}

enum status directory_spares(const char *out, const char *path, const char *what)
{
    struct walk w;
    walk_begin(&w, out);
    walk(&w, path);
    return verdict(&w, path, what);
}

/* Results and checkpoints of a run may lie beside a model: they are not read. */
enum status directory_spares_model(const char *out, const char *path, const char *what)
{
    struct walk w;
    struct dirent *entry;
    DIR *list;
    walk_begin(&w, out);
    walk(&w, path);
    if (w.hit[0] || !(list = opendir(path))) return verdict(&w, path, what);
    while (!w.hit[0] && (entry = readdir(list))) {
        char file[PATH_MAX];
        if (taken_by_run(entry->d_name) || snprintf(file, sizeof file, "%s/%s", path, entry->d_name) >= (int)sizeof file)
            continue;
        walk(&w, file);
    }
    closedir(list);
    return verdict(&w, path, what);
}
