"""Robust values on chains that leave slowly or hardly ever: within the bound of exact ones, in bounded time."""

from __future__ import annotations

import time

import numpy as np
import pytest

import selfreg
from benchmarks.chains import compare_with_exact
from benchmarks.exact import Doubt, exact_robust, nasty_doubt, nasty_model

SLACK = 1e-13  # rounding of what is exact up to rounding


def check(mdp: selfreg.InterventionMDP, budget: int, doubt: Doubt, implementation: str | None = None) -> None:
    solution = selfreg.solve(mdp, budget, robust=doubt.sets(), implementation=implementation)
    exact, attained = (
        np.array([[float(x) for x in by_point[(b,)]] for b in range(budget + 1)]).T
        for by_point in (exact_robust(mdp, (budget,), doubt, policy) for policy in (None, solution.policy))
    )
    assert solution.bound <= 1e-9
    assert np.abs(solution.value - exact).max() <= solution.bound + SLACK
    assert np.abs(attained - exact).max() <= solution.bound + SLACK


def test_nasty_random_models(implementation) -> None:
    random = np.random.default_rng(0)
    for _ in range(60 if implementation == "cython" else 6):
        mdp, (budget,) = nasty_model(random)
        begin = time.process_time()
        check(mdp, budget, nasty_doubt(random, mdp), implementation)
        assert time.process_time() - begin < 10  # milliseconds on a free core


@pytest.mark.long
def test_many_nasty_random_models() -> None:
    count = compare_with_exact(5000, 1, robust=True)
    assert (count.wrong, count.wrong_policies, count.raised) == (0, 0, 0)


@pytest.mark.parametrize("size", [0.1, 1e-9, 1e-20])
@pytest.mark.parametrize("intervals", [False, True])
def test_doubt_about_help_alone_while_acting_alone_never_ends(size, intervals, implementation) -> None:
    back = np.array([[0, 1.0, 0, 0], [1.0, 0, 0, 0], [0] * 4, [0] * 4])
    loop = np.array([[0, 1.0, 0, 0], [0.5, 0, 0.5, 0], [0] * 4, [0] * 4])
    for cost in (0, 1):
        mdp = selfreg.InterventionMDP({"nohelp": back, "help": loop}, [np.nan, np.nan, 1, 0], {"help": cost})
        sizes = {"nohelp": np.zeros(4), "help": np.array([size, size, 0, 0])}
        check(mdp, 2, Doubt(sizes, intervals), implementation)


@pytest.mark.parametrize(
    "doubt", [{"nohelp": [0, 0.5, 0, 0, 0], "back": 0.0}, {"nohelp": [0, 0, 1e-20, 0, 0], "back": 0.0}]
)
def test_free_help_that_only_leads_to_where_the_chain_is_left(doubt, implementation) -> None:
    rows, back = np.zeros((2, 5, 5))
    rows[0, 2:] = 1 - 2e-13, 1e-13, 1e-13
    rows[1, 4] = rows[2, 1] = 1  # alone, state 1 fails
    back[0, 1] = back[1, 0] = 1
    mdp = selfreg.InterventionMDP({"nohelp": rows, "back": back}, [np.nan] * 3 + [1, 0], {"back": 0})
    solution = selfreg.solve(mdp, 1, robust=selfreg.L1(radius=doubt), implementation=implementation)
    assert solution.policy[:3].tolist() == [[0, 0], [1, 1], [0, 0]]


def test_rows_that_add_up_to_more_than_one_by_rounding() -> None:
    rows = np.array([[0, 1 + 2**-52, 0, 0], [1, 0, 1e-24, 1e-24], [0] * 4, [0] * 4])
    mdp = selfreg.InterventionMDP({"nohelp": rows}, [np.nan, np.nan, 1, 0], {})
    for intervals in (False, True):
        check(mdp, 0, Doubt({"nohelp": np.array([0, 1e-25, 0, 0])}, intervals))


def test_a_closed_pair_is_worth_nothing(implementation) -> None:
    rows = np.array([[0, 1.0, 0, 0], [1.0, 0, 0, 0], [0] * 4, [0.5, 0, 0.25, 0.25]])
    mdp = selfreg.InterventionMDP({"nohelp": rows}, [np.nan, np.nan, 1, np.nan], {})
    sets = selfreg.L1(radius={"nohelp": [0, 0, 0, 1e-6]})
    solution = selfreg.solve(mdp, 1, robust=sets, implementation=implementation)
    assert solution.value[:2].tolist() == [[0.0, 0.0]] * 2
    assert solution.value[3] == pytest.approx((0.25 - 0.5e-6) / 0.75, abs=1e-12)


def test_rows_of_terminal_states_play_no_part() -> None:
    rows = np.array([[0.9, 0, 0, 0.1], [0] * 4, [0] * 4, [0.3, 0, 0.3, 0.4]])
    mdp = selfreg.InterventionMDP({"nohelp": rows}, [np.nan, 0, 1, 0], {})
    solution = selfreg.solve(mdp, 0, robust=selfreg.L1(radius=1e-12))
    assert solution.value[:, 0].tolist() == [0.0, 0.0, 1.0, 0.0]


def _dense(n: int, leak: float) -> np.ndarray:
    random = np.random.default_rng(0)
    rows = np.zeros((n + 2, n + 2))
    rows[:n, :n] = random.random((n, n))
    rows[0, n], rows[1, n + 1] = leak * n, leak * n
    rows[:n] /= rows[:n].sum(axis=1, keepdims=True)
    return rows


@pytest.mark.parametrize("leak", [1e-3, 1e-6, 1e-9])
def test_a_dense_component(leak) -> None:
    n = 200
    mdp = selfreg.InterventionMDP({"nohelp": _dense(n, leak)}, [*[np.nan] * n, 1, 0], {})
    plain = selfreg.solve(mdp, 0).value
    for sets in (selfreg.L1(radius=leak / n**2), selfreg.Intervals(width=leak / n**2)):
        begin = time.process_time()
        solution = selfreg.solve(mdp, 0, robust=sets)
        assert time.process_time() - begin < 10  # some tenths of a second on a free core
        assert solution.bound <= 1e-9
        assert np.all(solution.value <= plain + solution.bound + 1e-9)
        # What is lost in a step, times the steps, which are fewer than 2 n / leak.
        assert np.all(solution.value >= plain - 2 / n)


def test_what_cannot_be_proven_is_an_error() -> None:
    n = 400
    mdp = selfreg.InterventionMDP({"nohelp": _dense(n, 1e-25)}, [*[np.nan] * n, 1, 0], {})
    radius = np.zeros(n + 2)
    radius[0] = 1e-20
    begin = time.process_time()
    with pytest.raises(selfreg.ConvergenceError, match="some states hardly ever leave") as raised:
        selfreg.solve(mdp, 0, robust=selfreg.L1(radius={"nohelp": radius}))
    assert time.process_time() - begin < 60  # about a second on a free core
    assert raised.value.bound == 1.0
