/* Reports of an evaluation in the formats of other tools: eval_log_aggregated.json of TOFU, TOFU_EVAL.json and
 * TOFU_SUMMARY.json of open-unlearning. */
#include "unlearn/evaluation_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VALUES = 3, MEAN = -1 };
static const struct tofu {
    const char *name, *set; /* set NULL: a number of the whole evaluation */
    int number;             /* number of the whole evaluation; MEAN: the mean of the first value */
    struct {
        const char *key;
        enum score score;
    } value[MOST_VALUES]; /* values of a row; a NULL key ends them */
} tofu_table[] = {
    {"forget_quality", NULL, NUMBER_QUALITY, {{0}}},
    {"model_utility", NULL, NUMBER_UTILITY, {{0}}},
    {"privleak", NULL, NUMBER_PRIVLEAK, {{0}}},
#define SET(prefix, set, SET, ratio)                                                          \
    {prefix "_Q_A_Prob", set, MEAN, {{"prob", SCORE_PROBABILITY}, {"avg_loss", SCORE_LOSS}}}, \
        {prefix "_Q_A_ROUGE",                                                                 \
         set,                                                                                 \
         NUMBER_SETS + SET * N_EVAL_NUMBER + EVAL_ROUGE,                                      \
         {{"rougeL_recall", SCORE_ROUGE_L_RECALL},                                            \
          {"rougeL_f1", SCORE_ROUGE_L_F1},                                                    \
          {"rouge1_recall", SCORE_ROUGE_1_RECALL}}},                                          \
    {                                                                                         \
        prefix ratio, set, NUMBER_SETS + SET *N_EVAL_NUMBER + EVAL_TRUTH_RATIO,               \
        {                                                                                     \
            {                                                                                 \
                "score", SCORE_TRUTH_RATIO                                                    \
            }                                                                                 \
        }                                                                                     \
    }
    SET("forget", "forget", SET_FORGET, "_truth_ratio"),
    SET("retain", "retain", SET_RETAIN, "_Truth_Ratio"),
    SET("ra", "real_authors", SET_REAL_AUTHORS, "_Truth_Ratio"),
    SET("wf", "world_facts", SET_WORLD_FACTS, "_Truth_Ratio"),
#undef SET
    {"ra_Q_A_Prob_normalised",
     "real_authors",
     NUMBER_SETS + SET_REAL_AUTHORS *N_EVAL_NUMBER,
     {{"prob", SCORE_OF_OPTIONS}}},
    {"wf_Q_A_Prob_normalised", "world_facts", NUMBER_SETS + SET_WORLD_FACTS *N_EVAL_NUMBER, {{"prob", SCORE_OF_OPTIONS}}},
    {"exact_memorization", "forget", MEAN, {{"score", SCORE_MEMORIZATION}}},
    {"extraction_strength", "forget", MEAN, {{"score", SCORE_EXTRACTION}}},
    {"mia_loss", "forget", NUMBER_AUC_LOSS, {{"score", SCORE_LOSS}}},
    {"mia_zlib", "forget", NUMBER_AUC_ZLIB, {{"score", SCORE_ZLIB}}},
    {"mia_min_k", "forget", NUMBER_AUC_MIN_K, {{"score", SCORE_MIN_K}}},
    {"mia_min_k_plus_plus", "forget", NUMBER_AUC_MIN_K_PLUS, {{"score", SCORE_MIN_K_PLUS}}},
    {"mia_reference", "forget", NUMBER_AUC_REFERENCE, {{"score", SCORE_REFERENCE}}},
    {"mia_gradnorm", "forget", NUMBER_AUC_GRADNORM, {{"score", SCORE_GRADNORM}}},
};

static json_t *json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static double aggregate(const struct evaluation *v, const struct tofu *t, size_t set)
{
    if (t->number != MEAN) return v->numbers.number[t->number];
    return v->numbers.mean[set * N_SCORE + t->value[0].score];
}

/* Whether the set was evaluated and the first value asked for. */
static bool reported(const struct evaluation *v, const struct tofu *t, size_t *set)
{
    const struct evaluated_set *s = t->set ? evaluated_set(v->subject->in, t->set) : NULL;
    *set = s ? (size_t)(s - v->in->set) : 0;
    if (!t->set) return true;
    return s && v->in->wanted[t->value[0].score] && scores_possible(s, t->value[0].score);
}

/* NULL without memory, as in jansson, which refuses to put what is NULL into anything. */
static json_t *by_index(const struct evaluation *v, const struct tofu *t, size_t set)
{
    json_t *all = json_object();
    int failed = 0;
    for (size_t i = 0; i < v->in->set[set].n; i++) {
        char index[24];
        json_t *row = json_object();
        for (int k = 0; k < MOST_VALUES && t->value[k].key; k++)
            failed |=
                json_object_set_new(row, t->value[k].key, json_number(*score_of(&v->set[set], i, t->value[k].score)));
        snprintf(index, sizeof index, "%zu", i);
        failed |= json_object_set_new(all, index, row);
    }
    if (!failed) return all;
    json_decref(all);
    return NULL;
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

/* A row of the table: all of it, and its number alone. */
static int add_tofu(const struct evaluation *v, const struct tofu *t, json_t *whole, json_t *flat)
{
    json_t *one;
    size_t set;
    int failed;
    if (!reported(v, t, &set)) return 0;
    one = json_object();
    failed = json_object_set_new(one, "agg_value", json_number(aggregate(v, t, set)));
    if (t->set) failed |= json_object_set_new(one, "value_by_index", by_index(v, t, set));
    failed |= json_object_set_new(whole, t->name, one);
    return failed | json_object_set_new(flat, t->name, json_number(aggregate(v, t, set)));
}

static enum status write_tofu(const struct evaluation *v)
{
    json_t *whole = json_object(), *flat = json_object();
    int failed = 0;
    enum status st = OK;
    for (size_t i = 0; i < sizeof tofu_table / sizeof *tofu_table; i++)
        failed |= add_tofu(v, &tofu_table[i], whole, flat);
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
