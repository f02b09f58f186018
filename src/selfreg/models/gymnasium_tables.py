"""Tables of transitions of Gymnasium's toy environments: P[state][action] = [(probability, state, reward, ended)]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util.validate import ROW_TOLERANCE, unmasked_array

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TablePolicy: TypeAlias = "str | npt.ArrayLike | Callable[[int], int]"
UNIFORM, OPTIMAL = "uniform", "optimal"


class Table(NamedTuple):
    """Entries of all rows, flat, with rewards moved to terminal states.

    Attributes
    ----------
    actions : int
        Actions of the environment.
    states : int
        States of the environment; terminal states that were added follow them.
    state, action, successor : int64 (entries,)
    probability : float64 (entries,)
    terminal_value : float64 (n,)
    """

    actions: int
    states: int
    state: Ints
    action: Ints
    successor: Ints
    probability: Floats
    terminal_value: Floats

    def matrix(self, policy: Floats) -> sp.csr_array:
        """Transitions under a policy, float64 (states, actions)."""
        n = len(self.terminal_value)
        data = self.probability * policy[self.state, self.action]
        return sp.csr_array((data, (self.state, self.successor)), shape=(n, n))


class _Entries(NamedTuple):
    state: Ints
    action: Ints
    probability: Floats
    successor: Ints
    reward: Floats
    ended: npt.NDArray[np.bool_]


def read_table(env: Any, discount: float | None) -> Table:
    """The table of an environment, or a table itself."""
    rows = env if isinstance(env, (Mapping, list, tuple)) else getattr(getattr(env, "unwrapped", env), "P", None)
    if not isinstance(rows, (Mapping, list, tuple)) or not len(rows):
        raise TypeError(
            f"env is a {type(env).__name__} without a table P of transitions; expected a tabular environment such as "
            "FrozenLake, or its P: state -> action -> list of (probability, state, reward, ended)"
        )
    entries, n, actions = _flatten(rows)
    return _at_the_end(entries, n, actions) if discount is None else _discounted(entries, n, actions, discount)


def policy_table(label: str, policy: Any, table: Table) -> Floats:
    """Probability of each action of the environment in each state, float64 (states, actions)."""
    n, actions = table.states, table.actions
    if isinstance(policy, str):
        if policy != UNIFORM:
            raise ValueError(f'{label} is {policy!r}; expected "{UNIFORM}", "{OPTIMAL}", an array or a function')
        return np.full((n, actions), 1.0 / actions)
    array = unmasked_array(label, [policy(s) for s in range(n)] if callable(policy) else policy)
    if array.dtype.kind in "iu" and array.shape == (n,):
        bad = np.flatnonzero((array < 0) | (array >= actions))
        if len(bad):
            raise ValueError(f"{label} of state {bad[0]} is {array[bad[0]]}; expected an action 0..{actions - 1}")
        one_action: Floats = np.eye(actions)[array]
        return one_action
    if array.dtype.kind != "f" or array.shape != (n, actions):
        raise ValueError(
            f"{label} has shape {array.shape} and dtype {array.dtype}; expected int ({n},) or float ({n}, {actions})"
        )
    bad = np.flatnonzero(~(np.all(array >= 0.0, axis=1) & (np.abs(array.sum(axis=1) - 1.0) <= ROW_TOLERANCE)))
    if len(bad):
        raise ValueError(f"{label} of state {bad[0]} is {array[bad[0]].tolist()}; expected probabilities that sum to 1")
    chances: Floats = array.astype(np.float64)
    return chances


def _flatten(rows: Any) -> tuple[_Entries, int, int]:
    n = len(rows)
    flat: list[tuple[int, int, float, int, float, bool]] = []
    counts = {len(_item(rows, s, "P")) for s in range(n)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"P has {sorted(counts)} actions in its states; expected the same number in all, at least 1")
    actions = counts.pop()
    for s in range(n):
        for a in range(actions):
            flat += [_entry(entry, s, a, n) for entry in _item(rows[s], a, f"P[{s}]")]
    columns = [np.array(column) for column in zip(*flat, strict=True)] if flat else [np.empty(0)] * 6
    kinds = (np.int64, np.int64, np.float64, np.int64, np.float64, np.bool_)
    entries = _Entries(*(column.astype(kind) for column, kind in zip(columns, kinds, strict=True)))
    sums = np.bincount(entries.state * actions + entries.action, entries.probability, n * actions)
    bad = np.flatnonzero(np.abs(sums - 1.0) > ROW_TOLERANCE)
    if len(bad):
        s, a = divmod(int(bad[0]), actions)
        raise ValueError(f"P[{s}][{a}] sums to {sums[bad[0]]:.12g}; expected 1 within {ROW_TOLERANCE:g}")
    return entries, n, actions


def _item(rows: Any, key: int, label: str) -> Any:
    try:
        item = rows[key]
    except (KeyError, IndexError):
        raise ValueError(f"{label} lacks {key}; expected the numbers 0..{len(rows) - 1}") from None
    if not isinstance(item, (Mapping, Sequence)) or isinstance(item, str):
        raise TypeError(f"{label}[{key}] is a {type(item).__name__}; expected a mapping or a list")
    return item


def _entry(entry: Any, s: int, a: int, n: int) -> tuple[int, int, float, int, float, bool]:
    try:
        probability, successor, reward, ended = entry
        result = (s, a, float(probability), int(successor), float(reward), bool(ended))
    except (TypeError, ValueError):
        raise ValueError(f"P[{s}][{a}] has {entry!r}; expected (probability, state, reward, ended)") from None
    if not 0 <= result[3] < n or not np.isfinite(result[4]) or not 0.0 <= result[2] <= 1.0 + ROW_TOLERANCE:
        raise ValueError(f"P[{s}][{a}] has {entry!r}; expected a probability, a state 0..{n - 1}, a finite reward")
    return result


def _select(entries: _Entries, rows: npt.NDArray[np.bool_]) -> _Entries:
    columns: list[Any] = [column[rows] for column in entries]
    return _Entries(*columns)


def _absorbing(entries: _Entries, n: int) -> npt.NDArray[np.bool_]:
    """States that are entered at the end only, and of which every entry stays and ends: terminal states."""
    stays = (entries.successor == entries.state) & entries.ended
    absorbing: npt.NDArray[np.bool_] = np.bincount(entries.state, stays, n) == np.bincount(entries.state, minlength=n)
    absorbing[entries.successor[~entries.ended]] = False
    return absorbing


def _at_the_end(entries: _Entries, n: int, actions: int) -> Table:
    """Rewards in [0, 1], paid once, when the episode ends."""
    terminal = _absorbing(entries, n)
    used = ~terminal[entries.state] & (entries.probability > 0.0)
    _check_rewards(entries, used)
    kept = _select(entries, used)
    value = np.full(n, np.nan)
    value[terminal] = 0.0
    added: dict[float, int] = {}
    successor = kept.successor.copy()
    for j in np.unique(kept.successor[kept.ended]).tolist():
        into = np.flatnonzero(kept.ended & (kept.successor == j))
        rewards = np.unique(kept.reward[into])
        if terminal[j] and len(rewards) == 1:
            value[j] = rewards[0]
            continue
        for i in into.tolist():
            successor[i] = added.setdefault(float(kept.reward[i]), n + len(added))
    value = np.concatenate([value, np.array(list(added), dtype=np.float64)])
    return Table(actions, n, kept.state, kept.action, successor, kept.probability, value)


def _check_rewards(entries: _Entries, used: npt.NDArray[np.bool_]) -> None:
    early = used & ~entries.ended & (entries.reward != 0.0)
    outside = used & ~((entries.reward >= 0.0) & (entries.reward <= 1.0))
    for wrong, rule in ((early, "before the end"), (outside, "outside of [0, 1]")):
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(
                f"P[{entries.state[i]}][{entries.action[i]}] pays {entries.reward[i]:g} {rule}; without discount= an "
                "episode pays a reward in [0, 1] once, at its end (discount= takes all rewards)"
            )


def _discounted(entries: _Entries, n: int, actions: int, discount: float) -> Table:
    """All rewards, scaled to [0, 1]: a step pays its reward with probability 1 - discount, and the episode stops."""
    low, high = min(0.0, float(entries.reward.min())), max(0.0, float(entries.reward.max()))
    if low == high:
        raise ValueError("P pays no reward at all; nothing to plan for")
    terminal = _absorbing(entries, n)
    kept = _select(entries, ~terminal[entries.state])
    scaled = (kept.reward - low) / (high - low)
    # Success, failure, and the end of an episode of which no rewards follow: as 0 for ever, scaled.
    success, failure, over = n, n + 1, n + 2
    after = np.where(kept.ended & ~terminal[kept.successor], over, kept.successor)
    rest = kept.probability * (1.0 - discount)
    mass = np.concatenate([kept.probability * discount, rest * scaled, rest * (1.0 - scaled)])
    successor = np.concatenate([after, np.full(len(rest), success), np.full(len(rest), failure)])
    end = -low / (high - low)
    value = np.concatenate([np.where(terminal, end, np.nan), [1.0, 0.0, end]])
    return Table(actions, n, np.tile(kept.state, 3), np.tile(kept.action, 3), successor, mass, value)
