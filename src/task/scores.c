/* The numbers of single rows of an evaluated set, from the statistics of their tokens. What cannot be said is NaN: a row
 * without labelled tokens or without a key, a likelihood that is not finite.
 * Sources: TOFU (Maini et al. 2024), probability, truth ratio; Carlini et al. 2021, extraction and zlib; Shi et al. 2024,
 * Min-K%; Zhang et al. 2024, Min-K%++. Variants: evaluate.variant. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <string.h>

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
};
/* clang-format on */

double *score_of(const struct evaluation *v, size_t set, size_t row, enum score which)
{
    return &v->score[set][row * N_SCORE + which];
}

bool scores_possible(const struct evaluated_set *s, enum score which)
{
    const unsigned needs = score_table[which].needs;
    if (needs & WANTS_PERTURBED && !s->of[OF_PERTURBED].data) return false;
    if (needs & WANTS_QUESTION && !s->of[OF_QUESTION].data) return false;
    return !(needs & WANTS_GENERATION) || s->generates;
}

static double mean(size_t n, const double *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return n && isfinite(sum) ? sum / (double)n : NAN;
}

/* Labels of row i of a variant's data, and where they begin. */
static size_t labels(const struct evaluation *v, size_t row, size_t *at)
{
    *at = v->label_first[row];
    return v->label_first[row + 1] - *at;
}

/* Tokens that memorisation, extraction and min_k look at: all labelled ones, or all but the last. */
static size_t counted(const struct run *r, size_t n)
{
    return r->in->config->evaluate.end_token == END_OUT && n ? n - 1 : n;
}

static double extraction(const struct run *r, size_t n, const double *hit)
{
    const double x = extraction_strength(n, hit);
    return x == 0 && r->in->config->evaluate.none_extracted == EXTRACTED_ONE ? 1 / (double)n : x;
}

/* Minus the lowest of the likelihoods: the highest nll; the lowest of z as they are. */
static enum status attacks(const struct run *r, size_t n, size_t at, double *score)
{
    struct evaluation *v = r->evaluation;
    const double share = r->in->config->evaluate.min_k;
    enum status st = OK;
    for (size_t i = 0; i < n; i++) v->list[i] = -v->nll[at + i];
    TRY(min_k(n, v->list, share, &score[SCORE_MIN_K]));
    if (v->z) TRY(min_k(n, v->z + at, share, &score[SCORE_MIN_K_PLUS]));
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

struct eval_set *evaluation_log_set(struct evaluation *v, const char *name)
{
    for (int k = 0; k < N_EVAL_SET; k++)
        if (!strcmp(eval_set_name((enum eval_set_id)k), name)) return &v->log.set[k];
    return NULL;
}

void scores_clear(const struct run *r, size_t set)
{
    const struct evaluated_set *s = &r->in->evaluation->set[set];
    struct eval_set *log = evaluation_log_set(r->evaluation, s->name);
    for (size_t i = 0; i < s->n * N_SCORE; i++) r->evaluation->score[set][i] = NAN;
    for (size_t i = 0; i < s->n && log && log->generated; i++) {
        log->rouge1[i] = log->rouge_l[i] = NAN;
        log->generated[i].n = 0;
    }
}

enum status scores_answer(const struct run *r, size_t set)
{
    struct evaluation *v = r->evaluation;
    const struct evaluated_set *s = &r->in->evaluation->set[set];
    struct eval_set *log = evaluation_log_set(v, s->name);
    enum status st = OK;
    for (size_t i = 0; i < s->n; i++) {
        double *score = v->score[set] + i * N_SCORE;
        size_t at, n = labels(v, i, &at), m = counted(r, n);
        score[SCORE_TOKENS] = (double)n;
        score[SCORE_LOSS] = mean(n, v->nll + at);
        score[SCORE_PROBABILITY] = exp(-score[SCORE_LOSS]);
        if (v->hit) score[SCORE_MEMORIZATION] = mean(m, v->hit + at);
        if (v->hit) score[SCORE_EXTRACTION] = isnan(score[SCORE_MEMORIZATION]) ? NAN : extraction(r, m, v->hit + at);
        if (v->reference) score[SCORE_REFERENCE] = score[SCORE_LOSS] - v->reference[set][i];
        TRY(attacks(r, m, at, score));
        TRY(zlib_score(&s->prompts.answer[i], score));
        if (log) log->nll[i] = score[SCORE_LOSS], log->n_token[i] = (double)n;
    }
done:
    return st;
}

/* A set without the key reads its answers again: real_authors and world_facts have no paraphrases. */
void scores_paraphrased(const struct run *r, size_t set)
{
    struct evaluation *v = r->evaluation;
    const struct evaluated_set *s = &r->in->evaluation->set[set];
    const struct variants *p = &s->of[OF_PARAPHRASED];
    struct eval_set *log = evaluation_log_set(v, s->name);
    for (size_t i = 0; i < s->n; i++) {
        double *score = v->score[set] + i * N_SCORE, n = score[SCORE_TOKENS];
        size_t at, m;
        score[SCORE_PARAPHRASED_LOSS] = score[SCORE_LOSS];
        if (p->data) {
            m = p->first[i] < p->first[i + 1] ? labels(v, p->first[i], &at) : (at = 0);
            score[SCORE_PARAPHRASED_LOSS] = mean(m, v->nll + at), n = m ? (double)m : NAN;
        }
        if (log) log->paraphrased[i] = score[SCORE_PARAPHRASED_LOSS], log->n_token_paraphrased[i] = n;
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

/* From the losses of n wrong answers. open-unlearning keeps its quotients from 0 by 1e-10. */
static void wrong_answers(const struct run *r, size_t n, const double *wrong, double *score)
{
    const struct config *c = r->in->config;
    const double tiny = c->evaluate.variant == VARIANT_OPEN_UNLEARNING ? 1e-10 : 0;
    const double average = mean(n, wrong), all = log_mean_probability(n, wrong), right = score[SCORE_PARAPHRASED_LOSS];
    const double log_wrong = c->evaluate.truth_ratio == RATIO_GEOMETRIC ? -average : all;
    score[SCORE_PERTURBED_LOSS] = average;
    if (isnan(average)) return;
    score[SCORE_QUALITY_RATIO] = exp(average - right);
    score[SCORE_TRUTH_RATIO] = tiny > 0 ? exp(log_wrong) / (exp(-right) + tiny) : exp(log_wrong + right);
    /* p/(p + sum of wrong) = 1/(1 + exp(log of the sum + loss)) */
    score[SCORE_OF_OPTIONS] = tiny > 0 ? exp(-score[SCORE_LOSS]) / (exp(-score[SCORE_LOSS]) + (double)n * exp(all) + tiny)
                                       : 1 / (1 + exp(all + log((double)n) + score[SCORE_LOSS]));
}

void scores_perturbed(const struct run *r, size_t set)
{
    struct evaluation *v = r->evaluation;
    const struct evaluated_set *s = &r->in->evaluation->set[set];
    const struct variants *p = &s->of[OF_PERTURBED];
    struct eval_set *log = evaluation_log_set(v, s->name);
    for (size_t i = 0; i < s->n; i++) {
        const size_t n = p->first[i + 1] - p->first[i];
        for (size_t k = 0; k < n; k++) {
            size_t at, m = labels(v, p->first[i] + k, &at);
            v->list[k] = mean(m, v->nll + at);
            if (!log || k >= log->n_wrong) continue;
            log->perturbed[i * log->n_wrong + k] = v->list[k];
            log->n_token_perturbed[i * log->n_wrong + k] = (double)m;
        }
        if (n) wrong_answers(r, n, v->list, v->score[set] + i * N_SCORE);
    }
}

void scores_question(const struct run *r, size_t set)
{
    struct evaluation *v = r->evaluation;
    const struct variants *q = &r->in->evaluation->set[set].of[OF_QUESTION];
    for (size_t i = 0; i < q->n; i++) {
        size_t at, m;
        if (q->first[i] == q->first[i + 1]) continue;
        m = counted(r, labels(v, q->first[i], &at));
        *score_of(v, set, i, SCORE_PARAPHRASED_EXTRACTION) =
            isnan(mean(m, v->hit + at)) ? NAN : extraction(r, m, v->hit + at);
    }
}

void scores_list(const struct run *r, size_t set, enum score which)
{
    struct evaluation *v = r->evaluation;
    for (size_t i = 0; i < r->in->evaluation->set[set].n; i++)
        *score_of(v, set, i, which) = isfinite(v->list[i]) ? v->list[i] : NAN;
}

static enum status replace(struct text *to, const char *bytes, size_t n)
{
    to->n = 0;
    return text_add(to, n ? bytes : "", n);
}

enum status answer_text(const struct tokenizer *t, const int32_t *id, size_t n, struct text *out)
{
    struct ids known = {0};
    enum status st = tokenizer_decode(t, id, n, true, out);
    if (st != ERR_INPUT) return st;
    for (size_t i = 0; i < n && st != ERR_MEMORY; i++) {
        fail_clear();
        out->n = 0;
        if ((st = tokenizer_decode(t, &id[i], 1, true, out)) == OK) st = ids_add(&known, id[i]);
    }
    fail_clear();
    out->n = 0;
    st = tokenizer_decode(t, known.data, known.n, true, out);
    ids_free(&known);
    return st;
}

static enum status one_answer(const struct run *r, const struct evaluated_set *s, size_t i, const struct answers *a,
                              struct text *out, double *score)
{
    const struct config *c = r->in->config;
    size_t n = a->first[i + 1] - a->first[i];
    const bool too_long = c->evaluate.length == LENGTH_NEW && n > c->evaluate.max_length;
    struct rouge rouge1, rouge_l;
    enum status st = OK;
    if (too_long) n = c->evaluate.max_length;
    out->n = 0;
    TRY(answer_text(r->in->evaluation->tokenizer, a->id + a->first[i], n, out));
    TRY(rouge_score(s->prompts.answer[i].n ? s->prompts.answer[i].data : "", s->prompts.answer[i].n,
                    out->n ? out->data : "", out->n, &rouge1, &rouge_l));
    score[SCORE_ROUGE_L_RECALL] = rouge_l.recall, score[SCORE_ROUGE_L_F1] = rouge_l.f1;
    score[SCORE_ROUGE_1_RECALL] = rouge1.recall;
    score[SCORE_GENERATED] = (double)n;
    score[SCORE_ENDED] = a->stop[i] == STOP_EOS && !too_long;
done:
    return st;
}

enum status scores_generated(const struct run *r, size_t set, const struct answers *a)
{
    struct evaluation *v = r->evaluation;
    const struct evaluated_set *s = &r->in->evaluation->set[set];
    struct eval_set *log = evaluation_log_set(v, s->name);
    struct text text = {0};
    enum status st = OK;
    for (size_t i = 0; i < s->n; i++) {
        double *score = v->score[set] + i * N_SCORE;
        TRY(one_answer(r, s, i, a, &text, score));
        if (!log) continue;
        log->rouge1[i] = score[SCORE_ROUGE_1_RECALL], log->rouge_l[i] = score[SCORE_ROUGE_L_RECALL];
        TRY(replace(&log->generated[i], text.data, text.n));
        TRY(replace(&log->prompt[i], s->prompts.question[i].data, s->prompts.question[i].n));
        TRY(replace(&log->answer[i], s->prompts.answer[i].data, s->prompts.answer[i].n));
    }
done:
    text_free(&text);
    return st;
}
