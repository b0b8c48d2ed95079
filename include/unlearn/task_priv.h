/* Private to the room task: what was read, what was planned, what is allocated; the parts of the story. */
#ifndef UNLEARN_TASK_PRIV_H
#define UNLEARN_TASK_PRIV_H
#include "unlearn/config.h"
#include "unlearn/data.h"
#include "unlearn/eval.h"
#include "unlearn/geffect.h"
#include "unlearn/model.h"
#include "unlearn/objective.h"
#include "unlearn/optim.h"
#include "unlearn/output.h"
#include "unlearn/parallel.h"
#include "unlearn/task.h"

/* ---------------------------------------------------------------------------------------------------- inputs ----- */
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

struct inputs { /* equal on every process */
    struct config *config;
    struct shape *shape;
    struct dataset *forget, *retain; /* NULL: not given */
    struct dataset *refusals;        /* the forget rows with stock refusals as answers; NULL: not needed */
    struct dataset *pairs;           /* for dpo: the forget rows, then as many refusals; NULL: not needed */
    struct dataset *train;           /* what updates draw from: forget, or for finetune all that is given */
    size_t held_out;                 /* first retain rows never trained on */
    struct objective objective;      /* trained */
    struct regularizer *regularizer;
    size_t n_regularizer;
    struct objective *measured; /* J */
    char **label;               /* [J] names in the files */
    size_t n_measured;
    struct risk *risk; /* K */
    size_t n_risk;
    bool *frozen; /* [parameters, in a layout's order] train.freeze; NULL: none */
    bool trains, measures;
    struct direction *direction;
    size_t n_direction;
    bool needs_reference;         /* its nll of labels */
    bool needs_distribution;      /* its whole distributions or hidden states: kept for the rows to come, or a copy */
    bool needs_hidden;            /* losses act on hidden states */
    size_t longest, longest_pair; /* tokens of the longest row, and of the longest pair */
    bool fidelity, gram; /* beside the effects: what updates did to the risks; inner products of whole gradients */
    struct evaluation_inputs *evaluation; /* NULL: nothing is evaluated */
    struct prompt_inputs *prompts;        /* of task generate; else NULL */
};
/** Reads everything but the weights: one process reads, the others receive.                    Collective over world. */
enum status inputs_read(const struct options *o, const struct grid *world, struct inputs **out);
void inputs_free(struct inputs *in);
/** Objective and regularisers of the config by the objective table; labels; what they need. */
enum status inputs_objectives(struct inputs *in);
/** The config's entry that measured objective j was made from: a bare name takes the settings of `objective`. */
const struct config_objective *measured_from(const struct config *c, size_t j);
/** The setting of this key; NULL: not given. */
const struct config_setting *setting_find(const struct config_objective *from, const char *key);
/** Layers and directions of the objectives on hidden states, when the model's shape is known.  Collective over world. */
enum status inputs_hidden(struct inputs *in, const struct grid *world);
/** A text file, read by one process, on every process; the caller frees it.                    Collective over world. */
enum status inputs_text(const struct grid *world, const char *path, size_t most, char **text, size_t *n);
/** Rows of every risk. */
enum status inputs_risks(struct inputs *in, const struct grid *world, const struct data_rule *rule);
/** The parameters that train.freeze names. */
enum status inputs_freeze(struct inputs *in);
/** Warns of rows that were cut, takes the longest into account, refuses what the model cannot read. NULL: nothing. */
enum status inputs_lengths(struct inputs *in, const struct dataset *d);
/** One process reads a data file, all receive it; with idk not NULL each row's answer is a line of that file, drawn by the
 *  config. Only rank 0 needs a rule with a tokenizer.                                            Collective over world. */
enum status inputs_dataset(const struct grid *world, const struct data_file *f, const char *idk, const struct config *c,
                           const struct data_rule *rule, struct dataset **out);
/** Fills weights and label_first of a risk by geffect.normalisation and .estimator. */
enum status risk_weights(const struct config *c, struct risk *k);
/** R_k from the nll of every label at label_first of its row. */
double risk_mean(const struct risk *k, const double *nll);
/** Weights of the rows of an objective over a whole set, by geffect.estimator: [rows->n]. */
enum status objective_weights(const struct inputs *in, const struct objective *o, const struct rows *rows,
                              double *weight);
/** The rows that an objective reads of the forget set: the set itself, its refusals, or both. */
const struct dataset *inputs_of(const struct inputs *in, const struct objective *o);

/** Which scores; then their sets. The tokenizer stays open where it is needed.              Collective over world. */
enum status inputs_scores(struct inputs *in);
enum status inputs_evaluation(struct inputs *in, const struct grid *world, const struct data_rule *rule);
void inputs_evaluation_free(struct inputs *in);
/** The set of this name; NULL: none. */
const struct evaluated_set *evaluated_set(const struct inputs *in, const char *name);

/* -------------------------------------------------------------------------------------------------- schedule ----- */
struct timetable { /* which rows update t uses, by the input alone */
    size_t rows, batch, updates, warmup;
    bool shuffle;
    uint64_t seed, epoch; /* epoch + 1 that `order` holds, 0: none */
    size_t *order;        /* [rows] owned */
};
enum status timetable_new(const struct config *c, size_t rows, struct timetable *s);
void timetable_free(struct timetable *s);
void timetable_rows(struct timetable *s, size_t t, size_t *row); /* [batch] */
/** Retain rows of update t, from rows first ... n_rows-1. */
void timetable_retain(const struct config *c, size_t t, size_t first, size_t n_rows, size_t n, size_t *row);
bool timetable_measured(const struct config *c, const struct timetable *s, size_t t);
bool timetable_evaluated(const struct config *c, size_t t);

/* ------------------------------------------------------------------------------------------------- reference ----- */
struct reference {      /* what is kept of the reference's distributions and hidden states, instead of its weights */
    struct kept **kept; /* [n] */
    size_t n, bytes;    /* of the data rank that keeps most */
    size_t bytes_run;   /* of them, of what updates and measurements read */
};
/** The rows that the run will read, still without values.                                                       Local. */
enum status reference_list(const struct inputs *in, struct timetable *s, const struct layout *l, int data_size,
                           struct reference *r);
void reference_free(struct reference *r);

/* ------------------------------------------------------------------------------------------------------ plan ----- */
struct plan {
    int data, tensor, threads;
    size_t tokens;               /* of a pass */
    size_t tokens_evaluated;     /* of a pass of an evaluation, whose rows may be longer */
    bool copies;                 /* the reference's weights; else what it says of rows is kept */
    size_t rows;                 /* longest list of an update or a measurement */
    struct engine_limits engine; /* rows, J, K; rows of an evaluation too */
    struct model_limits model;
    size_t bytes_state, n_state, bytes_model, bytes_engine, bytes_results, bytes_values, bytes_base, bytes; /* per rank */
    size_t bytes_evaluation;
    size_t slots; /* answers generated together */
    double flops_update, flops_measure, flops_evaluate;
};
/** data, tensor, threads: as asked, or chosen. */
enum status plan_layout(const struct inputs *in, const struct timetable *s, const struct grid *world, struct plan *p);
/** Layout, sizes of passes, memory and work of a run; refuses what cannot run.                                  Local. */
enum status plan_make(const struct inputs *in, struct timetable *s, const struct grid *world, struct plan *p);
/** Whether every process may take the planned memory, and this node has it.                                      Local. */
enum status plan_memory(const struct inputs *in, const struct plan *p);
enum status plan_print(const struct inputs *in, const struct timetable *s, const struct plan *p, struct text *out);
/** --check: prints the resolved input, this text of the plan, and the digest; needs memory for the weights only, so that it
 *  can be done elsewhere.                                                                      Collective over the job. */
enum status plan_check(const struct inputs *in, const struct plan *p, const struct text *plan);
/** Hash of all values that decide the numbers, whatever their spelling. */
uint64_t plan_digest(const struct inputs *in, uint64_t weights, uint64_t reference);
/** Products with N of a token that the reference's forward adds to an objective's own; 0 where its values are kept. */
double plan_reference(const struct plan *p, const struct objective *o);
/** Parameters that a token is multiplied by: all but the input embedding. */
double plan_products(const struct layout *l);
/** Of the passes of updates, measurements and evaluations. */
size_t plan_most_tokens(const struct plan *p);

/* ------------------------------------------------------------------------------------------------------- run ----- */
struct run {
    const struct inputs *in; /* borrowed, as plan */
    const struct plan *plan;
    struct timetable *timetable; /* borrowed */
    struct grid *grid;
    struct layout *layout;
    struct state *weights, *gradient, *reference, **risk_gradient;
    struct state *part;        /* gradient of a regulariser, by turns; only where there is one */
    struct state *regularizer; /* their sum: `part` where there is one only; NULL: not needed */
    struct state *step;        /* theta_t, then theta_t+1 - theta_t, of a measured update; NULL: not needed */
    struct gram *gram;         /* NULL: not asked for */
    struct fidelity *fidelity; /* the same */
    struct spread *spread;     /* the same */
    struct model *model;
    struct engine engine;
    struct optim *optim;
    struct reference kept;
    double *nll_ref; /* of every label of the forget rows, and of the pairs where there are any */
    size_t *label_first;
    size_t *every_row;                          /* 0, 1, 2, ... */
    size_t *batch_row, *retain_row;             /* of an update */
    double *weight, *loss;                      /* [longest list] */
    double *effect, *effect_loss, *mean_weight; /* [J][K][slot][n], [J][n] x2 */
    double *slab;                               /* [J][K][layer][n] */
    double *instance_weight, *total;            /* [J][n] of the forget rows; [J][K] effects summed with them */
    double *risk_value;                         /* [K] of the last measurement */
    double *risk_nll;                           /* of every label of a risk's rows, by turns */
    double *inverse_confidence;                 /* [forget rows] */
    size_t n_out_layer;                         /* labels of the files' `layer` axis */
    char **out_layer;                           /* owned */
    size_t *slot_out;                           /* [slots] label of each slot */
    struct file *geffect, *train;               /* rank 0 only */
    struct evaluation *evaluation;              /* NULL: nothing is evaluated */
    struct directory *directory;                /* rank 0 only */
    double gemm_rate;                           /* flop/s of one process, measured */
    double flops;                               /* nominal, of the job */
    double started;                             /* clock at the first update */
};
/** Everything of a run but its weights; *out also on failure.                                  Collective over the job. */
enum status run_new(const struct inputs *in, const struct plan *p, struct timetable *s, const struct grid *world,
                    struct run **out);
void run_free(struct run *r);
/** Rows of a data set with the reference values that there are. */
struct rows run_rows(const struct run *r, const struct dataset *d, size_t n, const size_t *row);
/** All forget rows as an objective reads them: with their answers, with refusals, or as pairs. */
struct rows run_forget(const struct run *r, const struct objective *o);
/** Rows of a risk, without reference values. */
struct rows risk_rows(const struct risk *k);
/** Most labels of the sets that risks are taken over. */
size_t risk_labels(const struct inputs *in);
/** Hashes of the weights and the reference's, with memory for one of them only. Collective over the job. */
enum status run_hashes(const struct inputs *in, const struct plan *p, uint64_t *weights, uint64_t *reference);
/** Weights, reference values. Collective over the job. */
enum status run_weights(struct run *r);
/** Weights of model i of a trajectory. Collective over the job. */
enum status run_next_model(struct run *r, size_t i);
/** The output directory with run.log, then input.yaml, geffect.h5, train.h5. Collective over the job. */
enum status run_directory(struct run *r, const struct options *o);
enum status run_files(struct run *r);
/** Ends the files: what could not be written to them is a failure of the run. Collective over the job. */
enum status run_close(struct run *r);

double rows_tokens(const struct rows *r);
/** gradient = grad of an objective over a whole set by objective_weights(), complete; *loss = its value.
 *                                                                                              Collective over the job. */
enum status rows_gradient(struct run *r, const struct objective *o, const struct rows *rows, struct state *gradient,
                          double *loss);
/** The risk whose rows are the instances of the regularisers: the first one on retain; NULL: none. */
const struct risk *regularized_rows(const struct inputs *in);

struct update {                     /* what one update was */
    double loss, objective, *part;  /* part [n_regularizer] */
    double norm, norm_of_objective; /* of the gradients */
    double *norm_of_part;           /* [n_regularizer] weight included */
    double rate, seconds;
    size_t tokens;
};
/** The batch gradient of update t into r->gradient, complete, and its parts' norms. Collective over the job. */
enum status update_gradient(struct run *r, size_t t, struct update *u);
/** Row t of geffect.h5 at the weights as they are: all risks, all objectives, all regularisers. u: the update that follows,
 *  its gradient complete; NULL: none.                                                          Collective over the job. */
enum status measure(struct run *r, const struct update *u);
/** What the update, now made, did; then the row is complete and committed.                     Collective over the job. */
enum status measure_end(struct run *r, size_t t, const struct update *u);

/* ------------------------------------------------------------------------ inner products of whole gradients ----- */
struct gram {
    size_t n;                /* gradients; the update is the last one */
    const char **label;      /* [n] borrowed names */
    struct state **vector;   /* [n] borrowed; NULL: not there at this step */
    struct state *objective; /* grad L(D_u), owned */
    double *value;           /* [n_out_layer][n][n] */
    double *row;             /* [n_out_layer][n] */
    double *dot;             /* [n_param] */
};
/** Refuses a risk with the name of another gradient. */
enum status gram_check(const struct inputs *in);
/** Gradients of the matrix. */
size_t gram_size(const struct inputs *in);
enum status gram_new(struct run *r);
void gram_free(struct gram *g);
/** All that is known before the update. Collective over the job. */
enum status gram_measure(struct run *r, const struct update *u);
/** The update's inner products, from r->step. Collective over the job. */
void gram_update(struct run *r);

/* ------------------------------------------------------------------------- predicted and actual change of risks ----- */
struct fidelity {
    double *predicted, *plain, *actual; /* [K] */
    double *dot;                        /* [n_param] */
};
enum status fidelity_new(struct run *r);
void fidelity_free(struct fidelity *f);
/** After update u: from r->step, r->gradient, and the risks anew. NULL: no update. Collective over the job. */
enum status fidelity_measure(struct run *r, const struct update *u);

/* ---------------------------------------------------------------------------------------------- evaluation ----- */
struct evaluation {
    size_t *every, *label_first; /* [most rows], [most rows + 1] */
    double *nll, *hit, *z;       /* of every label of one variant of one set; NULL: not wanted */
    double *list;                /* [most rows] */
    double **reference;          /* [set][row] mean nll of the answer under the reference; NULL: not wanted */
    struct scored_set *set;      /* [set] scores owned, logs of `log`; rank 0 only, as all that follows */
    struct evaluation_numbers numbers;
    struct eval_log log; /* of the published sets */
    struct file *file;
};
/** How answers are generated. */
struct generation evaluation_decoding(const struct inputs *in, const struct plan *p);
/** Bytes beside the model's, the engine's and those of decoding. */
size_t evaluation_bytes(const struct inputs *in);
enum status evaluation_new(struct run *r);
void evaluation_free(struct run *r);
/** What the reference says of the answers, its weights in r->weights.                          Collective over the job. */
enum status evaluation_reference(struct run *r);
/** All scores at the weights as they are, a row of evaluation.h5; the last one also writes the JSON files and the table.
 *                                                                                              Collective over the job. */
enum status evaluate(struct run *r, size_t step, bool last);

/** Whether the set has what the score is made of. */
bool scores_possible(const struct evaluated_set *s, enum score which);

/** evaluation.h5 and its rows; the files of other tools.                                                         Local. */
enum status evaluation_open(struct run *r, const char *path, size_t n_attribute, const struct attribute *attribute);
enum status evaluation_put(struct run *r, size_t step);
enum status evaluation_json(const struct run *r);
/** Rows of a set without a number, and what they are left out of. */
void report_left_out(const struct run *r, size_t set);
void report_evaluation(const struct run *r, size_t step, bool last);

/* -------------------------------------------------------------------- standard errors over the rows of a risk ----- */
struct spread {
    size_t n;                /* objectives */
    struct state **gradient; /* [n] grad L_j(D_u), owned */
    double *value;           /* [J][K] */
};
enum status spread_new(struct run *r);
void spread_free(struct spread *s);
/** At the weights as they are, after effects have been written: it uses their buffers. Collective over the job. */
enum status spread_measure(struct run *r);

/** The story. */
enum status unlearn(struct run *r);

/* ------------------------------------------------------------------------------------------- task: generate ----- */
struct prompt_inputs {
    size_t n, *first; /* [n+1] ids of prompt i are first[i] ... first[i+1]-1 of id; owned, as what follows */
    int32_t *id;
    size_t n_long;               /* prompts that leave no room for an answer */
    struct text *text;           /* [n] what became these ids; rank 0 only */
    struct tokenizer *tokenizer; /* to decode answers; rank 0 only */
    uint64_t hash;               /* of first and id */
};
/** in->prompts, for task generate.                                                             Collective over world. */
enum status inputs_prompts(struct inputs *in, const struct grid *world, const struct data_rule *rule);
void inputs_prompts_free(struct inputs *in);
/** The text of an answer; an id of the embedding that the tokenizer does not know has none.                      Local. */
enum status answer_text(const struct tokenizer *t, const int32_t *id, size_t n, struct text *out);
/** The whole task, or with --check all short of it.                                           Collective over the job. */
enum status task_generate(const struct options *o, const struct inputs *in, const struct grid *world);

/* ---------------------------------------------------------------------------------------------------- report ----- */
void report_kernels(void); /* the BLAS library's, and a warning where they are far below the processor */
void report_prediction(const struct plan *p); /* the machine's rates, and the times that they allow; for --check */
void report_head(const struct run *r);        /* program, kernels, input, model */
void report_start(const struct run *r);
void report_update(const struct run *r, size_t t, const struct update *u);
void report_measured(const struct run *r, size_t t, const struct update *u); /* u NULL: none followed */
void report_end(struct run *r);                                              /* Collective over the job */
#endif
