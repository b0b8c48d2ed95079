/* The two-sample Kolmogorov-Smirnov test, two-sided: D = sup |F_n - G_m| and Pr(D_nm >= D) when both samples are drawn from
 * one continuous law, as scipy.stats.ks_2samp gives them by default.
 *
 * Exact p: the joint sample in ascending order is a lattice path from (0, 0) to (n, m), and all C(n+m, n) paths are
 * equally likely; p is the share of paths that reach |i/n - j/m| >= D, that is |i m - j n| gcd/(n m) >= h/lcm with a
 * whole h. All sums below have positive terms, so p keeps its digits down to the smallest double. */
#include "unlearn/eval_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_EXACT = 10000 }; /* values of the larger sample; scipy's limit */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum status sorted_copy(size_t n, const double *x, double **out)
{
    enum status st = OK;
    TRY_NEW(*out, n);
    if (n) memcpy(*out, x, n * sizeof *x);
    qsort(*out, n, sizeof **out, ascending);
done:
    return st;
}

/* sup |F_n - G_m| of two sorted samples; equal values step together. */
static double distance(size_t n, const double *x, size_t m, const double *y)
{
    double d = 0;
    for (size_t i = 0, j = 0; i < n && j < m;) { /* after the end of one sample the distance only falls */
        double at = x[i] < y[j] ? x[i] : y[j];
        while (i < n && x[i] <= at) i++;
        while (j < m && y[j] <= at) j++;
        d = fmax(d, fabs((double)i / (double)n - (double)j / (double)m));
    }
    return d;
}

/* For n = m, by reflection: p = 2 sum_{k>=1} (-1)^(k-1) C(2n, n-kh)/C(2n, n), computed as 2 a_1 (1 - a_2 (1 - a_3
 * (...))) with a_k = C(2n, n-kh)/C(2n, n-(k-1)h), which avoids cancellation and large numbers (Hodges 1958). */
static double reflected(size_t n, size_t h)
{
    double p = 0;
    for (size_t k = n / h; k > 0; k--) {
        double a = 1, inner = (double)(n - (k - 1) * h), outer = (double)(n + (k - 1) * h);
        for (size_t j = 0; j < h; j++) a *= (inner - (double)j) / (outer + (double)j + 1);
        p = a * (1 - p);
    }
    return 2 * p;
}

/* For any n, m: Q(i, j), the share of paths to (i, j) that have left |i m' - j n'| < h, with n' = n/gcd, m' = m/gcd:
 *      Q = 1 outside, else (i Q(i-1, j) + j Q(i, j-1))/(i + j)
 * as a path to (i, j) comes from (i-1, j) with probability i/(i+j). One column at a time; O(n m) at worst. */
static enum status walked(size_t n, size_t m, size_t gcd, size_t h, double *p)
{
    enum status st = OK;
    double *Q = NULL; /* [m+1] column i of Q(i, j), overwritten from column to column */
    size_t n1 = n / gcd, m1 = m / gcd, cleared = 0;
    TRY_NEW(Q, m + 1);
    for (size_t j = 0; j <= m; j++) Q[j] = 1;
    for (size_t i = 0; i <= n; i++) {
        size_t low = i * m1 < h ? 0 : (i * m1 - h) / n1 + 1,
               high = (i * m1 + h + n1 - 1) / n1; /* low ... high-1 are inside */
        double below = 1;
        if (low > m + 1) low = m + 1;
        if (high > m + 1) high = m + 1;
        for (; cleared < low; cleared++) Q[cleared] = 1;
        for (size_t j = low; j < high; j++) {
            if (i || j)
                below = ((double)i * Q[j] + (double)j * below) / (double)(i + j);
            else
                below = 0;
            Q[j] = below;
        }
    }
    *p = Q[m];
done:
    free(Q);
    return st;
}

static size_t divisor(size_t n, size_t m)
{
    while (m) {
        size_t rest = n % m;
        n = m, m = rest;
    }
    return n;
}

/* *p = Pr(D_nm >= *d); first replaces *d, which has rounding errors, by the nearest multiple of 1/lcm. */
static enum status exact(size_t n, size_t m, double *d, double *p)
{
    enum status st = OK;
    size_t gcd = divisor(n, m), lcm = n / gcd * m, h = (size_t)llround(*d * (double)lcm);
    *d = (double)h / (double)lcm;
    if (!h)
        *p = 1;
    else if (n == m)
        *p = reflected(n, h);
    else
        TRY(walked(n, m, gcd, h, p));
done:
    return st;
}

enum status ks_two_sample(size_t n, const double *x, size_t m, const double *y, double *statistic, double *p)
{
    enum status st = OK;
    double *a = NULL, *b = NULL;
    bool missing = !n || !m;
    for (size_t i = 0; i < n; i++) missing |= isnan(x[i]);
    for (size_t i = 0; i < m; i++) missing |= isnan(y[i]);
    *statistic = *p = NAN;
    if (missing) return OK;
    TRY(sorted_copy(n, x, &a));
    TRY(sorted_copy(m, y, &b));
    *statistic = distance(n, a, m, b);
    if (n <= MOST_EXACT && m <= MOST_EXACT) {
        TRY(exact(n, m, statistic, p));
    } else {
        double N = (double)n, M = (double)m;
        TRY(kolmogorov_tail((size_t)rint(N * M / (N + M)), *statistic, p));
    }
    *p = fmin(1, fmax(0, *p));
done:
    free(a);
    free(b);
    return st;
}
