"""Atomic files, resumable folders, and texts that are UTF-8 in every locale."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import selfreg
from selfreg._util.ending import ENDING
from selfreg._util.files import atomic_folder, atomic_write, check_settings, escape_surrogates, open_resumable

SOURCES = sorted(Path(selfreg.__file__).parent.rglob("*.py"))


def test_a_file_is_written_atomically(tmp_path) -> None:
    names = []
    with pytest.raises(KeyError), atomic_write(tmp_path / "a.json.gz") as temporary:
        raise KeyError(names.append(temporary.name))
    assert names[0].endswith(".json.gz")
    assert not list(tmp_path.iterdir())


HOLDS = """
import sys, time
from selfreg._util.files import atomic_folder
with atomic_folder(sys.argv[1], "run.toml") as folder:
    (folder / "run.toml").write_text("", encoding="utf-8")
    print("holds", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes to tmp_path/run until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("write", [atomic_write, lambda path: atomic_folder(path, "run.toml")])
def test_nothing_is_put_in_place_after_an_interrupt_that_a_library_dropped(write, tmp_path) -> None:
    ENDING.set()
    try:
        with pytest.raises(KeyboardInterrupt), write(tmp_path / "a"):
            pass
    finally:
        ENDING.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders")
def test_two_processes_do_not_write_one_folder(tmp_path, holder) -> None:
    with (
        pytest.raises(FileExistsError, match=r"another process is writing to .*run"),
        atomic_folder(tmp_path / "run", "run.toml", overwrite=True),
    ):
        pytest.fail("ran")
    holder.communicate("end\n")
    assert holder.returncode == 0
    assert names(tmp_path) == ["run"]
    with pytest.raises(FileExistsError, match="--overwrite"), atomic_folder(tmp_path / "run", "run.toml"):
        pytest.fail("ran")
    assert names(tmp_path) == ["run"]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders")
def test_what_a_killed_process_left_is_replaced(tmp_path, holder) -> None:
    holder.kill()
    holder.wait()
    assert names(tmp_path) == [".run.partial-run"]
    with atomic_folder(tmp_path / "run", "run.toml") as folder:
        assert names(folder) == []
        (folder / "new").touch()
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["new"]


def test_an_earlier_folder_survives_a_kill_between_the_renames(tmp_path) -> None:
    (tmp_path / ".run.old-run").mkdir()
    (tmp_path / ".run.old-run" / "run.toml").touch()
    with pytest.raises(FileExistsError, match="--overwrite"), atomic_folder(tmp_path / "run", "run.toml"):
        pytest.fail("ran")
    assert names(tmp_path) == ["run"]


def test_a_failure_leaves_no_folder_that_was_not_there(tmp_path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "a" / "b" / "run", "run.toml") as folder:
        (folder / "missing" / "file").touch()
    assert names(tmp_path) == []


def test_work_is_resumed_with_the_same_settings_only(tmp_path) -> None:
    folder = tmp_path / "work"
    open_resumable(folder, "work.json", {"seed": 0, "logs": ["a" * 1000]}, "sweep")
    (folder / ".part.partial.npz").write_bytes(b"cut off")
    open_resumable(folder, "work.json", {"seed": 0, "logs": ["a" * 1000]}, "sweep")
    assert [path.name for path in folder.iterdir()] == ["work.json"]
    with pytest.raises(ValueError, match=r"has another sweep: its seed is 0, now 1; choose"):
        open_resumable(folder, "work.json", {"seed": 1, "logs": ["a" * 1000]}, "sweep")
    with pytest.raises(ValueError, match="its logs is") as caught:
        open_resumable(folder, "work.json", {"seed": 0, "logs": ["b" * 1000]}, "sweep")
    assert len(str(caught.value)) < 500 + len(str(folder))
    with pytest.raises(ValueError, match=r"not empty and not a sweep \(missing other.json\)"):
        open_resumable(folder, "other.json", {}, "sweep")
    check_settings(folder / "work.json", {"seed": 0, "logs": ["a" * 1000], "world": 1}, "sweep", optional=("world",))


WORKS = """
import pathlib, sys
from selfreg._util.files import work_alone
with work_alone(pathlib.Path(sys.argv[1]), "sweep"):
    print("works", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders")
def test_work_is_not_resumed_while_another_process_does_it(tmp_path) -> None:
    open_resumable(tmp_path, "work.json", {"seed": 0}, "sweep")
    with subprocess.Popen(
        [sys.executable, "-c", WORKS, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "works\n"
        (tmp_path / ".part.partial.npz").touch()
        with pytest.raises(ValueError, match="another process works on the sweep in"):
            open_resumable(tmp_path, "work.json", {"seed": 0}, "sweep")
        assert (tmp_path / ".part.partial.npz").exists()
        process.communicate("end\n")
    open_resumable(tmp_path, "work.json", {"seed": 0}, "sweep")
    assert names(tmp_path) == ["work.json"]


def test_lone_surrogates_are_escaped() -> None:
    assert escape_surrogates({"a": ["é\udcff", 1, None, ("x",)]}) == {"a": ["é\\udcff", 1, None, ["x"]]}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_text_files_name_their_encoding(path) -> None:
    """The default depends on the locale."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg for keyword in node.keywords}
        where = f"{path}:{node.lineno}"
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"read_text", "write_text"}:
            assert "encoding" in keywords, where
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            mode = next((a.value for a in node.args[1:2] if isinstance(a, ast.Constant)), "r")
            assert "b" in str(mode) or "encoding" in keywords, where


LOCALE = """
import json, os, pathlib, sys
import selfreg
from selfreg.data import Step, Trajectory, read_trajectories, write_stepwise, write_trajectories
from selfreg.estimate import ExactKey, count_logs, estimate_mdp
from selfreg.evaluate.closed_loop import Row, read_rows, write_rows
from selfreg.helper import label
from selfreg.runs import RunFolder

folder = os.fsdecode(b"\\xff\\xc3\\xa9")
os.mkdir(folder)
log = os.path.join(folder, os.fsdecode(b"log\\xfe.jsonl"))
logs = [Trajectory("t\\u00e9", "e", 1.0, (Step("\\u20ac"),))]
write_trajectories(log, logs)
for _ in range(2):
    assert count_logs(log, ExactKey(), workers=1, out=os.path.join(folder, "counts")).episodes == 1
rows = os.path.join(folder, os.fsdecode(b"rows\\xfe.parquet"))
write_trajectories(rows, logs)
assert list(read_trajectories(rows)) == logs and len(read_trajectories(rows)) == 1
assert count_logs(rows, ExactKey(), workers=1).episodes == 1
packed = os.path.join(folder, "log.jsonl.zst")
write_trajectories(packed, logs)
assert list(read_trajectories(packed)) == logs
judged = [Trajectory("t", "e", 1.0, (Step("a", label=1.0),))]
for name in ("judged.jsonl", "judged.parquet"):
    assert write_stepwise(os.path.join(folder, name), judged) == 1
    assert len(list(read_trajectories(os.path.join(folder, name), format="stepwise"))) == 1
model = estimate_mdp(logs, ExactKey())
label(logs, model, selfreg.solve(model.mdp, 1)).write(os.path.join(folder, "labels.parquet"))
row = Row("never", 0.0, 0, "t", 1, 1.0, 0, 1, 0)
write_rows(os.path.join(folder, "rows.parquet"), [row])
assert read_rows(os.path.join(folder, "rows.parquet")) == [row]
run = RunFolder(folder)
run.record("import", {"logs": [log], "note": "\\u20ac"})
assert run.settings()["import"]["note"] == "\\u20ac"
run.write_summary({"text": "\\u20ac", "log": log})
assert run.summary()["text"] == "\\u20ac"
run.write_model(estimate_mdp(logs, ExactKey()))
for _ in range(2):
    found = selfreg.sweep(folder and os.curdir, 1, out="swept")
    assert len(found) == 1 and not found.errors, found.errors
try:
    selfreg.sweep(os.curdir, 1, out=os.path.join(folder, "swept"))
except ValueError as error:
    assert "is not valid UTF-8" in str(error), error
else:
    raise AssertionError
print(found.names)
from selfreg.cli.main import main
assert main(["solve", folder, "--budget", "1"]) == 2  # names the folder
run.write_trajectories(logs)
assert run.trajectories() == logs
assert main(["solve", folder, "--budget", "1"]) == 0
print(folder)  # as commands do
"""


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
@pytest.mark.parametrize(
    "settings",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8:strict"},
    ],
)
def test_names_that_the_locale_cannot_encode(tmp_path, settings) -> None:
    path = {"PYTHONPATH": os.pathsep.join([str(Path(selfreg.__file__).parents[1])])}
    done = subprocess.run(
        [sys.executable, "-c", LOCALE], cwd=tmp_path, env={**os.environ, **path, **settings}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"udcff" in done.stdout
    assert json.loads((tmp_path / "swept" / "sweep.json").read_text(encoding="utf-8"))["models"] == 1
