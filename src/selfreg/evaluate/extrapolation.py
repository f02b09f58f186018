"""States that a plan does not know: what to do there, by a stated rule, and marked as extrapolated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.data import NOHELP, StateScorer, Step, Trajectory
from selfreg.estimate import EstimatedModel, Key
from selfreg.estimate.model import mean_scores
from selfreg.planning.hard import Solution

# A text less like any known one than this has no neighbour.
LEAST_SIMILARITY = 0.3


class Like(NamedTuple):
    """A known state that stands in for another one.

    Attributes
    ----------
    state : int
        Abstract state of the model.
    likeness : float
        In [0, 1]: cosine of the texts, or 1 less the difference of the PRM's scores; 1 for the state itself.
    extrapolated : bool
        Whether the state was never logged, so that another one stands in for it.
    """

    state: int
    likeness: float
    extrapolated: bool


class Backoff(Protocol):
    """Finds a known state for one that was never logged."""

    def like(self, steps: Sequence[Step]) -> tuple[int, float] | None:
        """Known state and likeness for the last state of `steps`; None where none is near enough."""


class NearestText:
    """The known state whose text is most like this one's: cosine of TF-IDF vectors of words and pairs of words.

    Parameters
    ----------
    model : EstimatedModel
    trajectories : sequence of Trajectory
        Those that the model was estimated from: every distinct text of a step stands for its abstract state.
    least : float
        Likeness in [0, 1] below which there is no neighbour.

    Raises
    ------
    ValueError
        If no step of `trajectories` is in a state of the model, or has a word in its text.
    """

    def __init__(
        self, model: EstimatedModel, trajectories: Sequence[Trajectory], *, least: float = LEAST_SIMILARITY
    ) -> None:
        from selfreg.helper.memory import tfidf_vectorizer  # needs scikit-learn

        self.least = validate.probability("least", least)
        known: dict[str, int] = {}
        for trajectory in trajectories:
            for t, step in enumerate(trajectory.steps):
                state = model.state(trajectory, t)
                if state is not None:
                    known.setdefault(step.state, state)
        self.states = np.array(list(known.values()), dtype=np.intp)
        self.vectorizer = tfidf_vectorizer()
        try:
            self.rows = self.vectorizer.fit_transform(list(known))
        except ValueError:
            raise ValueError("no step is in a state of the model and has a word in its text") from None

    def like(self, steps: Sequence[Step]) -> tuple[int, float] | None:
        """Nearest text to the last of `steps`, the first one logged where several are as near."""
        likeness = self.rows @ self.vectorizer.transform([steps[-1].state]).toarray()[0]
        best = int(np.argmax(likeness))
        return (int(self.states[best]), float(min(likeness[best], 1.0))) if likeness[best] >= self.least else None


class NearestScore:
    """The known state whose mean PRM score is nearest to the score of this one.

    Parameters
    ----------
    model : EstimatedModel
    trajectories : sequence of Trajectory
        Those that the model was estimated from.
    prm : StateScorer
    least : float
        Likeness, 1 less the difference of scores, below which there is no neighbour.
    """

    def __init__(
        self, model: EstimatedModel, trajectories: Sequence[Trajectory], prm: StateScorer, *, least: float = 0.9
    ) -> None:
        self.prm, self.least = prm, validate.probability("least", least)
        self.score = mean_scores(trajectories, model.abstraction, model.counts.keys, prm)

    def like(self, steps: Sequence[Step]) -> tuple[int, float] | None:
        """State of the nearest score, the first one where several are as near."""
        distance = np.abs(self.score - float(self.prm.score([self.prm.text(list(steps))])[0]))
        best = int(np.argmin(distance))
        return (best, float(1.0 - distance[best])) if 1.0 - distance[best] >= self.least else None


@dataclass
class Decided:
    """How many decisions were made, and on what.

    Attributes
    ----------
    known, extrapolated, lost : int
        At logged states; at states that a logged one stood in for; at states like none, where the agent goes on alone.
    """

    known: int = 0
    extrapolated: int = 0
    lost: int = 0

    def __str__(self) -> str:
        total = self.known + self.extrapolated + self.lost
        return (
            f"{total} decisions: {self.known} at logged states, {self.extrapolated} extrapolated from a logged state "
            f"like the one at hand, {self.lost} at states like none (alone)"
        )


@dataclass
class Extrapolating:
    """A plan that knows what to do at states never logged: what it does at the known state most like them.

    The rule: a logged state decides for itself. Any other takes the decision of the state that `backoff` finds, at the
    budget left; where it finds none, the agent goes on alone. Every decision says which of these it was.

    Parameters
    ----------
    model : EstimatedModel
    solution : Solution
        Of `model.mdp`.
    backoff : Backoff
        `NearestText`, `NearestScore`, or your own.

    Attributes
    ----------
    counts : Decided
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
    >>> plan.decide([Step("the red door")], 1, task="t")
    ('help', Like(state=0, likeness=1.0, extrapolated=False))
    >>> action, like = plan.decide([Step("a red door here")], 1, task="t")
    >>> action, like.extrapolated, plan.decide([Step("a garden")], 1, task="t")
    ('help', True, ('nohelp', None))
    >>> print(plan.counts)
    3 decisions: 1 at logged states, 1 extrapolated from a logged state like the one at hand, \
1 at states like none (alone)
    """

    model: EstimatedModel
    solution: Solution
    backoff: Backoff
    counts: Decided = field(default_factory=Decided)

    def __post_init__(self) -> None:
        if self.solution.value.shape[0] != self.model.mdp.n_states:
            raise ValueError("solution is of another model")

    def locate(self, steps: Sequence[Step], task: str = "") -> Like | None:
        """Known state for the last state of `steps`, itself or one like it; None where there is none."""
        so_far = Trajectory(task, "now", None, tuple(steps), truncated=True)
        state = self.model.state(so_far, len(steps) - 1)
        if state is not None:
            return Like(state, 1.0, False)
        found = self.backoff.like(steps)
        return None if found is None else Like(*found, True)

    def decide(
        self, steps: Sequence[Step], budget_left: int | tuple[int, ...], *, task: str = ""
    ) -> tuple[str, Like | None]:
        """Action with so much budget left (its largest where more is left), and the state that it rests on.

        Raises
        ------
        ValueError
            For no steps, or a budget that does not fit the solution.
        """
        if not steps:
            raise ValueError("steps is empty; expected at least the state at hand")
        left = (budget_left,) if isinstance(budget_left, int) else tuple(budget_left)
        if len(left) != len(self.solution.budget) or min(left) < 0:
            raise ValueError(f"budget_left is {budget_left}; expected {len(self.solution.budget)} numbers >= 0")
        like = self.locate(steps, task)
        if like is None:
            self.counts.lost += 1
            return NOHELP, None
        self.counts.known += not like.extrapolated
        self.counts.extrapolated += like.extrapolated
        point: tuple[int, ...] = tuple(min(one, most) for one, most in zip(left, self.solution.budget, strict=True))
        chosen: npt.NDArray[np.int8] = self.solution.policy
        return self.model.mdp.actions[int(chosen[(like.state, *point)])], like


def unseen_share(model: EstimatedModel, trajectories: Sequence[Trajectory]) -> float:
    """Share of the steps of other trajectories whose state the model never saw.

    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import ExactKey, estimate_mdp
    >>> from selfreg.evaluate import unseen_share
    >>> model = estimate_mdp([Trajectory("t", "0", 1.0, (Step("a"),))], ExactKey())
    >>> unseen_share(model, [Trajectory("t", "1", 1.0, (Step("a"), Step("b")))])
    0.5
    """
    states: list[Key | int | None] = [model.state(one, t) for one in trajectories for t in range(len(one.steps))]
    if not states:
        raise ValueError("there are no steps")
    return sum(state is None for state in states) / len(states)
