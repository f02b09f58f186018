"""The form "fitted-q", and forecasts of helpers by fitted Q evaluation, against worlds whose values are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.helper import Helper, HelperConfig, Labels, label, train_helper
from selfreg.helper import fitted_q as module
from selfreg.helper.fitted_q import FittedQ, PooledSteps
from selfreg.helper.judges import FittedJudge
from selfreg.helper.rules import train_rule

FITTED = HelperConfig(form="fitted-q", history=0)
# Three rooms in a row. Alone, the door of each opens with these chances, with help always; else all is lost.
OPENS = (0.9, 0.3, 0.6)


def rooms(tasks: int = 20, episodes: int = 60, budget: int = 2, rate: float = 0.4) -> Labels:
    """Episodes in which chance decided at each step who was helped."""
    rng, logs = np.random.default_rng(1), []
    for i in range(tasks * episodes):
        steps, won = list[Step](), True
        for room, chance in enumerate(OPENS):
            helped = bool(rng.random() < rate)
            steps.append(Step(f"Task: thing {i % tasks}.\nHere: room {room}.", intervention="help" if helped else None))
            won = won and (helped or rng.random() < chance)
            if not won:
                break
        logs.append(Trajectory(f"task {i % tasks}", str(i), float(won), tuple(steps)))
    return labelled(logs, budget)


def labelled(logs: Sequence[Trajectory], budget: int | tuple[int, ...] = 1, costs: dict | None = None) -> Labels:
    model = estimate_mdp(logs, ExactKey(), costs=costs)
    return label(logs, model, selfreg.solve(model.mdp, budget))


def fit(labels: Labels, price: float = 0.0) -> tuple[PooledSteps, FittedQ]:
    pooled = PooledSteps.of(labels, 0, 0)
    return pooled, FittedQ.fit(pooled.labels, pooled.read(pooled.informative), pooled.place, labels.prices(price), 0)


def best_from(room: int, budget: int) -> float:
    """The optimum, by hand."""
    if room == len(OPENS):
        return 1.0
    alone = OPENS[room] * best_from(room + 1, budget)
    return max(alone, best_from(room + 1, budget - 1)) if budget else alone


def test_values_and_decisions_are_those_of_the_optimum() -> None:
    pooled, fitted = fit(rooms())
    priced = fitted.label(pooled.labels, np.zeros(2))
    for room in range(3):
        rows = np.flatnonzero(pooled.labels.step == room)
        for budget in (1, 2):
            alone, helped = OPENS[room] * best_from(room + 1, budget), best_from(room + 1, budget - 1)
            assert priced.q[rows, budget].mean(axis=0) == pytest.approx([alone, helped], abs=0.04)
            assert (priced.decision[rows, budget] == (helped > alone)).mean() > 0.95
        assert np.isnan(priced.q[rows, 0, 1]).all()  # nothing is affordable
    assert (priced.support == 1.0)[:, 1:].all()


def test_the_helper_decides_as_the_optimum_and_is_saved(tmp_path: Path) -> None:
    helper = train_helper(rooms(), FITTED)
    texts = [f"Task: thing 99.\nHere: room {room}." for room in range(3)]
    decided = {budget: [helper.decide([text], (budget,)).action for text in texts] for budget in (1, 2)}
    assert decided == {1: ["nohelp", "help", "help"], 2: ["nohelp", "help", "help"]}
    helper.save(tmp_path / "helper")
    loaded = Helper.load(tmp_path / "helper")
    budgets = [[1], [2], [2]]
    np.testing.assert_array_equal(
        loaded.request_probabilities(texts, budgets), helper.request_probabilities(texts, budgets)
    )
    assert loaded.classifier.form == "fitted-q"


@pytest.mark.parametrize("budget", [1, 2])
def test_forecasts_are_what_rules_attain(budget: int) -> None:
    labels = rooms(budget=budget)
    pooled = PooledSteps.of(labels, 0, 0)
    judge, prices = FittedJudge.of(lambda: pooled, labels.prices(0.02)), labels.prices(0.02)
    assert judge is not None
    tasks = sorted(set(labels.tasks))
    split = {"train": tasks[:12], "validation": tasks[12:14], "test": tasks[14:]}
    first = train_rule(labels, split, {"help": (1,)}, replace(FITTED, form="first-k"), lambda: judge)
    found = judge.forecast([first])
    attained = {k: float(np.prod([1.0 if room < k else OPENS[room] for room in range(3)])) for k in (1, 2)}
    budgets = range(1, budget + 1)
    assert found.success == pytest.approx(np.mean([attained[k] for k in budgets]), abs=0.05)
    assert found.requests == pytest.approx(np.mean(list(budgets)), abs=0.05)
    assert found.paid == pytest.approx(prices[1] * found.requests, abs=1e-6)


def test_what_only_its_task_knows_does_not_count() -> None:
    """Half of the tasks succeed, half fail, and no text says which."""
    logs = [
        Trajectory(
            f"task {i % 40}", str(i), float(i % 2), (Step("go", intervention="help" if i % 3 else None), Step("end"))
        )
        for i in range(800)
    ]
    labels = labelled(logs)
    pooled, fitted = fit(labels)
    value = fitted.q(fitted.value, np.zeros(2))[pooled.labels.step == 0]
    assert np.nanmax(np.abs(value - 0.5)) < 0.25
    assert abs(fitted.value[pooled.labels.step == 0, 1].mean() - 0.5) < 0.05


def test_waiting_between_similar_texts_is_not_free() -> None:
    """All texts are the same: each step that waits may be the last one, so help is worth it at once."""
    rng, logs = np.random.default_rng(0), []
    for i in range(1200):
        steps, won = list[Step](), 0.0
        for _ in range(6):
            helped = bool(rng.random() < 0.3)
            steps.append(Step("waiting", intervention="help" if helped else None))
            if helped or rng.random() < 0.3:
                won = float(helped)
                break
        logs.append(Trajectory(f"task {i % 30}", str(i), won, tuple(steps)))
    pooled, fitted = fit(labelled(logs))
    first = pooled.labels.step == 0
    q = fitted.q(fitted.value, np.zeros(2))[first, 1].mean(axis=0)
    assert q == pytest.approx([0.7, 1.0], abs=0.07)  # alone, help follows at the next step
    assert fitted.value[first, 1].mean() == pytest.approx(1.0, abs=0.03)


def test_each_help_type_is_paid_of_its_budget_at_its_price() -> None:
    rng, logs = np.random.default_rng(0), []
    for i in range(1200):
        taken = [None if one == "nohelp" else str(one) for one in rng.choice(["nohelp", "weak", "strong"], 2)]
        chance = 0.2 + 0.3 * taken.count("weak") + 0.4 * taken.count("strong")
        steps = tuple(Step(f"step {t}", intervention=one) for t, one in enumerate(taken))
        logs.append(Trajectory(f"task {i % 30}", str(i), float(rng.random() < min(chance, 1.0)), steps))
    labels = labelled(logs, (1, 2), {"weak": (1, 0), "strong": (0, 2)})
    for price, action in (({"weak": 0.0, "strong": 0.0}, "strong"), ({"weak": 0.0, "strong": 0.3}, "weak")):
        helper = train_helper(labels, replace(FITTED, price=price))
        assert helper.decide(["step 1"], (1, 2)).action == action
        assert helper.decide(["step 1"], (1, 1)).action == "weak"
        assert helper.decide(["step 1"], (0, 1)).action == "nohelp"


def test_steps_without_an_outcome_count_as_far_as_is_known() -> None:
    labels = rooms()
    cut = [
        Trajectory(one.task, one.episode, None, one.steps, truncated=True) if i % 4 == 0 else one
        for i, one in enumerate(labels.trajectories)
    ]
    pooled, fitted = fit(replace(labels, trajectories=cut))
    first = np.flatnonzero(pooled.labels.step == 0)
    assert not np.isnan(fitted.value).any()
    assert fitted.value[first, 2].mean() == pytest.approx(best_from(0, 2), abs=0.05)


def test_of_long_logs_a_random_sample_of_episodes_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = rooms()
    monkeypatch.setattr(module, "MOST_STEPS", 500)
    pooled = PooledSteps.of(labels, 0, 0)
    assert 450 < len(pooled.labels.step) <= 500
    whole = np.bincount(labels.episode, minlength=len(labels.trajectories))
    some = np.bincount(pooled.labels.episode, minlength=len(labels.trajectories))
    assert ((some == 0) | (some == whole)).all()


def test_cores_do_not_change_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, found = rooms(episodes=15), []
    for cores in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        found.append(fit(labels)[1].value)
    np.testing.assert_array_equal(*found)


def test_what_cannot_be_learnt_from_is_an_error() -> None:
    one = [
        Trajectory(f"task {i % 6}", str(i), float(i % 2), (Step("go", intervention="help" if i % 4 < 2 else None),))
        for i in range(60)
    ]
    with pytest.raises(ValueError, match="all episodes have one decision"):
        train_helper(labelled(one), FITTED)
    labels = rooms(episodes=5)
    alone = [replace_help(one) for one in labels.trajectories]
    with pytest.raises(ValueError, match="steps with and without help"):
        fit(replace(labels, trajectories=alone))

    cut = [Trajectory(one.task, one.episode, None, one.steps, truncated=True) for one in labels.trajectories]
    with pytest.raises(ValueError, match="no episode has an outcome"):
        fit(replace(labels, trajectories=cut))


def test_of_long_texts_fewer_steps_take_part_but_one_episode_always(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = rooms(episodes=10)
    characters = sum(len(step.state) for one in labels.trajectories for step in one.steps)
    monkeypatch.setattr(module, "MOST_CHARACTERS", characters // 10)
    some = PooledSteps.of(labels, 0, 0).labels
    assert 0.05 < len(some.step) / len(labels.step) <= 0.11
    monkeypatch.setattr(module, "MOST_STEPS", 1)
    assert len(set(PooledSteps.of(labels, 0, 0).labels.episode)) == 1


def replace_help(episode: Trajectory) -> Trajectory:
    """The episode as if nobody had helped."""
    return Trajectory(episode.task, episode.episode, episode.outcome, tuple(Step(one.state) for one in episode.steps))
