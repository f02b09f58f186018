"""Models on disk: a folder of npy arrays and a JSON header, to be mapped into memory; nothing is pickled.

model.json              {"schema": "selfreg.model/1", "states": n, "actions": [...], "costs": {...}, "entries": [...],
                        "visits": true or false, "names": [...] where states have names}
terminal_value.npy      float64 (n,), NaN marks a non-terminal state
indptr.K.npy            CSR row pointers of action K (its index in "actions"), int32 or int64 (n + 1,)
indices.K.npy           columns, of the same dtype
data.K.npy              probabilities, float64
visits.K.npy            observations of each row, float64 (n,); only where "visits" is true
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg._util.files import atomic_folder
from selfreg.models import model_dicts, validate_model

HEADER, SCHEMA = "model.json", "selfreg.model/1"
FIELDS = ("states", "actions", "costs", "entries", "visits")
# Rows that are checked together: some tens of MB at a time, however large the model.
BLOCK = 1 << 20


def save(
    path: str | os.PathLike[str],
    transitions: Any,
    terminal_value: npt.NDArray[np.float64],
    costs: Any,
    visits: Mapping[str, npt.NDArray[np.float64]] | None,
    states: tuple[Hashable, ...] | None,
    overwrite: bool,
) -> None:
    """Write a model as a folder, atomically."""
    header = {
        "schema": SCHEMA,
        "states": len(terminal_value),
        "actions": list(transitions),
        "costs": {name: list(cost) for name, cost in costs.items()},
        "entries": [len(matrix.data) for matrix in transitions.values()],
        "visits": visits is not None,
    }
    if states is not None:
        header["names"] = states
    with atomic_folder(path, HEADER, overwrite) as folder:
        np.save(folder / "terminal_value.npy", terminal_value, allow_pickle=False)
        for k, (name, matrix) in enumerate(transitions.items()):
            for part in ("indptr", "indices", "data"):
                np.save(folder / f"{part}.{k}.npy", getattr(matrix, part), allow_pickle=False)
            if visits is not None:
                np.save(folder / f"visits.{k}.npy", visits[name], allow_pickle=False)
        (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")


def load(
    path: str | os.PathLike[str], mmap: bool, check: bool
) -> tuple[
    dict[str, sp.csr_array],
    npt.NDArray[np.float64],
    dict[str, tuple[int, ...]],
    dict[str, npt.NDArray[np.float64]] | None,
    tuple[Hashable, ...] | None,
]:
    """Transitions, terminal values, costs, visits and names of states of a saved model."""
    folder = Path(path)
    header = _header(folder)
    n, actions = header["states"], header["actions"]
    value = _array(folder, "terminal_value", n, (np.float64,), mmap)
    matrices = {}
    for k, (name, entries) in enumerate(zip(actions, header["entries"], strict=True)):
        indptr = _array(folder, f"indptr.{k}", n + 1, (np.int32, np.int64), mmap)
        indices = _array(folder, f"indices.{k}", entries, (np.int32, np.int64), mmap)
        data = _array(folder, f"data.{k}", entries, (np.float64,), mmap)
        if check:
            _check_matrix(
                f'{folder}: transitions["{name}"]', indptr, indices, data, value, name == validate_model.NOHELP
            )
        matrices[name] = sp.csr_array((data, indices, indptr), shape=(n, n), copy=False)
    if check:
        validate_model.terminal_value(value, n)
    costs = validate_model.costs(header["costs"], actions[1:])
    visits = None
    if header["visits"]:
        visits = {name: _array(folder, f"visits.{k}", n, (np.float64,), mmap) for k, name in enumerate(actions)}
        if check:
            validate.by_row(f"{folder}: visits", visits, actions, n)
    return matrices, value, costs, visits, _names(folder, header)


def _names(folder: Path, header: Mapping[str, Any]) -> tuple[Hashable, ...] | None:
    names = header.get("names")
    if names is not None and not isinstance(names, list):
        raise ValueError(f'{folder / HEADER}: "names" is {names!r}; it must be a list')
    try:
        return model_dicts.state_names(None if names is None else _tuples(names), header["states"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / HEADER}: {error}") from None


def _tuples(value: Any) -> Any:
    """JSON has lists for tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def read_header(path: Path, kind: str, schema: str, fields: Collection[str]) -> dict[str, Any]:
    """The JSON beside saved arrays; ValueError names what is wrong with it. `kind` is the word for what was saved."""
    if not path.is_file():
        raise ValueError(f"{path.parent} is not a saved {kind} (missing {path.name})")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(header, dict) or header.get("schema") != schema:
        raise ValueError(f"{path} has an unknown schema; expected {schema!r}")
    missing = [name for name in fields if name not in header]
    if missing:
        raise ValueError(f"{path} lacks {missing[0]!r}")
    return header


def _header(folder: Path) -> dict[str, Any]:
    header = read_header(folder / HEADER, "model", SCHEMA, FIELDS)
    actions = header["actions"]
    if not actions or actions[0] != validate_model.NOHELP or len(header["entries"]) != len(actions):
        raise ValueError(f'{folder / HEADER} must list "{validate_model.NOHELP}" first and one entry count per action')
    if not isinstance(header["visits"], bool):
        raise ValueError(f'{folder / HEADER}: "visits" is {header["visits"]!r}; it must be true or false')
    return header


def _array(folder: Path, name: str, length: int, dtypes: tuple[Any, ...], mmap: bool) -> npt.NDArray[Any]:
    file = folder / f"{name}.npy"
    try:
        # An empty file cannot be mapped.
        array = np.load(file, mmap_mode="r" if mmap and length else None, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{file} is missing") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is not an array: {error}") from None
    if array.shape != (length,) or array.dtype not in dtypes:
        kinds = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise ValueError(f"{file} holds {array.dtype} {array.shape}; expected {kinds} ({length},)")
    array.flags.writeable = False
    plain: npt.NDArray[Any] = array.view(np.ndarray)
    return plain


def _check_matrix(
    label: str,
    indptr: npt.NDArray[Any],
    indices: npt.NDArray[Any],
    data: npt.NDArray[np.float64],
    terminal_value: npt.NDArray[np.float64],
    nohelp: bool,
) -> None:
    """Check, block by block, what `InterventionMDP` guarantees and kernels do not check."""
    n = len(terminal_value)
    if indptr[0] != 0 or indptr[-1] != len(indices):
        raise ValueError(f"{label} has a broken indptr; expected offsets from 0 to {len(indices)}")
    for first in range(0, n, BLOCK):
        rows = indptr[first : first + BLOCK + 1].astype(np.int64)
        length = np.diff(rows)
        if np.any(length < 0) or rows[-1] > len(indices):
            raise ValueError(f"{label} has a broken indptr; expected non-decreasing offsets")
        columns, entries = indices[rows[0] : rows[-1]], data[rows[0] : rows[-1]]
        owner = np.repeat(np.arange(len(length)), length)
        bad = (columns < 0) | (columns >= n) | ~((entries > 0.0) & (entries < np.inf))
        bad[1:] |= (owner[1:] == owner[:-1]) & (columns[1:] <= columns[:-1])
        if bad.any():
            row = first + int(owner[np.argmax(bad)])
            raise ValueError(f"{label} row {row} is broken; expected sorted states 0..{n - 1} and probabilities > 0")
        sums = np.bincount(owner, entries, len(length))
        off = (length > 0) & (np.abs(sums - 1.0) > validate.ROW_TOLERANCE)
        if off.any():
            row = int(np.argmax(off))
            raise ValueError(f"{label} row {first + row} sums to {sums[row]:.12g}; expected 1 or no entries")
        if nohelp and np.any(empty := (length == 0) & np.isnan(terminal_value[first : first + BLOCK])):
            row = first + int(np.argmax(empty))
            raise ValueError(f"{label} row {row} sums to 0; expected 1 in every non-terminal state")
