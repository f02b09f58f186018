"""Models written as dicts and lists: names of states, and matrices by name."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util.validate import ROW_TOLERANCE, is_mapping
from selfreg.models.validate_model import NOHELP

Rows: TypeAlias = dict[Hashable, dict[Hashable, float]]


class DictModel(NamedTuple):
    """Arguments of `InterventionMDP`.

    Attributes
    ----------
    transitions : dict of str to csr_array
    terminal_value : float64 (n,)
    states : tuple, or None
        None where the states are the numbers 0..n-1.
    """

    transitions: dict[str, sp.csr_array]
    terminal_value: npt.NDArray[np.float64]
    states: tuple[Hashable, ...] | None


def read_dicts(transitions: Any, terminal_value: Any) -> DictModel:
    """Parts of a model from nested dicts; see `InterventionMDP.from_dict`."""
    if not is_mapping(terminal_value):
        raise TypeError(f"terminal_value must be a mapping of state to value; got {type(terminal_value).__name__}")
    by_action = {name: _rows(name, rows) for name, rows in _by_action(transitions).items()}
    ends = {_plain(state): _end_value(state, value) for state, value in terminal_value.items()}
    sources = chain.from_iterable(by_action.values())
    names, numbered = _order([*dict.fromkeys(chain(sources, ends))])
    index = {name: i for i, name in enumerate(names)}
    value = np.array([ends.get(name, np.nan) for name in names], dtype=np.float64)
    live = {name for name, end in zip(names, value.tolist(), strict=True) if np.isnan(end)}
    matrices = {name: _matrix(name, rows, index, live) for name, rows in by_action.items()}
    for state in names:
        if state in live and not by_action[NOHELP].get(state):
            raise ValueError(f'state {state!r} has no "{NOHELP}" row and no terminal value; expected one of them')
    return DictModel(matrices, value, None if numbered else tuple(names))


def expand_rows(transitions: Any, n: int, states: tuple[Hashable, ...] | None) -> Any:
    """Matrices that are written as mappings of rows, by name or number, as sparse ones; others as they are."""
    if not is_mapping(transitions) or not any(map(is_mapping, transitions.values())):
        return transitions
    index = {name: i for i, name in enumerate(states if states is not None else range(n))}
    result = {}
    for action, matrix in transitions.items():
        rows = _rows(action, matrix) if is_mapping(matrix) else None
        for state in rows or ():
            if state not in index:
                raise ValueError(f"transitions[{action!r}] has a row of {unknown_state(state, index)}")
        result[action] = matrix if rows is None else _matrix(action, rows, index, set(index))
    return result


def list_ends(terminal_value: Any, transitions: Any, states: tuple[Hashable, ...] | None) -> Any:
    """Terminal values of all states, NaN where there is none; of a mapping, or of a list with None. Else as it is."""
    if is_mapping(terminal_value):
        names: Sequence[Any] = range(_count_states(transitions)) if states is None else states
        index = {name: i for i, name in enumerate(names)}
        value = np.full(len(index), np.nan)
        for state, end in terminal_value.items():
            if _plain(state) not in index:
                raise ValueError(f"terminal_value has {unknown_state(state, index)}")
            value[index[_plain(state)]] = _end_value(state, end)
        return value
    if isinstance(terminal_value, (list, tuple)):
        return [np.nan if end is None else end for end in terminal_value]
    return terminal_value


def _count_states(transitions: Any) -> int:
    """Number of states, by the first matrix that is no mapping of rows."""
    for matrix in transitions.values() if is_mapping(transitions) else ():
        if not is_mapping(matrix):
            return int(matrix.shape[0]) if hasattr(matrix, "shape") and matrix.shape else len(matrix)
    raise TypeError(
        "terminal_value is a mapping, and nothing says how many states there are: pass states=, or use "
        "InterventionMDP.from_dict"
    )


def state_names(states: Any, n: int | None = None) -> tuple[Hashable, ...] | None:
    """Names of all states, each a string or a tuple of strings and numbers, all different; `n` if that is known."""
    if states is None:
        return None
    listed = isinstance(states, Sequence) or (isinstance(states, np.ndarray) and states.ndim > 0)
    if isinstance(states, str) or not listed:
        raise TypeError(f"states must be a sequence of names; got {type(states).__name__}")
    names = tuple(_plain(name) for name in states)
    if n is not None and len(names) != n:
        raise ValueError(f"states has {len(names)} names; expected {n}, one per state")
    for name in names:
        _check_name(name)
    if len(set(names)) < len(names):
        double = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"states names {double!r} twice")
    return names


def new_name(name: str, states: Collection[Hashable]) -> str:
    """The name, with a number where a state has it already."""
    return next(new for new in chain([name], (f"{name} {i}" for i in range(2, len(states) + 3))) if new not in states)


def fill_visits(visits: Any, model: DictModel) -> dict[str, npt.NDArray[np.float64]]:
    """Visits of all rows, from a mapping action -> state -> number."""
    names = range(len(model.terminal_value)) if model.states is None else model.states
    index = {name: i for i, name in enumerate(names)}
    result = {}
    if not is_mapping(visits):
        raise TypeError(f"visits must be a mapping of action to numbers by state; got {type(visits).__name__}")
    for action, by_state in visits.items():
        if not is_mapping(by_state):
            raise TypeError(f"visits[{action!r}] must be a mapping of state to number; got {type(by_state).__name__}")
        array = np.zeros(len(index))
        for state, number in by_state.items():
            if _plain(state) not in index:
                raise ValueError(f"visits[{action!r}] names {unknown_state(state, index)}")
            array[index[_plain(state)]] = number
        result[action] = array
    return result


def unknown_state(state: Any, names: Collection[Any]) -> str:
    """Message for a state that is not in the model."""
    near = (
        difflib.get_close_matches(state, [n for n in names if isinstance(n, str)], 1) if isinstance(state, str) else []
    )
    return f"{state!r}, an unknown state{f'; did you mean {near[0]!r}?' if near else ''}"


def _by_action(transitions: Any) -> dict[str, Any]:
    """Rows by action, from either nesting."""
    if not is_mapping(transitions):
        raise TypeError(f"transitions must be a mapping; got {type(transitions).__name__}")
    if not transitions:
        raise ValueError(f'transitions is empty; expected "{NOHELP}" and its rows')
    if NOHELP in transitions:
        return {NOHELP: transitions[NOHELP], **transitions}
    result: dict[str, dict[Any, Any]] = {NOHELP: {}}
    for state, rows in transitions.items():
        if not is_mapping(rows):
            raise TypeError(f"transitions[{state!r}] must be a mapping of action to row; got {type(rows).__name__}")
        for action, row in rows.items():
            result.setdefault(action, {})[state] = row
    if not result[NOHELP]:
        raise ValueError(
            f'transitions has no "{NOHELP}", neither as an action nor in a state; got {list(transitions)!r}'
        )
    return result


def _rows(action: str, rows: Any) -> Rows:
    if not is_mapping(rows):
        raise TypeError(f"transitions[{action!r}] must be a mapping of state to row; got {type(rows).__name__}")
    return {_plain(state): _row(f"transitions[{action!r}][{state!r}]", row) for state, row in rows.items()}


def _row(label: str, row: Any) -> dict[Hashable, float]:
    """A mapping of state to probability, or the one state that follows."""
    if not is_mapping(row):
        if isinstance(row, (str, tuple, int, np.integer)) and not isinstance(row, bool):
            return {_plain(row): 1.0}
        raise TypeError(f"{label} must be a mapping of state to probability, or a state; got {type(row).__name__}")
    result: dict[Hashable, float] = {}
    for state, probability in row.items():
        if isinstance(probability, (bool, str)) or not np.isscalar(probability) or not np.isreal(probability):
            raise TypeError(f"{label}[{state!r}] is {probability!r}; expected a probability")
        if not 0.0 <= float(probability) <= 1.0 + ROW_TOLERANCE:  # type: ignore[arg-type]
            raise ValueError(f"{label}[{state!r}] is {probability!r}; expected a probability in [0, 1]")
        result[_plain(state)] = float(probability)  # type: ignore[arg-type]
    total = sum(result.values())
    if result and abs(total - 1.0) > ROW_TOLERANCE:
        raise ValueError(f"{label} sums to {total:.12g}; expected 1 within {ROW_TOLERANCE:g}")
    return result


def _end_value(state: Any, value: Any) -> float:
    label = f"terminal_value[{state!r}]"
    if isinstance(value, (bool, str)) or not np.isscalar(value) or not np.isreal(value):
        raise TypeError(f"{label} is {value!r}; expected a number in [0, 1]")
    number = float(value)  # type: ignore[arg-type]
    if not (np.isnan(number) or 0.0 <= number <= 1.0):
        raise ValueError(f"{label} is {value!r}; expected a number in [0, 1]")
    return number


def _order(states: list[Any]) -> tuple[list[Any], bool]:
    """States in the order of their rows; numbers 0..n-1, which are no names, in their own order."""
    numbers = [state for state in states if isinstance(state, int)]
    if len(numbers) < len(states):
        for state in states:
            _check_name(state)
        return states, False
    if sorted(numbers) != list(range(len(states))):
        missing = next(i for i in range(len(states) + 1) if i not in set(numbers))
        raise ValueError(
            f"states are numbers but not 0..{len(states) - 1}: {missing} is missing; number or name them all"
        )
    return sorted(numbers), True


def _matrix(action: str, rows: Rows, index: Mapping[Any, int], live: set[Any]) -> sp.csr_array:
    entries: list[tuple[int, int, float]] = []
    for state, row in rows.items():
        for after, probability in row.items() if state in live else ():
            if after not in index:
                raise ValueError(
                    f"transitions[{action!r}][{state!r}] leads to {unknown_state(after, index)}; "
                    "every state needs rows or a terminal value"
                )
            entries.append((index[state], index[after], probability))
    row_of, column, data = zip(*entries, strict=True) if entries else ((), (), ())
    places = (np.array(row_of, np.int64), np.array(column, np.int64))
    return sp.csr_array((np.array(data, np.float64), places), shape=(len(index), len(index)))


def _plain(state: Any) -> Any:
    """Numbers of numpy as those of Python, also in tuples."""
    if isinstance(state, tuple):
        return tuple(_plain(part) for part in state)
    if isinstance(state, np.integer):
        return operator.index(state)
    return state.item() if isinstance(state, np.generic) else state


def _check_name(name: Any) -> None:
    parts: Iterable[Any] = _leaves(name) if isinstance(name, tuple) else [name]
    allowed = (str, int, float) if isinstance(name, tuple) else (str,)
    if not all(isinstance(part, allowed) for part in parts):
        raise TypeError(f"state {name!r} has an unusable name; expected a string, or a tuple of strings and numbers")


def _leaves(name: tuple[Any, ...]) -> Iterable[Any]:
    for part in name:
        yield from _leaves(part) if isinstance(part, tuple) else [part]
