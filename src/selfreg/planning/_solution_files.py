"""Solutions on disk: a folder with the model, its values and decisions, and a JSON header; nothing is pickled.

solution.json   {"schema": "selfreg.solution/1", "budget": [...], "bound": x, "robust": null or the sets}
model/          as `InterventionMDP.save` writes it
value.npy       float64 or float32 (n, B1 + 1, ...)
policy.npy      int8, the same shape
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg._util.files import atomic_folder
from selfreg.mdp import InterventionMDP
from selfreg.models.model_files import read_header

HEADER, SCHEMA = "solution.json", "selfreg.solution/1"
FIELDS = ("budget", "bound", "robust")


def save_solution(path: str | os.PathLike[str], solution: Any, overwrite: bool) -> None:
    """Write a solution as a folder, atomically."""
    robust = getattr(solution, "robust", None)
    header = {
        "schema": SCHEMA,
        "budget": list(solution.budget),
        "bound": solution.bound,
        "robust": None if robust is None else {"kind": type(robust).__name__, **_plain_sets(robust)},
    }
    with atomic_folder(path, HEADER, overwrite) as folder:
        solution.mdp.save(folder / "model")
        np.save(folder / "value.npy", solution.value, allow_pickle=False)
        np.save(folder / "policy.npy", solution.policy, allow_pickle=False)
        (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")


def load_solution(path: str | os.PathLike[str], mmap: bool) -> Any:
    """Read a solution that `save_solution` wrote."""
    from selfreg.planning.robust import L1, Intervals, RobustSolution
    from selfreg.planning.solution import Solution

    folder = Path(path)
    header = _header(folder)
    mdp = InterventionMDP.open(folder / "model", mmap=mmap)
    shape = (mdp.n_states, *(b + 1 for b in header["budget"]))
    value = _array(folder / "value.npy", shape, (np.float64, np.float32), mmap)
    policy = _array(folder / "policy.npy", shape, (np.int8,), mmap)
    if len(header["budget"]) != mdp.n_budgets or policy.min(initial=0) < 0 or policy.max(initial=0) >= len(mdp.actions):
        raise ValueError(f"{folder}: budget or policy.npy do not fit the model, which has actions {mdp.actions!r}")
    parts = (mdp, tuple(header["budget"]), value, policy, header["bound"])
    robust = header["robust"]
    if robust is None:
        return Solution(*parts)
    kinds: dict[str, type[Any]] = {"L1": L1, "Intervals": Intervals}
    if not isinstance(robust, dict) or robust.get("kind") not in kinds:
        raise ValueError(f"{folder / HEADER}: unknown sets {robust!r}; expected one of {list(kinds)}")
    return RobustSolution(*parts, kinds[robust["kind"]](**{k: v for k, v in robust.items() if k != "kind"}))


def _plain_sets(robust: Any) -> dict[str, Any]:
    """Parameters of the uncertainty sets as JSON values."""
    values = {field.name: getattr(robust, field.name) for field in fields(robust)}
    return {
        name: {key: np.asarray(item).tolist() for key, item in value.items()} if isinstance(value, Mapping) else value
        for name, value in values.items()
    }


def _header(folder: Path) -> dict[str, Any]:
    header = read_header(folder / HEADER, "solution", SCHEMA, FIELDS)
    budget, bound = header["budget"], header["bound"]
    if not isinstance(budget, list) or not all(type(b) is int and b >= 0 for b in budget):
        raise ValueError(f'{folder / HEADER}: "budget" is {budget!r}; expected a list of ints >= 0')
    if not isinstance(bound, (int, float)) or isinstance(bound, bool) or not bound >= 0:
        raise ValueError(f'{folder / HEADER}: "bound" is {bound!r}; expected a number >= 0')
    return header


def _array(file: Path, shape: tuple[int, ...], dtypes: tuple[Any, ...], mmap: bool) -> npt.NDArray[Any]:
    try:
        array = np.load(file, mmap_mode="r" if mmap and np.prod(shape) else None, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{file} is missing") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is not an array: {error}") from None
    if array.shape != shape or array.dtype not in dtypes:
        kinds = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise ValueError(f"{file} holds {array.dtype} {array.shape}; expected {kinds} {shape}")
    plain: npt.NDArray[Any] = array
    return plain
