"""Assumptions that an estimate of the effect of help has to make, as far as the logs show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from selfreg.data import Trajectory, state_text
from selfreg.data.markers import ASSUMED

# Share of tasks above which a difference between helped and unhelped episodes gets a note.
NOTABLE = 0.1


def handoff_notes(episodes: Sequence[Trajectory]) -> list[str]:
    """Notes on assumed or missing hand-offs, and on helped episodes with other tasks or other first states.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate.validity import handoff_notes
    >>> alone = Trajectory("a", "0", 0.0, (Step("go"),))
    >>> helped = Trajectory("b", "1", 1.0, (Step("go", intervention="person"), Step("on")))
    >>> for note in handoff_notes([alone, helped]):
    ...     print(note)
    Help never follows a step without help. That it can take over a run from the agent is an assumption.
    1 of 1 tasks with help were never run without help. The apparent effect of help may be a difference between tasks.
    """
    notes = _note_takeovers(episodes)
    helped = [t for t in episodes if t.helped and ASSUMED not in t.fields]
    alone = [t for t in episodes if not t.helped]
    if not helped:
        return notes
    helped_steps = [[step.intervention is not None for step in t.steps] for t in helped]
    if all(len(t.steps) == 1 for t in episodes):
        pass  # a step is an episode: nothing is missing
    elif all(all(one) for one in helped_steps):
        notes.append(
            "Episodes have help at every step or at none. The effect of help at a single step is not in the logs; it "
            "is estimated from states that both kinds of episode share."
        )
    elif not any((False, True) in pairwise(one) for one in helped_steps):
        notes.append(
            "Help never follows a step without help. That it can take over a run from the agent is an assumption."
        )
    if not alone:
        return notes
    return notes + _note_differences(helped, alone, by_chance=_looks_like_a_coin(episodes))


def _looks_like_a_coin(episodes: Sequence[Trajectory]) -> bool:
    """Whether help comes and goes within episodes, and no more unevenly over them than by one coin for every step.

    Pearson's statistic of the helped steps of each episode of two steps or more, at most two standard errors above 1.
    """
    steps = [[step.intervention is not None for step in t.steps] for t in episodes if len(t.steps) > 1]
    changes = {change for one in steps for change in pairwise(one)}
    if not {(False, True), (True, False)} <= changes:
        return False
    rate = sum(map(sum, steps)) / sum(map(len, steps))
    pearson = sum((sum(one) - rate * len(one)) ** 2 / (rate * (1.0 - rate) * len(one)) for one in steps)
    return bool(pearson / len(steps) <= 1.0 + 2.0 * (2.0 / len(steps)) ** 0.5)


def _note_takeovers(episodes: Sequence[Trajectory]) -> list[str]:
    """A note for every helper whose own runs were taken as help."""
    runs = Counter(str(t.fields[ASSUMED]) for t in episodes if ASSUMED in t.fields)
    return [
        f"assume_takeover: the effect of {name!r} is that of {n} episodes that it ran alone from the start. That it "
        "does as well in the middle of the agent's runs is an assumption."
        for name, n in sorted(runs.items())
    ]


def _note_differences(helped: Sequence[Trajectory], alone: Sequence[Trajectory], by_chance: bool) -> list[str]:
    """Notes on other tasks, unless each step was helped by chance, and on other first states."""
    first_states = [_first_states(group) for group in (helped, alone)]
    tasks = [set(one) for one in first_states]
    only, both = tasks[0] - tasks[1], tasks[0] & tasks[1]
    notes = []
    if len(only) > NOTABLE * len(tasks[0]) and not by_chance:
        notes.append(
            f"{len(only)} of {len(tasks[0])} tasks with help were never run without help. The apparent effect of help "
            "may be a difference between tasks."
        )
    different = [task for task in both if not first_states[0][task] & first_states[1][task]]
    if len(different) > NOTABLE * len(both):
        notes.append(
            f"In {len(different)} of {len(both)} tasks run with and without help, the two begin in different states "
            "(another prompt?). The apparent effect of help may be due to the beginning."
        )
    return notes


def _first_states(episodes: Sequence[Trajectory]) -> dict[str, set[str]]:
    result: dict[str, set[str]] = {}
    for trajectory in episodes:
        first = trajectory.steps[0]
        result.setdefault(trajectory.task, set()).add(state_text([first]) if first.key is None else first.key)
    return result
