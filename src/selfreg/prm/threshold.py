"""Self-regulation by the PRM alone: stop, or ask, where P(success) is low (section 4 of the method's paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfreg.data import Step, Trajectory
from selfreg.prm.prm import PRM, scores
from selfreg.prm.visits import Visits, unhelped


@dataclass(frozen=True)
class ThresholdRule:
    """Ask (or stop) in every state whose P(success) is below `threshold`.

    Attributes
    ----------
    threshold : float
    once : bool
        Whether an episode asks (or stops) at most once, at its first state below the threshold.
    mean_cost : float
        Requests per episode, on the episodes that the figures are of.
    precision : float
        Of the states in which it asks, the share from which the agent alone fails; NaN where it never asks.
    recall : float
        Of the failing states (episodes where `once`), the share in which it asks; NaN where none fails.
    episodes : int
        How many unhelped episodes the figures rest on.
    """

    threshold: float
    once: bool
    mean_cost: float
    precision: float
    recall: float
    episodes: int

    def asks(self, prm: PRM, steps: Sequence[Step]) -> bool:
        """Whether to ask in the state after `steps`; where `once`, the caller stops asking after the first time."""
        return bool(prm.score([prm.text(steps)])[0] < self.threshold)


def choose_threshold(
    prm: PRM,
    trajectories: Sequence[Trajectory],
    *,
    mean_cost: float | None = None,
    precision: float | None = None,
    once: bool = False,
) -> ThresholdRule:
    """The largest threshold whose mean cost, or precision, on unhelped episodes is as asked for.

    Requests are counted on episodes in which nobody helped. Where help changes what comes next, later requests of the
    same episode may be more or fewer; with `once` nothing comes after a request, and the count is exact.

    Parameters
    ----------
    prm : PRM
    trajectories : sequence of Trajectory
        Validation episodes: of tasks that the PRM was not trained on. Helped ones are left out.
    mean_cost : float, optional
        At most this many requests per episode on average.
    precision : float, optional
        At least this share of the requests comes where the agent alone fails.
    once : bool
        Whether an episode asks at most once.

    Returns
    -------
    ThresholdRule
        With threshold 0, which never asks, where no other meets what was asked for.

    Raises
    ------
    ValueError
        Not one of `mean_cost` and `precision` is given, or it is out of range; no episode is unhelped.

    Examples
    --------
    >>> from selfreg.prm import PRMConfig, choose_threshold, train_prm
    >>> from selfreg.data import Step, Trajectory
    >>> logs = [
    ...     Trajectory(f"task {i}", str(i), float(i % 2), (Step("It works." if i % 2 else "An error."),))
    ...     for i in range(40)
    ... ]
    >>> config = PRMConfig(kind="tfidf")
    >>> prm = train_prm(logs, config)
    >>> validation = [t for t in logs if t.task in prm.split["validation"]]
    >>> rule = choose_threshold(prm, validation, precision=0.9)
    >>> rule.precision, rule.recall, rule.asks(prm, [Step("An error.")])
    (1.0, 1.0, True)
    """
    if (mean_cost is None) == (precision is None):
        raise ValueError("give one of mean_cost and precision")
    if mean_cost is not None and not 0 <= mean_cost < np.inf:
        raise ValueError(f"mean_cost is {mean_cost}; expected a finite number >= 0")
    if precision is not None and not 0 <= precision <= 1:
        raise ValueError(f"precision is {precision}; expected a number in [0, 1]")
    visits, score, episodes = _scored(prm, trajectories, once)
    order = np.argsort(score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) > 0, True)) + 1  # states below each candidate threshold
    failures = np.cumsum(1 - visits.outcomes[order])[ends - 1]
    by_cost = mean_cost is not None
    chosen = np.flatnonzero(ends / episodes <= mean_cost if by_cost else failures / ends >= precision)  # type: ignore[operator]
    if not len(chosen):
        return _rule(0.0, once, visits, score, episodes)
    count = int(ends[chosen[-1]])
    # Between two scores, so that rounding in another process does not move a state across.
    above = score[order][count] if count < len(order) else 1.0 + 1e-6
    return _rule(float((score[order][count - 1] + above) / 2), once, visits, score, episodes)


def measure_threshold(
    prm: PRM, trajectories: Sequence[Trajectory], threshold: float, once: bool = False
) -> ThresholdRule:
    """A given threshold with its figures on other unhelped episodes: those of test tasks, once.

    Raises
    ------
    ValueError
        No episode is unhelped.

    Examples
    --------
    >>> from selfreg.prm import PRMConfig, measure_threshold, train_prm
    >>> from selfreg.data import Step, Trajectory
    >>> logs = [
    ...     Trajectory(f"task {i}", str(i), float(i % 2), (Step("It works." if i % 2 else "An error."),))
    ...     for i in range(40)
    ... ]
    >>> config = PRMConfig(kind="tfidf")
    >>> prm = train_prm(logs, config)
    >>> found = measure_threshold(prm, [t for t in logs if t.task in prm.split["test"]], 0.5)
    >>> found.precision, found.recall, found.episodes
    (1.0, 1.0, 6)
    """
    return _rule(threshold, once, *_scored(prm, trajectories, once))


def _scored(prm: PRM, trajectories: Sequence[Trajectory], once: bool) -> tuple[Visits, NDArray[np.float64], int]:
    """States in which a request can come, the score under which it does, and the number of episodes.

    Where an episode asks at most once it does so if its lowest score is below the threshold.
    """
    alone = [t for t in trajectories if not t.helped and t.outcome is not None]
    if not alone:
        raise ValueError(f"none of {len(trajectories)} episodes is unhelped with a known outcome")
    visits = unhelped(alone, prm.text)
    score = scores(prm, visits)
    if not once:
        return visits, score, len(alone)
    begin = np.flatnonzero(visits.steps == 0)
    lowest = np.minimum.reduceat(score, begin)
    return visits.at(visits.steps == 0), lowest, len(alone)


def _rule(threshold: float, once: bool, visits: Visits, score: NDArray[np.float64], episodes: int) -> ThresholdRule:
    asks, failure = score < threshold, 1 - visits.outcomes
    precision = float(failure[asks].mean()) if asks.any() else float("nan")
    recall = float(failure[asks].sum() / failure.sum()) if failure.sum() else float("nan")
    return ThresholdRule(threshold, once, float(asks.sum() / episodes), precision, recall, episodes)
