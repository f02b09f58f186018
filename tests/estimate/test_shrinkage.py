"""Rows of help shrunk towards acting alone: worlds whose truth is known, few data, and what stays as counted."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg
from benchmarks.honesty import BUDGET, FEATURES, attained, random_world, sample_log
from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, Features, estimate_mdp
from selfreg.estimate.counts import count
from selfreg.estimate.shrinkage import nest_classes, prior_pseudo_counts

KINDS = Features(["step", "kind"])


def one_step(name: str, outcome: float, help_type: str | None, kind: int) -> Trajectory:
    return Trajectory(
        f"t{name}", f"{name}{help_type}", outcome, (Step("go", intervention=help_type),), fields={"kind": kind}
    )


def coin_flips(rates: dict[str | None, float], visits: dict[str | None, int], kinds: int) -> list[Trajectory]:
    """One step in each of some kinds of task: success by a coin, at a rate a help type."""
    draw = np.random.default_rng(0).random
    return [
        one_step(f"{kind}-{i}", float(draw() < rate), help_type, kind)
        for help_type, rate in rates.items()
        for kind in range(kinds)
        for i in range(visits[help_type])
    ]


def success_rates(model, help_type: str) -> np.ndarray:
    return model.mdp.transitions[help_type].toarray()[:-2, -2]


def test_plans_from_shrunk_rows_attain_more() -> None:
    regret = {True: [], False: []}
    for seed in range(25):
        generator = np.random.default_rng([seed, 31])
        world = random_world(generator)
        log = sample_log(world, 200, generator)
        best = world.start @ selfreg.solve(world.mdp, BUDGET).value
        for shrink, found in regret.items():
            model = estimate_mdp(log, FEATURES, shrink=shrink)
            found.append(best - attained(world, model, selfreg.solve(model.mdp, BUDGET).policy)[0])
    shrunk, counted = (np.mean(regret[how], axis=0)[1:] for how in (True, False))
    assert shrunk.mean() < 0.8 * counted.mean()
    assert np.all(shrunk < counted * 1.05)


def test_acting_alone_stays_as_counted() -> None:
    generator = np.random.default_rng(3)
    log = sample_log(random_world(generator), 200, generator)
    shrunk, counted = (estimate_mdp(log, FEATURES, shrink=how).mdp.transitions["nohelp"] for how in (True, False))
    assert (shrunk != counted).nnz == 0


def test_help_as_good_as_none_is_nearly_worth_nothing() -> None:
    # The best of two noisy rows in every one of thirty kinds: as counted, help seems to be worth much.
    logs = coin_flips({None: 0.5, "person": 0.5}, {None: 8, "person": 4}, 30)
    gain = {}
    for shrink in (True, False):
        model = estimate_mdp(logs, KINDS, shrink=shrink)
        gain[shrink] = np.diff(model.success(selfreg.solve(model.mdp, 1)))[0]
    assert gain[False] > 0.08
    assert gain[True] < 0.65 * gain[False]


def test_many_visits_outweigh_the_prior() -> None:
    logs = coin_flips({None: 0.5, "person": 0.9}, {None: 20, "person": 400}, 3)
    shrunk, counted = (success_rates(estimate_mdp(logs, KINDS, shrink=how), "person") for how in (True, False))
    np.testing.assert_allclose(shrunk, counted, atol=0.08)


def test_a_help_type_with_few_data_borrows_the_effect_of_the_others() -> None:
    logs = coin_flips({None: 0.3, "one": 0.8, "two": 0.8}, {None: 20, "one": 20, "two": 20}, 6)
    rare = [one_step(f"r{i}", float(i), "rare", 0) for i in range(2)]
    model = estimate_mdp(logs + rare, KINDS)
    row = success_rates(model, "rare")
    assert row[0] > 0.6  # one success of two, and alone .3
    assert model.mdp.available("rare")[:-2].all()  # in the kinds where other help was tried
    assert not estimate_mdp(logs + rare, KINDS, shrink=False).mdp.available("rare")[1:-2].any()


def test_exact_keys_and_single_features_are_counted() -> None:
    logs = coin_flips({None: 0.3, "person": 0.8}, {None: 5, "person": 5}, 2)
    for abstraction in (ExactKey(), Features(["step"])):
        one, other = (estimate_mdp(logs, abstraction, shrink=how).mdp.transitions["person"] for how in (True, False))
        assert (one != other).nnz == 0


def test_classes_that_no_episode_connects_lend_no_moves() -> None:
    logs = [
        Trajectory(f"{d}{i}", f"{d}{i}", float(i % 2), (Step("a"), Step("b", intervention="h")), fields={"domain": d})
        for d in ("x", "y")
        for i in range(4)
    ]
    features = Features(["step", "domain"])
    # Only the last steps, which end, are pooled.
    assert nest_classes(count(logs, features), features)[0].of.tolist() == [-1, 0, -1, 0]
    model = estimate_mdp(logs, features)
    other = [model.index[(1, "y")], model.index[(0, "y")]]
    for matrix in model.mdp.transitions.values():
        assert matrix.toarray()[model.index[(0, "x")], other] == pytest.approx([0.0, 0.0])


def test_classes_of_all_levels_are_nested() -> None:
    logs = [
        Trajectory(f"t{i}", str(i), 1.0, (Step("go"), Step(f"{'ab'[i % 2]} go")), fields={"kind": 0}) for i in range(4)
    ]
    features = Features(["step", "class", "kind"], {"a": "^a", "b": "^b"})
    nearest, wide = nest_classes(count(logs, features), features)
    assert (nearest.of == -1).all()  # one kind: no class of two
    assert sorted(wide.of.tolist()) == [-1, 0, 0]  # both classes of step 1


def test_logs_without_help_have_a_prior_of_acting_alone_only() -> None:
    logs = coin_flips({None: 0.5}, {None: 3}, kinds=2)
    counts = count(logs, KINDS)
    assert list(prior_pseudo_counts(counts, KINDS)) == ["nohelp"]
