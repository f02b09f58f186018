"""What else can solve the instances: hand-written scipy and numba, quantecon, pymdptoolbox, Storm.

A peer's `prepare` does what is not timed (imports, compilation, the product model, Storm's own model) and returns the
call that is: it gives the value of every state and budget, or of those that the peer answers for, NaN elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from benchmarks.instances import Floats, Instance

Call = Callable[[], Floats]
Policy = npt.NDArray[np.int8]


class Peer(NamedTuple):
    """Another way to the same answer.

    Attributes
    ----------
    name : str
    prepare : callable
        Instance in, timed call out; raises ImportError where the package is not installed.
    tolerance : float
        How far from the truth the peer's own stopping rule leaves it.
    """

    name: str
    prepare: Callable[[Instance], Call]
    tolerance: float


# scipy ---------------------------------------------------------------------------------------------------------------


def scipy_layers(instance: Instance) -> Call:
    """Layer slices from the last to the first, all budgets as columns, values and policy."""
    return lambda: _layers(instance, _slices(instance))[0]


def scipy_layers_ready(instance: Instance) -> Call:
    """The same with the slices made beforehand, as by who keeps a matrix a layer."""
    slices = list(_slices(instance))
    return lambda: _layers(instance, slices)[0]


def _slices(instance: Instance) -> Any:
    """(start, stop, rows of `nohelp`, rows of `help`) of every layer, the last first, no entry copied."""
    assert instance.layers is not None
    for start, stop in reversed(list(pairwise(instance.layers.tolist()))):
        yield start, stop, *(_rows(matrix, start, stop) for matrix in instance.transitions.values())


def _rows(matrix: sp.csr_array, start: int, stop: int) -> sp.csr_array:
    first, last = matrix.indptr[start], matrix.indptr[stop]
    parts = (matrix.data[first:last], matrix.indices[first:last], matrix.indptr[start : stop + 1] - first)
    return sp.csr_array(parts, shape=(stop - start, matrix.shape[1]))


def _layers(instance: Instance, slices: Any) -> tuple[Floats, Policy]:
    value, policy = _blank(instance)
    for start, stop, alone_rows, help_rows in slices:
        alone, helped = alone_rows @ value, help_rows @ value
        value[start:stop] = alone
        np.maximum(alone[:, 1:], helped[:, :-1], out=value[start:stop, 1:])
        policy[start:stop, 1:] = helped[:, :-1] > alone[:, 1:]
    return value, policy


def _blank(instance: Instance) -> tuple[Floats, Policy]:
    """Values with the terminal states filled in, zero elsewhere, and a policy that never asks."""
    shape = (len(instance.terminal_value), instance.budget + 1)
    value, terminal = np.zeros(shape), ~np.isnan(instance.terminal_value)
    value[terminal] = instance.terminal_value[terminal, None]
    return value, np.zeros(shape, np.int8)


def scipy_sweeps(instance: Instance, tolerance: float = 1e-7) -> Call:
    """Value iteration a budget, from the values of the budget below, until no value moves by more than `tolerance`."""
    alone, helped = instance.transitions["nohelp"], instance.transitions["help"]
    terminal = np.flatnonzero(~np.isnan(instance.terminal_value))

    def solve() -> Floats:
        value, policy = _blank(instance)
        current = value[:, 0].copy()
        for budget in range(instance.budget + 1):
            stop = helped @ value[:, budget - 1] if budget else np.zeros(len(value))
            stop[terminal] = instance.terminal_value[terminal]
            change = np.inf
            while change > tolerance:
                following = np.maximum(alone @ current, stop)
                change = float(np.max(np.abs(following - current)))
                current = following
            value[:, budget] = current
            policy[:, budget] = stop > alone @ current
        return value

    return solve


# numba ---------------------------------------------------------------------------------------------------------------


def _reverse_order(
    alone: tuple[Any, Any, Any], helped: tuple[Any, Any, Any], live: int, value: Floats, policy: Policy
) -> None:
    best, other = np.empty(value.shape[1]), np.empty(value.shape[1])
    for s in range(live - 1, -1, -1):
        best[:], other[:] = 0.0, 0.0
        for e in range(alone[0][s], alone[0][s + 1]):
            for b in range(value.shape[1]):
                best[b] += alone[2][e] * value[alone[1][e], b]
        for e in range(helped[0][s], helped[0][s + 1]):
            for b in range(1, value.shape[1]):
                other[b] += helped[2][e] * value[helped[1][e], b - 1]
        for b in range(value.shape[1]):
            policy[s, b] = other[b] > best[b]
            value[s, b] = max(best[b], other[b])


def numba_kernel(instance: Instance) -> Call:
    """States from the last to the first, the budget innermost: what a user writes in 20 lines."""
    kernel: Any = import_module("numba").njit(_reverse_order)
    parts = [(m.indptr, m.indices, m.data) for m in instance.transitions.values()]
    live = int(np.count_nonzero(np.isnan(instance.terminal_value)))

    def solve() -> Floats:
        value, policy = _blank(instance)
        kernel(*parts, live, value, policy)
        return value

    solve()  # compiles
    return solve


# The product of states and budgets -----------------------------------------------------------------------------------


class Product(NamedTuple):
    """A model with one state for every (live state, budget) and a last one, without reward, where all ends.

    Attributes
    ----------
    transitions : list of csr_array (points, points)
        Of `nohelp` and of `help`; without budget left `help` is `nohelp`.
    reward : float64 (points, 2)
        Expected terminal value of the step.
    """

    transitions: list[sp.csr_array]
    reward: Floats


def product(instance: Instance, discount: float = 1.0) -> Product:
    """Product model whose rows hold the step's probabilities over `discount`; the sink takes what is missing to 1."""
    terminal = ~np.isnan(instance.terminal_value)
    size, outcome = instance.budget + 1, instance.terminal_value[terminal]
    down = sp.csr_array(np.eye(size, k=-1))
    broke = sp.csr_array((np.ones(1), ([0], [0])), shape=(size, size))
    inner = {name: matrix[~terminal][:, ~terminal] for name, matrix in instance.transitions.items()}
    gain = {name: matrix[~terminal][:, terminal] @ outcome for name, matrix in instance.transitions.items()}
    alone = sp.kron(inner["nohelp"], sp.eye_array(size))
    helped = sp.kron(inner["help"], down) + sp.kron(inner["nohelp"], broke)
    reward = np.repeat(np.stack([gain["nohelp"], gain["help"]], axis=1), size, axis=0)
    reward[::size, 1] = gain["nohelp"]
    return Product([_with_sink(matrix / discount) for matrix in (alone, helped)], np.vstack([reward, [0, 0]]))


def _with_sink(matrix: Any) -> sp.csr_array:
    missing = np.maximum(1 - np.asarray(matrix.sum(axis=1)), 0)
    return sp.csr_array(sp.block_array([[matrix, missing[:, None]], [None, np.ones((1, 1))]]))


def _unfold(instance: Instance, value: Any) -> Floats:
    """Values of the product's points as (n, budget + 1)."""
    result, _ = _blank(instance)
    result[np.isnan(instance.terminal_value)] = np.asarray(value)[:-1].reshape(-1, instance.budget + 1)
    return result


def quantecon_product(instance: Instance) -> Call:
    """`DiscreteDP`: backward induction over the layers, modified policy iteration where states recur.

    Without discount it refuses infinite horizons; on B the 1% that every step leaks serves as discount.
    """
    quantecon = import_module("quantecon.markov")
    discount = 1.0 if instance.layers is not None else 0.99
    transitions, reward = product(instance, discount)
    points = np.arange(len(reward))
    pairs = (np.tile(points, 2), np.repeat([0, 1], len(points)))
    stacked = sp.csr_matrix(sp.vstack(transitions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will refuse infinite horizons
        model = quantecon.DiscreteDP(reward.T.ravel(), stacked, discount, *pairs)
    if instance.layers is None:
        options = {"method": "modified_policy_iteration", "epsilon": 1e-9, "max_iter": 10_000}
        return lambda: _unfold(instance, model.solve(**options).v)
    steps = len(instance.layers) - 1
    return lambda: _unfold(instance, quantecon.backward_induction(model, steps)[0][0])


def mdptoolbox_product(instance: Instance) -> Call:
    """`ValueIteration` of pymdptoolbox; its defaults stop after one sweep on B."""
    package = import_module("mdptoolbox.mdp")
    utilities: Any = import_module("mdptoolbox.util")
    transitions, reward = product(instance)
    check = utilities.check

    def solve() -> Floats:
        utilities.check = lambda *_: None  # it takes longer than the solve, and there is no switch
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # a warning at discount 1
                model = package.ValueIteration(transitions, reward, 1, epsilon=1e-9, max_iter=1_000_000)
        finally:
            utilities.check = check
        model.run()
        return _unfold(instance, model.V)

    return solve


# Storm ---------------------------------------------------------------------------------------------------------------


def storm_query(instance: Instance, state: int = 0) -> Call:
    """`Pmax=? [F{"help"}<=B "success"]` at one state for one budget; the model is built beforehand."""
    stormpy = import_module("stormpy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.drn")
        path.write_text(_drn(instance, state))
        model = stormpy.build_model_from_drn(str(path))
    formula = stormpy.parse_properties(f'Pmax=? [F{{"help"}}<={instance.budget} "success"]')[0]

    def solve() -> Floats:
        answer = np.full((len(instance.terminal_value), instance.budget + 1), np.nan)
        answer[state, -1] = stormpy.model_checking(model, formula, only_initial_states=True).get_value(state)
        return answer

    return solve


def _drn(instance: Instance, initial: int) -> str:
    """The model in Storm's text format, help with a reward of 1."""
    live = np.isnan(instance.terminal_value)
    lines = ["@type: MDP", "@parameters", "", "@reward_models", "help", "@nr_states", str(len(live))]
    lines += ["@nr_choices", str(len(live) + int(live.sum())), "@model"]
    for s, alive in enumerate(live.tolist()):
        labels = (" init" if s == initial else "") + (" success" if instance.terminal_value[s] == 1 else "")
        lines.append(f"state {s} [0]{labels}")
        rows = [_entries(matrix, s) for matrix in instance.transitions.values()] if alive else [[(s, 1.0)]]
        for action, row in enumerate(rows):
            lines.append(f"\taction {action} [{action}]")
            lines += [f"\t\t{j} : {p!r}" for j, p in row]
    return "\n".join([*lines, ""])


def _entries(matrix: sp.csr_array, row: int) -> Sequence[tuple[int, float]]:
    part = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return list(zip(matrix.indices[part].tolist(), matrix.data[part].tolist(), strict=True))


ROUNDING = 1e-12
SCIPY = Peer("scipy", scipy_layers, ROUNDING)
SCIPY_READY = Peer("scipy, slices ready", scipy_layers_ready, ROUNDING)
# The last change times .99 / (1 - .99), the contraction of B.
SCIPY_SWEEPS = Peer("scipy to 1e-7, no proof", scipy_sweeps, 1e-5)
NUMBA = Peer("numba, 20 lines", numba_kernel, ROUNDING)
QUANTECON = Peer("quantecon", quantecon_product, 1e-9)
MDPTOOLBOX = Peer("pymdptoolbox", mdptoolbox_product, 1e-7)
STORM = Peer("Storm, one query", storm_query, 1e-6)
