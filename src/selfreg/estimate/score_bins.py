"""States by the bin of their PRM score, beside what another abstraction makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from selfreg.data import StateScorer, Trajectory
from selfreg.estimate.abstraction import GIVEN_UP, ExactKey, Features, Key, StateAbstraction

SCORE = "score"


class ScoreBins:
    """A state is what `inner` makes of it, and the bin of its PRM score.

    Parameters
    ----------
    inner : StateAbstraction
        With the step in it, the model stays acyclic.
    prm : StateScorer
    bins : int
        Bins with about as many states each, by quantiles of the scores that `fit` sees.
    edges : sequence of float, optional
        Inner edges, ascending; where they are given, `fit` leaves them.

    Raises
    ------
    ValueError
        `bins` is below 2, or `edges` do not ascend.

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
        self._known: dict[str, float] = {}

    @property
    def names(self) -> list[str]:
        """Names of the parts of a key, where `inner` has names."""
        return [*getattr(self.inner, "names", ["state"]), f"{SCORE} bin"]

    def fit(self, trajectories: Iterable[Trajectory]) -> None:
        """Score all states at once, and take the edges from the scores where none were given."""
        episodes = list(trajectories)
        self.inner.fit(episodes)
        texts = [text for episode in episodes for text in self._texts(episode)]
        self._score(texts)
        if self.edges is None:
            scores = [self._known[text] for text in texts]
            self.edges = np.unique(np.quantile(scores, np.arange(1, self.bins) / self.bins))

    def encode(self, trajectory: Trajectory, step: int) -> Key:
        """Key of `inner`, then the bin, 0 for the lowest scores."""
        if self.edges is None:
            raise ValueError("the bins have no edges yet; fit them first")
        text = self.prm.text(trajectory.steps[: step + 1])
        if text not in self._known:
            self._score(self._texts(trajectory))
        return (*self.inner.encode(trajectory, step), int(np.searchsorted(self.edges, self._known[text], side="right")))

    def coarser(self, key: Key) -> Key | None:
        """The bin is given up first, then what `inner` gives up."""
        if key[-1] != GIVEN_UP:
            return (*key[:-1], GIVEN_UP)
        wider = self.inner.coarser(key[:-1])
        return None if wider is None else (*wider, GIVEN_UP)

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values; the PRM is not among them."""
        edges = [] if self.edges is None else self.edges.tolist()
        return {"kind": "score_bins", "inner": self.inner.describe(), "bins": self.bins, "edges": edges}

    def _texts(self, trajectory: Trajectory) -> list[str]:
        return [self.prm.text(trajectory.steps[: i + 1]) for i in range(len(trajectory.steps))]

    def _score(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= dict(zip(new, self.prm.score(new).tolist(), strict=True))


def from_description(description: Mapping[str, Any], prm: Callable[[], StateScorer] | None = None) -> StateAbstraction:
    """Abstraction from what its `describe` returned; `prm` is called where scores are part of it."""
    if description["kind"] == "exact":
        return ExactKey(step=bool(description["step"]))
    if description["kind"] == "features":
        return Features(list(description["names"]), dict(description["classes"]))
    if description["kind"] == "score_bins":
        if prm is None:
            raise ValueError("states by score need the PRM that scored them")
        inner = from_description(description["inner"])
        return ScoreBins(inner, prm(), int(description["bins"]), description["edges"] or None)
    raise ValueError(f"abstraction {description['kind']!r} is not known")
