/* The scores of single rows of an evaluated set, from statistics of their tokens. A score is NaN if the row has no
 * labelled tokens or lacks a key, or if a likelihood is not finite.
 * Sources: TOFU (Maini et al. 2024), probability, truth ratio; Carlini et al. 2021, extraction and zlib; Shi et al. 2024,
 * Min-K%; Zhang et al. 2024, Min-K%++. */
#include "unlearn/eval_priv.h"
#include <math.h>
#include <stdlib.h>

/* clang-format off */
const struct score_row score_table[N_SCORE] = {
    [SCORE_TOKENS] = {"tokens", WANTS_NLL, "1", "labelled tokens of the answer"},
    [SCORE_LOSS] = {"loss", WANTS_NLL, "nat", "mean nll per labelled token of the answer"},
    [SCORE_PROBABILITY] = {"probability", WANTS_NLL, "1", "exp(-loss)"},
    [SCORE_OF_OPTIONS] = {"probability_of_options", WANTS_NLL | WANTS_PERTURBED, "1",
                          "exp(-loss) over the sum of it and of those of the wrong answers"},
    [SCORE_PARAPHRASED_LOSS] = {"paraphrased_loss", WANTS_NLL | WANTS_PARAPHRASED, "nat",
                                "loss of the paraphrased answer; where a set has none, of the answer"},
    [SCORE_PERTURBED_LOSS] = {"perturbed_loss", WANTS_PERTURBED, "nat", "mean loss of the wrong answers"},
    [SCORE_TRUTH_RATIO] = {"truth_ratio", WANTS_NLL | WANTS_PARAPHRASED | WANTS_PERTURBED, "1",
                           "mean probability of the wrong answers (evaluate.truth_ratio) over that of the paraphrased one"},
    [SCORE_QUALITY_RATIO] = {"truth_ratio_for_quality", WANTS_NLL | WANTS_PARAPHRASED | WANTS_PERTURBED, "1",
                             "exp(perturbed_loss - paraphrased_loss), what forget quality compares"},
    [SCORE_MEMORIZATION] = {"exact_memorization", WANTS_HIT, "1", "share of the tokens that are the likeliest at their place"},
    [SCORE_EXTRACTION] = {"extraction_strength", WANTS_HIT, "1",
                          "1 - k/n, k the fewest tokens to reveal so that greedy decoding yields the rest"},
    [SCORE_PARAPHRASED_EXTRACTION] = {"paraphrased_extraction_strength", WANTS_QUESTION, "1",
                                      "the same when the question is paraphrased"},
    [SCORE_ZLIB] = {"zlib", WANTS_NLL, "nat", "loss over the bytes of the answer's text compressed by zlib"},
    [SCORE_MIN_K] = {"min_k", WANTS_NLL, "nat", "minus the mean of the lowest log-likelihoods (share evaluate.min_k)"},
    [SCORE_MIN_K_PLUS] = {"min_k++", WANTS_Z, "1", "the same of log-likelihoods standardised by the whole distribution"},
    [SCORE_REFERENCE] = {"reference", WANTS_NLL | WANTS_REFERENCE, "nat", "loss minus that under model.reference"},
    [SCORE_GRADNORM] = {"gradnorm", WANTS_NORMS, "nat", "mean over the tensors of the 2-norm of the gradient of the loss"},
    [SCORE_KL] = {"kl", WANTS_KL, "nat", "Kullback-Leibler divergence of the model from model.reference, mean over positions"},
    [SCORE_ROUGE_L_RECALL] = {"rougeL_recall", WANTS_GENERATION, "1", "ROUGE-L recall of the generated answer"},
    [SCORE_ROUGE_L_F1] = {"rougeL_f1", WANTS_GENERATION, "1", "ROUGE-L F1 of the generated answer"},
    [SCORE_ROUGE_1_RECALL] = {"rouge1_recall", WANTS_GENERATION, "1", "ROUGE-1 recall of the generated answer"},
    [SCORE_GENERATED] = {"generated_tokens", WANTS_GENERATION, "1", "tokens of the generated answer"},
    [SCORE_ENDED] = {"ended", WANTS_GENERATION, "1", "1: the generated answer ended by itself; 0: at the greatest length"},
    [SCORE_CORRECT] = {"correct", WANTS_CHOICES, "1", "1: the right choice is the likeliest, the first of equal ones; else 0"},
    [SCORE_RIGHT] = {"probability_of_right", WANTS_CHOICES, "1", "likelihood of the right choice over that of all choices"},
};
/* clang-format on */

double *score_of(const struct scored_set *s, size_t row, enum score which) { return &s->score[row * N_SCORE + which]; }

static double mean(size_t n, const double *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return n && isfinite(sum) ? sum / (double)n : NAN;
}

/* Number of tokens of answer k; *at: where they begin. */
static size_t tokens(const struct token_values *t, size_t k, size_t *at)
{
    *at = t->label_first[k];
    return t->label_first[k + 1] - *at;
}

static size_t most_tokens(const struct token_values *t, size_t n)
{
    size_t most = 0, at;
    for (size_t k = 0; k < n; k++)
        if (tokens(t, k, &at) > most) most = tokens(t, k, &at);
    return most;
}

/* How many of n tokens memorisation, extraction and min_k use. */
static size_t counted(const struct score_rule *rule, size_t n) { return rule->without_end && n ? n - 1 : n; }

static double extraction(const struct score_rule *rule, size_t n, const double *hit)
{
    if (!n) return rule->empty_zero ? 0 : NAN;
    const double x = extraction_strength(n, hit);
    return x == 0 && rule->one_extracted ? 1 / (double)n : x;
}

/* min_k of the log-likelihoods -nll, and min_k++ of z; room [n] is scratch. */
static enum status attacks(const struct score_rule *rule, const struct token_values *t, size_t n, size_t at, double *room,
                           double *score)
{
    enum status st = OK;
    if (!n && rule->empty_zero) {
        score[SCORE_MIN_K] = 0;
        if (t->z) score[SCORE_MIN_K_PLUS] = 0;
        return OK;
    }
    for (size_t i = 0; i < n; i++) room[i] = -t->nll[at + i];
    TRY(min_k(n, room, rule->min_k, &score[SCORE_MIN_K]));
    if (t->z) TRY(min_k(n, t->z + at, rule->min_k, &score[SCORE_MIN_K_PLUS]));
done:
    return st;
}

static enum status zlib_score(const struct text *answer, double *score)
{
    size_t bytes;
    enum status st = zlib_bytes(answer->n ? answer->data : "", answer->n, &bytes);
    if (st == OK) score[SCORE_ZLIB] = score[SCORE_LOSS] / (double)bytes;
    return st;
}

void token_means(const struct token_values *t, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t at, m = tokens(t, i, &at);
        double sum = 0;
        for (size_t k = at; k < at + m; k++) sum += t->nll[k];
        out[i] = m ? sum / (double)m : NAN;
    }
}

void scores_clear(const struct scored_set *s)
{
    for (size_t i = 0; i < s->n * N_SCORE; i++) s->score[i] = NAN;
    for (size_t i = 0; i < s->n && s->log && s->log->generated; i++) {
        s->log->rouge1[i] = s->log->rouge_l[i] = NAN;
        s->log->generated[i].n = 0;
    }
}

enum status scores_answer(const struct score_rule *rule, const struct token_values *t, const double *reference,
                          const struct text *answer, const struct scored_set *s)
{
    double *room = NULL;
    enum status st = OK;
    TRY_NEW(room, most_tokens(t, s->n));
    for (size_t i = 0; i < s->n; i++) {
        double *score = s->score + i * N_SCORE;
        size_t at, n = tokens(t, i, &at), m = counted(rule, n);
        score[SCORE_TOKENS] = (double)n;
        score[SCORE_LOSS] = mean(n, t->nll + at);
        score[SCORE_PROBABILITY] = exp(-score[SCORE_LOSS]);
        if (t->hit) score[SCORE_MEMORIZATION] = mean(m, t->hit + at);
        if (t->hit)
            score[SCORE_EXTRACTION] = m && isnan(score[SCORE_MEMORIZATION]) ? NAN : extraction(rule, m, t->hit + at);
        if (reference) score[SCORE_REFERENCE] = score[SCORE_LOSS] - reference[i];
        TRY(attacks(rule, t, m, at, room, score));
        TRY(zlib_score(&answer[i], score));
        if (s->log) s->log->nll[i] = score[SCORE_LOSS], s->log->n_token[i] = (double)n;
    }
done:
    free(room);
    return st;
}

void scores_paraphrased(const struct token_values *t, const size_t *first, const struct scored_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        double *score = s->score + i * N_SCORE, n = score[SCORE_TOKENS];
        size_t at, m;
        score[SCORE_PARAPHRASED_LOSS] = score[SCORE_LOSS];
        if (t) {
            m = first[i] < first[i + 1] ? tokens(t, first[i], &at) : (at = 0);
            score[SCORE_PARAPHRASED_LOSS] = mean(m, t->nll + at), n = m ? (double)m : NAN;
        }
        if (s->log) s->log->paraphrased[i] = score[SCORE_PARAPHRASED_LOSS], s->log->n_token_paraphrased[i] = n;
    }
}

/* log of the mean of exp(-x) over x [n], without overflow. */
static double log_mean_probability(size_t n, const double *x)
{
    double least = INFINITY, sum = 0;
    for (size_t k = 0; k < n; k++) least = fmin(least, x[k]);
    for (size_t k = 0; k < n; k++) sum += exp(least - x[k]);
    return log(sum / (double)n) - least;
}

void score_wrong_answers(const struct score_rule *rule, size_t n, const double *wrong, double *score)
{
    const double average = mean(n, wrong), all = log_mean_probability(n, wrong), right = score[SCORE_PARAPHRASED_LOSS];
    const double log_wrong = rule->geometric ? -average : all, tiny = rule->tiny;
    score[SCORE_PERTURBED_LOSS] = average;
    if (isnan(average)) return;
    score[SCORE_QUALITY_RATIO] = exp(average - right);
    score[SCORE_TRUTH_RATIO] = tiny > 0 ? exp(log_wrong) / (exp(-right) + tiny) : exp(log_wrong + right);
    /* p/(p + sum of wrong) = 1/(1 + exp(log of the sum + loss)) */
    score[SCORE_OF_OPTIONS] = tiny > 0 ? exp(-score[SCORE_LOSS]) / (exp(-score[SCORE_LOSS]) + (double)n * exp(all) + tiny)
                                       : 1 / (1 + exp(all + log((double)n) + score[SCORE_LOSS]));
}

void score_log_row(const struct score_rule *rule, const struct eval_set *log, size_t i, double *score)
{
    for (int k = 0; k < N_SCORE; k++) score[k] = NAN;
    score[SCORE_LOSS] = log_value(log->nll, i);
    score[SCORE_PROBABILITY] = exp(-score[SCORE_LOSS]);
    score[SCORE_PARAPHRASED_LOSS] = log_value(log->paraphrased, i);
    score[SCORE_ROUGE_L_RECALL] = log_value(log->rouge_l, i);
    score[SCORE_TRUTH_RATIO] = score[SCORE_QUALITY_RATIO] = log_value(log->ratio, i);
    if (!log->ratio && log->perturbed && log->n_wrong_of[i])
        score_wrong_answers(rule, log->n_wrong_of[i], log->perturbed + i * log->n_wrong, score);
}

enum status scores_perturbed(const struct score_rule *rule, const struct token_values *t, const size_t *first,
                             const struct scored_set *s)
{
    struct eval_set *log = s->log;
    double *loss = NULL; /* losses of a row's wrong answers */
    size_t most = 0;
    enum status st = OK;
    for (size_t i = 0; i < s->n; i++)
        if (first[i + 1] - first[i] > most) most = first[i + 1] - first[i];
    TRY_NEW(loss, most);
    for (size_t i = 0; i < s->n; i++) {
        const size_t n = first[i + 1] - first[i];
        if (log) log->n_wrong_of[i] = n < log->n_wrong ? n : log->n_wrong;
        for (size_t k = 0; k < n; k++) {
            size_t at, m = tokens(t, first[i] + k, &at);
            loss[k] = mean(m, t->nll + at);
            if (!log || k >= log->n_wrong) continue;
            log->perturbed[i * log->n_wrong + k] = loss[k];
            log->n_token_perturbed[i * log->n_wrong + k] = (double)m;
        }
        if (n) score_wrong_answers(rule, n, loss, s->score + i * N_SCORE);
    }
done:
    free(loss);
    return st;
}

void scores_question(const struct score_rule *rule, const struct token_values *t, const size_t *first,
                     const struct scored_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        size_t at, m;
        if (first[i] == first[i + 1]) continue;
        m = counted(rule, tokens(t, first[i], &at));
        *score_of(s, i, SCORE_PARAPHRASED_EXTRACTION) =
            m && isnan(mean(m, t->hit + at)) ? NAN : extraction(rule, m, t->hit + at);
    }
}

void scores_list(enum score which, const double *list, const struct scored_set *s)
{
    for (size_t i = 0; i < s->n; i++) *score_of(s, i, which) = isfinite(list[i]) ? list[i] : NAN;
}

static enum status replace(struct text *to, const struct text *from)
{
    to->n = 0;
    return text_add(to, from->n ? from->data : "", from->n);
}

enum status score_generated(const struct generated_row *row, size_t i, const struct scored_set *s)
{
    const struct text *answer = row->answer, *text = row->text;
    double *score = s->score + i * N_SCORE;
    struct rouge rouge1, rouge_l;
    enum status st = OK;
    TRY(rouge_score_of(!row->unstemmed, answer->n ? answer->data : "", answer->n, text->n ? text->data : "", text->n,
                       &rouge1, &rouge_l));
    score[SCORE_ROUGE_L_RECALL] = rouge_l.recall, score[SCORE_ROUGE_L_F1] = rouge_l.f1;
    score[SCORE_ROUGE_1_RECALL] = rouge1.recall;
    score[SCORE_GENERATED] = (double)row->n_token;
    score[SCORE_ENDED] = row->ended;
    if (!s->log) return OK;
    s->log->rouge1[i] = rouge1.recall, s->log->rouge_l[i] = rouge_l.recall;
    TRY(replace(&s->log->generated[i], text));
    TRY(replace(&s->log->prompt[i], row->question));
    TRY(replace(&s->log->answer[i], answer));
done:
    return st;
}
