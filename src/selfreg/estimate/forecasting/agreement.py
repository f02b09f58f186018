"""Value of a policy from episodes that went as the policy would have gone, with bounds for the rest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selfreg.estimate.forecasting.logged_steps import Actions, Floats, LoggedSteps
from selfreg.estimate.forecasting.step_effects import Value


def agreement_value(logged: LoggedSteps, decided: Actions, times: Floats, *, by_task: bool) -> Value:
    """Value of the policy that takes the actions `decided` (steps,) at the logged steps.

    The first decision chooses the arm: the episodes whose first step was taken so. Those that agree with the policy to
    their end are episodes of the policy; the share of the others is `unknown`, and nothing is said of their outcome
    (bounds of Manski 1990). `success` and `requests` are sums over the agreeing episodes alone, so that the success of
    the policy lies between `success` and `success + unknown`.

    Parameters
    ----------
    decided : int8 (steps,)
    times : float64 (samples, tasks)
    by_task : bool
        Whether arms are compared within tasks: every task counts once, and one without an episode in the arm is
        unknown. Otherwise chance decided which arm an episode is in, and all episodes of an arm are alike.
    """
    sums = _sum_by_task(logged, decided, by_task)
    total = np.vstack([np.ones(len(logged.tasks)), times]) @ sums
    success, used, share = (total[:, :3] / np.maximum(total[:, 3:], 1e-300)).T
    return Value(success, used, np.clip(1.0 - share, 0.0, 1.0))


def paired_values(logged: LoggedSteps, decided: Actions, times: Floats) -> tuple[Value, Value, int]:
    """Values of the policy and of going alone in the tasks where both are known, and the number of these tasks."""
    both = [_sum_by_task(logged, one, True) for one in (decided, np.zeros_like(decided))]
    known = (both[0][:, 2] > 1.0 - 1e-9) & (both[1][:, 2] > 1.0 - 1e-9)
    weights = np.vstack([np.ones(len(known)), times]) * known
    size = np.maximum(weights.sum(axis=1), 1e-300)
    means = [(weights @ sums[:, :2] / size[:, None]).T for sums in both]
    policy, alone = (Value(success, used, np.zeros(len(size))) for success, used in means)
    return policy, alone, int(np.count_nonzero(known))


def _sum_by_task(logged: LoggedSteps, decided: Actions, by_task: bool) -> Floats:
    """Success, requests, and weight of the agreeing episodes, and weight of all, float64 (tasks, 4)."""
    in_arm = (logged.action == decided)[logged.first]
    differs = logged.sum_episodes((logged.action != decided).astype(np.float64))
    requests = logged.sum_episodes((decided > 0).astype(np.float64))
    weight = _arm_weights(logged, decided[logged.first], in_arm, by_task)
    known = weight * (differs == 0)
    sums = logged.by_task(np.column_stack([known * logged.outcome, known * requests, known, weight]))
    if by_task:
        sums[:, 3] = 1.0
    return sums


def _arm_weights(logged: LoggedSteps, arm: Actions, in_arm: npt.NDArray[np.bool_], by_task: bool) -> Floats:
    """Weight of each episode in its arm, float64 (episodes,); 0 outside of it."""
    if by_task:
        size = np.bincount(logged.task, in_arm, len(logged.tasks))[logged.task]
        return np.divide(in_arm, size, out=np.zeros(len(arm)), where=size > 0)
    share = np.bincount(logged.action[logged.first], minlength=len(logged.actions)) / len(arm)
    return np.where(in_arm, 1.0 / np.maximum(share[arm], 1e-300), 0.0)
