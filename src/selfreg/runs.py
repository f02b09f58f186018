"""The run folder: self-contained and portable; files are written atomically, and nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write, escape_surrogates
from selfreg._version import __version__
from selfreg.data import Trajectory, read_trajectories, write_trajectories
from selfreg.estimate import Counts, EstimatedModel
from selfreg.estimate.score_bins import from_description
from selfreg.mdp import InterventionMDP
from selfreg.planning.solution import Solution

if TYPE_CHECKING:
    from selfreg.prm import PRM

with require_extra("logs", "a run folder"):
    import tomli_w

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MARKER = "run.toml"
PACKAGES = ("numpy", "scipy", "msgspec", "pyarrow", "torch", "transformers", "minigrid")


class RunFolder:
    """Files of one run.

    Parameters
    ----------
    path : path
        An existing folder; `RunFolder.open` also checks that it is of a run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """Folder of an earlier run; ValueError if it is not one."""
        if not (Path(path) / MARKER).is_file():
            raise ValueError(f"{path} is not a run folder (missing {MARKER})")
        return cls(path)

    def need(self, name: str, command: str) -> Path:
        """Path of a file that an earlier stage wrote; ValueError names the command that writes it."""
        if not (self.path / name).exists():
            raise ValueError(f"{self.path} has no {name}; run `selfreg {command}` first")
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether the file or folder exists."""
        return (self.path / name).exists()

    # ---- settings

    def settings(self) -> dict[str, Any]:
        """Contents of run.toml."""
        if not self.has(MARKER):
            return {}
        with open(self.path / MARKER, "rb") as stream:
            try:
                return tomllib.load(stream)
            except tomllib.TOMLDecodeError as error:
                raise ValueError(f"{self.path / MARKER} is damaged: {error}") from None

    def record(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Write the settings of a stage and the versions it ran with to run.toml; None is omitted."""
        everything = self.settings()
        everything["selfreg"] = {"version": __version__, "python": platform.python_version(), **_versions()}
        everything[stage] = {name: value for name, value in settings.items() if value is not None}
        with atomic_write(self.path / MARKER) as temporary:
            temporary.write_text(tomli_w.dumps(escape_surrogates(everything)), encoding="utf-8")

    # ---- trajectories, model, solution

    def write_trajectories(self, trajectories: Sequence[Trajectory]) -> None:
        """Write trajectories.parquet."""
        write_trajectories(self.path / "trajectories.parquet", trajectories)

    def trajectories(self) -> list[Trajectory]:
        """Read trajectories.parquet."""
        return list(read_trajectories(self.need("trajectories.parquet", "collect` or `selfreg import")))

    def write_model(self, model: EstimatedModel) -> None:
        """Write model.npz: transitions, counts, keys, start, and a JSON header."""
        header = {
            "actions": model.mdp.actions,
            "costs": dict(model.mdp.costs),
            "keys": model.counts.keys,
            "abstraction": model.abstraction.describe(),
            "kappa": model.kappa,
            "notes": model.notes,
        }
        arrays: dict[str, Any] = {
            "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
            "terminal_value": model.mdp.terminal_value,
            "start": model.start,
            "starts": model.counts.starts,
            "borrowed": model.borrowed,
        }
        for name, matrix in model.mdp.transitions.items():
            arrays |= _parts(f"transitions/{name}", matrix)
            arrays |= _parts(f"counts/{name}", model.counts.transitions[name])
        _write_npz(self.path / "model.npz", arrays)

    def model(self) -> EstimatedModel:
        """Read model.npz."""
        with _arrays(self.need("model.npz", "estimate"), "estimate") as file:
            header = json.loads(bytes(file["header"]))
            actions = header["actions"]
            counts = Counts(
                tuple(tuple(key) for key in header["keys"]),
                {name: _matrix(file, f"counts/{name}") for name in actions},
                file["starts"],
            )
            mdp = InterventionMDP(
                {name: _matrix(file, f"transitions/{name}") for name in actions},
                file["terminal_value"],
                {name: tuple(cost) for name, cost in header["costs"].items()},
                visits=counts.visits,
            )
            return EstimatedModel(
                mdp,
                counts,
                from_description(header["abstraction"], self.prm),
                file["start"],
                header["kappa"],
                file["borrowed"],
                tuple(header["notes"]),
            )

    def prm(self) -> PRM:
        """Read prm/."""
        from selfreg.prm import PRM

        return PRM.load(self.need("prm", "train --part prm"))

    def write_solution(self, solution: Solution) -> None:
        """Write solution.npz, with a digest of the model.npz that it belongs to."""
        _write_npz(
            self.path / "solution.npz",
            {
                "budget": np.array(solution.budget, dtype=np.int64),
                "value": solution.value,
                "policy": solution.policy,
                "bound": np.array(solution.bound),
                "model": np.array(self._model_digest()),
            },
        )

    def solution(self, model: EstimatedModel) -> Solution:
        """Read solution.npz; `model` is that of the same run."""
        with _arrays(self.need("solution.npz", "solve"), "solve") as file:
            budget = tuple(int(b) for b in file["budget"])
            of = str(file["model"]) if "model" in file else self._model_digest()  # run folders from before lack it
            if file["value"].shape[0] != model.mdp.n_states or of != self._model_digest():
                raise ValueError(f"{self.path}: solution.npz is of another model; run `selfreg solve` again")
            return Solution(model.mdp, budget, file["value"], file["policy"], float(file["bound"]))

    def _model_digest(self) -> str:
        path = self.path / "model.npz"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def write_request_shares(self, shares: npt.NDArray[np.float64]) -> None:
        """Write uncertainty.npz: the share of resampled plans that request help, by abstract state and budget."""
        _write_npz(self.path / "uncertainty.npz", {"request_shares": shares})

    def request_shares(self) -> npt.NDArray[np.float64] | None:
        """Read uncertainty.npz; None if the run has none."""
        if not self.has("uncertainty.npz"):
            return None
        with np.load(self.path / "uncertainty.npz", allow_pickle=False) as file:
            found: npt.NDArray[np.float64] = file["request_shares"]
        return found

    # ---- summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        with atomic_write(self.path / "summary.json") as temporary:
            temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")

    def summary(self) -> dict[str, Any]:
        """Read summary.json."""
        path = self.need("summary.json", "solve")
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); run `selfreg solve` again") from None
        return content


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays)


@contextmanager
def _arrays(path: Path, command: str) -> Iterator[Any]:
    """Arrays of a file; if it is damaged, ValueError names the command that writes it again."""
    with open(path, "rb") as stream:
        try:
            file = np.load(stream, allow_pickle=False)
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}); run `selfreg {command}` again") from None
        with file:
            try:
                yield file
            except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
                raise ValueError(f"{path} is damaged ({error}); run `selfreg {command}` again") from None


def _parts(name: str, matrix: sp.csr_array) -> dict[str, Any]:
    return {f"{name}/data": matrix.data, f"{name}/indices": matrix.indices, f"{name}/indptr": matrix.indptr}


def _matrix(file: Mapping[str, Any], name: str) -> sp.csr_array:
    indptr = file[f"{name}/indptr"]
    shape = (len(indptr) - 1, len(indptr) - 1)
    return sp.csr_array((file[f"{name}/data"], file[f"{name}/indices"], indptr), shape=shape)
