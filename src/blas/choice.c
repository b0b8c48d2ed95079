/* Whose products a run may have, and how fast they are. */
#include "unlearn/blas_priv.h"
#include <math.h>
#include <stdlib.h>

/* What is wrong with this kind, or NULL. */
static const char *tried(enum multiplier p)
{
    const enum multiplier before = math_products_now();
    bool agree;
    if (onednn_lack()) return onednn_lack();
    if (math_products(p) != OK) {
        fail_clear();
        return "there is no memory for rounded operands";
    }
    agree = products_agree();
    math_products(before);
    return agree ? NULL : "oneDNN's products are wrong on this processor";
}

const char *math_products_lack(enum multiplier p)
{
    static struct {
        bool known;
        const char *lack;
    } of[N_MULTIPLIER] = {[BY_BLAS] = {.known = true}};
    if (!of[p].known) of[p].lack = tried(p), of[p].known = true;
    return of[p].lack;
}

/* Seconds of one product of each form. */
static double once(size_t rows, size_t out, size_t in, real *x, real *w, real *y)
{
    const double began = clock_seconds();
    linear_forward(rows, out, in, x, in, reals(w), y, out);
    linear_backward_input(rows, out, in, y, out, reals(w), 0, x, in);
    linear_backward_weight(rows, out, in, y, out, x, in, 1, reals(w));
    return clock_seconds() - began;
}

void math_products_rates(size_t rows, size_t out, size_t in, size_t n, const enum multiplier *p, double *rate)
{
    enum { TIMES = 3 }; /* the first makes the kernels */
    const enum multiplier before = math_products_now();
    const double flops = 6.0 * (double)rows * (double)out * (double)in;
    real *x = memory_new(rows * in, sizeof *x), *w = memory_new(out * in, sizeof *w),
         *y = memory_new(rows * out, sizeof *y);
    double seconds;
    for (size_t i = 0; i < n; i++) rate[i] = 0;
    for (int t = 0; t < TIMES && x && w && y; t++)
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < rows * in; j++) x[j] = (real)(1 + j % 7) / 8;
            for (size_t j = 0; j < out * in; j++) w[j] = (real)(1 + j % 5) / 8;
            if (math_products(p[i]) != OK) {
                fail_clear();
                continue;
            }
            seconds = once(rows, out, in, x, w, y);
            if (t > 0) rate[i] = fmax(rate[i], flops / seconds);
        }
    math_products(before);
    free(x);
    free(w);
    free(y);
}
