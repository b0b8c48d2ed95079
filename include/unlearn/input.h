/* input: what was asked for and read - the input file, the model's description, data sets, objectives, risks, sets to
 * evaluate, prompts. inputs_read() makes all of it once, equal on every process; from then on it is const.            */
#ifndef UNLEARN_INPUT_H
#define UNLEARN_INPUT_H
#include "unlearn/config.h"
#include "unlearn/data.h"
#include "unlearn/eval.h"
#include "unlearn/geffect.h"
#include "unlearn/model.h"
#include "unlearn/objective.h"
#include "unlearn/parallel.h"

struct regularizer {
    struct objective objective;
    double weight;
    size_t batch; /* retain rows of an update */
};
struct risk {                   /* R_k = sum over some rows of weight times their mean nll */
    const char *name;           /* borrowed */
    const struct dataset *data; /* inputs->forget, ->retain, or ->own */
    struct dataset *own;        /* of a file named by the risk; else NULL */
    size_t n, *row;             /* owned, as all that follow */
    double *weight;             /* [n] */
    size_t *label_first;        /* [data->n_row+1] */
};
struct direction {    /* in the space of hidden states */
    const char *path; /* the file it came from, borrowed; NULL: drawn */
    real *u;          /* [hidden] owned */
};

/* ------------------------------------------------------------------------------------------- sets to evaluate ----- */
/* The same questions with other answers, or other questions with the same. */
enum variant_of { OF_ANSWER, OF_PARAPHRASED, OF_PERTURBED, OF_QUESTION, N_VARIANT_OF };
struct evaluated_set {
    const char *name, *path; /* borrowed */
    size_t n;
    struct variants of[N_VARIANT_OF]; /* data NULL: no row has it, or not asked for */
    struct prompts prompts;           /* texts on rank 0 only */
    bool generates;
};
struct evaluation_inputs {
    struct evaluated_set *set;
    size_t n;
    struct score_rule rule;
    bool wanted[N_SCORE];
    unsigned needs;                /* of enum score_need: of all that is wanted */
    size_t most_rows, most_labels; /* of any variant of any set */
    size_t longest, longest_prompt, most_prompts;
    struct tokenizer *tokenizer; /* to decode answers; rank 0 only */
    struct eval_log retain;      /* evaluate.retain_logs; rank 0 only; empty: not given */
};

/* -------------------------------------------------------------------------------------------- task: generate ----- */
struct prompt_inputs {
    size_t n, *first; /* [n+1] ids of prompt i are first[i] ... first[i+1]-1 of id; owned, as what follows */
    int32_t *id;
    size_t n_long;               /* prompts that leave no room for an answer */
    struct text *text;           /* [n] what became these ids; rank 0 only */
    struct tokenizer *tokenizer; /* to decode answers; rank 0 only */
    uint64_t hash;               /* of first and id */
};

/* -------------------------------------------------------------------------------------------------------- all ----- */
struct inputs { /* owns all that it points to */
    /* as it was read */
    const struct config *config;
    const struct shape *shape;
    const struct dataset *forget, *retain;      /* NULL: not given */
    const struct dataset *refusals;             /* the forget rows with stock refusals as answers; NULL: not needed */
    const struct dataset *pairs;                /* for dpo: the forget rows, then as many refusals; NULL: not needed */
    const struct dataset *train;                /* what updates draw from: forget, or for finetune all that is given */
    const struct evaluation_inputs *evaluation; /* NULL: nothing is evaluated */
    const struct prompt_inputs *prompts;        /* of task generate; else NULL */

    /* found in the tables of objectives, layers and rows */
    struct objective objective; /* trained */
    const struct regularizer *regularizer;
    size_t n_regularizer;
    const struct objective *measured; /* [J] */
    const char *const *label;         /* [J] names in the files */
    size_t n_measured;
    const struct risk *risk; /* [K] */
    size_t n_risk;
    const struct direction *direction;
    size_t n_direction;
    const bool *frozen; /* [parameters, in a layout's order] train.freeze; NULL: none */
    size_t held_out;    /* first retain rows never trained on */

    /* what follows from it */
    bool trains, measures;
    bool needs_reference;         /* its nll of labels */
    bool needs_distribution;      /* its whole distributions or hidden states: kept for the rows to come, or a copy */
    bool needs_hidden;            /* losses act on hidden states */
    size_t longest, longest_pair; /* tokens of the longest row, and of the longest pair */
};

/** Reads `file` with its n_override overrides, and all it names but the weights, whose headers are checked: one process
 *  reads, the others receive, so that none can see another version of a file. ERR_INPUT with the place of what is wrong
 *  and what to do.                                                                              Collective over world. */
enum status inputs_read(const char *file, int n_override, char *const *override, const struct grid *world,
                        const struct inputs **out);
void inputs_free(const struct inputs *in);

/** The setting of an objective of the config; NULL: not given. */
const struct config_setting *setting_find(const struct config_objective *from, const char *key);
/** The rows that an objective reads of the forget set: the set itself, its refusals, or both. */
const struct dataset *inputs_of(const struct inputs *in, const struct objective *o);
/** The risk whose rows are the instances of the regularisers: the first one on retain; NULL: none. */
const struct risk *inputs_regularized(const struct inputs *in);
/** The set of this name; NULL: none. */
const struct evaluated_set *evaluated_set(const struct inputs *in, const char *name);
/** Whether the set has what the score is made of. */
bool scores_possible(const struct evaluated_set *s, enum score which);

/** Rows of a risk, without reference values. */
struct rows risk_rows(const struct risk *k);
/** Most labels of the sets that risks are taken over. */
size_t risk_labels(const struct inputs *in);
/** R_k, in nats, from the nll of every label at label_first of its row. */
double risk_mean(const struct risk *k, const double *nll);
/** Weights of the rows of an objective over a whole set, by geffect.estimator: [rows->n].                        Local. */
enum status objective_weights(const struct inputs *in, const struct objective *o, const struct rows *rows,
                              double *weight);
#endif
