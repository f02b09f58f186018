"""The model of budgeted intervention: states, transitions with and without help, outcomes, costs."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg._util.showing import counted, html_table
from selfreg.models import model_dicts, model_files, validate_model
from selfreg.models.model_makers import ModelMakers
from selfreg.models.validate_model import NOHELP

MOST_ROWS = 10


class KernelArrays(NamedTuple):
    """Arrays of a model as kernels read them, for loops over many models.

    Attributes
    ----------
    kind : tuple
        Names of the actions, and the costs of each help type.
    arrays : tuple of arrays
        Terminal values, then indptr, indices, data of every action.
    """

    kind: tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]
    arrays: tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True, eq=False, init=False, repr=False)
class InterventionMDP(ModelMakers):
    """A finite model in which an agent acts alone (`nohelp`) or requests help at a cost.

    Validated once, at construction, and immutable afterwards. Input arrays are not modified. They are not copied if
    they are CSR, float64, sorted, without duplicates or zeros, and their rows sum to 1 up to rounding: the caller must
    not modify such arrays afterwards. Models can be pickled and copied.

    Parameters
    ----------
    transitions : mapping of str to (n, n) scipy sparse matrix, array, list of rows or mapping of rows
        Action name to transition probabilities, `"nohelp"` first; the order of the mapping is the order of the actions.
        A row sums to 1 (available) or 0 (unavailable) within 1e-9 (1e-6 for single precision) and is scaled to 1.
        Rows of terminal states are not used. A mapping of rows is state -> state that follows -> probability.
    terminal_value : array_like of float (n,), or mapping of state to float
        Probability of success, or any reward in [0, 1] that the episode ends with, of every terminal state; NaN or
        None marks a non-terminal state. A mapping has the terminal states only.
    costs : mapping of str to int or tuple of int, optional
        Units that one request of each help type takes from the budget, or from each of several budgets; 0 is allowed.
        1 for each help type by default.
    visits : mapping of str to array_like of float (n,), optional
        Number of observations behind each row of each action; used by `selfreg.solve(..., robust=...)`.
    states : sequence of str or tuple, optional
        Names of the states, which functions then take and show in place of numbers. A number is always an index.

    Attributes
    ----------
    actions : tuple of str
        `"nohelp"`, then the help types.
    n_states, n_budgets : int
    terminal : bool (n,)

    Raises
    ------
    ValueError, TypeError
        With the action, the row and the rule that broke.

    Examples
    --------
    Alone the agent succeeds half the time; help always succeeds.

    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, 1., 0], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP(
    ...     transitions={"nohelp": alone, "help": helped},
    ...     terminal_value=[np.nan, 1, 0],
    ...     costs={"help": 1},
    ... )
    >>> mdp
    InterventionMDP(3 states, 1 live, actions nohelp, help (1))

    `from_dict` takes names of states, `from_gymnasium` a tabular environment:

    >>> selfreg.InterventionMDP.from_dict(
    ...     {"work": {"nohelp": {"done": .5, "lost": .5}, "help": "done"}}, {"done": 1, "lost": 0}
    ... ).states
    ('work', 'done', 'lost')
    """

    transitions: Mapping[str, sp.csr_array]
    terminal_value: npt.NDArray[np.float64]
    costs: Mapping[str, tuple[int, ...]]
    visits: Mapping[str, npt.NDArray[np.float64]] | None
    states: tuple[Hashable, ...] | None
    _kernel_arrays: KernelArrays

    def __init__(
        self,
        transitions: Mapping[str, Any],
        terminal_value: Any,
        costs: Mapping[str, Any] | None = None,
        *,
        visits: Mapping[str, Any] | None = None,
        states: Sequence[Hashable] | None = None,
    ) -> None:
        names = model_dicts.state_names(states)
        terminal_value = model_dicts.list_ends(terminal_value, transitions, names)
        ends = np.size(terminal_value)
        matrices = validate_model.transitions(model_dicts.expand_rows(transitions, ends, names))
        help_types = [name for name in matrices if name != NOHELP]
        n = matrices[NOHELP].shape[0]
        names = model_dicts.state_names(names, n)
        value = validate_model.terminal_value(terminal_value, n)
        validate_model.nohelp_everywhere(matrices[NOHELP], ~np.isnan(value))
        by_row = None if visits is None else validate.by_row("visits", visits, list(matrices), n)
        units = dict.fromkeys(help_types, 1) if costs is None else costs
        self._set_fields(matrices, value, validate_model.costs(units, help_types), by_row, names)

    @classmethod
    def _trusted(
        cls,
        transitions: Mapping[str, sp.csr_array],
        terminal_value: npt.NDArray[np.float64],
        costs: Mapping[str, tuple[int, ...]],
        visits: Mapping[str, npt.NDArray[np.float64]] | None = None,
        states: tuple[Hashable, ...] | None = None,
    ) -> InterventionMDP:
        """Model of parts of a model that was validated before."""
        mdp = object.__new__(cls)
        by_row = None if visits is None else dict(visits)
        mdp._set_fields(dict(transitions), terminal_value, dict(costs), by_row, states)
        return mdp

    def _set_fields(
        self,
        matrices: dict[str, sp.csr_array],
        value: npt.NDArray[np.float64],
        costs: dict[str, tuple[int, ...]],
        visits: dict[str, npt.NDArray[np.float64]] | None,
        states: tuple[Hashable, ...] | None,
    ) -> None:
        value = _read_only(value)
        parts = [part for m in matrices.values() for part in (m.indptr, m.indices, m.data)]
        by_row = None if visits is None else {name: _read_only(array) for name, array in visits.items()}
        fields = {
            "transitions": MappingProxyType(matrices),
            "terminal_value": value,
            "costs": MappingProxyType(costs),
            "visits": None if by_row is None else MappingProxyType(by_row),
            "states": states,
            "_kernel_arrays": KernelArrays((tuple(matrices), tuple(costs.values())), (value, *parts)),
        }
        for name, content in fields.items():
            object.__setattr__(self, name, content)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: the parts alone, since views of mappings and what solvers derived do not travel."""
        visits = None if self.visits is None else dict(self.visits)
        return self._trusted, (dict(self.transitions), self.terminal_value, dict(self.costs), visits, self.states)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model as a folder of npy arrays with a JSON header (`docs/stored-models.md` describes the format).

        Parameters
        ----------
        path : path
            Folder to make, written atomically.
        overwrite : bool
            Replace a saved model. A folder with other content is never replaced.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced.
        """
        parts = (self.transitions, self.terminal_value, self.costs, self.visits, self.states)
        model_files.save(path, *parts, overwrite)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, mmap: bool = True, validate: bool = True) -> InterventionMDP:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : path
        mmap : bool
            Map the arrays into memory, read-only, instead of reading them: a model larger than memory can then be
            solved with keep="start", and processes share one copy. The folder must not be changed while in use.
        validate : bool
            Read through the arrays once and check them. Without this check a broken file can crash the process: use
            False only for folders that you wrote yourself.

        Raises
        ------
        ValueError
            If the folder is not a saved model; names the file, the row and the rule that broke.

        Examples
        --------
        >>> import tempfile, numpy as np, selfreg
        >>> mdp = selfreg.InterventionMDP({"nohelp": np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])}, [np.nan, 1, 0], {})
        >>> folder = tempfile.mkdtemp()
        >>> mdp.save(folder)
        >>> selfreg.InterventionMDP.open(folder)
        InterventionMDP(3 states, 1 live, actions nohelp)
        """
        return cls._trusted(*model_files.load(path, mmap, validate))

    @cached_property
    def actions(self) -> tuple[str, ...]:
        return tuple(self.transitions)

    @property
    def n_states(self) -> int:
        return len(self.terminal_value)

    @property
    def n_budgets(self) -> int:
        return next((len(cost) for cost in self.costs.values()), 1)

    @cached_property
    def terminal(self) -> npt.NDArray[np.bool_]:
        live: npt.NDArray[np.bool_] = np.isnan(self.terminal_value)
        return ~live

    @cached_property
    def cost_table(self) -> npt.NDArray[np.int64]:
        """int64 (actions, budgets): units that each action takes from each budget; the first row is 0."""
        rows = [(0,) * self.n_budgets, *(self.costs[name] for name in self.actions[1:])]
        return np.array(rows, dtype=np.int64)

    @cached_property
    def derived(self) -> dict[Any, Any]:
        """Cache of what solvers derive from the model, for the next call."""
        return {}

    def available(self, action: str) -> npt.NDArray[np.bool_]:
        """bool (n,): non-terminal states in which `action` has a row."""
        filled: npt.NDArray[np.bool_] = np.diff(self.transitions[action].indptr) > 0
        return filled & ~self.terminal

    @cached_property
    def _index(self) -> dict[Hashable, int]:
        return {} if self.states is None else {name: i for i, name in enumerate(self.states)}

    def state_index(self, state: Any, *, label: str = "state") -> int:
        """Index of a state, by its name or its index; `label` is what errors call it.

        Raises
        ------
        ValueError, TypeError
            If the model has no such state.
        """
        if isinstance(state, (str, tuple)):
            if state in self._index:
                return self._index[state]
            raise ValueError(f"{label} is {model_dicts.unknown_state(state, self._index)}")
        if not self.n_states:
            raise ValueError(f"{label} is {state!r}; {validate.NO_STATES}")
        return validate.integer(label, state, 0, self.n_states - 1)

    def state_name(self, index: int) -> Any:
        """Name of a state; its index where states have no names."""
        return index if self.states is None else self.states[index]

    def start_distribution(self, start: Any) -> npt.NDArray[np.float64]:
        """Probabilities of states, float64 (n,), from a state, a mapping of states to probabilities, or an array.

        Raises
        ------
        ValueError, TypeError
            If `start` is not one of these.
        """
        if validate.is_mapping(start):
            weight = np.zeros(self.n_states)
            for state, probability in start.items():
                weight[self.state_index(state, label="start")] += validate.probability(f"start[{state!r}]", probability)
            return validate.start(weight, self.n_states)
        named = isinstance(start, str) or (isinstance(start, tuple) and start in self._index)
        return validate.start(self.state_index(start, label="start") if named else start, self.n_states)

    def __repr__(self) -> str:
        costs = [f"{name} ({', '.join(map(str, cost))})" for name, cost in self.costs.items()]
        live = int(np.count_nonzero(~self.terminal))
        return (
            f"InterventionMDP({counted(self.n_states, 'state')}, {live} live, actions {', '.join(['nohelp', *costs])})"
        )

    def _repr_html_(self) -> str:
        shown = np.flatnonzero(~self.terminal)[:MOST_ROWS].tolist()
        rows = [[str(self.state_name(s)), *(self._row_text(name, s) for name in self.actions)] for s in shown]
        left_out = int(np.count_nonzero(~self.terminal)) - len(shown)
        return html_table(repr(self), ["state", *self.actions], rows, left_out)

    def _row_text(self, action: str, state: int) -> str:
        """The largest probabilities of a row."""
        matrix = self.transitions[action]
        part = slice(matrix.indptr[state], matrix.indptr[state + 1])
        order = np.argsort(-matrix.data[part], kind="stable")[:4].tolist()
        entries = [f"{self.state_name(int(matrix.indices[part][i]))} {matrix.data[part][i]:.3g}" for i in order]
        return ", ".join([*entries, "..."] if len(matrix.data[part]) > len(order) else entries) or "-"


def _read_only(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    view = array.view()
    view.flags.writeable = False
    return view
