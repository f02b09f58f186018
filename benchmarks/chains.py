"""Chains that leave slowly: seconds, bounds and errors on textbook walks and on random models with exact answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

import selfreg
from benchmarks.exact import ExactPolicy, exact_robust, exact_value, nasty_doubt, nasty_model

BUDGET = 4
# Rounding of what is exact up to rounding.
SLACK = 1e-13


class Line(NamedTuple):
    """One instance: seconds of `solve`, its bound, and the largest error of what is known exactly."""

    name: str
    seconds: float
    bound: float
    error: float


def steps_of_gambler(n: int, up: float) -> sp.csr_array:
    """Steps of a gambler with `n` states between ruin (first) and success (last)."""
    inner = np.arange(1, n + 1)
    data = np.concatenate([np.full(n, 1 - up), np.full(n, up)])
    return sp.csr_array((data, (np.tile(inner, 2), np.concatenate([inner - 1, inner + 1]))), shape=(n + 2, n + 2))


def gamblers_ruin(n: int) -> selfreg.InterventionMDP:
    """Fair steps alone, better ones with help; without help state k succeeds with probability k / (n + 1)."""
    matrices = {"nohelp": steps_of_gambler(n, 0.5), "help": steps_of_gambler(n, 0.6)}
    return selfreg.InterventionMDP(matrices, [0, *[np.nan] * n, 1], {"help": 1})


def grid_walk(side: int) -> selfreg.InterventionMDP:
    """A walk on a grid, left at one corner with probability 1/2 of success, or by help in the middle."""
    n = side * side
    x, y = np.divmod(np.arange(n), side)
    moves = ((0, 1), (1, 0), (0, -1), (-1, 0))
    heads = [np.clip(x + dx, 0, side - 1) * side + np.clip(y + dy, 0, side - 1) for dx, dy in moves]
    tails = np.tile(np.arange(n), 4)
    walk = sp.lil_array(sp.coo_array((np.full(4 * n, 0.25), (tails, np.concatenate(heads))), shape=(n + 2, n + 2)))
    walk[0] = 0
    walk[0, [n, n + 1]] = [0.5, 0.5]
    helped, middle = walk.copy(), n // 2 + side // 2
    helped[middle] = 0
    helped[middle, [n, n + 1]] = [0.8, 0.2]
    matrices = {"nohelp": sp.csr_array(walk), "help": sp.csr_array(helped)}
    return selfreg.InterventionMDP(matrices, [*[np.nan] * n, 1, 0], {"help": 1})


def timed(name: str, mdp: selfreg.InterventionMDP, alone: np.ndarray) -> Line:
    """Solve for budgets 0..BUDGET; `alone` (n,) is the exact value without help."""
    begin = perf_counter()
    solution = selfreg.solve(mdp, BUDGET)
    seconds = perf_counter() - begin
    return Line(name, seconds, solution.bound, float(np.abs(solution.value[:, 0] - alone).max()))


class Count(NamedTuple):
    """Random models: how many, wrong values, wrong policies, errors raised, and the slowest solution in seconds."""

    models: int
    wrong: int
    wrong_policies: int
    raised: int
    seconds: float


def compare_with_exact(models: int, seed: int, robust: bool = False) -> Count:
    """Solve random models, plain or under the worst rows, and compare values and policies with exact ones."""
    random, wrong, wrong_policies, raised, slowest = np.random.default_rng(seed), 0, 0, 0, 0.0
    for _ in range(models):
        mdp, (budget,) = nasty_model(random)
        doubt = nasty_doubt(random, mdp) if robust else None
        begin = perf_counter()
        try:
            solution = selfreg.solve(mdp, budget, robust=doubt.sets() if doubt else None)
        except selfreg.ConvergenceError:
            raised += 1
            continue
        slowest = max(slowest, perf_counter() - begin)
        if doubt:
            exact, attained = (exact_robust(mdp, (budget,), doubt, policy) for policy in (None, solution.policy))
        else:
            exact, attained = exact_value(mdp, (budget,)), ExactPolicy(mdp, solution.policy).success
        best, own = (
            np.array([[float(x) for x in by_point[(b,)]] for b in range(budget + 1)]).T
            for by_point in (exact, attained)
        )
        wrong += bool(np.abs(solution.value - best).max() > solution.bound + SLACK)
        wrong_policies += bool(np.abs(own - best).max() > solution.bound + SLACK)
    return Count(models, wrong, wrong_policies, raised, slowest)


def main(argv: Sequence[str] = ()) -> None:
    """Print the figures; exit 1 where an answer is outside of its bound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks chains", description=__doc__)
    parser.add_argument("--models", type=int, default=2000, help="random models (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(list(argv))
    selfreg.solve(gamblers_ruin(500), 1)  # imports what is imported when it is needed
    n, side = 4000, 100
    corner = np.concatenate([np.full(side * side, 0.5), [1.0, 0.0]])
    lines = [
        timed(f"gambler's ruin, {n} states", gamblers_ruin(n), np.arange(n + 2) / (n + 1)),
        timed(f"grid walk, {side} x {side}", grid_walk(side), corner),
    ]
    for line in lines:
        print(f"{line.name}, budgets 0..{BUDGET}: {line.seconds:.2f} s, bound {line.bound:.1e}, error {line.error:.1e}")
    wrong = any(line.error > line.bound + SLACK for line in lines)
    for kind, robust in (("random models", False), ("random models under the worst rows", True)):
        count = compare_with_exact(given.models, given.seed, robust)
        wrong = wrong or bool(count.wrong or count.wrong_policies)
        print(
            f"{count.models} {kind}: {count.wrong} values and {count.wrong_policies} policies outside of the bound, "
            f"{count.raised} not solved, slowest {count.seconds:.3f} s"
        )
    if wrong:
        sys.exit(1)
