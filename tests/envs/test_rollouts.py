"""Phase I: rates, identities, and that neither workers nor neighbours change an episode."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from selfreg.envs import BabyAIConfig, CollectConfig, RandomHelp, collect, make_babyai, make_household

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
        {"episodes_per_task": 2},
        {"episodes_per_task": 8.5},
        {"workers": 0},
        {"seed": -1},
    ):
        with pytest.raises((ValueError, TypeError), match=rf"CollectConfig\.{next(iter(wrong))}"):
            CollectConfig(**wrong)  # type: ignore[arg-type]
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
