/* Rows of a tensor that several tensor ranks keep, each with the deltas of its own heads: partial sums. What is not linear
 * in the deltas needs the sums. */
#include "unlearn/geffect_priv.h"

void shared_find(const struct engine *e, double *shared)
{
    const struct layout *l = e->layout;
    for (size_t i = 0; i < l->n_param; i++) shared[i] = l->param[i].shared;
    comm_max_double(e->grid->tensor, shared, l->n_param);
}

const real *shared_sum(const struct engine *e, const struct param *p, size_t n, const real *x, size_t ld, real *all)
{
    math_fill(n * p->rows, 0, all);
    for (size_t t = 0; t < n && p->row_count; t++)
        math_copy(p->row_count, x + t * ld, all + t * p->rows + p->piece[0].first);
    comm_sum_real(e->grid->tensor, all, n * p->rows);
    return p->row_count ? all + p->piece[0].first : all;
}
