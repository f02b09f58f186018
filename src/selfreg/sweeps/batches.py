"""Batches of models on their way through the sweep kernel: from what users give to arrays, and to results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._core import chooser
from selfreg._core._batch_py import arrays_in
from selfreg._util import validate
from selfreg.mdp import InterventionMDP
from selfreg.planning._arguments import check_budget_count
from selfreg.planning._structure import lattice_moves
from selfreg.planning.hard import solve
from selfreg.planning.solution import ConvergenceError, Solution

Floats = npt.NDArray[np.float64]

NO_USAGE, NO_PENALTIES = np.empty((0, 0, 0)), np.empty((0, 0))


class Label(NamedTuple):
    """What tells a model of a sweep from the others."""

    place: int
    name: str | None = None
    parameters: tuple[Any, ...] = ()


class Case(NamedTuple):
    """One model of a sweep; `item` is a model, or makes one when called."""

    label: Label
    item: Any


class Job(NamedTuple):
    """What is asked of every model: values under a budget, or (budget is ()) the optima for penalties (L, budgets)."""

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


class Group(NamedTuple):
    """Models of a batch with the same actions and costs.

    Attributes
    ----------
    kind : tuple
        Actions and costs, as of `KernelArrays`.
    members : list of int
        Places in the batch.
    models : list of tuple of arrays, or (block, table)
        As the kernel takes them.
    starts : dict of int to start
        Where a model has one of its own; numbers are places in `members`.
    """

    kind: Any
    members: list[int]
    models: Any
    starts: dict[int, Any]

    def sizes(self) -> list[int]:
        """Number of states of every model."""
        if isinstance(self.models, list):
            return [len(arrays[0]) for arrays in self.models]
        sizes: list[int] = (self.models[1][:, 0, 1] // 8).tolist()
        return sizes

    def mdp(self, k: int) -> InterventionMDP:
        """A model again; its arrays were validated when it was made."""
        arrays = self.models[k] if isinstance(self.models, list) else arrays_in(self.models[0], self.models[1], k)
        n, parts = len(arrays[0]), arrays[1:]
        triples = zip(parts[0::3], parts[1::3], parts[2::3], strict=True)
        matrices = [sp.csr_array((data, indices, indptr), shape=(n, n)) for indptr, indices, data in triples]
        actions, costs = self.kind
        named = dict(zip(actions[1:], costs, strict=True))
        return InterventionMDP._trusted(dict(zip(actions, matrices, strict=True)), arrays[0], named)


class Results(NamedTuple):
    """Results of a batch, one entry a model; NaN where there is an error.

    Attributes
    ----------
    labels : list of Label
    states : int64 (models,)
    bound : float64 (models,)
    value : float64 (models, lattice)
        Of penalties, the success.
    usage : float64 (models, budgets, lattice), or empty
    state_value : list of float64 (n, lattice), or empty
    policy : list of int8 (n, lattice), or empty
    errors : list of str or None
    """

    labels: list[Label]
    states: npt.NDArray[np.int64]
    bound: Floats
    value: Floats
    usage: Floats
    state_value: list[Floats]
    policy: list[npt.NDArray[np.int8]]
    errors: list[str | None]


class ModelError(ValueError):
    """A model of a sweep that cannot be solved: its place, its name, and what is wrong."""


# ---- what users give ------------------------------------------------------------------------------------------------


def model_of(item: Any) -> tuple[InterventionMDP, Any]:
    """The model and its start in an estimated model, in (model, start), or in what a callable returns."""
    if isinstance(item, InterventionMDP):
        return item, None
    if isinstance(item, tuple) and len(item) == 2:
        return model_of(item[0])[0], item[1]
    if isinstance(mdp := getattr(item, "mdp", None), InterventionMDP):
        return mdp, getattr(item, "start", None)
    if callable(item):
        made = item()
        if callable(made):
            raise TypeError(f"the function returned {type(made).__name__}; expected a model")
        return model_of(made)
    raise TypeError(f"expected an InterventionMDP, an EstimatedModel or (model, start); got {type(item).__name__}")


def work(item: Any, n_lattice: int) -> int | None:
    """Estimated cost of a model in entries times lattice points; None where the model is yet to be made."""
    if type(item) is not InterventionMDP:
        if type(item) is tuple and len(item) == 2:
            item = item[0]
        item = item if isinstance(item, InterventionMDP) else getattr(item, "mdp", None)
        if not isinstance(item, InterventionMDP):
            return None
    arrays = item._kernel_arrays.arrays
    return n_lattice * (len(arrays[0]) + len(arrays[3]) * (len(arrays) // 3))  # other actions have about as many


def grouped(cases: Iterable[tuple[int, Case]], fault: Callable[[Exception, int], None]) -> list[Group]:
    """Groups of the models of a batch, each told with its place; `fault` is told of those that cannot be made."""
    groups: dict[Any, Group] = {}
    for i, (_, item) in cases:
        try:
            mdp, start = (item, None) if type(item) is InterventionMDP else model_of(item)
        except Exception as error:
            fault(error, i)
            continue
        kind, arrays = mdp._kernel_arrays
        if (group := groups.get(kind)) is None:
            group = groups[kind] = Group(kind, [], [], {})
        if start is not None:
            group.starts[len(group.members)] = start
        group.members.append(i)
        group.models.append(arrays)
    return [*groups.values()]


# ---- a batch --------------------------------------------------------------------------------------------------------


def solve_batch(
    cases: Sequence[Case], job: Job, implementation: str | None = None, groups: Sequence[Group] = ()
) -> Results:
    """Solve the models of a batch; ModelError for one that is invalid, unless errors are recorded.

    Models in `groups`, which came as a block, are not looked for in `cases`.
    """
    n, m, n_lattice = len(cases), job.n_budgets, job.points
    usage = np.full((n, m, n_lattice), np.nan) if "usage" in job.keep else NO_USAGE
    results = Results(
        [case.label for case in cases],
        np.zeros(n, np.int64),
        np.full(n, np.nan),
        np.full((n, n_lattice), np.nan),
        usage,
        [np.empty((0, n_lattice))] * n if "state_value" in job.keep else [],
        [np.empty((0, n_lattice), np.int8)] * n if "policy" in job.keep else [],
        [None] * n,
    )
    here = {i for group in groups for i in group.members}
    rest = ((i, case) for i, case in enumerate(cases) if i not in here) if here else enumerate(cases)
    for group in [*groups, *grouped(rest, lambda error, i: _note(error, i, job, results))]:
        _solve_group(group, job, results, implementation)
    return results


def _note(error: Exception, i: int, job: Job, results: Results) -> None:
    """Note what is wrong with a model, or raise a ModelError that names it."""
    if isinstance(error, MemoryError):  # no fault of the model
        raise error
    # What makes a model is the user's own code and may raise anything.
    expected = isinstance(error, (ValueError, TypeError, OSError, ConvergenceError))
    text = str(error) if expected else f"{type(error).__name__}: {error}"
    label = results.labels[i]
    if not job.record_errors:
        name = "" if label.name is None else f" ({label.name})"
        raise ModelError(f"model {label.place}{name}: {text}") from error
    results.errors[i] = text


def _starts(group: Group, sizes: Sequence[int], job: Job, results: Results) -> tuple[dict[int, Any], set[int]]:
    """Start of every model that does not begin in state 0: a state, or probabilities; and models that have none."""
    own = group.starts if job.start is None else dict.fromkeys(range(len(sizes)), job.start)
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
            _note(error, group.members[k], job, results)
    return starts, bad


def _solve_group(group: Group, job: Job, results: Results, implementation: str | None) -> None:
    """Solve the models of a group; those with cycles one by one."""
    members, costs = group.members, group.kind[1]
    try:
        _fits(job, len(costs[0]) if costs else 1)
    except ValueError as error:
        for i in members:
            _note(error, i, job, results)
        return
    sizes = group.sizes()
    starts, bad = _starts(group, sizes, job, results)
    if job.budget:
        whole, policy, solved = _run_kernel(group, sizes, starts, job, results, implementation)
    else:
        whole, policy, solved = [], [], np.zeros(len(sizes), np.uint8)
        results.states[members] = sizes
    for k, i in enumerate(members if whole or policy else ()):
        if whole:
            results.state_value[i] = whole[k]
        if policy:
            results.policy[i] = policy[k]
    for k in bad:
        _forget(members[k], results)
    for k in np.flatnonzero(solved == 0).tolist():
        if k in bad:
            continue
        solve_one = _solve_alone if job.budget else _solve_penalized
        try:
            solve_one(members[k], group.mdp(k), starts.get(k, 0), job, results, implementation)
        except Exception as error:
            _note(error, members[k], job, results)


def _fits(job: Job, n_budgets: int) -> None:
    if job.budget:
        check_budget_count(job.budget, n_budgets)
    elif job.n_budgets != n_budgets:
        raise ValueError(f"penalties has {job.n_budgets} columns; the model has {n_budgets} budgets")


def _run_kernel(
    group: Group,
    sizes: Sequence[int],
    starts: Mapping[int, Any],
    job: Job,
    results: Results,
    implementation: str | None,
) -> tuple[list[Floats], list[npt.NDArray[np.int8]], npt.NDArray[np.uint8]]:
    """Value and usage from the start of every model without a cycle into `results`; values and policies, and which."""
    shape = tuple(b + 1 for b in job.budget)
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
    whole = [np.empty((n, n_lattice)) for n in sizes] if results.state_value else []
    policy = [np.empty((n, n_lattice), np.int8) for n in sizes] if results.policy else []
    chooser.kernel("batch", implementation).solve_models(
        group.models, weights, states, offset, runs, costs, value, usage, whole, policy, solved
    )
    done = np.array(group.members)
    results.states[done], results.value[done], results.bound[done] = sizes, value, 0.0
    if len(usage):
        results.usage[done] = usage
    return whole, policy, solved


def _solve_alone(
    i: int, mdp: InterventionMDP, start: Floats | int, job: Job, results: Results, implementation: str | None
) -> None:
    """A model with cycles: iteration with a proven bound."""
    _forget(i, results)
    solution = solve(mdp, job.budget, n_threads=1, implementation=implementation)
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
    i: int, mdp: InterventionMDP, start: Floats | int, job: Job, results: Results, implementation: str | None
) -> None:
    from selfreg.planning.penalized import solve_penalized_start

    weight = validate.start(start, mdp.n_states)
    points = solve_penalized_start(mdp, weight, job.penalties, implementation=implementation)
    results.value[i], results.usage[i], results.bound[i] = points.success, points.usage.T, points.bound


def _forget(i: int, results: Results) -> None:
    """What the kernel left for a model that it did not solve."""
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

# A batch is some milliseconds of work, ten times what it takes to hand it out.
BATCH_MODELS, BATCH_WORK, BATCH_UNMADE = 256, 1 << 22, 64


def batches(
    cases: Iterable[Case], n_lattice: int, done: Callable[[Case], bool] | None, times: int = 1
) -> Iterator[list[Case]]:
    """Consecutive cases that are not done, cut by estimated cost; the same cuts however many are done.

    Batches of models that are there already are `times` as large as others.
    """
    batch: list[Case] = []
    most_models, most_work = times * BATCH_MODELS, times * BATCH_WORK
    unmade = most_work // BATCH_UNMADE
    count, total = 0, 0
    for case in cases:
        cost = work(case.item, n_lattice)
        count, total = count + 1, total + (unmade if cost is None else cost)
        if done is None or not done(case):
            batch.append(case)
        if count >= most_models or total >= most_work:
            if batch:
                yield batch
            batch, count, total = [], 0, 0
    if batch:
        yield batch
