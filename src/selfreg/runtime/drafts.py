"""What a policy decides for a step, before it is stored: the action within the budget, and its probability."""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from selfreg._util.extras import require_extra
from selfreg.data import NOHELP, Step
from selfreg.decisions import Decision, DecisionPolicy, decide_batch, start_episode
from selfreg.runtime.ledger.budgets import Keys, Units, one_text
from selfreg.runtime.ledger.store import Key, as_key, check_id, encode
from selfreg.runtime.prices import Moment, Price, check_price

with require_extra("logs", "selfreg.runtime.Recorder"):
    import msgspec

HALF = re.compile("[\ud800-\udfff]")  # of a character, as in a text that was cut within an emoji


class StepToDecide(NamedTuple):
    """A step that `Recorder.decide_many` decides; the arguments of `Recorder.decide_once`.

    Attributes
    ----------
    run_id, step_id : str or int
    steps : sequence of Step
    keys : mapping of str to str or int, optional
    """

    run_id: str | int
    step_id: str | int
    steps: Sequence[Step]
    keys: Keys | None = None

    @property
    def key(self) -> Key:
        """Identity of the step."""
        return self.run_id, self.step_id

    def checked(self) -> StepToDecide:
        """The same with plain ids and keys; raises where one of them, or the steps, are not what they must be."""
        key, steps = as_key(self.run_id, self.step_id), self.steps
        if not isinstance(steps, Sequence | np.ndarray):
            raise TypeError(f"steps is a {type(steps).__name__}; expected a sequence of selfreg.data.Step")
        for step in steps:
            if not isinstance(step, Step):
                raise TypeError(f"steps has a {type(step).__name__}; expected selfreg.data.Step only")
        if not len(steps):
            raise ValueError("steps is empty; the last one is the current state")
        steps = steps if all(map(_is_text, steps)) else [_as_text(step) for step in steps]
        return StepToDecide(*key, steps, _checked_keys(self.keys))


def _is_text(step: Step) -> bool:
    for text in (step.state, step.action, step.key):  # a loop takes half the time of any(...), at every step again
        if isinstance(text, str) and not text.isascii() and HALF.search(text):
            return False
    return True


def _as_text(step: Step) -> Step:
    """With U+FFFD for halves of characters, as logs are read: neither files nor tokenizers take them."""
    texts = {name: getattr(step, name) for name in ("state", "action", "key")}
    coded = {name: text.encode("utf-16-le", "surrogatepass") for name, text in texts.items() if text}
    return msgspec.structs.replace(step, **{name: text.decode("utf-16-le", "replace") for name, text in coded.items()})


def _checked_keys(keys: Any) -> dict[str, str | int]:
    if keys is None:
        return {}
    if not isinstance(keys, Mapping):
        raise TypeError(f"keys is {keys!r}; expected a mapping such as {{'task': 'ticket 7'}}")
    for name, value in keys.items():
        one_text(name, "a name in keys")
        check_id(value, f"keys[{name!r}]")
    return dict(keys)


class Draft(NamedTuple):
    """A decision that is not stored yet."""

    decision: Decision
    propensity: float
    explored: bool
    cost: Units


@contextmanager
def errors_of_policy() -> Iterator[None]:
    """Mark what is raised inside: a server must tell a policy that fails from what its caller did wrong."""
    try:
        yield
    except Exception as error:
        error.of_policy = True  # type: ignore[attr-defined]
        raise


def is_of_policy(error: BaseException) -> bool:
    """Whether the policy of a recorder, or its price, has raised this."""
    return getattr(error, "of_policy", False) is True


class Drafter:
    """Decides by a policy, within the budget, with a share of exploration."""

    def __init__(
        self,
        policy: DecisionPolicy,
        costs: Mapping[str, Units],
        explore: float = 0.0,
        seed: int = 0,
        price: Price | None = None,
    ) -> None:
        if price is not None and (hasattr(policy, "start") or not isinstance(getattr(policy, "limits", None), tuple)):
            raise ValueError("price needs a policy with `limits` and without `start`, such as a helper")
        self.policy, self.costs, self._price = policy, dict(costs), price
        self._explore, self._seed, self._warned = explore, seed, False
        self._locks: dict[int, threading.Lock] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_locks": {}}

    @property
    def batches(self) -> bool:
        """Whether many steps are decided faster together than one by one."""
        return hasattr(self.policy, "decide_batch") and not hasattr(self.policy, "start")

    def draft(self, steps: Sequence[StepToDecide], moments: Sequence[Moment]) -> list[Draft]:
        """Drafts for some steps with what is left to each."""
        chances, lefts = [self._chance(step) for step in steps], [moment.left for moment in moments]
        for left in () if self._price else lefts:
            self._warn_above_training(left)
        with errors_of_policy():
            return self._draft(steps, moments, lefts, chances)

    def _draft(
        self,
        steps: Sequence[StepToDecide],
        moments: Sequence[Moment],
        lefts: Sequence[Units],
        chances: Sequence[random.Random],
    ) -> list[Draft]:
        if hasattr(self.policy, "start"):
            found = [self._decide_alone(*one) for one in zip(steps, lefts, chances, strict=True)]
        else:
            if self._price is None:
                decisions = decide_batch(self.policy, [step.steps for step in steps], lefts)
            else:
                decisions = self._decide_at_price(steps, lefts, [check_price(self._price(one)) for one in moments])
            triples = zip(decisions, steps, lefts, strict=True)
            found = [(one, self._chances_of(one, step, left)) for one, step, left in triples]
        return [self._within_budget(*one) for one in zip(found, lefts, chances, strict=True)]

    def _chance(self, step: StepToDecide) -> random.Random:
        digest = hashlib.blake2b(f"{self._seed} {encode(step.key)}".encode(), digest_size=8).digest()
        return random.Random(int.from_bytes(digest, "little"))

    def _decide_at_price(
        self, steps: Sequence[StepToDecide], lefts: Sequence[Units], prices: Sequence[float]
    ) -> list[Decision]:
        """For each step the decision with as many units as are worth their price."""
        top = self.policy.limits[0]  # type: ignore[attr-defined]
        budgets = [range(min(left[0], top) + 1) for left in lefts]
        histories = [step.steps for step, units in zip(steps, budgets, strict=True) for _ in units]
        found = iter(decide_batch(self.policy, histories, [(b,) for units in budgets for b in units]))
        return [worth_its_price([next(found) for _ in units], p) for units, p in zip(budgets, prices, strict=True)]

    def _decide_alone(
        self, step: StepToDecide, left: Units, chance: random.Random
    ) -> tuple[Decision, Mapping[str, float]]:
        """For a policy that remembers or draws: nobody else uses it meanwhile."""
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            start_episode(self.policy, str((step.keys or {}).get("task", step.run_id)), chance.getrandbits(31))
            decision = self.policy.decide(step.steps, left)
        return decision, self._chances_of(decision, step, left)

    def _chances_of(self, decision: Decision, step: StepToDecide, left: Units) -> Mapping[str, float]:
        own = getattr(self.policy, "action_probabilities", None)
        return {getattr(decision, "action", NOHELP): 1.0} if own is None else own(step.steps, left)

    def _within_budget(self, found: tuple[Decision, Mapping[str, float]], left: Units, chance: random.Random) -> Draft:
        decision, probabilities = found
        if not isinstance(decision, Decision):
            raise TypeError(f"the policy returned {decision!r}; expected a selfreg.Decision")
        payable = [action for action, cost in self.costs.items() if all(map(int.__le__, cost, left))]
        action, reason = decision.action, decision.reason
        if action != NOHELP and action not in self.costs:
            raise ValueError(f"the policy requests {action!r}; the costs have {', '.join(self.costs)}")
        if action != NOHELP and action not in payable:
            reason = " ".join([reason, f"The budget cannot pay for {action!r}."]).strip()
            action = NOHELP
        explored = self._explore > 0 and chance.random() < self._explore
        if explored:
            action = chance.choice([NOHELP, *payable])
            reason = "Drawn at random to explore."
        wanted = {name: p for name, p in probabilities.items() if name in payable}
        wanted[NOHELP] = max(1.0 - sum(wanted.values()), 0.0)
        propensity = (1 - self._explore) * wanted.get(action, 0.0) + self._explore / (1 + len(payable))
        decision = replace(decision, action=action, budget_left=left, reason=reason)
        return Draft(decision, propensity, explored, self.costs.get(action, (0,) * len(left)))

    def _warn_above_training(self, left: Units) -> None:
        limits = getattr(self.policy, "limits", None)
        if self._warned or not isinstance(limits, tuple) or len(limits) != len(left):
            return
        if any(have > top for have, top in zip(left, limits, strict=True)):
            self._warned = True
            warnings.warn(
                f"the budget left {left} is above {limits}, the largest in training; the policy decides as with that",
                stacklevel=7,
            )


def worth_its_price(decisions: Sequence[Decision], price: float) -> Decision:
    """Of the decisions with 0, 1, ... units, that whose P(success) less the price of its units is highest.

    Ties go to fewer units. The last one, where an estimate is missing.
    """
    values = [max(one.success_probability.values(), default=None) for one in decisions]
    if any(value is None for value in values):
        return decisions[-1]
    worth = [value - (units * price if units else 0.0) for units, value in enumerate(values) if value is not None]
    best = worth.index(max(worth))
    return replace(decisions[best], reason=f"At {price:.3g} a unit, as with {best}. {decisions[best].reason}".strip())
