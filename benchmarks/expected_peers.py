"""What else finds the best for an expected budget: scipy's search over the price of help, Storm's `multi`, HiGHS.

As in `peers`, `prepare` does what is not timed and returns the call that is: it gives the success at the budget.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from benchmarks.instances import Instance
from benchmarks.peers import _drn, _slices

Call = Callable[[], float]
Evaluate = Callable[[float], tuple[float, float]]
STORM_PRECISION = 1e-8


class Peer(NamedTuple):
    """Another way to one point of the frontier.

    Attributes
    ----------
    name : str
    prepare : callable
        Instance, start state and expected budget in, timed call out; ImportError where the package is not installed.
    tolerance : float
        How far from the truth the peer's own stopping rule leaves it.
    """

    name: str
    prepare: Callable[[Instance, int, float], Call]
    tolerance: float


# scipy ---------------------------------------------------------------------------------------------------------------


def secant(evaluate: Evaluate, budget: float, tol: float) -> float:
    """Success at `budget`, by evaluations at one price after the other: the slope between the points around the budget.

    It ends where these are neighbours, or nothing above their segment is left by more than `tol`.
    """
    low, high = 0.0, 1.0
    more, less = evaluate(low), evaluate(high)
    while True:
        slope = (more[0] - less[0]) / (more[1] - less[1])
        chord = less[0] + slope * (budget - less[1])
        if min((high - slope) * (budget - less[1]), (slope - low) * (more[1] - budget)) <= tol:
            return chord
        point = evaluate(slope)
        if point[0] - slope * point[1] <= less[0] - slope * less[1] + 1e-14:
            return chord
        if point[1] >= budget:
            low, more = slope, point
        else:
            high, less = slope, point


def scipy_layers(rows_of: Callable[[Instance], Any], tol: float, instance: Instance, start: int, budget: float) -> Call:
    """A search whose evaluations go through the layers from the last to the first, value and usage as vectors."""
    terminal = np.flatnonzero(~np.isnan(instance.terminal_value))
    cut = rows_of(instance)

    def evaluate(price: float) -> tuple[float, float]:
        value, usage = np.zeros(len(instance.terminal_value)), np.zeros(len(instance.terminal_value))
        value[terminal] = instance.terminal_value[terminal]
        for begin, end, alone, helped in cut if isinstance(cut, list) else rows_of(instance):
            without, with_help = alone @ value, helped @ value - price
            asks = with_help > without
            value[begin:end] = np.where(asks, with_help, without)
            usage[begin:end] = np.where(asks, helped @ usage + 1, alone @ usage)
        return float(value[start] + price * usage[start]), float(usage[start])

    return lambda: secant(evaluate, budget, tol)


def sliced(instance: Instance) -> Iterator[Any]:
    """Layers cut out as anyone would, `matrix[begin:end]`, which copies."""
    assert instance.layers is not None
    for begin, end in reversed(list(pairwise(instance.layers.tolist()))):
        yield begin, end, *(matrix[begin:end] for matrix in instance.transitions.values())


def ready(instance: Instance) -> list[Any]:
    """Layers cut out once, beforehand."""
    return list(_slices(instance))


def scipy_sweeps(instance: Instance, start: int, budget: float, tolerance: float = 1e-7) -> Call:
    """A search whose evaluations sweep the value, from that of the price before, then the usage of its policy."""
    alone, helped = instance.transitions["nohelp"], instance.transitions["help"]
    terminal = ~np.isnan(instance.terminal_value)

    def solve() -> float:
        current = np.where(terminal, np.nan_to_num(instance.terminal_value), 0.0)

        def evaluate(price: float) -> tuple[float, float]:
            nonlocal current
            change = np.inf
            while change > tolerance:
                following = np.maximum(alone @ current, helped @ current - price)
                following[terminal] = instance.terminal_value[terminal]
                change, current = float(np.max(np.abs(following - current))), following
            asks = (helped @ current - price > alone @ current) & ~terminal
            chosen = sp.csr_array(sp.diags_array((~asks).astype(float)) @ alone + sp.diags_array(asks * 1.0) @ helped)
            usage, change = np.zeros(len(current)), np.inf
            while change > tolerance:
                following = asks + chosen @ usage
                change, usage = float(np.max(np.abs(following - usage))), following
            return float(current[start] + price * usage[start]), float(usage[start])

        return secant(evaluate, budget, 10 * tolerance)

    return solve


# Storm, HiGHS --------------------------------------------------------------------------------------------------------


def storm_multi(instance: Instance, start: int, budget: float) -> Call:
    """`multi(Pmax=? [F "success"], R{"help"}<=C [C])` at `STORM_PRECISION`; the model is built beforehand."""
    stormpy = import_module("stormpy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.drn")
        path.write_text(_drn(instance, start))
        model = stormpy.build_model_from_drn(str(path))
    formula = stormpy.parse_properties(f'multi(Pmax=? [F "success"], R{{"help"}}<={budget} [C])')[0]
    environment = stormpy.Environment()
    environment.modelchecker().multi().precision = stormpy.Rational(STORM_PRECISION)
    arguments = {"only_initial_states": True, "environment": environment}
    return lambda: float(stormpy.model_checking(model, formula, **arguments).get_value(start))


def highs(instance: Instance, start: int, budget: float) -> Call:
    """The linear program of occupancy measures: how often each action is taken in each state, or waiting begins."""
    live = np.flatnonzero(np.isnan(instance.terminal_value))
    ends = np.flatnonzero(~np.isnan(instance.terminal_value))
    matrices = [matrix[live] for matrix in instance.transitions.values()]
    one = sp.eye_array(len(live))
    flow = sp.csr_array(sp.hstack([*(one - matrix[:, live].T for matrix in matrices), one]))
    nothing = np.zeros(len(live))
    gain = np.concatenate([*(matrix[:, ends] @ instance.terminal_value[ends] for matrix in matrices), nothing])
    spent = np.concatenate([nothing, np.ones(len(live)), nothing])[None]
    arriving = (live == start).astype(np.float64)

    def solve() -> float:
        result = linprog(-gain, A_ub=spent, b_ub=[budget], A_eq=flow, b_eq=arriving, method="highs-ds")
        return float(-result.fun)

    return solve


def rows_without_copies(instance: Instance) -> Iterator[Any]:
    """Layers cut out in every evaluation without copying an entry, as in the solver's table."""
    yield from _slices(instance)


EXACT = 1e-9
SCIPY = Peer("scipy, rows sliced", partial(scipy_layers, sliced, EXACT), EXACT)
SCIPY_CUT = Peer("scipy, rows cut without copying", partial(scipy_layers, rows_without_copies, EXACT), EXACT)
SCIPY_READY = Peer("scipy, rows ready", partial(scipy_layers, ready, EXACT), EXACT)
# The last change times .99 / (1 - .99), the contraction of B, in value; more in usage.
SCIPY_SWEEPS = Peer("scipy to 1e-7, no proof", scipy_sweeps, 2e-5)
STORM = Peer("Storm, multi to 1e-8", storm_multi, STORM_PRECISION)
HIGHS = Peer("HiGHS", highs, 1e-9)
