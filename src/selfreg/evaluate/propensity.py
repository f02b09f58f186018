"""P(logged action) by a calibrated classifier, for logs that do not hold it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.extras import require_extra
from selfreg._util.threads import single_thread
from selfreg.data import NOHELP, Trajectory
from selfreg.estimate import StateAbstraction
from selfreg.evaluate.logged import Propensity

FOLDS, INNER = 5, 3


def fitted_propensity(
    trajectories: Iterable[Trajectory], abstraction: StateAbstraction, *, folds: int = FOLDS, seed: int = 0
) -> Propensity:
    """P(logged action) at every step, by a logistic regression that is calibrated on held-out tasks.

    Features are the parts of the abstract state, the whole state, the step, the previous action, and the share of
    earlier steps that were helped. The model of a task is fitted to other tasks and calibrated by Platt's sigmoids on
    held-out ones among them (scikit-learn's `CalibratedClassifierCV`).

    Parameters
    ----------
    trajectories : iterable of Trajectory
    abstraction : StateAbstraction
        Fitted here.
    folds : int
        Parts of the tasks, at least 2.
    seed : int

    Returns
    -------
    callable
        Of a trajectory and a step, as the `propensity` of `ope`; for these trajectories only.

    Raises
    ------
    ValueError
        For fewer tasks than the folds need, an action in too few tasks, or (when called) another trajectory.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features
    >>> from selfreg.evaluate import fitted_propensity
    >>> logs = [Trajectory(f"t{i}", str(i), 1.0, (Step("go", intervention="help" if i % 4 == 0 else None),))
    ...         for i in range(400)]
    >>> chance = fitted_propensity(logs, Features(["step"]))
    >>> round(chance(logs[0], 0), 1), round(chance(logs[1], 0), 1)
    (0.2, 0.8)
    """
    folds = validate.integer("folds", folds, 2)
    episodes = list(trajectories)
    abstraction.fit(episodes)
    features = [_features(one, t, abstraction) for one in episodes for t in range(len(one.steps))]
    action = np.array([step.intervention or NOHELP for one in episodes for step in one.steps])
    tasks = {name: i for i, name in enumerate(dict.fromkeys(one.task for one in episodes))}
    if len(tasks) < folds * INNER:
        raise ValueError(
            f"there are {len(tasks)} tasks; {folds} folds with {INNER} of calibration need {folds * INNER}"
        )
    task = np.array([tasks[one.task] for one in episodes for _ in one.steps])
    chance = _out_of_fold(features, action, task, np.random.default_rng(seed).permutation(len(tasks)) % folds)
    ends = np.cumsum([len(one.steps) for one in episodes])
    first = {one.episode: int(end) - len(one.steps) for one, end in zip(episodes, ends, strict=True)}

    def propensity(trajectory: Trajectory, step: int) -> float:
        if trajectory.episode not in first:
            raise ValueError(f"episode {trajectory.episode!r} is not one of the fitted episodes")
        return float(chance[first[trajectory.episode] + step])

    return propensity


def _features(trajectory: Trajectory, t: int, abstraction: StateAbstraction) -> dict[str, float]:
    key = abstraction.encode(trajectory, t)
    helped = [step.intervention is not None for step in trajectory.steps[:t]]
    before = (trajectory.steps[t - 1].intervention or NOHELP) if t else "start"
    named = [f"{i}={part}" for i, part in enumerate(key)]
    share = float(np.mean(helped)) if helped else 0.0
    return {
        **dict.fromkeys([*named, f"state={key}", f"step={t}", f"before={before}"], 1.0),
        "helped": share,
        "none": float(bool(helped) and not any(helped)),
        "all": float(bool(helped) and all(helped)),
    }


def _out_of_fold(
    features: list[dict[str, float]],
    action: npt.NDArray[np.str_],
    task: npt.NDArray[np.int64],
    fold: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """P(action taken) of every step, by models of the tasks in other folds."""
    with require_extra("ml", "fitted propensities"):
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.feature_extraction import DictVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GroupKFold
    table = DictVectorizer().fit_transform(features)
    result = np.zeros(len(action))
    for k in range(int(fold.max()) + 1):
        here, rest = fold[task] == k, fold[task] != k
        splits = list(GroupKFold(INNER).split(table[rest], action[rest], task[rest]))
        for name in np.unique(action).tolist():
            if any(name not in action[rest][part] for pair in splits for part in pair):
                raise ValueError(f"action {name!r} occurs in too few tasks; expected it in every fold")
        model = CalibratedClassifierCV(LogisticRegression(max_iter=1000), method="sigmoid", cv=splits)
        with single_thread():
            model.fit(table[rest], action[rest])
        column = np.searchsorted(model.classes_, action[here])
        result[here] = np.take_along_axis(model.predict_proba(table[here]), column[:, None], axis=1)[:, 0]
    return result
