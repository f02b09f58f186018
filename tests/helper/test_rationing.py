"""A mean number of requests: forecast usage is what was asked for, and decisions are reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.decisions import start_episode
from selfreg.estimate import Features, estimate_mdp
from selfreg.helper import Helper, HelperConfig, HelperExamples, Labels, RationedHelper, label, ration, train_helper
from selfreg.helper.filling import add_missing_help
from selfreg.helper.model_rollout import first_states
from selfreg.helper.rationing import forecast_at_usage
from selfreg.runtime import Ledger, Recorder

COLORS = ("red", "amber", "green")


@pytest.fixture(scope="module")
def helper(light_labels: Labels) -> Helper:
    return train_helper(light_labels, HelperConfig(form="tfidf", history=0))


@pytest.mark.parametrize("requests", [0.0, 0.25, 0.9, 1.37])
def test_usage_is_what_was_asked_for(requests: float, helper: Helper, light_labels: Labels) -> None:
    """In the log of the held-out tasks, lights come independently of what was done: usage can be played there."""
    policy = ration(helper, light_labels, requests)
    assert policy.requests == pytest.approx(requests, abs=1e-6)
    held_out = {*helper.split["validation"], *helper.split["test"]}
    logs = [t for t in light_labels.trajectories if t.task in held_out]
    used = []
    for seed in range(12):
        for i, log in enumerate(logs):
            left = 2
            start_episode(policy, log.task, 1000 * seed + i)
            for t in range(len(log.steps)):
                left -= policy.decide(log.steps[: t + 1], (left,)).requests_help
            used.append(2 - left)
    assert np.mean(used) == pytest.approx(requests, abs=0.1)


def test_more_than_can_be_used_requests_help_everywhere(helper: Helper, light_labels: Labels) -> None:
    policy = ration(helper, light_labels, 99.0)
    assert policy.requests == pytest.approx(2.0)
    assert policy.decide(["first green lamp"], (1,)).requests_help
    assert not policy.decide(["first green lamp"], (0,)).requests_help


def test_success_at_a_usage_grows_from_that_of_no_help_to_that_of_all(helper: Helper, light_labels: Labels) -> None:
    found = [
        forecast_at_usage(helper, light_labels, requests, np.zeros(2))[:2] for requests in (0.0, 0.4, 0.8, 1.2, 99.0)
    ]
    start = first_states(light_labels, helper.split["test"])
    assert start is not None
    alone = start @ light_labels.solution.value[:, 0]
    policy = np.zeros(light_labels.solution.policy.shape, np.int8)
    policy[:, 1:] = 1  # help wherever the budget pays for it
    everywhere = selfreg.evaluate_policy(add_missing_help(light_labels.model.mdp), policy)
    assert found[0] == pytest.approx((alone, 0.0))
    assert [used for _, used in found[1:4]] == pytest.approx([0.4, 0.8, 1.2], abs=1e-6)
    assert np.all(np.diff([success for success, _ in found]) > 0)
    assert found[-1] == pytest.approx((start @ everywhere.success[:, -1], 2.0), abs=1e-6)


def test_a_share_of_queries_is_met_in_new_ones() -> None:
    """One step, each query once with and once without help: 0.3 of new queries are sent on."""
    rng = np.random.default_rng(0)

    def query() -> str:
        return f"{rng.choice(COLORS)} {rng.integers(40)} of {rng.integers(40)}"

    logs = []
    for i in range(1500):
        text = query()
        for who in (None, "help"):
            won = float(
                rng.random() < {"red": 0.2, "amber": 0.5, "green": 0.8}[text.split()[0]] + 0.2 * (who == "help")
            )
            logs.append(Trajectory(f"task {i}", f"{i}/{who}", won, (Step(text, intervention=who),)))
    model = estimate_mdp(logs, Features(["class"], {c: c for c in COLORS}))
    labels = label(logs, model, selfreg.solve(model.mdp, 1))
    policy = ration(train_helper(labels, HelperConfig(form="tfidf", history=0)), labels, 0.3)
    sent = []
    for seed in range(3000):
        policy.start("new", seed)
        sent.append(policy.decide([query()], (1,)).requests_help)
    assert np.mean(sent) == pytest.approx(0.3, abs=0.04)  # 450 queries to calibrate on: two standard errors


def test_with_one_seed_each_task_has_its_own_chance(light_labels: Labels) -> None:
    """A forecast begins every logged episode with one seed."""
    rule = train_helper(light_labels, HelperConfig(form="first-k", history=0))
    policy = RationedHelper(rule, low=0.0, high=1.0, share=0.3, requests=0.3)
    sent = []
    for task in range(2000):
        policy.start(f"task {task}", 0)
        sent.append(policy.decide(["red"], (1,)).requests_help)
    assert np.mean(sent) == pytest.approx(0.3, abs=0.04)


def test_the_same_seed_decides_the_same(helper: Helper, light_labels: Labels) -> None:
    policy = ration(helper, light_labels, 0.9)
    texts = light_labels.texts()[:200]

    def decisions(seed: int) -> list[str]:
        policy.start("task", seed)
        return [policy.decide([text], (2,)).action for text in texts]

    assert decisions(1) == decisions(1)
    chances = [policy.action_probabilities([text], (2,)) for text in texts]
    assert all(sum(one.values()) == pytest.approx(1.0) for one in chances)


def test_a_recorder_stores_the_decision_and_its_chance(helper: Helper, light_labels: Labels) -> None:
    policy = ration(helper, light_labels, 0.9)
    recorder, steps = Recorder(policy, Ledger(2)), [Step("first red key lamp")]
    first = recorder.decide_once("run", 0, steps)
    assert recorder.decide_once("run", 0, steps).action == first.action
    (stored,) = recorder.decisions()
    assert stored.propensity == pytest.approx(policy.action_probabilities(steps, (2,))[first.action])


@pytest.mark.parametrize(("requests", "budget"), [(-1.0, None), (float("nan"), None), (1.0, 3), (1.0, (1, 1))])
def test_wrong_numbers_are_refused(requests: float, budget: object, helper: Helper, light_labels: Labels) -> None:
    with pytest.raises(ValueError, match=r"requests|budget"):
        ration(helper, light_labels, requests, budget)  # type: ignore[arg-type]


def alike_logs() -> list[Trajectory]:
    """A third of the episodes is of trouble: all their texts say so, and help at any step saves them."""
    rng, logs = np.random.default_rng(5), []
    for i in range(600):
        trouble = rng.random() < 0.35
        helped = rng.random(5) < 0.3
        won = rng.random() < (0.9 if not trouble or helped.any() else 0.2)
        words = ("angry", "again") if trouble else ("calm", "first")
        steps = (
            Step(f"{rng.choice(words)} {rng.choice(COLORS)} {rng.integers(99)}", intervention="help" if h else None)
            for h in helped
        )
        logs.append(Trajectory(f"task {i // 2}", str(i), float(won), tuple(steps)))
    return logs


def test_requests_that_cluster_are_met_too() -> None:
    """The state, the number of the step, does not show that the texts of an episode are alike."""
    logs = alike_logs()
    model = estimate_mdp(logs, Features(["step"]))
    labels = label(logs, model, selfreg.solve(model.mdp, 2))
    rows = [(one.task, step.state, left) for one in logs for step in one.steps for left in (1, 2)]
    tasks, texts, budgets = map(list, zip(*rows, strict=True))
    troubled = np.array([text.startswith("a") for text in texts])  # angry, again
    examples = HelperExamples(
        texts, np.array(budgets)[:, None], troubled.astype(np.int64), np.ones(len(rows)), tasks, labels.actions
    )
    helper = train_helper(examples, HelperConfig(form="words", history=0))
    held_out = {*helper.split["validation"], *helper.split["test"]}
    known = [one for one in logs if one.task in held_out]
    for requests in (0.3, 0.6):
        policy = ration(helper, labels, requests)
        assert policy.requests == pytest.approx(requests, abs=1e-6)
        used = []
        for seed in range(8):
            for i, one in enumerate(known):
                left = 2
                for t in range(len(one.steps)):
                    policy.start(f"{seed} {i} {t}", 0)
                    left -= policy.decide(one.steps[: t + 1], (left,)).requests_help
                used.append(2 - left)
        assert np.mean(used) == pytest.approx(requests, abs=0.03)


def test_labels_of_other_tasks_are_refused(helper: Helper, light_labels: Labels) -> None:
    other = [replace(one, task=f"other {one.task}") for one in light_labels.trajectories]
    model = estimate_mdp(other, Features(["step"]), shrink=False)
    with pytest.raises(ValueError, match="the labels have no held-out task of the helper"):
        ration(helper, label(other, model, selfreg.solve(model.mdp, 2)), 0.3)
