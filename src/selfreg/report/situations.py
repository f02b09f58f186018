"""The situations that matter most: where help gains most, in the words of the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg.data import NOHELP, Trajectory
from selfreg.estimate import EstimatedModel, ExactKey
from selfreg.estimate.abstraction import STEP
from selfreg.planning.solution import Solution

SHOWN, LENGTH = 10, 400
# Visits of both choices from which an effect counts as seen often, and sometimes.
OFTEN, SOME = 30, 8


def find_situations(
    model: EstimatedModel,
    solution: Solution,
    trajectories: Sequence[Trajectory],
    shares: npt.NDArray[np.float64] | None,
) -> list[dict[str, Any]]:
    """Abstract states with the largest gain of help times visits, at the largest budget.

    `shares` is the share of resampled plans that request help, by state and budget.
    """
    actions, n = model.mdp.actions, model.mdp.n_states
    if len(actions) == 1:
        return []
    q = np.stack([solution.q(name).reshape(n, -1)[:-2, -1] for name in actions])
    helped = np.where(np.isnan(q[1:]), -np.inf, q[1:])
    best, which = helped.max(axis=0), helped.argmax(axis=0)
    visits = np.sum([v[:-2] for v in model.counts.visits.values()], axis=0)
    gain = np.where(np.isfinite(best), best - q[0], 0.0)
    chosen = [int(i) for i in np.argsort(-gain * visits, kind="stable")[:SHOWN] if gain[i] > 0]
    texts, requesting = _texts(model, trajectories, set(chosen)), solution.policy.reshape(n, -1) > 0
    single = len(solution.budget) == 1
    return [
        {
            "name": _name(model, i),
            "text": texts.get(i, ""),
            "help": actions[1 + int(which[i])],
            "visits": {name: int(model.counts.visits[name][i]) for name in actions},
            "alone": float(q[0, i]),
            "helped": float(best[i]),
            "share": None if shares is None else float(shares[i].ravel()[-1]),
            "from_budget": int(np.argmax(requesting[i])) if single and requesting[i].any() else None,
            "support": _support(model.counts.visits, i, actions[1 + int(which[i])]),
        }
        for i in chosen
    ]


def _support(visits: Mapping[str, npt.NDArray[np.float64]], state: int, name: str) -> str:
    """ "often", "some" or "few": how often the rarer of the two choices was seen."""
    least = min(visits[NOHELP][state], visits[name][state])
    return "often" if least >= OFTEN else "some" if least >= SOME else "few"


def _name(model: EstimatedModel, state: int) -> str:
    """Names and values of an abstract state; an exact state is described by its text alone."""
    if isinstance(model.abstraction, ExactKey):
        return ""
    key = model.counts.keys[state]
    names = getattr(model.abstraction, "names", None)
    if names is None or len(names) != len(key):
        return " ".join(map(str, key))
    pairs = zip(names, key, strict=True)
    # People count steps from 1.
    return ", ".join(f"{name} {int(value or 0) + 1 if name == STEP else value}" for name, value in pairs)


def _texts(model: EstimatedModel, trajectories: Sequence[Trajectory], states: set[int]) -> dict[int, str]:
    """The most frequent text of each state; the first one of several."""
    found: dict[int, Counter[str]] = {}
    for trajectory in trajectories:
        for t, step in enumerate(trajectory.steps):
            state = model.state(trajectory, t)
            if state in states:
                found.setdefault(int(state), Counter())[step.state.strip()] += 1
    return {state: _shorten(max(texts, key=texts.__getitem__)) for state, texts in found.items()}


def _shorten(text: str) -> str:
    """A text whose middle is left out where it is long: what matters is at its ends."""
    return text if len(text) <= LENGTH else f"{text[: LENGTH // 2]}\n[...]\n{text[-LENGTH // 2 :]}"
