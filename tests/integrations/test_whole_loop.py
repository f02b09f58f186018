"""The whole loop with two frameworks: run with exploration, export, fit, train, deploy, monitor."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from conformance import Models

from selfreg.cli.main import main
from selfreg.data import read_trajectories
from selfreg.decisions import Decision
from selfreg.helper import Helper
from selfreg.runtime import Budget, Ledger, Recorder

TASKS = [f"{kind} question {i}" for i in range(40) for kind in ("easy", "hard")]


class Never:
    """What an agent does before there is a helper; exploration requests help at random."""

    def decide(self, steps, budget_left):
        return Decision()


def run_langchain(recorder: Recorder, tasks: list[str], folder: Path) -> Path:
    """Runs the tasks, and exports what the recorder has stored."""
    call = importlib.import_module("driver_langchain").call
    for task in tasks:
        answer = call(recorder, task, task, Models())
        recorder.outcome(task, "easy" in task or "strong" in answer)
    recorder.export(folder / "log.jsonl")
    return folder / "log.jsonl"


def run_inspect(recorder: Recorder, tasks: list[str], folder: Path) -> Path:
    """Runs the tasks as samples; Inspect's own log is the export."""
    driver = importlib.import_module("driver_inspect_ai")
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import get_model
    from inspect_ai.scorer import includes

    from selfreg.integrations.inspect_ai import help_solver

    assert driver.DRIVER
    samples = [Sample(one, id=one, target="answered" if "easy" in one else "strong") for one in tasks]
    weak, strong = (get_model(f"scripted/{name}", models=Models(), memoize=False) for name in ("weak", "strong"))
    task = Task(samples, solver=help_solver(recorder), scorer=includes())
    (log,) = eval(task, model=weak, model_roles={"helper": strong}, log_dir=str(folder), max_samples=4)
    assert log.status == "success"
    return Path(log.location)


@pytest.mark.parametrize(("package", "run"), [("langchain", run_langchain), ("inspect_ai", run_inspect)])
def test_from_exploration_to_monitoring(package, run: Callable[..., Path], tmp_path, capsys) -> None:
    pytest.importorskip(package, reason=f"{package} is missing (extra 'adapters')")
    pytest.importorskip("torch", reason="torch is missing (extra 'ml')")
    folders = [tmp_path / name for name in ("explored", "deployed")]
    for folder in folders:
        folder.mkdir()
    explorer = Recorder(Never(), Ledger(Budget(1, scope="run")), costs={"strong": 1}, explore=0.9)
    log = run(explorer, TASKS, folders[0])

    fitted = str(tmp_path / "run")
    assert main(["fit", str(log), "--budget", "1", "--helper", "--out", fitted]) == 0
    helper = Helper.load(Path(fitted) / "helper")

    deployed = Recorder(helper, Ledger(Budget(1, scope="run")), costs={"strong": 1})
    new = [task.replace("question", "new question") for task in TASKS[:24]]
    log = run(deployed, new, folders[1])
    helped = {one.steps[0].state for one in read_trajectories(log) if one.steps[0].intervention == "strong"}
    assert helped >= {task for task in new if "hard" in task}
    assert all(one.outcome == 1.0 for one in read_trajectories(log))

    capsys.readouterr()
    assert main(["monitor", fitted, str(log)]) == 0
    assert "24" in capsys.readouterr().out
