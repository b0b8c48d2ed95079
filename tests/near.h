/* What every test needs: cmocka, and comparisons in double (cmocka 1.1.5 rounds to float). */
#ifndef UNLEARN_TESTS_NEAR_H
#define UNLEARN_TESTS_NEAR_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef fail /* cmocka's macro; ours is core's function */
#undef fail_msg
#define fail_here()   _fail(__FILE__, __LINE__)
#define fail_msg(...) (print_error("ERROR: " __VA_ARGS__), print_error("\n"), fail_here())

/* |got - want| <= tolerance * max(1, |want|), and both finite or the same */
#define assert_near(got, want, tolerance)                                                                \
    do {                                                                                                 \
        double got_ = (double)(got), want_ = (double)(want), most_ = (tolerance)*fmax(1.0, fabs(want_)); \
        if (!(got_ == want_ || fabs(got_ - want_) <= most_)) {                                           \
            print_error("%s: %.17g, expected %.17g within %.3g\n", #got, got_, want_, most_);            \
            fail_here();                                                                                 \
        }                                                                                                \
    } while (0)

/* The larger of two errors; one that is NaN is the largest of all, which fmax() passes over. */
static inline double worse(double worst, double d) { return d <= worst ? worst : isnan(d) ? INFINITY : d; }

/* max |x - y| / max |y| of two arrays: the error measure of the whole project; NaN anywhere gives infinity */
static inline double relative_error(size_t n, const double *x, const double *y)
{
    double worst = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        worst = worse(worst, fabs(x[i] - y[i]));
        if (fabs(y[i]) > scale) scale = fabs(y[i]);
    }
    return worst == 0 ? 0 : worst / scale;
}

/* Where the shared test material is; NULL (after a message) where it is absent: the test then calls skip(). */
static inline const char *shared_path(const char *name)
{
    static char path[4096];
    const char *root = getenv("SHARED");
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", root ? root : "../shared", name);
    if (!(f = fopen(path, "r"))) {
        print_message("skipped: %s is not there\n", path);
        return NULL;
    }
    fclose(f);
    return path;
}
#endif
