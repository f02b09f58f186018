"""Models of chosen sizes that several tests use."""

from __future__ import annotations

import numpy as np

import selfreg


def cyclic_model(n: int, seed: int = 0, leak: float = 0.05) -> selfreg.InterventionMDP:
    """`n` live states with three random successors each, and a leak to success or failure."""
    generator = np.random.default_rng(seed)
    quality = generator.random(n)
    matrices = {}
    for name, bonus in (("nohelp", 0.0), ("help", 0.3)):
        rows = np.zeros((n + 2, n + 2))
        for s in range(n):
            rows[s, generator.choice(n, 3, replace=False)] = (1 - leak) * generator.dirichlet(np.ones(3))
        success = np.clip(quality + bonus, 0, 1)
        rows[:n, n], rows[:n, n + 1] = leak * success, leak * (1 - success)
        matrices[name] = rows
    return selfreg.InterventionMDP(matrices, [np.nan] * n + [1, 0], {"help": 1})


def ring_model(n: int, leak: float) -> selfreg.InterventionMDP:
    """A ring that the agent leaves by help at one state, or by a leak at the opposite one."""
    ring = np.roll(np.eye(n), 1, axis=1)
    alone, helped = np.zeros((n + 2, n + 2)), np.zeros((n + 2, n + 2))
    alone[:n, :n] = ring
    alone[n // 2, :n] *= 1 - leak
    alone[n // 2, n + 1] = leak
    helped[0, [1, n, n + 1]] = [0.5, 0.25, 0.25]
    return selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan] * n + [1, 0], {"help": 1})


def layered_model(n_layers: int, width: int, seed: int = 0) -> selfreg.InterventionMDP:
    """Acyclic, its states in random order."""
    generator = np.random.default_rng(seed)
    n = n_layers * width + 2
    order = generator.permutation(n)
    matrices = {}
    for name, low in (("nohelp", 0.0), ("help", 0.5)):
        rows = np.zeros((n, n))
        for s in range(n - 2):
            first = (s // width + 1) * width
            successors = [n - 2, n - 1] if first >= n - 2 else first + generator.choice(width, 3, replace=False)
            weight = generator.uniform(low, 1) if first >= n - 2 else None
            rows[s, successors] = generator.dirichlet(np.ones(3)) if weight is None else [weight, 1 - weight]
        matrices[name] = rows[np.ix_(order, order)]
    return selfreg.InterventionMDP(matrices, np.array([np.nan] * (n - 2) + [1, 0])[order], {"help": 1})
