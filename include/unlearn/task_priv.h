/* Private to the room task: what was read, what was planned, what is allocated; the parts of the story. */
#ifndef UNLEARN_TASK_PRIV_H
#define UNLEARN_TASK_PRIV_H
#include "unlearn/config.h"
#include "unlearn/data.h"
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

/* ------------------------------------------------------------------------------------------------- reference ----- */
struct reference {      /* what is kept of the reference's distributions and hidden states, instead of its weights */
    struct kept **kept; /* [n] */
    size_t n, bytes;    /* of the data rank that keeps most */
};
/** The rows that the run will read, still without values.                                                       Local. */
enum status reference_list(const struct inputs *in, struct timetable *s, const struct layout *l, int data_size,
                           struct reference *r);
void reference_free(struct reference *r);

/* ------------------------------------------------------------------------------------------------------ plan ----- */
struct plan {
    int data, tensor, threads;
    size_t tokens;               /* of a pass */
    bool copies;                 /* the reference's weights; else what it says of rows is kept */
    struct engine_limits engine; /* rows, J, K */
    struct model_limits model;
    size_t bytes_state, n_state, bytes_model, bytes_engine, bytes_results, bytes_values, bytes_base, bytes; /* per rank */
    double flops_update, flops_measure;
};
/** data, tensor, threads: as asked, or chosen. */
enum status plan_layout(const struct inputs *in, const struct timetable *s, const struct grid *world, struct plan *p);
/** Layout, sizes of passes, memory and work of a run; refuses what cannot run.                                  Local. */
enum status plan_make(const struct inputs *in, struct timetable *s, const struct grid *world, struct plan *p);
/** Whether every process may take the planned memory, and this node has it.                                      Local. */
enum status plan_memory(const struct inputs *in, const struct plan *p);
enum status plan_print(const struct inputs *in, const struct timetable *s, const struct plan *p, struct text *out);
/** Hash of all values that decide the numbers, whatever their spelling. */
uint64_t plan_digest(const struct inputs *in, uint64_t weights, uint64_t reference);
/** Products with N of a token that the reference's forward adds to an objective's own; 0 where its values are kept. */
double plan_reference(const struct plan *p, const struct objective *o);
/** Parameters that a token is multiplied by: all but the input embedding. */
double plan_products(const struct layout *l);

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

/* ---------------------------------------------------------------------------------------------------- report ----- */
void report_start(const struct run *r);
void report_update(const struct run *r, size_t t, const struct update *u);
void report_measured(const struct run *r, size_t t, const struct update *u); /* u NULL: none followed */
void report_end(struct run *r);                                              /* Collective over the job */
#endif
