"""The upper edge of all (usage, success) that policies attain, found by asking for the best point at chosen penalties.

A penalty `lam` asked for gives the point that a line of slope `lam` touches from above. Each vertex keeps the smallest
and the largest penalty known to touch it. Between neighbours nothing lies above the two lines through them with the
penalties that come closest to their common slope, so that the corner where these meet bounds what is still unknown.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Penalties (L,) to success (L,), usage (L,), and the proven error of the penalized success.
Ask = Callable[[Floats], tuple[Floats, Floats, float]]

# A vertex must stand out by this much from the segment between its neighbours; less is rounding.
ROUNDING = 1e-13
# Penalties a pass: of the whole envelope, and of the search for one point, where wide passes cost more than they tell.
PASS, SEARCH = 16, 8
# Smallest penalty that a first pass asks for, as a share of the largest that is of use.
FIRST_LOOK = 2e-3
# How far the guess of a search is off, as a share of the bracket: what is seen on models whose usage falls by steps.
SPREAD = 0.05


class Envelope:
    """Vertices known so far, usage ascending.

    Attributes
    ----------
    usage, success : float64 (vertices,)
    found : float64 (vertices,)
        Penalty that the vertex was found at; asked for again it gives the same policy.
    low, high : float64 (vertices,)
        Smallest and largest penalty known to touch the vertex.
    error : float
        Largest proven error of an answer.
    """

    def __init__(self, ask: Ask, largest: float, first: int) -> None:
        """Ask for `first` penalties: 0, infinity, and a geometric sequence from `largest` down.

        A unit of help is never worth more than `largest`: there the best is to use none.
        """
        self.ask, self.error = ask, 0.0
        between = np.geomspace(FIRST_LOOK * largest, largest, first - 1)[:-1]
        penalty = np.concatenate([[np.inf], between[::-1], [0.0]])
        success, usage, self.error = ask(penalty)
        self.usage, self.success, self.found = usage, success, penalty
        self.low, self.high = np.minimum(penalty, largest), penalty.copy()
        self._tidy()

    @property
    def rounding(self) -> float:
        return max(ROUNDING, 4 * self.error)

    @property
    def slopes(self) -> Floats:
        """Success per unit of usage between neighbours; falling."""
        return np.diff(self.success) / np.diff(self.usage)

    def heights(self) -> Floats:
        """How far a point can lie above each segment at most, float64 (vertices - 1,)."""
        slope, above, below = self._corners()
        with np.errstate(invalid="ignore"):
            height = np.diff(self.usage) * (above - slope) * (slope - below) / (above - below)
        return np.where(above > below, height, 0.0)

    def gap_at(self, i: int, usage: float) -> float:
        """How far a point of this usage can lie above segment `i` at most."""
        slope, above, below = (float(part[i]) for part in self._corners())
        left, right = usage - float(self.usage[i]), float(self.usage[i + 1]) - usage
        return min((above - slope) * left, (slope - below) * right)

    def refine(self, tol: float) -> None:
        """Ask until no point can lie above a segment by more than `tol`, breadth first."""
        while len(segments := np.flatnonzero(self.heights() > max(tol, self.rounding))):
            self.add(self._between(segments))

    def search(self, usage: float, tol: float) -> int:
        """Ask until no point of this usage can lie above its segment by more than `tol`; the segment's number.

        `usage` lies below that of the last vertex.
        """
        while True:
            i = int(np.searchsorted(self.usage, usage, side="right")) - 1
            if self.gap_at(i, usage) <= max(tol, self.rounding):
                return i
            self.add(self._around(i, usage))

    def add(self, penalty: Floats) -> None:
        """Ask for more penalties."""
        success, usage, error = self.ask(penalty)
        self.error = max(self.error, error)
        best = np.searchsorted(-self.slopes, -penalty)  # vertex that was the best at each penalty so far
        gain = success - penalty * usage - (self.success[best] - penalty * self.usage[best])
        new = gain > self.rounding
        np.minimum.at(self.low, best[~new], penalty[~new])
        np.maximum.at(self.high, best[~new], penalty[~new])
        last = ~new & (best < len(self.usage) - 1)
        following = best[last] + 1
        equal = self.slopes[best[last]] >= penalty[last]  # the slope of a segment touches both of its ends
        np.maximum.at(self.high, following[equal], penalty[last][equal])
        self.usage = np.concatenate([self.usage, usage[new]])
        self.success = np.concatenate([self.success, success[new]])
        self.found, self.low, self.high = (
            np.concatenate([part, penalty[new]]) for part in (self.found, self.low, self.high)
        )
        self._tidy()

    def _corners(self) -> tuple[Floats, Floats, Floats]:
        """Slope of every segment, and the penalties that come closest to it: from its left end, from its right end."""
        slope = self.slopes
        return slope, np.maximum(self.low[:-1], slope), np.minimum(self.high[1:], slope)

    def _between(self, segments: Indices) -> Floats:
        """Penalties to ask for next: the slope of every segment, and others on both sides while these are few."""
        slope, above, below = self._corners()
        each = max(0, PASS // len(segments) - 1)
        share = np.arange(1, each // 2 + 1) / (each // 2 + 1)
        extra = [slope + f * (end - slope) for f in share for end in (above, below)]
        return np.unique(np.concatenate([part[segments] for part in (slope, *extra)]))

    def _around(self, i: int, usage: float) -> Floats:
        """Penalties to ask for next where only segment `i` matters: denser around where the usage may cross `usage`.

        The guess takes the usage as a parabola in the penalty, with the values at both ends and the mean that the
        difference of the penalized successes implies. Equally spaced in angle as seen from a point above the guess,
        half of the penalties come close to it, and it costs little where it is wrong.
        """
        slope, above, below = (float(part[i]) for part in self._corners())
        width, (less, more) = above - below, self.usage[i : i + 2].tolist()
        mean = (self.success[i + 1] - below * more - (self.success[i] - above * less)) / width
        guess = below + width * _falls_to(usage, more, less, float(mean))
        from_below, from_above = np.arctan((np.array([below, above]) - guess) / (SPREAD * width)).tolist()
        around = guess + SPREAD * width * np.tan(np.linspace(from_below, from_above, SEARCH + 1)[1:-1])
        return np.unique(np.clip(np.append(around, slope), below, above))

    def _tidy(self) -> None:
        """Sort, merge what is one vertex, and drop what does not stand out."""
        self._take(np.lexsort((self.success, self.usage)))
        while True:
            dropped = np.zeros(len(self.usage), np.bool_)
            # No more success for more usage, or for as much.
            dropped[1:] = np.diff(self.success) <= self.rounding
            if dropped.any():
                forget = self._merged
            elif len(dropped) > 2:
                dropped[1:-1] = self.success[1:-1] - _chord(self.usage, self.success) <= self.rounding
                forget = self._closed
            if not dropped.any():
                return
            dropped[1:] &= ~dropped[:-1]  # of neighbours one at a time: they are judged by each other
            forget(np.flatnonzero(dropped))
            self._take(np.flatnonzero(~dropped))

    def _take(self, order: Indices) -> None:
        self.usage, self.success, self.found, self.low, self.high = (
            part[order] for part in (self.usage, self.success, self.found, self.low, self.high)
        )

    def _merged(self, dropped: Indices) -> None:
        """What was known of a vertex is known of its left neighbour, which is the same."""
        self.low[dropped - 1] = np.minimum(self.low[dropped - 1], self.low[dropped])
        self.high[dropped - 1] = np.maximum(self.high[dropped - 1], self.high[dropped])

    def _closed(self, dropped: Indices) -> None:
        """A vertex on the segment of its neighbours: the slope of that touches both."""
        left, right = dropped - 1, dropped + 1
        slope = (self.success[right] - self.success[left]) / (self.usage[right] - self.usage[left])
        self.low[left] = np.minimum(self.low[left], slope)
        self.high[right] = np.maximum(self.high[right], slope)


def _chord(usage: Floats, success: Floats) -> Floats:
    """Success on the line between the neighbours of every inner vertex."""
    share = (usage[1:-1] - usage[:-2]) / (usage[2:] - usage[:-2])
    return success[:-2] + share * (success[2:] - success[:-2])


def _falls_to(target: float, first: float, last: float, mean: float) -> float:
    """Where in [0, 1] a parabola with these ends and this mean falls to `target`."""
    bend = 3 * (first + last - 2 * mean)  # of first + slope x + bend x^2
    slope, missing = last - first - bend, target - first
    root = np.sqrt(max(slope * slope + 4 * bend * missing, 0.0))
    x = 2 * missing / (slope - root)  # the branch that falls
    return x if 0 <= x <= 1 else missing / (last - first)
