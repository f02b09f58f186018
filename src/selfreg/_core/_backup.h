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

struct selfreg_backup_model {
    const int64_t *const *rows;
    const int32_t *const *columns;
    const double *const *probabilities;
    const int64_t *offset, *runs;
    int64_t n_runs, head, stride;
    int alone;
    const int32_t *slot; /* may be NULL */
};

#if defined(__GNUC__)
/* Half of the lanes, for short lattices. */
typedef double selfreg_double_half __attribute__((vector_size(32), aligned(8), may_alias));
typedef float selfreg_float_half __attribute__((vector_size(32), aligned(4), may_alias));
typedef int64_t selfreg_double_half_mask __attribute__((vector_size(32)));
typedef int32_t selfreg_float_half_mask __attribute__((vector_size(32)));
typedef int8_t selfreg_double_half_bytes __attribute__((vector_size(4), aligned(1), may_alias));
typedef int8_t selfreg_float_half_bytes __attribute__((vector_size(8), aligned(1), may_alias));
#endif

#define TYPE double
#define LANES 8
#include "_backup_type.h"
#undef TYPE
#undef LANES
#define TYPE float
#define LANES 16
#include "_backup_type.h"
#undef TYPE
#undef LANES

#endif
