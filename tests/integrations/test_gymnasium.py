"""Gymnasium: registered environments and the help wrapper pass its checker and follow the same rules as episodes."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from selfreg._util.text_features import hashed_words
from selfreg.envs import Intervention, run_episode
from selfreg.evaluate import Always
from selfreg.integrations.gymnasium import REFUSALS, HelpWrapper, babyai_env, household_env

TASK = "household-moved/3"


@pytest.mark.parametrize("name", ["selfreg/Household-v0", "selfreg/BabyAI-v0"])
@pytest.mark.parametrize("features", [0, 512])
def test_registered_environments_pass_the_checker(name: str, features: int) -> None:
    env = gymnasium.make(name, features=features, render_mode="ansi")
    check_env(env.unwrapped)
    env.reset(seed=1)
    assert "Steps left" in env.render()


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")  # the checker's remark on any wrapper
@pytest.mark.parametrize("base_policy", [False, True])
@pytest.mark.parametrize("features", [0, 512])
def test_help_wrapper_passes_the_checker(base_policy: bool, features: int) -> None:
    env = HelpWrapper(household_env(features=features, render_mode="ansi"), budget=3, base_policy=base_policy)
    check_env(env, skip_render_check=True)
    if features:
        assert gymnasium.wrappers.FlattenObservation(env).reset(seed=0)[0].shape == (512 + 4,)


def test_asking_at_every_step_is_first_k() -> None:
    """The wrapper and `run_episode` spend the same, act the same and end the same, on the same luck."""
    env = HelpWrapper(household_env([TASK]), budget=2, base_policy=True)
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        done, spent, keys = False, 0, [info["key"]]
        while not done:
            action = int(info["action_mask"][1])
            observation, reward, done, truncated, info = env.step(action)
            assert not truncated
            spent += info["charge"]
            keys.append(info.get("key"))
            assert observation["budget_left"] == 2 - spent
        episode = run_episode(env.world, TASK, seeded(seed), Always("help"), 2)
        assert spent == episode.cost == 2
        assert reward == episode.outcome
        assert keys[:-1] == [step.key for step in episode.steps]


def seeded(seed: int) -> int:
    """The agent's seed that `reset(seed=...)` draws."""
    generator = gymnasium.utils.seeding.np_random(seed)[0]
    generator.integers(1)
    return int(generator.integers(2**31))


def test_own_actions_come_first_and_then_the_help_types() -> None:
    helps = [Intervention("one"), Intervention("all", steps=None, cost=3)]
    env = HelpWrapper(household_env([TASK], interventions=helps), budget=3)
    env.reset(seed=0)
    assert env.action_space.n == 12 + 2
    _, _, _, _, info = env.step(11)  # waits
    assert (info["charge"], info["action_mask"].tolist()) == (0, [1] * 14)
    _, _, _, _, info = env.step(12)
    assert (info["charge"], info["action_mask"].tolist()) == (1, [1] * 13 + [0])
    observation, _, done, _, info = env.step(13)
    assert (info["refused"], info["charge"], done, observation["budget_left"]) == (True, 0, False, 2)
    env.reset(seed=0)
    observation, reward, done, _, info = env.step(13)
    assert (reward, done, observation["budget_left"], info["outcome"]) == (1.0, True, 0, 1.0)


def test_refused_requests_change_nothing_and_end_some_time() -> None:
    env = HelpWrapper(household_env([TASK]), budget=0)
    first, _ = env.reset(seed=0)
    for i in range(REFUSALS):
        observation, _, done, truncated, info = env.step(12)
        assert info["refused"]
        assert observation == first
        assert (done, truncated) == (False, i == REFUSALS - 1)


def test_the_wrapper_of_a_registered_environment_passes_the_checker() -> None:
    env = HelpWrapper(gymnasium.make("selfreg/Household-v0", features=64, render_mode="ansi"), budget=3)
    with pytest.warns(UserWarning, match="unwrapped version"):
        check_env(env)
    assert env.spec.make().action_space == env.action_space


def test_every_step_passes_through_the_wrappers_inside() -> None:
    """What they make of observations, and the steps that they count, are those of help and refusals too."""
    inside = gymnasium.wrappers.TransformObservation(
        gymnasium.wrappers.TimeLimit(household_env([TASK], features=8), 4),
        lambda observation: observation * 2,
        gymnasium.spaces.Box(0.0, 2.0, (8,), np.float32),
    )
    env = HelpWrapper(inside, budget=1, base_policy=True)
    env.reset(seed=0)
    for i, action in enumerate((0, 1, 1, 0)):  # the third is refused
        observation, _, _, truncated, info = env.step(action)
        assert set(np.unique(observation["state"])) <= {0.0, 2.0}
        assert (truncated, info["refused"], info["charge"]) == (i == 3, i == 2, int(i == 1))
    observation, _ = env.reset(seed=0)
    assert observation["state"].max() == 2.0


@pytest.mark.parametrize("base_policy", [False, True])
def test_impossible_steps_are_refused(base_policy: bool) -> None:
    env = HelpWrapper(household_env([TASK], interventions=[Intervention(steps=None)]), 1, base_policy)
    env.reset(seed=0)
    last = int(env.action_space.n) - 1
    for action in (-1, last + 1):
        with pytest.raises(ValueError, match=f"action is {action}; expected 0 to {last}"):
            env.step(action)
    assert env.step(last)[2]
    for action in (0, last):
        with pytest.raises(ValueError, match="episode is over"):
            env.step(action)


def test_features_are_shared_by_tasks() -> None:
    env = babyai_env(features=1024, level="BabyAI-GoToLocalS5N2-v0", step_limit=12)
    observation, _ = env.reset(seed=0)
    assert set(np.unique(observation)) == {0.0, 1.0}
    one, other = (
        hashed_words(f"Mission: go to the {c} ball.\nSeen: {c} ball 2 ahead.", 2**20) for c in ("red", "blue")
    )
    assert len(np.intersect1d(one, other)) > 8
    assert len(np.setdiff1d(one, other)) > 5


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(TypeError, match="WorldEnv"):
        HelpWrapper(gymnasium.make("CartPole-v1"), 2)
    with pytest.raises(ValueError, match="no help"):
        HelpWrapper(household_env([TASK], interventions=[]), 2)
    with pytest.raises(ValueError, match="budget is -1"):
        HelpWrapper(household_env([TASK]), -1)
    with pytest.raises(ValueError, match="features is -1"):
        household_env([TASK], features=-1)
    with pytest.raises(ValueError, match="household-KIND/NUMBER"):
        household_env([TASK]).reset(options={"task": "kitchen"})
