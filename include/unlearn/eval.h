/* eval: what a model still knows. Generation, likelihood metrics, similarity of texts, and the summaries of the field. */
#ifndef UNLEARN_EVAL_H
#define UNLEARN_EVAL_H
#include "unlearn/core.h"
#include "unlearn/geffect.h"
#include "unlearn/model.h"
#include "unlearn/parallel.h"

/* ------------------------------------------------------------------------------------------------ generation ----- */
enum stop_reason { STOP_EOS, STOP_LENGTH };
struct generation {     /* how to continue prompts */
    size_t max_length;  /* ids of a sequence, its prompt included; a longer prompt gets no answer */
    double temperature; /* 0: greedy, the lowest id of equal ones */
    double top_p;       /* in (0, 1]: only the most probable tokens that together have it; 1: all; with temperature > 0 */
    uint64_t seed;      /* token t of prompt i is drawn by (seed, i, t) alone, whatever runs beside it */
    size_t n_eos;
    const int32_t *eos; /* any of them ends an answer and is not part of it; borrowed */
    size_t slots;       /* sequences that run together in one process, at least 1 */
};
struct answers { /* {0} is empty */
    size_t n;
    size_t *first;          /* [n+1] ids of answer i are first[i] ... first[i+1]-1; owned */
    int32_t *id;            /* owned */
    enum stop_reason *stop; /* [n]; owned */
};
/** Continues n prompts, ids first[i] ... first[i+1]-1 of `id` each (at least one, all in the vocabulary), shared among the
 *  data ranks; complete on every process. The ids are the same for every number of slots, data ranks and threads, since
 *  the logits are so bit for bit (model_step()). Tensor ranks round differently: where two logits are equal to rounding,
 *  another may win. ERR_INPUT: a prompt without tokens, max_length beyond the model's window or learned positions;
 *  ERR_NUMERIC: logits that are not finite. On failure `out` is empty.                         Collective over grid. */
enum status generate(const struct grid *g, const struct layout *l, struct state *weights, const struct generation *how,
                     size_t n, const size_t *first, const int32_t *id, struct answers *out);
/** Bytes that generate() takes on top of the weights, but for the answers.                                     Local. */
size_t generate_bytes(const struct grid *g, const struct layout *l, const struct generation *how);
void answers_free(struct answers *a);

/* ------------------------------------------------------------------------------------------------- likeness ----- */
struct rouge { /* 0 ... 1 */
    double precision, recall, f1;
};
/** ROUGE-1 and ROUGE-L of a candidate against a reference, as the rouge-score package gives them with its stemmer: lower
 *  case, words of [a-z0-9]+, Porter's stem (NLTK's extensions) of words of 4 letters or more. The texts are n bytes of UTF-8
 *  that may hold NUL (a model can write it; no word does); what is not UTF-8 parts words. Without a common word all three are
 *  0. Time grows as the product of the texts' words, memory as their sum. Either result may be NULL.            Local. */
enum status rouge_score(const char *reference, size_t n_reference, const char *candidate, size_t n_candidate,
                        struct rouge *rouge1, struct rouge *rouge_l);

/* ----------------------------------------------------------------------------------------------- statistics ----- */
/** Two-sample Kolmogorov-Smirnov test, two-sided: the statistic and its p-value as scipy's ks_2samp gives them by default
 *  (exact while the larger sample has at most 10000 values, the one-sample law at n m/(n + m) beyond). Both are NaN where a
 *  sample is empty or holds a NaN.                                                                              Local. */
enum status ks_two_sample(size_t n, const double *x, size_t m, const double *y, double *statistic, double *p);
/** Area under the curve that tells `positive` (larger scores) from `negative`; ties count one half; NaN when either is
 *  empty or holds a NaN.                                                                                        Local. */
enum status auc(size_t n, const double *negative, size_t m, const double *positive, double *area);
double harmonic_mean(size_t n, const double *x); /* 0 when any is 0; NaN when any is NaN or negative, or n is 0 */
/** Bytes of the text compressed by zlib at level 6.                                                             Local. */
enum status zlib_bytes(const char *text, size_t n, size_t *bytes);
/** 1 - k/n, k the fewest first tokens to reveal so that greedy decoding yields the rest: those up to the last token whose
 *  hit [n] (1: the arg max before it is the token, 0) is not 1. n = 0: NaN.                                     Local. */
double extraction_strength(size_t n, const double *hit);
/** Minus the mean of the lowest max(1, floor(share n)) of x [n], 0 < share <= 1; n = 0, or a NaN among x: NaN.  Local. */
enum status min_k(size_t n, const double *x, double share, double *score);

/* ----------------------------------------------------------------------------- TOFU's log and what it sums up ----- */
enum eval_set_id { SET_RETAIN, SET_REAL_AUTHORS, SET_WORLD_FACTS, SET_FORGET, N_EVAL_SET };
const char *eval_set_name(enum eval_set_id set); /* "retain", ... as in the input file */

/* What was measured of one set, row by row: the content of one part of eval_log_aggregated.json. An array that was not
 * measured is NULL; a value that is missing in one row is NaN. Everything is owned. */
struct eval_set {
    size_t n, n_wrong; /* rows, 0: the set was not measured; wrong answers of each row (5; 3 of authors and facts) */
    int64_t *row;      /* [n] what the file names its rows by */
    double *nll;       /* [n] avg_gt_loss: mean nll per labelled token of the answer, nats */
    double
        *paraphrased;  /* [n] avg_paraphrased_loss: the same of its paraphrase, or again the answer where there is none */
    double *perturbed; /* [n][n_wrong] average_perturb_loss: the same of each wrong answer */
    double *n_token;   /* [n] num_token_gt: labelled tokens of the answer */
    double *n_token_paraphrased; /* [n] num_token_paraphrased */
    double *n_token_perturbed;   /* [n][n_wrong] num_token_perturb */
    double *rouge1, *rouge_l;    /* [n] rouge1_recall, rougeL_recall: of what was generated against the answer */
    struct text *prompt, *generated, *answer; /* [n] generated_text; UTF-8; all three or none */
};
struct eval_log { /* {0} is empty */
    struct eval_set set[N_EVAL_SET];
};
/** Room for n rows numbered from 0, all values NaN. Without `generates` rouge and texts stay NULL, with n_wrong = 0 what
 *  belongs to wrong answers.                                                                                    Local. */
enum status eval_set_new(size_t n, size_t n_wrong, bool generates, struct eval_set *out);
void eval_log_free(struct eval_log *log);

/** Reads eval_log_aggregated.json. Sets and arrays that are absent stay so, but a set of `needed` (bits 1 << id) must be
 *  there with the three losses. null and Python's NaN, Infinity and -Infinity are missing values. All arrays of a set must
 *  have the same rows, all rows the same number of wrong answers; other keys are not read: sums and ratios follow from the
 *  rest. ERR_INPUT: FILE: set: key: what is wrong.                                                              Local. */
enum status eval_log_read(const char *path, unsigned needed, struct eval_log *out);
/** Adds the log in the published layout, key for key as the benchmark's own scripts read it, to out: with what follows from
 *  the arrays (gt_loss, paraphrased_loss, perturb_loss: sums over the tokens; truth_ratio: exp(paraphrased - mean
 *  perturbed); normalized_gt_loss of authors and facts: -log of the answer's share among the answers). 17 digits; NaN and
 *  infinities are null; sets and arrays that are absent are left out. ERR_INTERNAL: a text is not UTF-8.        Local. */
enum status eval_log_write(const struct eval_log *log, struct text *out);

enum eval_number { EVAL_PROBABILITY, EVAL_ROUGE, EVAL_TRUTH_RATIO, N_EVAL_NUMBER };
const char *eval_number_name(enum eval_number number); /* "probability", "rouge", "truth_ratio" */
struct eval_summary {
    double number[N_EVAL_SET][N_EVAL_NUMBER];   /* means over rows; NaN: not measured, or missing in every row */
    size_t left_out[N_EVAL_SET][N_EVAL_NUMBER]; /* rows without a finite value of what the number needs */
    double model_utility; /* harmonic mean of the nine of retain, authors and facts; NaN if any is */
};
/** The benchmark's numbers (Maini et al. 2024), with c, q, w_k the nll of answer, paraphrase and wrong answers:
 *      probability = mean e^-c; of authors and facts mean e^-c / (e^-c + sum_k e^-w_k);      rouge = mean ROUGE-L recall
 *      truth ratio = mean max(0, 1 - r), of forget mean min(r, 1/r);      r = mean_k e^-w_k / e^-q
 *  in the log domain, so that no p = 0 divides. Rows that lack a value are left out, counted, and named in one warning for
 *  each number; what is absent altogether is said in one warning. `where` begins the warnings: the file or model;
 *  NULL: none.                                                                                                  Local. */
void eval_summarise(const char *where, const struct eval_log *log, struct eval_summary *out);
/** Forget quality: p of the two-sample KS test between exp(mean_k w_k - q) of the rows of forget under the model and under
 *  one that never saw them, and the statistic. Rows without a value as above; NaN where one side has none.      Local. */
enum status eval_forget_quality(const char *where, const struct eval_log *log, const char *where_retain,
                                const struct eval_log *retain, double *p, double *statistic);
#endif
