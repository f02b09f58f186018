"""The imitation policy learns, saves and loads; the levels have experts that keep to their limits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from selfreg.envs import (
    BABYAI_LEVELS,
    AssistedEnvironment,
    HouseholdEnvironment,
    ImitationConfig,
    ImitationPolicy,
    demonstrate,
    household_tasks,
    train_imitation,
)
from selfreg.envs.babyai.environment import BabyAIEnvironment
from selfreg.envs.imitation import KIND, Demonstrations
from selfreg.envs.protocol import BasePolicy

LEVEL = "BabyAI-GoToLocalS5N2-v0"
TRAIN, TEST = ([f"{LEVEL}/{i}" for i in range(*span)] for span in ((120,), (1000, 1040)))


@pytest.fixture(scope="module")
def world() -> BabyAIEnvironment:
    return BabyAIEnvironment(LEVEL, BABYAI_LEVELS[LEVEL])


@pytest.fixture(scope="module")
def policy(world: BabyAIEnvironment) -> ImitationPolicy:
    return train_imitation(demonstrate(world, TRAIN), world.action_names, ImitationConfig(epochs=20))


def success(world: BabyAIEnvironment, policy: BasePolicy) -> float:
    assisted = AssistedEnvironment(world, policy, [])
    outcomes = []
    for seed, task in enumerate(TEST):
        assisted.reset(task, seed)
        while not assisted.done:
            assisted.step()
        outcomes.append(assisted.outcome or 0.0)
    return float(np.mean(outcomes))


def test_a_trained_policy_carries_over_to_new_tasks(world: BabyAIEnvironment, policy: ImitationPolicy) -> None:
    untrained = ImitationPolicy({name: 0 * weight for name, weight in policy.weights.items()}, policy.action_names)
    assert success(world, policy) > success(world, untrained) + 0.25


def test_saved_and_loaded_it_is_the_same(world: BabyAIEnvironment, policy: ImitationPolicy, tmp_path: Path) -> None:
    policy.save(tmp_path / "policy.safetensors")
    loaded = ImitationPolicy.load(tmp_path / "policy.safetensors")
    texts = demonstrate(world, TEST[:3]).texts
    assert loaded.action_names == policy.action_names
    assert all(np.array_equal(loaded.probabilities(text), policy.probabilities(text)) for text in texts)


def test_it_acts_by_its_distribution(world: BabyAIEnvironment, policy: ImitationPolicy) -> None:
    world.reset(TEST[0])
    generator, chances = np.random.default_rng(0), policy.distribution(world)
    assert chances.sum() == pytest.approx(1.0)
    drawn = np.bincount([policy.act(world, generator) for _ in range(4000)], minlength=7) / 4000
    np.testing.assert_allclose(drawn, chances, atol=0.04)  # five standard errors


def test_the_seed_decides() -> None:
    world = HouseholdEnvironment()
    shown = demonstrate(world, household_tasks(10, 0, seed=0)[0])
    one, same, other = (
        train_imitation(shown, world.action_names, ImitationConfig(epochs=2, seed=seed)) for seed in (1, 1, 2)
    )
    text = shown.texts[0]
    assert np.array_equal(one.probabilities(text), same.probabilities(text))
    assert not np.array_equal(one.probabilities(text), other.probabilities(text))


@pytest.mark.parametrize("level", BABYAI_LEVELS)
def test_experts_keep_to_the_limits(level: str) -> None:
    world = BabyAIEnvironment(level, BABYAI_LEVELS[level])
    outcomes = []
    for task in range(500, 512):
        demonstrate(world, [f"{level}/{task}"])
        outcomes.append(world.outcome or 0.0)
    assert sum(outcomes) >= 10  # less has a chance of 2% where one task in twenty is failed


def test_limits_rise() -> None:
    assert len(BABYAI_LEVELS) >= 8
    assert list(BABYAI_LEVELS.values()) == sorted(BABYAI_LEVELS.values())


def test_wrong_input_is_refused(policy: ImitationPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no demonstrations"):
        train_imitation(Demonstrations([], []), ["a"])
    with pytest.raises(ValueError, match="from 0 to 3; expected 0 to 1"):
        train_imitation(Demonstrations(["x", "y"], [0, 3]), ["a", "b"])
    household = HouseholdEnvironment()
    household.reset("household-moved/0")
    with pytest.raises(ValueError, match="trained for the actions"):
        policy.distribution(household)
    for name, value in (("epochs", 0), ("learning_rate", 0.0), ("seed", -1)):
        with pytest.raises(ValueError, match=rf"ImitationConfig\.{name}"):
            ImitationConfig(**{name: value})  # type: ignore[arg-type]
    (tmp_path / "text").write_text("no weights")
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "other")
    policy.save(tmp_path / "good")
    tensors, header = load_file(tmp_path / "good"), {"kind": KIND, "action_names": "[]"}
    save_file(tensors, tmp_path / "nameless", header)
    save_file(tensors, tmp_path / "unnamed", {"kind": KIND})
    for wrong, message in (
        ("text", "not a safetensors file"),
        ("other", "not an imitation policy"),
        ("nameless", "do not fit 0 action names"),
        ("unnamed", "do not fit 0 action names"),
    ):
        with pytest.raises(ValueError, match=message):
            ImitationPolicy.load(tmp_path / wrong)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"selfreg\[ml\]"):
        train_imitation(Demonstrations(["x"], [0]), ["a"])
