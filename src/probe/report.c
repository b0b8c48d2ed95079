/* The log's line of a measured step. */
#include "unlearn/probe_priv.h"

static void add_risk(const struct measurement *m, size_t k, struct text *line)
{
    text_print(line, "  R(%s) %.6g", m->subject->in->risk[k].name, m->risk_value[k]);
    for (size_t i = 0; i < n_probe; i++)
        if (m->probe[i] && probe_table[i]->report) probe_table[i]->report(m->probe[i], k, line);
}

void measurement_report(const struct measurement *m, size_t step)
{
    const struct inputs *in = m->subject->in;
    struct text line = {0};
    if (m->subject->grid->rank) return;
    for (size_t k = 0; k < in->n_risk; k++) add_risk(m, k, &line);
    for (size_t j = 0; j < in->n_measured; j++) {
        text_print(&line, "  %s", in->label[j]);
        for (size_t k = 0; k < in->n_risk; k++)
            text_print(&line, " e(%s) %.4g", in->risk[k].name, m->total[j * in->n_risk + k]);
    }
    log_info("measured at step %zu:%s", step, line.data ? line.data : "");
    text_free(&line);
}
