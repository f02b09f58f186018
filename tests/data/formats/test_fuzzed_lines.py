"""Lines changed at random, for the formats of selfreg: episodes or faults, the same by both ways of reading."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from selfreg.cli.main import main
from selfreg.data import LogError, ReadOptions, read_trajectories
from selfreg.estimate import ExactKey, count_logs

JUNK: tuple[str, ...] = (
    "null", "true", "0", "-1", "0.5", "1e999", "9223372036854775808", '""', '" "', '"None"', r'"\ud83d"', r'"\u0000"',
    "NaN", "-Infinity", "[]", "{}", "[[]]", '{"a": {}}', "[" * 600 + "]" * 600, '"x', "\x00", "\xff", "", ",",
    '"key": 1',
)  # fmt: skip
GOOD: dict[str, dict[str, Any]] = {
    "selfreg": {"task": "t", "episode": "e", "outcome": 1.0, "steps": [{"state": "a", "intervention": "x", "cost": 2}]},
    "jsonl": {"task": "t", "episode": "e", "outcome": 1, "steps": [{"observation": "a", "intervention": "x"}]},
    "stepwise": {"prompt": "p", "completions": ["a", "b"], "labels": [True, False]},
    "rows": {"task": "t", "observation": "a", "action": "b", "outcome": 1, "cost": 0.5},
}


def change(text: str, source: random.Random) -> bytes:
    """A line with values replaced by junk, or with bytes changed."""
    parts = json.dumps(json.loads(text)).replace(":", "\x01").replace(",", "\x02")
    tokens = [part for chunk in parts.split("\x01") for part in (chunk, ":")][:-1]
    for _ in range(source.randint(0, 2)):
        tokens[source.randrange(len(tokens))] = source.choice(JUNK)
    data = bytearray("".join(tokens).replace("\x02", ",").replace("\x01", ":").encode("latin-1", "replace"))
    for _ in range(source.choice((0, 0, 0, 1, 3))):
        place = source.randrange(len(data) + 1)
        data[place : place + source.randint(0, 3)] = source.randbytes(source.randint(0, 3))
    return bytes(data).replace(b"\n", b" ").replace(b"\r", b" ")


def check(path: Path, format: str, lines: int) -> None:
    """Each line that is not blank is an episode or a fault; counting finds the same."""
    skipped: list[LogError] = []
    try:
        kept = list(read_trajectories(path, format, skipped=skipped, options=ReadOptions()))
    except LogError as error:
        kept = []
        skipped.append(error)
    assert all(str(path) in str(error) for error in skipped)
    whole = any(str(error).startswith(f"{path}: ") and "episode" not in str(error) for error in skipped)
    assert len(kept) + len(skipped) == lines or whole
    if format == "rows":
        return
    counted = count(path, format)
    if isinstance(counted, str):  # a duplicate episode cannot be skipped: the counts hold both
        assert "duplicate" in counted or whole
    else:
        assert counted == sum(one.outcome is not None for one in kept)


def count(path: Path, format: str) -> int | str:
    """Episodes that are counted, or the error."""
    try:
        return count_logs(path, ExactKey(), format=format, workers=1, skip_bad=True).episodes
    except LogError as error:
        return str(error)


def fuzz(folder: Path, format: str, seed: int, n: int) -> None:
    source = random.Random(seed)
    for _ in range(n):
        path = folder / "log.jsonl"
        lines = [change(json.dumps(GOOD[format]), source) for _ in range(source.randint(1, 4))]
        if format in ("selfreg", "jsonl"):
            lines = [line.replace(b'"e"', b'"e%d"' % i) for i, line in enumerate(lines)]
        path.write_bytes(b"\n".join(lines) + b"\n")
        check(path, format, sum(bool(line.strip()) for line in lines))


@pytest.mark.parametrize("format", GOOD)
def test_changed_lines(tmp_path, format) -> None:
    fuzz(tmp_path, format, 0, 60)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("format", GOOD)
def test_many_changed_lines(tmp_path, format, seed) -> None:
    fuzz(tmp_path, format, seed + 1, 1_000)


def test_a_command_that_fails_leaves_no_folder(tmp_path, capsys) -> None:
    source = random.Random(5)
    for number in range(25):
        log, out = tmp_path / "log.jsonl", tmp_path / f"run{number}"
        log.write_bytes(b"\n".join(change(json.dumps(GOOD["jsonl"]), source) for _ in range(3)))
        status = main(["import", str(log), "--format", "jsonl", "--skip-bad", "--out", str(out)])
        assert status in (0, 2)
        assert out.exists() == (status == 0)
        assert "Traceback" not in capsys.readouterr().err
    assert {path.name.rstrip("0123456789") for path in tmp_path.iterdir()} <= {"log.jsonl", "run"}
