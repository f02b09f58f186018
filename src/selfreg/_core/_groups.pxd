# A component with a cycle as its solvers take it: `_components` layer by layer, `_lanes` all layers values.

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from selfreg._core._budget cimport Model


cdef enum:
    WINDOW = 3                            # earlier sweeps that Anderson mixing combines


# Rows of a component with its groups as unknowns. A row is an action in a state that can leave the group.
cdef struct Local:
    Py_ssize_t n_groups
    Py_ssize_t n_rows
    Py_ssize_t longest                    # entries of the longest row
    double missing                        # largest difference of a row's sum from 1
    Py_ssize_t divided                    # rows that were divided by the mass that leaves the group
    const int32_t* members
    int64_t* bounds                       # (groups + 1,) into members
    int64_t* group_rows                   # (groups + 1,) into rows
    int32_t* row_action                   # (rows,)
    int64_t* row_offset                   # (rows,) distance that the action moves down the lattice; 0: free
    int32_t* row_state                    # (rows,)
    int64_t* inside                       # (rows + 1,) into inner_*
    int64_t* outside                      # (rows + 1,) into outer_*
    int32_t* inner_group
    double* inner_probability
    int32_t* outer_state
    double* outer_probability
    double* constant                      # (rows,) of a layer: value of costly help, or outside part of a free row
    double* stop                          # (groups,) of a layer: value of the best costly help, 0 if none
    double* history                       # (2 WINDOW + 1, groups) of Anderson mixing
    double* step                          # (groups,) f = G(x) - x


cdef struct Scratch:
    int32_t* local                        # (n,) group number in its component
    uint8_t* directed                      # (n,) whether the policy of the state is set


cdef struct Task:
    Py_ssize_t n_free                     # actions of offset 0, nohelp among them
    Py_ssize_t last_axis
    const uint8_t* terminal
    const uint8_t* affordable
    const int32_t* component
    const int32_t* group
    double tolerance
    int64_t max_sweeps
    float* error                          # NULL if all components are exact
    double* value
    int8_t* policy


cdef int local_build(const Model* m, const Task* task, const Scratch* scratch, const int32_t* members, Py_ssize_t size,
                     Py_ssize_t c, Local* out) except -1 nogil
cdef void local_free(Local* local) noexcept nogil
