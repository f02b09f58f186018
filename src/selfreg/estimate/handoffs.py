"""What a hand-off in the middle costs: help in the same states by a helper that has to read, and by one that knows.

A log holds both where a helper sometimes goes on from its own step, or from the beginning, and sometimes takes over a
run of the agent: the first knows what was done, the second has to read it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util.bootstrap import Interval, bootstrap, interval
from selfreg.data import Trajectory
from selfreg.envs.protocol import AFTER
from selfreg.estimate.abstraction import StateAbstraction, episode_step

Floats = npt.NDArray[np.float64]
# Resamples at a time.
CHUNK = 100


class HandoffCost(NamedTuple):
    """Help that takes over in the middle less help that goes on, in the same states.

    Attributes
    ----------
    help : str
        Help type.
    success : Interval
        Difference in success of the episode; below 0 where hand-offs in the middle cost success.
    actions : Interval
        Difference in actions that the rest of the episode takes (an action of a log is one entry of its comma-separated
        `action`, else a step), in episodes that succeed.
    states : int
        States in which both kinds of help were seen.
    early, late : int
        Steps of help there: going on or at the beginning, and in the middle.
    """

    help: str
    success: Interval
    actions: Interval
    states: int
    early: int
    late: int


class _Visit(NamedTuple):
    """A step of help: its group (state and fields), task, whether it takes over, success, and actions to the end."""

    group: Hashable
    task: str
    late: bool
    success: float
    actions: int


def handoff_costs(
    trajectories: Sequence[Trajectory], abstraction: StateAbstraction | None = None, within: Sequence[str] = ("rate",)
) -> list[HandoffCost]:
    """Estimate what a hand-off in the middle costs, from logs with help that takes over and help that goes on.

    Per help type, steps of help are compared in equal states: those whose step before was not of this helper (it has
    to read), and those at the beginning or after its own step. A state counts by the harmonic mean of both numbers.
    Success is read as an effect of the hand-off: whoever requested help must not have known more than state and
    `within`. Random help is like that, if its chance, which decides about help later on, is among the fields `within`.

    Parameters
    ----------
    trajectories : sequence of Trajectory
        With outcomes.
    abstraction : StateAbstraction, optional
        What equal states are; by default the key in its task, without who acted last (text where there is no key).
    within : sequence of str
        Fields of episodes that must be equal too, where an episode has them.

    Returns
    -------
    list of HandoffCost
        By help type; those without a state in which both were seen in episodes of two tasks or more are left out.
        Intervals are 95% bootstrap intervals over tasks.

    Examples
    --------
    An owner that must read for two steps, where it did not act before:

    >>> from functools import partial
    >>> from selfreg.envs import CollectConfig, Intervention, collect, household_tasks, make_household
    >>> from selfreg.estimate import handoff_costs
    >>> make = partial(make_household, interventions=[Intervention("owner", reading=2)])
    >>> config = CollectConfig(episodes_per_task=60, rates=(0.5,), workers=1)
    >>> [cost] = handoff_costs(list(collect(make, household_tasks(12, 0, 1, ["place"])[0], config)))
    >>> 1.5 < cost.actions.mean < 3, cost.success.mean < 0
    (True, True)
    """
    if abstraction is not None:
        abstraction.fit(trajectories)
    visits: dict[str, list[_Visit]] = {}
    for trajectory in trajectories:
        if trajectory.outcome is not None:
            for name, visit in _visits(trajectory, abstraction, within):
                visits.setdefault(name, []).append(visit)
    costs = [_compare(name, some) for name, some in sorted(visits.items())]
    return [cost for cost in costs if cost is not None]


def _visits(
    trajectory: Trajectory, abstraction: StateAbstraction | None, within: Sequence[str]
) -> list[tuple[str, _Visit]]:
    fields = tuple(trajectory.fields.get(name) for name in within)
    lengths = np.array([1 if step.action is None else step.action.count(", ") + 1 for step in trajectory.steps])
    left, found = lengths[::-1].cumsum()[::-1], []
    for t, step in enumerate(trajectory.steps):
        if step.intervention is None:
            continue
        # A rollout does not hold the step before its first one, which was the agent's.
        before = trajectory.steps[t - 1].intervention if t else None
        late = episode_step(trajectory, t) > 0 and before != step.intervention
        state = (
            (trajectory.task, step.state if step.key is None else step.key.rpartition(AFTER)[0] or step.key)
            if abstraction is None
            else abstraction.encode(trajectory, t)
        )
        group = (state, fields)
        found.append(
            (step.intervention, _Visit(group, trajectory.task, late, float(trajectory.outcome or 0.0), int(left[t])))
        )
    return found


def _compare(name: str, visits: Sequence[_Visit]) -> HandoffCost | None:
    """The two kinds of help of one type; None where they share no state, or only those of one task."""
    kinds: dict[Hashable, set[bool]] = {}
    for visit in visits:
        kinds.setdefault(visit.group, set()).add(visit.late)
    shared = [visit for visit in visits if len(kinds[visit.group]) == 2]
    tasks = list(dict.fromkeys(visit.task for visit in shared))
    won = [visit for visit in shared if visit.success > 0]
    if len(tasks) < 2 or {visit.late for visit in won} != {False, True}:
        return None
    late = sum(visit.late for visit in shared)
    success = _difference(shared, np.array([visit.success for visit in shared]), tasks)
    actions = _difference(won, np.array([float(visit.actions) for visit in won]), tasks)
    if success is None or actions is None:
        return None
    states = len({visit.group for visit in shared})
    return HandoffCost(name, success, actions, states, len(shared) - late, late)


def _difference(visits: Sequence[_Visit], values: Floats, tasks: Sequence[str]) -> Interval | None:
    """Mean of `values` where help took over less where it went on, in equal groups; resampled by task."""
    place = {group: i for i, group in enumerate(dict.fromkeys(visit.group for visit in visits))}
    index = {task: i for i, task in enumerate(tasks)}
    cells = np.array([(index[visit.task], place[visit.group]) for visit in visits]).T
    kind = np.array([visit.late for visit in visits])
    shape, columns = (len(tasks), len(place)), []
    for late in (True, False):
        for weight in (np.ones(len(visits)), values):
            chosen = (weight[kind == late], tuple(cells[:, kind == late]))
            columns.append(sp.csr_array(sp.coo_array(chosen, shape=shape)))
    mean = _mean_gap(np.ones((1, len(tasks))), columns)[0]
    if np.isnan(mean):
        return None
    times = np.array([np.bincount(drawn, minlength=len(tasks)) for drawn in bootstrap(len(tasks))], dtype=np.float64)
    samples = [_mean_gap(times[first : first + CHUNK], columns) for first in range(0, len(times), CHUNK)]
    return interval(float(mean), np.concatenate(samples))


def _mean_gap(times: Floats, columns: Sequence[sp.csr_array]) -> Floats:
    """Weighted mean over groups of the gap between the two kinds, for each row of `times` (samples, tasks)."""
    late, late_sum, early, early_sum = (times @ column for column in columns)
    weight = np.divide(late * early, late + early, out=np.zeros_like(late), where=late + early > 0)
    gap = late_sum / np.maximum(late, 1.0) - early_sum / np.maximum(early, 1.0)
    total = weight.sum(axis=1)
    return np.asarray(np.divide((weight * gap).sum(axis=1), total, out=np.full(len(times), np.nan), where=total > 0))
