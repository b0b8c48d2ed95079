/* Numbers as files store them. Narrow types are made from the value itself with one rounding, to nearest even; files do
 * not promise alignment, so elements go through memcpy. */
#include "unlearn/math_priv.h"

size_t storage_size(enum storage s)
{
    static const size_t size[N_STORAGE] = {[STORE_F32] = 4, [STORE_BF16] = 2, [STORE_F16] = 2, [STORE_F64] = 8};
    return size[s];
}

static inline uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* The bits of the float from which a narrower type is rounded. Rounding a double to float first would round twice, so
 * it is rounded to odd: towards zero, with the last bit set if anything was lost. Rounding that to fewer bits gives the
 * same as rounding the double itself. */
static inline uint32_t float_bits(real x)
{
    uint32_t u = bits_of((float)x);
#ifdef REAL_double
    double back = float_of(u);
    if (back != x && !isnan(x)) u = (fabs(back) > fabs(x) ? u - 1 : u) | 1;
#endif
    return u;
}

static inline uint16_t to_bf16(real x) { return to_half(float_of(float_bits(x))); }

static inline float from_bf16(uint16_t h) { return from_half(h); }

static inline uint16_t to_f16(real x)
{
    uint32_t u = float_bits(x), sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF, lost, half;
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (a >> 13 & 0x3FF)); /* NaN, made quiet */
    if (a >= 0x47800000) return (uint16_t)(sign | 0x7C00);                    /* 65536 and more */
    if (a < 0x33000000) return (uint16_t)sign;                                /* less than half of the least subnormal */
    if (a < 0x38800000) {                                                     /* subnormal: units of 2^-24 */
        uint32_t shift = 126 - (a >> 23), full = (a & 0x7FFFFF) | 0x800000;
        half = full >> shift;
        lost = full << (32 - shift);
    } else {
        half = (a - 0x38000000) >> 13;
        lost = a << 19;
    }
    half += lost > 0x80000000 || (lost == 0x80000000 && half & 1); /* may carry into the exponent, up to infinity */
    return (uint16_t)(sign | half);
}

static inline float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3FF;
    float subnormal = (float)fraction * 0x1p-24f;
    if (exponent == 0) return sign ? -subnormal : subnormal;
    if (exponent == 31) return float_of(sign | 0x7F800000 | fraction << 13);
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

/* One loop per type: `stored` is the type in the file, `decode` and `encode` say what it means. */
#define STORAGE(name, stored, decode, encode)                        \
    static void load_##name(size_t n, const void *from, real *to)    \
    {                                                                \
        for (size_t i = 0; i < n; i++) {                             \
            stored x;                                                \
            memcpy(&x, (const char *)from + i * sizeof x, sizeof x); \
            to[i] = (real)decode(x);                                 \
        }                                                            \
    }                                                                \
    static void save_##name(size_t n, const real *from, void *to)    \
    {                                                                \
        for (size_t i = 0; i < n; i++) {                             \
            stored x = (stored)encode(from[i]);                      \
            memcpy((char *)to + i * sizeof x, &x, sizeof x);         \
        }                                                            \
    }
STORAGE(f32, float, , )
STORAGE(f64, double, , )
STORAGE(bf16, uint16_t, from_bf16, to_bf16)
STORAGE(f16, uint16_t, from_f16, to_f16)

static const struct {
    void (*load)(size_t n, const void *from, real *to);
    void (*save)(size_t n, const real *from, void *to);
} table[N_STORAGE] = {
    [STORE_F32] = {load_f32, save_f32},
    [STORE_BF16] = {load_bf16, save_bf16},
    [STORE_F16] = {load_f16, save_f16},
    [STORE_F64] = {load_f64, save_f64},
};

void storage_load(enum storage s, size_t n, const void *from, real *to) { table[s].load(n, from, to); }

void storage_save(enum storage s, size_t n, const real *from, void *to) { table[s].save(n, from, to); }
