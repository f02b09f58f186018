"""`selfreg ope` on a run, on logs, and on a run with other logs; the library has the same numbers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from selfreg.cli.main import main
from selfreg.data import Step, Trajectory, write_trajectories
from selfreg.decisions import Decision
from selfreg.estimate import Features
from selfreg.evaluate import Always, EveryN, LastK, Never, ope
from selfreg.runs import RunFolder
from selfreg.runtime import Ledger, Recorder


def coin_log(seed: int, episodes: int = 400) -> list[Trajectory]:
    """Three steps, help by a fair coin at each; half of the episodes end with an error, which needs help."""
    generator, result = np.random.default_rng(seed), []
    for i in range(episodes):
        wrong, helps = generator.random() < 0.5, generator.random(3) < 0.5
        steps = tuple(
            Step("Error: no" if k == 2 and wrong else "fine", intervention="person" if h else None)
            for k, h in enumerate(helps)
        )
        won = generator.random() < ((0.9 if helps[2] else 0.2) if wrong else 0.8)
        result.append(Trajectory(f"t{seed}-{i // 2}", f"{seed}-{i}", float(won), steps, fields={"rate": 0.5}))
    return result


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> list[str]:
    """Two logs of other tasks."""
    folder = tmp_path_factory.mktemp("logs")
    paths = [folder / "a.jsonl", folder / "b.jsonl"]
    for seed, path in enumerate(paths):
        write_trajectories(path, coin_log(seed))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def run(tmp_path_factory, logs) -> str:
    folder = tmp_path_factory.mktemp("ope")
    classes, out = folder / "classes.toml", str(folder / "run")
    classes.write_text('[class]\nerror = "Error"\n')
    options = ["--state", "step,class", "--classes", str(classes), "--budget", "2", "--samples", "0"]
    assert main(["fit", logs[0], *options, "--out", out]) == 0
    return out


def test_the_plan_is_valued_on_other_logs(run, logs, capsys) -> None:
    capsys.readouterr()
    assert main(["ope", run, logs[1], "--policy", "plan", "--budget", "1", "--propensity", "rate", "--json"]) == 0
    printed = capsys.readouterr()
    assert not printed.err
    found = json.loads(printed.out)
    assert (found["policy"], found["budget"], found["propensities"]) == ("plan", 1, "known")
    for name in ("weighted importance sampling", "doubly robust", "model-based"):
        one = found["estimates"][name]
        assert one["success"]["mean"] == pytest.approx(0.85, abs=0.1), name  # errors have help
        assert 0.4 < one["usage"]["mean"] < 1.1, name
    assert main(["ope", run, "--policy", "plan", "--budget", "1"]) == 0
    printed = capsys.readouterr()
    assert "note: the plan was made from these episodes" in printed.err
    assert printed.out.startswith("plan, budget 1: 400 episodes\n")
    assert "effective tasks" in printed.out
    assert "doubly robust: success" in printed.out


@pytest.mark.parametrize(
    ("options", "policy", "budget"),
    [
        (["--policy", "never"], Never(), None),
        (["--policy", "always", "--budget", "2"], Always("person"), 2),
        (["--policy", "last-k", "--budget", "2"], LastK("person", 2, 3), 2),
        (["--policy", "every-n", "--budget", "1", "--help-type", "person"], EveryN("person", 1), 1),
    ],
)
def test_rules_on_logs_have_the_numbers_of_the_library(logs, options, policy, budget, capsys) -> None:
    chosen = ["--state", "step", "--propensity", "rate", "--clip", "5", "--seed", "3", "--json"]
    assert main(["ope", logs[0], *options, *chosen]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = ope(
        coin_log(0), policy, budget=budget, propensity="rate", abstraction=Features(["step"]), clip=5, seed=3
    )
    assert found["estimates"] == expected.to_json()["estimates"]
    assert found["bias"] == expected.bias
    assert found["help"] == getattr(policy, "help", None)
    assert found["overlap"] == expected.to_json()["overlap"]


def test_costs_are_those_of_the_run(tmp_path, logs, capsys) -> None:
    out = str(tmp_path / "run")
    options = ["--state", "step", "--budget", "4", "--samples", "0", "--cost", "person=2"]
    assert main(["fit", logs[0], *options, "--out", out]) == 0
    capsys.readouterr()
    assert main(["ope", out, logs[1], "--policy", "always", "--budget", "4", "--propensity", "rate", "--json"]) == 0
    estimates = json.loads(capsys.readouterr().out)["estimates"]
    assert estimates["weighted importance sampling"]["usage"]["mean"] == pytest.approx(4.0)
    # Four units are two requests: help at the last two of three steps.
    assert main(["ope", out, logs[1], "--policy", "last-k", "--budget", "4", "--propensity", "rate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["estimates"]["weighted importance sampling"]["usage"]["mean"] == pytest.approx(4.0)
    helps = [[step.intervention is not None for step in one.steps] for one in coin_log(1)]
    assert found["overlap"]["matched"] == np.mean([h == [False, True, True] for h in helps])


def test_the_helper_of_a_run(tmp_path, logs, capsys) -> None:
    pytest.importorskip("sklearn", reason="the helper needs scikit-learn")
    out, few = str(tmp_path / "run"), str(tmp_path / "few.jsonl")
    write_trajectories(few, coin_log(2, 80))
    assert main(["fit", few, "--state", "step", "--budget", "2", "--samples", "0", "--out", out]) == 0
    assert main(["train", out, "--part", "helper", "--form", "tfidf"]) == 0
    capsys.readouterr()
    assert main(["ope", out, logs[1], "--policy", "helper", "--budget", "2", "--propensity", "rate"]) == 0
    assert capsys.readouterr().out.startswith("helper, budget 2: 400 episodes\n")


def test_recorded_propensities_are_used(tmp_path, capsys) -> None:
    """Of a recorder that explores, with help that fails and a run without an outcome; rare states are explored less."""

    class Careful:
        def decide(self, steps, budget_left):
            return Decision("person" if steps[-1].state == "hard" else "nohelp")

    recorder, chance = Recorder(Careful(), Ledger(10**6), costs={"person": 2}, explore=0.6), np.random.default_rng(0)
    for run in range(600):
        hard = bool(run % 2)
        helped = recorder.decide_once(run, 0, [Step("hard" if hard else "easy")]).requests_help
        if helped and chance.random() < 0.3:
            helped = not recorder.refund(run, 0)
        recorder.outcome(run, bool(chance.random() < (0.9 if helped else 0.2 if hard else 0.6)))
    recorder.decide_once("open", 0, [Step("easy")])
    recorder.export(tmp_path / "log.jsonl")
    command = ["ope", str(tmp_path / "log.jsonl"), "--policy", "always", "--state", "step"]
    assert main(command) == 2
    assert "1 of 601 episodes have no outcome: --skip-bad" in capsys.readouterr().err
    assert main([*command, "--skip-bad", "--json"]) == 0
    printed = capsys.readouterr()
    assert "note: skipped 1 of 601 episodes, which have no outcome" in printed.err
    found = json.loads(printed.out)
    assert found["propensities"] == "known"
    for name in ("weighted importance sampling", "doubly robust"):
        # Frequencies that know the step only would weigh hard tasks, which are helped more often, too much.
        assert found["estimates"][name]["success"]["mean"] == pytest.approx(0.7 * 0.9 + 0.3 * 0.4, abs=0.06)
        assert found["estimates"][name]["usage"]["mean"] == pytest.approx(1.4, abs=0.15)


def test_the_guide_prints_what_it_says(capsys, monkeypatch) -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "off-policy.md").read_text()
    command, printed = re.search(r"```\nselfreg (ope examples.*?)\n```\n\n```\n(.*?)```", page, re.DOTALL).groups()
    monkeypatch.chdir(root)
    assert main(command.split()) == 0
    assert capsys.readouterr().out == printed


def test_too_little_overlap_is_said(logs, capsys) -> None:
    rare = ["ope", logs[0], "--policy", "always", "--propensity", "rate", "--state", "step", "--where", "rate=0.5"]
    assert main([*rare, "--least-effective", "1000"]) == 2
    assert "too little overlap" in capsys.readouterr().err
    assert main([*rare, "--least-effective", "0"]) == 0


def test_bad_input_is_named(tmp_path, run, logs, capsys) -> None:
    several = tmp_path / "several.jsonl"
    write_trajectories(
        several,
        [Trajectory("t", str(i), 1.0, (Step("a", intervention=name),)) for i, name in enumerate(("x", "y", None))],
    )
    alone = tmp_path / "alone.jsonl"
    write_trajectories(alone, [Trajectory(f"t{i}", str(i), 1.0, (Step("a"),)) for i in range(3)])
    cases = {
        ("--policy", "sometimes"): (logs, "--policy sometimes: unknown; expected one of never, always, last-k"),
        ("--policy", "plan"): ([run], "--policy plan needs --budget"),
        ("--policy", "plan", "--budget", "3"): ([run], "is solved up to 2"),
        ("--policy", "plan", "--budget", "1"): (logs, "--policy plan needs a run folder before the logs"),
        ("--policy", "helper", "--budget", "1"): ([run], "has no helper"),
        ("--policy", "last-k"): (logs, "--policy last-k needs --budget"),
        ("--policy", "always"): ([str(several)], "several help types; expected --help-type, one of x, y"),
        ("--policy", "always", "--help-type", "z"): (logs, "--help-type z: the logs have person"),
        ("--policy", "every-n", "--budget", "1"): ([str(alone)], "the logs have no help"),
        ("--policy", "never", "--seed", "1"): ([run, str(several)], "help of type 'x', which"),
        ("--policy", "never", "--state", "step"): ([run], "--state and --classes are those of"),
        ("--policy", "never", "--state", "step,score"): (logs, "needs the PRM of a run"),
        ("--policy", "never", "--where", "rate=0.5"): ([run], "(--map, --where, ...) are for logs"),
        ("--policy", "never", "--where", "rate=0.4"): (logs, "no episodes"),
        ("--policy", "never", "--clip", "0.5"): (logs, "clip is 0.5"),
        ("--policy", "never", "--propensity", "chance"): (logs, "propensity field 'chance' is None"),
    }
    for options, (paths, message) in cases.items():
        capsys.readouterr()
        assert main(["ope", *paths, *options]) == 2, options
        assert message in capsys.readouterr().err, options


def test_unfinished_episodes_of_a_run_are_left_out(tmp_path, run, capsys) -> None:
    words = ["--policy", "never", "--json"]
    assert main(["ope", run, *words]) == 0
    finished = json.loads(capsys.readouterr().out)
    copy = RunFolder(shutil.copytree(run, tmp_path / "run"))
    cut = Trajectory("t0-0", "cut", None, (Step("fine"),), truncated=True)
    copy.write_trajectories([*copy.trajectories(), cut])
    assert main(["ope", str(copy.path), *words]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == finished
    assert "left out 1 of 401 episodes, which have no outcome" in printed.err
