/* The backup of values of one TYPE, in vectors of LANES and of half as many; `_backup.h` includes this for each type. */

#if defined(__GNUC__)
#define VECTOR SELFREG_NAMED(selfreg, TYPE)
#define STEP LANES
#include "_backup_block.h"
#undef VECTOR
#undef STEP
#define VECTOR SELFREG_NAMED(SELFREG_NAMED(selfreg, TYPE), half)
#define STEP (LANES / 2)
#include "_backup_block.h"
#undef VECTOR
#undef STEP
#endif

#define THIS(name) SELFREG_NAMED(name, TYPE)

/* The value of action a in state s with the budget of lane l. */
SELFREG_INLINE TYPE THIS(selfreg_backup_sum)(const struct selfreg_backup_model *m, const TYPE *values, int64_t s,
                                             int64_t a, int64_t l) {
    const int32_t *column = m->columns[a], *slot = m->slot;
    const double *probability = m->probabilities[a];
    const int64_t last = m->rows[a][s + 1];
    const TYPE *from = values - m->offset[a] + l;
    TYPE total = 0;
    for (int64_t e = m->rows[a][s]; e < last; e++)
        total += (TYPE)probability[e] * from[(int64_t)(slot ? slot[column[e]] : column[e]) * m->stride];
    return total;
}

SELFREG_INLINE void THIS(selfreg_backup_lane)(const struct selfreg_backup_model *m, TYPE *out, int8_t *choice,
                                              const TYPE *values, int64_t s, int64_t l) {
    TYPE best = THIS(selfreg_backup_sum)(m, values, s, 0, l);
    int8_t chosen = 0;
    for (int64_t r = 0; r < m->n_runs; r++) {
        const int64_t a = m->runs[3 * r];
        if (l < m->runs[3 * r + 1] || m->rows[a][s] == m->rows[a][s + 1]) continue;
        const TYPE total = THIS(selfreg_backup_sum)(m, values, s, a, l);
        if (total > best) best = total, chosen = (int8_t)a;
    }
    out[l] = best;
    if (choice) choice[l] = chosen;
}

SELFREG_INLINE void THIS(selfreg_backup_state)(const struct selfreg_backup_model *m, TYPE *out, int8_t *choice,
                                               const TYPE *values, int64_t s) {
    const int64_t lead = SELFREG_HAS_VECTORS && m->alone && m->head == 1 && m->stride > LANES / 2 ? 1 : -1;
    int64_t l = lead == 1 ? 1 : 0;
    for (; l < m->head; l++) THIS(selfreg_backup_lane)(m, out, choice, values, s, l);
#if defined(__GNUC__)
    l = SELFREG_NAMED(selfreg_backup_vectors_selfreg, TYPE)(m, out, choice, values, s, l, lead, 4);
    l = SELFREG_NAMED(SELFREG_NAMED(selfreg_backup_vectors_selfreg, TYPE), half)(m, out, choice, values, s, l, lead, 1);
#endif
    for (; l < m->stride; l++) THIS(selfreg_backup_lane)(m, out, choice, values, s, l);
}

/* `choice` and `slot` may be NULL. */
SELFREG_CLONES static inline void THIS(selfreg_backup)(
    TYPE *out, int8_t *choice, const TYPE *values, int64_t s, const int64_t *const *rows, const int32_t *const *columns,
    const double *const *probabilities, const int64_t *offset, const int64_t *runs, int64_t n_runs, int64_t head,
    int alone, int64_t stride, const int32_t *slot) {
    struct selfreg_backup_model m = {rows, columns, probabilities, offset, runs, n_runs, head, stride, alone, slot};
    if (slot) {
        THIS(selfreg_backup_state)(&m, out, choice, values, s);
    } else {
        m.slot = NULL; /* a constant */
        THIS(selfreg_backup_state)(&m, out, choice, values, s);
    }
}

#undef THIS
