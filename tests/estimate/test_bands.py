"""Bands and cross-fitting: models by hand, worlds whose truth is known, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg
from benchmarks.honesty import FEATURES, attained, random_world, sample_log
from selfreg.data import Step, Trajectory
from selfreg.estimate import (
    ExactKey,
    Features,
    calibrated_l1,
    count,
    cross_fit,
    estimate_mdp,
    frontier_bands,
    uncertainty,
)
from selfreg.estimate.counts import list_moves


def flips(n: int, seed: int, per_task: int = 1) -> list[Trajectory]:
    """One step, success by a coin a task: `per_task` episodes of a task all end alike."""
    won = np.random.default_rng(seed).random(n) < 0.5
    return [Trajectory(f"t{i}", f"{i}-{k}", float(won[i]), (Step("go"),)) for i in range(n) for k in range(per_task)]


def test_counts_of_some_tasks_are_those_of_their_episodes() -> None:
    log = sample_log(random_world(np.random.default_rng(0)), 60, np.random.default_rng(1))
    moves = list_moves(log, FEATURES)
    times = np.zeros(len(moves.tasks))
    times[[0, 3]] = 1.0, 2.0
    part = [t for t in log if t.task == moves.tasks[0]] + 2 * [t for t in log if t.task == moves.tasks[3]]
    ours, theirs = moves.counts(times), count(part, FEATURES)
    order = [*(ours.keys.index(key) for key in theirs.keys), -2, -1]
    for name, matrix in theirs.transitions.items():
        np.testing.assert_array_equal(ours.transitions[name].toarray()[np.ix_(order, order)], matrix.toarray())
    np.testing.assert_array_equal(ours.starts[:, order], theirs.starts)
    assert ours.starts.sum() == len(part)


def test_width_is_that_of_the_mean_of_a_coin_and_tasks_stay_together() -> None:
    features, spread = Features(["step"]), 2 * 1.645 * 0.5 / np.sqrt(200)
    alone = uncertainty(flips(200, 0), features, 0, samples=400).success
    assert (alone.high - alone.low)[0] == pytest.approx(spread, rel=0.15)
    # Ten episodes of a task that all end alike say no more than one; drawn as independent steps they seem to.
    grouped = uncertainty(flips(200, 0, per_task=10), features, 0, samples=400).success
    assert (grouped.high - grouped.low)[0] == pytest.approx(spread, rel=0.15)
    steps = uncertainty(flips(200, 0, per_task=10), features, 0, samples=400, method="dirichlet").success
    assert (steps.high - steps.low)[0] == pytest.approx(spread / np.sqrt(10), rel=0.15)


def test_same_seed_same_bands_and_the_estimate_is_the_model_s() -> None:
    log = sample_log(random_world(np.random.default_rng(2)), 100, np.random.default_rng(3))
    one, two = (uncertainty(log, FEATURES, 2, samples=10, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.success.low, two.success.low)
    np.testing.assert_array_equal(one.help_share, two.help_share)
    model = estimate_mdp(log, FEATURES)
    plan = selfreg.solve(model.mdp, 2)
    np.testing.assert_allclose(one.success.estimate, model.success(plan))
    assert one.help_share.shape == (len(model.counts.keys), 3)
    assert not one.help_share[:, 0].any()
    assert not np.array_equal(one.success.low, uncertainty(log, FEATURES, 2, samples=10, seed=5).success.low)


def test_usage_never_passes_the_budget_and_time_limits_the_samples() -> None:
    log = sample_log(random_world(np.random.default_rng(2)), 60, np.random.default_rng(3))
    result = uncertainty(log, FEATURES, 2, samples=50, seconds=0.0)
    assert result.samples == 2
    assert np.all(result.help_share <= 1.0)
    usage = uncertainty(log, FEATURES, 2, samples=10).usage
    assert np.all(usage.high <= np.arange(3))
    assert np.all(usage.low <= usage.high)


@pytest.mark.parametrize("method", ["bootstrap", "dirichlet"])
def test_decisions_that_the_data_settle_are_settled(method) -> None:
    logs = flips(60, 1)
    logs += [Trajectory(f"t{i}", f"h{i}", 1.0, (Step("go", intervention="person"),)) for i in range(60)]
    result = uncertainty(logs, Features(["step"]), 1, method=method, samples=50)
    assert result.help_share.tolist() == [[0.0, 1.0]]
    assert result.usage.estimate.tolist() == [0.0, 1.0]


def test_optimism_is_found_where_help_is_worth_nothing() -> None:
    generator = np.random.default_rng(5)
    # Forty states of few visits, help as good as none: the plan takes noise for knowledge.
    logs = [
        Trajectory(
            f"t{i}",
            str(i),
            float(generator.random() < 0.5),
            (Step("go", intervention="person" if i % 2 else None),),
            fields={"kind": int(generator.integers(40))},
        )
        for i in range(400)
    ]
    result = cross_fit(logs, Features(["step", "kind"]), 1, splits=10)
    assert result.naive[1] > 0.58
    assert abs(result.crossed[1] - 0.5) < 0.06
    assert result.optimism[1] > 0.1
    assert abs(result.optimism[0]) < 0.02
    assert np.all(result.low <= result.crossed)
    assert np.all(result.crossed <= result.high)


def test_the_interval_is_for_what_the_plan_attains_and_optimism_is_taken_off() -> None:
    promised, corrected, within = [], [], []
    for seed in range(10):
        generator = np.random.default_rng([seed, 8])
        world = random_world(generator)
        log = sample_log(world, 200, generator)
        model = estimate_mdp(log, FEATURES)
        true = attained(world, model, selfreg.solve(model.mdp, 2).policy)[0]
        result = uncertainty(log, FEATURES, 2, samples=30, seed=seed)
        promised.append(result.success.estimate - true)
        corrected.append(result.corrected - true)
        within.append((result.success.low <= true) & (true <= result.success.high))
    assert np.mean(promised, axis=0)[1] > 0.03  # low-count rows: plans are optimistic
    assert np.mean(corrected, axis=0)[1] < np.mean(promised, axis=0)[1] - 0.03
    assert abs(np.mean(corrected, axis=0)[2]) < 0.07  # over so few worlds
    assert np.mean(within) > 0.6


def test_frontier_bands_hold_the_frontier_s_numbers() -> None:
    generator = np.random.default_rng(6)
    log = sample_log(random_world(generator), 300, generator)
    model = estimate_mdp(log, FEATURES)
    front = selfreg.frontier(model.mdp, model.start)
    bands = frontier_bands(log, FEATURES, [0.0, 0.7, 50.0], samples=10)
    for k, allowed in enumerate([0.0, 0.7, 50.0]):
        assert bands.success.estimate[k] == pytest.approx(front.at(allowed).success)
        assert bands.spent.estimate[k] == pytest.approx(front.at(allowed).usage)
    assert np.all(bands.success.low <= bands.success.high)
    assert bands.spent.low[0] == bands.spent.high[0] == 0.0
    with pytest.raises(ValueError, match="usage is -1"):
        frontier_bands(log, FEATURES, [-1.0], samples=2)


def test_calibrated_sets_promise_more_than_sets_for_every_row_and_still_less_than_the_plan() -> None:
    generator = np.random.default_rng(9)
    log = sample_log(random_world(generator), 400, generator)
    model = estimate_mdp(log, FEATURES)
    found = calibrated_l1(log, FEATURES, 2, samples=30)
    assert found.share >= 0.9
    plain, calibrated, strict = (
        model.success(selfreg.solve(model.mdp, 2, robust=sets))[2]
        for sets in (selfreg.L1(radius=0.0), found.sets, selfreg.L1(confidence=0.9))
    )
    assert strict < calibrated < plain
    with pytest.raises(ValueError, match="confidence is 1"):
        calibrated_l1(log, FEATURES, 2, confidence=1.0)


@pytest.mark.long
def test_intervals_cover_what_they_say() -> None:
    covered = []
    for seed in range(200):
        generator = np.random.default_rng([seed, 7])
        world = random_world(generator)
        log = sample_log(world, 1000, generator)
        model = estimate_mdp(log, FEATURES)
        true = attained(world, model, selfreg.solve(model.mdp, 2).policy)[0]
        band = uncertainty(log, FEATURES, 2, samples=60, seed=seed).success
        covered.append((band.low <= true) & (true <= band.high))
    share = np.mean(covered, axis=0)
    assert np.all(share >= 0.83), share  # 0.9 with three standard errors
    assert np.all(share <= 0.97), share


def test_bad_input_is_named() -> None:
    features = Features(["step"])
    with pytest.raises(ValueError, match=r"the episodes are of one task \('t0'\)"):
        uncertainty(flips(1, 0, per_task=5), features, 0)
    with pytest.raises(ValueError, match="confidence is 1"):
        uncertainty(flips(5, 0), features, 0, confidence=1.0)
    with pytest.raises(ValueError, match="method is 'jackknife'"):
        uncertainty(flips(5, 0), features, 0, method="jackknife")
    with pytest.raises(ValueError, match="samples is 1; expected 2"):
        uncertainty(flips(5, 0), features, 0, samples=1)
    with pytest.raises(ValueError, match="no two tasks share a state"):
        cross_fit(flips(5, 0), ExactKey(), 0)
    with pytest.raises(ValueError, match="kappa=1 needs a PRM"):
        uncertainty(flips(5, 0), features, 0, kappa=1.0)
