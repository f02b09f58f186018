"""Many models, all budgets of each: in batches, on threads or a Ray cluster, to arrays or to a Parquet data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.progress import progress
from selfreg.planning._arguments import penalty_table
from selfreg.planning.penalized import HUGE
from selfreg.sweeps.batches import Case, Job, ModelError, Results, batches
from selfreg.sweeps.executors import Executor, LocalExecutor, RayExecutor, executor_of
from selfreg.sweeps.sources import ModelGrid, cases_of

if TYPE_CHECKING:
    import pyarrow as pa

    from selfreg.sweeps.parts import PartFolder

__all__ = ["LocalExecutor", "ModelError", "ModelGrid", "RayExecutor", "Sweep", "read_sweep", "sweep"]

Floats = npt.NDArray[np.float64]
KEPT = ("value", "usage", "state_value", "policy")
PRICED = ("success", "usage")


class Sweep:
    """Results of many models, in their order; read from disk column by column where there is a folder.

    Attributes
    ----------
    budget : tuple of int
        Largest budget of every kind, the same for all models; () where there are penalties.
    penalties : float64 (L, budgets) or None
    keep : tuple of str
        What was kept.
    """

    def __init__(self, settings: dict[str, Any], results: Sequence[Results], folder: PartFolder | None = None) -> None:
        self.budget: tuple[int, ...] = tuple(settings["budget"])
        priced = settings.get("penalties")  # folders of earlier versions have none
        self.penalties: Floats | None = np.array(priced, dtype=np.float64) if priced else None
        self.keep: tuple[str, ...] = tuple(settings["keep"])
        self._settings, self._folder = settings, folder
        self._results = results

    def __len__(self) -> int:
        return len(self.places)

    def __repr__(self) -> str:
        asked = f"budget {self.budget}" if self.penalties is None else f"{len(self.penalties)} penalties"
        return f"Sweep({len(self)} models, {asked}, {len(self.errors)} errors)"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the lattice of budgets, (B1 + 1, B2 + 1, ...); (L,) where there are penalties."""
        return tuple(b + 1 for b in self.budget) if self.penalties is None else (len(self.penalties),)

    @property
    def n_budgets(self) -> int:
        """Kinds of budget."""
        return len(self.budget) if self.penalties is None else self.penalties.shape[1]

    @cached_property
    def _order(self) -> list[tuple[int, int]]:
        """Part and row in it of every model, by place."""
        order = sorted(
            ((label.place, k, i) for k, part in enumerate(self._results) for i, label in enumerate(part.labels))
        )
        return [(k, i) for _, k, i in order]

    def table(self) -> pa.Table:
        """All results as a table: one row a model (`docs/scale.md` lists the columns); needs the extra `logs`."""
        from selfreg.sweeps.parts import _schema, table_of

        if self._folder is not None:
            return self._folder.table()
        import pyarrow as pa

        schema = _schema(self._settings)
        parts = [table_of(part, self._settings, schema) for part in self._results]
        return pa.concat_tables([schema.empty_table(), *parts]).sort_by("model")

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """Place of every model in what was given, int64 (models,)."""
        if self._folder is None:
            return np.array([self._results[k].labels[i].place for k, i in self._order], np.int64)
        return np.asarray(self._column("model"), dtype=np.int64)

    @cached_property
    def value(self) -> Floats:
        """Success from the start under so much help, float64 (models, B1 + 1, ...); NaN where there is an error.

        Of penalties (models, L): success less penalties paid.
        """
        if self.penalties is not None:
            paid: Floats = np.einsum("mld,ld->ml", self.usage, np.minimum(self.penalties, HUGE))
            return self.success - paid
        return self._stacked("value").reshape(-1, *self.shape)

    @cached_property
    def success(self) -> Floats:
        """Success from the start, float64 (models, B1 + 1, ...) or (models, L); NaN where there is an error."""
        return self.value if self.penalties is None else self._stacked("success").reshape(-1, *self.shape)

    @cached_property
    def usage(self) -> Floats:
        """Expected help spent from the start, float64 (models, B1 + 1, ..., budgets); NaN where there is an error."""
        return self._stacked("usage").reshape(-1, *self.shape, self.n_budgets)

    @cached_property
    def bound(self) -> Floats:
        """Proven error of every model's values, float64 (models,)."""
        return self._stacked("bound")

    @cached_property
    def states(self) -> npt.NDArray[np.int64]:
        """States of every model, int64 (models,); 0 for one that could not be made."""
        return np.asarray(self._stacked("states"), dtype=np.int64)

    @cached_property
    def names(self) -> list[str | None]:
        """Name of every model, where the source has names."""
        if self._folder is None:
            return [self._results[k].labels[i].name for k, i in self._order]
        return list(self._column("name").to_pylist())

    @cached_property
    def parameters(self) -> dict[str, list[Any]]:
        """Values of every parameter of a `ModelGrid`, one a model; from disk what is no number is text."""
        names = list(self._settings["parameters"])
        if self._folder is None:
            rows = [self._results[k].labels[i].parameters for k, i in self._order]
            return {name: [row[p] for row in rows] for p, name in enumerate(names)}
        return {name: self._column(name).to_pylist() for name in names}

    @cached_property
    def errors(self) -> dict[int, str]:
        """Place and fault of every model that could not be solved."""
        if self._folder is None:
            texts = [self._results[k].errors[i] for k, i in self._order]
        else:
            texts = self._column("error").to_pylist()
        return {int(place): text for place, text in zip(self.places, texts, strict=True) if text is not None}

    def state_value(self, i: int) -> Floats:
        """Values of all states of the i-th model, float64 (n, B1 + 1, ...); needs keep=("state_value", ...)."""
        return np.asarray(self._whole("state_value", i), dtype=np.float64)

    def policy(self, i: int) -> npt.NDArray[np.int8]:
        """Decisions in all states of the i-th model, int8 (n, B1 + 1, ...); needs keep=("policy", ...)."""
        return np.asarray(self._whole("policy", i), dtype=np.int8)

    def _whole(self, what: str, i: int) -> npt.NDArray[Any]:
        self._kept(what)
        if self._folder is None:
            k, j = self._order[i]
            array = getattr(self._results[k], what)[j]
        else:
            array = self._folder.one(what, int(self.places[i]))
        return np.asarray(array).reshape(-1, *self.shape)

    def _kept(self, what: str) -> None:
        if what in KEPT and what not in self.keep:
            raise ValueError(f"{what!r} was not kept; ask for it with keep=(..., {what!r})")

    def _column(self, what: str) -> Any:
        assert self._folder is not None
        return self._folder.table([what])[what].combine_chunks()

    def _stacked(self, what: str) -> npt.NDArray[Any]:
        """One row a model, flat."""
        self._kept(what)
        if self._folder is not None:
            column = self._column(what)
            flat = column.flatten() if what in (*KEPT, *PRICED) else column
            return np.asarray(flat.to_numpy(zero_copy_only=False))
        arrays = [getattr(part, "value" if what == "success" else what) for part in self._results]
        if what == "usage":
            arrays = [array.transpose(0, 2, 1).reshape(len(array), -1) for array in arrays]
        if not arrays:
            return np.empty((0, prod(self.shape) * (self.n_budgets if what == "usage" else 1)))
        first = np.cumsum([0, *(len(array) for array in arrays)])
        return np.asarray(np.concatenate(arrays)[[first[k] + i for k, i in self._order]])


def sweep(
    mdps: Any,
    budgets: int | tuple[int, ...] | None = None,
    *,
    penalties: npt.ArrayLike | None = None,
    executor: Executor | Literal["local", "ray"] | None = None,
    keep: Sequence[str] = ("value", "usage"),
    out: str | os.PathLike[str] | None = None,
    start: npt.ArrayLike | None = None,
    on_error: Literal["raise", "record"] = "raise",
) -> Sweep:
    """Solve many models for every budget up to the one given, or for every penalty.

    Models without cycles go through one kernel call a batch; others one by one, with a proven bound.

    Parameters
    ----------
    mdps : iterable, mapping, path or ModelGrid
        Models in a list or iterator (`InterventionMDP`, `EstimatedModel`, (model, start), or a function without
        arguments that makes one of these), by name, a folder with run folders or saved models in it, or a function
        of a parameter grid.
    budgets : int or tuple of int
        Largest budget, or one per kind of budget, >= 0; the same for all models. None where there are penalties.
    penalties : array_like of float (L,) or (L, budgets)
        Instead of budgets: prices of a unit of help, from 0 to infinity, as of `solve_penalized`. Success and usage are
        those of the optimal policy for each price.
    executor : {"local", "ray"}, LocalExecutor, RayExecutor, optional
        By default threads of this process, one a core. The results do not depend on it.
    keep : sequence of {"value", "usage", "state_value", "policy"}
        Value and expected usage from the start; values and decisions in all states. Of penalties, success and usage
        are kept.
    out : path, optional
        Folder of the results, a Parquet data set in parts. If it holds parts of the same sweep, only what is missing is
        done: a sweep that was killed is called again as it was. Needs the extra `logs`.
    start : int or array_like of float (n,), optional
        A state, or probabilities; by default a model's own (of an `EstimatedModel`), else state 0.
    on_error : {"raise", "record"}
        What a model that cannot be made or solved does: stop the sweep, or leave its place, its fault and NaN.

    Returns
    -------
    Sweep

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above; `ModelError` (a ValueError) with the place of an invalid model.
    ConnectionError
        Where a Ray cluster is lost; with `out`, what is done stays.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> found = selfreg.sweep([mdp, "no model", mdp], budgets=1, on_error="record")
    >>> found.value.tolist()
    [[0.5, 0.9], [nan, nan], [0.5, 0.9]]
    >>> found.errors
    {1: 'expected an InterventionMDP, an EstimatedModel or (model, start); got str'}
    >>> priced = selfreg.sweep([mdp], penalties=[0.1, 0.5])
    >>> priced.success.tolist(), priced.usage[..., 0].tolist()
    ([[0.9, 0.5]], [[1.0, 0.0]])
    """
    job = _job(budgets, penalties, keep, start, _on_error(on_error) == "record")
    chosen = executor_of(executor)
    cases, total, parameters = cases_of(mdps)
    settings = _settings(job, total, parameters)
    folder, done = _folder(out, settings)
    seen: list[Results] = []
    todo = batches(cases, job.points, _skipping(done), getattr(chosen, "batch_times", 1))
    with progress("sweep", total, "models") as advance, closing(_run(chosen, todo, job)) as running:
        advance(len(done))
        for results in running:
            seen.append(results) if folder is None else folder.write(results)
            advance(len(results.labels))
    return Sweep(settings, seen, folder)


def read_sweep(out: str | os.PathLike[str]) -> Sweep:
    """Results of a sweep from its folder, as far as they are there.

    Raises
    ------
    ValueError
        If the folder holds no sweep.
    """
    from selfreg.sweeps.parts import PartFolder

    folder = PartFolder(out)
    return Sweep(folder.settings, [], folder)


def _run(executor: Executor, todo: Iterator[list[Case]], job: Job) -> Generator[Results, None, None]:
    yield from executor.run(todo, job)


def _job(budgets: Any, penalties: Any, keep: Any, start: Any, record_errors: bool) -> Job:
    if (budgets is None) == (penalties is None):
        raise TypeError("expected budgets or penalties, and not both")
    if penalties is None:
        return Job(validate.nonneg_ints("budgets", budgets), _keep(keep), start, record_errors)
    if more := set(_keep(keep)) - {"value", "usage"}:
        raise ValueError(f"keep has {min(more)!r}, which is there for budgets only")
    return Job((), PRICED, start, record_errors, penalty_table(penalties))


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


def _settings(job: Job, total: int | None, parameters: Any) -> dict[str, Any]:
    """What makes two sweeps the same, as JSON values."""
    kinds = {}
    if parameters:
        from selfreg.sweeps.parts import COLUMNS, parameter_kind

        if clash := [name for name in parameters if name in COLUMNS]:
            raise ValueError(f"parameter {clash[0]!r} has the name of a column of the results; rename it")
        kinds = {name: parameter_kind(values) for name, values in parameters.items()}
    return {
        "budget": list(job.budget),
        "keep": list(job.keep),
        "penalties": job.penalties.tolist() if not job.budget else None,
        "start": None if job.start is None else np.asarray(job.start).tolist(),
        "models": total,
        "parameters": kinds,
        "grid": {name: [str(value) for value in values] for name, values in parameters.items()},
    }


def _folder(out: str | os.PathLike[str] | None, settings: dict[str, Any]) -> tuple[PartFolder | None, dict[int, int]]:
    if out is None:
        return None, {}
    from selfreg.sweeps.parts import PartFolder

    folder = PartFolder(out, settings)
    return folder, folder.done()


def _skipping(done: dict[int, int]) -> Callable[[Case], bool] | None:
    if not done:
        return None

    def skip(case: Case) -> bool:
        if case.label.place not in done:
            return False
        states = getattr(getattr(case.item, "mdp", case.item), "n_states", None)
        if states is not None and done[case.label.place] not in (0, states):
            raise ValueError(
                f"model {case.label.place} has {states} states, {done[case.label.place]} in the results so far: "
                "these are other models; choose another folder"
            )
        return True

    return skip
