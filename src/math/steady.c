/* The linear layer y = x W^T for few rows, or for rows that must not know of each other: every element is one dot product,
 * summed in the same order however many rows and threads there are. W is read where it stands: BLAS would first copy all of
 * it, which costs as much as a product of ten rows.
 * A tile of LANES sums, some rows times some outputs, goes along the inner dimension; then each sum's lanes are folded, by
 * halves: lane i with i + LANES/2, and so on. */
#include "lanes.h"

struct linear {
    size_t in, ldx, ldy;
    lane_mask last; /* of the last LANES of a row those that no whole vector has counted */
};

/* sum[r][o] += x[r] . w[o] over whole vectors and the rest, for outputs o = 0 ... outs-1 whose rows of W are row[o]. */
static inline __attribute__((always_inline)) void dots(size_t rows, size_t outs, const struct linear *p, const real *x,
                                                       const real *const *row, lanes *sum)
{
    const size_t in = p->in, whole = in / LANES * LANES;
    lanes a[LANES];
    for (size_t l = 0; l < whole; l += LANES) {
        for (size_t r = 0; r < rows; r++) a[r] = load(x + r * p->ldx + l);
        for (size_t o = 0; o < outs; o++) {
            const lanes b = load(row[o] + l);
            for (size_t r = 0; r < rows; r++) sum[r * outs + o] += a[r] * b;
        }
    }
    if (whole == in) return;
    for (size_t r = 0; r < rows; r++)
        a[r] = (lanes)((lane_mask) * (const lanes *)(x + r * p->ldx + in - LANES) & p->last);
    for (size_t o = 0; o < outs; o++) {
        const lanes b = *(const lanes *)(row[o] + in - LANES);
        for (size_t r = 0; r < rows; r++) sum[r * outs + o] += a[r] * b;
    }
}

/* The same of one row and one output at a time, by vectors of 32 bytes: W then comes from memory at its full rate (measured:
 * twice that of several outputs in turn, and a quarter above that of vectors of 64 bytes). */
enum { PARTS = LANE_BYTES / 32, PART = LANES / PARTS };
typedef real part __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));
static inline __attribute__((always_inline)) lanes dot(const struct linear *p, const real *x, const real *w)
{
    const size_t in = p->in, whole = in / LANES * LANES;
    part sums[PARTS] = {{0}};
    lanes sum;
    for (size_t l = 0; l < whole; l += LANES)
        for (size_t i = 0; i < PARTS; i++)
            sums[i] += *(const part *)(x + l + i * PART) * *(const part *)(w + l + i * PART);
    memcpy(&sum, sums, sizeof sum);
    if (whole < in)
        sum += (lanes)((lane_mask) * (const lanes *)(x + in - LANES) & p->last) * *(const lanes *)(w + in - LANES);
    return sum;
}

/* y [rows][outs] of one tile; only the first `wanted` outputs exist: the others read the last one again. rows is a constant
 * wherever this is inlined, so that `sum` is registers. */
static inline __attribute__((always_inline)) void tile(size_t rows, const struct linear *p, const real *x, const real *w,
                                                       size_t wanted, real *y)
{
    const size_t outs = LANES / rows;
    const real *row[LANES];
    lanes sum[LANES];
    real out[LANES];
    for (size_t o = 0; o < outs; o++) row[o] = w + smaller(o, wanted - 1) * p->in;
    for (size_t i = 0; i < LANES; i++) sum[i] = (lanes){0};
    if (rows == 1)
        for (size_t o = 0; o < outs; o++) sum[o] = dot(p, x, row[o]);
    else
        dots(rows, outs, p, x, row, sum);
    fold(sum);
    memcpy(out, sum, sizeof out);
    if (wanted >= outs) /* of a length that the compiler knows: no call */
        for (size_t r = 0; r < rows; r++) memcpy(y + r * p->ldy, out + r * outs, outs * sizeof *y);
    else
        for (size_t r = 0; r < rows; r++) memcpy(y + r * p->ldy, out + r * outs, wanted * sizeof *y);
}

/* Has reals first ... last-1 of w come nearer. */
static void fetch(const real *w, size_t first, size_t last)
{
    for (size_t i = first; i < last; i += 64 / sizeof(real)) __builtin_prefetch(w + i, 0, 2);
}

/* Outputs w ... w + n_out - 1 of all rows: the weights of a tile stay in cache meanwhile, and those of the n_next outputs
 * after them come. */
static void outputs(size_t n, size_t n_out, size_t n_next, const struct linear *p, const real *x, const real *w, real *y)
{
    enum { MOST = LANES >= 8 ? 4 : 2 };
    size_t r = 0;
    const size_t next = n_next * p->in;
    for (; r + MOST <= n; r += MOST) {
        fetch(w + n_out * p->in, r * next / n, (r + MOST) * next / n);
        for (size_t o = 0; o < n_out; o += LANES / MOST)
            tile(MOST, p, x + r * p->ldx, w + o * p->in, n_out - o, y + r * p->ldy + o);
    }
    for (; r + 2 <= n; r += 2)
        for (size_t o = 0; o < n_out; o += LANES / 2)
            tile(2, p, x + r * p->ldx, w + o * p->in, n_out - o, y + r * p->ldy + o);
    for (; r < n; r++) tile(1, p, x + r * p->ldx, w, n_out, y + r * p->ldy);
}

/* Rows shorter than a vector. */
static void narrow(size_t n, size_t out, size_t in, const real *x, size_t ldx, const real *w, real *y, size_t ldy)
{
    for (size_t r = 0; r < n; r++)
        for (size_t o = 0; o < out; o++) {
            real sum = 0;
            for (size_t l = 0; l < in; l++) sum += x[r * ldx + l] * w[o * in + l];
            y[r * ldy + o] = sum;
        }
}

/* Some outputs, from the o-th on. */
static void block(size_t n, size_t out, size_t o, const struct linear *p, const real *x, const real *w, real *y)
{
    const size_t here = smaller(LANES, out - o), next = smaller(LANES, out - o - here);
    outputs(n, here, next, p, x, w + o * p->in, y + o);
}

void linear_steady(size_t n, size_t out, size_t in, const real *x, size_t ldx, const real *w, real *y, size_t ldy)
{
    /* multiplications that pay for a team: on idle cores two threads then write one sequence 1.4 times as fast (M1) */
    const double worth = 1 << 17;
    const bool team = (double)n * (double)out * (double)in > worth && team_free();
    struct linear p = {in, ldx, ldy, {0}};
    if (in < LANES) {
        narrow(n, out, in, x, ldx, w, y, ldy);
        return;
    }
    for (size_t i = 0; i < LANES; i++) p.last[i] = i < LANES - in % LANES ? 0 : -1;
    if (!team) { /* even a team of one has its price */
        for (size_t o = 0; o < out; o += LANES) block(n, out, o, &p, x, w, y);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t o = 0; o < out; o += LANES) block(n, out, o, &p, x, w, y);
}
