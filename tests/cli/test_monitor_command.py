"""`selfreg monitor` on a run with a forecast, on one without, and on the project's own example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfreg.cli.main import main
from selfreg.data import Step, Trajectory, read_trajectories, write_trajectories
from selfreg.runs import RunFolder

EXAMPLES = Path(__file__).parents[2] / "examples"
ROLES = ("task=id", "outcome=won", "intervention=helper", "steps=turns", "observation=text")
TICKETS = [str(EXAMPLES / "tickets.jsonl"), "--format", "jsonl", *(part for role in ROLES for part in ("--map", role))]


def entry(policy: str, budget: Any, success: float, requests: float, **more: Any) -> dict[str, Any]:
    values = {"success": success, "requests": requests}
    bounds = {name: {"mean": v, "low": v - 0.1, "high": v + 0.1} for name, v in values.items()}
    return {"policy": policy, "rule": None, "help": None, "budget": budget, "identified": True} | bounds | more


def make_run(folder: Path, **changes: Any) -> str:
    """A run that has a summary and nothing else."""
    run = RunFolder(folder / "run")
    run.path.mkdir()
    run.record("solve", {"budget": [2]})
    recommended = entry("always", 2, 0.7, 1.5, help="person", words="Always request person.")
    entries = [entry("never", 0, 0.3, 0.0), entry("plan", 1, 0.5, 0.95), entry("plan", 2, 0.6, 1.5)]
    entries += [entry("helper", 2, 0.8, 1.2), recommended]
    summary = {"schema": "selfreg.summary/2", "costs": {"person": [1]}, "forecast": entries}
    run.write_summary(summary | {"recommendation": recommended} | changes)
    return str(run.path)


def write_log(path: Path, success: float, helps: tuple[int, ...], episodes: int = 200, cost: int | None = None) -> str:
    won = np.random.default_rng(0).random(episodes) < success
    logs = [
        Trajectory(
            f"t{i}",
            str(i),
            float(won[i]),
            tuple(
                Step("go", intervention="person" if k < helps[i % len(helps)] else None, cost=cost) for k in range(4)
            ),
        )
        for i in range(episodes)
    ]
    write_trajectories(path, logs)
    return str(path)


def test_the_entry_of_the_helper_or_else_of_the_plan_is_tested(tmp_path, capsys) -> None:
    run, log = make_run(tmp_path), write_log(tmp_path / "log.jsonl", 0.6, (1, 2))
    expected = {"2": ("helper (budget 2)", "0.700 to 0.900"), "1": ("plan (budget 1)", "0.400 to 0.600")}
    expected["0"] = ("never (budget 0)", "0.200 to 0.400")
    for budget, (name, success) in expected.items():
        assert main(["monitor", run, log, "--budget", budget]) == 3
        printed = capsys.readouterr().out.splitlines()
        assert printed[0] == f"forecast of {name}, 200 episodes"
        assert f"predicted {success}," in printed[1]
    assert main(["monitor", run, log]) == 0
    printed = capsys.readouterr().out
    assert "forecast of always person (budget 2), 200 episodes" in printed
    assert "ALARM" not in printed
    assert main(["monitor", run, log, "--budget", "7"]) == 2
    assert "no forecast of helper or plan under --budget 7; it has 2, 1, 0" in capsys.readouterr().err


def test_only_what_harms_is_an_alarm(tmp_path, capsys) -> None:
    run = make_run(tmp_path)
    better = write_log(tmp_path / "better.jsonl", 0.95, (0, 1))
    assert main(["monitor", run, better]) == 0
    assert capsys.readouterr().out.count("note after") == 2
    for name, success, helps in (("worse", 0.3, (1, 2)), ("dearer", 0.7, (2, 2))):
        assert main(["monitor", run, write_log(tmp_path / f"{name}.jsonl", success, helps)]) == 3
        assert capsys.readouterr().out.count("ALARM") == 1


def test_json_has_what_is_printed(tmp_path, capsys) -> None:
    run, log = make_run(tmp_path), write_log(tmp_path / "log.jsonl", 0.3, (1, 3))
    assert main(["monitor", run, log, "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["policy"], found["identified"], found["counts"]) == ("always person", True, "requests")
    assert (found["alarm"], found["episodes"], found["budget"]) == (True, 200, 2)
    assert found["overspending"] == {"episodes": 100, "first": "1", "spent": 3}
    success, usage = found["tests"]
    assert success["forecast"] == pytest.approx([0.6, 0.8])
    assert usage["forecast"] == pytest.approx([1.4, 1.6])
    assert usage["realised"] == 2.0


def test_requests_are_not_units(tmp_path, capsys) -> None:
    chosen = entry("plan", 4, 0.6, 1.95)
    run = make_run(tmp_path, costs={"person": [2]}, recommendation=chosen, forecast=[chosen])
    log = write_log(tmp_path / "log.jsonl", 0.6, (2,), cost=1)
    assert main(["monitor", run, log, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tests"][1]["realised"] == 2.0


def test_without_a_budget_or_without_an_estimate(tmp_path, capsys) -> None:
    unlimited = entry("always", None, 0.6, 2.0, help="person")
    run, log = make_run(tmp_path, recommendation=unlimited), write_log(tmp_path / "log.jsonl", 0.6, (4,))
    assert main(["monitor", run, log]) == 0
    printed = capsys.readouterr().out
    assert "always person (no budget), 200 episodes" in printed
    assert "help used" not in printed
    bounds = entry("plan", 2, 0.6, 1.5, identified=False)
    RunFolder(run).write_summary(RunFolder(run).summary() | {"forecast": [bounds], "recommendation": None})
    assert main(["monitor", run, log]) == 2
    assert "has no recommendation; expected --budget" in capsys.readouterr().err
    assert main(["monitor", run, log, "--budget", "2"]) == 3
    assert "forecast of plan (budget 2; bounds, as its logs cannot tell more)" in capsys.readouterr().out
    assert main(["monitor", run, log, "--budget", "2", "--point"]) == 2
    assert "give only bounds for plan" in capsys.readouterr().err
    RunFolder(run).write_summary({"forecast": [entry("plan", [1, 2], 0.6, 1.0)]})
    assert main(["monitor", run, log, "--budget", "2"]) == 2
    assert "it has [1, 2]" in capsys.readouterr().err


def test_a_recommended_policy_is_as_certain_as_its_entry(tmp_path, capsys) -> None:
    never = entry("never", 0, 0.6, 0.05)
    run = make_run(tmp_path, forecast=[never], recommendation=never | {"identified": False, "words": "Do not buy."})
    assert main(["monitor", run, write_log(tmp_path / "log.jsonl", 0.65, (0,)), "--point"]) == 0
    assert "forecast of never (budget 0), 200 episodes" in capsys.readouterr().out


def test_point_tests_the_means(tmp_path, capsys) -> None:
    run, log = make_run(tmp_path), write_log(tmp_path / "log.jsonl", 0.64, (1, 2), episodes=1000)
    assert main(["monitor", run, log]) == 0
    assert "predicted 0.600 to 0.800, realised" in capsys.readouterr().out
    assert main(["monitor", run, log, "--point"]) == 3
    assert "predicted 0.700, realised" in capsys.readouterr().out


def test_the_tickets_are_read_though_some_episodes_overspent(tmp_path, capsys) -> None:
    out = str(tmp_path / "run")
    state = ["--state", "step,class", "--classes", str(EXAMPLES / "ticket_classes.toml")]
    assert main(["fit", *TICKETS, *state, "--budget", "3", "--samples", "20", "--out", out]) == 0
    # As before forecasts: only the plan in its model.
    run = RunFolder(out)
    run.write_summary({name: v for name, v in run.summary().items() if name not in ("forecast", "recommendation")})
    capsys.readouterr()
    for budget in range(4):
        assert main(["monitor", out, *TICKETS, "--budget", str(budget)]) in (0, 3)
        printed = capsys.readouterr().out
        assert f"episodes spent more than {budget}; the first is 'tickets.jsonl:3' with 4" in printed
        assert f"forecast of plan (budget {budget}), 120 episodes" in printed
    assert main(["monitor", out, *TICKETS, "--budget", "1", "--point"]) == 3
    assert "help used: predicted 1.000, realised 1.667" in capsys.readouterr().out
    assert main(["monitor", out, *TICKETS, "--budget", "9"]) == 2
    assert "beyond the lattice" in capsys.readouterr().err
    assert main(["monitor", out, *TICKETS]) == 2
    assert "has no recommendation; expected --budget" in capsys.readouterr().err


def test_episodes_that_are_not_finished_are_left_out_and_counted(tmp_path, capsys) -> None:
    run, log = make_run(tmp_path), tmp_path / "log.jsonl"
    write_log(log, 0.8, (1,), episodes=8)
    words = ["monitor", run, str(log), "--budget", "2"]
    assert main([*words, "--json"]) == 0
    finished = json.loads(capsys.readouterr().out)
    cut = [Trajectory("t", f"cut{i}", None, (Step("go"),), truncated=True) for i in range(2)]
    write_trajectories(log, [*read_trajectories(log), *cut])
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == finished | {"unfinished": 2}
    assert main(words) == 0
    assert "2 of 10 episodes are not finished and were left out" in capsys.readouterr().out
    write_trajectories(log, cut)
    assert main(words) == 2
    assert "none of the 2 episodes has an outcome" in capsys.readouterr().err
