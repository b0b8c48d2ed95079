/* Reports of an evaluation in the formats of other tools: eval_log_aggregated.json of TOFU; open-unlearning's
 * TOFU_EVAL.json, MUSE_EVAL.json and their summaries; the same for WMDP, with the names of the Evaluation Harness. */
#include "unlearn/evaluation_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    const struct eval_set *log = v->set[set].log;
    *loss = log->perturbed + i * log->n_wrong;
    return log->n_wrong_of[i];
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

/* n = 0: null, as for any row that has no value */
static int add_list(json_t *row, const char *key, size_t n, const double *loss, bool probability)
{
    json_t *list = n ? json_array() : json_null();
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

/* The rows of one side of an attack: of the set with this name, or with MUSE's in front of it. */
static int add_side(const struct evaluation *v, const struct entry *e, const char *name, json_t *to)
{
    const bool muse = v->subject->in->config->evaluate.benchmark == BENCHMARK_MUSE;
    const char *of_muse = strcmp(name, "forget") ? "privleak_holdout" : "privleak_forget";
    const struct evaluated_set *s = evaluated_set(v->subject->in, muse ? of_muse : name);
    const size_t set = s ? (size_t)(s - v->in->set) : 0;
    json_t *side;
    int failed;
    if (!s) return 0;
    side = json_object();
    failed = json_object_set_new(side, "agg_value", json_number(mean_of(&v->set[set], &e->value[0])));
    failed |= add_rows(v, e, set, side);
    return failed | json_object_set_new(to, name, side);
}

/* Whether a score is wanted, or computed for another that is: a truth ratio is reported with the losses that it is made of,
 * since whoever reads them makes forget quality of them. */
static bool computed(const struct evaluation_inputs *e, enum score which)
{
    if (which == SCORE_PERTURBED_LOSS) return e->needs & WANTS_PERTURBED;
    if (which == SCORE_PARAPHRASED_LOSS) return e->needs & WANTS_PARAPHRASED;
    return e->wanted[which] ||
           (which == SCORE_PROBABILITY && e->needs & WANTS_PARAPHRASED); /* where there is no paraphrase */
}

/* Whether the set was evaluated and has what the entry needs. */
static bool reported(const struct evaluation *v, const struct entry *e, size_t *set)
{
    const struct evaluated_set *s = e->set ? evaluated_set(v->subject->in, e->set) : NULL;
    *set = s ? (size_t)(s - v->in->set) : 0;
    if (!e->set) return true;
    if (!s || !computed(v->in, e->value[0].score) || !scores_possible(s, e->value[0].score)) return false;
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

/* A set of questions with choices: its accuracy, and its rows. */
static int add_choices(const struct evaluation *v, size_t set, json_t *whole, json_t *flat)
{
    const struct entry e = {
        NULL, v->in->set[set].name, ROWS, MEAN, {{"acc", SCORE_CORRECT, false}, {"prob", SCORE_RIGHT, false}}};
    const double x = v->numbers.mean[set * N_SCORE + SCORE_CORRECT];
    struct text name = {0};
    json_t *one = json_object();
    int failed = text_print(&name, "wmdp_%s", v->in->set[set].name) != OK;
    failed |= json_object_set_new(one, "agg_value", json_number(x));
    failed |= add_rows(v, &e, set, one);
    failed |= json_object_set_new(whole, failed ? "" : name.data, one);
    if (isfinite(x) && !failed && text_print(&name, "/acc") == OK)
        failed |= json_object_set_new(flat, name.data, json_number(x));
    text_free(&name);
    return failed;
}

static enum status write_entries(const struct evaluation *v, const struct suite *b)
{
    json_t *whole = json_object(), *flat = json_object();
    int failed = 0;
    enum status st = OK;
    for (const struct entry *e = b->entry; e && e->name; e++) failed |= add_entry(v, e, whole, flat);
    for (size_t k = 0; !b->entry && k < v->in->n; k++) failed |= add_choices(v, k, whole, flat);
    if (failed) st = fail(ERR_MEMORY, "%s: no memory to write it", b->whole);
    if (st == OK) st = write_json(v, b->whole, whole);
    if (st == OK) st = write_json(v, b->flat, flat);
    json_decref(whole);
    json_decref(flat);
    return st;
}

enum status evaluation_json(const struct evaluation *v)
{
    const struct config *c = v->subject->in->config;
    struct text log = {0};
    enum status st = OK;
    if (c->evaluate.benchmark == BENCHMARK_TOFU) {
        TRY(eval_log_write(&v->log, &log));
        TRY(write_file(v, "eval_log_aggregated.json", log.data, log.n));
    }
    TRY(write_entries(v, suite_of(c)));
done:
    text_free(&log);
    return st;
}
