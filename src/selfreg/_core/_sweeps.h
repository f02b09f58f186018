/* Gauss-Seidel sweeps over groups of states, each lane (a penalty) an independent problem; see `_sweeps.pyx`:
 *
 *     x[g, l] <- max over rows r of g of  reward[action[r], l] + sum_e data[e] x[indices[e], l]
 */
#ifndef SELFREG_SWEEPS_H
#define SELFREG_SWEEPS_H

#include "_rows.h"

#include <float.h>
#include <math.h>

struct selfreg_group_sweep {
    int64_t width;          /* lanes of a group */
    int64_t choices;        /* lanes of `choice`; lane l of a group takes choice l modulo this */
    const int64_t *starts;  /* (groups + 1,) into rows */
    const int64_t *indptr;  /* (rows + 1,) into entries */
    const int32_t *indices; /* groups */
    const double *data;
    const int64_t *action;  /* (rows,) */
    const double *reward;   /* (actions, width) */
    const uint8_t *waits;   /* (groups,) whether staying for 0 is a choice */
    const int64_t *choice;  /* (groups, choices) row of each lane, -1 for none; NULL: the best row */
};

/* One sweep x <- G(x) over groups [first, last); `step` (last - first, width) takes the changes. */
SELFREG_INLINE void selfreg_sweep_here(const struct selfreg_group_sweep *m, int64_t first, int64_t last, double *x,
                                       double *step, double *largest, double *scratch) {
    const int64_t width = m->width;
    double *row = scratch, *best = scratch + width;
    for (int64_t l = 0; l < width; l++) largest[l] = 0.0;
    for (int64_t g = first; g < last; g++) {
        double *old = x + g * width, *change = step + (g - first) * width;
        const double floor = m->waits[g] || m->choice ? 0.0 : -1e300;
        if (m->starts[g] == m->starts[g + 1] && !m->waits[g]) { /* terminal */
            for (int64_t l = 0; l < width; l++) change[l] = 0.0;
            continue;
        }
        for (int64_t l = 0; l < width; l++) best[l] = floor;
        for (int64_t r = m->starts[g]; r < m->starts[g + 1]; r++) {
            const double *reward = m->reward + m->action[r] * width;
            if (m->choice) {
                int64_t takers = 0;
                for (int64_t l = 0; l < m->choices; l++) takers += m->choice[g * m->choices + l] == r;
                if (!takers) continue;
            }
            selfreg_expect_double_here(row, x, m->indices + m->indptr[r], m->data + m->indptr[r],
                                       m->indptr[r + 1] - m->indptr[r], width, width, NULL);
            if (m->choice) {
                for (int64_t start = 0; start < width; start += m->choices)
                    for (int64_t l = 0; l < m->choices; l++)
                        best[start + l] = m->choice[g * m->choices + l] == r ? row[start + l] + reward[start + l]
                                                                             : best[start + l];
            } else {
                for (int64_t l = 0; l < width; l++) {
                    const double gain = row[l] + reward[l];
                    best[l] = gain > best[l] ? gain : best[l];
                }
            }
        }
        for (int64_t l = 0; l < width; l++) {
            const double moved = best[l] - old[l];
            /* Rounding of large values (usages). */
            const double seen = fabs(moved) - 8 * DBL_EPSILON * fabs(best[l]);
            change[l] = moved;
            largest[l] = seen > largest[l] ? seen : largest[l];
            old[l] = best[l];
        }
    }
}

#if defined(__GNUC__)
/* The same for 8 lanes with one choice each, with the best so far in registers. */
SELFREG_INLINE void selfreg_sweep_8(const struct selfreg_group_sweep *m, int64_t first, int64_t last, double *x, double *step,
                                    double *largest) {
    enum { COUNT = 2, WIDTH = COUNT * SELFREG_WIDE };
    selfreg_wide most[COUNT] = {{0}};
    for (int64_t g = first; g < last; g++) {
        double *old = x + g * WIDTH, *change = step + (g - first) * WIDTH;
        const double floor = m->waits[g] || m->choice ? 0.0 : -1e300;
        const int terminal = m->starts[g] == m->starts[g + 1] && !m->waits[g];
        selfreg_wide best[COUNT] = {{0}};
        for (int k = 0; k < COUNT; k++) best[k] += floor;
        for (int64_t r = m->starts[g]; r < m->starts[g + 1]; r++) {
            const double *reward = m->reward + m->action[r] * WIDTH;
            selfreg_mask taken[COUNT] = {{0}};
            selfreg_wide row[COUNT] = {{0}};
            if (m->choice) {
                int64_t takers = 0;
                for (int l = 0; l < WIDTH; l++) {
                    const int64_t takes = -(m->choice[g * WIDTH + l] == r);
                    taken[l / SELFREG_WIDE][l % SELFREG_WIDE] = takes;
                    takers |= takes;
                }
                if (!takers) continue;
            }
            for (int64_t e = m->indptr[r]; e < m->indptr[r + 1]; e++)
                for (int k = 0; k < COUNT; k++)
                    row[k] += m->data[e] * *(const selfreg_wide *)(x + m->indices[e] * WIDTH + k * SELFREG_WIDE);
            for (int k = 0; k < COUNT; k++) {
                row[k] += *(const selfreg_wide *)(reward + k * SELFREG_WIDE);
                best[k] = SELFREG_SELECT(m->choice ? taken[k] : (selfreg_mask)(row[k] > best[k]), row[k], best[k]);
            }
        }
        for (int k = 0; k < COUNT; k++) {
            selfreg_wide *place = (selfreg_wide *)(old + k * SELFREG_WIDE);
            const selfreg_wide moved = terminal ? best[k] - best[k] : best[k] - *place;
            const selfreg_wide seen = SELFREG_SELECT(moved < 0, -moved, moved)
                                      - 8 * DBL_EPSILON * SELFREG_SELECT(best[k] < 0, -best[k], best[k]);
            *(selfreg_wide *)(change + k * SELFREG_WIDE) = moved;
            most[k] = SELFREG_SELECT(seen > most[k], seen, most[k]);
            *place += moved;
        }
    }
    for (int l = 0; l < WIDTH; l++) largest[l] = most[l / SELFREG_WIDE][l % SELFREG_WIDE];
}
#endif

SELFREG_CLONES static inline void selfreg_sweep(const struct selfreg_group_sweep *m, int64_t first, int64_t last, double *x,
                                                double *step, double *largest, double *scratch) {
#if defined(__GNUC__)
    if (m->width == 8 && (!m->choice || m->choices == 8)) {
        selfreg_sweep_8(m, first, last, x, step, largest);
        return;
    }
#endif
    selfreg_sweep_here(m, first, last, x, step, largest, scratch);
}

/* sum[l] = sum over groups of a[g, l] * b[g, l], lane by lane in the order of the groups. */
SELFREG_CLONES static inline void selfreg_lane_dot(const double *a, const double *b, int64_t groups, int64_t width,
                                                   double *sum) {
    for (int64_t l = 0; l < width; l++) sum[l] = 0.0;
    for (int64_t g = 0; g < groups; g++)
        for (int64_t l = 0; l < width; l++) sum[l] += a[g * width + l] * b[g * width + l];
}

/* x[g, l] -= weight[l] * moved[g, l] */
SELFREG_CLONES static inline void selfreg_lane_subtract(double *x, const double *moved, const double *weight,
                                                        int64_t groups, int64_t width) {
    for (int64_t g = 0; g < groups; g++)
        for (int64_t l = 0; l < width; l++) x[g * width + l] -= weight[l] * moved[g * width + l];
}

/* changed = step - last_step, moved = x - last_image; then last_step = step, last_image = x. */
SELFREG_CLONES static inline void selfreg_lane_update_history(const double *step, const double *x, double *last_step,
                                                        double *last_image, double *changed, double *moved,
                                                        int64_t size) {
    for (int64_t i = 0; i < size; i++) {
        changed[i] = step[i] - last_step[i];
        moved[i] = x[i] - last_image[i];
        last_step[i] = step[i];
        last_image[i] = x[i];
    }
}

#endif
