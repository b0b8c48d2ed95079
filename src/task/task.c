/* From the command line's options to a finished run: inputs, plan, run. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>

/* What a run is made of, in the order in which the plan names its memory. */
static const struct part *const parts[] = {&subject_part, &training_part, &measurement_part, &evaluation_part};

enum { BLAS_BUFFER = 144 << 20 };

static bool can_have(int buffers)
{
    void *volatile room = malloc(BLAS_BUFFER); /* volatile: or the pair is optimised away */
    const bool all = room && (buffers == 1 || can_have(buffers - 1));
    free(room);
    return all;
}

/* OpenBLAS asks for the buffer (128 MB) of a thread again and again, for ever, where there is no room for it. */
enum status blas_room(const struct inputs *in, int threads)
{
    if (can_have(threads)) return OK;
    return fail(
        ERR_MEMORY,
        "%s: this process may not take another %zu MB, which the BLAS library needs for %d thread%s: see ulimit -v%s",
        in->config->file, (size_t)threads * (BLAS_BUFFER >> 20), threads, threads > 1 ? "s" : "",
        threads > 1 ? ", or take fewer with parallel.threads" : "");
}

size_t least_room(const struct grid *world)
{
    uint64_t taken = UINT64_MAX - plan_room(parallel_node_size(), memory_resident());
    comm_max_u64(world->world, &taken, 1);
    return (size_t)(UINT64_MAX - taken);
}

struct machine machine_of(const struct config *c, const struct grid *world, size_t room, bool check)
{
    struct machine m = {.processes = world->size, .node_processes = parallel_node_size(), .room = room};
    m.node = memory_available() + (size_t)m.node_processes * memory_resident();
    if (!check) return m;
    if (c->plan.processes != CONFIG_AUTO) m.processes = (int)c->plan.processes;
    if (c->plan.per_node != CONFIG_AUTO) m.node_processes = (int)c->plan.per_node;
    if (m.node_processes > m.processes) m.node_processes = m.processes;
    if (!isnan(c->plan.memory)) m.node = (size_t)c->plan.memory, m.room = m.node / (size_t)m.node_processes;
    return m;
}

/* What every process can tell by itself. */
static enum status prepare_alone(const struct inputs *in, struct timetable *s, const struct machine *m, struct plan *p)
{
    enum status st;
    *p = (struct plan){0};
    TRY(guard_check(in));
    TRY(probes_check(in));
    TRY(plan_layout(in, s, m, p));
    TRY(blas_room(in, p->threads));
done:
    return st;
}

/* What choosing starts from: the layout by rule, threads, and the memory that there is. Collective over world. */
static enum status prepare(const struct inputs *in, struct timetable *s, const struct grid *world, struct machine *m,
                           struct plan *p)
{
    enum status st;
    TRY(grid_agree(world, prepare_alone(in, s, m, p)));
    math_threads(p->threads);
    TRY(products_asked(in, world));
    math_warm_up(); /* what is resident then stays */
    m->resident = memory_resident();
done:
    return st;
}

/* Processes have not all the same memory, but must hold everything alike: as rank 0 chooses for the one that has least.
 *                                                                                                Collective over world. */
static enum status choose(const struct inputs *in, struct timetable *s, const struct grid *world, struct machine *m,
                          struct plan *p)
{
    enum { N_PART = sizeof parts / sizeof *parts };
    uint64_t most = m->resident;
    struct way way = {0};
    enum status st;
    comm_max_u64(world->world, &most, 1);
    if (m->room < SIZE_MAX) m->room -= smaller(m->room, most - m->resident);
    TRY(grid_agree(world, world->rank ? OK : plan_choose(in, s, m, N_PART, parts, p)));
    if (!world->rank) way = plan_way(p);
    comm_broadcast(world->world, &way, sizeof way, 0);
    if (world->rank) st = plan_take(in, s, m, N_PART, parts, &way, p);
    st = grid_agree(world, st);
done:
    return st;
}

static enum status check(const struct inputs *in, struct timetable *s, const struct grid *world, const struct machine *m,
                         const struct plan *p)
{
    struct text plan = {0};
    enum status st;
    TRY(grid_agree(world, plan_print(in, s, p, &plan)));
    TRY(check_print(in, s, world, m, p, &plan));
done:
    text_free(&plan);
    return st;
}

/* Everything that a run allocates, once. */
static enum status run_new(struct run *r, struct timetable *s, const struct grid *world)
{
    const struct inputs *in = r->in;
    enum status st;
    TRY(subject_new(in, r->plan, world, &r->subject));
    TRY(subject_engine(r->subject, s));
    if (in->trains) TRY(training_new(r->subject, &r->training));
    if (in->measures) TRY(measurement_new(r->subject, r->training, &r->measurement));
    if (in->evaluation) TRY(evaluation_new(r->subject, &r->evaluation));
done:
    return st;
}

/* What a run holds beside its subject, which the report still asks. */
static void run_rest(struct run *r)
{
    evaluation_free(r->evaluation), r->evaluation = NULL;
    measurement_free(r->measurement), r->measurement = NULL;
    training_free(r->training), r->training = NULL;
    if (r->subject) subject_states_free(r->subject);
}

void run_free(struct run *r)
{
    restart_free(r->restart);
    stop_free(&r->stop);
    run_rest(r);
    subject_free(r->subject);
    directory_free(r->directory);
}

/* Bytes of a checkpoint, of all processes together. */
static size_t saved_bytes(const struct run *r)
{
    struct saved saved[MOST_SAVED];
    size_t n = training_saved(r->training, saved), bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (saved[i].state) bytes += r->subject->layout->elements * sizeof(real);
    return bytes;
}

static enum status check_step(const struct run *r)
{
    const size_t updates = r->subject->timetable->updates;
    if (r->restart->step <= updates) return OK;
    return fail(ERR_INPUT,
                "%s: has made %zu updates, more than the %zu that are asked for: give train.epochs or train.steps "
                "of at least as many",
                r->restart->path, r->restart->step, updates);
}

static bool asked(void *stop) { return stop_asked(stop, false) != STOP_NOT; }

static enum status watch(struct run *r, const struct options *o)
{
    if (r->measurement) measurement_interruptible(r->measurement, asked, &r->stop);
    return stop_watch(&r->stop, r->subject->grid, o, r->in->config->output_directory, saved_bytes(r));
}

/* What the reference says of the rows, before there are other weights. */
static enum status reference(struct run *r)
{
    const struct config *c = r->in->config;
    struct text what = {0};
    enum status st = subject_reference(r->subject);
    if (st == OK && r->evaluation) st = evaluation_reference(r->evaluation);
    if (st != ERR_NUMERIC) return st;
    if ((st = text_print(&what, "%s", fail_message())) != OK) return st;
    fail_clear();
    st = fail(ERR_NUMERIC, "%s: as reference: %s: are these the weights of its config.json?",
              c->model.reference ? c->model.reference : c->model.path, what.data);
    text_free(&what);
    return st;
}

/* The weights of the start, or of the checkpoint. */
static enum status load(struct run *r)
{
    enum status st;
    TRY(reference(r));
    TRY(subject_weights(r->subject));
    if (!r->restart) goto done;
    TRY(restart_check(r->restart, r->subject));
    TRY(check_step(r));
    TRY(restart_load(r->restart, r->training));
    training_checkpointed(r->training, r->restart->step);
done:
    return st;
}

static enum status run(struct run *r, const struct options *o, struct timetable *s, const struct grid *world)
{
    enum status st;
    TRY(run_new(r, s, world));
    TRY(run_directory(r, o));
    if (r->restart) TRY(products_of_restart(r->in, r->restart, world));
    report_start(r);
    if (r->restart && !world->rank) report_restart(r);
    if (r->training) TRY(watch(r, o));
    TRY(load(r));
    TRY(run_files(r));
    TRY(unlearn(r));
    TRY(run_close(r));
    TRY(run_export(r));
    TRY(run_complete(r));
    run_rest(r); /* the report measures, for which this is room */
    report_end(r);
done:
    return st;
}

static enum status check_restart(const struct options *o, const struct inputs *in)
{
    if (!o->restart || in->trains) return OK;
    return fail(ERR_INPUT, "%s: --restart: only runs that train keep checkpoints: start this one anew with --overwrite",
                in->config->file);
}

enum status task_run(const struct options *o)
{
    const struct inputs *in = NULL;
    struct grid *world = NULL;
    struct timetable s = {0};
    struct machine m;
    struct plan p;
    struct way then;
    struct run r = {0};
    enum status st;
    TRY(grid_new(parallel_job_size(), 1, &world));
    TRY(log_open(NULL, world->rank != 0));
    TRY(inputs_read(o->input, o->n_override, o->override, world, &in));
    TRY(grid_agree(world, world->rank == 0 ? inputs_spared(o, in->config) : OK));
    TRY(grid_agree(world, check_restart(o, in)));
    TRY(grid_agree(world, config_warn(in->config)));
    if (!in->trains) stop_unwatched(o);
    if (in->prompts) {
        st = grid_agree(world, task_generate(o, in, world));
        goto done;
    }
    TRY(grid_agree(world, timetable_new(in->config, in->train ? in->train->n_row : 0, &s)));
    timetable_warn(in->config, &s);
    if (in->trains && shape_dropout(in->shape) > 0)
        log_info("dropout    none: that of config.json (%g) is left out", shape_dropout(in->shape));
    r = (struct run){.in = in, .plan = &p};
    if (o->restart && !o->check) TRY(run_resume(&r, s.updates, world));
    if (r.finished) {
        log_info("%s: the run is finished: nothing is left to do", in->config->output_directory);
        goto done;
    }
    m = machine_of(in->config, world, least_room(world), o->check);
    if (r.restart && restart_way(r.restart, world, &then)) m.then = &then;
    TRY(prepare(in, &s, world, &m, &p));
    TRY(choose(in, &s, world, &m, &p));
    if (!o->restart) TRY(products_chosen(in, &s, &p, world));
    if (o->check) {
        st = check(in, &s, world, &m, &p);
    } else {
        TRY(grid_agree(world, plan_memory(in, &p)));
        st = run(&r, o, &s, world);
    }
    TRY(grid_agree(world, st));
done:
    run_free(&r);
    if (st == OK)
        st = log_close();
    else
        (void)log_close(); /* what failed first has the message */
    timetable_free(&s);
    inputs_free(in);
    grid_free(world);
    return st;
}
