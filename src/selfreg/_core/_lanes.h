/* Gauss-Seidel sweeps over a component with the points of the budget lattice side by side in vector lanes:
 *
 *     x[g, l] <- max(0, max over rows r of g of  base[r] + charge[a, l] + sum_e probability[e] x[column[e], l - shift[a]])
 *
 * for lanes from..to - 1, with a = action[r]. `charge` is -inf where an action is not affordable and in lanes that pad a
 * vector. The sweep also sums what the caller's correction per lane needs: the effect of its changes on groups that
 * were swept earlier (later[g]: the mass that these groups take from g) and, in sweeps with masses, the mass that best
 * rows (of value above 0) move out of their lane, or take from the lane below.
 */
#ifndef SELFREG_LANES_H
#define SELFREG_LANES_H

#include "_rows.h"

typedef struct {
    int64_t stride;               /* of the rows of x and of other arrays with lanes */
    int64_t from, to;             /* to - from a multiple of SELFREG_WIDTH, or 1 */
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
    uint8_t *skip;                /* (rows,) rows that are pruned */
    double *largest, *residual, *leaving, *below; /* (stride,) added to */
    double *correction;           /* (stride,) of the caller */
} selfreg_lattice_sweep;

/* A kind of lanes: V for vectors, S for one at a time. Sums have the same bits. */
#define SELFREG_WIDTH 8
#define SELFREG_STEP_S 1
typedef double selfreg_vector_S;
typedef int64_t selfreg_mask_S;
#define SELFREG_IF_S(mask, a, b) ((mask) ? (a) : (b))
#define SELFREG_ANY_S(mask) (mask)
typedef int32_t selfreg_rows_S;
#define SELFREG_ROWS_OF_S(chosen) ((int32_t)(chosen))
#if defined(__GNUC__)
#define SELFREG_STEP_V SELFREG_WIDTH
typedef selfreg_double selfreg_vector_V;
typedef selfreg_double_mask selfreg_mask_V;
typedef int64_t selfreg_any_V __attribute__((vector_size(64), aligned(8), may_alias));
#define SELFREG_IF_V(mask, a, b) \
    ((selfreg_vector_V)(((mask) & (selfreg_mask_V)(a)) | (~(mask) & (selfreg_mask_V)(b))))
SELFREG_INLINE int64_t selfreg_any(selfreg_mask_V mask) {
    int64_t lane[SELFREG_WIDTH], any = 0;
    *(selfreg_any_V *)lane = mask;
    for (int k = 0; k < SELFREG_WIDTH; k++) any |= lane[k];
    return any;
}
#define SELFREG_ANY_V(mask) selfreg_any(mask)
typedef int32_t selfreg_rows_V __attribute__((vector_size(32), aligned(4), may_alias));
#define SELFREG_ROWS_OF_V(chosen) __builtin_convertvector(chosen, selfreg_rows_V)
#define SELFREG_UNROLL _Pragma("GCC unroll 4")
#else
#define SELFREG_UNROLL
#endif
#define SELFREG_EACH SELFREG_UNROLL for (int i = 0; i < COUNT; i++)

/* COUNT vectors of lanes from lane l on, group by group. A row within `margin` of the best
 * in one of them is marked (2). */
#define SELFREG_SWEEP_LANES(KIND, COUNT_)                                                                          \
    for (; l + (COUNT_) * SELFREG_STEP_##KIND <= m->to; l += (COUNT_) * SELFREG_STEP_##KIND) {                     \
        enum { COUNT = (COUNT_), STEP = SELFREG_STEP_##KIND };                                                     \
        typedef selfreg_vector_##KIND vector;                                                                      \
        typedef selfreg_mask_##KIND mask;                                                                          \
        const vector zero = {0};                                                                                   \
        vector largest[COUNT], residual[COUNT], leaving[COUNT], below[COUNT];                                      \
        SELFREG_EACH largest[i] = residual[i] = leaving[i] = below[i] = zero;                                      \
        for (int64_t g = first; g < last; g++) {                                                                   \
            vector out[COUNT], keeps[COUNT], passes[COUNT], total[COUNT];                                          \
            mask chosen[COUNT];                                                                                    \
            SELFREG_EACH out[i] = keeps[i] = passes[i] = zero, chosen[i] = (mask){0} - 1;                          \
            for (int64_t r = group_rows[g]; r < group_rows[g + 1]; r++) {                                          \
                if (skip[r] & 1) continue;                                                                         \
                const int32_t a = m->action[r];                                                                    \
                const int64_t shift = m->shift[a];                                                                 \
                SELFREG_EACH total[i] = *(const vector *)(m->charge + a * stride + l + STEP * i) + m->base[r];     \
                for (int64_t e = entries[r]; e < entries[r + 1]; e++) {                                            \
                    const double *v = x + l - shift + (int64_t)column[e] * stride, p = probability[e];             \
                    SELFREG_EACH total[i] += p * *(const vector *)(v + STEP * i);                                  \
                }                                                                                                  \
                if (masses) {                                                                                      \
                    const vector keep = zero + (shift ? 0.0 : m->inner[r]), pass = zero + (shift ? m->inner[r] : 0.0); \
                    mask near = {0};                                                                               \
                    SELFREG_EACH {                                                                                 \
                        const mask better = total[i] > out[i];                                                     \
                        if (prune) near |= total[i] > out[i] - margin;                                             \
                        keeps[i] = SELFREG_IF_##KIND(better, keep, keeps[i]);                                      \
                        passes[i] = SELFREG_IF_##KIND(better, pass, passes[i]);                                    \
                        chosen[i] = (mask)SELFREG_IF_##KIND(better, (mask){0} + r, chosen[i]);                     \
                    }                                                                                              \
                    if (prune && SELFREG_ANY_##KIND(near)) skip[r] = 2;                                            \
                }                                                                                                  \
                SELFREG_EACH out[i] = SELFREG_IF_##KIND(total[i] > out[i], total[i], out[i]);                      \
            }                                                                                                      \
            SELFREG_EACH {                                                                                         \
                const int64_t at = g * stride + l + STEP * i;                                                      \
                vector *now = (vector *)(x + at);                                                                  \
                const vector change = out[i] - *now, size = SELFREG_IF_##KIND(change < zero, -change, change);     \
                largest[i] = SELFREG_IF_##KIND(size > largest[i], size, largest[i]);                               \
                residual[i] += m->later[g] * change;                                                               \
                *now = out[i];                                                                                     \
                if (masses) {                                                                                      \
                    leaving[i] += SELFREG_IF_##KIND(out[i] > zero, 1.0 - keeps[i], zero);                          \
                    below[i] += passes[i];                                                                         \
                    if (best) *(selfreg_rows_##KIND *)(best + at) = SELFREG_ROWS_OF_##KIND(chosen[i]);             \
                }                                                                                                  \
            }                                                                                                      \
        }                                                                                                          \
        SELFREG_EACH {                                                                                             \
            const int64_t at = l + STEP * i;                                                                       \
            vector *most = (vector *)(m->largest + at);                                                            \
            *most = SELFREG_IF_##KIND(largest[i] > *most, largest[i], *most);                                      \
            *(vector *)(m->residual + at) += residual[i];                                                          \
            *(vector *)(m->leaving + at) += leaving[i];                                                            \
            *(vector *)(m->below + at) += below[i];                                                                \
        }                                                                                                          \
    }

SELFREG_INLINE void selfreg_sweep_lanes_here(const selfreg_lattice_sweep *m, int64_t first, int64_t last, double *x,
                                             const int masses, const int prune, double margin, int32_t *best) {
    const int64_t stride = m->stride, *group_rows = m->group_rows, *entries = m->entries;
    const int32_t *column = m->column;
    const double *probability = m->probability;
    uint8_t *skip = m->skip;
    int64_t l = m->from;
#if defined(__GNUC__)
    SELFREG_SWEEP_LANES(V, 4)
    SELFREG_SWEEP_LANES(V, 2)
    SELFREG_SWEEP_LANES(V, 1)
#endif
    SELFREG_SWEEP_LANES(S, 1)
}

/* Sweep groups first..last - 1; values and residuals only. */
SELFREG_CLONES static inline void selfreg_sweep_values(const selfreg_lattice_sweep *m, int64_t first, int64_t last, double *x) {
    selfreg_sweep_lanes_here(m, first, last, x, 0, 0, 0.0, NULL);
}

/* The same, and masses of best rows. `best` (groups, stride), if not NULL, takes best rows, -1 if all are worth 0. */
SELFREG_CLONES static inline void selfreg_sweep_masses(const selfreg_lattice_sweep *m, int64_t first, int64_t last, double *x,
                                                           int32_t *best) {
    selfreg_sweep_lanes_here(m, first, last, x, 1, 0, 0.0, best);
}

/* The same; rows that are worse than the best by more than `margin` in every lane are pruned from now on. */
SELFREG_CLONES static inline void selfreg_sweep_pruning(const selfreg_lattice_sweep *m, int64_t first, int64_t last, double *x,
                                                        double margin) {
    selfreg_sweep_lanes_here(m, first, last, x, 1, 1, margin, NULL);
    for (int64_t r = m->group_rows[first]; r < m->group_rows[last]; r++) m->skip[r] = m->skip[r] != 2;
}

/* x[g, l] += correction[l], but 0 stays 0: groups that never succeed are worth exactly that. */
SELFREG_CLONES static inline void selfreg_shift_lanes(const selfreg_lattice_sweep *m, double *restrict x, int64_t n_groups) {
    const double *restrict by = m->correction;
    for (int64_t g = 0; g < n_groups; g++)
        for (int64_t l = m->from; l < m->to; l++)
            x[g * m->stride + l] += x[g * m->stride + l] != 0.0 ? by[l] : 0.0;
}

#endif
