"""The one protocol of everything that decides whether to request help: helpers, plans, thresholds, baselines.

A policy needs one method, `decide`. Four more are called where a policy has them: `start` for one that remembers
something from step to step or draws at random, `set_fields` for one whose states depend on fields of the episode,
`decide_batch` for one that is faster on many states at once, and `action_probabilities` for one that decides at random.
The functions of this module call them, or replace them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from selfreg.data import NOHELP, Step

# Units left of each budget; None where there is no limit.
BudgetLeft: TypeAlias = tuple[int, ...] | None


class Neighbour(NamedTuple):
    """A logged state like the one at hand.

    Attributes
    ----------
    text : str
        Its first characters.
    similarity : float
        Cosine, from 0 to 1.
    visits : dict of str to int
        How often each action was taken there.
    """

    text: str
    similarity: float
    visits: dict[str, int]


@dataclass(frozen=True)
class Decision:
    """What to do in a state, and why. ``Decision()`` and ``Decision("person")`` are enough.

    Attributes
    ----------
    action : str
        "nohelp", or the help type to request.
    request_probability : float or None
        P(any help that the budget can pay for), where the policy has one.
    success_probability : mapping of str to float
        P(success) of taking an action now and deciding as planned afterwards, for the actions that have an estimate.
    budget_left : tuple of int or None
        Before this decision is paid for; None where there is no limit.
    reason : str
        In words.
    price : tuple of float or None
        What the last unit of each budget is worth here in P(success); None without a unit left, or without an estimate.
    neighbours : tuple of Neighbour
        The nearest logged states, nearest first.
    extrapolated : bool
        Whether the state was never logged, so that another state or a rule decided.

    Examples
    --------
    >>> from selfreg.decisions import Decision
    >>> Decision().action, Decision("person").requests_help
    ('nohelp', True)
    """

    action: str = NOHELP
    request_probability: float | None = None
    success_probability: Mapping[str, float] = field(default_factory=dict)
    budget_left: BudgetLeft = None
    reason: str = ""
    price: tuple[float | None, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    extrapolated: bool = False

    @property
    def requests_help(self) -> bool:
        """Whether the action is a help type."""
        return self.action != NOHELP


class DecisionPolicy(Protocol):
    """Decides at every step whether to request help.

    An attribute `name`, if there is one, is recorded in the episodes that follow the policy.

    Examples
    --------
    A policy of one's own, in two lines; closed loop, off-policy evaluation, collection and the command line take it.

    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision
    >>> class AfterAnError:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("person" if "error" in steps[-1].state else "nohelp")
    >>> AfterAnError().decide([Step("error: no such file")], (1,)).action
    'person'
    """

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """Decide for the current state.

        Parameters
        ----------
        steps : sequence of Step
            The episode so far; the last one is the current state, without action and intervention.
        budget_left : tuple of int, or None
            Units left of each budget; None where there is no limit. A request that the budget cannot pay for is not
            carried out: the agent goes on alone.
        """


def budget_spent(budget_left: BudgetLeft) -> bool:
    """Whether there is a limit and no unit of any budget is left.

    Examples
    --------
    >>> from selfreg.decisions import budget_spent
    >>> budget_spent((0, 0)), budget_spent((0, 1)), budget_spent(None)
    (True, False, False)
    """
    return budget_left is not None and not any(budget_left)


def spread_requests(requests: int, horizon: int) -> int:
    """The n of every n-th decision, at least 1, that spreads so many requests over `horizon` decisions."""
    return max(1, horizon // (requests + 1))


def policy_name(policy: DecisionPolicy) -> str:
    """Name under which the episodes of a policy are recorded: its `name`, or that of its class."""
    return str(getattr(policy, "name", type(policy).__name__))


def start_episode(policy: DecisionPolicy, task: str, seed: int, fields: Mapping[str, Any] | None = None) -> None:
    """Begin an episode: calls `policy.start(task, seed)` and `policy.set_fields(fields)`, where the policy has them.

    `start` resets the policy; all chance in the decisions of the new episode comes from `task` and `seed`. `fields` are
    the fields of a logged episode, none by default.
    """
    start = getattr(policy, "start", None)
    if start is not None:
        start(task, seed)
    set_fields = getattr(policy, "set_fields", None)
    if set_fields is not None:
        set_fields(fields or {})


def decide_batch(
    policy: DecisionPolicy, histories: Sequence[Sequence[Step]], budgets_left: Sequence[BudgetLeft]
) -> list[Decision]:
    """Decisions in many states: `policy.decide_batch(histories, budgets_left)` where there is one, else one by one.

    Raises
    ------
    ValueError
        If there are not as many budgets as histories.

    Examples
    --------
    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision, decide_batch
    >>> class Always:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("person" if budget_left is None or any(budget_left) else "nohelp")
    >>> [one.action for one in decide_batch(Always(), [[Step("a")], [Step("b")]], [(1,), (0,)])]
    ['person', 'nohelp']
    """
    if len(histories) != len(budgets_left):
        raise ValueError(f"there are {len(histories)} histories and {len(budgets_left)} budgets; expected as many")
    batch = getattr(policy, "decide_batch", None)
    if batch is not None:
        decisions: list[Decision] = batch(histories, budgets_left)
        return decisions
    return [policy.decide(steps, left) for steps, left in zip(histories, budgets_left, strict=True)]


def action_probabilities(policy: DecisionPolicy, steps: Sequence[Step], budget_left: BudgetLeft) -> Mapping[str, float]:
    """P(action) of a policy, by name: its own `action_probabilities` where there is one, else 1 for what it decides.

    Examples
    --------
    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision, action_probabilities
    >>> class Never:
    ...     def decide(self, steps, budget_left):
    ...         return Decision()
    >>> action_probabilities(Never(), [Step("a")], None)
    {'nohelp': 1.0}
    """
    chances = getattr(policy, "action_probabilities", None)
    if chances is not None:
        found: Mapping[str, float] = chances(steps, budget_left)
        return found
    return {policy.decide(steps, budget_left).action: 1.0}
