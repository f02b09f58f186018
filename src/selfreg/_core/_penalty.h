/* Penalized backward induction over states of one level, compiled for several instruction sets like `_rows.h`.
 *
 *     best[l] = max over available a of  sum_j P_a[s, j] (S(j)[l] - sum_d lam_d[l] U_d(j)[l]) - sum_d lam_d[l] c_{a,d}
 *
 * A row holds the success S of every lane, then each kind of usage U_d. Lanes are independent.
 */
#ifndef SELFREG_PENALTY_H
#define SELFREG_PENALTY_H

#include "_rows.h"

struct selfreg_penalized {
    int64_t actions, dims, lanes;
    const int64_t **rows;       /* per action: (n + 1,) */
    const int32_t **columns;
    const double **probabilities;
    const double *cost;         /* (actions, dims) */
    const double *penalty;      /* (dims, lanes) */
    double tie, tie_usage;
    const int32_t *slot;        /* (n,) row of a state, or NULL: its own index */
    const uint8_t *terminal;
    const double *terminal_value;
    int8_t *policy;             /* (n, lanes), or NULL */
};

/* Objective, success - sum of penalty * usage, and total usage of `row`. */
SELFREG_INLINE void selfreg_penalized_value(const struct selfreg_penalized *m, const double *row, int64_t dims, double *objective,
                                  double *total) {
    const int64_t lanes = m->lanes;
    for (int64_t l = 0; l < lanes; l++) {
        objective[l] = row[l] - m->penalty[l] * row[lanes + l];
        total[l] = row[lanes + l];
    }
    for (int64_t d = 1; d < dims; d++)
        for (int64_t l = 0; l < lanes; l++) {
            objective[l] -= m->penalty[d * lanes + l] * row[(d + 1) * lanes + l];
            total[l] += row[(d + 1) * lanes + l];
        }
}

/* Replace `best` by `row`, the result of `action`, in lanes where its objective is larger by more than `tie`, or equal
 * within `tie` with less usage in all. `scratch` holds four lines: objective and total usage of `best`, then of `row`.
 */
SELFREG_INLINE void selfreg_penalized_improve(const struct selfreg_penalized *m, int64_t action, int64_t dims, double *best,
                                    double *row, double *scratch, int8_t *choice) {
    const int64_t lanes = m->lanes;
    const double tie = m->tie, tie_usage = m->tie_usage;
    double *objective = scratch, *total = scratch + lanes, *gain = scratch + 2 * lanes, *used = scratch + 3 * lanes;
    for (int64_t d = 0; d < dims; d++) {
        const double cost = m->cost[action * dims + d];
        for (int64_t l = 0; l < lanes; l++) row[(d + 1) * lanes + l] += cost;
    }
    selfreg_penalized_value(m, row, dims, gain, used);
    if (choice)
        for (int64_t l = 0; l < lanes; l++) {
            const int wins = (gain[l] > objective[l] + tie)
                             | ((gain[l] >= objective[l] - tie) & (used[l] < total[l] - tie_usage));
            choice[l] = wins ? (int8_t)action : choice[l];
        }
    for (int64_t l = 0; l < lanes; l++) {
        const int wins = (gain[l] > objective[l] + tie)
                         | ((gain[l] >= objective[l] - tie) & (used[l] < total[l] - tie_usage));
        best[l] = wins ? row[l] : best[l];
        best[lanes + l] = wins ? row[lanes + l] : best[lanes + l];
        for (int64_t d = 1; d < dims; d++)
            best[(d + 1) * lanes + l] = wins ? row[(d + 1) * lanes + l] : best[(d + 1) * lanes + l];
        objective[l] = wins ? gain[l] : objective[l];
        total[l] = wins ? used[l] : total[l];
    }
}

SELFREG_INLINE void selfreg_solve_states(const struct selfreg_penalized *m, const int32_t *members, int64_t count,
                                         int64_t dims, double *rows, double *scratch) {
    const int64_t lanes = m->lanes, width = (1 + dims) * lanes;
    double *row = scratch + 4 * lanes;
    for (int64_t i = 0; i < count; i++) {
        const int32_t s = members[i];
        double *best = rows + (int64_t)(m->slot ? m->slot[s] : s) * width;
        int8_t *choice = m->policy ? m->policy + (int64_t)s * lanes : NULL;
        if (choice)
            for (int64_t l = 0; l < lanes; l++) choice[l] = 0;
        if (m->terminal[s]) {
            for (int64_t l = 0; l < width; l++) best[l] = l < lanes ? m->terminal_value[s] : 0.0;
            continue;
        }
        for (int64_t a = 0; a < m->actions; a++) {
            const int64_t first = m->rows[a][s], entries = m->rows[a][s + 1] - first;
            if (!entries) continue;
            selfreg_expect_double_here(a ? row : best, rows, m->columns[a] + first, m->probabilities[a] + first,
                                       entries, width, width, m->slot);
            if (a)
                selfreg_penalized_improve(m, a, dims, best, row, scratch, choice);
            else
                selfreg_penalized_value(m, best, dims, scratch, scratch + lanes);
        }
    }
}

#if defined(__GNUC__)
/* The same for one kind of usage and `count` = 1, 2 or 4 vectors of lanes, a constant where it is called, with the best so
 * far in registers: the same bits.
 */
enum { SELFREG_MOST = 4 };

/* The best so far of every lane. */
struct selfreg_best {
    selfreg_wide success[SELFREG_MOST], used[SELFREG_MOST], objective[SELFREG_MOST];
};

/* Expected success and usage after `action` in state s. */
SELFREG_INLINE void selfreg_penalized_expect(const struct selfreg_penalized *m, int64_t action, int32_t s,
                                             const double *rows, const int count, selfreg_wide *success,
                                             selfreg_wide *usage) {
    const int lanes = count * SELFREG_WIDE;
    const int32_t *column = m->columns[action], *slot = m->slot;
    const double *probability = m->probabilities[action];
    const int64_t last = m->rows[action][s + 1];
    for (int k = 0; k < count; k++) success[k] = usage[k] = (selfreg_wide){0};
    for (int64_t e = m->rows[action][s]; e < last; e++) {
        const double p = probability[e];
        const double *from = rows + (int64_t)(slot ? slot[column[e]] : column[e]) * 2 * lanes;
        for (int k = 0; k < count; k++) {
            success[k] += p * *(const selfreg_wide *)(from + k * SELFREG_WIDE);
            usage[k] += p * *(const selfreg_wide *)(from + lanes + k * SELFREG_WIDE);
        }
    }
    for (int k = 0; k < count; k++) usage[k] += m->cost[action];
}

/* Replace vector k of `best` where `action` is better, as `selfreg_penalized_improve` does; action 0 is the first. */
SELFREG_INLINE void selfreg_penalized_choose(const struct selfreg_penalized *m, int64_t action, int k,
                                             selfreg_wide success, selfreg_wide usage, selfreg_wide penalty,
                                             struct selfreg_best *best, int8_t *choice) {
    const selfreg_wide gain = success - penalty * usage;
    const selfreg_mask better = (selfreg_mask)(gain > best->objective[k] + m->tie);
    const selfreg_mask equal = (selfreg_mask)(gain >= best->objective[k] - m->tie);
    const selfreg_mask less = (selfreg_mask)(usage < best->used[k] - m->tie_usage);
    const selfreg_mask wins = action ? better | (equal & less) : (selfreg_mask)(gain == gain);
    best->success[k] = SELFREG_SELECT(wins, success, best->success[k]);
    best->used[k] = SELFREG_SELECT(wins, usage, best->used[k]);
    best->objective[k] = SELFREG_SELECT(wins, gain, best->objective[k]);
    if (choice && action)
        for (int l = 0; l < SELFREG_WIDE; l++)
            choice[k * SELFREG_WIDE + l] = wins[l] ? (int8_t)action : choice[k * SELFREG_WIDE + l];
}

SELFREG_INLINE void selfreg_penalized_state(const struct selfreg_penalized *m, int32_t s, double *rows, const int count,
                                            const selfreg_wide *penalty) {
    const int lanes = count * SELFREG_WIDE;
    double *out = rows + (int64_t)(m->slot ? m->slot[s] : s) * 2 * lanes;
    int8_t *choice = m->policy ? m->policy + (int64_t)s * lanes : NULL;
    struct selfreg_best best = {{{0}}, {{0}}, {{0}}};
    selfreg_wide success[SELFREG_MOST], usage[SELFREG_MOST];
    if (choice)
        for (int l = 0; l < lanes; l++) choice[l] = 0;
    if (m->terminal[s])
        for (int k = 0; k < count; k++) best.success[k] += m->terminal_value[s];
    for (int64_t a = 0; a < (m->terminal[s] ? 0 : m->actions); a++) {
        if (m->rows[a][s] == m->rows[a][s + 1]) continue;
        selfreg_penalized_expect(m, a, s, rows, count, success, usage);
        for (int k = 0; k < count; k++)
            selfreg_penalized_choose(m, a, k, success[k], usage[k], penalty[k], &best, choice);
    }
    for (int k = 0; k < count; k++) {
        *(selfreg_wide *)(out + k * SELFREG_WIDE) = best.success[k];
        *(selfreg_wide *)(out + lanes + k * SELFREG_WIDE) = best.used[k];
    }
}

SELFREG_INLINE void selfreg_solve_fixed(const struct selfreg_penalized *m, const int32_t *members, int64_t n_members,
                                        double *rows, const int count) {
    selfreg_wide penalty[SELFREG_MOST];
    for (int k = 0; k < count; k++) penalty[k] = *(const selfreg_wide *)(m->penalty + k * SELFREG_WIDE);
    for (int64_t i = 0; i < n_members; i++) selfreg_penalized_state(m, members[i], rows, count, penalty);
}
#endif

/* Solve members[0 .. count-1], all of one level; `scratch` has room for dims + 5 lines of lanes. */
SELFREG_CLONES static inline void selfreg_penalized_states(const struct selfreg_penalized *m, const int32_t *members,
                                                           int64_t count, double *rows, double *scratch) {
#if defined(__GNUC__)
    if (m->dims == 1 && m->lanes == 4) {
        selfreg_solve_fixed(m, members, count, rows, 1);
        return;
    }
    if (m->dims == 1 && m->lanes == 8) {
        selfreg_solve_fixed(m, members, count, rows, 2);
        return;
    }
    if (m->dims == 1 && m->lanes == 16) {
        selfreg_solve_fixed(m, members, count, rows, 4);
        return;
    }
#endif
    if (m->dims == 1)
        selfreg_solve_states(m, members, count, 1, rows, scratch);
    else
        selfreg_solve_states(m, members, count, m->dims, rows, scratch);
}

#endif
