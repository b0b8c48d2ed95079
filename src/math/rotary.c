/* Rotary positions, Hugging Face's half-split pairs: (x_k, x_{k+half}) turns by angle position * frequency_k.          */
#include "unlearn/math_priv.h"

void rotary_table(size_t positions, size_t half, const double *frequency, double scale, real *cosine, real *sine)
{
#pragma omp parallel for schedule(static) if (positions * half > WORTH_A_TEAM)
    for (size_t p = 0; p < positions; p++)
        for (size_t k = 0; k < half; k++) {
            double angle = (double)p * frequency[k];
            cosine[p * half + k] = (real)(scale * cos(angle));
            sine[p * half + k] = (real)(scale * sin(angle));
        }
}

static void turn(size_t half, real direction, const real *restrict cosine, const real *restrict sine, real *restrict x)
{
#pragma omp simd
    for (size_t k = 0; k < half; k++) {
        real a = x[k], b = x[k + half], s = direction * sine[k];
        x[k] = a * cosine[k] - b * s;
        x[k + half] = b * cosine[k] + a * s;
    }
}

static void row_turn(int direction, size_t heads, size_t head_dim, size_t half, const real *cosine, const real *sine,
                     real *row)
{
    for (size_t h = 0; h < heads; h++) turn(half, (real)direction, cosine, sine, row + h * head_dim);
}

void rotary_apply(int direction, size_t J, size_t n, const int32_t *position, size_t heads, size_t head_dim, size_t dim,
                  const real *cosine, const real *sine, real *x, size_t ldx)
{
    const size_t half = dim / 2, rows = J * n;
    if (!team_pays(rows * heads * dim)) {
        for (size_t i = 0; i < rows; i++) {
            const size_t at = (size_t)position[i % n] * half;
            row_turn(direction, heads, head_dim, half, cosine + at, sine + at, x + i * ldx);
        }
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < rows; i++) {
        const size_t at = (size_t)position[i % n] * half;
        row_turn(direction, heads, head_dim, half, cosine + at, sine + at, x + i * ldx);
    }
}
