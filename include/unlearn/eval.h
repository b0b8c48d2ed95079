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
    double temperature; /* 0: greedy, of equal logits the lowest id */
    double top_p;       /* in (0, 1]: draws from the most probable tokens that together have it; for temperature > 0 */
    uint64_t seed;      /* token t of prompt i depends on (seed, i, t) alone, not on other prompts */
    size_t n_eos;
    const int32_t *eos; /* any of them ends an answer and is not part of it; borrowed */
    size_t slots;       /* sequences that run together in one process, at least 1 */
    size_t hide;        /* 1 + the token of prompts that attention does not see as a key, nor positions count; 0: none */
};
struct answers { /* {0} is empty */
    size_t n;
    size_t *first;          /* [n+1] ids of answer i are first[i] ... first[i+1]-1; owned */
    int32_t *id;            /* owned */
    enum stop_reason *stop; /* [n]; owned */
};
/** Continues n prompts; prompt i is ids first[i] ... first[i+1]-1 of `id` (at least one, all in the vocabulary). The
 *  data ranks share the prompts; `out` is complete on every process. The ids are the same for any number of slots, data
 *  ranks and threads, because the logits are the same bit for bit (model_step()). With another number of tensor ranks
 *  logits are rounded differently, and another token may win where two logits are almost equal. ERR_INPUT: a prompt
 *  without tokens, or max_length beyond the model's learned positions; ERR_NUMERIC: logits that are not
 *  finite. On failure `out` is empty.                                                          Collective over grid. */
enum status generate(const struct grid *g, const struct layout *l, struct state *weights, const struct generation *how,
                     size_t n, const size_t *first, const int32_t *id, struct answers *out);
/** Bytes that generate() allocates, without the answers; one: from weights that one thread alone reads, held in
 *  bfloat16 or shared by data ranks.                                                                          Local. */
size_t generate_bytes(const struct grid *g, const struct layout *l, bool one, const struct generation *how);
void answers_free(struct answers *a);
/** The text of an answer. Ids that the embedding has but the tokenizer does not know give no text.            Local. */
enum status answer_text(const struct tokenizer *t, const int32_t *id, size_t n, struct text *out);
/** Takes out the spaces that Hugging Face's clean_up_tokenization_spaces takes out: before . ? ! , and contractions. Local. */
void text_tidy(struct text *t);
void text_trim(struct text *t); /* white space at both ends, as Python's str.strip() */

/* ------------------------------------------------------------------------------------------------- likeness ----- */
struct rouge { /* 0 ... 1 */
    double precision, recall, f1;
};
/** The same of words and not of their stems, if `stems` is false.                                              Local. */
enum status rouge_score_of(bool stems, const char *reference, size_t n_reference, const char *candidate,
                           size_t n_candidate, struct rouge *rouge1, struct rouge *rouge_l);
/** ROUGE-1 and ROUGE-L of a candidate against a reference, as the rouge-score package gives them with its stemmer:
 *  lower case, words of [a-z0-9]+, Porter's stem (NLTK's extensions) of words of 4 letters or more. The texts are n
 *  bytes of UTF-8 and may contain NUL; NUL and bytes that are not UTF-8 separate words. Without a common word all three
 *  values are 0. Time grows as the product of the texts' numbers of words, memory as their sum. Either result may be
 *  NULL.                                                                                                      Local. */
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
/** 1 - k/n, where k is the fewest first tokens to reveal so that greedy decoding yields the rest: all tokens up to the
 *  last one whose hit is 0. hit [n]: 1 where the token is the argmax at its position, else 0. n = 0: NaN.     Local. */
double extraction_strength(size_t n, const double *hit);
/** Minus the mean of the lowest max(1, floor(share n)) of x [n], 0 < share <= 1; NaN if n = 0 or an x is NaN. Local. */
enum status min_k(size_t n, const double *x, double share, double *score);

/* ----------------------------------------------------------------------------- TOFU's log and what it sums up ----- */
enum eval_set_id { SET_RETAIN, SET_REAL_AUTHORS, SET_WORLD_FACTS, SET_FORGET, N_EVAL_SET };
const char *eval_set_name(enum eval_set_id set); /* "retain", ... as in the input file */

/* What was measured of one set, row by row: the content of one part of eval_log_aggregated.json. An array that was not
 * measured is NULL; a value that is missing in one row is NaN. Everything is owned. */
struct eval_set {
    size_t n, n_wrong;  /* rows, 0: the set was not measured; most wrong answers of a row (5; 3 of authors and facts) */
    size_t *n_wrong_of; /* [n] wrong answers of each row; where they are fewer, NaN fills the row of an array */
    int64_t *row;       /* [n] the rows' names in the file */
    double *nll;        /* [n] avg_gt_loss: mean nll per labelled token of the answer, nats */
    double
        *paraphrased;  /* [n] avg_paraphrased_loss: the same of its paraphrase, or again the answer where there is none */
    double *perturbed; /* [n][n_wrong] average_perturb_loss: the same of each wrong answer */
    double *n_token;   /* [n] num_token_gt: labelled tokens of the answer */
    double *n_token_paraphrased; /* [n] num_token_paraphrased */
    double *n_token_perturbed;   /* [n][n_wrong] num_token_perturb */
    double *rouge1, *rouge_l;    /* [n] rouge1_recall, rougeL_recall: generated text against the answer */
    double *ratio; /* [n] forget_truth_ratio's score in a TOFU_EVAL.json without the losses; else NULL, never written */
    struct text *prompt, *generated, *answer; /* [n] generated_text; UTF-8; all three set, or all NULL */
};
struct eval_log { /* {0} is empty */
    struct eval_set set[N_EVAL_SET];
    bool has_min_k;    /* a TOFU_EVAL.json with mia_min_k; never written */
    double min_k_area; /* its area under the curve */
};
/** Makes arrays for n rows numbered from 0 with n_wrong wrong answers each, all values NaN. Without `generates` the rouge
 *  and text arrays are NULL; if n_wrong is 0, so are those of wrong answers.                                  Local. */
enum status eval_set_new(size_t n, size_t n_wrong, bool generates, struct eval_set *out);
void eval_set_free(struct eval_set *s);
void eval_log_free(struct eval_log *log);

/** Reads eval_log_aggregated.json, or a TOFU_EVAL.json of open-unlearning or of this program, which is told by its keys:
 *  of it the losses (*_Q_A_Prob, _PARA_Prob, _PERT_Prob), rougeL_recall, mia_min_k, and where losses are absent
 *  forget_truth_ratio, which then is enough of a needed forget set; where a set has no _PARA_Prob, its answers stand in.
 *  Of the other: sets and arrays may be absent, but every set in `needed` (bits 1 << id) must have the three losses, and
 *  lists of wrong answers have one length: a row has as many as there are before the nulls at the end of its lists. null
 *  and Python's NaN, Infinity and -Infinity are missing values. All arrays of a set must have the same rows. Other keys
 *  are ignored, because sums and ratios follow from the arrays. ERR_INPUT: FILE: set: key: what is wrong.     Local. */
enum status eval_log_read(const char *path, unsigned needed, struct eval_log *out);
/** Appends the log to out in the published layout, with the keys that the benchmark's own scripts read. Some keys are
 *  computed from the arrays: gt_loss, paraphrased_loss, perturb_loss (sums over the tokens); truth_ratio
 *  (exp(paraphrased - mean perturbed)); normalized_gt_loss of authors and facts (-log of the answer's share among the
 *  answers). Numbers have 17 digits; NaN and infinities become null; absent sets and arrays are left out. ERR_INTERNAL:
 *  a text is not UTF-8.                                                                                       Local. */
enum status eval_log_write(const struct eval_log *log, struct text *out);

/* -------------------------------------------------------------------------------------------- scores of rows ----- */
/* score_table defines each score. A score is NaN for a row without labelled tokens or without the answers that it
 * needs, and where a likelihood is not finite. */
enum score {
    SCORE_TOKENS,
    SCORE_LOSS,
    SCORE_PROBABILITY,
    SCORE_OF_OPTIONS,
    SCORE_PARAPHRASED_LOSS,
    SCORE_PERTURBED_LOSS,
    SCORE_TRUTH_RATIO,
    SCORE_QUALITY_RATIO,
    SCORE_MEMORIZATION,
    SCORE_EXTRACTION,
    SCORE_PARAPHRASED_EXTRACTION,
    SCORE_ZLIB,
    SCORE_MIN_K,
    SCORE_MIN_K_PLUS,
    SCORE_REFERENCE,
    SCORE_GRADNORM,
    SCORE_KL,
    SCORE_ROUGE_L_RECALL,
    SCORE_ROUGE_L_F1,
    SCORE_ROUGE_1_RECALL,
    SCORE_GENERATED,
    SCORE_ENDED,
    SCORE_CORRECT,
    SCORE_RIGHT,
    N_SCORE
};
enum score_need { /* what must be computed for a score */
                  WANTS_HIT = 1,
                  WANTS_Z = 2,
                  WANTS_PARAPHRASED = 4,
                  WANTS_PERTURBED = 8,
                  WANTS_QUESTION = 16,
                  WANTS_REFERENCE = 32,
                  WANTS_NORMS = 64,
                  WANTS_KL = 128,
                  WANTS_GENERATION = 256,
                  WANTS_NLL = 512,
                  WANTS_CHOICES = 1024,
};
struct score_row {
    const char *name;
    unsigned needs; /* of enum score_need */
    const char *units, *text;
};
extern const struct score_row score_table[N_SCORE];

struct score_rule {      /* definitions in which published codes differ; {.min_k = 0.2} is TOFU's */
    double min_k;        /* share of the least likely tokens, in (0, 1] */
    double tiny;         /* added to divisors of probabilities; 0: quotients are computed in the log domain */
    double privleak_auc; /* AUC of min_k for the model that never saw the forget rows; NAN: of its log, else 0.5 */
    bool without_end;    /* memorisation, extraction, min_k and gradnorm do not count the last token */
    bool one_extracted;  /* extraction strength if nothing is extracted: 1/n instead of 0 */
    bool geometric;      /* mean probability of wrong answers in the truth ratio is geometric, else arithmetic */
    bool empty_zero;     /* extraction and min_k of a row without a token that they count are 0, else NAN */
};
struct token_values {            /* of the labelled tokens of some answers; borrowed */
    const size_t *label_first;   /* [answers+1] tokens of answer k are label_first[k] ... label_first[k+1]-1 */
    const double *nll, *hit, *z; /* as in struct token_statistics; NULL: not measured */
};
struct scored_set {
    const char *name; /* borrowed, as all else */
    size_t n;
    double *score;        /* [n][N_SCORE] */
    struct eval_set *log; /* the set's rows in the published log; NULL: the log has no such set */
};
double *score_of(const struct scored_set *s, size_t row, enum score which);
/** Mean nll of each of n answers; NaN without tokens.                                                          Local. */
void token_means(const struct token_values *t, size_t n, double *out);
/** Each of the following fills in the scores that follow from its arguments, and their part of the log. scores_clear()
 *  sets all to NaN; call scores_answer() before the rest: its t has one answer per row, reference [n] the mean nll
 *  under another model (NULL: none), text [n] the texts to compress. In the other functions row i has the answers
 *  first[i] ... first[i+1]-1 of t.                                                                            Local. */
void scores_clear(const struct scored_set *s);
enum status scores_answer(const struct score_rule *rule, const struct token_values *t, const double *reference,
                          const struct text *text, const struct scored_set *s);
/** t NULL: the answers take the place of paraphrases, which real_authors and world_facts do not have.         Local. */
void scores_paraphrased(const struct token_values *t, const size_t *first, const struct scored_set *s);
enum status scores_perturbed(const struct score_rule *rule, const struct token_values *t, const size_t *first,
                             const struct scored_set *s);
/** t: the same answers to paraphrased questions.                                                                Local. */
void scores_question(const struct score_rule *rule, const struct token_values *t, const size_t *first,
                     const struct scored_set *s);
void scores_list(enum score which, const double *list, const struct scored_set *s); /* list [n]; not finite: NaN */
struct generated_row {
    const struct text *question, *answer, *text; /* texts of the file; the generated text */
    size_t n_token;
    bool ended;     /* by an end token, not at the greatest length */
    bool unstemmed; /* ROUGE compares words, not their stems */
};
enum status score_generated(const struct generated_row *row, size_t i, const struct scored_set *s);

/* ---------------------------------------------------------------------------- numbers of a whole evaluation ----- */
enum eval_number { EVAL_PROBABILITY, EVAL_ROUGE, EVAL_TRUTH_RATIO, N_EVAL_NUMBER };
const char *eval_number_name(enum eval_number number); /* "probability", "rouge", "truth_ratio" */
struct eval_summary {
    double number[N_EVAL_SET][N_EVAL_NUMBER];   /* means over rows; NaN: not measured, or missing in every row */
    size_t left_out[N_EVAL_SET][N_EVAL_NUMBER]; /* rows without a finite value of what the number needs */
    double model_utility; /* harmonic mean of the nine of retain, authors and facts; NaN if any is */
};
/** The benchmark's numbers (Maini et al. 2024) of a log; c, q, w_k are the nll of answer, paraphrase and wrong answers:
 *      probability = mean e^-c; of authors and facts mean e^-c / (e^-c + sum_k e^-w_k);      rouge = mean ROUGE-L recall
 *      truth ratio = mean max(0, 1 - r), of forget mean min(r, 1/r);      r = mean_k e^-w_k / e^-q
 *  Unless the rule defines them otherwise, quotients are computed in the log domain, so that none divides by p = 0.
 *  Rows that lack a value are left out and counted, with one warning for each number; one more warning lists the sets
 *  and arrays that are absent. `where`, the file or model, begins the warnings; NULL: no warnings.            Local. */
void eval_summarise(const struct score_rule *rule, const char *where, const struct eval_log *log,
                    struct eval_summary *out);
/** Forget quality: p and statistic of the two-sample KS test between exp(mean_k w_k - q) of the forget rows (rule->tiny
 *  not 0: their truth ratios) under the model and under one that never saw them. Rows without a value are treated as
 *  above; NaN if one side has no values.                                                                        Local. */
enum status eval_forget_quality(const struct score_rule *rule, const char *where, const struct eval_log *log,
                                const char *where_retain, const struct eval_log *retain, double *p, double *statistic);

enum number { /* of a whole evaluation: src/eval/numbers.c */
              NUMBER_UTILITY,
              NUMBER_QUALITY,
              NUMBER_KS,
              NUMBER_AUC_LOSS, /* in the order of the attacks */
              NUMBER_AUC_ZLIB,
              NUMBER_AUC_MIN_K,
              NUMBER_AUC_MIN_K_PLUS,
              NUMBER_AUC_REFERENCE,
              NUMBER_AUC_GRADNORM,
              NUMBER_PRIVLEAK,
              NUMBER_SETS, /* probability, rouge, truth_ratio of each published set */
              NUMBER_RELATIVE =
                  NUMBER_SETS + N_EVAL_SET * N_EVAL_NUMBER, /* the three of forget, relative to the retain model's */
              N_NUMBER = NUMBER_RELATIVE + N_EVAL_NUMBER
};
extern const char *const number_name[N_NUMBER];
struct evaluation_numbers {
    double *mean, *left_out; /* [set][N_SCORE] mean of the finite scores; number of rows without one; owned */
    double *risk;            /* [set] mean nll per labelled token of all rows; owned */
    double number[N_NUMBER]; /* NaN: not measured */
};
enum status evaluation_numbers_new(size_t n_set, struct evaluation_numbers *out); /* the caller frees it on failure too */
void evaluation_numbers_free(struct evaluation_numbers *v);
/** mean, left_out and risk of set k.                                                                            Local. */
void evaluation_means(const struct scored_set *s, size_t k, struct evaluation_numbers *out);
/** The areas of all attacks, from NUMBER_AUC_LOSS on, and privleak, into number [N_NUMBER]; either set NULL: NAN. `retain`
 *  is the log of a model that never saw the members.                                                             Local. */
enum status evaluation_attacks(const struct score_rule *rule, const struct eval_log *retain,
                               const struct scored_set *members, const struct scored_set *others, double *number);
struct named_log {
    const char *where; /* the file or model, begins warnings; NULL: no warnings */
    const struct eval_log *log;
};
/** number [N_NUMBER] of the sets, which are found by name, and of their log compared with `retain`, the log of a model
 *  that never saw the forget rows (if it has no forget rows: no quality, no relative differences).
 *  Relative: 100 (x - y)/y; privleak: 100 (a* - a)/(1 - a*), a the AUC of min_k, a* as the rule says; the rest as in
 *  eval_summarise() and eval_forget_quality().                                                                Local. */
enum status evaluation_summarise(const struct score_rule *rule, size_t n_set, const struct scored_set *set,
                                 const struct named_log *own, const struct named_log *retain, double *number);
#endif
