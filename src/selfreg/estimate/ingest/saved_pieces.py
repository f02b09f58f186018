"""Counts of the pieces of logs in a folder, from which a second call resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from selfreg._util.files import atomic_write, open_resumable
from selfreg.estimate.ingest.partial import PartialCounts

SETTINGS, SCHEMA = "ingest.json", "selfreg.ingest/1"


class SavedPieces:
    """Counts of pieces, in order and in the numbers of their sum.

    Parameters
    ----------
    path : Path
    settings : mapping
        What is counted, as JSON values. A folder with other settings is refused.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        open_resumable(path, SETTINGS, {"schema": SCHEMA, **settings}, "set of counts")

    def _file(self, number: int) -> Path:
        return self.path / f"piece-{number:07d}.npz"

    def save(self, number: int, counts: PartialCounts, details: Mapping[str, Any]) -> None:
        """Save the counts of one piece, and details of it as JSON values."""
        header = {"known": counts.n_named, "keys": counts.keys, "actions": counts.actions, **details}
        arrays: dict[str, Any] = {
            "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
            "place": counts.place,
            "weight": counts.weight,
            "starts": counts.starts,
        }
        with atomic_write(self._file(number)) as temporary:
            np.savez(temporary, **arrays)

    def load(self) -> Iterator[tuple[PartialCounts, dict[str, Any]]]:
        """Saved pieces from the first one on, up to the first missing one."""
        for number in count():
            if not self._file(number).is_file():
                return
            with np.load(self._file(number), allow_pickle=False) as file:
                header = json.loads(bytes(file["header"]))
                keys = [tuple(key) for key in header["keys"]]
                arrays = (file["place"], file["weight"], file["starts"])
            yield PartialCounts(header["known"], keys, header["actions"], *arrays), header
