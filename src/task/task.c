/* From the command line's options to a finished run. */
#include "unlearn/task_priv.h"
#include <stdlib.h>
#include <string.h>

static enum status check(const struct inputs *in, struct timetable *s, const struct plan *p)
{
    struct text plan = {0};
    enum status st;
    TRY(plan_print(in, s, p, &plan));
    TRY(plan_check(in, p, &plan));
done:
    text_free(&plan);
    return st;
}

static enum storage export_storage(const struct config *c)
{
    if (c->checkpoint.dtype == DTYPE_BFLOAT16) return STORE_BF16;
    return c->checkpoint.dtype == DTYPE_FULL && sizeof(real) == 8 ? STORE_F64 : STORE_F32;
}

static enum status export_model(struct run *r)
{
    const struct config *c = r->in->config;
    char *dir = NULL;
    enum phase before = phase_enter(PHASE_OUTPUT);
    enum status st = OK;
    if (!r->in->trains || !c->checkpoint.export) goto done;
    TRY(path_join(c->output_directory, "model", &dir));
    if (!math_finite(r->layout->size, r->weights->data))
        st = fail(ERR_NUMERIC,
                  "%s: not written: weights are not finite after the last update: the run has diverged; lower "
                  "optimizer.lr",
                  dir);
    TRY(grid_agree(r->grid, st));
    TRY(weights_write(dir, c->model.path, r->grid, r->weights, export_storage(c)));
done:
    free(dir);
    phase_enter(before);
    return st;
}

static enum status run(const struct options *o, const struct inputs *in, struct timetable *s, const struct plan *p,
                       const struct grid *world)
{
    struct run *r = NULL;
    enum status st;
    TRY(run_new(in, p, s, world, &r));
    TRY(run_directory(r, o));
    report_start(r);
    TRY(run_weights(r));
    TRY(run_files(r));
    TRY(unlearn(r));
    TRY(run_close(r));
    TRY(export_model(r));
    TRY(run_complete(r));
    report_end(r);
done:
    run_free(r);
    return st;
}

/* OpenBLAS asks for its buffer (128 MB) again and again, for ever, where there is no room for it. */
static enum status check_blas(const struct inputs *in)
{
    enum { BUFFER = 144 << 20 };
    void *volatile room = malloc(BUFFER); /* volatile: or the pair is optimised away */
    if (!room)
        return fail(ERR_MEMORY,
                    "%s: this process may not take another %d MB, which the BLAS library needs: see ulimit -v",
                    in->config->file, BUFFER >> 20);
    free(room);
    return OK;
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
    TRY(grid_agree(world, world->rank == 0 ? inputs_spared(o, in->config) : OK));
    if (in->prompts) {
        st = grid_agree(world, task_generate(o, in, world));
        goto done;
    }
    st = timetable_new(in->config, in->train ? in->train->n_row : 0, &s);
    if (st == OK) st = check_blas(in);
    if (st == OK) st = plan_make(in, &s, world, &p);
    TRY(grid_agree(world, st));
    if (o->check) {
        st = check(in, &s, &p);
    } else {
        TRY(grid_agree(world, plan_memory(in, &p)));
        st = run(o, in, &s, &p, world);
    }
    TRY(grid_agree(world, st));
done:
    log_close();
    timetable_free(&s);
    inputs_free(in);
    grid_free(world);
    return st;
}
