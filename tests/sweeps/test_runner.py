"""Sweeps: the answers of `solve`, whatever the source, the executor and the place of results; resuming; bad models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.estimate import Features, estimate_mdp
from selfreg.runs import RunFolder
from selfreg.sweeps.batches import ModelEntry, ModelError, ModelLabel, SweepSpec, cut_batches, solve_batch
from selfreg.sweeps.joined import Joiner

ROOT = Path(__file__).parents[2]
ALL = ("value", "usage", "state_value", "policy")


def tiny(alone: float = 0.5, cost: int = 1, loop: float = 0.0) -> selfreg.InterventionMDP:
    """One live state; with `loop` it leads to itself."""
    nohelp = np.array([[loop, (1 - loop) * alone, (1 - loop) * (1 - alone)], [0, 0, 0], [0, 0, 0]])
    helped = np.array([[0, 0.9, 0.1], [0, 0, 0], [0, 0, 0]])
    return selfreg.InterventionMDP({"nohelp": nohelp, "help": helped}, [np.nan, 1, 0], {"help": cost})


def chain(n: int, seed: int) -> selfreg.InterventionMDP:
    """n live states that lead forward, and back where `seed` is odd."""
    random = np.random.default_rng(seed)
    rows = {}
    for name in ("nohelp", "help"):
        matrix = np.zeros((n + 2, n + 2))
        for s in range(n):
            after = np.arange(0 if seed % 2 else s + 1, n + 2)
            chosen = random.choice(after, min(3, len(after)), replace=False)
            matrix[s, chosen] = random.dirichlet(np.ones(len(chosen)))
            matrix[s] = 0.9 * matrix[s]
            matrix[s, n + (random.random() < (0.7 if name == "help" else 0.4))] += 0.1
        rows[name] = matrix
    value = np.full(n + 2, np.nan)
    value[-2:] = 1, 0
    return selfreg.InterventionMDP(rows, value, {"help": 1})


def many(count: int = 300) -> list[selfreg.InterventionMDP]:
    return [chain(3 + seed % 7, seed) for seed in range(count)]


def test_threads_order_and_disk_change_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.sweeps.batches.BATCH_MODELS", 16)
    mdps = many()
    one = selfreg.sweep(mdps, 3, executor=selfreg.LocalExecutor(1), keep=ALL)
    for found in (
        selfreg.sweep(iter(mdps), 3, executor=selfreg.LocalExecutor(3), keep=ALL),
        selfreg.sweep(mdps, 3, out=tmp_path / "out", keep=ALL),
        selfreg.read_sweep(tmp_path / "out"),
    ):
        assert len(found) == 300
        for name in ("value", "usage", "bound", "states", "indices"):
            np.testing.assert_array_equal(getattr(found, name), getattr(one, name))
        for i in (0, 123, 299):
            np.testing.assert_array_equal(found.policy(i), one.policy(i))
            np.testing.assert_array_equal(found.state_value(i), one.state_value(i))
        assert found.table().equals(one.table())
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 19


def test_cuts_do_not_depend_on_what_is_done(monkeypatch) -> None:
    monkeypatch.setattr("selfreg.sweeps.batches.BATCH_MODELS", 16)
    entries = [ModelEntry(ModelLabel(i), tiny()) for i in range(100)]
    cuts = [[entry.label.model_index for entry in batch] for batch in cut_batches(entries, 9, lambda entry: False)]
    rest = cut_batches(entries, 9, lambda entry: entry.label.model_index in cuts[2])
    again = [[entry.label.model_index for entry in batch] for batch in rest]
    assert again == cuts[:2] + cuts[3:]


def test_joined_arrays_change_nothing(implementation) -> None:
    estimated = estimate_mdp([Trajectory("t", "e", 0.5, (Step("a"), Step("b")))], Features(["step"]))
    long = chain(5, 4)
    arrays = {name: matrix.copy() for name, matrix in long.transitions.items()}
    for matrix in arrays.values():
        matrix.indptr, matrix.indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    wide = selfreg.InterventionMDP(arrays, long.terminal_value, long.costs)
    items = [chain(5, 2), wide, estimated, tiny, (chain(4, 4), np.full(6, 1 / 6)), chain(5, 3), "nothing"]
    entries = [ModelEntry(ModelLabel(i), item) for i, item in enumerate(items)]
    spec = SweepSpec((2,), ALL, None, True)
    joiner = Joiner()
    joiner.join(entries[:1])
    batch = joiner.join(entries)
    assert [*batch.unmade] == [3, 6]
    unmade = [ModelEntry(entry.label, batch.unmade.get(i)) for i, entry in enumerate(entries)]
    other = solve_batch(spec, unmade, implementation, [group.split() for group in batch.groups])
    one = solve_batch(spec, entries, implementation)
    np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(one.usage, other.usage)
    assert one.errors == other.errors


def test_sweeps_in_memory_need_no_extra() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("pyarrow", "msgspec", "rich", "ray")))
import numpy as np, selfreg

def model(alone):
    nohelp = np.array([[0, alone, 1 - alone], [0, 0, 0], [0, 0, 0]])
    helped = np.array([[0, 0.9, 0.1], [0, 0, 0], [0, 0, 0]])
    return selfreg.InterventionMDP({"nohelp": nohelp, "help": helped}, [np.nan, 1, 0], {"help": 1})

found = selfreg.sweep(selfreg.ModelGrid(model, {"alone": [0.3, 0.5]}), 1)
assert found.value.tolist() == [[0.3, 0.9], [0.5, 0.9]]
assert found.parameters == {"alone": [0.3, 0.5]}
for call in (found.table, lambda: selfreg.sweep([model(0.5)], 1, out="never"), lambda: selfreg.read_sweep("never")):
    try:
        call()
    except ImportError as error:
        assert "needs the extra 'logs'" in str(error), error
    else:
        raise AssertionError(call)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- sources --------------------------------------------------------------------------------------------------------


def test_grid_has_a_row_for_each_combination(tmp_path) -> None:
    grid = selfreg.ModelGrid(tiny, {"alone": [0.2, 0.5], "cost": [1, 2]})
    found = selfreg.sweep(grid, 2, out=tmp_path / "out")
    assert found.parameters == {"alone": [0.2, 0.2, 0.5, 0.5], "cost": [1, 2, 1, 2]}
    assert found.value.tolist() == [[0.2, 0.9, 0.9], [0.2, 0.2, 0.9], [0.5, 0.9, 0.9], [0.5, 0.5, 0.9]]
    assert found.usage[..., 0].tolist() == [[0, 1, 1], [0, 0, 2], [0, 1, 1], [0, 0, 2]]
    table = pq.read_table(tmp_path / "out" / "part-000000000-000000003.parquet")
    assert table.column_names == ["model", "name", "alone", "cost", "states", "bound", "value", "usage", "error"]


def test_folder_of_runs_and_of_saved_models(tmp_path) -> None:
    log = [Trajectory("t", "e", 1.0, (Step("a"),)), Trajectory("t", "f", 0.0, (Step("a"), Step("b", None, None, "h")))]
    for name in ("one", "deep/two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        RunFolder(tmp_path / "runs" / name).write_model(estimate_mdp(log, Features(["step"])))
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "model.npz").write_bytes(b"no archive")
    tiny().save(tmp_path / "runs" / "saved")
    found = selfreg.sweep(tmp_path / "runs", 1, on_error="record")
    assert found.names == ["broken", "deep/two", "one", "saved"]
    assert list(found.errors) == [0]
    assert found.value[1].tolist() == found.value[2].tolist() == [0.5, 0.5]
    assert found.value[3].tolist() == [0.5, 0.9]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no models in"):
        selfreg.sweep(tmp_path / "empty", 1)


def test_names_of_a_mapping_are_kept() -> None:
    found = selfreg.sweep({"a": tiny(0.1), "b": tiny(0.2)}, 0)
    assert found.names == ["a", "b"]
    assert found.value.tolist() == [[0.1], [0.2]]


def test_penalties_give_the_points_of_solve_penalized(tmp_path, implementation) -> None:
    mdps, prices = [*many(10), tiny(loop=0.5)], [0.0, 0.05, 0.3, np.inf]
    found = selfreg.sweep(mdps, penalties=prices, executor=selfreg.LocalExecutor(2), out=tmp_path / "out")
    for i, mdp in enumerate(mdps):
        one = selfreg.solve_penalized(mdp, prices, implementation=implementation)
        for name in ("success", "usage", "value"):
            np.testing.assert_allclose(getattr(found, name)[i], getattr(one, name)[0], rtol=0, atol=1e-8)
    again = selfreg.sweep(mdps, penalties=prices, executor=selfreg.LocalExecutor(1))
    assert again.table().equals(found.table())
    assert str(again) == "Sweep(11 models, 4 penalties, 0 errors)"
    mixed = selfreg.sweep([mdps[0], "nothing"], penalties=[[0.1], [0.2]], on_error="record")
    assert np.isnan(mixed.success[1]).all()
    with pytest.raises(ValueError, match="its penalties is"):
        selfreg.sweep(mdps, penalties=[0.1], out=tmp_path / "out")
    with pytest.raises(ModelError, match="penalties has 2 columns; the model has 1 budgets"):
        selfreg.sweep(mdps, penalties=[[0.1, 0.2]])
    for penalties, budgets, error in (([-1.0], None, "holds -1"), (None, None, "not both"), ([0.1], 2, "not both")):
        with pytest.raises((ValueError, TypeError), match=error):
            selfreg.sweep(mdps, budgets, penalties=penalties)
    with pytest.raises(ValueError, match="'policy', which needs budgets, not penalties"):
        selfreg.sweep(mdps, penalties=[0.1], keep=("policy",))


def test_nothing_to_do() -> None:
    found = selfreg.sweep([], 2)
    assert found.value.shape == (0, 3)
    assert found.usage.shape == (0, 3, 1)
    assert found.table().num_rows == 0


# ---- bad input ------------------------------------------------------------------------------------------------------


def crash() -> None:
    raise KeyError("inside")


BAD = {
    "a string": ("nothing", "expected an InterventionMDP"),
    "a start beyond": ((tiny(), 7), "start is 7; expected a state 0..2"),
    "a start that does not sum": ((tiny(), [1, 1, 0]), "start sums to 2"),
    "a fault of the function": (crash, "KeyError: 'inside'"),
    "a fault of the model": (partial(tiny, 1.5), "holds -0.5; expected finite probabilities"),
    "a function of functions": (lambda: tiny, "the function returned function; expected a model"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_model_is_named_by_its_place(fault) -> None:
    item, message = BAD[fault]
    mdps = [tiny(), item, tiny(0.25)]
    with pytest.raises(ModelError, match=r"^model 1: ") as caught:
        selfreg.sweep(mdps, 1)
    assert message in str(caught.value)
    found = selfreg.sweep(mdps, 1, on_error="record")
    assert message in found.errors[1]
    assert list(found.errors) == [1]
    assert found.value[[0, 2]].tolist() == [[0.5, 0.9], [0.25, 0.9]]
    assert np.isnan(found.value[1]).all()
    assert np.isnan(found.usage[1]).all()


def test_a_budget_that_does_not_fit_is_a_fault_of_the_model() -> None:
    found = selfreg.sweep([tiny(), tiny(cost=(1, 1))], 1, on_error="record")
    assert found.errors == {1: "budget 1 has 1 entries; the costs of this model have 2"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": -1}, "budgets is -1"),
        ({"keep": ("value", "speed")}, "keep has 'speed'"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"executor": "spark"}, "executor is 'spark'"),
        ({"mdps": 3}, "mdps is a int"),
        ({"mdps": "/nowhere"}, "no such folder"),
    ],
)
def test_bad_arguments_are_named(change, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        selfreg.sweep(**{"mdps": [tiny()], "budgets": 1, **change})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "is empty"),
        ({3: [1]}, "is not a name of an argument"),
        ({"a": []}, "at least one value"),
        ({"a": "xy"}, "'xy'"),
    ],
)
def test_bad_grids_are_named(parameters, message) -> None:
    with pytest.raises(ValueError, match=message):
        selfreg.ModelGrid(tiny, parameters)


def test_a_parameter_named_as_a_column_is_refused() -> None:
    with pytest.raises(ValueError, match="name of a column"):
        selfreg.sweep(selfreg.ModelGrid(lambda value: tiny(value), {"value": [0.5]}), 1)


def test_what_was_not_kept_is_said(tmp_path) -> None:
    found = selfreg.sweep([tiny()], 1, keep="value", out=tmp_path / "o")
    for ask in (lambda: found.usage, lambda: found.policy(0)):
        with pytest.raises(ValueError, match="was not kept"):
            ask()


# ---- resuming -------------------------------------------------------------------------------------------------------


def test_a_sweep_that_stopped_goes_on(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.sweeps.batches.BATCH_MODELS", 16)
    mdps = many(100)
    made = []

    def counted(mdp, place):
        made.append(place)
        return mdp

    broken = [*mdps[:50], "nothing", *mdps[51:]]
    with pytest.raises(ModelError, match=r"^model 50: "):
        selfreg.sweep(broken, 3, out=tmp_path / "o", executor=selfreg.LocalExecutor(1))
    (tmp_path / "o" / ".x.partial.parquet").write_bytes(b"cut off")
    assert selfreg.read_sweep(tmp_path / "o").indices.tolist() == list(range(48))
    functions = [partial(counted, mdp, i) for i, mdp in enumerate(mdps)]
    monkeypatch.setattr("selfreg.sweeps.batches.BATCH_UNMADE", 16)
    found = selfreg.sweep(functions, 3, out=tmp_path / "o")
    assert sorted(made) == list(range(48, 100))
    np.testing.assert_array_equal(found.value, selfreg.sweep(mdps, 3).value)
    assert not list((tmp_path / "o").glob(".*"))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "o").iterdir()}
    selfreg.sweep(functions, 3, out=tmp_path / "o")
    assert len(made) == 52
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "o").iterdir()}


def test_another_sweep_is_refused(tmp_path) -> None:
    selfreg.sweep([tiny()], 1, out=tmp_path / "o")
    for other, message in (
        (partial(selfreg.sweep, [tiny()], 2), r"its budget is \[1\], now \[2\]"),
        (partial(selfreg.sweep, [tiny(), tiny()], 1), "its models is 1, now 2"),
        (partial(selfreg.sweep, [chain(4, 0)], 1), "model 0 has 6 states, 3 in the results"),
    ):
        with pytest.raises(ValueError, match=message):
            other(out=tmp_path / "o")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="not a sweep"):
        selfreg.sweep([tiny()], 1, out=tmp_path / "p")
    with pytest.raises(ValueError, match="not a sweep"):
        selfreg.read_sweep(tmp_path / "p")
    (tmp_path / "o" / "sweep.json").write_text(json.dumps({"schema": "other"}))
    with pytest.raises(ValueError, match="schema 'other'"):
        selfreg.read_sweep(tmp_path / "o")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX limits")
def test_a_full_disk_leaves_what_can_be_resumed(tmp_path) -> None:
    """A limit on the size of files stands for the disk."""
    code = (
        "import resource, signal, sys; sys.path.insert(0, 'tests/sweeps'); sys.path.insert(0, 'tests')\n"
        "import selfreg, selfreg.sweeps.batches as b; from test_runner import many\n"
        "b.BATCH_MODELS = 16\n"
        "selfreg.sweep(many(64), 3, out=sys.argv[1], executor=selfreg.LocalExecutor(1), keep=('value',))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "keep = ('value', 'state_value')\n"
        "selfreg.sweep(many(64), 3, out=sys.argv[2], executor=selfreg.LocalExecutor(1), keep=keep)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "b")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "OSError" in done.stderr, done.stderr
    assert (tmp_path / "b" / "sweep.json").is_file()
    assert not list((tmp_path / "b").glob(".*"))
    found = selfreg.sweep(many(64), 3, out=tmp_path / "b", keep=("value", "state_value"))
    np.testing.assert_array_equal(found.value, selfreg.read_sweep(tmp_path / "a").value)


KILLED = """
import sys, time
sys.path[:0] = ["tests", "tests/sweeps"]
import selfreg, selfreg.sweeps.batches as b
from test_runner import many
b.BATCH_MODELS = 4
mdps = many(200)
print("ready", flush=True)
def slow(mdps):
    for mdp in mdps:
        time.sleep(0.002)
        yield mdp
selfreg.sweep(slow(mdps), 3, out=sys.argv[1], executor=selfreg.LocalExecutor(2))
"""


def kill_and_resume(out: Path, kills: int, seed: int) -> int:
    """Kill the sweep at random moments, then let it end; how many kills hit it while it ran."""
    random, hits = np.random.default_rng(seed), 0
    for turn in range(kills + 1):
        with subprocess.Popen([sys.executable, "-c", KILLED, str(out)], cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            if turn < kills:
                time.sleep(random.uniform(0, 0.15))
                process.send_signal(signal.SIGKILL)
            hits += process.wait() == -signal.SIGKILL
    return hits


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.long)])
def test_kills_lose_nothing_and_repeat_nothing(tmp_path, kills, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.sweeps.batches.BATCH_MODELS", 4)
    assert kill_and_resume(tmp_path / "killed", kills, seed=kills) >= min(kills, 3) - 1
    whole = selfreg.sweep(iter(many(200)), 3, out=tmp_path / "whole")
    found = selfreg.read_sweep(tmp_path / "killed")
    assert found.indices.tolist() == list(range(200))
    assert found.table().equals(whole.table())
    names = [sorted(path.name for path in (tmp_path / side).iterdir()) for side in ("killed", "whole")]
    assert names[0] == names[1]
