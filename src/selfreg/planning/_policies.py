"""Policies in all the forms that `simulate` and `evaluate_policy` take, as arrays of indices of actions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.mdp import InterventionMDP
from selfreg.planning import _arguments

Budget: TypeAlias = int | tuple[int, ...] | None


def policy_array(mdp: InterventionMDP, policy: Any, budget: Budget, use_own_budget: bool) -> tuple[Any, Budget]:
    """The policy as an array, and the budget; those of a solution and its largest budget by default.

    Raises
    ------
    ValueError, TypeError
        If the policy is for other actions or states than those of the model, or names an unknown action.
    """
    if hasattr(policy, "policy"):
        _check_same_actions(mdp, policy)
        array = policy.policy
        if array.ndim == 1 + mdp.n_budgets and hasattr(policy, "budget") and use_own_budget and budget is None:
            budget = policy.budget
        return array, budget
    if isinstance(policy, str):
        action = _index(mdp, policy, "policy")
        return _wherever(mdp, action, budget), budget
    if callable(policy):
        return _call_everywhere(mdp, policy, budget), budget
    if validate.is_mapping(policy):
        return _from_mapping(mdp, policy), budget
    array = validate.unmasked_array("policy", policy)
    if not array.ndim:
        forms = "a Solution, a function, a mapping of states to actions, the name of an action or an array of actions"
        raise TypeError(f"policy is of type {type(policy).__name__}; expected {forms}")
    return (_indices(mdp, array) if array.dtype.kind in "UO" else array), budget


def _check_same_actions(mdp: InterventionMDP, policy: Any) -> None:
    other = getattr(policy, "mdp", mdp)
    if other.actions != mdp.actions:
        raise ValueError(f"policy is for the actions {other.actions!r}; the model has {mdp.actions!r}")


def _wherever(mdp: InterventionMDP, action: int, budget: Budget) -> npt.NDArray[np.int8]:
    """One action in all states where it is available, and payable where there is a budget; elsewhere `nohelp`."""
    name = mdp.actions[action]
    chosen = np.where(np.diff(mdp.transitions[name].indptr) > 0, np.int8(action), np.int8(0))
    if budget is None:
        return chosen
    most = _arguments.budget_tuple(mdp, budget)
    lattice = np.zeros((mdp.n_states, *(b + 1 for b in most)), np.int8)
    costs = mdp.costs.get(name, (0,) * len(most))
    lattice[(slice(None), *(slice(cost, None) for cost in costs))] = chosen.reshape(-1, *(1 for _ in most))
    return lattice


def _call_everywhere(mdp: InterventionMDP, policy: Callable[..., Any], budget: Budget) -> npt.NDArray[np.int8]:
    """Actions that a function chooses in every live state, and with every budget left where there is a budget.

    A function of one argument gets the state only.
    """
    live = np.flatnonzero(~mdp.terminal).tolist()
    if budget is None:
        chosen = np.zeros(mdp.n_states, np.int8)
        for s in live:
            chosen[s] = _index(mdp, policy(mdp.state_name(s)), _where(mdp, s))
        return chosen
    most = _arguments.budget_tuple(mdp, budget)
    takes = _count_arguments(policy)
    lattice = np.zeros((mdp.n_states, *(b + 1 for b in most)), np.int8)
    for s, *left in product(live, *(range(b + 1) for b in most)):
        arguments = (mdp.state_name(s), left[0] if len(left) == 1 else tuple(left))
        action = policy(*arguments[:takes])
        lattice[(s, *left)] = _index(mdp, action, _where(mdp, s))
    return lattice


def _count_arguments(policy: Callable[..., Any]) -> int:
    """1 for a function that takes no second argument, else 2."""
    try:
        parameters = inspect.signature(policy).parameters.values()
    except (TypeError, ValueError):  # some builtins say nothing
        return 2
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return 1 if len(positional) == 1 and not any(p.kind == p.VAR_POSITIONAL for p in parameters) else 2


def _from_mapping(mdp: InterventionMDP, policy: Mapping[Any, Any]) -> npt.NDArray[np.int8]:
    chosen = np.full(mdp.n_states, -1, np.int8)
    for state, action in policy.items():
        s = mdp.state_index(state, label="a state of policy")
        chosen[s] = _index(mdp, action, _where(mdp, s))
    missing = np.flatnonzero((chosen < 0) & ~mdp.terminal)
    if len(missing):
        raise ValueError(f"policy has no action for state {mdp.state_name(int(missing[0]))!r}")
    return np.maximum(chosen, 0, dtype=np.int8)


def _indices(mdp: InterventionMDP, names: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Indices of names of actions; None, for terminal states, is 0."""
    result = np.zeros(names.shape, np.int8)
    for place in np.ndindex(names.shape):
        if names[place] is not None:
            result[place] = _index(mdp, names[place], f"policy{list(place)}")
    return result


def _where(mdp: InterventionMDP, state: int) -> str:
    return f"policy of state {mdp.state_name(state)!r}"


def _index(mdp: InterventionMDP, action: Any, where: str) -> int:
    """Index of an action by its name or index."""
    if isinstance(action, str):
        action = str(action)
        if action not in mdp.actions:
            raise ValueError(f"{where} is {action!r}, an unknown action; expected one of {mdp.actions!r}")
        return mdp.actions.index(action)
    if isinstance(action, (bool, np.bool_)) or not isinstance(action, (int, np.integer)):
        raise TypeError(f"{where} is {action!r}; expected one of {mdp.actions!r}, or an index")
    if not 0 <= action < len(mdp.actions):
        raise ValueError(f"{where} is {action}; expected 0..{len(mdp.actions) - 1}")
    return int(action)
