"""Sources of models: lists, iterators, folders of runs, functions of a parameter grid."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from math import prod
from pathlib import Path
from typing import Any

from selfreg._util.files import escape_surrogates
from selfreg.mdp import InterventionMDP
from selfreg.sweeps.batches import ModelEntry, ModelLabel

RUN_FILE, MODEL_FILE = "model.npz", "model.json"


@dataclass(frozen=True)
class ModelGrid:
    """One model for each combination of parameters.

    Parameters
    ----------
    make : callable
        `make(**parameters)` returns an `InterventionMDP`, an `EstimatedModel` or (model, start). It runs where the
        model is solved (on Ray in the workers): the same parameters must always make the same model.
    parameters : mapping of str to sequence
        Values of every parameter; the last one varies fastest.

    Raises
    ------
    ValueError, TypeError
        If there are no parameters, a parameter has no values, or a name is not a string.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> def model(alone, cost):
    ...     nohelp = np.array([[0, alone, 1 - alone], [0, 0, 0], [0, 0, 0]])
    ...     helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    ...     return selfreg.InterventionMDP({"nohelp": nohelp, "help": helped}, [np.nan, 1, 0], {"help": cost})
    >>> grid = selfreg.ModelGrid(model, {"alone": [.3, .5], "cost": [1, 2]})
    >>> len(grid)
    4
    >>> selfreg.sweep(grid, 2).value.tolist()
    [[0.3, 0.9, 0.9], [0.3, 0.3, 0.9], [0.5, 0.9, 0.9], [0.5, 0.5, 0.9]]
    """

    make: Callable[..., Any]
    parameters: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise TypeError(f"make is a {type(self.make).__name__}; expected a function of the parameters")
        if not self.parameters:
            raise ValueError("parameters is empty; expected at least one name with its values")
        for name, values in self.parameters.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"parameter {name!r} is not a name of an argument; expected a string")
            if isinstance(values, (str, bytes)) or not len(values):
                raise ValueError(f"parameter {name!r} has {values!r}; expected a sequence of at least one value")

    def __len__(self) -> int:
        return prod(len(values) for values in self.parameters.values())

    def __iter__(self) -> Iterator[ModelEntry]:
        for index, values in enumerate(product(*self.parameters.values())):
            make = partial(self.make, **dict(zip(self.parameters, values, strict=True)))
            yield ModelEntry(ModelLabel(index, None, values), make)


def list_entries(models: Any) -> tuple[Iterable[ModelEntry], int | None, Mapping[str, Sequence[Any]]]:
    """Models in order, their number (None if unknown), and the parameters of a grid."""
    if isinstance(models, ModelGrid):
        return models, len(models), models.parameters
    if isinstance(models, (str, os.PathLike)):
        paths = _list_folders(Path(models))
        saved = [ModelEntry(ModelLabel(i, name), partial(_read_model, path)) for i, (name, path) in enumerate(paths)]
        return saved, len(saved), {}
    if isinstance(models, InterventionMDP) or not isinstance(models, Iterable):
        raise TypeError(
            f"mdps is a {type(models).__name__}; expected models in a list or iterator, a folder, a ModelGrid"
        )
    if isinstance(models, Mapping):
        named = [ModelEntry(ModelLabel(i, str(name)), item) for i, (name, item) in enumerate(models.items())]
        return named, len(named), {}
    total = len(models) if isinstance(models, Sequence) else None
    return map(ModelEntry, map(ModelLabel, count()), models), total, {}


def _list_folders(folder: Path) -> list[tuple[str, str]]:
    """Relative and full path of the run folders and saved models in `folder`, at any depth; sorted."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    paths = {path.parent for name in (RUN_FILE, MODEL_FILE) for path in folder.rglob(name)}
    if not paths:
        raise ValueError(f"no models in {folder}; expected run folders (with {RUN_FILE}) or saved models")
    return sorted((escape_surrogates(path.relative_to(folder).as_posix()), str(path)) for path in paths)


def _read_model(path: str) -> Any:
    if (Path(path) / MODEL_FILE).is_file():
        return InterventionMDP.open(path)
    from selfreg.runs import RunFolder

    return RunFolder(path).model()
