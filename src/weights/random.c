/* Initial weights: every matrix normal(0, initializer_range), norms 1 (0 where 1 is added), biases 0. transformers draws them
 * so too, but there gpt2's c_proj is smaller by sqrt(2 n_layer), the padding's row of the embedding is 0, and an
 * initializer_range of 0 counts as 0.02. The element's place in the whole model is the counter of its random number, so that
 * every layout begins with the same model.                                                                             */
#include "unlearn/weights_priv.h"

static bool is_norm(enum role role)
{
    return role == ROLE_NORM1 || role == ROLE_NORM2 || role == ROLE_NORM || role == ROLE_Q_NORM || role == ROLE_K_NORM ||
           role == ROLE_NORM1_AFTER || role == ROLE_NORM2_AFTER;
}

/* start: elements of the model before this tensor */
static void draw(const struct param *p, uint64_t seed, uint64_t start, double range, struct matrix x)
{
    for (size_t i = 0; i < p->row_count; i++) {
        const uint64_t row = start + param_global_row(p, i) * p->cols + p->col_first;
        for (size_t c = 0; c < p->col_count; c++)
            matrix_set(x, i * p->col_count + c, (real)(range * random_normal(seed, STREAM_WEIGHTS, row + c)));
    }
}

void weights_random(const struct shape *s, uint64_t seed, struct state *weights)
{
    const struct layout *l = weights->layout;
    const json_t *j = key_find(s->json, "initializer_range");
    const double range = j ? json_number_value(j) : 0.02;
    const real unit = s->norm == NORM_RMS_OFFSET ? 0 : 1; /* the weight of a norm that only normalises */
    uint64_t start = 0;
    for (size_t layer = 0; layer < l->n_layer; layer++) {
        const struct tensors t = state_acquire(weights, layer);
        for (size_t i = l->layer_first[layer]; i < l->layer_first[layer + 1]; i++) {
            const struct param *p = &l->param[i];
            if (p->vector)
                math_fill(p->row_count, is_norm(p->role) ? unit : 0, tensors_vector(&t, p));
            else
                draw(p, seed, start, range, tensors_matrix(&t, p));
            start += p->rows * p->cols;
        }
        state_commit(weights, layer);
    }
}
