"""Pools of help: against enumeration of all splits, a naive recursion, and what must hold for any pool."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag
from scipy.optimize import linprog

import selfreg
from benchmarks import instances

# Eighths add up without rounding, so that ties are ties.
EIGHTHS = st.integers(-2, 8).map(lambda k: k / 8)
CURVES = st.lists(st.lists(EIGHTHS, min_size=1, max_size=4), min_size=1, max_size=4)


def enumeration(curves, total):
    """Best split by trying all: most success, then least spent, then least to the last task, to the last but one..."""
    splits = (split for split in product(*(range(len(curve)) for curve in curves)) if sum(split) <= total)
    worth = {split: sum(curve[b] for curve, b in zip(curves, split, strict=True)) for split in splits}
    return max(worth, key=lambda split: (worth[split], -sum(split), [-b for b in split[::-1]])), max(worth.values())


def recursion(curves, total):
    """Most success by at most `total` units, task after task, unit after unit."""
    best = [0.0] * (total + 1)
    for curve in curves:
        best = [max(best[t - b] + v for b, v in enumerate(curve) if b <= t) for t in range(total + 1)]
    return best[total]


@given(curves=CURVES, total=st.integers(0, 13), copies=st.integers(1, 3))
def test_split_is_that_of_enumeration(curves, total, copies) -> None:
    curves = (curves * copies)[:4]
    split = selfreg.allocate(curves, total)
    share, best = enumeration(curves, total)
    assert split.share.tolist() == list(share)
    assert split.total_success == best
    assert split.success.tolist() == [curve[b] for curve, b in zip(curves, share, strict=True)]
    assert split.bound >= best
    assert split.penalty >= 0.0
    assert split.baseline_share.sum() <= total
    assert split.baseline_success.tolist() == [c[b] for c, b in zip(curves, split.baseline_share, strict=True)]
    assert best >= split.baseline_total_success


def random_curves(kind: str, random: np.random.Generator, n: int, width: int) -> np.ndarray:
    draws = np.sort(random.random((n, width)), axis=1)
    if kind == "concave":
        return np.cumsum(draws[:, ::-1], axis=1)
    if kind == "convex, a few kinds":
        return (np.arange(width) / (width - 1)) ** random.choice([1.5, 2.0, 3.0], (n, 1))
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-(np.arange(width) - random.uniform(0, width, (n, 1)))))
    return draws if kind == "increasing" else random.random((n, width))


KINDS = ("concave", "increasing", "any", "sigmoid", "convex, a few kinds")


@pytest.mark.parametrize("kind", KINDS)
def test_value_is_that_of_the_recursion(kind) -> None:
    random = np.random.default_rng(1)
    for _ in range(40):
        n, width = int(random.integers(1, 25)), int(random.integers(1, 9))
        curves = random_curves(kind, random, n, max(width, 2))
        total = int(random.integers(0, n * width + 2))
        split = selfreg.allocate(curves, total)
        assert split.share.sum() <= total
        assert split.total_success == pytest.approx(recursion(curves.tolist(), total), rel=0, abs=1e-12)
        assert split.total_success <= split.bound + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_more_never_hurts_and_a_unit_is_worth_the_penalty_at_most(kind) -> None:
    curves = random_curves(kind, np.random.default_rng(2), 12, 6)
    splits = [selfreg.allocate(curves, total) for total in range(75)]
    successes = np.array([split.total_success for split in splits])
    assert np.all(np.diff(successes) >= -1e-12)
    for total, split in enumerate(splits):
        worth = split.bound + split.penalty * (np.arange(75) - total)
        assert np.all(successes <= worth + 1e-9)  # one price bounds every pool from above
        assert split.total_success >= split.baseline_total_success
    assert splits[-1].penalty == 0.0
    assert splits[-1].total_success == pytest.approx(curves.max(axis=1).sum())


def test_order_of_the_tasks_does_not_matter() -> None:
    random = np.random.default_rng(3)
    curves = random_curves("increasing", random, 60, 7)
    order = random.permutation(60)
    one, other = selfreg.allocate(curves, 101), selfreg.allocate(curves[order], 101)
    assert one.share[order].tolist() == other.share.tolist()
    assert one.total_success == pytest.approx(other.total_success, rel=0, abs=1e-12)


def test_concave_shortcut_is_the_dynamic_programme() -> None:
    curves = random_curves("concave", np.random.default_rng(4), 300, 9)
    # A curve that is not concave and of no use sends the same tasks through the dynamic programme.
    spoiler = [0.0, -1.0, 0.0, 1e-3]
    for total in (0, 1, 777, 1200):
        plain, programme = selfreg.allocate(curves, total), selfreg.allocate([*curves, spoiler], total)
        assert plain.share.tolist() == programme.share[:-1].tolist()
        assert plain.total_success == pytest.approx(plain.bound, rel=1e-12)


def test_whole_units_are_dear_where_help_comes_in_lumps() -> None:
    split = selfreg.allocate(np.tile([0, 0, 0, 1.0], (4, 1)), total=8)
    assert split.share.tolist() == [3, 3, 0, 0]
    assert split.penalty == pytest.approx(1 / 3)
    assert split.bound == pytest.approx(8 / 3)
    assert split.baseline_share.tolist() == [2, 2, 2, 2]
    assert split.baseline_total_success == 0.0
    assert selfreg.allocate(np.tile([0, 0, 0, 1.0], (3, 1)), total=5).baseline_share.tolist() == [2, 2, 1]


def test_solutions_with_their_starts() -> None:
    models = [instance.mdp for instance in instances.instance_m(n_models=6)]
    starts = [0, 5, np.full(202, 1 / 202), 3, 7, 19]
    solutions = [selfreg.solve(mdp, 8) for mdp in models]
    kept = [selfreg.solve(mdp, 8, keep="start", start=s) for mdp, s in zip(models, starts, strict=True)]
    split = selfreg.allocate(list(zip(solutions, starts, strict=True)), 11)
    assert split.share.sum() == 11
    np.testing.assert_allclose(split.success, [k.value[b] for k, b in zip(kept, split.share, strict=True)], atol=1e-12)
    assert split.total_success == pytest.approx(recursion([k.value for k in kept], 11), abs=1e-12)
    assert split.share.tolist() == selfreg.allocate([*kept[:3], *(k.value for k in kept[3:])], 11).share.tolist()
    assert split.total_success >= split.baseline_total_success


@pytest.fixture(scope="module")
def models() -> list[selfreg.InterventionMDP]:
    layered = [instance.mdp for instance in instances.instance_m(n_models=5)]
    return [*layered, instances.cyclic("cyclic", 12, budget=3).mdp]


@pytest.fixture(scope="module")
def fronts(models):
    return [selfreg.frontier(mdp, start=0, tol=0) for mdp in models]


def segments_program(fronts, total: float) -> float:
    """Most success by a mixture of vertices a task whose mean usages add up to `total` at most."""
    answer = linprog(
        -np.concatenate([front.success for front in fronts]),
        A_ub=[np.concatenate([front.usage for front in fronts])],
        b_ub=[min(total, 1e6)],
        A_eq=block_diag(*(np.ones(len(front.usage)) for front in fronts)),
        b_eq=np.ones(len(fronts)),
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return -answer.fun


TOTALS = (0.0, 0.4, 1.0, 3.7, 9.0, np.inf)


@pytest.mark.parametrize("total", TOTALS)
def test_split_in_expectation_is_that_of_the_linear_program(fronts, total) -> None:
    split = selfreg.allocate(fronts, total)
    assert split.total_success == pytest.approx(segments_program(fronts, total), rel=0, abs=1e-8)
    assert split.share.sum() <= total + 1e-9
    assert split.share.sum() == pytest.approx(min(total, sum(front.usage[-1] for front in fronts)))
    found = [front.at(share).success for front, share in zip(fronts, split.share, strict=True)]
    np.testing.assert_allclose(split.success, found, rtol=0, atol=1e-9)
    assert split.total_success >= split.baseline_total_success - 1e-12
    assert split.bound == pytest.approx(split.total_success, rel=0, abs=1e-7)
    cut = [np.abs(front.usage - share).min() > 1e-9 for front, share in zip(fronts, split.share, strict=True)]
    assert sum(cut) <= 1


@pytest.mark.parametrize("total", TOTALS)
def test_one_penalty_is_a_slope_of_every_frontier_at_its_share(fronts, total) -> None:
    split = selfreg.allocate(fronts, total)
    for front, share in zip(fronts, split.share, strict=True):
        for u, success in zip(front.usage, front.success, strict=True):
            at_share = np.interp(share, front.usage, front.success)
            assert success - split.penalty * u <= at_share - split.penalty * share + 1e-9


def test_a_pool_in_expectation_is_concave_and_above_whole_units(models, fronts) -> None:
    curves = [selfreg.solve(mdp, 6, keep="start", start=0) for mdp in models]
    means = [selfreg.allocate(fronts, total).total_success for total in range(12)]
    units = [selfreg.allocate(curves, total).total_success for total in range(12)]
    assert np.all(np.diff(means) >= -1e-12)
    assert np.all(np.diff(means, 2) <= 1e-9)
    assert np.all(np.array(means) >= np.array(units) - 1e-9)
    assert means[0] == pytest.approx(units[0], abs=1e-9)


def test_copies_of_a_task_are_worth_what_the_same_for_each_is(fronts) -> None:
    for total in (0.3, 1.1, 2.0):
        split = selfreg.allocate([fronts[0]] * 4, total)
        assert split.total_success == pytest.approx(4 * fronts[0].at(total / 4).success)
        assert split.baseline_total_success == pytest.approx(split.total_success)


def test_kinds_do_not_mix(fronts) -> None:
    with pytest.raises(TypeError, match=r"items\[1\] and items\[0\] are of different kinds"):
        selfreg.allocate([fronts[0], [0.5, 0.6]], 1)
    with pytest.raises(TypeError, match=r"items\[2\] and items\[0\] are of different kinds"):
        selfreg.allocate([[0.5, 0.6], [0.5], fronts[0]], 1)


def test_thousands_of_tasks() -> None:
    curves = random_curves("sigmoid", np.random.default_rng(5), 5000, 17)
    split = selfreg.allocate(curves, 30_000)
    assert split.share.sum() <= 30_000
    assert split.bound - 1e-3 <= split.total_success <= split.bound
    assert split.total_success > 1.2 * split.baseline_total_success


def test_the_rows_of_a_data_frame_are_tasks() -> None:
    pandas = pytest.importorskip("pandas")
    split = selfreg.allocate(pandas.DataFrame([[0, 0.5], [0, 0.7]], columns=["none", "one"]), 1)
    assert (split.share.tolist(), split.total_success) == ([0, 1], 0.7)


def solution(n_budgets: int = 1) -> selfreg.Solution:
    half, sure = np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]]), np.array([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": half, "help": sure}, [np.nan, 1, 0], {"help": (1,) * n_budgets})
    return selfreg.solve(mdp, (1,) * n_budgets)


@pytest.mark.parametrize(
    ("items", "total", "error", "message"),
    [
        ([], 1, ValueError, "items is empty"),
        ([np.ma.masked_array([0, 0.5], [0, 1])], 1, TypeError, r"items\[0\] is a masked array"),
        (np.ma.masked_array([[0, 0.5]], [[0, 1]]), 1, TypeError, r"items\[0\] is a masked array"),
        ([[0, [0.5]]], 1, ValueError, r"items\[0\] has rows of different lengths"),
        (5, 1, TypeError, "items is a int; expected a sequence"),
        ([0.5, 0.7], 1, ValueError, r"items\[0\] has shape \(\); expected \(budget \+ 1,\)"),
        ([[0.5], []], 1, ValueError, r"items\[1\] has shape \(0,\)"),
        ([[0.5], [0.5, np.nan]], 1, ValueError, r"items\[1\]\[1\] is nan; expected finite"),
        ([["a", "b"]], 1, TypeError, r"items\[0\] is a list of dtype <U1; expected a Frontier"),
        ([solution()], 1, TypeError, r"items\[0\] is a Solution; expected it with its start"),
        ((solution(), 0), 1, TypeError, r"items\[0\] is a Solution; expected it with its start"),
        ([(solution(), 0, 1)], 1, TypeError, r"items\[0\] is a tuple of 3"),
        ([(solution(), 9)], 1, ValueError, "start is 9; expected a state 0..2"),
        ([(solution(2), 0)], 1, ValueError, r"items\[0\] has shape \(2, 2\).* one budget"),
        ([[0.5, 0.7]], -1, ValueError, "total is -1; expected a number >= 0"),
        ([[0.5, 0.7]], np.nan, ValueError, "total is nan"),
        ([[0.5, 0.7]], 1.5, TypeError, "total is 1.5; expected an int >= 0"),
        ([[0.5, 0.7]], "many", TypeError, "total is 'many'; expected a number"),
        ([[0.5, 0.7]], (1, 2), TypeError, r"total is \(1, 2\); expected a number"),
    ],
)
def test_bad_input_is_named(items, total, error, message) -> None:
    with pytest.raises(error, match=message):
        selfreg.allocate(items, total)
