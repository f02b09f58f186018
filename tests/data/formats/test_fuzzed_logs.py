"""Logs changed at random: episodes, or a LogError that names the file; no other error, and no silent drop."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cases import CASES, Case, drop, put

from selfreg.data import LogError, Trajectory, look_at_logs, read_trajectories

JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 3.5, 1e308, 10**30, "", " ", "x", "None", "\ud83d", "\x00", [], {}, [[]], [None], {"a": {}},
    {"role": 3}, [{"role": "assistant"}], "[1", '{"a": 1}', "\u2028", [{"type": "text"}], {"text": ["x"]},
)  # fmt: skip


def all_paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, inner in items for path in [(*prefix, key), *all_paths(inner, (*prefix, key))]]


def change(case: Case, source: random.Random) -> bytes:
    """The log with some values replaced or left out, or some bytes changed."""
    value = case.value
    for _ in range(source.randint(1, 3)):
        path = source.choice(all_paths(value) or [()])
        if path:
            value = drop(value, path) if source.random() < 0.3 else put(value, path, source.choice(JUNK))
    try:
        data = bytearray(case.pack(value))
    except (TypeError, KeyError, ValueError, AttributeError, UnicodeError):  # what cannot be written is no log
        data = bytearray(case.pack(case.value))
    if data and source.random() < 0.3:
        for _ in range(source.randint(1, 4)):
            place = source.randrange(len(data) or 1)
            data[place : place + source.randint(0, 3)] = source.randbytes(source.randint(0, 3))
    return bytes(data)


def read_all(path: Path, format: str, skipped: list[LogError]) -> list[Trajectory]:
    """Episodes; a fault that stops the reading is added to the skipped."""
    try:
        return list(read_trajectories(path, format, skipped=skipped))
    except LogError as error:
        skipped.append(error)
        return []


def check(path: Path, name: str) -> None:
    """Read it by name and by itself, and look at it."""
    for format in (name, "auto"):
        skipped: list[LogError] = []
        kept = read_all(path, format, skipped)
        assert kept or skipped or not path.read_bytes().strip()
        assert all(str(path) in str(error) for error in skipped)
        for episode in kept:
            for step in episode.steps:
                assert (step.state + (step.action or "")).encode() is not None  # no halves of characters
    with suppress(LogError):
        look_at_logs(path)


def fuzz(folder: Path, times: int, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(times):
        case = source.choice(CASES)
        path = folder / case.file
        path.write_bytes(change(case, source))
        check(path, case.name)


def test_changed_logs_give_no_other_error(tmp_path) -> None:
    fuzz(tmp_path, 400, seed=0)


@pytest.mark.long
def test_many_changed_logs_give_no_other_error(tmp_path) -> None:
    fuzz(tmp_path, 100_000, seed=1)
