/* The files of a run: its directory and run.log before anything costly; input.yaml, geffect.h5, train.h5 when the weights
 * have been read, so that bad ones leave nothing that looks like a result, and leave an earlier run as it was. */
#include "unlearn/task_priv.h"
#include "unlearn/weights.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_ATTRIBUTE = 13 };
struct about {           /* text of the files' attributes */
    struct text history; /* holds a path, of any length */
    char layout[128], host[256], libraries[512];
    struct attribute attribute[N_ATTRIBUTE];
};

/* The label of the objective trained, of those measured. */
static const char *trained(const struct inputs *in)
{
    const size_t j = in->config->task == TASK_UNLEARN && in->measures ? guard_objective(in) : in->n_measured;
    return j < in->n_measured ? in->label[j] : "none";
}

static enum status describe(const struct run *r, struct about *a)
{
    const struct config *c = r->in->config;
    const bool onednn = math_products_now() != BY_BLAS, narrow = math_products_now() == BY_BFLOAT16;
    char when[64], host[200] = "unknown";
    time_t now = time(NULL);
    struct tm utc;
    enum status st = OK;
    gmtime_r(&now, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    gethostname(host, sizeof host - 1);
    TRY(text_print(&a->history, "%s unlearn %s", when, c->file));
    snprintf(a->layout, sizeof a->layout, "data %d x tensor %d, %d threads a process, %zu tokens a pass", r->plan->data,
             r->plan->tensor, r->plan->threads, r->plan->tokens);
    snprintf(a->host, sizeof a->host, "%s", host);
    snprintf(a->libraries, sizeof a->libraries, "%s; %s%s%s", parallel_library(), math_library(),
             onednn ? "; products " : "", onednn ? math_onednn() : "");
    const struct attribute list[N_ATTRIBUTE] = {
        {"history", a->history.data},
        {"version", UNLEARN_VERSION},
        {"git_commit", UNLEARN_COMMIT},
        {"input", c->text},
        {"overrides", *c->overrides ? c->overrides : "none"},
        {"model", c->model.path},
        {"layout", a->layout},
        {"host", a->host},
        {"libraries", a->libraries},
        {"precision", sizeof(real) == 8 ? "float64"
                      : narrow          ? "float32, products of bfloat16"
                                        : "float32"},
        {"normalisation", c->geffect.normalisation == NORM_SEQUENCE_SUM ? "sequence_sum" : "token_mean"},
        {"estimator", c->geffect.estimator == ESTIMATOR_MOVING_AVERAGE ? "moving_average" : "full"},
        {"trained", trained(r->in)}};
    memcpy(a->attribute, list, sizeof list);
done:
    return st;
}

/* --------------------------------------------------------------------------------------------------------- files ----- */
static enum status write_input(const struct config *c)
{
    char *path = NULL;
    struct text echo = {0};
    enum status st;
    TRY(path_join(c->output_directory, "input.yaml", &path));
    TRY(config_write(c, &echo));
    TRY(output_write_text(path, echo.data, echo.n));
done:
    free(path);
    text_free(&echo);
    return st;
}

enum status run_resume(struct run *r, size_t updates, const struct grid *world)
{
    const char *dir = r->in->config->output_directory;
    const bool first = world->rank == 0;
    uint64_t said[2] = {0}; /* whether, and after how many updates */
    enum status st;
    TRY(grid_agree(world, first ? directory_resume(dir, &r->directory) : OK));
    TRY(grid_agree(world, first ? directory_finished(r->directory, &r->finished, &said[1]) : OK));
    said[0] = r->finished;
    comm_broadcast(world->world, said, sizeof said, 0);
    r->finished = said[0] && said[1] == updates;
    if (r->finished) {
        st = grid_agree(world, first ? restart_finished(dir, r->in->config) : OK);
        goto done;
    }
    TRY(restart_find(dir, r->in->config, world, &r->restart));
    if (r->restart->decays_all) inputs_decay_all(r->in);
done:
    return st;
}

/* The log of a run that goes on is written from the end that it had when the checkpoint was made. */
static enum status open_log(struct run *r, const struct options *o)
{
    enum status st = OK;
    if (r->restart) return log_continue(directory_log(r->directory), r->restart->log_bytes);
    TRY(directory_prepare(r->in->config->output_directory, o->overwrite, &r->directory));
    TRY(log_open(directory_log(r->directory), false));
done:
    return st;
}

enum status task_directory(const struct options *o, struct text *out)
{
    struct config *c = NULL;
    enum status st = config_open(o->input, o->n_override, o->override, &c);
    if (st == OK) st = text_print(out, "%s\n", c->output_directory);
    config_free(c);
    return st;
}

enum status run_directory(struct run *r, const struct options *o)
{
    const struct grid *grid = r->subject->grid;
    return grid_agree(grid, grid->rank == 0 ? open_log(r, o) : OK);
}

/* Looks at all files of results before anything is changed, so that a restart that is refused leaves the run as it is. */
static enum status all_continue(const struct run *r)
{
    const struct result_rows *rows = &r->restart->rows;
    const struct {
        bool wanted;
        const char *name;
        size_t rows;
    } file[] = {{r->measurement, "geffect.h5", rows->geffect},
                {r->measurement && r->in->config->geffect.tokens != TOKENS_FALSE, "tokens.h5", rows->geffect},
                {r->evaluation, "evaluation.h5", rows->evaluation},
                {r->training, "train.h5", rows->train}};
    char *path = NULL;
    enum status st = OK;
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        if (!file[i].wanted) continue;
        TRY(path_join(r->in->config->output_directory, file[i].name, &path));
        TRY(file_continues(path, (int64_t)r->restart->step, file[i].rows));
        free(path), path = NULL;
    }
done:
    free(path);
    return st;
}

static enum status open_all(struct run *r)
{
    const char *dir = r->in->config->output_directory;
    struct about about = {0};
    struct opening o = {.n_attribute = N_ATTRIBUTE, .continues = r->restart != NULL};
    struct result_rows rows = {0};
    enum status st = OK;
    TRY(describe(r, &about));
    o.attribute = about.attribute;
    o.step = r->restart ? (int64_t)r->restart->step : 0;
    if (r->restart) {
        TRY(all_continue(r));
        directory_go_on(r->directory, r->restart->step);
    } else
        TRY(directory_begin(r->directory));
    TRY(write_input(r->in->config));
    if (r->restart) rows = r->restart->rows;
    o.rows = rows.geffect;
    if (r->measurement) TRY(measurement_open(r->measurement, dir, &o));
    o.rows = rows.evaluation;
    if (r->evaluation) TRY(evaluation_open(r->evaluation, dir, &o));
    o.rows = rows.train;
    if (r->training) TRY(training_open(r->training, dir, &o));
done:
    text_free(&about.history);
    return st;
}

enum status run_files(struct run *r)
{
    const struct grid *grid = r->subject->grid;
    return grid_agree(grid, grid->rank == 0 ? open_all(r) : OK);
}

enum status run_sync(struct run *r)
{
    enum status st = r->measurement ? measurement_sync(r->measurement) : OK;
    if (st == OK && r->evaluation) st = evaluation_sync(r->evaluation);
    if (st == OK && r->training) st = training_sync(r->training);
    return grid_agree(r->subject->grid, st);
}

enum status run_close(struct run *r)
{
    const enum status measured = r->measurement ? measurement_close(r->measurement) : OK;
    const enum status trained = r->training ? training_close(r->training) : OK;
    const enum status evaluated = r->evaluation ? evaluation_close(r->evaluation) : OK;
    return grid_agree(r->subject->grid, measured != OK ? measured : trained != OK ? trained : evaluated);
}

enum status run_complete(struct run *r)
{
    enum status st = OK;
    if (r->directory && r->training) st = directory_mark(r->directory, r->subject->timetable->updates);
    if (st == OK && r->directory) st = directory_end(r->directory);
    return grid_agree(r->subject->grid, st);
}

/* ------------------------------------------------------------------------------------------------------ model/ ----- */
static enum storage export_storage(const struct config *c)
{
    if (c->checkpoint.dtype == DTYPE_BFLOAT16) return STORE_BF16;
    return c->checkpoint.dtype == DTYPE_FULL && sizeof(real) == 8 ? STORE_F64 : STORE_F32;
}

enum status run_export(struct run *r)
{
    const struct config *c = r->in->config;
    const struct subject *s = r->subject;
    char *dir = NULL;
    enum phase before = phase_enter(PHASE_OUTPUT);
    enum status st = OK;
    if (!r->training || !c->checkpoint.export) goto done;
    st = path_join(c->output_directory, "model", &dir);
    if (st == OK && state_not_finite(s->weights))
        st = fail(ERR_NUMERIC,
                  "%s: not written: weights are not finite after the last update: the run has diverged; lower "
                  "optimizer.lr",
                  dir);
    TRY(grid_agree(s->grid, st));
    TRY(weights_write(dir, c->model.path, s->grid, s->weights, export_storage(c)));
done:
    free(dir);
    phase_enter(before);
    return st;
}
