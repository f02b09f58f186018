/* The innermost loops of backward induction, compiled for several instruction sets and chosen at load time. They compute
 *
 *     sum over entries e of probability[e] * value[slot[column[e]] * stride + l]
 *
 * Lanes are independent and each sums its entries in order, and no product is fused with a sum (-ffp-contract=off):
 * every instruction set gives the same bits. `slot`, if not NULL, is the row of the values of each state.
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

/* name_kind, for files that are included once for each kind. */
#define SELFREG_NAMED_(name, kind) name##_##kind
#define SELFREG_NAMED(name, kind) SELFREG_NAMED_(name, kind)

#if defined(__GNUC__)
/* Four lanes; with wider types gcc spills sums to memory, which is slower. */
enum { SELFREG_WIDE = 4 };
typedef double selfreg_wide __attribute__((vector_size(32), aligned(8), may_alias));
typedef int64_t selfreg_mask __attribute__((vector_size(32)));
#define SELFREG_SELECT(wins, a, b) \
    ((selfreg_wide)(((selfreg_mask)(a) & (selfreg_mask)(wins)) | ((selfreg_mask)(b) & ~(selfreg_mask)(wins))))
#endif

/* COUNT sums from lane l on, each of LANES lanes: `total`. */
#define SELFREG_TOTAL(TYPE, VECTOR, LANES, COUNT)                                                      \
    VECTOR total[COUNT];                                                                               \
    for (int i = 0; i < (COUNT); i++) total[i] = (VECTOR){0};                                          \
    for (int64_t e = 0; e < entries; e++) {                                                            \
        const TYPE *v = value + (int64_t)(slot ? slot[column[e]] : column[e]) * stride + l;            \
        const TYPE p = (TYPE)probability[e];                                                           \
        for (int i = 0; i < (COUNT); i++) total[i] += p * *(const VECTOR *)(v + i * (LANES));          \
    }

#define SELFREG_EXPECT_BLOCK(TYPE, VECTOR, LANES, COUNT)                                               \
    for (; l + (COUNT) * (LANES) <= width; l += (COUNT) * (LANES)) {                                   \
        SELFREG_TOTAL(TYPE, VECTOR, LANES, COUNT)                                                      \
        for (int i = 0; i < (COUNT); i++) *(VECTOR *)(out + l + i * (LANES)) = total[i];               \
    }

#define SELFREG_IMPROVE_BLOCK(TYPE, LANES, COUNT)                                                      \
    for (; l + (COUNT) * (LANES) <= width; l += (COUNT) * (LANES)) {                                   \
        SELFREG_TOTAL(TYPE, selfreg_##TYPE, LANES, COUNT)                                              \
        for (int i = 0; i < (COUNT); i++) {                                                            \
            selfreg_##TYPE *best = (selfreg_##TYPE *)(out + l + i * (LANES));                          \
            const selfreg_##TYPE##_mask better = total[i] > *best;                                     \
            *best = (selfreg_##TYPE)((better & (selfreg_##TYPE##_mask)total[i]) |                      \
                                     (~better & (selfreg_##TYPE##_mask)*best));                        \
            if (choice) {                                                                              \
                selfreg_##TYPE##_bytes *chosen = (selfreg_##TYPE##_bytes *)(choice + l + i * (LANES)); \
                const selfreg_##TYPE##_bytes here =                                                    \
                    __builtin_convertvector(better, selfreg_##TYPE##_bytes);                           \
                *chosen = (here & action) | (~here & *chosen);                                         \
            }                                                                                          \
        }                                                                                              \
    }

/* 64 bytes: one register where there are such, else several. */
#if defined(__GNUC__)
typedef double selfreg_double __attribute__((vector_size(64), aligned(8), may_alias));
typedef float selfreg_float __attribute__((vector_size(64), aligned(4), may_alias));
typedef int64_t selfreg_double_mask __attribute__((vector_size(64)));
typedef int32_t selfreg_float_mask __attribute__((vector_size(64)));
typedef int8_t selfreg_double_bytes __attribute__((vector_size(8), aligned(1), may_alias));
typedef int8_t selfreg_float_bytes __attribute__((vector_size(16), aligned(1), may_alias));
#define SELFREG_VECTORS(BLOCK, ...) BLOCK(__VA_ARGS__)
#define SELFREG_HAS_VECTORS 1
#else
#define SELFREG_HAS_VECTORS 0
#define SELFREG_VECTORS(BLOCK, ...)
#endif

#define SELFREG_ROWS(TYPE, LANES)                                                                      \
    /* out[l] = sum for l < width */                                                                   \
    SELFREG_INLINE void selfreg_expect_##TYPE##_here(                                                  \
        TYPE *out, const TYPE *value, const int32_t *column, const double *probability,                \
        int64_t entries, int64_t stride, int64_t width, const int32_t *slot) {                         \
        int64_t l = 0;                                                                                 \
        SELFREG_VECTORS(SELFREG_EXPECT_BLOCK, TYPE, selfreg_##TYPE, LANES, 8)                          \
        SELFREG_VECTORS(SELFREG_EXPECT_BLOCK, TYPE, selfreg_##TYPE, LANES, 4)                          \
        SELFREG_VECTORS(SELFREG_EXPECT_BLOCK, TYPE, selfreg_##TYPE, LANES, 2)                          \
        SELFREG_VECTORS(SELFREG_EXPECT_BLOCK, TYPE, selfreg_##TYPE, LANES, 1)                          \
        SELFREG_EXPECT_BLOCK(TYPE, TYPE, 1, 4)                                                         \
        SELFREG_EXPECT_BLOCK(TYPE, TYPE, 1, 1)                                                         \
    }                                                                                                  \
    SELFREG_CLONES static inline void selfreg_expect_##TYPE(                                           \
        TYPE *out, const TYPE *value, const int32_t *column, const double *probability,                \
        int64_t entries, int64_t stride, int64_t width, const int32_t *slot) {                         \
        selfreg_expect_##TYPE##_here(out, value, column, probability, entries, stride, width, slot);   \
    }                                                                                                  \
    /* Where the sum beats out[l], out[l] takes it and choice[l] (may be NULL) takes `action`. */      \
    SELFREG_CLONES static inline void selfreg_improve_##TYPE(                                          \
        TYPE *out, int8_t *choice, int8_t action, const TYPE *value, const int32_t *column,            \
        const double *probability, int64_t entries, int64_t stride, int64_t width,                     \
        const int32_t *slot) {                                                                         \
        int64_t l = 0;                                                                                 \
        SELFREG_VECTORS(SELFREG_IMPROVE_BLOCK, TYPE, LANES, 4)                                         \
        SELFREG_VECTORS(SELFREG_IMPROVE_BLOCK, TYPE, LANES, 2)                                         \
        SELFREG_VECTORS(SELFREG_IMPROVE_BLOCK, TYPE, LANES, 1)                                         \
        for (; l < width; l++) {                                                                       \
            SELFREG_TOTAL(TYPE, TYPE, 1, 1)                                                            \
            if (total[0] > out[l]) {                                                                   \
                out[l] = total[0];                                                                     \
                if (choice) choice[l] = action;                                                        \
            }                                                                                          \
        }                                                                                              \
    }

SELFREG_ROWS(double, 8)
SELFREG_ROWS(float, 16)

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
