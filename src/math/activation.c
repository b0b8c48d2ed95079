/* Activations of the MLP, plain or gated. Each is one function that gives value and slope together:
 *      silu       x s(x)                       s the logistic function
 *      gelu       x Phi(x)                     Phi the normal distribution function, phi its density
 *      gelu_tanh  x (1 + tanh u)/2 = x s(2u)   u = sqrt(2/pi) (x + 0.044715 x^3)
 * The forms with s hold their precision for every x: there is no tanh that could cancel.                              */
#include "unlearn/math_priv.h"

struct point {
    real value, slope;
};

static inline struct point silu(real x)
{
    real s = 1 / (1 + real_exp(-x));
    return (struct point){x * s, s * (1 + x * (1 - s))};
}

static inline struct point relu(real x) { return (struct point){x > 0 ? x : 0, x > 0 ? 1 : 0}; }

static inline struct point gelu_tanh(real x)
{
    const real a = (real)1.5957691216057308, b = (real)0.044715; /* a = 2 sqrt(2/pi) */
    real s = 1 / (1 + real_exp(-a * x * (1 + b * x * x)));
    return (struct point){x * s, s + x * s * (1 - s) * a * (1 + 3 * b * x * x)};
}

#ifdef REAL_float
/* erfc(t) = exp(-t p(t)) for t >= 0. p is smooth: one polynomial is within 3e-8 of erfc up to t = 4. Beyond, where erfc
 * < 2e-8, p keeps its value at 4, and the result still goes to 0. */
static inline float normal_tail(float t)
{
    float u = t > 4.0f ? 4.0f : t, p = -7.998723364e-8f;
    p = p * u + 2.100258223e-6f;
    p = p * u - 2.452047258e-5f;
    p = p * u + 1.662208012e-4f;
    p = p * u - 7.019942200e-4f;
    p = p * u + 1.680783944e-3f;
    p = p * u - 7.432812611e-5f;
    p = p * u - 1.926705477e-2f;
    p = p * u + 1.028389717e-1f;
    p = p * u + 6.366051327e-1f;
    p = p * u + 1.128380253f;
    return 0.5f * real_exp(-t * p);
}
#else
static inline double normal_tail(double t) { return 0.5 * erfc(t); }
#endif

static inline struct point gelu(real x)
{
    const real root_half = (real)0.70710678118654752, density = (real)0.39894228040143268;
    real below = normal_tail((x < 0 ? -x : x) * root_half), p = x < 0 ? below : 1 - below;
    return (struct point){x * p, p + x * density * real_exp((real)-0.5 * x * x)};
}

/* Each activation has loops of its own, so that the compiler can vectorise them. */
#define ACTIVATION(name)                                                                                \
    static void name##_values(size_t n, const real *restrict x, real *restrict y)                       \
    {                                                                                                   \
        _Pragma("omp simd") for (size_t c = 0; c < n; c++) y[c] = name(x[c]).value;                     \
    }                                                                                                   \
    static void name##_points(size_t n, const real *restrict x, real *restrict y, real *restrict slope) \
    {                                                                                                   \
        _Pragma("omp simd") for (size_t c = 0; c < n; c++)                                              \
        {                                                                                               \
            struct point p = name(x[c]);                                                                \
            y[c] = p.value;                                                                             \
            slope[c] = p.slope;                                                                         \
        }                                                                                               \
    }
ACTIVATION(silu)
ACTIVATION(gelu)
ACTIVATION(gelu_tanh)
ACTIVATION(relu)

static const struct {
    void (*values)(size_t n, const real *x, real *y);
    void (*points)(size_t n, const real *x, real *y, real *slope);
} table[N_ACTIVATION] = {
    [ACT_SILU] = {silu_values, silu_points},
    [ACT_GELU] = {gelu_values, gelu_points},
    [ACT_GELU_TANH] = {gelu_tanh_values, gelu_tanh_points},
    [ACT_RELU] = {relu_values, relu_points},
};

static void multiply(size_t n, const real *restrict x, const real *restrict y, real *restrict z)
{
    for (size_t c = 0; c < n; c++) z[c] = x[c] * y[c];
}

static void row_forward(enum activation act, bool gated, size_t f, const real *restrict up, real *restrict y)
{
    table[act].values(f, up, y);
    if (gated)
        for (size_t c = 0; c < f; c++) y[c] *= up[f + c];
}

void activation_forward(enum activation act, bool gated, size_t n, size_t f, const real *up, real *y)
{
    const size_t ld = gated ? 2 * f : f;
    if (!team_pays(n * f)) {
        for (size_t r = 0; r < n; r++) row_forward(act, gated, f, up + r * ld, y + r * f);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < n; r++) row_forward(act, gated, f, up + r * ld, y + r * f);
}

static void multiply3(size_t n, const real *restrict x, const real *restrict y, const real *restrict z,
                      real *restrict out)
{
    for (size_t c = 0; c < n; c++) out[c] = x[c] * y[c] * z[c];
}

/* Computes values and slopes once, a piece of a row at a time, for y and all J deltas. */
static void row_backward(enum activation act, bool gated, size_t J, size_t n, size_t f, size_t r, const real *up,
                         const real *dy, real *y, real *dup, size_t ldup)
{
    enum { PIECE = 256 };
    real value[PIECE], slope[PIECE];
    size_t ld = gated ? 2 * f : f;
    for (size_t c = 0; c < f; c += PIECE) {
        size_t m = smaller(PIECE, f - c);
        table[act].points(m, up + r * ld + c, value, slope);
        if (gated)
            multiply(m, value, up + r * ld + f + c, y + r * f + c);
        else
            memcpy(y + r * f + c, value, m * sizeof *y);
        for (size_t j = 0; j < J; j++) {
            const real *from = dy + (j * n + r) * f + c;
            real *to = dup + (j * n + r) * ldup + c;
            if (gated) {
                multiply3(m, from, slope, up + r * ld + f + c, to);
                multiply(m, from, value, to + f);
            } else
                multiply(m, from, slope, to);
        }
    }
}

void activation_backward(enum activation act, bool gated, size_t J, size_t n, size_t f, const real *up, const real *dy,
                         real *y, real *dup, size_t ldup)
{
#pragma omp parallel for schedule(static) if (J * n * f > WORTH_A_TEAM)
    for (size_t r = 0; r < n; r++) row_backward(act, gated, J, n, f, r, up, dy, y, dup, ldup);
}

/* Values and slopes once for all K directions; where it is not gated, the slope alone multiplies. */
static void row_tangent(enum activation act, bool gated, size_t K, size_t n, size_t f, size_t r, const real *up,
                        const real *tup, real *ty)
{
    enum { PIECE = 256 };
    real value[PIECE], slope[PIECE];
    const size_t ld = gated ? 2 * f : f;
    for (size_t c = 0; c < f; c += PIECE) {
        const size_t m = smaller(PIECE, f - c);
        const real *times = up + r * ld + f + c; /* read only where it is gated */
        table[act].points(m, up + r * ld + c, value, slope);
        for (size_t k = 0; k < K; k++) {
            const real *from = tup + (k * n + r) * ld + c;
            real *to = ty + (k * n + r) * f + c;
            if (gated)
                for (size_t i = 0; i < m; i++) to[i] = slope[i] * from[i] * times[i] + value[i] * from[f + i];
            else
                multiply(m, from, slope, to);
        }
    }
}

void activation_tangent(enum activation act, bool gated, size_t K, size_t n, size_t f, const real *up, const real *tup,
                        real *ty)
{
#pragma omp parallel for schedule(static) if (K * n * f > WORTH_A_TEAM)
    for (size_t r = 0; r < n; r++) row_tangent(act, gated, K, n, f, r, up, tup, ty);
}

/* ------------------------------------------------------------------------------------------------ tangents ------- */
/* Second derivatives; s' = s (1 - s) of the logistic function. */
static inline real silu_curve(real x)
{
    const real s = 1 / (1 + real_exp(-x));
    return s * (1 - s) * (2 + x * (1 - 2 * s));
}

static inline real relu_curve(real x) { return 0; }

static inline real gelu_tanh_curve(real x)
{
    const real a = (real)1.5957691216057308, b = (real)0.044715;
    const real s = 1 / (1 + real_exp(-a * x * (1 + b * x * x))), u = a * (1 + 3 * b * x * x);
    return s * (1 - s) * (2 * u + x * ((1 - 2 * s) * u * u + 6 * a * b * x));
}

static inline real gelu_curve(real x)
{
    const real density = (real)0.39894228040143268;
    return density * real_exp((real)-0.5 * x * x) * (2 - x * x);
}

#define CURVE(name)                                                                       \
    static void name##_curves(size_t n, const real *restrict x, real *restrict curve)     \
    {                                                                                     \
        _Pragma("omp simd") for (size_t c = 0; c < n; c++) curve[c] = name##_curve(x[c]); \
    }
CURVE(silu)
CURVE(gelu)
CURVE(gelu_tanh)
CURVE(relu)

static void (*const curves[N_ACTIVATION])(size_t n, const real *x, real *curve) = {
    [ACT_SILU] = silu_curves, [ACT_GELU] = gelu_curves, [ACT_GELU_TANH] = gelu_tanh_curves, [ACT_RELU] = relu_curves};

/* A row; the gate's columns stand before those that it multiplies. */
static void row_backward_tangent(enum activation act, bool gated, size_t f, const real *restrict up,
                                 const real *restrict tup, const real *restrict dy, real *restrict tdup)
{
    enum { PIECE = 256 };
    real value[PIECE], slope[PIECE], curve[PIECE];
    for (size_t at = 0; at < f; at += PIECE) {
        const size_t m = smaller(PIECE, f - at);
        const real *x = up + at, *tx = tup + at, *y = x + f, *ty = tx + f, *d = dy + at;
        real *to = tdup + at;
        table[act].points(m, x, value, slope);
        curves[act](m, x, curve);
        for (size_t c = 0; c < m; c++)
            if (gated) {
                to[c] += d[c] * (curve[c] * tx[c] * y[c] + slope[c] * ty[c]);
                to[f + c] += d[c] * slope[c] * tx[c];
            } else
                to[c] += d[c] * curve[c] * tx[c];
    }
}

void activation_backward_tangent(enum activation act, bool gated, size_t n, size_t f, const real *up, const real *tup,
                                 const real *dy, real *tdup, size_t ldup)
{
    const size_t ld = gated ? 2 * f : f;
#pragma omp parallel for schedule(static) if (n * f > WORTH_A_TEAM)
    for (size_t r = 0; r < n; r++)
        row_backward_tangent(act, gated, f, up + r * ld, tup + r * ld, dy + r * f, tdup + r * ldup);
}
