/* The table of objectives and regularisers, and what can be asked of a row. */
#include "unlearn/objective_priv.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What the tools of the field do differently: see docs/TRAINING.md. */
#define POSITIONS(...)                        \
    {                                         \
        "positions", .words = { __VA_ARGS__ } \
    }
#define COMBINE                                             \
    {                                                       \
        "combine", .words = { "tokens", "rows", "crossed" } \
    }
#define NUMBER(n, s, a, b)                            \
    {                                                 \
        n, .standard = (s), .least = (a), .most = (b) \
    }
#define UNIT                                 \
    {                                        \
        "unit", .words = { "false", "true" } \
    }

static const struct objective_row table[] = {
    /* clang-format off */
    /* name    combines by   needs; parameters and defaults; equation; loss */
    { "ga",     BY_TOKEN,    IS_OBJECTIVE, {{0}},
      "-mean_t nll_t", .token = loss_ga,
      .meaning = "gradient ascent: makes every token of the answer less likely, without end; the baseline that destroys most",
      .source = "arXiv 2502.19301, equation 1" },
    { "npo",    BY_SEQUENCE, IS_OBJECTIVE | NEEDS_REFERENCE, {NUMBER("beta", 0.5, DBL_MIN, DBL_MAX)},
      "-(2/beta) log sigmoid(beta (S - S_o))", .token = loss_npo, .token_tangent = tangent_npo,
      .meaning = "negative preference optimisation: ascent that ends by itself, as the answer grows unlikely against the reference",
      .source = "arXiv 2404.05868; 2502.19301, equations 3, 4" },
    { "wga",    BY_TOKEN,    IS_OBJECTIVE, {NUMBER("alpha", 5, 0, DBL_MAX)},
      "-mean_t p_t^alpha nll_t", .token = loss_wga, .token_tangent = tangent_wga,
      .meaning = "weighted gradient ascent: each token counts by its own confidence, so that what is forgotten is left alone",
      .source = "arXiv 2502.19301, equation 2" },
    { "tnpo",   BY_TOKEN,    IS_OBJECTIVE | NEEDS_REFERENCE, {NUMBER("beta", 4, 0, DBL_MAX)},
      "-mean_t w_t nll_t, w = 2 p^beta/(p^beta + p_o^beta + 1e-5)", .token = loss_tnpo, .token_tangent = tangent_tnpo,
      .meaning = "npo token by token: a token that is forgotten stops, the others of its answer go on",
      .source = "arXiv 2502.19301, equation 6; 1e-5 is its code's" },
    { "wtnpo",  BY_TOKEN,    IS_OBJECTIVE | NEEDS_REFERENCE, {NUMBER("beta", 4, 0, DBL_MAX), NUMBER("alpha", 1.5, 0, DBL_MAX)},
      "-mean_t w_t nll_t, w = 2 p^(beta+alpha)/(p^beta + p_o^beta + 1e-5)", .token = loss_wtnpo, .token_tangent = tangent_wtnpo,
      .meaning = "tnpo times the confidence of wga",
      .source = "arXiv 2502.19301; its code" },
    { "satimp", BY_TOKEN,    IS_OBJECTIVE, {NUMBER("beta1", 5, 0, DBL_MAX), NUMBER("beta2", 1, 0, DBL_MAX)},
      "-mean_t p_t^beta1 (1-p_t)^beta2 nll_t", .token = loss_satimp, .token_tangent = tangent_satimp,
      .meaning = "ascent weighted by saturation and importance: neither the tokens that are forgotten nor those that are certain",
      .source = "arXiv 2505.11953" },
    { "simnpo", BY_SEQUENCE, IS_OBJECTIVE, {NUMBER("beta", 4.5, DBL_MIN, DBL_MAX), NUMBER("delta", 0, -DBL_MAX, DBL_MAX)},
      "-(2/beta) log sigmoid(beta (mean_t nll_t - delta))", .token = loss_simnpo, .token_tangent = tangent_simnpo,
      .meaning = "npo without a reference: by the mean likelihood of a token, so that long answers count as short ones",
      .source = "arXiv 2410.07163" },
    { "po",     BY_TOKEN,    IS_OBJECTIVE | NEEDS_REPLACEMENT, {{0}},
      "mean_t nll_t of a stock refusal instead of the answer", .token = loss_nll,
      .meaning = "preference optimisation: learns a refusal of data.idk in place of the answer; also called idk",
      .source = "arXiv 2401.06121; 2502.19301, equation 7" },
    { "dpo",    BY_SEQUENCE, IS_OBJECTIVE | NEEDS_REFERENCE | NEEDS_PAIR, {NUMBER("beta", 0.1, DBL_MIN, DBL_MAX)},
      "-(2/beta) log sigmoid(beta ((S - S_o) - (S' - S'_o))), S' of a stock refusal", .pair = loss_dpo, .pair_tangent = tangent_dpo,
      .meaning = "direct preference optimisation: a refusal of data.idk is preferred to the answer",
      .source = "arXiv 2305.18290, scaled like npo" },
    { "rmu",    BY_TOKEN,    IS_OBJECTIVE | NEEDS_HIDDEN | NEEDS_DIRECTION, {NUMBER("layer", 1, -DBL_MAX, DBL_MAX), NUMBER("c", 2, -DBL_MAX, DBL_MAX), POSITIONS("before", "labelled", "all"), COMBINE, UNIT},
      "mean over outputs of mean_d (h - c u)^2, h = output of block `layer`; u from the seed, or direction: FILE",
      .positions = {AT_BEFORE, AT_LABELS, AT_ALL}, .hidden = hidden_rmu,
      .meaning = "misdirection of representations: drives the hidden states of one block towards a fixed direction; blocks above it stay as they are",
      .source = "arXiv 2403.03218; 2502.19301, equation 8" },
    { "pdu",    BY_TOKEN,    IS_OBJECTIVE, {POSITIONS("labelled", "before", "all")},
      "mean over outputs of (largest logit - mean logit)^2", .positions = {AT_LABELS, AT_BEFORE, AT_ALL}, .peak = loss_pdu, .peak_tangent = tangent_pdu,
      .meaning = "flat predictions, of primal-dual unlearning: together with a regularizer of dual weight",
      .source = "arXiv 2506.05314" },
    { "ceu",    BY_TOKEN,    IS_OBJECTIVE, {NUMBER("skip", 1, 0, 1e9)},
      "mean_t cross-entropy against the model's own distribution without the label, the first `skip` labels left out", .counts = true, .distribution = target_ceu,
      .meaning = "cross-entropy unlearning: what the model would say without the label is what it is to say",
      .source = "arXiv 2503.01224" },
    { "undial", BY_TOKEN,    IS_OBJECTIVE | NEEDS_DISTRIBUTION, {NUMBER("beta", 10, 0, DBL_MAX), POSITIONS("labelled", "all")},
      "mean_t cross-entropy against softmax(reference's logits, less beta at the label)",
      .positions = {AT_BEFORE, AT_NEXT}, .distribution = target_undial,
      .meaning = "self-distillation: towards the reference's distribution in which the label has been lowered",
      .source = "arXiv 2402.10052" },
    { "gd",     BY_TOKEN,    IS_REGULARIZER, {{0}},
      "mean_t nll_t on retain rows", .token = loss_nll,
      .meaning = "goes on learning the retain rows",
      .source = "arXiv 2401.06121 (gradient difference)" },
    { "kl",     BY_POSITION, IS_REGULARIZER | NEEDS_DISTRIBUTION, {POSITIONS("all", "labelled")},
      "mean over positions of KL(p_o || p)", .positions = {AT_ALL, AT_BEFORE}, .distribution = target_kl,
      .meaning = "stays near the reference's predictions on retain rows",
      .source = "arXiv 2401.06121; 2502.19301, section 4" },
    { "rr",     BY_POSITION, IS_REGULARIZER | NEEDS_HIDDEN | NEEDS_STATES,
      {NUMBER("layer", 1, -DBL_MAX, DBL_MAX), POSITIONS("all", "labelled", "before"), COMBINE},
      "mean over positions of mean_d (h - h_o)^2, h = output of block `layer`",
      .positions = {AT_ALL, AT_LABELS, AT_BEFORE}, .hidden = hidden_rr,
      .meaning = "stays near the reference's hidden states of one block on retain rows",
      .source = "arXiv 2403.03218, its second half" },
    { "nll",    BY_TOKEN,    0, {{0}},
      "mean_t nll_t", .token = loss_nll },
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

/* "ga, npo, wga" */
static enum status kind_names(unsigned kind, struct text *out)
{
    enum status st = OK;
    for (size_t i = 0; i < N_ROW && st == OK; i++)
        if (table[i].needs & kind) st = text_print(out, "%s%s", out->n ? ", " : "", table[i].name);
    return st;
}

enum status objective_unknown(const char *where, const char *name, unsigned kind)
{
    const bool wanted = kind == IS_OBJECTIVE;
    const char *what = wanted ? "objective" : "regularizer";
    struct text names = {0};
    enum status st = OK;
    for (size_t i = 0; i < N_ROW; i++) {
        if (strcasecmp(table[i].name, name)) continue;
        if (table[i].needs & kind)
            return fail(ERR_INPUT, "%s: there is no %s \"%s\": did you mean %s?", where, what, name, table[i].name);
        if (table[i].needs & IS_REGULARIZER)
            return fail(ERR_INPUT,
                        "%s: %s is a regularizer, not an objective: it stands beside one, {name: npo, regularizer: %s}",
                        where, table[i].name, table[i].name);
        if (table[i].needs & IS_OBJECTIVE) break;
    }
    TRY(kind_names(kind, &names));
    st = fail(ERR_INPUT, "%s: there is no %s \"%s\"; there are %s", where, what, name, names.data);
done:
    text_free(&names);
    return st;
}

const char *objective_name(const struct objective *o) { return o->row->name; }
enum combine objective_combine(const struct objective *o) { return o->row->combine; }
unsigned objective_needs(const struct objective *o) { return o->row->needs; }
const char *objective_equation(const struct objective *o) { return o->row->equation; }

enum loss_kind objective_kind(const struct objective *o)
{
    const struct objective_row *row = o->row;
    return row->token    ? LOSS_OF_TOKENS
           : row->pair   ? LOSS_OF_PAIRS
           : row->peak   ? LOSS_OF_PEAKS
           : row->hidden ? LOSS_OF_HIDDEN
                         : LOSS_OF_DISTRIBUTIONS;
}

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

/* The ends of what a double holds are no limits that anybody has chosen. */
static enum status outside(const char *where, const struct objective_row *row, size_t k, double value)
{
    const double least = row->parameter[k].least, most = row->parameter[k].most;
    char range[64];
    if (most < DBL_MAX)
        snprintf(range, sizeof range, "from %g to %g", least, most);
    else if (least == DBL_MIN)
        snprintf(range, sizeof range, "above 0");
    else
        snprintf(range, sizeof range, "%g or more", least);
    return fail(ERR_INPUT, "%s: %s of %s is %g, but must be %s", where, row->parameter[k].name, row->name, value, range);
}

enum status objective_set(struct objective *o, const char *where, const char *key, double value)
{
    struct text names = {0};
    enum status st;
    for (size_t k = 0; k < n_parameter(o->row); k++) {
        if (strcmp(o->row->parameter[k].name, key) || *o->row->parameter[k].words) continue;
        if (!(value >= o->row->parameter[k].least && value <= o->row->parameter[k].most))
            return outside(where, o->row, k, value);
        if (o->row->counts && k == 0 && value != floor(value))
            return fail(ERR_INPUT, "%s: %s of %s is %g, but must be a whole number", where, key, o->row->name, value);
        o->parameter[k] = value;
        return OK;
    }
    st = parameter_names(o->row, &names);
    if (st == OK)
        st = fail(ERR_INPUT, "%s: %s has no parameter \"%s\"; its parameters: %s", where, o->row->name, key, names.data);
    text_free(&names);
    return st;
}

static size_t n_word(const char *const *words)
{
    size_t n = 0;
    while (n < MOST_WORDS && words[n]) n++;
    return n;
}

bool objective_has(const struct objective *o, const char *key)
{
    for (size_t k = 0; k < n_parameter(o->row); k++)
        if (!strcmp(o->row->parameter[k].name, key)) return true;
    return false;
}

enum status objective_choose(struct objective *o, const char *where, const char *key, const char *word, bool *done)
{
    *done = false;
    for (size_t k = 0; k < n_parameter(o->row); k++) {
        const char *const *words = o->row->parameter[k].words;
        const size_t n = n_word(words);
        if (!n || strcmp(o->row->parameter[k].name, key)) continue;
        *done = true;
        for (size_t i = 0; i < n; i++)
            if (!strcmp(words[i], word)) return o->parameter[k] = (double)i, OK;
        return fail(ERR_INPUT, "%s: %s of %s is \"%.60s\", but must be %s%s%s%s%s", where, key, o->row->name, word,
                    words[0], n > 2 ? ", " : " or ", words[1], n > 2 ? " or " : "", n > 2 ? words[2] : "");
    }
    return OK;
}

/* The index of the word that the parameter of this name has; 0 without such a parameter. */
static size_t chosen(const struct objective *o, const char *key)
{
    for (size_t k = 0; k < n_parameter(o->row); k++)
        if (*o->row->parameter[k].words && !strcmp(o->row->parameter[k].name, key)) return (size_t)o->parameter[k];
    return 0;
}

enum positions objective_positions(const struct objective *o) { return o->row->positions[chosen(o, "positions")]; }
bool objective_crossed(const struct objective *o) { return chosen(o, "combine") == 2; }
bool objective_unit(const struct objective *o) { return chosen(o, "unit") == 1; }

/* Prints the fewest digits that read back to the same number, so that two different settings never look alike. */
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
        const char *const *words = o->row->parameter[k].words;
        if ((!all || *words) && o->parameter[k] == o->row->parameter[k].standard) continue;
        st = text_print(out, "%s%s=", shown++ ? "," : "(", o->row->parameter[k].name);
        if (st == OK)
            st = *words ? text_print(out, "%s", words[(size_t)o->parameter[k]]) : add_number(o->parameter[k], out);
    }
    return st == OK && shown ? text_print(out, ")") : st;
}

/* "0.5, above 0" of a number, "labelled | all" of a word: its default first. */
static enum status value_text(const struct objective_row *row, size_t k, struct text *out)
{
    const char *const *words = row->parameter[k].words;
    const double least = row->parameter[k].least, most = row->parameter[k].most;
    enum status st = OK;
    if (*words) {
        for (size_t w = 0; w < n_word(words); w++) TRY(text_print(out, "%s%s", w ? " | " : "", words[w]));
        return OK;
    }
    TRY(add_number(row->parameter[k].standard, out));
    if (least == DBL_MIN)
        TRY(text_print(out, ", above 0"));
    else if (least > -DBL_MAX)
        TRY(text_print(out, ", %g or more", least));
    if (most < DBL_MAX) TRY(text_print(out, ", %g at most", most));
done:
    return st;
}

enum status objective_text(size_t i, struct objective_text *out)
{
    enum status st = OK;
    *out = (struct objective_text){0};
    for (size_t k = 0; k < N_ROW; k++) {
        const struct objective_row *row = &table[k];
        if (!(row->needs & (IS_OBJECTIVE | IS_REGULARIZER)) || i--) continue;
        out->name = row->name, out->equation = row->equation, out->meaning = row->meaning, out->source = row->source;
        out->kind = row->needs & IS_OBJECTIVE ? "objective" : "regularizer";
        out->n_parameter = n_parameter(row);
        for (size_t p = 0; p < out->n_parameter; p++) {
            out->parameter[p] = row->parameter[p].name;
            TRY(value_text(row, p, &out->value[p]));
        }
        break;
    }
done:
    return st;
}

void objective_text_free(struct objective_text *t)
{
    for (size_t p = 0; p < t->n_parameter; p++) text_free(&t->value[p]);
}

/* Number of labels that enter the loss of a sequence: all but those that the objective skips. */
static size_t labels_used(const struct objective *o, size_t labels)
{
    size_t skip = objective_kind(o) == LOSS_OF_DISTRIBUTIONS ? objective_target(o).skip : 0;
    return labels > skip ? labels - skip : 0;
}

double objective_mass(const struct objective *o, size_t positions, size_t labels)
{
    const bool rows = chosen(o, "combine") == 1;
    switch (o->row->combine) {
    case BY_TOKEN:
        return rows ? labels > 0 : (double)labels_used(o, labels);
    case BY_SEQUENCE:
        return labels > 0;
    case BY_POSITION:
        return rows ? positions > 0 : (double)positions;
    }
    return 0;
}

double objective_token(const struct objective *o, size_t n, const double *nll, const double *nll_ref, double *dnll,
                       double *weight)
{
    *weight = NAN;
    return n ? o->row->token(o->parameter, n, nll, nll_ref, dnll, weight) : 0;
}

struct distribution_target objective_target(const struct objective *o) { return o->row->distribution(o->parameter); }
struct hidden_target objective_hidden(const struct objective *o) { return o->row->hidden(o->parameter); }

double objective_pair(const struct objective *o, double win, double lose, double *dwin, double *dlose, double *weight)
{
    return o->row->pair(o->parameter, win, lose, dwin, dlose, weight);
}

double objective_peak(const struct objective *o, double largest, double mean, double *dlargest)
{
    return o->row->peak(largest, mean, dlargest);
}

/* ------------------------------------------------------------------------------------------------ tangents ------- */
void objective_token_tangent(const struct objective *o, size_t n, const double *nll, const double *nll_ref,
                             const double *tnll, double *tdnll)
{
    if (n && o->row->token_tangent) o->row->token_tangent(o->parameter, n, nll, nll_ref, tnll, tdnll);
    for (size_t t = 0; t < n && !o->row->token_tangent; t++) tdnll[t] = 0;
}

void objective_pair_tangent(const struct objective *o, double win, double lose, double twin, double tlose, double *tdwin,
                            double *tdlose)
{
    o->row->pair_tangent(o->parameter, win, lose, twin, tlose, tdwin, tdlose);
}

double objective_peak_tangent(const struct objective *o, double tlargest, double tmean)
{
    return o->row->peak_tangent(tlargest, tmean);
}
