"""Advice: where the formula says, for the rollouts asked for, and better than even sampling where truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.advise import curves, random_setting, uniform
from benchmarks.honesty import BUDGET, FEATURES, random_world, sample_log
from selfreg.data import Step, Trajectory
from selfreg.envs import CollectConfig, advised_rollouts, collect, make_household
from selfreg.estimate import ExactKey, Features, advise, estimate_mdp


def log(n_alone: int, n_helped: int) -> list[Trajectory]:
    alone = [Trajectory(f"t{i}", f"a{i}", float(i % 2), (Step("go"),)) for i in range(n_alone)]
    helped = [
        Trajectory(f"t{i}", f"h{i}", float(i % 3 > 0), (Step("go", intervention="help"),)) for i in range(n_helped)
    ]
    return alone + helped


def test_the_row_that_decides_the_value_is_sampled() -> None:
    # Budget 0 never asks: help cannot matter. With budget 1 help is best: alone cannot, nearly.
    [alone] = advise(log(100, 30), Features(["step"]), 0, rollouts=10).samples
    assert (alone.key, alone.action, alone.rollouts) == ((0,), "nohelp", 10)
    advice = advise(log(100, 30), Features(["step"]), 1, rollouts=10)
    assert advice.samples[0].action == "help"
    assert sum(one.rollouts for one in advice.samples) == 10
    # One row, variance c / (n + 1) with n visits and a prior of one: the forecast is that of ten visits more.
    one = advise(log(100, 0), Features(["step"]), 0, rollouts=101)
    assert one.after / one.before == pytest.approx(np.sqrt(102 / 203), rel=1e-6)
    assert one.samples[0].gain == pytest.approx(101 / 203, rel=1e-6)


def test_moments_are_of_the_state_and_of_many_tasks_and_the_plan_is_json() -> None:
    logs = sample_log(random_world(np.random.default_rng(0)), 100, np.random.default_rng(1))
    advice = advise(logs, FEATURES, BUDGET, rollouts=40, samples=5)
    for sample in advice.samples:
        assert all(FEATURES.encode(*moment) == sample.key for moment in sample.moments)
    tasks = [moment[0].task for moment in advice.samples[0].moments]
    assert len(set(tasks[:10])) == min(10, len(set(tasks)))
    gains = [sample.gain for sample in advice.samples]
    assert gains == sorted(gains, reverse=True)
    assert json.loads(json.dumps(advice.rows()))[0]["rollouts"] == advice.samples[0].rollouts
    assert advice.lines()[0].startswith("40 rollouts: standard deviation of the start value")
    again = advise(logs, FEATURES, BUDGET, rollouts=40, samples=5)
    assert again.rows() == advice.rows()


def test_rollouts_count_at_the_step_that_they_begin_at_and_are_no_starts() -> None:
    world = random_world(np.random.default_rng(2))
    first, run, _ = random_setting(3, 60)
    more = run(uniform(first, FEATURES, 30, np.random.default_rng(4)), np.random.default_rng(5))
    before, after = (estimate_mdp(one, FEATURES) for one in (first, first + more))
    np.testing.assert_allclose(after.start[after.start > 0], before.start[before.start > 0])
    steps = {int(str(key[0])) for key in after.counts.keys}
    assert steps <= set(range(4))
    assert world.mdp.n_states == 26


def test_the_collector_runs_it() -> None:
    config = CollectConfig(episodes_per_task=24, workers=1)
    logs = list(collect(make_household, ["household-moved/0", "household-moved/2"], config))
    advice = advise(logs, ExactKey(), 2, rollouts=12, aim="decision", samples=3)
    rollouts = list(advised_rollouts(make_household(), advice.samples, rate=0.0))
    assert len(rollouts) == 12
    wanted = [one for one in advice.samples for _ in range(one.rollouts)]
    for rollout, sample in zip(rollouts, wanted, strict=True):
        assert ExactKey().encode(rollout, 0) == sample.key
        assert (rollout.steps[0].intervention or "nohelp") == sample.action
        assert not any(step.intervention for step in rollout.steps[1:])
    assert len({one.episode for one in rollouts}) == 12


@pytest.mark.long
def test_the_spread_shrinks_faster_than_by_even_sampling() -> None:
    found = np.array([curves(random_setting(seed, 200), FEATURES, BUDGET, 100, 2, seed) for seed in range(12)])
    value, _, even = found[:, :, -1, 2].T
    assert np.mean(value) < np.mean(even)


def test_bad_input_is_named() -> None:
    logs = log(10, 2)
    with pytest.raises(ValueError, match="rollouts is 0"):
        advise(logs, Features(["step"]), 1, rollouts=0)
    with pytest.raises(ValueError, match="rate is 2"):
        advise(logs, Features(["step"]), 1, rollouts=1, rate=2.0)
    with pytest.raises(ValueError, match="aim is 'fame'"):
        advise(logs, Features(["step"]), 1, rollouts=1, aim="fame")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="of one task"):
        advise(logs[:1], Features(["step"]), 0, rollouts=1)
    with pytest.raises(ValueError, match="rate is 1"):
        list(advised_rollouts(make_household(), [], rate=1.5))
