"""The forecast on logs whose truth is known."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfreg.data import Step, Trajectory, read_trajectories
from selfreg.decisions import Decision
from selfreg.estimate import Features, forecast
from selfreg.estimate.abstraction import load_classes
from selfreg.estimate.forecasting.agreement import agreement_value
from selfreg.estimate.forecasting.candidates import always, never, rules
from selfreg.estimate.forecasting.compute import step_design
from selfreg.estimate.forecasting.identification import identify
from selfreg.estimate.forecasting.logged_steps import LoggedSteps
from selfreg.estimate.forecasting.results import make_interval
from selfreg.estimate.forecasting.step_effects import Value, step_value

Effect = Callable[[int], float]


def chain(gain: float, rate: float, episodes: int, seed: int, steps: int = 3, rates: bool = False) -> list[Trajectory]:
    """Episodes of `steps` steps: success with chance .2 + `gain` a helped step, whenever it was helped."""
    generator = np.random.default_rng(seed)
    logs = []
    for i in range(episodes):
        helped = generator.random(steps) < rate
        outcome = float(generator.random() < 0.2 + gain * helped.sum())
        log = tuple(Step(f"s{t}", intervention="person" if h else None) for t, h in enumerate(helped))
        logs.append(Trajectory(f"t{i}", str(i), outcome, log, fields={"rate": rate} if rates else {}))
    return logs


def both_ways(alone: Sequence[float], helped: Sequence[float], steps: int = 2) -> list[Trajectory]:
    """Every task once without help, and once with help at every step."""
    kinds: tuple[tuple[str | None, Sequence[float]], ...] = ((None, alone), ("person", helped))
    return [
        Trajectory(f"t{i}", f"{kind}{i}", outcome, (Step("s", intervention=kind),) * steps)
        for kind, outcomes in kinds
        for i, outcome in enumerate(outcomes)
    ]


@pytest.mark.parametrize("rates", [True, False])
def test_values_of_single_steps(rates: bool) -> None:
    """Additive effects: never .2, one request .3, two .4, three .5."""
    result = forecast(chain(0.1, 0.5, 4000, 0, rates=rates), Features(["step"]), 3)
    assert result.design == "steps"
    assert result.identified
    truth = {0: 0.2, 1: 0.3, 2: 0.4, 3: 0.5}
    for one in result.outlooks:
        if one.policy in ("never", "always"):
            requests = one.budget[0]
            assert one.success.mean == pytest.approx(truth[requests], abs=0.035)
            assert one.success.low < truth[requests] < one.success.high
            assert one.requests.mean == pytest.approx(requests, abs=0.03)
    assert result.recommendation.policy == "always"
    assert result.recommendation.budget == (3,)


def test_useless_help_is_not_bought() -> None:
    """At most one of 20 logs of a helper that does nothing."""
    bought = [
        forecast(chain(0.0, 0.5, 300, seed), Features(["step"]), 3, seed=seed, samples=100).recommended
        for seed in range(20)
    ]
    assert sum(map(bool, bought)) <= 2


@pytest.mark.parametrize("episodes", [30, 48])
def test_useless_help_is_not_bought_on_the_strength_of_few_episodes(episodes: int) -> None:
    """At most two of 24 logs; the first guess of effects is noise here, and so are bootstrap tails of few tasks."""
    bought = 0
    for seed in range(24):
        generator = np.random.default_rng(seed)
        logs = [
            Trajectory(f"t{i // 2}", str(i), float(generator.random() < 0.5), one.steps)
            for i, one in enumerate(chain(0.0, 0.3, episodes, seed))
        ]
        bought += forecast(logs, Features(["step"]), 2).recommended > 0
    assert bought <= 2


@pytest.mark.parametrize("seed", range(3))
def test_a_larger_budget_leaves_a_recommendation(seed: int) -> None:
    """The first request of an episode adds .4, and the others nothing."""
    generator = np.random.default_rng(seed)
    logs = []
    for i in range(150):
        helped = generator.random(4) < 0.3
        steps = tuple(Step(f"s{t}", intervention="person" if h else None) for t, h in enumerate(helped))
        logs.append(Trajectory(f"t{i}", str(i), float(generator.random() < 0.3 + 0.4 * helped.any()), steps))
    for budget in (1, 4):
        chosen = forecast(logs, Features(["step"]), budget, price=0.16).recommendation
        assert (chosen.policy, chosen.budget) == ("always", (1,))


def test_a_helper_for_the_tasks_that_help_pays_in() -> None:
    """Help is worth more than its price in half of the tasks, but not on average: all tasks ran both ways."""

    class Maths:
        def decide(self, steps: Sequence[Step], budget_left: Any) -> Decision:
            return Decision("person" if steps[-1].state == "maths" and budget_left[0] else "nohelp")

    generator = np.random.default_rng(0)
    logs = []
    for i in range(200):
        state, chance = (("maths", 0.8), ("other", 0.3))[i % 2]
        outcomes = generator.random(2) < (0.3, chance)
        logs += [
            Trajectory(f"t{i}", f"{kind}{i}", float(outcome), (Step(state, intervention=kind),))
            for kind, outcome in zip((None, "person"), outcomes, strict=True)
        ]
    result = forecast(logs, Features(["step"]), 1, price=0.3, helper=lambda _: Maths())
    assert result.design == "tasks"
    assert result.recommendation.policy == "helper"
    assert result.recommendation.requests.mean == pytest.approx(0.5)


def test_budgets_that_no_episode_shows_are_not_told() -> None:
    logs = chain(0.0, 0.15, 40, 3, steps=12)
    (line,) = forecast(logs, Features(["step"]), 12).by_help
    assert "the log cannot tell" in line


def test_tasks_both_ways_are_exact() -> None:
    alone, helped = [0.0, 1.0, 0.0, 0.0] * 10, [1.0, 1.0, 0.0, 1.0] * 10
    result = forecast(both_ways(alone, helped), Features(["step"]), 2)
    assert result.design == "tasks"
    assert result.identified
    by_name = {(one.policy, one.budget): one for one in result.outlooks}
    assert by_name["never", (0,)].success.mean == 0.25
    assert by_name["always", (2,)].success.mean == 0.75
    assert by_name["always", (2,)].requests.mean == 2.0
    assert result.recommendation == by_name["always", (2,)]
    # One request of two steps: no episode shows it, so anything is possible.
    once = by_name["always", (1,)]
    assert not once.identified
    assert (once.success.low, once.success.high) == (0.0, 1.0)


def test_price_decides() -> None:
    alone, helped = [0.0, 1.0, 0.0, 0.0] * 10, [1.0, 1.0, 0.0, 1.0] * 10
    logs = both_ways(alone, helped)
    assert forecast(logs, Features(["step"]), 2, price=0.1).recommendation.policy == "always"
    assert forecast(logs, Features(["step"]), 2, price=0.3).recommendation.policy == "never"


def test_help_in_bad_states_is_not_by_chance() -> None:
    """People are called in where things look bad; the log cannot tell what they are worth."""
    generator = np.random.default_rng(0)
    logs = []
    for i in range(400):
        bad = generator.random(3) < 0.5
        helped = generator.random(3) < np.where(bad, 0.8, 0.2)
        outcome = float(generator.random() < 0.7 - 0.2 * bad.sum() + 0.1 * helped.sum())
        steps = tuple(
            Step("bad" if b else "good", intervention="person" if h else None) for b, h in zip(bad, helped, strict=True)
        )
        logs.append(Trajectory(f"t{i}", str(i), outcome, steps))
    result = forecast(logs, Features(["step", "class"], {"bad": "bad"}), 3)
    assert result.design == "none"
    assert not result.identified
    assert result.recommendation.policy == "never"
    assert "cannot tell" in result.words


def deployments(seed: int, episodes: int = 800) -> list[Trajectory]:
    """Half of the episodes had a junior at hand (no effect), half a senior (.3 alone, .7 after help at any step)."""
    generator = np.random.default_rng(seed)
    logs = []
    for i in range(episodes):
        person = ("junior", "senior")[i % 2]
        helped = generator.random(3) < 0.3
        outcome = float(generator.random() < 0.3 + 0.4 * (person == "senior" and helped.any()))
        steps = tuple(Step(f"s{t}", intervention=person if h else None) for t, h in enumerate(helped))
        logs.append(Trajectory(f"t{i % 100}", str(i), outcome, steps))
    return logs


def test_help_types_of_different_deployments() -> None:
    """Who was helped by a senior was never helped by a junior afterwards: the junior does not look harmful for that."""
    errors = []
    for seed in range(4):
        result = forecast(deployments(seed), Features(["step"]), 3, samples=100)
        assert (result.design, result.recommendation.help) == ("steps", "senior")
        shown = [one for one in result.outlooks if one.policy in ("never", "always")]
        truth = [0.7 if one.help == "senior" else 0.3 for one in shown]
        errors.append(
            [
                (one.success.mean - t, one.success.low <= t <= one.success.high)
                for one, t in zip(shown, truth, strict=True)
            ]
        )
    mean, held = np.array(errors).mean(axis=0).T
    assert np.abs(mean).max() < 0.1
    assert held.mean() >= 0.85


def test_a_help_type_that_is_chosen_by_the_state_is_not_by_chance() -> None:
    """Whether there is help is a coin; who helps is not."""
    generator = np.random.default_rng(3)
    logs = []
    for i in range(400):
        bad, helped = generator.random(3) < 0.5, generator.random(3) < 0.3
        steps = tuple(
            Step("bad" if b else "good", intervention=("senior" if b else "junior") if h else None)
            for b, h in zip(bad, helped, strict=True)
        )
        logs.append(Trajectory(f"t{i}", str(i), float(generator.random() < 0.7 - 0.2 * bad.sum()), steps))
    assert forecast(logs, Features(["step", "class"], {"bad": "bad"}), 3).design == "none"


def test_escalation_at_the_last_step_is_not_identified() -> None:
    """Hard tickets end with a person; the log does not show how they would have ended without."""
    generator = np.random.default_rng(2)
    logs = []
    for i in range(200):
        hard = generator.random() < 0.4
        steps = (Step("s"),) * 3 + ((Step("s", intervention="person"),) if hard else ())
        logs.append(Trajectory(f"t{i // 2}", str(i), float(generator.random() < 0.6), steps))
    result = forecast(logs, Features(["step"]), 2)
    assert result.design == "none"
    assert not result.identified
    assert result.recommendation.policy == "never"
    assert "cannot tell" in result.words


def test_whole_episodes_of_other_tasks_are_not_identified() -> None:
    """The estimate is that of a coin; the bounds hold whatever decided."""
    generator = np.random.default_rng(1)
    logs = [
        Trajectory(f"t{i}", str(i), float(generator.random() < (0.7 if h else 0.3)), (Step("s", intervention=h),) * 2)
        for i in range(400)
        for h in ["person" if generator.random() < 0.5 else None]
    ]
    result = forecast(logs, Features(["step"]), 2)
    assert result.design == "episodes"
    assert not result.identified
    one = result.recommendation
    assert one.policy == "always"
    assert one.success.mean == pytest.approx(0.7, abs=0.06)
    assert one.success.low < 0.4
    assert one.success.high > 0.8
    assert "if chance decided" in result.words


def test_logs_without_help() -> None:
    result = forecast(
        [Trajectory(f"t{i}", str(i), float(i % 2), (Step("s"),)) for i in range(20)], Features(["step"]), 2
    )
    assert [one.policy for one in result.outlooks] == ["never"]
    assert "no help" in result.words
    assert result.reason == "No step was helped, so nothing in the log says what help is worth."
    assert not result.identified
    alone = result.outlooks[0]
    assert alone.identified  # an interval of a mean, not bounds
    assert alone.success.mean == 0.5


def test_logs_that_are_all_helped() -> None:
    logs = [Trajectory(f"t{i}", str(i), float(i % 2), (Step("s", intervention="p"),)) for i in range(40)]
    with_alone = [*logs, Trajectory("t0", "alone", 1.0, (Step("s"),))]
    for one in (logs, with_alone):
        result = forecast(one, Features(["step"]), 1)
        assert result.recommendation.policy == "never"
        assert not result.identified
        assert "cannot tell" in result.words
        assert result.by_help == ("With p: the log cannot tell.",)


def test_refusals() -> None:
    one = Trajectory("t", "0", 1.0, (Step("s"),))
    with pytest.raises(ValueError, match="one task"):
        forecast([one], Features(["step"]), 1)
    cut = [Trajectory(f"t{i}", str(i), None, (Step("s"),), truncated=True) for i in range(3)]
    with pytest.raises(ValueError, match="no episode has an outcome"):
        forecast(cut, Features(["step"]), 1)
    with pytest.raises(ValueError, match="price"):
        forecast([one], Features(["step"]), 1, price=-1.0)


def test_a_helper_is_trained_without_the_tasks_that_it_decides_in() -> None:
    logs = chain(0.1, 0.5, 200, 3)
    seen: list[set[str]] = []

    class Second:
        def decide(self, steps: Sequence[Step], budget_left: Any) -> Decision:
            assert steps[-1].intervention is None
            assert steps[-1].action is None
            return Decision("person" if len(steps) == 2 else "nohelp")

    def train(episodes: Sequence[Trajectory]) -> Second:
        seen.append({t.task for t in episodes})
        return Second()

    result = forecast(logs, Features(["step"]), 2, helper=train, samples=20)
    helpers = [one for one in result.outlooks if one.policy == "helper"]
    assert [one.requests.mean for one in helpers] == pytest.approx([1.0, 1.0], abs=0.05)
    tasks = {t.task for t in logs}
    assert len(seen) == 5
    assert all(len(one) == 160 for one in seen)
    assert set.union(*(tasks - one for one in seen)) == tasks


def test_a_helper_decides_many_episodes_at_once_as_it_does_one_by_one() -> None:
    """A policy with a state of the episode is started for each of them; both see the same steps and budgets."""
    logs = chain(0.1, 0.5, 60, 3)
    batches: list[int] = []

    class Alternate:
        def decide(self, steps: Sequence[Step], budget_left: tuple[int, ...]) -> Decision:
            helped = sum(step.intervention is not None for step in steps)
            return Decision("person" if (len(steps) + budget_left[0] + helped) % 2 else "nohelp")

    class Batches(Alternate):
        def decide_batch(self, histories: Any, budgets_left: Any) -> list[Decision]:
            batches.append(len(histories))
            return [self.decide(*one) for one in zip(histories, budgets_left, strict=True)]

    class Episodes(Alternate):
        def start(self, task: str, seed: int) -> None:
            self.task = task

        def decide(self, steps: Sequence[Step], budget_left: tuple[int, ...]) -> Decision:
            assert any(t.task == self.task and t.steps[: len(steps) - 1] == tuple(steps[:-1]) for t in logs)
            return super().decide(steps, budget_left)

    found = [
        forecast(logs, Features(["step"]), 2, helper=lambda _: kind(), samples=20)  # noqa: B023
        for kind in (Batches, Episodes)
    ]
    values = [[(one.success, one.requests) for one in result.outlooks if one.policy == "helper"] for result in found]
    assert values[0] == values[1]
    assert len(batches) == 5
    assert sum(batches) == 2 * 3 * 60


def test_arrays_of_steps() -> None:
    logs = [
        Trajectory("a", "0", 1.0, (Step("x", intervention="h"), Step("y"), Step("z", intervention="h"))),
        Trajectory("b", "1", 0.0, (Step("x"), Step("y", intervention="h"))),
        Trajectory("b", "2", None, (Step("x"),), truncated=True),
    ]
    logged = LoggedSteps.of(logs, {"h": (2,)})
    assert logged.omitted == 1
    assert logged.tasks == ("a", "b")
    assert logged.actions == ("nohelp", "h")
    assert logged.action.tolist() == [1, 0, 1, 0, 1]
    assert logged.time.tolist() == [0, 1, 2, 0, 1]
    assert logged.earlier.tolist() == [0, 1, 1, 0, 0]
    assert logged.spent[:, 0].tolist() == [0, 2, 2, 0, 0]
    assert logged.left((3,))[:, 0].tolist() == [3, 1, 1, 3, 3]
    assert always(logged, 1, (3,)).decided.tolist() == [1, 0, 0, 1, 1]
    assert never(logged).decided.tolist() == [0] * 5
    assert {one.rule: one.decided.tolist() for one in rules(logged, 1, (2,), 3)} == {
        "last-k": [0, 0, 0, 0, 0],
        "every-n": [1, 0, 0, 1, 1],
    }
    assert logged.sum_episodes(np.ones(5)).tolist() == [3.0, 2.0]


def test_a_first_guess_that_is_wrong_by_a_factor_is_put_right() -> None:
    """Help is worth .25 in hard states, which the states of the model do not tell apart."""
    generator = np.random.default_rng(1)
    logs = []
    for i in range(1500):
        hard, helped = generator.random(3) < [0.2, 0.5, 0.8], generator.random(3) < 0.5
        outcome = float(generator.random() < 0.2 + 0.25 * (hard & helped).sum())
        steps = (
            Step("hard" if h else "easy", intervention="person" if k else None)
            for h, k in zip(hard, helped, strict=True)
        )
        logs.append(Trajectory(f"t{i}", str(i), outcome, tuple(steps), fields={"rate": 0.5}))
    states = Features(["step"])
    states.fit(logs)
    logged = LoggedSteps.of(logs, {"person": (1,)})
    design = step_design(logged, states, identify(logged, states), None)
    effect = [0.25 * (step.state == "hard") for t in logs for step in t.steps]
    guess = np.stack([effect, np.zeros(len(effect))], axis=1)[:, None]
    decided = always(logged, 1, (2,)).decided
    found = [step_value(design, decided, np.empty((0, 1500)), factor * guess).success[0] for factor in (1.0, 3.0, -2.0)]
    np.testing.assert_allclose(found, 0.2 + 0.25 * 0.7, atol=0.03)
    np.testing.assert_allclose(found, found[0], atol=0.005)


@pytest.mark.parametrize("mean", [1.05, 0.99, 0.5, -0.02])
def test_an_estimate_near_a_bound_is_that_of_a_cut_normal_distribution(mean: float) -> None:
    """Compared with the values of a normal distribution that can be."""
    values = np.random.default_rng(0).normal(mean, 0.07, 200_000)
    found = make_interval(np.array([mean, *values]), widen=1.0, cut=True, confidence=0.9, most=1.0)
    possible = values[(values >= 0.0) & (values <= 1.0)]
    low, high = np.quantile(possible, [0.05, 0.95])
    expected = (possible.mean(), 0.0 if mean < 0.1 else low, 1.0 if mean > 0.9 else high)  # with what can just be
    np.testing.assert_allclose(found, expected, atol=0.002)


def test_agreement_is_exact_where_all_paths_are_logged() -> None:
    """Two paths a task; the policy follows one of them, by its first decision."""
    logged = LoggedSteps.of(both_ways([0.0, 1.0, 1.0], [1.0, 1.0, 0.0]), {"person": (1,)})
    times = np.ones((2, 3))
    value: Value = agreement_value(logged, always(logged, 1, (2,)).decided, times, by_task=True)
    assert value.success.tolist() == pytest.approx([2 / 3] * 3)
    assert value.requests[0] == 2.0
    assert value.unknown.tolist() == [0.0] * 3
    half = agreement_value(logged, always(logged, 1, (1,)).decided, times, by_task=True)
    assert half.success[0] == 0.0
    assert half.unknown[0] == 1.0


def test_recorded_rates_need_no_test() -> None:
    logged = LoggedSteps.of(chain(0.1, 0.3, 50, 0, rates=True), {"person": (1,)})
    found = identify(logged, Features(["step"]))
    assert found.design == "steps"
    assert np.allclose(found.chance, [0.7, 0.3])


def test_a_recorded_rate_is_divided_by_the_shares_of_help_types() -> None:
    logs = [Trajectory(one.task, one.episode, one.outcome, one.steps, fields={"rate": 0.3}) for one in deployments(0)]
    found = identify(logged := LoggedSteps.of(logs, {"junior": (1,), "senior": (1,)}), Features(["step"]))
    assert np.allclose(found.chance[:, 0], 0.7)
    after = logged.earlier_by_kind > 0
    assert np.allclose(found.chance[after[:, 1]], [0.7, 0.0, 0.3])
    assert np.allclose(found.chance[after[:, 0]], [0.7, 0.3, 0.0])


def test_json_has_the_fields_of_the_design() -> None:
    content = json.loads(json.dumps(forecast(both_ways([0.0] * 30, [1.0] * 30), Features(["step"]), 2).to_json()))
    chosen = content["recommendation"]
    assert chosen["policy"] == "always"
    assert chosen["help"] == "person"
    assert chosen["budget"] == 2
    assert chosen["success"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert chosen["identified"] is True
    assert chosen["words"].startswith("Always request person")
    assert chosen["by_help"] == [
        "Requesting person at every step: +100.0 points of success (+100.0 to +100.0): worth it."
    ]
    names = {"policy", "rule", "help", "budget", "success", "requests", "identified", "added", "mix"}
    assert names == set(content["forecast"][0])


# ---- made-up helpers on real trajectories


@pytest.fixture(scope="module")
def worlds(shared_data: Any) -> Any:
    path = shared_data.parent / "known_truth.py"
    if not path.is_file():
        pytest.skip(f"{path.name} is missing")
    spec = importlib.util.spec_from_file_location("known_truth", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def logs_of(world: Any, logging: str, seed: int, copies: int = 1) -> list[Trajectory]:
    return [
        Trajectory(
            row["task_id"], row["episode"], float(row["success"]),
            tuple(Step(s["observation"], s["action"], intervention=s["helper"]) for s in row["steps"]),
            fields={"domain": row["domain"]},
        )
        for row in world.log(logging, seed, copies)
    ]  # fmt: skip


ALL_WAYS = ("step", "twice", "episode")


@pytest.mark.parametrize(
    ("kind", "logging", "copies", "policy"),
    [
        *(("null", logging, 1, "never") for logging in ALL_WAYS),
        *(("stall", logging, 1, "never") for logging in ALL_WAYS),
        *(("fix", logging, 1, "always") for logging in ALL_WAYS),
        ("fix", "hard", 4, "always"),
        ("null", "hard", 4, "never"),
    ],
)
def test_known_truth(worlds: Any, kind: str, logging: str, copies: int, policy: str) -> None:
    """The right recommendation, and an interval that holds the exact truth, in at least two of three logs."""
    world = worlds.World(kind, "gpt-3.5-turbo-0613", 0.5, 0.7)
    right, held = 0, 0
    for seed in range(3):
        chosen = forecast(
            logs_of(world, logging, seed, copies), Features(["domain", "step"]), 5, seed=seed
        ).recommendation
        truth = {"never": world.truth(lambda *_: False, 0)[0], "always": world.always(chosen.budget[0])[0]}
        right += chosen.policy == policy
        held += chosen.success.low <= truth.get(chosen.policy, -1.0) <= chosen.success.high
    assert right >= 2
    assert held >= 2


def test_help_for_hard_cases_alone_is_not_identified(worlds: Any) -> None:
    world = worlds.World("fix", "gpt-3.5-turbo-0613", 0.5, 0.7)
    result = forecast(logs_of(world, "hard", 0), Features(["domain", "step"]), 5)
    truth = world.truth(lambda *_: False, 0)[0]
    assert not result.identified
    assert result.outlooks[0].success.low <= truth <= result.outlooks[0].success.high


def test_a_larger_budget_adds_what_the_values_differ_by() -> None:
    result = forecast(both_ways([0.0] * 30, [1.0] * 30), Features(["step"]), 2)
    rows = {(one.policy, one.budget): one for one in result.outlooks if one.help in (None, "person")}
    added = rows["always", (2,)].added
    assert rows["never", (0,)].added is None
    assert added is not None
    smaller = rows["always", (1,)] if rows["always", (1,)].identified else rows["never", (0,)]
    assert added.success.mean == pytest.approx(rows["always", (2,)].success.mean - smaller.success.mean)
    assert rows["always", (2,)].mix == {"person": 1.0}


def test_a_price_of_a_help_type() -> None:
    logs = both_ways([0.0] * 30, [1.0] * 30)
    same = [
        forecast(logs, Features(["step"]), 1, price=price).recommendation.policy for price in (3.0, {"person": 3.0})
    ]
    assert same == ["never", "never"]
    assert forecast(logs, Features(["step"]), 1, price={}).recommendation.policy == "always"
    with pytest.raises(ValueError, match="price has the help type 'robot'; the log has person"):
        forecast(logs, Features(["step"]), 1, price={"robot": 1.0})


def test_a_price_is_paid_for_requests_that_the_budget_allows() -> None:
    """Estimates of requests from few steps lie far outside; with a price, they made each gain look like chance."""
    root = Path(__file__).parents[3] / "examples"
    roles = {"task": "id", "outcome": "won", "intervention": "helper", "steps": "turns", "observation": "text"}
    tickets = list(read_trajectories(root / "tickets.jsonl", "jsonl", roles=roles))
    states = Features(["step", "class"], classes=load_classes(root / "ticket_classes.toml"))
    found = {price: forecast(tickets, states, 3, price=price) for price in (0.0, 0.16, 0.6)}
    assert [one.outlooks[one.recommended].policy for one in found.values()] == ["rule", "rule", "never"]
    assert "worth its price" in found[0.6].words
    assert all("less the price" in line for line in found[0.16].by_help)
    assert not any("price" in line for line in found[0.0].by_help)
    for one in found[0.16].outlooks:
        assert one.requests.high <= one.budget[0]
