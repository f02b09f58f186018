"""The exact transition model of a task, by visiting every moment that it can come to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from selfreg.data import NOHELP
from selfreg.envs.protocol import AssistedEnvironment, BasePolicy, ExplicitPolicy
from selfreg.mdp import InterventionMDP

SUCCESS, FAILURE = "success", "failure"


class ExactModel(NamedTuple):
    """A task's exact model.

    Attributes
    ----------
    mdp : InterventionMDP
        One state for each key, then success and failure.
    keys : tuple of str
        The environment's keys of the states, those of `mdp` less the last two.
    start : int
        State in which the task begins.
    """

    mdp: InterventionMDP
    keys: tuple[str, ...]
    start: int


def enumerate_model(world: AssistedEnvironment, task: str, limit: int = 200_000) -> ExactModel:
    """Enumerate every state that agent and helpers can come to, with its exact transition probabilities.

    One decision step is a transition: an action of the agent, or all actions of an intervention. The environment must
    be deterministic with an exact key (`clock=1` in BabyAI); agent and helpers must tell their action probabilities.

    Parameters
    ----------
    world : AssistedEnvironment
        Left at some moment of the task.
    task : str
    limit : int
        States after which to give up.

    Returns
    -------
    ExactModel

    Raises
    ------
    TypeError
        If agent or a helper is no `ExplicitPolicy`.
    ValueError
        If there are more than `limit` states, or an outcome is neither 0 nor 1.

    Examples
    --------
    >>> from selfreg.envs import enumerate_model, make_household
    >>> exact = enumerate_model(make_household(), "household-place/3")
    >>> exact.mdp
    InterventionMDP(1533 states, 1531 live, actions nohelp, help (1))
    """
    search = _Search(world, limit)
    world.reset(task, 0)
    start = search.state_of(None)
    while search.open:
        search.expand(*search.open.pop())
    n = len(search.keys)
    terminal = np.full(n + 2, np.nan)
    terminal[n:] = 1.0, 0.0
    costs = {one.name: one.cost for one in world.interventions.values()}
    transitions = {name: _matrix(rows, n + 2) for name, rows in search.rows.items()}
    return ExactModel(InterventionMDP(transitions, terminal, costs), tuple(search.keys), start)


Row = dict[int, float]


class _Search:
    """States found so far, and those still to expand. Success is state -2 and failure -1 until all are counted."""

    def __init__(self, world: AssistedEnvironment, limit: int) -> None:
        self.world, self.environment, self.limit = world, world.environment, limit
        self.movers: dict[str, tuple[ExplicitPolicy, int | None]] = {NOHELP: (_explicit("the agent", world.policy), 1)}
        for one in world.interventions.values():
            self.movers[one.name] = (_explicit(f"the helper of {one.name!r}", one.helper), one.steps)
        self.keys: dict[str, int] = {}
        self.rows: dict[str, list[Row]] = {name: [] for name in self.movers}
        self.open: list[tuple[int, Any, str | None]] = []

    def state_of(self, last: str | None) -> int:
        """State of the environment's moment after a step of `last`, noted for expansion if it is new."""
        environment = self.environment
        if environment.done:
            if environment.outcome not in (0.0, 1.0):
                raise ValueError(f"an episode ends with outcome {environment.outcome}; expected 0 or 1")
            return -2 if environment.outcome else -1
        key = self.world.key(last)
        if key not in self.keys:
            if len(self.keys) == self.limit:
                raise ValueError(f"the task has more than {self.limit} states; expected fewer (limit)")
            self.keys[key] = len(self.keys)
            self.open.append((self.keys[key], environment.save(), last))
            for rows in self.rows.values():
                rows.append({})
        return self.keys[key]

    def expand(self, state: int, saved: Any, last: str | None) -> None:
        """Fill in the rows of one state."""
        for name, (policy, steps) in self.movers.items():
            row = self.rows[name][state]
            reading = 0 if name == NOHELP else self.world.must_read(name, last)
            for moment, chance in self._after(saved, policy, steps, reading):
                self.environment.restore(moment)
                j = self.state_of(name)
                row[j] = row.get(j, 0.0) + chance

    def _read(self, saved: Any, reading: int) -> Any:
        """The moment after a helper has read for this many steps, or at which the episode ended meanwhile."""
        self.environment.restore(saved)
        for _ in range(reading):
            if not self.environment.done:
                self.environment.step(self.environment.idle_action)  # type: ignore[attr-defined]
        return self.environment.save()

    def _after(self, saved: Any, policy: ExplicitPolicy, steps: int | None, reading: int) -> list[tuple[Any, float]]:
        """Moments after reading and `steps` actions of `policy`, with their chances; those of equal keys become one."""
        if reading:
            saved = self._read(saved, reading)
            if self.environment.done:
                return [(saved, 1.0)]
        moments, ended, taken = [(saved, 1.0)], [], 0
        while moments and (steps is None or taken < steps):
            merged: dict[str, tuple[Any, float]] = {}
            for moment, chance in moments:
                self.environment.restore(moment)
                chances = policy.distribution(self.environment)
                for action in np.flatnonzero(chances).tolist():
                    self.environment.restore(moment)
                    self.environment.step(action)
                    weight = chance * float(chances[action])
                    if self.environment.done:
                        ended.append((self.environment.save(), weight))
                        continue
                    key = self.environment.key()
                    first, before = merged.get(key, (None, 0.0))
                    merged[key] = (self.environment.save() if first is None else first, before + weight)
            moments, taken = list(merged.values()), taken + 1
        return ended + moments


def _explicit(who: str, policy: BasePolicy) -> ExplicitPolicy:
    if not isinstance(policy, ExplicitPolicy):
        raise TypeError(f"{who} ({type(policy).__name__}) has no distribution(); an exact model needs it")
    return policy


def _matrix(rows: list[Row], n: int) -> sp.csr_array:
    entries = [(i, j % n, chance) for i, row in enumerate(rows) for j, chance in row.items()]
    i, j, chances = zip(*entries, strict=True)
    return sp.csr_array(sp.coo_array((chances, (i, j)), shape=(n, n)))
