"""Coverage: counts by hand, effective tasks, and the planned success that depends on low-count rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.estimate import Features, coverage, estimate_mdp

CLASSES = {"good": "good", "bad": "bad"}


def episode(name: str, task: str, outcome: float, *steps: str) -> Trajectory:
    made = tuple(Step(s.split("+")[0], intervention=s.split("+")[1] if "+" in s else None) for s in steps)
    return Trajectory(task, name, outcome, made)


@pytest.fixture
def logs() -> list[Trajectory]:
    """Ten goods alone in five tasks, two bads alone, one bad helped to success."""
    result = [episode(f"g{i}", f"t{i % 5}", 1.0, "start", "good") for i in range(10)]
    result += [episode(f"b{i}", "t0", 0.0, "start", "bad") for i in range(2)]
    return [*result, episode("h", "t1", 1.0, "start", "bad+help")]


def test_counts_are_those_of_the_logs(logs) -> None:
    model = estimate_mdp(logs, Features(["step", "class"], CLASSES))
    report = coverage(model, logs, fewer_than=3)
    start, good, bad = (model.index[key] for key in ((0, "other"), (1, "good"), (1, "bad")))
    assert report.visits["nohelp"][[start, good, bad]].tolist() == [13, 10, 2]
    assert report.successors["nohelp"][[start, good, bad]].tolist() == [2, 1, 1]
    assert report.visits["help"].tolist() == [0, 0, 1]
    # 13 visits of the start: 4 in t0, 3 in t1, 2 in each of the three others.
    assert report.effective["nohelp"][start] == pytest.approx(13**2 / (4**2 + 3**2 + 3 * 2**2))
    assert report.effective["nohelp"][good] == pytest.approx(5.0)
    assert report.effective["help"].tolist() == [0, 0, 1]
    assert report.without_help[[start, good, bad]].tolist() == [True, True, False]
    assert report.low_count_visits("nohelp") == pytest.approx(2 / 25)
    assert report.low_count_visits("nohelp", 11) == pytest.approx(12 / 25)
    assert len(report.table()["visits"]) == 6
    assert report.low_count_share is None
    assert "In 2 of 3 states no help was tried." in report.lines()


def test_success_that_depends_on_low_count_rows(logs) -> None:
    model = estimate_mdp(logs, Features(["step", "class"], CLASSES), shrink=False)
    solution = selfreg.solve(model.mdp, 1)
    report = coverage(model, logs, solution, fewer_than=3)
    # Alone 10/13, all by good rows; with one help 1, of which the 3/13 through `bad` depend on a single helped step.
    np.testing.assert_allclose(report.success, [10 / 13, 1.0])
    np.testing.assert_allclose(report.low_count_share, [0.0, 3 / 13], atol=1e-12)
    assert coverage(model, logs, solution, fewer_than=1).low_count_share.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(coverage(model, logs, solution, fewer_than=14).low_count_share, 1.0)
    assert report.summary()["success_on_low_count_rows"] == pytest.approx([0.0, 3 / 13])
    assert "23.1% of the planned success depends on rows with fewer than 3 visits" in report.lines()[-1]


def test_borrowed_rows_have_no_visits_of_their_own(logs) -> None:
    model = estimate_mdp([*logs, episode("x", "t2", 1.0, "start+help", "good+help", "new+help")], Features(["step"]))
    last = model.index[2,]
    assert model.borrowed[last]
    report = coverage(model, [*logs, episode("x", "t2", 1.0, "start+help", "good+help", "new+help")])
    assert report.visits["nohelp"][last] == 0


def test_other_trajectories_or_another_solution_are_refused(logs) -> None:
    model = estimate_mdp(logs, Features(["step", "class"], CLASSES))
    with pytest.raises(ValueError, match="visits differ"):
        coverage(model, logs[:-2])
    with pytest.raises(ValueError, match="episode 'new' step 2 is not one"):
        coverage(model, [*logs, episode("new", "t", 1.0, "start", "good", "good")])
    with pytest.raises(ValueError, match="solution is of another model"):
        coverage(model, logs, selfreg.solve(estimate_mdp(logs, Features(["step"])).mdp, 1))
    with pytest.raises(ValueError, match="fewer_than is 0"):
        coverage(model, logs, fewer_than=0)


def test_value_of_a_policy_that_is_not_optimal() -> None:
    alone = np.array([[0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5], [0] * 4, [0] * 4])
    helped = np.array([[0, 0, 1.0, 0], [0, 0, 0.5, 0.5], [0] * 4, [0] * 4])
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 1})
    # Alone: v0 = .5 v1 + .5, v1 = .5 v0, so 2/3 and 1/3. With one help asked in state 1 only: v1 = .5, v0 = .75.
    value = selfreg.evaluate_policy(mdp, [[0, 0], [0, 1], [0, 0], [0, 0]]).success
    np.testing.assert_allclose(value, [[2 / 3, 0.75], [1 / 3, 0.5], [1, 1], [0, 0]], atol=1e-12)
    with pytest.raises(ValueError, match=r"action 1 in state 1 with \[0\] left"):
        selfreg.evaluate_policy(mdp, [[0, 0], [1, 1], [0, 0], [0, 0]])
    with pytest.raises(ValueError, match="policy has shape"):
        selfreg.evaluate_policy(mdp, [0, 0, 0, 0])
    with pytest.raises(TypeError, match="policy has dtype float64"):
        selfreg.evaluate_policy(mdp, np.zeros((4, 2)))


def test_value_of_waiting_for_ever_is_nothing() -> None:
    loop = np.array([[0, 1.0, 0], [1.0, 0, 0], [0, 0, 0]])
    helped = np.array([[0, 0, 1.0], [0, 0, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": loop, "help": helped}, [np.nan, np.nan, 1], {"help": 1})
    assert selfreg.evaluate_policy(mdp, [[0, 0], [0, 0], [0, 0]]).success[:2].tolist() == [[0, 0], [0, 0]]
    assert selfreg.evaluate_policy(mdp, [[0, 1], [0, 0], [0, 0]]).success[:2].tolist() == [[0, 1], [0, 1]]


def test_coverage_is_printed_and_in_the_report(tmp_path, capsys) -> None:
    from selfreg.cli.main import main

    examples, out = Path(__file__).parents[2] / "examples", tmp_path / "run"
    roles = ["task=id", "outcome=won", "intervention=helper", "steps=turns", "observation=text"]
    state = ["--state", "step,class", "--classes", str(examples / "ticket_classes.toml")]
    mapped = [part for role in roles for part in ("--map", role)]
    files = [str(examples / "tickets.jsonl"), "--format", "jsonl", *mapped, "--out", str(out)]
    assert main(["fit", *files, *state, "--budget", "2"]) == 0
    page = (out / "report.html").read_text()
    assert "Data behind the plan" in page
    assert "share of planned success" in page
    capsys.readouterr()
    assert main(["estimate", str(out), *state, "--fewer-than", "20"]) == 0
    printed = capsys.readouterr().out
    assert "rows under 20" in printed
    assert printed.splitlines()[-1].split()[0] == "person"
