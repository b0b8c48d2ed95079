/* unlearn: the command line, the start and the end of a process, one task, one exit status for all.
 * The story itself is in task/unlearn.c. */
#include "unlearn/blas.h"
#include "unlearn/config.h"
#include "unlearn/parallel.h"
#include "unlearn/task.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum action { RUN, DIRECTORY, ENCODE, HELP, VERSION };
struct command {
    enum action action;
    struct options options;
    const char *model_dir, *file; /* of --encode */
    const char *topic;            /* of --help */
};

static enum status hours(const char *text, double *out)
{
    char *end = NULL;
    *out = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || !(*out > 0)) return fail(ERR_USAGE, "--max-hours: needs a positive number");
    return OK;
}

static enum status option(struct command *c, char **argv, int argc, int *i)
{
    const char *a = argv[*i];
    if (!strcmp(a, "--check")) return c->options.check = true, OK;
    if (!strcmp(a, "--directory")) return c->action = DIRECTORY, OK;
    if (!strcmp(a, "--overwrite")) return c->options.overwrite = true, OK;
    if (!strcmp(a, "--help") || !strcmp(a, "-h")) {
        if (*i + 1 < argc && argv[*i + 1][0] != '-') c->topic = argv[++*i];
        return c->action = HELP, OK;
    }
    if (!strcmp(a, "--version")) return c->action = VERSION, OK;
    if (!strcmp(a, "--restart")) return c->options.restart = true, OK;
    if (!strcmp(a, "--max-hours")) return hours(*i + 1 < argc ? argv[++*i] : NULL, &c->options.max_hours);
    if (!strcmp(a, "--encode")) {
        if (*i + 2 >= argc) return fail(ERR_USAGE, "--encode: needs MODEL_DIR and FILE.jsonl");
        c->action = ENCODE, c->model_dir = argv[++*i], c->file = argv[++*i];
        return OK;
    }
    return fail(ERR_USAGE, "%s: there is no such option; see unlearn --help", a);
}

/* Arguments behind the input file are overrides; their list is NULL where there was no memory. */
static enum status parse(int argc, char **argv, char **overrides, struct command *c)
{
    enum status st = overrides ? OK : fail(ERR_MEMORY, "memory: cannot allocate the list of overrides");
    c->options.override = overrides;
    for (int i = 1; i < argc && st == OK; i++) {
        if (argv[i][0] == '-' && argv[i][1])
            st = option(c, argv, argc, &i);
        else if (strchr(argv[i], '=') && (c->options.input || c->action == ENCODE))
            overrides[c->options.n_override++] = argv[i];
        else if (!c->options.input)
            c->options.input = argv[i];
        else if (strchr(c->options.input, '='))
            st = fail(ERR_USAGE, "%s: stands behind %s: the input file comes first, then key.sub=value", argv[i],
                      c->options.input);
        else
            st = fail(ERR_USAGE, "%s: is neither an option nor key.sub=value; see unlearn --help", argv[i]);
    }
    if (st == OK && c->options.restart && c->options.overwrite)
        st = fail(ERR_USAGE, "--restart goes on with an earlier run, --overwrite replaces it: give one of them");
    if (st == OK && c->action == ENCODE && c->options.input)
        st = fail(ERR_USAGE, "%s: --encode reads one MODEL_DIR and one FILE.jsonl, and nothing else", c->options.input);
    if (st == OK && c->action <= DIRECTORY && !c->options.input)
        st = fail(ERR_USAGE, "no input file: unlearn [options] input.yaml [key.sub=value ...]; see unlearn --help");
    return st;
}

static enum status print(const struct command *c)
{
    struct text t = {0};
    enum status st = c->action == HELP        ? task_help(c->topic, &t)
                     : c->action == DIRECTORY ? task_directory(&c->options, &t)
                                              : task_version(&t);
    if (st == OK && fputs(t.data, stdout) < 0) st = fail(ERR_IO, "standard output: cannot be written");
    text_free(&t);
    return st;
}

/* Everything but a run is for one process; the others of a job stay silent. */
static enum status act(const struct command *c, bool first)
{
    if (c->action == RUN) return task_run(&c->options);
    if (!first) return OK;
    if (c->action == ENCODE) return task_encode(c->model_dir, c->file, c->options.n_override, c->options.override);
    return print(c);
}

/* HDF5 1.10 calls exit(-1) where it gets no memory, without a word. */
static bool ended;
static void ended_by_library(void)
{
    static const char text[] =
        "unlearn: error: a library has ended the process, most likely because there is no memory left: use fewer "
        "processes a node, or a larger limit\n";
    if (ended) return;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(status_exit(ERR_MEMORY));
    _exit(status_exit(ERR_MEMORY));
}

int main(int argc, char **argv)
{
    struct command c = {0};
    struct grid *world = NULL;
    char **overrides = calloc((size_t)argc + 1, sizeof *overrides);
    bool first = true;
    int alone = 0;
    enum status st;
    atexit(ended_by_library);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit of the size of files is then a failed write, with a message */
    phase_enter(PHASE_OTHER);
    c.options.started = clock_seconds();
    if (argc > 1 && !strcmp(argv[1], "--directory")) { /* job scripts ask, where MPI may not start without its mpirun */
        TRY(parse(argc, argv, overrides, &c));
        TRY(print(&c));
        goto done;
    }
    TRY(math_start(argv));
    TRY(parallel_start(&argc, &argv));
    first = parallel_first();
    TRY(grid_new(parallel_job_size(), 1, &world));
    if ((st = parallel_alone(&alone)) != OK) {
        first = alone == 0; /* one line, not one of each process */
        goto done;
    }
    TRY(grid_agree(world, parse(argc, argv, overrides, &c)));
    st = grid_agree(world, act(&c, first));
done:
    if (first && fflush(stdout) && st == OK) st = fail(ERR_IO, "standard output: cannot be written");
    if (first && st != OK) fprintf(stderr, "unlearn: %s: %s\n", st == ERR_STOPPED ? "stopped" : "error", fail_message());
    grid_free(world);
    parallel_end();
    free(overrides);
    ended = true;
    return status_exit(st);
}
