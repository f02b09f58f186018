"""Early or late: what the first hand-off of an episode is worth at each of its steps, in the plan's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from selfreg.data import NOHELP, Trajectory
from selfreg.estimate import EstimatedModel
from selfreg.estimate.abstraction import BRANCH
from selfreg.planning.solution import Solution

# Moments that a step is shown from, and steps shown.
LEAST, MOST_STEPS = 10, 12


class Timing(NamedTuple):
    """The first request of an episode at one of its steps, under a budget that pays for one request of `help`.

    Attributes
    ----------
    help : str
        Help type.
    step : int
        Step of the episode, from 0.
    moments : int
        Logged moments at this step that no help came before, in states where alone and help were tried.
    now, later, alone : float
        Mean planned success of handing over now, of the best later use of the same budget, and without
        budget (help that costs nothing is used).
    """

    help: str
    step: int
    moments: int
    now: float
    later: float
    alone: float


def time_handoffs(model: EstimatedModel, solution: Solution, trajectories: Sequence[Trajectory]) -> list[Timing]:
    """What handing over is worth by step of the episode, for each help type that the solution's budgets can pay for.

    Parameters
    ----------
    model : EstimatedModel
    solution : Solution
        Of the model.
    trajectories : sequence of Trajectory
        Of the model.

    Returns
    -------
    list of Timing
        By help type and step; steps of few moments are left out.

    Examples
    --------
    >>> from functools import partial
    >>> import selfreg
    >>> from selfreg.envs import CollectConfig, Intervention, collect, household_tasks, make_household
    >>> from selfreg.estimate import ExactKey, estimate_mdp
    >>> from selfreg.report.timing import time_handoffs
    >>> make = partial(make_household, interventions=[Intervention("owner", steps=None, reading=5)])
    >>> logs = list(collect(make, household_tasks(8, 0, 1, ["moved"])[0], CollectConfig(workers=1)))
    >>> model = estimate_mdp(logs, ExactKey())
    >>> first, *others = time_handoffs(model, selfreg.solve(model.mdp, 1), logs)
    >>> first.now, others[3].now < 1
    (1.0, True)
    """
    moments = _unhelped_moments(model, trajectories)
    names = model.mdp.actions[1:]
    costs = dict(zip(model.mdp.actions, model.mdp.cost_table.tolist(), strict=True))
    found = []
    for name in names:
        if all(cost <= top for cost, top in zip(costs[name], solution.budget, strict=True)):
            found += _by_step(name, solution, moments, tuple(costs[name]))
    return found


def _unhelped_moments(model: EstimatedModel, trajectories: Sequence[Trajectory]) -> dict[int, list[int]]:
    """States by step of the episode, as long as it had no help."""
    moments: dict[int, list[int]] = {}
    for trajectory in trajectories:
        if BRANCH in trajectory.fields:  # what came before its first step is not in it
            continue
        for t, step in enumerate(trajectory.steps[:MOST_STEPS]):
            state = model.state(trajectory, t)
            if state is not None:
                moments.setdefault(t, []).append(state)
            if step.intervention is not None:
                break
    return moments


def _by_step(name: str, solution: Solution, moments: dict[int, list[int]], budget: tuple[int, ...]) -> list[Timing]:
    shape = solution.value.shape
    point = int(np.ravel_multi_index(budget, shape[1:]))
    now, later = (solution.q(action).reshape(shape[0], -1)[:, point] for action in (name, NOHELP))
    alone = solution.value.reshape(shape[0], -1)[:, 0]
    rows = []
    for step, states in sorted(moments.items()):
        visited = np.array(states)
        known = visited[~np.isnan(now[visited]) & ~np.isnan(later[visited])]
        if len(known) >= LEAST:
            means = (float(values[known].mean()) for values in (now, later, alone))
            rows.append(Timing(name, step, len(known), *means))
    return rows
