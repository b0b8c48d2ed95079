/* Stopping early, all processes before the same step: signals, a file, the end of the job's time. */
#include "unlearn/task_priv.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const double DISK_BYTES = 1e8;    /* a second, as long as no checkpoint was written */
static const double SAVING_MARGIN = 1.5; /* of the time that a checkpoint took */
static const double ENDING = 2;          /* seconds to close the files and to end all processes */

/* The first signal asks, a later one does what it would have done without us. One that comes with the first is the same:
 * who signals a whole job reaches a process directly and by way of its launcher. */
static volatile sig_atomic_t signalled;
static volatile int64_t signalled_at;

static int64_t milliseconds_now(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void on_signal(int number)
{
    const int reason = errno;
    const int64_t now = milliseconds_now();
    if (signalled && now - signalled_at > 1000) {
        signal(number, SIG_DFL);
        raise(number);
    }
    if (!signalled) signalled_at = now;
    signalled = 1;
    errno = reason;
}

/* A number above 0 in the environment; 0: there is none. */
static double told(const char *variable)
{
    const char *text = getenv(variable);
    char *end = NULL;
    const double x = text ? strtod(text, &end) : 0;
    return text && end != text && !*end && x > 0 ? x : 0;
}

/* When the scheduler ends the job, by clock_seconds(), where its environment says so; 0: it does not. */
static double scheduled_end(double started)
{
    const double slurm = told("SLURM_JOB_END_TIME"); /* since 1970 */
    const double pbs = told("PBS_WALLTIME");         /* a duration: of a job that began with us */
    if (slurm > 0) return clock_seconds() + slurm - (double)time(NULL);
    return pbs > 0 ? started + pbs : 0;
}

enum status stop_watch(struct stop *s, const struct grid *g, const struct options *o, const char *dir, size_t saved)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    const double end = scheduled_end(o->started);
    enum status st = OK;
    *s = (struct stop){.grid = g, .saving = (double)saved / DISK_BYTES};
    if (o->max_hours > 0) s->deadline = o->started + o->max_hours * 3600;
    if (end > 0 && (s->deadline == 0 || end < s->deadline)) s->deadline = end;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaction(numbers[i], &action, NULL);
    if (g->rank == 0) st = path_join(dir, "STOP", &s->file);
    return grid_agree(g, st);
}

void stop_unwatched(const struct options *o)
{
    static const char why[] = "only tasks finetune and unlearn stop early, with a checkpoint: this one runs to its end";
    if (o->max_hours > 0)
        log_warn("--max-hours does nothing: %s", why);
    else if (scheduled_end(o->started) > 0)
        log_info("stop       not before the end of the job's time: %s", why);
}

void stop_free(struct stop *s) { free(s->file); }

static void step_ended(struct stop *s, double now)
{
    if (now - s->began > s->longest) s->longest = now - s->began;
    s->began = now;
}

enum stop_cause stop_asked(struct stop *s, bool between_steps)
{
    const double now = clock_seconds();
    double reason = signalled ? STOP_SIGNAL : STOP_NOT, needed = SAVING_MARGIN * s->saving + ENDING;
    if (between_steps) {
        step_ended(s, now);
        needed += s->longest;
    }
    if (s->grid->rank == 0 && reason == STOP_NOT) {
        if (!unlink(s->file)) /* obeyed once: a restart would stop again */
            reason = STOP_FILE;
        else if (s->deadline > 0 && now + needed > s->deadline)
            reason = STOP_TIME;
    }
    comm_max_double(s->grid->world, &reason, 1);
    return s->cause = (enum stop_cause)reason;
}

void stop_begins(struct stop *s) { s->began = clock_seconds(); }

void stop_saved(struct stop *s, double seconds)
{
    step_ended(s, clock_seconds() - seconds);
    s->saving = seconds;
    stop_begins(s);
}

const char *stop_text(enum stop_cause reason)
{
    return reason == STOP_SIGNAL ? "a signal" : reason == STOP_FILE ? "the file STOP" : "the end of its time";
}
