"""Results of a sweep on disk: a Parquet data set in parts, which a second call completes.

A folder has `sweep.json` (the settings) and `part-FIRST-LAST.parquet`, named by the indices of the first and the last
model in it. Parts are written atomically: after a kill, models that are in no part remain to be done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write, open_resumable, require_utf8_path
from selfreg.sweeps.batches import BatchResults

with require_extra("logs", "a sweep on disk or as a table"):
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

SETTINGS, SCHEMA = "sweep.json", "selfreg.sweep/1"


class PartFolder:
    """Parts of one sweep.

    Parameters
    ----------
    path : path
    settings : mapping, optional
        JSON values that identify the sweep.

    Raises
    ------
    ValueError
        If the folder is of another sweep (names the setting that differs), or of something else.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> None:
        require_utf8_path(path)
        self.path = Path(path)
        if settings is None:
            if not (self.path / SETTINGS).is_file():
                raise ValueError(f"{path} is not a sweep (missing {SETTINGS})")
        else:
            open_resumable(self.path, SETTINGS, {"schema": SCHEMA, **settings}, "sweep")
        self.settings: dict[str, Any] = json.loads((self.path / SETTINGS).read_text(encoding="utf-8"))
        if self.settings.get("schema") != SCHEMA:
            raise ValueError(f"{path}/{SETTINGS} has schema {self.settings.get('schema')!r}; expected {SCHEMA!r}")
        self.schema = schema_of(self.settings)

    def read_done(self) -> dict[int, int]:
        """Indices of the models that are done, with their numbers of states."""
        if not (parts := self._files()):
            return {}
        table = pq.read_table(parts, columns=["model", "states"], schema=self.schema)
        return dict(zip(table["model"].to_pylist(), table["states"].to_pylist(), strict=True))

    def write(self, results: BatchResults) -> None:
        """Write one part."""
        indices = [label.model_index for label in results.labels]
        table = build_table(results, self.settings, self.schema)
        with atomic_write(self.path / f"part-{indices[0]:09d}-{indices[-1]:09d}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def read_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All parts, in the order of the models."""
        parts = ds.dataset(self._files(), schema=self.schema, format="parquet")
        names = self.schema.names if columns is None else [*columns]
        if "model" in names:
            return parts.to_table(columns=names).sort_by("model")
        return parts.to_table(columns=["model", *names]).sort_by("model").select(names)

    def read_entry(self, column: str, index: int) -> Any:
        """Entry of one model, as an array."""
        parts = ds.dataset(self._files(), schema=self.schema, format="parquet")
        entry = parts.to_table(columns=[column], filter=ds.field("model") == index)[column]
        return entry[0].values.to_numpy(zero_copy_only=False)

    def _files(self) -> list[str]:
        return sorted(str(path) for path in self.path.glob("part-*.parquet"))


def count_points(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Number of budgets of the lattice (or of penalties), and of kinds of budget."""
    if penalties := settings.get("penalties"):
        return len(penalties), len(penalties[0])
    return int(np.prod([b + 1 for b in settings["budget"]])), len(settings["budget"])


def schema_of(settings: Mapping[str, Any]) -> pa.Schema:
    points, n_budgets = count_points(settings)
    types = {
        "value": pa.list_(pa.float64(), points),
        "success": pa.list_(pa.float64(), points),
        "usage": pa.list_(pa.float64(), points * n_budgets),
        "state_value": pa.large_list(pa.float64()),
        "policy": pa.large_list(pa.int8()),
    }
    kinds = {"bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
    return pa.schema(
        [
            ("model", pa.int64()),
            ("name", pa.string()),
            *((name, kinds[kind]) for name, kind in settings["parameters"].items()),
            ("states", pa.int64()),
            ("bound", pa.float64()),
            *((name, types[name]) for name in types if name in settings["keep"]),
            ("error", pa.string()),
        ]
    )


def build_table(results: BatchResults, settings: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Results as a table: one row a model; lattices flattened in C order, budgets innermost in usage."""
    columns: dict[str, Any] = {
        "model": [label.model_index for label in results.labels],
        "name": [label.name for label in results.labels],
        "states": results.states,
        "bound": results.bound,
        "error": results.errors,
    }
    for i, (name, kind) in enumerate(settings["parameters"].items()):
        values = [label.parameters[i] for label in results.labels]
        columns[name] = [str(value) for value in values] if kind == "string" else values
    flat = {
        "value": results.value,
        "success": results.value,
        "usage": np.ascontiguousarray(results.usage.transpose(0, 2, 1)),
    }
    for name, array in flat.items():
        if name in schema.names:
            width = schema.field(name).type.list_size
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), width)
    for name, arrays in (("state_value", results.state_value), ("policy", results.policy)):
        if name in schema.names:
            ends = np.cumsum([0, *(array.size for array in arrays)])
            joined = np.concatenate([array.reshape(-1) for array in arrays])
            columns[name] = pa.LargeListArray.from_arrays(pa.array(ends), pa.array(joined))
    return pa.table([columns[field.name] for field in schema], schema=schema)
