"""Figures of expected budgets: single points and whole frontiers against other ways to them, every answer checked.

Each ratio is taken within one run, all calls of an instance in turn; what is printed is the median over the runs. Times
are of whole calls on a validated model, from one start state, with one thread where the name says so.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

import selfreg
from benchmarks import expected_peers as peers
from benchmarks import instances
from benchmarks.expected_peers import Peer
from benchmarks.instances import Instance
from benchmarks.solver import (
    AT_LEAST,
    AT_MOST,
    QUICK_RUNS,
    RUNS,
    Figure,
    Target,
    interleaved,
    milliseconds,
    peak_of,
    print_growth,
    progress,
    ratio,
    show,
)
from selfreg.planning.frontiers import RewardSearch

BUDGET = 3.0
TOLERANCE, POINT = 1e-6, {"A": 1e-9, "B": 1e-8, "C": 1e-8}

# (instance, figure) -> target; figures without one are printed for information.
TARGETS = {
    ("A", f"one point, {peers.SCIPY.name}"): Target(AT_LEAST, 10),
    ("A", f"frontier to 1e-6, one point of {peers.SCIPY.name}"): Target(AT_LEAST, 1),
    ("A", "seconds for all vertices"): Target(AT_MOST, 5),
    ("B", f"one point, {peers.SCIPY_SWEEPS.name}"): Target(AT_LEAST, 10),
    ("C", f"one point, {peers.SCIPY.name}"): Target(AT_LEAST, 6),
    ("C", f"one point, {peers.STORM.name}"): Target(AT_LEAST, 100),
    ("C", "one point, memory / hard budgets 0..16"): Target(AT_MOST, 1.5),
    ("C", "frontier to 1e-3, memory / hard budgets 0..16"): Target(AT_MOST, 1.5),
}


def start_of(instance: Instance) -> int:
    """The middle of the first layer; state 0 where there are no layers."""
    return 0 if instance.layers is None else int(instance.layers[1]) // 2


def point(instance: Instance, n_threads: int | None = None) -> RewardSearch:
    """The call that is measured."""
    tol = POINT[instance.name]
    return selfreg.reward_search(instance.mdp, start_of(instance), BUDGET, tol=tol, n_threads=n_threads)


def points(instance: Instance, group: Sequence[Peer], runs: int) -> list[Figure]:
    """How many times faster one point is found than by each peer, with all threads and with one."""
    progress(instance.name)
    calls = {}
    for peer in group:
        try:
            calls[peer.name] = peer.prepare(instance, start_of(instance), BUDGET)
        except ImportError:
            continue
    ours = {"selfreg": lambda: point(instance), "selfreg, 1 thread": lambda: point(instance, 1)}
    seconds = interleaved({**ours, **calls}, runs)
    found, figures = point(instance), []
    for peer in group:
        for who, suffix in (("selfreg", ""), ("selfreg, 1 thread", ", 1 thread")):
            name = f"one point, {peer.name}{suffix}"
            if peer.name not in calls:
                figures.append(Figure(instance.name, name, None, "not installed"))
                continue
            difference, allowed = abs(calls[peer.name]() - found.mixture.success), peer.tolerance + found.gap
            check = f"differs by {difference:.0e}, allowed {allowed:.0e}, gap {found.gap:.0e}"
            right = difference <= allowed and found.gap <= POINT[instance.name]
            times = milliseconds(seconds, who, peer.name)
            figures.append(Figure(instance.name, name, ratio(seconds, peer.name, who), f"{times}; {check}", right))
    return figures


def whole(instance: Instance, peer: Peer, runs: int) -> Figure:
    """The whole frontier against one point of a peer; checked at points between the vertices of the exact one."""
    start = start_of(instance)
    calls = {
        "selfreg": lambda: selfreg.frontier(instance.mdp, start, tol=TOLERANCE),
        "peer": peer.prepare(instance, start, BUDGET),
    }
    seconds = interleaved(calls, runs)
    front, exact = (selfreg.frontier(instance.mdp, start, tol=tol) for tol in (TOLERANCE, 0))
    missed = float(np.max(exact.success - np.interp(exact.usage, front.usage, front.success)))
    check = f"{milliseconds(seconds, *calls)}; {len(front.usage)} vertices, misses {missed:.0e}, proven {front.gap:.0e}"
    right = -1e-12 <= missed <= front.gap <= TOLERANCE
    name = f"frontier to 1e-6, one point of {peer.name}"
    return Figure(instance.name, name, ratio(seconds, "peer"), check, right)


def vertices(instance: Instance) -> Figure:
    """All vertices, once; each the success and usage of a policy, checked by evaluating some."""
    begin = perf_counter()
    front = selfreg.frontier(instance.mdp, start_of(instance), tol=0)
    seconds = perf_counter() - begin
    chosen = np.linspace(0, len(front.usage) - 1, 9).astype(int)
    values = [
        selfreg.evaluate_policy(instance.mdp, front.at(front.usage[i]).policies[0], start_of(instance)) for i in chosen
    ]
    off = max(
        max(abs(value.success - front.success[i]), abs(value.usage[0] - front.usage[i]))
        for i, value in zip(chosen, values, strict=True)
    )
    check = f"{len(front.usage)} vertices; policies of 9 evaluated, off by {off:.0e}"
    return Figure(instance.name, "seconds for all vertices", seconds, check, off <= 1e-9 and front.gap <= 1e-12)


def memory() -> list[Figure]:
    """Peak memory on C in processes of their own."""
    names = ["one point", "frontier to 1e-3"]
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return [Figure("C", f"{name}, memory / hard budgets 0..16", None, "needs Linux's /proc") for name in names]
    peaks = {
        who: peak_of(f"from benchmarks.frontier import print_peak; print_peak({who!r})") for who in ("hard", *names)
    }
    return [
        Figure(
            "C",
            f"{name}, memory / hard budgets 0..16",
            peaks[name] / peaks["hard"],
            f"{peaks[name] / 1e6:.0f} against {peaks['hard'] / 1e6:.0f} MB beyond the model",
        )
        for name in names
    ]


def print_peak(who: str) -> None:
    """Print what `who` takes on C, policies of the point's mixture included."""
    calls: dict[str, Callable[[Instance], object]] = {
        "hard": lambda instance: selfreg.solve(instance.mdp, instance.budget),
        "one point": lambda instance: point(instance).policy,
        "frontier to 1e-3": lambda instance: selfreg.frontier(instance.mdp, start_of(instance), tol=1e-3),
    }
    calls[who](instances.layered("C", 2000, 40, budget=16))  # what is loaded on first use is not counted
    instance = instances.instance_c()
    gc.collect()
    print_growth(lambda: calls[who](instance))


def figures(quick: bool) -> list[Figure]:
    """All lines of the table; `quick` leaves out C, HiGHS and Storm and takes fewer runs."""
    runs = QUICK_RUNS if quick else RUNS
    a, b = instances.instance_a(), instances.instance_b()
    in_layers = [peers.SCIPY, peers.SCIPY_CUT, peers.SCIPY_READY]
    result = points(a, in_layers, runs)
    result += [whole(a, peer, runs) for peer in in_layers] + [vertices(a)]
    result += points(b, [peers.SCIPY_SWEEPS], 1 if quick else 3)
    if quick:
        return result
    result += points(a, [peers.STORM, peers.HIGHS], 1)
    c = instances.instance_c()
    return [*result, *points(c, in_layers, runs), *points(c, [peers.STORM], 1), *memory()]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table; exit with 1 if an answer is wrong (a missed target is only printed)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks frontier", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs, without C, Storm and HiGHS")
    quick = parser.parse_args(argv).quick
    show(figures(quick), TARGETS, QUICK_RUNS if quick else RUNS)
