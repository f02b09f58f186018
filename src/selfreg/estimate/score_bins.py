"""States of another abstraction, split by the bin of their PRM score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from selfreg.data import StateScorer, Trajectory
from selfreg.estimate.abstraction import ANY_VALUE, ExactKey, Features, Key, StateAbstraction

SCORE = "score"


class ScoreBins:
    """A state is a state of `inner` and the bin of its PRM score.

    Parameters
    ----------
    inner : StateAbstraction
        If the step is part of it, the model stays acyclic.
    prm : StateScorer
    bins : int
        Number of bins, by quantiles of the scores in `fit`.
    edges : sequence of float, optional
        Inner edges, ascending; by default `fit` chooses them.

    Raises
    ------
    ValueError
        For less than 2 bins, or edges that do not ascend.

    Examples
    --------
    >>> import numpy as np
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, ScoreBins
    >>> class Reader:
    ...     def text(self, steps): return steps[-1].state
    ...     def score(self, texts): return np.array([float(text) for text in texts])
    >>> states = ScoreBins(Features(["step"]), Reader(), edges=[0.5])
    >>> states.encode(Trajectory("t", "e", 1.0, (Step("0.2"), Step("0.7"))), 1)
    (1, 1)
    """

    def __init__(
        self, inner: StateAbstraction, prm: StateScorer, bins: int = 5, edges: Sequence[float] | None = None
    ) -> None:
        if bins < 2:
            raise ValueError(f"bins is {bins}; expected at least 2")
        if edges is not None and (not len(edges) or not (np.diff(edges) > 0).all()):
            raise ValueError(f"edges are {list(edges)}; expected ascending numbers")
        self.inner, self.prm, self.bins = inner, prm, bins
        self.edges = None if edges is None else np.asarray(edges, dtype=np.float64)
        self._scores: dict[str, float] = {}

    @property
    def names(self) -> list[str]:
        """Names of the parts of a key."""
        return [*getattr(self.inner, "names", ["state"]), f"{SCORE} bin"]

    def fit(self, trajectories: Iterable[Trajectory]) -> None:
        """Score all states, and choose the edges unless they were given."""
        episodes = list(trajectories)
        self.inner.fit(episodes)
        texts = [text for episode in episodes for text in self._texts(episode)]
        self._score(texts)
        if self.edges is None:
            scores = [self._scores[text] for text in texts]
            self.edges = np.unique(np.quantile(scores, np.arange(1, self.bins) / self.bins))

    def encode(self, trajectory: Trajectory, step: int) -> Key:
        """Key of `inner`, then the bin, 0 for the lowest scores."""
        if self.edges is None:
            raise ValueError("ScoreBins has no edges; call fit first")
        text = self.prm.text(trajectory.steps[: step + 1])
        if text not in self._scores:
            self._score(self._texts(trajectory))
        return (
            *self.inner.encode(trajectory, step),
            int(np.searchsorted(self.edges, self._scores[text], side="right")),
        )

    def coarser(self, key: Key) -> Key | None:
        """The key without its bin, then with the coarser key of `inner`."""
        if key[-1] != ANY_VALUE:
            return (*key[:-1], ANY_VALUE)
        wider = self.inner.coarser(key[:-1])
        return None if wider is None else (*wider, ANY_VALUE)

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values; the PRM is not among them."""
        edges = [] if self.edges is None else self.edges.tolist()
        return {"kind": "score_bins", "inner": self.inner.describe(), "bins": self.bins, "edges": edges}

    def _texts(self, trajectory: Trajectory) -> list[str]:
        return [self.prm.text(trajectory.steps[: i + 1]) for i in range(len(trajectory.steps))]

    def _score(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._scores]
        if new:
            self._scores |= dict(zip(new, self.prm.score(new).tolist(), strict=True))


def from_description(description: Mapping[str, Any], prm: Callable[[], StateScorer] | None = None) -> StateAbstraction:
    """Abstraction from its description, as `describe` returns it.

    Parameters
    ----------
    description : mapping
    prm : callable () -> StateScorer, optional
        Called if scores are part of the states.

    Raises
    ------
    ValueError
        For an unknown abstraction, or states by score without `prm`.

    Examples
    --------
    >>> from selfreg.estimate import ExactKey
    >>> from selfreg.estimate.score_bins import from_description
    >>> from_description(ExactKey(step=True).describe())
    ExactKey(step=True)
    """
    if description["kind"] == "exact":
        return ExactKey(step=bool(description["step"]))
    if description["kind"] == "features":
        return Features(list(description["names"]), dict(description["classes"]))
    if description["kind"] == "score_bins":
        if prm is None:
            raise ValueError("states by score need their PRM (prm=)")
        inner = from_description(description["inner"])
        return ScoreBins(inner, prm(), int(description["bins"]), description["edges"] or None)
    raise ValueError(f"unknown abstraction {description['kind']!r}; expected exact, features or score_bins")
