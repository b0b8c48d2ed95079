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
/** ROUGE-1 and ROUGE-L of a candidate against a reference, both UTF-8, as the rouge-score package gives them with its
 *  stemmer: lower case, words of [a-z0-9]+, Porter's stem (NLTK's extensions) of words longer than 3. Either result may be
 *  NULL.                                                                                                        Local. */
enum status rouge_score(const char *reference, const char *candidate, struct rouge *rouge1, struct rouge *rouge_l);

/* ----------------------------------------------------------------------------------------------- statistics ----- */
/** Two-sample Kolmogorov-Smirnov test, two-sided: the statistic and its p-value as scipy's ks_2samp gives them by default
 *  (exact while the larger sample has at most 10000 values, asymptotic beyond). n, m >= 1, no NaN.              Local. */
enum status ks_two_sample(size_t n, const double *x, size_t m, const double *y, double *statistic, double *p);
/** Area under the curve that tells `positive` (larger scores) from `negative`; ties count one half; NaN when either is
 *  empty.                                                                                                       Local. */
enum status auc(size_t n, const double *negative, size_t m, const double *positive, double *area);
double harmonic_mean(size_t n, const double *x); /* 0 when any is 0; NaN when any is NaN or negative, or n is 0 */
/** Bytes of the text compressed by zlib at level 6.                                                             Local. */
enum status zlib_bytes(const char *text, size_t n, size_t *bytes);
/** 1 - k/n, k the fewest first tokens to reveal so that greedy decoding yields the rest; n = 0: NaN.            Local. */
double extraction_strength(size_t n, const double *hit);
/** Minus the mean of the lowest max(1, floor(share n)) of x [n]; n = 0: NaN.                                     Local. */
enum status min_k(size_t n, const double *x, double share, double *score);
#endif
