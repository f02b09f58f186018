"""The instances that every figure is measured on (section 8 of the design), each a pure function of its seed.

A, C and T are layered; B has one large component; M is a list of small layered models. The last two states of each are
success and failure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

import selfreg

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Instance:
    """A model, the arrays it was made of and the budget to solve it for.

    Attributes
    ----------
    name : str
    mdp : selfreg.InterventionMDP
    transitions : dict of str to csr_array (n, n)
        "nohelp" and "help", as given to `mdp`: float64, int32 indices, sorted.
    terminal_value : float64 (n,)
    budget : int
    layers : int64 (n_layers + 1,) or None
        Where each layer begins; None where states recur.
    """

    name: str
    mdp: selfreg.InterventionMDP
    transitions: dict[str, sp.csr_array]
    terminal_value: Floats
    budget: int
    layers: npt.NDArray[np.int64] | None


def construct(transitions: dict[str, sp.csr_array], terminal_value: Floats) -> selfreg.InterventionMDP:
    """The model of the two matrices, help at a cost of 1: what the construction figure times."""
    return selfreg.InterventionMDP(transitions, terminal_value, {"help": 1})


def layered(
    name: str, n_states: int, n_layers: int, *, budget: int, successors: int = 5, seed: int | np.random.Generator = 0
) -> Instance:
    """Acyclic: every state leads to `successors` states near its relative position in the next layer.

    `nohelp` drifts down a little and `help` up; the last layer ends in success with a logistic in the position.

    Raises
    ------
    ValueError
        If `n_states` is not a multiple of `n_layers`, or a layer has fewer states than `successors`.
    """
    width, rest = divmod(n_states, n_layers)
    if rest or width < successors:
        raise ValueError(f"n_states={n_states} does not make {n_layers} layers of at least {successors} states")
    random = np.random.default_rng(seed)
    transitions = {
        "nohelp": _layered_matrix(random, width, n_layers, successors, drift=-0.01),
        "help": _layered_matrix(random, width, n_layers, successors, drift=0.01),
    }
    value = _success_and_failure(n_states)
    starts = np.arange(n_layers + 1, dtype=np.int64) * width
    return Instance(name, construct(transitions, value), transitions, value, budget, starts)


def _layered_matrix(
    random: np.random.Generator, width: int, n_layers: int, successors: int, drift: float
) -> sp.csr_array:
    inner, n = (n_layers - 1) * width, n_layers * width + 2
    window = max(successors, width // 10)
    position = np.arange(inner, dtype=np.int32) % width
    first = np.clip(position + round(drift * width) - window // 2, 0, width - window)
    # Sorted draws plus 0, 1, 2, ...: distinct and in order, without a loop.
    near = np.sort(random.integers(0, window - successors + 1, (inner, successors), dtype=np.int32), axis=1)
    near += np.arange(successors, dtype=np.int32)
    near += (np.arange(inner, dtype=np.int32) - position + width + first.astype(np.int32))[:, None]
    success = 1 / (1 + np.exp(-12 * (np.arange(width) / width - 0.5)))
    data = np.concatenate([_dirichlet(random, inner, successors).ravel(), np.stack([success, 1 - success], 1).ravel()])
    ends = np.tile(np.array([n - 2, n - 1], dtype=np.int32), width)
    length = np.repeat([successors, 2, 0], [inner, width, 2])
    return _csr(data, np.concatenate([near.ravel(), ends]), length)


def cyclic(name: str, n_states: int, *, budget: int, successors: int = 5, seed: int = 0) -> Instance:
    """Every state leads to `successors` uniform states with .99, and with .01 to success or failure by its quality.

    Quality is uniform in [0, 1]; help brings it closer to 1 by a tenth of what is missing.
    """
    random = np.random.default_rng(seed)
    quality = random.random(n_states)
    transitions = {
        "nohelp": _cyclic_matrix(random, quality, successors),
        "help": _cyclic_matrix(random, quality + 0.1 * (1 - quality), successors),
    }
    value = _success_and_failure(n_states)
    return Instance(name, construct(transitions, value), transitions, value, budget, None)


def _cyclic_matrix(random: np.random.Generator, quality: Floats, successors: int) -> sp.csr_array:
    n = len(quality)
    targets = np.empty((n, successors + 2), dtype=np.int32)
    targets[:, :successors] = random.integers(0, n, (n, successors))
    targets[:, successors:] = [n, n + 1]
    data = np.empty((n, successors + 2))
    data[:, :successors] = 0.99 * _dirichlet(random, n, successors)
    data[:, -2] = 0.01 * quality
    data[:, -1] = 1 - data[:, :-1].sum(axis=1)
    matrix = _csr(data.ravel(), targets.ravel(), np.repeat([successors + 2, 0], [n, 2]))
    matrix.sum_duplicates()
    return matrix


def _dirichlet(random: np.random.Generator, rows: int, k: int) -> Floats:
    """Rows of Dirichlet(1, ..., 1) weights."""
    weights = random.standard_exponential((rows, k))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _csr(data: Floats, indices: Ints, length: npt.NDArray[np.int64]) -> sp.csr_array:
    indptr = np.zeros(len(length) + 1, dtype=np.int32)
    np.cumsum(length, out=indptr[1:])
    return sp.csr_array((data, indices, indptr), shape=(len(length), len(length)))


def _success_and_failure(n_states: int) -> Floats:
    value = np.full(n_states + 2, np.nan)
    value[-2:] = [1, 0]
    return value


def instance_a(n_states: int = 20_000, budget: int = 16, seed: int = 0) -> Instance:
    """A: acyclic, 40 layers, budgets 0..16; ten times the states is the growth figure."""
    return layered("A", n_states, 40, budget=budget, seed=seed)


def instance_b(n_states: int = 5_000, budget: int = 16, seed: int = 0) -> Instance:
    """B: cyclic, one component."""
    return cyclic("B", n_states, budget=budget, seed=seed)


def instance_c(seed: int = 0) -> Instance:
    """C: A with 500,000 states; a few seconds to make."""
    return layered("C", 500_000, 40, budget=16, seed=seed)


def instance_m(n_models: int = 10_000, seed: int = 0) -> list[Instance]:
    """M: many models of 200 states in 10 layers, 3 successors, budgets 0..8."""
    random = np.random.default_rng(seed)
    return [layered(f"M{i}", 200, 10, budget=8, successors=3, seed=random) for i in range(n_models)]


def instance_t(seed: int = 0) -> Instance:
    """T: tiny, 50 states in 10 layers, 3 successors, budgets 0..8."""
    return layered("T", 50, 10, budget=8, successors=3, seed=seed)
