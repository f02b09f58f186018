"""Labels for what the text tells, where the plan of a task knows more."""

from dataclasses import replace

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.helper import HelperConfig, Labels, label, train_helper
from selfreg.helper.pricing import plan_at_price
from selfreg.helper.relabel import relabel
from selfreg.prm.transformer import split_tasks

TASKS = 20
EARLY = 0.8  # chance of success with help at the beginning


def logs() -> list[Trajectory]:
    """In even tasks help in the middle is needed, in odd ones it spoils; no text tells which is which.

    The plan of a task knows, and waits for the middle: success 1. Who reads texts wins there half of the time, and
    should ask at the beginning: success 0.8.
    """
    found = []
    for i in range(TASKS):
        task, needed = f"task {i}", i % 2 == 0

        def episode(name: str, outcome: float, *asked: str | None, task: str = task) -> Trajectory:
            steps = [
                Step(text, key=f"{task} {text}", intervention=help_type)
                for text, help_type in zip(("beginning", "middle"), asked, strict=False)
            ]
            return Trajectory(task, f"{task} {name}", outcome, tuple(steps))

        found += [episode(f"early {k}", float(k < EARLY * 10), "help") for k in range(10)]
        found += [episode(f"late {k}", float(needed), None, "help") for k in range(10)]
        found += [episode(f"alone {k}", float(not needed), None, None) for k in range(10)]
    return found


@pytest.fixture(scope="module")
def labels() -> Labels:
    trajectories = logs()
    model = estimate_mdp(trajectories, ExactKey())
    return label(trajectories, model, selfreg.solve(model.mdp, 1))


@pytest.mark.parametrize("form", ["words", "tfidf"])
def test_what_the_plan_alone_knows_is_not_counted_on(labels: Labels, form: str) -> None:
    blind, seeing = (train_helper(labels, HelperConfig(history=0, form=form, rounds=rounds)) for rounds in (0, 1))
    assert blind.figures["success_plan"] == seeing.figures["success_plan"] == 1.0
    assert blind.figures["success"] <= 0.5 < seeing.figures["success"] == pytest.approx(EARLY)
    ledger = selfreg.Ledger(1)
    assert blind.decide(["beginning"], ledger.left).action == "nohelp"
    decision = seeing.decide(["beginning"], ledger.left)
    assert decision.action == "help"
    # the values in reasons are those that can be had, too
    assert decision.success_probability["help"] == pytest.approx(EARLY)
    assert decision.success_probability["nohelp"] == pytest.approx(0.5, abs=0.3)


def test_transformers_learn_improved_labels(labels: Labels) -> None:
    config = HelperConfig(form="features", history=0, epochs=12, hidden_size=16, layers=1, rounds=1)
    helper = train_helper(labels, config)
    assert helper.choices(["beginning"], np.array([[1]])).tolist() == [1]


def test_values_are_those_of_the_policy(labels: Labels) -> None:
    config = HelperConfig(history=0, form="words", rounds=2)
    found = relabel(labels, labels, split_tasks(labels.tasks, config), config).labels
    # with help in the middle as it is, the beginning is worth what follows from the policy there
    first = labels.step == 0
    assert np.isnan(found.q[:, 0, 1]).all()
    np.testing.assert_allclose(found.q[first, 1, 1], EARLY)
    assert set(np.round(found.q[first, 1, 0], 9)) <= {0.0, 1.0}
    assert (found.decision[first, 1] == (found.q[first, 1, 1] > found.q[first, 1, 0])).all()


def test_a_plan_that_the_text_tells_is_left_as_it_is() -> None:
    rows = [("red", None, 0.0), ("red", "help", 1.0), ("green", None, 1.0), ("green", "help", 0.0)]
    trajectories = [
        Trajectory(f"task {i}", f"{i}/{k}", won, (Step(f"{light} light", key=f"{i} {light}", intervention=who),))
        for i in range(12)
        for k, (light, who, won) in enumerate(rows)
    ]
    model = estimate_mdp(trajectories, ExactKey())
    known = label(trajectories, model, selfreg.solve(model.mdp, 1))
    helper = train_helper(known, HelperConfig(history=0, form="words"))
    assert helper.figures["success"] == helper.figures["success_plan"]
    config = HelperConfig(history=0, form="words")
    found = relabel(known, known, split_tasks(known.tasks, config), config).labels
    np.testing.assert_array_equal(found.decision, known.decision)
    np.testing.assert_allclose(found.q, known.q, atol=1e-12)


def test_rounds_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds is -1; expected at least 0"):
        HelperConfig(rounds=-1)


def test_help_that_gains_less_than_its_price_is_not_asked_for() -> None:
    rows = [(None, k != 0) for k in range(10)] + [("help", True)] * 10  # 0.9 alone, 1.0 with help
    trajectories = [
        Trajectory(f"task {i}", f"{i}/{k}", float(won), (Step("a light", key=f"{i}", intervention=who),))
        for i in range(12)
        for k, (who, won) in enumerate(rows)
    ]
    model = estimate_mdp(trajectories, ExactKey())
    labels = label(trajectories, model, selfreg.solve(model.mdp, 1))
    priced = plan_at_price(labels, 0.25)
    np.testing.assert_allclose(priced.advantage[:, 1], 0.1 - 0.25)
    np.testing.assert_array_equal(priced.q[..., 0], labels.q[..., 0])
    assert labels.decision[:, 1].all()
    assert not priced.decision.any()
    for form in ("words", "features"):
        for rounds in (0, 1):
            config = HelperConfig(history=0, form=form, rounds=rounds, epochs=2, hidden_size=16, layers=1)
            asks = [
                train_helper(labels, replace(config, price=price)).choices(["a light"], [[1]]) for price in (0.01, 0.25)
            ]
            assert [one.tolist() for one in asks] == [[1], [0]]


def test_prices_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"price is 1\.0; expected a number from 0 to below 1"):
        HelperConfig(price=1.0)
