"""Counts of the pieces of logs in a folder, which a second call goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from selfreg._util.files import atomic_write, open_resumable
from selfreg.estimate.ingest.partial import Partial

SETTINGS, SCHEMA = "ingest.json", "selfreg.ingest/1"


class KeptPieces:
    """Counts of pieces, in order and in the numbers of their sum.

    Parameters
    ----------
    path : Path
    settings : mapping
        What is counted, as JSON values. A folder of other counts is refused.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        open_resumable(path, SETTINGS, {"schema": SCHEMA, **settings}, "set of counts")

    def _file(self, number: int) -> Path:
        return self.path / f"piece-{number:07d}.npz"

    def put(self, number: int, counts: Partial, told: Mapping[str, Any]) -> None:
        """Write the counts of one piece, and what is told of it beside them."""
        header = {"known": counts.known, "keys": counts.keys, "actions": counts.actions, **told}
        arrays: dict[str, Any] = {
            "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
            "place": counts.place,
            "weight": counts.weight,
            "starts": counts.starts,
        }
        with atomic_write(self._file(number)) as temporary:
            np.savez(temporary, **arrays)

    def parts(self) -> Iterator[tuple[Partial, dict[str, Any]]]:
        """Pieces from the first one on, as far as they are there."""
        for number in count():
            if not self._file(number).is_file():
                return
            with np.load(self._file(number), allow_pickle=False) as file:
                header = json.loads(bytes(file["header"]))
                keys = [tuple(key) for key in header["keys"]]
                arrays = (file["place"], file["weight"], file["starts"])
            yield Partial(header["known"], keys, header["actions"], *arrays), header
