/* The backup of one state at every budget, all actions in one go over the budget lanes:
 *
 *     out[l] = max over affordable a of  sum over entries e of probability[e] * value[slot[column[e]] * width + l - offset[a]]
 *
 * Action 0 is affordable everywhere, another one from lane `start` on (`runs`). From lane `head` on all are affordable and
 * lanes are computed in vectors. If only action 0 is affordable below `head` (`alone`), a single first lane is summed along
 * with the first vectors. The last vector may overlap the one before it and writes the same values again. Sums have the
 * same bits as those of `_rows.h`, and the first action wins ties.
 */
#ifndef SELFREG_BACKUP_H
#define SELFREG_BACKUP_H

#include "_rows.h"

#if defined(__GNUC__)
/* Half of the lanes, for short lattices. */
typedef double selfreg_double_half __attribute__((vector_size(32), aligned(8), may_alias));
typedef float selfreg_float_half __attribute__((vector_size(32), aligned(4), may_alias));
typedef int64_t selfreg_double_half_mask __attribute__((vector_size(32)));
typedef int32_t selfreg_float_half_mask __attribute__((vector_size(32)));
typedef int8_t selfreg_double_half_bytes __attribute__((vector_size(4), aligned(1), may_alias));
typedef int8_t selfreg_float_half_bytes __attribute__((vector_size(8), aligned(1), may_alias));
#endif

/* The entries of action a in state s, for SELFREG_TOTAL. */
#define SELFREG_ROW(TYPE, A)                                               \
    const int64_t a = (A), first = rows[a][s], entries = rows[a][s + 1] - first; \
    const int32_t *column = columns[a] + first;                            \
    const double *probability = probabilities[a] + first;                  \
    const TYPE *value = values - offset[a];

#define SELFREG_BACKUP_BLOCK(TYPE, VECTOR, LANES, COUNT)                                                    \
    for (; l + (COUNT) * (LANES) <= stride; l += (COUNT) * (LANES)) {                                       \
        VECTOR best[COUNT];                                                                                 \
        VECTOR##_mask chosen[COUNT];                                                                        \
        if (l == lead) {                                                                                    \
            SELFREG_ROW(TYPE, 0)                                                                            \
            TYPE before = 0;                                                                                \
            for (int i = 0; i < (COUNT); i++) best[i] = (VECTOR){0}, chosen[i] = (VECTOR##_mask){0};        \
            for (int64_t e = 0; e < entries; e++) {                                                         \
                const TYPE *v = value + (int64_t)(slot ? slot[column[e]] : column[e]) * stride + l;         \
                const TYPE p = (TYPE)probability[e];                                                        \
                before += p * v[-1];                                                                        \
                for (int i = 0; i < (COUNT); i++) best[i] += p * *(const VECTOR *)(v + i * (LANES));        \
            }                                                                                               \
            out[0] = before;                                                                                \
            if (choice) choice[0] = 0;                                                                      \
        } else {                                                                                            \
            SELFREG_ROW(TYPE, 0)                                                                            \
            SELFREG_TOTAL(TYPE, VECTOR, LANES, COUNT)                                                       \
            for (int i = 0; i < (COUNT); i++) best[i] = total[i], chosen[i] = (VECTOR##_mask){0};           \
        }                                                                                                   \
        for (int64_t r = 0; r < n_runs; r++) {                                                              \
            SELFREG_ROW(TYPE, runs[3 * r])                                                                  \
            if (!entries) continue;                                                                         \
            SELFREG_TOTAL(TYPE, VECTOR, LANES, COUNT)                                                       \
            for (int i = 0; i < (COUNT); i++) {                                                             \
                const VECTOR##_mask better = total[i] > best[i];                                            \
                best[i] = (VECTOR)((better & (VECTOR##_mask)total[i]) | (~better & (VECTOR##_mask)best[i])); \
                chosen[i] = (better & ((VECTOR##_mask){0} + (int8_t)a)) | (~better & chosen[i]);            \
            }                                                                                               \
        }                                                                                                   \
        for (int i = 0; i < (COUNT); i++) {                                                                 \
            *(VECTOR *)(out + l + i * (LANES)) = best[i];                                                   \
            if (choice)                                                                                     \
                *(VECTOR##_bytes *)(choice + l + i * (LANES)) =                                             \
                    __builtin_convertvector(chosen[i], VECTOR##_bytes);                                     \
        }                                                                                                   \
    }

#define SELFREG_BACKUP_LAST(TYPE, VECTOR, LANES)                            \
    if (l < stride && stride - head >= (LANES)) {                           \
        l = stride - (LANES);                                               \
        SELFREG_BACKUP_BLOCK(TYPE, VECTOR, LANES, 1)                        \
    }

#define SELFREG_BACKUP_LANE(TYPE)                                           \
    {                                                                       \
        TYPE best;                                                          \
        int8_t chosen = 0;                                                  \
        {                                                                   \
            SELFREG_ROW(TYPE, 0)                                            \
            SELFREG_TOTAL(TYPE, TYPE, 1, 1)                                 \
            best = total[0];                                                \
        }                                                                   \
        for (int64_t r = 0; r < n_runs; r++) {                              \
            SELFREG_ROW(TYPE, runs[3 * r])                                  \
            if (l < runs[3 * r + 1] || !entries) continue;                  \
            SELFREG_TOTAL(TYPE, TYPE, 1, 1)                                 \
            if (total[0] > best) best = total[0], chosen = (int8_t)a;       \
        }                                                                   \
        out[l] = best;                                                      \
        if (choice) choice[l] = chosen;                                     \
    }

#define SELFREG_BACKUP(TYPE, LANES)                                                                            \
    SELFREG_INLINE void selfreg_backup_##TYPE##_here(                                                          \
        TYPE *out, int8_t *choice, const TYPE *values, int64_t s, const int64_t *const *rows,                  \
        const int32_t *const *columns, const double *const *probabilities, const int64_t *offset,              \
        const int64_t *runs, int64_t n_runs, int64_t head, int alone, int64_t stride, const int32_t *slot) {              \
        int64_t l = 0;                                                                                         \
        const int64_t lead = SELFREG_HAS_VECTORS && alone && head == 1 && stride > LANES / 2 ? 1 : -1;        \
        if (lead == 1) l = 1;                                                                                  \
        for (; l < head; l++) SELFREG_BACKUP_LANE(TYPE)                                                        \
        SELFREG_VECTORS(SELFREG_BACKUP_BLOCK, TYPE, selfreg_##TYPE, LANES, 4)                                  \
        SELFREG_VECTORS(SELFREG_BACKUP_BLOCK, TYPE, selfreg_##TYPE, LANES, 2)                                  \
        SELFREG_VECTORS(SELFREG_BACKUP_BLOCK, TYPE, selfreg_##TYPE, LANES, 1)                                  \
        SELFREG_VECTORS(SELFREG_BACKUP_LAST, TYPE, selfreg_##TYPE, LANES)                                      \
        SELFREG_VECTORS(SELFREG_BACKUP_BLOCK, TYPE, selfreg_##TYPE##_half, LANES / 2, 1)                       \
        SELFREG_VECTORS(SELFREG_BACKUP_LAST, TYPE, selfreg_##TYPE##_half, LANES / 2)                           \
        for (; l < stride; l++) SELFREG_BACKUP_LANE(TYPE)                                                      \
    }                                                                                                          \
    /* `choice` and `slot` may be NULL. */                                                                     \
    SELFREG_CLONES static inline void selfreg_backup_##TYPE(                                                   \
        TYPE *out, int8_t *choice, const TYPE *values, int64_t s, const int64_t *const *rows,                  \
        const int32_t *const *columns, const double *const *probabilities, const int64_t *offset,              \
        const int64_t *runs, int64_t n_runs, int64_t head, int alone, int64_t stride, const int32_t *slot) {              \
        if (slot)                                                                                              \
            selfreg_backup_##TYPE##_here(out, choice, values, s, rows, columns, probabilities, offset, runs,   \
                                         n_runs, head, alone, stride, slot);                                          \
        else                                                                                                   \
            selfreg_backup_##TYPE##_here(out, choice, values, s, rows, columns, probabilities, offset, runs,   \
                                         n_runs, head, alone, stride, NULL);                                          \
    }

SELFREG_BACKUP(double, 8)
SELFREG_BACKUP(float, 16)

#endif
