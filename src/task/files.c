/* The files of a run: its directory and run.log before anything costly; input.yaml, geffect.h5, train.h5 when the weights
 * have been read, so that bad ones leave nothing that looks like a result, and leave an earlier run as it was. */
#include "unlearn/task_priv.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_ATTRIBUTE = 11 };
struct about { /* text of the files' attributes */
    char history[512], layout[128], host[256], libraries[512];
    struct attribute attribute[N_ATTRIBUTE];
};

static void describe(const struct run *r, struct about *a)
{
    const struct config *c = r->in->config;
    char when[64], host[200] = "unknown";
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    gethostname(host, sizeof host - 1);
    snprintf(a->history, sizeof a->history, "%s unlearn %s", when, c->file);
    snprintf(a->layout, sizeof a->layout, "data %d x tensor %d, %d threads a process, %zu tokens a pass", r->plan->data,
             r->plan->tensor, r->plan->threads, r->plan->tokens);
    snprintf(a->host, sizeof a->host, "%s", host);
    snprintf(a->libraries, sizeof a->libraries, "%s; %s", parallel_library(), math_library());
    const struct attribute list[N_ATTRIBUTE] = {
        {"history", a->history},
        {"version", UNLEARN_VERSION},
        {"git_commit", UNLEARN_COMMIT},
        {"input", c->text},
        {"model", c->model.path},
        {"layout", a->layout},
        {"host", a->host},
        {"libraries", a->libraries},
        {"precision", sizeof(real) == 8 ? "float64" : "float32"},
        {"normalisation", c->geffect.normalisation == NORM_SEQUENCE_SUM ? "sequence_sum" : "token_mean"},
        {"estimator", c->geffect.estimator == ESTIMATOR_MOVING_AVERAGE ? "moving_average" : "full"}};
    memcpy(a->attribute, list, sizeof list);
}

static enum status put_weights(struct run *r)
{
    const struct inputs *in = r->in;
    const struct risk *retain = regularized_rows(in);
    enum status st = OK;
    TRY(file_put(r->geffect, "instance_weight", r->instance_weight));
    for (size_t i = 0; i < in->n_regularizer && retain; i++) {
        const struct rows rows = run_rows(r, in->retain, retain->n, retain->row);
        char field[64];
        TRY(objective_weights(in, &in->regularizer[i].objective, &rows, r->slab));
        snprintf(field, sizeof field, "instance_weight_%s", objective_name(&in->regularizer[i].objective));
        TRY(file_put(r->geffect, field, r->slab));
    }
done:
    return st;
}

static enum status open_geffect(struct run *r, const char *path, const struct about *a, const char *const *names)
{
    const struct inputs *in = r->in;
    const struct risk *retain = regularized_rows(in);
    struct geffect_file_info info = {.n_objective = in->n_measured,
                                     .objective = (const char *const *)in->label,
                                     .n_risk = in->n_risk,
                                     .n_layer = r->n_out_layer,
                                     .layer = (const char *const *)r->out_layer,
                                     .n_instance = in->forget->n_row,
                                     .n_regularizer = retain ? in->n_regularizer : 0,
                                     .regularizer = names,
                                     .n_retain_instance = retain && in->n_regularizer ? retain->n : 0,
                                     .n_gradient = r->gram ? r->gram->n : 0,
                                     .gradient = r->gram ? r->gram->label : NULL,
                                     .fidelity = r->fidelity != NULL,
                                     .standard_error = r->spread != NULL,
                                     .n_attribute = N_ATTRIBUTE,
                                     .attribute = a->attribute};
    const char **risk = NULL;
    int64_t *instance = NULL, *retain_instance = NULL;
    enum status st = OK;
    TRY_NEW(risk, in->n_risk);
    TRY_NEW(instance, info.n_instance);
    TRY_NEW(retain_instance, info.n_retain_instance);
    for (size_t k = 0; k < in->n_risk; k++) risk[k] = in->risk[k].name;
    for (size_t i = 0; i < info.n_instance; i++) instance[i] = (int64_t)i;
    for (size_t i = 0; i < info.n_retain_instance; i++) retain_instance[i] = (int64_t)retain->row[i];
    info.risk = risk, info.instance = instance, info.retain_instance = retain_instance;
    TRY(geffect_file_create(path, &info, &r->geffect));
    TRY(put_weights(r));
done:
    free(risk), free(instance), free(retain_instance);
    return st;
}

static enum status open_files(struct run *r, const struct about *a)
{
    const struct inputs *in = r->in;
    const char *dir = in->config->output_directory, **names = NULL;
    char *path = NULL;
    struct text echo = {0};
    enum status st = OK;
    TRY_NEW(names, in->n_regularizer);
    for (size_t i = 0; i < in->n_regularizer; i++) names[i] = objective_name(&in->regularizer[i].objective);
    TRY(path_join(dir, "input.yaml", &path));
    TRY(config_write(in->config, &echo));
    TRY(output_write_text(path, echo.data, echo.n));
    free(path), path = NULL;
    if (in->measures) {
        TRY(path_join(dir, "geffect.h5", &path));
        TRY(open_geffect(r, path, a, names));
        free(path), path = NULL;
    }
    if (in->evaluation) {
        TRY(path_join(dir, "evaluation.h5", &path));
        TRY(evaluation_open(r, path, N_ATTRIBUTE, a->attribute));
        free(path), path = NULL;
    }
    if (in->trains) {
        const struct train_file_info info = {.objective = objective_name(&in->objective),
                                             .n_regularizer = in->n_regularizer,
                                             .regularizer = names,
                                             .n_attribute = N_ATTRIBUTE,
                                             .attribute = a->attribute};
        TRY(path_join(dir, "train.h5", &path));
        TRY(train_file_create(path, &info, &r->train));
    }
done:
    free(names), free(path);
    text_free(&echo);
    return st;
}

enum status run_directory(struct run *r, const struct options *o)
{
    enum status st = OK;
    if (r->grid->rank) return grid_agree(r->grid, OK);
    TRY(directory_prepare(r->in->config->output_directory, o->overwrite, &r->directory));
    TRY(log_open(directory_log(r->directory), false));
done:
    return grid_agree(r->grid, st);
}

enum status run_files(struct run *r)
{
    struct about about;
    enum status st = OK;
    if (r->grid->rank == 0) {
        describe(r, &about);
        st = directory_begin(r->directory);
        if (st == OK) st = open_files(r, &about);
    }
    return grid_agree(r->grid, st);
}

enum status run_complete(struct run *r) { return grid_agree(r->grid, r->directory ? directory_end(r->directory) : OK); }

enum status run_close(struct run *r)
{
    enum status st = file_close(r->geffect), train = file_close(r->train), evaluation = OK;
    r->geffect = r->train = NULL;
    if (r->evaluation) evaluation = file_close(r->evaluation->file), r->evaluation->file = NULL;
    return grid_agree(r->grid, st != OK ? st : train != OK ? train : evaluation);
}
