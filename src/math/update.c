/* Steps of the optimisers, element by element; factors common to all elements are computed once, in double.
 *      AdamW   m = b1 m + (1-b1) g     v = b2 v + (1-b2) g^2
 *              w = (1 - lr decay) w - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)                                  */
#include "unlearn/math_priv.h"

void adamw_update(const struct adamw *a, size_t n, const real *gradient, double scale, real *m, real *v, real *weight)
{
    const real b1 = (real)a->beta1, b2 = (real)a->beta2, new1 = (real)(1 - a->beta1), new2 = (real)(1 - a->beta2);
    const real s = (real)scale, eps = (real)a->eps, keep = (real)(1 - a->lr * a->decay);
    const real rate = (real)(a->lr / (1 - pow(a->beta1, (double)a->step)));
    const real second = (real)(1 / (1 - pow(a->beta2, (double)a->step)));
#pragma omp parallel for simd schedule(static) if (n > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) {
        real g = s * gradient[i], first = b1 * m[i] + new1 * g, square = b2 * v[i] + new2 * g * g;
        m[i] = first;
        v[i] = square;
        weight[i] = keep * weight[i] - rate * first / (real_sqrt(square * second) + eps);
    }
}

void sgd_update(double lr, double decay, size_t n, const real *gradient, double scale, real *weight)
{
    const real keep = (real)(1 - lr * decay), rate = (real)(lr * scale);
#pragma omp parallel for simd schedule(static) if (n > WORTH_A_TEAM)
    for (size_t i = 0; i < n; i++) weight[i] = keep * weight[i] - rate * gradient[i];
}
