"""Other ways to make an `InterventionMDP`: of dicts, of Gymnasium's tables, of another model."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg.models import gymnasium_tables, model_changes, model_dicts
from selfreg.models.gymnasium_tables import OPTIMAL, UNIFORM, TablePolicy
from selfreg.models.validate_model import NOHELP

if TYPE_CHECKING:
    from typing import TypeVar

    Self = TypeVar("Self", bound="ModelMakers")


class ModelMakers:
    """What `InterventionMDP` inherits; see there."""

    if TYPE_CHECKING:
        transitions: Mapping[str, sp.csr_array]
        terminal_value: npt.NDArray[np.float64]
        costs: Mapping[str, tuple[int, ...]]
        visits: Mapping[str, npt.NDArray[np.float64]] | None
        states: tuple[Hashable, ...] | None

        def __init__(
            self, transitions: Any, terminal_value: Any, costs: Any, *, visits: Any = None, states: Any = None
        ) -> None: ...

        @property
        def terminal(self) -> npt.NDArray[np.bool_]: ...

    @classmethod
    def from_dict(
        cls: type[Self],
        transitions: Mapping[Any, Any],
        terminal_value: Mapping[Any, float],
        costs: Mapping[str, Any] | None = None,
        *,
        visits: Mapping[str, Mapping[Any, float]] | None = None,
    ) -> Self:
        """Make a model of nested dicts with names of states.

        Parameters
        ----------
        transitions : mapping
            state -> action -> row, or action -> state -> row. A row is a mapping of state to probability, or the one
            state that follows. Names are strings or tuples; if all are numbers, they are the indices 0..n-1.
        terminal_value : mapping of state to float
            Value in [0, 1] of every terminal state.
        costs : mapping of str to int or tuple of int, optional
            1 for each help type by default.
        visits : mapping, optional
            action -> state -> number of observations; 0 where there is no entry.

        Raises
        ------
        ValueError, TypeError
            With the action, the state and the rule that broke.

        Examples
        --------
        >>> import selfreg
        >>> mdp = selfreg.InterventionMDP.from_dict(
        ...     {"start": {"nohelp": {"done": .6, "trouble": .4}},
        ...      "trouble": {"nohelp": {"done": .1, "lost": .9}, "help": {"done": .8, "lost": .2}}},
        ...     terminal_value={"done": 1, "lost": 0},
        ... )
        >>> print(selfreg.solve(mdp, budget=1).explain("trouble", 1).action)
        help
        """
        model = model_dicts.read_dicts(transitions, terminal_value)
        prices = {name: 1 for name in model.transitions if name != NOHELP} if costs is None else costs
        by_row = None if visits is None else model_dicts.fill_visits(visits, model)
        return cls(model.transitions, model.terminal_value, prices, visits=by_row, states=model.states)

    @classmethod
    def from_umb(
        cls: type[Self], path: str | os.PathLike[str], goal: str = "goal", *, budgets: Sequence[str] = ()
    ) -> Self:
        """Read a model of a probabilistic model checker: UMB, the shared binary format (extra `umb`).

        `solve` then gives the largest probability of reaching `goal`, and with `budgets` of reaching it while the sum
        of each of these rewards is at most the budget.

        Parameters
        ----------
        path : str or path
            A UMB file of a Markov decision process or chain.
        goal : str
            Name or alias of the label of success. States with it are terminal with value 1; states without choices
            are terminal with value 0.
        budgets : sequence of str
            Names or aliases of rewards of choices or states: integers >= 0. What a choice takes of them is its cost.

        Returns
        -------
        InterventionMDP
            The first choice of a state that costs nothing is `nohelp`, its others are help types: "choice 2", or
            with a reward "coal", "coal 3" for the first choice of cost 3. A state in which every choice costs
            something can wait: `nohelp` stays there, and waiting for ever is worth 0.

        Raises
        ------
        ImportError
            Without the extra `umb`.
        ValueError, TypeError
            For a game, a partially observable model, continuous time, intervals of probabilities, more than 127
            help types, a label or reward that the file does not have, or a reward that cannot be a budget.
        """
        from selfreg.models.umb_tables import load_umb  # rarely needed

        return cls(*load_umb(path, goal, budgets))

    @classmethod
    def from_gymnasium(
        cls: type[Self],
        env: Any,
        policies: Mapping[str, TablePolicy] | None = None,
        costs: Mapping[str, Any] | None = None,
        *,
        discount: float | None = None,
    ) -> Self:
        """Make a model of a tabular Gymnasium environment, such as FrozenLake, and policies in it.

        States keep their numbers. Terminal states that the table does not have, for other rewards, follow them.

        Parameters
        ----------
        env : gymnasium.Env or mapping
            An environment with a table `P`, or the table: state -> action -> list of (probability, state, reward,
            ended).
        policies : mapping of str to policy
            What the agent does alone ("nohelp") and what each help type does for one step: int (states,), float
            (states, actions), a function of the state, "uniform" (each action alike), or "optimal" (without a budget).
            Default: {"nohelp": "uniform", "help": "optimal"}.
        costs : mapping of str to int or tuple of int, optional
            1 for each help type by default.
        discount : float, optional
            In (0, 1), for rewards that are not paid once at the end: with G the discounted sum of rewards and low and
            high the least and largest reward (or 0), the value is ((1 - discount) G - low) / (high - low).

        Raises
        ------
        ValueError, TypeError
            If there is no table, or it pays rewards that need `discount`; names the state and the action.

        Examples
        --------
        >>> import selfreg
        >>> P = {0: {0: [(1.0, 0, 0.0, False)], 1: [(0.5, 1, 1.0, True), (0.5, 0, 0.0, False)]},
        ...      1: {0: [(1.0, 1, 0.0, True)], 1: [(1.0, 1, 0.0, True)]}}
        >>> selfreg.InterventionMDP.from_gymnasium(P).transitions["nohelp"].toarray().tolist()
        [[0.75, 0.25], [0.0, 0.0]]
        """
        rate = None if discount is None else validate.confidence("discount", discount)
        table = gymnasium_tables.read_table(env, rate)
        chosen: Mapping[str, Any] = {NOHELP: UNIFORM, "help": OPTIMAL} if policies is None else policies
        matrices = {}
        for name, policy in chosen.items():
            best = isinstance(policy, str) and policy == OPTIMAL
            array = cls._optimal_policy(table) if best else policy
            matrices[name] = table.matrix(gymnasium_tables.policy_table(f"policies[{name!r}]", array, table))
        prices = {name: 1 for name in matrices if name != NOHELP} if costs is None else costs
        return cls(matrices, table.terminal_value, prices)

    def discounted(self: Self, discount: float) -> Self:
        """The model in which each step, the last one too, is followed by failure with probability 1 - `discount`.

        Its values are those of discount ** steps times the terminal value. The failure is one more state, the last.

        Raises
        ------
        ValueError, TypeError
            If `discount` is not in (0, 1).

        Examples
        --------
        >>> import selfreg
        >>> mdp = selfreg.InterventionMDP.from_dict({"a": {"nohelp": "b"}, "b": {"nohelp": "end"}}, {"end": 1})
        >>> selfreg.solve(mdp.discounted(.9), 0).value[:, 0].round(3).tolist()
        [0.81, 0.9, 1.0, 0.0]
        """
        rate = validate.confidence("discount", discount)
        live = ~self.terminal
        rows = {name: model_changes.stop_at_random(matrix, live, rate) for name, matrix in self.transitions.items()}
        names = None if self.states is None else (*self.states, model_dicts.new_name("stopped", self.states))
        visits = model_changes.extend_visits(self.visits, 1, 1)
        return type(self)(rows, np.append(self.terminal_value, 0.0), self.costs, visits=visits, states=names)

    def unrolled(self: Self, horizon: int, *, end: float = 0.0) -> Self:
        """The model with a limit of `horizon` steps: state t * n + s is state s after t steps.

        Parameters
        ----------
        horizon : int
            An episode that has not ended after so many steps ends with the value `end`, in [0, 1].

        Raises
        ------
        ValueError, TypeError
            If an argument is out of range.

        Examples
        --------
        >>> import selfreg
        >>> mdp = selfreg.InterventionMDP.from_dict({"a": {"nohelp": {"a": .5, "end": .5}}}, {"end": 1})
        >>> limited = mdp.unrolled(2)
        >>> selfreg.solve(limited, 0).value[0].tolist(), limited.states[0]
        ([0.75], (0, 'a'))
        """
        steps, last = validate.integer("horizon", horizon, 0), validate.probability("end", end)
        rows = {name: model_changes.repeat_by_step(m, ~self.terminal, steps) for name, m in self.transitions.items()}
        final = np.where(self.terminal, self.terminal_value, last)
        value = np.concatenate([np.tile(self.terminal_value, steps), final])
        names = None if self.states is None else tuple((t, name) for t in range(steps + 1) for name in self.states)
        visits = model_changes.extend_visits(self.visits, steps + 1, 0)
        return type(self)(rows, value, self.costs, visits=visits, states=names)

    @classmethod
    def _optimal_policy(cls, table: gymnasium_tables.Table) -> npt.NDArray[np.int64]:
        """Best action of an environment in each state: help that costs nothing, one type an action."""
        from selfreg.planning.hard import solve

        names = [NOHELP, *map(str, range(1, table.actions))]
        choices = np.eye(table.actions)
        rows = {name: table.matrix(np.tile(choices[a], (table.states, 1))) for a, name in enumerate(names)}
        mdp: Any = cls(rows, table.terminal_value, dict.fromkeys(names[1:], 0))
        return solve(mdp, 0).policy[: table.states, 0].astype(np.int64)
