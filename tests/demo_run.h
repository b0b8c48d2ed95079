/* For tests of the rooms above the model: the demo's data with a model drawn from the seed, as far as the parts of a run. */
#ifndef UNLEARN_TESTS_DEMO_RUN_H
#define UNLEARN_TESTS_DEMO_RUN_H
#include "near.h"
#include "unlearn/evaluation.h"
#include "unlearn/probe_priv.h"

enum { MOST_OVERRIDES = 16 };
static const struct part *const demo_parts[] = {&training_part, &subject_part, &measurement_part, &evaluation_part};
enum { N_DEMO_PARTS = sizeof demo_parts / sizeof *demo_parts };

struct demo_run {
    struct grid *world;
    const struct inputs *in;
    struct timetable timetable;
    struct plan plan;
    struct subject *subject;
};

/* more: key=value, ended by NULL */
static inline void demo_inputs(struct demo_run *d, const char *const *more)
{
    const char *all[MOST_OVERRIDES] = {"model.path=inputs/demo/model", "model.init=random",
                                       "data.forget={path: inputs/demo/forget05.jsonl, rows: 6}",
                                       "data.retain={path: inputs/demo/retain95.jsonl, rows: 20}",
                                       "geffect.risks={unlearn: {data: forget}, retain: {data: retain, rows: 4}}"};
    int n = 5;
    while (*more) all[n++] = *more++;
    assert_true(n <= MOST_OVERRIDES);
    *d = (struct demo_run){0};
    assert_int_equal(grid_new(parallel_job_size(), 1, &d->world), OK);
    assert_int_equal(log_open(NULL, true), OK);
    if (inputs_read("inputs/demo-unlearn.yaml", n, (char *const *)all, d->world, &d->in) != OK)
        fail_msg("%s", fail_message());
    assert_int_equal(timetable_new(d->in->config, d->in->train->n_row, &d->timetable), OK);
}

static inline void demo_plan(struct demo_run *d, const struct machine *m)
{
    d->plan = (struct plan){0};
    if (plan_layout(d->in, &d->timetable, m, &d->plan) != OK ||
        plan_choose(d->in, &d->timetable, m, N_DEMO_PARTS, demo_parts, &d->plan) != OK)
        fail_msg("%s", fail_message());
}

/* On the job that the test runs in, its weights drawn, where a process has so much room. */
static inline void demo_subject_within(struct demo_run *d, size_t room)
{
    const struct machine m = {.processes = d->world->size, .node_processes = d->world->size, .room = room};
    demo_plan(d, &m);
    math_threads(1);
    assert_int_equal(subject_new(d->in, &d->plan, d->world, &d->subject), OK);
    assert_int_equal(subject_engine(d->subject, &d->timetable), OK);
    assert_int_equal(subject_reference(d->subject), OK);
    assert_int_equal(subject_weights(d->subject), OK);
}

/* Whatever can be given up for memory is. */
static inline void demo_subject(struct demo_run *d) { demo_subject_within(d, 0); }

static inline void demo_free(struct demo_run *d)
{
    subject_free(d->subject);
    timetable_free(&d->timetable);
    inputs_free(d->in);
    grid_free(d->world);
    log_close();
}
#endif
