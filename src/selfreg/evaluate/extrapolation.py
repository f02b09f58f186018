"""States that were never logged: the plan's decision in the most similar logged state, marked as extrapolated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.text_index import TextIndex, Tfidf, Vectors
from selfreg.data import Step, Trajectory
from selfreg.data.scorer import StateScorer
from selfreg.decisions import BudgetLeft, Decision
from selfreg.estimate import EstimatedModel
from selfreg.estimate.model import mean_scores
from selfreg.evaluate.plans import Plan
from selfreg.planning.hard import Solution

# Below this similarity a text has no neighbour.
LEAST_SIMILARITY = 0.3


class StateMatch(NamedTuple):
    """A logged state that is similar to the current one.

    Attributes
    ----------
    state : int
        Abstract state of the model.
    similarity : float
        In [0, 1]: cosine of the texts, or 1 minus the difference of the PRM's scores.
    """

    state: int
    similarity: float


class Backoff(Protocol):
    """Finds a logged state for one that was never logged."""

    def nearest(self, steps: Sequence[Step], task: str) -> StateMatch | None:
        """Logged state for the last state of `steps`; None where none is similar enough."""


class NearestText:
    """The logged state with the most similar text, by cosine.

    Parameters
    ----------
    model : EstimatedModel
    trajectories : sequence of Trajectory
        Those that the model was estimated from: every distinct text of a step stands for its abstract state.
    least : float
        Similarity in [0, 1] below which there is no neighbour.
    vectors : Vectors, optional
        Of texts; by default TF-IDF of words and pairs of words.
    within_task : bool
        Whether only texts of the same task count.

    Raises
    ------
    ValueError
        If no step of `trajectories` is in a state of the model, or has a word in its text.
    """

    def __init__(
        self,
        model: EstimatedModel,
        trajectories: Sequence[Trajectory],
        *,
        least: float = LEAST_SIMILARITY,
        vectors: Vectors | None = None,
        within_task: bool = False,
    ) -> None:
        self.least, self.within_task = validate.probability("least", least), within_task
        self._vectors = vectors
        self._states: dict[str, dict[str, int]] = {}  # by task (one for all unless within_task), then by text
        self._indexes: dict[str, tuple[TextIndex, list[int]]] = {}
        for trajectory in trajectories:
            states = self._states.setdefault(self._group(trajectory.task), {})
            for t, step in enumerate(trajectory.steps):
                state = model.state(trajectory, t)
                if state is not None:
                    states.setdefault(step.state, state)
        try:
            for group in [] if within_task else self._states:
                self._index(group)
        except ValueError:
            raise ValueError("no step is in a state of the model and has a word in its text") from None
        if not any(self._states.values()):
            raise ValueError("no step is in a state of the model and has a word in its text")

    def nearest(self, steps: Sequence[Step], task: str) -> StateMatch | None:
        """State of the text most similar to the last of `steps`; of ties, the first one logged."""
        group = self._group(task)
        if not self._states.get(group):
            return None
        index, states = self._index(group)
        places, similarity = index.nearest(steps[-1].state)
        if similarity[0] < self.least:
            return None
        return StateMatch(states[int(places[0])], min(float(similarity[0]), 1.0))

    def _group(self, task: str) -> str:
        return task if self.within_task else ""

    def _index(self, group: str) -> tuple[TextIndex, list[int]]:
        if group not in self._indexes:
            states = self._states[group]
            self._indexes[group] = TextIndex.of(list(states), self._vectors or _tfidf()), list(states.values())
        return self._indexes[group]


def _tfidf() -> Tfidf:
    from selfreg.helper.memory import tfidf_vectorizer  # needs scikit-learn

    return Tfidf(tfidf_vectorizer())


class NearestScore:
    """The logged state whose mean PRM score is nearest to the score of the current state.

    Parameters
    ----------
    model : EstimatedModel
    trajectories : sequence of Trajectory
        Those that the model was estimated from.
    prm : StateScorer
    least : float
        Similarity, 1 minus the difference of scores, below which there is no neighbour.
    """

    def __init__(
        self, model: EstimatedModel, trajectories: Sequence[Trajectory], prm: StateScorer, *, least: float = 0.9
    ) -> None:
        self.prm, self.least = prm, validate.probability("least", least)
        self.score: npt.NDArray[np.float64] = mean_scores(trajectories, model.abstraction, model.counts.keys, prm)

    def nearest(self, steps: Sequence[Step], task: str) -> StateMatch | None:
        """State of the nearest score; of ties, the first one."""
        distance = np.abs(self.score - float(self.prm.score([self.prm.text(steps)])[0]))
        best = int(np.argmin(distance))
        similarity = float(1.0 - distance[best])
        return StateMatch(best, similarity) if similarity >= self.least else None


@dataclass
class DecisionCounts:
    """How many decisions were made, by kind of state.

    Attributes
    ----------
    logged : int
        At logged states.
    extrapolated : int
        At other states, as in the most similar logged state.
    unmatched : int
        At states without a similar one, where the agent goes on alone.
    """

    logged: int = 0
    extrapolated: int = 0
    unmatched: int = 0

    def __str__(self) -> str:
        return (
            f"{self.logged + self.extrapolated + self.unmatched} decisions: {self.logged} at logged states, "
            f"{self.extrapolated} extrapolated from a similar state, {self.unmatched} without a similar state (alone)"
        )


class Extrapolating:
    """A plan that also decides at states that were never logged; a `DecisionPolicy`.

    A logged state has its own decision. Any other has that of the state that `backoff` finds, at the budget left; where
    it finds none, the agent goes on alone. `Decision.extrapolated` marks the last two kinds.

    Parameters
    ----------
    model : EstimatedModel
    solution : Solution
        Of `model.mdp`.
    backoff : Backoff
        `NearestText`, `NearestScore`, or your own.

    Attributes
    ----------
    counts : DecisionCounts
        Of all decisions so far.

    Raises
    ------
    ValueError
        If the solution is of another model.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import ExactKey, estimate_mdp
    >>> from selfreg.evaluate import Extrapolating, NearestText
    >>> logs = [Trajectory("t", f"a{i}", 0.0, (Step("the red door"),)) for i in range(5)]
    >>> logs += [Trajectory("t", f"h{i}", 1.0, (Step("the red door", intervention="help"),)) for i in range(5)]
    >>> model = estimate_mdp(logs, ExactKey())
    >>> plan = Extrapolating(model, selfreg.solve(model.mdp, 1), NearestText(model, logs))
    >>> plan.start("t", 0)
    >>> decisions = [plan.decide([Step(text)], (1,)) for text in ("the red door", "a red door here", "a garden")]
    >>> [(one.action, one.extrapolated) for one in decisions]
    [('help', False), ('help', True), ('nohelp', True)]
    >>> decisions[1].reason
    'as in the most similar logged state, similarity 0.77'
    >>> print(plan.counts)
    3 decisions: 1 at logged states, 1 extrapolated from a similar state, 1 without a similar state (alone)
    """

    name = "extrapolating plan"

    def __init__(self, model: EstimatedModel, solution: Solution, backoff: Backoff) -> None:
        self.plan, self.backoff, self.counts = Plan.of(model, solution), backoff, DecisionCounts()
        self._task = ""

    def start(self, task: str, seed: int) -> None:
        """Begin an episode."""
        self._task = task
        self.plan.start(task, seed)

    def set_fields(self, fields: Mapping[str, Any]) -> None:
        """Fields of the episode, for an abstraction that uses them."""
        self.plan.set_fields(fields)

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """Decision with the budget left; more than the plan has, or None, is read as its largest.

        Raises
        ------
        ValueError
            If `steps` is empty, or `budget_left` does not fit the solution.
        """
        decision = self.plan.look_up(steps, budget_left)
        if decision is not None:
            self.counts.logged += 1
            return decision
        match = self.backoff.nearest(steps, self._task)
        if match is None:
            self.counts.unmatched += 1
            return Decision(budget_left=budget_left, extrapolated=True, reason="no logged state is similar")
        self.counts.extrapolated += 1
        reason = f"as in the most similar logged state, similarity {match.similarity:.2f}"
        return replace(self.plan.decide_at(match.state, budget_left), extrapolated=True, reason=reason)
