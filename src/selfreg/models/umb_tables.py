"""Models of probabilistic model checkers: UMB files, read with the package `umbi`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util.extras import require_extra
from selfreg.models.validate_model import NOHELP

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Tables(NamedTuple):
    """Arguments of `InterventionMDP`."""

    transitions: dict[str, sp.csr_array]
    terminal_value: Floats
    costs: dict[str, tuple[int, ...]]


class Choices(NamedTuple):
    """Choices of the states that are not terminal.

    Attributes
    ----------
    number : int64 (choices,)
        Their numbers in the file.
    state : int64 (choices,)
    cost : int64 (choices, budgets)
    """

    number: Ints
    state: Ints
    cost: Ints


def load_umb(path: str | os.PathLike[str], goal: str, budgets: Sequence[str]) -> Tables:
    """Read a file; `goal` is a label of states, `budgets` are rewards of choices."""
    with require_extra("umb", "InterventionMDP.from_umb"):
        from umbi import umb

    if isinstance(budgets, str):
        raise TypeError(f"budgets is {budgets!r}; expected a sequence of names of rewards, such as ({budgets!r},)")
    try:
        found = umb.read(os.fspath(path))
    except OSError:
        raise
    except Exception as error:  # of tar, JSON, marshmallow, or umbi's own assertions
        raise ValueError(f"{os.fspath(path)} is not a UMB file that umbi can read: {error}") from error
    _check_kind(found.index.transition_system)
    n = int(found.index.transition_system.num_states)
    starts = _starts(found.state_to_choices, n)
    reached = np.asarray(_annotation(found, "aps", "label", goal)["states"], dtype=np.bool_)
    terminal_value = np.where(reached, 1.0, np.where(np.diff(starts) == 0, 0.0, np.nan))
    state = np.repeat(np.arange(n), np.diff(starts))
    live = np.flatnonzero(np.isnan(terminal_value)[state])
    costs = [_costs(found, name, state)[live] for name in budgets]
    cost = np.stack(costs, axis=1) if costs else np.zeros((len(live), 1), np.int64)
    return _tables(found, Choices(live, state[live], cost), terminal_value, list(budgets))


def _check_kind(system: Any) -> None:
    """Raise ValueError unless the file has a Markov decision process or chain."""
    if str(getattr(system.time, "value", system.time)) != "discrete":
        raise ValueError(f"the model has {system.time} time; expected discrete time")
    if system.num_players > 1:
        raise ValueError(f"the model is a game of {system.num_players} players; expected at most one")
    if system.num_observations:
        raise ValueError("the model is partially observable; expected a model without observations")


def _starts(starts: Any, count: int) -> Ints:
    """Where the parts of each entity begin, (count + 1,); one part each where the file does not say."""
    return np.arange(count + 1) if starts is None else np.asarray(starts, dtype=np.int64)


def _annotation(found: Any, category: str, what: str, name: str) -> dict[str, list[Any]]:
    """Values of a label or reward by name or alias: what it applies to -> values."""
    known = (found.index.annotations or {}).get(category) or {}
    for own, described in known.items():
        if name in (own, described.alias):
            values: dict[str, list[Any]] = found.annotations[category][own]
            return values
    names = ", ".join(repr(described.alias or own) for own, described in known.items())
    raise ValueError(f"the model has no {what} {name!r}; it has {names or 'none'}")


def _costs(found: Any, name: str, state: Ints) -> Ints:
    """int64 (choices,): what each choice takes of a reward; that of a state is taken by all of its choices."""
    values = _annotation(found, "rewards", "reward", name)
    if any(float(x) for x in values.get("branches", ())):
        raise ValueError(f"reward {name!r} depends on the branch; a budget is paid by choices, before the outcome")
    total = np.zeros(len(state))
    if "choices" in values:
        total += np.array([float(x) for x in values["choices"]])
    if "states" in values:
        total += np.array([float(x) for x in values["states"]])[state]
    bad = np.flatnonzero(~((total >= 0) & (total == np.floor(total)) & (total < 2**31)))
    if len(bad):
        worst = int(bad[0])
        where = f"choice {worst} in state {state[worst]}"
        raise ValueError(f"reward {name!r} of {where} is {total[worst]:g}; a budget takes integers >= 0")
    return total.astype(np.int64)


def _tables(found: Any, choices: Choices, terminal_value: Floats, budgets: list[str]) -> Tables:
    """One action for each cost and rank among the choices of a state with that cost; the first free one is nohelp."""
    free = np.zeros((1, choices.cost.shape[1]), np.int64)
    costs, kind = np.unique(np.concatenate([free, choices.cost]), axis=0, return_inverse=True)
    kind = kind.ravel()[1:]  # the free cost is the least one, kind 0
    rank = _ranks(choices.state * len(costs) + kind)
    keys, action = np.unique(np.concatenate([[0], kind * (rank.max(initial=0) + 1) + rank]), return_inverse=True)
    action = action.ravel()[1:]
    by_key = [divmod(int(key), int(rank.max(initial=0)) + 1) for key in keys]
    names = [_name(costs[k], r, budgets) for k, r in by_key]
    matrices = _matrices(found, choices, action, len(names), len(terminal_value))
    waits = np.isnan(terminal_value) & (np.diff(matrices[0].indptr) == 0)
    matrices[0] = sp.csr_array(matrices[0] + sp.diags_array(waits.astype(np.float64)))
    matrices[0].eliminate_zeros()
    paid = {name: tuple(costs[k].tolist()) for name, (k, _) in zip(names[1:], by_key[1:], strict=True)}
    return Tables(dict(zip(names, matrices, strict=True)), terminal_value, paid)


def _ranks(key: Ints) -> Ints:
    """Number of earlier entries with the same key."""
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    rank = np.empty(len(key), np.int64)
    rank[order] = np.arange(len(key)) - np.repeat(first, np.diff(np.append(first, len(key))))
    return rank


def _name(cost: Ints, rank: int, budgets: list[str]) -> str:
    paid = [f"{name} {amount}" for name, amount in zip(budgets, cost.tolist(), strict=False) if amount]
    if not paid and not rank:
        return NOHELP
    return ", ".join([*paid, *([f"choice {rank + 1}"] if rank or not paid else [])])


def _matrices(found: Any, choices: Choices, action: Ints, n_actions: int, n: int) -> list[sp.csr_array]:
    """One matrix (n, n) for each action."""
    n_choices = int(found.index.transition_system.num_choices)
    starts = _starts(found.choice_to_branches, n_choices)
    length = np.diff(starts)[choices.number]
    entry = np.arange(int(length.sum())) + np.repeat(starts[choices.number] - np.cumsum(length) + length, length)
    head = np.asarray(found.branch_to_target, dtype=np.int64)[entry]
    mass = _probabilities(found, len(found.branch_to_target))[entry]
    tail, taken = np.repeat(choices.state, length), np.repeat(action, length)
    order = np.argsort(taken, kind="stable")
    bounds = np.searchsorted(taken[order], np.arange(n_actions + 1))
    parts = [order[begin:end] for begin, end in pairwise(bounds)]
    result = [sp.csr_array((mass[part], (tail[part], head[part])), shape=(n, n)) for part in parts]
    for matrix in result:
        matrix.eliminate_zeros()
    return result


def _probabilities(found: Any, count: int) -> Floats:
    """Probability of every branch; 1 where the file has none."""
    if found.branch_to_probability is None:
        return np.ones(count)
    try:
        return np.array([float(p) for p in found.branch_to_probability])
    except TypeError:
        raise ValueError("the model has intervals of probabilities; expected numbers") from None
