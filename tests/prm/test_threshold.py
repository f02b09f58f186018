"""Thresholds on P(success): chosen on validation, judged by counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import made
from selfreg.data import Step, Trajectory
from selfreg.prm import PRM, PRMConfig, choose_threshold, train_prm
from selfreg.prm.threshold import ThresholdPolicy, measure_threshold


class Written:
    """Logits that are written in the text."""

    def logits(self, texts):
        return np.array([[float(text)] for text in texts])

    def save(self, folder, record, card=None):
        raise NotImplementedError


READER = PRM(Written())
_EPISODES = st.lists(
    st.tuples(st.lists(st.sampled_from(["-2", "-1", "0", "1", "2"]), min_size=1, max_size=4), st.booleans()),
    min_size=1,
    max_size=8,
)


def logs(episodes: list[tuple[list[str], bool]]) -> list[Trajectory]:
    return [Trajectory(f"t{i}", f"e{i}", float(won), tuple(map(Step, s))) for i, (s, won) in enumerate(episodes)]


def by_hand(episodes: list[tuple[list[str], bool]], threshold: float, once: bool) -> tuple[float, float]:
    """Requests per episode and the share of them where the agent fails."""
    requests = [
        won
        for states, won in episodes
        for asked in [[s for s in states if 1 / (1 + math.exp(-float(s))) < threshold]]
        for _ in asked[: 1 if once else None]
    ]
    return len(requests) / len(episodes), 1 - sum(requests) / len(requests) if requests else math.nan


@given(_EPISODES, st.floats(0, 4), st.booleans())
def test_the_largest_threshold_within_a_mean_cost(episodes, mean_cost, once) -> None:
    rule = choose_threshold(READER, logs(episodes), mean_cost=mean_cost, once=once)
    cost, precision = by_hand(episodes, rule.threshold, once)
    assert rule.mean_cost == pytest.approx(cost)
    assert rule.mean_cost <= mean_cost + 1e-12
    assert rule.precision == pytest.approx(precision, nan_ok=True)
    for higher in [1 / (1 + math.exp(-x)) + 1e-9 for x in (-2, -1, 0, 1, 2)]:
        if higher > rule.threshold + 1e-6:
            more = by_hand(episodes, higher, once)[0]
            assert more > mean_cost or more == pytest.approx(cost)


@given(_EPISODES, st.floats(0, 1), st.booleans())
def test_the_largest_threshold_with_a_precision(episodes, wanted, once) -> None:
    rule = choose_threshold(READER, logs(episodes), precision=wanted, once=once)
    _, precision = by_hand(episodes, rule.threshold, once)
    assert rule.precision == pytest.approx(precision, nan_ok=True)
    if rule.threshold > 0:
        assert rule.precision >= wanted - 1e-12
    for level in (-2, -1, 0, 1, 2):
        higher = 1 / (1 + math.exp(-level)) + 1e-9
        cost, found = by_hand(episodes, higher, once)
        if higher > rule.threshold + 1e-6 and cost > rule.mean_cost + 1e-12:
            assert found < wanted


def test_a_rule_on_other_logs_and_at_run_time() -> None:
    prm = train_prm(made.colours(), PRMConfig(kind="tfidf"))
    validation = [t for t in made.colours() if t.task in prm.split["validation"]]
    rule = choose_threshold(prm, validation, precision=0.9)
    held_out = measure_threshold(prm, made.colours(seed=9), rule.threshold)
    assert held_out.precision > 0.8
    assert held_out.recall > 0.8
    policy = rule.policy(prm, "person")
    assert policy.decide([Step("red red red")], (1,)).action == "person"
    assert policy.decide([Step("green green green")], (1,)).action == "nohelp"
    assert rule.episodes == sum(not t.helped for t in validation)


def test_what_is_asked_for_is_checked() -> None:
    some = logs([(["1"], True)])
    for wrong in ({}, {"mean_cost": 1, "precision": 0.5}, {"mean_cost": -1}, {"precision": 2}, {"mean_cost": math.nan}):
        with pytest.raises(ValueError, match="expected"):
            choose_threshold(READER, some, **wrong)
    helped = [Trajectory("t", "e", 1.0, (Step("1", intervention="help"),))]
    with pytest.raises(ValueError, match="none of 1 episodes is unhelped"):
        choose_threshold(READER, helped, mean_cost=1)


def test_the_policy_scores_a_text_once_and_stops_with_the_budget() -> None:
    calls = []

    class Reader:
        def text(self, steps):
            return steps[-1].state

        def score(self, texts):
            calls.append(texts)
            return np.array([float(text) for text in texts])

    policy = ThresholdPolicy(Reader(), "help", 0.5)
    decisions = [policy.decide([Step(text)], (1, 0)) for text in ("0.4", "0.6", "0.4")]
    assert [one.action for one in decisions] == ["help", "nohelp", "help"]
    assert decisions[0].success_probability == {"nohelp": 0.4}
    assert policy.decide([Step("0.1")], (0, 0)).action == "nohelp"
    assert policy.decide([Step("0.4")], None).action == "help"
    assert len(calls) == 2


def test_once_is_once_an_episode() -> None:
    class Low:
        def text(self, steps):
            return steps[-1].state

        def score(self, texts):
            return np.zeros(len(texts))

    policy = ThresholdPolicy(Low(), "help", 0.5, once=True)
    assert policy.decide([Step("a"), Step("b")], None).action == "help"
    assert policy.decide([Step("a", intervention="help"), Step("b")], None).action == "nohelp"
