/* Writes the benchmark's log in the published layout: keys in its order, rows as an object by number. */
#include "unlearn/eval_priv.h"
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 17, INDENT = 4 };

struct context { /* what one value is computed from */
    const struct eval_set *set;
    const double *mean, *count; /* a sum is their product */
    size_t each;                /* values of a row */
};
typedef double row_value(const struct context *c, size_t at);

static double own_value(const struct context *c, size_t at) { return c->mean[at]; }
static double sum_value(const struct context *c, size_t at) { return c->mean[at] * c->count[at]; }
static double truth_ratio(const struct context *c, size_t at)
{
    return exp(c->set->paraphrased[at] - row_mean_wrong(c->set, at));
}
static double normalized_loss(const struct context *c, size_t at) { return -row_log_share(c->set, at); }

static json_t *json_value(double x)
{
    if (!isfinite(x)) return json_null();
    return json_real(x);
}

static json_t *json_count(double x)
{
    if (x >= 0 && !signbit(x) && x <= 9007199254740992.0 && x == floor(x)) return json_integer((json_int_t)x);
    return json_value(x);
}

/* The functions below return NULL if memory is exhausted or a text is not UTF-8. */
static json_t *json_row(const struct context *c, row_value *f, bool wide, bool counts, size_t i)
{
    json_t *list;
    if (!wide) return counts ? json_count(f(c, i)) : json_value(f(c, i));
    list = json_array();
    for (size_t k = 0; k < c->each; k++) {
        double x = f(c, i * c->each + k);
        if (json_array_append_new(list, counts ? json_count(x) : json_value(x))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *json_texts(const struct eval_set *s, size_t i)
{
    const struct text *t[N_LOG_TEXT] = {&s->prompt[i], &s->generated[i], &s->answer[i]};
    json_t *list = json_array();
    for (int k = 0; k < N_LOG_TEXT; k++)
        if (json_array_append_new(list, json_stringn(t[k]->n ? t[k]->data : "", t[k]->n))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

struct column { /* a key of the published file, in its order */
    const char *key;
    size_t mean, count; /* offsets of the arrays that it is computed from */
    row_value *value;   /* NULL: the texts */
    bool wide, counts, among_options;
};
#define AT(member) offsetof(struct eval_set, member)
static const struct column columns[] = {
    {"avg_gt_loss", AT(nll), AT(nll), own_value, false, false, false},
    {"gt_loss", AT(nll), AT(n_token), sum_value, false, false, false},
    {"num_token_gt", AT(n_token), AT(n_token), own_value, false, true, false},
    {"generated_text", AT(generated), AT(generated), NULL, false, false, false},
    {"rouge1_recall", AT(rouge1), AT(rouge1), own_value, false, false, false},
    {"rougeL_recall", AT(rouge_l), AT(rouge_l), own_value, false, false, false},
    {"average_perturb_loss", AT(perturbed), AT(perturbed), own_value, true, false, false},
    {"avg_paraphrased_loss", AT(paraphrased), AT(paraphrased), own_value, false, false, false},
    {"truth_ratio", AT(perturbed), AT(paraphrased), truth_ratio, false, false, false},
    {"paraphrased_loss", AT(paraphrased), AT(n_token_paraphrased), sum_value, false, false, false},
    {"perturb_loss", AT(perturbed), AT(n_token_perturbed), sum_value, true, false, false},
    {"num_token_paraphrased", AT(n_token_paraphrased), AT(n_token_paraphrased), own_value, false, true, false},
    {"num_token_perturb", AT(n_token_perturbed), AT(n_token_perturbed), own_value, true, true, false},
    {"normalized_gt_loss", AT(nll), AT(perturbed), normalized_loss, false, false, true},
};

static const void *array_at(const struct eval_set *s, size_t offset)
{
    return *(void *const *)(const void *)((const char *)s + offset);
}

/* The rows of one key; *bad receives the first row that cannot be written, or n. */
static json_t *json_rows(const struct eval_set *s, const struct column *c, size_t *bad)
{
    const struct context context = {s, array_at(s, c->mean), array_at(s, c->count), s->n_wrong};
    json_t *rows = json_object();
    char name[32];
    for (*bad = 0; *bad < s->n; ++*bad) {
        json_t *value = c->value ? json_row(&context, c->value, c->wide, c->counts, *bad) : json_texts(s, *bad);
        snprintf(name, sizeof name, "%" PRId64, s->row[*bad]);
        if (json_object_set_new(rows, name, value)) break;
    }
    return rows;
}

static enum status json_part(const struct log_part *p, const struct eval_set *s, json_t *part)
{
    for (size_t k = 0; k < sizeof columns / sizeof *columns; k++) {
        const struct column *c = &columns[k];
        size_t bad;
        if (!array_at(s, c->mean) || !array_at(s, c->count) || (c->among_options && !p->among_options)) continue;
        if (json_object_set_new(part, c->key, json_rows(s, c, &bad)) || bad < s->n)
            return fail(c->value ? ERR_MEMORY : ERR_INTERNAL, "%s: %s: row %zu: %s", p->key, c->key, bad,
                        c->value ? "no memory" : "a text is not UTF-8");
    }
    return OK;
}

enum status eval_log_write(const struct eval_log *log, struct text *out)
{
    enum status st = OK;
    json_t *root = json_object();
    char *text = NULL;
    for (int k = 0; k < N_EVAL_SET; k++) {
        json_t *part;
        if (!log->set[k].n) continue;
        part = json_object();
        if (json_object_set_new(root, log_parts[k].key, part)) TRY(fail(ERR_MEMORY, "%s: no memory", log_parts[k].key));
        TRY(json_part(&log_parts[k], &log->set[k], part));
    }
    if (!(text = json_text(root, JSON_INDENT(INDENT) | JSON_REAL_PRECISION(DIGITS) | JSON_ENSURE_ASCII)))
        TRY(fail(ERR_MEMORY, "memory: none for the evaluation's log"));
    TRY(text_print(out, "%s\n", text));
done:
    free(text);
    json_decref(root);
    return st;
}
