"""Results of a sweep: arrays over models, read from memory or from a folder, and their plot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selfreg._util.showing import data_frame, html_table
from selfreg.planning._drawing import MOST_LINES, new_axes
from selfreg.planning.penalized import HUGE
from selfreg.sweeps.batches import BatchResults

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.axes import Axes

    from selfreg.sweeps.parts import PartFolder

Floats = npt.NDArray[np.float64]
KEPT = ("value", "usage", "state_value", "policy")
PRICED = ("success", "usage")
MOST_ROWS = 10


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

    def __init__(
        self, settings: dict[str, Any], results: Sequence[BatchResults], folder: PartFolder | None = None
    ) -> None:
        self.budget: tuple[int, ...] = tuple(settings["budget"])
        priced = settings.get("penalties")  # folders of earlier versions have none
        self.penalties: Floats | None = np.array(priced, dtype=np.float64) if priced else None
        self.keep: tuple[str, ...] = tuple(settings["keep"])
        self._settings, self._folder = settings, folder
        self._results = results

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        spec = f"budget {self.budget}" if self.penalties is None else f"{len(self.penalties)} penalties"
        return f"Sweep({len(self)} models, {spec}, {len(self.errors)} errors)"

    def _repr_html_(self) -> str:
        """Success of the first models with nothing, half and all of the budget, or at the ends of the penalties."""
        flat = self.success.reshape(len(self), prod(self.shape))
        places = sorted({0, (flat.shape[1] - 1) // 2, flat.shape[1] - 1}) if flat.shape[1] else []
        names = [np.unravel_index(place, self.shape) for place in places]
        what = "budget" if self.penalties is None else "penalty"
        head = ["model", *(f"success, {what} {', '.join(str(int(i)) for i in name)}" for name in names)]
        rows = [
            [self._label(i), *(f"{flat[i, place]:.3f}" for place in places)] for i in range(min(len(self), MOST_ROWS))
        ]
        return html_table(repr(self), head, rows, len(self) - len(rows))

    def _label(self, i: int) -> str:
        values = ", ".join(f"{name} {column[i]}" for name, column in self.parameters.items())
        return values or self.names[i] or str(int(self.indices[i]))

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
        """Batch and row in it of every model, by index."""
        order = sorted(
            ((label.model_index, k, i) for k, part in enumerate(self._results) for i, label in enumerate(part.labels))
        )
        return [(k, i) for _, k, i in order]

    def table(self) -> pa.Table:
        """All results as a table: one row a model (`docs/sweep-files.md` lists the columns); needs the extra `logs`."""
        from selfreg.sweeps.parts import build_table, schema_of

        if self._folder is not None:
            return self._folder.read_table()
        import pyarrow as pa

        schema = schema_of(self._settings)
        parts = [build_table(part, self._settings, schema) for part in self._results]
        return pa.concat_tables([schema.empty_table(), *parts]).sort_by("model")

    def to_pandas(self) -> pd.DataFrame:
        """`table` as a DataFrame.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        data_frame({}, "Sweep.to_pandas")
        return self.table().to_pandas()

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw success from the start, a line a model, and the median of many models.

        Against the budget, or against the help used where there are penalties.

        Parameters
        ----------
        axes : matplotlib Axes, optional
            Where to draw; those of a new figure by default.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ValueError
            If there are several budgets.
        """
        return draw_sweep(self, axes)

    @cached_property
    def indices(self) -> npt.NDArray[np.int64]:
        """Index of every model in the source, int64 (models,)."""
        if self._folder is None:
            return np.array([self._results[k].labels[i].model_index for k, i in self._order], np.int64)
        return np.asarray(self._column("model"), dtype=np.int64)

    @cached_property
    def value(self) -> Floats:
        """Success from the start under so much help, float64 (models, B1 + 1, ...); NaN where there is an error.

        Of penalties (models, L): success less penalties paid.
        """
        if self.penalties is not None:
            paid: Floats = np.einsum("mld,ld->ml", self.usage, np.minimum(self.penalties, HUGE))
            return self.success - paid
        return self._read_rows("value").reshape(-1, *self.shape)

    @cached_property
    def success(self) -> Floats:
        """Success from the start, float64 (models, B1 + 1, ...) or (models, L); NaN where there is an error."""
        return self.value if self.penalties is None else self._read_rows("success").reshape(-1, *self.shape)

    @cached_property
    def usage(self) -> Floats:
        """Expected help spent from the start, float64 (models, B1 + 1, ..., budgets); NaN where there is an error."""
        return self._read_rows("usage").reshape(-1, *self.shape, self.n_budgets)

    @cached_property
    def bound(self) -> Floats:
        """Proven error of every model's values, float64 (models,)."""
        return self._read_rows("bound")

    @cached_property
    def states(self) -> npt.NDArray[np.int64]:
        """States of every model, int64 (models,); 0 for one that could not be made."""
        return np.asarray(self._read_rows("states"), dtype=np.int64)

    @cached_property
    def names(self) -> list[str | None]:
        """Name of every model, where the source has names."""
        if self._folder is None:
            return [self._results[k].labels[i].name for k, i in self._order]
        return list(self._column("name").to_pylist())

    @cached_property
    def parameters(self) -> dict[str, list[Any]]:
        """Values of every parameter of a `ModelGrid`; from disk, anything but booleans and numbers as text."""
        names = list(self._settings["parameters"])
        if self._folder is None:
            rows = [self._results[k].labels[i].parameters for k, i in self._order]
            return {name: [row[p] for row in rows] for p, name in enumerate(names)}
        return {name: self._column(name).to_pylist() for name in names}

    @cached_property
    def errors(self) -> dict[int, str]:
        """Fault of every model that could not be solved, by index."""
        if self._folder is None:
            texts = [self._results[k].errors[i] for k, i in self._order]
        else:
            texts = self._column("error").to_pylist()
        return {int(index): text for index, text in zip(self.indices, texts, strict=True) if text is not None}

    def state_value(self, i: int) -> Floats:
        """Values of all states of the i-th model, float64 (n, B1 + 1, ...); needs keep=("state_value", ...)."""
        return np.asarray(self._read_array("state_value", i), dtype=np.float64)

    def policy(self, i: int) -> npt.NDArray[np.int8]:
        """Decisions in all states of the i-th model, int8 (n, B1 + 1, ...); needs keep=("policy", ...)."""
        return np.asarray(self._read_array("policy", i), dtype=np.int8)

    def _read_array(self, what: str, i: int) -> npt.NDArray[Any]:
        self._require_kept(what)
        if self._folder is None:
            k, j = self._order[i]
            array = getattr(self._results[k], what)[j]
        else:
            array = self._folder.read_entry(what, int(self.indices[i]))
        return np.asarray(array).reshape(-1, *self.shape)

    def _require_kept(self, what: str) -> None:
        if what in KEPT and what not in self.keep:
            raise ValueError(f"{what!r} was not kept; pass keep=(..., {what!r})")

    def _column(self, what: str) -> Any:
        assert self._folder is not None
        return self._folder.read_table([what])[what].combine_chunks()

    def _read_rows(self, what: str) -> npt.NDArray[Any]:
        """One row per model, flat."""
        self._require_kept(what)
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


def draw_sweep(results: Sweep, axes: Axes | None) -> Axes:
    """Lines of a sweep; see `Sweep.plot`."""
    if results.n_budgets > 1:
        raise ValueError(f"the models have {results.n_budgets} budgets; a plot has one")
    axes = new_axes() if axes is None else axes
    few = len(results) <= MOST_LINES
    budgets = np.arange(results.shape[0])
    for i in range(len(results)):
        x = budgets if results.penalties is None else results.usage[i, :, 0]
        order = np.argsort(x, kind="stable")
        style: dict[str, Any] = {"marker": "o", "markersize": 4, "label": results._label(i)}
        axes.plot(
            x[order], results.success[i][order], **(style if few else {"color": "C0", "alpha": 0.2, "linewidth": 0.6})
        )
    if not few and results.penalties is None:
        median = np.nanmedian(results.success, axis=0)
        axes.plot(budgets, median, color="black", linewidth=2, label=f"median of {len(results)} models")
    axes.set(xlabel="budget" if results.penalties is None else "help used per episode", ylabel="success")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return axes
