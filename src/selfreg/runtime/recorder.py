"""One recorded decision a step: made once with its reservation, looked up whenever the step is executed again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from selfreg.data import NOHELP, Step, Trajectory, write_trajectories
from selfreg.decisions import Decision, DecisionPolicy
from selfreg.runtime.drafts import Draft, Drafter, StepToDecide, errors_of_policy
from selfreg.runtime.ledger.accounts import Accounts
from selfreg.runtime.ledger.budgets import Keys, one_number, one_text, some_seconds
from selfreg.runtime.ledger.ledger import Cost, Ledger
from selfreg.runtime.ledger.store import CHARGED, RESERVED, Key, Result, Transaction, as_key, encode
from selfreg.runtime.prices import Moment, Price
from selfreg.runtime.records import (
    DECISION,
    OUTCOME,
    RecordedDecision,
    decode_decision,
    encode_decision,
    read_decision,
    read_outcome,
    recorded_decisions,
    recorded_trajectories,
)

Read: TypeAlias = Callable[[Transaction, StepToDecide, Decision], Result]


class Recorder:
    """Decides once a step over a ledger, and stores what happened.

    A decision that is made anew after a crash, a retry or a resume may differ, since the budget that is left has
    changed. `decide_once` makes it once: the decision, "no help" as well as help, and the reservation of its cost are
    stored in one transaction, and every later call with the same ids looks it up.

    Parameters
    ----------
    policy : DecisionPolicy
        A helper, a plan, a baseline. It must decide from the steps and the budget alone: `start`, where it has one, is
        called before each decision, with a seed that depends on the ids of the step.
    ledger : Ledger
        In memory, in a file or on a server; decisions are stored in the same place.
    costs : mapping of str to cost, optional
        Units that each help type costs; those of the policy by default.
    explore : float
        Share of steps, from 0 to 1, in which the action is drawn at random among those that the budget can pay for. The
        probability of the action is recorded, so that off-policy evaluation can use the log.
    shadow : bool
        Decide and record, and spend nothing: `decide_once` returns "nohelp". What would have been spent is counted
        apart, under the same limits.
    seed : int
        Of exploration.
    expires_in : float, optional
        Seconds after which an unsettled reservation is given back; by default never.
    price : callable, optional
        What a unit must be worth in P(success) at the moment, such as `PeriodPrice`: for a helper that was trained on
        budgets of one run, under a budget that many runs share. The policy then decides as with the number of units, of
        those that are left, at which its estimate of P(success) less the price of the units is highest. It needs
        `limits` and estimates, as a helper has; where a state has no estimate, it decides without a price.

    Raises
    ------
    TypeError, ValueError
        There are no costs; a cost does not fit the units of the ledger; `explore` is not in [0, 1]; there is a price
        for several units, or for a policy without `limits`.

    Examples
    --------
    >>> from selfreg import Ledger
    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision
    >>> from selfreg.runtime import Recorder
    >>> class AfterAnError:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("person" if "error" in steps[-1].state else "nohelp")
    >>> recorder = Recorder(AfterAnError(), Ledger(1), costs={"person": 1})
    >>> recorder.decide_once("run 1", 0, [Step("error: no such file")]).action
    'person'
    >>> recorder.decide_once("run 2", 0, [Step("error: no such file")]).action  # nothing is left
    'nohelp'
    >>> recorder.refund("run 1", 0)  # the person did not answer
    True
    >>> recorder.decide_once("run 2", 0, [Step("error: no such file")]).action  # executed again
    'nohelp'
    >>> recorder.outcome("run 2", success=False)
    >>> [(one.episode, one.outcome) for one in recorder.trajectories()]
    [('run 1', None), ('run 2', 0.0)]
    """

    def __init__(
        self,
        policy: DecisionPolicy,
        ledger: Ledger,
        *,
        costs: Mapping[str, Cost] | None = None,
        explore: float = 0.0,
        shadow: bool = False,
        seed: int = 0,
        expires_in: float | None = None,
        price: Price | None = None,
    ) -> None:
        costs = getattr(policy, "costs", None) if costs is None else costs
        if not costs:
            raise ValueError("costs is missing: the policy has none; give units by help type, such as {'person': 1}")
        if not isinstance(costs, Mapping):
            raise TypeError(f"costs is {costs!r}; expected units by help type, such as {{'person': 1}}")
        for name in costs:
            one_text(name, "a help type of costs", 1)
        if NOHELP in costs:
            raise ValueError(f"costs has {NOHELP!r}; expected help types only")
        if not 0.0 <= one_number(explore, "explore", "a share in [0, 1]") <= 1.0:
            raise ValueError(f"explore is {explore!r}; expected a share in [0, 1]")
        if shadow and explore:
            raise ValueError("shadow and explore exclude each other: in shadow mode no action is executed")
        if price is not None and len(ledger.units) > 1:
            raise ValueError(f"price is for one unit; the ledger has {', '.join(ledger.units)}")
        parsed = {action: ledger.parse_cost(cost) for action, cost in costs.items()}
        self._ledger, self._shadow = ledger, shadow
        self._expires_in = None if expires_in is None else some_seconds(expires_in, "expires_in")
        self._drafter = Drafter(policy, parsed, explore, seed, price)

    @property
    def ledger(self) -> Ledger:
        """The ledger that pays."""
        return self._ledger

    @property
    def shadow(self) -> bool:
        """Whether nothing is spent."""
        return self._shadow

    @property
    def batches(self) -> bool:
        """Whether `decide_many` is faster than `decide_once` for each: the policy decides many states at once."""
        return self._drafter.batches

    # ---- decide

    def decide_once(
        self, run_id: str | int, step_id: str | int, steps: Sequence[Step], *, keys: Keys | None = None
    ) -> Decision:
        """The decision for a step: made and stored by the first call, looked up by all others.

        Parameters
        ----------
        run_id, step_id : str or int
            Together the identity of the step; the same whenever it is executed again.
        steps : sequence of Step
            The episode so far; the last one is the current state, without action and intervention.
        keys : mapping of str to str or int, optional
            Scopes that the ledger's budgets need. "task" also names the task of the exported trajectory.

        Returns
        -------
        Decision
            With "nohelp" as action where the budget cannot pay for the request. A help type is reserved: `settle` or
            `refund` it afterwards.

        Raises
        ------
        TypeError, ValueError
            As of `Ledger.reserve`; `steps` is empty or not of Step; the policy requests a help type without costs.
        """
        return self.decide_many([StepToDecide(run_id, step_id, steps, keys)])[0]

    def decide_many(self, steps: Sequence[StepToDecide]) -> list[Decision]:
        """As `decide_once` for many steps, mostly of different runs: one pass of the policy, one commit.

        Steps that share a budget are decided with what is left before the first of them; where that does not pay for
        all, the later ones are decided again. Where one of them raises, call it again with the others.

        Examples
        --------
        >>> from selfreg import Ledger
        >>> from selfreg.data import Step
        >>> from selfreg.decisions import Decision
        >>> from selfreg.runtime import Recorder, StepToDecide
        >>> class Always:
        ...     def decide(self, steps, budget_left):
        ...         return Decision("person" if budget_left != (0,) else "nohelp")
        >>> recorder = Recorder(Always(), Ledger(2), costs={"person": 1})
        >>> steps = [StepToDecide(f"run {i}", 0, [Step("ready")]) for i in range(3)]
        >>> [one.action for one in recorder.decide_many(steps)]
        ['person', 'person', 'nohelp']
        """
        return [decision for decision, _ in self.decide_and_read(steps, lambda transaction, step, decision: None)]

    def decide_and_read(self, steps: Sequence[StepToDecide], read: Read[Result]) -> list[tuple[Decision, Result]]:
        """As `decide_many`, with what `read` finds in the transaction in which a decision is stored, or looked up."""
        steps = [step.checked() for step in steps]
        found: dict[Key, tuple[Decision, Result]] = {}
        missing = list({step.key: step for step in reversed(steps)}.values())[::-1]
        while missing:
            found |= self._find_or_make(missing, read)
            missing = [step for step in missing if step.key not in found]
        return [found[step.key] for step in steps]

    def _find_or_make(self, steps: Sequence[StepToDecide], read: Read[Result]) -> dict[Key, tuple[Decision, Result]]:
        """What is stored by now: all but steps whose units went to others while the policy decided."""

        def read_beside(
            transaction: Transaction, stored: Mapping[Key, RecordedDecision]
        ) -> dict[Key, tuple[Decision, Result]]:
            decisions = [(step, stored[step.key].decision) for step in steps if step.key in stored]
            return {step.key: (one, read(transaction, step, one)) for step, one in decisions}

        def look_up(transaction: Transaction) -> tuple[dict[Key, tuple[Decision, Result]], list[Moment] | None]:
            stored, moments = self._look_up(transaction, steps)
            return read_beside(transaction, stored), moments

        found, moments = self._ledger.read(look_up)
        missing = [step for step in steps if step.key not in found]
        if not missing:
            return found
        if moments is None:
            moments = self._ledger.write(lambda accounts: _moments(accounts, missing), self._shadow)
        # The policy may be slow: it decides outside of the transaction.
        drafts = self._drafter.draft(missing, moments)

        def store(accounts: Accounts) -> dict[Key, tuple[Decision, Result]]:
            made = [self._store(accounts, step, draft) for step, draft in zip(missing, drafts, strict=True)]
            stored = {step.key: one for step, one in zip(missing, made, strict=True) if one is not None}
            return read_beside(accounts.transaction, stored)

        return found | self._ledger.write(store, self._shadow)

    def _look_up(
        self, transaction: Transaction, steps: Sequence[StepToDecide]
    ) -> tuple[dict[Key, RecordedDecision], list[Moment] | None]:
        """Stored decisions, and what is left for the other steps; None where reservations must expire first."""
        found = {step.key: transaction.find_record(DECISION, step.key) for step in steps}
        stored = {key: read_decision(key, content) for key, content in found.items() if content is not None}
        if len(stored) == len(steps):
            return stored, []
        accounts = Accounts(transaction, self._shadow)
        due = transaction.due_entries(accounts.now)
        return stored, None if due else _moments(accounts, [step for step in steps if step.key not in stored])

    def _store(self, accounts: Accounts, step: StepToDecide, draft: Draft) -> RecordedDecision | None:
        """Reserve and store; what is stored, or None where the budget cannot pay any more."""
        transaction, requested, key = accounts.transaction, draft.decision.action, step.key
        stored = transaction.find_record(DECISION, key)
        if stored is not None:
            return read_decision(key, stored)
        if requested != NOHELP:
            names = accounts.names(key[0], step.keys)
            if transaction.find_entry(key) is None and not accounts.fits(names, draft.cost):
                return None
            if self._shadow:
                accounts.add(names, draft.cost)
                reason = f"In shadow mode; would request {requested!r}. {draft.decision.reason}".strip()
                draft = draft._replace(decision=replace(draft.decision, action=NOHELP, reason=reason))
            elif not accounts.take(key, draft.cost, RESERVED, step.keys, self._expires_in):
                raise ValueError(f"step {key} was refused or refunded before it was decided; use a new step_id")
        with errors_of_policy():  # a decision that cannot be read back is not stored
            content = encode_decision(draft, step, requested, self._shadow, accounts.now)
            made = decode_decision(key, content)
        transaction.write_record(DECISION, key, requested, content)
        return made

    # ---- what came of it

    def settle(self, run_id: str | int, step_id: str | int, cost: Cost | None = None) -> bool:
        """Charge a request for help, at real cost where it is given; as `Ledger.charge`.

        Raises
        ------
        ValueError
            Also where the step was decided without help, or was never reserved.
        """
        key, units = as_key(run_id, step_id), None if cost is None else self._ledger.parse_cost(cost)

        def charge(accounts: Accounts) -> bool:
            transaction = accounts.transaction
            if transaction.find_entry(key) is None:
                decided = transaction.find_record(DECISION, key) is not None
                why = "was decided without help" if decided else "was never reserved"
                raise ValueError(f"step {key} {why}; there is nothing to settle")
            return accounts.take(key, units, CHARGED)

        return self._ledger.write(charge)

    def refund(self, run_id: str | int, step_id: str | int) -> bool:
        """Give back what a request holds, because help failed; as `Ledger.refund`."""
        return self._ledger.refund(run_id, step_id)

    def outcome(self, run_id: str | int, success: bool | float) -> None:
        """Store how a run ended; the same outcome may come twice.

        Raises
        ------
        ValueError
            `success` is not in [0, 1]; the run has another outcome.
        """
        key = as_key(run_id, "")
        expected = "a number in [0, 1]"
        value = float(success) if isinstance(success, bool) else one_number(success, "success", expected)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"success is {success!r}; expected a number in [0, 1]")

        def store(accounts: Accounts) -> None:
            transaction = accounts.transaction
            before = transaction.find_record(OUTCOME, key)
            if before is not None and read_outcome(before) != value:
                raise ValueError(f"duplicate outcome of run {run_id!r}: {before} before, {value} now")
            if before is None:
                transaction.write_record(OUTCOME, key, "", encode(value))

        self._ledger.write(store)

    # ---- logs

    def decisions(self) -> list[RecordedDecision]:
        """All stored decisions, in order."""
        return self._ledger.read(recorded_decisions)

    def find(self, run_id: str | int, step_id: str | int) -> RecordedDecision | None:
        """The stored decision of a step; None where there is none yet."""
        key = as_key(run_id, step_id)

        def read(transaction: Transaction) -> RecordedDecision | None:
            content = transaction.find_record(DECISION, key)
            return None if content is None else read_decision(key, content)

        return self._ledger.read(read)

    def trajectories(self) -> list[Trajectory]:
        """What happened, one trajectory a run, in the order of their first decision.

        A step that was reserved or charged counts as helped, at its cost in the first unit; one that was refunded, that
        expired, or that was decided in shadow mode does not. Several attempts at one step are one step: an attempt
        whose help failed, and the next decision with the same history (or, where histories have one state only, with
        an id such as "3#2" after "3"). The field "failed help 3" names the help that failed in step 3. A run without
        an outcome is marked as truncated. `logged_propensity` and `logged_requests` read what was decided.

        Raises
        ------
        ValueError
            Two runs have one name, such as 1 and "1".
        """
        return self._ledger.read(recorded_trajectories)

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write `trajectories` as JSONL or Parquet, by the name's ending; how many there are."""
        episodes = self.trajectories()
        write_trajectories(path, episodes)
        return len(episodes)


def _moments(accounts: Accounts, steps: Sequence[StepToDecide]) -> list[Moment]:
    """What is left to each step."""
    budgets = accounts.settings.budgets
    lefts = [accounts.left_by_budget(step.run_id, step.keys) for step in steps]
    return [Moment(accounts.now, accounts.least(left), dict(zip(budgets, left, strict=True))) for left in lefts]
