/* The texts of --help and --version. */
#include "unlearn/task_priv.h"

enum status task_help(struct text *out)
{
    enum status st;
    TRY(text_print(
        out,
        "usage: unlearn [options] input.yaml [key.sub=value ...]\n"
        "       unlearn --encode MODEL_DIR FILE.jsonl [data.template=NAME ...]\n\n"
        "Removes knowledge from a language model and measures, for every step, layer and instance, what each\n"
        "objective does to what must be forgotten and to what must stay. Start it with mpirun -np N for N\n"
        "processes.\n\n"
        "  --check          read everything, print the resolved input, layout, memory, work and least time, and stop\n"
        "  --overwrite      replace the results of an earlier run in the output directory\n"
        "  --restart        go on with the run in the output directory, from its newest sound checkpoint\n"
        "  --max-hours H    save a checkpoint and stop in time to end H hours after the start\n"
        "  --encode         print the token ids of every {\"text\": ...} line; with keys, or an input.yaml in place of "
        "the\n"
        "                   directory, those of every row of questions and answers: prompt, label and end\n"
        "  --version        version, libraries\n"
        "  --help           this text; --help preset: the defaults that a preset sets\n\n"
        "SIGTERM, SIGINT, SIGUSR1, SIGUSR2, a file STOP in the output directory and the end of the job that a scheduler\n"
        "tells (SLURM_JOB_END_TIME, PBS_WALLTIME) do the same; a second signal ends the process at once.\n\n"
        "OPENBLAS_CORETYPE in the environment names the kernels of OpenBLAS; unset, the program finds the best.\n\n"
        "exit status: 0 done, 1 bad input or data, 2 wrong usage, 3 failed run, 75 stopped early with a "
        "checkpoint\n\nkeys of input.yaml (null: as if the key were not written):\n"));
    TRY(config_describe(out));
    TRY(text_print(out, "\ntemplates of data.template:\n"));
    TRY(template_describe(out));
    TRY(text_print(out, "\nobjectives and regularizers:\n"));
    TRY(objective_describe(out));
    TRY(text_print(out, "\nscores of evaluate.metrics, of each row of each set:\n"));
    for (int k = 0; k < N_SCORE; k++) TRY(text_print(out, "  %-32s %s\n", score_table[k].name, score_table[k].text));
done:
    return st;
}

enum status task_version(struct text *out)
{
    return text_print(out, "unlearn %s (%s), %s\n%s\n%s\n", UNLEARN_VERSION, UNLEARN_COMMIT,
                      sizeof(real) == 8 ? "float64" : "float32", math_library(), parallel_library());
}
