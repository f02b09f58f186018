"""Labels: the plan's decision and advantage at every step and budget."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.estimate import Features, estimate_mdp
from selfreg.helper import label
from selfreg.helper.labels import points_after


def episode(name: str, outcome: float, *steps: tuple[str, str | None], task: str = "t") -> Trajectory:
    return Trajectory(task, name, outcome, tuple(Step(state, intervention=help) for state, help in steps))


@pytest.fixture
def case():
    """Alone: 1 of 4 from x. Help from x: 3 of 4. In y nobody asked; z was only seen with help."""
    logs = [episode(f"a{i}", float(i == 0), ("x", None)) for i in range(4)]
    logs += [episode(f"h{i}", float(i > 0), ("x", "help")) for i in range(4)]
    logs += [episode("y", 1.0, ("y", None)), episode("z", 1.0, ("z", "help"), task="other")]
    model = estimate_mdp(logs, Features(["class"], {"x": "x", "y": "y", "z": "z"}), shrink=False)
    return logs, model, label(logs, model, selfreg.solve(model.mdp, 2))


def test_decisions_and_advantages(case) -> None:
    logs, _, labels = case
    assert labels.actions == ("nohelp", "help")
    assert labels.budgets.tolist() == [[0], [1], [2]]
    assert labels.decision[:8].tolist() == [[0, 1, 1]] * 8
    np.testing.assert_allclose(labels.advantage[0], [np.nan, 0.5, 0.5])
    np.testing.assert_allclose(labels.advantage[8], [np.nan] * 3)
    assert labels.visits[0].tolist() == [4, 4]
    assert len(labels.step) == len(logs)


def test_examples_leave_out_what_cannot_be_compared(case) -> None:
    _, _, labels = case
    examples = labels.examples()
    assert set(examples.texts) == {"x"}
    assert len(examples.texts) == 8 * 2
    assert set(examples.budgets.ravel()) == {1, 2}
    np.testing.assert_allclose(examples.weights, 0.5)
    np.testing.assert_array_equal(examples.support, 4)
    assert set(examples.tasks) == {"t"}
    assert set(examples.decisions) == {1}


def test_labels_of_other_trajectories_skip_unknown_states(case) -> None:
    _, model, _ = case
    labels = label([episode("new", 1.0, ("w", None), ("x", None))], model, selfreg.solve(model.mdp, 1))
    assert labels.step.tolist() == [1]
    with pytest.raises(ValueError, match="of another model"):
        label([], model, selfreg.solve(selfreg.InterventionMDP({"nohelp": np.zeros((1, 1))}, [1.0], {}), 1))


def test_labels_without_help(tmp_path) -> None:
    logs = [episode("a", 1.0, ("x", None))]
    model = estimate_mdp(logs, Features(["step"]))
    labels = label(logs, model, selfreg.solve(model.mdp, 1))
    assert np.isnan(labels.advantage).all()
    assert not labels.support.any()
    labels.write(tmp_path / "labels.parquet")
    assert pq.read_table(tmp_path / "labels.parquet")["advantage"].null_count == 2


def test_the_budget_that_is_left_after_an_action() -> None:
    budgets = np.indices((4, 3)).reshape(2, -1).T
    costs = np.array([[0, 0], [1, 0], [2, 1]])
    place = {tuple(budget): p for p, budget in enumerate(budgets.tolist())}
    expected = [[place.get((b - c, d - e), -1) for b, d in budgets.tolist()] for c, e in costs.tolist()]
    assert points_after(budgets, costs).tolist() == expected


def test_written_labels_say_what_they_rest_on(case, tmp_path) -> None:
    _, _, labels = case
    labels.write(tmp_path / "labels.parquet")
    rows = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert len(rows) == 10 * 3
    assert rows[1] == {
        "task": "t",
        "episode": "a0",
        "step": 0,
        "decision": "help",
        "advantage": 0.5,
        "support": 4.0,
        "low_support": False,
        "budget": 1,
        "q_nohelp": 0.25,
        "visits_nohelp": 4.0,
        "q_help": 0.75,
        "visits_help": 4.0,
    }


def test_two_budgets() -> None:
    logs = [episode("a", 0.0, ("x", None)), episode("h", 1.0, ("x", "help"))]
    model = estimate_mdp(logs, Features(["step"]), costs={"help": (1, 0)})
    labels = label(logs, model, selfreg.solve(model.mdp, (1, 1)))
    assert labels.budgets.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert labels.decision[0].tolist() == [0, 0, 1, 1]
    assert labels.examples().budgets.tolist() == [[1, 0], [1, 1]] * 2
