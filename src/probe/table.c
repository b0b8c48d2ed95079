/* The table of probes. A new one is a file of this room and a line here. */
#include "unlearn/probe_priv.h"

#define PROBES(X)     \
    X(gram)           \
    X(standard_error) \
    X(tokens)         \
    X(pairs)          \
    X(fidelity)       \
    X(curvature)      \
    X(window)         \
    X(guard) /* last: it ends what the others look at */

#define X(name) extern const struct probe name##_probe;
PROBES(X)
#undef X
#define X(name) &name##_probe,
const struct probe *const probe_table[] = {PROBES(X)};
#undef X
const size_t n_probe = sizeof probe_table / sizeof *probe_table;
_Static_assert(sizeof probe_table / sizeof *probe_table <= MOST_PROBES, "MOST_PROBES");

enum status probes_named(const struct inputs *in, struct text *out)
{
    enum status st = OK;
    for (size_t i = 0; i < n_probe && st == OK; i++)
        if (probe_table[i]->wanted(in)) st = text_print(out, " %s", probe_table[i]->name);
    return st == OK && !out->n ? text_print(out, " 0") : st;
}

static enum status refuse_turns(const struct inputs *in, const char *key)
{
    const struct place place = config_place(in->config, "parallel.risks");
    return fail(
        ERR_INPUT,
        "%s: parallel.risks: in_turn holds the gradient of one risk at a time, but %s compares all of them with the "
        "update: leave that out, or give auto",
        place_text(&place), key);
}

enum status probes_check(const struct inputs *in)
{
    const bool in_turn = in->config->parallel.risks == RISKS_IN_TURN && in->n_risk > 1;
    enum status st = OK;
    for (size_t i = 0; i < n_probe && in_turn && st == OK; i++)
        if (probe_table[i]->wanted(in) && probe_table[i]->keeps && probe_table[i]->keeps(in))
            st = refuse_turns(in, probe_table[i]->keeps(in));
    for (size_t i = 0; i < n_probe && st == OK; i++)
        if (probe_table[i]->wanted(in) && probe_table[i]->check) st = probe_table[i]->check(in);
    return st;
}
