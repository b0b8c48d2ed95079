/* objective: a table whose rows give the loss of one sequence and its derivative, without messages and without a model.
 * Losses of tokens take negative log-likelihoods; losses on distributions, on hidden states and on pairs of sequences
 * say what they compare.
 * A new objective is one file and one row.                                                                            */
#ifndef UNLEARN_OBJECTIVE_H
#define UNLEARN_OBJECTIVE_H
#include "unlearn/core.h"

enum combine { BY_TOKEN, BY_SEQUENCE, BY_POSITION }; /* how sequences are weighed in a batch */
enum positions {            /* the positions of a sequence at which a loss is taken: its outputs */
                 AT_BEFORE, /* those whose next token is labelled */
                 AT_LABELS, /* those of the labelled tokens themselves */
                 AT_NEXT,   /* all that have a next token */
                 AT_ALL
};
enum need {
    NEEDS_REFERENCE = 1,    /* token nll under the reference weights */
    NEEDS_DISTRIBUTION = 2, /* the reference's whole next-token distributions */
    IS_REGULARIZER = 8,     /* may stand under objective.regularizer, on retain rows */
    IS_OBJECTIVE = 16,      /* may be trained and measured on forget rows */
    NEEDS_REPLACEMENT = 32, /* reads stock refusals in place of the answers */
    NEEDS_PAIR = 64,        /* reads each row twice: with its answer, and with a stock refusal */
    NEEDS_HIDDEN = 128,     /* acts on a hidden state of the model, chosen by its parameter `layer` */
    NEEDS_DIRECTION = 256,  /* a fixed direction in the space of that hidden state */
    NEEDS_STATES = 512      /* that hidden state under the reference weights */
};
enum { MAX_PARAMETER = 5 };
struct objective_row;
struct objective { /* a row with its parameters' values */
    const struct objective_row *row;
    double parameter[MAX_PARAMETER];
    const real *direction; /* [hidden] for NEEDS_DIRECTION, else NULL; borrowed */
};

/** The row of this name with default parameters; false when there is none. */
bool objective_find(const char *name, struct objective *out);
/** Fails with ERR_INPUT: `name` is none of this kind (IS_OBJECTIVE or IS_REGULARIZER); says what it is, or lists those there are;
 *  `where` begins the message. */
enum status objective_unknown(const char *where, const char *name, unsigned kind);
const char *objective_name(const struct objective *o);
enum combine objective_combine(const struct objective *o);
unsigned objective_needs(const struct objective *o); /* of enum need */
const char *objective_equation(const struct objective *o);
/** Sets one parameter. ERR_INPUT names the parameters there are, or the allowed range; `where` begins the message. */
enum status objective_set(struct objective *o, const char *where, const char *key, double value);
bool objective_has(const struct objective *o, const char *key); /* a parameter of this name */
/** The same for a parameter that is a word; *done: the objective has one of this name. ERR_INPUT lists the words. */
enum status objective_choose(struct objective *o, const char *where, const char *key, const char *word, bool *done);
/** "wga" or, with values, "wga(alpha=0.5)": every parameter whose value is not the default, all numbers if `all`. */
enum status objective_label(const struct objective *o, bool all, struct text *out);
/* An objective or regulariser in words. */
struct objective_text {
    const char *name, *kind, *equation, *meaning, *source; /* borrowed; kind: "objective" or "regularizer" */
    size_t n_parameter;
    const char *parameter[MAX_PARAMETER];
    struct text value[MAX_PARAMETER]; /* "0.5, above 0": the default, and what is allowed; "all | labelled" */
};
/** The i-th one that an input may name; name NULL: there are no more. For objective_text_free().                 Local. */
enum status objective_text(size_t i, struct objective_text *out);
void objective_text_free(struct objective_text *t);

enum positions objective_positions(const struct objective *o);
/** Weight of a sequence in a batch before the weights are scaled to sum to 1: its labelled tokens, its positions, or 1; of both
 *  only those that are outputs of the objective count. A sequence without a label gets 0, unless sequences combine by
 *  position. */
double objective_mass(const struct objective *o, size_t positions, size_t labels);
/** combine: crossed. The weights of a batch are those of tokens times the mean number of outputs of a row times the mean of
 *  its inverse: what open-unlearning's code computes, where a sum of [rows] is divided by a count of [rows][1].       */
bool objective_crossed(const struct objective *o);
/** unit: the direction of NEEDS_DIRECTION is divided by its norm. */
bool objective_unit(const struct objective *o);

/** LOSS_OF_TOKENS: the loss of one sequence from the nll of its n labelled tokens; 0 when n is 0.                Local.
 *  \param[in]  nll, nll_ref  [n] -log p of each labelled token, now and under the reference (NULL where not needed)
 *  \param[out] dnll  [n] dloss/dnll; weights are constants: no derivative flows through them
 *  \param[out] weight  the mean token weight, or the sequence weight (NPO); NaN where the objective has none */
double objective_token(const struct objective *o, size_t n, const double *nll, const double *nll_ref, double *dnll,
                       double *weight);

/* What a loss is computed from; every row of the table has one kind. */
enum loss_kind { LOSS_OF_TOKENS, LOSS_OF_DISTRIBUTIONS, LOSS_OF_HIDDEN, LOSS_OF_PAIRS, LOSS_OF_PEAKS };
enum loss_kind objective_kind(const struct objective *o);

/* LOSS_OF_DISTRIBUTIONS: the mean, over the outputs of a sequence without its first `skip`, of the cross-entropy of the
 * model's distribution p against a constant target q: the softmax of logits whose label is lowered by `shift`. */
struct distribution_target {
    bool own;        /* q comes from the model's own logits, else from the reference's */
    bool divergence; /* subtracts q's entropy: Kullback-Leibler divergence */
    double shift;    /* INFINITY: q has no mass at the label */
    size_t skip;
};
struct distribution_target objective_target(const struct objective *o);

/* LOSS_OF_HIDDEN: the mean over the outputs of a sequence of mean_d (h - scale y)^2. h is hidden state `layer`: the
 * output of that block, counted from 1, for the last block after the final norm. y is the objective's direction or, if
 * it has none, h under the reference weights. */
struct hidden_target {
    size_t layer;
    double scale;
};
struct hidden_target objective_hidden(const struct objective *o);

/** LOSS_OF_PAIRS: the loss of one row and its derivatives by win and lose: how far S = sum of nll has risen above the
 *  reference's, for the refusal (win) and for the answer (lose). *weight as in objective_token().             Local. */
double objective_pair(const struct objective *o, double win, double lose, double *dwin, double *dlose, double *weight);

/** LOSS_OF_PEAKS: the loss of one output from its largest and its mean logit, and its derivative by the largest, which is
 *  minus that by the mean; the loss of a sequence is the mean over its outputs.                                  Local. */
double objective_peak(const struct objective *o, double largest, double mean, double *dlargest);

/* ------------------------------------------------------------------------------------------------- tangents ----- */
/* How the derivatives above move along the tangents (t...) of what they are taken from. Weights that are constants for a
 * derivative move here: it is the gradient that a step follows whose tangent is asked for.                      Local. */
void objective_token_tangent(const struct objective *o, size_t n, const double *nll, const double *nll_ref,
                             const double *tnll, double *tdnll);
void objective_pair_tangent(const struct objective *o, double win, double lose, double twin, double tlose, double *tdwin,
                            double *tdlose);
double objective_peak_tangent(const struct objective *o, double tlargest, double tmean); /* of dlargest */
#endif
