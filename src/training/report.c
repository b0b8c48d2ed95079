/* The log's line of an update. */
#include "unlearn/training.h"
#include <math.h>

/* Writes a duration as "1:02:03". */
static const char *duration(double seconds, char buffer[32])
{
    long s = lround(seconds);
    snprintf(buffer, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    return buffer;
}

void training_report(const struct training *t, size_t i)
{
    const struct inputs *in = t->subject->in;
    const struct update *u = &t->update;
    const size_t updates = t->subject->timetable->updates;
    const double per_update = (clock_seconds() - t->started) / (double)t->made;
    struct text parts = {0};
    char left[32];
    if (t->subject->grid->rank) return;
    for (size_t k = 0; k < in->n_regularizer; k++)
        text_print(&parts, "  %s %.5g", objective_name(&in->regularizer[k].objective), u->part[k]);
    if (!isnan(u->cosine)) text_print(&parts, "  cosine %.3g", u->cosine);
    if (!isnan(u->dual)) text_print(&parts, "  weight %.5g", u->dual);
    log_info("update %5zu/%zu  loss %.6g  %s %.5g%s  lr %.3g  |g| %.4g  %.0f tokens/s  left %s", i + 1, updates, u->loss,
             objective_name(&in->objective), u->objective, parts.data ? parts.data : "", u->rate, u->norm,
             (double)u->tokens / u->seconds, duration(per_update * (double)(updates - i - 1), left));
    text_free(&parts);
}
