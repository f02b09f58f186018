"""Helpers that are not the expert: weaker ones, and ones that mislead in some situations. For every environment."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from selfreg.envs.protocol import BasePolicy, Environment, ExplicitPolicy, certain

__all__ = ["ErringHelper", "FixedAction", "Situational"]


class ErringHelper:
    """Does what the expert would do, except for an action drawn from all others with chance `error`.

    Parameters
    ----------
    error : float
        Chance in [0, 1].

    Raises
    ------
    ValueError
        If `error` is not in [0, 1].

    Examples
    --------
    >>> from selfreg.envs import ErringHelper, Intervention, make_household
    >>> neighbour = Intervention("neighbour", steps=1, cost=1, helper=ErringHelper(0.3))
    >>> world = make_household(interventions=[Intervention("owner", steps=None, cost=4), neighbour])
    >>> list(world.interventions)
    ['owner', 'neighbour']
    """

    def __init__(self, error: float) -> None:
        if not 0 <= error <= 1:
            raise ValueError(f"error is {error}; expected a chance in [0, 1]")
        self.error = error

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        """Choose the next action; draws twice in every step."""
        wanted = environment.expert_action()
        luck, other = generator.random(), int(generator.integers(len(environment.action_names) - 1))
        return other + (other >= wanted) if luck < self.error else wanted

    def distribution(self, environment: Environment) -> npt.NDArray[np.float64]:
        """Return the probability of each action, float64 (actions,)."""
        n, wanted = len(environment.action_names), environment.expert_action()
        result = np.full(n, self.error / (n - 1))
        result[wanted] = 1.0 - self.error
        return result


class FixedAction:
    """Always takes the same action, by its name.

    Raises
    ------
    ValueError
        When it acts, if the environment has no such action.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def action(self, names: Sequence[str]) -> int:
        """Place of the action among all; ValueError where it is not one of them."""
        if self.name not in names:
            raise ValueError(f"action {self.name!r} is unknown here; expected one of {list(names)}")
        return list(names).index(self.name)

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        """Return the action."""
        return self.action(environment.action_names)

    def distribution(self, environment: Environment) -> npt.NDArray[np.float64]:
        """Return 1 for the action."""
        return certain(environment, self.act(environment, np.random.default_rng(0)))


class Situational:
    """One policy in the situations that a regular expression finds in the state's text, another one elsewhere.

    A helper that misleads in some situations is one whose policy `there` is bad.

    Parameters
    ----------
    where : str
        Regular expression, searched in the text; `^` and `$` match at lines.
    there, elsewhere : BasePolicy

    Raises
    ------
    ValueError
        If `where` is not a regular expression.
    TypeError
        If one of the policies cannot act.

    Examples
    --------
    Help that drops what is in hand whenever there is something in hand:

    >>> from selfreg.envs import Expert, FixedAction, Intervention, Situational, make_household
    >>> misleading = Situational("^In hand: (?!nothing)", FixedAction("put left"), Expert())
    >>> world = make_household(interventions=[Intervention("help", helper=misleading)])
    """

    def __init__(self, where: str, there: BasePolicy, elsewhere: BasePolicy) -> None:
        try:
            self.where = re.compile(where, re.MULTILINE)
        except re.error as error:
            raise ValueError(f"where is {where!r}, which is not a regular expression: {error}") from None
        for name, policy in (("there", there), ("elsewhere", elsewhere)):
            if isinstance(policy, type) or not isinstance(policy, BasePolicy):
                raise TypeError(f"{name} is {policy!r}; expected a policy with act()")
        self.there, self.elsewhere = there, elsewhere

    def _policy(self, environment: Environment) -> BasePolicy:
        return self.there if self.where.search(environment.text()) else self.elsewhere

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        """Choose the next action as the policy in charge does."""
        return self._policy(environment).act(environment, generator)

    def distribution(self, environment: Environment) -> npt.NDArray[np.float64]:
        """Return the probability of each action, float64 (actions,)."""
        policy = self._policy(environment)
        if not isinstance(policy, ExplicitPolicy):
            raise TypeError(f"{type(policy).__name__} has no distribution(); an exact model needs it")
        return policy.distribution(environment)
