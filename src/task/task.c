/* From the command line's options to a finished run. */
#include "unlearn/task_priv.h"
#include <stdlib.h>
#include <string.h>

static enum status check(const struct inputs *in, struct timetable *s, const struct plan *p, const struct grid *world)
{
    struct text echo = {0}, plan = {0};
    struct run *r = NULL;
    enum status st;
    TRY(config_write(in->config, &echo));
    TRY(plan_print(in, s, p, &plan));
    TRY(run_new(in, p, s, &r));
    TRY(run_weights(r));
    log_info("%s\n%s\ndigest: %016llx", echo.data, plan.data,
             (unsigned long long)plan_digest(in, r->hash_weights, r->hash_reference));
done:
    run_free(r);
    text_free(&echo);
    text_free(&plan);
    return st;
}

static enum status export_model(struct run *r)
{
    const struct config *c = r->in->config;
    char *dir = NULL;
    enum phase before = phase_enter(PHASE_OUTPUT);
    enum status st = OK;
    if (!r->in->trains || !c->checkpoint.export) goto done;
    TRY(path_join(c->output_directory, "model", &dir));
    TRY(weights_write(dir, c->model.path, r->grid, r->weights, sizeof(real) == 8 ? STORE_F64 : STORE_F32));
done:
    free(dir);
    phase_enter(before);
    return st;
}

static enum status run(const struct options *o, const struct inputs *in, struct timetable *s, const struct plan *p)
{
    struct run *r = NULL;
    enum status st;
    st = run_new(in, p, s, &r);
    if (!r || !r->grid) goto done;
    TRY(grid_agree(r->grid, st));
    TRY(run_directory(r, o));
    report_start(r);
    TRY(run_weights(r));
    TRY(run_files(r));
    TRY(unlearn(r));
    TRY(export_model(r));
    report_end(r);
done:
    run_free(r);
    return st;
}

enum status task_run(const struct options *o)
{
    struct inputs *in = NULL;
    struct grid *world = NULL;
    struct timetable s = {0};
    struct plan p;
    enum status st;
    TRY(grid_new(parallel_job_size(), 1, &world));
    TRY(log_open(NULL, world->rank != 0));
    TRY(inputs_read(o, world, &in));
    st = timetable_new(in->config, in->train->n_row, &s);
    if (st == OK) st = plan_make(in, &s, world, &p);
    TRY(grid_agree(world, st));
    st = o->check ? check(in, &s, &p, world) : run(o, in, &s, &p);
    TRY(grid_agree(world, st));
done:
    log_close();
    timetable_free(&s);
    inputs_free(in);
    grid_free(world);
    return st;
}
