"""Models on disk: the same model comes back, and an error names the file, row and rule of a broken folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

import selfreg
import strategies
from same import assert_same

VISITS = {"nohelp": [4, 9, 0, 0], "a/b": [2.5, 0, 0, 0]}


def model() -> selfreg.InterventionMDP:
    alone = np.array([[0, 0.5, 0.25, 0.25], [0, 0, 0.5, 0.5], [0, 0, 0, 0], [0, 0, 0, 0]])
    helped = np.array([[0, 1.0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    return selfreg.InterventionMDP(
        {"nohelp": alone, "a/b": helped}, [np.nan, np.nan, 1, 0], {"a/b": (1, 0)}, visits=VISITS
    )


@given(strategies.models())
def test_the_same_model_comes_back(tmp_path_factory, drawn) -> None:
    mdp, budget = drawn
    folder = tmp_path_factory.mktemp("model") / "m"
    mdp.save(folder)
    for mmap in (True, False):
        again = selfreg.InterventionMDP.open(folder, mmap=mmap)
        assert_same(again, mdp)
        np.testing.assert_array_equal(selfreg.solve(again, budget).value, selfreg.solve(mdp, budget).value)


def test_every_field_comes_back(tmp_path) -> None:
    model().save(tmp_path / "m")
    for mmap in (True, False):
        again = selfreg.InterventionMDP.open(tmp_path / "m", mmap=mmap)
        assert_same(again, model())
        robust = [selfreg.solve(mdp, (1, 0), robust=selfreg.L1(confidence=0.9)) for mdp in (again, model())]
        np.testing.assert_array_equal(robust[0].value, robust[1].value)


def test_arrays_are_mapped_not_read(tmp_path) -> None:
    model().save(tmp_path / "m")
    data = selfreg.InterventionMDP.open(tmp_path / "m").transitions["nohelp"].data
    while isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
        data = data.base
    assert isinstance(data, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        selfreg.InterventionMDP.open(tmp_path / "m").terminal_value[0] = 1


def test_nothing_else_is_overwritten(tmp_path) -> None:
    model().save(tmp_path / "m")
    with pytest.raises(FileExistsError):
        model().save(tmp_path / "m")
    model().save(tmp_path / "m", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(FileExistsError):
        model().save(tmp_path / "mine", overwrite=True)


def put(name: str, array: np.ndarray):
    return lambda folder: np.save(folder / f"{name}.npy", array, allow_pickle=False)


def header(**change):
    def write(folder: Path) -> None:
        before = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(before | change))

    return write


BROKEN = {
    "no header": (lambda folder: (folder / "model.json").unlink(), r"is not a saved model \(missing model.json\)"),
    "no JSON": (lambda folder: (folder / "model.json").write_text("{"), "is not valid JSON"),
    "another schema": (header(schema="x"), "unknown schema"),
    "actions": (header(actions=["help", "nohelp"]), 'must list "nohelp" first'),
    "costs": (header(costs={"a/b": -1}), "costs"),
    "a file is missing": (lambda folder: (folder / "data.1.npy").unlink(), "data.1.npy is missing"),
    "a file is cut off": (
        lambda folder: (folder / "data.0.npy").write_bytes(b"\x93NUMPY"),
        "data.0.npy is not an array",
    ),
    "a length": (put("terminal_value", np.zeros(3)), r"holds float64 \(3,\); expected float64 \(4,\)"),
    "a dtype": (put("terminal_value", np.zeros(4, np.float32)), "holds float32"),
    "objects": (lambda folder: np.save(folder / "data.1.npy", np.array([None]), allow_pickle=True), "is not an array"),
    "a state beyond": (put("indices.0", np.array([1, 2, 9, 2, 3], np.int32)), "row 0 is broken"),
    "unsorted states": (put("indices.0", np.array([2, 1, 3, 2, 3], np.int32)), "row 0 is broken"),
    "a negative probability": (put("data.0", np.array([0.5, 0.25, 0.25, -0.5, 1.5])), "row 1 is broken"),
    "a sum": (put("data.0", np.array([0.5, 0.25, 0.25, 0.5, 0.6])), "row 1 sums to 1.1"),
    "falling pointers": (put("indptr.0", np.array([0, 7, 5, 5, 5], np.int32)), "broken indptr"),
    "an end": (put("indptr.0", np.array([0, 3, 4, 4, 4], np.int32)), "broken indptr"),
    "an empty row": (put("indptr.0", np.array([0, 0, 5, 5, 5], np.int32)), "row 0 sums to 0|row 1 is broken|sums to"),
    "visits": (put("visits.1", np.array([-1.0, 0, 0, 0])), r'visits\["a/b"\]\[0\] is -1'),
    "no word of visits": (header(visits=None), "must be true or false"),
    "a terminal value": (put("terminal_value", np.array([np.nan, np.nan, 2, 0])), r"terminal_value\[2\] is 2"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_folder_is_refused(tmp_path, fault) -> None:
    model().save(tmp_path / "m")
    damage, message = BROKEN[fault]
    damage(tmp_path / "m")
    with pytest.raises(ValueError, match=message):
        selfreg.InterventionMDP.open(tmp_path / "m")
    shutil.rmtree(tmp_path / "m")
