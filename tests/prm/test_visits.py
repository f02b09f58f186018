"""Which states count, and for how much."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

import made
from selfreg.data import Step, Trajectory, state_text
from selfreg.prm import PRMConfig, train_prm
from selfreg.prm.metrics import auroc
from selfreg.prm.visits import join_visits, labelled_visits, unhelped_visits

HELP = Step(state="h", intervention="help")


def test_helped_continuations_are_weighed_down_where_asked() -> None:
    log = Trajectory("t", "e", 1.0, (Step("a"), HELP, Step("b")))
    assert unhelped_visits([log], state_text).texts == ["b"]
    visits = unhelped_visits([log], state_text, helped_weight=0.25)
    assert visits.texts == ["a", "h", "b"]
    assert visits.weights.tolist() == [0.25, 0.25, 1.0]
    assert visits.steps.tolist() == [0, 1, 2]
    all_helped = Trajectory("t", "e", 1.0, (HELP,))
    assert unhelped_visits([all_helped], state_text, 0.5).weights.tolist() == [0.5]
    with pytest.raises(ValueError, match="none of 1 trajectories"):
        unhelped_visits([all_helped], state_text)


def test_helped_states_are_learnt_from_and_not_measured() -> None:
    """Every first step is followed by help: its states count with helped_weight only, and never in the figures."""
    logs = [msgspec.structs.replace(t, steps=(t.steps[0], HELP, t.steps[1])) for t in made.colours()]
    quick = {"hidden_size": 16, "layers": 1, "epochs": 1, "max_tokens": 32}
    without, together = (train_prm(logs, PRMConfig(**quick, helped_weight=w)).figures for w in (0.0, 0.5))
    assert without["train_steps"] == 140
    assert together["train_steps"] == 3 * 140
    assert without["test_steps"] == together["test_steps"] == 30


def test_inverse_propensity_undoes_the_choice_of_short_rests() -> None:
    """Episodes of one step succeed, of five fail, half each; help at random hits the long ones more often."""
    rng, logs = np.random.default_rng(0), []
    for i in range(20_000):
        length = 1 if i % 2 else 5
        steps = tuple(
            Step("s" if k == 0 else "later", intervention="help" if rng.random() < 0.3 else None) for k in range(length)
        )
        logs.append(Trajectory(f"t{i}", f"e{i}", float(length == 1), steps, fields={"rate": 0.3}))

    def first(propensity: str | None) -> float:
        visits = unhelped_visits(logs, state_text, propensity=propensity)
        begins = visits.select(visits.steps == 0)
        return float(np.average(begins.outcomes, weights=begins.weights))

    assert first(None) > 0.75
    assert first("rate") == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match="propensity field 'chance' of episode 'e0' is None"):
        unhelped_visits(logs, state_text, propensity="chance")
    sure = msgspec.structs.replace(logs[1], fields={"rate": 1.0}, steps=(Step("s"),))
    with pytest.raises(ValueError, match=r"is 1.0; expected a chance of help in \[0, 1\)"):
        unhelped_visits([sure], state_text, propensity="rate")


def test_labels_belong_to_the_state_after_the_action() -> None:
    steps = (
        Step("task", action="first", label=1.0),
        Step("saw", action="second"),
        Step("saw more", action="third", label=0.0),
    )
    log = Trajectory("t", "e", None, steps, truncated=True)
    visits = labelled_visits([log], state_text)
    assert (visits.texts, visits.outcomes.tolist()) == (
        ["saw"],
        [1.0],
    )  # the last action is not in a text without history
    visits = labelled_visits([log], lambda steps: state_text(steps, 9))
    assert visits.texts == ["task\n> first\nsaw", "task\n> first\nsaw\n> second\nsaw more\n> third\n"]
    assert visits.outcomes.tolist() == [1.0, 0.0]
    assert visits.steps.tolist() == [1, 3]
    with pytest.raises(ValueError, match="no step of 1 trajectories has a label"):
        labelled_visits([Trajectory("t", "e", 1.0, (Step("a"),))], state_text)


def test_an_action_that_is_the_next_observation_is_shown_once() -> None:
    steps = (Step("2 + 3 * 4", action="3 * 4 = 12"), Step("3 * 4 = 12", action="2 + 12 = 14"), Step("2 + 12 = 14"))
    assert state_text(steps, 9) == "2 + 3 * 4\n3 * 4 = 12\n2 + 12 = 14"


def test_training_on_labels_and_on_both() -> None:
    """Outcomes are noise; the labels of helped steps tell the colours apart."""
    rng, logs = np.random.default_rng(0), []
    for t in made.colours(tasks=40):
        good = "green" in t.steps[1].state
        first = Step(t.steps[0].state, action="go", label=float(good), intervention="help")
        logs.append(msgspec.structs.replace(t, steps=(first, t.steps[1]), outcome=float(rng.random() < 0.5)))
    quick = {"hidden_size": 32, "layers": 1, "epochs": 4, "max_tokens": 32}
    texts = [t.steps[1].state for t in made.colours(seed=5)]
    truth = ["green" in text for text in texts]
    for targets, weight, low, high in (
        ("labels", 1.0, 0.95, 1.0),
        ("both", 4.0, 0.9, 1.0),
        ("outcomes", 1.0, 0.2, 0.8),
    ):
        prm = train_prm(logs, PRMConfig(**quick, targets=targets, label_weight=weight))
        assert low <= auroc(prm.score(texts), truth) <= high, targets
    visits, labels = unhelped_visits(logs, state_text), labelled_visits(logs, state_text)
    both = join_visits(visits, labels, 0.5).merge()
    np.testing.assert_allclose(both.targets[:, 0], (visits.outcomes + 0.5 * labels.outcomes) / 1.5)


def test_the_step_is_shown_where_asked() -> None:
    quick = {"hidden_size": 16, "layers": 1, "epochs": 1, "max_tokens": 32}
    prm = train_prm(made.colours(), PRMConfig(**quick, show_step=True, history=3))
    assert prm.text([Step("a", action="b"), Step("c")]) == "step 1\na\n> b\nc"
