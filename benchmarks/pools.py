"""Several budgets (`constrained`) and one pool for many tasks (`allocate`) against other ways, answers checked."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

import selfreg
from benchmarks import instances
from benchmarks.instances import Floats, Instance
from benchmarks.solver import Figure, interleaved, milliseconds, progress, ratio, table

RUNS = 5
N_TASKS, UNITS = 1_000, 16
# HiGHS's own tolerances: of a mixed-integer optimum (relative gap), and of a linear program's.
MIP_GAP, LP_ERROR = 1e-9, 1e-7


# Curves --------------------------------------------------------------------------------------------------------------


def curves(kind: str, n_tasks: int = N_TASKS, units: int = UNITS, seed: int = 0) -> Floats:
    """Success of every task by units of help.

    "sigmoid": every task has a threshold and a steepness of its own; help that comes too short is nearly wasted.
    "three kinds": only three different curves, none of them concave anywhere: the relaxation rules out least.
    """
    random, unit = np.random.default_rng(seed), np.arange(units + 1)
    if kind == "sigmoid":
        middle, steepness = random.uniform(1, units, (n_tasks, 1)), random.uniform(0.3, 3, (n_tasks, 1))
        return 1 / (1 + np.exp(-steepness * (unit - middle)))
    powers: Floats = (unit / units) ** random.choice([1.5, 2.0, 3.0], (n_tasks, 1))
    return powers


def programme(success: Floats, total: int) -> float:
    """Dynamic programming over all tasks, shares and pools; value only."""
    best = np.zeros(total + 1)
    for curve in success:
        after = best + curve[0]
        for b in range(1, len(curve)):
            np.maximum(after[b:], best[:-b] + curve[b], out=after[b:])
        best = after
    return float(best[total])


def highs_choices(success: Floats, total: int) -> Callable[[], float]:
    """Mixed-integer program with a binary a task and share."""
    n, width = success.shape
    one_each = sp.kron(sp.eye_array(n), np.ones((1, width)), format="csr")
    spent = np.tile(np.arange(width), n)[None]
    constraints = [LinearConstraint(one_each, 1, 1), LinearConstraint(spent, 0, total)]
    options = {"mip_rel_gap": MIP_GAP}

    def call() -> float:
        answer = milp(
            -success.ravel(),
            constraints=constraints,
            integrality=np.ones(success.size),
            bounds=Bounds(0, 1),
            options=options,
        )
        return float(-answer.fun)

    return call


def whole_units(kind: str) -> list[Figure]:
    """`allocate` on curves."""
    name = f"{N_TASKS} {kind}"
    progress(name)
    success, total = curves(kind), N_TASKS * UNITS // 3
    split = selfreg.allocate(success, total)
    peers: dict[str, Callable[[], float]] = {"dynamic programme": lambda: programme(success, total)}
    if kind == "sigmoid":  # on curves of few kinds HiGHS does not end
        peers["HiGHS, integer"] = highs_choices(success, total)
    seconds = interleaved({"selfreg": lambda: selfreg.allocate(success, total), **peers}, RUNS)
    figures = []
    for peer, call in peers.items():
        difference = abs(call() - split.total_success)
        allowed = 1e-9 + (MIP_GAP * split.total_success if "HiGHS" in peer else 0.0)
        times = milliseconds(seconds, "selfreg", peer)
        gain = f"{split.baseline_total_success:.0f} succeed where each has the same, {split.total_success:.0f} split"
        check = f"{times}; differs by {difference:.0e}, allowed {allowed:.0e}; {gain}"
        figures.append(Figure(name, peer, ratio(seconds, peer), check, difference <= allowed))
    return figures


# Several budgets -----------------------------------------------------------------------------------------------------


def with_person(instance: Instance, seed: int = 0) -> selfreg.InterventionMDP:
    """The instance's model and a person with a budget of their own: helps as help does, or at once to success."""
    n, random = instance.mdp.n_states, np.random.default_rng(seed)
    done = np.where(instance.mdp.terminal, 0.0, 0.1 * random.random(n))
    at_once = sp.csr_array((done, (np.arange(n), np.full(n, n - 2))), shape=(n, n))
    transitions = instance.transitions | {"person": sp.diags_array(1 - done) @ instance.transitions["help"] + at_once}
    return selfreg.InterventionMDP(transitions, instance.terminal_value, {"help": (1, 0), "person": (0, 1)})


def occupancy(mdp: selfreg.InterventionMDP, start: int, limits: Sequence[float]) -> Callable[[], float]:
    """Linear program over expected visits of states and actions, a row more for every budget."""
    live = np.flatnonzero(~mdp.terminal)
    leaves = sp.eye_array(mdp.n_states, format="csr")[live]
    value = np.nan_to_num(mdp.terminal_value)
    flow = sp.hstack([(leaves - mdp.transitions[name][live])[:, live].T for name in mdp.actions], format="csr")
    reward = np.concatenate([mdp.transitions[name][live] @ value for name in mdp.actions])
    spent = np.repeat(mdp.cost_table, len(live), axis=0).T
    begin = (live == start).astype(float)

    def call() -> float:
        answer = linprog(-reward, A_ub=spent, b_ub=limits, A_eq=flow, b_eq=begin, method="highs-ipm")
        return float(-answer.fun)

    return call


def several_budgets(n_states: int) -> list[Figure]:
    """`constrained` on A with two helpers."""
    instance = instances.instance_a(n_states=n_states)
    name = f"A, {n_states} states, 2 budgets"
    progress(name)
    mdp, start, limits = with_person(instance), n_states // 80, (3.0, 0.5)
    peer = occupancy(mdp, start, limits)
    best = selfreg.constrained(mdp, start, limits)
    seconds = interleaved({"selfreg": lambda: selfreg.constrained(mdp, start, limits), "HiGHS": peer}, RUNS)
    difference = abs(peer() - best.success)
    allowed = best.bound + LP_ERROR
    times = milliseconds(seconds, "selfreg", "HiGHS")
    check = (
        f"{times}; success {best.success:.9f}, gap {best.bound:.0e}; differs by {difference:.0e}, allowed {allowed:.0e}"
    )
    return [Figure(name, "HiGHS", ratio(seconds, "HiGHS"), check, difference <= allowed)]


def main() -> None:
    """Print the table; exit with 1 if an answer is wrong."""
    lines = whole_units("sigmoid") + whole_units("three kinds") + several_budgets(2_000)
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores"
    print(f"selfreg {selfreg.__version__}, {versions}; median of {RUNS} runs; ratios: times faster than the peer")
    print(table(lines))
    if not all(figure.right for figure in lines):
        sys.exit(1)
