"""Baselines, and the registry of all policies that a comparison shows.

A baseline is a class that follows `selfreg.decisions.DecisionPolicy` and an entry in `POLICIES`. Policies of other
packages are found by entry points of the group `selfreg.policies` (see `load_policy`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from selfreg.data import NOHELP, Step
from selfreg.decisions import BudgetLeft, Decision, DecisionPolicy, budget_spent, spread_requests
from selfreg.envs import RandomHelp
from selfreg.prm.threshold import ThresholdPolicy

if TYPE_CHECKING:
    from selfreg.evaluate.policy_comparison import PolicySetup

GROUP = "selfreg.policies"  # of entry points
# Members of the family "random", compared at equal cost; never and always close each family on both sides.
RATES = (0.03, 0.07, 0.12, 0.2, 0.35)
TUNED, PLAN, HELPER, OPTIMUM = "tuned PRM threshold", "plan", "helper", "optimum"
PLAN_PRM, PLAN_NEAREST = "plan, PRM where unseen", "plan, nearest where unseen"


class Never:
    """Goes on alone."""

    name = "never"

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """No help."""
        return Decision(budget_left=budget_left)


@dataclass(frozen=True)
class Always:
    """Requests `help` at every step; under a budget of k requests this is first-k.

    Examples
    --------
    >>> from selfreg.data import Step
    >>> from selfreg.evaluate import Always
    >>> [Always("help").decide([Step("a")], left).action for left in (None, (1,), (0,), (0, 1))]
    ['help', 'help', 'nohelp', 'help']
    """

    help: str
    name: str = "always"

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """The help type, while a unit of budget is left."""
        return _request_if(True, self.help, budget_left)


@dataclass(frozen=True)
class LastK:
    """Requests `help` in the last `k` decisions up to number `horizon`, and after it, while there is budget.

    The length of an episode is not known in advance; `horizon` is an estimate, such as the median number of decisions
    of unhelped episodes of the training tasks.

    Raises
    ------
    ValueError
        If `k` or `horizon` is below 1.
    """

    help: str
    k: int
    horizon: int
    name: str = "last-k"

    def __post_init__(self) -> None:
        for field, value in (("k", self.k), ("horizon", self.horizon)):
            if value < 1:
                raise ValueError(f"LastK.{field} is {value}; expected at least 1")

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """The help type from decision `horizon` - k + 1 on."""
        return _request_if(len(steps) > self.horizon - self.k, self.help, budget_left)


@dataclass(frozen=True)
class EveryN:
    """Requests `help` at every n-th decision, the first time at decision number n, while there is budget.

    Raises
    ------
    ValueError
        If `n` is below 1.
    """

    help: str
    n: int
    name: str = "every-n"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"EveryN.n is {self.n}; expected at least 1")

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """The help type at decisions n, 2n, ..."""
        return _request_if(len(steps) % self.n == 0, self.help, budget_left)


def _request_if(condition: bool, help: str, budget_left: BudgetLeft) -> Decision:
    return Decision(help if condition and not budget_spent(budget_left) else NOHELP, budget_left=budget_left)


class Member(NamedTuple):
    """A policy of a registered name. `setting` distinguishes members of a family; budget None is unlimited."""

    policy: DecisionPolicy
    budget: int | None
    setting: float = 0.0


Members: TypeAlias = Callable[["PolicySetup"], Iterable[Member]]


class RegisteredPolicy(NamedTuple):
    """A policy as tables, plots and comparisons know it.

    Attributes
    ----------
    name : str
    members : callable
        Makes the policies of this name from a `PolicySetup`; none where the setup lacks what they need.
    order : int
        Place in tables, ascending.
    color, marker : str or None
        In plots; the policy is in tables only where they are None.
    """

    name: str
    members: Members
    order: int = 100
    color: str | None = None
    marker: str | None = None


def _per_budget(make: Callable[[PolicySetup, int], DecisionPolicy | None]) -> Members:
    """A policy for each budget, where `make` returns one."""

    def members(setup: PolicySetup) -> Iterable[Member]:
        for budget in setup.comparison.budgets:
            policy = make(setup, budget)
            if policy is not None:
                yield Member(policy, budget)

    return members


def _never(setup: PolicySetup) -> Iterable[Member]:
    return [Member(Never(), 0)]


def _always(setup: PolicySetup) -> Iterable[Member]:
    return [Member(Always(setup.comparison.help), None)]


def _random(setup: PolicySetup) -> Iterable[Member]:
    return [Member(RandomHelp(rate, [setup.comparison.help]), None, rate) for rate in RATES]


def _thresholds(setup: PolicySetup) -> Iterable[Member]:
    make = partial(ThresholdPolicy, setup.prm, setup.comparison.help, scores=setup.scores)
    return [Member(make(threshold), None, threshold) for threshold in setup.comparison.thresholds]


def _first_k(setup: PolicySetup, budget: int) -> DecisionPolicy:
    return Always(setup.comparison.help)


def _last_k(setup: PolicySetup, budget: int) -> DecisionPolicy:
    return LastK(setup.comparison.help, setup.requests(budget), setup.comparison.horizon)


def _every_n(setup: PolicySetup, budget: int) -> DecisionPolicy:
    return EveryN(setup.comparison.help, spread_requests(setup.requests(budget), setup.comparison.horizon))


def _tuned(setup: PolicySetup, budget: int) -> DecisionPolicy | None:
    if budget not in setup.comparison.tuned:
        return None
    threshold = setup.comparison.tuned[budget]
    return ThresholdPolicy(setup.prm, setup.comparison.help, threshold, name=TUNED, scores=setup.scores)


def _plan_prm(setup: PolicySetup, budget: int) -> DecisionPolicy | None:
    tuned, plan = _tuned(setup, budget), setup.comparison.fallback
    return None if tuned is None or plan is None else plan.with_fallback(tuned)


def _helper(setup: PolicySetup, budget: int) -> DecisionPolicy:
    return setup.helper


def _plan(name: str) -> Members:
    return _per_budget(lambda setup, budget: setup.comparison.plans.get(name))


POLICIES = (
    RegisteredPolicy("never", _never, 10, "#1f2430", "X"),
    RegisteredPolicy("first-k", _per_budget(_first_k), 20, "#a16207", "v"),
    RegisteredPolicy("last-k", _per_budget(_last_k), 30, "#a16207", ">"),
    RegisteredPolicy("every-n", _per_budget(_every_n), 40, "#be185d", "p"),
    RegisteredPolicy("random", _random, 50, "#9333ea", "D"),
    RegisteredPolicy("PRM threshold", _thresholds, 60, "#0f766e", "^"),
    RegisteredPolicy(TUNED, _per_budget(_tuned), 70, "#0f766e", "<"),
    RegisteredPolicy(HELPER, _per_budget(_helper), 80, "#c2410c", "o"),
    RegisteredPolicy(PLAN, _plan(PLAN), 90, "#1d4ed8", "s"),
    RegisteredPolicy(PLAN_PRM, _per_budget(_plan_prm), 91),
    RegisteredPolicy(PLAN_NEAREST, _plan(PLAN_NEAREST), 92),
    RegisteredPolicy(OPTIMUM, _plan(OPTIMUM), 110, "#1d4ed8", "*"),
    RegisteredPolicy("always", _always, 120, "#1f2430", "P"),
)
_BY_NAME = {one.name: one for one in POLICIES}


def policy_order(name: str) -> int:
    """Place of a policy in tables; policies of other packages come after the plans."""
    return _BY_NAME[name].order if name in _BY_NAME else RegisteredPolicy._field_defaults["order"]


def load_policy(name: str) -> RegisteredPolicy:
    """Policy of an installed package, by the name of its entry point in the group ``selfreg.policies``.

    The entry point's value is a factory. It is called with a `PolicySetup` and a budget (int), once for each budget of
    the comparison, and returns a `DecisionPolicy`::

        [project.entry-points."selfreg.policies"]
        on-error = "my_package:make_policy"      # def make_policy(setup, budget): ...

    Raises
    ------
    ValueError
        If no package has such an entry point, two have it, or the name is one of `POLICIES`.
    TypeError
        When the policy is made, if the factory returns something without `decide`.
    """
    if name in _BY_NAME:
        raise ValueError(f"policy {name!r} is one of selfreg's own; expected another name")
    named = [point for point in entry_points(group=GROUP) if point.name == name]
    if len(named) != 1:
        installed = ", ".join(sorted({point.name for point in entry_points(group=GROUP)})) or "none is installed"
        found = f"policy {name!r} is in several packages" if named else f"unknown policy {name!r}"
        raise ValueError(f"{found}; entry points {GROUP}: {installed}")
    return RegisteredPolicy(name, _per_budget(partial(_from_entry_point, named[0])))


def _from_entry_point(point: EntryPoint, setup: PolicySetup, budget: int) -> DecisionPolicy:
    policy: Any = point.load()(setup, budget)
    if not callable(getattr(policy, "decide", None)):
        raise TypeError(f"policy {point.name!r}: {point.value} returned {policy!r}; expected an object with decide()")
    made: DecisionPolicy = policy
    return made
