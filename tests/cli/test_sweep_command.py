"""`selfreg sweep` on a folder of runs and on a grid over one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import selfreg
from selfreg.cli.main import main
from selfreg.data import Step, Trajectory
from selfreg.estimate import Features, estimate_mdp
from selfreg.report import plots
from selfreg.runs import RunFolder


def logs(seed: int) -> list[Trajectory]:
    random = np.random.default_rng(seed)
    made = []
    for i in range(60):
        helped = i % 2 == 1
        steps = (
            Step("start"),
            Step("error" if random.random() < 0.5 else "fine", intervention="h" if helped else None),
        )
        made.append(Trajectory(str(i % 6), str(i), float(random.random() < (0.8 if helped else 0.4)), steps))
    return made


@pytest.fixture
def runs(tmp_path) -> Path:
    for seed in range(3):
        run = RunFolder(tmp_path / "runs" / f"run{seed}")
        run.path.mkdir(parents=True)
        episodes = logs(seed)
        run.write_trajectories(episodes)
        states = Features(["step", "class"], {"error": "error"})
        run.write_model(estimate_mdp(episodes, states))
        run.record("estimate", {"abstraction": states.describe(), "kappa": 0.0})
    return tmp_path / "runs"


def config(folder: Path, text: str) -> str:
    (folder / "sweep.toml").write_text(text)
    return str(folder / "sweep.toml")


def test_penalties_in_place_of_budgets(runs, capsys) -> None:
    text = '[sweep]\npenalties = [0.0, 0.2, inf]\nout = "out"\n[models]\nfolder = "runs"\n'
    assert main(["sweep", config(runs.parent, text)]) == 0
    assert "penalty 0" in capsys.readouterr().out
    found = selfreg.read_sweep(runs.parent / "out")
    assert found.success.shape == (3, 3)
    assert np.all(np.diff(found.usage[..., 0]) <= 0)
    assert main(["sweep", config(runs.parent, text.replace("penalties", "budget = 1\npenalties"))]) == 2
    assert "one of the entries budget and penalties" in capsys.readouterr().err


def test_a_folder_of_runs(runs, capsys) -> None:
    path = config(runs.parent, '[sweep]\nbudget = 2\nout = "out"\n[models]\nfolder = "runs"\n')
    assert main(["sweep", path]) == 0
    printed = capsys.readouterr().out
    assert "planned, 3 models" in printed
    assert "run2" in printed
    found = selfreg.read_sweep(runs.parent / "out")
    assert found.names == ["run0", "run1", "run2"]
    for i, name in enumerate(found.names):
        model = RunFolder(runs / name).model()
        np.testing.assert_array_equal(found.value[i], model.success(selfreg.solve(model.mdp, 2)))
    drawing = (runs.parent / "out" / "value_by_budget.svg").read_text()
    assert drawing.startswith("<svg")
    assert "run1" in drawing
    assert main(["sweep", path]) == 0  # all there
    assert capsys.readouterr().out == printed


def test_a_grid_over_one_run(runs, capsys) -> None:
    grid = '[grid]\nrun = "runs/run0"\nkappa = [0.0]\nstate = ["step", "step,class"]\nclasses = "c.toml"\n'
    (runs.parent / "c.toml").write_text('[class]\nerror = "error"\n')
    path = config(runs.parent, f'[sweep]\nbudget = 2\nout = "out"\nthreads = 1\n{grid}[grid.cost]\nh = [1, 2]\n')
    assert main(["sweep", path]) == 0
    assert "effect_of_cost.h.svg" in capsys.readouterr().out
    found = selfreg.read_sweep(runs.parent / "out")
    assert list(found.parameters) == ["kappa", "state", "cost.h"]
    assert len(found) == 4
    i = [found.parameters["cost.h"][i] for i in range(4)].index(2)
    model = estimate_mdp(logs(0), Features(["step"]), costs={"h": 2})
    np.testing.assert_array_equal(found.value[i], model.success(selfreg.solve(model.mdp, 2)))
    assert found.value[i][0] == found.value[i][1] < found.value[i][2]
    assert "step,class" in (runs.parent / "out" / "effect_of_state.svg").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sweep", "not a TOML file"),
        ('[sweep]\nbudget = 2\nout = "o"\n', "expected one of the tables [models] and [grid]"),
        ('[sweep]\nbudget = "2"\nout = "o"\n', "$.sweep.budget"),
        ('[sweep]\nbudget = 2\nout = "o"\nspeed = 1\n', "unknown field `speed`"),
        ('[sweep]\nbudget = 2\nout = "o"\n[models]\nfolder = "none"\n', "no such folder"),
        ('[sweep]\nbudget = 2\nout = "o"\n[grid]\nrun = "none"\nkappa = [0.0]\n', "is not a run folder"),
        ('[sweep]\nbudget = 2\nout = "o"\n[grid]\nrun = "runs/run0"\n', "parameters is empty"),
        ('[sweep]\nbudget = 2\nout = "o"\n[grid]\nrun = "runs/run0"\nkappa = [1.0]\n', "model 0: kappa=1 needs a PRM"),
        ('[sweep]\nbudget = 2\nout = "o"\nexecutor = "x"\n[models]\nfolder = "runs"\n', "executor is 'x'"),
    ],
)
def test_faults_are_named(runs, capsys, text, message) -> None:
    assert main(["sweep", config(runs.parent, text)]) == 2
    assert message in capsys.readouterr().err
    assert main(["sweep", str(runs.parent / "none.toml")]) == 2


def test_many_models_are_drawn_as_a_bundle() -> None:
    value = np.sort(np.random.default_rng(0).random((50, 4)), axis=1)
    drawing = plots.values_by_budget(value, {}, [None] * 50)
    assert "median of 50 models" in drawing
    assert "model 3" not in drawing
