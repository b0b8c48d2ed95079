/* Rows of a dataset laid end to end without padding. Row t of a batch is an output where the token after it in the same
 * sequence is labelled, or where enum outputs says. */
#include "unlearn/data_priv.h"

size_t batch_cut_groups(const struct dataset *d, size_t group, size_t n, const size_t *row, size_t tokens, size_t *start)
{
    size_t passes = 0, sum = 0;
    for (size_t i = 0; i < n; i += group) {
        size_t length = 0;
        for (size_t k = i; k < i + group; k++) length += dataset_length(d, row[k]);
        if (!i || length > tokens || sum > tokens - length) {
            start[passes++] = i;
            sum = 0;
        }
        sum += length;
    }
    start[passes] = n;
    return passes;
}

size_t batch_cut(const struct dataset *d, size_t n, const size_t *row, size_t tokens, size_t *start)
{
    return batch_cut_groups(d, 1, n, row, tokens, start);
}

static bool is_output(const int32_t *label, size_t t, size_t n, enum outputs which)
{
    switch (which) {
    case OUTPUTS_LABELLED:
        return t + 1 < n && label[t + 1] != LABEL_NONE;
    case OUTPUTS_OF_LABELS:
        return label[t] != LABEL_NONE;
    case OUTPUTS_NEXT:
        return t + 1 < n;
    case OUTPUTS_WHOLE:
    case OUTPUTS_ALL:
        break;
    }
    return true;
}

/* A row without a label that is predicted counts nowhere: its answer was cut away, or it is a single token. */
static bool left_out(const struct dataset *d, size_t row, enum outputs which)
{
    return which != OUTPUTS_ALL && !dataset_labels(d, row);
}

size_t dataset_outputs(const struct dataset *d, size_t row, enum outputs which)
{
    const size_t length = dataset_length(d, row);
    size_t n = 0;
    if (left_out(d, row, which)) return 0;
    for (size_t t = 0; t < length; t++) n += is_output(d->label + d->first[row], t, length, which);
    return n;
}

/* Appends one row of the dataset as sequence i; b->n_row and b->n_out are where it begins, and are moved on. */
static void lay(const struct dataset *d, size_t row, enum outputs which, size_t i, struct batch *b)
{
    size_t n = dataset_length(d, row);
    const int32_t *id = d->id + d->first[row], *label = d->label + d->first[row];
    const bool without = left_out(d, row, which);
    b->first[i] = b->n_row;
    b->out_first[i] = b->n_out;
    b->item[i] = i;
    for (size_t t = 0; t < n; t++, b->n_row++) {
        int32_t next = t + 1 < n ? label[t + 1] : LABEL_NONE;
        b->id[b->n_row] = id[t];
        b->position[b->n_row] = (int32_t)t;
        if (b->hidden) b->hidden[b->n_row] = (size_t)id[t] + 1 == d->hide;
        if (without || !is_output(label, t, n, which)) continue;
        b->out_row[b->n_out] = b->n_row;
        b->out_id[b->n_out++] = next == LABEL_NONE ? -1 : next;
    }
}

void batch_pack(const struct dataset *d, size_t n, const size_t *row, enum outputs which, struct arena *a,
                struct batch *b)
{
    *b = (struct batch){.n_seq = n};
    for (size_t i = 0; i < n; i++) {
        size_t length = dataset_length(d, row[i]);
        b->n_row += length;
        b->n_out += dataset_outputs(d, row[i], which);
        if (length > b->longest) b->longest = length;
    }
    b->first = arena_take(a, n + 1, sizeof *b->first);
    b->id = arena_take(a, b->n_row, sizeof *b->id);
    b->position = arena_take(a, b->n_row, sizeof *b->position);
    b->out_first = arena_take(a, n + 1, sizeof *b->out_first);
    b->out_row = arena_take(a, b->n_out, sizeof *b->out_row);
    b->out_id = arena_take(a, b->n_out, sizeof *b->out_id);
    b->item = arena_take(a, n, sizeof *b->item);
    b->hidden = d->hide ? arena_take(a, b->n_row, sizeof *b->hidden) : NULL;
    if (!a->base) return; /* only measured */
    b->n_row = b->n_out = 0;
    for (size_t i = 0; i < n; i++) lay(d, row[i], which, i, b);
    b->first[n] = b->n_row;
    b->out_first[n] = b->n_out;
}
