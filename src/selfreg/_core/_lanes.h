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

/* The kinds of lanes that `_lanes_block.h` is compiled for: V for vectors, S for one at a time. Sums have the same bits. */
#define SELFREG_WIDTH 8
enum { SELFREG_BLOCK = 4 }; /* most vectors side by side */

typedef double selfreg_vector_S;
typedef int64_t selfreg_mask_S;
typedef int32_t selfreg_rows_S;
enum { SELFREG_STEP_S = 1 };
SELFREG_INLINE double selfreg_if_S(int64_t mask, double a, double b) { return mask ? a : b; }
SELFREG_INLINE int64_t selfreg_if_mask_S(int64_t mask, int64_t a, int64_t b) { return mask ? a : b; }
SELFREG_INLINE int64_t selfreg_any_S(int64_t mask) { return mask; }
SELFREG_INLINE int32_t selfreg_rows_of_S(int64_t chosen) { return (int32_t)chosen; }
#define SELFREG_LANES S
#include "_lanes_block.h"
#undef SELFREG_LANES

#if defined(__GNUC__)
typedef selfreg_double selfreg_vector_V;
typedef selfreg_double_mask selfreg_mask_V;
typedef int32_t selfreg_rows_V __attribute__((vector_size(32), aligned(4), may_alias));
typedef int64_t selfreg_mask_in_memory __attribute__((vector_size(64), aligned(8), may_alias));
enum { SELFREG_STEP_V = SELFREG_WIDTH };
SELFREG_INLINE selfreg_vector_V selfreg_if_V(selfreg_mask_V mask, selfreg_vector_V a, selfreg_vector_V b) {
    return (selfreg_vector_V)((mask & (selfreg_mask_V)a) | (~mask & (selfreg_mask_V)b));
}
SELFREG_INLINE selfreg_mask_V selfreg_if_mask_V(selfreg_mask_V mask, selfreg_mask_V a, selfreg_mask_V b) {
    return (mask & a) | (~mask & b);
}
SELFREG_INLINE int64_t selfreg_any_V(selfreg_mask_V mask) {
    int64_t lane[SELFREG_WIDTH], any = 0;
    *(selfreg_mask_in_memory *)lane = mask;
    for (int k = 0; k < SELFREG_WIDTH; k++) any |= lane[k];
    return any;
}
SELFREG_INLINE selfreg_rows_V selfreg_rows_of_V(selfreg_mask_V chosen) {
    return __builtin_convertvector(chosen, selfreg_rows_V);
}
#define SELFREG_LANES V
#include "_lanes_block.h"
#undef SELFREG_LANES
#endif

SELFREG_INLINE void selfreg_sweep_lanes_here(const selfreg_lattice_sweep *sweep, int64_t first, int64_t last, double *x,
                                             const int masses, const int prune, double margin, int32_t *best) {
    /* A copy, which no store can change: its pointers stay in registers. */
    const selfreg_lattice_sweep copy = *sweep, *m = &copy;
    int64_t l = m->from;
#if defined(__GNUC__)
    for (; l + 4 * SELFREG_WIDTH <= m->to; l += 4 * SELFREG_WIDTH)
        selfreg_sweep_block_V(m, first, last, x, l, 4, masses, prune, margin, best);
    for (; l + 2 * SELFREG_WIDTH <= m->to; l += 2 * SELFREG_WIDTH)
        selfreg_sweep_block_V(m, first, last, x, l, 2, masses, prune, margin, best);
    for (; l + SELFREG_WIDTH <= m->to; l += SELFREG_WIDTH)
        selfreg_sweep_block_V(m, first, last, x, l, 1, masses, prune, margin, best);
#endif
    for (; l < m->to; l++) selfreg_sweep_block_S(m, first, last, x, l, 1, masses, prune, margin, best);
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
