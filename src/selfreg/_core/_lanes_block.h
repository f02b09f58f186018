/* A sweep of up to SELFREG_BLOCK vectors side by side; see `_lanes.h`, which includes this once for each kind of lanes.
 *
 * `count`, `masses` and `prune` are constants where a function is called, so that arrays stay in registers.
 */
#define vector SELFREG_NAMED(selfreg_vector, SELFREG_LANES)
#define mask SELFREG_NAMED(selfreg_mask, SELFREG_LANES)
#define STEP SELFREG_NAMED(SELFREG_STEP, SELFREG_LANES)
#define THIS(name) SELFREG_NAMED(name, SELFREG_LANES)
#if defined(__GNUC__)
#define EACH _Pragma("GCC unroll 4") for (int i = 0; i < count; i++)
#else
#define EACH for (int i = 0; i < count; i++)
#endif

/* The best row so far of a group: value, the mass that it keeps in the lane or passes on, and its number, -1 for 0. */
typedef struct {
    vector out[SELFREG_BLOCK], keeps[SELFREG_BLOCK], passes[SELFREG_BLOCK];
    mask chosen[SELFREG_BLOCK];
} THIS(selfreg_best_rows);

typedef struct {
    vector largest[SELFREG_BLOCK], residual[SELFREG_BLOCK], leaving[SELFREG_BLOCK], below[SELFREG_BLOCK];
} THIS(selfreg_lane_sums);

/* Values of row r, from lane l on. */
SELFREG_INLINE void THIS(selfreg_total)(const selfreg_lattice_sweep *m, int64_t r, const double *x, int64_t l,
                                        const int count, vector *total) {
    const int64_t a = m->action[r], stride = m->stride, last = m->entries[r + 1];
    const double *from = x + l - m->shift[a], *charge = m->charge + a * stride + l;
    EACH total[i] = *(const vector *)(charge + STEP * i) + m->base[r];
    for (int64_t e = m->entries[r]; e < last; e++) {
        const double *v = from + (int64_t)m->column[e] * stride, p = m->probability[e];
        EACH total[i] += p * *(const vector *)(v + STEP * i);
    }
}

/* Masses of row r where it is the best, and whether it is within `margin` of the best in some lane (skip 2). */
SELFREG_INLINE void THIS(selfreg_take_masses)(const selfreg_lattice_sweep *m, int64_t r, const int count, const int prune,
                                              double margin, const vector *total, THIS(selfreg_best_rows) *best) {
    const int64_t shift = m->shift[m->action[r]];
    const vector zero = {0}, keep = zero + (shift ? 0.0 : m->inner[r]), pass = zero + (shift ? m->inner[r] : 0.0);
    mask near = {0};
    EACH {
        const mask better = total[i] > best->out[i];
        if (prune) near |= total[i] > best->out[i] - margin;
        best->keeps[i] = THIS(selfreg_if)(better, keep, best->keeps[i]);
        best->passes[i] = THIS(selfreg_if)(better, pass, best->passes[i]);
        best->chosen[i] = THIS(selfreg_if_mask)(better, (mask){0} + r, best->chosen[i]);
    }
    if (prune && THIS(selfreg_any)(near)) m->skip[r] = 2;
}

/* Write the values of group g, and add its changes and masses to the sums. */
SELFREG_INLINE void THIS(selfreg_end_group)(const selfreg_lattice_sweep *m, int64_t g, double *x, int64_t l,
                                            const int count, const int masses, const THIS(selfreg_best_rows) *best,
                                            THIS(selfreg_lane_sums) *sums, int32_t *rows) {
    const vector zero = {0};
    EACH {
        const int64_t at = g * m->stride + l + STEP * i;
        vector *now = (vector *)(x + at);
        const vector out = best->out[i], change = out - *now, size = THIS(selfreg_if)(change < zero, -change, change);
        sums->largest[i] = THIS(selfreg_if)(size > sums->largest[i], size, sums->largest[i]);
        sums->residual[i] += m->later[g] * change;
        *now = out;
        if (masses) {
            sums->leaving[i] += THIS(selfreg_if)(out > zero, 1.0 - best->keeps[i], zero);
            sums->below[i] += best->passes[i];
            if (rows) *(THIS(selfreg_rows) *)(rows + at) = THIS(selfreg_rows_of)(best->chosen[i]);
        }
    }
}

/* `count` vectors of lanes from lane l on, group by group; `rows` (groups, stride), or NULL, takes the best rows. */
SELFREG_INLINE void THIS(selfreg_sweep_block)(const selfreg_lattice_sweep *m, int64_t first, int64_t last, double *x,
                                              int64_t l, const int count, const int masses, const int prune,
                                              double margin, int32_t *rows) {
    const vector zero = {0};
    THIS(selfreg_lane_sums) sums;
    EACH sums.largest[i] = sums.residual[i] = sums.leaving[i] = sums.below[i] = zero;
    for (int64_t g = first; g < last; g++) {
        THIS(selfreg_best_rows) best;
        EACH best.out[i] = best.keeps[i] = best.passes[i] = zero, best.chosen[i] = (mask){0} - 1;
        for (int64_t r = m->group_rows[g]; r < m->group_rows[g + 1]; r++) {
            vector total[SELFREG_BLOCK];
            if (m->skip[r] & 1) continue;
            THIS(selfreg_total)(m, r, x, l, count, total);
            if (masses) THIS(selfreg_take_masses)(m, r, count, prune, margin, total, &best);
            EACH best.out[i] = THIS(selfreg_if)(total[i] > best.out[i], total[i], best.out[i]);
        }
        THIS(selfreg_end_group)(m, g, x, l, count, masses, &best, &sums, rows);
    }
    EACH {
        const int64_t at = l + STEP * i;
        vector *most = (vector *)(m->largest + at);
        *most = THIS(selfreg_if)(sums.largest[i] > *most, sums.largest[i], *most);
        *(vector *)(m->residual + at) += sums.residual[i];
        *(vector *)(m->leaving + at) += sums.leaving[i];
        *(vector *)(m->below + at) += sums.below[i];
    }
}

#undef vector
#undef mask
#undef STEP
#undef THIS
#undef EACH
