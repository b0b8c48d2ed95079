/* task: the story of a run, from the input file to the files it leaves.                                              */
#ifndef UNLEARN_TASK_H
#define UNLEARN_TASK_H
#include "unlearn/core.h"

struct options { /* the command line, without the program's name; strings borrowed */
    const char *input;
    int n_override;
    char *const *override; /* key.sub=value */
    bool check, overwrite, restart;
    double max_hours; /* 0: no limit */
    double started;   /* clock_seconds() when the process began */
};

/** Reads the input and does its task, or with `check` everything short of it. On failure every process has the same status
 *  and message.                                                                              Collective over the job. */
enum status task_run(const struct options *o);
/** The output directory of the input and a line's end: reads nothing else, and needs no MPI.                     Local. */
enum status task_directory(const struct options *o, struct text *out);
/** Prints {"ids": [...], "decoded": "..."} for every {"text": ...} line of a file, with the tokenizer in `model`, a model's
 *  directory. With overrides, or where `model` is an input file, the rows as the task would read them: also "prompt",
 *  "label" and "end", the texts of their tokens.                                                                Local. */
enum status task_encode(const char *model, const char *file, int n_override, char *const *override);
/** A page of --help; topic NULL: the first. ERR_USAGE: there is none of this topic; the nearest names are told. */
enum status task_help(const char *topic, struct text *out);
/** The text of --version: version, commit, libraries. */
enum status task_version(struct text *out);
#endif
