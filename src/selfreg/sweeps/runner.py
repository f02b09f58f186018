"""Solve many models in batches, on threads or a Ray cluster, to arrays or to a Parquet data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.files import work_alone
from selfreg._util.parallel import LocalExecutor, RayExecutor, run_tasks
from selfreg._util.progress import progress
from selfreg.planning._arguments import penalty_table
from selfreg.sweeps.batches import BatchResults, ModelEntry, SweepSpec, cut_batches, solve_batch
from selfreg.sweeps.joined import Joiner, solve_joined
from selfreg.sweeps.results import KEPT, PRICED, Sweep
from selfreg.sweeps.sources import list_entries

if TYPE_CHECKING:
    from selfreg.sweeps.parts import PartFolder

Floats = npt.NDArray[np.float64]


# Columns of the results (docs/sweep-files.md), which no parameter of a grid may be named after.
COLUMNS = ("model", "name", "states", "bound", "value", "success", "usage", "state_value", "policy", "error")
# A task costs Ray about a millisecond of processor time, and a batch of small models takes some milliseconds.
RAY_BATCH_TIMES = 4


def sweep(
    mdps: Any,
    budgets: int | tuple[int, ...] | None = None,
    *,
    penalties: npt.ArrayLike | None = None,
    executor: LocalExecutor | RayExecutor | Literal["local", "ray"] | None = None,
    keep: Sequence[str] = ("value", "usage"),
    out: str | os.PathLike[str] | None = None,
    start: npt.ArrayLike | None = None,
    on_error: Literal["raise", "record"] = "raise",
) -> Sweep:
    """Solve many models for every budget up to the one given, or for every penalty.

    Models without cycles are solved in batches, one kernel call each; others one by one, with a proven bound.

    Parameters
    ----------
    mdps : iterable, mapping, path or ModelGrid
        Models in a list or iterator (`InterventionMDP`, `EstimatedModel`, (model, start), or a function without
        arguments that makes one of these), by name, a folder with run folders or saved models in it, or a function
        of a parameter grid.
    budgets : int or tuple of int
        Largest budget, or one per kind of budget, >= 0; the same for all models. None with `penalties`.
    penalties : array_like of float (L,) or (L, budgets)
        Instead of budgets: prices of a unit of help, from 0 to infinity, as of `solve_penalized`. Success and usage are
        those of the optimal policy for each price.
    executor : {"local", "ray"}, LocalExecutor, RayExecutor, optional
        Default: threads of this process, one per core. The results do not depend on it.
    keep : sequence of {"value", "usage", "state_value", "policy"}
        Value and expected usage from the start; values and decisions in all states. With `penalties`, success and
        usage are kept.
    out : path, optional
        Folder of the results, a Parquet data set in parts. Only models without results in it are solved: to continue
        a sweep that was killed, call it again. Needs the extra `logs`.
    start : int or array_like of float (n,), optional
        A state, or probabilities. Default: the model's own (of an `EstimatedModel`), else state 0.
    on_error : {"raise", "record"}
        A model that cannot be made or solved stops the sweep, or its fault is recorded and its results are NaN.

    Returns
    -------
    Sweep

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above; `ModelError` (a ValueError) names the index of an invalid model.
    ConnectionError
        If a Ray cluster is lost; results in `out` stay.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> results = selfreg.sweep([mdp, "not a model", mdp], budgets=1, on_error="record")
    >>> results.value.tolist()
    [[0.5, 0.9], [nan, nan], [0.5, 0.9]]
    >>> results.errors
    {1: 'expected an InterventionMDP, an EstimatedModel or (model, start); got str'}
    >>> priced = selfreg.sweep([mdp], penalties=[0.1, 0.5])
    >>> priced.success.tolist(), priced.usage[..., 0].tolist()
    ([[0.9, 0.5]], [[1.0, 0.0]])
    """
    spec = _parse_spec(budgets, penalties, keep, start, _on_error(on_error) == "record")
    chosen = _choose_executor(executor)
    entries, total, parameters = list_entries(mdps)
    settings = _settings(spec, total, parameters)
    folder, done = _open_folder(out, settings)
    batches: list[BatchResults] = []
    times = RAY_BATCH_TIMES if isinstance(chosen, RayExecutor) else 1
    todo = cut_batches(entries, spec.points, _check_done(done) if done else None, times)
    alone = nullcontext() if folder is None else work_alone(folder.path, "sweep")
    showing = progress("sweep", total, "models", len(done))
    with alone, showing as advance, closing(_solve_all(chosen, todo, spec)) as solved:
        for results in solved:
            batches.append(results) if folder is None else folder.write(results)
            advance(len(results.labels))
    return Sweep(settings, batches, folder)


def read_sweep(out: str | os.PathLike[str]) -> Sweep:
    """Read the results of a sweep, complete or not, from its folder.

    Raises
    ------
    ValueError
        If the folder is not of a sweep.
    """
    from selfreg.sweeps.parts import PartFolder

    folder = PartFolder(out)
    return Sweep(folder.settings, [], folder)


def _choose_executor(value: Any) -> LocalExecutor | RayExecutor:
    if value is None or value == "local":
        return LocalExecutor()
    if isinstance(value, (LocalExecutor, RayExecutor)):
        return value
    if value == "ray":
        return RayExecutor()
    raise ValueError(f'executor is {value!r}; expected "local", "ray", LocalExecutor(...) or RayExecutor(...)')


def _solve_all(
    executor: LocalExecutor | RayExecutor, todo: Iterator[list[ModelEntry]], spec: SweepSpec
) -> Generator[BatchResults, None, None]:
    """Results of all batches, as they complete."""
    if isinstance(executor, LocalExecutor):
        with closing(
            run_tasks(executor, solve_batch, spec, ((None, batch) for batch in todo), in_order=False)
        ) as solved:
            yield from (results for _, results in solved)
        return
    joiner = Joiner()
    tasks = (([entry.label for entry in batch], joiner.join(batch)) for batch in todo)
    with closing(run_tasks(executor, solve_joined, spec, tasks, in_order=False)) as joined:
        yield from (results._replace(labels=labels) for labels, results in joined)


def _parse_spec(budgets: Any, penalties: Any, keep: Any, start: Any, record_errors: bool) -> SweepSpec:
    if (budgets is None) == (penalties is None):
        raise TypeError("expected budgets or penalties, and not both")
    if penalties is None:
        return SweepSpec(validate.nonneg_ints("budgets", budgets), _keep(keep), start, record_errors)
    if more := set(_keep(keep)) - {"value", "usage"}:
        raise ValueError(f"keep has {min(more)!r}, which needs budgets, not penalties")
    return SweepSpec((), PRICED, start, record_errors, penalty_table(penalties))


def _keep(keep: Any) -> tuple[str, ...]:
    names = (keep,) if isinstance(keep, str) else tuple(keep)
    for name in names:
        if name not in KEPT:
            raise ValueError(f"keep has {name!r}; choose from {', '.join(KEPT)}")
    return tuple(name for name in KEPT if name in names or name == "value")


def _on_error(value: Any) -> str:
    if value not in ("raise", "record"):
        raise ValueError(f'on_error is {value!r}; expected "raise" or "record"')
    return str(value)


def _settings(spec: SweepSpec, total: int | None, parameters: Any) -> dict[str, Any]:
    """JSON values that identify a sweep."""
    if clash := [name for name in parameters if name in COLUMNS]:
        raise ValueError(f"parameter {clash[0]!r} has the name of a column of the results; rename it")
    return {
        "budget": list(spec.budget),
        "keep": list(spec.keep),
        "penalties": spec.penalties.tolist() if not spec.budget else None,
        "start": None if spec.start is None else np.asarray(spec.start).tolist(),
        "models": total,
        "parameters": {name: _parameter_kind(values) for name, values in parameters.items()},
        "grid": {name: [str(value) for value in values] for name, values in parameters.items()},
    }


def _open_folder(
    out: str | os.PathLike[str] | None, settings: dict[str, Any]
) -> tuple[PartFolder | None, dict[int, int]]:
    if out is None:
        return None, {}
    from selfreg.sweeps.parts import PartFolder

    folder = PartFolder(out, settings)
    return folder, folder.read_done()


def _check_done(done: dict[int, int]) -> Callable[[ModelEntry], bool]:
    """Whether a model is done; ValueError if the one with its index has another number of states."""

    def is_done(entry: ModelEntry) -> bool:
        index = entry.label.model_index
        if index not in done:
            return False
        states = getattr(getattr(entry.model, "mdp", entry.model), "n_states", None)
        if states is not None and done[index] not in (0, states):
            raise ValueError(
                f"model {index} has {states} states, {done[index]} in the results so far: "
                "these are other models; choose another folder"
            )
        return True

    return is_done


def _parameter_kind(values: Sequence[Any]) -> str:
    """Column type of the values of a parameter; anything but booleans and numbers is written as text."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    if all(isinstance(value, bool) for value in plain):
        return "bool"
    if all(isinstance(value, int) and not isinstance(value, bool) for value in plain):
        return "int64"
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in plain):
        return "float64"
    return "string"
