/* The update, piece by piece: a gradient and moments in bfloat16 are widened, updated by the code for reals, and rounded again.
 * Moments are rounded at random, as sums of gradients were: to nearest, the second moment's steps of 1 - beta_2 = 0.001 would be
 * lost below half a unit of bfloat16's 8 bits, and it would never fall. The weights move by the moments before they are
 * rounded. A random number belongs to an element of the whole model and an update of the run, so that neither layout, threads nor
 * restarts change one. */
#include "unlearn/optim_priv.h"
#include <Random123/philox.h>
#include <string.h>

uint32_t update_key(uint64_t seed, uint64_t done) { return (uint32_t)random_bits(seed, STREAM_ROUNDING, done); }

/* Of elements that follow each other in the model. Seven rounds of Philox are enough for every test of randomness (Salmon et al.
 * 2011, table 2). */
static void round_moments(size_t n, const real *m, const real *v, uint32_t key, uint64_t element, uint16_t *to_m,
                          uint16_t *to_v)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        const uint64_t at = element + i;
        const philox2x32_ctr_t r =
            philox2x32_R(7, (philox2x32_ctr_t){{(uint32_t)at, (uint32_t)(at >> 32)}}, (philox2x32_key_t){{key}});
        to_m[i] = to_half_at_random((float)m[i], r.v[0]);
        to_v[i] = to_half_at_random((float)v[i], r.v[1]);
    }
}

/* How many elements from local element k on follow each other in the whole parameter too. */
static size_t run(const struct param *p, size_t k)
{
    size_t end = 0;
    if (p->col_count < p->cols) return p->col_count - k % p->col_count;
    for (size_t i = 0; i < p->n_piece && k >= end; i++) end += p->piece[i].count * p->cols;
    return end - k;
}

static void save_moments(const struct param *p, size_t first, size_t n, const real *m, const real *v, uint32_t key,
                         uint64_t element, uint16_t *to_m, uint16_t *to_v)
{
    for (size_t done = 0, some; done < n; done += some) {
        const size_t k = first + done;
        const uint64_t at =
            element + (uint64_t)param_global_row(p, k / p->col_count) * p->cols + p->col_first + k % p->col_count;
        some = smaller(run(p, k), n - done);
        round_moments(some, m + done, v + done, key, at, to_m + done, to_v + done);
    }
}

static struct values values_at(const struct values *of, size_t at)
{
    return (struct values){matrix_at(of->g, at), matrix_at(of->m, at), matrix_at(of->v, at), of->w + at};
}

/* m and v NULL: plain SGD */
static void update(const struct adamw *a, double scale, size_t n, const real *g, real *m, real *v, real *w)
{
    if (m)
        adamw_update(a, n, g, scale, m, v, w);
    else
        sgd_update(a->lr, a->decay, n, g, scale, w);
}

void update_values(const struct adamw *a, double scale, const struct param *p, size_t first, size_t n,
                   const struct values *of, uint32_t key, uint64_t element)
{
    if (!of->g.half && !of->m.half) {
        update(a, scale, n, of->g.full, of->m.full, of->v.full, of->w);
        return;
    }
#pragma omp parallel for schedule(static) if (team_pays(n))
    for (size_t i = 0; i < held_pieces(n); i++) {
        real room[3][HELD_PIECE];
        const size_t some = held_piece(n, i);
        const struct values at = values_at(of, i * HELD_PIECE);
        real *m = held_reals(some, at.m, room[1]), *v = held_reals(some, at.v, room[2]);
        update(a, scale, some, held_reals(some, at.g, room[0]), m, v, at.w);
        if (at.m.half) save_moments(p, first + i * HELD_PIECE, some, m, v, key, element, at.m.half, at.v.half);
    }
}

/* The update is made of copies, by the code that makes it in earnest. */
static double predict_piece(const struct adamw *a, double scale, size_t n, const struct values *of,
                            struct matrix direction)
{
    enum { SOME = HELD_PIECE / 4 }; /* four copies, and a stack may have 256 KB */
    const bool moments = of->m.full || of->m.half;
    real m[SOME], v[SOME], w[SOME], g[SOME];
    double sum = 0;
    for (size_t done = 0; done < n; done += SOME) {
        const size_t some = smaller(SOME, n - done);
        const struct values at = values_at(of, done);
        if (moments) held_copy(some, at.m, reals(m)), held_copy(some, at.v, reals(v));
        math_copy(some, at.w, w);
        update(a, scale, some, held_reals(some, at.g, g), moments ? m : NULL, moments ? v : NULL, w);
        math_add_scaled(some, -1, at.w, w);
        sum += held_dot(some, matrix_at(direction, done), reals(w));
    }
    return sum;
}

double predict_values(const struct adamw *a, double scale, size_t n, const struct values *of, struct matrix direction)
{
    enum { GROUP = 64 }; /* as held_dot() */
    const size_t all = held_pieces(n);
    double sum = 0, part[GROUP];
    for (size_t first = 0; first < all; first += GROUP) {
        const size_t some = smaller(GROUP, all - first);
#pragma omp parallel for schedule(static) if (team_pays(n))
        for (size_t i = 0; i < some; i++) {
            const size_t at = (first + i) * HELD_PIECE;
            const struct values here = values_at(of, at);
            part[i] = predict_piece(a, scale, held_piece(n, first + i), &here, matrix_at(direction, at));
        }
        for (size_t i = 0; i < some; i++) sum += part[i];
    }
    return sum;
}
