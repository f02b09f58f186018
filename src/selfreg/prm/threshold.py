"""Self-regulation by the PRM alone: stop, or request help, where P(success) is low (section 4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from selfreg.data import NOHELP, Step, Trajectory
from selfreg.data.scorer import StateScorer
from selfreg.decisions import BudgetLeft, Decision, budget_spent
from selfreg.prm.prm import PRM, score_visits
from selfreg.prm.visits import Visits, unhelped_visits


@dataclass
class ThresholdPolicy:
    """Requests `help` (or stops) in states whose P(success) is below `threshold`; a `DecisionPolicy`.

    Attributes
    ----------
    prm : StateScorer
    help : str
        Help type to request.
    threshold : float
    once : bool
        Whether an episode requests help at most once.
    name : str
    scores : dict of str to float
        P(success) by text, filled on the way; policies may share it.

    Examples
    --------
    >>> import numpy as np
    >>> from selfreg.data import Step
    >>> from selfreg.prm.threshold import ThresholdPolicy
    >>> class ByLength:
    ...     def text(self, steps): return steps[-1].state
    ...     def score(self, texts): return np.array([len(text) / 10 for text in texts])
    >>> policy = ThresholdPolicy(ByLength(), "person", 0.5)
    >>> policy.decide([Step("long text")], (2,)).action, policy.decide([Step("text")], (2,)).action
    ('nohelp', 'person')
    """

    prm: StateScorer
    help: str
    threshold: float
    once: bool = False
    name: str = "PRM threshold"
    scores: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """Request help where the score is below the threshold and a unit of budget is left."""
        if budget_spent(budget_left):
            return Decision(budget_left=budget_left, reason="no budget is left")
        if self.once and any(step.intervention is not None for step in steps[:-1]):
            return Decision(budget_left=budget_left, reason="help was requested before")
        text = self.prm.text(steps)
        if text not in self.scores:
            self.scores[text] = float(self.prm.score([text])[0])
        score = self.scores[text]
        low = score < self.threshold
        reason = f"P(success) {score:.2f} is {'' if low else 'not '}below {self.threshold:.2f}"
        return Decision(
            self.help if low else NOHELP, float(low), {NOHELP: score}, budget_left=budget_left, reason=reason
        )


@dataclass(frozen=True)
class ThresholdRule:
    """A threshold on P(success), with its figures on unhelped episodes.

    Attributes
    ----------
    threshold : float
    once : bool
        Whether an episode requests help (or stops) at most once, at its first state below the threshold.
    mean_cost : float
        Requests per episode.
    precision : float
        Share of the requests that come where the agent alone fails; NaN without a request.
    recall : float
        Share of the failing states (episodes where `once`) in which help is requested; NaN where none fails.
    episodes : int
        Number of unhelped episodes that the figures are of.
    """

    threshold: float
    once: bool
    mean_cost: float
    precision: float
    recall: float
    episodes: int

    def policy(self, prm: StateScorer, help: str = "help") -> ThresholdPolicy:
        """Policy that requests `help` by this rule."""
        return ThresholdPolicy(prm, help, self.threshold, self.once)


def choose_threshold(
    prm: PRM,
    trajectories: Sequence[Trajectory],
    *,
    mean_cost: float | None = None,
    precision: float | None = None,
    once: bool = False,
) -> ThresholdRule:
    """Choose the largest threshold with a mean cost, or a precision, on unhelped episodes.

    Requests are counted on episodes in which nobody helped. Help changes what follows, so that later requests of the
    same episode may be more or fewer; with `once` nothing follows a request, and the count is exact.

    Parameters
    ----------
    prm : PRM
    trajectories : sequence of Trajectory
        Validation episodes: of tasks that the PRM was not trained on. Helped ones are ignored.
    mean_cost : float, optional
        At most this many requests per episode on average.
    precision : float, optional
        At least this share of the requests comes where the agent alone fails.
    once : bool
        Whether an episode requests help at most once.

    Returns
    -------
    ThresholdRule
        With threshold 0, which never requests help, where no other meets the condition.

    Raises
    ------
    ValueError
        Neither or both of `mean_cost` and `precision` are given, or one is out of range; no episode is unhelped.

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
    >>> rule.precision, rule.recall, rule.policy(prm).decide([Step("An error.")], None).action
    (1.0, 1.0, 'help')
    """
    if (mean_cost is None) == (precision is None):
        raise ValueError("expected one of mean_cost and precision")
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
    """Figures of a threshold on other unhelped episodes, such as those of test tasks.

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
    """States in which a request can come, the score below which it does, and the number of episodes.

    With `once`, an episode requests help if its lowest score is below the threshold.
    """

    alone = [t for t in trajectories if not t.helped and t.outcome is not None]
    if not alone:
        raise ValueError(f"none of {len(trajectories)} episodes is unhelped with an outcome")
    visits = unhelped_visits(alone, prm.text)
    score = score_visits(prm, visits)
    if not once:
        return visits, score, len(alone)
    begin = np.flatnonzero(visits.steps == 0)
    lowest = np.minimum.reduceat(score, begin)
    return visits.select(visits.steps == 0), lowest, len(alone)


def _rule(threshold: float, once: bool, visits: Visits, score: NDArray[np.float64], episodes: int) -> ThresholdRule:
    requested, failure = score < threshold, 1 - visits.outcomes
    precision = float(failure[requested].mean()) if requested.any() else float("nan")
    recall = float(failure[requested].sum() / failure.sum()) if failure.sum() else float("nan")
    return ThresholdRule(threshold, once, float(requested.sum() / episodes), precision, recall, episodes)
