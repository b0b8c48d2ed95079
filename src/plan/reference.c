/* The rows for which objectives need the reference's whole distributions or hidden states. These values are kept for
 * exactly the rows that will be drawn or measured, or computed from a frozen copy of its weights, whichever takes less
 * memory. */
#include "unlearn/plan.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_UPDATES_LISTED = 1000000 }; /* in longer runs every data rank keeps every row */

struct reader {
    const struct objective *o;
    const struct dataset *data;
    const struct regularizer *regularizer; /* NULL: o is an objective */
};

static size_t longest_list(const struct inputs *in, const struct timetable *s)
{
    size_t most = s->batch;
    for (size_t i = 0; i < in->n_regularizer; i++)
        if (in->regularizer[i].batch > most) most = in->regularizer[i].batch;
    if (in->forget && in->forget->n_row > most) most = in->forget->n_row;
    if (in->retain && in->retain->n_row > most) most = in->retain->n_row;
    if (in->evaluation && in->evaluation->most_rows > most) most = in->evaluation->most_rows;
    return most;
}

/* Finds the store for this kind of values, or makes it. */
static enum status kind(struct reference *r, const struct reader *n, int data_size, size_t most, struct kept **out)
{
    enum status st = OK;
    const enum outputs which = objective_outputs(n->o);
    size_t layer = objective_reference_layer(n->o);
    for (size_t i = 0; i < r->n; i++)
        if (kept_is(r->kept[i], n->data, which, layer)) return *out = r->kept[i], OK;
    TRY(kept_new(n->data, which, layer, data_size, most, out));
    r->kept[r->n++] = *out;
done:
    return st;
}

/* Announces the rows of every update and of the measurements. */
static void want(struct kept *k, const struct inputs *in, struct timetable *s, const struct layout *l,
                 const struct reader *n, size_t *row)
{
    const struct risk *retain = inputs_regularized(in);
    size_t updates = in->trains && (n->regularizer || n->o == &in->objective) ? s->updates : 0, rows = n->data->n_row;
    if (updates > MOST_UPDATES_LISTED) {
        kept_want_all(k);
        return;
    }
    for (size_t t = 0; t < updates; t++)
        if (n->regularizer) {
            timetable_retain(in->config, t, in->held_out, rows, n->regularizer->batch, row);
            kept_want(k, l, n->regularizer->batch, row);
        } else {
            timetable_rows(s, t, row);
            kept_want(k, l, s->batch, row);
        }
    if (!in->measures) return;
    if (n->regularizer && retain) kept_want(k, l, retain->n, retain->row);
    for (size_t i = 0; i < rows && !n->regularizer; i++) row[i] = i;
    if (!n->regularizer) kept_want(k, l, rows, row);
    if (!n->regularizer && in->paired) kept_want_all(k); /* every process has all instances for its own rows p */
}

static enum status add(struct reference *r, const struct inputs *in, struct timetable *s, const struct layout *l,
                       int data_size, const struct reader *n, size_t *row)
{
    struct kept *k;
    enum status st = OK;
    if (!(objective_needs(n->o) & (NEEDS_DISTRIBUTION | NEEDS_STATES))) return OK;
    TRY(kind(r, n, data_size, longest_list(in, s), &k));
    want(k, in, s, l, n, row);
done:
    return st;
}

/* Announces the answers of every evaluated set, for kl. */
static enum status add_evaluated(struct reference *r, const struct inputs *in, struct timetable *s,
                                 const struct layout *l, int data_size, size_t *row)
{
    const struct evaluation_inputs *e = in->evaluation;
    struct objective kl;
    enum status st = OK;
    if (!e || !(e->needs & WANTS_KL)) return OK;
    objective_find("kl", &kl);
    for (size_t i = 0; i < e->n; i++) {
        const struct reader reader = {&kl, e->set[i].of[OF_ANSWER].data, NULL};
        struct kept *k;
        TRY(kind(r, &reader, data_size, longest_list(in, s), &k));
        for (size_t n = 0; n < e->set[i].n; n++) row[n] = n;
        kept_want(k, l, e->set[i].n, row);
    }
done:
    return st;
}

enum status reference_list(const struct inputs *in, struct timetable *s, const struct layout *l, int data_size,
                           struct reference *r)
{
    enum status st = OK;
    size_t *row = NULL, n_run;
    *r = (struct reference){0};
    TRY_NEW(row, longest_list(in, s));
    TRY_NEW(r->kept, 1 + in->n_measured + in->n_regularizer + (in->evaluation ? in->evaluation->n : 0));
    if (in->trains)
        TRY(add(r, in, s, l, data_size, &(struct reader){&in->objective, inputs_of(in, &in->objective), NULL}, row));
    for (size_t j = 0; j < in->n_measured; j++)
        TRY(add(r, in, s, l, data_size, &(struct reader){&in->measured[j], inputs_of(in, &in->measured[j]), NULL}, row));
    for (size_t i = 0; i < in->n_regularizer; i++)
        TRY(add(r, in, s, l, data_size, &(struct reader){&in->regularizer[i].objective, in->retain, &in->regularizer[i]},
                row));
    for (size_t i = 0; i < r->n; i++) r->bytes_run += kept_bytes(r->kept[i], l);
    n_run = r->n;
    TRY(add_evaluated(r, in, s, l, data_size, row));
    r->bytes = r->bytes_run;
    for (size_t i = n_run; i < r->n; i++) r->bytes += kept_bytes(r->kept[i], l);
done:
    free(row);
    return st;
}

void reference_free(struct reference *r)
{
    for (size_t i = 0; i < r->n; i++) kept_free(r->kept[i]);
    free(r->kept);
    *r = (struct reference){0};
}
