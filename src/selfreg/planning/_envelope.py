"""The concave upper envelope of all (usage, success) that policies attain, by dichotomic search on the penalty.

An evaluation at penalty `lam` gives the point where a line of slope `lam` touches the envelope from above. Each vertex
stores the smallest and the largest penalty that touch it so far. Between two neighbours the envelope lies below two
lines, through each with its stored penalty closest to their common slope; the corner of these lines bounds the gap.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Penalties (L,) to success (L,), usage (L,), and the proven error of the penalized success.
Evaluate = Callable[[Floats], tuple[Floats, Floats, float]]

# A vertex must lie above the segment between its neighbours by this much; less is rounding.
ROUNDING = 1e-13
# Penalties per pass: for the whole envelope, and for one point, where wide passes cost more than they gain.
PASS, SEARCH = 16, 8
# Smallest positive penalty of the first pass, as a share of the largest useful one.
FIRST_SHARE = 2e-3
# Typical error of the predicted penalty of a search, as a share of the bracket (observed on models whose usage is a
# step function of the penalty).
SPREAD = 0.05


class Envelope:
    """Vertices so far, usage ascending.

    Attributes
    ----------
    usage, success : float64 (vertices,)
    penalty : float64 (vertices,)
        Penalty of the evaluation that gave the vertex; it gives the same policy again.
    low, high : float64 (vertices,)
        Smallest and largest penalty that touch the vertex so far.
    error : float
        Largest proven error of an evaluation.
    """

    def __init__(self, evaluate: Evaluate, largest: float, first: int) -> None:
        """Evaluate `first` penalties: 0, infinity, and a geometric sequence from `largest` down.

        A unit of help is never worth more than `largest`: there it is optimal to use none.
        """
        self.evaluate, self.error = evaluate, 0.0
        between = np.geomspace(FIRST_SHARE * largest, largest, first - 1)[:-1]
        penalty = np.concatenate([[np.inf], between[::-1], [0.0]])
        success, usage, self.error = evaluate(penalty)
        self.usage, self.success, self.penalty = usage, success, penalty
        self.low, self.high = np.minimum(penalty, largest), penalty.copy()
        self._prune()

    @property
    def rounding(self) -> float:
        return max(ROUNDING, 4 * self.error)

    @property
    def slopes(self) -> Floats:
        """Success per unit of usage between neighbours; decreasing."""
        return np.diff(self.success) / np.diff(self.usage)

    def heights(self) -> Floats:
        """Largest height of a point above each segment, float64 (vertices - 1,)."""
        slope, above, below = self._corners()
        with np.errstate(invalid="ignore"):
            height = np.diff(self.usage) * (above - slope) * (slope - below) / (above - below)
        return np.where(above > below, height, 0.0)

    def gap_at(self, i: int, usage: float) -> float:
        """Largest height of a point of this usage above segment `i`."""
        slope, above, below = (float(part[i]) for part in self._corners())
        left, right = usage - float(self.usage[i]), float(self.usage[i + 1]) - usage
        return min((above - slope) * left, (slope - below) * right)

    def refine(self, tol: float) -> None:
        """Evaluate penalties, breadth first, until no point can lie above a segment by more than `tol`."""
        while len(segments := np.flatnonzero(self.heights() > max(tol, self.rounding))):
            self.add(self._queries_between(segments))

    def search(self, usage: float, tol: float) -> int:
        """Evaluate penalties until no point of this usage can lie above its segment by more than `tol`.

        Returns the index of the segment. `usage` is below that of the last vertex.
        """
        while True:
            i = int(np.searchsorted(self.usage, usage, side="right")) - 1
            if self.gap_at(i, usage) <= max(tol, self.rounding):
                return i
            self.add(self._queries_around(i, usage))

    def add(self, penalty: Floats) -> None:
        """Evaluate more penalties."""
        success, usage, error = self.evaluate(penalty)
        self.error = max(self.error, error)
        best = np.searchsorted(-self.slopes, -penalty)  # best vertex so far at each penalty
        gain = success - penalty * usage - (self.success[best] - penalty * self.usage[best])
        new = gain > self.rounding
        np.minimum.at(self.low, best[~new], penalty[~new])
        np.maximum.at(self.high, best[~new], penalty[~new])
        last = ~new & (best < len(self.usage) - 1)
        following = best[last] + 1
        equal = self.slopes[best[last]] >= penalty[last]  # the slope of a segment touches both ends
        np.maximum.at(self.high, following[equal], penalty[last][equal])
        self.usage = np.concatenate([self.usage, usage[new]])
        self.success = np.concatenate([self.success, success[new]])
        self.penalty, self.low, self.high = (
            np.concatenate([part, penalty[new]]) for part in (self.penalty, self.low, self.high)
        )
        self._prune()

    def _corners(self) -> tuple[Floats, Floats, Floats]:
        """Slope of every segment, and the closest stored penalties of its left and of its right end."""
        slope = self.slopes
        return slope, np.maximum(self.low[:-1], slope), np.minimum(self.high[1:], slope)

    def _queries_between(self, segments: Indices) -> Floats:
        """Next penalties: the slope of every segment, and if there are few segments others on both sides of it."""
        slope, above, below = self._corners()
        each = max(0, PASS // len(segments) - 1)
        share = np.arange(1, each // 2 + 1) / (each // 2 + 1)
        extra = [slope + f * (end - slope) for f in share for end in (above, below)]
        return np.unique(np.concatenate([part[segments] for part in (slope, *extra)]))

    def _queries_around(self, i: int, usage: float) -> Floats:
        """Next penalties where only segment `i` matters: denser around the predicted crossing of `usage`.

        The prediction models usage as a parabola in the penalty, with its values at both ends and the mean that the
        difference of the penalized successes implies. The penalties are the quantiles of a truncated Cauchy
        distribution around it: half of them are close to the prediction, and a wrong prediction costs little.
        """
        slope, above, below = (float(part[i]) for part in self._corners())
        width, (less, more) = above - below, self.usage[i : i + 2].tolist()
        mean = (self.success[i + 1] - below * more - (self.success[i] - above * less)) / width
        predicted = below + width * _parabola_root(usage, more, less, float(mean))
        from_below, from_above = np.arctan((np.array([below, above]) - predicted) / (SPREAD * width)).tolist()
        around = predicted + SPREAD * width * np.tan(np.linspace(from_below, from_above, SEARCH + 1)[1:-1])
        return np.unique(np.clip(np.append(around, slope), below, above))

    def _prune(self) -> None:
        """Sort, merge equal vertices, and drop those on or below the segment of their neighbours."""
        self._select(np.lexsort((self.success, self.usage)))
        while True:
            dropped = np.zeros(len(self.usage), np.bool_)
            # More usage, or the same, without more success.
            dropped[1:] = np.diff(self.success) <= self.rounding
            if dropped.any():
                update = self._merge_bounds
            elif len(dropped) > 2:
                dropped[1:-1] = self.success[1:-1] - _chord(self.usage, self.success) <= self.rounding
                update = self._close_segments
            if not dropped.any():
                return
            dropped[1:] &= ~dropped[:-1]  # of two neighbours only one: each is compared with the other
            update(np.flatnonzero(dropped))
            self._select(np.flatnonzero(~dropped))

    def _select(self, order: Indices) -> None:
        self.usage, self.success, self.penalty, self.low, self.high = (
            part[order] for part in (self.usage, self.success, self.penalty, self.low, self.high)
        )

    def _merge_bounds(self, dropped: Indices) -> None:
        """Move the penalties of a dropped vertex to its left neighbour, which is equal."""
        self.low[dropped - 1] = np.minimum(self.low[dropped - 1], self.low[dropped])
        self.high[dropped - 1] = np.maximum(self.high[dropped - 1], self.high[dropped])

    def _close_segments(self, dropped: Indices) -> None:
        """A vertex lies on the segment of its neighbours: the slope of that segment touches both."""
        left, right = dropped - 1, dropped + 1
        slope = (self.success[right] - self.success[left]) / (self.usage[right] - self.usage[left])
        self.low[left] = np.minimum(self.low[left], slope)
        self.high[right] = np.maximum(self.high[right], slope)


def _chord(usage: Floats, success: Floats) -> Floats:
    """Success on the line between the neighbours of every inner vertex."""
    share = (usage[1:-1] - usage[:-2]) / (usage[2:] - usage[:-2])
    return success[:-2] + share * (success[2:] - success[:-2])


def _parabola_root(target: float, first: float, last: float, mean: float) -> float:
    """Argument in [0, 1] at which a decreasing parabola with these ends and this mean equals `target`."""
    bend = 3 * (first + last - 2 * mean)  # of first + slope x + bend x^2
    slope, missing = last - first - bend, target - first
    root = np.sqrt(max(slope * slope + 4 * bend * missing, 0.0))
    x = 2 * missing / (slope - root)  # the decreasing branch
    return x if 0 <= x <= 1 else missing / (last - first)
