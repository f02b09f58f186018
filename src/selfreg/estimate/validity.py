"""What logs of help cannot say by themselves: assumptions that the data force, found where they can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from selfreg.data import Trajectory
from selfreg.data.markers import ASSUMED

# Share of tasks from which on a difference between helped and unhelped episodes is worth a note.
NOTABLE = 0.1


def handoff_notes(episodes: Sequence[Trajectory]) -> list[str]:
    """Notes on hand-offs assumed or never seen, and on helped episodes with other tasks or other beginnings.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate.validity import handoff_notes
    >>> alone = Trajectory("a", "0", 0.0, (Step("go"),))
    >>> helped = Trajectory("b", "1", 1.0, (Step("go", intervention="person"), Step("on")))
    >>> for note in handoff_notes([alone, helped]):
    ...     print(note)
    Help never came after a step taken alone: that it can take over a run from the agent is an assumption.
    1 of 1 tasks with helped episodes were never run without help: what help seems worth may be what its tasks are.
    """
    notes = _assumed(episodes)
    helped = [t for t in episodes if t.helped and ASSUMED not in t.fields]
    alone = [t for t in episodes if not t.helped]
    if not helped:
        return notes
    kinds = [[step.intervention is not None for step in t.steps] for t in helped]
    if all(all(one) for one in kinds):
        notes.append(
            "Episodes were helped at every step or at none: what help is worth at a single step was never tried; it is "
            "read off states that helped and unhelped episodes share."
        )
    elif not any((False, True) in pairwise(one) for one in kinds):
        notes.append(
            "Help never came after a step taken alone: that it can take over a run from the agent is an assumption."
        )
    return notes + (_differences(helped, alone) if alone else [])


def _assumed(episodes: Sequence[Trajectory]) -> list[str]:
    """A note for every helper whose lone runs were taken for help."""
    runs = Counter(str(t.fields[ASSUMED]) for t in episodes if ASSUMED in t.fields)
    return [
        f"assume_takeover: what {name!r} does when it takes over was copied from {n} episodes that it did alone, from "
        "the start; that it does as well in the middle of the agent's runs is assumed."
        for name, n in sorted(runs.items())
    ]


def _differences(helped: Sequence[Trajectory], alone: Sequence[Trajectory]) -> list[str]:
    beginnings = [_beginnings(group) for group in (helped, alone)]
    tasks = [set(one) for one in beginnings]
    only, both = tasks[0] - tasks[1], tasks[0] & tasks[1]
    notes = []
    if len(only) > NOTABLE * len(tasks[0]):
        notes.append(
            f"{len(only)} of {len(tasks[0])} tasks with helped episodes were never run without help: what help seems "
            "worth may be what its tasks are."
        )
    apart = [task for task in both if not beginnings[0][task] & beginnings[1][task]]
    if len(apart) > NOTABLE * len(both):
        notes.append(
            f"In {len(apart)} of {len(both)} tasks run with and without help, the two begin with different states "
            "(another prompt?): what help seems worth may be what its beginning is."
        )
    return notes


def _beginnings(episodes: Sequence[Trajectory]) -> dict[str, set[str]]:
    result: dict[str, set[str]] = {}
    for trajectory in episodes:
        first = trajectory.steps[0]
        result.setdefault(trajectory.task, set()).add(first.state if first.key is None else first.key)
    return result
