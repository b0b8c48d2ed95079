/* The law of the one-sample Kolmogorov-Smirnov statistic D_n = sup |F_n - F| for a continuous F, by the same methods as
 * scipy.stats.kstwo.sf, which scipy's two-sample test uses beyond 10000 values. The choice of methods is that of Simard
 * and L'Ecuyer, "Computing the two-sided Kolmogorov-Smirnov distribution", J. Stat. Software 39(11), 2011; t = n d and
 * z = sqrt(n) d:
 *      t <= 1/2: 1;  t <= 1: 1 - n! ((2t-1)/n)^n;  t >= n-1: 2 (1-d)^n                      Ruben and Gambino
 *      d >= 1/2, or z^2 large: twice the one-sided tail                                     Birnbaum and Tingey 1951
 *      small n or d: 1 - the entry of a matrix power                                        Marsaglia, Tsang and Wang 2003
 *      else: 1 - an expansion in 1/sqrt(n)                                                  Pelz and Good 1976 */
#include "unlearn/eval_priv.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double PI = 3.14159265358979323846;
enum { FEW = 140, MANY = 100000 };                       /* numbers of values; these limits and the next are scipy's */
static const double ALL_IN_ONE_TAIL = 4, FEW_TAIL = 2.2; /* z^2 from which tails do not overlap; n <= FEW, n > FEW */
static const double NOTHING_LEFT = 370;                  /* z^2 from which p is 0 */
static const double MATRIX = 1.4;                        /* n d^1.5 up to which the matrix is small; for n > FEW */
static const double LEAST_EXPONENT = -708; /* exponent of the expansion's leading term, below which it is 0 */

/* Pr(D+_n >= d) = d sum_j C(n,j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j), j from 0 while the last base is positive. */
static double one_sided(size_t n, double d)
{
    long double N = (long double)n, whole = lgammal(N + 1), sum = 0;
    for (size_t j = 0; j < n; j++) {
        long double J = (long double)j, left = N - J - N * (long double)d;
        if (left <= 0) break;
        sum += expl(whole - lgammal(J + 1) - lgammal(N - J + 1) + (J - 1) * logl((long double)d + J / N) +
                    (N - J) * logl(left / N));
    }
    return (double)(sum * (long double)d);
}

/* c = a b, all [m][m] */
static void multiply(size_t m, const double *a, const double *b, double *c)
{
    memset(c, 0, m * m * sizeof *c);
    for (size_t i = 0; i < m; i++)
        for (size_t k = 0; k < m; k++)
            for (size_t j = 0; j < m; j++) c[i * m + j] += a[i * m + k] * b[k * m + j];
}

/* Scales a by a power of two so that its middle entry is near 1; returns that power. */
static long rescale(size_t m, double *a)
{
    int power;
    frexp(a[m / 2 * m + m / 2], &power);
    for (size_t i = 0; i < m * m; i++) a[i] = ldexp(a[i], -power);
    return power;
}

/* The matrix H of Marsaglia, Tsang and Wang; their t = k - h, m = 2k - 1. */
static void durbin(size_t m, double h, double *H)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < m; j++) H[i * m + j] = i + 1 >= j;
    for (size_t i = 0; i < m; i++) {
        H[i * m] -= pow(h, (double)i + 1);
        H[(m - 1) * m + i] -= pow(h, (double)(m - i));
    }
    if (h > 0.5) H[(m - 1) * m] += pow(2 * h - 1, (double)m);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j <= i; j++)
            for (size_t g = 2; g <= i + 1 - j; g++) H[i * m + j] /= (double)g;
}

/* Pr(D_n < d) = n!/n^n times the middle entry of H^n. */
static enum status matrix(size_t n, double d, double *cdf)
{
    enum status st = OK;
    size_t k = (size_t)((double)n * d) + 1, m = 2 * k - 1;
    double *H = NULL, *Q = NULL, *T = NULL, *swap;
    long base = 0, power = 0; /* the true matrices are 2^base H and 2^power Q */
    TRY_NEW(H, m * m);
    TRY_NEW(Q, m * m);
    TRY_NEW(T, m * m);
    durbin(m, (double)k - (double)n * d, H);
    for (size_t i = 0; i < m; i++) Q[i * m + i] = 1;
    for (size_t left = n; left; left >>= 1) {
        if (left & 1) {
            multiply(m, Q, H, T);
            swap = Q, Q = T, T = swap;
            power += base + rescale(m, Q);
        }
        multiply(m, H, H, T);
        swap = H, H = T, T = swap;
        base = 2 * base + rescale(m, H);
    }
    *cdf = Q[(k - 1) * m + k - 1];
    for (size_t i = 1; i <= n; i++) { /* times n!/n^n; exponents go to `power`, to stay in range */
        int more;
        *cdf = frexp(*cdf * ((double)i / (double)n), &more);
        power += more;
    }
    *cdf = ldexp(*cdf, (int)power);
done:
    free(H);
    free(Q);
    free(T);
    return st;
}

/* Pr(D_n <= d) = K_0 + K_1/sqrt(n) + K_2/n + K_3/n^(3/2) as theta series in exp(-pi^2/(8 z^2)). */
static double expansion(size_t n, double d)
{
    double z = sqrt((double)n) * d, z2 = z * z, z4 = z2 * z2, z6 = z2 * z4, p2 = PI * PI, p4 = p2 * p2, p6 = p2 * p4;
    double K[4] = {0}, root = sqrt(2 * PI);
    if (-p2 / 8 / z2 < LEAST_EXPONENT) return 0;
    for (int k = (int)ceil(16 * z / PI); k > 0; k--) { /* further terms are below the rounding of the first */
        double odd = 2 * k - 1, m2 = odd * odd, m4 = m2 * m2, m6 = m2 * m4, e = exp(-m2 * p2 / 8 / z2);
        double k2 = (double)k * k, all = k2 * exp(-k2 * p2 / 2 / z2);
        K[0] += e / z;
        K[1] += (p2 / 4 * m2 - z2) * e / (6 * z4);
        K[2] += (6 * z6 + 2 * z4 + p2 / 4 * (2 * z4 - 5 * z2) * m2 + p4 / 16 * (1 - 2 * z2) * m4) * e / (72 * z6 * z);
        K[2] -= p2 * all / (36 * z2 * z);
        K[3] += (-30 * z6 - 90 * z4 * z4 + p2 / 4 * (135 * z4 - 96 * z6) * m2 + p4 / 16 * (212 * z4 - 60 * z2) * m4 +
                 p6 / 64 * (5 - 30 * z2) * m6) *
                e / (6480 * z6 * z4);
        K[3] += p2 * (3 * z2 - p2 * k2) * all / (216 * z6);
    }
    return root * (K[0] + (K[1] + (K[2] + K[3] / sqrt((double)n)) / sqrt((double)n)) / sqrt((double)n));
}

/* Both ends of the law, which have a closed form. */
static double ruben_gambino(size_t n, double d)
{
    double N = (double)n, t = N * d;
    if (t <= 0.5) return 1;
    if (t <= 1) return -expm1(lgamma(N + 1) + N * (log(2 * t - 1) - log(N)));
    return 2 * pow(1 - d, N);
}

enum status kolmogorov_tail(size_t n, double d, double *p)
{
    enum status st = OK;
    double N = (double)n, t = N * d, z2 = t * d, cdf = NAN;
    assert(n && !isnan(d));
    if (d <= 0 || d >= 1)
        *p = d <= 0;
    else if (t <= 1 || t >= N - 1)
        *p = ruben_gambino(n, d);
    else if (n > FEW && d < 0.5 && z2 >= NOTHING_LEFT)
        *p = 0;
    else if (d >= 0.5 || z2 > (n > FEW ? FEW_TAIL : ALL_IN_ONE_TAIL))
        *p = 2 * one_sided(n, d);
    else {
        if (n <= FEW || (n <= MANY && N * pow(d, 1.5) <= MATRIX))
            TRY(matrix(n, d, &cdf));
        else
            cdf = expansion(n, d);
        *p = 1 - cdf;
    }
    *p = fmin(1, fmax(0, *p));
done:
    return st;
}
