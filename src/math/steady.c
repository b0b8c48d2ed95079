/* The linear layer y = x W^T for few rows, or for rows whose results must not depend on each other: every element is a
 * dot product, summed in the same order for any number of rows and threads. W is read in place: BLAS would first copy
 * all of it, which costs as much as a product of ten rows.
 * A tile of LANES elements of y, some rows times some outputs, accumulates one vector per element along the inner
 * dimension; fold() then adds the lanes of each vector by halves: lane i with i + LANES/2, and so on.
 * W is of reals or held in bfloat16; block() has each of the two compiled for itself. */
#include "lanes.h"

#define INLINE static inline __attribute__((always_inline))

typedef uint16_t half_lanes __attribute__((vector_size(LANES * sizeof(uint16_t)), aligned(sizeof(uint16_t)), may_alias));
typedef uint32_t wide_lanes __attribute__((vector_size(LANES * sizeof(uint32_t))));
typedef float float_lanes __attribute__((vector_size(LANES * sizeof(float))));

/* Elements l ... of a row of W. */
INLINE lanes weights(struct matrix row, size_t l)
{
    if (row.full) return *(const lanes *)(row.full + l);
    const wide_lanes u = __builtin_convertvector(*(const half_lanes *)(row.half + l), wide_lanes) << 16;
    return __builtin_convertvector((float_lanes)u, lanes);
}

struct linear {
    size_t in, ldx, ldy;
    lane_mask last; /* selects those of a row's last LANES elements that no whole vector covers */
};

/* sum[r][o] += x[r] . row[o] over whole vectors and the remainder; row [outs] are rows of W. */
INLINE void dots(size_t rows, size_t outs, const struct linear *p, const real *x, const struct matrix *row, lanes *sum)
{
    const size_t in = p->in, whole = in / LANES * LANES;
    lanes a[LANES];
    for (size_t l = 0; l < whole; l += LANES) {
        for (size_t r = 0; r < rows; r++) a[r] = load(x + r * p->ldx + l);
        for (size_t o = 0; o < outs; o++) {
            const lanes b = kept(weights(row[o], l));
            for (size_t r = 0; r < rows; r++) sum[r * outs + o] += a[r] * b;
        }
    }
    if (whole == in) return;
    for (size_t r = 0; r < rows; r++)
        a[r] = (lanes)((lane_mask) * (const lanes *)(x + r * p->ldx + in - LANES) & p->last);
    for (size_t o = 0; o < outs; o++) {
        const lanes b = weights(row[o], in - LANES);
        for (size_t r = 0; r < rows; r++) sum[r * outs + o] += a[r] * b;
    }
}

/* The same for one row and one output, by vectors of 32 bytes: so W is read at the full rate of the memory (measured:
 * twice the rate of several outputs in turn, and a quarter more than with vectors of 64 bytes). */
enum { PARTS = LANE_BYTES / 32, PART = LANES / PARTS };
typedef real part __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));
INLINE lanes dot(const struct linear *p, const real *x, const real *w)
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

INLINE lanes dot_half(const struct linear *p, const real *x, struct matrix w)
{
    const size_t in = p->in, whole = in / LANES * LANES;
    lanes sum = {0};
    for (size_t l = 0; l < whole; l += LANES) sum += *(const lanes *)(x + l) * weights(w, l);
    if (whole < in) sum += (lanes)((lane_mask) * (const lanes *)(x + in - LANES) & p->last) * weights(w, in - LANES);
    return sum;
}

/* Computes y [rows][outs] of one tile; only the first `wanted` outputs exist, the spare sums read the last one again.
 * rows is a constant wherever this is inlined, so that `sum` stays in registers. */
INLINE void tile(size_t rows, const struct linear *p, const real *x, struct matrix w, size_t wanted, real *y)
{
    const size_t outs = LANES / rows;
    struct matrix row[LANES];
    lanes sum[LANES];
    real out[LANES];
    for (size_t o = 0; o < outs; o++) row[o] = matrix_at(w, smaller(o, wanted - 1) * p->in);
    for (size_t i = 0; i < LANES; i++) sum[i] = (lanes){0};
    if (rows == 1)
        for (size_t o = 0; o < outs; o++) sum[o] = w.full ? dot(p, x, row[o].full) : dot_half(p, x, row[o]);
    else
        dots(rows, outs, p, x, row, sum);
    fold(sum);
    memcpy(out, sum, sizeof out);
    if (wanted >= outs) /* the compiler knows the length, so memcpy needs no call */
        for (size_t r = 0; r < rows; r++) memcpy(y + r * p->ldy, out + r * outs, outs * sizeof *y);
    else
        for (size_t r = 0; r < rows; r++) memcpy(y + r * p->ldy, out + r * outs, wanted * sizeof *y);
}

/* Prefetches elements first ... last-1 of w into the cache. */
INLINE void fetch(struct matrix w, size_t first, size_t last)
{
    for (size_t i = first; i < last && w.full; i += 64 / sizeof(real)) __builtin_prefetch(w.full + i, 0, 2);
    for (size_t i = first; i < last && w.half; i += 64 / sizeof(uint16_t)) __builtin_prefetch(w.half + i, 0, 2);
}

/* n_out outputs of all rows, w their first row of W: these weights stay in cache meanwhile, and those of the next
 * n_next outputs are prefetched. */
INLINE void outputs(size_t n, size_t n_out, size_t n_next, const struct linear *p, const real *x, struct matrix w,
                    real *y)
{
    enum { MOST = LANES >= 8 ? 4 : 2 };
    size_t r = 0;
    const size_t next = n_next * p->in;
    for (; r + MOST <= n; r += MOST) {
        fetch(matrix_at(w, n_out * p->in), r * next / n, (r + MOST) * next / n);
        for (size_t o = 0; o < n_out; o += LANES / MOST)
            tile(MOST, p, x + r * p->ldx, matrix_at(w, o * p->in), n_out - o, y + r * p->ldy + o);
    }
    for (; r + 2 <= n; r += 2)
        for (size_t o = 0; o < n_out; o += LANES / 2)
            tile(2, p, x + r * p->ldx, matrix_at(w, o * p->in), n_out - o, y + r * p->ldy + o);
    for (; r < n; r++) tile(1, p, x + r * p->ldx, w, n_out, y + r * p->ldy);
}

/* For inner dimensions shorter than a vector. */
static void narrow(size_t n, size_t out, size_t in, const real *x, size_t ldx, struct matrix w, real *y, size_t ldy)
{
    for (size_t r = 0; r < n; r++)
        for (size_t o = 0; o < out; o++) {
            real sum = 0;
            for (size_t l = 0; l < in; l++)
                sum += x[r * ldx + l] * (w.full ? w.full[o * in + l] : (real)from_half(w.half[o * in + l]));
            y[r * ldy + o] = sum;
        }
}

/* Up to LANES outputs of all rows, from output o on. */
static void block(size_t n, size_t out, size_t o, const struct linear *p, const real *x, struct matrix w, real *y)
{
    const size_t here = smaller(LANES, out - o), next = smaller(LANES, out - o - here), at = o * p->in;
    if (w.full)
        outputs(n, here, next, p, x, (struct matrix){w.full + at, NULL}, y + o);
    else
        outputs(n, here, next, p, x, (struct matrix){NULL, w.half + at}, y + o);
}

void linear_steady(size_t n, size_t out, size_t in, const real *x, size_t ldx, struct matrix w, real *y, size_t ldy)
{
    /* multiplications that pay for a team: on idle cores two threads generate a sequence 1.4 times as fast (M1) */
    const double worth = 1 << 17;
    const bool team = (double)n * (double)out * (double)in > worth && team_free();
    struct linear p = {in, ldx, ldy, {0}};
    if (in < LANES) {
        narrow(n, out, in, x, ldx, w, y, ldy);
        return;
    }
    for (size_t i = 0; i < LANES; i++) p.last[i] = i < LANES - in % LANES ? 0 : -1;
    if (!team) { /* even a parallel region of one thread costs time */
        for (size_t o = 0; o < out; o += LANES) block(n, out, o, &p, x, w, y);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t o = 0; o < out; o += LANES) block(n, out, o, &p, x, w, y);
}
