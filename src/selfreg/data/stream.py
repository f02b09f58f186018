"""Trajectories that can be iterated over more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from selfreg.data.trajectory import Trajectory


class TrajectoryStream(Iterable[Trajectory]):
    """Trajectories that are read anew each time they are iterated over.

    `len` works if the number is known without reading everything; otherwise it raises TypeError, as for a generator.
    """

    def __init__(self, start: Callable[[], Iterator[Trajectory]], count: Callable[[], int]) -> None:
        self._start, self._count = start, count

    def __iter__(self) -> Iterator[Trajectory]:
        return self._start()

    def __bool__(self) -> bool:
        """Whether there is a first trajectory."""
        return next(self._start(), None) is not None

    def __len__(self) -> int:
        return self._count()
