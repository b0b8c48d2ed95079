/* Two data sets as one: what fine-tuning draws its batches from. */
#include "unlearn/data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t tokens_from(const struct dataset *d, size_t row)
{
    return d && row < d->n_row ? d->first[d->n_row] - d->first[row] : 0;
}

static void append(struct dataset *to, const struct dataset *d, size_t row)
{
    size_t at = to->first[to->n_row], n = tokens_from(d, row);
    if (!n) return;
    memcpy(to->id + at, d->id + d->first[row], n * sizeof *to->id);
    memcpy(to->label + at, d->label + d->first[row], n * sizeof *to->label);
    for (; row < d->n_row; row++) {
        to->end[to->n_row] = d->end[row];
        to->first[to->n_row + 1] = to->first[to->n_row] + dataset_length(d, row);
        to->n_row++;
    }
}

enum status dataset_join(const struct dataset *a, const struct dataset *b, size_t skip, struct dataset **out)
{
    enum status st = OK;
    struct dataset *d = *out = NULL;
    size_t rows = (a ? a->n_row : 0) + (b && b->n_row > skip ? b->n_row - skip : 0);
    size_t tokens = tokens_from(a, 0) + tokens_from(b, skip);
    struct text path = {0};
    TRY_NEW(d, 1);
    TRY_NEW(d->first, rows + 1);
    TRY_NEW(d->id, tokens);
    TRY_NEW(d->label, tokens);
    TRY_NEW(d->end, rows);
    append(d, a, 0);
    append(d, b, skip);
    for (size_t i = 0; i < d->n_row; i++) d->n_unlabelled += !dataset_labels(d, i);
    TRY(text_print(&path, "%s%s%s", a ? a->path : "", a && b ? " + " : "", b ? b->path : ""));
    d->path = path.data;
    d->hash = hash_bytes(d->id, tokens * sizeof *d->id, hash_bytes(d->label, tokens * sizeof *d->label, 0));
    *out = d, d = NULL;
done:
    dataset_free(d);
    return st;
}
