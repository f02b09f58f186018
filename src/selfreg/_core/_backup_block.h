/* The backup of lanes in vectors; `_backup_type.h` includes this for each VECTOR of STEP lanes of a TYPE.
 *
 * `count` is a constant where a function is called, so that arrays stay in registers.
 */
#define THIS(name) SELFREG_NAMED(name, VECTOR)
#define MASK SELFREG_NAMED(VECTOR, mask)
#define BYTES SELFREG_NAMED(VECTOR, bytes)
#define EACH for (int i = 0; i < count; i++)

/* Values of action a from lane l on. With `before` the lane before is summed too. */
SELFREG_INLINE void THIS(selfreg_backup_totals)(const struct selfreg_backup_model *m, const TYPE *values, int64_t s,
                                                int64_t a, int64_t l, const int count, VECTOR *total, TYPE *before) {
    const int32_t *column = m->columns[a], *slot = m->slot;
    const double *probability = m->probabilities[a];
    const int64_t last = m->rows[a][s + 1], stride = m->stride;
    const TYPE *from = values - m->offset[a] + l;
    EACH total[i] = (VECTOR){0};
    for (int64_t e = m->rows[a][s]; e < last; e++) {
        const TYPE *v = from + (int64_t)(slot ? slot[column[e]] : column[e]) * stride;
        const TYPE p = (TYPE)probability[e];
        if (before) *before += p * v[-1];
        EACH total[i] += p * *(const VECTOR *)(v + i * STEP);
    }
}

SELFREG_INLINE void THIS(selfreg_backup_block)(const struct selfreg_backup_model *m, TYPE *out, int8_t *choice,
                                               const TYPE *values, int64_t s, int64_t l, int64_t lead,
                                               const int count) {
    VECTOR best[4], total[4];
    MASK chosen[4];
    EACH chosen[i] = (MASK){0};
    if (l == lead) {
        TYPE before = 0;
        THIS(selfreg_backup_totals)(m, values, s, 0, l, count, best, &before);
        out[0] = before;
        if (choice) choice[0] = 0;
    } else {
        THIS(selfreg_backup_totals)(m, values, s, 0, l, count, best, NULL);
    }
    for (int64_t r = 0; r < m->n_runs; r++) {
        const int64_t a = m->runs[3 * r];
        if (m->rows[a][s] == m->rows[a][s + 1]) continue;
        THIS(selfreg_backup_totals)(m, values, s, a, l, count, total, NULL);
        EACH {
            const MASK better = total[i] > best[i];
            best[i] = (VECTOR)((better & (MASK)total[i]) | (~better & (MASK)best[i]));
            chosen[i] = (better & ((MASK){0} + (int8_t)a)) | (~better & chosen[i]);
        }
    }
    EACH {
        *(VECTOR *)(out + l + i * STEP) = best[i];
        if (choice) *(BYTES *)(choice + l + i * STEP) = __builtin_convertvector(chosen[i], BYTES);
    }
}

/* Lanes from l on, at most `most` vectors side by side; the first lane that is left. */
SELFREG_INLINE int64_t THIS(selfreg_backup_vectors)(const struct selfreg_backup_model *m, TYPE *out, int8_t *choice,
                                                    const TYPE *values, int64_t s, int64_t l, int64_t lead,
                                                    const int most) {
    const int64_t stride = m->stride;
    if (most == 4) {
        for (; l + 4 * STEP <= stride; l += 4 * STEP)
            THIS(selfreg_backup_block)(m, out, choice, values, s, l, lead, 4);
        for (; l + 2 * STEP <= stride; l += 2 * STEP)
            THIS(selfreg_backup_block)(m, out, choice, values, s, l, lead, 2);
    }
    for (; l + STEP <= stride; l += STEP) THIS(selfreg_backup_block)(m, out, choice, values, s, l, lead, 1);
    if (l < stride && stride - m->head >= STEP) {
        THIS(selfreg_backup_block)(m, out, choice, values, s, stride - STEP, lead, 1);
        l = stride;
    }
    return l;
}

#undef THIS
#undef MASK
#undef BYTES
#undef EACH
