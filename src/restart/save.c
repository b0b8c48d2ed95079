/* Writing a checkpoint: beside, checked, synced, and then by one rename under its name. */
#include "unlearn/restart_priv.h"
#include "unlearn/weights.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What has diverged is not worth going on from, and must not take the place of what is. */
static enum status check_finite(struct training *t, size_t step)
{
    struct saved saved[MOST_SAVED];
    const size_t n = training_saved(t, saved);
    for (size_t i = 0; i < n; i++) {
        const struct param *p = saved[i].state ? state_not_finite(saved[i].state) : NULL;
        if (!p) continue;
        return fail(ERR_NUMERIC,
                    "update %zu: %s of %s is not finite (rank %d): no checkpoint is made, those before stay; the run has "
                    "diverged; lower optimizer.lr",
                    step, saved[i].name, p->name, t->subject->grid->rank);
    }
    return OK;
}

/* Rank 0: an empty directory, whatever a kill has left under its name. */
static enum status begin(const char *temporary)
{
    checkpoint_remove(temporary);
    if (!mkdir(temporary, 0777)) return OK;
    return fail(ERR_IO, "%s: cannot be made: %s", temporary, strerror(errno));
}

static enum status write_states(struct training *t, const char *dir, struct written written[MOST_SAVED])
{
    const enum storage full = sizeof(real) == 8 ? STORE_F64 : STORE_F32;
    struct saved saved[MOST_SAVED];
    const size_t n = training_saved(t, saved);
    char *path = NULL;
    enum status st = OK;
    for (size_t i = 0; i < n; i++) {
        if (!saved[i].state) continue;
        TRY(grid_agree(t->subject->grid, state_directory(dir, saved[i].name, &path)));
        TRY(weights_write_hashed(path, t->subject->grid, saved[i].state, saved[i].state->half ? STORE_BF16 : full,
                                 &written[i]));
        output_sync_names(path);
        free(path), path = NULL;
    }
done:
    free(path);
    return st;
}

/* Rank 0: what lies under the name goes, or it would have been gone on from: it is of this step, and damaged. What in it this
 * program has not written is moved aside. */
static enum status make_room(const char *path)
{
    struct text kept = {0};
    struct stat s;
    enum status st = OK;
    checkpoint_remove(path);
    if (lstat(path, &s)) goto done;
    TRY(text_print(&kept, "%s.kept", path));
    if (rename(path, kept.data))
        st = fail(ERR_IO, "%s: cannot be moved to %s: %s; move it away", path, kept.data, strerror(errno));
    else
        log_warn("%s: holds what this program has not written: it is now %s", path, kept.data);
done:
    text_free(&kept);
    return st;
}

/* Rank 0: from here on it counts. */
static enum status commit(struct training *t, const char *temporary, const char *path, const char *output, size_t step,
                          size_t log_bytes, const struct result_rows *rows, const struct written written[MOST_SAVED])
{
    enum status st;
    TRY(manifest_write(temporary, t, step, log_bytes, rows, written));
    output_sync_names(temporary);
    TRY(make_room(path));
    if (rename(temporary, path)) {
        st = fail(ERR_IO, "%s: cannot be put in place: %s", path, strerror(errno));
        goto done;
    }
    output_sync_names(output);
    checkpoints_keep(output, t->subject->in->config->checkpoint.keep, training_pinned(t));
done:
    return st;
}

enum status restart_save(struct training *t, size_t step, size_t log_bytes, const struct result_rows *rows)
{
    const struct grid *g = t->subject->grid;
    const char *output = t->subject->in->config->output_directory;
    struct text path = {0}, temporary = {0};
    struct written written[MOST_SAVED] = {0};
    enum phase before = phase_enter(PHASE_OUTPUT);
    enum status st;
    TRY(grid_agree(g, check_finite(t, step)));
    st = text_print(&path, "%s/checkpoint-%zu", output, step);
    if (st == OK) st = text_print(&temporary, "%s.tmp", path.data);
    if (st == OK && g->rank == 0) st = begin(temporary.data);
    TRY(grid_agree(g, st));
    TRY(write_states(t, temporary.data, written));
    st = g->rank == 0 ? commit(t, temporary.data, path.data, output, step, log_bytes, rows, written) : OK;
    TRY(grid_agree(g, st));
done:
    if (st != OK && g->rank == 0 && temporary.data) checkpoint_remove(temporary.data);
    for (size_t i = 0; i < MOST_SAVED; i++) written_free(&written[i]);
    text_free(&path);
    text_free(&temporary);
    phase_enter(before);
    return st;
}
