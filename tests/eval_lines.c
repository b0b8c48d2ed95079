/* For tests/scores.py: reads JSON lines {"what": NAME, ...}, and prints what the room eval says of each as a JSON line, with
 * {"error": ...} where it fails. Paths are relative to the working directory. */
#include "unlearn/eval_priv.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct score_rule tofu; /* of its log */
static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static double *numbers(json_t *in, const char *key, size_t *n)
{
    json_t *list = json_object_get(in, key);
    double *x = calloc(json_array_size(list) + 1, sizeof *x);
    *n = json_array_size(list);
    for (size_t i = 0; i < *n; i++) x[i] = json_number_value(json_array_get(list, i));
    return x;
}

static const char *text(json_t *in, const char *key, size_t *n)
{
    json_t *s = json_object_get(in, key);
    *n = json_string_length(s);
    return json_string_value(s);
}

static enum status stem(json_t *in, json_t *out)
{
    size_t n;
    const char *s = text(in, "word", &n);
    char *word = malloc(n + 1);
    memcpy(word, s, n);
    n = porter_stem(word, n);
    json_object_set_new(out, "stem", json_stringn(word, n));
    free(word);
    return OK;
}

static enum status rouge(json_t *in, json_t *out)
{
    enum status st;
    size_t n, m;
    const char *reference = text(in, "reference", &n), *candidate = text(in, "candidate", &m);
    struct rouge one, l;
    TRY(rouge_score(reference, n, candidate, m, &one, &l));
    json_object_set_new(out, "rouge1", json_pack("[f,f,f]", one.precision, one.recall, one.f1));
    json_object_set_new(out, "rougeL", json_pack("[f,f,f]", l.precision, l.recall, l.f1));
done:
    return st;
}

static enum status ks(json_t *in, json_t *out)
{
    enum status st;
    size_t n, m;
    double *x = numbers(in, "x", &n), *y = numbers(in, "y", &m), d, p, area;
    TRY(ks_two_sample(n, x, m, y, &d, &p));
    TRY(auc(n, x, m, y, &area));
    json_object_set_new(out, "statistic", number(d));
    json_object_set_new(out, "p", number(p));
    json_object_set_new(out, "auc", number(area));
done:
    free(x);
    free(y);
    return st;
}

static enum status tail(json_t *in, json_t *out)
{
    double p;
    enum status st = kolmogorov_tail((size_t)json_integer_value(json_object_get(in, "n")),
                                     json_number_value(json_object_get(in, "d")), &p);
    if (st == OK) json_object_set_new(out, "p", number(p));
    return st;
}

static enum status row(json_t *in, json_t *out)
{
    enum status st;
    size_t n, bytes, n_text;
    double *x = numbers(in, "x", &n), low;
    const char *s = text(in, "text", &n_text);
    TRY(min_k(n, x, json_number_value(json_object_get(in, "share")), &low));
    TRY(zlib_bytes(s, n_text, &bytes));
    json_object_set_new(out, "min_k", number(low));
    json_object_set_new(out, "zlib", json_integer((json_int_t)bytes));
    json_object_set_new(out, "harmonic_mean", number(harmonic_mean(n, x)));
    json_object_set_new(out, "extraction_strength", number(extraction_strength(n, x)));
done:
    free(x);
    return st;
}

static enum status logs(json_t *in, json_t *out)
{
    enum status st;
    const char *path = json_string_value(json_object_get(in, "path")),
               *other = json_string_value(json_object_get(in, "retain"));
    struct eval_log log = {0}, retain = {0};
    struct eval_summary s;
    struct text again = {0};
    double p, d;
    TRY(eval_log_read(path, (1u << N_EVAL_SET) - 1, &log));
    TRY(eval_log_read(other, 1u << SET_FORGET, &retain));
    eval_summarise(&tofu, path, &log, &s);
    TRY(eval_forget_quality(&tofu, path, &log, other, &retain, &p, &d));
    for (int k = 0; k < N_EVAL_SET; k++) {
        json_t *set = json_object();
        for (int j = 0; j < N_EVAL_NUMBER; j++)
            json_object_set_new(set, eval_number_name((enum eval_number)j), number(s.number[k][j]));
        json_object_set_new(out, eval_set_name((enum eval_set_id)k), set);
    }
    json_object_set_new(out, "model_utility", number(s.model_utility));
    json_object_set_new(out, "forget_quality", number(p));
    json_object_set_new(out, "ks_statistic", number(d));
    TRY(eval_log_write(&log, &again));
    json_object_set_new(out, "written", json_stringn(again.data, again.n));
done:
    eval_log_free(&log);
    eval_log_free(&retain);
    text_free(&again);
    return st;
}

static const struct {
    const char *name;
    enum status (*run)(json_t *in, json_t *out);
} table[] = {{"stem", stem}, {"rouge", rouge}, {"ks", ks}, {"tail", tail}, {"row", row}, {"logs", logs}};

int main(void)
{
    char *line = NULL;
    size_t room = 0, number_of_line = 0;
    ssize_t n;
    log_open(NULL, true);
    while ((n = getline(&line, &room, stdin)) > 0) {
        json_t *in = NULL, *out = json_object();
        enum status st = json_parse("standard input", number_of_line++, line, (size_t)n, &in);
        const char *what = json_string_value(json_object_get(in, "what"));
        for (size_t k = 0; k < sizeof table / sizeof *table; k++)
            if (st == OK && what && !strcmp(what, table[k].name)) st = table[k].run(in, out);
        if (st != OK) json_object_set_new(out, "error", json_string(fail_message()));
        fail_clear();
        json_dumpf(out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(17));
        putchar('\n');
        json_decref(in);
        json_decref(out);
    }
    free(line);
    return 0;
}
