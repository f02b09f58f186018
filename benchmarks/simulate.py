"""Steps a second of `selfreg.simulate` on instance A, checked against the exact value."""

from __future__ import annotations

import os
import statistics
import sys
import time

import numpy as np

import selfreg
from benchmarks.instances import instance_a
from selfreg.planning.simulation import Simulation, simulate
from selfreg.planning.usage import expected_usage

START, BUDGET = 250, 16  # the middle of the first layer
EPISODES, EPISODES_PYTHON, RUNS = 200_000, 2_000, 7


def _check(solution: selfreg.Solution, outcome: Simulation) -> None:
    value, usage = solution.value[START, BUDGET], expected_usage(solution)[START, BUDGET, 0]
    success_error = abs(outcome.success.mean() - value) / np.sqrt(value * (1 - value) / len(outcome.success))
    usage_error = abs(outcome.usage.mean() - usage) / (outcome.usage.std() / np.sqrt(len(outcome.usage)))
    print(f"success {outcome.success.mean():.5f} (exact {value:.5f}, {success_error:.1f} standard errors off)")
    print(f"usage {outcome.usage.mean():.4f} (exact {usage:.4f}, {usage_error:.1f} standard errors off)")
    if success_error > 5 or usage_error > 5:
        sys.exit("simulation and exact values disagree")


def main() -> None:
    """Print steps a second by implementation and threads; exit 1 where the answer is wrong."""
    mdp = instance_a().mdp
    solution = selfreg.solve(mdp, BUDGET)

    def run(episodes: int, n_threads: int, implementation: str) -> tuple[Simulation, float]:
        begin = time.perf_counter()
        outcome = simulate(
            mdp,
            solution.policy,
            START,
            episodes,
            budget=BUDGET,
            n_threads=n_threads,
            implementation=implementation,
        )
        return outcome, outcome.steps.sum() / (time.perf_counter() - begin)

    begin = time.perf_counter()
    outcome, _ = run(EPISODES, 1, "numba")
    print(f"first call, with compilation or the load of the cached kernel: {time.perf_counter() - begin:.2f} s")
    _check(solution, outcome)
    cases = {(n, "numba"): EPISODES for n in sorted({1, 2, os.cpu_count() or 1})} | {(1, "python"): EPISODES_PYTHON}
    speeds: dict[tuple[int, str], list[float]] = {case: [] for case in cases}
    for _ in range(RUNS):  # in turn, so that a drifting machine meets all alike
        for case, episodes in cases.items():
            speeds[case].append(run(episodes, *case)[1])
    for (n_threads, implementation), speed in speeds.items():
        print(f"{implementation}, {n_threads} thread(s): {statistics.median(speed) / 1e6:.2f} million steps/s")


if __name__ == "__main__":
    main()
