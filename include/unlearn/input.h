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
    size_t batch; /* retain rows in an update */
};
struct risk {                   /* R_k = sum over some rows of weight times their mean nll */
    const char *name;           /* borrowed */
    const struct dataset *data; /* inputs->forget, ->retain, or ->own */
    struct dataset *own;        /* the data set of a file that the risk names; else NULL */
    size_t n, *row;             /* owned, as all that follow */
    double *weight;             /* [n] */
    size_t *label_first;        /* [data->n_row+1] */
};
struct direction {    /* a direction in the space of hidden states */
    const char *path; /* the file with the direction, borrowed; NULL: drawn */
    bool unit;        /* divided by its norm */
    real *u;          /* [hidden] owned */
};

/* ------------------------------------------------------------------------------------------- sets to evaluate ----- */
/* The same questions with other answers, or paraphrased questions with the same answers. */
enum variant_of { OF_ANSWER, OF_PARAPHRASED, OF_PERTURBED, OF_QUESTION, N_VARIANT_OF };
struct set_form { /* a kind of set of another benchmark than TOFU */
    const char *name;
    const char *question, *answer, *text; /* keys of a row; text: all of a row is one text, and the others are NULL */
    const char *examples;                 /* the set of examples that stand before each question; NULL: none */
    size_t new_tokens;                    /* of a generated answer; 0: none is generated */
    bool shortens;                        /* the answer is as many ids of the file's */
};
struct evaluated_set {
    const char *name, *path;     /* borrowed */
    const struct set_form *form; /* static; NULL: questions and answers of TOFU's kind */
    size_t n;
    size_t *right; /* [n] the right one of a question's choices, on rank 0 only; NULL: no choices; owned */
    struct variants of[N_VARIANT_OF]; /* data NULL: no row has it, or it is not needed */
    struct prompts prompts;           /* texts on rank 0 only */
    struct text *label;               /* [n] what zlib compresses, on rank 0 only; NULL: prompts.answer; owned */
    size_t longest_prompt;            /* tokens */
    bool generates;
};
struct evaluation_inputs {
    struct evaluated_set *set;
    size_t n;
    struct score_rule rule;
    bool wanted[N_SCORE];
    unsigned needs;                /* of enum score_need: what all wanted scores need */
    size_t most_rows, most_labels; /* of the largest variant of any set */
    size_t longest, longest_prompt, most_prompts;
    size_t longest_answered;     /* most tokens of a prompt and its answer together */
    struct tokenizer *tokenizer; /* to decode answers; rank 0 only */
    size_t hide;                 /* as in struct data_rule */
    bool tidies;                 /* decoding tidies unasked; rank 0 only */
    struct eval_log retain;      /* evaluate.retain_logs; rank 0 only; empty: not given */
};

/* -------------------------------------------------------------------------------------------- task: generate ----- */
struct prompt_inputs {
    size_t n, *first; /* [n+1] ids of prompt i are first[i] ... first[i+1]-1 of id; owned, as what follows */
    int32_t *id;
    size_t n_long;               /* prompts that leave no room for an answer */
    struct text *text;           /* [n] the texts of these ids; rank 0 only */
    struct text question;        /* of the first row that has one; rank 0 only */
    struct tokenizer *tokenizer; /* to decode answers; rank 0 only */
    uint64_t hash;               /* of first and id */
};

/* -------------------------------------------------------------------------------------------------- end tokens ----- */
/* A row's: the tokenizer's eos_token (special_tokens_map.json, tokenizer_config.json), as TOFU appends it; where that names
 * none, the first eos_token_id of config.json. An answer's: every eos_token_id of generation_config.json, as transformers
 * stops; where there is no such file, of config.json. */
struct ends {
    int32_t row;   /* negative: there is none */
    bool labelled; /* rows end with labels that are no part of the answer, unless they are cut or the model has none */
    size_t n;
    int32_t id[MAX_EOS]; /* any of them ends an answer and is not part of it */
    char said[256];      /* which, from which files, and where another file says something else */
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
    const struct prompt_inputs *prompts;        /* NULL: the task is not generate */

    /* made from the tables of objectives, layers and rows */
    struct objective objective; /* the one that is trained */
    const struct regularizer *regularizer;
    size_t n_regularizer;
    const struct objective *measured; /* [J] */
    const char *const *label;         /* [J] names in the files */
    size_t n_measured;
    const struct risk *risk; /* [K] */
    size_t n_risk;
    const struct risk *paired; /* geffect.pairs: the rows p of a pair, without a name; NULL: no pairs */
    const struct direction *direction;
    size_t n_direction;
    const bool *frozen; /* [parameters, in a layout's order] train.freeze; NULL: none */
    size_t held_out;    /* number of first retain rows that are never trained on */
    struct ends ends;

    /* what follows from the above */
    bool trains, measures;
    bool needs_reference;         /* the reference's nll of labels */
    bool needs_distribution;      /* the reference's whole distributions or hidden states */
    bool trains_reference;        /* what is trained needs either */
    bool trains_refusals;         /* and what is trained needs data.idk */
    bool needs_hidden;            /* losses act on hidden states */
    bool half_reference;          /* its files have all in bfloat16: nothing is lost where it is held so */
    size_t longest, longest_pair; /* tokens of the longest row, and of the longest pair */
};

/** Reads `file`, with n_override overrides, and all files it names; of the weights it only checks the headers. One
 *  process reads and sends to the others, so that all see the same version of a file. ERR_INPUT says where the error is
 *  and what to do.                                                                            Collective over world. */
enum status inputs_read(const char *file, int n_override, char *const *override, const struct grid *world,
                        const struct inputs **out);
void inputs_free(const struct inputs *in);
/** Sets optimizer.decay to all, for a run that goes on from a checkpoint of a program in which it was always so.    Local. */
void inputs_decay_all(const struct inputs *in);

/** Opens the tokenizer of model.path, and makes the rule by which data become tokens: the template, what begins and ends a
 *  row. s NULL: without a model. `c` must outlive the rule.                                                     Local. */
enum status rule_open(const struct config *c, const struct shape *s, struct tokenizer **tokenizer, struct data_rule *rule,
                      struct ends *ends);
/** Whether other tokens end answers than config.json says. */
bool ends_differ(const struct inputs *in);
/** The setting `key` of an objective in the config; NULL: not given. */
const struct config_setting *setting_find(const struct config_objective *from, const char *key);
/** Whether it says what the objective has without it, be it a regulariser.                                        Local. */
bool setting_is_default(const struct config_objective *from, const struct config_setting *s);
/** The forget rows as an objective reads them: with their answers, with refusals, or as pairs of both. */
const struct dataset *inputs_of(const struct inputs *in, const struct objective *o);
/** The risk whose rows are the regularisers' instances: the first risk on retain; NULL: none. */
const struct risk *inputs_regularized(const struct inputs *in);
/** The evaluated set of this name; NULL: none. */
const struct evaluated_set *evaluated_set(const struct inputs *in, const char *name);
/** Whether the set has what the score needs. */
bool scores_possible(const struct evaluated_set *s, enum score which);

/** The rows of a risk, without reference values. */
struct rows risk_rows(const struct risk *k);
/** Labels of the largest data set of a risk. */
size_t risk_labels(const struct inputs *in);
/** R_k, in nats, from the nll of every label at label_first of its row. */
double risk_mean(const struct risk *k, const double *nll);
/** weight [rows->n]: the rows' weights in an objective over the whole set, by geffect.estimator.              Local. */
enum status objective_weights(const struct inputs *in, const struct objective *o, const struct rows *rows,
                              double *weight);
#endif
