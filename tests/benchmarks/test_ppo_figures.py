"""PPO against the pipeline: both learn from what they say, keep to the budget, and stop when they should."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed (extra 'rl')")

from benchmarks import ppo
from selfreg.evaluate import ComparedPolicy
from selfreg.helper import HelperConfig

SIZES = ppo.Sizes(tasks=6, episodes=16, validation=4, test=6, cap=2048, every=1024, seeds=1)


@pytest.fixture(scope="module")
def setting() -> ppo.Setting:
    return ppo.settings()[0]


@pytest.fixture(scope="module")
def tasks(setting: ppo.Setting) -> ppo.Tasks:
    return ppo.draw(setting, SIZES)


def test_tasks_are_disjoint(tasks: ppo.Tasks) -> None:
    assert [len(part) for part in tasks] == [6, ppo.PPO_TASKS, 4, 6]
    assert len({task for part in tasks for task in part}) == 6 + ppo.PPO_TASKS + 4 + 6


@pytest.mark.parametrize(("target", "reached", "samples"), [(0.0, True, 1024), (1.1, False, 2048)])
def test_ppo_stops_at_the_target_or_the_cap(
    setting: ppo.Setting, tasks: ppo.Tasks, target: float, reached: bool, samples: int
) -> None:
    learned = ppo.learn(setting, tasks, SIZES, target, seed=0)
    assert (learned.reached, learned.samples, len(learned.checks)) == (reached, samples, samples // 1024)
    rows = ppo.run(setting, [ComparedPolicy("PPO", setting.budget, learned.policy)], tasks.test)
    assert max(row.help for row in rows) <= setting.budget
    again = ppo.run(setting, [ComparedPolicy("PPO", setting.budget, learned.policy)], tasks.test)
    assert again == rows


def test_a_request_beyond_the_budget_lets_the_agent_act(setting: ppo.Setting, tasks: ppo.Tasks) -> None:
    env = ppo.WithinBudget(ppo.HelpWrapper(ppo.WorldEnv(setting.make_world(), tasks.ppo), 0, True))
    env.reset(seed=0)
    _, _, _, _, info = env.step(1)
    assert (info["charge"], info["refused"]) == (0, False)
    assert isinstance(env, gymnasium.Wrapper)


def test_the_table_is_printed(
    setting: ppo.Setting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = HelperConfig(form="tfidf", history=0)
    real = ppo.pipeline
    monkeypatch.setattr(ppo, "pipeline", lambda setting, tasks, episodes: real(setting, tasks, episodes, small))
    ppo.compare_on(setting, SIZES._replace(cap=1024))
    printed = capsys.readouterr().out
    assert "helper minus PPO: " in printed
    assert "samples, " in printed
    assert np.sum([f"  {name}: success " in printed for name in ("never", "always", "PPO", "helper")]) == 4
