"""The form "gain": where an episode is one decision, it learns what help gains from outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as change
from threadpoolctl import threadpool_limits

import selfreg
from helper_cases import rule_examples, state
from selfreg.data import Step, Trajectory
from selfreg.estimate import Features, estimate_mdp
from selfreg.helper import Helper, HelperConfig, Labels, label, ration, train_helper
from selfreg.helper.models.gain import GainDecider
from selfreg.helper.one_step import train_gain

# P(success) alone and with help.
TOPICS = {"algebra": (0.1, 0.9), "poem": (0.5, 0.75), "riddle": (0.1, 0.1), "recipe": (0.9, 0.6)}
CONFIG = HelperConfig(form="gain", history=0)


def queries(n: int, seed: int = 0) -> list[Trajectory]:
    """Each answered twice, without help and with it."""
    rng, logs = np.random.default_rng(seed), []
    for i in range(n):
        topic = str(rng.choice(list(TOPICS)))
        text = state(topic, rng)
        for helped, chance in zip((None, "strong"), TOPICS[topic], strict=True):
            won = float(rng.random() < chance)
            logs.append(Trajectory(f"query {i}", f"{i}/{helped}", won, (Step(text, intervention=helped),)))
    return logs


def labels_of(logs: list[Trajectory]) -> Labels:
    model = estimate_mdp(logs, Features(["step"]))
    return label(logs, model, selfreg.solve(model.mdp, 1))


@pytest.fixture(scope="module")
def labels() -> Labels:
    return labels_of(queries(1500))


@pytest.fixture(scope="module")
def helper(labels: Labels) -> Helper:
    return train_helper(labels, CONFIG)


def test_success_with_and_without_help_is_learnt(helper: Helper) -> None:
    rng = np.random.default_rng(1)
    assert isinstance(helper.classifier, GainDecider)
    for topic, chances in TOPICS.items():
        found = helper.classifier.success([state(topic, rng) for _ in range(50)]).mean(axis=0)
        assert found == pytest.approx(chances, abs=0.15)


def test_help_is_requested_where_it_gains_more_than_its_price(labels: Labels, helper: Helper) -> None:
    rng = np.random.default_rng(1)

    def share(helper: Helper, topic: str) -> float:
        return float(np.mean([helper.decide([state(topic, rng)], (1,)).action == "strong" for _ in range(40)]))

    dear = train_helper(labels, replace(CONFIG, price=0.5))
    assert share(helper, "algebra") == 1.0
    assert share(helper, "recipe") < 0.2
    assert share(helper, "poem") > 0.6
    assert share(dear, "poem") < 0.2 < 0.8 < share(dear, "algebra")
    assert helper.decide([state("algebra", rng)], (0,)).action == "nohelp"


def test_saved_and_loaded(helper: Helper, tmp_path: Path) -> None:
    helper.save(tmp_path / "helper")
    loaded, rng = Helper.load(tmp_path / "helper"), np.random.default_rng(2)
    for topic in TOPICS:
        steps = [state(topic, rng)]
        assert loaded.decide(steps, (1,)) == helper.decide(steps, (1,))


def test_the_default_form_is_judged_by_what_happened_to_each_query(labels: Labels) -> None:
    """The states of the model say nothing about the queries."""
    found = train_helper(labels, HelperConfig(history=0)).figures
    always = sum(helped for _, helped in TOPICS.values()) / 4
    best = sum(max(alone, helped) for alone, helped in TOPICS.values()) / 4
    assert found["forecast_first-k"] == pytest.approx(always, abs=0.04)
    assert always + 0.03 < found["forecast_gain"] < best + 0.02
    assert found["forecast_requests_gain"] < 0.85


def test_an_action_that_always_succeeds_is_no_error() -> None:
    logs = [change(one, outcome=1.0) if one.helped else one for one in queries(100)]
    model = train_helper(labels_of(logs), CONFIG).classifier
    assert isinstance(model, GainDecider)
    assert model.success(["algebra", "riddle"])[:, 1] == pytest.approx([1.0, 1.0], abs=0.02)


def test_what_it_cannot_learn_from_is_refused(light_labels: Labels) -> None:
    with pytest.raises(ValueError, match=r"episodes of one decision; 400 of 400 have more"):
        train_helper(light_labels, CONFIG)
    with pytest.raises(ValueError, match="neither model nor outcomes"):
        train_helper(rule_examples(), CONFIG)
    logs = queries(40)
    ended = [change(one, outcome=None, truncated=True) if one.helped else one for one in logs]
    blind = replace(labels_of(logs), trajectories=ended)
    with pytest.raises(ValueError, match="no training episode with 'strong' has an outcome"):
        train_helper(blind, CONFIG)


def test_the_share_of_queries_is_met_within_a_point() -> None:
    """The expected share: a router that draws adds the noise of its draws."""
    large = labels_of(queries(16000, seed=3))
    trained = replace(train_helper(large, replace(CONFIG, test_share=0.8)), memory=None)
    texts = [one.steps[0].state for one in queries(16000, seed=4)[::2]]
    requested = trained.request_probabilities(texts, np.ones((len(texts), 1), np.int64))[:, 1]
    for share in (0.15, 0.5, 0.7):
        policy = ration(trained, large, share)
        sent = np.where(requested > policy.high, 1.0, np.where(requested > policy.low, policy.share, 0.0))
        assert sent.mean() == pytest.approx(share, abs=0.01)
        chance = policy.action_probabilities([texts[0]], (1,)).get("strong", 0.0)
        assert chance == pytest.approx(sent[0])


@pytest.mark.parametrize("unlogged", [0.0, 0.5])
def test_a_query_left_out_has_the_chances_of_a_training_without_it(unlogged: float) -> None:
    """Also where not every query was answered with help."""
    rng = np.random.default_rng(1)
    some = labels_of([one for one in queries(1000) if not one.helped or rng.random() >= unlogged])
    helper = train_helper(some, CONFIG)
    model, tasks = helper.classifier, sorted(helper.split["train"])
    place = {task: i for i, task in enumerate(tasks)}
    (counts, won), texts = np.zeros((2, len(tasks), 2)), [""] * len(tasks)
    for one in some.trajectories:
        if one.task in place:
            counts[place[one.task], int(one.helped)], won[place[one.task], int(one.helped)] = 1.0, one.outcome
            texts[place[one.task]] = one.steps[0].state
    found = model.leave_out(texts, np.arange(len(texts)), counts, won)
    trained, moved = model.success(texts), []
    for action, strength in enumerate(model.strengths.tolist()):
        for i in range(0, len(tasks), 150):
            split = {"train": tasks[:i] + tasks[i + 1 :], "validation": [], "test": []}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("selfreg.helper.one_step.DEFAULT_STRENGTH", strength)
                other = train_gain(some, split, helper.costs, CONFIG).classifier.success([texts[i]])
            assert found[i, action] == pytest.approx(other[0, action], abs=0.015)
            moved.append(abs(trained[i, action] - other[0, action]))
    assert max(moved) > 0.05


def test_the_share_of_few_queries_is_based_on_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each query has a word of its own; 255 of 300 are learnt from, which leaves 45 that are not."""

    def unlike(n: int, seed: int) -> list[Trajectory]:
        return [
            change(one, steps=(change(one.steps[0], state=f"{one.steps[0].state} id{seed}x{i // 2}"),))
            for i, one in enumerate(queries(n, seed))
        ]

    texts = [one.steps[0].state for one in unlike(2000, 99)[::2]]
    missed: dict[str, list[float]] = {"each": [], "folds": [], "test": []}
    for seed in range(6):
        few = labels_of(unlike(300, seed))
        trained = replace(train_helper(few, CONFIG), memory=None)
        requested = trained.request_probabilities(texts, np.ones((len(texts), 1), np.int64))[:, 1]
        for name in missed:
            with monkeypatch.context() as patch:
                if name == "test":
                    patch.setattr("selfreg.helper.rationing.leave_out_chances", lambda *_: None)
                if name == "folds":  # as of more texts than are left out one by one
                    patch.setattr("selfreg.helper.models.gain.MOST_LEFT_OUT", 0)
                for share in (0.2, 0.5):
                    policy = ration(trained, few, share)
                    sent = np.where(requested > policy.high, 1.0, np.where(requested > policy.low, policy.share, 0.0))
                    missed[name].append(sent.mean() - share)
    each, folds, test = (np.sqrt(np.mean(np.square(one))) for one in missed.values())
    assert max(each, folds) < 0.06
    assert max(each, folds) < 0.7 * test


@pytest.mark.parametrize("most", [0, 3000], ids=["folds", "each"])
def test_threads_do_not_change_the_thresholds(labels: Labels, helper: Helper, most: int, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.helper.models.gain.MOST_LEFT_OUT", most)
    found = []
    for number in (1, 2):
        with threadpool_limits(number):
            policy = ration(helper, labels, 0.5)
        found.append((policy.low, policy.high, policy.share))
    assert found[0] == found[1]


def test_many_queries_are_sampled_to_compare_forms_and_all_are_learnt(labels: Labels, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.helper.selection.MOST_QUERIES", 300)
    trained, sizes = train_gain, list[int]()

    def noted(labels: Labels, split, *more) -> Helper:
        sizes.append(sum(len(part) for part in split.values()))
        return trained(labels, split, *more)

    monkeypatch.setattr("selfreg.helper.train.train_gain", noted)
    helper = train_helper(labels, HelperConfig(history=0))
    assert helper.classifier.form == "gain"
    assert sizes == [300, 300, 300, 1500]


def test_with_a_usage_queries_are_judged_by_their_outcomes(labels: Labels) -> None:
    """The states of these labels, the number of the step, say nothing about a query."""
    chosen = train_helper(labels, HelperConfig(history=0), usage=0.5)
    assert chosen.classifier.form == "gain"
    assert chosen.figures["forecast_requests_first-k"] == pytest.approx(0.5, abs=1e-6)
    by_chance = np.mean([np.mean(pair) for pair in TOPICS.values()])
    assert chosen.figures["forecast_first-k"] == pytest.approx(by_chance, abs=0.04)
    best = np.mean([max(pair) for pair in TOPICS.values()])  # half of the topics gain from help
    assert by_chance + 0.1 < chosen.figures["forecast_gain"] < best + 0.04
