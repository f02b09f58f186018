/* The innermost loop of backward induction, compiled for several instruction sets and chosen at load time.
 *
 * out[l] = sum over entries e of probability[e] * value[place(column[e]) * stride + l]   for l < width
 *
 * Lanes are independent and each sums its entries in order, and no product is fused with a sum (-ffp-contract=off):
 * every instruction set gives the same bits. `slot`, where not NULL, says where the values of a state are kept.
 */
#ifndef SELFREG_ROWS_H
#define SELFREG_ROWS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11 \
    && !defined(__SANITIZE_ADDRESS__)
#define SELFREG_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SELFREG_CLONES
#endif
#if defined(__GNUC__)
#define SELFREG_INLINE static inline __attribute__((always_inline)) /* compiled for what calls it */
#else
#define SELFREG_INLINE static inline
#endif

#if defined(__GNUC__)
/* Four lanes; wider types come out slower with gcc, which then keeps sums in memory. */
enum { SELFREG_WIDE = 4 };
typedef double selfreg_wide __attribute__((vector_size(32), aligned(8), may_alias));
typedef int64_t selfreg_mask __attribute__((vector_size(32)));
#define SELFREG_SELECT(wins, a, b) \
    ((selfreg_wide)(((selfreg_mask)(a) & (selfreg_mask)(wins)) | ((selfreg_mask)(b) & ~(selfreg_mask)(wins))))
#endif

#define SELFREG_BLOCK(TYPE, LANES)                                                                     \
    for (; l + (LANES) <= width; l += (LANES)) {                                                       \
        TYPE sum[LANES] = {0};                                                                         \
        for (int64_t e = 0; e < entries; e++) {                                                        \
            const TYPE *v = value + (int64_t)(slot ? slot[column[e]] : column[e]) * stride + l;        \
            const TYPE p = (TYPE)probability[e];                                                       \
            for (int i = 0; i < (LANES); i++) sum[i] += p * v[i];                                      \
        }                                                                                              \
        for (int i = 0; i < (LANES); i++) out[l + i] = sum[i];                                         \
    }

#define SELFREG_EXPECT(NAME, TYPE)                                                                     \
    SELFREG_INLINE void NAME##_here(TYPE *out, const TYPE *value, const int32_t *column,               \
                                    const double *probability, int64_t entries, int64_t stride,        \
                                    int64_t width, const int32_t *slot) {                              \
        int64_t l = 0;                                                                                 \
        SELFREG_BLOCK(TYPE, 16)                                                                        \
        SELFREG_BLOCK(TYPE, 8)                                                                         \
        SELFREG_BLOCK(TYPE, 4)                                                                         \
        SELFREG_BLOCK(TYPE, 1)                                                                         \
    }                                                                                                  \
    SELFREG_CLONES static inline void NAME(TYPE *out, const TYPE *value, const int32_t *column,        \
                                           const double *probability, int64_t entries, int64_t stride, \
                                           int64_t width, const int32_t *slot) {                       \
        NAME##_here(out, value, column, probability, entries, stride, width, slot);                    \
    }

SELFREG_EXPECT(selfreg_expect_double, double)
SELFREG_EXPECT(selfreg_expect_float, float)

/* Dot product in eight interleaved sums: the same bits for every instruction set. */
SELFREG_CLONES static inline double selfreg_dot(const double *a, const double *b, int64_t n) {
    double sum[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) sum[k] += a[i + k] * b[i + k];
    double total = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    for (; i < n; i++) total += a[i] * b[i];
    return total;
}

#endif
