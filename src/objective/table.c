/* The table of objectives and regularisers, and what can be asked of a row. */
#include "unlearn/objective_priv.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct objective_row table[] = {
    /* clang-format off */
    /* name    combines by   needs                                                parameters                          loss      equation */
    { "ga",    BY_TOKEN,     IS_OBJECTIVE,                                        {{0}},                              loss_ga,  "-mean_t nll_t" },
    { "npo",   BY_SEQUENCE,  IS_OBJECTIVE | NEEDS_REFERENCE,                      {{"beta", 0.5, DBL_MIN, DBL_MAX}},  loss_npo, "-(2/beta) log sigmoid(beta (S - S_o))" },
    { "wga",   BY_TOKEN,     IS_OBJECTIVE,                                        {{"alpha", 5, 0, DBL_MAX}},         loss_wga, "-mean_t p_t^alpha nll_t" },
    { "tnpo",  BY_TOKEN,     IS_OBJECTIVE | NEEDS_REFERENCE,                      {{"beta", 4, 0, DBL_MAX}},          loss_tnpo, "-mean_t w_t nll_t, w = 2 p^beta/(p^beta + p_o^beta + 1e-5)" },
    { "wtnpo", BY_TOKEN,     IS_OBJECTIVE | NEEDS_REFERENCE,                      {{"beta", 4, 0, DBL_MAX}, {"alpha", 1.5, 0, DBL_MAX}}, loss_wtnpo, "-mean_t w_t nll_t, w = 2 p^(beta+alpha)/(p^beta + p_o^beta + 1e-5)" },
    { "satimp", BY_TOKEN,    IS_OBJECTIVE,                                        {{"beta1", 5, 0, DBL_MAX}, {"beta2", 1, 0, DBL_MAX}}, loss_satimp, "-mean_t p_t^beta1 (1-p_t)^beta2 nll_t" },
    { "simnpo", BY_SEQUENCE, IS_OBJECTIVE,                                        {{"beta", 4.5, DBL_MIN, DBL_MAX}, {"delta", 0, -DBL_MAX, DBL_MAX}}, loss_simnpo, "-(2/beta) log sigmoid(beta (mean_t nll_t - delta))" },
    { "po",    BY_TOKEN,     IS_OBJECTIVE | NEEDS_REPLACEMENT,                    {{0}},                              loss_nll, "mean_t nll_t of a stock refusal instead of the answer" },
    { "gd",    BY_TOKEN,     IS_REGULARIZER,                                      {{0}},                              loss_nll, "mean_t nll_t on retain rows" },
    { "kl",    BY_POSITION,  IS_REGULARIZER | NEEDS_DISTRIBUTION | NEEDS_POSITIONS, {{0}},                            NULL,     "mean over positions of KL(p_o || p)" },
    { "nll",   BY_TOKEN,     0,                                                   {{0}},                              loss_nll, "mean_t nll_t" },
    /* clang-format on */
};
enum { N_ROW = sizeof table / sizeof *table };

double weighted_ascent(size_t n, const double *nll, double *dnll, double *weight)
{
    double sum = 0, weights = 0;
    for (size_t t = 0; t < n; t++) {
        sum += dnll[t] * nll[t], weights += dnll[t];
        dnll[t] = -dnll[t] / (double)n;
    }
    *weight = weights / (double)n;
    return -sum / (double)n;
}

double log_sigmoid(double x) { return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x)); }
double sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }

bool objective_find(const char *name, struct objective *out)
{
    if (!strcmp(name, "idk")) name = "po"; /* the name that the paper's code has for it */
    for (size_t i = 0; i < N_ROW; i++) {
        if (strcmp(table[i].name, name)) continue;
        *out = (struct objective){.row = &table[i]};
        for (int k = 0; k < MAX_PARAMETER; k++) out->parameter[k] = table[i].parameter[k].standard;
        return true;
    }
    return false;
}

const char *objective_name(const struct objective *o) { return o->row->name; }
enum combine objective_combine(const struct objective *o) { return o->row->combine; }
unsigned objective_needs(const struct objective *o) { return o->row->needs; }
const char *objective_equation(const struct objective *o) { return o->row->equation; }
bool objective_is_divergence(const struct objective *o) { return !o->row->loss; }

static size_t n_parameter(const struct objective_row *row)
{
    size_t n = 0;
    while (n < MAX_PARAMETER && row->parameter[n].name) n++;
    return n;
}

/* "beta, alpha", or "none" */
static enum status parameter_names(const struct objective_row *row, struct text *out)
{
    enum status st = OK;
    if (!n_parameter(row)) return text_print(out, "none");
    for (size_t k = 0; k < n_parameter(row) && st == OK; k++)
        st = text_print(out, "%s%s", k ? ", " : "", row->parameter[k].name);
    return st;
}

enum status objective_set(struct objective *o, const char *where, const char *key, double value)
{
    struct text names = {0};
    enum status st;
    for (size_t k = 0; k < n_parameter(o->row); k++) {
        if (strcmp(o->row->parameter[k].name, key)) continue;
        if (!(value >= o->row->parameter[k].least && value <= o->row->parameter[k].most))
            return fail(ERR_INPUT, "%s: %s of %s is %g, but must lie in [%g, %g]", where, key, o->row->name, value,
                        o->row->parameter[k].least, o->row->parameter[k].most);
        o->parameter[k] = value;
        return OK;
    }
    st = parameter_names(o->row, &names);
    if (st == OK)
        st = fail(ERR_INPUT, "%s: %s has no parameter \"%s\"; its parameters: %s", where, o->row->name, key, names.data);
    text_free(&names);
    return st;
}

/* The fewest digits that read back to the same number: two settings never look alike. */
static enum status add_number(double value, struct text *out)
{
    char digits[32];
    for (int n = 6; n <= 17; n++) {
        snprintf(digits, sizeof digits, "%.*g", n, value);
        if (strtod(digits, NULL) == value) break;
    }
    return text_print(out, "%s", digits);
}

enum status objective_label(const struct objective *o, bool all, struct text *out)
{
    size_t shown = 0;
    enum status st = text_print(out, "%s", o->row->name);
    for (size_t k = 0; k < n_parameter(o->row) && st == OK; k++) {
        if (!all && o->parameter[k] == o->row->parameter[k].standard) continue;
        st = text_print(out, "%s%s=", shown++ ? "," : "(", o->row->parameter[k].name);
        if (st == OK) st = add_number(o->parameter[k], out);
    }
    return st == OK && shown ? text_print(out, ")") : st;
}

enum status objective_describe(struct text *out)
{
    enum status st = OK;
    for (size_t i = 0; i < N_ROW && st == OK; i++) {
        struct objective o;
        if (!(table[i].needs & (IS_OBJECTIVE | IS_REGULARIZER))) continue;
        objective_find(table[i].name, &o);
        st = text_print(out, "  %-8s %-12s %s\n           ", table[i].name,
                        table[i].needs & IS_OBJECTIVE ? "objective" : "regularizer", table[i].equation);
        if (st == OK) st = objective_label(&o, true, out);
        if (st == OK) st = text_print(out, "\n");
    }
    return st;
}

double objective_mass(const struct objective *o, size_t positions, size_t labels)
{
    switch (o->row->combine) {
    case BY_TOKEN:
        return (double)labels;
    case BY_SEQUENCE:
        return labels > 0;
    case BY_POSITION:
        return (double)positions;
    }
    return 0;
}

double objective_token(const struct objective *o, size_t n, const double *nll, const double *nll_ref, double *dnll,
                       double *weight)
{
    *weight = NAN;
    return n ? o->row->loss(o->parameter, n, nll, nll_ref, dnll, weight) : 0;
}
