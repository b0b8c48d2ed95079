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

void rotary_apply(int direction, size_t J, size_t n, const int32_t *position, size_t heads, size_t head_dim, size_t dim,
                  const real *cosine, const real *sine, real *x, size_t ldx)
{
    size_t half = dim / 2;
#pragma omp parallel for collapse(2) schedule(static) if (J * n * heads * dim > WORTH_A_TEAM)
    for (size_t j = 0; j < J; j++)
        for (size_t r = 0; r < n; r++) {
            size_t at = (size_t)position[r] * half;
            real *row = x + (j * n + r) * ldx;
            for (size_t h = 0; h < heads; h++) turn(half, (real)direction, cosine + at, sine + at, row + h * head_dim);
        }
}
