/* Reads TOFU_EVAL.json, as open-unlearning and this program write it: {entry: {"agg_value": x, "value_by_index": {row:
 * {key: value, ...}, ...}}, ...}. The entries of a set that are there must have the same rows. */
#include "unlearn/eval_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct eval_set, member)
static const struct entry {
    const char *name, *key;
    enum eval_set_id set;
    size_t offset; /* of the array that it fills */
    bool wide;     /* a value for each wrong answer */
} entries[] = {
    {"forget_Q_A_Prob", "avg_loss", SET_FORGET, AT(nll), false},
    {"forget_Q_A_PARA_Prob", "avg_loss", SET_FORGET, AT(paraphrased), false},
    {"forget_Q_A_PERT_Prob", "avg_loss", SET_FORGET, AT(perturbed), true},
    {"forget_Q_A_ROUGE", "rougeL_recall", SET_FORGET, AT(rouge_l), false},
    {"forget_truth_ratio", "score", SET_FORGET, AT(ratio), false},
    {"retain_Q_A_Prob", "avg_loss", SET_RETAIN, AT(nll), false},
    {"retain_Q_A_PARA_Prob", "avg_loss", SET_RETAIN, AT(paraphrased), false},
    {"retain_Q_A_PERT_Prob", "avg_loss", SET_RETAIN, AT(perturbed), true},
    {"retain_Q_A_ROUGE", "rougeL_recall", SET_RETAIN, AT(rouge_l), false},
    {"ra_Q_A_Prob", "avg_loss", SET_REAL_AUTHORS, AT(nll), false},
    {"ra_Q_A_PERT_Prob", "avg_loss", SET_REAL_AUTHORS, AT(perturbed), true},
    {"ra_Q_A_ROUGE", "rougeL_recall", SET_REAL_AUTHORS, AT(rouge_l), false},
    {"wf_Q_A_Prob", "avg_loss", SET_WORLD_FACTS, AT(nll), false},
    {"wf_Q_A_PERT_Prob", "avg_loss", SET_WORLD_FACTS, AT(perturbed), true},
    {"wf_Q_A_ROUGE", "rougeL_recall", SET_WORLD_FACTS, AT(rouge_l), false},
};
enum { N_ENTRY = sizeof entries / sizeof *entries, LONGEST_ROW = 18 };
static const char ATTACK[] = "mia_min_k";

struct reader {
    const char *path;
    json_t *rows[N_EVAL_SET];     /* the first entry of each set that is there: the others must have its rows; borrowed */
    const char *name[N_EVAL_SET]; /* that entry */
};

bool is_tofu_eval(const json_t *root)
{
    bool found = json_is_map(root) && json_object_get(root, ATTACK);
    for (size_t k = 0; k < N_ENTRY && json_is_map(root); k++) found = found || json_object_get(root, entries[k].name);
    return found;
}

static enum status wrong(const struct reader *r, const struct entry *e, const char *row, const char *what)
{
    return fail(ERR_INPUT, "%s: %s: row \"%.40s\": %s %s", r->path, e->name, row, e->key, what);
}

/* The set takes its rows from the first entry that is there. */
static enum status take_rows(struct reader *r, const struct entry *e, json_t *rows, struct eval_set *s)
{
    enum status st = OK;
    const char *name;
    json_t *each;
    size_t i = 0;
    if (!json_object_size(rows)) return fail(ERR_INPUT, "%s: %s: has no rows", r->path, e->name);
    s->n = json_object_size(rows);
    TRY_NEW(s->row, s->n);
    TRY_NEW(s->n_wrong_of, s->n);
    json_object_foreach(rows, name, each)
    {
        const size_t n = strlen(name);
        if (!n || n > LONGEST_ROW || strspn(name, "0123456789") < n || (n > 1 && name[0] == '0'))
            TRY(fail(ERR_INPUT, "%s: %s: row \"%.40s\" is not named by a whole number", r->path, e->name, name));
        s->row[i++] = strtoll(name, NULL, 10);
    }
    r->rows[e->set] = rows, r->name[e->set] = e->name;
done:
    return st;
}

/* The rows of an entry; NULL where the file does not have it. */
static enum status find_rows(struct reader *r, json_t *root, const struct entry *e, struct eval_set *s, json_t **out)
{
    json_t *entry = json_object_get(root, e->name);
    *out = NULL;
    if (!entry || json_is_null(entry)) return OK;
    *out = json_is_map(entry) ? json_object_get(entry, "value_by_index") : NULL;
    if (!json_is_map(*out))
        return fail(ERR_INPUT, "%s: %s: has no value_by_index with a value for each row", r->path, e->name);
    if (!r->rows[e->set]) return take_rows(r, e, *out, s);
    if (json_object_size(*out) == s->n) return OK;
    return fail(ERR_INPUT, "%s: %s has %zu rows, %s has %zu", r->path, e->name, json_object_size(*out), r->name[e->set],
                s->n);
}

static enum status number(const struct reader *r, const struct entry *e, const char *row, const json_t *json, double *out)
{
    const char *fault = json ? json_not_number(json) : NULL;
    if (fault) return wrong(r, e, row, fault);
    *out = json_is_number(json) ? json_number_value(json) : NAN;
    return OK;
}

/* Reads a value for each of a row's *n wrong answers; NaN up to `each`, the most of any row. */
static enum status numbers(const struct reader *r, const struct entry *e, const char *row, const json_t *list,
                           size_t each, size_t *n, double *out)
{
    enum status st = OK;
    for (size_t k = 0; k < each; k++) out[k] = NAN;
    if (!list || json_is_missing(list)) return OK;
    if (!json_is_array(list)) return wrong(r, e, row, "is not a list of numbers");
    *n = json_array_size(list);
    for (size_t k = 0; k < *n; k++) TRY(number(r, e, row, json_array_get(list, k), &out[k]));
done:
    return st;
}

/* Values of a row: those of the longest list. */
static size_t each_of(const struct entry *e, json_t *rows)
{
    const char *name;
    json_t *row;
    size_t most = 0;
    if (!e->wide) return 1;
    json_object_foreach(rows, name, row)
    {
        const size_t n = json_array_size(json_object_get(row, e->key));
        if (n > most) most = n;
    }
    return most;
}

static enum status read_entry(struct reader *r, json_t *root, const struct entry *e, struct eval_set *s)
{
    double **x = (double **)(void *)((char *)s + e->offset);
    json_t *rows, *row;
    const char *name;
    size_t i = 0, each;
    enum status st = OK;
    TRY(find_rows(r, root, e, s, &rows));
    if (!rows || !(each = each_of(e, rows))) return OK; /* no list in any row counts as absent */
    TRY_NEW(*x, s->n * each);
    if (e->wide) s->n_wrong = each;
    json_object_foreach(r->rows[e->set], name, row)
    {
        row = json_object_get(rows, name);
        if (!json_is_map(row) && !json_is_null(row)) TRY(wrong(r, e, name, "is not there"));
        row = json_is_map(row) ? json_object_get(row, e->key) : NULL;
        TRY(e->wide ? numbers(r, e, name, row, each, &s->n_wrong_of[i], *x + i * each) : number(r, e, name, row, *x + i));
        i++;
    }
done:
    return st;
}

static enum status read_attack(const char *path, json_t *root, struct eval_log *log)
{
    json_t *entry = json_object_get(root, ATTACK), *area;
    if (!entry || json_is_missing(entry)) return OK;
    if (!json_is_map(entry)) return fail(ERR_INPUT, "%s: %s: is not an object with agg_value", path, ATTACK);
    area = json_object_get(entry, "agg_value");
    if (!area || json_is_missing(area)) return OK;
    if (!json_is_number(area) || !(json_number_value(area) >= 0 && json_number_value(area) <= 1))
        return fail(ERR_INPUT, "%s: %s: agg_value is not an area from 0 to 1", path, ATTACK);
    log->has_min_k = true, log->min_k_area = json_number_value(area);
    return OK;
}

/* Answers stand in for the paraphrases that a set does not have. Ratios are kept only where the losses are not all there. */
static enum status complete(struct eval_log *log)
{
    struct eval_set *forget = &log->set[SET_FORGET];
    enum status st = OK;
    for (int k = 0; k < N_EVAL_SET; k++) {
        struct eval_set *s = &log->set[k];
        if (!s->nll || s->paraphrased) continue;
        TRY_NEW(s->paraphrased, s->n);
        memcpy(s->paraphrased, s->nll, s->n * sizeof *s->nll);
    }
    if (forget->paraphrased && forget->perturbed) free(forget->ratio), forget->ratio = NULL;
    for (int k = 0; k < N_EVAL_SET; k++) {
        const struct eval_set *s = &log->set[k];
        if (!s->nll && !s->paraphrased && !s->perturbed && !s->rouge_l && !s->ratio) eval_set_free(&log->set[k]);
    }
done:
    return st;
}

enum status tofu_eval_read(const char *path, json_t *root, unsigned needed, struct eval_log *log)
{
    struct reader r = {.path = path};
    struct eval_log new = {0};
    enum status st = OK;
    for (size_t k = 0; k < N_ENTRY; k++) TRY(read_entry(&r, root, &entries[k], &new.set[entries[k].set]));
    TRY(read_attack(path, root, &new));
    TRY(complete(&new));
    for (int k = 0; k < N_EVAL_SET; k++) {
        const struct eval_set *s = &new.set[k];
        if (needed >> k & 1 && !s->ratio && !(s->paraphrased && s->perturbed))
            TRY(fail(ERR_INPUT,
                     "%s: has neither %s_truth_ratio nor the losses of %s_Q_A_PARA_Prob and _PERT_Prob: this is no "
                     "TOFU_EVAL.json with the set %s",
                     path, log_parts[k].name, log_parts[k].name, log_parts[k].name));
    }
    *log = new, new = (struct eval_log){0};
done:
    eval_log_free(&new);
    return st;
}
