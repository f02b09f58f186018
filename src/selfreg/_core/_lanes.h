/* Gauss-Seidel sweeps over a component with all points of the budget lattice side by side in vector lanes.
 *
 *     x[g, l] <- max(0, max over rows r of g of  base[r] + charge[a, l] + sum_e probability[e] x[column[e], l - shift[a]])
 *
 * with a = action[r]; charge is -inf where an action is not affordable, and in lanes that only fill up a vector. On the way
 * it sums what the caller's correction by lane needs: what the changes of this sweep will change in groups that were
 * swept before (later[g]: the mass that these take from g), and the mass that best rows (where they are worth
 * more than 0) do not keep in their lane, or take from the lane below.
 */
#ifndef SELFREG_LANES_H
#define SELFREG_LANES_H

#include "_rows.h"

typedef struct {
    int64_t stride;               /* lanes, a multiple of SELFREG_WIDTH */
    const int64_t *group_rows;    /* (groups + 1,) into rows */
    const int64_t *entries;       /* (rows + 1,) into column, probability */
    const int32_t *column;        /* row of x */
    const double *probability;
    const double *base;           /* (rows,) */
    const double *inner;          /* (rows,) mass that stays in the component */
    const int32_t *action;        /* (rows,) */
    const int64_t *shift;         /* (actions,) */
    const double *charge;         /* (actions, stride) */
    const double *later;          /* (groups,) */
    uint8_t *skip;                /* (rows,) rows that are left out */
    double *largest, *residual, *leaving, *below; /* (stride,) added to */
} selfreg_lanes;

#define SELFREG_WIDTH 8
#if defined(__GNUC__)
#define SELFREG_STEP SELFREG_WIDTH
typedef selfreg_double selfreg_vector;
typedef int64_t selfreg_lane_mask __attribute__((vector_size(8 * SELFREG_STEP)));
#define SELFREG_IF(mask, a, b) ((selfreg_vector)(((mask) & (selfreg_lane_mask)(a)) | (~(mask) & (selfreg_lane_mask)(b))))
#define SELFREG_LANE(mask, i) ((mask)[i])
#define SELFREG_ROW(mask, row, other) (((mask) & (row)) | (~(mask) & (other)))
#define SELFREG_UNROLL _Pragma("GCC unroll 4")
#else
#define SELFREG_STEP 1
typedef double selfreg_vector;
typedef int64_t selfreg_lane_mask;
#define SELFREG_IF(mask, a, b) ((mask) ? (a) : (b))
#define SELFREG_LANE(mask, i) (mask)
#define SELFREG_ROW(mask, row, other) ((mask) ? (row) : (other))
#define SELFREG_UNROLL
#endif
#define SELFREG_AT(p) (*(selfreg_vector *)(p))
#define SELFREG_GIVEN(p) (*(const selfreg_vector *)(p))
#define SELFREG_EACH SELFREG_UNROLL for (int i = 0; i < COUNT; i++)

/* COUNT vectors of lanes of group g from lane l on. Rows farther than `margin` under the best at all of them are marked. */
#define SELFREG_SWEEP_LANES(COUNT_)                                                                                \
    for (; l + (COUNT_) * SELFREG_STEP <= stride; l += (COUNT_) * SELFREG_STEP) {                                  \
        enum { COUNT = (COUNT_) };                                                                                 \
        selfreg_vector out[COUNT], keeps[COUNT], passes[COUNT], total[COUNT];                                      \
        selfreg_lane_mask chosen[COUNT];                                                                                \
        SELFREG_EACH out[i] = keeps[i] = passes[i] = zero, chosen[i] = none;                                       \
        for (int64_t r = m->group_rows[g]; r < m->group_rows[g + 1]; r++) {                                        \
            if (m->skip[r] & 1) continue;                                                                          \
            const int32_t a = m->action[r];                                                                        \
            const int64_t shift = m->shift[a];                                                                     \
            SELFREG_EACH total[i] = SELFREG_GIVEN(m->charge + a * stride + l + SELFREG_STEP * i) + m->base[r];     \
            for (int64_t e = m->entries[r]; e < m->entries[r + 1]; e++) {                                          \
                const double *v = x + l - shift + (int64_t)m->column[e] * stride, p = m->probability[e];           \
                SELFREG_EACH total[i] += p * SELFREG_GIVEN(v + SELFREG_STEP * i);                                  \
            }                                                                                                      \
            const selfreg_vector keep = zero + (shift ? 0.0 : m->inner[r]), pass = zero + (shift ? m->inner[r] : 0.0); \
            selfreg_lane_mask near = {0};                                                                               \
            SELFREG_EACH {                                                                                         \
                const selfreg_lane_mask better = total[i] > out[i];                                                     \
                near |= total[i] > out[i] - margin;                                                                \
                keeps[i] = SELFREG_IF(better, keep, keeps[i]);                                                     \
                passes[i] = SELFREG_IF(better, pass, passes[i]);                                                   \
                out[i] = SELFREG_IF(better, total[i], out[i]);                                                     \
                chosen[i] = SELFREG_ROW(better, r, chosen[i]);                                                     \
            }                                                                                                      \
            if (look) {                                                                                            \
                int64_t any = 0;                                                                                   \
                for (int i = 0; i < SELFREG_STEP; i++) any |= SELFREG_LANE(near, i);                                \
                if (any) m->skip[r] = 2;                                                                           \
            }                                                                                                      \
        }                                                                                                          \
        SELFREG_EACH {                                                                                             \
            const int64_t at = l + SELFREG_STEP * i;                                                               \
            const selfreg_vector change = out[i] - SELFREG_AT(x + g * stride + at);                                \
            const selfreg_vector size = SELFREG_IF(change < zero, -change, change);                                \
            const selfreg_vector most = SELFREG_AT(m->largest + at);                                               \
            SELFREG_AT(m->largest + at) = SELFREG_IF(size > most, size, most);                                     \
            SELFREG_AT(m->residual + at) += m->later[g] * change;                                                  \
            SELFREG_AT(m->leaving + at) += SELFREG_IF(out[i] > zero, 1.0 - keeps[i], zero);                        \
            SELFREG_AT(m->below + at) += passes[i];                                                                \
            SELFREG_AT(x + g * stride + at) = out[i];                                                              \
            if (best)                                                                                              \
                for (int k = 0; k < SELFREG_STEP; k++)                                                             \
                    best[g * stride + at + k] = (int32_t)SELFREG_LANE(chosen[i], k);                                \
        }                                                                                                          \
    }

/* Sweep groups first..last - 1. With `look`, rows farther than `margin` under the best at every lane are left out from now
 * on (skip = 1; 2 marks a row that is not). `best` (groups, stride), where not NULL, takes best rows, -1 where all are
 * worth 0. */
SELFREG_CLONES static inline void selfreg_sweep_lanes(const selfreg_lanes *m, int64_t first, int64_t last, double *x,
                                                      int look, double margin, int32_t *best) {
    const int64_t stride = m->stride;
    const selfreg_vector zero = {0};
    const selfreg_lane_mask none = (selfreg_lane_mask){0} - 1;
    for (int64_t g = first; g < last; g++) {
        int64_t l = 0;
        SELFREG_SWEEP_LANES(3)
        SELFREG_SWEEP_LANES(2)
        SELFREG_SWEEP_LANES(1)
        if (look)
            for (int64_t r = m->group_rows[g]; r < m->group_rows[g + 1]; r++) m->skip[r] = m->skip[r] != 2;
    }
}

/* x[g, l] += by[l], but 0 stays 0: what never succeeds is worth exactly that. */
SELFREG_CLONES static inline void selfreg_shift_lanes(double *restrict x, int64_t n_groups, int64_t stride,
                                                      const double *restrict by) {
    for (int64_t g = 0; g < n_groups; g++)
        for (int64_t l = 0; l < stride; l++) x[g * stride + l] += x[g * stride + l] != 0.0 ? by[l] : 0.0;
}

#endif
