"""Every format: a small log is read as it is meant, and broken ones give the right answer or a named error."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from cases import CASES, Case, drop, pack_document, pack_eval, put

from selfreg.data import LogError, Trajectory, detect_format, read_trajectories
from selfreg.data.formats import BUILT_IN
from selfreg.estimate import ExactKey, count_logs

EACH = pytest.mark.parametrize("case", CASES, ids=[f"{case.name}-{case.file}" for case in CASES])


def test_there_is_a_case_of_every_format() -> None:
    assert {case.name for case in CASES} | {"selfreg", "jsonl", "stepwise", "rows"} == set(BUILT_IN)


def is_as_meant(case: Case, episode: Trajectory) -> bool:
    found = (tuple(step.state for step in episode.steps), tuple(step.action for step in episode.steps), episode.outcome)
    return found == (case.states, case.actions, case.outcome) and episode.truncated == (case.outcome is None)


@EACH
def test_a_small_log_is_read_as_it_is_meant(tmp_path, case) -> None:
    path = tmp_path / case.file
    path.write_bytes(case.pack(case.value))
    found = detect_format(path)
    assert (found.format.name, bool(found.reason)) == (case.name, True)
    (episode,) = read_trajectories(path)
    assert [step.state for step in episode.steps] == list(case.states)
    assert [step.action for step in episode.steps] == list(case.actions)
    assert is_as_meant(case, episode)
    assert not episode.helped
    assert case.model is None or episode.fields["model"] == case.model
    assert list(read_trajectories(path, case.name)) == [episode]


@EACH
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_logs_are_read_alike(tmp_path, case, suffix) -> None:
    if case.file.endswith(".eval"):
        pytest.skip("an archive is compressed itself")
    path = tmp_path / (case.file + suffix)
    data = case.pack(case.value)
    if suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    else:
        path.write_bytes(pa.compress(data, "zstd", asbytes=True))
    (episode,) = read_trajectories(path)
    assert is_as_meant(case, episode)


# ---- broken variants ------------------------------------------------------------------------------------------------

DEEP = 100_000


def _nested(case: Case) -> bytes:
    """A field that nobody reads, nested deeper than any parser goes."""
    place = (*case.text[:-1], "unread") if isinstance(case.text[-1], str) else case.text
    return case.pack(put(case.value, place, "@deep")).replace(b'"@deep"', b"[" * DEEP + b"]" * DEEP)


def _twice(case: Case) -> bytes:
    value = case.value
    for field in ("samples", "simulations"):
        if isinstance(value, dict) and field in value:
            value = put(value, (field,), value[field] * 2)
    return case.pack(value * 2 if isinstance(value, list) and case.name in RECORDS else value)


# Formats with several episodes in a file; in the others a duplicate is a second file.
RECORDS = ("openai_messages", "tau_bench", "table")
IN_FILE = (*RECORDS, "inspect", "tau2_bench")


class Variant(NamedTuple):
    """A change of a log, and what reading it may give: the episode as meant ("right"), a LogError ("error")."""

    make: Callable[[Case], bytes]
    right: bool
    error: bool


def _change(case: Case, path: Any, new: Any) -> bytes:
    return case.pack(put(case.value, path, new))


VARIANTS = {
    # The end of a cell that is cut cannot be seen: a row of a table loses more.
    "truncated": Variant(
        lambda case: case.pack(case.value)[: -20 if case.name == "table" else -len(case.pack(case.value)) // 3],
        False,
        True,
    ),
    "wrong type": Variant(lambda case: _change(case, case.needed, {"a": [1]}), False, True),
    "missing field": Variant(lambda case: case.pack(drop(case.value, case.needed)), False, True),
    "empty": Variant(lambda case: b"", False, True),
    "invalid UTF-8": Variant(lambda case: _change(case, case.text, "@@").replace(b"@@", b"\xff\xfe"), False, True),
    "NaN": Variant(lambda case: _change(case, case.number, float("nan")), True, True),
    "lone surrogate": Variant(lambda case: _change(case, case.text, "cut \ud83d"), True, False),
    "byte order mark": Variant(lambda case: b"\xef\xbb\xbf" + case.pack(case.value), True, False),
    "deep nesting": Variant(_nested, True, True),
    "duplicate episodes": Variant(_twice, False, True),
    "wrong nesting": Variant(
        lambda case: case.pack([[case.value]] if case.name != "table" else [{"a": 1}]), False, True
    ),
    "huge number": Variant(lambda case: _change(case, case.number, 10**400), True, True),
}


OF_BYTES = ("byte order mark", "invalid UTF-8", "deep nesting", "wrong nesting")
# Cells of a CSV file are texts of any kind; half a character in them is no UTF-8.
TEXTS_OF_TABLES = ("wrong type", "lone surrogate")


@EACH
@pytest.mark.parametrize("variant", VARIANTS)
def test_broken_logs_are_right_or_a_named_error(tmp_path, case, variant) -> None:
    paths = write_variant(tmp_path, case, variant)
    change = VARIANTS[variant]
    if case.name == "table" and variant in TEXTS_OF_TABLES:
        change = change._replace(right=True, error=True)
    episodes = read_or_fault(paths, case)
    if isinstance(episodes, str):
        assert change.error, f"{variant}: {episodes}"
        assert episodes.startswith(str(paths[-1]))
        assert len(episodes) > len(str(paths[-1])) + 8
        assert_nothing_is_dropped(paths, case)
        return
    if variant == "empty" and not episodes:
        return  # a log without records has no episodes
    assert change.right, [episode.steps for episode in episodes]
    assert len(episodes) == 1
    if variant == "lone surrogate":
        assert "\ufffd" in episodes[0].steps[0].state
        assert "\ud83d" not in episodes[0].steps[0].state
    elif variant == "byte order mark":
        assert is_as_meant(case, episodes[0])


def read_or_fault(paths: list[Path], case: Case) -> list[Trajectory] | str:
    try:
        return list(read_trajectories(paths, case.name))
    except LogError as error:
        return str(error)


def write_variant(folder: Path, case: Case, variant: str) -> list[Path]:
    path = folder / case.file
    if case.file.endswith(".eval") and variant in OF_BYTES:
        # The bytes of the sample in the archive are changed, not those of the archive.
        sample = replace(case, value=case.value["samples"][0], text=case.text[2:], pack=pack_document)
        path.write_bytes(pack_eval(case.value, VARIANTS[variant].make(sample)))
    else:
        path.write_bytes(VARIANTS[variant].make(case))
    if variant == "duplicate episodes" and case.name not in IN_FILE:
        return [path, path]
    return [path]


def assert_nothing_is_dropped(paths: list[Path], case: Case) -> None:
    """What is skipped is listed, by both ways of reading."""
    skipped: list[LogError] = []
    kept = list(read_trajectories(paths, case.name, skipped=skipped))
    assert skipped
    if case.outcome is not None and "duplicate" not in str(skipped[0]):
        counted = count_logs(paths, ExactKey(), format=case.name, workers=1, skip_bad=True)
        assert (counted.episodes, [str(one) for one in skipped]) == (len(kept), counted.skipped)


@EACH
def test_pretty_printed_and_windows_lines_are_read(tmp_path, case) -> None:
    if case.file.endswith(".eval"):
        pytest.skip("an archive has no lines")
    path = tmp_path / case.file
    path.write_bytes(case.pack(case.value).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    (episode,) = read_trajectories(path)
    assert is_as_meant(case, episode)


@EACH
def test_a_broken_file_is_skipped_and_listed_beside_a_good_one(tmp_path, case) -> None:
    good, bad = tmp_path / "good" / case.file, tmp_path / "bad" / case.file
    for path, value in ((good, case.value), (bad, drop(case.value, case.needed))):
        path.parent.mkdir()
        path.write_bytes(case.pack(value))
    skipped: list[LogError] = []
    episodes = list(read_trajectories([bad, good], case.name, skipped=skipped))
    assert len(episodes) >= 1
    assert all(str(bad) in str(error) for error in skipped)
    assert skipped


@EACH
def test_counts_are_those_of_what_is_read(tmp_path, case) -> None:
    path = tmp_path / case.file
    path.write_bytes(case.pack(case.value))
    if case.outcome is None:
        with pytest.raises(LogError, match="has no outcome"):
            count_logs(path, ExactKey(), workers=1)
        return
    found = count_logs(path, ExactKey(), workers=1)
    assert (found.episodes, found.steps) == (1, len(case.states))


def test_values_of_other_kinds_are_no_logs(tmp_path) -> None:
    for data in ("[]", "{}", "3", "null", '"text"', json.dumps([1, 2]), json.dumps([{}])):
        path = tmp_path / "log.json"
        path.write_text(data)
        for name in (*BUILT_IN, "auto"):
            with pytest.raises(LogError, match=r"log\.json"):
                list(read_trajectories(path, name))
