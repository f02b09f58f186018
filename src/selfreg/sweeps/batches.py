"""Batches of models: from what users pass to arrays for the kernel, and to results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._core import chooser
from selfreg._util import validate
from selfreg.mdp import InterventionMDP
from selfreg.planning._arguments import check_budget_count
from selfreg.planning._structure import lattice_moves
from selfreg.planning.hard import solve
from selfreg.planning.solution import ConvergenceError, Solution

Floats = npt.NDArray[np.float64]

NO_USAGE, NO_PENALTIES = np.empty((0, 0, 0)), np.empty((0, 0))


class ModelLabel(NamedTuple):
    """Index of a model in the sweep, its name if the source has names, and the parameters of a grid."""

    model_index: int
    name: str | None = None
    parameters: tuple[Any, ...] = ()


class ModelEntry(NamedTuple):
    """One model of a sweep: what the user passed, or a function without arguments that makes it."""

    label: ModelLabel
    model: Any


class SweepSpec(NamedTuple):
    """What is computed for every model: values up to a budget, or (budget is ()) optima for penalties (L, budgets)."""

    budget: tuple[int, ...]
    keep: tuple[str, ...]
    start: Any
    record_errors: bool
    penalties: Floats = NO_PENALTIES

    @property
    def points(self) -> int:
        """Budgets of the lattice, or penalties."""
        return prod(b + 1 for b in self.budget) if self.budget else len(self.penalties)

    @property
    def n_budgets(self) -> int:
        return len(self.budget) or self.penalties.shape[1]


class ModelGroup(NamedTuple):
    """Models of a batch with the same actions and costs.

    Attributes
    ----------
    kind : tuple
        Actions and costs, as of `KernelArrays`.
    members : list of int
        Positions in the batch.
    models : list of tuple of arrays
        As the kernel takes them.
    starts : dict of int to start
        Of the models that have their own, by position in `members`.
    """

    kind: Any
    members: list[int]
    models: list[tuple[Any, ...]]
    starts: dict[int, Any]

    def build_mdp(self, k: int) -> InterventionMDP:
        """The k-th model; its arrays were validated when it was made."""
        arrays = self.models[k]
        n, parts = len(arrays[0]), arrays[1:]
        triples = zip(parts[0::3], parts[1::3], parts[2::3], strict=True)
        matrices = [sp.csr_array((data, indices, indptr), shape=(n, n)) for indptr, indices, data in triples]
        actions, costs = self.kind
        named = dict(zip(actions[1:], costs, strict=True))
        return InterventionMDP._trusted(dict(zip(actions, matrices, strict=True)), arrays[0], named)


class BatchResults(NamedTuple):
    """Results of a batch, one row per model; NaN for models with errors.

    Attributes
    ----------
    labels : list of ModelLabel
    states : int64 (models,)
    bound : float64 (models,)
    value : float64 (models, lattice)
        For penalties, the success.
    usage : float64 (models, budgets, lattice), or empty
    state_value : list of float64 (n, lattice), or empty
    policy : list of int8 (n, lattice), or empty
    errors : list of str or None
    """

    labels: list[ModelLabel]
    states: npt.NDArray[np.int64]
    bound: Floats
    value: Floats
    usage: Floats
    state_value: list[Floats]
    policy: list[npt.NDArray[np.int8]]
    errors: list[str | None]


class ModelError(ValueError):
    """A model of a sweep cannot be made or solved; names its index, its name and the fault."""


# ---- models ---------------------------------------------------------------------------------------------------------


def resolve_model(item: Any) -> tuple[InterventionMDP, Any]:
    """Model and start of an estimated model, of (model, start), or of what a callable returns."""
    if isinstance(item, InterventionMDP):
        return item, None
    if isinstance(item, tuple) and len(item) == 2:
        return resolve_model(item[0])[0], item[1]
    if isinstance(mdp := getattr(item, "mdp", None), InterventionMDP):
        return mdp, getattr(item, "start", None)
    if callable(item):
        made = item()
        if callable(made):
            raise TypeError(f"the function returned {type(made).__name__}; expected a model")
        return resolve_model(made)
    raise TypeError(f"expected an InterventionMDP, an EstimatedModel or (model, start); got {type(item).__name__}")


def estimate_work(item: Any, n_lattice: int) -> int | None:
    """Estimated cost of a model in entries times lattice points; None if the model is not made yet."""
    if type(item) is not InterventionMDP:
        if type(item) is tuple and len(item) == 2:
            item = item[0]
        item = item if isinstance(item, InterventionMDP) else getattr(item, "mdp", None)
        if not isinstance(item, InterventionMDP):
            return None
    arrays = item._kernel_arrays.arrays
    return n_lattice * (len(arrays[0]) + len(arrays[3]) * (len(arrays) // 3))  # other actions have about as many


def group_models(
    entries: Iterable[tuple[int, ModelEntry]], on_error: Callable[[Exception, int], None]
) -> list[ModelGroup]:
    """Group the models of a batch, given with their positions; `on_error` is called for those that cannot be made."""
    groups: dict[Any, ModelGroup] = {}
    for i, (_, item) in entries:
        try:
            mdp, start = (item, None) if type(item) is InterventionMDP else resolve_model(item)
        except Exception as error:
            on_error(error, i)
            continue
        kind, arrays = mdp._kernel_arrays
        if (group := groups.get(kind)) is None:
            group = groups[kind] = ModelGroup(kind, [], [], {})
        if start is not None:
            group.starts[len(group.members)] = start
        group.members.append(i)
        group.models.append(arrays)
    return [*groups.values()]


# ---- a batch --------------------------------------------------------------------------------------------------------


def solve_batch(
    spec: SweepSpec, entries: Sequence[ModelEntry], implementation: str | None = None, groups: Sequence[ModelGroup] = ()
) -> BatchResults:
    """Solve the models of a batch; ModelError for one that is invalid, unless errors are recorded.

    Models in `groups` are not taken from `entries`.
    """
    n, m, n_lattice = len(entries), spec.n_budgets, spec.points
    usage = np.full((n, m, n_lattice), np.nan) if "usage" in spec.keep else NO_USAGE
    results = BatchResults(
        [entry.label for entry in entries],
        np.zeros(n, np.int64),
        np.full(n, np.nan),
        np.full((n, n_lattice), np.nan),
        usage,
        [np.empty((0, n_lattice))] * n if "state_value" in spec.keep else [],
        [np.empty((0, n_lattice), np.int8)] * n if "policy" in spec.keep else [],
        [None] * n,
    )
    grouped = {i for group in groups for i in group.members}
    rest = ((i, entry) for i, entry in enumerate(entries) if i not in grouped) if grouped else enumerate(entries)
    for group in [*groups, *group_models(rest, lambda error, i: _record_error(error, i, spec, results))]:
        _solve_group(group, spec, results, implementation)
    return results


def _record_error(error: Exception, i: int, spec: SweepSpec, results: BatchResults) -> None:
    """Record the fault of a model, or raise a ModelError that names it."""
    if isinstance(error, MemoryError):  # not the model's fault
        raise error
    # What makes a model is the user's own code and may raise anything.
    expected = isinstance(error, (ValueError, TypeError, OSError, ConvergenceError))
    text = str(error) if expected else f"{type(error).__name__}: {error}"
    label = results.labels[i]
    if not spec.record_errors:
        name = "" if label.name is None else f" ({label.name})"
        raise ModelError(f"model {label.model_index}{name}: {text}") from error
    results.errors[i] = text


def _starts(
    group: ModelGroup, sizes: Sequence[int], spec: SweepSpec, results: BatchResults
) -> tuple[dict[int, Any], set[int]]:
    """Starts other than state 0, a state or probabilities, by position; and positions of models with invalid starts."""
    own = group.starts if spec.start is None else dict.fromkeys(range(len(sizes)), spec.start)
    starts: dict[int, Any] = {}
    bad = set()
    for k, start in own.items():
        try:
            if type(start) is int and 0 <= start < sizes[k]:
                starts[k] = start
                continue
            weight = validate.start(start, sizes[k])
            starts[k] = int(np.argmax(weight)) if np.ndim(start) == 0 else weight
        except Exception as error:
            bad.add(k)
            _record_error(error, group.members[k], spec, results)
    return starts, bad


def _solve_group(group: ModelGroup, spec: SweepSpec, results: BatchResults, implementation: str | None) -> None:
    """Solve the models of a group; those with cycles one by one."""
    members, costs = group.members, group.kind[1]
    try:
        _check_budgets(spec, len(costs[0]) if costs else 1)
    except ValueError as error:
        for i in members:
            _record_error(error, i, spec, results)
        return
    sizes = [len(arrays[0]) for arrays in group.models]
    starts, bad = _starts(group, sizes, spec, results)
    if spec.budget:
        values, policies, solved = _run_kernel(group, sizes, starts, spec, results, implementation)
    else:
        values, policies, solved = [], [], np.zeros(len(sizes), np.uint8)
        results.states[members] = sizes
    for k, i in enumerate(members if values or policies else ()):
        if values:
            results.state_value[i] = values[k]
        if policies:
            results.policy[i] = policies[k]
    for k in bad:
        _clear_result(members[k], results)
    for k in np.flatnonzero(solved == 0).tolist():
        if k in bad:
            continue
        solve_model = _solve_iteratively if spec.budget else _solve_penalized
        try:
            solve_model(members[k], group.build_mdp(k), starts.get(k, 0), spec, results, implementation)
        except Exception as error:
            _record_error(error, members[k], spec, results)


def _check_budgets(spec: SweepSpec, n_budgets: int) -> None:
    if spec.budget:
        check_budget_count(spec.budget, n_budgets)
    elif spec.n_budgets != n_budgets:
        raise ValueError(f"penalties has {spec.n_budgets} columns; the model has {n_budgets} budgets")


def _run_kernel(
    group: ModelGroup,
    sizes: Sequence[int],
    starts: Mapping[int, Any],
    spec: SweepSpec,
    results: BatchResults,
    implementation: str | None,
) -> tuple[list[Floats], list[npt.NDArray[np.int8]], npt.NDArray[np.uint8]]:
    """Write results of the models without cycles; all values and policies if kept, and which models were solved."""
    shape = tuple(b + 1 for b in spec.budget)
    costs = np.array([(0,) * len(shape), *group.kind[1]], np.int64)
    offset, _, runs = lattice_moves(costs, shape)
    n_lattice, count = prod(shape), len(sizes)
    states = np.zeros(count, np.int64)
    weights = {k: start for k, start in starts.items() if not isinstance(start, int)}
    for k, start in starts.items():
        if isinstance(start, int):
            states[k] = start
    value, solved = np.empty((count, n_lattice)), np.empty(count, np.uint8)
    usage = np.empty((count, len(shape), n_lattice)) if len(results.usage) else NO_USAGE
    values = [np.empty((n, n_lattice)) for n in sizes] if results.state_value else []
    policies = [np.empty((n, n_lattice), np.int8) for n in sizes] if results.policy else []
    chooser.kernel("batch", implementation).solve_models(
        group.models, weights, states, offset, runs, costs, value, usage, values, policies, solved
    )
    rows = np.array(group.members)
    results.states[rows], results.value[rows], results.bound[rows] = sizes, value, 0.0
    if len(usage):
        results.usage[rows] = usage
    return values, policies, solved


def _solve_iteratively(
    i: int,
    mdp: InterventionMDP,
    start: Floats | int,
    spec: SweepSpec,
    results: BatchResults,
    implementation: str | None,
) -> None:
    """A model with cycles: iteration with a proven bound."""
    _clear_result(i, results)
    solution = solve(mdp, spec.budget, n_threads=1, implementation=implementation)
    n = len(solution.value)
    weight = validate.start(start, n)
    results.value[i] = weight @ solution.value.reshape(n, -1)
    results.bound[i] = solution.bound
    if len(results.usage):
        results.usage[i] = _usage(solution, weight)
    if results.state_value:
        results.state_value[i] = solution.value.reshape(n, -1)
    if results.policy:
        results.policy[i] = solution.policy.reshape(n, -1)


def _solve_penalized(
    i: int,
    mdp: InterventionMDP,
    start: Floats | int,
    spec: SweepSpec,
    results: BatchResults,
    implementation: str | None,
) -> None:
    from selfreg.planning.penalized import solve_penalized_start

    weight = validate.start(start, mdp.n_states)
    points = solve_penalized_start(mdp, weight, spec.penalties, implementation=implementation)
    results.value[i], results.usage[i], results.bound[i] = points.success, points.usage.T, points.bound


def _clear_result(i: int, results: BatchResults) -> None:
    """Reset what the kernel wrote for a model that it did not solve."""
    results.value[i], results.bound[i] = np.nan, np.nan
    if len(results.usage):
        results.usage[i] = np.nan
    n_lattice = results.value.shape[1]
    if results.state_value:
        results.state_value[i] = np.empty((0, n_lattice))
    if results.policy:
        results.policy[i] = np.empty((0, n_lattice), np.int8)


def _usage(solution: Solution, weight: Floats) -> Floats:
    from selfreg.planning.usage import expected_usage

    usage = expected_usage(solution)
    return np.tensordot(weight, usage.reshape(len(weight), -1, usage.shape[-1]), axes=1).T


# ---- batches by cost ------------------------------------------------------------------------------------------------

# A batch takes some milliseconds, ten times the cost of submitting it.
BATCH_MODELS, BATCH_WORK, BATCH_UNMADE = 256, 1 << 22, 64


def cut_batches(
    entries: Iterable[ModelEntry], n_lattice: int, is_done: Callable[[ModelEntry], bool] | None, times: int = 1
) -> Iterator[list[ModelEntry]]:
    """Cut consecutive entries into batches by estimated cost; the cuts do not depend on what is done already.

    Batches of models that are made already are `times` as large.
    """
    batch: list[ModelEntry] = []
    most_models, most_work = times * BATCH_MODELS, times * BATCH_WORK
    unmade = most_work // BATCH_UNMADE
    count, total = 0, 0
    for entry in entries:
        cost = estimate_work(entry.model, n_lattice)
        count, total = count + 1, total + (unmade if cost is None else cost)
        if is_done is None or not is_done(entry):
            batch.append(entry)
        if count >= most_models or total >= most_work:
            if batch:
                yield batch
            batch, count, total = [], 0, 0
    if batch:
        yield batch
