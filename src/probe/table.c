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

unsigned probes_show(const struct inputs *in)
{
    unsigned all = 0;
    for (size_t i = 0; i < n_probe; i++)
        if (probe_table[i]->wanted(in)) all |= probe_table[i]->shows;
    return all;
}

enum status probes_named(const struct inputs *in, struct text *out)
{
    enum status st = OK;
    for (size_t i = 0; i < n_probe && st == OK; i++)
        if (probe_table[i]->wanted(in)) st = text_print(out, " %s", probe_table[i]->name);
    return st == OK && !out->n ? text_print(out, " 0") : st;
}

enum status probes_check(const struct inputs *in)
{
    enum status st = OK;
    for (size_t i = 0; i < n_probe && st == OK; i++)
        if (probe_table[i]->wanted(in) && probe_table[i]->check) st = probe_table[i]->check(in);
    return st;
}
