/* Private to the room blas: test products; products by oneDNN, on the calling thread alone. */
#ifndef UNLEARN_BLAS_PRIV_H
#define UNLEARN_BLAS_PRIV_H
#include "unlearn/blas.h"

/** Whether products of the kind that is set agree with plain loops, at sizes with remainders of every kind. */
bool products_agree(void);
/** One product of n x n x n, with the threads set. */
void math_gemm_once(size_t n);

/** C = alpha op(A) op(B) + beta C as gemm() has it. false: it could not be done, and C is as it was. Dimensions fit in int. */
bool onednn_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda, const real *b,
                 size_t ldb, real beta, real *c, size_t ldc);
/** C = op(A) op(B), added to C or in its place; A and B of bfloat16; A without gaps, [m][k] or, where ta, [k][m]; C of floats. */
bool onednn_bfloat16(bool ta, bool tb, size_t m, size_t n, size_t k, const uint16_t *a, const uint16_t *b, size_t ldb,
                     bool add, real *c, size_t ldc);
/** NULL, or why oneDNN cannot multiply in this program: a clause. Of its own accord it looks at no product. */
const char *onednn_lack(void);

/** As gemm(), A and B rounded to bfloat16 unless B is held so, on the calling thread; beta 0 or 1. Where C is held so, its
 *  sums of up to 2,048 products are rounded once. */
void bfloat16_gemm(bool ta, bool tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda, struct matrix b,
                   size_t ldb, real beta, struct matrix c, size_t ldc);
/** Room for that on every thread of the largest team. ERR_MEMORY */
enum status bfloat16_room(void);
#endif
