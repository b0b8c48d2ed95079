/* Reports of an evaluation in the formats of other tools: eval_log_aggregated.json of TOFU, TOFU_EVAL.json and
 * TOFU_SUMMARY.json of open-unlearning. */
#include "unlearn/evaluation_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VALUES = 3, MEAN = -1 };
enum kind {
    WHOLE,  /* a number of the whole evaluation, without rows */
    ROWS,   /* values of every row */
    LISTS,  /* of every row, a list with a value for each wrong answer */
    TEXTS,  /* values of every row, and what was asked, expected and generated */
    ATTACK, /* values of the rows of forget and of holdout */
};
static const struct entry {
    const char *name, *set;
    enum kind kind;
    int number; /* number of the whole evaluation; MEAN: the mean of the first value */
    struct value {
        const char *key;
        enum score score;
        bool loss;        /* the value is the probability exp(-score) */
    } value[MOST_VALUES]; /* a NULL key ends them */
} entries[] = {
    {"forget_quality", NULL, WHOLE, NUMBER_QUALITY, {{0}}},
    {"model_utility", NULL, WHOLE, NUMBER_UTILITY, {{0}}},
    {"privleak", NULL, WHOLE, NUMBER_PRIVLEAK, {{0}}},
/* clang-format off */
#define ANSWERS(prefix, set, SET, ratio)                                                                              \
    {prefix "_Q_A_Prob", set, ROWS, MEAN, {{"prob", SCORE_PROBABILITY, false}, {"avg_loss", SCORE_LOSS, false}}},     \
    {prefix "_Q_A_PERT_Prob", set, LISTS, MEAN, {{"prob", SCORE_PERTURBED_LOSS, true}}},                              \
    {prefix "_Q_A_ROUGE", set, TEXTS, NUMBER_SETS + (SET) * N_EVAL_NUMBER + EVAL_ROUGE,                               \
     {{"rougeL_recall", SCORE_ROUGE_L_RECALL, false}, {"rougeL_f1", SCORE_ROUGE_L_F1, false},                         \
      {"rouge1_recall", SCORE_ROUGE_1_RECALL, false}}},                                                               \
    {prefix ratio, set, ROWS, NUMBER_SETS + (SET) * N_EVAL_NUMBER + EVAL_TRUTH_RATIO,                                 \
     {{"score", SCORE_TRUTH_RATIO, false}}}
#define PARAPHRASES(prefix, set)                                                                                      \
    {prefix "_Q_A_PARA_Prob", set, ROWS, MEAN,                                                                        \
     {{"prob", SCORE_PARAPHRASED_LOSS, true}, {"avg_loss", SCORE_PARAPHRASED_LOSS, false}}}
#define OPTIONS(prefix, set, SET)                                                                                     \
    {prefix "_Q_A_Prob_normalised", set, ROWS, NUMBER_SETS + (SET) * N_EVAL_NUMBER, {{"prob", SCORE_OF_OPTIONS, false}}}
#define MEMBERS(name, NUMBER, SCORE) {name, "forget", ATTACK, NUMBER, {{"score", SCORE, false}}}
    ANSWERS("forget", "forget", SET_FORGET, "_truth_ratio"),
    PARAPHRASES("forget", "forget"),
    ANSWERS("retain", "retain", SET_RETAIN, "_Truth_Ratio"),
    PARAPHRASES("retain", "retain"),
    ANSWERS("ra", "real_authors", SET_REAL_AUTHORS, "_Truth_Ratio"),
    OPTIONS("ra", "real_authors", SET_REAL_AUTHORS),
    ANSWERS("wf", "world_facts", SET_WORLD_FACTS, "_Truth_Ratio"),
    OPTIONS("wf", "world_facts", SET_WORLD_FACTS),
    {"exact_memorization", "forget", ROWS, MEAN, {{"score", SCORE_MEMORIZATION, false}}},
    {"extraction_strength", "forget", ROWS, MEAN, {{"score", SCORE_EXTRACTION, false}}},
    MEMBERS("mia_loss", NUMBER_AUC_LOSS, SCORE_LOSS),
    MEMBERS("mia_zlib", NUMBER_AUC_ZLIB, SCORE_ZLIB),
    MEMBERS("mia_min_k", NUMBER_AUC_MIN_K, SCORE_MIN_K),
    MEMBERS("mia_min_k_plus_plus", NUMBER_AUC_MIN_K_PLUS, SCORE_MIN_K_PLUS),
    MEMBERS("mia_reference", NUMBER_AUC_REFERENCE, SCORE_REFERENCE),
    MEMBERS("mia_gradnorm", NUMBER_AUC_GRADNORM, SCORE_GRADNORM),
#undef ANSWERS
#undef PARAPHRASES
#undef OPTIONS
#undef MEMBERS
};
/* clang-format on */

/* ---------------------------------------------------------------------------------------------------- values ------- */
static json_t *json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static double value_of(const struct scored_set *s, size_t i, const struct value *v)
{
    const double x = *score_of(s, i, v->score);
    return v->loss ? exp(-x) : x;
}

/* Mean of the finite values. */
static double mean_of(const struct scored_set *s, const struct value *v)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (isfinite(value_of(s, i, v))) sum += value_of(s, i, v), n++;
    return n ? sum / (double)n : NAN;
}

/* A row's wrong answers: their number, and where their losses are in the log. */
static size_t wrong_of(const struct evaluation *v, size_t set, size_t i, const double **loss)
{
    const struct variants *wrong = &v->in->set[set].of[OF_PERTURBED];
    *loss = v->set[set].log->perturbed + i * v->set[set].log->n_wrong;
    return wrong->first[i + 1] - wrong->first[i];
}

/* Mean over the rows of the mean probability of their wrong answers. */
static double mean_wrong(const struct evaluation *v, size_t set)
{
    double sum = 0;
    size_t rows = 0;
    for (size_t i = 0; i < v->set[set].n; i++) {
        const double *loss;
        const size_t n = wrong_of(v, set, i, &loss);
        double row = 0;
        for (size_t k = 0; k < n; k++) row += exp(-loss[k]);
        if (n && isfinite(row)) sum += row / (double)n, rows++;
    }
    return rows ? sum / (double)rows : NAN;
}

static double aggregate(const struct evaluation *v, const struct entry *e, size_t set)
{
    if (e->number != MEAN) return v->numbers.number[e->number];
    return e->kind == LISTS ? mean_wrong(v, set) : mean_of(&v->set[set], &e->value[0]);
}

/* ------------------------------------------------------------------------------------------------------ rows ------- */
/* All functions below return NULL without memory, as in jansson, which refuses to put what is NULL into anything. */
static json_t *finished(json_t *json, int failed)
{
    if (!failed) return json;
    json_decref(json);
    return NULL;
}

static int add_list(json_t *row, const char *key, size_t n, const double *loss, bool probability)
{
    json_t *list = json_array();
    int failed = 0;
    for (size_t k = 0; k < n; k++)
        failed |= json_array_append_new(list, json_number(probability ? exp(-loss[k]) : loss[k]));
    return failed | json_object_set_new(row, key, list);
}

static int add_text(json_t *row, const char *key, const struct text *t)
{
    return json_object_set_new(row, key, json_stringn(t->n ? t->data : "", t->n));
}

static json_t *row_of(const struct evaluation *v, const struct entry *e, size_t set, size_t i)
{
    const struct scored_set *s = &v->set[set];
    json_t *row = json_object();
    const double *loss;
    int failed = 0;
    if (e->kind == LISTS) {
        const size_t n = wrong_of(v, set, i, &loss);
        failed = add_list(row, "prob", n, loss, true);
        return finished(row, failed | add_list(row, "avg_loss", n, loss, false));
    }
    for (int k = 0; k < MOST_VALUES && e->value[k].key; k++)
        failed |= json_object_set_new(row, e->value[k].key, json_number(value_of(s, i, &e->value[k])));
    if (e->kind == TEXTS) {
        failed |= add_text(row, "input", &s->log->prompt[i]);
        failed |= add_text(row, "ground_truth", &s->log->answer[i]);
        failed |= add_text(row, "generation", &s->log->generated[i]);
    }
    return finished(row, failed);
}

static int add_rows(const struct evaluation *v, const struct entry *e, size_t set, json_t *to)
{
    json_t *all = json_object();
    int failed = 0;
    for (size_t i = 0; i < v->set[set].n; i++) {
        char index[24];
        snprintf(index, sizeof index, "%zu", i);
        failed |= json_object_set_new(all, index, row_of(v, e, set, i));
    }
    return failed | json_object_set_new(to, "value_by_index", all);
}

/* The rows of one side of an attack. */
static int add_side(const struct evaluation *v, const struct entry *e, const char *name, json_t *to)
{
    const struct evaluated_set *s = evaluated_set(v->subject->in, name);
    const size_t set = s ? (size_t)(s - v->in->set) : 0;
    json_t *side;
    int failed;
    if (!s) return 0;
    side = json_object();
    failed = json_object_set_new(side, "agg_value", json_number(mean_of(&v->set[set], &e->value[0])));
    failed |= add_rows(v, e, set, side);
    return failed | json_object_set_new(to, name, side);
}

/* Whether the set was evaluated and has what the entry needs. */
static bool reported(const struct evaluation *v, const struct entry *e, size_t *set)
{
    const struct evaluated_set *s = e->set ? evaluated_set(v->subject->in, e->set) : NULL;
    *set = s ? (size_t)(s - v->in->set) : 0;
    if (!e->set) return true;
    if (!s || !v->in->wanted[e->value[0].score] || !scores_possible(s, e->value[0].score)) return false;
    return e->value[0].score != SCORE_PARAPHRASED_LOSS || s->of[OF_PARAPHRASED].data;
}

static enum status write_file(const struct evaluation *v, const char *name, const char *text, size_t n)
{
    char *path = NULL;
    enum status st;
    TRY(path_join(v->subject->in->config->output_directory, name, &path));
    TRY(output_write_text(path, text, n));
done:
    free(path);
    return st;
}

static enum status write_json(const struct evaluation *v, const char *name, const json_t *json)
{
    char *text = json_text(json, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    enum status st = text ? write_file(v, name, text, strlen(text)) : fail(ERR_MEMORY, "%s: no memory to write it", name);
    free(text);
    return st;
}

/* An entry: all of it, and its number alone where it has one. */
static int add_entry(const struct evaluation *v, const struct entry *e, json_t *whole, json_t *flat)
{
    json_t *one;
    size_t set;
    double x;
    int failed;
    if (!reported(v, e, &set)) return 0;
    x = aggregate(v, e, set);
    one = json_object();
    failed = json_object_set_new(one, "agg_value", json_number(x));
    if (e->kind == ATTACK) {
        failed |= add_side(v, e, "forget", one) | add_side(v, e, "holdout", one);
        failed |= json_object_set_new(one, "auc", json_number(x));
    } else if (e->kind != WHOLE) {
        failed |= add_rows(v, e, set, one);
    }
    failed |= json_object_set_new(whole, e->name, one);
    return isfinite(x) ? failed | json_object_set_new(flat, e->name, json_number(x)) : failed;
}

static enum status write_tofu(const struct evaluation *v)
{
    json_t *whole = json_object(), *flat = json_object();
    int failed = 0;
    enum status st = OK;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) failed |= add_entry(v, &entries[i], whole, flat);
    if (failed) st = fail(ERR_MEMORY, "TOFU_EVAL.json: no memory to write it");
    if (st == OK) st = write_json(v, "TOFU_EVAL.json", whole);
    if (st == OK) st = write_json(v, "TOFU_SUMMARY.json", flat);
    json_decref(whole);
    json_decref(flat);
    return st;
}

enum status evaluation_json(const struct evaluation *v)
{
    struct text log = {0};
    enum status st = OK;
    TRY(eval_log_write(&v->log, &log));
    TRY(write_file(v, "eval_log_aggregated.json", log.data, log.n));
    TRY(write_tofu(v));
done:
    text_free(&log);
    return st;
}
