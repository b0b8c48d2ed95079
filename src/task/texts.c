/* What --help, the manual page and docs/ say that stands in no other table: options, exit statuses, files. */
#include "unlearn/task_priv.h"

const char help_summary[] = "Removes knowledge from a language model and measures, for every step, layer and instance, "
                            "what each objective does to "
                            "what must be forgotten and to what must stay.";

const struct entry help_options[] = {
    {"--check", "read all; print the resolved input, layout, memory, work, least time; stop"},
    {"--directory", "print the output directory of the input; stop: reads nothing else, needs no mpirun"},
    {"--restart", "go on with the run in the output directory, from its newest sound checkpoint"},
    {"--overwrite", "replace the results of an earlier run in the output directory"},
    {"--max-hours H", "save a checkpoint and stop in time to end H hours after the start"},
    {"--encode DIR FILE", "print the token ids of every {\"text\": ...} line by the tokenizer in DIR; with keys, or an "
                          "input.yaml in place of DIR, those of every row of questions and answers: prompt, label, end"},
    {"--version", "version and libraries"},
    {"--help [TOPIC]", "this page, or one about TOPIC"},
    {NULL, NULL},
};

const struct entry help_ends[] = {
    {"0", "done"},
    {"1", "bad input or data"},
    {"2", "wrong usage"},
    {"3", "failed run: memory, disk, a number that is not finite"},
    {"75", "stopped early with a checkpoint: go on with --restart"},
    {NULL, NULL},
};

const char help_stops[] =
    "SIGTERM, SIGINT, SIGUSR1, SIGUSR2, a file STOP in the output directory, --max-hours, and the end of the job that a "
    "scheduler tells (SLURM_JOB_END_TIME, PBS_WALLTIME): a run that trains finishes its update, saves a checkpoint and "
    "leaves with status 75; --restart goes on. A second signal, or one to another task, ends the process at once.";

const char help_errors[] =
    "An error is one line on standard error: unlearn: error: FILE[:LINE[:COLUMN]]: what is wrong, and "
    "what to do.";

const struct entry help_environment[] = {
    {"OPENBLAS_CORETYPE", "the kernels of OpenBLAS; unset, the program finds the best"},
    {"OMP_NUM_THREADS", "threads of a process where parallel.threads is auto"},
    {NULL, NULL},
};

const struct output_text help_files[] = {
    {"input.yaml", "every task", "the input with every default made explicit; reads back to the same run"},
    {"run.log", "every task", "what happened, where the time went, and how near to the machine's best"},
    {"geffect.h5", "task: unlearn with geffect.every above 0, or task: geffect",
     "G-effects, losses, weights, risks, and what was asked for beside"},
    {"tokens.h5", "geffect.tokens", "the effect of every token on every risk: docs/TOKENS.md"},
    {"train.h5", "task: finetune, unlearn",
     "loss and its parts, learning rate, gradient norms, tokens, seconds of every update"},
    {"evaluation.h5", "task: evaluate, or evaluate.every above 0",
     "every score of every row, means, numbers of the whole evaluation"},
    {"eval_log_aggregated.json", "as evaluation.h5, with evaluate.benchmark: tofu",
     "the scores in the format of TOFU's own scripts"},
    {"TOFU_EVAL.json, TOFU_SUMMARY.json", "as evaluation.h5, with evaluate.benchmark: tofu",
     "the scores in the format of open-unlearning: by row, and in one table"},
    {"MUSE_EVAL.json, MUSE_SUMMARY.json", "as evaluation.h5, with evaluate.benchmark: muse", "the same of MUSE"},
    {"WMDP_EVAL.json, WMDP_SUMMARY.json", "as evaluation.h5, with evaluate.benchmark: wmdp", "the same of WMDP"},
    {"generations.jsonl", "task: generate",
     "a line of JSON for each prompt: row, prompt, prompt_tokens, ids, text, stop (eos or max_length)"},
    {"model/", "task: finetune, unlearn, with checkpoint.export",
     "the new model as a Hugging Face directory: weights, configuration, tokenizer"},
    {"checkpoint-N/", "checkpoint.every above 0, or a run that was stopped",
     "the state after N updates, to go on from: docs/CHECKPOINT.md"},
    {"run.lock", "every task, while it runs", "which process writes here: a second run is refused"},
    {"run.finished", "task: finetune, unlearn, when it has ended well",
     "the mark of that: --restart has nothing left to do"},
    {"run.replaced/", "--overwrite, until the new run has ended well", "the earlier run, whole"},
    {"*.h5.before", "--restart, for a moment", "a file of results while its rows are taken over"},
    {NULL, NULL, NULL},
};
