/* evaluation.h5, and the files in which other tools report the same: eval_log_aggregated.json of TOFU, TOFU_EVAL.json and
 * TOFU_SUMMARY.json with open-unlearning's names. */
#include "unlearn/task_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------- evaluation.h5 ------- */
static enum status meanings(const struct inputs *in, struct text *out)
{
    enum status st = OK;
    for (int k = 0; k < N_SCORE && st == OK; k++)
        if (in->evaluation->wanted[k])
            st = text_print(out, "%s [%s]: %s\n", score_table[k].name, score_table[k].units, score_table[k].text);
    return st;
}

static size_t longest_set(const struct evaluation_inputs *e)
{
    size_t n = 0;
    for (size_t k = 0; k < e->n; k++)
        if (e->set[k].n > n) n = e->set[k].n;
    return n;
}

static enum status put_rows(struct run *r)
{
    const struct evaluation_inputs *e = r->in->evaluation;
    double *n = NULL;
    enum status st = OK;
    TRY_NEW(n, e->n);
    for (size_t k = 0; k < e->n; k++) n[k] = (double)e->set[k].n;
    TRY(file_put(r->evaluation->file, "rows", n));
done:
    free(n);
    return st;
}

enum status evaluation_open(struct run *r, const char *path, size_t n_attribute, const struct attribute *attribute)
{
    const struct evaluation_inputs *e = r->in->evaluation;
    struct evaluation_file_info info = {
        .n_set = e->n, .n_row = longest_set(e), .n_number = N_NUMBER, .number = number_name};
    const char **set = NULL, *metric[N_SCORE];
    struct attribute *all = NULL;
    struct text text = {0};
    int64_t *row = NULL;
    enum status st = OK;
    TRY_NEW(set, e->n);
    TRY_NEW(row, info.n_row);
    TRY_NEW(all, n_attribute + 1);
    for (size_t k = 0; k < e->n; k++) set[k] = e->set[k].name;
    for (size_t i = 0; i < info.n_row; i++) row[i] = (int64_t)i;
    for (int k = 0; k < N_SCORE; k++)
        if (e->wanted[k]) metric[info.n_metric++] = score_table[k].name;
    TRY(meanings(r->in, &text));
    memcpy(all, attribute, n_attribute * sizeof *all);
    all[n_attribute] = (struct attribute){"metrics", text.data};
    info.set = set, info.metric = metric, info.row = row, info.attribute = all, info.n_attribute = n_attribute + 1;
    TRY(evaluation_file_create(path, &info, &r->evaluation->file));
    TRY(put_rows(r));
done:
    free(set), free(row), free(all);
    text_free(&text);
    return st;
}

/* [set][N_SCORE] -> [set][wanted] */
static void take_wanted(const struct evaluation_inputs *e, const double *from, double *to)
{
    for (size_t k = 0; k < e->n; k++)
        for (int j = 0; j < N_SCORE; j++)
            if (e->wanted[j]) *to++ = from[k * N_SCORE + (size_t)j];
}

static void take_rows(const struct run *r, size_t n_row, double *to)
{
    const struct evaluation_inputs *e = r->in->evaluation;
    for (size_t k = 0; k < e->n; k++)
        for (size_t i = 0; i < n_row; i++)
            for (int j = 0; j < N_SCORE; j++)
                if (e->wanted[j]) *to++ = i < e->set[k].n ? *score_of(&r->evaluation->set[k], i, (enum score)j) : NAN;
}

enum status evaluation_put(struct run *r, size_t step)
{
    const struct evaluation_inputs *e = r->in->evaluation;
    struct evaluation *v = r->evaluation;
    const size_t n_row = longest_set(e);
    double *slab = NULL;
    enum status st = OK;
    TRY_NEW(slab, e->n * n_row * N_SCORE);
    take_rows(r, n_row, slab);
    TRY(file_put(v->file, "evaluation", slab));
    take_wanted(e, v->numbers.mean, slab);
    TRY(file_put(v->file, "mean", slab));
    take_wanted(e, v->numbers.left_out, slab);
    TRY(file_put(v->file, "left_out", slab));
    TRY(file_put(v->file, "risk", v->numbers.risk));
    TRY(file_put(v->file, "summary", v->numbers.number));
    TRY(file_commit(v->file, (int64_t)step));
done:
    free(slab);
    return st;
}

/* ---------------------------------------------------------------------------------- open-unlearning's files ------- */
enum { MOST_VALUES = 3, MEAN = -1 };
static const struct tofu {
    const char *name, *set; /* set NULL: a number of the whole */
    int number;             /* of the whole evaluation; MEAN: that of the first value */
    struct {
        const char *key;
        enum score score;
    } value[MOST_VALUES]; /* of a row; ended by a NULL key */
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

static double aggregate(const struct run *r, const struct tofu *t, size_t set)
{
    if (t->number != MEAN) return r->evaluation->numbers.number[t->number];
    return r->evaluation->numbers.mean[set * N_SCORE + t->value[0].score];
}

/* Whether the set is there and its first value was asked for. */
static bool reported(const struct run *r, const struct tofu *t, size_t *set)
{
    const struct evaluated_set *s = t->set ? evaluated_set(r->in, t->set) : NULL;
    *set = s ? (size_t)(s - r->in->evaluation->set) : 0;
    if (!t->set) return true;
    return s && r->in->evaluation->wanted[t->value[0].score] && scores_possible(s, t->value[0].score);
}

static json_t *by_index(const struct run *r, const struct tofu *t, size_t set)
{
    json_t *all = json_object();
    for (size_t i = 0; i < r->in->evaluation->set[set].n; i++) {
        char index[24];
        json_t *row = json_object();
        for (int k = 0; k < MOST_VALUES && t->value[k].key; k++)
            json_object_set_new(row, t->value[k].key,
                                json_number(*score_of(&r->evaluation->set[set], i, t->value[k].score)));
        snprintf(index, sizeof index, "%zu", i);
        json_object_set_new(all, index, row);
    }
    return all;
}

static enum status write_file(const struct run *r, const char *name, const char *text, size_t n)
{
    char *path = NULL;
    enum status st;
    TRY(path_join(r->in->config->output_directory, name, &path));
    TRY(output_write_text(path, text, n));
done:
    free(path);
    return st;
}

static enum status write_json(const struct run *r, const char *name, json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    enum status st = text ? write_file(r, name, text, strlen(text)) : fail(ERR_MEMORY, "%s: no memory to write it", name);
    free(text);
    json_decref(json);
    return st;
}

static enum status write_tofu(const struct run *r)
{
    json_t *whole = json_object(), *flat = json_object();
    enum status st;
    for (size_t i = 0; i < sizeof tofu_table / sizeof *tofu_table; i++) {
        const struct tofu *t = &tofu_table[i];
        json_t *one;
        size_t set;
        if (!reported(r, t, &set)) continue;
        one = json_object();
        json_object_set_new(one, "agg_value", json_number(aggregate(r, t, set)));
        if (t->set) json_object_set_new(one, "value_by_index", by_index(r, t, set));
        json_object_set_new(whole, t->name, one);
        json_object_set_new(flat, t->name, json_number(aggregate(r, t, set)));
    }
    st = write_json(r, "TOFU_EVAL.json", whole);
    if (st != OK) return json_decref(flat), st;
    return write_json(r, "TOFU_SUMMARY.json", flat);
}

enum status evaluation_json(const struct run *r)
{
    struct text log = {0};
    enum status st = OK;
    TRY(eval_log_write(&r->evaluation->log, &log));
    TRY(write_file(r, "eval_log_aggregated.json", log.data, log.n));
    TRY(write_tofu(r));
done:
    text_free(&log);
    return st;
}
