"""Phase I: rates, identities, and that neither workers nor neighbours change an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from selfreg.data import Step, read_trajectories
from selfreg.decisions import BudgetLeft, Decision
from selfreg.envs import BabyAIConfig, CollectConfig, RandomHelp, collect, collect_into, make_babyai, make_household
from selfreg.estimate import Features
from selfreg.evaluate import Always, ope
from selfreg.runtime import logged_propensity

MAKE = partial(make_babyai, BabyAIConfig())
TASKS = [f"BabyAI-UnlockPickup-v0/{number}" for number in (11, 5, 8)]
SMALL = CollectConfig(episodes_per_task=8, workers=1)


def test_workers_and_neighbours_change_nothing() -> None:
    alone = list(collect(MAKE, TASKS, SMALL))
    assert list(collect(MAKE, TASKS, CollectConfig(episodes_per_task=8, workers=2))) == alone
    assert list(collect(MAKE, TASKS[1:2], SMALL)) == alone[8:16]
    assert [one.episode for one in alone] == [f"{task}#{index}" for task in TASKS for index in range(8)]
    assert list(collect(MAKE, TASKS, CollectConfig(episodes_per_task=8, workers=1, seed=1))) != alone


def test_rates_are_swept_and_recorded() -> None:
    config = CollectConfig(episodes_per_task=30, rates=(0.0, 0.3, 1.0), workers=1)
    episodes = list(collect(MAKE, TASKS, config))
    assert [one.fields["rate"] for one in episodes] == [0.0, 0.3, 1.0] * 30
    assert not any(one.helped for one in episodes[0::3])
    assert all(step.intervention == "help" for one in episodes[2::3] for step in one.steps)
    asked = [step.intervention is not None for one in episodes[1::3] for step in one.steps]
    assert np.mean(asked) == pytest.approx(0.3, abs=0.08)  # about 600 decisions: four standard errors
    assert len({one.fields["seed"] for one in episodes}) == len(episodes)


def test_states_come_back_when_a_task_is_repeated() -> None:
    first, second = ([*collect(MAKE, TASKS, CollectConfig(seed=seed, workers=1))] for seed in (0, 1))
    known = {(one.task, step.key) for one in first for step in one.steps}
    assert np.mean([(one.task, step.key) in known for one in second for step in one.steps]) > 0.85


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"UnlockPickup-v0/5' more than once"):
        collect(MAKE, [*TASKS, TASKS[1]], SMALL)
    for wrong in (
        {"rates": (0.0, 1.2)},
        {"rates": ()},
        {"episodes_per_task": 8.5},
        {"workers": 0},
        {"seed": -1},
    ):
        with pytest.raises((ValueError, TypeError), match=rf"CollectConfig\.{next(iter(wrong))}"):
            CollectConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"CollectConfig\.episodes_per_task is 2"):
        collect(MAKE, TASKS, CollectConfig(episodes_per_task=2, workers=1))
    with pytest.raises(ValueError, match="rate is 2"):
        RandomHelp(2.0, ["help"])


def test_a_world_without_help_is_collected_alone() -> None:
    alone = partial(make_household, None, ())
    tasks = ["household-place/3"]
    episodes = list(collect(alone, tasks, CollectConfig(episodes_per_task=2, rates=(0.0,), workers=1)))
    unhelped = list(collect(make_household, tasks, CollectConfig(episodes_per_task=2, rates=(0.0,), workers=1)))
    assert episodes == unhelped
    with pytest.raises(ValueError, match="without a help type"):
        list(collect(alone, tasks, SMALL))


class Coin:
    """Requests help with chance 1/4 in even steps and 1/2 in odd ones; draws a number at every decision."""

    def start(self, task: str, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        return Decision("help" if self.generator.random() < self._chance(steps) else "nohelp")

    def action_probabilities(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Mapping[str, float]:
        return {"help": self._chance(steps), "nohelp": 1.0 - self._chance(steps)}

    def _chance(self, steps: Sequence[Step]) -> float:
        return 0.25 if len(steps) % 2 else 0.5


class SecondDecision:
    """Requests help at its second decision: it would be wrong if it were called twice in a step."""

    def start(self, task: str, seed: int) -> None:
        self.calls = 0

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        self.calls += 1
        return Decision("help" if self.calls == 2 else "nohelp")


HOUSE = ["household-place/3", "household-moved/0"]


def test_a_policy_decides_and_its_propensities_are_recorded() -> None:
    config = CollectConfig(episodes_per_task=40, workers=1)
    episodes = list(collect(make_household, HOUSE, config, Coin()))
    assert {one.fields["policy"] for one in episodes} == {"Coin"}
    assert not any("rate" in one.fields for one in episodes)
    for one in episodes:
        for t, step in enumerate(one.steps):
            chance = 0.5 if t % 2 else 0.25
            assert logged_propensity(one, t) == (chance if step.intervention else 1 - chance)
    helped = [[step.intervention is not None for one in episodes for step in one.steps[odd::2]] for odd in (0, 1)]
    for seen, chance in zip(helped, (0.25, 0.5), strict=True):
        assert np.mean(seen) == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / len(seen)))
    same = ope(episodes, Coin(), propensity=logged_propensity, abstraction=Features(["step"]), least_effective=0)
    assert same.overlap.mean_weight == pytest.approx(1.0)
    assert same.estimates["importance sampling"].success.mean == pytest.approx(
        np.mean([one.outcome for one in episodes])
    )


def test_a_policy_goes_to_workers_and_is_called_once_a_step() -> None:
    one, two = (CollectConfig(episodes_per_task=4, workers=workers) for workers in (1, 2))
    alone = list(collect(make_household, HOUSE, one, SecondDecision()))
    assert list(collect(make_household, HOUSE, two, SecondDecision())) == alone
    for episode in alone:
        assert [t for t, step in enumerate(episode.steps) if step.intervention] == [1][: len(episode.steps) - 1]


def test_a_log_of_a_policy_is_continued_with_the_same_one(tmp_path: Path) -> None:
    few = CollectConfig(episodes_per_task=4, workers=1)
    episodes = list(collect(make_household, HOUSE, few, Coin()))
    collect_into(tmp_path, make_household, HOUSE, few, policy=Coin())
    log = (tmp_path / "episodes.jsonl").read_bytes()
    assert list(read_trajectories(tmp_path / "episodes.jsonl")) == episodes
    (tmp_path / "episodes.jsonl").write_bytes(log[: len(log) // 2])
    collect_into(tmp_path, make_household, HOUSE, few, policy=Coin())
    assert (tmp_path / "episodes.jsonl").read_bytes() == log
    with pytest.raises(ValueError, match="its policy is 'Coin', now 'SecondDecision'"):
        collect_into(tmp_path, make_household, HOUSE, few, policy=SecondDecision())
    with pytest.raises(ValueError, match="has another collection"):
        collect_into(tmp_path, make_household, HOUSE, CollectConfig(episodes_per_task=4, rates=(0.0,), workers=1))


def test_wrong_policies_are_refused() -> None:
    few = CollectConfig(episodes_per_task=2, workers=1)

    class Impossible(Coin):
        def action_probabilities(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Mapping[str, float]:
            return {}

    with pytest.raises(TypeError, match=r"policy is 0\.5; expected an object with decide"):
        collect(make_household, HOUSE, few, 0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="policy cannot be sent to 2 workers"):
        collect(make_household, HOUSE, CollectConfig(episodes_per_task=2, workers=2), Impossible())
    with pytest.raises(ValueError, match="policy 'Impossible' decided 'nohelp' and gives it the probability 0"):
        list(collect(make_household, HOUSE, few, Impossible()))
    with pytest.raises(ValueError, match="butler"):
        list(collect(make_household, HOUSE, few, Always("butler")))
