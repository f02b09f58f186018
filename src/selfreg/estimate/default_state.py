"""Which features make the states where the user names none: those that predict outcomes of held-out tasks best."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg.data import Scalar, Trajectory
from selfreg.estimate.abstraction import CLASS, LAST_HELP, STEP, TASK, Features

FOLDS = 5
# Pseudo-episodes of the overall success rate in each state.
PRIOR = 2.0
MOST_VALUES = 30
MOST_FIELDS = 12


class ChosenFeatures(NamedTuple):
    """What `choose_features` returns.

    Attributes
    ----------
    features : Features
    likelihoods : dict of str to float
        Held-out log-likelihood of the outcome, the mean over unhelped steps of tasks, for each set of features that was
        tried ("step,domain").
    """

    features: Features
    likelihoods: dict[str, float]

    def describe(self) -> str:
        """The choice and its reason, a sentence."""
        chosen = ",".join(self.features.names)
        others = ", ".join(f"{name} {value:.4f}" for name, value in self.likelihoods.items() if name != chosen)
        compared = f" (other: {others})" if others else ""
        return (
            f"states are --state {chosen}, chosen by the held-out log-likelihood of the outcome, "
            f"{self.likelihoods[chosen]:.4f} a step{compared}"
        )


def choose_features(trajectories: Sequence[Trajectory], classes: Mapping[str, str] | None = None) -> ChosenFeatures:
    """Features for the states of logs without exact keys.

    `step` is always one. A field of the episode, or `class` if there are classes, is added if it raises the held-out
    log-likelihood by more than a standard error over tasks; then perhaps a second one. Fields that come into question
    are those that a task determines: they are the same in all its episodes, so no outcome is in them.

    Parameters
    ----------
    trajectories : sequence of Trajectory
    classes : mapping of str to regular expression, optional

    Returns
    -------
    ChosenFeatures

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate.default_state import choose_features
    >>> log = [Trajectory(f"t{i % 40}", str(i), float(i % 2), (Step("go"),), fields={"odd": i % 2}) for i in range(200)]
    >>> choose_features(log).features.names
    ['step', 'odd']
    """
    unhelped = [t for t in trajectories if not t.helped and t.outcome is not None]
    left = [*find_task_fields(trajectories), *([CLASS] if classes else [])]
    names, scores = [STEP], {STEP: _score(unhelped, [STEP], classes)}
    likelihoods = {STEP: _mean(scores[STEP])}
    for _ in range(2):
        tried = {name: _score(unhelped, [*names, name], classes) for name in left}
        likelihoods |= {",".join([*names, name]): _mean(score) for name, score in tried.items()}
        best = max(tried, key=lambda name: _mean(tried[name]), default=None)
        if best is None or not _is_better(tried[best], scores[",".join(names)]):
            break
        names = [*names, best]
        scores[",".join(names)] = tried[best]
        left.remove(best)
    return ChosenFeatures(Features(names, dict(classes or {}) if CLASS in names else {}), likelihoods)


def find_task_fields(trajectories: Sequence[Trajectory]) -> list[str]:
    """Fields of all episodes with a few values, the same in all episodes of a task; none where no task is repeated."""
    values: dict[str, dict[str, Scalar]] = {}
    names = set(trajectories[0].fields) - {STEP, CLASS, TASK, LAST_HELP} if trajectories else set()
    for trajectory in trajectories:
        known = values.setdefault(trajectory.task, dict(trajectory.fields))
        names = {n for n in names if n in trajectory.fields and _same(known.get(n), trajectory.fields[n])}
    repeated = len(values) < len(trajectories)
    distinct = {name: {(type(fields[name]), fields[name]) for fields in values.values()} for name in names}
    most = min(MOST_VALUES, len(values) // 4)
    return sorted(name for name in names if repeated and 2 <= len(distinct[name]) <= most)[:MOST_FIELDS]


def _same(first: Scalar, second: Scalar) -> bool:
    return type(first) is type(second) and first == second


def _steps(trajectories: Sequence[Trajectory], features: Features) -> Iterator[tuple[str, tuple[Scalar, ...], float]]:
    for trajectory in trajectories:
        assert trajectory.outcome is not None
        for step in range(len(trajectory.steps)):
            yield trajectory.task, features.encode(trajectory, step), trajectory.outcome


def _score(
    trajectories: Sequence[Trajectory], names: Sequence[str], classes: Mapping[str, str] | None
) -> dict[str, npt.NDArray[np.float64]]:
    """Sum of the log-likelihoods and number of steps of each task, predicted from the tasks of the other folds."""
    features = Features(names, dict(classes or {}) if CLASS in names else {})
    rows = [(task, key, outcome, _fold(task)) for task, key, outcome in _steps(trajectories, features)]
    total = np.zeros((FOLDS, 2))
    by_key: dict[tuple[Scalar, ...], npt.NDArray[np.float64]] = defaultdict(lambda: np.zeros((FOLDS, 2)))
    for _, key, outcome, fold in rows:
        by_key[key][fold] += (outcome, 1.0)
        total[fold] += (outcome, 1.0)
    scores: dict[str, npt.NDArray[np.float64]] = defaultdict(lambda: np.zeros(2))
    rate = (total.sum(0) - total)[:, 0] + 1.0
    rate /= (total.sum(0) - total)[:, 1] + 2.0
    for task, key, outcome, fold in rows:
        won, seen = by_key[key].sum(0) - by_key[key][fold]
        p = (won + PRIOR * rate[fold]) / (seen + PRIOR)
        scores[task] += (outcome * np.log(p) + (1 - outcome) * np.log1p(-p), 1.0)
    return scores


def _fold(task: str) -> int:
    return zlib.crc32(task.encode("utf-8", "surrogatepass")) % FOLDS


def _mean(scores: Mapping[str, npt.NDArray[np.float64]]) -> float:
    total = sum(scores.values(), np.zeros(2))
    return float(total[0] / total[1]) if total[1] else 0.0


def _is_better(scores: Mapping[str, npt.NDArray[np.float64]], others: Mapping[str, npt.NDArray[np.float64]]) -> bool:
    """Whether the mean over tasks is higher by more than its standard error."""
    gains = np.array([(score[0] - others[task][0]) / score[1] for task, score in scores.items()])
    return len(gains) > 1 and bool(gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)))
