"""Batches of models on their way through the sweep kernel: from what users give to arrays, and to results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg import _validate
from selfreg._core import chooser
from selfreg.mdp import InterventionMDP
from selfreg.solve import ConvergenceError, Solution, _lattice, solve

Floats = npt.NDArray[np.float64]

NO_USAGE = np.empty((0, 0, 0))


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
    """What is asked of every model."""

    budget: tuple[int, ...]
    keep: tuple[str, ...]
    start: Any
    record_errors: bool


class Model(NamedTuple):
    """A validated model as bare arrays: terminal values, then indptr, indices, data of every action."""

    actions: tuple[str, ...]
    costs: tuple[tuple[int, ...], ...]
    arrays: list[npt.NDArray[Any]]
    start: Any = None


class Results(NamedTuple):
    """Results of a batch, one entry a model; NaN where there is an error.

    Attributes
    ----------
    labels : list of Label
    states : int64 (models,)
    bound : float64 (models,)
    value : float64 (models, lattice)
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


def model_of(item: Any) -> Model:
    """Bare arrays of a model, of an estimated model, of (model, start), or of what a callable returns."""
    if isinstance(item, Model):
        return item
    if isinstance(item, InterventionMDP):
        arrays = [item.terminal_value]
        for matrix in item.transitions.values():
            arrays += (matrix.indptr, matrix.indices, matrix.data)
        return Model(tuple(item.transitions), tuple(item.costs.values()), arrays)
    if isinstance(item, tuple) and len(item) == 2:
        return model_of(item[0])._replace(start=item[1])
    if isinstance(mdp := getattr(item, "mdp", None), InterventionMDP):
        return model_of(mdp)._replace(start=getattr(item, "start", None))
    if callable(item):
        made = item()
        if callable(made):
            raise TypeError(f"the function returned {type(made).__name__}; expected a model")
        return model_of(made)
    raise TypeError(f"expected an InterventionMDP, an EstimatedModel or (model, start); got {type(item).__name__}")


def mdp_of(model: Model) -> InterventionMDP:
    """The model again; its arrays were validated when it was made."""
    n, parts = len(model.arrays[0]), model.arrays[1:]
    triples = zip(parts[0::3], parts[1::3], parts[2::3], strict=True)
    matrices = [sp.csr_array((data, indices, indptr), shape=(n, n)) for indptr, indices, data in triples]
    costs = dict(zip(model.actions[1:], model.costs, strict=True))
    return InterventionMDP._trusted(dict(zip(model.actions, matrices, strict=True)), model.arrays[0], costs)


def work(item: Any, n_lattice: int) -> int | None:
    """Estimated cost of a model in entries times lattice points; None where the model is yet to be made."""
    if type(item) is tuple and len(item) == 2:
        item = item[0]
    mdp = item if isinstance(item, InterventionMDP) else getattr(item, "mdp", None)
    if not isinstance(mdp, InterventionMDP):
        return None
    entries = len(mdp.transitions["nohelp"].data)  # other actions have about as many
    return n_lattice * (len(mdp.terminal_value) + entries * len(mdp.transitions))


# ---- a batch --------------------------------------------------------------------------------------------------------


def solve_batch(cases: Sequence[Case], job: Job, implementation: str | None = None) -> Results:
    """Solve the models of a batch; ModelError for one that is invalid, unless errors are recorded."""
    n, m, n_lattice = len(cases), len(job.budget), prod(b + 1 for b in job.budget)
    models: list[Model | None] = [None] * n
    starts: list[Floats | int] = [0] * n
    usage = np.full((n, m, n_lattice), np.nan) if "usage" in job.keep else NO_USAGE
    whole, wanted = ([np.empty((0, n_lattice))] * n, [np.empty((0, n_lattice), np.int8)] * n)
    results = Results(
        [case.label for case in cases],
        np.zeros(n, np.int64),
        np.full(n, np.nan),
        np.full((n, n_lattice), np.nan),
        usage,
        whole if "state_value" in job.keep else [],
        wanted if "policy" in job.keep else [],
        [None] * n,
    )
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for i, case in enumerate(cases):
        try:
            model = models[i] = model_of(case.item)
            n = len(model.arrays[0])
            if model.costs not in groups:
                _validate.budgets_fit(job.budget, len(model.costs[0]) if model.costs else 1)
                groups[model.costs] = []
            starts[i] = _start(model.start if job.start is None else job.start, n)
            results.states[i] = n
            groups[model.costs].append(i)
        except Exception as error:
            _note(error, i, job, results)
    for members in groups.values():
        for i in _solve_group(members, models, starts, job, results, implementation):
            try:
                _solve_alone(i, models[i], starts[i], job, results, implementation)
            except Exception as error:
                _note(error, i, job, results)
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


def _start(start: Any, n: int) -> Floats | int:
    if start is None:
        start = 0
    if type(start) is int and 0 <= start < n:
        return start
    weight = _validate.start(start, n)
    return int(np.argmax(weight)) if np.ndim(start) == 0 else weight


def _solve_group(
    members: list[int],
    models: Sequence[Model | None],
    starts: Sequence[Floats | int],
    job: Job,
    results: Results,
    implementation: str | None,
) -> list[int]:
    """Solve the models `members`, which share actions and costs; those with cycles are returned."""
    chosen = [model for i in members if (model := models[i]) is not None]
    costs = np.array([(0,) * len(job.budget), *chosen[0].costs], np.int64)
    shape = tuple(b + 1 for b in job.budget)
    offset, _, runs = _lattice(costs, shape)
    n_lattice, alone = prod(shape), [starts[i] for i in members]
    rows = [
        (model.arrays[0], None if isinstance(start, int) else start, *model.arrays[1:])
        for model, start in zip(chosen, alone, strict=True)
    ]
    states = np.array([start if isinstance(start, int) else 0 for start in alone], np.int64)
    value, solved = np.empty((len(members), n_lattice)), np.empty(len(members), np.uint8)
    usage = np.empty((len(members), len(job.budget), n_lattice)) if len(results.usage) else NO_USAGE
    sizes = [len(model.arrays[0]) for model in chosen]
    whole = [np.empty((n, n_lattice)) for n in sizes] if results.state_value else []
    policy = [np.empty((n, n_lattice), np.int8) for n in sizes] if results.policy else []
    chooser.kernel("batch", implementation).solve_models(
        rows, states, offset, runs, costs, value, usage, whole, policy, solved
    )
    done = np.array(members)
    results.value[done], results.bound[done] = value, 0.0
    if len(usage):
        results.usage[done] = usage
    for k, i in enumerate(members):
        if whole:
            results.state_value[i] = whole[k]
        if policy:
            results.policy[i] = policy[k]
    return [i for i, good in zip(members, solved.tolist(), strict=True) if not good]


def _solve_alone(
    i: int, model: Model | None, start: Floats | int, job: Job, results: Results, implementation: str | None
) -> None:
    """A model with cycles: iteration with a proven bound."""
    assert model is not None
    _forget(i, results)
    solution = solve(mdp_of(model), job.budget, n_threads=1, implementation=implementation)
    n = len(solution.value)
    weight = _validate.start(start, n)
    results.value[i] = weight @ solution.value.reshape(n, -1)
    results.bound[i] = solution.bound
    if len(results.usage):
        results.usage[i] = _usage(solution, weight)
    if results.state_value:
        results.state_value[i] = solution.value.reshape(n, -1)
    if results.policy:
        results.policy[i] = solution.policy.reshape(n, -1)


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
    from selfreg.policy import expected_usage

    usage = expected_usage(solution)
    return np.tensordot(weight, usage.reshape(len(weight), -1, usage.shape[-1]), axes=1).T


# ---- batches by cost ------------------------------------------------------------------------------------------------

# A batch is some milliseconds of work, ten times what it takes to hand it out.
BATCH_MODELS, BATCH_WORK, BATCH_UNMADE = 256, 1 << 22, 64


def batches(cases: Iterable[Case], n_lattice: int, done: Callable[[Case], bool]) -> Iterator[list[Case]]:
    """Consecutive cases that are not done, cut by estimated cost; the same cuts however many are done."""
    batch: list[Case] = []
    count, total = 0, 0
    for case in cases:
        cost = work(case.item, n_lattice)
        count, total = count + 1, total + (BATCH_WORK // BATCH_UNMADE if cost is None else cost)
        if not done(case):
            batch.append(case)
        if count >= BATCH_MODELS or total >= BATCH_WORK:
            if batch:
                yield batch
            batch, count, total = [], 0, 0
    if batch:
        yield batch


# ---- batches in few arrays, for other processes ---------------------------------------------------------------------


class Packed(NamedTuple):
    """A batch as a few long arrays, which travel without a copy each; models yet to be made travel as they are."""

    cases: list[Case]
    kinds: list[tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]]
    kind: list[int]
    lengths: npt.NDArray[np.int64]
    arrays: Mapping[str, npt.NDArray[Any]]
    starts: list[Any]


def pack(cases: Sequence[Case]) -> Packed:
    """Models side by side by dtype; their places in `arrays` follow from the lengths, in order."""
    kinds: dict[Any, int] = {}
    kind: list[int] = []
    lengths: list[tuple[int, int]] = []
    starts: list[Any] = []
    bare: list[Case] = []
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    for case in cases:
        if work(case.item, 1) is None:
            kind.append(-1)
            starts.append(None)
            bare.append(case)
            continue
        model = model_of(case.item)
        kind.append(kinds.setdefault((model.actions, model.costs), len(kinds)))
        starts.append(model.start)
        bare.append(case._replace(item=None))
        for array in model.arrays:
            parts.setdefault(array.dtype.str, []).append(array)
            lengths.append((len(array), array.dtype.itemsize if array.dtype.kind == "i" else 0))
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Packed(bare, list(kinds), kind, np.array(lengths, np.int64).reshape(-1, 2), joined, starts)


def unpack(packed: Packed) -> list[Case]:
    """The cases again, their arrays views of the long ones."""
    names = {0: np.dtype(np.float64).str, 4: np.dtype(np.int32).str, 8: np.dtype(np.int64).str}
    at = dict.fromkeys(packed.arrays, 0)
    lengths = iter(packed.lengths.tolist())
    cases = []
    for case, kind, start in zip(packed.cases, packed.kind, packed.starts, strict=True):
        if kind < 0:
            cases.append(case)
            continue
        actions, costs = packed.kinds[kind]
        arrays = []
        for _ in range(1 + 3 * len(actions)):
            length, size = next(lengths)
            name = names[size]
            arrays.append(packed.arrays[name][at[name] : at[name] + length])
            at[name] += length
        cases.append(case._replace(item=Model(actions, costs, arrays, start)))
    return cases
